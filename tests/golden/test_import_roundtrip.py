"""What is exported as kernel text and imported again gives the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl.cli import main
from tracectl.query import ask
from tracectl.store.capture import Capture

QUESTIONS = (
    "switches | select ts, cpu, prev_tid, prev_comm, prev_prio, prev_state, next_tid, next_comm, next_prio",
    "wakeups | select ts, cpu, tid, comm, waker_tid, waker_comm, prev_cpu",
    "delays | select ts, dur, tid, cpu, cause",
    "sleeps | select ts, dur, tid, state, blocked",
    "runs | select ts, dur, tid, cpu",
    "softirqs | select ts, dur, vec, cpu",
    "irqs | select ts, dur, irq, name, source",
    "lost | select cpu, lost_count",
)
CONTEXT = "wakeups | select ts, context, context_vec"


def _trace(trace: Any) -> Any:
    """Two CPUs, a softirq with two wakeups in it, an interrupt inside of it, a preemption; a name with = in it."""
    trace.switch(10_000, 0, "idle", "R", "a b=1:11/7")
    trace.switch(11_000, 1, "idle", "R", "kworker/1:0-x:12/12")
    trace.switch(20_000, 0, "a b=1:11/7", "S", "idle")
    trace.event(30_000, 0, "softirq_entry", vec=3)
    trace.waking(31_000, 0, "idle", "a b=1:11/7", "softirq", 3)
    trace.event(32_000, 0, "irq_handler_entry", irq=28, irq_name="eth0 rx")
    trace.waking(33_000, 0, "idle", "c:13/13", "hardirq", 28)
    trace.event(34_000, 0, "irq_handler_exit", irq=28, ret=1)
    trace.event(35_000, 0, "softirq_exit", vec=3)
    trace.switch(40_000, 0, "idle", "R", "a b=1:11/7")
    trace.waking(41_000, 1, "kworker/1:0-x:12/12", "c:13/13", "task")
    trace.switch(50_000, 0, "a b=1:11/7", "R+", "c:13/13")
    trace.switch(60_000, 0, "c:13/13", "D", "a b=1:11/7")
    for row in trace.rows:
        if row["kind"] == "sched_switch":
            row |= {"prev_prio": 120, "next_prio": 120}
        elif row["kind"] == "sched_waking":
            row |= {"target_prio": 120, "target_cpu": 0}
    trace.options["kinds"] = sorted({row["kind"] for row in trace.rows})
    return trace


@pytest.mark.parametrize("form", ["ftrace-text", "perf-script"])
def test_round_trip(tmp_path: Path, trace: Any, capture_of: Callable[[Any], Capture], form: str) -> None:
    first = capture_of(_trace(trace))
    text, again = tmp_path / "text", tmp_path / "again.parquet"
    assert main(["export", str(first.path), "--to", form, "-o", str(text)]) == 0
    assert main(["import", "-q", "--strict", str(text), "-o", str(again)]) == 0
    second = Capture.open(again)
    for question in QUESTIONS:
        assert ask(second, question).rows() == ask(first, question).rows(), question
    if form == "ftrace-text":  # perf's text has no flags: there, the context comes from the handlers around a wakeup
        contexts = [
            (ts, context, vec if context == "softirq" else None) for ts, context, vec in ask(first, CONTEXT).rows()
        ]
        assert ask(second, CONTEXT).rows() == contexts  # a flag does not name the interrupt
