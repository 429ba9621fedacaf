"""From records to columns: texts as hostile as they come, addresses, symbols, states; and back from a Parquet file."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl.recorder import decode
from tracectl.recorder.decode import Decoder, KernelSymbols, address_of, text_of
from tracectl.recorder.program import HEADER_FIELDS, Record
from tracectl.store.events import BASE_FIELDS, CATALOGUE, CONTEXTS, KINDS, Catalogue, Event
from tracectl.store.fields import COMM, CONTEXT, IP, KSYM, NAME, PATH, PROBE_NAME, S16, S32, S64, TASK_STATE, Field
from tracectl.store.footer import Footer
from tracectl.store.schema import arrow_type, capture_schema, table_of
from tracectl.store.writer import write_file

EVERY = Event(
    "every",
    "test",
    "every type",
    ("a:local_timer_entry", "a:call_function_exit", "a:entry"),
    (
        Field("n16", S16, ""),
        Field("n32", S32, "", null=-1),
        Field("n64", S64, "", null=7),
        Field("comm_", COMM, ""),
        Field("name", NAME, ""),
        Field("path", PATH, ""),
        Field("ip", IP, ""),
        Field("sym", KSYM, ""),
        Field("state", TASK_STATE, ""),
        Field("context", CONTEXT, ""),
        Field("vector", PROBE_NAME, ""),
    ),
)
Decode = Callable[..., dict[str, pa.Array]]


def record(event: Event) -> Record:
    dtype = np.dtype(HEADER_FIELDS + [(c.name, c.type.numpy) for c in event.fields], align=True)
    return Record(1, event, dtype, event.probes)


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own tables, replaced."""
    monkeypatch.setattr(decode, "cached_task_state", lambda: lambda state: f"state{state}")
    symbols = "\n".join(
        ("0000000000001000 T first", "0000000000002000 t second\t[module]", "0000000000002800 d data",
         "ffffffff81000000 T high", "0000000000000000 T absent", "0000000000003000 W third")
    )  # fmt: skip
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: symbols)


def decoded(event: Event, count: int, **values: Any) -> dict[str, pa.Array]:
    rows = np.zeros(count, record(event).dtype)
    for name, column in values.items():
        for i, value in enumerate(column):
            rows[i][name] = value
    return Decoder({1: record(event)}).columns(1, rows)


def test_every_type() -> None:
    columns = decoded(
        EVERY, 3,
        ts=[1, 2**62, 3], pid=[1, -1, 2**31 - 1], tid=[5, 6, 7], comm=[b"a", b"a\0b", b"c" * 16],
        n16=[-(2**15), 0, 2**15 - 1], n32=[-1, 0, -2], n64=[7, 2**63 - 1, -(2**63)],
        comm_=[b"", b"x", b"\0hidden"], name=[b"n" * 32, b"", b"n"], path=[b"/p" * 64, b"/p", b""],
        sym=[0, 0x1004, 0x2000], state=[-1, 0, 257], context=[0, 3, len(CONTEXTS) - 1], vector=[0, 1, 2],
    )  # fmt: skip
    found = {name: column.to_pylist() for name, column in columns.items()}
    assert found == {
        "ts": [1, 2**62, 3], "pid": [1, -1, 2**31 - 1], "tid": [5, 6, 7], "comm": ["a", "a", "c" * 16],
        "n16": [-(2**15), 0, 2**15 - 1], "n32": [None, 0, -2], "n64": [None, 2**63 - 1, -(2**63)],
        "comm_": ["", "x", ""], "name": ["n" * 32, "", "n"], "path": ["/p" * 64, "/p", ""],
        "ip": ["::", "::", "::"], "sym": [None, "first", "second"], "state": ["state-1", "state0", "state257"],
        "context": ["task", CONTEXTS[3], CONTEXTS[-1]], "vector": ["local_timer", "call_function", "entry"],
    }  # fmt: skip


@given(st.lists(st.binary(max_size=16), max_size=20))
def test_texts_end_at_the_nul_and_are_always_text(raws: list[bytes]) -> None:
    array = decode._text_column(np.array(raws, "S16"), text_of)
    wanted = [raw.partition(b"\0")[0].decode("utf-8", "backslashreplace") for raw in raws]
    assert array.to_pylist() == wanted
    assert "".join(wanted).encode() is not None
    dictionary = array.dictionary.to_pylist()
    assert len(set(dictionary)) == len(dictionary)
    array.validate(full=True)


@pytest.mark.parametrize(
    ("raw", "text"),
    (
        (b"plain\0\xff\xff", "plain"),
        (b"gr\xc3\xb6\xc3\x9fe", "größe"),
        (b"cut\xc3", "cut\\xc3"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"\xc0\x80", "\\xc0\\x80"),
        (b"\x1b[31m\n", "\x1b[31m\n"),
        (b"\0garbage", ""),
    ),
)
def test_text_of(raw: bytes, text: str) -> None:
    assert text_of(raw) == text


def test_bytes_behind_the_nul_make_no_second_name() -> None:
    array = decode._text_column(np.array([b"a\0x", b"a\0y", b"b", b"a"], "S16"), text_of)
    assert array.to_pylist() == ["a", "a", "b", "a"]
    assert array.dictionary.to_pylist() == ["a", "b"]


def test_addresses() -> None:
    assert address_of(ipaddress.IPv6Address("::ffff:10.1.2.3").packed) == "10.1.2.3"
    assert address_of(ipaddress.IPv6Address("2001:db8::1").packed) == "2001:db8::1"
    assert address_of(bytes(16)) == "::"
    raws = [ipaddress.IPv6Address(text).packed for text in ("::ffff:0.0.0.0", "fe80::1", "::1", "::ffff:1.0.0.0")]
    column = decode._text_column(np.frombuffer(b"".join(raws), "V16"), address_of)
    assert column.to_pylist() == ["0.0.0.0", "fe80::1", "::1", "1.0.0.0"]


@pytest.mark.parametrize(
    ("address", "name"),
    (
        (0, None), (0x1000, "first"), (0x1FFF, "first"), (0x2900, "second"), (0x3000, "third"), (0xFFF, "0xfff"),
        (0xFFFFFFFF81000010, "high"), (2**64 - 1, "high"),
    ),
)  # fmt: skip
def test_symbols(address: int, name: str | None) -> None:
    assert KernelSymbols().name(address) == name


def test_symbols_that_are_hidden_stay_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "0000000000000000 T first\n0000000000000000 t second")
    assert KernelSymbols().name(0xFFFFFFFF81000010) == "0xffffffff81000010"


def test_symbols_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = KernelSymbols()
    assert symbols.name(0x1000) == "first"
    monkeypatch.delattr(Path, "read_text")
    assert symbols.name(0x2000) == "second"


def test_no_rows() -> None:
    columns = decoded(EVERY, 0)
    assert {len(column) for column in columns.values()} == {0}


def test_rows_of_a_slice_are_its_own() -> None:
    rows = np.zeros(10, record(EVERY).dtype)
    rows["ts"], rows["name"], rows["n32"] = range(10), [f"n{i}".encode() for i in range(10)], range(10)
    columns = Decoder({1: record(EVERY)}).columns(1, rows[::-3])
    assert columns["ts"].to_pylist() == [9, 6, 3, 0]
    assert columns["name"].to_pylist() == ["n9", "n6", "n3", "n0"]
    assert columns["n32"].to_pylist() == [9, 6, 3, 0]


@pytest.mark.parametrize("event", [event for event in CATALOGUE if not event.bookkeeping], ids=lambda event: event.kind)
def test_each_kind_survives_a_parquet_file(event: Event, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 2, (200, record(event).dtype.itemsize), np.uint8).view(record(event).dtype).ravel()
    for column in event.fields:
        if column.type.decode in ("context", "probe_name", "wait_cause"):
            rows[column.name] = rng.integers(0, 2, len(rows))
    one = Record(1, event, rows.dtype, ("a:x_entry", "a:y_exit"))
    columns = Decoder({1: one}).columns(1, rows)
    assert set(columns) == {column.name for column in BASE_FIELDS + event.fields} - {"kind", "cpu", "seq"}
    for column in event.columns:
        if column.name in columns:
            assert columns[column.name].type == arrow_type(column.type.arrow), column.name
    schema = capture_schema(Catalogue(), [event.kind])
    cpu, seq = pa.array([3] * 200, pa.int16()), pa.array(range(200), pa.int64())
    table = table_of(schema, event.kind, {**columns, "cpu": cpu, "seq": seq}, 200)
    write_file(tmp_path / "c.parquet", schema, [{event.kind: table}], Footer([event.kind], [3], 0, 1))
    read = pq.read_table(tmp_path / "c.parquet")
    assert read.schema.equals(schema)
    assert read.to_pydict() == table.to_pydict()
    assert {name: read[name].to_pylist() for name in columns} == {n: c.to_pylist() for n, c in columns.items()}


def test_context_none_is_null() -> None:
    event = KINDS["sched_waking"]
    columns = decoded(event, 3, context=[0, 1, 2], context_vec=[-1, 0, 3])
    assert columns["context_vec"].to_pylist() == [None, 0, 3]
    assert columns["context"].to_pylist() == ["task", "softirq", "hardirq"]
