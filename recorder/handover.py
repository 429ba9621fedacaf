"""Between the process that empties the rings and the one that writes: regions in shared memory, messages on a socket.

Two processes, since one interpreter runs one thread at a time: while it encodes a million rows, rings would overflow.
"""

from __future__ import annotations

import mmap
import pickle
import socket
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder.ring import Barrier

# Room for messages that the writer has not read yet; more wait in the sender's own memory, a few hundred bytes each.
_SOCKET_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE = 32
_LARGEST_MESSAGE = 1 << 20
COUNTERS = ("events", "lost", "size", "bytes", "cpu_ns")


class Slab:
    """A ring of bytes in memory that both processes have: one fills it, the other gives room back in the same order.

    Args:
        size: bytes; what does not fit is refused.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._bytes: NDArray[np.uint8] = np.frombuffer(mmap.mmap(-1, size), np.uint8)
        self._freed: NDArray[np.uint64] = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.uint64)
        self._filled = 0
        self._barrier = Barrier()
        self.start: int | None = None

    def room(self, length: int) -> NDArray[np.uint8]:
        """Memory for the next region: in the slab at ``start``; when that is full, elsewhere, and ``start`` is None."""
        begin = self._filled
        if begin % self.size + length > self.size:
            begin += self.size - begin % self.size  # a region lies in one piece: the rest of this turn stays unused
        freed = int(self._freed[0])
        if freed == self._filled and begin % self.size:
            # Empty: begin anew, so that only as much memory is touched as is needed. The other process takes nothing
            # and so gives nothing back until it is told of the next region.
            begin += self.size - begin % self.size
            self._filled = freed = begin
            self._freed[0] = begin
        self._barrier()  # what the other process has read before it gave the room back is overwritten after this
        if begin + length - freed > self.size:
            self.start = None
            return np.empty(length, np.uint8)
        self.start = begin
        self._filled = begin + length
        return self._bytes[begin % self.size : begin % self.size + length]

    @property
    def used(self) -> float:
        """How full it is, 0 to 1."""
        return max(self._filled - int(self._freed[0]), 0) / self.size

    def region(self, start: int, length: int) -> NDArray[np.uint8]:
        """A region, in place: to be read before it is given back."""
        return self._bytes[start % self.size : start % self.size + length]

    def give_back(self, start: int, length: int) -> None:
        """A region was read: its room can be filled anew."""
        self._barrier()  # given back after it was read
        self._freed[0] = start + length


class Counters:
    """Numbers that the writer keeps and the reader shows."""

    def __init__(self) -> None:
        self._values: NDArray[np.uint64] = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.uint64)

    def __getitem__(self, name: str) -> int:
        return int(self._values[COUNTERS.index(name)])

    def __setitem__(self, name: str, value: int) -> None:
        self._values[COUNTERS.index(name)] = value


class Channel:
    """One end of the socket: whole messages, in order; sending never waits."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._waiting: deque[bytes] = deque()

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """The two ends."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BYTES)
            except PermissionError:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        """Send a message, after those that still wait. A receiver that is gone is found out by :meth:`receive`."""
        self._waiting.append(pickle.dumps(message))
        self.flush()

    def flush(self, *, wait: bool = False) -> None:
        """Send what waits, as far as there is room, or all of it."""
        while self._waiting:
            try:
                self._socket.send(self._waiting[0], 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._waiting.clear()
                return
            self._waiting.popleft()

    def receive(self) -> tuple[Any, ...] | None:
        """Wait for the next message; None when the other process is gone."""
        try:
            data = self._socket.recv(_LARGEST_MESSAGE)
        except ConnectionResetError:
            return None
        message: tuple[Any, ...] | None = pickle.loads(data) if data else None
        return message

    def close(self) -> None:
        """Close this end. Can be repeated."""
        self._socket.close()
