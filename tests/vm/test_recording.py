"""A recording in the stock kernel of a distribution against the kernel's own counters; the same with small rings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.conftest import Recorded
from tests.vm.conftest import Files
from tests.vm.guest.workload import PACKETS, SLEEPS
from tests.vm.image import Target
from tracectl.store.integrity import check

Scenario = Callable[[str], Files]


@pytest.fixture
def full(scenario: Scenario) -> Recorded:
    return scenario("recording").capture("full")


@pytest.fixture
def truth(scenario: Scenario) -> dict[str, Any]:
    threads: dict[str, Any] = scenario("recording").json("truth")
    return threads


def _wakers(capture: Recorded, thread: dict[str, int]) -> Counter[tuple[str, str, int | None]]:
    """(waker, context, vector) of a thread's wakeups while it was counted."""
    rows = capture.rows(
        "SELECT waker_comm, context, context_vec FROM wakeups WHERE tid = $tid AND ts > $a AND ts <= $b",
        tid=thread["tid"], a=thread["begin_ns"], b=thread["end_ns"],
    )  # fmt: skip
    return Counter(rows)


def test_nothing_is_lost_and_nothing_is_hidden(full: Recorded) -> None:
    ledger = full.capture.ledger()
    assert sum(line.recorded for line in ledger) > 2000
    assert {(line.lost, line.residue) for line in ledger} == {(0, 0)}
    # No process of a stock kernel is hidden from tracing: who leaves a CPU is always who got it.
    assert full.rows("SELECT COUNT(*) FROM lost") == [(0,)]
    assert full.breaks() == []
    assert full.hidden() == set()


def test_voluntary_switches_equal_the_kernels_counters(full: Recorded, truth: dict[str, Any]) -> None:
    assert voluntary_switches(full, truth) == {name: thread["voluntary"] for name, thread in truth.items()}
    assert sum(thread["voluntary"] for thread in truth.values()) > 300


def voluntary_switches(capture: Recorded, truth: dict[str, Any]) -> dict[str, int]:
    """How often each thread gave up its CPU while it was counted, by the capture."""
    return {
        name: capture.rows(
            "SELECT COUNT(*) FROM sched_switch WHERE tid = $t AND prev_state NOT LIKE 'R%' AND ts > $a AND ts <= $b",
            t=thread["tid"], a=thread["begin_ns"], b=thread["end_ns"],
        )[0][0]
        for name, thread in truth.items()
    }  # fmt: skip


def test_contexts_of_wakeups_whose_cause_is_known(full: Recorded, truth: dict[str, Any]) -> None:
    by_timer = _wakers(full, truth["vm:sleeper"])
    assert sum(count for (_, context, _), count in by_timer.items() if context == "hrtimer") == SLEEPS
    by_ping = Counter(
        {
            (context, vec): n
            for (waker, context, vec), n in _wakers(full, truth["vm:pong"]).items()
            if waker == "vm:ping"
        }
    )
    # Python's lock is waited for with a limit: its timer, too, may end while the other is current.
    assert set(by_ping) <= {("task", None), ("hrtimer", None)}
    # How often it comes to that depends on the emulation: the threads may take turns without sleeping, even always.
    assert by_ping["task", None] >= 0.8 * by_ping.total()
    # A packet over loopback is delivered in softirq while the sender is current; Python's own lock is the rest.
    received = Counter()
    for (_, context, vec), count in _wakers(full, truth["vm:server"]).items():
        received[context, vec] += count
    assert set(received) <= {("softirq", 3), ("task", None), ("hrtimer", None)}
    assert PACKETS // 10 < received["softirq", 3] <= PACKETS


def test_what_small_rings_lost_is_accounted_for(scenario: Scenario) -> None:
    small = scenario("recording").capture("small")
    ledger = small.capture.ledger()
    assert sum(line.lost for line in ledger) > 0
    assert {line.residue for line in ledger} == {0}
    assert [(line.stream, line.cpu) for line in ledger if line.emitted != line.recorded + line.lost] == []
    assert small.rows("SELECT SUM(lost_count) FROM lost WHERE cause <> 'undeclared'") == [
        (sum(line.lost for line in ledger),)
    ]
    assert [found for found in check(small.capture, small.database) if not found.ok] == []


def test_the_bcc_is_the_distributions_own(scenario: Scenario, target: Target) -> None:
    (line,) = [line for line in scenario("recording").text("log").splitlines() if line.startswith("ok       BCC ")]
    assert line.split()[2].startswith(f"{target.bcc}.")
