"""Rows as dictionaries into the spool, for traces that are small or no lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Positions
from tracectl.recorder.import_spool import Spool, Totals
from tracectl.store.events import BASE_FIELDS, KINDS
from tracectl.store.schema import arrow_type

_BASE = tuple(column for column in BASE_FIELDS if column.name not in ("kind", "seq"))
LONGEST_TEXT = 4096
_WHOLE = ("folded", "frames")  # texts that are cut to no length: their readers bound them


def add_rows(spool: Spool, rows: Iterable[Mapping[str, Any]], probe: str) -> None:
    """Give a block of rows, in their order where times are equal; see :func:`take_rows`."""
    take_rows(spool, rows, probe)
    spool.end_block()


def take_rows(spool: Spool, rows: Iterable[Mapping[str, Any]], probe: str) -> None:
    """Give rows of a block that has others as well.

    Args:
        rows: each has ``kind``, ``ts`` and columns of its kind; those of a kind that the catalogue does not have are
            named without the kind, and any value but None is kept as text. Of kind ``unparsed``: ``line`` and ``text``.
            ``order`` places a row among others of its time; without it, that is its place here.
        probe: what to name as the source of such kinds.
    """
    by_kind: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for place, row in enumerate(rows):
        by_kind[row["kind"]].append((row.get("order", place), row))
    for kind, numbered in by_kind.items():
        own = [row for _, row in numbered]
        order = np.array([place for place, _ in numbered])
        if kind == "unparsed":
            ts, lines = (np.array([row[name] for row in own], np.int64) for name in ("ts", "line"))
            spool.unparsed(ts, lines, _column(own, "text", "string", spool.totals), order)
            continue
        fields = (*_BASE, *KINDS[kind].fields, *KINDS[kind].optional) if kind in KINDS else _BASE
        columns = {column.name: _column(own, column.name, column.type.arrow, spool.totals) for column in fields}
        if kind == "lost":
            counts = [row.get("lost_count") for row in own]
            spool.totals.lost += sum(count for count in counts if count)
            spool.totals.uncounted += counts.count(None)
            for row in own:
                spool.gaps.add(row.get("from_ts"), row["ts"])
        if kind not in KINDS:
            known = {column.name for column in _BASE} | {"kind", "order"}
            names = dict.fromkeys(name for row in own for name in row if name not in known)
            columns |= {f"{kind}__{name}": _column(own, name, "string", spool.totals) for name in names}
        spool.add(kind, probe, columns, order)


def _column(rows: list[Mapping[str, Any]], name: str, form: str, totals: Totals) -> pa.Array:
    values = [row.get(name) for row in rows]
    if form == "string":
        return text_column(values, totals, None if name in _WHOLE else LONGEST_TEXT)
    return pa.array(values, arrow_type(form))


def text_column(values: Iterable[Any], totals: Totals, longest: int | None = LONGEST_TEXT) -> pa.DictionaryArray:
    """Values of any type as texts, cut where they are longer than ``longest``; how many were cut is counted."""
    distinct: dict[str | None, int] = {}
    words = [value if value is None or value.__class__ is str else str(value) for value in values]
    codes = np.array([distinct.setdefault(word, len(distinct)) for word in words], np.int64)
    too_long = [code for word, code in distinct.items() if word and longest is not None and len(word) > longest]
    if too_long:
        totals.cut += int(np.isin(codes, too_long).sum())
    return coded(codes, [word and word[:longest] for word in distinct])


def coded(codes: Positions, words: Sequence[str | bytes | None]) -> pa.DictionaryArray:
    """A column of words by their numbers; null for -1. What is no Unicode stands in it with backslashes."""
    texts = [word if word is None else _clean(word) for word in words]
    plain = len(set(texts)) == len(texts) and None not in texts
    numbers = pa.array(codes.astype(np.int32), mask=codes < 0)
    if plain:
        return pa.DictionaryArray.from_arrays(numbers, pa.array(texts, pa.string()))
    return pa.array(texts, pa.string()).take(numbers).dictionary_encode()


def _clean(word: str | bytes) -> str:
    """Half a surrogate pair, which JSON can hold, is no text, nor is every row of bytes."""
    if isinstance(word, bytes):
        return word.decode("utf-8", "backslashreplace")
    return word.encode("utf-8", "backslashreplace").decode()
