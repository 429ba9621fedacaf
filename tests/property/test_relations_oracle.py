"""Random small traces: the relations give what the oracle gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import Bench

from tracectl.store.relations import Relations

Row = dict[str, Any]
BENCH = Bench()
# relation -> its columns that the oracle gives, in the same order
COLUMNS = {
    "delays": "tid, ts, end_ts, cpu, cause",
    "sleeps": "tid, ts, end_ts, blocked, delay, waker_tid",
    "runs": "cpu, tid, ts, end_ts, end_state",
    "softirqs": "cpu, vec, ts, end_ts",
    "wakeups_by_spans": "tid, ts, context, context_vec",
    "epolls": "tid, ts, events, waking_ts",
}
ORACLES: dict[str, Callable[[list[Row]], list[tuple[Any, ...]]]] = {
    "delays": oracle.delays, "sleeps": oracle.sleeps, "runs": oracle.runs, "softirqs": oracle.softirqs,
    "wakeups_by_spans": oracle.contexts, "epolls": oracle.epolls,
}  # fmt: skip
# Relations that keep an event which nothing follows that could be its partner, not certain even if nothing was lost.
ALONE = ("runs", "softirqs")
STREAMS = {
    "sched_switch": "sched", "sched_waking": "sched", "sched_wakeup_new": "sched",
    "softirq_entry": "irq", "softirq_exit": "irq", "irq_handler_entry": "irq", "irq_handler_exit": "irq",
    "sys_exit_epoll_wait": "epoll",
}  # fmt: skip
# What a trace is about: the kinds in it, the streams that a loss may hit, the relations that are looked at. Few kinds
# at a time, or what a loss hides would hardly ever matter.
FOCUS = {
    "sched": ("sched_switch sched_switch sched_waking sched_wakeup_new", "sched", "delays sleeps runs"),
    "sleep": ("sched_switch sched_switch sched_waking sched_wakeup_new", "sched", "delays sleeps"),
    "switch": ("sched_switch", "sched", "delays sleeps runs"),
    "softirq": ("softirq_entry softirq_exit", "irq", "softirqs"),
    "spans": (
        "softirq_entry softirq_exit sched_waking sched_waking irq_handler_entry irq_handler_exit sched_switch",
        "irq sched", "wakeups_by_spans softirqs",
    ),
    "epoll": ("sched_waking sys_exit_epoll_wait", "epoll sched", "epolls"),
    "all": (" ".join(STREAMS), "sched irq epoll", " ".join(COLUMNS)),
}  # fmt: skip
Step = tuple[str, int, int, str, int, bool]
Case = tuple[str, list[Step], tuple[str, int, int, int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A focus, steps (kind, CPU, thread, state, time since the one before, whether current is whom the CPU runs), and
    a loss (stream, CPU, the first row of that ring, how many).
    """
    focus = draw(st.sampled_from(sorted(FOCUS)))
    kinds, streams, _ = FOCUS[focus]
    cpu = st.sampled_from([0, 0, 0, 1])
    state = st.sampled_from(["S", "S", "R", "R+", "D", "I", "X", "T"])
    step = st.tuples(
        st.sampled_from(kinds.split()), cpu, st.integers(0, 2), state, st.integers(0, 2), st.integers(0, 5).map(bool)
    )
    loss = st.tuples(st.sampled_from(streams.split()), cpu, st.integers(0, 5), st.sampled_from([2, 1, 2, 3]))
    return focus, draw(st.lists(step, min_size=4, max_size=24)), draw(loss)


def rows_of(steps: list[Step]) -> list[Row]:
    """Rows in the order of the steps. Mostly a thread runs where it was put; sometimes anything goes."""
    running = [0, 0]
    ts = 100
    rows: list[Row] = []
    for seq, (kind, cpu, about, state, delta, sane) in enumerate(steps, 1):
        ts += delta
        tid = running[cpu] if sane and running != [0, 0] else about
        row: Row = {"seq": seq, "ts": ts, "kind": kind, "cpu": cpu, "tid": tid, "pid": tid, "comm": f"t{tid}"}
        if kind == "sched_switch":
            into = about if about != tid else (about + 1) % 3
            row |= {"prev_state": "R" if tid == 0 else state, "next_tid": into, "next_comm": f"t{into}"}
            running[cpu] = into
        elif kind in ("sched_waking", "sched_wakeup_new"):
            row |= {"target_tid": about or 1, "target_pid": about or 1, "target_comm": "x"}
        elif kind.startswith("softirq"):
            row |= {"vec": about // 2}
        elif kind.startswith("irq_handler"):
            row |= {"irq": about % 2, "irq_name": "eth0"}
        else:
            row |= {"ret": about}
        rows.append(row)
    return rows


def answers(rows: list[Row], names: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the relations give for these rows: the oracle's columns, then ``certain``."""
    with BENCH.tables():
        relations = Relations(BENCH.capture("rows_now", rows, kinds=STREAMS, declared=True))
        found = {}
        for name in names.split():
            sql = f"{relations.with_clause([name])} SELECT {COLUMNS[name]}, certain FROM {name}"
            found[name] = BENCH.database.execute(sql).rows()
        return found


@settings(max_examples=60)
@given(cases())
def test_relations_are_what_the_oracle_says(case: Case) -> None:
    focus, steps, _ = case
    rows = rows_of(steps)
    for name, found in answers(rows, FOCUS[focus][2]).items():
        assert Counter(row[:-1] for row in found if row[-1]) == Counter(ORACLES[name](rows)), name
        if name not in ALONE:
            assert all(row[-1] for row in found), name


def without(rows: list[Row], stream: str, cpu: int, first: int, count: int) -> list[Row]:
    """The rows less some consecutive ones of one ring, with a gap in their place, as the recorder would write it."""
    ring = [row for row in rows if STREAMS[row["kind"]] == stream and row["cpu"] == cpu]
    gone = ring[first : first + count]
    if not gone:
        return rows
    before = ring[first - 1]["ts"] if first else 0
    after = ring[first + count]["ts"] if first + count < len(ring) else 10_000
    gap = {"kind": "lost", "seq": len(rows) + 1, "ts": after, "cpu": cpu, "stream": stream, "from_ts": before}
    kept = [row for row in rows if row not in gone]
    return [*kept, gap | {"lost_count": len(gone), "cause": "ring_full"}]


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_a_loss_makes_some_rows_uncertain(name: str) -> None:
    """Soundness (test_soundness.py) could not fail if nothing were ever certain, nor find anything if all were."""
    steps: list[Step] = [("sched_switch", cpu, tid, "S", 2, True) for tid in (1, 2, 1, 2, 1) for cpu in (0, 1)]
    for cpu, about in ((0, 1), (0, 2), (1, 1)):
        steps += [("sched_waking", cpu, about, "S", 2, True), ("softirq_entry", cpu, 1, "S", 2, True)]
        steps += [("sched_waking", cpu, 1, "S", 2, True), ("softirq_exit", cpu, 1, "S", 2, True)]
        steps += [("sys_exit_epoll_wait", cpu, 1, "S", 2, True), ("sched_switch", cpu, 3 - about, "S", 2, True)]
        steps += [("sched_switch", cpu, about, "S", 2, True), ("sched_switch", cpu, 3, "S", 2, True)]
    rows = rows_of(steps)
    seen: set[bool] = set()
    for stream in ("sched", "irq", "epoll"):
        for first in (1, 4, 7):
            seen |= {row[-1] for row in answers(without(rows, stream, 0, first, 2), name)[name]}
    assert seen == {True, False}
