"""Late waits and a CPU that goes and comes back, in stock kernels, where nothing is hidden from tracing."""

from __future__ import annotations

from collections.abc import Callable

from tests.vm.conftest import Files
from tracectl.store.integrity import check

Scenario = Callable[[str], Files]
Wait = tuple[int, int, int, str, int, int, bool]
_QUESTION = "delays over 2ms | select tid, prev_tid, cpu, cause, ts, end_ts, certain"
_MS = 1_000_000


def test_late_waits_are_those_of_a_full_recording(scenario: Scenario) -> None:
    late, full = scenario("late").capture("late"), scenario("late").capture("full")
    assert {(line.lost, line.residue) for one in (late, full) for line in one.capture.ledger()} == {(0, 0)}
    picked: list[Wait] = late.ask(_QUESTION)
    told: list[Wait] = full.ask(_QUESTION)
    assert all(certain for *_, certain in picked + told)
    assert len(picked) > 50
    assert {cause for _, _, _, cause, *_ in picked} >= {"wakeup", "preempted"}
    switches = set(full.rows("SELECT next_tid, tid, cpu FROM sched_switch"))
    assert [row for row in picked if row[:3] not in switches] == []
    # An emulated machine stops at any place, also between two programs that read the clock at the same event: then one
    # takes a wait for late and the other does not. tests/kernel/test_min_delay.py compares them all.
    told = [row for row in told if row[4] >= late.capture.start_ts and row[5] <= late.capture.end_ts]
    assert sum(_among(row, told) for row in picked) > 0.8 * len(picked)
    assert sum(_among(row, picked) for row in told) > 0.8 * len(told)


def _among(one: Wait, others: list[Wait]) -> bool:
    """Whether it is one of the others."""
    return any(one[:4] == o[:4] and max(abs(one[4] - o[4]), abs(one[5] - o[5])) < _MS for o in others)


def test_a_cpu_that_goes_and_comes_back(scenario: Scenario) -> None:
    """Its rings stay off: what happens on it from then on is declared as lost, up to the end."""
    gone = scenario("hotplug").capture("gone")
    assert [found for found in check(gone.capture, gone.database) if not found.ok] == []
    lines = gone.capture.ledger()
    assert [line for line in lines if line.residue] == []
    assert {line.cpu for line in lines if line.recorded} == {0, 1}
    assert {line.cpu for line in lines if line.lost} == {1}
    assert gone.rows("SELECT DISTINCT cause FROM lost") == [("not_attached",)]
    ((last,),) = gone.rows("SELECT MAX(ts) FROM sched_switch WHERE cpu = 1")
    assert gone.rows("SELECT COUNT(*) FROM lost WHERE stream = 'sched' AND cpu = 1 AND ts > $last", last=last) != [(0,)]
