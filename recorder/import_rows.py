"""Rows as dictionaries into the spool, for traces that are small or no lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_spool import Spool
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
            spool.unparsed(ts, lines, _column(own, "text", "string"), order)
            continue
        fields = (*_BASE, *KINDS[kind].fields, *KINDS[kind].optional) if kind in KINDS else _BASE
        columns = {column.name: _column(own, column.name, column.type.arrow) for column in fields}
        if kind == "lost":
            counts = [row.get("lost_count") for row in own]
            spool.totals.lost += sum(count for count in counts if count)
            spool.totals.uncounted += counts.count(None)
            for row in own:
                spool.gaps.add(row.get("from_ts"), row["ts"])
        if kind not in KINDS:
            known = {column.name for column in _BASE} | {"kind", "order"}
            names = dict.fromkeys(name for row in own for name in row if name not in known)
            columns |= {f"{kind}__{name}": _column(own, name, "string") for name in names}
        spool.add(kind, probe, columns, order)


def _column(rows: list[Mapping[str, Any]], name: str, form: str) -> pa.Array:
    values = [row.get(name) for row in rows]
    if form == "string":  # half a surrogate pair, which JSON can hold, is no text
        longest = None if name in _WHOLE else LONGEST_TEXT
        texts = [None if v is None else str(v).encode("utf-8", "backslashreplace").decode() for v in values]
        values = [None if text is None else text[:longest] for text in texts]
    return pa.array(values, arrow_type(form))
