"""The flight recorder drops whole oldest segments, and what it keeps adds up; the unit that runs it."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from tests.unit.test_recorder_recovery import SCHEMA, SECOND, consistent, footer, rows
from tracectl.cli import main
from tracectl.recorder.flight import Flight, Keep
from tracectl.recorder.session import RecordOptions, _check_output
from tracectl.recorder.settlement import Settlement
from tracectl.store.capture import Capture
from tracectl.store.errors import UserError
from tracectl.store.footer import LedgerLine
from tracectl.store.writer import SegmentWriter

ROOT = Path(__file__).parents[2]


def flown(folder: Path, keep: Keep, segments: int) -> tuple[Flight, SegmentWriter]:
    """A directory after so many segments of one second and ten rows each."""
    writer = SegmentWriter(folder / "flight", SCHEMA, stay=True)
    flight = Flight(keep, writer)
    for n in range(segments):
        lines = [LedgerLine("task", 0, 10, 10, 0)]
        end = (n + 1) * SECOND - 1
        writer.write(rows(n * SECOND, 10, 10 * n + 1), footer(n * SECOND, end, *lines))
        flight.wrote(end, lines)
    return flight, writer


def test_what_is_older_goes_and_the_rest_adds_up(tmp_path: Path) -> None:
    flight, writer = flown(tmp_path, Keep(5 * SECOND), 12)
    capture = consistent(writer.directory)
    assert (capture.start_ts, capture.end_ts) == (7 * SECOND, 12 * SECOND - 1)
    assert [file.stem for file in capture.files] == [f"{n:06d}" for n in range(8, 13)]
    assert capture.ledger() == [LedgerLine("task", 0, 50, 50, 0)]
    assert flight.dropped == [LedgerLine("task", 0, 70, 70, 0)]
    whole = [LedgerLine("task", 0, 120, 120, 0), LedgerLine("irq", 0, 3, 3, 0)]
    left = Settlement().without(whole, flight.dropped)
    assert left == [LedgerLine("task", 0, 50, 50, 0), LedgerLine("irq", 0, 3, 3, 0)]
    assert writer.finish(footer(0, 1)) == writer.directory
    assert writer.directory.is_dir()


def test_a_size_is_kept_but_never_less_than_the_newest_segment(tmp_path: Path) -> None:
    _, writer = flown(tmp_path, Keep(1000 * SECOND, 1), 5)
    assert [path.stem for path in writer.segments] == ["000005"]
    one = writer.bytes_written
    (tmp_path / "b").mkdir()
    _, writer = flown(tmp_path / "b", Keep(1000 * SECOND, 3 * one + 100), 9)
    assert [path.stem for path in writer.segments] == ["000007", "000008", "000009"]
    assert writer.bytes_written <= 3 * one + 100


@pytest.mark.parametrize(("keep", "segment"), [(1, 1), (60, 1), (600, 5), (86_400, 10)])
def test_segments_are_as_long_as_suits(keep: int, segment: int) -> None:
    assert Keep(keep * SECOND).segment_ns == segment * SECOND


def test_the_millionth_segment_comes_after_those_before_it(tmp_path: Path) -> None:
    _, writer = flown(tmp_path, Keep(100 * SECOND), 2)
    writer.segments[0].rename(writer.directory / "999999.parquet")
    writer.segments[1].rename(writer.directory / "1000000.parquet")
    assert [file.stem for file in Capture.open(writer.directory).files] == ["999999", "1000000"]


def test_an_earlier_recording_is_set_aside_only_if_it_is_one(tmp_path: Path) -> None:
    options = RecordOptions(tmp_path / "flight", keep_ns=SECOND)
    _check_output(options)
    _, writer = flown(tmp_path, Keep(100 * SECOND), 2)
    with pytest.raises(UserError, match="another recording is running"):
        _check_output(options)
    del writer, _
    with pytest.raises(UserError, match="exists") as refused:
        _check_output(options)
    assert "--force" in refused.value.remedy
    _check_output(RecordOptions(tmp_path / "flight", keep_ns=SECOND, force=True))
    assert not (tmp_path / "flight").exists()
    assert len(list((tmp_path / "flight.before").iterdir())) == 2
    (tmp_path / "flight").mkdir()
    (tmp_path / "flight" / "letters.txt").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        _check_output(RecordOptions(tmp_path / "flight", keep_ns=SECOND, force=True))
    assert (tmp_path / "flight" / "letters.txt").read_text() == "mine"


def test_the_example_unit_runs_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "examples" / "tracectl-flight.service")
    program, command, *words = unit["Service"]["ExecStart"].split()
    assert (program.rpartition("/")[2], command) == ("tracectl", "record")
    assert main([command, "--help"]) == 0
    known = capsys.readouterr().out
    assert [word for word in words if word.startswith("-") and word not in known] == []
    assert "--keep" in words and "--force" in words
