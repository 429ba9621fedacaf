"""Replays: order, loss where it happened, pace, the objects of the Python API and BCC's shape, wrong arguments."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tracectl
from tests.conftest import START, WORKER, switch, waking
from tracectl import replay
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "sample.parquet"
EVIL = '"\\\n\x1b;'


def _lost(from_ts: int, ts: int, **columns: Any) -> dict[str, Any]:
    row = {"kind": "lost", "from_ts": from_ts, "ts": ts, "cpu": 0, "stream": "sched", "lost_count": 3}
    return row | {"cause": "ring_full"} | columns


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three switches on CPU 0, a gap after the first, a hostile name, and a waking on CPU 1 within the gap."""
    rows = [
        switch(START, 0, (7, EVIL, "S"), (0, "swapper/0")),
        waking(START + 400_000, 1, (0, "swapper/1"), WORKER, ("softirq", 3)),
        _lost(START, START + 1_000_000),
        switch(START + 1_000_000, 0, (0, "swapper/0", "R"), (4449, "wrk:worker_0")),
        switch(START + 3_000_000, 0, (4449, "wrk:worker_0", "S"), (0, "swapper/0")),
    ]
    return write_rows(tmp_path / "small.parquet", rows, start_ts=START, breaks_declared=True)


def test_events_and_loss_in_order(run: Run, small: Path) -> None:
    code, out, err = run("replay", small)
    assert (code, err) == (0, "")
    first, woken, gap, second, third = out.splitlines()
    assert first.startswith('1 0.000000000s [000] "\\"\\\\\\n\\u001b;"-7/7 sched_switch: ')
    assert "next_tid=0" in first
    assert "[001] swapper/1-0/0 sched_waking: target_tid=4449" in woken
    assert gap == "*** lost: 3 events of sched on cpu 0 between 0.000000000s and 0.001000000s (ring_full)"
    assert " 0.001000000s " in second and " 0.003000000s " in third


def test_kinds(run: Run, small: Path) -> None:
    assert [line[:3] for line in run("replay", small, "-k", "sched_waking").out.splitlines()] == ["2 0", "***"]
    assert run("replay", small, "-k", "lost").out.count("\n") == 1
    assert run("replay", small, "-k", "softirq_entry").out == ""


def test_a_loss_behind_the_last_event_is_told(run: Run, tmp_path: Path) -> None:
    rows = [switch(START, 0, (7, "a", "S"), (0, "swapper/0")), _lost(START, START + 9, cpu=None, stream=None)]
    path = write_rows(tmp_path / "tail.parquet", rows, start_ts=START, breaks_declared=True)
    last = run("replay", path).out.splitlines()[-1]
    assert last == "*** lost: 3 events between 0.000000000s and 0.000000009s (ring_full)"


def test_every_event_of_the_sample_once(run: Run) -> None:
    with tracectl.open(SAMPLE) as capture:
        ((rows,),) = capture.sql(
            "SELECT count(*) FROM capture WHERE kind NOT IN ('coverage', 'task', 'clock', 'recorder')"
        ).rows()
        lines = run("replay", SAMPLE).out.splitlines()
        assert len(lines) == rows
        moments = [float(line.split()[1][:-1]) for line in lines if line[0] != "*"]
        assert moments == sorted(moments)


def test_pages_do_not_show(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("replay", SAMPLE).out
    monkeypatch.setattr(replay, "PAGE", 777)
    assert run("replay", SAMPLE).out == whole


class _Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(("speed", "waits"), [(1, [0.001, 0.002]), (0.1, [0.004, 0.006, 0.02]), (1000, [])])
def test_pace(run: Run, small: Path, monkeypatch: pytest.MonkeyPatch, speed: float, waits: list[float]) -> None:
    clock = _Time()
    monkeypatch.setattr(replay, "time", clock)
    assert run("replay", small, "--speed", speed).out == run("replay", small).out
    assert clock.slept == pytest.approx(waits)


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_impossible_speeds(run: Run, small: Path, speed: str) -> None:
    code, out, err = run("replay", small, f"--speed={speed}")
    assert (code, out) == (1, "")
    assert "a replay cannot run at speed" in err and "any number above zero" in err


def test_wrong_arguments(run: Run, small: Path) -> None:
    for arguments, words in (
        (("-k", "sched_swich"), 'did you mean "sched_switch"?'),
        (("what",), "unexpected: what"),
        (("--as", "runqslow"), 'did you mean "runqslower"?'),
        (("--as", "runqslower", "-k", "sched_switch"), "not with --as"),
    ):
        code, out, err = run("replay", small, *arguments)
        assert (code, out) == (1, ""), arguments
        assert words in err and "Traceback" not in err


def _process(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tracectl", "replay", str(SAMPLE), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_reader_that_goes() -> None:
    with _process() as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("1 ")
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")


def test_ctrl_c() -> None:
    with _process("--speed", "0.0001") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("1 ")  # shown before the sleep that follows
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.stderr.read()


def test_objects(small: Path) -> None:
    with tracectl.open(small) as capture:
        first, woken, gap, *_, last = capture.replay()
        assert next(capture.replay("sched_waking")) == woken
    assert (first.kind, first.seq, first.ts, first.cpu, first.comm) == ("sched_switch", 1, START, 0, EVIL)
    assert (first.prev_state, first.next_tid, first.next_comm) == ("S", 0, "swapper/0")
    assert (woken.kind, woken.target_tid, woken.context, woken.context_vec) == ("sched_waking", 4449, "softirq", 3)
    assert (gap.kind, gap.from_ts, gap.ts, gap.lost_count) == ("lost", START, START + 1_000_000, 3)
    assert type(first) is type(last) and type(first) is not type(woken) and not hasattr(first, "target_tid")


def test_objects_of_the_api_refuse_at_once(small: Path) -> None:
    with tracectl.open(small) as capture:
        with pytest.raises(tracectl.UserError, match="did you mean"):
            capture.replay("sched_swich")
        with pytest.raises(tracectl.UserError, match="speed"):
            capture.replay(speed=0)


def test_field_names_that_python_does_not_have(tmp_path: Path) -> None:
    fields = [{"name": name, "type": "int32", "doc": ""} for name in ("odd__class", "odd__pid", "odd__9")]
    kind = {"kind": "odd", "stream": "extra", "doc": "", "probes": [], "fields": fields}
    row = {"kind": "odd", "ts": 1, "cpu": 0, "pid": 5, "odd__class": 1, "odd__pid": 2, "odd__9": 3}
    path = write_rows(tmp_path / "odd.parquet", [row], extra_events=[kind])
    with tracectl.open(path) as capture:
        (event,) = capture.replay()
        seen = []
        capture.replay_bcc(lambda cpu, data, size: seen.append((data.contents.pid, data.contents.arg_pid)))
    assert (event.class_, event.pid, event.arg_pid, event.field_9) == (1, 5, 2, 3)
    assert seen == [(5, 2)]


def test_callbacks_in_the_shape_of_bcc(small: Path) -> None:
    told: list[Any] = []

    def on_event(cpu: int, data: Any, size: int) -> None:
        event = data.contents
        told.append((cpu, event.kind, event.ts, event.comm, size >= 16))
        if event.kind == b"sched_waking":
            assert (event.target_tid, event.target_comm, event.context) == (4449, b"wrk:worker_0", b"softirq")
            assert event.kstack == -1  # not known

    with tracectl.open(small) as capture:
        capture.replay_bcc(on_event, lambda cpu, count: told.append((cpu, count)))
    assert told[0] == (0, b"sched_switch", START, EVIL.encode(), True)
    assert [entry[1] for entry in told] == [b"sched_switch", b"sched_waking", 3, b"sched_switch", b"sched_switch"]


def test_callbacks_at_half_speed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Time()
    monkeypatch.setattr(replay, "time", clock)
    with tracectl.open(small) as capture:
        capture.replay_bcc(lambda *_: None, speed=0.5)
    assert sum(clock.slept) == pytest.approx(0.006)
    assert time.monotonic() != clock.now
