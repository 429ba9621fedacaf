"""A recording of a known workload against what the kernel and the workload itself counted."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.kernel.conftest import Workload

pytestmark = pytest.mark.kernel


def test_nothing_is_lost_and_every_cpu_is_a_chain(workload: Workload) -> None:
    assert {line.residue for line in workload.capture.ledger()} == {0}
    gaps = workload.rows("SELECT cpu, from_ts, ts FROM lost WHERE cause = 'undeclared' ORDER BY ts")
    assert workload.rows("SELECT COUNT(*) FROM lost") == [(len(gaps),)]
    assert gaps == [(cpu, before, ts) for cpu, before, ts, _ in workload.breaks()]
    hidden = workload.hidden()
    assert {expected for *_, expected in workload.breaks()} <= hidden
    assert not hidden & {task["tid"] for task in workload.truth["tasks"]}


def test_voluntary_switches_equal_the_kernels_counters(workload: Workload) -> None:
    counted, kernel = {}, {}
    for task in workload.truth["tasks"]:
        counted[task["comm"]] = workload.rows(
            "SELECT COUNT(*) FROM sched_switch WHERE tid = $tid AND prev_state NOT LIKE 'R%' AND ts > $a AND ts <= $b",
            tid=task["tid"], a=task["t_begin_ns"], b=task["t_end_ns"],
        )[0][0]  # fmt: skip
        kernel[task["comm"]] = task["nvcsw"]
    assert counted == kernel
    assert sum(kernel.values()) > 500


def test_involuntary_switches_are_within_what_the_counters_allow(workload: Workload) -> None:
    # A preemption can fall between the two clock readings around the reading of the counter.
    for task in workload.truth["tasks"]:
        inner, outer = (
            workload.rows(
                "SELECT COUNT(*) FROM sched_switch WHERE tid = $t AND prev_state LIKE 'R%' AND ts > $a AND ts <= $b",
                t=task["tid"], a=task[begin], b=task[end],
            )[0][0]
            for begin, end in (("t_begin_ns", "t_end_ns"), ("t_begin_outer_ns", "t_end_outer_ns"))
        )  # fmt: skip
        assert inner <= task["nivcsw"] <= outer, task["comm"]


def _wakings(workload: Workload, name: str) -> list[tuple[int, int, str, int | None]]:
    """(ts, waker, context, vector) of a thread's wakeups while it worked."""
    task = workload.task(name)
    return workload.rows(
        "SELECT ts, waker_tid, context, context_vec FROM wakeups"
        " WHERE tid = $tid AND ts > $a AND ts <= $b ORDER BY seq",
        tid=task["tid"], a=task["t_begin_ns"], b=task["t_end_ns"],
    )  # fmt: skip


@pytest.mark.parametrize(("waker", "woken"), [("futex_ping", "fx:pong"), ("futex_pong", "fx:ping")])
def test_futex_handoffs_are_wakeups_in_task_context(workload: Workload, waker: str, woken: str) -> None:
    other = workload.role(waker)[0]
    wakings = _wakings(workload, woken)
    by_other = [context for _, tid, context, _ in wakings if tid == other["tid"]]
    assert abs(len(by_other) - other["wakes_delivered"]) <= 1
    assert len(by_other) > 100
    assert set(by_other) == {"task"}


def test_the_client_wakes_the_workers_from_net_rx(workload: Workload) -> None:
    client = workload.task("cli:client")["tid"]
    for name in ("wrk:worker_0", "wrk:worker_1"):
        contexts = Counter((context, vec) for _, tid, context, vec in _wakings(workload, name) if tid == client)
        assert set(contexts) == {("softirq", 3)}, name
        assert contexts.total() >= workload.role("client")[0]["delta"]["nvcsw"] // 10


def test_the_sleeper_is_woken_by_a_timer_as_often_as_it_slept(workload: Workload) -> None:
    contexts = Counter(context for _, _, context, _ in _wakings(workload, "tmr:sleeper"))
    assert set(contexts) == {"hrtimer"}
    # A timer that fires while a thread is current that the machine hides from BPF is missing; such a thread leaves
    # a gap, since nobody saw it leave its CPU.
    task = workload.task("tmr:sleeper")
    gaps = workload.rows(
        "SELECT COUNT(*) FROM lost WHERE cause = 'undeclared' AND ts > $a AND from_ts <= $b",
        a=task["t_begin_ns"], b=task["t_end_ns"],
    )[0][0]  # fmt: skip
    slept = workload.role("sleeper")[0]["sleeps"]
    assert slept - min(gaps, slept // 10) <= contexts["hrtimer"] <= slept


def test_each_connect_wakes_every_worker_that_sleeps(workload: Workload) -> None:
    both = 0
    workers = [thread["tid"] for thread in workload.role("server")[1:]]
    connections = workload.truth["roles"]["client"]["connections"]
    for connection in connections:
        begin, end = connection["connect_ns"]
        woken = {
            tid
            for (tid,) in workload.rows(
                "SELECT tid FROM wakeups WHERE ts BETWEEN $a AND $b AND tid IN (SELECT UNNEST($workers::INTEGER[]))",
                a=begin, b=end, workers=workers,
            )
        }  # fmt: skip
        both += len(woken) == 2
        for tid in set(workers) - woken:
            # Then it was awake: no sleep reaches over the whole of the connect.
            asleep = workload.rows(
                "SELECT * FROM sleeps WHERE tid = $tid AND ts < $a AND end_ts > $b", tid=tid, a=begin, b=end
            )
            assert asleep == []
    assert both >= len(connections) // 2  # 20 of 20 in 34 of 36 runs of the oracles, 15 in the worst


@pytest.mark.parametrize(
    ("name", "by", "condition"),
    [
        ("tmr:sleeper", "timer", "context = 'hrtimer'"),
        ("fx:pong", "comm fx:ping", "comm = 'fx:ping' AND context = 'task'"),
        ("wrk:worker_0", "softirq net_rx", "context = 'softirq' AND context_vec = 3"),
    ],
)
def test_the_language_gives_the_same_answers(workload: Workload, name: str, by: str, condition: str) -> None:
    tid = workload.task(name)["tid"]
    expected = workload.rows(f"SELECT COUNT(*) FROM sched_waking WHERE target_tid = $t AND {condition}", t=tid)
    assert workload.ask(f"wakeups of tid {tid} by {by} | count")[0][0] == expected[0][0]
    assert expected[0][0] > 20
