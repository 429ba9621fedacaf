"""Perfetto's ftrace bundles, many at once: the rows of an obvious reader that goes event by event, also over losses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import read_table

from tracectl.query import ask
from tracectl.recorder import import_bundles
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture

proto: Any = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the perfetto package is not installed"
)
SEQUENCE = 5
NAMES = ["a", "b", ""]
Row = tuple[Any, ...]
FOLLOWING = {
    "sched_switch": itemgetter("next_tid", "next_comm"),
    "sched_waking": itemgetter("target_tid", "target_comm"),
    "sched_process_fork": itemgetter("child_tid", "child_comm"),
}


def imported(folder: Path, made: Any) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(made.SerializeToString())
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


def bundle(made: Any, cpu: int = 0, *, sequence: int = SEQUENCE, **packet: Any) -> Any:
    added = made.packet.add(trusted_packet_sequence_id=sequence, **packet).ftrace_events
    added.cpu = cpu
    return added


def switch(to: Any, ts: int, prev: int, following: int, comm: str = "a") -> None:
    event = to.event.add(timestamp=ts, pid=prev)
    message = {"prev_comm": f"p{prev}", "prev_pid": prev, "prev_prio": 120, "prev_state": 1}
    event.sched_switch.MergeFrom(
        proto.SchedSwitchFtraceEvent(**message, next_comm=comm, next_pid=following, next_prio=100)
    )


def compact_switch(to: Any, ts: int, following: int, comm: str = "a") -> None:
    """One more compact switch; their times must rise."""
    sched = to.compact_sched
    sched.switch_timestamp.append(ts - sum(sched.switch_timestamp))
    sched.switch_prev_state.append(1)
    sched.switch_next_pid.append(following)
    sched.switch_next_prio.append(110)
    sched.switch_next_comm_index.append(_index(sched, comm))


def compact_waking(to: Any, ts: int, tid: int, comm: str = "a") -> None:
    sched = to.compact_sched
    sched.waking_timestamp.append(ts - sum(sched.waking_timestamp))
    sched.waking_pid.append(tid)
    sched.waking_target_cpu.append(0)
    sched.waking_prio.append(120)
    sched.waking_comm_index.append(_index(sched, comm))


def _index(sched: Any, comm: str) -> int:
    if comm not in sched.intern_table:
        sched.intern_table.append(comm)
    return list(sched.intern_table).index(comm)


STEP = st.tuples(st.sampled_from(["switch", "compact switch", "compact waking", "other"]), st.integers(0, 3),
                 st.sampled_from(NAMES))  # fmt: skip
BUNDLE = st.tuples(st.integers(0, 1), st.sampled_from(["", "", "", "lost", "dropped"]), st.lists(STEP, max_size=5))


def expected(bundles: list[tuple[int, str, list[Row]]]) -> tuple[set[Row], set[Row]]:
    """Rows (ts, kind, cpu, tid, comm, prev_prio, next tid, its name) and losses (cpu, from, to), event by event."""
    rows, losses, ts = set(), set(), 0
    running: dict[int, tuple[int, str, int]] = {}
    last: dict[int, int] = {}
    pending: set[int] = set()
    seen: set[int] = set()
    for number, (cpu, loss, steps) in enumerate(bundles):
        if loss == "lost":
            pending.add(cpu)
        elif loss == "dropped" and number:
            pending |= {0, 1}
        seen.add(cpu)
        if cpu in pending and steps:
            running.pop(cpu, None)
        for place, (what, tid, comm) in enumerate(steps):
            ts += 10
            if cpu in pending and not place:
                losses.add((cpu, last.get(cpu), ts))
                pending.discard(cpu)
            who = running.get(cpu)
            idle = f"swapper/{cpu}"
            current = (who[0], (who[1] or (idle if who[0] == 0 else None))) if who else (None, None)
            if what == "switch":
                rows.add((ts, "sched_switch", cpu, 9, "p9", 120, tid, comm))
                running[cpu] = tid, comm, 100
            elif what == "compact switch":
                rows.add((ts, "sched_switch", cpu, *current, who[2] if who else None, tid, comm))
                running[cpu] = tid, comm, 110
            elif what == "compact waking":
                rows.add((ts, "sched_waking", cpu, *current, None, tid, comm))
            else:  # of a thread that the event names itself
                named = current[1] if who and who[0] == tid else idle if tid == 0 else None
                rows.add((ts, "sched_process_fork", cpu, tid, named, None, 44, "child"))
            last[cpu] = ts
    losses |= {(cpu, last.get(cpu), max(last.values(), default=0)) for cpu in pending & seen}
    return rows, losses


def made_of(bundles: list[tuple[int, str, list[Row]]]) -> Any:
    made, ts = proto.Trace(), 0
    for cpu, loss, steps in bundles:
        to = bundle(made, cpu, previous_packet_dropped=int(loss == "dropped"))
        to.lost_events = loss == "lost"
        for what, tid, comm in steps:
            ts += 10
            if what == "switch":
                switch(to, ts, 9, tid, comm)
            elif what == "compact switch":
                compact_switch(to, ts, tid, comm)
            elif what == "compact waking":
                compact_waking(to, ts, tid, comm)
            else:
                fork = to.event.add(timestamp=ts, pid=tid).sched_process_fork
                fork.child_comm, fork.child_pid = "child", 44
    return made


@settings(deadline=None, max_examples=100)
@given(st.lists(BUNDLE, min_size=1, max_size=8), st.sampled_from([1, 4, 100]))
def test_as_event_by_event(bundles: list[tuple[int, str, list[Row]]], at_once: int) -> None:
    rows, losses = expected(bundles)
    if not rows:
        return
    with tempfile.TemporaryDirectory() as name, patch.object(import_bundles, "_AT_ONCE", at_once):
        outcome, _ = imported(Path(name), made_of(bundles))
        written = read_table(outcome.path).to_pylist()
    found = {
        (row["ts"], row["kind"], row["cpu"], row["tid"], row["comm"], row.get("prev_prio"), *of(row))
        for row in written
        if (of := FOLLOWING.get(row["kind"]))
    }
    assert found == rows
    assert {(row["cpu"], row["from_ts"], row["ts"]) for row in written if row["kind"] == "lost"} == losses


def test_a_softirq_is_not_the_one_before_a_loss(tmp_path: Path) -> None:
    """Its end and the next one's begin may be among what was lost."""
    made = proto.Trace()
    first = bundle(made)
    first.event.add(timestamp=10, pid=1).softirq_entry.vec = 1
    wake(first, 20, 0x10)
    later = bundle(made)
    later.lost_events = True
    wake(later, 30, 0x10)
    later.event.add(timestamp=40, pid=1).softirq_entry.vec = 3
    wake(later, 50, 0x10)
    _, capture = imported(tmp_path, made)
    rows = ask(capture, "wakeups | sort ts | select ts, context, vec_name").rows()
    assert [row[:3] for row in rows] == [(20, "softirq", "TIMER"), (30, "softirq", None), (50, "softirq", "NET_RX")]


def wake(to: Any, ts: int, flags: int) -> None:
    to.event.add(timestamp=ts, pid=1, common_flags=flags).sched_waking.MergeFrom(
        proto.SchedWakingFtraceEvent(comm="w", pid=2, prio=120, target_cpu=0)
    )


def test_a_loss_that_no_event_follows_reaches_to_the_end(tmp_path: Path) -> None:
    made = proto.Trace()
    compact_switch(bundle(made), 100, 7)
    compact_switch(bundle(made, cpu=1), 900, 7)
    bundle(made, previous_packet_dropped=1).lost_events = True
    rows = ask(imported(tmp_path, made)[1], "lost | sort cpu | select cpu, from_ts, ts").rows()
    assert [row[:3] for row in rows] == [(0, 100, 900), (1, 900, 900)]


def test_packets_of_other_sequences_that_were_dropped_are_no_loss_here(tmp_path: Path) -> None:
    made = proto.Trace()
    compact_switch(bundle(made), 100, 7)
    for _ in range(2):
        made.packet.add(trusted_packet_sequence_id=6, previous_packet_dropped=1)
    compact_switch(bundle(made), 200, 8)
    _, capture = imported(tmp_path, made)
    assert ask(capture, "lost").rows() == []
    assert ask(capture, "switches | sort ts | select prev_tid").rows() == [(None,), (7,)]


def test_own_fields_named_as_columns_of_every_event(tmp_path: Path) -> None:
    """pid and comm of task_newtask are those of the new thread, not of the one that was current."""
    made = proto.Trace()
    to = bundle(made)
    switch(to, 10, 9, 5, "parent")
    new = to.event.add(timestamp=20, pid=5).task_newtask
    new.pid, new.comm, new.clone_flags = 6, "child", 1
    _, capture = imported(tmp_path, made)
    question = "events task_newtask | select tid, comm, arg_pid, arg_comm, clone_flags"
    assert ask(capture, question).rows() == [(5, "parent", 6, "child", 1)]


def test_a_thread_that_is_another_process_later(tmp_path: Path) -> None:
    """Names and processes are those that the file told before the events."""
    made = proto.Trace()
    for ts, tgid in ((10, 70), (20, 80)):
        made.packet.add().process_tree.threads.add(tid=7, tgid=tgid, name=f"of {tgid}")
        bundle(made).event.add(timestamp=ts, pid=7).softirq_raise.vec = 1
    rows = ask(imported(tmp_path, made)[1], "events softirq_raise | sort ts | select pid, comm").rows()
    assert rows == [(70, "of 70"), (80, "of 80")]


def test_times_that_cannot_be_and_unknown_kinds_are_counted(tmp_path: Path) -> None:
    made = proto.Trace()
    to = bundle(made)
    switch(to, 10, 9, 5)
    switch(to, 1 << 63, 5, 6)
    to.event.add(timestamp=30, pid=5)  # of a kind that the classes do not have
    compact_switch(to, 40, 6)
    to.compact_sched.switch_timestamp[0] = 1 << 63
    outcome, capture = imported(tmp_path, made)
    assert ask(capture, "switches | select ts").rows() == [(10,)]
    assert outcome.not_kept == {"packets of ftrace_events whose kind or time is not known": 3}


MARKS = (
    (10, 5, 0, "B|4|outer"), (20, 6, 1, "B|4|other"), (30, 5, 1, "B|4|in\n"), (40, 5, 0, "E|4\n"),
    (45, 6, 1, "C|4|n|7"), (50, 6, 0, "E"), (60, 5, 1, "E|4"), (70, 5, 0, "E|4"), (80, 5, 0, "hello"),
    (90, 6, 1, "I|4|now"), (95, 5, 0, "B|4|open"),
)  # fmt: skip


def marked() -> Any:
    """Marks of two threads on two CPUs, whose bundles are not in the order of time."""
    made = proto.Trace()
    for cpu in (1, 0):
        to = bundle(made, cpu)
        for ts, tid, own, text in MARKS:
            if own == cpu:
                to.event.add(timestamp=ts, pid=tid).print.buf = text
    return made


def test_marks_of_programs_are_slices_counters_and_instants(tmp_path: Path) -> None:
    outcome, capture = imported(tmp_path, marked())
    rows = ask(capture, "events slice | sort ts | select ts, dur, name, tid, pid, cpu").rows()
    assert rows == [
        (10, 50, "outer", 5, 4, 0), (20, 30, "other", 6, 4, 1), (30, 10, "in", 5, 4, 1), (95, None, "open", 5, 4, 0),
    ]  # fmt: skip
    assert ask(capture, "events counter | select ts, name, value").rows() == [(45, "n", 7)]
    assert ask(capture, "events instant | select ts, name").rows() == [(90, "now")]
    assert ask(capture, "events print | sort ts | select ts, buf").rows() == [(70, "E|4"), (80, "hello")]
    assert outcome.totals.unparsed == 0


def test_marks_as_the_trace_processor(tmp_path: Path, trace_processor: Callable[[Path, str], Any]) -> None:
    made = marked()
    (tmp_path / "trace").write_bytes(made.SerializeToString())
    told = trace_processor(tmp_path / "trace", "SELECT ts, dur, name FROM slice WHERE dur > 0 ORDER BY ts")
    rows = ask(imported(tmp_path, made)[1], "events slice where dur > 0ns | sort ts | select ts, dur, name").rows()
    assert [(int(ts), int(dur), name) for ts, dur, name in told] == rows


def test_a_mark_over_a_loss_has_no_duration(tmp_path: Path) -> None:
    made = proto.Trace()
    for ts, text, lost in ((10, "B|4|a", False), (20, "B|4|b", False), (30, "E|4", True), (40, "E|4", False)):
        to = bundle(made)
        to.lost_events = lost
        to.event.add(timestamp=ts, pid=5).print.buf = text
    _, capture = imported(tmp_path, made)
    assert [row[:2] for row in ask(capture, "events slice | sort ts | select name, dur").rows()] == [
        ("a", None),
        ("b", None),
    ]
