"""A capture on disk: one Parquet file, or a directory of segments, opened and checked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tracectl.store import checksum
from tracectl.store.database import DEFAULT_MEMORY_LIMIT, Database, read_metadata
from tracectl.store.errors import CaptureError, GoneError, UserError
from tracectl.store.events import BASE_FIELDS, Catalogue
from tracectl.store.footer import KEY, Footer, LedgerLine

SEGMENTS_SUFFIX = ".recording"
_SQL_TYPES = {"int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR"}
_CHANGED = "it was changed after recording; take the original"
_ATTEMPTS = 5
_WRITTEN_BY = "a capture is written by tracectl record"


@dataclass(frozen=True)
class Capture:
    """An opened capture.

    Attributes:
        path: as given.
        files: its Parquet files, absolute, in time order.
        columns: column -> DuckDB type, over all files.
        footers: one per file.
        rows: rows over all files.
    """

    path: Path
    files: tuple[Path, ...]
    columns: dict[str, str]
    footers: tuple[Footer, ...]
    rows: int

    @classmethod
    def open(cls, path: str | Path) -> Capture:
        """Open a capture file, or the directory of segments a running or ended recording left.

        Raises:
            UserError: no such file.
            CaptureError: not a capture, damaged, or of a later format.
        """
        path = Path(path)
        for _ in range(_ATTEMPTS - 1):
            try:
                return cls._open(path)
            except GoneError:
                continue  # a running recording dropped it after it was listed
        return cls._open(path)

    @classmethod
    def _open(cls, path: Path) -> Capture:
        files = _files_of(path)
        columns: dict[str, str] = {}
        footers = []
        rows = size = 0
        for file in files:
            metadata = read_metadata(file)
            size += _size(file)
            if checksum.KEY in metadata.values and size <= checksum.LIMIT:
                checksum.verify(file, metadata.values[checksum.KEY])
            text = metadata.values.get(KEY)
            if text is None:
                raise CaptureError(
                    f"{file} is a Parquet file but not a capture: it has no tracectl footer", _WRITTEN_BY
                )
            footer = Footer.from_json(text, str(file))
            _check_columns(file, footer, metadata.columns)
            footers.append(footer)
            columns |= metadata.columns
            rows += metadata.rows
        boots = {footer.boot_id for footer in footers if footer.boot_id}
        if len(boots) > 1:
            raise CaptureError(
                f"{path} holds segments of {len(boots)} recordings: the machine was started anew in between",
                "the segments of each recording in a directory of their own",
            )
        return cls(path, files, columns, tuple(footers), rows)

    @property
    def footer(self) -> Footer:
        """The newest file's footer (host, kernel, command line, kinds)."""
        return self.footers[-1]

    @cached_property
    def catalogue(self) -> Catalogue:
        """All kinds the files declare, besides the built-in ones."""
        merged: dict[str, dict[str, object]] = {}
        for footer in self.footers:
            merged |= {str(entry["kind"]): entry for entry in footer.extra_events}
        return Footer([], [], 0, 0, extra_events=list(merged.values())).catalogue()

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Kinds whose probes were attached, whether or not they fired."""
        return frozenset(kind for footer in self.footers for kind in footer.kinds)

    @cached_property
    def filled(self) -> frozenset[str]:
        """Optional columns of the catalogue that every file fills which has their kind, as ``kind.column``."""
        given = {f"{kind}.{column}" for f in self.footers for kind, columns in f.filled.items() for column in columns}
        return frozenset(
            name
            for name in given
            for kind, _, column in [name.partition(".")]
            if all(column in footer.filled.get(kind, ()) for footer in self.footers if kind in footer.kinds)
        )

    @cached_property
    def streams(self) -> frozenset[str]:
        """Streams that were recorded."""
        known = self.catalogue.events
        return frozenset(known[kind].stream for kind in self.kinds if kind in known)

    @cached_property
    def cpus(self) -> tuple[int, ...]:
        """CPUs that were recorded."""
        return tuple(sorted({cpu for footer in self.footers for cpu in footer.cpus}))

    @property
    def start_ts(self) -> int:
        """Begin of the recording, ns monotonic."""
        return min(footer.start_ts for footer in self.footers)

    @property
    def end_ts(self) -> int:
        """End of what was recorded, ns monotonic."""
        return max(footer.end_ts for footer in self.footers)

    @cached_property
    def clocks(self) -> tuple[tuple[int, int], ...]:
        """Readings of the monotonic and the wall clock at one moment each, ns, in order; empty: none was recorded."""
        both = (clock for one in self.footers for clock in one.clocks if {"ts", "realtime"} <= clock.keys())
        return tuple(sorted({(clock["ts"], clock["realtime"]) for clock in both}))

    @property
    def filter(self) -> str | None:
        """The task filter of the recording in words; None: everything was recorded."""
        return self.footer.filter

    @property
    def complete(self) -> bool:
        """Whether the recording was ended cleanly; else what came after the last segment is gone."""
        return all(footer.complete for footer in self.footers)

    def ledger(self) -> list[LedgerLine]:
        """The ledger per stream and CPU, summed over the files."""
        books: dict[tuple[str, int], LedgerLine] = {}
        for line in (line for footer in self.footers for line in footer.ledger):
            known = books.get((line.stream, line.cpu))
            books[line.stream, line.cpu] = line if known is None else known + line
        return [books[place] for place in sorted(books)]

    def ledger_by_stream(self) -> dict[str, LedgerLine]:
        """The ledger summed over CPUs (``cpu`` is -1)."""
        grouped: dict[str, list[LedgerLine]] = defaultdict(list)
        for line in self.ledger():
            grouped[line.stream].append(line)
        return {
            stream: LedgerLine(stream, -1, *(sum(getattr(line, count) for line in lines) for count in _COUNTS))
            for stream, lines in grouped.items()
        }

    def database(self, memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> Database:
        """A DuckDB connection that can read this capture and nothing else."""
        return Database(self.files, memory_limit, threads)


_COUNTS = ("emitted", "recorded", "lost", "skipped")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError as error:
        raise GoneError(f"{file} is gone") from error


def by_number(segment: Path) -> tuple[int, str]:
    """Sorting key of segments: the millionth has a longer name than those before it."""
    return len(segment.name), segment.name


def tail_path(directory: Path, number: int) -> Path:
    """The file in a directory of segments that says what is missing behind segment ``number`` (0: no segment yet)."""
    return directory / f"{number:06d}.tail"


def holds_segments(directory: Path) -> bool:
    """Whether a directory holds the segments of one recording, by their names; they need not be finished yet."""
    stems = [file.stem for file in directory.glob("*.parquet")]
    return all(map(str.isdecimal, stems)) and bool(stems or directory.name.endswith(SEGMENTS_SUFFIX))


def _files_of(path: Path) -> tuple[Path, ...]:
    try:
        files = _existing_files(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", _WRITTEN_BY) from error
    for file in files:
        # DuckDB takes a backslash as an escape as soon as there is a glob character to be escaped.
        if "\\" in str(file) and any(c in str(file) for c in "*?["):
            raise UserError(f"{file}: a backslash and one of * ? [ in one path cannot be read", "rename it")
    return files


def _existing_files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        if not holds_segments(path) and any(path.glob("*.parquet")):
            raise UserError(f"{path} holds several captures", "name one; query, diff, info and sql take several")
        files = tuple(sorted((file.absolute() for file in path.glob("*.parquet")), key=by_number))
        number = int(files[-1].stem) if files and files[-1].stem.isdecimal() else 0
        tail = tail_path(path, number).absolute()
        files += (tail,) if tail.is_file() else ()
        if not files:
            raise CaptureError(f"{path} holds no finished segment", _WRITTEN_BY)
        return files
    if path.is_file():
        return (path.absolute(),)
    if path.exists():
        raise CaptureError(f"{path} is not a regular file", _WRITTEN_BY)
    segments = path.with_name(path.name + SEGMENTS_SUFFIX)
    if segments.is_dir():
        raise UserError(
            f"{path} is still being recorded, or its recording was cut short",
            f"what is there so far can be asked: {segments}; tracectl recover makes a capture of it",
        )
    nearby = sorted(file.name for file in path.parent.glob("*.parquet"))[:5] if path.parent.is_dir() else []
    raise UserError(f"no such capture: {path}", f"there is: {', '.join(nearby)}" if nearby else _WRITTEN_BY)


def _check_columns(file: Path, footer: Footer, columns: dict[str, str]) -> None:
    catalogue = footer.catalogue()
    needed = {column.name for column in BASE_FIELDS}
    for kind in footer.kinds:
        if kind in catalogue.events:
            needed |= {column.name for column in catalogue.events[kind].fields}
    missing = sorted(needed - columns.keys())
    if missing:
        raise CaptureError(f"{file} lacks what its own footer promises: column {', '.join(missing)}", _CHANGED)
    for name, column in catalogue.columns().items():
        if name in columns and columns[name] != _SQL_TYPES[column.type.arrow]:
            raise CaptureError(
                f"{file}: column {name} is {columns[name]}, not {_SQL_TYPES[column.type.arrow]}", _CHANGED
            )
