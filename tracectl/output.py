"""Answers as data: json, csv, parquet and arrow, exact to the last digit, and where an answer goes."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tracectl.store.errors import UserError
from tracectl.text import visible

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "json", "csv", "parquet", "arrow")
BINARY = frozenset({"parquet", "arrow"})
_METADATA_KEY = b"tracectl.answer"


def format_of(chosen: str | None, path: Path | None) -> str:
    """The format asked for, or that of the file's suffix, or a table."""
    suffix = path.suffix[1:].lower() if path else ""
    return chosen or (suffix if suffix in FORMATS else "table")


@contextmanager
def destination(path: Path | None, form: str, force: bool) -> Iterator[IO[Any]]:
    """Where the answer is written: stdout, or a file that appears whole at the end or not at all.

    Raises:
        UserError: the file exists and ``force`` is not given, it cannot be written, or a binary format would go to
            a terminal.
    """
    if path is None:
        if form not in BINARY:
            yield sys.stdout
        elif sys.stdout.isatty():
            raise UserError(f"{form} is not for a terminal", f"name a file: -o answer.{form}")
        else:
            yield sys.stdout.buffer
        return
    check_target(path, force)
    part: Path | None = None
    try:
        if path.exists() and not path.is_file():  # a device or pipe, such as /dev/stdout: nothing to replace
            with _opened(path, form) as file:
                yield file
            return
        path = path.resolve()  # a link keeps pointing where it did
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        with _opened(part, form) as file:
            yield file
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "another file for -o") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _opened(path: Path, form: str) -> IO[Any]:
    return path.open("wb") if form in BINARY else path.open("w", encoding="utf-8", newline="")


def check_target(path: Path, force: bool) -> None:
    """Refuse to write over a file, unless forced.

    Raises:
        UserError: it is a file already there, or a directory.
    """
    if path.is_dir():
        raise UserError(f"{path} is a directory", "a file name for -o")
    if path.is_file() and not force:
        raise UserError(f"{path} exists already", "--force to write over it, or another file for -o")


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_json(
    stream: IO[str], columns: Sequence[str], rows: Sequence[Sequence[Any]], extra: Mapping[str, object]
) -> None:
    """``{"rows": [{column: value, …}, …], …extra}``, one row a line; ns as whole numbers, NaN and infinity as null."""
    names = unique(columns)
    stream.write('{"rows": [')
    for number, row in enumerate(rows):
        stream.write(",\n" if number else "\n")
        stream.write(json.dumps({name: exact(value) for name, value in zip(names, row, strict=True)}))
    stream.write("\n]" if rows else "]")
    for key, value in extra.items():
        stream.write(f",\n{json.dumps(key)}: {json.dumps(value)}")
    stream.write("}\n")


def write_folded(stream: IO[str], rows: Sequence[Sequence[Any]]) -> None:
    """``frame;frame value`` lines, as flamegraph.pl and its kin read them; what has no value is left out."""
    stream.writelines(f"{visible(str(row[0]))} {row[1]}\n" for row in rows if row[1])


def write_csv(stream: IO[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A header and the rows as RFC 4180 has it, null as nothing. On a terminal, control characters are made visible."""
    show: Callable[[object], object] = _shown if stream.isatty() else exact
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([show(value) for value in row])


def write_parquet(stream: IO[bytes], table: pa.Table, extra: Mapping[str, object]) -> None:
    """A Parquet file; ``extra`` as JSON in its metadata under ``tracectl.answer``."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, and only this format needs it

    pq.write_table(_with_metadata(table, extra), stream)


def write_arrow(stream: IO[bytes], table: pa.Table, extra: Mapping[str, object]) -> None:
    """An Arrow IPC stream; ``extra`` as JSON in the schema's metadata under ``tracectl.answer``."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and only this format needs it

    described = _with_metadata(table, extra)
    with pa.ipc.new_stream(stream, described.schema) as writer:
        writer.write_table(described)


def _with_metadata(table: pa.Table, extra: Mapping[str, object]) -> pa.Table:
    renamed = table.rename_columns(unique(table.column_names))
    return renamed.replace_schema_metadata({_METADATA_KEY: json.dumps(extra).encode()})


def exact(value: object) -> object:
    """A value as JSON and CSV can hold it without losing anything."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _shown(value: object) -> object:
    made = exact(value)
    return visible(made) if isinstance(made, str) else made


def unique(names: Sequence[str]) -> list[str]:
    """The names with ``_2``, ``_3`` … added where one comes again (SQL allows that, records do not)."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found
