"""The Perfetto trace file as such: its message classes, packets one after the other, many events from few texts.

The classes come with the ``perfetto`` package. Building one object per event is slow, but events that differ only in
their time are many: such a message is serialised once, and its time is written beside it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tracectl.store.errors import UserError

Int64s = npt.NDArray[np.int64]

# Field numbers of perfetto_trace.proto where bytes are written without the classes (a test holds them against these).
TRACE_PACKET = 1
PACKET_TIMESTAMP = 8
PACKET_FTRACE_EVENTS = 1
BUNDLE_EVENT = 2
EVENT_TIMESTAMP = 1
_TIME_BYTES = 9  # a varint of fixed length: 63 bits


def messages() -> Any:
    """The module with Perfetto's message classes.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return importlib.import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    except ImportError as error:
        raise UserError("the perfetto format needs the package perfetto", "pip install 'tracectl[perfetto]'") from error


def varint(number: int) -> bytes:
    """A whole number, not negative, as protobuf writes it."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def delimited(field: int, body: bytes) -> bytes:
    """A field of bytes or of a message."""
    return varint(field << 3 | 2) + varint(len(body)) + body


def fixed_varints(numbers: Int64s) -> list[bytes]:
    """Each number, not negative, as a varint of nine bytes (longer than need be, which every reader takes)."""
    shifts = np.arange(0, 7 * _TIME_BYTES, 7, dtype=np.int64)
    parts = (numbers[:, None] >> shifts & 0x7F).astype(np.uint8)
    parts[:, :-1] |= 0x80
    return [bytes(part) for part in np.ascontiguousarray(parts).view(f"V{_TIME_BYTES}")[:, 0].tolist()]


def stamped(field: int, time_field: int, bodies: Sequence[bytes], which: Int64s, times: Int64s) -> bytes:
    """Messages one after the other, each ``bodies[which]`` with its time.

    Args:
        field: number of the field the messages stand in.
        time_field: number of the field with the time, in the message itself.
        bodies: the messages without a time, serialised.
        which, times: per message.
    """
    heads = np.empty(len(bodies), dtype=object)
    tag = varint(time_field << 3)
    for place, body in enumerate(bodies):
        length = len(body) + len(tag) + _TIME_BYTES
        heads[place] = varint(field << 3 | 2) + varint(length) + body + tag
    parts: list[bytes] = [b""] * (2 * len(which))
    parts[0::2] = heads[which].tolist()
    parts[1::2] = fixed_varints(times)
    return b"".join(parts)


def distinct(rows: Iterable[tuple[Any, ...]], make: Callable[..., bytes]) -> tuple[list[bytes], Int64s]:
    """``make`` called once per distinct row: what it returned, and per row which of these."""
    places: dict[tuple[Any, ...], int] = {}
    which = np.fromiter((places.setdefault(row, len(places)) for row in rows), dtype=np.int64)
    return [make(*row) for row in places], which


def lanes(spans: Iterable[tuple[int, int]]) -> Iterator[int]:
    """For spans in order of begin: the first lane in which each overlaps with none before it."""
    ends: list[int] = []
    for begin, end in spans:
        lane = next((number for number, busy in enumerate(ends) if busy <= begin), len(ends))
        if lane == len(ends):
            ends.append(end)
        ends[lane] = max(end, begin + 1)
        yield lane


class TraceFile:
    """A Perfetto trace that is being written, with track events of one sequence.

    Args:
        stream: where to.
        pb: from :func:`messages`.
    """

    SEQUENCE = 1

    def __init__(self, stream: IO[bytes], pb: Any) -> None:
        self.stream = stream
        self.pb = pb
        self._tracks = 0
        cleared = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        self.packet(trusted_packet_sequence_id=self.SEQUENCE, sequence_flags=cleared)

    def packet(self, **fields: Any) -> None:
        """Write one packet."""
        body = self.pb.TracePacket(**fields).SerializeToString()
        self.stream.write(delimited(TRACE_PACKET, body))

    def track(self, name: str, parent: int = 0) -> int:
        """Describe a track and return its uuid."""
        self._tracks += 1
        described = self.pb.TrackDescriptor(uuid=self._tracks, name=name)
        if parent:
            described.parent_uuid = parent
        self.packet(trusted_packet_sequence_id=self.SEQUENCE, track_descriptor=described)
        return self._tracks

    def event(self, **fields: Any) -> bytes:
        """A packet with a track event and no time, for :func:`stamped`."""
        event = self.pb.TrackEvent(**fields)
        packet = self.pb.TracePacket(trusted_packet_sequence_id=self.SEQUENCE, track_event=event)
        serialised: bytes = packet.SerializeToString()
        return serialised

    def events(self, bodies: Sequence[bytes], which: Int64s, times: Int64s) -> None:
        """Write track events: ``bodies[which]`` at their times (boottime ns)."""
        self.stream.write(stamped(TRACE_PACKET, PACKET_TIMESTAMP, bodies, which, times))

    def slice(self, track: int, begin: int, end: int, name: str, values: Iterable[tuple[str, object]]) -> None:
        """Write a slice, or an instant where begin and end are the same, with its values."""
        pb = self.pb
        instant = begin == end
        event = pb.TrackEvent(
            type=pb.TrackEvent.TYPE_INSTANT if instant else pb.TrackEvent.TYPE_SLICE_BEGIN,
            track_uuid=track,
            name=name,
            debug_annotations=[self._annotation(*item) for item in values if item[1] is not None],
        )
        self.packet(trusted_packet_sequence_id=self.SEQUENCE, timestamp=begin, track_event=event)
        if not instant:
            event = pb.TrackEvent(type=pb.TrackEvent.TYPE_SLICE_END, track_uuid=track)
            self.packet(trusted_packet_sequence_id=self.SEQUENCE, timestamp=end, track_event=event)

    def _annotation(self, name: str, value: object) -> Any:
        note = self.pb.DebugAnnotation(name=name)
        if isinstance(value, bool):
            note.bool_value = value
        elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            note.int_value = value
        elif isinstance(value, float):
            note.double_value = value
        else:
            note.string_value = str(value)
        return note
