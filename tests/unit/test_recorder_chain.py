"""The chain of switches on a CPU: every removed switch that leaves a trace is found, over any split into batches."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracectl.recorder.chain import SwitchChain
from tracectl.recorder.ledger import Ledger

_DTYPE = [("ts", "u8"), ("tid", "i4"), ("next_tid", "i4")]


def _switches(tids: list[int]) -> np.ndarray:
    """Switches through these threads, at ts 10, 20, …"""
    rows = [(10 * n, a, b) for n, (a, b) in enumerate(itertools.pairwise(tids), 1)]
    return np.array(rows, _DTYPE)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.sets(st.integers(0, 28)), st.integers(1, 5))
def test_breaks_are_exactly_where_neighbours_do_not_follow(tids: list[int], gone: set[int], batch: int) -> None:
    kept = np.delete(_switches(tids), [n for n in gone if n < len(tids) - 1])
    chain = SwitchChain()
    found = [b for at in range(0, len(kept), batch) for b in chain.breaks(0, kept[at : at + batch])]
    expected = [(int(a["ts"]), int(b["ts"])) for a, b in itertools.pairwise(kept) if a["next_tid"] != b["tid"]]
    assert found == expected


def test_cpus_are_apart() -> None:
    chain = SwitchChain()
    assert not list(chain.breaks(0, _switches([1, 2])))
    assert not list(chain.breaks(1, _switches([7, 8])))
    assert list(chain.breaks(0, _switches([3, 4]))) == [(10, 10)]


class _Notes:
    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: object) -> None:
        self.rows.append({"kind": kind, "ts": ts, "cpu": cpu, **columns})


def test_a_break_inside_a_declared_gap_is_explained_by_it() -> None:
    notes = _Notes()
    ledger = Ledger(0, notes)
    ledger.close(100, {("sched", 0): 5})  # a tail: from the start (nothing was received) to 100
    before = len(notes.rows)
    ledger.undeclared("sched", 0, 90, 95)
    assert len(notes.rows) == before
    ledger.undeclared("sched", 1, 90, 95)  # another CPU
    ledger.undeclared("sched", 0, 101, 110)  # after the gap
    assert [(row["cpu"], row["from_ts"], row["ts"], row["cause"]) for row in notes.rows[before:]] == [
        (1, 90, 95, "undeclared"),
        (0, 101, 110, "undeclared"),
    ]
