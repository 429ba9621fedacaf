"""DuckDB over captures: the one file that runs SQL. Read-only, without access to anything but the capture's files."""

from __future__ import annotations

import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from tracectl.store.errors import CaptureError, GoneError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_MEMORY_LIMIT = "4GiB"


def quote_string(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_path(path: Path) -> str:
    """A path as a literal for ``read_parquet``, where ``* ? [`` in a file's name must not act as a glob."""
    return quote_string("".join(f"[{c}]" if c in "*?[" else c for c in str(path)))


def source_sql(files: Sequence[Path]) -> str:
    """A table expression for FROM with all rows of these files."""
    # A directory named cpu=3 is no column: DuckDB would put it in the place of the recorded one.
    paths = ", ".join(map(quote_path, files))
    return f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"


@dataclass(frozen=True)
class FileMetadata:
    """A Parquet file's key-value metadata and its columns with their DuckDB types."""

    values: dict[bytes, bytes]
    columns: dict[str, str]
    rows: int


def read_metadata(path: Path) -> FileMetadata:
    """Read a Parquet file's footer.

    Raises:
        CaptureError: not a Parquet file, or a truncated one.
    """
    with duckdb.connect() as connection:
        where = quote_path(path)
        try:
            values = connection.execute(f"SELECT key, value FROM parquet_kv_metadata({where})").fetchall()
            columns = connection.execute(f"DESCRIBE SELECT * FROM {source_sql([path])}").fetchall()
            rows = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({where})").fetchall()
        except duckdb.Error as error:
            if not path.exists():
                raise GoneError(f"{path} is gone", _GONE) from error
            raise CaptureError(_not_parquet(path, error), _REMEDY) from error
    return FileMetadata(
        {bytes(key): bytes(value) for key, value in values},
        {str(name): str(kind) for name, kind, *_ in columns},
        sum(int(n) for (n,) in rows),
    )


_REMEDY = "a capture is a Parquet file written by tracectl record"
_GONE = "of a recording that drops its oldest segments, tracectl snapshot makes a capture that stays"


def _not_parquet(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as unreadable:
        return f"{path} cannot be read: {unreadable.strerror}"
    if head == b"PAR1":
        return f"{path} is a truncated or damaged Parquet file ({_first_line(error)})"
    return f"{path} is not a Parquet file"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160]


class Result:
    """The answer to one statement.

    Attributes:
        columns: names.
        types: DuckDB type names, as ``BIGINT``.
    """

    def __init__(
        self, relation: Any, run: Callable[[], AbstractContextManager[Any]], files: Sequence[Path] = ()
    ) -> None:
        self._files = files
        self._relation = relation  # a DuckDBPyRelation, or None after a statement without rows
        self._run = run
        self.columns = list(relation.columns) if relation is not None else []
        self.types = [str(kind) for kind in relation.types] if relation is not None else []

    def only_first(self, count: int) -> None:
        """Make no more than the first so many rows."""
        if self._relation is not None:
            self._relation = self._relation.limit(count)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows, as Python values."""
        if self._relation is None:
            return []
        try:
            rows: list[tuple[Any, ...]] = self._relation.fetchall()
        except duckdb.Error as error:
            raise _translated(error, self._files) from error
        return rows

    def batches(self, size: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """The same, in lists of at most ``size`` rows."""
        if self._relation is None:
            return
        try:
            with self._run() as cursor:
                while rows := cursor.fetchmany(size):
                    yield rows
        except duckdb.Error as error:
            raise _translated(error, self._files) from error

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        import pyarrow as pa  # noqa: PLC0415 -- 138 ms that a printed answer does not need

        if self._relation is None:
            return pa.table({})
        try:
            return self._relation.to_arrow_table()
        except duckdb.Error as error:
            raise _translated(error, self._files) from error


class Database:
    """A DuckDB connection that can read the files given and nothing else.

    Args:
        files: the capture's Parquet files.
        memory_limit: as DuckDB takes it; larger intermediate results spill to a temporary directory.
        threads: worker threads, ``None`` for one per CPU.

    Raises UserError when the memory limit or the number of threads cannot be meant.
    """

    def __init__(
        self, files: Sequence[Path], memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None
    ) -> None:
        self._spill = tempfile.TemporaryDirectory(prefix="tracectl-spill-", ignore_cleanup_errors=True)
        weakref.finalize(self, self._spill.cleanup)
        config: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": self._spill.name}
        if threads:
            config["threads"] = threads
        try:
            self.connection = duckdb.connect(":memory:", config=config)
        except duckdb.Error as error:
            self._spill.cleanup()
            raise UserError(
                f"memory limit {memory_limit}, threads {threads}: {_first_line(error)}",
                "as in 4GiB, 512MiB; threads from 1",
            ) from error
        self._files = files
        self._locked = False
        self._kept = 0
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        allowed = ", ".join(f"{quote_string(str(path))}, {quote_path(path)}" for path in files)
        for setting in (
            f"SET allowed_paths = [{allowed}]",
            "SET enable_external_access = false",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET TimeZone = 'UTC'",
            "SET enable_progress_bar = false",
            # A question is several statements; DuckDB reads the footer again when the file has another time.
            "SET parquet_metadata_cache = true",
        ):
            self.connection.execute(setting)

    def lock(self) -> None:
        """Allow from now on nothing but questions (call it once the views are made)."""
        self.connection.execute("SET lock_configuration = true")
        self._locked = True

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run one statement.

        Raises:
            UserError: what DuckDB says against the statement, in its own words; after :meth:`lock` also a statement
                that is no question.
            CaptureError: a file of the capture is damaged.
        """
        try:
            if self._locked:
                _refuse_writing(sql)
            values = dict(parameters or {})
            return Result(self.connection.sql(sql, params=values), partial(self._running, sql, values), self._files)
        except duckdb.Error as error:
            raise _translated(error, self._files) from error

    def keep(self, sql: str, parameters: Mapping[str, Any]) -> str:
        """Keep the rows of a statement for as long as this connection is open; returns the name of their table."""
        self._kept += 1
        # Not a temporary table, which a cursor of its own would not see.
        self.execute(f"CREATE TABLE answer_{self._kept} AS\n{sql}", parameters)
        if self._kept > _KEPT:
            self.connection.execute(f"DROP TABLE IF EXISTS answer_{self._kept - _KEPT}")
        return f"answer_{self._kept}"

    @contextmanager
    def _running(self, sql: str, values: dict[str, Any]) -> Iterator[Any]:
        """The last statement, run on a cursor of its own: others may run while its rows are read."""
        cursor = self.connection.cursor()
        self._cursors.append(cursor)
        try:
            yield cursor.execute(duckdb.extract_statements(sql)[-1].query, values)
        finally:
            self._cursors.remove(cursor)
            cursor.close()

    def interrupt(self) -> None:
        """Cancel what is running, from another thread or a signal handler."""
        for connection in (self.connection, *self._cursors):
            connection.interrupt()

    def close(self) -> None:
        """Close the connection and remove what was spilled."""
        self.connection.close()
        self._spill.cleanup()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Tables that answers are read from; those of earlier answers than the last so many are gone.
_KEPT = 16
# MULTI is what PIVOT is made of; CREATE stays in memory.
_QUESTIONS = ("SELECT", "EXPLAIN", "MULTI", "CREATE")


def _refuse_writing(sql: str) -> None:
    """Refuse what could write to the capture: DuckDB lets COPY write to the very files it is allowed to read.

    COPY also hides behind EXPLAIN ANALYZE and, since DuckDB 2, in a WITH clause; but always as a word of the statement
    itself, since views, macros and the function query() refuse it.
    """
    text = sql.encode()
    starts = [start for start, _ in duckdb.tokenize(sql)]  # in bytes
    tokens = (text[start:end] for start, end in pairwise([*starts, len(text)]))
    copies = any(re.match(rb"copy\b", token, re.IGNORECASE) for token in tokens)
    kinds = {statement.type.name for statement in duckdb.extract_statements(sql)}
    other = kinds - set(_QUESTIONS)
    if copies or other:
        raise UserError(
            f"not allowed: {', '.join(sorted(other)) or 'COPY'}: a capture is only read",
            'SELECT, FROM, WITH, DESCRIBE, SHOW, SUMMARIZE, PIVOT or EXPLAIN; a column of that name is written "copy"',
        )


def _translated(error: duckdb.Error, files: Sequence[Path]) -> Exception:
    text = str(error)
    gone = next((file for file in files if not file.exists()), None)
    if gone is not None:
        return GoneError(f"{gone} is gone", _GONE)
    # What Parquet's own decoding says against a file comes without a class of its own.
    unreadable = isinstance(error, duckdb.IOException | duckdb.InvalidInputException) and "arquet" in text
    if unreadable or type(error) is duckdb.Error:
        return CaptureError(f"the capture is damaged: {_first_line(error)}", "tracectl check tells where; record again")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UserError(
            f"the answer needs more memory than allowed: {_first_line(error)}", "--memory 8GiB, or a narrower question"
        )
    if "pytz" in text:
        return UserError("a TIMESTAMP WITH TIME ZONE cannot be shown", "cast it: now()::TIMESTAMP")
    if isinstance(error, duckdb.PermissionException):
        return UserError(f"not allowed: {_first_line(error)}", "a capture is read-only and no other file can be read")
    return UserError(text.strip())
