"""A trigger finds what a segment and the one before hold together, once, and keeps what surrounds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracectl.recorder.session import RecordOptions
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, QueryError, UserError
from tracectl.store.events import KINDS
from tracectl.store.writer import write_rows
from tracectl.trigger import Trigger, Watch, Watcher

SECOND = 10**9
SCHED = [KINDS["sched_switch"], KINDS["sched_waking"]]
RUNS = "runs of tid 7 over 500ms"


class Flight:
    """A flight recorder's directory that grows by a segment of one second at each call."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "flight"
        self.directory.mkdir()
        self.number = 0

    def segment(self, *switches: tuple[float, int, int]) -> None:
        """Seconds since the segment's begin, thread that leaves CPU 0, thread that gets it."""
        begin = self.number * SECOND
        self.number += 1
        rows: list[dict[str, Any]] = [
            {
                "kind": "sched_switch", "ts": begin + int(at * SECOND), "cpu": 0, "tid": left, "pid": left, "comm": "x",
                "prev_prio": 120, "prev_state": "S", "next_tid": came, "next_prio": 120, "next_comm": "y",
                "seq": 1000 * self.number + n,
            }
            for n, (at, left, came) in enumerate(switches)
        ]  # fmt: skip
        path = self.directory / f"{self.number:06d}.parquet"
        kinds = [event.kind for event in SCHED]
        write_rows(path, rows, kinds=kinds, start_ts=begin, end_ts=begin + SECOND - 1, breaks_declared=True)

    def snapshots(self) -> list[tuple[int, int]]:
        """Begin and end, in seconds."""
        made = sorted(self.directory.parent.glob("flight-*.parquet"))
        opened = [Capture.open(path) for path in made]
        return [(one.start_ts // SECOND, (one.end_ts + 1) // SECOND) for one in opened]


@pytest.fixture
def flight(tmp_path: Path) -> Flight:
    return Flight(tmp_path)


def watch(flight: Flight, notes: list[str], pause: int = 0) -> Watch:
    return Watch(flight.directory, Trigger(RUNS, 2 * SECOND, pause * SECOND), notes.append)


def test_what_goes_over_a_border_is_found_and_surrounded(flight: Flight) -> None:
    notes: list[str] = []
    watched = watch(flight, notes)
    for _ in range(4):
        flight.segment((0.5, 1, 0))
        watched.look()
    flight.segment((0.7, 0, 7))  # gets the CPU in the fifth second …
    watched.look()
    flight.segment((0.4, 7, 0))  # … and leaves it in the sixth
    watched.look()
    flight.segment()
    watched.look()
    assert not flight.snapshots()  # what comes after is still to come
    flight.segment()
    watched.look()
    assert flight.snapshots() == [(2, 8)]
    assert "1 row" in notes[0]


def test_a_row_is_a_hit_once(flight: Flight) -> None:
    notes: list[str] = []
    watched = watch(flight, notes)
    flight.segment((0.1, 0, 7), (0.9, 7, 0))
    for _ in range(12):
        flight.segment()
        watched.look()
    assert len(notes) == len(flight.snapshots()) == 1


def test_no_second_snapshot_in_the_pause(flight: Flight, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = iter(range(100))
    monkeypatch.setattr("tracectl.trigger.time.strftime", lambda _: f"{next(stamps):03d}")
    notes: list[str] = []
    watched = watch(flight, notes, pause=10)
    for _ in range(30):
        flight.segment((0.1, 0, 7), (0.9, 7, 0))
        watched.look()
    # The first hit is in the first second, its snapshot made two later; ten on, two seconds can hit again: 11 and 12.
    assert flight.snapshots() == [(0, 3), (9, 15), (21, 27)]


def test_segments_that_are_dropped_meanwhile_are_no_error(flight: Flight) -> None:
    notes: list[str] = []
    watched = watch(flight, notes)
    flight.segment((0.1, 0, 7), (0.9, 7, 0))
    path = flight.directory / "000001.parquet"
    plain = os.link
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", lambda *names: (path.unlink(), plain(*names)))
        watched.look()
    flight.segment()
    watched.look()
    assert not notes


def test_what_was_hit_at_the_end_is_kept(flight: Flight) -> None:
    notes: list[str] = []
    flight.segment((0.1, 0, 7), (0.9, 7, 0))
    watch(flight, notes).run()  # nobody holds the directory's lock: the recording is over
    assert flight.snapshots() == [(0, 1)]


def test_it_looks_as_long_as_the_recording_runs(flight: Flight, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = os.open(flight.directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    steps: Iterator[Any] = iter([lambda: flight.segment((0.1, 0, 7), (0.9, 7, 0)), lambda: os.close(lock)])
    monkeypatch.setattr("tracectl.trigger.time.sleep", lambda _: next(steps)())
    notes: list[str] = []
    watch(flight, notes).run()
    assert len(notes) == 1


def test_a_snapshot_that_fails_is_told(flight: Flight, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tracectl.trigger.snapshot", full)
    notes: list[str] = []
    flight.segment((0.1, 0, 7), (0.9, 7, 0))
    watch(flight, notes).run()
    assert "No space left" in notes[0]


@pytest.mark.parametrize(
    ("question", "error", "about"),
    [
        ("delays over", QueryError, "too early"),
        ("runs | count", UserError, "always has a row"),
        ("softirqs over 1ms", QueryError, "not recorded"),
    ],
)
def test_mistakes_are_found_before_the_recording(question: str, error: type[UserError], about: str) -> None:
    with pytest.raises(error, match=about):
        Trigger(question, SECOND, SECOND).check(SCHED)
    Trigger("delays over 50ms", SECOND, SECOND).check(SCHED)
    Trigger("delays | count by comm", SECOND, SECOND).check(SCHED)


def test_late_waits_are_enough_for_a_question_about_late_waits() -> None:
    late = [KINDS["runq_delay"]]
    Trigger("delays over 50ms", SECOND, SECOND).check(late, 1_000_000)
    with pytest.raises(NotRecordedError, match="only delays over 1ms"):
        Trigger("delays over 500us", SECOND, SECOND).check(late, 1_000_000)


def test_a_trigger_needs_segments_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--keep"):
        Watcher(RecordOptions(tmp_path / "x.parquet"), Trigger("delays over 50ms", SECOND, SECOND), print)
