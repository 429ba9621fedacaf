"""Writing captures: segments while recording, one file in the end, each appearing whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tracectl.store.capture import SEGMENTS_SUFFIX
from tracectl.store.errors import UserError
from tracectl.store.footer import KEY, Footer
from tracectl.store.schema import ROW_GROUP_ROWS, arrow_type, capture_schema, parquet_options, table_of

WINDOW_ROWS = 1_000_000
Tables = Mapping[str, pa.Table]
Owner = tuple[int, int]  # uid, gid


def write_file(
    path: Path, schema: pa.Schema, windows: Iterable[Tables], footer: Footer, owner: Owner | None = None
) -> int:
    """Write a Parquet file under a temporary name, sync it and rename it into place; only its owner may read it.

    Args:
        windows: consecutive stretches of time; each maps a kind to its rows, sorted by seq.
        owner: whom it shall belong to; None: this process.

    Returns:
        its size in bytes.
    """
    # A new file with mode 0600, never one that is there: root writes in directories that are others'.
    descriptor, name = tempfile.mkstemp(prefix=".tracectl-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(descriptor, *owner)
            with pq.ParquetWriter(file, schema, **parquet_options(schema)) as writer:
                for tables in windows:
                    for kind in sorted(tables):
                        writer.write_table(tables[kind].unify_dictionaries(), row_group_size=ROW_GROUP_ROWS)
                writer.add_key_value_metadata({KEY: footer.to_json()})
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

    Args:
        output: the capture to be; ``output`` + ``.recording`` is the directory.
        schema: from :func:`capture_schema`.
        owner: whom the files shall belong to; None: this process.
    """

    def __init__(self, output: Path, schema: pa.Schema, owner: Owner | None = None) -> None:
        self.output = output
        self.directory = output.with_name(output.name + SEGMENTS_SUFFIX)
        self.schema = schema
        self.bytes_written = 0
        self._owner = owner
        self._segments: list[Path] = []
        self._late = False
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise UserError(
                f"{self.directory} exists: another recording is running, or one was cut short",
                f"ask it as it is (tracectl query {self.directory} …), then remove it or choose another -o",
            ) from error
        if owner is not None:
            os.chown(self.directory, *owner, follow_symlinks=False)

    def write(self, tables: Tables, footer: Footer) -> None:
        """Write the next segment: rows later than those of the segments before, unless ``footer.late``."""
        path = self.directory / f"{len(self._segments) + 1:06d}.parquet"
        self.bytes_written += write_file(path, self.schema, [tables], footer, self._owner)
        self._segments.append(path)
        self._late |= footer.late

    def finish(self, footer: Footer) -> Path:
        """Compact all segments into the output file and remove the directory."""
        windows = _windows(self._segments)
        if self._late:
            windows = _renumbered(windows)
            footer.late = False
        write_file(self.output, self.schema, windows, footer, self._owner)
        shutil.rmtree(self.directory)
        return self.output

    def discard_if_empty(self) -> None:
        """After a failure: remove the directory if no segment was finished."""
        if not self._segments:
            shutil.rmtree(self.directory, ignore_errors=True)


def _windows(segments: Iterable[Path]) -> Iterator[Tables]:
    """The segments' rows by kind, in stretches of about WINDOW_ROWS."""
    gathered: dict[str, list[pa.Table]] = defaultdict(list)
    rows = 0
    for segment in segments:
        with pq.ParquetFile(segment) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                gathered[table["kind"][0].as_py()].append(table)
                rows += table.num_rows
        if rows >= WINDOW_ROWS:
            yield {kind: pa.concat_tables(tables) for kind, tables in gathered.items()}
            gathered.clear()
            rows = 0
    if gathered:
        yield {kind: pa.concat_tables(tables) for kind, tables in gathered.items()}


def _renumbered(windows: Iterable[Tables]) -> Iterator[Tables]:
    """All rows in one order again, after some came behind the watermark; only then, since it holds them all."""
    gathered: dict[str, list[pa.Table]] = defaultdict(list)
    for window in windows:
        for kind, table in window.items():
            gathered[kind].append(table)
    whole = {kind: pa.concat_tables(tables) for kind, tables in gathered.items()}
    keys = [np.concatenate([_numbers(t, name) for t in whole.values()]) for name in ("seq", "cpu", "ts")]
    seq = np.empty(len(keys[0]), np.int64)
    seq[np.lexsort(keys)] = np.arange(1, len(seq) + 1)
    done = {}
    start = 0
    for kind, table in whole.items():
        own = seq[start : start + table.num_rows]
        start += table.num_rows
        renumbered = table.set_column(table.schema.get_field_index("seq"), table.schema.field("seq"), pa.array(own))
        done[kind] = renumbered.take(pa.array(np.argsort(own)))
    yield done


def _numbers(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    filled = table[column].combine_chunks().fill_null(-1)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)


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
        columns = {
            column.name: pa.array([row.get(column.name) for row in own], arrow_type(column.type.arrow))
            for column in catalogue.events[kind].columns
        }
        tables[kind] = table_of(schema, kind, columns, len(own))
    write_file(Path(path), schema, [tables], footer)
    return Path(path)
