"""Recordings that are killed, or lose what they stand on: what was finished is there, the rest is declared lost.

``make crash`` runs many more rounds (TRACECTL_CRASH_ROUNDS).
"""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACECTL, Recorded, Running, environment, eventually, kernel_objects, need, record_to
from tests.kernel.test_session import _exists, _program_ids
from tracectl.recorder import probes, writing
from tracectl.recorder.recovery import recover, snapshot
from tracectl.recorder.snapshot import clocks
from tracectl.store.capture import Capture
from tracectl.store.integrity import check
from tracectl.store.writer import is_being_written

pytestmark = pytest.mark.kernel

ROUNDS = int(os.environ.get("TRACECTL_CRASH_ROUNDS", "6"))
VICTIMS = ("reader", "writer", "both")
BUSY = "while :; do /bin/true; done"
# From before anything is attached until some segments are written.
LONGEST_LIFE = 4.0


def children(pid: int) -> list[int]:
    """Processes started by one."""
    with suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def writer_of(pid: int) -> int | None:
    """The process that writes for the recorder ``pid``, once it is there."""
    for child in children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "tracectl-writer":
                return child
    return None


def kill(*pids: int | None) -> None:
    """Kill these, as far as they are there."""
    for pid in pids:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def consistent(path: Path) -> Capture:
    """A capture that passes every check."""
    capture = Capture.open(path)
    with capture.database() as database:
        broken = [finding for finding in check(capture, database) if not finding.ok]
    assert broken == []
    return capture


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_at_any_moment(tmp_path: Path, number: int, record_property: Callable[[str, object], None]) -> None:
    victim = VICTIMS[number % len(VICTIMS)]
    path = tmp_path / "x.parquet"
    with Running(path, "-e", "sched,irq", "-d", "60s") as running:
        reader = running.process.pid
        running.started()
        time.sleep(random.Random(number).uniform(0, LONGEST_LIFE))
        programs = _program_ids(reader)
        writer = writer_of(reader)
        before = sorted(running.segments.glob("0*.parquet"))
        kill(*{"reader": (reader,), "writer": (writer or reader,), "both": (reader, writer)}[victim])
        killed_at = time.monotonic_ns()
        code, said = running.end()
    assert "Traceback" not in said
    assert code in (2, -signal.SIGKILL)
    assert eventually(lambda: not any(_exists(program) for program in programs))
    assert eventually(lambda: not running.segments.exists() or not is_being_written(running.segments))
    assert not path.exists()
    if not any(running.segments.glob("*.tail")):
        assert before == []  # it was not yet recording
        return
    queryable = consistent(running.segments)
    assert not queryable.complete
    assert set(before) <= set(queryable.files)
    record_property("tail_ms", (killed_at - queryable.end_ts) // 1_000_000)
    answer = Recorded(running.segments).ask("events | count")
    made = recover(running.segments)
    assert not running.segments.exists()
    capture = consistent(made.path)
    assert not capture.complete
    assert Recorded(path).ask("events | count") == answer
    tails = Recorded(path).rows("SELECT stream, MIN(from_ts), COUNT(*) FILTER (lost_count IS NULL) FROM lost"
                                " WHERE cause = 'killed' AND cpu IS NULL GROUP BY stream ORDER BY stream")  # fmt: skip
    assert tails == [(stream, capture.end_ts, 1) for stream in ("irq", "sched", "task")]


def test_killed_while_it_makes_the_capture_nothing_is_missing(tmp_path: Path) -> None:
    """The writer is stopped as soon as the last segment is on disk, and killed before the file is there."""
    path = tmp_path / "x.parquet"
    with Running(path, "-e", "sched") as running:
        running.first_segment()
        writer = writer_of(running.process.pid)
        assert writer is not None
        running.process.send_signal(signal.SIGINT)
        while any(running.segments.glob("*.tail")) and not path.exists():
            pass
        os.kill(writer, signal.SIGSTOP)
        kill(running.process.pid, writer)
        running.end()
    assert eventually(lambda: not running.segments.exists() or not is_being_written(running.segments))
    if not path.exists():
        assert consistent(running.segments).complete
        recover(running.segments)
    assert consistent(path).complete


def test_the_recorder_survives_its_terminal(tmp_path: Path) -> None:
    """The terminal goes away: a hang-up, and nowhere to write to."""
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-o", str(path), "-e", "sched"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment())
        os.execv(sys.executable, command)
    segments = path.with_name("x.parquet.recording")
    assert eventually((segments / "000001.parquet").exists)
    os.close(terminal)
    assert os.waitpid(pid, 0)[0] == pid
    assert eventually(path.exists)
    assert consistent(path).complete
    assert not segments.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_both_processes_harm_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """As a terminal's Ctrl-C or a service manager sends them: to reader and writer, and again."""
    with Running(tmp_path / "x.parquet", "-e", "sched") as running:
        running.first_segment()
        writer = writer_of(running.process.pid)
        for _ in range(2):
            for pid in (writer, running.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid or 0, number)
        assert running.end()[0] == 0
    assert consistent(tmp_path / "x.parquet").complete


def test_the_traced_command_is_killed(tmp_path: Path) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched", "--", "sh", "-c", BUSY) as running:
        running.first_segment()
        (command,) = set(children(running.process.pid)) - {writer_of(running.process.pid)}
        kill(command)
        assert running.end()[0] == 128 + signal.SIGKILL
    assert consistent(tmp_path / "x.parquet").complete


def test_a_killed_recorder_leaves_its_command_alone(tmp_path: Path) -> None:
    with Running(tmp_path / "x.parquet", "-e", "sched", "--", "sleep", "100") as running:
        running.first_segment()
        (command,) = set(children(running.process.pid)) - {writer_of(running.process.pid)}
        try:
            kill(running.process.pid)
            assert eventually(lambda: not is_being_written(running.segments))
            os.kill(command, 0)
            assert kernel_objects(command) == []
        finally:
            kill(command)
    assert not consistent(running.segments).complete


def test_two_recorders_one_killed(tmp_path: Path) -> None:
    with (
        Running(tmp_path / "a.parquet", "-e", "sched") as first,
        Running(tmp_path / "b.parquet", "-e", "sched") as other,
    ):
        first.first_segment()
        other.first_segment()
        kill(first.process.pid, writer_of(first.process.pid))
        first.end()
        other.process.send_signal(signal.SIGINT)
        assert other.end()[0] == 0
    assert consistent(tmp_path / "b.parquet").complete
    assert not consistent(recover(tmp_path / "a.parquet").path).complete


def test_a_cpu_without_rings_is_declared_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all but one CPU had come online after the recorder looked."""
    plain = probes.cpus
    need(len(plain("online")) > 1, "this machine has one CPU")
    monkeypatch.setattr(probes, "cpus", lambda which: plain(which)[:1])
    outcome = record_to(
        tmp_path / "x.parquet", "taskset", "-c", str(plain("online")[1]), "sh", "-c", "/bin/true", events=("sched",)
    )
    capture = consistent(outcome.path)
    lost = {line.cpu: line.lost for line in capture.ledger() if line.stream == "sched"}
    assert lost[plain("online")[0]] == 0
    assert lost[plain("online")[1]] > 0
    assert outcome.causes["not_attached"] >= lost[plain("online")[1]]
    assert Recorded(outcome.path).rows("SELECT COUNT(*) FROM lost WHERE cause = 'not_attached' AND cpu = 1")[0][0] > 0


def test_a_cpu_that_goes_and_comes_back(tmp_path: Path) -> None:
    switch = Path("/sys/devices/system/cpu/cpu1/online")
    need(switch.exists() and os.environ.get("TRACECTL_HOTPLUG") == "1", "TRACECTL_HOTPLUG=1 allows to take CPU 1 away")
    script = f"echo 0 > {switch}; sleep 0.3; echo 1 > {switch}; taskset -c 1 sh -c 'for i in 1 2 3; do /bin/true; done'"
    outcome = record_to(tmp_path / "x.parquet", "sh", "-c", script, events=("sched,irq",))
    assert outcome.command_exit == 0
    consistent(outcome.path)
    assert [line for line in outcome.ledger if line.residue] == []


def test_the_clock_is_set_while_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward, as the writer reads it (the machine's own clock is left alone)."""
    hour = 3_600_000_000_000
    calls = 0

    def stepped() -> dict[str, int]:
        nonlocal calls
        calls += 1
        now = clocks()
        return now | {"realtime": now["realtime"] + (hour if calls > 2 else 0)}

    monkeypatch.setattr(writing, "clocks", stepped)
    outcome = record_to(tmp_path / "x.parquet", duration_ns=2_500_000_000, events=("sched",))
    consistent(outcome.path)
    rows = Recorded(outcome.path).rows("SELECT ts, realtime FROM clock ORDER BY seq")
    steps = [b - a - (u - t) for (t, a), (u, b) in pairwise(rows)]
    assert len(rows) >= 3
    assert [round(step / hour) for step in steps].count(1) == 1
    assert all(abs(step) < hour // 2 or abs(step - hour) < hour // 2 for step in steps)
    spans = Recorded(outcome.path).rows("SELECT MAX(ts) - MIN(ts) FROM events")
    assert spans[0][0] < 60_000_000_000  # the events' own clock does not know of it


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tracectl-test", str(place)], check=False)
    need(done.returncode == 0, "a tmpfs cannot be mounted")
    try:
        with Running(place / "x.parquet", "-e", "sched,irq") as running:
            code, said = running.end()
        assert code == 2
        assert "No space left" in said
        assert "Traceback" not in said
        assert not any(place.glob("**/*.tmp"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_flight_recorder_keeps_the_newest_and_gives_snapshots(tmp_path: Path) -> None:
    flight = tmp_path / "flight"
    with Running(flight, "-e", "sched", "--keep", "2s") as running:
        assert eventually(lambda: (flight / "000006.parquet").exists() or running.process.poll() is not None)
        made = snapshot(flight, tmp_path / "s.parquet", last_ns=1)
        running.process.send_signal(signal.SIGINT)
        assert running.end()[0] == 0
    assert not (flight / "000001.parquet").exists()
    taken, left = consistent(made.path), consistent(flight)
    assert taken.complete and left.complete
    assert taken.start_ts > made.capture.end_ts - 60_000_000_000
    assert taken.end_ts <= left.end_ts
    assert Recorded(made.path).rows("SELECT COUNT(*) FROM task WHERE tid = $tid", tid=os.getpid())[0][0] >= 1
    assert Recorded(flight).ask("switches | count")[0][0] > 0
