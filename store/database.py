"""DuckDB over captures: the one file that runs SQL. Read-only, without access to anything but the capture's files."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from tracectl.store.errors import CaptureError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_MEMORY_LIMIT = "4GiB"


def quote_string(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_path(path: Path) -> str:
    """A path as a literal for ``read_parquet``, where ``* ? [`` in a file's name must not act as a glob."""
    return quote_string("".join(f"[{c}]" if c in "*?[" else c for c in str(path)))


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
            columns = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({where})").fetchall()
            rows = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({where})").fetchall()
        except duckdb.Error as error:
            raise CaptureError(_not_parquet(path, error), _REMEDY) from error
    return FileMetadata(
        {bytes(key): bytes(value) for key, value in values},
        {str(name): str(kind) for name, kind, *_ in columns},
        sum(int(n) for (n,) in rows),
    )


_REMEDY = "a capture is a Parquet file written by tracectl record"


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

    def __init__(self, relation: Any) -> None:  # a DuckDBPyRelation, or None after a statement without rows
        self._relation = relation
        self.columns = list(relation.columns) if relation is not None else []
        self.types = [str(kind) for kind in relation.types] if relation is not None else []

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows, as Python values."""
        if self._relation is None:
            return []
        try:
            rows: list[tuple[Any, ...]] = self._relation.fetchall()
        except duckdb.Error as error:
            raise _translated(error) from error
        return rows

    def batches(self, size: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """The same, in lists of at most ``size`` rows."""
        while self._relation is not None:
            try:
                rows = self._relation.fetchmany(size)
            except duckdb.Error as error:
                raise _translated(error) from error
            if not rows:
                return
            yield rows

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        import pyarrow as pa  # noqa: PLC0415 -- 138 ms that a printed answer does not need

        if self._relation is None:
            return pa.table({})
        try:
            return self._relation.to_arrow_table()
        except duckdb.Error as error:
            raise _translated(error) from error


class Database:
    """A DuckDB connection that can read the files given and nothing else.

    Args:
        files: the capture's Parquet files.
        memory_limit: as DuckDB takes it; larger intermediate results spill to a temporary directory.
        threads: worker threads, ``None`` for one per CPU.
    """

    def __init__(
        self, files: Sequence[Path], memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None
    ) -> None:
        self._spill = tempfile.TemporaryDirectory(prefix="tracectl-spill-", ignore_cleanup_errors=True)
        weakref.finalize(self, self._spill.cleanup)
        config: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": self._spill.name}
        if threads:
            config["threads"] = threads
        self.connection = duckdb.connect(":memory:", config=config)
        allowed = ", ".join(f"{quote_string(str(path))}, {quote_path(path)}" for path in files)
        for setting in (
            f"SET allowed_paths = [{allowed}]",
            "SET enable_external_access = false",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET TimeZone = 'UTC'",
            "SET enable_progress_bar = false",
        ):
            self.connection.execute(setting)

    def lock(self) -> None:
        """Allow no further change of settings (call it once the views are made)."""
        self.connection.execute("SET lock_configuration = true")

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run one statement.

        Raises:
            UserError: what DuckDB says against the statement, in its own words.
            CaptureError: a file of the capture is damaged.
        """
        try:
            return Result(self.connection.sql(sql, params=dict(parameters or {})))
        except duckdb.Error as error:
            raise _translated(error) from error

    def interrupt(self) -> None:
        """Cancel the running statement, from another thread or a signal handler."""
        self.connection.interrupt()

    def close(self) -> None:
        """Close the connection and remove what was spilled."""
        self.connection.close()
        self._spill.cleanup()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _translated(error: duckdb.Error) -> Exception:
    text = str(error)
    if isinstance(error, duckdb.IOException | duckdb.InvalidInputException) and "arquet" in text:
        return CaptureError(f"the capture is damaged: {_first_line(error)}", "tracectl check tells where; record again")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UserError(
            f"the answer needs more memory than allowed: {_first_line(error)}", "--memory 8GiB, or a narrower question"
        )
    if isinstance(error, duckdb.PermissionException):
        return UserError(f"not allowed: {_first_line(error)}", "a capture is read-only and no other file can be read")
    return UserError(text.strip())
