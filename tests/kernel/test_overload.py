"""Rings far too small for what comes: every event is either in the capture or in its account of loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, record_to
from tracectl.recorder import drain
from tracectl.recorder.drain import Outcome
from tracectl.recorder.ring import PAGE_SIZE

pytestmark = pytest.mark.kernel

# dd with blocks of one byte: a read and a write each. Two of them, so that no CPU is left to the reader alone.
COUNT = 500_000
WRITERS = f"for i in 1 2; do dd if=/dev/zero of=/dev/null bs=1 count={COUNT} 2>/dev/null & done; wait"
EMITTED = 2 * 2 * COUNT


@pytest.fixture(scope="module")
def overload(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Recorded]:
    """A recording through rings of eight pages."""
    path = tmp_path_factory.mktemp("overload") / "overload.parquet"
    outcome = record_to(
        path, "sh", "-c", WRITERS, events=("raw_syscalls:sys_enter", "sched"), buffer_bytes=8 * PAGE_SIZE
    )
    return outcome, Recorded(path)


def test_the_ledger_is_exact_to_the_event(overload: tuple[Outcome, Recorded]) -> None:
    outcome, recorded = overload
    assert [line for line in outcome.ledger if line.residue] == []
    assert sorted(recorded.capture.ledger(), key=astuple) == sorted(outcome.ledger, key=astuple)
    storm = recorded.capture.ledger_by_stream()["syscall"]
    assert storm.emitted >= EMITTED
    assert storm.lost > 0
    kinds = recorded.rows("SELECT kind, cpu, COUNT(*) FROM events GROUP BY ALL")
    rows: Counter[tuple[str, int]] = Counter()
    for kind, cpu, n in kinds:
        rows[recorded.capture.catalogue.events[kind].stream, cpu] += n
    assert rows == Counter({(line.stream, line.cpu): line.recorded for line in outcome.ledger if line.recorded})


def test_the_gaps_add_up_to_the_ledger(overload: tuple[Outcome, Recorded]) -> None:
    outcome, recorded = overload
    gaps = {
        (stream, cpu): int(n)
        for stream, cpu, n in recorded.rows(
            "SELECT stream, cpu, SUM(lost_count) FROM lost WHERE cause NOT IN ('nested', 'undeclared') GROUP BY ALL"
        )
    }
    assert gaps == {(line.stream, line.cpu): line.lost for line in outcome.ledger if line.lost}
    skipped = recorded.rows("SELECT COALESCE(SUM(lost_count), 0) FROM lost WHERE cause = 'nested'")[0][0]
    assert skipped == sum(line.skipped for line in outcome.ledger)


def test_a_gap_lies_between_its_neighbours(overload: tuple[Outcome, Recorded]) -> None:
    _, recorded = overload
    gaps = recorded.rows("SELECT COUNT(*), COUNT(*) FILTER (from_ts > ts) FROM lost WHERE cause = 'ring_full'")
    assert gaps[0][0] > 10
    assert gaps[0][1] == 0
    # Only rings of one kind are looked at here, so that kind and stream are the same.
    inside = recorded.rows(
        "SELECT COUNT(*) FROM lost JOIN sys_enter AS event ON event.cpu = lost.cpu"
        " AND event.ts > lost.from_ts AND event.ts < lost.ts WHERE lost.stream = 'syscall' AND cause = 'ring_full'"
    )
    assert inside == [(0,)]
    # The event before a gap is there, unless the reader had no room for it: then it lies in a gap of that cause.
    lonely = recorded.rows(
        "SELECT COUNT(*) FROM lost WHERE stream = 'syscall' AND cause = 'ring_full'"
        " AND NOT EXISTS (SELECT 1 FROM lost AS drop WHERE drop.stream = 'syscall' AND drop.cause = 'reader'"
        " AND drop.cpu = lost.cpu AND lost.from_ts BETWEEN drop.from_ts AND drop.ts)"
        " AND NOT EXISTS (SELECT 1 FROM sys_enter AS event WHERE event.cpu = lost.cpu AND event.ts = lost.from_ts)"
        " AND from_ts <> $start",
        start=recorded.capture.start_ts,
    )
    assert lonely == [(0,)]


def test_a_cpus_chain_breaks_only_in_gaps(overload: tuple[Outcome, Recorded]) -> None:
    _, recorded = overload
    gaps = recorded.rows("SELECT cpu, from_ts, ts, cause FROM lost WHERE stream = 'sched'")
    hidden = recorded.hidden()
    for cpu, before, ts, expected in recorded.breaks():
        causes = {cause for at, a, b, cause in gaps if at in (cpu, None) and a <= ts and b >= before}
        assert causes, (cpu, before, ts)
        assert causes != {"undeclared"} or expected in hidden, (cpu, before, ts)


def test_questions_are_still_answered_and_say_what_is_missing(overload: tuple[Outcome, Recorded]) -> None:
    _, recorded = overload
    rows = recorded.ask("events sys_enter of comm dd | count")
    assert rows[0][0] > 1000
    lost = recorded.ask("lost | sum lost_count by stream")
    assert dict(lost)["syscall"] > 0


def test_loss_at_the_end_is_accounted_for(tmp_path: Path) -> None:
    """Stopped in the middle of the overload: what the rings had no room for at the last moment has no marker."""
    outcome = record_to(
        tmp_path / "tail.parquet", "sh", "-c", WRITERS, events=("raw_syscalls:sys_enter",),
        buffer_bytes=PAGE_SIZE, max_events=20_000,
    )  # fmt: skip
    assert outcome.stopped_by == "number of events reached"
    assert [line for line in outcome.ledger if line.residue] == []
    assert outcome.lost > 0
    end = Recorded(outcome.path).rows("SELECT MAX(ts) FROM lost")[0][0]
    assert end <= Recorded(outcome.path).capture.end_ts


def test_what_the_reader_itself_drops_is_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings large enough, but next to no room between emptying them and writing."""
    monkeypatch.setattr(drain, "slab_bytes", lambda _largest: 100_000)
    outcome = record_to(
        tmp_path / "reader.parquet", "sh", "-c", WRITERS, events=("raw_syscalls:sys_enter", "sched"),
        buffer_bytes=8 << 20,
    )  # fmt: skip
    assert [line for line in outcome.ledger if line.residue] == []
    assert outcome.causes["reader"] > 1000
    recorded = Recorded(outcome.path)
    lost = recorded.rows("SELECT SUM(lost_count), COUNT(*) FILTER (from_ts > ts) FROM lost WHERE cause = 'reader'")
    assert lost == [(outcome.causes["reader"], 0)]
