"""A view that follows a recording, given segments by hand: what it prints when something is learnt late."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tracectl.store.capture import SEGMENTS_SUFFIX, Capture
from tracectl.store.writer import write_rows
from tracectl.toolview import Player, view_of
from tracectl.toolview_live import Follower

MS = 1_000_000
KINDS = ["sched_switch", "sched_waking"]
FILLED = {kind: ["kstack"] for kind in KINDS}


def waits(begin: int, count: int) -> list[dict[str, Any]]:
    """A thread that sleeps 20 ms and then waits 5 ms for the CPU, again and again; times in ms."""
    rows: list[dict[str, Any]] = []
    for n in range(begin, begin + 30 * count, 30):
        switch = {"kind": "sched_switch", "cpu": 0, "pid": 1, "kstack": 7}
        rows += [
            {**switch, "ts": n * MS, "tid": 5, "comm": "x", "state": "S", "next_tid": 6, "next_comm": "y"},
            {"kind": "sched_waking", "cpu": 1, "ts": (n + 20) * MS, "tid": 9, "comm": "w", "target_tid": 5,
             "target_pid": 5, "target_comm": "x", "kstack": 8},
            {**switch, "ts": (n + 25) * MS, "tid": 6, "comm": "y", "state": "S", "next_tid": 5, "next_comm": "x"},
        ]  # fmt: skip
    return rows


def gap(at: int) -> dict[str, Any]:
    times = {"ts": (at + 5) * MS, "from_ts": at * MS}
    return {"kind": "lost", "cpu": 0, "stream": "sched", "lost_count": 3, "cause": "ring full", **times}


def capture(path: Path, rows: list[dict[str, Any]]) -> Path:
    ends = {"start_ts": 0, "end_ts": max(row["ts"] for row in rows), "cpus": (0, 1)}
    return write_rows(path, rows, kinds=KINDS, filled=FILLED, **ends)


def followed(tmp_path: Path, tool: str, arguments: list[str], parts: list[list[dict[str, Any]]]) -> tuple[str, str]:
    """What is printed while segments of all parts but the last come, which is in the capture only; and what is said."""
    output = tmp_path / "x.parquet"
    (tmp_path / f"x.parquet{SEGMENTS_SUFFIX}").mkdir()
    out, said = io.StringIO(), io.StringIO()
    follower = Follower(view_of(tool, arguments), output, out, lambda note: said.write(note + "\n"))
    for number, part in enumerate(parts[:-1], 1):
        capture(tmp_path / f"x.parquet{SEGMENTS_SUFFIX}" / f"{number:06}.parquet", part)
        follower.catch_up()
    capture(output, [row for part in parts for row in part])
    follower.finish()
    return out.getvalue(), said.getvalue()


def replayed(tmp_path: Path, tool: str, arguments: list[str]) -> tuple[str, str]:
    opened = Capture.open(tmp_path / "x.parquet")
    out, said = io.StringIO(), io.StringIO()
    with opened.database() as database:
        Player(view_of(tool, arguments), opened, out, lambda note: said.write(note + "\n")).replay(database)
    return out.getvalue(), said.getvalue()


LATE = {
    "nothing": waits(3000, 2),
    "a gap": [gap(35), *waits(3000, 2)],
    "an event": [*waits(3000, 2), {**waits(0, 1)[1], "ts": 2 * MS, "tid": 11, "comm": "other"}],
}


@pytest.mark.parametrize("late", LATE)
def test_what_is_only_printed_in_the_end_is_that_of_the_replay(tmp_path: Path, late: str) -> None:
    arguments = ["-f"]
    shown = followed(tmp_path, "offwaketime", arguments, [waits(0, 30), waits(1000, 30), LATE[late]])
    assert shown == replayed(tmp_path, "offwaketime", arguments)
    assert "x;" in shown[0] and "late" not in shown[1]
    assert ("lost: " in shown[1]) == (late == "a gap")


def test_lines_that_stand_are_not_printed_again(tmp_path: Path) -> None:
    """The late gap hides none of them, so all that was printed is right, and the rest follows it."""
    parts = [waits(0, 2), waits(1000, 30), [gap(560), *waits(3000, 2)]]
    shown = followed(tmp_path, "runqslower", ["1000"], parts)
    assert shown == replayed(tmp_path, "runqslower", ["1000"])
    assert shown[0].count("\n") == 2 + 34 and "late" not in shown[1]


def test_lines_that_would_be_others_now_are_told_of(tmp_path: Path) -> None:
    parts = [waits(0, 30), waits(1000, 30), [gap(51), *waits(3000, 2)]]
    printed, said = followed(tmp_path, "runqslower", ["1000"], parts)
    assert printed.count("\n") == 2 + 62 and "a replay of the capture prints other lines" in said
    assert replayed(tmp_path, "runqslower", ["1000"])[0].count("\n") == 2 + 61
