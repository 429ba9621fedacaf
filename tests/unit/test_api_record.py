"""Recording from Python: what can be refused without root, and the process's protocol with a recorder in its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import tracectl
from tracectl import api_record, api_recorder

# A recorder's part of the conversation, as tracectl/api_recorder.py holds it.
SCRIPT = """#!{python}
import json, shutil, signal, sys, time
given = json.loads(sys.stdin.readline())
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
def tell(what): print(json.dumps(what), flush=True)
{body}
"""
OUTCOME = """
while not stopped: time.sleep(0.01)
shutil.copy({sample!r}, given["output"])
tell({{"outcome": {{"path": given["output"], "events": 7, "lost": 0, "size": 1, "elapsed_ns": 5, "missing": {{}},
                  "stopped_by": "terminated"}}}})
"""
SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Puts a program in the place of the recording process."""

    def place(body: str) -> None:
        program = tmp_path / "recorder"
        program.write_text(SCRIPT.format(python=sys.executable, body=body))
        program.chmod(0o755)
        monkeypatch.setattr(api_record.sys, "executable", str(program))

    return place


def test_arguments_are_checked_at_once(tmp_path: Path) -> None:
    for wrong in ({"duration": "fast"}, {"buffer": "many"}, {"max_size": "-1"}, {"duration": 0}):
        with pytest.raises(tracectl.UserError):
            tracectl.record(tmp_path / "x.parquet", **wrong)  # type: ignore[arg-type]


def test_a_recording_without_end_is_refused(tmp_path: Path) -> None:
    recording = tracectl.record(tmp_path / "x.parquet", events="sched")
    assert "not begun" in repr(recording)
    with pytest.raises(tracectl.UserError, match="would never end"):
        recording.run()
    with pytest.raises(tracectl.UserError, match="not recorded yet"):
        recording.open()


def test_while_the_block_runs(tmp_path: Path, recorder) -> None:  # type: ignore[no-untyped-def]
    recorder('tell({"begun": {}})' + OUTCOME.format(sample=str(SAMPLE)))
    with tracectl.record(tmp_path / "x.parquet", events=["sched", "irq"]) as recording:
        assert recording.result is None and "running" in repr(recording)
    assert recording.result is not None
    assert (recording.result.events, recording.result.stopped_by) == (7, "stopped")
    with recording.open() as capture:
        assert capture.query("accepts | count").rows() == [(97,)]
    with pytest.raises(tracectl.UserError, match="begun before"), recording:
        pass


def test_an_error_of_the_recorder_is_raised_here(tmp_path: Path, recorder) -> None:  # type: ignore[no-untyped-def]
    recorder('tell({"error": "RecordError", "problem": "recording needs root", "remedy": "sudo"})')
    with (
        pytest.raises(tracectl.RecordError, match="recording needs root"),
        tracectl.record(tmp_path / "x.parquet"),
    ):
        pytest.fail("the block must not run")


def test_an_error_at_the_end_does_not_hide_that_of_the_block(tmp_path: Path, recorder) -> None:  # type: ignore[no-untyped-def]
    body = 'tell({"begun": {}})\nwhile not stopped: time.sleep(0.01)\n'
    recorder(body + 'tell({"error": "RecordError", "problem": "disk full", "remedy": ""})')
    with pytest.raises(ZeroDivisionError) as caught, tracectl.record(tmp_path / "x.parquet"):
        1 / 0  # noqa: B018 - the block's own error
    assert any("disk full" in note for note in caught.value.__notes__)


def test_a_recorder_that_dies_is_told(tmp_path: Path, recorder) -> None:  # type: ignore[no-untyped-def]
    recorder('print("Killed: \\x1b[31mred", file=sys.stderr); sys.exit(9)')
    with pytest.raises(tracectl.RecordError) as caught, tracectl.record(tmp_path / "x.parquet"):
        pytest.fail("the block must not run")
    assert "status 9" in str(caught.value) and "\x1b" not in str(caught.value)


def test_the_capture_notes_the_command_line_that_does_the_same(tmp_path: Path) -> None:
    given = tracectl.record(tmp_path / "x.parquet", events="sched,irq", pids=[7], duration=0.5)._options
    options = api_recorder.options(given)
    line = "tracectl record -o x.parquet -e sched,irq -p 7 -d 500000000ns"
    assert options.command_line == tuple(line.split()) and options.pids == (7,)
    assert options.output == tmp_path / "x.parquet" and options.duration_ns == 500_000_000


def test_without_root_it_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may record: tests/kernel has that")
    with pytest.raises(tracectl.RecordError, match="needs root"):
        tracectl.record(tmp_path / "x.parquet", duration="1s").run()
