"""One perf ring, the memory through which BPF programs on one CPU hand over events: opened, copied out, counted.

Layout and protocol: struct perf_event_mmap_page in include/uapi/linux/perf_event.h. The kernel moves ``data_head``, the
reader ``data_tail``; both only grow. What does not fit is lost, and counted by the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder.syscall import map_delete, map_update
from tracectl.store.errors import RecordError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}

_TYPE_SOFTWARE = 1
_COUNT_SW_BPF_OUTPUT = 10
_SAMPLE_RAW = 1 << 10
_FORMAT_LOST = 1 << 4  # Linux >= 6.0
_ATTR_DISABLED = 1 << 0
_ATTR_WATERMARK = 1 << 14
_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5: long enough, and accepted by every kernel since 4.1
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE = 0x2400
_PROT_READ_WRITE = 3
_MAP_SHARED = 1
_MAP_FAILED = ctypes.c_void_p(-1).value
_DATA_HEAD, _DATA_TAIL = 1024, 1032

PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")


class Barrier:
    """A full memory barrier: no load or store moves over a call, in either direction.

    x86 keeps the order that the ring needs by itself; arm64 does not, and Python has no fence. Giving back a lock and
    taking it again is one: every access before comes before the release, a release comes before a later acquire
    (Armv8-A, "barrier-ordered-before"), the acquire before every access after. Taking and *then* giving back would not
    be: both sides may move into the locked part. Nor would membarrier(2): in a process with one thread it returns at
    once, having ordered nothing against the kernel on another CPU.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        self._lock.release()
        self._lock.acquire()


def _anywhere(length: int) -> NDArray[np.uint8]:
    return np.empty(length, np.uint8)


class RingMemory:
    """The mapped memory of a ring: its control page at ``address``, then ``pages`` (a power of two) of data.

    One reader only: each instance has a barrier of its own, and no other may move the tail.
    """

    def __init__(self, address: int, pages: int, page_size: int = PAGE_SIZE) -> None:
        if pages <= 0 or pages & (pages - 1):
            raise ValueError(f"a ring has a power of two of pages, not {pages}")
        self.size = pages * page_size
        self._head = ctypes.c_uint64.from_address(address + _DATA_HEAD)
        self._tail = ctypes.c_uint64.from_address(address + _DATA_TAIL)
        data = (ctypes.c_uint8 * self.size).from_address(address + page_size)
        self._data: NDArray[np.uint8] = np.ctypeslib.as_array(data)
        self._barrier = Barrier()

    def take(self, room: Callable[[int], NDArray[np.uint8]] = _anywhere) -> NDArray[np.uint8] | None:
        """A copy of all finished records, as bytes; None when there are none. Their room is given back at once.

        Args:
            room: gives memory for so many bytes, into which they are copied.
        """
        head, tail = self._head.value, self._tail.value
        if head == tail:
            return None
        self._barrier()  # the records are read after the head that announced them
        length = (head - tail) % 2**64
        start = tail % self.size
        region = room(length)
        first = min(length, self.size - start)
        region[:first] = self._data[start : start + first]
        region[first:] = self._data[: length - first]
        self._barrier()  # the room is given back after it was read
        self._tail.value = head
        return region


class PerfRing:
    """A perf ring of one stream on one CPU, put into slot ``cpu`` of a BPF perf event array map.

    Args:
        cpu: an online CPU.
        pages: size of the data area in pages, a power of two.
        map_fd: file descriptor of the map to which the programs submit.
        wake_at_once: the descriptor is readable as soon as there is a record, not when a quarter has filled.

    Raises RecordError when the kernel refuses. To be closed after the programs are detached (a program that submits
    to a closed ring loses uncounted events), and before its map is closed.
    """

    def __init__(self, cpu: int, pages: int, map_fd: int, *, wake_at_once: bool = False) -> None:
        if pages <= 0 or pages & (pages - 1):
            raise ValueError(f"a ring has a power of two of pages, not {pages}")
        self.cpu = cpu
        self.pages = pages
        self._map_fd = map_fd
        self._length = (pages + 1) * PAGE_SIZE
        self._address: int | None = None
        self._memory: RingMemory | None = None
        self._fd, self._counts_lost = _open_event(cpu, 1 if wake_at_once else pages * PAGE_SIZE // 4)
        try:
            # Not Python's mmap: it would duplicate the descriptor, two for each ring.
            address = _libc.mmap(None, self._length, _PROT_READ_WRITE, _MAP_SHARED, self._fd, 0)
            if address == _MAP_FAILED:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self._address = address
            self._memory = RingMemory(address, pages)
            fcntl.ioctl(self._fd, _IOC_ENABLE, 0)
            map_update(map_fd, struct.pack("=I", cpu), struct.pack("=i", self._fd))
        except OSError as error:
            self.close()
            raise _refusal(error, cpu, self._length) from error

    def take(self, room: Callable[[int], NDArray[np.uint8]] = _anywhere) -> NDArray[np.uint8] | None:
        """A copy of all finished records as bytes (parse.py reads them), their room given back; None when empty."""
        if self._memory is None:
            raise ValueError("the ring is closed")
        return self._memory.take(room)

    def lost_total(self) -> int | None:
        """How many records found no room since the ring was opened, with or without a marker in the data.

        None where the kernel does not count (before Linux 6.0).
        """
        if not self._counts_lost:
            return None
        _value, lost = struct.unpack("=QQ", os.read(self.fileno(), 16))
        return int(lost)

    def fileno(self) -> int:
        """The descriptor, readable (poll) when a quarter of the ring has filled since the last wakeup."""
        if self._fd < 0:
            raise ValueError("the ring is closed")
        return self._fd

    def close(self) -> None:
        """Take the ring out of its map and free it. Can be repeated."""
        if self._fd < 0:
            return
        with suppress(OSError):  # never put there, or the map is closed already
            map_delete(self._map_fd, struct.pack("=I", self.cpu))
        self._memory = None
        if self._address is not None:
            _libc.munmap(self._address, self._length)
            self._address = None
        os.close(self._fd)
        self._fd = -1


def _open_event(cpu: int, watermark: int) -> tuple[int, bool]:
    """Descriptor of a BPF output event on ``cpu``, and whether it counts lost records."""
    raised = False
    read_format = _FORMAT_LOST
    while True:
        try:
            return _perf_event_open(cpu, watermark, read_format), bool(read_format)
        except OSError as error:
            if error.errno == errno.EINVAL and read_format:
                read_format = 0
            elif error.errno == errno.EMFILE and not raised:
                raised = True
                _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            else:
                raise _refusal(error, cpu, 0) from error


def _perf_event_open(cpu: int, watermark: int, read_format: int) -> int:
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise RecordError(f"recording is not supported on {platform.machine()}", "x86-64 and arm64 machines are")
    attr = struct.pack(
        "=IIQQQQQI",
        _TYPE_SOFTWARE,
        _ATTR_SIZE,
        _COUNT_SW_BPF_OUTPUT,
        1,  # sample_period: every event
        _SAMPLE_RAW,
        read_format,
        _ATTR_DISABLED | _ATTR_WATERMARK,
        watermark,
    )
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    fd = _libc.syscall(number, ctypes.byref(buffer), -1, cpu, -1, ctypes.c_ulong(_FLAG_FD_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(fd)


def _refusal(error: OSError, cpu: int, length: int) -> RecordError:
    """What a failed system call means for a user; ``length`` is the ring's size in bytes, 0 before it is mapped."""
    ring = f"ring of {length // 1024} KiB for CPU {cpu}"
    memory = (f"no memory for a {ring}", "ask for smaller rings, or raise kernel.perf_event_mlock_kb or ulimit -l")
    privilege = ("the kernel refuses perf events to this user", "record as root (sudo)")
    texts = {
        errno.EPERM: memory if length and os.geteuid() else privilege,
        errno.EACCES: privilege,
        errno.EMFILE: ("too many open files: each event stream needs one per CPU", "raise ulimit -n or record fewer"),
        errno.ENFILE: ("the machine has no file descriptors left", "raise fs.file-max"),
        errno.ENOMEM: memory,
        errno.ENODEV: (f"CPU {cpu} is offline", "record again; a CPU must not go offline meanwhile"),
        errno.E2BIG: (f"CPU {cpu} has no place in the map of rings", "record again; CPUs were added meanwhile"),
    }
    other = (f"no {ring}: {error.strerror}", "tracectl doctor shows what this machine can record")
    problem, remedy = texts.get(error.errno or 0, other)
    return RecordError(problem, remedy)
