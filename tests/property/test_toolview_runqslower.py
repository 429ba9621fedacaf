"""The view of runqslower against a slow and obvious reading of the tool's program, with and without loss."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.traces import Bench, Case, Row, cases, rows_of, without
from tracectl.store.capture import Capture
from tracectl.toolview import Player, view_of

KINDS = ("sched_switch", "sched_wakeup", "sched_wakeup_new")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


def printed(bench: Bench, capture: Capture, *arguments: str) -> list[str]:
    """The lines that the view prints, without its two of head."""
    out = io.StringIO()
    Player(view_of("runqslower", arguments), capture, out, lambda _: None).replay(bench.database)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()[2:]]


def expected(rows: Sequence[Row], gaps: Sequence[Row]) -> list[str]:
    """What the tool's program prints; waits that a gap touches left out."""
    start: dict[int, int] = {}
    lines = []
    for row in rows:
        if row["kind"] != "sched_switch":
            if row["kind"] in KINDS and row["target_tid"]:
                start[row["target_tid"]] = row["ts"]
            continue
        if row["prev_state"] in ("R", "R+") and row["tid"]:
            start[row["tid"]] = row["ts"]
        begun = start.pop(row["next_tid"], None)
        if begun is None or any(gap["from_ts"] <= row["ts"] and begun <= gap["ts"] for gap in gaps):
            continue
        time = f"{(row['ts'] - 90) / 1e9:.3f}"
        lines.append(
            f"{time} {row['next_comm']} {row['next_tid']} {(row['ts'] - begun) // 1000} {row['comm']} {row['tid']}"
        )
    return lines


def _scaled(case: Case) -> tuple[list[Row], list[Row], list[Row]]:
    """The full trace; what is left of it; the gaps. In microseconds, with wakeups for wakings, so that lines differ."""

    def scale(row: Row) -> Row:
        kind = "sched_wakeup" if row["kind"] == "sched_waking" else row["kind"]
        times = {name: row[name] * 1_000 for name in ("ts", "from_ts") if name in row}
        return {**row, **times, "kind": kind}

    full = [row for row in rows_of(case) if row["kind"] != "task"]
    left, _ = without(case, full)
    lossy = [scale(row) for row in left]
    gaps = [row for row in lossy if row["kind"] == "lost"]
    return [scale(row) for row in full], [row for row in lossy if row["kind"] != "lost"], gaps


@settings(max_examples=60)
@given(cases("delays"), st.sampled_from([(), ("-t", "1"), ("-p", "2")]))
def test_as_the_tool(bench: Bench, case: Case, which: tuple[str, ...]) -> None:
    full, left, gaps = _scaled(case)
    whole = expected(full, [])
    if which:
        whole = [line for line in whole if line.split()[2] == which[1]]
    capture = bench.capture("whole", full, kinds=KINDS, declared=True)
    assert printed(bench, capture, "-P", *which, "0") == whole
    capture = bench.capture("lossy", [*left, *gaps], kinds=KINDS, declared=True)
    lines = printed(bench, capture, "-P", "0")
    # Gaps without a count, a CPU or a stream touch no less.
    assert lines == expected(left, gaps)
    assert set(lines) <= set(expected(full, []))
