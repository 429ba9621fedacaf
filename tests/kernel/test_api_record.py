"""Recording from Python, live: what happens in the block is in the capture."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tracectl

pytestmark = pytest.mark.kernel


def test_what_happens_in_the_block_is_recorded(tmp_path: Path) -> None:
    rounds = 200
    with tracectl.record(tmp_path / "x.parquet", events="sched", pids=[os.getpid()]) as recording:
        here, there = threading.Semaphore(0), threading.Semaphore(0)

        def answer() -> None:
            for _ in range(rounds):
                here.acquire()
                there.release()

        thread = threading.Thread(target=answer)
        thread.start()
        tid = thread.native_id
        for _ in range(rounds):
            here.release()
            there.acquire()
        thread.join()
    assert recording.result is not None and recording.result.stopped_by == "stopped"
    with recording.open() as capture:
        answer_ = capture.query(f"switches of tid {tid} | count")
        ((count, *_),) = answer_.rows()
    assert count >= 2 and recording.result.events >= count


def test_the_blocking_form_ends_by_itself(tmp_path: Path) -> None:
    with tracectl.record(tmp_path / "x.parquet", events="sched", duration="100ms").run() as capture:
        assert capture.opened.end_ts - capture.opened.start_ts >= 100_000_000
        assert capture.query("switches | count").rows()[0][0] > 0


def test_a_wrong_event_is_refused_before_the_block_runs(tmp_path: Path) -> None:
    with pytest.raises(tracectl.UserError, match="shced"), tracectl.record(tmp_path / "x.parquet", events="shced"):
        pytest.fail("the block must not run")


# Three processes that never sleep on one CPU: each waits for the slices of the others.
_CROWD = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
end = time.monotonic() + 1.0
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end:
            pass
        os._exit(0)
while time.monotonic() < end:
    pass
for _ in range(2):
    os.wait()
"""


def test_only_late_waits_and_wakings_with_stacks(tmp_path: Path) -> None:
    """Options in one recording that only the command had: a threshold, stacks, a reader before all else."""
    with tracectl.record(
        tmp_path / "x.parquet", min_delay="500us", events="sched_waking", stacks="sched_waking", realtime=True
    ) as recording:
        crowd = subprocess.Popen([sys.executable, "-c", _CROWD])
        assert crowd.wait() == 0
        threads_that_wake()
    with recording.open() as capture:
        delays = capture.query(f"delays of pid {crowd.pid} over 500us")
        waited = [dict(zip(delays.columns, row, strict=True))["dur"] for row in delays.rows()]
        assert len(waited) >= 10 and min(waited) > 500_000
        # A crowd of three has two thirds of the second to wait.
        assert sum(waited) > 100_000_000
        with pytest.raises(tracectl.NotRecordedError):
            capture.query(f"delays of pid {crowd.pid} over 100us")
        ((kinds,),) = capture.sql("SELECT list(DISTINCT kind ORDER BY kind) FROM capture WHERE tid IS NOT NULL").rows()
        assert {"runq_delay", "sched_waking"} <= set(kinds) and "sched_switch" not in kinds
        wakings = capture.query(f"events sched_waking of pid {os.getpid()} with stacks")
        stacks = [row[wakings.columns.index("stack")] for row in wakings.rows()]
        assert sum("futex_wake" in (stack or "") for stack in stacks) >= 50
        words = "tracectl record -o x.parquet -e sched_waking --stacks sched_waking --min-delay 500us --realtime"
        assert " ".join(capture.info["command_line"]) == words


def test_a_flight_recorder_keeps_the_newest_when_the_block_raises(tmp_path: Path) -> None:
    flight = tmp_path / "flight"
    with (
        pytest.raises(ZeroDivisionError),
        tracectl.record(flight, keep="2s", events="sched", comms="python*", every=2) as recording,
    ):
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            threads_that_wake()
        1 / 0  # noqa: B018 - the block's own error
    assert recording.result is not None and recording.result.path == flight and flight.is_dir()
    assert recording.result.size == sum(file.stat().st_size for file in flight.glob("*.parquet"))
    with recording.open() as capture:
        kept = capture.opened.end_ts - capture.opened.start_ts
        assert kept < recording.result.elapsed_ns
        # One of two on each CPU and of each kind: the others are counted as lost, by this and nothing else. (What is
        # told of a time that reaches back behind what was kept is left out.)
        start, end = capture.opened.start_ts, capture.opened.end_ts
        causes = capture.sql("SELECT DISTINCT cause FROM lost WHERE lost_count > 0").rows()
        assert causes == [("sampled",)]
        ((begin, lost),) = capture.sql(
            f"SELECT min(from_ts), sum(lost_count) FROM lost WHERE from_ts >= {start}"
        ).rows()
        ((taken,),) = capture.sql(
            f"SELECT count(*) FROM capture WHERE ts BETWEEN {begin} AND {end} AND kind IN ('sched_switch',"
            " 'sched_waking', 'sched_wakeup', 'sched_wakeup_new', 'sched_migrate_task')"
        ).rows()
        assert taken > 1000 and float(lost) == pytest.approx(taken, rel=0.05)


def threads_that_wake(rounds: int = 100) -> None:
    """Two threads of this process wake each other."""
    here, there = threading.Semaphore(0), threading.Semaphore(0)

    def answer() -> None:
        for _ in range(rounds):
            here.acquire()
            there.release()

    thread = threading.Thread(target=answer)
    thread.start()
    for _ in range(rounds):
        here.release()
        there.acquire()
    thread.join()
