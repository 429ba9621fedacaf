"""A break in a CPU's chain of switches: recorder, questions and ``check`` agree on which gap says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.recorder.ledger import Ledger
from tracectl.store.capture import Capture
from tracectl.store.integrity import check
from tracectl.store.writer import write_rows

FIRST, SECOND = 30, 40  # two switches of CPU 0 that do not follow each other


def capture(folder: Path, *gaps: tuple[int, int], declared: bool, second: int = SECOND) -> Capture:
    """The two switches, with a switch that fits on either side, and gaps."""
    switches = [(20, 1, 2), (FIRST, 2, 1), (second, 3, 1), (50, 1, 2)]
    rows: list[dict[str, Any]] = [
        {
            "kind": "sched_switch", "ts": ts, "cpu": 0, "tid": tid, "pid": tid, "comm": f"t{tid}", "prev_state": "R",
            "next_tid": into, "next_comm": f"t{into}",
        }
        for ts, tid, into in switches
    ]  # fmt: skip
    for from_ts, ts in gaps:
        gap = {"kind": "lost", "ts": ts, "cpu": 0, "from_ts": from_ts, "stream": "sched", "lost_count": 5}
        rows.append({**gap, "cause": "ring_full"})
    path = folder / f"{declared}.parquet"
    return Capture.open(write_rows(path, rows, cpus=(0, 1), start_ts=0, end_ts=100, breaks_declared=declared))


def found_by_check(made: Capture) -> int:
    """How many breaks ``check`` says nobody declared."""
    with made.database("64MiB", 1) as database:
        return next(one.count or 0 for one in check(made, database) if one.name == "switches")


class _Notes:
    def __init__(self) -> None:
        self.causes: list[object] = []

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: object) -> None:
        self.causes.append(columns["cause"])


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        ((30, 40), True), ((30, 31), True), ((39, 40), True), ((34, 36), True), ((20, 31), True), ((39, 50), True),
        ((20, 30), False), ((40, 50), False), ((10, 20), False), ((50, 60), False),
    ],
)  # fmt: skip
def test_a_gap_that_only_touches_a_break_is_another_loss(tmp_path: Path, gap: tuple[int, int], says: bool) -> None:
    notes = _Notes()
    ledger = Ledger(0, notes)
    ledger._gap(("sched", 0), gap, 5, "ring_full")
    ledger.undeclared("sched", 0, FIRST, SECOND)
    assert ("undeclared" in notes.causes) is not says

    asked = ask(capture(tmp_path, gap, declared=False), "lost where cause = undeclared | select from_ts, ts")
    assert asked.rows() == ([] if says else [(FIRST, SECOND)])

    made = capture(tmp_path, gap, declared=True)
    assert found_by_check(made) == (0 if says else 1)
    if not says:  # as the recorder writes it
        assert found_by_check(capture(tmp_path, gap, (FIRST, SECOND), declared=True)) == 0


def test_a_break_between_switches_of_one_moment(tmp_path: Path) -> None:
    """It is declared, whatever ends or begins then; ``check`` takes a gap of that moment for it."""
    notes = _Notes()
    ledger = Ledger(0, notes)
    ledger._gap(("sched", 0), (20, FIRST), 5, "ring_full")
    ledger.undeclared("sched", 0, FIRST, FIRST)
    assert notes.causes == ["ring_full", "undeclared"]
    assert found_by_check(capture(tmp_path, (20, FIRST), declared=True, second=FIRST)) == 1
    assert found_by_check(capture(tmp_path, (FIRST, FIRST), declared=True, second=FIRST)) == 0
