"""Segments on their way into one file: what is copied as it is, what is joined, and what must be put in order anew."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracectl.store.parquet import RowGroup, encode
from tracectl.store.schema import ROW_GROUP_ROWS, nulls

WINDOW_ROWS = 1_000_000
Tables = Mapping[str, pa.Table]
Piece = Path | Tables
# Rows held in memory by a Joiner at most.
_HELD_ROWS = 400_000


@dataclass(frozen=True)
class Kept:
    """A row group in a finished segment, to be copied byte for byte.

    Attributes:
        number: which one of the segment's.
        begin: where in the file it is.
    """

    path: Path
    number: int
    begin: int
    group: RowGroup


Window = Mapping[str, pa.Table | Sequence[pa.Table | Kept]]


class Joiner:
    """Joins small row groups while a recording runs, so that its capture can be made of copies alone.

    Args:
        folder: where a file of row groups can be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._held: dict[str, list[pa.Table]] = defaultdict(list)
        self._joined: list[Kept] = []

    def add(self, tables: Tables, kept: Sequence[Kept]) -> None:
        """Take in a segment: its rows, and the row groups of it that are large enough as they are."""
        for kind, table in tables.items():
            large = [one for one in kept if one.group.kind == kind]
            if large:
                self._encode(kind)
                self._joined += large
            else:
                filled = [name for name in table.column_names if table[name].null_count < table.num_rows]
                self._held[kind].append(table.select(filled))
                if _rows_of(self._held[kind]) >= ROW_GROUP_ROWS:
                    self._encode(kind)
        if sum(map(_rows_of, self._held.values())) >= _HELD_ROWS:
            for kind in list(self._held):
                self._encode(kind)

    def _encode(self, kind: str) -> None:
        """Encode the rows that are held of a kind."""
        tables = self._held.pop(kind, [])
        if not tables:
            return
        if self._file is None:
            # Without a name: nothing is left of it, and nobody who may write in the directory can put another there.
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 -- closed with this object
        for group in encode(kind, pa.concat_tables(tables, promote_options="default")):
            begin = self._file.tell()
            self._file.write(group.data)
            self._file.flush()
            path = Path(f"/proc/self/fd/{self._file.fileno()}")
            self._joined.append(Kept(path, -1, begin, group.without_data()))

    def windows(self) -> Iterator[Window]:
        """All rows, as windows of the capture; what is still held is encoded on the way."""
        held: Window = {
            kind: [pa.concat_tables(tables, promote_options="default")] for kind, tables in self._held.items()
        }
        yield from _gathered([*({one.group.kind: [one]} for one in self._joined), held])


def _rows_of(tables: Iterable[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)


def windows_of(pieces: Sequence[Piece], kept: Mapping[Path, Sequence[Kept]], *, renumber: bool) -> Iterator[Window]:
    """The rows of consecutive pieces by kind, in stretches of about WINDOW_ROWS; see :func:`writer.compact`."""
    return _gathered(_in_order(pieces, kept) if renumber else (_parts_of(piece, kept) for piece in pieces))


def _parts_of(piece: Piece, kept: Mapping[Path, Sequence[Kept]]) -> Window:
    """The rows of a piece by kind, those that need not be encoded again as they are."""
    if not isinstance(piece, Path):
        return piece
    copied = {one.number: one for one in kept.get(piece, ())}
    parts: dict[str, list[pa.Table | Kept]] = defaultdict(list)
    with pq.ParquetFile(piece) as file:
        for number in range(file.num_row_groups):
            if number in copied:
                parts[copied[number].group.kind].append(copied[number])
            else:
                table = _group_of(file, number)
                parts[table["kind"][0].as_py()].append(table)
    return parts


def _tables_of(piece: Piece) -> Tables:
    return {kind: _one_table(parts) for kind, parts in _parts_of(piece, {}).items()}


def _one_table(parts: pa.Table | Sequence[pa.Table | Kept]) -> pa.Table:
    return parts if isinstance(parts, pa.Table) else pa.concat_tables(parts)


def _group_of(file: pq.ParquetFile, number: int) -> pa.Table:
    """A row group; what is null in all its rows, most columns of a kind, is not read."""
    group = file.metadata.row_group(number)
    chunks = map(group.column, range(group.num_columns))
    filled = [chunk.path_in_schema for chunk in chunks if not _all_null(chunk)]
    table = file.read_row_group(number, columns=filled)
    schema = file.schema_arrow
    columns = [table[f.name] if f.name in filled else nulls(f.type, table.num_rows) for f in schema]
    return pa.table(columns, schema=schema)


def _all_null(chunk: pq.ColumnChunkMetaData) -> bool:
    found = chunk.statistics
    return found is not None and found.has_null_count and found.null_count == chunk.num_values


def _gathered(pieces: Iterable[Window]) -> Iterator[Window]:
    """The rows by kind, in stretches of about WINDOW_ROWS."""
    gathered: dict[str, list[pa.Table | Kept]] = defaultdict(list)
    rows = 0
    for window in pieces:
        for kind, parts in window.items():
            for part in (parts,) if isinstance(parts, pa.Table) else parts:
                gathered[kind].append(part)
                rows += part.group.rows if isinstance(part, Kept) else part.num_rows
        if rows >= WINDOW_ROWS:
            yield {kind: list(_joined_tables(parts)) for kind, parts in gathered.items()}
            gathered.clear()
            rows = 0
    if gathered:
        yield {kind: list(_joined_tables(parts)) for kind, parts in gathered.items()}


def _joined_tables(parts: Sequence[pa.Table | Kept]) -> Iterator[pa.Table | Kept]:
    """The same rows in the same order, neighbouring tables made one."""
    for is_kept, group in groupby(parts, lambda part: isinstance(part, Kept)):
        run = list(group)
        yield from run if is_kept else [pa.concat_tables(run, promote_options="default")]


_NEVER = 2**63 - 1


def _in_order(pieces: Sequence[Piece], kept: Mapping[Path, Sequence[Kept]]) -> Iterator[Window]:
    """All rows in one order, numbered anew: those before the earliest row of all later pieces leave at each step.

    A segment that overlaps with no other and has its numbers already is passed on as it is.
    """
    spans = [_span(piece) for piece in pieces]
    rest = np.minimum.accumulate([_NEVER, *(span.first_ts for span in spans[:0:-1])])[::-1]
    held: Tables = {}
    seq = 1
    for piece, span, before in zip(pieces, spans, rest, strict=True):
        if not held and span.last_ts < before and (span.first_seq, span.last_seq) == (seq, seq + span.rows - 1):
            yield _parts_of(piece, kept)
            seq += span.rows
            continue
        done, held = _split(_joined(held, _tables_of(piece)), int(before))
        if done:
            yield _renumbered(done, seq)
            seq += sum(table.num_rows for table in done.values())


@dataclass(frozen=True)
class _Span:
    """Where the rows of a piece lie in time and in the order of all rows."""

    rows: int
    first_ts: int
    last_ts: int
    first_seq: int
    last_seq: int


def _span(piece: Piece) -> _Span:
    bounds: dict[str, list[tuple[int, int]]] = {"ts": [], "seq": []}
    if isinstance(piece, Path):
        metadata = pq.read_metadata(piece)
        rows = metadata.num_rows
        for name, found in bounds.items():
            column = metadata.schema.names.index(name)
            for number in range(metadata.num_row_groups):
                statistics = metadata.row_group(number).column(column).statistics
                found.append((int(statistics.min), int(statistics.max)))
    else:
        rows = sum(table.num_rows for table in piece.values())
        for name, found in bounds.items():
            for table in piece.values():
                least, most = pc.min_max(table[name]).values()
                found.append((least.as_py(), most.as_py()))
    least_ts, most_ts, least_seq, most_seq = (
        choose((bound[at] for bound in bounds[name]), default=_NEVER)
        for name in ("ts", "seq")
        for at, choose in ((0, min), (1, max))
    )
    return _Span(rows, least_ts, most_ts, least_seq, most_seq)


def _joined(first: Tables, second: Tables) -> Tables:
    kinds = [*first, *(kind for kind in second if kind not in first)]
    return {kind: pa.concat_tables([part[kind] for part in (first, second) if kind in part]) for kind in kinds}


def _split(tables: Tables, before: int) -> tuple[Tables, Tables]:
    """The rows earlier than a moment, and the others."""
    early, late = {}, {}
    for kind, table in tables.items():
        if int(pc.max(table["ts"]).as_py()) < before:
            early[kind] = table
            continue
        is_early = pc.less(table["ts"], pa.scalar(before, pa.int64()))
        early[kind], late[kind] = table.filter(is_early), table.filter(pc.invert(is_early))
    return _filled(early), _filled(late)


def _filled(tables: Tables) -> Tables:
    return {kind: table for kind, table in tables.items() if table.num_rows}


def _renumbered(tables: Tables, first_seq: int) -> Tables:
    """The rows sorted by (ts, cpu, seq), with consecutive numbers."""
    keys = [np.concatenate([_numbers(t, name) for t in tables.values()]) for name in ("seq", "cpu", "ts")]
    seq = np.empty(len(keys[0]), np.int64)
    seq[np.lexsort(keys)] = np.arange(first_seq, first_seq + len(seq))
    done = {}
    start = 0
    for kind, table in tables.items():
        own = seq[start : start + table.num_rows]
        start += table.num_rows
        renumbered = table.set_column(table.schema.get_field_index("seq"), table.schema.field("seq"), pa.array(own))
        done[kind] = renumbered if (np.diff(own) > 0).all() else renumbered.take(pa.array(np.argsort(own)))
    return done


def _numbers(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    filled = table[column].combine_chunks().fill_null(-1)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)
