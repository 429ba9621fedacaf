"""A trace on one screen: a builder whose lines read like the kernel's, and a question asked of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl.query import Answer, ask
from tracectl.store.capture import Capture
from tracectl.store.writer import write_rows


def _thread(text: str) -> tuple[str, int, int | None]:
    """``comm:tid`` or ``comm:tid/pid`` (pid is tid by default; idle is ``idle``)."""
    if text == "idle":
        return "swapper/0", 0, 0
    comm, _, ids = text.rpartition(":")
    tid, _, pid = ids.partition("/")
    return comm, int(tid), int(pid or tid)


class Trace:
    """Rows of a capture, a method call each: when, on which CPU, what. Threads are ``comm:tid`` or ``comm:tid/pid``."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.options: dict[str, Any] = {}

    def event(self, ts: int, cpu: int | None, kind: str, current: str = "idle", **columns: Any) -> Trace:
        """Any event."""
        comm, tid, pid = _thread(current)
        if kind == "lost":
            self.rows.append({"ts": ts, "cpu": cpu, "kind": kind, **columns})
        else:
            self.rows.append({"ts": ts, "cpu": cpu, "kind": kind, "comm": comm, "tid": tid, "pid": pid, **columns})
        return self

    def switch(  # noqa: PLR0917 -- a line of a trace is read by position
        self, ts: int, cpu: int, prev: str, state: str, into: str, kstack: int | None = None, ustack: int | None = None
    ) -> Trace:
        """``prev`` leaves the CPU in ``state``, ``into`` gets it."""
        comm, tid, _ = _thread(into)
        columns = {"prev_state": state, "next_comm": comm, "next_tid": tid, "kstack": kstack, "ustack": ustack}
        return self.event(ts, cpu, "sched_switch", prev, **columns)

    def waking(  # noqa: PLR0917 -- a line of a trace is read by position
        self, ts: int, cpu: int, waker: str, target: str, context: str | None = "task", vec: int | None = None,
        kstack: int | None = None, ustack: int | None = None,
    ) -> Trace:  # fmt: skip
        """``waker`` (whoever was current) wakes ``target``."""
        columns = {"context": context, "context_vec": vec, "kstack": kstack, "ustack": ustack}
        return self._about(ts, cpu, "sched_waking", waker, target, **columns)

    def wakeup(self, ts: int, cpu: int, current: str, target: str) -> Trace:
        """``target`` is in a run queue."""
        return self._about(ts, cpu, "sched_wakeup", current, target)

    def new(self, ts: int, cpu: int, parent: str, child: str) -> Trace:
        """``child`` is in a run queue for the first time."""
        return self._about(ts, cpu, "sched_wakeup_new", parent, child)

    def fork(self, ts: int, cpu: int, parent: str, child: str) -> Trace:
        """``child`` is created."""
        comm, tid, pid = _thread(child)
        return self.event(ts, cpu, "sched_process_fork", parent, child_tid=tid, child_pid=pid, child_comm=comm)

    def exit(self, ts: int, cpu: int, thread: str) -> Trace:
        """``thread`` ends."""
        return self.event(ts, cpu, "sched_process_exit", thread)

    def softirq(self, ts: int, end: int, cpu: int, vec: int, current: str = "idle") -> Trace:
        """A softirq handler from ``ts`` to ``end``."""
        self.event(ts, cpu, "softirq_entry", current, vec=vec)
        return self.event(end, cpu, "softirq_exit", current, vec=vec)

    def irq(self, ts: int, end: int, cpu: int, irq: int, name: str = "eth0") -> Trace:
        """A device interrupt's handler from ``ts`` to ``end``."""
        self.event(ts, cpu, "irq_handler_entry", irq=irq, irq_name=name)
        return self.event(end, cpu, "irq_handler_exit", irq=irq, ret=1)

    def stack(self, number: int, folded: str) -> Trace:
        """A call stack, from the outermost function to the innermost; the capture says that stacks were recorded."""
        stacks = ["kstack", "ustack"]
        self.options["filled"] = dict.fromkeys(("sched_switch", "sched_waking"), stacks)
        self.rows.append({"ts": 0, "cpu": None, "kind": "stack", "stack_id": number, "folded": folded})
        return self

    def lost(self, from_ts: int, ts: int, cpu: int | None, stream: str | None, count: int | None = 1) -> Trace:
        """A gap."""
        return self.event(ts, cpu, "lost", from_ts=from_ts, stream=stream, lost_count=count, cause="ring_full")

    def _about(self, ts: int, cpu: int, kind: str, current: str, target: str, **columns: Any) -> Trace:
        comm, tid, pid = _thread(target)
        return self.event(ts, cpu, kind, current, target_comm=comm, target_tid=tid, target_pid=pid, **columns)


@pytest.fixture
def trace() -> Trace:
    """An empty trace; ``options`` (kinds, start_ts, filter …) go to ``write_rows``."""
    return Trace()


@pytest.fixture(scope="session")
def new_trace() -> type[Trace]:
    """Makes empty traces, for fixtures that live longer than a test."""
    return Trace


@pytest.fixture
def capture_of(tmp_path: Path) -> Callable[[Trace], Capture]:
    """Makes a capture of a trace."""

    def make(trace: Trace) -> Capture:
        # Traces on one screen leave out switches between those that matter: they are not searched for breaks.
        options = {"cpus": (0, 1), "start_ts": 0, "end_ts": 1000, "breaks_declared": True, **trace.options}
        return Capture.open(write_rows(tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet", trace.rows, **options))

    return make


@pytest.fixture
def answer(capture_of: Callable[[Trace], Capture]) -> Callable[[Trace, str], Answer]:
    """Asks a question of a trace."""
    return lambda trace, question: ask(capture_of(trace), question)


@pytest.fixture
def rows(answer: Callable[[Trace, str], Answer]) -> Callable[[Trace, str], list[tuple[Any, ...]]]:
    """The rows of the answer."""
    return lambda trace, question: answer(trace, question).rows()
