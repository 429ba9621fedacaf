"""Captures and answers as tables: CSV, an Arrow stream, and a DuckDB file in which the language's nouns are views."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tracectl import output
from tracectl.store.database import Database, quote_string
from tracectl.store.relations import quote_name

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.export_source import Source
    from tracectl.query import Answer

# What DuckDB keeps beside a file while it writes it.
_BESIDE = ("", ".wal", ".wal.checkpoint", ".wal.recovery")


def _rows_sql(source: Source) -> str:
    present = [name for name in source.capture.catalogue.columns() if name in source.capture.columns]
    return f"SELECT {', '.join(map(quote_name, present))} FROM capture WHERE seq BETWEEN $first AND $last ORDER BY seq"


def _extra(answer: Answer) -> dict[str, object]:
    return {"sql": answer.sql_literal, "qualification": str(answer.qualification), "notes": list(answer.notes)}


def write_csv(stream: IO[bytes], source: Source) -> None:
    """A header and one line per row (RFC 4180), null as nothing: all rows with all columns, or the answer's."""
    import pyarrow.csv as pacsv  # noqa: PLC0415 - slow to import

    if source.answer is not None:
        text = _Utf8(stream)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(source.answer.columns)
        for rows in source.answer.batches():
            writer.writerows([output.exact(value) for value in row] for row in rows)
        return
    plain = pacsv.WriteOptions(include_header=False)
    header = True
    for page in source.pages(["capture"], _rows_sql(source)):
        if header:
            stream.write((",".join(page.column_names) + "\n").encode())
            header = False
        pacsv.write_csv(page, stream, plain)


class _Utf8:
    """Text written to a stream of bytes, which stays open."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


def write_arrow(stream: IO[bytes], source: Source) -> None:
    """An Arrow IPC stream, the capture's footer (or the answer's qualification) in the schema's metadata."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import

    if source.answer is not None:
        output.write_arrow(stream, source.answer.arrow(), _extra(source.answer))
        return
    writer: pa.RecordBatchStreamWriter | None = None
    for page in source.pages(["capture"], _rows_sql(source), every=True):
        if writer is None:
            schema = page.schema.with_metadata({b"tracectl": source.capture.footer.to_json()})
            writer = pa.ipc.new_stream(stream, schema)
        writer.write_table(page.replace_schema_metadata(schema.metadata))
    if writer is not None:
        writer.close()


def write_duckdb(path: Path, source: Source) -> None:
    """A DuckDB database: the table ``capture``, its relations as views, ``footer``, ``answer``."""
    made = [path.with_name(path.name + suffix) for suffix in _BESIDE]
    path.unlink(missing_ok=True)
    try:
        with Database((*source.capture.files, *made), source.memory) as database:
            database.execute(f"ATTACH {quote_string(str(path))} AS made")
            for statement in _statements(source):
                database.execute(statement)
            database.execute("DETACH made")
    finally:
        for beside in made[1:]:  # there only after a failure
            beside.unlink(missing_ok=True)


def _statements(source: Source) -> Iterator[str]:
    footer = quote_string(source.capture.footer.to_json().decode())
    yield f"CREATE TABLE made.capture AS\n{source.relations.with_clause(['capture'])}\nSELECT * FROM capture"
    yield f"CREATE TABLE made.footer AS SELECT CAST({footer} AS JSON) AS footer"
    if source.answer is not None:
        yield f"CREATE TABLE made.answer AS\n{source.answer.sql_literal}"
    yield "USE made"
    yield from (view for view in source.relations.create_views() if not view.startswith("CREATE VIEW capture AS"))
    yield "USE memory"
