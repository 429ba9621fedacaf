"""Who or what woke a thread: current task, context, handlers' spans; and the rows of softirqs, irqs, epolls."""

from __future__ import annotations

from typing import Any

import pytest

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError
from tracectl.store.relations import Relations
from tracectl.store.writer import write_rows


def envoy(trace: Any, context: str | None = "softirq", vec: int | None = 3) -> Any:
    """The case everybody is to have in mind: three current tasks, one cause."""
    for ts, waker in ((20, "idle"), (40, "ksoftirqd/0:10"), (60, "kubelet:900")):
        trace.event(ts - 2, 0, "softirq_entry", waker, vec=3)
        trace.waking(ts, 0, waker, "wrk:worker_0:4449/4182", context, vec)
        trace.waking(ts + 1, 0, waker, "wrk:worker_1:4450/4182", context, vec)
        trace.event(ts + 2, 0, "softirq_exit", waker, vec=3)
        trace.switch(ts + 5, 0, waker, "S", "wrk:worker_0:4449")
        trace.switch(ts + 8, 0, "wrk:worker_0:4449/4182", "S", "idle")
    return trace


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded context", "context by spans"])
def test_the_case_of_the_three_wakers(trace: Any, rows: Any, recorded: bool) -> None:
    envoy(trace) if recorded else envoy(trace, None, None)
    shown = "| select waker_comm, vec_name, context_source"
    source = "recorded" if recorded else "spans"
    assert rows(trace, f"wakeups of tid 4449 by softirq {shown}") == [
        ("swapper/0", "NET_RX", source),
        ("ksoftirqd/0", "NET_RX", source),
        ("kubelet", "NET_RX", source),
    ]
    assert rows(trace, "wakeups of tid 4449 by comm kubelet | select ts") == [(60,)]
    assert rows(trace, "wakeups of tid 4449 by task") == []
    assert rows(trace, "wakeups of tid 4449 not by softirq") == []
    assert rows(trace, "wakeups of pid 4182 | count by comm") == [("wrk:worker_0", 3), ("wrk:worker_1", 3)]
    assert rows(trace, "wakeups of tid 4449 by idle or tid 10 | select ts") == [(20,), (40,)]


def test_timers_and_interrupts(trace: Any, rows: Any) -> None:
    for ts, context, vec in ((1, "hrtimer", None), (2, "softirq", 1), (3, "softirq", 8), (4, "softirq", 3)):
        trace.waking(ts, 0, "idle", "a:1", context, vec)
    for ts, context, vec in ((5, "hardirq", 11), (6, "hardirq", 12), (7, "ipi", 253)):
        trace.waking(ts, 0, "idle", "a:1", context, vec)
    trace.waking(8, 0, "idle", "a:1", "task")
    trace.waking(9, 0, "idle", "a:1", "unknown")

    def ts_of(question: str) -> list[int]:
        return [ts for (ts,) in rows(trace, f"{question} | select ts")]

    assert ts_of("wakeups by timer") == [1, 2, 3]
    assert ts_of("wakeups by irq") == [1, 5, 6, 7]
    assert ts_of("wakeups by irq 11") == [5]
    assert ts_of("wakeups by softirq NET_RX or task") == [4, 8]
    assert ts_of("wakeups by softirq 3") == [4]
    assert ts_of("wakeups not by softirq") == [1, 5, 6, 7, 8]  # the unknown one is in neither
    assert ts_of("wakeups not by irq or softirq") == [8]


def by_spans(trace: Any, capture_of: Any) -> list[tuple[Any, ...]]:
    """(ts, context, vec, certain) of wakeups by spans."""
    capture = capture_of(trace)
    sql = Relations(capture, context_by_spans=True).with_clause(["wakeups_by_spans"])
    sql = f"{sql} SELECT ts, context, context_vec, certain FROM wakeups_by_spans ORDER BY seq"
    found: list[tuple[Any, ...]] = capture.database().execute(sql).rows()
    return found


def test_the_innermost_handler_is_the_context(trace: Any, capture_of: Any) -> None:
    trace.switch(1, 0, "idle", "R", "b:2")
    trace.event(10, 0, "softirq_entry", "b:2", vec=3)
    trace.waking(11, 0, "b:2", "a:1")
    trace.event(12, 0, "irq_handler_entry", "b:2", irq=11, irq_name="eth0")
    trace.waking(13, 0, "b:2", "a:1")
    trace.event(14, 0, "irq_vector_entry", "b:2", vec=236, vector="local_timer")
    trace.waking(15, 0, "b:2", "a:1")
    trace.event(16, 0, "hrtimer_expire_entry", "b:2", hrtimer=77, function="hrtimer_wakeup")
    trace.waking(17, 0, "b:2", "a:1")
    trace.event(18, 0, "hrtimer_expire_exit", "b:2", hrtimer=77)
    trace.event(19, 0, "irq_vector_exit", "b:2", vec=236, vector="local_timer")
    trace.event(20, 0, "irq_handler_exit", "b:2", irq=11, ret=1)
    trace.waking(21, 0, "b:2", "a:1")
    trace.waking(21, 1, "idle", "a:1")  # another CPU, nothing known of it
    trace.event(22, 0, "softirq_exit", "b:2", vec=3)
    trace.waking(23, 0, "b:2", "a:1")
    trace.event(24, 0, "irq_vector_entry", "b:2", vec=253, vector="reschedule")
    trace.waking(25, 0, "b:2", "a:1")
    trace.event(26, 0, "irq_vector_exit", "b:2", vec=253, vector="reschedule")
    assert by_spans(trace, capture_of) == [
        (11, "softirq", 3, True), (13, "hardirq", 11, True), (15, "hrtimer", 236, True), (17, "hrtimer", None, True),
        (21, "softirq", 3, True), (21, "unknown", None, True), (23, "task", None, True), (25, "ipi", 253, True),
    ]  # fmt: skip


def test_a_stray_begin_or_end_lasts_until_the_next_switch_at_most(trace: Any, capture_of: Any) -> None:
    trace.event(1, 0, "softirq_exit", "b:2", vec=3)  # recording began inside
    trace.event(2, 0, "softirq_entry", "b:2", vec=1)
    trace.waking(3, 0, "b:2", "a:1")
    trace.switch(5, 0, "b:2", "S", "c:3")  # the exit of 1 is missing
    trace.waking(6, 0, "c:3", "a:1")
    trace.event(7, 0, "softirq_entry", "c:3", vec=3)
    trace.waking(8, 0, "c:3", "a:1")
    assert by_spans(trace, capture_of) == [(3, "softirq", 1, True), (6, "task", None, True), (8, "softirq", 3, True)]


def test_a_context_by_spans_is_uncertain_after_a_gap_until_the_next_switch(trace: Any, capture_of: Any) -> None:
    trace.switch(5, 0, "b:2", "S", "c:3")
    trace.waking(20, 0, "c:3", "a:1")
    trace.switch(30, 0, "c:3", "S", "b:2")
    trace.waking(35, 0, "b:2", "a:1")
    trace.lost(10, 15, 0, "irq")
    trace.options["kinds"] = ["softirq_entry", "softirq_exit", "sched_waking", "sched_switch"]
    assert [(ts, certain) for ts, _, _, certain in by_spans(trace, capture_of)] == [(20, False), (35, True)]


def test_softirqs_pair_on_their_cpu_and_vector(trace: Any, rows: Any) -> None:
    trace.softirq(10, 20, 0, 3, "b:2")
    trace.softirq(12, 15, 1, 3)
    trace.event(30, 0, "softirq_entry", vec=1)  # its exit is missing
    trace.softirq(40, 45, 0, 7)
    trace.event(50, 0, "softirq_exit", vec=9)
    trace.lost(41, 44, 1, "irq")
    assert rows(trace, "softirqs | select ts, dur, cpu, name, comm, certain") == [
        (10, 10, 0, "NET_RX", "b", True),
        (12, 3, 1, "NET_RX", "swapper/0", True),
        (30, None, 0, "TIMER", "swapper/0", False),
        (40, 5, 0, "SCHED", "swapper/0", True),
    ]
    assert rows(trace, "softirqs sched on cpu 0 | count") == [(1,)]
    assert rows(trace, "softirqs sched | count") == [(1, 1, 2)]  # one event was lost on the other CPU
    trace.lost(41, 44, 0, "irq")
    assert rows(trace, "softirqs sched | select certain") == [(False,)]


def test_irqs_nest_and_keep_their_names(trace: Any, rows: Any) -> None:
    trace.event(10, 0, "irq_handler_entry", irq=11, irq_name="eth0")
    trace.event(12, 0, "irq_vector_entry", vec=236, vector="local_timer")
    trace.event(13, 0, "hrtimer_expire_entry", hrtimer=-5, function="tick_nohz_handler")
    trace.event(14, 0, "hrtimer_expire_exit", hrtimer=-5)
    trace.event(15, 0, "irq_vector_exit", vec=236, vector="local_timer")
    trace.event(20, 0, "irq_handler_exit", irq=11, ret=1)
    trace.event(30, 0, "irq_handler_entry", irq=11, irq_name="eth0")
    trace.event(40, 0, "irq_handler_entry", irq=11, irq_name="eth0")  # the exit before it is missing
    trace.event(41, 0, "irq_handler_exit", irq=11, ret=1)
    assert rows(trace, "irqs | select ts, dur, source, irq, name") == [
        (10, 10, "handler", 11, "eth0"),
        (12, 3, "vector", 236, "local_timer"),
        (13, 1, "hrtimer", None, "tick_nohz_handler"),
        (30, None, "handler", 11, "eth0"),
        (40, 1, "handler", 11, "eth0"),
    ]


def test_the_name_of_an_irq_comes_from_the_recorded_machine(trace: Any, rows: Any) -> None:
    trace.waking(5, 0, "idle", "a:1", "hardirq", 11)
    trace.options["names"] = {"irq": {"11": "nvme'q1"}}
    assert rows(trace, "wakeups | select vec_name") == [("nvme'q1",)]


def test_a_handler_without_an_end_is_left_open_though_nothing_is_known_lost(trace: Any, answer: Any) -> None:
    trace.event(10, 0, "softirq_entry", vec=3)
    trace.softirq(20, 24, 0, 3)
    trace.event(30, 0, "irq_handler_entry", irq=7, irq_name="eth0")
    trace.irq(40, 45, 0, 7)
    for noun, begin, whole, dur in (("softirqs", 10, 20, 4), ("irqs", 30, 40, 5)):
        found = answer(trace, f"{noun} | select ts, dur, certain")
        assert found.rows() == [(begin, None, False), (whole, dur, True)]
        found = answer(trace, f"{noun} over 1ns | select ts")
        assert found.rows() == [(whole,)]
        assert str(found.qualification) == "at most 1 missing (1 row that may match)"
        assert answer(trace, f"{noun} on cpu 0 | count").qualification.exact  # whether it ended or not
        (total,) = answer(trace, f"{noun} over 1ns | count").rows()
        assert total == (1, 1, 2)
        assert answer(trace, f"{noun} | sum dur").rows() == [(dur,)]  # of those that are known


def test_epolls_have_the_waking_that_ended_the_wait(trace: Any, rows: Any) -> None:
    trace.waking(5, 0, "idle", "w:1", "softirq", 3)
    trace.event(10, 0, "sys_exit_epoll_wait", "w:1", ret=1)
    trace.event(20, 0, "sys_exit_epoll_wait", "w:1", ret=2)  # at once: events were ready
    trace.waking(25, 0, "x:7", "w:1")
    trace.waking(26, 0, "y:8", "w:1")
    trace.waking(27, 0, "y:8", "other:2")
    trace.event(30, 1, "sys_exit_epoll_pwait", "w:1", ret=0)
    trace.event(40, 1, "sys_exit_epoll_wait", "other:2", ret=-4)
    assert rows(trace, "epolls | select ts, tid, events, error, slept, waker_comm, context") == [
        (10, 1, 1, None, True, "swapper/0", "softirq"),
        (20, 1, 2, None, False, None, None),
        (30, 1, 0, None, True, "y", "task"),
        (40, 2, None, 4, True, "y", "task"),
    ]
    trace.lost(11, 12, 1, "sched")
    assert rows(trace, "epolls of tid 1 | select certain") == [(True,), (False,), (True,)]


def test_whether_an_epoll_slept_is_not_known_without_wakings(trace: Any, capture_of: Any) -> None:
    trace.event(10, 0, "sys_exit_epoll_wait", "w:1", ret=1)
    trace.event(20, 0, "sys_exit_epoll_wait", "w:1", ret=2)
    trace.options["kinds"] = ["sys_exit_epoll_wait"]
    capture = capture_of(trace)
    with capture.database("64MiB", 1) as database:
        head = Relations(capture).with_clause(["epolls"])
        assert database.execute(f"{head} SELECT slept, certain FROM epolls").rows() == [(None, True), (None, True)]
    assert "slept" not in ask(capture, "epolls").columns
    for question in ("where slept", "where not slept", "| count by slept", "| select waking_ts, waker_comm"):
        with pytest.raises(NotRecordedError, match=r"record -e sched_waking$"):
            ask(capture, f"epolls {question}")


def test_what_began_before_the_recording_has_no_since_ts(trace: Any, rows: Any) -> None:
    """Null, not the moment 0 of the clock; and a gap at the very begin still takes the certainty away."""
    trace.waking(20, 0, "b:2", "a:1")
    trace.switch(30, 0, "b:2", "S", "a:1")
    trace.event(35, 0, "sys_exit_epoll_wait", "a:1", ret=1)
    trace.waking(40, 0, "a:1", "b:2")
    trace.waking(45, 0, "b:2", "a:1")  # it races with the switch-out
    trace.event(46, 0, "sys_exit_epoll_wait", "a:1", ret=1)
    trace.switch(50, 0, "a:1", "S", "b:2")
    trace.switch(60, 0, "b:2", "S", "a:1")
    shown = "select tid, ts, since_ts, certain"
    expected = {
        "delays": [(1, 20, None, True), (2, 40, 30, True), (1, 50, 30, True)],
        "sleeps": [(2, 30, 30, True), (1, 50, 30, True)],
        "epolls": [(1, 35, None, True), (1, 46, 35, True)],
    }
    for noun, found in expected.items():
        assert rows(trace, f"{noun} | {shown}") == found
    assert rows(trace, "delays where since_ts is null | select ts") == [(20,)]
    trace.lost(1, 2, 1, "sched")
    assert rows(trace, f"delays | {shown}") == [(1, 20, None, False), *expected["delays"][1:]]
    assert rows(trace, f"epolls | {shown}") == [(1, 35, None, False), (1, 46, 35, True)]


def test_accepts_closes_and_connections(trace: Any, rows: Any) -> None:
    trace.event(10, 0, "sys_exit_accept4", "w:1/9", ret=42)
    trace.event(11, 0, "sys_exit_accept4", "w:1/9", ret=-11)
    trace.event(12, 0, "sys_enter_close", "w:1/9", fd=42)
    ends = {"saddr": "10.0.0.1", "daddr": "10.0.0.2", "sport": 15006, "dport": 38590}
    state: dict[str, Any] = {"socket": -106247495893696, **ends}
    trace.event(9, 0, "inet_sock_set_state", **state, family=2, protocol=6, old_state=3, new_state=1)
    assert rows(trace, "accepts | select ts, tid, fd") == [(10, 1, 42)]
    assert rows(trace, "closes on fd 42 | select ts, comm") == [(12, "w")]
    question = "connections on port 38590 in state established | select old_state, saddr"
    assert rows(trace, question) == [("SYN_RECV", "10.0.0.1")]
    assert rows(trace, "connections on socket 0xffff9f5e53bfbd40 | count") == [(1,)]


def test_tasks_are_lives(trace: Any, rows: Any) -> None:
    trace.event(0, None, "task", "wrk:4449/4182", start_ts=-50, cgroup="/web")
    trace.fork(10, 0, "wrk:4449/4182", "wrk:77/4182")
    trace.new(11, 0, "wrk:4449/4182", "wrk:77/4182")
    trace.switch(12, 0, "named:77/4182", "R", "wrk:4449")
    trace.exit(13, 0, "named:77/4182")
    trace.fork(20, 0, "sh:5", "sh:77/77")
    trace.event(25, 0, "sched_process_exec", "ls:77/77", old_tid=77, filename="/bin/ls")
    shown = "| select tid, pid, comm, start_ts, end_ts, cgroup"
    assert rows(trace, f"tasks {shown}") == [
        (4449, 4182, "wrk", -50, None, "/web"),
        (77, 4182, "named", 10, 13, "/web"),
        (5, 5, "sh", None, None, None),
        (77, 77, "ls", 20, None, None),
    ]
    assert rows(trace, f"tasks of cgroup /w* {shown} | count") == [(2,)]
    assert rows(trace, "switches of cgroup /web | select ts") == [(12,)]


def test_lost_and_ad_hoc_events(trace: Any, rows: Any) -> None:
    trace.lost(10, 15, 0, "irq", 7)
    trace.options["extra_events"] = [
        {
            "kind": "sched_stat_runtime", "stream": "extra", "doc": "", "probes": ["sched:sched_stat_runtime"],
            "fields": [
                {"name": "sched_stat_runtime__runtime", "type": "int64", "doc": "ns"},
                {"name": "sched_stat_runtime__comm", "type": "string", "doc": "its own comm"},
                {"name": "sched_stat_runtime__order", "type": "int32", "doc": "a word of SQL"},
            ],
        }
    ]  # fmt: skip
    own = {"sched_stat_runtime__runtime": 500, "sched_stat_runtime__comm": "other", "sched_stat_runtime__order": 9}
    trace.event(20, 0, "sched_stat_runtime", "a:1", **own)
    assert rows(trace, "lost | select stream, from_ts, dur, lost_count, cause") == [("irq", 10, 5, 7, "ring_full")]
    question = "events sched:sched_stat_runtime where runtime > 400ns | select comm, runtime, arg_comm, order"
    with pytest.raises(Exception, match="runtime is no time"):
        rows(trace, question)
    assert rows(trace, question.replace("400ns", "400")) == [("a", 500, "other", 9)]
    assert rows(trace, "events sched_stat_runtime | count") == [(1,)]
    assert rows(trace, "events | count by kind") == [("sched_stat_runtime", 1, 1, 8)]  # seven others were lost


def test_every_relation_runs_as_a_view(trace: Any, capture_of: Any) -> None:
    capture = capture_of(envoy(trace))
    relations = Relations(capture)
    database = capture.database()
    for statement in relations.create_views():
        database.execute(statement)
    for name in relations.names():
        database.execute(f"SELECT * FROM {name}").rows()
    assert database.execute("SELECT count(*) FROM wakeups").rows() == [(6,)]
    assert len(ask(capture, "wakeups").rows()) == 6


def test_directory_names_are_no_columns(trace: Any, tmp_path: Any) -> None:
    folder = tmp_path / "cpu=3" / "kind=x"
    folder.mkdir(parents=True)
    trace.waking(10, 0, "idle", "a:1")
    capture = Capture.open(write_rows(folder / "c.parquet", trace.rows))
    assert ask(capture, "wakeups | select cpu, tid").rows() == [(0, 1)]
