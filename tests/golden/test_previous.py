"""``with previous``: who had the CPU that a waiting thread got, and how it left."""

from __future__ import annotations

from typing import Any

import pytest

from tracectl.store.errors import QueryError

APP, HOG, PEER = "app:10/9", "hog:20/19", "peer:30/29"


@pytest.fixture
def waits(trace: Any) -> Any:
    """Two waits for one CPU: the hog is preempted for the first, and goes to sleep before the second."""
    trace.switch(10, 0, "idle", "R", HOG)
    trace.waking(20, 1, "idle", APP).switch(50, 0, HOG, "R+", APP)
    trace.switch(60, 0, APP, "S", HOG)
    return trace.waking(70, 1, "idle", APP).switch(100, 0, HOG, "D", APP)


def test_the_thread_that_left(waits: Any, rows: Any) -> None:
    question = "delays of tid 10 with previous | select dur, prev_tid, prev_comm, prev_pid, prev_state"
    assert rows(waits, question) == [(30, 20, "hog", 19, "R+"), (30, 20, "hog", 19, "D")]
    assert rows(waits, "delays with previous where prev_state = D | count") == [(1,)]
    assert rows(waits, "delays of tid 10 with previous with previous | count by prev_pid") == [(19, 2)]


def test_over_a_gap_nobody_knows(waits: Any, answer: Any) -> None:
    waits.lost(75, 90, 0, "sched")
    lossy = answer(waits, "delays of tid 10 with previous | select ts, prev_state, certain")
    assert lossy.rows() == [(20, "R+", True), (70, None, False)]


def test_only_of_delays(waits: Any, answer: Any) -> None:
    with pytest.raises(QueryError, match="have nothing before them"):
        answer(waits, "sleeps with previous")
