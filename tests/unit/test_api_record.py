"""Recording from Python: what can be refused without root, and the process's protocol with a recorder in its place."""

from __future__ import annotations

import inspect
import os
import re
import sys
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tracectl
from tracectl import api_record, api_recorder, command_record
from tracectl.recorder import session
from tracectl.store.events import GROUPS

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


# A value for each keyword that is not its default, as Python has it and as the recorder has it.
EVERY_KEYWORD: dict[str, tuple[Any, dict[str, Any]]] = {
    "duration": (timedelta(milliseconds=1500), {"duration_ns": 1_500_000_000}),
    "events": (["sched,irq", "-x"], {"events": ("sched,irq", "-x")}),
    "stacks": ("sched_switch", {"stacks": ("sched_switch", "cpu_sample")}),
    "profiles": ("cpu", {}),  # its kind and stacks; with events given it adds the stacks alone
    "frequency": (199, {"frequency": 199}),
    "pids": ([7, 8], {"pids": (7, 8)}),
    "tids": (9, {"tids": (9,)}),
    "comms": ("wrk:*", {"comms": ("wrk:*",)}),
    "cgroups": ([Path("/a b")], {"cgroups": ("/a b",)}),
    "container": ("c0ffee", {"container": "c0ffee"}),
    "every": (10, {"every": 10}),
    "min_delay": ("1ms", {"min_delay_ns": 1_000_000}),
    "max_events": (1000, {"max_events": 1000}),
    "max_size": (500 << 20, {"max_size": 500 << 20}),
    "keep": (0.00001, {"keep_ns": 10_000}),
    "buffer": ("64K", {"buffer_bytes": 64 << 10}),
    "realtime": (True, {"realtime": True}),
    "force": (True, {"force": True}),
}  # fmt: skip
# What only the command has: Python reads the result itself, a with block is the command to trace, and what asks while
# recording (triggers, --as) prints for people.
COMMAND_ONLY = {
    "output", "quiet", "tool", "trigger", "trigger_window", "trigger_pause", "stats_json", "prometheus", "command",
}  # fmt: skip
RECORDER_ONLY = {"output", "stats_json", "prometheus", "command", "command_line", "debug"}


def recorder_has(recording: tracectl.Recording) -> session.RecordOptions:
    """The options that the recording process would record with."""
    return api_recorder.options({"output": str(recording.path), "words": recording._words})


def test_keywords_and_defaults_are_those_of_the_command_and_the_recorder(tmp_path: Path) -> None:
    with command_record.record.make_context("record", []) as context:
        command = command_record.recorder_options(tmp_path / "x.parquet", context.params)
        names = set(context.params)
    keywords = inspect.signature(tracectl.record).parameters
    assert set(keywords) - {"path"} == names - COMMAND_ONLY == set(EVERY_KEYWORD)
    bare = session.RecordOptions(tmp_path / "x.parquet")
    spelled = tracectl.record(
        tmp_path / "x.parquet", **{name: keywords[name].default for name in keywords if name != "path"}
    )
    for options in (command, recorder_has(tracectl.record(tmp_path / "x.parquet")), recorder_has(spelled)):
        assert replace(options, command_line=bare.command_line, debug=bare.debug) == bare


def test_every_keyword_reaches_the_recorder_and_the_line_noted_does_the_same(tmp_path: Path) -> None:
    recording = tracectl.record(tmp_path / "x.parquet", **{name: value for name, (value, _) in EVERY_KEYWORD.items()})
    options = recorder_has(recording)
    bare = session.RecordOptions(tmp_path / "x.parquet")
    expected = {field: value for _, has in EVERY_KEYWORD.values() for field, value in has.items()}
    unlike = {field.name for field in fields(options) if getattr(options, field.name) != getattr(bare, field.name)}
    assert unlike - {"command_line"} == set(expected) == {field.name for field in fields(options)} - RECORDER_ONLY
    assert {name: getattr(options, name) for name in expected} == expected
    program, name, *words = options.command_line
    assert (program, name) == ("tracectl", "record")
    with command_record.record.make_context("record", words) as context:
        given = dict(context.params)
    assert given["output"] == Path("x.parquet")
    assert command_record.recorder_options(options.output, given, options.command_line) == options


def test_a_profile_is_its_kinds_with_stacks(tmp_path: Path) -> None:
    options = recorder_has(tracectl.record(tmp_path / "x.parquet", profiles=["offwake", "cpu"]))
    assert options.events == options.stacks == ("sched_switch", "sched_waking", "cpu_sample")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"duration": "fast"}, '"fast" is not a duration'),
        ({"duration": 0}, '"0" is not a possible duration'),
        ({"duration": float("nan")}, '"nan" is not a duration'),
        ({"min_delay": "1 mile"}, '"1 mile" is not a duration'),
        ({"keep": object()}, "keep: <object"),
        ({"buffer": "many"}, '"many" is not a size'),
        ({"max_size": "-1"}, '"-1" is not a size'),
        ({"every": 0}, "every: 0 is not in the range"),
        ({"every": False}, "every: 'False' is not a valid integer"),
        ({"max_events": 2.5}, "max_events: '2.5' is not a valid integer"),
        ({"frequency": 10_001}, "frequency: 10001 is not in the range"),
        ({"profiles": "offcpu"}, "profiles: 'offcpu' is not one of 'offwake', 'cpu'"),
        ({"pids": [7, 0]}, "pids: 0 is not in the range"),
        ({"pids": None}, "pids: None is neither text nor a number"),
        ({"comms": b"nginx"}, "comms: b'nginx' is neither text nor a number"),
        ({"realtime": "no"}, "realtime: 'no' is no answer to yes or no"),
        ({"tids": ["\x1b[31m"]}, "tids: "),
    ],
)
def test_arguments_are_checked_at_once(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(tracectl.UserError) as caught:
        tracectl.record(tmp_path / "x.parquet", **wrong)
    assert caught.value.problem.startswith(told)
    assert "\x1b" not in str(caught.value)


def test_the_docstring_names_every_keyword_and_group() -> None:
    words = set(re.findall(r"\w+", (tracectl.record.__doc__ or "").partition("Args:")[2]))
    groups = set(GROUPS) - {"runq"}  # which is what min_delay records
    assert groups | set(inspect.signature(tracectl.record).parameters) <= words


def test_a_flight_recorder_needs_another_limit_than_its_size(tmp_path: Path) -> None:
    recording = tracectl.record(tmp_path / "flight", keep="1m", max_size="1G")
    with pytest.raises(tracectl.UserError, match="would never end"):
        recording.run()


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
    options = recorder_has(tracectl.record(tmp_path / "x.parquet", events="sched,irq", pids=[7], duration=0.5))
    line = "tracectl record -o x.parquet -d 0.5 -e sched,irq -p 7"
    assert options.command_line == tuple(line.split()) and options.pids == (7,)
    assert options.output == tmp_path / "x.parquet" and options.duration_ns == 500_000_000


def test_without_root_it_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may record: tests/kernel has that")
    with pytest.raises(tracectl.RecordError, match="needs root"):
        tracectl.record(tmp_path / "x.parquet", duration="1s").run()
