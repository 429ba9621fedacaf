"""Texts made to exhaust a reader of lines: one endless line, and nesting without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracectl.query import ask
from tracectl.recorder.import_input import LONGEST_LINE, blocks
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.recorder.import_spool import Totals
from tracectl.store.capture import Capture

MARK = "   sh-7 [000] .... 12.000000: tracing_mark_write: "
GRAPH = "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
GRAPH += "# |     |   |                     |   |   |   |\n"
OFFCPU = "Tracing off-CPU time (us) of all threads by user + kernel stack... Hit Ctrl-C to end.\n"
# What begins a text of each reader, so that the endless line that follows is that reader's to read.
BEGINS = {
    "marks": f"{MARK}B|7|a\n{MARK}E|7\n{MARK}B|7|",
    "graph": f"{GRAPH} 0)   1.382 us    |  getname();\n 0)               |  ",
    "folded": "main;a;read 3\n" * 9 + "main;",
    "offcpu": f"{OFFCPU}    main\n    -                sh (7)\n        12\n\n    ",
    "map": "@[\n    main+1\n]: 4\n@[\n    ",
    "json": '[{"ph":"i","ts":1,"name":"a"},\n{"ph":"i","ts":2,"name":"',
}
EVENTS = dict.fromkeys(BEGINS, 1) | {"folded": 9}  # that are whole before it
NAMES = ("marks", "json")  # what follows is a name there, of any text
MEGABYTES = 192
ALLOWED = 48  # MB above the same import of a small text; reading the whole line would take MEGABYTES at least
PEAK = """
import sys
from pathlib import Path
from tracectl.recorder.import_input import LONGEST_LINE, blocks
from tracectl.recorder.import_session import ImportOptions, import_traces
done = import_traces(ImportOptions((sys.argv[1],), Path(sys.argv[2]), force=True))
status = Path("/proc/self/status").read_text()
print(sum(done.totals.events.values()), done.totals.unparsed, status.split("VmHWM:")[1].split()[0])
"""


def measured(source: Path) -> tuple[int, int, int]:
    """Events, unread lines and peak KB of an import in a process of its own."""
    command = [sys.executable, "-c", PEAK, str(source), str(source.with_suffix(".parquet"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    events, unparsed, peak = map(int, done.stdout.split())
    return events, unparsed, peak


@pytest.mark.parametrize("reader", BEGINS)
def test_an_endless_line_takes_bounded_memory_and_is_counted(reader: str, tmp_path: Path) -> None:
    small, endless = tmp_path / "small", tmp_path / "endless"
    small.write_text(BEGINS[reader] + "x" * 1000)
    with endless.open("wb") as file:
        file.write(BEGINS[reader].encode())
        for _ in range(MEGABYTES):
            file.write(b"x" * 1_000_000)
    _, _, least = measured(small)
    events, unparsed, peak = measured(endless)
    assert peak - least < ALLOWED * 1024
    if reader == "marks":  # the name is cut
        assert (events, unparsed) == (EVENTS[reader] + 1, 0)
    else:
        assert events == EVENTS[reader]
        assert unparsed >= 1


def imported(folder: Path, text: str) -> tuple[Imported, Capture]:
    (folder / "in").write_text(text)
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


@pytest.mark.parametrize("opening", ["[" * 100_000, '{"a":' * 50_000], ids=["lists", "objects"])
@pytest.mark.parametrize("reader", BEGINS)
def test_nested_json_inside_a_text_is_a_name_or_unread(reader: str, opening: str, tmp_path: Path) -> None:
    nested = opening.replace('"', '\\"') if reader == "json" else opening
    text = BEGINS[reader] + nested + ('"}]\n' if reader == "json" else "\n")
    outcome, capture = imported(tmp_path, text)
    unread = 0 if reader in NAMES else 2 if reader == "map" else 1  # a key of bpftrace begins on the line before
    assert outcome.totals.unparsed == unread
    assert ask(capture, "events unparsed | count").rows()[0][0] == unread
    assert sum(outcome.totals.events.values()) == EVENTS[reader] + (reader in NAMES)


@pytest.mark.parametrize("size", [60_000, 70_000, 5_000_000])
def test_what_is_kept_only_in_part_is_counted(size: int, tmp_path: Path) -> None:
    """A text of more than 4,096 characters, a line of more than 64 KB."""
    text = f"{MARK}I|7|{'x' * size}\n{MARK}I|7|short\n"
    outcome, capture = imported(tmp_path, text)
    assert outcome.totals.cut == (2 if size > 4 << 20 else 1)  # lines that are whole in a block are not cut
    assert len(ask(capture, "events instant | sort seq | select name").rows()[0][0]) == 4096 - len("I|7|")
    outcome, _ = imported(tmp_path, f"{MARK}I|7|{'x' * 4092}\n")
    assert outcome.totals.cut == 0


def test_json_and_graph_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    outcome, capture = imported(tmp_path, f'[{{"ph":"i","ts":1,"name":"{"y" * 5000}"}},{{"ph":"i","ts":2,"name":"b"}}]')
    assert outcome.totals.cut == 1
    assert len(ask(capture, "events instant | sort ts | select name").rows()[0][0]) == 4096


def test_a_line_that_goes_on_for_blocks_is_counted_once() -> None:
    totals = Totals()
    long = b"x" * (3 * LONGEST_LINE)
    found = b"".join(blocks(iter([b"a\n" + long, long, long + b"\nb\n" + long, long, b"\nc"]), totals))
    assert totals.cut == 2
    assert [line[:1] for line in found.split(b"\n")] == [b"a", b"x", b"b", b"x", b"c"]


def test_begins_without_ends_are_slices_without_a_duration(tmp_path: Path) -> None:
    count = 100_010  # more than are remembered as open
    _, capture = imported(tmp_path, f"{MARK}B|7|a\n" * count)
    assert [row[0] for row in ask(capture, "events slice | select dur").rows()] == [None] * count


def test_calls_without_ends_are_kept_but_no_calls_that_are_over(tmp_path: Path) -> None:
    count = 20_000
    text = GRAPH + "".join(f" 0)               |  {' ' * 2 * min(depth, 50)}f() {{\n" for depth in range(count))
    outcome, capture = imported(tmp_path, text)
    assert outcome.totals.unparsed == 0
    assert ask(capture, "events function_call | count").rows()[0][0] == count
    assert ask(capture, "calls | count").rows()[0][0] == 0
