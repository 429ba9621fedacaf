"""How recordings begin and end: stops, failures, what is on disk afterwards, what the kernel holds afterwards."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kernel.conftest import (
    TRACECTL,
    Recorded,
    Running,
    eventually,
    kernel_objects,
    need,
    record_to,
)
from tracectl.recorder import tracefs
from tracectl.recorder.selection import select
from tracectl.recorder.session import RecordOptions, record
from tracectl.recorder.syscall import _bpf
from tracectl.store.capture import Capture
from tracectl.store.errors import UserError

pytestmark = pytest.mark.kernel

_PROG_GET_FD_BY_ID = 13


def _exact(path: Path) -> Recorded:
    """The capture, after checking that it was ended cleanly and its ledger is."""
    recorded = Recorded(path)
    assert recorded.capture.complete
    assert [line for line in recorded.capture.ledger() if line.residue] == []
    assert not path.with_name(path.name + ".recording").exists()
    return recorded


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals, word: str) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched") as running:
        running.started()
        running.process.send_signal(number)
        code, said = running.end()
    assert (code, word in said) == (0, True), said
    assert _exact(tmp_path / "x.parquet").ask("switches | count")[0][0] > 0


def test_a_second_interrupt_harms_nothing(tmp_path: Path) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched") as running:
        running.started()
        for _ in range(3):
            running.process.send_signal(signal.SIGINT)
        assert running.end()[0] == 0
    _exact(tmp_path / "x.parquet")


def test_it_ends_after_a_time(tmp_path: Path) -> None:
    outcome = record_to(tmp_path / "x.parquet", duration_ns=200_000_000, events=("sched",))
    assert outcome.stopped_by == "duration reached"
    assert outcome.elapsed_ns >= 200_000_000
    _exact(outcome.path)


def test_it_ends_after_a_number_of_events(tmp_path: Path) -> None:
    outcome = record_to(tmp_path / "x.parquet", "sh", "-c", "while :; do :; done", max_events=500)
    assert outcome.stopped_by == "number of events reached"
    assert outcome.events >= 500
    assert outcome.command_exit == 128 + signal.SIGTERM
    _exact(outcome.path)


def test_it_ends_at_a_size(tmp_path: Path) -> None:
    outcome = record_to(tmp_path / "x.parquet", max_size=1000, duration_ns=20_000_000_000)
    assert outcome.stopped_by == "size reached"
    _exact(outcome.path)


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137), ("true", 0)])
def test_it_ends_with_the_command_and_its_exit_code(tmp_path: Path, script: str, code: int) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched", "--", "sh", "-c", script) as running:
        assert running.end()[0] == code
    _exact(tmp_path / "x.parquet")


def test_two_recorders_at_once_see_the_same(tmp_path: Path) -> None:
    inner = [*TRACECTL, "record", "-q", "-o", str(tmp_path / "inner.parquet"), "-e", "sched", "--", "sleep", "0.2"]
    record_to(tmp_path / "outer.parquet", *inner, events=("sched",))
    capture = _exact(tmp_path / "inner.parquet").capture
    sql = "SELECT tid, COUNT(*) FROM sched_switch WHERE comm = 'sleep' AND ts BETWEEN $a AND $b GROUP BY ALL"
    window = {"a": capture.start_ts, "b": capture.end_ts}
    seen = Recorded(tmp_path / "inner.parquet").rows(sql, **window)
    assert seen == _exact(tmp_path / "outer.parquet").rows(sql, **window)
    assert len(seen) == 1


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("mine")
    with Running(path, "-d", "1s") as running:
        code, said = running.end()
    assert code == 1
    assert "exists" in said
    assert "--force" in said
    assert path.read_text() == "mine"
    record_to(path, "true", force=True, events=("sched",))
    _exact(path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with Running(tmp_path / "no" / "x.parquet", "-d", "1s") as running:
        code, said = running.end()
    assert code == 1
    assert "no such directory" in said
    assert "Traceback" not in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tracectl-test", str(place)], check=False)
    need(done.returncode == 0, "a tmpfs cannot be mounted")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_directory_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Running(small_disk / "x.parquet", "-d", "1s") as running:
        code, said = running.end()
    assert code == 1
    assert "not writable" in said


def test_a_full_disk_ends_it_and_keeps_what_was_written(small_disk: Path) -> None:
    path = small_disk / "x.parquet"
    with Running(path, "-e", "sched,irq") as running:
        running.started()
        running.first_segment()
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            while _written(filler.fileno()):
                pass
        code, said = running.end()
    assert code == 2, said
    assert "No space left" in said
    assert str(running.segments) in said
    assert "Traceback" not in said
    assert not path.exists()
    recorded = Recorded(running.segments)
    assert not recorded.capture.complete
    assert recorded.ask("switches | count")[0][0] > 0
    assert [entry.name for entry in running.segments.iterdir() if entry.suffix == ".tmp"] == []


def _written(descriptor: int) -> int:
    try:
        return os.write(descriptor, bytes(65536))
    except OSError:
        return 0


def test_killed_it_leaves_segments_that_answer_and_nothing_in_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with Running(path, "-e", "sched") as running:
        running.started()
        running.first_segment()
        assert kernel_objects(running.process.pid)
        programs = _program_ids(running.process.pid)
        assert len(programs) > 3
        running.process.kill()
        assert running.end()[0] == -signal.SIGKILL
    assert eventually(lambda: not any(_exists(number) for number in programs))
    recorded = Recorded(running.segments)
    assert not recorded.capture.complete
    assert recorded.ask("switches | count")[0][0] > 0
    with pytest.raises(UserError, match="cut short"):
        Capture.open(path)
    with pytest.raises(UserError, match="a recording was cut short"):
        record_to(path, "true", events=("sched",))


def test_a_name_that_is_being_recorded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with Running(path, "-e", "sched") as first:
        first.started()
        with Running(path, "-e", "sched", "-d", "1s") as second:
            code, said = second.end()
        assert code == 1
        assert "another recording is running" in said
        first.process.send_signal(signal.SIGINT)
        assert first.end()[0] == 0
    _exact(path)


def _program_ids(pid: int) -> list[int]:
    """Ids of the BPF programs a process holds; an id is never given twice."""
    found = []
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found += [int(line.split()[1]) for line in entry.read_text().splitlines() if line.startswith("prog_id:")]
    return found


def _exists(program: int) -> bool:
    try:
        os.close(_bpf(_PROG_GET_FD_BY_ID, struct.pack("=I", program)))
    except FileNotFoundError:
        return False
    return True


def test_recordings_one_after_the_other_leave_nothing(tmp_path: Path) -> None:
    programs: list[int] = []
    before = None
    for number in range(3):
        record(
            RecordOptions(tmp_path / f"{number}.parquet", events=("sched",), duration_ns=400_000_000),
            lambda _status: programs.extend(_program_ids(os.getpid())),
        )
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        assert before in (None, descriptors)  # the first one opens what the process keeps, such as BCC's libraries
        before = descriptors
    assert len(programs) > 3
    assert kernel_objects() == []
    assert eventually(lambda: not any(_exists(program) for program in programs))


def test_a_capture_made_under_sudo_belongs_to_its_user(tmp_path: Path) -> None:
    owner = {"SUDO_UID": "65534", "SUDO_GID": "65534"}
    with Running(tmp_path / "x.parquet", "-e", "sched", **owner) as running:
        running.started()
        running.first_segment()
        segment = (running.segments / "000001.parquet").stat()
        assert (segment.st_uid, segment.st_gid, segment.st_mode & 0o777) == (65534, 65534, 0o600)
        assert running.segments.stat().st_mode & 0o777 == 0o700
        running.process.send_signal(signal.SIGINT)
        assert running.end()[0] == 0
    made = (tmp_path / "x.parquet").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (65534, 65534, 0o600)


def test_any_tracepoint_of_the_kernel_can_be_recorded(tmp_path: Path) -> None:
    events = ("sched:sched_stat_runtime,raw_syscalls:sys_enter", "raw_syscalls:sys_exit")
    record_to(tmp_path / "x.parquet", "sh", "-c", "echo; cat /dev/null", events=events)
    recorded = _exact(tmp_path / "x.parquet")
    wrong = recorded.rows("SELECT COUNT(*) FROM sched_stat_runtime WHERE runtime <= 0 OR arg_pid <= 0")
    assert wrong == [(0,)]
    assert recorded.rows("SELECT COUNT(*) FROM sched_stat_runtime WHERE arg_comm = 'cat'")[0][0] > 0
    # Each call returns under its own number (but rt_sigreturn: the kernel gives that back as -1).
    pairs = recorded.rows(
        "SELECT COUNT(*), COUNT(*) FILTER (back IN (id, -1)) FROM (SELECT kind, s.id, LEAD(x.id) OVER w AS back,"
        " LEAD(kind) OVER w AS next FROM events LEFT JOIN (SELECT seq, id FROM sys_enter) AS s USING (seq)"
        " LEFT JOIN (SELECT seq, id FROM sys_exit) AS x USING (seq) WHERE comm IN ('sh', 'cat')"
        " AND kind IN ('sys_enter', 'sys_exit') WINDOW w AS (PARTITION BY tid ORDER BY seq))"
        " WHERE kind = 'sys_enter' AND next = 'sys_exit'"
    )[0]
    assert pairs[0] == pairs[1] > 20


def test_a_misspelt_event_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched_swich") as running:
        code, said = running.end()
    assert code == 1
    assert "sched_switch" in said
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_without_a_tracepoint_is_recorded_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = set(select(()).missing)  # what this kernel lacks anyway
    absent = {"sock:sk_data_ready", "irq:softirq_raise"}
    there = frozenset(t for t in tracefs.tracepoints() if t not in absent and not t.startswith("irq_vectors:"))
    monkeypatch.setattr(tracefs, "tracepoints", lambda: there)
    outcome = record_to(tmp_path / "x.parquet", "true")
    absent_kinds = {"sk_data_ready", "softirq_raise", "irq_vector_entry", "irq_vector_exit"}
    assert set(outcome.missing) == usual | absent_kinds
    capture = _exact(outcome.path).capture
    assert capture.footer.missing == outcome.missing
    assert not capture.kinds & set(outcome.missing)
    with pytest.raises(UserError, match="sk_data_ready"):
        record_to(tmp_path / "y.parquet", "true", events=("sk_data_ready",))
