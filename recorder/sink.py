"""Rows on their way to disk: held until no earlier one can come, put in one order, written as segments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracectl.recorder.decode import Decoder
from tracectl.recorder.program import Record
from tracectl.store.events import KINDS
from tracectl.store.schema import table_of
from tracectl.store.writer import table_of_rows

Numbers = np.ndarray[Any, np.dtype[np.int64]]


Columns = dict[str, np.ndarray[Any, Any]]


@dataclass
class _Chunk:
    """Records of one kind and CPU in ring order, by member; ``place`` orders them within that ring."""

    number: int
    cpu: int
    rows: Columns
    place: Numbers
    first_ts: int = field(init=False)
    last_ts: int = field(init=False)

    def __post_init__(self) -> None:
        ts = self.rows["ts"]
        self.first_ts, self.last_ts = int(ts.min()), int(ts.max())

    def __len__(self) -> int:
        return len(self.place)

    def some(self, which: slice | NDArray[np.bool_]) -> _Chunk:
        """These records of it."""
        rows = {name: values[which] for name, values in self.rows.items()}
        return _Chunk(self.number, self.cpu, rows, self.place[which])


@dataclass
class RowBuffer:
    """Rows not yet written, and the sequence numbers they get.

    Attributes:
        recorded: rows written so far per (stream, cpu).
        late: whether a row came behind the watermark since the last call of :meth:`take`.
    """

    records: dict[int, Record]
    schema: pa.Schema
    decoder: Decoder
    recorded: Counter[tuple[str, int]] = field(default_factory=Counter)
    written: int = 0
    late: bool = False
    _chunks: list[_Chunk] = field(default_factory=list)
    _notes: list[dict[str, Any]] = field(default_factory=list)
    _next_seq: int = 1
    _watermark: int = -(2**63)

    def __post_init__(self) -> None:
        self._members = {
            number: [name for name in record.dtype.names or () if name != "kind"]
            for number, record in self.records.items()
        }

    @property
    def pending(self) -> int:
        """Rows held."""
        return sum(len(chunk) for chunk in self._chunks)

    def add(self, number: int, cpu: int, records: np.ndarray[Any, Any], place: Numbers) -> None:
        """Take records of one kind from one ring.

        Args:
            records: uint8 [n, size of the kind's struct].
            place: int64 [n], growing along the ring over all its regions.
        """
        if len(records):
            # Copied member by member, since the records are to be overwritten, and what is asked for later is columns.
            rows = records.view(self.records[number].dtype)[:, 0]
            members = {name: np.ascontiguousarray(rows[name]) for name in self._members[number]}
            self._chunks.append(_Chunk(number, cpu, members, place))

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: Any) -> None:
        """Take a bookkeeping row."""
        self._notes.append({"kind": kind, "ts": ts, "cpu": cpu, **columns})

    def ready(self, kind: str, watermark: int, columns: Iterable[str]) -> Iterator[tuple[int, Columns]]:
        """(cpu, columns in ring order) of one kind that the next :meth:`take` will write."""
        by_cpu: dict[int, list[_Chunk]] = defaultdict(list)
        for chunk in self._chunks:
            if self.records[chunk.number].event.kind == kind:
                by_cpu[chunk.cpu].append(chunk)
        for cpu, chunks in by_cpu.items():
            early = _joined(chunks, "ts") <= np.uint64(max(watermark, 0))
            yield cpu, {name: _joined(chunks, name)[early] for name in columns}

    def take(self, watermark: int) -> Mapping[str, pa.Table]:
        """Tables by kind of all rows up to ``watermark`` (ns, inclusive), numbered; the later ones stay."""
        groups = self._ready_by_kind(watermark)
        notes = defaultdict(list)
        for row in (row for row in self._notes if row["ts"] <= watermark):
            notes[row["kind"]].append(row)
        self._notes = [row for row in self._notes if row["ts"] > watermark]
        if not groups and not notes:
            return {}
        ts = [_joined(group, "ts").view(np.int64) for group in groups.values()]
        ts += [np.array([row["ts"] for row in rows], np.int64) for rows in notes.values()]
        self.late |= min(int(part.min()) for part in ts) <= self._watermark
        self._watermark = max(self._watermark, watermark)
        order = self._in_order(np.concatenate(ts), [*groups.values()], [*notes.values()])
        parts = _by_part(order, [len(part) for part in ts])
        tables = {}
        for (number, group), (rows, position) in zip(groups.items(), parts, strict=False):
            kind, table = self._table(number, group, rows, position + self._next_seq)
            tables[kind] = table
        for (kind, own), (rows, position) in zip(notes.items(), parts[len(groups) :], strict=True):
            tables[kind] = self._note_table(kind, [own[row] for row in rows], position + self._next_seq)
        self._next_seq += len(order)
        return tables

    def _ready_by_kind(self, watermark: int) -> dict[int, list[_Chunk]]:
        """The chunks up to the watermark, by kind's number, then by CPU; what is later stays."""
        groups: dict[int, list[_Chunk]] = defaultdict(list)
        chunks, self._chunks = self._chunks, []
        for chunk in sorted(chunks, key=lambda chunk: chunk.cpu):
            if chunk.last_ts <= watermark:
                groups[chunk.number].append(chunk)
            elif chunk.first_ts > watermark:
                self._chunks.append(chunk)
            else:
                early = chunk.rows["ts"] <= np.uint64(max(watermark, 0))
                cut = int(np.count_nonzero(early))
                ordered = bool(early[:cut].all())
                groups[chunk.number].append(chunk.some(slice(cut) if ordered else early))
                self._chunks.append(chunk.some(slice(cut, None) if ordered else ~early))
        return groups

    def _in_order(self, ts: Numbers, groups: list[list[_Chunk]], notes: list[list[dict[str, Any]]]) -> Numbers:
        """The order of all rows by (ts, cpu, place in the ring)."""
        # Runs in order, one for each kind and CPU, which a stable sort merges fast.
        order = np.argsort(ts, kind="stable")
        ordered = ts[order]
        same = ordered[1:] == ordered[:-1]
        if same.any():  # the other keys matter only where times are equal
            tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
            cpu = [np.full(len(chunk), chunk.cpu) for group in groups for chunk in group]
            cpu += [np.array([-1 if row["cpu"] is None else row["cpu"] for row in rows]) for rows in notes]
            place = [chunk.place for group in groups for chunk in group] + [np.arange(len(rows)) for rows in notes]
            rows = order[tied]
            keys = np.concatenate(place)[rows], np.concatenate(cpu)[rows], ts[rows]
            order[tied] = rows[np.lexsort(keys)]
        return order

    def _table(self, number: int, chunks: list[_Chunk], rows: Numbers, seq: Numbers) -> tuple[str, pa.Table]:
        event = self.records[number].event
        joined = {name: _joined(chunks, name) for name in self._members[number]}
        columns = self.decoder.columns(number, joined, rows)
        cpu = np.repeat(np.array([chunk.cpu for chunk in chunks], np.int16), [len(chunk) for chunk in chunks])
        columns["cpu"] = pa.array(cpu[rows])
        columns["seq"] = pa.array(seq)
        for chunk in chunks:
            self.recorded[event.stream, chunk.cpu] += len(chunk)
        self.written += len(rows)
        return event.kind, table_of(self.schema, event.kind, columns, len(rows))

    def _note_table(self, kind: str, rows: list[dict[str, Any]], seq: Numbers) -> pa.Table:
        numbered = [row | {"seq": int(number)} for row, number in zip(rows, seq, strict=True)]
        return table_of_rows(self.schema, KINDS[kind], numbered)


def _joined(chunks: list[_Chunk], name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([chunk.rows[name] for chunk in chunks])


def _by_part(order: Numbers, sizes: list[int]) -> list[tuple[Numbers, Numbers]]:
    """Of rows that lie part after part: for each part (its rows in order, where in the whole order they stand)."""
    part = np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)
    position = np.argsort(part[order], kind="stable")  # 16 bits: a radix sort
    ends = np.cumsum(sizes)
    return [
        (order[own] - (end - size), own)
        for own, end, size in zip(np.split(position, ends[:-1]), ends, sizes, strict=True)
    ]
