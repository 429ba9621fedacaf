"""``histogram`` and ``rate``: buckets by value and by time, what a loss leaves of their counts, what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracectl.query import Scene, ask, parse, plan
from tracectl.query.series import _log2_bucket
from tracectl.render import Table, with_bars
from tracectl.store.database import Database
from tracectl.store.errors import QueryError
from tracectl.store.events import KINDS

ALL_KINDS = [kind for kind, event in KINDS.items() if not event.bookkeeping]
LARGEST = 2**63 - 1
DATABASE = Database([], threads=1)


def by_walking(value: int) -> tuple[int, int]:
    """The bucket of a value: doubled until it fits."""
    if value == 0:
        return 0, 1
    value, low = max(value, -LARGEST), 1
    while 2 * low <= abs(value):
        low *= 2
    high = min(2 * low, LARGEST)
    # The last bucket of each side ends where the numbers do.
    return (low, high) if value > 0 else (1 - high if low < 2**62 else -LARGEST - 1, 1 - low)


@settings(max_examples=150)
@example(-LARGEST - 1)
@example(-LARGEST)
@example(LARGEST)
@given(st.one_of(st.integers(-LARGEST - 1, LARGEST), st.integers(0, 62).map(lambda n: 2**n), st.integers(-9, 9)))
def test_the_bucket_of_any_number(value: int) -> None:
    made = _log2_bucket("value")
    sql = f"SELECT {made['bucket_from']}, {made['bucket_to']} FROM (SELECT CAST($p1 AS BIGINT) AS value)"
    ((low, high),) = DATABASE.execute(sql, {"p1": value}).rows()
    assert (low, high) == by_walking(value)
    assert low <= value < high or value == high == LARGEST


@pytest.fixture
def spans(trace: Any) -> Any:
    for n, dur in enumerate((0, 1, 2, 3, 4, 7, 8, 100)):
        trace.softirq(1000 * n, 1000 * n + dur, 0, 3 if n % 2 else 7)
    trace.options |= {"kinds": ALL_KINDS, "end_ts": 8000}
    return trace


def test_histogram(spans: Any, rows: Any) -> None:
    counts = [(0, 1, 1), (1, 2, 1), (2, 4, 2), (4, 8, 2), (8, 16, 1), (64, 128, 1)]
    assert rows(spans, "softirqs | histogram dur") == counts
    assert rows(spans, "softirqs over 5ns | histogram dur") == [(4, 8, 1), *counts[4:]]
    assert rows(spans, "softirqs | histogram dur by name | top 1 by count | select name, bucket_from") == [
        ("NET_RX", 1)
    ]


def test_histogram_under_loss(spans: Any, answer: Any) -> None:
    spans.event(7500, 0, "softirq_entry", vec=3)
    spans.lost(7500, 7600, 0, "irq", 2)
    found = answer(spans, "softirqs | histogram dur")
    assert found.rows()[-1] == (None, None, 1, 0, 3)  # the one whose end was lost
    assert found.rows()[2] == (2, 4, 2, 2, 5)
    assert found.qualification.bounds == {"count": "between count_min and count_max"}


def test_bars() -> None:
    made = with_bars(
        Table(["name", "bucket_from", "bucket_to", "count"], [("a", 1, 2, 4), ("a", 8, 16, 2), ("b", 1, 2, 1)])
    )
    assert [row[:4] for row in map(list, made.rows)] == [
        ["a", 1, 2, 4], ["a", 2, 4, 0], ["a", 4, 8, 0], ["a", 8, 16, 2], ["b", 1, 2, 1],
    ]  # fmt: skip
    assert [len(row[4]) for row in made.rows] == [40, 0, 0, 20, 10]
    other = Table(["count"], [(1,)])
    assert with_bars(other) is other


def test_rate_has_every_part_of_the_time(trace: Any, rows: Any) -> None:
    for ts in (1000, 1001, 1099, 1350):
        trace.waking(ts, 0, "idle", f"a:{1 + ts % 2}")
    trace.options |= {"start_ts": 1000, "end_ts": 1450, "kinds": ALL_KINDS}
    assert rows(trace, "wakeups | rate 100ns | select ts, count") == [
        (1000, 3), (1100, 0), (1200, 0), (1300, 1), (1400, 0),
    ]  # fmt: skip
    assert rows(trace, "wakeups of tid 2 | rate 100ns | select count") == [(2,), (0,), (0,), (0,), (0,)]
    assert rows(trace, "wakeups between 50ns and 360ns | rate 100ns | select ts, count, per_second") == [
        (1000, 1, 1e9 / 50), (1100, 0, 0), (1200, 0, 0), (1300, 1, 1e9 / 61),
    ]  # fmt: skip
    assert rows(trace, "wakeups | rate 300ns by tid | select ts, tid, count") == [
        (1000, 1, 1), (1000, 2, 2), (1300, 1, 1), (1300, 2, 0),
    ]  # fmt: skip
    assert rows(trace, "wakeups of tid 77 | rate 1s | select count") == [(0,)]


def test_rate_says_where_something_was_lost(trace: Any, answer: Any) -> None:
    for ts in (10, 110, 210, 310):
        trace.waking(ts, 0, "idle", "a:1")
    trace.lost(120, 130, 0, "sched", 3)
    trace.lost(190, 230, 1, "sched", None)
    trace.options |= {"end_ts": 399, "kinds": ALL_KINDS}
    found = answer(trace, "wakeups | rate 100ns | select ts, count, count_min, count_max, gaps")
    assert found.rows() == [(0, 1, 1, 1, 0), (100, 1, 1, None, 2), (200, 1, 1, None, 1), (300, 1, 1, 1, 0)]
    assert not found.qualification.exact
    assert answer(trace, "wakeups on cpu 0 | rate 100ns | select count_max, gaps").rows() == [
        (1, 0), (4, 1), (1, 0), (1, 0),
    ]  # fmt: skip
    trace.options["filter"] = "pid 1"
    assert answer(trace, "wakeups | rate 100ns").qualification.bounds == {"count": "at least count_min"}


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ("delays | histogram comm", "comm is no number"),
        ("delays | histogram ts", "ts has no sizes"),
        ("delays | histogram dur | p50 bucket_from", "the rows of a histogram cannot be summed up again"),
        ("delays | histogram dur | count", "the rows of a histogram cannot be summed up again"),
        ("delays | histogram dur | histogram count", "the rows of a histogram cannot be summed up again"),
        ("delays | histogram dur | rate 1s", "rate is of the noun's own rows"),
        ("delays | count by comm | rate 1s", "rate is of the noun's own rows"),
        ("delays | limit 3 | rate 1s", "rate is of the noun's own rows"),
        ("delays | rate 1s | rate 1s", "rate is of the noun's own rows"),
        ("delays | rate 0s", "no time at all"),
        ("delays | rate 1ns", "that would be 1000000000001 rows"),
        ("tasks | rate 1s", "the rows of tasks are at no moment"),
        ("delays | rate", "the question ends too early"),
    ],
)
def test_what_makes_no_sense(question: str, problem: str) -> None:
    with pytest.raises(QueryError) as caught:
        plan(parse(question), Scene(end_ts=10**12))
    assert caught.value.problem == problem
    assert caught.value.remedy


def test_a_stage_around_another_still_says_what_was_left_open(trace: Any, capture_of: Any) -> None:
    trace.waking(10, 0, "idle", "a:1", "softirq", 3)
    trace.waking(11, 0, "idle", "a:1", "unknown", None)
    capture = capture_of(trace)
    for stages in (
        "count by comm | sort comm",
        "count by comm | count",
        "limit 5 | count",
        "rate 1us",
        "histogram prio",
    ):
        found = ask(capture, f"wakeups by softirq of tid 1 | {stages}")
        assert found.qualification.undetermined == 1, stages
        assert not found.qualification.exact
    trace.softirq(20, 30, 0, 3)
    trace.options["kinds"] = ALL_KINDS
    found = ask(capture_of(trace), 'wakeups of comm "a*" by softirq during (softirqs) same cpu | count by tid | count')
    assert found.qualification.undetermined == 0 and found.rows() == [(0,)]
