"""Recording from Python, live: what happens in the block is in the capture."""

from __future__ import annotations

import os
import threading
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
