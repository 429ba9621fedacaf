"""Parquet files put together from row groups: encoded once by pyarrow, then copied byte for byte into any file.

pyarrow cannot copy a row group between files, and spends on a column without values half of what one with values costs
(most columns of a kind are null). So columns with values are encoded by pyarrow; those that are null or the same in all
rows are a few bytes, written here; and the footer is made here, of the parts of pyarrow's that describe the columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tracectl.store import thrift
from tracectl.store.schema import ROW_GROUP_ROWS, parquet_options
from tracectl.store.thrift import BYTES, I32, I64, LIST, STRUCT, Reader, number

_MAGIC = b"PAR1"
# enum Type, Encoding and PageType of parquet.thrift.
_PHYSICAL = {pa.int16(): 1, pa.int32(): 1, pa.int64(): 2}
_BYTE_ARRAY = 6
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
# Members of FileMetaData, RowGroup and ColumnMetaData.
_ROW_GROUPS, _KEY_VALUES = 4, 5
_COLUMNS, _ROWS = 1, 3
_META, _PATH, _RAW_SIZE, _SIZE, _DATA_AT, _DICTIONARY_AT = 3, 3, 6, 7, 9, 11
# A longer text is worth pyarrow's compression, even if it is the same in all rows.
_LONGEST_CONSTANT = 64


@dataclass(frozen=True)
class Chunk:
    """What a footer says of one column of a row group: its ColumnMetaData, cut open where offsets stand.

    Attributes:
        offsets: of its pages, from the begin of the row group's bytes; one between each two of ``parts``.
        raw: size of its pages before compression.
    """

    parts: tuple[bytes, ...]
    offsets: tuple[int, ...]
    raw: int

    def at(self, base: int) -> bytes:
        """The footer's ColumnChunk for a row group whose bytes begin at ``base``."""
        meta = self.parts[0]
        for offset, part in zip(self.offsets, self.parts[1:], strict=True):
            meta += number(base + offset) + part
        return _column_chunk(meta)


def _column_chunk(meta: bytes) -> bytes:
    return b"\x26\0\x1c" + meta + b"\0"  # file_offset 0, as pyarrow has it, then the metadata


@dataclass(frozen=True)
class RowGroup:
    """Rows of one kind, encoded.

    Attributes:
        chunks: column -> what the footer says of it; columns without values are left out.
        size: of its bytes.
        data: its bytes; empty where they lie in a file.
    """

    kind: str
    rows: int
    chunks: dict[str, Chunk]
    size: int
    data: bytes = b""

    def without_data(self) -> RowGroup:
        """The same, its bytes elsewhere."""
        return replace(self, data=b"")


def encode(kind: str, table: pa.Table) -> Iterator[RowGroup]:
    """Encode rows of one kind as row groups of equal size, at most ROW_GROUP_ROWS each."""
    count = -(-table.num_rows // ROW_GROUP_ROWS)
    if not count:
        return
    rows = -(-table.num_rows // count)
    filled = [name for name in table.column_names if table[name].null_count < table.num_rows]
    table = table.select(filled).unify_dictionaries().combine_chunks()
    constant = {name: value for name in filled if (value := _constant(table[name].chunk(0))) is not None}
    varied = table.select([name for name in filled if name not in constant])
    sizes = [min(rows, table.num_rows - start) for start in range(0, table.num_rows, rows)]
    groups = _encoded(varied, rows) if varied.num_columns else iter([({}, b"")] * count)
    for size, (chunks, data) in zip(sizes, groups, strict=True):
        parts, at = [data], len(data)
        made = dict(chunks)
        for name, value in constant.items():
            made[name], pages = _constant_column(table.schema.field(name), value, size, at)
            parts.append(pages)
            at += len(pages)
        yield RowGroup(kind, size, made, at, b"".join(parts))


def _encoded(table: pa.Table, rows: int) -> Iterator[tuple[dict[str, Chunk], bytes]]:
    """pyarrow's chunks and bytes of each row group."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, store_schema=False, **parquet_options(table.schema)) as writer:
        writer.write_table(table, row_group_size=rows)
    data = sink.getvalue()
    begin = end = len(_MAGIC)
    chunks: dict[str, Chunk] = {}
    reader = Reader(_footer_of(data))
    for _ in reader.each(_ROW_GROUPS, _COLUMNS, _META):
        name, chunk, size = _chunk_of(reader, begin)
        chunks[name] = chunk
        end += size
        if len(chunks) == table.num_columns:
            yield chunks, data[begin:end]
            begin, chunks = end, {}


def _footer_of(data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


def _chunk_of(reader: Reader, begin: int) -> tuple[str, Chunk, int]:
    """(column, chunk, size of its pages) of the ColumnMetaData at a place; its row group's bytes begin at ``begin``."""
    parts, offsets, last, sizes, name = [], [], reader.at, {}, ""
    for member, _ in reader.members():
        if member in (_DATA_AT, _DICTIONARY_AT):
            parts.append(reader.data[last : reader.at])
            offsets.append(reader.number() - begin)
            last = reader.at
        elif member in (_RAW_SIZE, _SIZE):
            sizes[member] = reader.number()
        elif member == _PATH:
            for _ in reader.items():
                name = reader.text().decode()
    parts.append(reader.data[last : reader.at])
    return name, Chunk(tuple(parts), tuple(offsets), sizes[_RAW_SIZE]), sizes[_SIZE]


# -- columns that are the same in all rows --


def _constant(values: pa.Array) -> bytes | None:
    """The only value of a column, in Parquet's PLAIN encoding; None where there are others, or nulls."""
    if values.null_count or not len(values):
        return None
    if isinstance(values, pa.DictionaryArray):
        numbers = values.indices.to_numpy()
        if len(values.dictionary) > 1 and not _all_equal(numbers):
            return None
        found = str(values.dictionary[int(numbers[0])]).encode()
        return len(found).to_bytes(4, "little") + found if len(found) <= _LONGEST_CONSTANT else None
    numbers = values.to_numpy()
    if not _all_equal(numbers):
        return None
    return int(numbers[0]).to_bytes(4 * _PHYSICAL[values.type], "little", signed=True)


def _all_equal(numbers: np.ndarray) -> bool:
    return bool(numbers[0] == numbers[-1] and (numbers == numbers[0]).all())


def _constant_column(field: pa.Field, value: bytes, rows: int, at: int) -> tuple[Chunk, bytes]:
    """A dictionary of one value and one run of it, as pages that lie ``at`` bytes behind their row group's begin."""
    dictionary_page = _page(_DICTIONARY_PAGE, 7, ((1, I32, number(1)), (2, I32, number(_PLAIN))), value)
    body = (_levels(rows, 1) if field.nullable else b"") + b"\1" + _run(rows, 0)
    pages = dictionary_page + _data_page(rows, _RLE_DICTIONARY, body)
    plain = value[4:] if field.type not in _PHYSICAL else value
    statistics = thrift.struct((3, I64, number(0)), (5, BYTES, thrift.text(plain)), (6, BYTES, thrift.text(plain)))
    head = _head(field, (_PLAIN, _RLE, _RLE_DICTIONARY)) + _counts(rows, len(pages))
    between = bytes([_DICTIONARY_AT - _DATA_AT << 4 | I64])
    parts = (head, between, _tail(statistics, _DICTIONARY_AT))
    return Chunk(parts, (at + len(dictionary_page), at), len(pages)), pages


class _Nulls:
    """Columns without values, in a row group of so many rows: they differ in name and type alone."""

    def __init__(self, rows: int) -> None:
        self.page = _data_page(rows, _PLAIN, _levels(rows, 0))
        self._counts = _counts(rows, len(self.page))
        self._tail = _tail(thrift.struct((3, I64, number(rows))), _DATA_AT)

    def at(self, base: int, head: bytes) -> bytes:
        """The footer's ColumnChunk of one of them, its ``page`` at ``base``."""
        return _column_chunk(head + self._counts + number(base) + self._tail)


@cache
def _head(field: pa.Field, encodings: tuple[int, ...]) -> bytes:
    """The begin of a ColumnMetaData of uncompressed pages."""
    members = thrift.struct(
        (1, I32, number(_PHYSICAL.get(field.type, _BYTE_ARRAY))),
        (2, LIST, thrift.list_of(I32, [number(encoding) for encoding in encodings])),
        (_PATH, LIST, thrift.list_of(BYTES, [thrift.text(field.name.encode())])),
        (4, I32, number(0)),  # not compressed
    )
    return members[:-1]


def _counts(rows: int, size: int) -> bytes:
    """What follows: numbers, up to the value of data_page_offset."""
    next_member = bytes([1 << 4 | I64])
    numbers = next_member.join([number(rows), number(size), number(size)])
    return next_member + numbers + bytes([_DATA_AT - _SIZE << 4 | I64])


def _tail(statistics: bytes, after: int) -> bytes:
    """The end of a ColumnMetaData, behind its member ``after``."""
    return bytes([12 - after << 4 | STRUCT]) + statistics + b"\0"


def _run(rows: int, value: int) -> bytes:
    """So many times one value below 256, in the RLE encoding."""
    return thrift.varint(rows << 1) + bytes([value])


def _levels(rows: int, level: int) -> bytes:
    """Definition levels, all the same."""
    run = _run(rows, level)
    return len(run).to_bytes(4, "little") + run


def _data_page(rows: int, encoding: int, body: bytes) -> bytes:
    head = ((1, I32, number(rows)), (2, I32, number(encoding)), (3, I32, number(_RLE)), (4, I32, number(_RLE)))
    return _page(_DATA_PAGE, 5, head, body)


def _page(kind: int, member: int, head: tuple[tuple[int, int, bytes], ...], body: bytes) -> bytes:
    size = number(len(body))
    header = ((1, I32, number(kind)), (2, I32, size), (3, I32, size), (member, STRUCT, thrift.struct(*head)))
    return thrift.struct(*header) + body


# -- files --


class Assembly:
    """A Parquet file that grows by row groups, from the begin of ``file`` on.

    Args:
        file: open for writing, empty.
        schema: columns of the file; a row group may lack any that may be null.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema
        self._columns = [(field.name, _head(field, (_PLAIN, _RLE))) for field in schema]
        self._groups: list[bytes] = []
        self._rows = 0
        self._at = file.write(_MAGIC)

    def add(self, group: RowGroup, data: bytes | None = None) -> int:
        """Append a row group; returns where its bytes begin.

        Args:
            data: its bytes, where the group has them not.
        """
        begin = self._at
        pages = [group.data if data is None else data]
        at = begin + group.size
        nulls = _Nulls(group.rows)
        columns: list[bytes] = []
        raw = 0
        for name, head in self._columns:
            chunk = group.chunks.get(name)
            if chunk is None:
                columns.append(nulls.at(at, head))
                pages.append(nulls.page)
                at += len(nulls.page)
            else:
                columns.append(chunk.at(begin))
                raw += chunk.raw
        raw += len(nulls.page) * (len(pages) - 1)
        self._file.write(b"".join(pages))
        self._at = at
        self._rows += group.rows
        self._groups.append(
            thrift.struct(
                (_COLUMNS, LIST, thrift.list_of(STRUCT, columns)), (2, I64, number(raw)),
                (_ROWS, I64, number(group.rows)), (5, I64, number(begin)), (6, I64, number(at - begin)),
            )
        )  # fmt: skip
        return begin

    def close(self, metadata: dict[bytes, bytes]) -> None:
        """Write the footer, with these key-value pairs before those of pyarrow."""
        pairs = [
            thrift.struct((1, BYTES, thrift.text(key)), (2, BYTES, thrift.text(value)))
            for key, value in metadata.items()
        ]
        members = dict(_frame(self._schema))
        members[3] = I64, number(self._rows)
        members[_ROW_GROUPS] = LIST, thrift.list_of(STRUCT, self._groups)
        members[_KEY_VALUES] = LIST, thrift.list_of(STRUCT, [*pairs, members[_KEY_VALUES][1]])
        footer = thrift.struct(*((at, *members[at]) for at in sorted(members)))
        self._file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)


@cache
def _frame(schema: pa.Schema) -> dict[int, tuple[int, bytes]]:
    """pyarrow's FileMetaData of a file without rows: number -> (type, value); of the key-value pairs only its own."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, **parquet_options(schema)):
        pass
    reader = Reader(_footer_of(sink.getvalue()))
    found = {}
    for at, kind in reader.members():
        begin = reader.at
        if at == _KEY_VALUES:
            for _ in reader.items():
                begin = reader.at
                reader.skip(STRUCT)
        else:
            reader.skip(kind)
        found[at] = kind, reader.data[begin : reader.at]
    return found
