"""Writing captures: segments while recording, one file in the end, each appearing whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracectl.store import checksum
from tracectl.store.capture import SEGMENTS_SUFFIX, tail_path
from tracectl.store.compaction import Joiner, Kept, Piece, Tables, Window, windows_of
from tracectl.store.errors import UserError
from tracectl.store.events import Event
from tracectl.store.footer import KEY, Footer
from tracectl.store.parquet import Assembly, RowGroup, encode
from tracectl.store.schema import ROW_GROUP_ROWS, arrow_type, capture_schema, table_of

Owner = tuple[int, int]  # uid, gid
# Row groups of fewer rows are joined at compaction, larger ones are copied as they are.
_SMALL = ROW_GROUP_ROWS // 2


def write_file(
    path: Path,
    schema: pa.Schema,
    windows: Iterable[Window],
    footer: Footer,
    owner: Owner | None = None,
    *,
    folder: Path | None = None,
    keep: list[Kept] | None = None,
) -> int:
    """Write a Parquet file under a temporary name, sync it and rename it into place; only its owner may read it.

    Args:
        windows: consecutive stretches of time; each maps a kind to its rows, sorted by seq.
        owner: whom it shall belong to; None: this process.
        folder: where it is until it is finished; None: beside ``path``.
        keep: is given the row groups that need not be encoded again.

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
            assembly = Assembly(file, schema)
            for number, (group, data) in enumerate(_row_groups(windows)):
                begin = assembly.add(group, data)
                if keep is not None and group.rows >= _SMALL:
                    keep.append(Kept(path, number, begin, group.without_data()))
            assembly.close({KEY: footer.to_json(), checksum.KEY: checksum.PLACEHOLDER})
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


def _row_groups(windows: Iterable[Window]) -> Iterator[tuple[RowGroup, bytes | None]]:
    """The row groups of a file, with their bytes where they are copied."""
    for window in windows:
        for kind, parts in sorted(window.items()):
            for part in (parts,) if isinstance(parts, pa.Table) else parts:
                if isinstance(part, Kept):
                    with part.path.open("rb") as file:
                        file.seek(part.begin)
                        yield part.group, file.read(part.group.size)
                else:
                    yield from ((group, None) for group in encode(kind, part))


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
        self._kept: dict[Path, list[Kept]] = {}
        self._joiner = Joiner(self.directory)
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
        kept: list[Kept] = []
        self._sizes[path] = write_file(path, self.schema, [tables], footer, self._owner, keep=kept)
        if not self.stay:
            self._kept[path] = kept
            self._joiner.add(tables, kept)
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
        if self._late:
            compact(
                self.output, self.schema, self.segments, footer, self._owner, renumber=True, folder=self.directory,
                kept=self._kept,
            )  # fmt: skip
        else:
            windows = self._joiner.windows()
            write_file(self.output, self.schema, windows, footer, self._owner, folder=self.directory)
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


def compact(
    path: Path,
    schema: pa.Schema,
    pieces: Sequence[Piece],
    footer: Footer,
    owner: Owner | None = None,
    *,
    renumber: bool = False,
    folder: Path | None = None,
    kept: Mapping[Path, Sequence[Kept]] | None = None,
) -> int:
    """Make one file of consecutive segments; returns its size in bytes.

    Args:
        folder: where it is until it is finished; None: beside ``path``.
        pieces: segment files, or tables as in :func:`write_file`.
        renumber: put all rows in one order and number them anew, since pieces overlap in time. What is held in
            memory meanwhile is one segment and the rows that a later one may still precede.
        kept: row groups of the segments that are copied unless they are numbered anew.
    """
    if renumber:
        footer.late = False
    windows = windows_of(pieces, kept or {}, renumber=renumber)
    return write_file(path, schema, windows, footer, owner, folder=folder)


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
    for kind in used:
        optional = {column.name for column in catalogue.events[kind].optional}
        given = {name for row in numbered if row["kind"] == kind for name in row if row[name] is not None}
        if optional & given and kind not in footer.filled:
            footer.filled[kind] = sorted(optional & given)
    schema = capture_schema(catalogue, set(footer.kinds) | used)
    tables = {}
    for kind in sorted({row["kind"] for row in numbered}):
        own = [row for row in numbered if row["kind"] == kind]
        tables[kind] = table_of_rows(schema, catalogue.events[kind], own)
    write_file(Path(path), schema, [tables], footer)
    return Path(path)
