"""What an answer claims on a capture with losses, held against the answer on the full one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tracectl.query import Answer, Scene, parse, plan
from tracectl.query.bounds import Loss
from tracectl.store.errors import QueryError
from tracectl.store.relations import views

Rows = list[tuple[Any, ...]]
_MANY = 10**9


@dataclass(frozen=True)
class Read:
    """An answer with its rows, and its columns by name."""

    answer: Answer
    rows: Rows

    @classmethod
    def of(cls, answer: Answer) -> Read:
        return cls(answer, answer.rows())

    def column(self, name: str) -> int:
        return self.answer.columns.index(name)

    def pick(self, names: list[str]) -> Rows:
        places = [self.column(name) for name in names]
        return [tuple(row[place] for place in places) for row in self.rows]


def unsound(lossy: Read, full: Read) -> str:
    """What is wrong with what the lossy answer claims; empty: nothing."""
    found = lossy.answer.qualification
    if found.exact:
        return "" if lossy.rows == full.rows else "called exact, but differs"
    select = lossy.answer.plan.select
    if select.group is None:
        return _rows(lossy, full)
    return "; ".join(filter(None, (_groups(lossy, full), _bounds(lossy, full, select.group))))


def _rows(lossy: Read, full: Read) -> str:
    at_most = lossy.answer.qualification.at_most
    if "certain" in lossy.answer.columns:
        certain = lossy.column("certain")
        wrong = Counter(row for row in lossy.rows if row[certain]) - Counter(full.rows)
        if wrong:
            return f"certain, but not in the full answer: {sorted(map(str, wrong))}"
    if at_most is not None and len(full.rows) > len(lossy.rows) + at_most:
        return f"{len(full.rows)} rows, not {len(lossy.rows)} and at most {at_most} more"
    return ""


def missing_anchors(lossy: Read, full: Read, kept: set[int]) -> list[int]:
    """Rows of the full answer that are named after an event which was not lost, and are in the lossy answer under no
    number, or with another value in a column that comes from that event alone.
    """
    plain = ["seq", *(name for name, column in lossy.answer.plan.select.columns.items() if not column.derived)]
    plain.remove("certain")
    there = set(lossy.pick(plain))
    return [row[0] for row in full.pick(plain) if row[0] in kept and row not in there]


def _groups(lossy: Read, full: Read) -> str:
    """Groups that are not there are missing rows too."""
    at_most, by = lossy.answer.qualification.at_most, lossy.answer.plan.select.group
    if at_most is None or not by or "count" not in full.answer.columns:
        return ""
    known = set(lossy.pick(by))
    counts = zip(full.pick(by), full.pick(["count"]), strict=True)
    absent = sum(count for group, (count,) in counts if group not in known)
    return f"{absent} rows in groups that are not there, at most {at_most}" if absent > at_most else ""


def _bounds(lossy: Read, full: Read, by: list[str]) -> str:
    values = {name: dict(zip(full.pick(by), full.pick([name]), strict=True)) for name in full.answer.columns}
    for name, words in lossy.answer.qualification.bounds.items():
        if words == "not bounded":
            continue
        between = re.fullmatch(r"between (\w+) and (\w+)", words)
        columns = list(between.groups()) if between else [words.split()[2] if " " in words[8:] else name] * 2
        for group, low, high in zip(lossy.pick(by), *(lossy.pick([column]) for column in columns), strict=True):
            (true,) = values[name].get(group, (0 if name == "count" else None,))
            at_least = low[0] if not words.startswith("at most") else None
            at_most = high[0] if between or words.startswith("at most") else None
            if true is None:  # no value at all
                if at_least is not None and not between:
                    return f"{name} of {group}: none, not {words} {at_least}"
            elif not (-_MANY if at_least is None else at_least) <= true <= (true if at_most is None else at_most):
                return f"{name} of {group}: {true}, not {words} ({low[0]}, {high[0]})"
    return ""


_CLAUSES = (
    "of tid 1", "of tid 1 or tid 2", "of pid 2", "of pid 1 or comm t2", 'of comm "t*"', "of comm t1", "of cgroup /a",
    'of cgroup "/*"', "by softirq", "by softirq timer", "by irq", "by timer", "by task", "by idle", "by tid 1",
    "by comm t2", "not by softirq", "not by tid 1", "on cpu 0", "on cpu 1", "on cpu 0,1", "on fd 1", "on port 80",
    "after 12ns",
    "after 20ns", "before 14ns", "before 20ns", "between 12ns and 22ns", "in last 885ns", "over 1ns", "over 3ns",
    "under 3ns", "in state S", "in state R", "in state D", "where dur > 2ns", "where dur is null",
    "where dur is not null",
    "where waker_tid is null", "where not (waker_tid = 1)", "where end_state = S or cpu = 0", "where cause = preempted",
    "where cause = wakeup and dur < 3ns", "where certain", "where not certain", "where not certain or dur > 1ns",
    "where slept", "where not slept", "where events > 0", "where next_pid = 1", "where next_pid is null",
    "where prev_comm like 't%'", "where blocked = 0", "where blocked is not null", "where context = softirq",
    "where context != task", "where context_vec in (0, 1)", "where end_ts < 30ns", "where comm = t1",
    "where start_ts is null",
    "where end_ts is null", "where source = handler", "where tid in (1, 2)", "where name = NET_RX",
    "where error = 1", "where ret is null",
)  # fmt: skip
_GROUPS = (
    "tid", "cpu", "comm", "pid", "cause", "end_state", "context", "state", "name", "prev_state", "next_pid", "source",
    "slept", "waker_tid", "certain", "kind", "cgroup", "end_cpu", "prev_tid",
)  # fmt: skip
_NUMBERS = ("dur", "ts", "blocked", "delay", "end_ts", "events", "waking_ts")


def _stages() -> list[str]:
    stages = [
        "count",
        "histogram dur",
        "histogram blocked by tid",
        *(f"count by {name}" for name in _GROUPS),
        "count by tid, cpu",
    ]
    for number in _NUMBERS:
        stages += [f"{what} {number}" for what in ("sum", "max", "min", "avg", "p50", "p1,p90,p100")]
        stages += [
            f"{what} {number} by {name}"
            for what in ("sum", "max", "p50")
            for name in ("tid", "cpu", "end_state", "cause")
        ]
    return stages


def _fits(question: str, *, context: str) -> bool:
    try:
        made = plan(parse(question), Scene(context=context), lambda _: Loss(1, 1))
    except QueryError:
        return False
    return made is not None


def vocabulary(noun: str, context: str = "recorded") -> tuple[list[str], list[str]]:
    """The clauses and the stages that go with a noun."""
    assert noun in views() or noun == "events"
    clauses = [clause for clause in _CLAUSES if _fits(f"{noun} {clause}", context=context)]
    return clauses, [stage for stage in _stages() if _fits(f"{noun} | {stage}", context=context)]
