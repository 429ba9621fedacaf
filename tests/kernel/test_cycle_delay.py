"""Rings are emptied, and stop conditions met, within 100 ms that the reader itself takes, on a loaded machine too."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel.conftest import record_to
from tracectl.recorder.drain import Drain

pytestmark = pytest.mark.kernel

LIMIT = 100_000_000
DD = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=100000000", "status=none")


def waited() -> int:
    """How long this thread has waited for a CPU so far (ns), which is the machine's doing."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """At the end of each cycle: the time, and the time waited for a CPU."""
    seen: list[tuple[int, int]] = []
    plain = Drain.cycle

    def watched(self: Drain, timeout: float) -> None:
        plain(self, timeout)
        seen.append((time.monotonic_ns(), waited()))

    monkeypatch.setattr(Drain, "cycle", watched)
    return seen


def own_delays(cycles: list[tuple[int, int]]) -> list[int]:
    pairs = pairwise(cycles)
    return [later - before - (waits - waits_before) for (before, waits_before), (later, waits) in pairs]


def test_rings_are_emptied_and_a_duration_is_met(tmp_path: Path, cycles: list[tuple[int, int]]) -> None:
    outcome = record_to(
        tmp_path / "x.parquet", *DD, events=("raw_syscalls:sys_enter", "sched"), duration_ns=1_500_000_000
    )
    assert outcome.stopped_by == "duration reached"
    assert len(cycles) > 10
    assert max(own_delays(cycles)) < LIMIT
    over = outcome.elapsed_ns - 1_500_000_000
    last = cycles[-1][1] - cycles[-2][1]
    assert 0 <= over < LIMIT + last
    assert all(line.residue == 0 for line in outcome.ledger)


def test_a_number_of_events_is_met(tmp_path: Path, cycles: list[tuple[int, int]]) -> None:
    """Known from what was handed over, as soon as the writer has looked at some of it."""
    begin = time.monotonic_ns()
    outcome = record_to(tmp_path / "x.parquet", *DD, events=("raw_syscalls:sys_enter",), max_events=1)
    assert outcome.stopped_by == "number of events reached"
    assert outcome.events >= 1
    assert max(own_delays(cycles), default=0) < LIMIT
    assert time.monotonic_ns() - begin < 60_000_000_000


def test_a_cpu_that_came_online_later_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring for CPU 0 alone, as if the other had been offline at the begin: what happens there is counted and told."""
    from tracectl.recorder import probes  # noqa: PLC0415 -- to be patched

    online = probes.cpus("online")
    if len(online) < 2:
        pytest.skip("this machine has one CPU")
    plain = probes.cpus
    monkeypatch.setattr(probes, "cpus", lambda which: online[:1] if which == "online" else plain(which))
    dd = ("taskset", "-c", str(online[1]), "dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=20000", "status=none")
    outcome = record_to(tmp_path / "x.parquet", *dd, events=("raw_syscalls:sys_enter",))
    there = [line for line in outcome.ledger if line.cpu == online[1] and line.stream != "task"]
    assert sum(line.lost for line in there) >= 40_000
    assert all(line.recorded == 0 for line in there)
    assert outcome.causes["not_attached"] >= 40_000
    assert all(line.residue == 0 for line in outcome.ledger)
