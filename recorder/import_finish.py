"""Imported tables as the capture has them: numbers in the width of their columns, texts that are numbers as numbers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracectl.recorder.import_bytes import Mask, Positions
from tracectl.store.schema import table_of

# Null in all rows: to be found from the handlers' begins and ends; beside rows that know theirs: not known.
_CONTEXT = ("context", "context_source")


# Columns of kinds whose rows join two events, the second of which told this.
_FROM_THE_END = {"slice": "slice__dur"}


class Gaps:
    """When events were lost, on whichever CPU."""

    def __init__(self) -> None:
        self._begins, self._ends = array("q"), array("q")

    def add(self, from_ts: int | None, ts: int) -> None:
        """Take a gap; None: since ever."""
        self._begins.append(from_ts or 0)
        self._ends.append(ts)

    def touch(self, ts: Positions, dur: Positions) -> Mask:
        """Whether any gap touches what lasted from ``ts`` for ``dur``."""
        begins, ends = np.array(self._begins, np.int64), np.array(self._ends, np.int64)
        order = np.argsort(begins, kind="stable")
        # The gaps that began before an interval's end reach into it exactly if the farthest of them does.
        reach = np.concatenate([[-1], np.maximum.accumulate(ends[order])])
        return reach[np.searchsorted(begins[order], ts + dur, side="right")] >= ts

    def __bool__(self) -> bool:
        return bool(self._begins)


class Finish:
    """Casts tables to the capture's schema.

    Args:
        states: what stands for states of threads that the text gives as numbers.
        gaps: losses, over which nothing is paired.
        some_context: whether any waking knows its context. vectors_known: whether the softirqs of wakings hold.
    """

    def __init__(
        self, schema: pa.Schema, states: dict[str, str], gaps: Gaps, *, some_context: bool, vectors_known: bool
    ) -> None:
        self._schema = schema
        self._states = states
        self._gaps = gaps
        self._some_context = some_context
        self._vectors_known = vectors_known

    def table(self, kind: str, table: pa.Table) -> pa.Table:
        """The rows of one kind as the capture has them."""
        columns = {}
        for name in table.column_names:
            if name in self._schema.names and (name != "context_vec" or self._vectors_known):
                column = table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
                if kind == "sched_switch" and name == "prev_state":
                    column = _renamed(column, self._states)
                elif kind == "sched_waking" and name in _CONTEXT and self._some_context:
                    column = column.cast(pa.string()).fill_null("unknown")
                columns[name] = cast(column, self._schema.field(name).type)
        told = _FROM_THE_END.get(kind)
        if self._gaps and told in columns:
            dur = np.asarray(columns[told].fill_null(0))
            touched = self._gaps.touch(np.asarray(columns["ts"]), dur)
            columns[told] = pc.if_else(pa.array(touched), None, columns[told])
        return table_of(self._schema, kind, columns, table.num_rows)


def _renamed(column: pa.DictionaryArray, names: dict[str, str]) -> pa.DictionaryArray:
    words = [names.get(word, word) for word in column.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(column.indices).dictionary_encode()


def cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A column as another type; numbers that do not fit become null."""
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(wanted):
        return column.cast(pa.string()).dictionary_encode().cast(wanted)
    if pa.types.is_dictionary(column.type):
        numbers = [_number(word) for word in column.dictionary.to_pylist()]
        return pa.array(numbers, wanted).take(column.indices)
    try:
        return column.cast(wanted)
    except pa.ArrowInvalid:  # numbers that a corrupted text makes too large for the column are not known
        limit = 1 << (wanted.bit_width - 1)
        fits = pc.and_(pc.less(column, limit), pc.greater_equal(column, -limit))
        return pc.if_else(fits, column, None).cast(wanted)


def _number(word: str | None) -> int | None:
    if not word:
        return None
    value = int(word, 16) if word[:2] in ("0x", "0X") else int(word)
    return value - (1 << 64) if value >= 1 << 63 else value


class Window(Mapping[str, pa.Table]):
    """Tables by kind, each made when it is asked for, so that one at a time is in memory."""

    def __init__(self, kinds: list[str], make: Callable[[str], pa.Table]) -> None:
        self._kinds = kinds
        self._make = make

    def __getitem__(self, kind: str) -> pa.Table:
        return self._make(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)
