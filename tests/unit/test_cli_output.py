"""The formats: exact, complete, readable back by others; and files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracectl import output
from tracectl.event_text import HEAD
from tracectl.store.footer import LedgerLine
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
START = 1_000_000_000_000
ROWS = "SELECT seq, ts, comm, context_vec, cpu = 0 AS first FROM capture WHERE kind = 'sched_waking' ORDER BY seq"
EVIL = "\x1b[31mevil\n\u202e"


def test_json_is_exact_and_ascii(run: Run, capture: Path) -> None:
    out = run("sql", capture, ROWS, "--format", "json").out
    assert out.isascii()
    rows = json.loads(out)["rows"]
    assert rows[0] == {"seq": 1, "ts": START + 1_000, "comm": "swapper/0", "context_vec": 3, "first": True}
    assert (rows[-1]["comm"], rows[-1]["context_vec"]) == (EVIL, None)


def test_csv_can_be_read_back(run: Run, capture: Path) -> None:
    rows = list(csv.reader(io.StringIO(run("sql", capture, ROWS, "--format", "csv").out)))
    assert rows[0] == ["seq", "ts", "comm", "context_vec", "first"]
    assert rows[-1][2:4] == [EVIL, ""]


def test_table_has_no_control_characters(run: Run, capture: Path) -> None:
    out = run("sql", capture, ROWS).out
    assert r"\x1b[31mevil\x0a\u202e" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet", "arrow"])
def test_the_suffix_chooses_the_format(run: Run, capture: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"answer.{suffix}"
    assert run("sql", capture, ROWS, "-o", target) == (0, "", "")
    assert read(target) == ["swapper/0", "ksoftirqd/0", "kubelet", EVIL]


def read(path: Path) -> list[str]:
    """The column ``comm`` of an answer, as other programs would read it."""
    match path.suffix:
        case ".json":
            return [row["comm"] for row in json.loads(path.read_text())["rows"]]
        case ".csv":
            with path.open(newline="") as file:
                return [row["comm"] for row in csv.DictReader(file)]
        case ".parquet":
            return list(pq.read_table(path)["comm"].to_pylist())
        case _:
            return list(pa.ipc.open_stream(path.read_bytes()).read_all()["comm"].to_pylist())


def test_the_same_name_twice(run: Run, capture: Path, tmp_path: Path) -> None:
    twice = "SELECT 1 AS a, 2 AS a"
    assert json.loads(run("sql", capture, twice, "--format", "json").out)["rows"] == [{"a": 1, "a_2": 2}]
    assert run("sql", capture, twice, "-o", tmp_path / "t.parquet").code == 0
    assert pq.read_table(tmp_path / "t.parquet").column_names == ["a", "a_2"]
    assert output.unique(["a", "a_2", "a"]) == ["a", "a_2", "a_3"]


def test_values_json_has_not(run: Run, capture: Path) -> None:
    sql = "SELECT 'nan'::DOUBLE AS n, (2::HUGEINT ** 100)::HUGEINT AS huge, [1, NULL] AS list, '\\x00'::BLOB AS b"
    row = json.loads(run("sql", capture, sql, "--format", "json").out)["rows"][0]
    assert row == {"n": None, "huge": 2**100, "list": [1, None], "b": "00"}


def test_no_rows(run: Run, capture: Path) -> None:
    none = "SELECT seq FROM capture WHERE false"
    assert json.loads(run("sql", capture, none, "--format", "json").out) == {"rows": []}
    assert run("sql", capture, none, "--format", "csv").out == "seq\n"
    assert run("sql", capture, none).out == "seq\n"


def test_binary_to_a_pipe(capture: Path) -> None:
    command = [sys.executable, "-m", "tracectl", "sql", str(capture), ROWS, "--format", "arrow"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert pa.ipc.open_stream(done.stdout).read_all().num_rows == 4


def test_a_device_is_written_to_not_replaced(run: Run, capture: Path) -> None:
    assert run("sql", capture, ROWS, "-o", "/dev/null", "--force").code == 0
    assert Path("/dev/null").is_char_device()


def test_a_link_keeps_pointing_where_it_did(run: Run, capture: Path, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert run("sql", capture, ROWS, "-o", tmp_path / "link.csv", "--force").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("seq,")


def test_a_failing_statement_leaves_no_file(run: Run, capture: Path, tmp_path: Path) -> None:
    assert run("sql", capture, "SELECT error('no') FROM capture", "-o", tmp_path / "x.csv").code == 1
    assert list(tmp_path.iterdir()) == []


def test_dump(run: Run, capture: Path) -> None:
    code, out, err = run("dump", capture)
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 8)
    assert lines[0] == (
        "1 0.000001000s [000] swapper/0-0/0 sched_waking: target_tid=4449 target_pid=4182 target_comm=wrk:worker_0"
        " target_prio=120 target_cpu=0 context=softirq context_vec=3"
    )
    assert [int(line.split()[0]) for line in lines] == list(range(1, 9))
    assert r'"\u001b[31mevil\n\u202e"-77/77' in lines[-1]
    assert set(HEAD) == {"seq", "ts", "cpu", "pid", "tid", "comm", "kind"}


def test_dump_of_one_kind(run: Run, capture: Path) -> None:
    lines = run("dump", capture, "--kind", "sched_switch").out.splitlines()
    assert len(lines) == 4 and all(" sched_switch: " in line for line in lines)


def test_info(run: Run, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("info", capture)
    assert code == 0
    for told in ("web-1, Linux 6.1.0 x86_64", "tracectl record", "none: every thread", "2 (0-1)", "for 10ms"):
        assert told in out
    assert re.search(r"^when +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", out, re.MULTILINE)
    assert re.search(r"^sched +8 +8 +0 +0 +0$", out, re.MULTILINE)
    assert out.endswith("\nnothing was lost\n")


def test_info_tells_loss_by_cause(run: Run, lossy_capture: Path) -> None:
    out = run("info", "--cpus", lossy_capture).out
    assert re.search(r"^sched +1 +13 +1 +12 +0 +0$", out, re.MULTILINE)
    assert re.search(r"^sched +ring_full +1 +12 +0\.006000000s +0\.009000000s$", out, re.MULTILINE)
    assert out.endswith("\nLOST 12 of 20 events (60 %)\n")


def test_info_tells_gaps_that_nobody_counted(run: Run, tmp_path: Path) -> None:
    gap = {
        "kind": "lost",
        "ts": 9,
        "cpu": 0,
        "stream": "sched",
        "from_ts": 5,
        "lost_count": None,
        "cause": "undeclared",
    }
    path = write_rows(tmp_path / "x.parquet", [gap], kinds=["sched_switch"], ledger=[LedgerLine("sched", 0, 5, 5, 0)])
    assert run("info", path).out.endswith("\n1 gap of unknown size\n")


def test_info_tells_what_the_recorder_itself_used(run: Run, tmp_path: Path) -> None:
    base = {"kind": "recorder", "cpu": None, "pid": 7, "comm": "tracectl"}
    rows = [
        base | {"ts": 1_000, "cpu_time": 5_000_000, "drain_delay": 50_000_000},
        base | {"ts": 2_000, "cpu_time": 9_000_000, "drain_delay": 40_000_000},
        base | {"ts": 2_000, "cpu_time": 80_000_000, "pid": 8, "comm": "tracectl-writer"},
    ]
    path = write_rows(tmp_path / "c.parquet", rows, kinds=["sched_switch"])
    out = run("info", path).out
    assert re.search(r"tracectl\s+7\s+9ms\s+50ms", out)
    assert re.search(r"tracectl-writer\s+8\s+80ms", out)
    told = json.loads(run("info", "--json", path).out)["recorder"]
    assert told[0] == {"process": "tracectl", "pid": 7, "cpu_time": 9_000_000, "longest_drain_delay": 50_000_000}


def test_info_as_json(run: Run, lossy_capture: Path) -> None:
    facts = json.loads(run("info", "--json", lossy_capture).out)
    assert facts["kinds"] == {"sched_switch": 4, "sched_waking": 4, "lost": 1}
    assert facts["lost"][0] | {"first_ts": 0, "last_ts": 0} == {
        "stream": "sched", "cause": "ring_full", "gaps": 1, "lost": 12, "first_ts": 0, "last_ts": 0
    }  # fmt: skip
