"""docs/loss.md: every command on it gives what the page shows; and the bar of the picture, stretch by stretch."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tracectl.coverage import bar
from tracectl.store.writer import write_rows

PAGE = Path(__file__).parents[2] / "docs" / "loss.md"
EXAMPLE = re.compile(r"^\$ tracectl (.+)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def capture(folder: Path) -> Path:
    """The page's capture: two threads on two CPUs; two switches of CPU 1 were lost."""
    rows: list[dict[str, Any]] = []
    names = {0: "swapper", 7: "web", 8: "db"}
    for cpu, tid in ((0, 7), (1, 8)):
        for n in range(8):
            came, left = (tid, 0) if n % 2 == 0 else (0, tid)
            rows.append(
                {
                    "ts": 1_000_000 * (n + 1) + cpu, "kind": "sched_switch", "cpu": cpu, "tid": left, "pid": left,
                    "comm": names[left], "prev_state": "S" if left else "R", "next_tid": came, "next_comm": names[came],
                }
            )  # fmt: skip
    gone = [row for row in rows if row["cpu"] == 1][3:5]
    gap = {"kind": "lost", "cpu": 1, "stream": "sched", "from_ts": 3_000_001, "ts": 6_000_001, "lost_count": len(gone)}
    rows = [row for row in rows if row not in gone] + [gap | {"cause": "ring_full"}]
    path = folder / "web.parquet"
    return write_rows(path, rows, kinds=["sched_switch"], start_ts=0, end_ts=10_000_000, breaks_declared=True)


@pytest.mark.parametrize("example", EXAMPLE.findall(PAGE.read_text("utf-8")), ids=lambda example: example[0])
def test_the_page_shows_what_is_said(
    run: Any, example: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    command, expected = example
    wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
    arguments = shlex.split(command)
    done = run(*arguments)
    found = [line.rstrip() for line in (done.out + done.err).splitlines()]
    start = found.index(wanted[0])  # of info, the page shows a part
    assert found[start : start + len(wanted)] == wanted
    assert arguments[0] == "info" or len(found) == len(wanted)


def test_a_bar_is_light_wherever_a_gap_touches() -> None:
    assert bar([], 0, 100, 10, "#.") == "##########"
    assert bar([(25, 31)], 0, 100, 10, "#.") == "##..######"
    assert bar([(0, 0), (95, 100)], 0, 100, 10, "#.") == ".########."
    assert bar([(-50, 1000)], 0, 100, 4, "#.") == "...."
    assert bar([(5, 5)], 5, 5, 3, "#.") == ".##"
