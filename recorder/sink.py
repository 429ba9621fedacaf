"""Rows on their way to disk: held until no earlier one can come, put in one order, written as segments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.decode import Decoder
from tracectl.recorder.program import Record
from tracectl.store.events import KINDS
from tracectl.store.schema import arrow_type, table_of

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class _Chunk:
    """Records of one kind and CPU in ring order; ``place`` orders them within that ring."""

    number: int
    cpu: int
    rows: np.ndarray[Any, Any]
    place: Numbers


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

    @property
    def pending(self) -> int:
        """Rows held."""
        return sum(len(chunk.rows) for chunk in self._chunks)

    def add(self, number: int, cpu: int, records: np.ndarray[Any, Any], place: Numbers) -> None:
        """Take records of one kind from one ring.

        Args:
            records: uint8 [n, size of the kind's struct].
            place: int64 [n], growing along the ring over all its regions.
        """
        rows = records.view(self.records[number].dtype).ravel()
        self._chunks.append(_Chunk(number, cpu, rows, place))

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: Any) -> None:
        """Take a bookkeeping row."""
        self._notes.append({"kind": kind, "ts": ts, "cpu": cpu, **columns})

    def ready(self, kind: str, watermark: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """(cpu, rows in ring order) of one kind that the next :meth:`take` will write."""
        by_cpu: dict[int, list[_Chunk]] = defaultdict(list)
        for chunk in self._chunks:
            if self.records[chunk.number].event.kind == kind:
                by_cpu[chunk.cpu].append(chunk)
        for cpu, chunks in by_cpu.items():
            rows = np.concatenate([chunk.rows for chunk in chunks])
            yield cpu, rows[rows["ts"] <= np.uint64(max(watermark, 0))]

    def take(self, watermark: int) -> Mapping[str, pa.Table]:
        """Tables by kind of all rows up to ``watermark`` (ns, inclusive), numbered; the later ones stay."""
        chunks, self._chunks = self._split(watermark)
        notes = [row for row in self._notes if row["ts"] <= watermark]
        self._notes = [row for row in self._notes if row["ts"] > watermark]
        groups = _by_kind(chunks)
        note_groups = defaultdict(list)
        for row in notes:
            note_groups[row["kind"]].append(row)
        ts = [np.concatenate([c.rows["ts"].view(np.int64) for c in group]) for group in groups.values()]
        cpu = [np.concatenate([np.full(len(c.rows), c.cpu, np.int64) for c in group]) for group in groups.values()]
        place = [np.concatenate([c.place for c in group]) for group in groups.values()]
        for rows in note_groups.values():
            ts.append(np.array([row["ts"] for row in rows], np.int64))
            cpu.append(np.array([-1 if row["cpu"] is None else row["cpu"] for row in rows], np.int64))
            place.append(np.arange(len(rows)))
        if not ts:
            return {}
        self.late |= min(int(part.min()) for part in ts) <= self._watermark
        self._watermark = max(self._watermark, watermark)
        seqs = np.split(self._numbered(ts, cpu, place), np.cumsum([len(part) for part in ts])[:-1])
        tables = {}
        for number, seq in zip(groups, seqs, strict=False):
            kind, table = self._table(number, groups[number], seq)
            tables[kind] = table
        for kind, seq in zip(note_groups, seqs[len(groups) :], strict=True):
            tables[kind] = self._note_table(kind, note_groups[kind], seq)
        return tables

    def _split(self, watermark: int) -> tuple[list[_Chunk], list[_Chunk]]:
        ready, later = [], []
        for chunk in self._chunks:
            early = chunk.rows["ts"] <= np.uint64(max(watermark, 0))
            if early.all():
                ready.append(chunk)
            elif not early.any():
                later.append(chunk)
            else:
                ready.append(_Chunk(chunk.number, chunk.cpu, chunk.rows[early], chunk.place[early]))
                later.append(_Chunk(chunk.number, chunk.cpu, chunk.rows[~early], chunk.place[~early]))
        return ready, later

    def _numbered(self, ts: list[Numbers], cpu: list[Numbers], place: list[Numbers]) -> Numbers:
        """Sequence numbers by (ts, cpu, place in the ring)."""
        all_ts = np.concatenate(ts)
        # Nearly sorted runs, which a stable sort merges fast; the other keys only matter where times are equal.
        order = np.argsort(all_ts, kind="stable")
        if (np.diff(all_ts[order]) == 0).any():
            order = np.lexsort((np.concatenate(place), np.concatenate(cpu), all_ts))
        seq = np.empty(len(order), np.int64)
        seq[order] = np.arange(self._next_seq, self._next_seq + len(order))
        self._next_seq += len(order)
        return seq

    def _table(self, number: int, chunks: list[_Chunk], seq: Numbers) -> tuple[str, pa.Table]:
        event = self.records[number].event
        rows = np.concatenate([chunk.rows for chunk in chunks])
        cpu = np.concatenate([np.full(len(chunk.rows), chunk.cpu, np.int16) for chunk in chunks])
        order = np.argsort(seq)
        columns = self.decoder.columns(number, rows[order])
        columns["cpu"] = pa.array(cpu[order])
        columns["seq"] = pa.array(seq[order])
        for chunk in chunks:
            self.recorded[event.stream, chunk.cpu] += len(chunk.rows)
        self.written += len(rows)
        return event.kind, table_of(self.schema, event.kind, columns, len(rows))

    def _note_table(self, kind: str, rows: list[dict[str, Any]], seq: Numbers) -> pa.Table:
        order = np.argsort(seq)
        ordered = [{**rows[i], "seq": int(seq[i])} for i in order]
        columns = {
            column.name: pa.array([row.get(column.name) for row in ordered], arrow_type(column.type.arrow))
            for column in KINDS[kind].columns
        }
        return table_of(self.schema, kind, columns, len(rows))


def _by_kind(chunks: list[_Chunk]) -> dict[int, list[_Chunk]]:
    groups: dict[int, list[_Chunk]] = defaultdict(list)
    for chunk in chunks:
        groups[chunk.number].append(chunk)
    return groups
