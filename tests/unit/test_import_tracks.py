"""Perfetto's track events: pairs, names, tracks, counters, clocks, losses, and traces that are damaged."""

from __future__ import annotations

import tempfile
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
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
CLEARED, NEEDS = 1, 2
THREAD, PROCESS, NAMED, COUNTS = 10, 11, 12, 13
SLICES = "events slice | sort ts | select ts, dur, name, tid"


class Made:
    """A trace in the making: every call adds a packet."""

    def __init__(self) -> None:
        self.trace = proto.Trace()

    def packet(self, sequence: int = 1, **fields: Any) -> Any:
        return self.trace.packet.add(trusted_packet_sequence_id=sequence, **fields)

    def event(self, ts: int, type_: int, sequence: int = 1, packet: dict[str, Any] | None = None, **own: Any) -> Any:
        own.setdefault("track_uuid", THREAD)
        return self.packet(sequence, timestamp=ts, track_event={"type": type_, **own}, **(packet or {}))

    def tracks(self) -> Made:
        thread = {"pid": 7, "tid": 71, "thread_name": "work"}
        self.packet(track_descriptor={"uuid": THREAD, "thread": thread})
        self.packet(track_descriptor={"uuid": PROCESS, "process": {"pid": 8, "cmdline": ["x"]}})
        self.packet(track_descriptor={"uuid": NAMED, "parent_uuid": PROCESS, "name": "requests"})
        counter = {"unit_multiplier": 1000}
        self.packet(track_descriptor={"uuid": COUNTS, "name": "queue", "counter": counter})
        return self

    def imported(self, folder: Path) -> tuple[Imported, Capture]:
        return imported(folder, self.trace.SerializeToString())


def imported(folder: Path, data: bytes) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(data)
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


def whole() -> Made:
    """Two slices in one another, one without an end, instants, a counter, tracks described behind their events."""
    made = Made()
    made.event(1000, BEGIN, name="outer", categories=["a", "b"])
    made.event(1200, BEGIN, name="inner")
    made.event(1300, INSTANT, track_uuid=NAMED, name="hit")
    made.event(1500, END)
    made.event(1600, COUNTER, track_uuid=COUNTS, counter_value=3)
    made.event(1700, COUNTER, track_uuid=COUNTS, double_counter_value=0.25)
    made.event(2000, END)
    made.event(2100, BEGIN, track_uuid=PROCESS, name="open")
    return made.tracks()


def test_slices_instants_and_counters(tmp_path: Path) -> None:
    outcome, capture = whole().imported(tmp_path)
    question = "events slice | sort ts | select ts, dur, name, pid, tid, comm"
    assert ask(capture, question).rows() == [
        (1000, 1000, "outer", 7, 71, "work"), (1200, 300, "inner", 7, 71, "work"), (2100, None, "open", 8, None, None),
    ]  # fmt: skip
    assert ask(capture, "events slice | sort ts | select cat | limit 1").rows() == [("a,b",)]
    assert ask(capture, "events instant | select ts, name, track, pid, tid").rows() == [
        (1300, "hit", "requests", 8, None)
    ]
    assert ask(capture, "events counter | select name, value").rows() == [("queue", 3000), ("queue", 250)]
    assert ask(capture, "events counter | sum value").rows() == [(3250,)]
    assert outcome.not_kept == {}
    assert outcome.totals.events == {"slice": 3, "instant": 1, "counter": 2}


def test_order_of_packets_is_not_that_of_time(tmp_path: Path) -> None:
    """Two sequences write one track; the file has the second first."""
    made = Made().tracks()
    made.event(2000, END, sequence=2)
    made.event(1000, BEGIN, sequence=1, name="x")
    assert ask(made.imported(tmp_path)[1], SLICES).rows() == [(1000, 1000, "x", 71)]


def test_an_end_with_a_name_ends_that_slice(tmp_path: Path) -> None:
    made = Made().tracks()
    made.event(1, BEGIN, name="outer")
    made.event(2, BEGIN, name="inner")
    made.event(9, END, name="outer")
    made.event(11, END, name="other")
    outcome, capture = made.imported(tmp_path)
    assert ask(capture, SLICES).rows() == [(1, 8, "outer", 71), (2, None, "inner", 71)]
    assert outcome.not_kept == {"packets of track_event that ends a slice whose begin was not seen": 1}


def test_names_and_defaults_are_those_of_the_sequence_until_it_clears_them(tmp_path: Path) -> None:
    made = Made().tracks()
    for sequence, name in ((1, "one"), (2, "two")):
        made.packet(
            sequence,
            sequence_flags=CLEARED,
            interned_data={"event_names": [{"iid": 5, "name": name}]},
            trace_packet_defaults={"track_event_defaults": {"track_uuid": THREAD if sequence == 1 else NAMED}},
        )
    for ts, sequence in ((10, 1), (20, 2)):
        event = {"type": INSTANT, "name_iid": 5}
        made.packet(sequence, timestamp=ts, sequence_flags=NEEDS, track_event=event)
    made.event(30, INSTANT, name_iid=5, packet={"sequence_flags": CLEARED})
    made.event(40, INSTANT, sequence=2, name_iid=5)
    rows = ask(made.imported(tmp_path)[1], "events instant | sort ts | select ts, name, tid, track").rows()
    assert rows == [(10, "one", 71, None), (20, "two", None, "requests"), (30, None, 71, None), (40, "two", 71, None)]


def test_other_clocks_are_counted_and_spoil_their_pairs(tmp_path: Path) -> None:
    made = Made().tracks()
    made.event(10, BEGIN, name="a", packet={"timestamp_clock_id": 6})
    made.event(3, END, packet={"timestamp_clock_id": 64})
    made.event(20, END)
    made.packet(2, sequence_flags=CLEARED, trace_packet_defaults={"timestamp_clock_id": 3})
    made.event(30, INSTANT, sequence=2, name="x")
    made.event(40, INSTANT, sequence=2, name="y", packet={"timestamp_clock_id": 6})
    outcome, capture = made.imported(tmp_path)
    assert ask(capture, SLICES).rows() == [(10, None, "a", 71)]
    assert ask(capture, "events instant | select ts, name").rows() == [(40, "y")]
    assert outcome.not_kept == {
        "packets of track_event in the clock 64, of which no snapshot tells the time": 1,
        "packets of track_event in the clock 3, of which no snapshot tells the time": 1,
    }  # fmt: skip


def test_nothing_is_paired_over_a_loss(tmp_path: Path) -> None:
    """Behind it, names count again once the sequence has cleared its state."""
    made = Made().tracks()
    dropped = {"previous_packet_dropped": 1}
    made.event(5, INSTANT, sequence=2, name="first", packet=dropped)  # a sequence's first packet: no loss
    made.event(10, BEGIN, name="a")
    made.event(20, BEGIN, name="b", packet={"interned_data": {"event_names": [{"iid": 5, "name": "old"}]}})
    made.event(30, END, packet={**dropped, "sequence_flags": NEEDS}, name_iid=5)
    made.event(40, END, packet={"sequence_flags": CLEARED})
    made.event(50, BEGIN, name="c")
    made.event(60, END)
    made.event(70, INSTANT, name_iid=5)
    outcome, capture = made.imported(tmp_path)
    assert ask(capture, SLICES).rows() == [(10, None, "a", 71), (20, None, "b", 71), (50, 10, "c", 71)]
    assert ask(capture, "lost | select from_ts, ts, lost_count").rows() == [(20, 40, None)]
    assert ask(capture, "events instant | sort ts | select name").rows() == [("first",), (None,)]
    assert outcome.not_kept == {"packets of track_event whose names and defaults were lost": 1}


def test_a_loss_behind_which_nothing_is_read_reaches_to_the_end(tmp_path: Path) -> None:
    made = Made().tracks()
    made.event(10, BEGIN, name="a")
    made.packet(previous_packet_dropped=1)
    made.event(50, INSTANT, sequence=2, name="last")
    assert ask(made.imported(tmp_path)[1], "lost | select from_ts, ts").rows() == [(10, 50)]


def test_a_packet_that_cannot_be_read_is_a_loss(tmp_path: Path) -> None:
    made = Made().tracks()
    made.event(10, BEGIN, name="a")
    broken = b"\x0a\x03\xff\xff\xff"
    later = Made()
    later.event(90, END)
    outcome, capture = imported(tmp_path, made.trace.SerializeToString() + broken + later.trace.SerializeToString())
    assert outcome.totals.unparsed == 1
    assert ask(capture, SLICES).rows() == [(10, None, "a", 71)]
    assert ask(capture, "lost | select from_ts, ts").rows() == [(10, 90)]
    assert ask(capture, "events unparsed | select ts").rows() == [(10,)]


def test_what_is_not_kept_is_counted(tmp_path: Path) -> None:
    made = Made().tracks()
    made.packet(track_descriptor={"uuid": 20, "name": "sum", "counter": {"is_incremental": True}})
    made.packet(track_descriptor={"uuid": 30, "parent_uuid": 31, "name": "circle"})
    made.packet(track_descriptor={"uuid": 31, "parent_uuid": 30})
    made.event(1, COUNTER, track_uuid=20, counter_value=1)
    made.event(2, COUNTER, track_uuid=99, counter_value=1)
    made.event(3, INSTANT, track_uuid=30, debug_annotations=[{"name": "k", "int_value": 1}])
    made.packet(track_event={"type": INSTANT, "name": "no time"})
    outcome, capture = made.imported(tmp_path)
    assert ask(capture, "events instant | select track, pid").rows() == [("circle", None)]
    assert outcome.not_kept == {
        "packets of track_event of counters whose values are differences or not described": 2,
        "packets of track_event with debug_annotations, which are not kept": 1,
        "packets of track_event without a time": 1,
    }


@settings(max_examples=60)
@given(st.integers(0, 400), st.binary(max_size=30), st.integers(0, 30))
def test_damaged_traces(at: int, junk: bytes, cut: int) -> None:
    data = whole().trace.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome, capture = imported(Path(folder), data[:at] + junk + data[at + cut :])
        except TracectlError as error:
            assert error.problem
            return
        # With losses the answer has more columns.
        counts = {kind: n for kind, n, *_ in ask(capture, "events | count by kind").rows()}
        for kind in ("slice", "instant", "counter"):
            assert counts.get(kind, 0) == outcome.totals.events.get(kind, 0)
