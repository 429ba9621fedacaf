"""``record --trigger`` for real: a marked exec makes one snapshot, which holds it and what surrounds it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, Running, eventually

pytestmark = pytest.mark.kernel


def test_a_hit_makes_one_snapshot(tmp_path: Path) -> None:
    flight, marker = tmp_path / "flight", tmp_path / "marker"
    shutil.copy("/bin/true", marker)
    question = f'events sched_process_exec where filename = "{marker}"'
    with Running(
        flight, "-e", "sched", "--keep", "1m", "--trigger", question, "--trigger-window", "1s", "--trigger-pause", "1h"
    ) as running:
        assert eventually(lambda: (flight / "000002.parquet").exists() or running.process.poll() is not None)
        assert not list(tmp_path.glob("flight-*.parquet"))
        subprocess.run([marker], check=True)
        assert eventually(lambda: list(tmp_path.glob("flight-*.parquet")) or running.process.poll() is not None)
        subprocess.run([marker], check=True)  # in the pause
        running.process.send_signal(signal.SIGINT)
        code, said = running.end()
    assert code == 0, said
    (made,) = tmp_path.glob("flight-*.parquet")
    assert str(made) in said
    found = Recorded(made)
    hits = found.rows("SELECT ts FROM sched_process_exec WHERE filename = $name", name=str(marker))
    assert len(hits) >= 1, said
    capture = found.capture
    assert capture.start_ts < hits[0][0] < capture.end_ts
    assert found.ask("switches | count")[0][0] > 0
    assert not list(tmp_path.glob(".tracectl-*"))
