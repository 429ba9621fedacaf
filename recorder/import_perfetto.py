"""Perfetto's protobuf traces: the packets of a file, and who reads them.

Read with the classes of the ``perfetto`` package. The kernel's events go to :mod:`import_bundles`, track events to
:mod:`import_tracks`; packets of other sources are passed over and counted.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import chain
from typing import Any

from tracectl.recorder.import_bundles import Bundles
from tracectl.recorder.import_current import Threads
from tracectl.recorder.import_rows import add_rows
from tracectl.recorder.import_spool import LONGEST_UNPARSED, Spool
from tracectl.recorder.import_tracks import TRACK_PACKETS, Tracks
from tracectl.store.errors import RecordError, UserError

_PROBE = "packet of a Perfetto trace"
_TAKEN = (*TRACK_PACKETS, "ftrace_events", "process_tree", "clock_snapshot")
_LONGEST_PACKET = 64 << 20
_PACKET_TAG = 0x0A
_LONGEST_HEAD = 6  # tag and length


def is_perfetto(head: bytes) -> bool:
    """Whether a file is such a trace: packets one after the other, each with its tag and length."""
    at, packets = 0, 0
    while at < len(head) and packets < 3:
        size, start = _varint(head, at + 1) if head[at] == _PACKET_TAG else (0, 0)
        if not start or not size or size > _LONGEST_PACKET:
            return False
        at = start + size
        packets += 1
    # One packet alone could also be a text that begins with an empty line.
    return packets > 0 and any(byte < 9 or byte > 127 for byte in head[:64])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); position 0 where it does not end."""
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    return 0, 0


def packet_class() -> Any:
    """Perfetto's class of packets.

    Raises:
        RecordError: the package is not installed.
    """
    try:
        module = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")  # an extra, and slow to import
    except ImportError as error:
        raise RecordError(
            "a Perfetto trace needs Perfetto's classes, which are not installed", "pip install perfetto"
        ) from error
    return module.TracePacket


class PerfettoTrace:
    """Reads one file into a spool.

    Attributes:
        passed_over: packets of other data sources, by what they hold.
    """

    def __init__(self, name: str, spool: Spool) -> None:
        self.passed_over: Counter[str] = Counter()
        self._name = name
        self._spool = spool
        self._class = packet_class()
        self._undecodable: type[Exception] = import_module("google.protobuf.message").DecodeError
        self._threads: Threads = {0: (0, None)}
        self._sequences: set[int] = set()
        self._bundles = Bundles(spool, self._threads, self.passed_over)
        self._tracks = Tracks(self.passed_over, self._threads)

    def read(self, chunks: Iterable[bytes]) -> None:
        """Read all packets."""
        self._read(chunks)
        self._bundles.finish()
        add_rows(self._spool, self._tracks.rows(), _PROBE)

    def _read(self, chunks: Iterable[bytes]) -> None:
        for number, (data, whole) in enumerate(_packets(chunks, self._name), 1):
            try:
                packet = self._class.FromString(data) if whole else None
                inner = (
                    zlib.decompressobj().decompress(packet.compressed_packets, _LONGEST_PACKET)
                    if packet is not None
                    else b""
                )
            except (ValueError, zlib.error, self._undecodable):
                packet = None
            if packet is None:
                self._unread()
                ts = self._bundles.last_ts or self._tracks.last_ts or 0
                row = {"kind": "unparsed", "ts": ts, "line": number, "text": repr(data[:LONGEST_UNPARSED])}
                add_rows(self._spool, [row], _PROBE)
            elif inner:
                self._read([inner])
            else:
                self._take(packet)

    def _unread(self) -> None:
        """A packet could not be read: it may have been of any sequence."""
        self._tracks.unread()
        self._bundles.drop(None)

    def _take(self, packet: Any) -> None:
        sequence = packet.trusted_packet_sequence_id
        # The first packet of a sequence always has this flag.
        dropped = packet.previous_packet_dropped and sequence in self._sequences
        self._sequences.add(sequence)
        if dropped:
            self._bundles.drop(sequence)
        self._tracks.take(packet, dropped=dropped)
        what = packet.WhichOneof("data")
        if what == "process_tree":
            self._name_threads(packet.process_tree)
        elif what == "ftrace_events":
            self._bundles.take(packet.ftrace_events, sequence)
        elif what == "zstd_compressed_packets":
            self._unread()
        if what and what not in _TAKEN:
            self.passed_over[what] += 1

    def _name_threads(self, tree: Any) -> None:
        named = {process.pid: (process.pid, next(iter(process.cmdline), None)) for process in tree.processes}
        named |= {thread.tid: (thread.tgid, thread.name or None) for thread in tree.threads}
        if any(self._threads.get(tid, thread) != thread for tid, thread in named.items()):
            self._bundles.flush()
        self._threads.update(named)


def _packets(chunks: Iterable[bytes], name: str) -> Iterator[tuple[bytes, bool]]:
    """The packets of a trace, and whether each is whole: the last may be cut off."""
    data = b""
    for chunk in chain(chunks, [b""]):
        data += chunk
        at = 0
        while at + _LONGEST_HEAD <= len(data) or (at < len(data) and not chunk):
            size, start = _varint(data, at + 1)
            if data[at] != _PACKET_TAG or size > _LONGEST_PACKET:
                raise UserError(f"{name} is damaged as a Perfetto trace", "copy it again from where it was recorded")
            if not start or start + size > len(data):
                break
            yield data[start : start + size], True
            at = start + size
        data = data[at:]
    if data:
        yield data, False
