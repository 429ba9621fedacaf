"""Perfetto's track events: slices, instants and counters that programs wrote, their names, tracks and losses.

What a packet means depends on the packets before it of the same sequence (interned names, defaults); after a loss it is
known again once the sequence clears that state. Tracks may be described behind their events, and sequences are not in
the order of time: slices are paired at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tracectl.recorder.import_clocks import BOOTTIME, Clocks

Row = dict[str, Any]
TRACK_PACKETS = ("track_event", "track_descriptor")  # packets that are read here
_CLEARED, _NEEDS_STATE = 1, 2  # bits of sequence_flags (trace_packet.proto)
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_EXACT = 1 << 53
_MOST_PARENTS = 64  # a damaged trace may hold a circle


class _Event(NamedTuple):
    ts: int
    type: int
    track: int
    name: str | None
    cat: str | None
    value: int | float | None


@dataclass
class _Sequence:
    """What the packets of one sequence have told so far; ``last``: time of its latest event, None before the first."""

    names: dict[int, str] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    clock: int = BOOTTIME
    track: int = 0
    valid: bool = False
    last: int | None = None
    lost: bool = False
    tells: bool = False  # it has track events or descriptors

    def forget(self, *, valid: bool) -> None:
        """Drop the incremental state; valid: a new one begins here."""
        self.names, self.categories = {}, {}
        self.clock, self.track, self.valid = BOOTTIME, 0, valid


class Tracks:
    """Takes the packets of one trace in the order of the file.

    Args:
        passed_over: where what is not kept is counted.
        threads: tid -> (pid, name), of the process tree.

    Attributes:
        last_ts: time of the latest event in the file's order; None: there was none yet.
    """

    def __init__(self, passed_over: Counter[str], threads: dict[int, tuple[int | None, str | None]]) -> None:
        self.last_ts: int | None = None
        self._passed_over = passed_over
        self._threads = threads
        self._sequences: dict[int, _Sequence] = {}
        self._descriptors: dict[int, Any] = {}
        self._events: list[_Event] = []
        self._losses: list[Row] = []
        self._clocks = Clocks()
        self._unsure: set[int] = set()  # tracks of which a begin or an end could not be read

    def take(self, packet: Any, *, dropped: bool) -> None:
        """Note what a packet tells of its sequence, and its event or descriptor if it has one.

        Args:
            dropped: packets of the sequence before it were lost.
        """
        number = packet.trusted_packet_sequence_id
        sequence = self._sequences.setdefault(number, _Sequence())
        if dropped:
            self._forget(number, valid=False)
        if packet.sequence_flags & _CLEARED or packet.incremental_state_cleared:
            self._forget(number, valid=True)
        sequence.names.update((entry.iid, entry.name) for entry in packet.interned_data.event_names)
        sequence.categories.update((entry.iid, entry.name) for entry in packet.interned_data.event_categories)
        if packet.HasField("trace_packet_defaults"):
            defaults = packet.trace_packet_defaults
            sequence.clock = defaults.timestamp_clock_id if defaults.HasField("timestamp_clock_id") else BOOTTIME
            sequence.track = defaults.track_event_defaults.track_uuid
        what = packet.WhichOneof("data")
        sequence.tells = sequence.tells or what in TRACK_PACKETS
        if what == "clock_snapshot":  # its own time moves no clock
            self._clocks.snapshot(number, packet.clock_snapshot.clocks)
            return
        clock = packet.timestamp_clock_id if packet.HasField("timestamp_clock_id") else sequence.clock
        ts = self._clocks.boottime(number, clock, packet.timestamp) if packet.HasField("timestamp") else None
        if what == "track_descriptor":
            self._describe(packet.track_descriptor)
        elif what == "track_event":
            self._event(packet, sequence, ts, clock)

    def unread(self) -> None:
        """A packet could not be read: it may have been of any sequence, and have changed its state."""
        for number in self._sequences:
            self._forget(number, valid=False)

    def _forget(self, number: int, *, valid: bool) -> None:
        sequence = self._sequences[number]
        sequence.forget(valid=valid)
        sequence.lost |= not valid
        self._clocks.forget(number)

    def _describe(self, descriptor: Any) -> None:
        # A track is described again and again; a later descriptor may name it anew, or name it alone.
        known = self._descriptors.setdefault(descriptor.uuid, descriptor)
        if known is not descriptor:
            if descriptor.HasField("process"):
                known.process.ClearField("cmdline")  # the lists of two are joined
            known.MergeFrom(descriptor)

    def _event(self, packet: Any, sequence: _Sequence, ts: int | None, clock: int) -> None:
        event = packet.track_event
        track = event.track_uuid if event.HasField("track_uuid") else sequence.track
        problem = _unreadable(packet, sequence, ts, clock)
        if ts is None or problem:
            self._passed_over[problem] += 1
            if event.type in (_BEGIN, _END) and not sequence.lost:
                self._unsure.add(track)
            return
        self.last_ts = ts
        if sequence.lost:
            self._lose(sequence, ts)
        sequence.last = max(ts, sequence.last or 0)
        for rest in ("debug_annotations", "flow_ids", "extra_counter_values", "extra_double_counter_values"):
            if getattr(event, rest):
                self._passed_over[f"track_event with {rest}, which are not kept"] += 1
        name = event.name if event.HasField("name") else sequence.names.get(event.name_iid)
        found = [*event.categories, *(sequence.categories.get(iid) for iid in event.category_iids)]
        value = getattr(event, event.WhichOneof("counter_value_field") or "counter_value")
        cat = ",".join(text for text in found if text) or None
        self._events.append(_Event(ts, event.type, track, name, cat, value))

    def _lose(self, sequence: _Sequence, ts: int) -> None:
        since = None if sequence.last is None else min(sequence.last, ts)
        self._losses.append({"kind": "lost", "ts": ts, "cpu": None, "from_ts": since, "cause": "ring_full"})
        sequence.lost = False

    def rows(self) -> list[Row]:
        """All rows, when every packet was taken; a slice without an end has a null ``dur``."""
        self._events.sort(key=lambda event: event.ts)
        for sequence in self._sequences.values():
            if sequence.lost and sequence.tells and self._events:  # nothing was read behind the loss
                self._lose(sequence, self._events[-1].ts)
        return [*self._losses, *self._paired()]

    def _paired(self) -> Iterator[Row]:
        begun: dict[int, list[Row]] = defaultdict(list)
        tracks: dict[int, Row] = {}
        for event in self._events:
            if event.track not in tracks:
                tracks[event.track] = self._track(event.track)
            row = {"ts": event.ts, "cpu": None, "name": event.name, "cat": event.cat, **tracks[event.track]}
            if event.type == _BEGIN:
                begun[event.track].append({**row, "kind": "slice", "dur": None})
            elif event.type == _END:
                yield from self._end(event, begun[event.track])
            elif event.type == _INSTANT:
                yield {**row, "kind": "instant"}
            else:
                yield from self._counter(event, row)
        for rows in begun.values():
            yield from rows

    def _end(self, event: _Event, begun: list[Row]) -> list[Row]:
        """The innermost slice of the name ends; what was begun inside of it has no end."""
        names = (None, "")
        matching = (at for at in reversed(range(len(begun))) if event.name in names or event.name == begun[at]["name"])
        place = next(matching, None)
        if place is None:
            self._passed_over["track_event that ends a slice whose begin was not seen"] += 1
            return []
        ended, *inside = begun[place:]
        del begun[place:]
        dur = None if event.track in self._unsure else event.ts - ended["ts"]
        return [{**ended, "dur": dur}, *inside]

    def _counter(self, event: _Event, row: Row) -> list[Row]:
        descriptor = self._descriptors.get(event.track)
        if descriptor is None or not descriptor.HasField("counter") or descriptor.counter.is_incremental:
            self._passed_over["track_event of counters whose values are differences or not described"] += 1
            return []
        value = event.value * (descriptor.counter.unit_multiplier or 1) if event.value is not None else None
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
            value = int(value)  # "250.0" would make a text of the column
        # The track is the counter.
        return [{**row, "kind": "counter", "name": row["track"] or row["name"], "track": None, "value": value}]

    def _track(self, uuid: int) -> Row:
        """Whose a track is, by itself or the nearest track above it, and its name if it is none of a thread."""
        own: Row = {"pid": None, "tid": None, "comm": None, "track": None}
        descriptor = self._descriptors.get(uuid)
        if descriptor is not None and not (descriptor.HasField("thread") or descriptor.HasField("process")):
            own["track"] = descriptor.name or descriptor.static_name or descriptor.atrace_name or None
        for _ in range(_MOST_PARENTS):
            if descriptor is None:
                break
            if descriptor.HasField("thread"):
                thread = descriptor.thread
                name = thread.thread_name or self._threads.get(thread.tid, (None, None))[1]
                return {**own, "pid": thread.pid, "tid": thread.tid, "comm": name}
            if descriptor.HasField("process"):
                return {**own, "pid": descriptor.process.pid}
            descriptor = self._descriptors.get(descriptor.parent_uuid) if descriptor.parent_uuid else None
        return own


def _unreadable(packet: Any, sequence: _Sequence, ts: int | None, clock: int) -> str:
    """Why an event cannot be read, to be counted; empty where it can."""
    if packet.track_event.type not in (_BEGIN, _END, _INSTANT, _COUNTER):
        return "track_event"
    if packet.sequence_flags & _NEEDS_STATE and not sequence.valid:
        sequence.lost = True
        return "track_event whose names and defaults were lost"
    if ts is not None:
        return ""
    if clock != BOOTTIME:
        return f"track_event in the clock {clock}, of which no snapshot tells the time"
    return "track_event without a time"
