"""Clocks of Perfetto traces: times that count on from the packet before, units; the times that Perfetto tells."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.query import ask
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import TracectlError

proto: Any = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the perfetto package is not installed"
)
BEGIN, END, INSTANT = 1, 2, 3
CLEARED, NEEDS = 1, 2
REALTIME, MONOTONIC, BOOTTIME, INCREMENTAL, ABSOLUTE, OWN = 1, 3, 6, 64, 65, 128
TRACK = 10
INSTANTS = "events instant | sort ts | select ts, name"


def imported(folder: Path, made: Any) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(made.SerializeToString())
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


class Made:
    """A trace in the making, as programs with Perfetto's SDK write it: every call adds a packet."""

    def __init__(self) -> None:
        self.trace = proto.Trace()
        thread = {"pid": 7, "tid": 71, "thread_name": "work"}
        self.packet(99, track_descriptor={"uuid": TRACK, "thread": thread})

    def packet(self, sequence: int, **fields: Any) -> Any:
        return self.trace.packet.add(trusted_packet_sequence_id=sequence, **fields)

    def clear(self, sequence: int, boottime: int, own: int, unit: int = 1, clock: int = INCREMENTAL) -> None:
        """What the SDK writes when it begins anew: cleared state, the default clock, a snapshot."""
        shown = [
            {"clock_id": BOOTTIME, "timestamp": boottime},
            {"clock_id": INCREMENTAL, "timestamp": own, "is_incremental": True, "unit_multiplier_ns": unit},
            {"clock_id": ABSOLUTE, "timestamp": own, "is_incremental": False, "unit_multiplier_ns": unit},
        ]
        packet = self.packet(sequence, sequence_flags=CLEARED, clock_snapshot={"clocks": shown})
        packet.trace_packet_defaults.timestamp_clock_id = clock

    def instant(self, sequence: int, timestamp: int, name: str, **packet: Any) -> None:
        event = {"type": INSTANT, "track_uuid": TRACK, "name": name}
        self.packet(sequence, timestamp=timestamp, sequence_flags=NEEDS, track_event=event, **packet)


def test_times_are_added_up_on_each_sequence(tmp_path: Path) -> None:
    made = Made()
    made.clear(1, 5000, 100)
    made.clear(2, 6000, 3, unit=1000)
    made.instant(1, 10, "a")  # 100 + 10
    made.instant(2, 2, "b")  # 3,000 + 2,000
    made.packet(1, timestamp=5)  # any packet moves the clock
    made.instant(1, 1, "c")
    made.instant(1, 130, "absolute", timestamp_clock_id=ABSOLUTE)  # which moves nothing
    made.instant(1, 1, "d")
    made.clear(1, 9000, 700)
    made.instant(1, 4, "e")
    outcome, capture = imported(tmp_path, made.trace)
    rows = [(5010, "a"), (5016, "c"), (5017, "d"), (5030, "absolute"), (8000, "b"), (9004, "e")]
    assert ask(capture, INSTANTS).rows() == rows
    assert outcome.not_kept == {}


def test_behind_a_loss_the_clock_is_not_known_until_the_next_snapshot(tmp_path: Path) -> None:
    made = Made()
    made.clear(1, 5000, 100)
    made.instant(1, 10, "a")
    for dropped in (1, 0):
        event = {"type": INSTANT, "track_uuid": TRACK, "name": "lost"}
        made.packet(1, timestamp=10, previous_packet_dropped=dropped, track_event=event, timestamp_clock_id=INCREMENTAL)
    made.clear(1, 7000, 500)
    made.instant(1, 1, "b")
    outcome, capture = imported(tmp_path, made.trace)
    assert ask(capture, INSTANTS).rows()[0][:2] == (5010, "a")
    assert [row[:2] for row in ask(capture, INSTANTS).rows()] == [(5010, "a"), (7001, "b")]
    assert [row[:2] for row in ask(capture, "lost | select from_ts, ts").rows()] == [(5010, 7001)]
    assert outcome.not_kept == {"packets of track_event in the clock 64, of which no snapshot tells the time": 2}


def test_slices_are_paired_over_clocks(tmp_path: Path) -> None:
    made = Made()
    made.clear(1, 5000, 100)
    made.packet(1, timestamp=10, track_event={"type": BEGIN, "track_uuid": TRACK, "name": "x"})
    made.packet(2, timestamp=5040, track_event={"type": END, "track_uuid": TRACK})
    assert ask(imported(tmp_path, made.trace)[1], "events slice | select ts, dur, name").rows() == [(5010, 30, "x")]


def test_a_clock_of_all_by_the_last_snapshot_before_a_time(tmp_path: Path) -> None:
    made = Made()
    for boottime, monotonic in ((1000, 500), (5000, 2500)):  # the machine slept in between
        shown = [{"clock_id": BOOTTIME, "timestamp": boottime}, {"clock_id": MONOTONIC, "timestamp": monotonic}]
        made.packet(1, clock_snapshot={"clocks": shown})
    own = {"clock_id": INCREMENTAL, "timestamp": 9, "is_incremental": True}
    made.packet(3, clock_snapshot={"clocks": [{"clock_id": MONOTONIC, "timestamp": 2600}, own]})
    for timestamp in (400, 600, 2499, 2500, 2600):
        event = {"type": INSTANT, "track_uuid": TRACK, "name": str(timestamp)}
        made.packet(2, timestamp=timestamp, timestamp_clock_id=MONOTONIC, track_event=event)
    event = {"type": INSTANT, "track_uuid": TRACK, "name": "twice removed"}
    made.packet(3, timestamp=2, timestamp_clock_id=INCREMENTAL, track_event=event)
    made.packet(3, timestamp=2, timestamp_clock_id=REALTIME, track_event=event)
    outcome, capture = imported(tmp_path, made.trace)
    rows = [(900, "400"), (1100, "600"), (2999, "2499"), (5000, "2500"), (5100, "2600"), (5102, "twice removed")]
    assert ask(capture, INSTANTS).rows() == rows
    assert outcome.not_kept == {"packets of track_event in the clock 1, of which no snapshot tells the time": 1}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.binary(max_size=30), st.integers(0, 30))
def test_damaged_traces(at: int, junk: bytes, cut: int) -> None:
    made = Made()
    made.clear(1, 5000, 100, unit=1000)
    made.instant(1, 10, "a")
    made.clear(2, 6000, 1 << 40)
    made.instant(2, 1, "b")
    data = made.trace.SerializeToString()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in"
        source.write_bytes(data[:at] + junk + data[at + cut :])
        try:
            outcome = import_traces(ImportOptions((str(source),), Path(name) / "out.parquet"))
        except TracectlError as error:
            assert error.problem
            return
        found = ask(Capture.open(outcome.path), "events | count by kind").rows()
        assert {kind: count for kind, count, *_ in found}.get("instant", 0) == outcome.totals.events.get("instant", 0)


def test_as_the_trace_processor(tmp_path: Path, trace_processor: Callable[[Path, str], list[tuple[str, ...]]]) -> None:
    """Many sequences with clocks, units and snapshots of their own, and clocks of all, in one file."""
    chance, made = random.Random(4), Made()
    now = 10**12
    for sequence in range(1, 9):
        made.clear(sequence, now + sequence, chance.randrange(10**9), chance.choice([1, 1000]))
    for number in range(600):
        now += chance.randrange(10**6)
        sequence = chance.randrange(1, 9)
        what = chance.randrange(10)
        name = f"event {number}"
        if what == 0:
            shown = [(BOOTTIME, now), (MONOTONIC, now - 10**11 - number), (OWN, now // 7)]
            made.packet(20, clock_snapshot={"clocks": [{"clock_id": c, "timestamp": t} for c, t in shown]})
        elif what == 1:
            event = {"type": INSTANT, "track_uuid": TRACK, "name": name}
            made.packet(21, timestamp=now, track_event=event)
        elif what == 2 and number > 100:
            event = {"type": INSTANT, "track_uuid": TRACK, "name": name}
            made.packet(21, timestamp=now - 10**11, timestamp_clock_id=MONOTONIC, track_event=event)
        elif what == 3:
            made.packet(sequence, timestamp=chance.randrange(50))
        else:
            made.instant(sequence, chance.randrange(10**5), name)
    outcome, capture = imported(tmp_path, made.trace)
    (tmp_path / "trace").write_bytes(made.trace.SerializeToString())
    told = [
        (int(ts), name) for ts, name in trace_processor(tmp_path / "trace", "SELECT ts, name FROM slice ORDER BY ts")
    ]
    assert len(told) > 400
    assert sorted(ask(capture, "events instant | select ts, name").rows()) == sorted(told)
    assert outcome.not_kept == {}
