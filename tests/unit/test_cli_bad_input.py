"""Bad input: each a message of a line or two with its remedy and exit code, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracectl.recorder import bpf, doctor
from tracectl.store.footer import KEY
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
NOBODY = 65534
# Every command that opens a capture, and what it is asked.
COMMANDS = (("info",), ("dump",), ("query", "wakeups"), ("sql", "SELECT 1"))


def refused(done: Any, code: int, problem: str, remedy: str) -> None:
    """One or two lines, the first the problem, the second the remedy, nothing on stdout, no traceback."""
    assert (done.code, done.out) == (code, "")
    lines = done.err.splitlines()
    assert lines[0].startswith("tracectl: ") and problem in lines[0], done.err
    assert 2 <= len(lines) <= 4 and remedy in lines[-1], done.err
    assert "Traceback" not in done.err


def rewrite(
    capture: Path,
    target: Path,
    footer: Callable[[dict[str, Any]], object] = lambda _: None,
    table: Callable[[pa.Table], pa.Table] = lambda same: same,
) -> Path:
    """A copy of a capture with another footer or other columns."""
    values = json.loads(pq.read_metadata(capture).metadata[KEY])
    footer(values)
    metadata = {KEY: json.dumps(values).encode()}
    pq.write_table(table(pq.read_table(capture)).replace_schema_metadata(metadata), target)
    return target


@pytest.fixture(params=COMMANDS, ids=lambda words: words[0])
def ask(request: pytest.FixtureRequest, run: Run) -> Callable[[Path], Any]:
    """Calls one of the commands that open a capture on a path."""
    name, *rest = request.param
    return lambda path: run(name, path, *rest)


def test_no_such_file_names_those_that_are_there(ask: Run, capture: Path) -> None:
    refused(ask(capture.with_name("wbe.parquet")), 1, "no such capture", "web.parquet")


def test_not_a_parquet_file(ask: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello, this is no capture\n")
    refused(ask(path), 3, "is not a Parquet file", "written by tracectl record")


def test_empty_file(ask: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").touch()
    refused(ask(tmp_path / "empty.parquet"), 3, "is not a Parquet file", "written by tracectl record")


def test_truncated_file(ask: Run, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.parquet"
    path.write_bytes(capture.read_bytes()[: capture.stat().st_size // 2])
    refused(ask(path), 3, "truncated or damaged", "written by tracectl record")


def test_parquet_that_is_no_capture(ask: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    refused(ask(tmp_path / "other.parquet"), 3, "not a capture", "tracectl record")


def test_newer_major_version(ask: Run, capture: Path, tmp_path: Path) -> None:
    path = rewrite(capture, tmp_path / "new.parquet", lambda footer: footer.update(major=2, version="9.9"))
    refused(ask(path), 3, "has capture format 2 (written by tracectl 9.9)", "pip install --upgrade tracectl")


def test_damaged_footer(ask: Run, capture: Path, tmp_path: Path) -> None:
    path = rewrite(capture, tmp_path / "odd.parquet", lambda footer: footer.pop("major"))
    refused(ask(path), 3, "footer is damaged", "record again")


def test_missing_column(ask: Run, capture: Path, tmp_path: Path) -> None:
    path = rewrite(capture, tmp_path / "less.parquet", table=lambda whole: whole.drop_columns(["next_tid"]))
    refused(ask(path), 3, "column next_tid", "take the original")


def test_empty_capture_answers(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "none.parquet", [], kinds=["sched_switch", "sched_waking"], cpus=[0])
    assert run("info", path).code == 0
    assert run("dump", path) == (0, "", "")
    assert run("query", path, "wakeups").code == 0
    assert json.loads(run("query", path, "wakeups", "--format", "json").out)["rows"] == []


def test_unknown_kind_to_dump(run: Run, capture: Path) -> None:
    refused(run("dump", capture, "-k", "sched_swich"), 1, 'no event kind "sched_swich"', 'did you mean "sched_switch"?')


def test_unknown_noun(run: Run, capture: Path) -> None:
    refused(run("query", capture, "wakeup_s of tid 4449"), 1, "wakeup_s", 'did you mean "wakeups"?')


def test_noun_that_was_not_recorded(run: Run, capture: Path) -> None:
    done = run("query", capture, "softirqs")
    assert (done.code, done.out) == (1, "")
    assert "softirq_entry" in done.err and "record" in done.err and "-e" in done.err


def test_absent_thread_is_an_answer_with_the_nearest(run: Run, capture: Path) -> None:
    done = run("query", capture, "wakeups of tid 4448")
    assert (done.code, done.err) == (0, "")
    assert "4449" in done.out
    assert "wrk:worker_0" in run("query", capture, 'wakeups of comm "wrk:workers"').out


def test_output_that_cannot_be_written(run: Run, capture: Path, tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "a.csv"
    refused(run("query", capture, "wakeups", "-o", target), 1, "cannot be written", "another file for -o")


def test_output_that_exists(run: Run, capture: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("precious")
    refused(run("query", capture, "wakeups", "-o", target), 1, "exists already", "--force")
    assert target.read_text() == "precious"
    assert run("query", capture, "wakeups", "-o", target, "--force").code == 0
    assert target.read_text().startswith("ts,") or "tid" in target.read_text().splitlines()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_output_that_is_a_directory(run: Run, capture: Path, tmp_path: Path) -> None:
    refused(run("query", capture, "wakeups", "-o", tmp_path), 1, "is a directory", "a file name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_output_on_a_full_disk_leaves_nothing(run: Run, capture: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a tmpfs")
    try:
        sql = "SELECT i, 'x' || i FROM range(100000) t(i)"
        refused(run("sql", capture, sql, "-o", disk / "a.csv"), 1, "No space left on device", "another file for -o")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("SELECT * FROM '/etc/passwd'", ""),
        ("SELECT * FROM read_csv('/etc/passwd')", ""),
        ("COPY (SELECT 1) TO '/tmp/tracectl-must-not-be-here'", ""),
        ("INSTALL httpfs", ""),
        ("SET enable_external_access = true", ""),
        ("SELEC 1", "syntax error"),
    ],
)
def test_sql_reads_the_capture_and_nothing_else(run: Run, capture: Path, statement: str, problem: str) -> None:
    done = run("sql", capture, statement)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tracectl: ") and problem in done.err
    assert "Traceback" not in done.err
    assert not Path("/tmp/tracectl-must-not-be-here").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can only be played by root")
def test_record_without_privilege() -> None:
    # All is imported before root is given up: the interpreter may lie where others cannot read.
    script = (
        "import os, sys, numpy, pyarrow, tracectl.recorder.session, tracectl.command_record;"
        "from tracectl.cli import main;"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY});"
        "sys.exit(main(['record', '-o', 'x.parquet', '-d', '1s']))"
    )
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tracectl: ") and "root" in done.stderr and "sudo" in done.stderr
    assert "Traceback" not in done.stderr
    place.rmdir()  # fails unless it is empty


@pytest.fixture
def without_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """BCC is nowhere to be found."""
    monkeypatch.setattr(bpf, "_bcc_directories", lambda: iter(()))
    for name in [name for name in sys.modules if name == "bcc" or name.startswith("bcc.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, that is what is missing first")
@pytest.mark.usefixtures("without_bcc")
def test_record_without_bcc(run: Run, tmp_path: Path) -> None:
    refused(
        run("record", "-d", "1s", "-o", tmp_path / "x.parquet"),
        2,
        "BCC is not installed",
        "apt-get install python3-bpfcc",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_bcc")
def test_doctor_without_bcc(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 2
    assert "apt-get install python3-bpfcc" in out
    assert out.endswith("live recording: no\n")


def test_doctor_without_btf_and_tracefs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BTF", tmp_path / "vmlinux")
    monkeypatch.setattr(doctor, "TRACEFS", (tmp_path / "tracing",))
    found = {check.name: check for check in doctor.examine()}
    assert (found["BTF"].verdict, found["tracefs"].verdict) == ("missing", "missing")
    assert "CONFIG_DEBUG_INFO_BTF" in found["BTF"].remedy
    assert "mount -t tracefs" in found["tracefs"].remedy
    assert not doctor.can_record(list(found.values()))


def test_record_refuses_to_write_over(run: Run, capture: Path, tmp_path: Path) -> None:
    target = tmp_path / "web.parquet"
    shutil.copy(capture, target)
    before = target.read_bytes()
    refused(run("record", "-d", "1s", "-o", target), 1, "exists", "--force")
    assert target.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="the name is looked up in tracefs, which only root can read")
def test_record_of_an_unknown_event(run: Run, tmp_path: Path) -> None:
    refused(run("record", "-e", "sched_swich", "-o", tmp_path / "x.parquet"), 1, "sched_swich", "sched_switch")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets as far as starting a command")
def test_record_of_an_unknown_command(run: Run, tmp_path: Path) -> None:
    done = run("record", "-o", tmp_path / "x.parquet", "--", "/no/such/command")
    assert done.code == 1
    assert "/no/such/command" in done.err and "Traceback" not in done.err
