"""Exports as JSON and tables, read back; and the command: targets, refusals, the nearest format."""

from __future__ import annotations

import csv
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tracectl.command_export import FORMATS
from tracectl.export_protobuf import lanes, varint
from tracectl.query.nouns import NOUNS
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "sample.parquet"
START = 1_000_000_000_000
EVIL = '"\\\n\x1b;\u202e</script><!--'


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A capture in which every name is a hostile one."""
    rows = []
    for number, (tid, following) in enumerate(((0, 5), (5, 6), (6, 5), (5, 0))):
        switch = {"kind": "sched_switch", "ts": START + 1_000 * number, "cpu": 0, "pid": tid, "tid": tid, "comm": EVIL}
        state = {"prev_state": "S", "prev_prio": 120, "next_prio": 120, "next_tid": following, "next_comm": EVIL}
        rows.append(switch | state)
    softirq = {"kind": "softirq_entry", "cpu": 0, "pid": 5, "tid": 5, "comm": EVIL, "vec": 3}
    rows += [softirq | {"ts": START + 1_500}, softirq | {"ts": START + 1_700, "kind": "softirq_exit"}]
    return write_rows(tmp_path / "evil.parquet", rows, host=EVIL, kernel=EVIL)


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_in_every_format(run: Run, evil: Path, tmp_path: Path, form: str) -> None:
    if form == "perfetto":
        pytest.importorskip("perfetto", reason="the extra perfetto is not installed")
    for question in ((), ("runs",)):
        path = tmp_path / "out"
        assert run("export", evil, "--to", form, "-o", path, "--force", *question).code == 0
        content = path.read_bytes()
        if form in ("chrome", "speedscope", "folded", "ftrace-text", "perf-script"):
            assert b"</script" not in content and b"\x1b" not in content
            assert form == "chrome" or b"\xe2\x80\xae" not in content
        if form in ("chrome", "speedscope"):
            assert EVIL in _strings(json.loads(content))


def _strings(value: Any) -> set[str]:
    """All strings in a JSON value."""
    if isinstance(value, dict):
        return set().union(*map(_strings, value.values()))
    if isinstance(value, list):
        return set().union(*map(_strings, value))
    return {value} if isinstance(value, str) else set()


# Walks need to know where to begin.
WALKS = {
    "chains": 'chains of comm "demo:worker_0" at 1s',
    "critical_path": 'critical path of comm "demo:worker_0" between 1s and 1.01s',
}
# What the sample does not hold: recordings of stacks and epoll callbacks, imports.
NOT_IN_SAMPLE = {"callbacks", "samples", "calls", "stack_totals", "syscalls"}


@pytest.mark.parametrize(
    "noun", [WALKS.get(noun.name, noun.names[0]) for noun in NOUNS if noun.name not in NOT_IN_SAMPLE]
)
def test_the_rows_of_every_noun_have_a_place(run: Run, tmp_path: Path, noun: str) -> None:
    for form in ("perfetto", "chrome", "ftrace-text"):
        if form == "perfetto":
            pytest.importorskip("perfetto", reason="the extra perfetto is not installed")
        done = run("export", SAMPLE, "--to", form, "-o", tmp_path / form, f"{noun} | top 5 by seq")
        assert done.code == 0, done.err
    events = json.loads((tmp_path / "chrome").read_bytes())["traceEvents"]
    answer = [event for event in events if event["pid"] == 10_600_000 and event["ph"] != "M"]
    count = len(json.loads(run("query", SAMPLE, "-f", "json", f"{noun} | top 5 by seq").out)["rows"])
    assert len(answer) == count > 0
    assert all(event["ts"] >= 0 and event.get("dur", 1) > 0 for event in answer)


def test_a_gap_asked_for_ends_at_its_ts(run: Run, lossy_capture: Path) -> None:
    events = json.loads(run("export", lossy_capture, "--to", "chrome", "lost").out)["traceEvents"]
    assert [(e["ts"], e["dur"]) for e in events if e["pid"] == 10_600_000 and e["ph"] == "X"] == [(6000, 3000)]


@pytest.mark.parametrize("form", FORMATS)
def test_writers_exist_and_are_documented(form: str) -> None:
    module, _, function = FORMATS[form].writer.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert f"| `{form}` |" in (ROOT / "docs/export.md").read_text(encoding="utf-8")


def test_chrome_events(run: Run, capture: Path) -> None:
    made = json.loads(run("export", capture, "--to", "chrome", "runs of tid 4449").out)
    assert made["otherData"]["start_ts_monotonic_ns"] == str(START)
    slices = [(e["name"], e["ts"], e["dur"]) for e in made["traceEvents"] if e["ph"] == "X" and e["tid"] == 4449]
    assert ("running", 3, 1997) in slices and ("runnable", 1, 2) in slices and ("sleeping S", 2000, 1000) in slices
    answer = [event for event in made["traceEvents"] if event["pid"] == 10_600_000 and event["ph"] != "M"]
    assert [(e["tid"], e["ts"], e["dur"], e["args"]["tid"]) for e in answer] == [
        (10_600_000, 3, 1997, 4449),
        (10_600_000, 3001.5, 998.5, 4449),
    ]
    names = {(e["pid"], e["tid"], e["args"]["name"]) for e in made["traceEvents"] if e["name"] == "thread_name"}
    assert {(4182, 4449, "wrk:worker_0"), (10_000_000, 10_000_001, "CPU 0"), (10_000_000, 10_000_002, "CPU 1")} <= names


def test_chrome_arrows_only_from_wakers(run: Run, tmp_path: Path) -> None:
    rows = []
    for number, context in enumerate(("task", "softirq")):
        at = START + number * 100_000
        base = {"cpu": 0, "pid": 7, "prev_prio": 120, "next_prio": 120}
        leaves = {"tid": 7, "comm": "a", "prev_state": "S", "next_tid": 8, "next_comm": "b"}
        back = {"tid": 8, "comm": "b", "prev_state": "R", "next_tid": 7, "next_comm": "a"}
        rows.append({**base, **leaves, "kind": "sched_switch", "ts": at})
        waking = {"kind": "sched_waking", "ts": at + 1_000, "cpu": 0, "pid": 8, "tid": 8, "comm": "b", "target_tid": 7}
        rows.append({**waking, "target_pid": 7, "target_comm": "a", "context": context})
        rows.append({**base, **back, "kind": "sched_switch", "ts": at + 3_000})
    events = json.loads(run("export", write_rows(tmp_path / "c.parquet", rows), "--to", "chrome").out)["traceEvents"]
    arrows = [(e["ph"], e["tid"], e["ts"]) for e in events if e["ph"] in "sf"]
    assert arrows == [("s", 8, 1), ("f", 7, 3)]


def test_chrome_gaps_are_red(run: Run, lossy_capture: Path) -> None:
    events = json.loads(run("export", lossy_capture, "--to", "chrome").out)["traceEvents"]
    (gap,) = [event for event in events if event.get("cname") == "terrible"]
    assert (gap["name"], gap["ts"], gap["dur"]) == ("lost 12 events", 6000, 3000)
    assert gap["args"] == {"cpu": 1, "stream": "sched", "lost_count": 12, "cause": "ring_full"}


def test_folded_is_where_the_time_went(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "folded")
    assert done.out.splitlines() == [
        "wrk:worker_0;tid 4449;runnable wakeup 3500",
        "wrk:worker_0;tid 4449;running 2995500",
        "wrk:worker_0;tid 4449;sleeping S 1000000",
    ]
    done = run("export", capture, "--to", "folded", "sleeps")
    assert done.out == "wrk:worker_0;tid 4449;S softirq NET_RX 1001500\n".replace(
        " softirq", ";softirq;NET_RX"
    ).replace(" NET_RX ", " ")


def test_speedscope_follows_its_schema(run: Run, capture: Path) -> None:
    made = json.loads(run("export", capture, "--to", "speedscope").out)
    assert made["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(made) <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    frames = made["shared"]["frames"]
    assert all(set(frame) == {"name"} and isinstance(frame["name"], str) for frame in frames)
    (profile,) = made["profiles"]
    assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
    assert (profile["type"], profile["unit"]) == ("sampled", "nanoseconds")
    assert len(profile["samples"]) == len(profile["weights"]) > 0
    assert all(0 <= frame < len(frames) for sample in profile["samples"] for frame in sample)
    assert sum(profile["weights"]) == profile["endValue"] == 2_995_500 + 3_500 + 1_000_000


@pytest.mark.parametrize("form", ["folded", "speedscope"])
def test_no_stacks_are_made_up(run: Run, capture: Path, tmp_path: Path, form: str) -> None:
    done = run("export", capture, "--to", form, "wakeups")
    assert (done.code, done.out) == (1, "") and "no call stacks" in done.err
    row = {"kind": "sched_process_exit", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": "a"}
    done = run("export", write_rows(tmp_path / "c.parquet", [row]), "--to", form)
    assert (done.code, done.out) == (1, "") and "no sched_switch" in done.err


def test_csv_of_everything(run: Run, evil: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("export", evil, "--to", "csv").out, newline="")))
    assert [row["kind"] for row in rows] == ["sched_switch"] * 2 + ["softirq_entry", "softirq_exit"] + [
        "sched_switch"
    ] * 2
    assert {row["comm"] for row in rows} == {EVIL}
    assert [row["vec"] for row in rows] == ["", "", "3", "3", "", ""]
    assert rows[0]["ts"] == str(START)


def test_csv_of_an_answer_is_that_of_query(run: Run, evil: Path) -> None:
    question = "runs | sum dur by tid"
    assert run("export", evil, "--to", "csv", question).out == run("query", evil, "-f", "csv", question).out


def test_arrow(evil: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", evil, "--to", "arrow", "-o", tmp_path / "a").code == 0
    table = pa.ipc.open_stream((tmp_path / "a").read_bytes()).read_all()
    assert table.column("seq").to_pylist() == [1, 2, 3, 4, 5, 6]
    assert json.loads(table.schema.metadata[b"tracectl"])["host"] == EVIL
    assert run("export", evil, "--to", "arrow", "-o", tmp_path / "b", "runs").code == 0
    answer = pa.ipc.open_stream((tmp_path / "b").read_bytes()).read_all()
    assert answer.num_rows == 3
    assert json.loads(answer.schema.metadata[b"tracectl.answer"])["qualification"] == "exact"


def test_duckdb_has_the_nouns_as_views(capture: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    assert run("export", capture, "--to", "duckdb", "-o", path, "runs of tid 4449").code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with duckdb.connect(str(path), read_only=True) as database:
        views = database.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        counts = {name: database.sql(f'SELECT COUNT(*) FROM "{name}"').fetchall() for (name,) in views}
        assert counts["wakeups"] == [(4,)] and counts["runs"] == [(3,)] and counts["sleeps"] == [(1,)]
        assert counts["sched_switch"] == [(4,)]
        assert database.sql("SELECT tid, dur FROM answer ORDER BY ts").fetchall() == [
            (4449, 1_997_000),
            (4449, 998_500),
        ]
        assert database.sql("SELECT footer->>'host' FROM footer").fetchall() == [("web-1",)]


def test_an_existing_file_is_kept_unless_forced(run: Run, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    for form in ("folded", "duckdb"):
        path.write_text("mine")
        done = run("export", capture, "--to", form, "-o", path)
        assert done.code == 1 and "--force" in done.err and path.read_text() == "mine"
        assert run("export", capture, "--to", form, "-o", path, "--force").code == 0
        assert path.read_bytes() != b"mine"


def test_a_failed_export_leaves_nothing(run: Run, capture: Path, tmp_path: Path) -> None:
    assert run("export", capture, "--to", "folded", "-o", tmp_path / "out", "wakeups").code == 1
    assert list(tmp_path.iterdir()) == []


def test_dash_is_stdout(run: Run, capture: Path) -> None:
    assert run("export", capture, "--to", "folded", "-o", "-").out == run("export", capture, "--to", "folded").out != ""


def test_duckdb_is_no_stream(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "duckdb")
    assert (done.code, done.out) == (1, "") and "-o capture.duckdb" in done.err


@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if not form.terminal and not form.file])
def test_data_is_not_for_a_terminal(run: Run, capture: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = run("export", capture, "--to", form)
    assert (done.code, done.out) == (1, "") and "not for a terminal" in done.err


@pytest.mark.parametrize(
    ("typed", "remedy"), [("perfeto", '"perfetto"'), ("ftrace", '"ftrace-text"'), ("xyz", "formats: ")]
)
def test_unknown_formats_name_the_nearest(run: Run, capture: Path, typed: str, remedy: str) -> None:
    done = run("export", capture, "--to", typed)
    assert (done.code, done.out) == (1, "")
    assert f'no export format "{typed}"' in done.err and remedy in done.err


def test_without_the_perfetto_package(run: Run, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace.perfetto_trace_pb2", None)
    done = run("export", capture, "--to", "perfetto")
    assert (done.code, done.out) == (1, "") and "pip install 'tracectl[perfetto]'" in done.err


def test_lanes() -> None:
    assert list(lanes([(0, 10), (0, 5), (5, 6), (10, 10), (10, 12)])) == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(("number", "written"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varint(number: int, written: bytes) -> None:
    assert varint(number) == written
