"""Row groups that were encoded once and copied: pyarrow and DuckDB read the same values from every file they are in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.store import parquet, thrift
from tracectl.store.parquet import Assembly, RowGroup, encode

TYPES = {"i2": pa.int16(), "i4": pa.int32(), "i8": pa.int64(), "s": pa.dictionary(pa.int32(), pa.string())}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i2": st.integers(-(2**15), 2**15 - 1),
    "i4": st.integers(-(2**31), 2**31 - 1),
    "i8": st.integers(-(2**63), 2**63 - 1),
    "s": st.text(st.characters(exclude_categories=("Cs",)), max_size=80),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Columns that are null, constant, partly null or anything, nullable or not, in one or more chunks."""
    rows = draw(st.integers(1, 40))
    fields, columns = [], []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(TYPES)))
        form = draw(st.sampled_from(("null", "constant", "some", "all")))
        value = VALUES[kind]
        values = {
            "null": st.just([None] * rows),
            "constant": value.map(lambda one: [one] * rows),
            "some": st.lists(value | st.none(), min_size=rows, max_size=rows),
            "all": st.lists(value, min_size=rows, max_size=rows),
        }
        found = draw(values[form])
        fields.append(pa.field(f"c{number}", TYPES[kind], nullable=None in found or draw(st.booleans())))
        cut = draw(st.integers(0, rows))
        columns.append(pa.chunked_array([pa.array(found[:cut], TYPES[kind]), pa.array(found[cut:], TYPES[kind])]))
    return pa.table(columns, schema=pa.schema(fields))


def assembled(path: Path, schema: pa.Schema, groups: list[RowGroup]) -> list[tuple[RowGroup, int]]:
    with path.open("wb") as file:
        assembly = Assembly(file, schema)
        placed = [(group, assembly.add(group)) for group in groups]
        assembly.close({b"mine": b"kept"})
    return placed


def check(path: Path, table: pa.Table) -> None:
    read = pq.read_table(path)
    assert read.schema.equals(table.schema)
    assert read.to_pydict() == table.to_pydict()
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    assert found == [tuple(row.values()) for row in table.to_pylist()]
    assert pq.read_metadata(path).metadata[b"mine"] == b"kept"


def check_statistics(path: Path, table: pa.Table) -> None:
    """The bounds that queries skip row groups by, wherever the footer states them."""
    metadata = pq.read_metadata(path)
    start = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        part = table.slice(start, group.num_rows)
        start += group.num_rows
        for index, name in enumerate(table.column_names):
            values = [value for value in part[name].to_pylist() if value is not None]
            statistics = group.column(index).statistics
            assert statistics is None or statistics.null_count == part.num_rows - len(values)
            # (Of a group without values pyarrow may state bounds: they keep nothing from being read.)
            if values and statistics is not None and statistics.has_min_max:
                order = (lambda text: text.encode()) if isinstance(values[0], str) else None
                assert (statistics.min, statistics.max) == (min(values, key=order), max(values, key=order))
            assert group.column(index).num_values == part.num_rows


@settings(max_examples=150)
@given(tables(), st.integers(1, 50))
def test_what_is_read_is_what_was_written_and_copies_are_equal(table: pa.Table, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(parquet, "ROW_GROUP_ROWS", rows)
        first, copy = Path(folder) / "first.parquet", Path(folder) / "copy.parquet"
        placed = assembled(first, table.schema, list(encode("any", table)))
        check(first, table)
        check_statistics(first, table)
        assert max(group.rows for group, _ in placed) <= rows
        # Behind other rows, so that every offset changes.
        data = first.read_bytes()
        with copy.open("wb") as file:
            assembly = Assembly(file, table.schema)
            for group in encode("any", table.slice(0, 1)):
                assembly.add(group)
            for group, begin in placed:
                assembly.add(group.without_data(), data[begin : begin + group.size])
            assembly.close({b"mine": b"kept"})
        check(copy, pa.concat_tables([table.slice(0, 1), table]))


def test_columns_that_a_row_group_lacks_are_null(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int32()), pa.field("b", pa.dictionary(pa.int32(), pa.string()))])
    narrow = pa.table({"a": pa.array([1, 2, 3], pa.int32())})
    assembled(tmp_path / "c.parquet", schema, list(encode("any", narrow)))
    check(tmp_path / "c.parquet", pa.table({"a": narrow["a"], "b": pa.nulls(3, schema.field("b").type)}, schema=schema))


def test_many_row_groups_and_a_file_without_any(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(100), pa.int64())})
    groups = [group for start in range(100) for group in encode("any", table.slice(start, 1))]
    assembled(tmp_path / "many.parquet", table.schema, groups)
    check(tmp_path / "many.parquet", table)
    assembled(tmp_path / "none.parquet", table.schema, [])
    check(tmp_path / "none.parquet", table.slice(0, 0))
    assert list(encode("any", table.slice(0, 0))) == []


def test_columns_without_values_cost_next_to_nothing() -> None:
    rows = 100_000
    names = [f"null{number}" for number in range(30)]
    varied = pa.table({"ts": pa.array(range(rows), pa.int64()), "pid": pa.array([n % 3 for n in range(rows)])})
    wide = varied.append_column("kind", pa.DictionaryArray.from_arrays(pa.array([0] * rows), ["one"]))
    for name in names:
        wide = wide.append_column(name, pa.nulls(rows, pa.int32()))
    (group,) = encode("any", wide)
    (narrow,) = encode("any", varied)
    assert set(group.chunks) == {"ts", "pid", "kind"}
    assert group.size < narrow.size + 200


@given(
    st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300), st.lists(st.integers(-(2**31), 2**31 - 1)), st.booleans()
)
def test_thrift_reads_what_it_writes(number: int, text: bytes, numbers: list[int], skipped: bool) -> None:
    listed = thrift.list_of(thrift.I32, [thrift.number(one) for one in numbers])
    inner = thrift.struct((2, thrift.I64, thrift.number(number)), (16, thrift.BYTES, thrift.text(text)))
    data = b"before" + thrift.struct((1, thrift.STRUCT, inner), (5, thrift.LIST, listed)) + b"after"
    reader = thrift.Reader(data)
    reader.at = len(b"before")
    seen: list[Any] = []
    for member, kind in reader.members():
        seen.append((member, kind))
        if kind == thrift.STRUCT:
            for at, _ in reader.members():
                seen.append((at, reader.number() if at == 2 else reader.text()))
        elif skipped:
            continue
        else:
            seen += [reader.number() for _ in reader.items()]
    assert seen == [(1, 12), (2, number), (16, text), (5, 9), *([] if skipped else numbers)]
    assert data[reader.at :] == b"after"
    reader.at = len(b"before")
    assert [reader.text() for _ in reader.each(1, 16)] == [text]


def test_thrift_skips_what_it_does_not_need() -> None:
    """Members of every type, one with a number that needs the long form."""
    members = b"\x11" + b"\x22" + b"\x13\x07" + b"\x17" + b"8 bytes!" + b"\x19\x21\1\2" + b"\x06\xc8\x01\x05" + b"\0"
    reader = thrift.Reader(members)
    assert list(reader.members()) == [(1, 1), (3, 2), (4, 3), (5, 7), (6, 9), (100, 6)]
    assert reader.at == len(members)
    with pytest.raises(ValueError, match="type 11"):
        list(thrift.Reader(b"\x1b\0").members())
