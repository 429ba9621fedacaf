"""The view of offwaketime under loss: whatever it counts, it counts in the full recording too, with the same waker."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.property.traces import Bench, Case, Row, cases, rows_of, without
from tracectl.store.capture import Capture
from tracectl.toolview import Player, view_of

KINDS = ("sched_switch", "sched_waking")
FILLED = {kind: ["kstack"] for kind in KINDS}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


def counted(bench: Bench, name: str, rows: list[Row]) -> list[str]:
    """The lines of the view. Every event has a stack of its own, so that every wait is a line of its own."""
    made = bench.capture(name, rows, kinds=KINDS, declared=True)
    capture = Capture(made.path, made.files, made.columns, (replace(made.footer, filled=FILLED),), made.rows)
    out = io.StringIO()
    Player(view_of("offwaketime", ["-f"]), capture, out, lambda _: None).replay(bench.database)
    return out.getvalue().splitlines()


def _with_stacks(rows: list[Row]) -> list[Row]:
    """In microseconds, with a stack for each event."""
    made: list[Row] = []
    for row in rows:
        times = {name: row[name] * 1_000 for name in ("ts", "from_ts") if name in row}
        made.append({**row, **times})
        if row["kind"] in KINDS:
            made[-1]["kstack"] = row["seq"]
            made.append({"kind": "stack", "ts": 90_000, "stack_id": row["seq"], "folded": f"f{row['seq']}"})
            made[-1]["seq"] = row["seq"] - 5_000
    return made


def expected(rows: list[Row]) -> list[str]:
    """What the tool's program counts, without loss; of threads, not of idle."""
    start: dict[int, Row] = {}
    woken: dict[int, Row] = {}
    lines = []
    for row in rows:
        if row["kind"] == "sched_waking":
            woken[row["target_tid"]] = row
        elif row["kind"] == "sched_switch":
            if row["tid"]:
                start[row["tid"]] = row
            begun = start.pop(row["next_tid"], None)
            if begun is None or row["ts"] == begun["ts"]:
                continue
            waker = woken.pop(row["next_tid"], None)
            tail = f";f{waker['seq']};{waker['comm']}" if waker else ";"
            lines.append(f"{row['next_comm']};f{begun['seq']};--{tail} {row['ts'] - begun['ts']}")
    return lines


@settings(max_examples=60)
@given(cases("sleeps"))
def test_what_is_counted_is_so(bench: Bench, case: Case) -> None:
    full = [row for row in rows_of(case) if row["kind"] in KINDS]
    whole = counted(bench, "whole", _with_stacks(full))
    assert sorted(whole) == sorted(expected(full))
    left, _ = without(case, full)
    lossy = counted(bench, "lossy", _with_stacks(left))
    assert set(lossy) <= set(whole)
