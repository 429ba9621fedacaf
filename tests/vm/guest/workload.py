"""Threads whose switches and wakeups are known: a pair that hands a byte to and fro, one that sleeps, a UDP echo.

Each counts what it did and reads the kernel's own counters; the file named on the command line gets it as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANDOVERS, SLEEPS, PACKETS = 300, 60, 100
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None)
_truth: dict[str, Any] = {}


def _counted(name: str, work: Callable[[], None]) -> threading.Thread:
    """A thread of that name, its counters read before and after the work."""

    def run() -> None:
        _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        begin_ns, before = _now()
        work()
        end_ns, after = _now()
        times = {"begin_ns": begin_ns, "end_ns": end_ns}
        _truth[name] = {"tid": threading.get_native_id(), "voluntary": after - before, **times}

    return threading.Thread(target=run)


def _now() -> tuple[int, int]:
    """The time, and how often this thread gave up its CPU until then."""
    while True:
        before, now, after = _voluntary(), time.monotonic_ns(), _voluntary()
        if before == after:
            return now, before


def _voluntary() -> int:
    """How often the kernel says that this thread gave up its CPU."""
    status = Path("/proc/thread-self/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1])


def _pair() -> list[threading.Thread]:
    (there, to_there), (here, to_here) = os.pipe(), os.pipe()

    def ping() -> None:
        for _ in range(HANDOVERS):
            os.write(to_there, b"x")
            os.read(here, 1)

    def pong() -> None:
        for _ in range(HANDOVERS):
            os.read(there, 1)
            os.write(to_here, b"x")

    return [_counted("vm:ping", ping), _counted("vm:pong", pong)]


def _sleeper() -> None:
    for _ in range(SLEEPS):
        time.sleep(0.002)


def _echo() -> list[threading.Thread]:
    server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    server.bind(("127.0.0.1", 0))
    client.connect(server.getsockname())

    def serve() -> None:
        for _ in range(PACKETS):
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)

    def send() -> None:
        for _ in range(PACKETS):
            client.send(b"packet")
            client.recv(100)

    return [_counted("vm:server", serve), _counted("vm:client", send)]


if __name__ == "__main__":
    for together in (_pair(), [_counted("vm:sleeper", _sleeper)], _echo()):
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
    Path(sys.argv[1]).write_text(json.dumps(_truth, indent=1))
