"""A tool's view of a recording that runs prints what the replay of the finished capture prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACECTL, environment, eventually, need
from tracectl.recorder.selection import untraceable

pytestmark = pytest.mark.kernel


def _replayed(path: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [*TRACECTL, "replay", str(path), "--as", tool, "--", *arguments]
    return subprocess.run(command, capture_output=True, env=environment(), check=True)


def test_runqslower_live_is_its_replay(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-o", str(path), "-d", "3500ms", "--as", "runqslower 200 -P"]
    live = subprocess.run(command, capture_output=True, env=environment(), check=True)
    replayed = _replayed(path, "runqslower", "200", "-P")
    assert live.stdout == replayed.stdout
    head, columns, *lines = live.stdout.decode().splitlines()
    assert head == "Tracing run queue latency higher than 200 us"
    assert columns.split() == ["TIME", "COMM", "TID", "LAT(us)", "PREV", "COMM", "PREV", "TID"]
    assert all(int(line[33:48]) > 200 for line in lines)
    if b"half a second late" not in live.stderr:
        gaps = [line for line in live.stderr.splitlines() if b"lost: " in line]
        assert sorted(gaps) == sorted(line for line in replayed.stderr.splitlines() if b"lost: " in line)


def test_offwaketime_live_is_its_replay(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-o", str(path), "--as", "offwaketime -f -m 10000"]
    # Many short sleeps: no wait is counted that a loss may touch, and where a machine hides a process, there are some.
    workload = ["--", sys.executable, "-c", "import time; [time.sleep(0.02) for _ in range(60)]"]
    live = subprocess.run([*command, *workload], capture_output=True, env=environment(), check=True)
    assert live.stdout == _replayed(path, "offwaketime", "-f", "-m", "10000").stdout
    slept = [line for line in live.stdout.decode().splitlines() if "nanosleep" in line.partition(";--;")[0]]
    assert slept and all(int(line.rpartition(" ")[2]) >= 10_000 for line in slept)


def test_lines_come_while_it_records(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-o", str(path), "-d", "100s", "--as", "runqslower 0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None and process.stderr is not None
        lines = [process.stdout.readline() for _ in range(20)]
        assert process.poll() is None and not path.exists()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 0, process.stderr.read()
    assert b"".join(lines) + rest == _replayed(path, "runqslower", "0").stdout


def test_a_reader_that_goes_ends_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-q", "-o", str(path), "-d", "100s", "--as", "runqslower 0"]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
    assert time.monotonic() - begun < 60 and path.is_file()


def test_a_view_that_cannot_be_told_ends_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-q", "-o", str(path), "-d", "100s", "-e", "sched", "--as", "epoll 1"]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (1, b"") and path.is_file()
    assert b"what a wakeup came through was not recorded; record again with" in done.stderr


def test_what_this_kernel_cannot_tell_is_not_recorded_for_nothing(tmp_path: Path) -> None:
    reason = untraceable("ep_poll_callback")
    need(reason != "", "this kernel lets ep_poll_callback be traced")
    command = [*TRACECTL, "record", "-q", "-o", str(tmp_path / "x.parquet"), "-d", "100s", "--as", "epoll 1"]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (2, b"") and list(tmp_path.iterdir()) == []
    assert f"--as epoll 1: ep_poll_callback cannot be recorded here: {reason}" in done.stderr.decode()
    assert b"tracectl replay CAPTURE --as epoll -- 1" in done.stderr


def test_wrong_tools_are_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for tool, words in (
        ("runqslow", b'did you mean "runqslower"?'),
        ("runqslower -x", b"usage: runqslower"),
        ("runqslower 'x", b"no tool with its options"),
    ):
        done = subprocess.run(
            [*TRACECTL, "record", "-o", str(path), "--as", tool], capture_output=True, env=environment(), check=False
        )
        assert (done.returncode, done.stdout) == (1, b"") and words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_recording_leaves_no_view_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [*TRACECTL, "record", "-o", str(path), "-d", "100s", "--as", "runqslower 0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert "tracectl-view\n" in [Path(f"/proc/{child}/comm").read_text() for child in children]
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.read()  # until the view ends
    assert eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
