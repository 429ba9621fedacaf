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

_TEXT = arrow_type("string")
_BASE = {column.name: column for column in BASE_FIELDS if column.name not in ("kind", "seq")}


def add_rows(spool: Spool, rows: Iterable[Mapping[str, Any]], probe: str) -> None:
    """Give a block of rows, in their order where times are equal.

    Args:
        rows: each has ``kind``, ``ts`` and columns of its kind; those of a kind that the catalogue does not have are
            named without the kind, and any value but None is kept as text.
        probe: what to name as the source of such kinds.
    """
    by_kind: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for order, row in enumerate(rows):
        by_kind[row["kind"]].append((order, row))
    for kind, numbered in by_kind.items():
        own = [row for _, row in numbered]
        columns = {
            name: pa.array([row.get(name) for row in own], arrow_type(c.type.arrow)) for name, c in _BASE.items()
        }
        if kind in KINDS:
            for column in KINDS[kind].fields + KINDS[kind].imported:
                columns[column.name] = pa.array([row.get(column.name) for row in own], arrow_type(column.type.arrow))
        else:
            names = dict.fromkeys(name for row in own for name in row if name not in _BASE and name != "kind")
            for name in names:
                texts = [None if row.get(name) is None else str(row[name]) for row in own]
                columns[f"{kind}__{name}"] = pa.array(texts, _TEXT)
        spool.add(kind, probe, columns, np.array([order for order, _ in numbered]))
    spool.end_block()
