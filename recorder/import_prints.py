"""Marks of programs among the ``print`` events of Perfetto's bundles: kept until the end, as they pair across CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_marks import MARK, Marks
from tracectl.recorder.import_spool import Columns

PRINT = "print"
_TEXT = f"{PRINT}__buf"
Row = dict[str, Any]


class Prints:
    """Takes the ``print`` events of one trace, in any order."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def take(self, columns: Columns) -> pa.Array:
        """Note those that may be marks; returns which of the rows are others."""
        text = columns.get(_TEXT)
        if text is None:
            return pa.array(np.ones(len(columns["ts"]), np.bool_))
        marks = [word is not None and MARK.fullmatch(word) is not None for word in text.dictionary.to_pylist()]
        codes = np.asarray(text.indices.fill_null(len(marks)))
        marked = np.array([*marks, False])[codes]
        self._rows += pa.table(columns).filter(pa.array(marked)).to_pylist()
        return pa.array(~marked)

    def rows(self) -> Iterator[Row]:
        """Slices, counters and instants, when everything was taken; ends without a begin stay ``print``."""
        marks = Marks()
        for row in sorted(self._rows, key=itemgetter("ts")):
            base = {name: row[name] for name in ("ts", "cpu", "pid", "tid", "comm")}
            found = marks.take(dict(base), row[_TEXT].removesuffix("\n"))
            own = {name.removeprefix(f"{PRINT}__"): value for name, value in row.items() if name not in base}
            yield from [{**base, "kind": PRINT, **own}] if found is None else found
        yield from marks.rest()
