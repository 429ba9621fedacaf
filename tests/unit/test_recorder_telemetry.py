"""What other programs are told of a recording."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tracectl.recorder.drain import Status
from tracectl.recorder.telemetry import Telemetry
from tracectl.store.errors import UserError

STATUS = Status(2_500_000_000, 1_000_000, 3, 4096, 0.25, 50_000_000, 1_000_000_000, 2_000_000_000)


def test_prometheus_text(tmp_path: Path) -> None:
    target = tmp_path / "tracectl.prom"
    Telemetry(prometheus=target).write(STATUS)
    lines = target.read_text().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values == {
        "tracectl_recording": "1", "tracectl_events_total": "1000000", "tracectl_lost_events_total": "3",
        "tracectl_segment_bytes": "4096", "tracectl_elapsed_seconds": "2.5", "tracectl_queue_used_ratio": "0.25",
        "tracectl_drain_delay_seconds": "0.05", 'tracectl_cpu_seconds_total{process="reader"}': "1",
        'tracectl_cpu_seconds_total{process="writer"}': "2",
    }  # fmt: skip
    told = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(told) == len(set(told))
    assert {re.sub(r"\{.*", "", name) for name in values} == set(told)
    assert target.stat().st_mode & 0o777 == 0o644
    Telemetry(prometheus=target).write(STATUS, recording=False)
    assert "tracectl_recording 0\n" in target.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["tracectl.prom"]


def test_json_file_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "stats.json"
    for _ in range(2):
        Telemetry(stats_json=target).write(STATUS)
        Telemetry(stats_json=Path("-")).write(STATUS)
    found = json.loads(target.read_text())
    assert (found["events"], found["lost"], found["recording"]) == (1_000_000, 3, True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [found, found]


def test_a_full_disk_does_not_end_a_recording(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    telemetry = Telemetry(prometheus=tmp_path / "here" / "x.prom")
    (tmp_path / "here").rmdir()
    telemetry.write(STATUS)
    assert not (tmp_path / "here").exists()


def test_a_directory_that_is_not_there_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        Telemetry(stats_json=tmp_path / "no" / "x.json")
    assert not Telemetry()
