"""A small workload with known causes, two to three seconds long, on loopback and the standard library alone.

- ``demo:worker_0`` and ``_1`` wait with epoll for one listening socket; ``demo:client`` connects to it: both workers
  are woken by the packet (softirq NET_RX), and one of them finds nothing.
- ``demo:sleeper`` sleeps two milliseconds at a time: woken by a timer.
- ``demo:ping`` and ``demo:pong`` hand a byte to and fro through pipes: woken by each other (task).
- ``demo:hog_a`` and ``demo:hog_b`` compute on one CPU: they preempt each other and wait in its run queue.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 2.0


def start(name: str, work: Callable[[], None]) -> int:
    """Fork a process of that name that does the work; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        Path("/proc/self/comm").write_text(name)
        work()
    finally:
        os._exit(0)


def serve(listener: socket.socket, end: float) -> None:
    """Accept connections as an epoll loop does, and close them."""
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while (left := end - time.monotonic()) > 0:
        for _ in poll.poll(left):
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue  # the other worker was quicker: this wakeup was wasted


def connect(address: tuple[str, int], end: float) -> None:
    """Connect fifty times a second and wait for the server to close."""
    while time.monotonic() < end:
        with socket.create_connection(address) as connection:
            connection.settimeout(1)
            connection.recv(1)
        time.sleep(0.02)


def sleep(end: float) -> None:
    """Sleep for two milliseconds, again and again."""
    while time.monotonic() < end:
        time.sleep(0.002)


def hand_over(inbox: int, outbox: int, *, first: bool) -> None:
    """Pass a byte on, 500 times a second, until the other side closes its pipe."""
    if first:
        os.write(outbox, b".")
    while byte := os.read(inbox, 1):
        if first:
            time.sleep(0.002)
        os.write(outbox, byte)


def compute(end: float) -> None:
    """Keep one CPU busy together with the other hog."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while time.monotonic() < end:
        sum(range(10_000))


def main() -> None:
    """Start all, wait for the end, stop what is left."""
    end = time.monotonic() + SECONDS
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setblocking(False)
    address = listener.getsockname()
    (pong_in, ping_out), (ping_in, pong_out) = os.pipe(), os.pipe()
    children = [
        start("demo:worker_0", lambda: serve(listener, end)),
        start("demo:worker_1", lambda: serve(listener, end)),
        start("demo:client", lambda: connect(address, end)),
        start("demo:sleeper", lambda: sleep(end)),
        start("demo:hog_a", lambda: compute(end)),
        start("demo:hog_b", lambda: compute(end)),
        start("demo:ping", lambda: hand_over(ping_in, ping_out, first=True)),
        start("demo:pong", lambda: hand_over(pong_in, pong_out, first=False)),
    ]
    time.sleep(max(0.0, end - time.monotonic()))
    for pid in children:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
