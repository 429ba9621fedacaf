"""``with stacks`` and ``folded``: which stack stands in which row, what is unknowable, what is lost."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from tracectl.query import ask
from tracectl.store.errors import NotRecordedError, QueryError
from tracectl.store.events import KINDS

APP = "wrk:worker_0:4449/4182"
PEER = "wrk:worker_1:4450/4182"
WAKER = "a;b:900"


@pytest.fixture
def stacked(trace: Any) -> Any:
    """Two sleeps of one worker, from the same place, woken from two; one of another; and a preemption."""
    trace.stack(1, "entry;do_epoll_wait;schedule").stack(2, "main;loop;epoll_wait").stack(3, "softirq;try_to_wake_up")
    trace.stack(4, "write;wake_up").stack(5, "[lost stack]").stack(6, "main;spin")
    trace.switch(100, 0, APP, "S", "idle", 1, 2)
    trace.waking(140, 1, "idle", APP, "softirq", 3, kstack=3)
    trace.switch(150, 0, "idle", "R", APP, 7)
    trace.switch(200, 0, APP, "S", "idle", 1, 2)
    trace.waking(230, 1, WAKER, APP, kstack=4, ustack=5)
    trace.switch(250, 0, "idle", "R", APP, 7)
    trace.switch(300, 0, APP, "R+", PEER, None, 6)
    trace.switch(310, 0, PEER, "D", APP, 5)
    trace.waking(320, 1, "idle", PEER, "softirq", 3)
    trace.switch(330, 0, APP, "S", PEER, 1)
    return trace


SLEPT = "main;loop;epoll_wait;entry;do_epoll_wait;schedule"
SLEEPS = [
    (40, SLEPT, "softirq;try_to_wake_up"),
    (30, SLEPT, "[lost stack];write;wake_up"),
    (10, "[lost stack]", None),
]


def test_sleeps(stacked: Any, rows: Any) -> None:
    assert rows(stacked, "sleeps with stacks | select blocked, stack, waker_stack") == SLEEPS
    assert rows(stacked, "sleeps of tid 4449 with stacks over 40ns by task | select waker_stack") == [SLEEPS[1][2:]]
    assert rows(stacked, "sleeps with stacks where stack like '%loop%' | count") == [(2,)]


def test_a_sum_by_stacks(stacked: Any, rows: Any) -> None:
    question = "sleeps of pid 4182 with stacks | sum blocked by waker_stack, stack | top 10 by sum_blocked"
    assert rows(stacked, question) == [(waker, stack, blocked) for blocked, stack, waker in SLEEPS]


def test_other_nouns(stacked: Any, rows: Any) -> None:
    assert rows(stacked, "switches on cpu 0 with stacks | select stack | limit 1") == [(SLEPT,)]
    assert rows(stacked, "wakeups by task with stacks | select waker_stack") == [SLEEPS[1][2:]]
    assert rows(stacked, "events sched_waking with stacks where target_tid = 4450 | select stack") == [(None,)]
    runs = rows(stacked, "runs of tid 4449 with stacks | select ts, stack")
    assert runs == [(150, SLEPT), (250, "main;spin"), (310, "entry;do_epoll_wait;schedule")]
    delays = rows(stacked, "delays of tid 4449 with stacks | select cause, stack, waker_stack")
    assert ("preempted", "main;spin", None) in delays
    assert ("wakeup", None, "softirq;try_to_wake_up") in delays


def test_a_stack_that_is_referred_to_but_gone_is_lost(stacked: Any, rows: Any) -> None:
    stack = rows(stacked, "switches where prev_tid = 0 with stacks | select stack")
    assert stack == [("[lost stack]",), ("[lost stack]",)]


def test_a_stack_that_is_written_again_is_one(stacked: Any, rows: Any) -> None:
    """By the flight recorder; where it was lost at first, the one that came counts."""
    stacked.stack(1, "entry;do_epoll_wait;schedule").stack(2, "[lost stack]").stack(4, "write;wake_up")
    assert rows(stacked, "sleeps with stacks | select blocked, stack, waker_stack") == SLEEPS


def test_folded(stacked: Any, rows: Any) -> None:
    sleeper = f"wrk:worker_0;{SLEPT}"
    assert rows(stacked, "sleeps with stacks | folded") == [
        (f"{sleeper};--;try_to_wake_up;softirq;swapper/0", 40),
        (f"{sleeper};--;wake_up;write;[lost stack];a:b", 30),
        ("wrk:worker_1;[lost stack]", 10),
    ]
    assert rows(stacked, "sleeps with stacks | sum blocked by stack | folded") == [(SLEPT, 70), ("[lost stack]", 10)]
    assert rows(stacked, "sleeps with stacks | count by stack | folded") == [(SLEPT, 2), ("[lost stack]", 1)]
    assert rows(stacked, "wakeups with stacks by task | folded") == [("a:b;[lost stack];write;wake_up", 1)]
    assert rows(stacked, "wakeups of tid 4450 with stacks | folded") == [("swapper/0;[no stack]", 1)]
    runs = rows(stacked, "runs of tid 4449 with stacks | folded")
    assert runs == [
        (f"wrk:worker_0;{SLEPT}", 50),
        ("wrk:worker_0;main;spin", 50),
        ("wrk:worker_0;entry;do_epoll_wait;schedule", 20),
    ]  # fmt: skip


def test_it_is_one_statement_for_plain_duckdb(stacked: Any, capture_of: Any) -> None:
    answer = ask(capture_of(stacked), "sleeps with stacks | folded")
    found = answer.rows()
    with duckdb.connect() as connection:
        assert connection.execute(answer.sql_literal).fetchall() == found
    assert answer.qualification.exact and answer.units == {"sum_blocked": "ns"}


def test_where_no_stack_was_recorded(trace: Any, answer: Any) -> None:
    trace.switch(100, 0, APP, "S", "idle").waking(140, 1, "idle", APP)
    with pytest.raises(NotRecordedError) as refused:
        answer(trace, "sleeps with stacks")
    assert "--stacks sched_switch,sched_waking" in refused.value.remedy
    assert (refused.value.start, refused.value.end) == (7, 18)


def test_where_only_the_switches_have_stacks(stacked: Any, answer: Any, rows: Any) -> None:
    stacked.options["filled"] = {"sched_switch": ["kstack"], "sched_waking": []}
    assert rows(stacked, "sleeps with stacks | sum blocked by stack")[0] == (SLEPT, 70)
    assert "waker_stack" not in answer(stacked, "sleeps with stacks").columns
    assert rows(stacked, "sleeps of tid 4450 with stacks | folded") == [("wrk:worker_1;[lost stack]", 10)]
    for question in ("sleeps with stacks | count by waker_stack", "wakeups with stacks"):
        with pytest.raises(NotRecordedError, match="cannot be told"):
            answer(stacked, question)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("accepts with stacks", '"with stacks" goes with'),
        ("events sys_enter_close with stacks", "have no stacks"),
        ("sleeps | folded", 'a clause "with stacks"'),
        ("sleeps with stack", "stacks"),
        ("sleeps with stacks | folded by comm", "folded"),
    ],
)
def test_questions_that_make_no_sense(stacked: Any, answer: Any, question: str, words: str) -> None:
    stacked.options["kinds"] = [kind for kind, event in KINDS.items() if not event.bookkeeping]
    with pytest.raises(QueryError) as refused:
        answer(stacked, question)
    assert words in str(refused.value)


def test_a_loss_between_makes_the_waker_unknown(stacked: Any, answer: Any) -> None:
    stacked.lost(205, 225, 1, "sched")
    lossy = answer(stacked, "sleeps with stacks | select ts, stack, waker_stack, certain")
    assert (200, SLEPT, None, False) in lossy.rows()
    folded = answer(stacked, "sleeps of tid 4449 with stacks | folded")
    assert folded.qualification.bounds == {"sum_blocked": "at least"}
    assert (f"wrk:worker_0;{SLEPT};--;try_to_wake_up;softirq;swapper/0", 40) in folded.rows()
    count = answer(stacked, "wakeups with stacks | folded")
    assert count.qualification.bounds == {"count": "not bounded"} and count.qualification.at_most == 1


def test_folded_is_printed_as_lines(stacked: Any, capture_of: Any, run: Any) -> None:
    path = capture_of(stacked).path
    code, out, err = run("query", path, "sleeps with stacks in state D | folded")
    assert (code, out, err) == (0, "wrk:worker_1;[lost stack] 10\n", "tracectl: 1 row, exact\n")
    lines = run("query", path, "sleeps with stacks | folded").out.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["40", "30", "10"]
    assert (
        '"folded": "wrk:worker_1;[lost stack]"' in run("query", path, "-f", "json", "sleeps with stacks | folded").out
    )
