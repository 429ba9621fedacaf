"""System calls: a begin, its return on whatever CPU, and what may stand in between."""

from __future__ import annotations

from typing import Any

import pytest

KINDS = ["sys_enter", "sys_exit", "sched_process_exit", "sched_process_exec", "sched_process_fork"]
NAMES = {"0": "read", "15": "rt_sigreturn", "56": "clone", "59": "execve", "157": "prctl", "202": "futex"}


@pytest.fixture
def calls(trace: Any) -> Any:
    """An empty trace of a recording of system calls."""
    trace.options |= {"kinds": KINDS, "names": {"syscall": NAMES}}
    return trace


def enter(trace: Any, ts: int, cpu: int, thread: str, number: int, compat: int = 0) -> None:  # noqa: PLR0917 -- a line of a trace is read by position
    trace.event(ts, cpu, "sys_enter", thread, id=number, compat=compat)


def leave(trace: Any, ts: int, cpu: int, thread: str, number: int, ret: int = 0) -> None:  # noqa: PLR0917 -- likewise
    trace.event(ts, cpu, "sys_exit", thread, id=number, ret=ret)


def test_a_call_pairs_with_its_threads_return(calls: Any, rows: Any) -> None:
    enter(calls, 10, 0, "a:1", 0)
    enter(calls, 12, 0, "b:2", 0)
    leave(calls, 15, 0, "b:2", 0, -11)
    leave(calls, 20, 1, "a:1", 0, 512)  # the thread moved to another CPU
    enter(calls, 30, 1, "a:1", 999)
    leave(calls, 31, 1, "a:1", 999, -38)
    enter(calls, 40, 1, "a:1", 0, compat=1)  # number 0 of other calls
    leave(calls, 41, 1, "a:1", 0, -4096)  # no errno
    asked = "select ts, dur, tid, cpu, end_cpu, name, ret, error, certain"
    assert rows(calls, f"syscalls | {asked}") == [
        (10, 10, 1, 0, 1, "read", 512, None, True),
        (12, 3, 2, 0, 0, "read", -11, 11, True),
        (30, 1, 1, 1, 1, "999", -38, 38, True),
        (40, 1, 1, 1, 1, "compat:0", -4096, None, True),
    ]
    assert rows(calls, "syscalls read over 5ns of tid 1 | select ts") == [(10,)]
    assert rows(calls, "syscalls re* | count by name") == [("read", 2)]
    assert rows(calls, "syscalls 999 | count") == [(1,)]
    assert rows(calls, "syscalls where error > 0 | count by name, error") == [("999", 38, 1), ("read", 11, 1)]


def test_calls_that_do_not_return_or_return_otherwise(calls: Any, rows: Any) -> None:
    enter(calls, 10, 0, "a:1", 15)
    leave(calls, 11, 0, "a:1", -1, 77)  # the interrupted code's register, no result
    enter(calls, 20, 0, "a:1", 56)
    calls.fork(21, 0, "a:1", "a:3")
    leave(calls, 22, 0, "a:1", 56, 3)
    leave(calls, 23, 1, "a:3", 56, 0)  # the child comes out of a call that it did not begin
    enter(calls, 30, 1, "a:3", 202)
    calls.exit(35, 1, "a:3")  # killed
    leave(calls, 50, 1, "x:3", 202, 0)  # a new thread with that id
    enter(calls, 60, 0, "b:8/7", 59)
    calls.exit(61, 1, "b:7")
    calls.event(62, 0, "sched_process_exec", "b:7", old_tid=8)  # thread 8 is 7 from now on
    leave(calls, 63, 0, "b:7", 59, 0)
    enter(calls, 70, 0, "a:1", 0)
    enter(calls, 71, 0, "a:1", 0)  # a return that is not there, though nothing was lost
    assert rows(calls, "syscalls | select ts, tid, name, dur, end_ts, ret, certain") == [
        (10, 1, "rt_sigreturn", 1, 11, None, True),
        (20, 1, "clone", 2, 22, 3, True),
        (30, 3, "futex", None, 35, None, True),
        (60, 8, "execve", None, None, None, False),
        (70, 1, "read", None, None, None, False),
    ]


@pytest.mark.parametrize(("stream", "cpu", "certain"), [("syscall", 1, False), ("task", 0, False), ("sched", 0, True)])
def test_a_loss_on_any_cpu_can_have_been_the_return(
    calls: Any, rows: Any, stream: str, cpu: int, certain: bool
) -> None:
    calls.options["kinds"] = [*KINDS, "sched_waking"]
    enter(calls, 10, 0, "a:1", 0)
    leave(calls, 20, 0, "a:1", 0, 5)
    enter(calls, 30, 0, "a:1", 0)
    leave(calls, 32, 0, "a:1", 0, 5)
    calls.lost(14, 16, cpu, stream)
    known = (10, 20, 5, True) if certain else (None, None, None, False)
    assert rows(calls, "syscalls | select dur, end_ts, ret, certain") == [known, (2, 32, 5, True)]


@pytest.mark.parametrize(
    ("task_filter", "certain"), [("pid 1", [True, True]), ("comm a", [False, True]), ("cgroup /x", [False, True])]
)
def test_a_call_that_can_lead_out_of_the_filter(calls: Any, rows: Any, task_filter: str, certain: list[bool]) -> None:
    """``prctl`` takes the name away and a later one gives it back: begin and return are of two calls."""
    calls.options["filter"] = task_filter
    enter(calls, 10, 0, "a:1", 157)
    leave(calls, 90, 0, "a:1", 157)
    enter(calls, 91, 0, "a:1", 0)
    leave(calls, 92, 0, "a:1", 0)
    found = rows(calls, "syscalls | select certain, dur")
    assert found == [(sure, dur if sure else None) for sure, dur in zip(certain, (80, 1), strict=True)]


def test_calls_that_were_not_recorded(trace: Any, answer: Any) -> None:
    trace.waking(10, 0, "a:1", "b:2")
    with pytest.raises(Exception, match="sys_enter"):
        answer(trace, "syscalls")
