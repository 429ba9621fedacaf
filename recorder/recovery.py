"""One capture of the segments that a killed recording left, or of the newest ones of a recording that still runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracectl.store.capture import SEGMENTS_SUFFIX, Capture, by_number, tail_path
from tracectl.store.compaction import Tables
from tracectl.store.errors import CaptureError, UserError
from tracectl.store.events import KINDS
from tracectl.store.footer import Footer, LedgerLine
from tracectl.store.writer import Owner, compact, is_being_written, table_of_rows

# Behind every number that a recording gives; compaction numbers anew.
_LAST_SEQ = 2**62
_LAST_WORDS_SECONDS = 3.0


@dataclass(frozen=True)
class Recovered:
    """What was made.

    Attributes:
        path: the capture.
        capture: opened.
        damaged: segments that could not be read and are declared lost; the directory is kept then.
    """

    path: Path
    capture: Capture
    damaged: tuple[Path, ...] = ()


def tail(
    footer: Footer, streams: Iterable[str], unsettled: Iterable[LedgerLine]
) -> tuple[list[dict[str, Any]], Footer]:
    """What is missing if nothing follows the segments so far: rows of kind ``lost``, and the footer for them.

    Args:
        footer: of the segments so far; what they cover ends at ``end_ts``.
        unsettled: per stream and CPU, what the kernel has emitted that no segment accounts for.
    """
    # The newest sign of life; how much later the recording ended is not known.
    last = max(footer.end_ts, *(clock["ts"] for clock in footer.clocks[-1:]), footer.start_ts)
    gap = {"kind": "lost", "ts": last, "from_ts": footer.end_ts, "cause": "killed"}
    counted = list(unsettled)
    rows = [gap | {"stream": line.stream, "cpu": line.cpu, "lost_count": line.lost} for line in counted]
    rows += [gap | {"stream": stream, "cpu": None, "lost_count": None} for stream in streams]
    numbered = [row | {"seq": _LAST_SEQ + number} for number, row in enumerate(rows)]
    return numbered, replace(footer, start_ts=footer.end_ts, ledger=counted, complete=False, late=False)


def recover(source: Path, output: Path | None = None, *, force: bool = False) -> Recovered:
    """Make one capture of a killed recording; the directory of segments goes unless one of them was damaged.

    Args:
        source: the directory, or the capture that it was to become.
        output: default: the capture that it was to become.

    Raises:
        UserError: no such directory, it is still being recorded, or the output exists.
        CaptureError: nothing was finished.
    """
    directory = _directory_of(source)
    path = _target(directory, output, force)
    if _goes_on(directory):
        raise UserError(
            f"{directory} is still being recorded", "stop the recording, or copy from it: tracectl snapshot"
        )
    segments = sorted(directory.glob("[0-9]*.parquet"), key=by_number)
    number = int(segments[-1].stem) if segments else 0
    parts, damaged = _readable(segments)
    ends, unreadable = _readable(end for end in [tail_path(directory, number)] if end.exists())
    if not parts and not ends:
        raise CaptureError(f"{directory} holds no finished segment", "nothing was recorded; it can be removed")
    footers = [part.footer for part in (*parts, *ends)]
    notes = _holes([*parts, *ends])
    if unreadable or (damaged and not ends):
        notes += tail(footers[-1], sorted(parts[-1].streams), [])[0]
    cut = bool(ends or unreadable)  # else it was ended, and killed while its capture was made
    if cut:
        notes += coverage(_whole(footers), footers[-1].end_ts)
    damaged += unreadable
    complete = not cut and not damaged
    pieces: list[Path | Tables] = [part.files[0] for part in (*parts, *ends)]
    whole = replace(_whole(footers), complete=complete)
    _write(path, directory, [*pieces, *_notes(pq.read_schema(pieces[0]), notes)], whole)
    if not damaged:
        shutil.rmtree(directory)
    return Recovered(path, Capture.open(path), tuple(damaged))


def snapshot(source: Path, output: Path, *, last_ns: int | None = None, force: bool = False) -> Recovered:
    """Copy the newest segments of a recording, running or not, into one capture.

    Args:
        last_ns: how far back; whole segments (about a second each) are taken. None: everything that is there.

    Raises:
        UserError: no such directory, or the output exists.
        CaptureError: nothing was finished yet.
    """
    directory = _directory_of(source)
    path = _target(directory, output, force)
    with _held(directory, path) as segments:
        parts, damaged = _readable(segments)
        if damaged or not parts:
            what = f"{damaged[0].name} is damaged" if damaged else "no finished segment"
            raise CaptureError(f"{directory}: {what}", "the first one appears a second after the begin")
        newest = parts[-1].footer.end_ts
        chosen = [part for part in parts if last_ns is None or part.footer.end_ts > newest - last_ns]
        footer = _whole([part.footer for part in chosen])
        ended = (
            chosen[-1] is parts[-1] and not tail_path(directory, int(chosen[-1].files[0].stem)).exists()
        )  # its last segment has them
        notes = (
            _tasks(parts[: -len(chosen)], footer.start_ts)
            + _holes(chosen)
            + ([] if ended else coverage(footer, newest))
        )
        pieces: list[Path | Tables] = [part.files[0] for part in chosen]
        _write(path, path.parent, [*pieces, *_notes(pq.read_schema(pieces[0]), notes)], footer)
    return Recovered(path, Capture.open(path))


def coverage(footer: Footer, ts: int) -> list[dict[str, Any]]:
    """Rows of kind ``coverage``: each kind was recorded from the begin to ``ts``."""
    events = footer.catalogue().events
    return [
        {
            "kind": "coverage", "ts": ts, "cpu": None, "stream": events[kind].stream, "from_ts": footer.start_ts,
            "covered_kind": kind, "filter": footer.filter_of(kind), "seq": _LAST_SEQ,
        }
        for kind in footer.kinds
    ]  # fmt: skip


def _goes_on(directory: Path) -> bool:
    """Whether it is being written; what a killed one has left to write takes a moment."""
    end = time.monotonic() + _LAST_WORDS_SECONDS
    while is_being_written(directory):
        if time.monotonic() > end:
            return True
        time.sleep(0.05)
    return False


def _directory_of(source: Path) -> Path:
    beside = source.with_name(source.name + SEGMENTS_SUFFIX)
    for directory in (source, beside):
        if directory.is_dir():
            return directory
    if source.is_file():
        raise UserError(f"{source} is a capture, not a directory of segments", f"the directory is called {beside.name}")
    raise UserError(f"no such directory: {source}", f"a recording leaves one called NAME{SEGMENTS_SUFFIX}")


def _target(directory: Path, output: Path | None, force: bool) -> Path:
    path = output or directory.with_name(directory.name.removesuffix(SEGMENTS_SUFFIX))
    if path == directory:
        raise UserError(f"{directory}: what shall the capture be called?", "-o FILE")
    if path.is_dir() or (path.exists() and not force):
        raise UserError(
            f"{path} exists", "-o names another" if path.is_dir() else "--force replaces it, -o names another"
        )
    if not path.absolute().parent.is_dir():
        raise UserError(f"no such directory: {path.absolute().parent}", f"mkdir -p {path.absolute().parent}")
    return path


def _readable(files: Iterable[Path]) -> tuple[list[Capture], list[Path]]:
    parts, damaged = [], []
    for file in files:
        try:
            parts.append(Capture.open(file))
        except CaptureError:
            damaged.append(file)
    return parts, damaged


@contextmanager
def _held(directory: Path, path: Path) -> Iterator[list[Path]]:
    """The segments under names of our own, since the recording may drop or finish its own at any moment."""
    with tempfile.TemporaryDirectory(prefix=".tracectl-", dir=path.absolute().parent) as place:
        for segment in sorted(directory.glob("[0-9]*.parquet"), key=by_number):
            try:
                os.link(segment, Path(place) / segment.name)
            except FileNotFoundError:
                continue  # dropped meanwhile
            except OSError:  # another file system
                shutil.copyfile(segment, Path(place) / segment.name)
        yield sorted(Path(place).iterdir(), key=by_number)


def _holes(parts: list[Capture]) -> list[dict[str, Any]]:
    """Gaps where a segment is missing between two others."""
    rows = []
    for before, after in pairwise(parts):
        expected = int(before.files[0].stem) + (after.files[0].suffix == ".parquet")
        if int(after.files[0].stem) != expected:
            gap = {"kind": "lost", "ts": after.start_ts, "from_ts": before.end_ts, "cause": "killed", "seq": _LAST_SEQ}
            rows += [gap | {"stream": stream, "cpu": None, "lost_count": None} for stream in sorted(before.streams)]
    return rows


def _tasks(parts: list[Capture], ts: int) -> list[dict[str, Any]]:
    """The threads that segments before ``ts`` tell of, as rows at ``ts``."""
    newest: dict[int, dict[str, Any]] = {}
    for part in parts:
        for row in pq.read_table(part.files[0], filters=[("kind", "=", "task")]).to_pylist():
            newest[row["tid"]] = row | {"ts": ts, "seq": 0}
    return list(newest.values())


def _whole(footers: list[Footer]) -> Footer:
    """The footer of all of these together."""
    books: dict[tuple[str, int], LedgerLine] = {}
    for line in (line for footer in footers for line in footer.ledger):
        known = books.get((line.stream, line.cpu))
        books[line.stream, line.cpu] = line if known is None else known + line
    return replace(
        footers[-1],
        start_ts=min(footer.start_ts for footer in footers),
        end_ts=max(footer.end_ts for footer in footers),
        clocks=[*footers[0].clocks[:1], *footers[-1].clocks[-1:]],
        ledger=[books[place] for place in sorted(books)],
    )


def _notes(schema: pa.Schema, rows: list[dict[str, Any]]) -> list[Tables]:
    """Bookkeeping rows as one more piece to be put in order, or none."""
    kinds = sorted({row["kind"] for row in rows})
    tables = {
        kind: table_of_rows(schema.remove_metadata(), KINDS[kind], [row for row in rows if row["kind"] == kind])
        for kind in kinds
    }
    return [tables] if tables else []


def _write(path: Path, directory: Path, pieces: list[Path | Tables], footer: Footer) -> None:
    there = directory.stat()
    owner: Owner | None = (there.st_uid, there.st_gid) if os.geteuid() == 0 else None
    schema = pq.read_schema(pieces[0]).remove_metadata()
    try:
        compact(path, schema, pieces, footer, owner, renumber=True)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"writing {path} failed: {error.strerror}", "-o names a file on another disk") from error
        text = str(error).splitlines()[0][:160]
        raise CaptureError(
            f"{directory}: a segment is damaged: {text}", "tracectl check DIRECTORY tells which"
        ) from error
