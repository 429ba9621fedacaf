"""Writing captures: segments while recording, one file in the end, each appearing whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracectl.store import checksum
from tracectl.store.capture import SEGMENTS_SUFFIX, tail_path
from tracectl.store.errors import UserError
from tracectl.store.events import Event
from tracectl.store.footer import KEY, Footer
from tracectl.store.schema import ROW_GROUP_ROWS, arrow_type, capture_schema, nulls, parquet_options, table_of

WINDOW_ROWS = 1_000_000
Tables = Mapping[str, pa.Table]
Owner = tuple[int, int]  # uid, gid


def write_file(
    path: Path,
    schema: pa.Schema,
    windows: Iterable[Tables],
    footer: Footer,
    owner: Owner | None = None,
    *,
    folder: Path | None = None,
) -> int:
    """Write a Parquet file under a temporary name, sync it and rename it into place; only its owner may read it.

    Args:
        windows: consecutive stretches of time; each maps a kind to its rows, sorted by seq.
        owner: whom it shall belong to; None: this process.
        folder: where it is until it is finished; None: beside ``path``.

    Returns:
        its size in bytes.
    """
    # A new file with mode 0600, never one that is there: root writes in directories that are others'.
    descriptor, name = tempfile.mkstemp(prefix=".tracectl-", suffix=".tmp", dir=folder or path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if owner is not None:
                os.fchown(descriptor, *owner)
            with pq.ParquetWriter(file, schema, **parquet_options(schema)) as writer:
                for tables in windows:
                    for kind in sorted(tables):
                        writer.write_table(tables[kind].unify_dictionaries(), row_group_size=ROW_GROUP_ROWS)
                writer.add_key_value_metadata({KEY: footer.to_json(), checksum.KEY: checksum.PLACEHOLDER})
            checksum.seal(file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)
    return size


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SegmentWriter:
    """The directory of segments beside the output file, and its compaction into that file.

    The directory is locked as long as a process that has this object lives: :func:`is_being_written`.

    Args:
        output: the capture to be; ``output`` + ``.recording`` is the directory.
        schema: from :func:`capture_schema`.
        owner: whom the files shall belong to; None: this process.
        stay: the segments are what is wanted: ``output`` is their directory, and no file is made of them.
    """

    def __init__(self, output: Path, schema: pa.Schema, owner: Owner | None = None, *, stay: bool = False) -> None:
        self.output = output
        self.stay = stay
        self.directory = output if stay else output.with_name(output.name + SEGMENTS_SUFFIX)
        self.schema = schema
        self.segments: list[Path] = []
        self._sizes: dict[Path, int] = {}
        self._owner = owner
        self._late = False
        self._number = 0
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise _taken(self.directory) from error
        if owner is not None:
            os.chown(self.directory, *owner, follow_symlinks=False)
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        weakref.finalize(self, os.close, self._lock)

    @property
    def bytes_written(self) -> int:
        """Bytes in the segments."""
        return sum(self._sizes.values())

    def begin(self, tail: tuple[Tables, Footer]) -> None:
        """Say what is missing if no segment follows."""
        self._write_tail(tail)

    def write(self, tables: Tables, footer: Footer, tail: tuple[Tables, Footer] | None = None) -> None:
        """Write the next segment: rows later than those of the segments before, unless ``footer.late``.

        Args:
            tail: rows and footer that say what is missing if no further segment follows.
        """
        # The new tail counts as soon as its segment is there, the old one until then: killed at any moment, the
        # directory says what it misses.
        self._number += 1
        if tail is not None:
            self._write_tail(tail)
        path = self.directory / f"{self._number:06d}.parquet"
        self._sizes[path] = write_file(path, self.schema, [tables], footer, self._owner)
        self.segments.append(path)
        self._late |= footer.late
        tail_path(self.directory, self._number - 1).unlink(missing_ok=True)

    def _write_tail(self, tail: tuple[Tables, Footer]) -> None:
        tables, footer = tail
        write_file(tail_path(self.directory, self._number), self.schema, [tables], footer, self._owner)

    def remove_tail(self) -> None:
        """Nothing is missing behind the last segment."""
        tail_path(self.directory, self._number).unlink(missing_ok=True)

    def drop_oldest(self) -> None:
        """Remove the oldest segment."""
        oldest = self.segments.pop(0)
        oldest.unlink()
        del self._sizes[oldest]

    def finish(self, footer: Footer) -> Path:
        """Compact all segments into the output file and remove the directory, if they are not to stay."""
        if self.stay:
            return self.directory
        # Unfinished, it lies in the directory: killed, it leaves nothing elsewhere.
        compact(
            self.output, self.schema, self.segments, footer, self._owner, renumber=self._late, folder=self.directory
        )
        shutil.rmtree(self.directory)
        return self.output

    def discard_if_empty(self) -> None:
        """After a failure: remove the directory if no segment was finished."""
        if not self.segments:
            shutil.rmtree(self.directory, ignore_errors=True)


def is_being_written(directory: Path) -> bool:
    """Whether a recording into this directory of segments is running."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _taken(directory: Path) -> UserError:
    if directory.is_dir() and not is_being_written(directory):
        return UserError(
            f"{directory} exists: a recording was cut short",
            f"tracectl recover {directory} makes a capture of it; or choose another -o",
        )
    return UserError(f"{directory} exists: another recording is running", "choose another -o")


Piece = Path | Tables


def compact(
    path: Path,
    schema: pa.Schema,
    pieces: Sequence[Piece],
    footer: Footer,
    owner: Owner | None = None,
    *,
    renumber: bool = False,
    folder: Path | None = None,
) -> int:
    """Make one file of consecutive segments; returns its size in bytes.

    Args:
        folder: where it is until it is finished; None: beside ``path``.
        pieces: segment files, or tables as in :func:`write_file`.
        renumber: put all rows in one order and number them anew, since pieces overlap in time. What is held in
            memory meanwhile is one segment and the rows that a later one may still precede.
    """
    tables: Iterable[Tables] = _in_order(pieces) if renumber else map(_tables_of, pieces)
    if renumber:
        footer.late = False
    return write_file(path, schema, _windows(tables), footer, owner, folder=folder)


def _tables_of(piece: Piece) -> Tables:
    if not isinstance(piece, Path):
        return piece
    groups: dict[str, list[pa.Table]] = defaultdict(list)
    with pq.ParquetFile(piece) as file:
        for group in range(file.num_row_groups):
            table = _group_of(file, group)
            groups[table["kind"][0].as_py()].append(table)
    return {kind: pa.concat_tables(tables) for kind, tables in groups.items()}


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


def _windows(pieces: Iterable[Tables]) -> Iterator[Tables]:
    """The rows by kind, in stretches of about WINDOW_ROWS."""
    gathered: dict[str, list[pa.Table]] = defaultdict(list)
    rows = 0
    for tables in pieces:
        for kind, table in tables.items():
            gathered[kind].append(table)
            rows += table.num_rows
        if rows >= WINDOW_ROWS:
            yield {kind: pa.concat_tables(parts) for kind, parts in gathered.items()}
            gathered.clear()
            rows = 0
    if gathered:
        yield {kind: pa.concat_tables(parts) for kind, parts in gathered.items()}


_NEVER = 2**63 - 1


def _in_order(pieces: Sequence[Piece]) -> Iterator[Tables]:
    """All rows in one order, numbered anew: those before the earliest row of all later pieces leave at each step."""
    firsts = [_first_ts(piece) for piece in pieces]
    rest = np.minimum.accumulate([_NEVER, *firsts[:0:-1]])[::-1]
    held: Tables = {}
    seq = 1
    for piece, before in zip(pieces, rest, strict=True):
        done, held = _split(_joined(held, _tables_of(piece)), int(before))
        if done:
            yield _renumbered(done, seq)
            seq += sum(table.num_rows for table in done.values())


def _first_ts(piece: Piece) -> int:
    if isinstance(piece, Path):
        metadata = pq.read_metadata(piece)
        column = metadata.schema.names.index("ts")
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        return min((int(group.column(column).statistics.min) for group in groups), default=_NEVER)
    return min((int(pc.min(table["ts"]).as_py()) for table in piece.values()), default=_NEVER)


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


def table_of_rows(schema: pa.Schema, event: Event, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of one kind from plain dictionaries, in the capture's schema."""
    columns = {
        column.name: pa.array([row.get(column.name) for row in rows], arrow_type(column.type.arrow))
        for column in event.columns
    }
    return table_of(schema, event.kind, columns, len(rows))


def write_rows(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    kinds: Iterable[str] | None = None,
    cpus: Iterable[int] | None = None,
    start_ts: int | None = None,
    end_ts: int | None = None,
    **footer_fields: Any,
) -> Path:
    """Write a small capture from plain dictionaries (tests, conversions of little data).

    Args:
        rows: each has ``ts``, ``kind``, ``cpu`` and columns of its kind; ``seq`` is given by (ts, cpu, order)
            unless the rows bring one.
        kinds: recorded kinds; default: those that occur.
        footer_fields: further fields of :class:`Footer`.
    """
    ordered = sorted(rows, key=lambda row: (row.get("seq", 0), row["ts"], -1 if row["cpu"] is None else row["cpu"]))
    numbered = [{"seq": number, **row} for number, row in enumerate(ordered, 1)]
    times = [row["ts"] for row in numbered] or [0]
    footer = Footer(
        kinds=[],
        cpus=sorted(set(cpus) if cpus is not None else {row["cpu"] for row in numbered if row["cpu"] is not None}),
        start_ts=min(times) if start_ts is None else start_ts,
        end_ts=max(times) if end_ts is None else end_ts,
        **footer_fields,
    )
    catalogue = footer.catalogue()
    used = {row["kind"] for row in numbered if not catalogue.events[row["kind"]].bookkeeping}
    footer.kinds = sorted(used if kinds is None else kinds)
    schema = capture_schema(catalogue, set(footer.kinds) | used)
    tables = {}
    for kind in sorted({row["kind"] for row in numbered}):
        own = [row for row in numbered if row["kind"] == kind]
        tables[kind] = table_of_rows(schema, catalogue.events[kind], own)
    write_file(Path(path), schema, [tables], footer)
    return Path(path)
