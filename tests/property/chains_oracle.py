"""A critical path and a chain of wakeups, the slow and obvious way: one thread's states after the other, no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Path = tuple[Any, ...]
END = 1 << 62
DEEPEST = 64
HANDLERS = {
    "softirq": ("softirq_entry", "softirq_exit", "vec"),
    "hardirq": ("irq_handler_entry", "irq_handler_exit", "irq"),
}


@dataclass(frozen=True)
class State:
    """What a thread did from one event to another. ``waker`` is the row that ended a wait."""

    what: str
    begin: tuple[int, int]  # seq, ts
    end: tuple[int, int]
    cpu: int | None = None
    waker: Row | None = None


def states(rows: list[Row], tid: int, since: int) -> list[State]:
    """The states of a thread, one after the other, from the first moment read to the end of time."""
    steps: list[tuple[str, Row]] = []
    for row in rows:
        if row["kind"] == "sched_switch" and row["tid"] == tid:
            steps.append(("out", row))
        if row["kind"] == "sched_switch" and row["next_tid"] == tid:
            steps.append(("in", row))
        if row["kind"] == "sched_wakeup_new" and row["target_tid"] == tid:
            steps.append(("new", row))
    if not steps:
        return []
    what, first = steps[0]
    head = {"out": ("running", first["cpu"], None), "in": ("unknown", None, None), "new": ("created", None, first)}[
        what
    ]
    found = [State(head[0], (-1, since), at(first), head[1], head[2])]
    for n, (what, row) in enumerate(steps):
        before = steps[n - 1] if n else None
        after = steps[n + 1] if n + 1 < len(steps) else None
        found += follow(rows, tid, before, (what, row), after)
    return found


def at(row: Row) -> tuple[int, int]:
    return row["seq"], row["ts"]


def follow(rows: list[Row], tid: int, before: Any, step: tuple[str, Row], after: Any) -> list[State]:  # noqa: PLR0911
    """What a thread does between a step and the next one."""
    what, row = step
    end = at(after[1]) if after else (END, END)
    next_what = after[0] if after else ""
    into = after[1]["cpu"] if next_what == "in" else None
    if next_what == "new":
        return [State("created", at(row), end, None, after[1])]
    if what == "in":
        return (
            [State("running", at(row), end, row["cpu"])]
            if next_what in ("out", "")
            else [State("unknown", at(row), end)]
        )
    if next_what == "out":
        return [State("unknown", at(row), end)]
    if what == "new" or row["prev_state"].startswith("R"):
        return [State("runnable", at(row), end, into)]
    if not sleeping(row):
        return [State("unknown" if after else "dead", at(row), end)]
    woken = first_waking(rows, tid, row["seq"], end[0])
    if woken:
        return [State("blocked", at(row), at(woken), None, woken), State("runnable", at(woken), end, into)]
    raced = [w for w in wakings(rows, tid) if w["seq"] < row["seq"] and (before is None or w["seq"] > before[1]["seq"])]
    if raced and (before is None or before[0] == "in"):
        return [State("runnable", at(row), end, into)]
    return [State("blocked", at(row), end)]


def sleeping(row: Row) -> bool:
    return row["prev_state"][0] not in "RXZ"


def wakings(rows: list[Row], tid: int) -> list[Row]:
    return [row for row in rows if row["kind"] == "sched_waking" and row["target_tid"] == tid]


def first_waking(rows: list[Row], tid: int, after: int, before: int) -> Row | None:
    return next((row for row in wakings(rows, tid) if after < row["seq"] < before), None)


def followed(state: State) -> bool:
    """Whether the walk goes on with the waker: not where an interrupt woke."""
    if state.waker is None or state.waker["tid"] == 0:
        return False
    return state.what == "created" or (state.waker["context"] or "unknown") in ("task", "unknown")


def critical_path(rows: list[Row], tid: int, since: int, until: int) -> list[Path]:
    """(depth, begin, end, tid, what, CPU, who ran instead, whose wait it ends) of all parts of the time asked for."""
    last = [state for state in states(rows, tid, 0) if state.begin[1] <= until]
    if not last:
        return []
    return _path(rows, tid, (-1, since), last[-1].end, 0, None, (since, until))


def _path(  # noqa: PLR0917
    rows: list[Row],
    tid: int,
    low: tuple[int, int],
    high: tuple[int, int],
    depth: int,
    wakes: Any,
    asked: tuple[int, int],
) -> list[Path]:
    """What held up whoever waits for this thread, from ``low`` to ``high``."""
    known = states(rows, tid, 0)
    if not known:
        known = [State("unknown", (-1, 0), (END, END))]
    found: list[Path] = []
    for state in known:
        begin, end = max(state.begin[1], low[1], asked[0]), min(state.end[1], high[1], asked[1])
        if state.begin[0] >= high[0] or state.end[0] <= low[0] or begin >= end:
            continue
        ends_in_time = state.end[0] < high[0] or (depth == 0 and state.end == high)
        if followed(state) and depth < DEEPEST and ends_in_time:
            assert state.waker
            floor = (max(state.begin[0], low[0]), max(state.begin[1], low[1]))
            found += _path(rows, state.waker["tid"], floor, state.end, depth + 1, tid, asked)
        elif state.what == "runnable" and state.cpu is not None:
            for who, first, last in occupants(rows, state.cpu):
                if max(first, begin) < min(last, end):
                    part = (max(first, begin), min(last, end))
                    found.append((depth, *part, tid, "runnable", state.cpu, who, wakes))
        else:
            found += _leaf(rows, state, tid, depth, wakes, (begin, end))
    return found


def _leaf(  # noqa: PLR0917
    rows: list[Row], state: State, tid: int, depth: int, wakes: Any, time: tuple[int, int]
) -> list[Path]:
    """A wait that nobody is asked about, or a thread's own time; the handler that ended a wait is set apart."""
    begin, end = time
    since = entry(rows, state.waker) if state.what == "blocked" and state.waker else None
    middle = end if since is None else min(max(since, begin), end)
    parts = [(depth, begin, middle, tid, state.what, state.cpu, None, wakes)]
    if state.waker and since is not None:
        parts.append((depth + 1, middle, end, None, state.waker["context"], state.waker["cpu"], None, tid))
    return [part for part in parts if part[1] < part[2]]


def entry(rows: list[Row], waking: Row) -> int | None:
    """When the handler that a waking was made in began; None: that is not recorded."""
    if waking["context"] not in HANDLERS:
        return None
    begins, ends, column = HANDLERS[waking["context"]]
    begun = None
    for row in rows:
        if row["seq"] < waking["seq"] and row["cpu"] == waking["cpu"] and row.get(column) == waking["context_vec"]:
            begun = row["ts"] if row["kind"] == begins else None if row["kind"] == ends else begun
    return begun


def occupants(rows: list[Row], cpu: int) -> list[tuple[int, int, int]]:
    """(tid, begin, end) of what a CPU ran."""
    switches = [row for row in rows if row["kind"] == "sched_switch" and row["cpu"] == cpu]
    found = [(switches[0]["tid"], 0, switches[0]["ts"])] if switches else []
    ends = [*(row["ts"] for row in switches[1:]), END]
    return found + [(row["next_tid"], row["ts"], end) for row, end in zip(switches, ends, strict=True)]


def chain(rows: list[Row], tid: int, moment: int) -> list[Path]:
    """(depth, begin, end, tid, what, whose wait it ends): back from a moment to the last wait, its waker's last, …"""
    found: list[Path] = []
    high: tuple[int, int] | None = None
    wakes = None
    for depth in range(DEEPEST + 1):
        known = states(rows, tid, 0) or [State("unknown", (-1, 0), (END, END))]
        past = [state for state in known if (state.begin[1] <= moment if high is None else state.begin[0] < high[0])]
        if not past or (depth == 0 and not states(rows, tid, 0)):
            break
        waits = [n for n, state in enumerate(past) if state.what in ("blocked", "created")]
        for state in past[waits[-1] if waits else 0 :]:
            end = state.end[1] if high is None else min(state.end[1], high[1])
            found.append((depth, state.begin[1], None if end == END else end, tid, state.what, wakes))
        ends_in_time = waits and (high is None or past[waits[-1]].end[0] < high[0])
        if not ends_in_time or not followed(past[waits[-1]]):
            break
        wait = past[waits[-1]]
        assert wait.waker
        high, wakes, tid = wait.end, tid, wait.waker["tid"]
    return found
