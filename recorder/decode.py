"""From BPF records to Arrow columns: vectorised, a Python call only for each distinct text."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracectl.recorder import tracefs
from tracectl.recorder.attach import USER_PROBES, category_of, short_name
from tracectl.recorder.program import Record
from tracectl.recorder.symbols import KernelSymbols, demangle
from tracectl.store.events import CONTEXTS, WAIT_CAUSES
from tracectl.store.schema import arrow_type

Name = Callable[[Any], str | None]
_NO_ADDRESS = b"\xff" * 16


def text_of(raw: bytes) -> str:
    """Text up to the first NUL; bytes that are no UTF-8 become ``\\xNN``."""
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def address_of(raw: bytes) -> str | None:
    """An IPv6 address, or the IPv4 one it maps; all ones, which no socket has, stand for none."""
    if raw == _NO_ADDRESS:
        return None
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


class Decoder:
    """Turns the records of each kind into columns of the capture's schema."""

    def __init__(self, records: dict[int, Record]) -> None:
        self._records = records
        self._symbols = KernelSymbols()
        self._state = cached_task_state()

    def columns(
        self, number: int, rows: Mapping[str, np.ndarray[Any, Any]], order: NDArray[np.int64] | None = None
    ) -> dict[str, pa.Array]:
        """Columns of records of one kind, without ``kind``, ``cpu`` and ``seq``.

        Args:
            number: the kind's number in the ring.
            rows: the struct's members by name, as arrays (or a structured array of ``Record.dtype``).
            order: which of them, in which order; None: as they are.
        """
        record = self._records[number]
        columns = {}
        for name, kind in (("ts", "i8"), ("pid", "i4"), ("tid", "i4")):
            columns[name] = pa.array(_ordered(rows[name], order).view(kind))
        columns["comm"] = _text_column(rows["comm"], text_of, order)
        for column in record.event.fields:
            values = rows[column.name]
            if column.type.arrow == "string":
                columns[column.name] = _text_column(values, self._naming(column.type.decode, record), order)
                continue
            values = _ordered(values, order)
            mask = values == column.null if column.null is not None else None
            columns[column.name] = pa.array(values, arrow_type(column.type.arrow), mask=mask)
        return columns

    def _naming(self, decode: str, record: Record) -> Name:
        names: dict[str, Name] = {
            "text": text_of,
            "text_or_none": lambda raw: None if raw[:2] == b"\0\1" else text_of(raw),
            "ip": address_of,
            "ksym": self._symbols.name,
            "task_state": self._state,
            "context": CONTEXTS.__getitem__,
            "wait_cause": WAIT_CAUSES.__getitem__,
            "probe_name": lambda index: _short_probe(record.probes[index]),
        }
        return names[decode]


def cached_task_state() -> Name:
    """How this kernel's sched_switch prints a state."""
    return tracefs.task_state_names(tracefs.read_format("sched:sched_switch").print_format)


def _short_probe(tracepoint: str) -> str:
    if category_of(tracepoint) in USER_PROBES:
        return demangle(short_name(tracepoint))
    return tracepoint.partition(":")[2].removesuffix("_entry").removesuffix("_exit")


def _ordered(values: np.ndarray[Any, Any], order: NDArray[np.int64] | None) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values) if order is None else values[order]


def _text_column(values: np.ndarray[Any, Any], name: Name, order: NDArray[np.int64] | None = None) -> pa.Array:
    """A dictionary column, ``name`` called once for each distinct value."""
    data = np.ascontiguousarray(values)
    # One CPU runs a thread for many events: values come in runs, of which only the first need be looked up.
    starts = _starts_of_runs(data)
    some = data[starts]
    if some.dtype.kind in "SV":
        raw = pa.Array.from_buffers(pa.binary(some.dtype.itemsize), len(some), [None, pa.py_buffer(some)])
    else:
        raw = pa.array(some)
    encoded = raw.dictionary_encode()
    texts = [name(value) for value in encoded.dictionary.to_pylist()]
    # Two values can print the same (bytes behind the NUL), and a Parquet dictionary must not repeat itself.
    distinct = {text: number for number, text in enumerate(dict.fromkeys(t for t in texts if t is not None))}
    codes = np.array([-1 if text is None else distinct[text] for text in texts], np.int32)[encoded.indices.to_numpy()]
    codes = np.repeat(codes, np.diff(starts, append=len(data)))
    if order is not None:
        codes = codes[order]
    indices = pa.array(codes, mask=codes < 0 if None in texts else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(distinct), pa.string()))


def _starts_of_runs(data: np.ndarray[Any, Any]) -> NDArray[np.int64]:
    """Where a value differs from the one before it."""
    width = 8 if data.dtype.itemsize % 8 == 0 else data.dtype.itemsize
    words = data.view(f"u{width}" if width in (1, 2, 4, 8) else f"V{width}")
    words = words.reshape(len(data), data.dtype.itemsize // width)
    changes = np.zeros(len(data), bool)
    changes[:1] = True
    for word in words.T:
        changes[1:] |= word[1:] != word[:-1]
    return np.flatnonzero(changes)
