"""BPF programs and maps: the only file that imports BCC.

BCC compiles and loads; maps, attachment records and program statistics are read by plain bpf(2) calls.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import importlib.util
import os
import re
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder import btf
from tracectl.recorder.headers import stub_tree
from tracectl.recorder.syscall import (
    TRACE_FENTRY,
    TRACE_FEXIT,
    TRACE_ITER,
    load_tracing,
    map_delete,
    map_info,
    map_lookup,
    map_update,
    object_info,
)
from tracectl.store.errors import RecordError

_libc = ctypes.CDLL(None, use_errno=True)


# Offset of recursion_misses in struct bpf_prog_info (include/uapi/linux/bpf.h, Linux >= 5.12).
_RECURSION_MISSES = 208

# Where distributions put python3-bpfcc for their own interpreter; any other CPython >= 3.11 can use it from there.
_DISTRIBUTION_PACKAGES = (
    "usr/lib/python3/dist-packages",
    "usr/lib/python3*/site-packages",
    "usr/lib/python3*/dist-packages",
)

_INSTALL_BCC = "install the distribution's package: apt-get install python3-bpfcc (PyPI's 'bcc' is something else)"
_DOCTOR = "tracectl doctor shows what this machine can record"


def parse_cpu_list(text: str) -> list[int]:
    """CPU numbers of a kernel CPU list such as ``0-3,8``."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def cpus(which: str) -> list[int]:
    """CPU numbers that are ``possible`` (have a slot in per-CPU maps) or ``online`` (can have a ring)."""
    return parse_cpu_list(Path(f"/sys/devices/system/cpu/{which}").read_text(encoding="ascii"))


# ---- BCC ----


def load_bcc() -> ModuleType:
    """The distribution's BCC package, from whichever CPython runs; RecordError when there is none.

    It is loaded by its own path, so nothing else of the distribution's Python (its old numpy, say) becomes importable.
    """
    loaded = sys.modules.get("bcc")
    if loaded is not None and hasattr(loaded, "BPF"):
        return loaded
    for directory in _bcc_directories():
        spec = importlib.util.spec_from_file_location(
            "bcc", directory / "__init__.py", submodule_search_locations=[str(directory)]
        )
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules["bcc"] = module  # before it runs: its parts import each other by this name
        try:
            with warnings.catch_warnings():  # its regular expressions make newer CPythons complain, to the user
                warnings.simplefilter("ignore")
                spec.loader.exec_module(module)
        except (ImportError, OSError) as error:  # OSError: libbcc.so.0 is missing or does not fit
            del sys.modules["bcc"]
            raise RecordError(f"BCC in {directory} cannot be loaded: {error}", _INSTALL_BCC) from error
        return module
    raise RecordError("BCC is not installed: no Python package of it was found", _INSTALL_BCC)


def _bcc_directories() -> Iterator[Path]:
    """Directories that hold the real BCC (it has a ``libbcc.py``; PyPI's ``bcc``, a lattice library, has not)."""
    roots = [Path(entry or ".") for entry in sys.path]
    roots += [path for pattern in _DISTRIBUTION_PACKAGES for path in sorted(Path("/").glob(pattern))]
    for root in roots:
        if (root / "bcc" / "libbcc.py").is_file():
            yield root / "bcc"


@contextmanager
def _environment() -> Iterator[None]:
    """The environment for a compilation: our include tree, and nothing that retargets BCC's compiler."""
    wanted = {"BCC_KERNEL_SOURCE": str(stub_tree()), "ARCH": None, "BCC_LINUX_VERSION_CODE": None}
    before = {name: os.environ.get(name) for name in wanted}
    _set_environment(wanted)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _captured_output(text: list[str]) -> Iterator[None]:
    """Take what C code writes to stdout and stderr, and add it to ``text`` at the end of the block.

    The compiler and libbcc write to the file descriptors themselves, past ``sys.stderr``; so would other threads
    meanwhile: programs are to be compiled before any is started.
    """
    saved: dict[int, int] = {}
    with tempfile.TemporaryFile() as sink:
        _flush()
        for fd in (1, 2):
            with suppress(OSError):  # a closed one needs no guarding
                saved[fd] = os.dup(fd)
                os.dup2(sink.fileno(), fd)
        try:
            yield
        finally:
            _flush()
            for fd, copy in saved.items():
                os.dup2(copy, fd)
                os.close(copy)
            sink.seek(0)
            text.append(sink.read().decode("utf-8", "replace"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _libc.fflush(None)


# How libbcc's names begin of functions that trace kernel functions; what they trace follows.
_TYPE_SOFTWARE, _COUNT_SW_CPU_CLOCK = 1, 0  # include/uapi/linux/perf_event.h
_ATTACH = {"fentry": TRACE_FENTRY, "fexit": TRACE_FEXIT, "iterator": TRACE_ITER}
_NAMED_IN_FULL = ("kprobe", "kretprobe", "uprobe", "uretprobe", "usdt")
_SEMAPHORES = Path("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset")


def _event_name(probe: str) -> str:
    """A name for the kernel's list of probes, for kernels that still have one."""
    return re.sub(r"\W", "_", probe, flags=re.ASCII)[-60:]


def _worded(probe: str) -> str:
    return probe if probe.partition(":")[0] in _NAMED_IN_FULL else f"tracepoint {probe}"


_ERROR_LINE = re.compile(r"error|invalid|not allowed|denied|permitted|R\d .*!", re.IGNORECASE)


def _shortened(output: str, debug: bool) -> str:
    """The compiler's or verifier's own words for a message: the first telling line, or all of it for ``debug``."""
    if debug:
        return output.strip()
    # libbcc's own heading says only that loading failed; the verifier's words follow it.
    lines = [line.strip() for line in output.splitlines() if line.strip() and "Failed to load program" not in line]
    telling = [line for line in lines if _ERROR_LINE.search(line)] or lines
    return telling[0][:200] if telling else "no reason was given"


class Program:
    """One compiled BPF program text: its functions, maps and attachments.

    Args:
        text: C as BCC takes it. Functions must not bear BCC's prefixes (``tracepoint__``, ``raw_tracepoint__``,
            ``kprobe__`` …, also made by its TRACEPOINT_PROBE macro): BCC would attach them at once, and the order of
            attaching is the recorder's. An argument of type ``struct tracepoint__CATEGORY__EVENT *`` gets its
            declaration from the running kernel whatever the function is called.
        cflags: further arguments for the compiler, such as ``-DTARGET=1``.
        debug: put the whole text of the compiler or verifier into errors.

    Raises RecordError when BCC is missing or the text does not compile.
    """

    def __init__(self, text: str, cflags: Sequence[str] = (), *, debug: bool = False) -> None:
        self._debug = debug
        self._links: dict[tuple[str, str], int] = {}
        self._functions: dict[str, int] = {}
        self._past_bcc: list[int] = []  # descriptors of functions that BCC knows nothing of
        self._bpf: Any = None
        bcc = load_bcc()
        self._lib: Any = bcc.lib
        output: list[str] = []
        try:
            with _environment(), _captured_output(output):
                self._bpf = bcc.BPF(text=text.encode(), cflags=list(cflags))
        except Exception as error:  # BCC raises bare Exception
            raise self._refusal("the probe program did not compile", output, error) from error
        # BCC keeps each program until exit; close() is ours, and at exit the kernel detaches.
        atexit.unregister(self._bpf.cleanup)

    def _refusal(self, problem: str, output: list[str], error: Exception) -> RecordError:
        text = "".join(output) or str(error)
        if os.geteuid() != 0 or "Operation not permitted" in text or "super-user" in str(error):
            return RecordError(
                "the kernel refuses BPF programs to this user", "record as root (sudo), outside a restricted container"
            )
        return RecordError(f"{problem}: {_shortened(text, self._debug)}", _DOCTOR)

    # -- maps --

    def map_fd(self, name: str) -> int:
        """File descriptor of the map ``name``; KeyError when the text declares none."""
        fd = int(self._lib.bpf_table_fd(self._bpf.module, name.encode()))
        if fd < 0:
            raise KeyError(name)
        return fd

    def percpu_u64(self, name: str) -> NDArray[np.uint64]:
        """A BPF_PERCPU_ARRAY of u64 as an array [entry, cpu number]; a number that no CPU has is 0.

        The values are read one entry after the other while programs run: a sum over them is exact once detached.
        """
        fd = self.map_fd(name)
        possible = cpus("possible")
        entries = map_info(fd).max_entries
        values = np.zeros((entries, max(possible) + 1), np.uint64)
        for entry in range(entries):
            raw = map_lookup(fd, struct.pack("=I", entry), 8 * len(possible))
            if raw is not None:
                # One slot per possible CPU, in order: not indexed by the CPU's number where numbers have holes.
                values[entry, possible] = np.frombuffer(raw, np.uint64)
        return values

    def lookup(self, name: str, key: bytes) -> bytes | None:
        """The value of ``key`` in the map ``name`` (not a per-CPU one); None if absent."""
        fd = self.map_fd(name)
        return map_lookup(fd, key, map_info(fd).value_size)

    def update(self, name: str, key: bytes, value: bytes) -> None:
        """Set ``key`` of the map ``name``; ValueError when a size is wrong, OSError when the map is full."""
        fd = self.map_fd(name)
        info = map_info(fd)
        if (len(key), len(value)) != (info.key_size, info.value_size):
            raise ValueError(f"{name} has keys of {info.key_size} and values of {info.value_size} bytes")
        map_update(fd, key, value)

    def delete(self, name: str, key: bytes) -> bool:
        """Remove ``key`` from the map ``name``; False when it was not there."""
        return map_delete(self.map_fd(name), key)

    # -- functions --

    def load(self, fn_name: str, *, raw: bool) -> None:
        """Have the kernel verify a function now, for a raw (else a classic) tracepoint; attaching is quick then."""
        self.load_as(fn_name, "raw_tracepoint" if raw else "tracepoint")

    def load_as(self, fn_name: str, kind: str, traced: str = "") -> None:
        """Have the kernel verify a function now.

        Args:
            kind: ``tracepoint``, ``raw_tracepoint``, ``kprobe`` (for uprobes too), ``perf_event``, ``fentry``,
                ``fexit``, ``iterator``.
            traced: of the last three, the kernel function.
        """
        if fn_name in self._functions:
            return
        output: list[str] = []
        try:
            with _captured_output(output):
                if kind in _ATTACH:
                    fd = self._load_tracing(fn_name, kind, traced)
                else:
                    fd = self._bpf.load_func(fn_name.encode(), getattr(self._bpf, kind.upper())).fd
        except Exception as error:  # BCC raises bare Exception
            raise self._refusal(f"the kernel refused the probe {fn_name}", output, error) from error
        self._functions[fn_name] = fd

    def _load_tracing(self, fn_name: str, kind: str, traced: str) -> int:
        """Load a function for a kernel function, past libbcc: how that wants it named changes with its version."""
        module, name = self._bpf.module, fn_name.encode()
        code = self._lib.bpf_function_start(module, name), self._lib.bpf_function_size(module, name) // 8
        btf_id = btf.kernel().func_id(traced)
        if btf_id is None:
            raise OSError(errno.ENOENT, f"the kernel has no function {traced}")
        log = ctypes.create_string_buffer(1 << 20)
        try:
            fd = load_tracing(code, btf_id, _ATTACH[kind], log=ctypes.addressof(log), log_size=len(log))
        except OSError as error:
            raise OSError(error.errno, log.value.decode("utf-8", "replace") or error.strerror) from error
        self._past_bcc.append(fd)
        return fd

    def load_iterator(self, fn_name: str, over: str) -> int:
        """Have the kernel verify an iterator's function, ``over`` such as ``bpf_iter_task``; its descriptor."""
        self.load_as(fn_name, "iterator", over)
        return self._functions[fn_name]

    def load_raw_tracepoint(self, fn_name: str, tp_name: str) -> None:
        """Load (if need be) and attach ``fn_name`` to the raw tracepoint ``tp_name``, e.g. ``sched_switch``."""
        self.load(fn_name, raw=True)
        self._attach(fn_name, tp_name, self._lib.bpf_attach_raw_tracepoint, tp_name)

    def load_tracepoint(self, fn_name: str, tp_name: str) -> None:
        """Load (if need be) and attach ``fn_name`` to a classic tracepoint, e.g. ``sched:sched_switch``."""
        self.load(fn_name, raw=False)
        self._attach(fn_name, tp_name, self._lib.bpf_attach_tracepoint, *tp_name.split(":", maxsplit=1))

    def attach_tracing(self, fn_name: str, probe: str) -> None:
        """Attach a loaded fentry or fexit function."""
        self._attach(fn_name, probe, self._lib.bpf_attach_kfunc)

    def attach_kprobe(self, fn_name: str, probe: str, symbol: str, *, returns: bool) -> None:
        """Attach a loaded function to the begin of a kernel function, or to its return."""
        self._attach(fn_name, probe, self._lib.bpf_attach_kprobe, int(returns), _event_name(probe), symbol, 0, 0)

    def attach_uprobe(
        self, fn_name: str, probe: str, path: str, offset: int, *, returns: bool = False, semaphore: int = 0
    ) -> None:
        """Attach a loaded function at an offset in a file, whichever process runs it; or to the return.

        Args:
            semaphore: offset in the file of a u16 that the kernel raises by one in every process meanwhile; 0: none.
        """
        if semaphore and not _SEMAPHORES.exists():
            raise RecordError(f"this kernel cannot raise the semaphore of {probe}", "Linux 4.20 and later can")
        # The last one is newer than libbcc's own declaration of its arguments; too many do no harm.
        arguments = int(returns), _event_name(probe), path, offset, -1, semaphore
        self._attach(fn_name, probe, self._lib.bpf_attach_uprobe, *arguments)

    def attach_clock(self, fn_name: str, probe: str, cpu: int, hz: int) -> None:
        """Attach a loaded function to a CPU's clock, so many times a second."""
        attach = self._lib.bpf_attach_perf_event
        self._attach(fn_name, f"{probe}/{cpu}", attach, _TYPE_SOFTWARE, _COUNT_SW_CPU_CLOCK, 0, hz, -1, cpu, -1)

    def _attach(self, fn_name: str, probe: str, attach: Any, *arguments: str | int) -> None:
        if (fn_name, probe) in self._links:
            raise ValueError(f"{fn_name} is attached to {probe} already")
        output: list[str] = []
        given = [ctypes.c_longlong(one) if isinstance(one, int) and one > 2**31 else one for one in arguments]
        with _captured_output(output):
            fd = attach(self._functions[fn_name], *(one.encode() if isinstance(one, str) else one for one in given))
        if fd < 0:
            reason = _shortened("".join(output), self._debug)
            raise RecordError(f"the kernel refuses to attach to {_worded(probe)}: {reason}", _DOCTOR)
        self._links[fn_name, probe] = fd

    def detach(self, fn_name: str, tp_name: str | None = None) -> None:
        """Detach ``fn_name`` from one probe, or from all it is attached to; nothing attached is no error."""
        for link in [link for link in self._links if link[0] == fn_name and tp_name in (None, link[1])]:
            os.close(self._links.pop(link))

    def forget_links(self) -> None:
        """In a forked process: close its copies of what is attached, without which the original could not detach."""
        for fd in self._links.values():
            os.close(fd)
        self._links.clear()

    def misses(self) -> dict[str, int]:
        """How often the kernel skipped each loaded function because BPF was running on that CPU already.

        0 where the kernel does not count it: before Linux 5.12, and for classic tracepoints in some later ones.
        """
        size = _RECURSION_MISSES + 8
        return {
            name: int.from_bytes(object_info(fd, size)[_RECURSION_MISSES:], sys.byteorder)
            for name, fd in self._functions.items()
        }

    def close(self) -> None:
        """Detach all, last attached first, and let the kernel free programs and maps. Can be repeated."""
        for link in reversed(list(self._links)):
            os.close(self._links.pop(link))
        self._functions.clear()
        while self._past_bcc:
            os.close(self._past_bcc.pop())
        if self._bpf is not None:
            with suppress(OSError):  # a descriptor that is closed already is no trouble here
                self._bpf.cleanup()
            self._bpf = None

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
