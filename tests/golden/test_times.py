"""Times by the wall clock: from the capture's own readings, never without a zone."""

from __future__ import annotations

from typing import Any

import pytest

from tracectl.query import Scene, parse, plan
from tracectl.query.when import monotonic
from tracectl.store.errors import QueryError

SECOND = 10**9
REAL = 1_651_648_335 * SECOND  # 2022-05-04T07:12:15Z, as date(1) converts it
CLOCKS = ((100 * SECOND, REAL), (110 * SECOND, REAL + 10 * SECOND + 1000))


@pytest.fixture
def minutes(trace: Any) -> Any:
    for n in range(12):
        trace.waking((100 + n) * SECOND, 0, "idle", f"a:{n + 1}")
    both = [{"ts": ts, "realtime": real, "boottime": ts} for ts, real in CLOCKS]
    trace.options |= {"start_ts": 99 * SECOND, "end_ts": 112 * SECOND, "clocks": both}
    return trace


@pytest.mark.parametrize(
    ("clause", "tids"),
    [
        ("after 2022-05-04T16:12:24+09:00", [10, 11, 12]),
        ("after 2022-05-04T07:12:24.9Z", [11, 12]),
        ("after 2022-05-04 07:12:24.9 Z", [11, 12]),
        ("after 2022-05-04t07:12:24,9z", [11, 12]),
        ("before 2022-05-04T07:12:16.000000100Z", [1, 2]),
        ("before 2022-05-04T07:12:16.000000099Z", [1]),
        ("between 2022-05-04T09:12:17+0200 and 2022-05-04T07:12:19Z", [3, 4]),
        ("between 2s and 2022-05-04T07:12:19Z", [2, 3, 4]),
        ("at 2022-05-04T07:12:15Z ± 1s", [1, 2]),
        ("at 2022-05-04T07:12:15Z +- 2s", [1, 2, 3]),
        ("at 5s +/- 1s", [4, 5, 6]),
        ("at 5s±0ns", [5]),
        ("after 2022-05-04T07:13Z", []),
        ("after 1960-01-01T00:00Z", list(range(1, 13))),
        ("before 9999-12-31T23:59:59Z", list(range(1, 13))),
    ],
)
def test_by_the_wall_clock(minutes: Any, rows: Any, clause: str, tids: list[int]) -> None:
    assert rows(minutes, f"wakeups {clause} | select tid") == [(tid,) for tid in tids]


def test_between_the_readings_in_a_straight_line() -> None:
    scene = Scene(clocks=CLOCKS)
    assert monotonic(scene, REAL) == 100 * SECOND
    assert monotonic(scene, REAL - SECOND) == 99 * SECOND
    assert monotonic(scene, REAL + 5 * SECOND + 500) == 105 * SECOND
    assert monotonic(scene, REAL + 10 * SECOND + 1000) == 110 * SECOND
    assert monotonic(scene, REAL + 20 * SECOND + 1000) == 120 * SECOND


def test_a_clock_that_was_set_is_told(minutes: Any, answer: Any) -> None:
    assert answer(minutes, "wakeups after 2022-05-04T07:12:15Z").notes == []
    minutes.options["clocks"][1]["realtime"] += 3600 * SECOND
    notes = answer(minutes, "wakeups between 2022-05-04T07:12:15Z and 2022-05-04T07:12:16Z").notes
    assert notes == ["the wall clock moved by 3600.000001s against the monotonic clock during the recording"]


@pytest.mark.parametrize(
    ("clause", "clocks", "problem", "remedy"),
    [
        (
            "after 2022-05-04T16:12:15", CLOCKS, "this time has no zone: the capture may be from anywhere",
            "2022-05-04T16:12:15Z for UTC, or an offset: 2022-05-04T16:12:15+02:00",
        ),
        (
            "at 2022-05-04T16:12:15Z ± 1s", (), "this capture does not tell what the wall clock showed",
            "times from its start, as in: after 20.9s",
        ),
        ("after 2022-13-04T16:12:15Z", CLOCKS, "there is no such time", "as in 2022-05-04T16:12:15+09:00"),
        ("after 2022-05-04T16:12:15+99:00", CLOCKS, "there is no such time", "as in 2022-05-04T16:12:15+09:00"),
        (
            "between 2022-05-04T16:12:15Z and 2022-05-04T16:12:14Z", CLOCKS,
            "this time is empty: it ends before it begins", "the earlier time first",
        ),
    ],
)  # fmt: skip
def test_times_that_cannot_be_told(clause: str, clocks: Any, problem: str, remedy: str) -> None:
    with pytest.raises(QueryError) as caught:
        plan(parse(f"wakeups {clause}"), Scene(end_ts=10**12, clocks=clocks))
    assert (caught.value.problem, caught.value.remedy) == (problem, remedy)
