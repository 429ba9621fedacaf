"""``delays`` of a recording that kept only late waits (``record --min-delay``): the same answers, or none."""

from __future__ import annotations

from typing import Any

import pytest

from tracectl.query.answer import ask
from tracectl.store.captures import open_captures
from tracectl.store.errors import NotRecordedError, QueryError
from tracectl.store.relations import Relations

SHOWN = "ts, dur, end_ts, cpu, tid, pid, comm, cause, prev_tid, prev_comm, certain"
LEAST = 25  # ns


@pytest.fixture
def full(trace: Any) -> Any:
    """Waits of 30, 10, 40 and 26 ns, one of each cause and a short one."""
    trace.switch(10, 0, "idle", "R", "hog:20/19")
    trace.waking(20, 1, "idle", "app:10/9").switch(50, 0, "hog:20/19", "R+", "app:10/9")
    trace.switch(60, 0, "app:10/9", "S", "hog:20/19")
    trace.new(70, 1, "sh:5", "kid:30/29").switch(110, 0, "hog:20/19", "R+", "kid:30/29")
    return trace.switch(136, 0, "kid:30/29", "S", "hog:20/19")


@pytest.fixture
def late(full: Any, rows: Any, new_trace: Any) -> Any:
    """What the kernel would have picked out of that."""
    found = new_trace()
    found.options = {"kinds": ("runq_delay",), "min_delay_ns": LEAST}
    for _, dur, end, cpu, tid, pid, comm, cause, prev_tid, prev_comm, _ in rows(full, f"delays | select {SHOWN}"):
        if dur > LEAST:
            thread = f"{comm}:{tid}/{pid}"
            found.event(end, cpu, "runq_delay", thread, dur=dur, cause=cause, prev_tid=prev_tid, prev_comm=prev_comm)
    return found


@pytest.mark.parametrize(
    "question",
    (
        f"delays over 25ns | select {SHOWN} | sort ts",
        f"delays over 30ns of comm kid | select {SHOWN}",
        "delays over 26ns after 15ns before 30ns | select tid",
        "delays over 25ns on cpu 0 | count by cause | sort cause",
        "delays over 25ns | p50,p99 dur",
    ),
)
def test_the_answer_is_that_of_all_switches(full: Any, late: Any, answer: Any, question: str) -> None:
    of_all, of_late = answer(full, question), answer(late, question)
    assert of_late.rows() == of_all.rows() != []
    assert of_late.qualification.exact
    assert of_late.notes == ["only waits of more than 25ns that began in the recording were recorded (--min-delay)"]


@pytest.mark.parametrize(
    "question", ("delays", "delays over 24ns", "delays under 1us", "delays where dur > 30 | count", "delays | p99 dur")
)
def test_shorter_ones_are_not_asked_for(late: Any, answer: Any, question: str) -> None:
    with pytest.raises(NotRecordedError, match="only delays over 25ns were recorded") as refused:
        answer(late, question)
    assert refused.value.remedy.startswith("delays over 25ns")


def test_without_a_threshold_all_are_there(late: Any, rows: Any) -> None:
    late.options["min_delay_ns"] = 0
    assert rows(late, "delays | count") == [(3,)]


def test_what_needs_the_switches_says_so(late: Any, answer: Any) -> None:
    with pytest.raises(NotRecordedError, match="sched_switch"):
        answer(late, "delays over 25ns with previous")
    for question in (
        "events runq_delay during delays over 25ns",
        "delays over 25ns followed by events runq_delay within 1ms",
    ):
        with pytest.raises(QueryError, match="only the ends are in order"):
            answer(late, question)


def test_a_loss_takes_rows_away_and_makes_none_doubtful(late: Any, answer: Any) -> None:
    late.lost(40, 120, 0, "runq", 2)
    lossy = answer(late, "delays over 25ns | count")
    assert lossy.qualification.at_most == 2
    assert lossy.rows() == [(3, 3, 5)]
    assert {row[0] for row in answer(late, "delays over 25ns | select certain").rows()} == {True}
    # One that begins where the gap begins ends later.
    assert not answer(late, "delays over 25ns after 35ns before 40ns | count").qualification.exact
    assert answer(late, "delays over 25ns after 121ns | count").qualification.exact


def test_a_loss_of_other_streams_is_none_of_theirs(late: Any, answer: Any) -> None:
    late.lost(40, 120, 0, "task", 2)
    assert answer(late, "delays over 25ns | count").qualification.exact


def test_with_switches_recorded_too_all_delays_are_there(full: Any, late: Any, rows: Any) -> None:
    full.rows += late.rows
    full.options = {"kinds": ("sched_switch", "sched_waking", "sched_wakeup_new", "runq_delay"), "min_delay_ns": LEAST}
    assert rows(full, "delays | count") == [(4,)]


def test_a_set_has_the_late_ones_of_one_and_all_of_the_other(full: Any, late: Any, capture_of: Any) -> None:
    files = [capture_of(one).files[0] for one in (full, late)]
    both = ask(open_captures(*files), "delays over 25ns | count by capture")
    assert [row[1] for row in both.rows()] == [3, 3]
    some = ask(open_captures(*files), "delays | count")
    assert some.rows()[0][0] == 4
    assert not some.qualification.exact


def test_sql_finds_them_as_delays(late: Any, capture_of: Any) -> None:
    capture = capture_of(late)
    with capture.database() as database:
        for statement in Relations(capture).create_views():
            database.execute(statement)
        assert database.execute("SELECT COUNT(*), MIN(dur) FROM delays").rows() == [(3, 26)]
