"""A log in the layout of the bpftrace script ep_poll_interact, of an Envoy that never was: two workers."""

from __future__ import annotations

from collections.abc import Iterator

PID, WORKERS = 500, ((501, "wrk:worker_0", 36), (502, "wrk:worker_1", 40))
PORT, CLIENT = 15006, "10.0.0.9"
LISTENER = f"{'0.0.0.0':>14}:{PORT:<6} {'0.0.0.0':>14}:{0:<6} {'LISTEN':>6} socket=0xffff888100000001"
# Whom the packet's softirq ran on top of: idle, its own thread, or the client itself on the same host.
CURRENT = ((0, "swapper/0"), (10, "ksoftirqd/0"), (700, "kubelet"))


def lines(connections: int = 6) -> Iterator[str]:
    """Each connection wakes both workers; one of them accepts it, gets its data, and closes it."""
    yield "Attaching 10 probes..."
    yield "Tracing nanosecond time in off-CPU stacks. Ctrl-C to end."
    for number in range(connections):
        ms, fd = 100 * number + 20, 42
        winner, loser = WORKERS[number % 2], WORKERS[(number + 1) % 2]
        for worker in WORKERS[::-1]:
            yield from _wakeup(ms, CURRENT[number % 3], worker, f"fd={worker[2]}, {LISTENER}")
        yield from _returned(ms, winner)
        yield from _callback(ms, winner, winner[2], 0x2, "EV_READ")
        yield (
            f"inet_csk_accept: {CLIENT:39} {40000 + number:<5} {'10.0.0.5':39} {PORT:<5} "
            f"sys_exit_accept4 fd={fd}"
        )  # fmt: skip
        yield from _returned(ms + 1, loser)
        socket = f"{'10.0.0.5':>14}:{PORT:<6} {CLIENT:>14}:{40000 + number:<6}"
        yield from _wakeup(
            ms + 5, CURRENT[number % 3], winner, f"fd={fd}, {socket} ESTABLISHED socket=0xffff88810000{number:04x}"
        )
        yield from _returned(ms + 5, winner)
        yield from _callback(ms + 5, winner, fd, 0x26, "EV_READ", "EV_WRITE", "EV_ET")
        yield f"close fd={fd}"


def _wakeup(ms: int, current: tuple[int, str], worker: tuple[int, str, int], what: str) -> Iterator[str]:
    yield ""
    yield f"***waker: elapsed={ms:<10} tid={current[0]},comm={current[1]}: ep_poll_callback: {what}"
    yield f"try_to_wake_up: wakeupedPID={PID}, wakeupedTID={worker[0]}, wakeupedTIDComm={worker[1]}"


def _returned(ms: int, worker: tuple[int, str, int]) -> Iterator[str]:
    yield "--------"
    yield f"***sleeper-wakeup: elapsed={ms:<10}, pid={PID}, tid={worker[0]},comm={worker[1]}, event_count=1"


def _callback(ms: int, worker: tuple[int, str, int], fd: int, bits: int, *names: str) -> Iterator[str]:
    yield (
        f"***** elapsed={ms:<10}: tid={worker[0]},comm={worker[1]}: "
        "BEGIN:EventFired:FileEventImpl::assignEvents::eventCallback()"
    )
    yield f"FileEventImpl*=0x5500000{fd:05x}, fd={fd}, events={bits:#x}"
    yield from (f"libevent: {name}" for name in names)
