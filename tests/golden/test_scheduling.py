"""Waits, sleeps and runs: trace, question, expected rows. Each case is a fact of the kernel that can be got wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tracectl.store.errors import NotRecordedError

DELAYS = "delays | select tid, ts, dur, cpu, cause, prev_comm, certain"
SLEEPS = "sleeps | select tid, ts, dur, blocked, delay, state, waker_comm, context, certain"

SCHED = ["sched_switch", "sched_waking", "sched_wakeup_new", "sched_process_fork"]


def test_a_wait_goes_from_the_waking_to_the_switch_in(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "idle")
    trace.waking(20, 1, "b:2", "a:1")
    trace.wakeup(25, 0, "idle", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 20, 10, 0, "wakeup", "swapper/0", True)]
    assert rows(trace, SLEEPS) == [(1, 10, 20, 10, 10, "S", "b", "task", True)]


def test_a_waking_that_races_with_the_switch_out_makes_the_wait_begin_there(trace: Any, rows: Any) -> None:
    trace.switch(5, 0, "idle", "R", "a:1")
    trace.waking(9, 1, "b:2", "a:1")
    trace.switch(10, 0, "a:1", "S", "idle")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 10, 20, 0, "wakeup", "swapper/0", True)]
    assert rows(trace, SLEEPS) == [(1, 10, 20, 0, 20, "S", "b", "task", True)]


def test_a_waking_before_the_switch_out_is_not_the_sleep_s_when_another_follows(trace: Any, rows: Any) -> None:
    trace.switch(5, 0, "idle", "R", "a:1")
    trace.waking(7, 1, "early:3", "a:1")
    trace.switch(10, 0, "a:1", "S", "idle")
    trace.waking(20, 1, "b:2", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 20, 10, 0, "wakeup", "swapper/0", True)]
    assert rows(trace, SLEEPS) == [(1, 10, 20, 10, 10, "S", "b", "task", True)]


def test_the_first_of_several_wakings_counts(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "D", "idle")
    trace.waking(20, 1, "first:2", "a:1")
    trace.waking(24, 1, "second:3", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 20, 10, 0, "wakeup", "swapper/0", True)]
    assert rows(trace, SLEEPS) == [(1, 10, 20, 10, 10, "D", "first", "task", True)]


def test_a_waking_of_a_running_thread_begins_nothing(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:1")
    trace.waking(20, 1, "b:2", "a:1")
    trace.switch(30, 0, "a:1", "R", "b:2")
    trace.switch(40, 0, "b:2", "S", "a:1")
    assert rows(trace, "delays of tid 1 | select ts, dur, cause") == [(30, 10, "preempted")]


def test_a_preempted_thread_has_no_waker(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "b:2")
    trace.waking(12, 0, "b:2", "a:1")
    trace.switch(14, 0, "b:2", "R+", "a:1")
    trace.switch(20, 0, "a:1", "R+", "c:3")
    trace.waking(22, 0, "c:3", "a:1")  # it had set a sleeping state before it was preempted: it waits already
    trace.switch(30, 0, "c:3", "S", "a:1")
    assert rows(trace, "delays of tid 1 | select ts, dur, cause, prev_comm") == [
        (12, 2, "wakeup", "b"),
        (20, 10, "preempted", "c"),
    ]
    assert rows(trace, "sleeps of tid 1 | select ts, dur") == [(10, 4)]


def test_a_new_thread_waits_from_sched_wakeup_new(trace: Any, rows: Any) -> None:
    trace.fork(8, 0, "parent:9", "child:1/9")
    trace.new(10, 0, "parent:9", "child:1/9")
    trace.switch(15, 0, "parent:9", "R", "child:1")
    trace.options["kinds"] = SCHED
    assert rows(trace, DELAYS) == [(1, 10, 5, 0, "new", "parent", True)]


def test_without_sched_waking_the_wait_begins_at_sched_wakeup(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "idle")
    trace.wakeup(25, 0, "bystander:7", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 25, 5, 0, "wakeup", "swapper/0", True)]
    assert rows(trace, "sleeps | select dur, blocked, delay, certain") == [(20, 15, 5, True)]
    # The current thread at sched_wakeup is not the waker.
    with pytest.raises(NotRecordedError, match="waker_comm of sleeps cannot be told"):
        rows(trace, "sleeps where waker_comm = bystander")


def test_without_wakings_nobody_says_that_no_sleep_was_long(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "idle").switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, "sleeps | select dur") == [(20,)]
    for question in ("sleeps where blocked > 1ns", "sleeps | sum blocked", "sleeps where delay is null"):
        with pytest.raises(NotRecordedError, match="cannot be told"):
            rows(trace, question)


def test_a_thread_woken_before_its_first_switch_in_the_capture(trace: Any, rows: Any) -> None:
    trace.waking(20, 1, "b:2", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    assert rows(trace, DELAYS) == [(1, 20, 10, 0, "wakeup", "swapper/0", True)]


def test_a_tid_used_again_is_another_thread(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "old:1", "S", "idle")
    trace.fork(20, 0, "p:9", "young:1/9")
    trace.new(22, 0, "p:9", "young:1/9")
    trace.switch(30, 0, "p:9", "S", "young:1")
    trace.options["kinds"] = SCHED
    assert rows(trace, SLEEPS) == []
    assert rows(trace, "delays | select ts, cause, comm") == [(22, "new", "young")]


def test_an_exit_is_no_sleep(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "X", "idle")
    trace.switch(12, 1, "b:2", "Z", "idle")
    trace.switch(14, 1, "idle", "R", "c:3")
    trace.switch(16, 1, "c:3", "T", "idle")
    trace.switch(40, 0, "idle", "R", "a:1")
    trace.switch(41, 1, "idle", "R", "b:2")
    trace.switch(43, 1, "b:2", "R", "c:3")
    trace.options["kinds"] = SCHED
    assert rows(trace, SLEEPS) == []
    assert rows(trace, "delays | select tid, cause") == []


def test_idle_neither_sleeps_nor_waits_and_is_one_thread_per_cpu(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:1")
    trace.switch(20, 1, "b:2", "S", "idle")
    trace.switch(30, 0, "a:1", "S", "idle")
    trace.switch(50, 1, "idle", "R", "b:2")
    trace.options["kinds"] = SCHED
    assert rows(trace, "delays of tid 0") == []
    assert rows(trace, "sleeps of tid 0") == []
    assert rows(trace, "runs of tid 0 | select cpu, ts, dur") == [(1, 20, 30)]


def test_runs_end_where_the_same_thread_leaves(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:1")
    trace.switch(30, 0, "a:1", "R+", "b:2")
    trace.switch(40, 0, "c:3", "S", "a:1")  # b to c is missing: neither's run is known
    trace.switch(55, 0, "a:1", "S", "idle")
    shown = "runs | select tid, ts, dur, end_state, certain"
    assert rows(trace, shown) == [(1, 10, 20, "R+", True), (2, 30, None, None, False), (1, 40, 15, "S", True)]


@pytest.mark.parametrize("first", ("a", "b"))
def test_the_name_of_a_thread_whose_tid_was_used_again_is_always_the_same(trace: Any, rows: Any, first: str) -> None:
    """Both names are those of the next thread too, so that neither was the old one's for longer."""
    last = "b" if first == "a" else "a"
    trace.switch(10, 0, f"{first}:5", "S", "idle").switch(20, 0, f"{last}:5", "S", "idle")
    trace.new(30, 0, "p:9", f"{first}:5")
    trace.switch(40, 0, f"{first}:5", "S", "idle").switch(50, 0, f"{last}:5", "S", "idle")
    assert rows(trace, "tasks of tid 5 | select seq, comm")[0][1] == last


def test_a_break_that_nobody_declared_is_a_loss(trace: Any, answer: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:1").switch(30, 0, "a:1", "R+", "b:2")
    trace.switch(40, 0, "c:3", "S", "a:1").switch(55, 0, "a:1", "S", "idle")
    trace.options["breaks_declared"] = False
    assert answer(trace, "lost | select stream, cpu, from_ts, ts, lost_count, cause").rows() == [
        ("sched", 0, 30, 40, None, "undeclared")
    ]
    assert str(answer(trace, "switches").qualification) == "not known how many missing (1 gap)"
    assert answer(trace, "switches after 41ns").qualification.exact
    trace.lost(31, 39, 0, "sched", 2)  # somebody did: the gap says what is missing
    assert str(answer(trace, "switches").qualification) == "at most 2 missing (1 gap)"


def test_order_is_seq_even_where_times_are_equal(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "b:2")
    trace.waking(10, 0, "b:2", "a:1")
    trace.switch(10, 0, "b:2", "R", "a:1")
    trace.switch(10, 0, "a:1", "R", "b:2")
    trace.switch(10, 0, "b:2", "S", "a:1")
    assert rows(trace, "delays | select tid, dur, cause") == [
        (1, 0, "wakeup"),
        (2, 0, "preempted"),
        (1, 0, "preempted"),
    ]
    assert rows(trace, "runs | select tid, end_state") == [(2, "R"), (1, "R"), (2, "S")]


def test_a_gap_between_two_events_makes_their_row_uncertain(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "a:1", "S", "idle")
    trace.waking(20, 1, "b:2", "a:1")
    trace.switch(30, 0, "idle", "R", "a:1")
    trace.switch(100, 0, "a:1", "S", "idle")
    trace.waking(120, 1, "b:2", "a:1")
    trace.switch(130, 0, "idle", "R", "a:1")
    trace.lost(21, 29, 1, "sched", 5)
    trace.lost(40, 90, 1, "irq", 5)
    assert rows(trace, "delays | select ts, certain") == [(20, False), (120, True)]
    assert rows(trace, "sleeps | select ts, certain") == [(10, False), (100, True)]
    # A run depends on its own CPU only.
    assert rows(trace, "runs | select ts, tid, certain") == [(10, 0, True), (30, 1, True), (100, 0, True)]


def test_a_long_gap_that_began_before_a_short_one_still_counts(trace: Any, rows: Any) -> None:
    trace.switch(50, 0, "a:1", "S", "idle")
    trace.waking(60, 1, "b:2", "a:1")
    trace.switch(70, 0, "idle", "R", "a:1")
    trace.lost(0, 100, 1, "sched", 5)
    trace.lost(10, 20, 1, "sched", 5)
    assert rows(trace, "delays | select certain") == [(False,)]


def test_a_gap_on_an_unknown_cpu_or_stream_touches_all(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:1")
    trace.switch(30, 0, "a:1", "S", "idle")
    trace.lost(15, 20, None, None, 5)
    assert rows(trace, "runs | select certain") == [(False,)]
    trace.rows[-1] |= {"cpu": 1}
    assert rows(trace, "runs | select certain") == [(True,)]


def test_switches_name_the_process_of_who_comes_where_any_event_tells(trace: Any, rows: Any) -> None:
    trace.switch(10, 0, "idle", "R", "a:11")
    trace.switch(20, 0, "a:11/7", "S", "b:12")
    assert rows(trace, "switches | select next_tid, next_pid") == [(11, 7), (12, None)]
    assert rows(trace, "switches of pid 7 | count") == [(2,)]
