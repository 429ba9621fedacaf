"""One run under three recorders: what perf and ftrace saw, imported, answers as our own capture does."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, Workload
from tracectl.recorder.import_session import ImportOptions, import_traces

pytestmark = pytest.mark.kernel

SOURCES = ("ftrace", "perf")
HARD = {"hardirq", "hrtimer", "ipi"}


@cache
def imported(folder: Path, source: str) -> Recorded:
    """The capture made of the other recorder's file."""
    file = {"ftrace": folder / "ftrace" / "trace.txt", "perf": folder / "perf.data"}[source]
    output = folder / f"from-{source}.parquet"
    import_traces(ImportOptions((str(file),), output, command_line=("tracectl", "import")))
    return Recorded(output)


def in_windows(workload: Workload, recorded: Recorded, sql: str) -> dict[str, list[tuple[object, ...]]]:
    """By thread of the workload: rows of a statement about ``$tid`` between ``$begin`` and ``$end``."""
    return {
        task["comm"]: recorded.rows(sql, tid=task["tid"], begin=task["t_begin_ns"], end=task["t_end_ns"])
        for task in workload.truth["tasks"]
    }


SWITCHES = """
SELECT COUNT(*) FILTER (prev_state NOT LIKE 'R%'), COUNT(*) FILTER (prev_state LIKE 'R%')
FROM sched_switch WHERE tid = $tid AND ts > $begin AND ts <= $end
"""


@pytest.mark.parametrize("source", SOURCES)
def test_switches_are_those_the_kernel_counted(workload: Workload, source: str) -> None:
    theirs = in_windows(workload, imported(workload.folder, source), SWITCHES)
    ours = in_windows(workload, workload, SWITCHES)
    for task in workload.truth["tasks"]:
        (voluntary, involuntary) = theirs[task["comm"]][0]
        assert voluntary == task["nvcsw"] == ours[task["comm"]][0][0], task["comm"]
        # A switch within the microsecond of a window's edge may be on either side of it (the texts are rounded).
        assert abs(involuntary - ours[task["comm"]][0][1]) <= 1, task["comm"]


WAKERS = """
SELECT waker_tid, COUNT(*) FROM wakeups WHERE tid = $tid AND ts > $begin AND ts <= $end GROUP BY waker_tid
"""


@pytest.mark.parametrize("source", SOURCES)
def test_wakers_are_the_same(workload: Workload, source: str) -> None:
    hidden = workload.hidden()
    ours, theirs = (in_windows(workload, one, WAKERS) for one in (workload, imported(workload.folder, source)))
    for comm, wakers in ours.items():
        seen = {waker: count for waker, count in theirs[comm] if waker not in hidden}
        for waker, count in wakers:
            assert abs(seen.pop(waker, 0) - count) <= 1, (comm, waker)
        assert sum(seen.values()) <= 1, (comm, seen)


CONTEXTS = """
SELECT context, context_source FROM wakeups WHERE tid = $tid AND ts > $begin AND ts <= $end
"""


def test_contexts_are_those_of_the_flags(workload: Workload) -> None:
    ours, theirs = (in_windows(workload, one, CONTEXTS) for one in (workload, imported(workload.folder, "ftrace")))
    total: Counter[str] = Counter()
    for comm, rows in ours.items():
        recorded, flags = (Counter(_class(str(row[0])) for row in side) for side in (rows, theirs[comm]))
        assert {row[1] for row in theirs[comm]} <= {"flags"}
        for what in recorded | flags:
            assert abs(recorded[what] - flags[what]) <= 1, (comm, what)
        total += flags
    assert total["softirq"] > 50 and total["hard"] > 30 and total["task"] > 200


def _class(context: str) -> str:
    return "hard" if context in HARD else context


DELAYS = """
SELECT ts, dur FROM delays
WHERE tid = $tid AND ts > $begin AND end_ts <= $end AND certain AND cause <> 'new' ORDER BY ts
"""
APART_NS = 50_000  # between two recorders' readings of the clock; a thread waits again only much later


@pytest.mark.parametrize("source", SOURCES)
def test_waits_add_up_to_the_same(workload: Workload, source: str) -> None:
    """Of the waits that both are certain of: on this machine's kernel, hidden switches leave gaps in either."""
    ours, theirs = (in_windows(workload, one, DELAYS) for one in (workload, imported(workload.folder, source)))
    known = both = 0
    for comm, rows in ours.items():
        others = [(int(str(ts)), int(str(dur))) for ts, dur in theirs[comm]]
        pairs = []
        for ts, dur in ((int(str(ts)), int(str(dur))) for ts, dur in rows):
            near = min(others, key=lambda other: abs(other[0] - ts), default=None)
            if near is not None and abs(near[0] - ts) < APART_NS:
                pairs.append((dur, near[1]))
        known += len(rows)
        both += len(pairs)
        mine, yours = (sum(pair[which] for pair in pairs) for which in (0, 1))
        # 1 %, and a microsecond a wait: ftrace's text is rounded to it, and the tracers read the clock one after
        # the other.
        assert abs(mine - yours) <= mine / 100 + 1_000 * len(pairs) + 50_000, comm
    assert both > 0.8 * known > 300
