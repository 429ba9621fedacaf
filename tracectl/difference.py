"""One question's answers from two captures side by side: values, difference and ratio, and what loss lets one claim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracectl import text
from tracectl.command_query import qualified
from tracectl.store.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.query import Answer

LARGER, SMALLER, EQUAL, UNKNOWN = "larger", "smaller", "equal", "not known"
_BETWEEN = re.compile(r"between (\w+) and (\w+)")
_NUMBERS = ("int", "real")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Value:
    """A value of an answer, and how small and large it can be without the loss; None: not known, not bounded."""

    seen: float | None
    low: float | None
    high: float | None

    def compared(self, other: Value) -> str:
        """What the other is, next to this one: said only where the two ranges do not overlap."""
        if self.high is not None and other.low is not None and other.low > self.high:
            return LARGER
        if self.low is not None and other.high is not None and other.high < self.low:
            return SMALLER
        fixed = None not in (self.low, other.low) and (self.low, other.low) == (self.high, other.high)
        return EQUAL if fixed and self.low == other.low else UNKNOWN


class Side:
    """One of the two answers.

    Attributes:
        keys: the columns of its groups.
        values: the others that are numbers, without those that only bound them.
    """

    def __init__(self, name: str, answer: Answer, span: int) -> None:
        self.name, self.answer, self.span = name, answer, span
        made = answer.plan
        if made.keys is None:
            raise UserError(
                "two captures are compared by groups or totals, not row by row", "| count, | p99 dur by comm"
            )
        columns = made.select.columns
        self.keys = [name for name in answer.columns if name in made.keys]
        self.values = [
            name
            for name in answer.columns
            if name not in made.keys and name not in made.bound_columns and columns[name].type in _NUMBERS
        ]
        places = {name: n for n, name in enumerate(answer.columns)}
        self._rows = {tuple(row[places[key]] for key in self.keys): row for row in answer.rows()}
        self._places = places
        self._cut = made.select.limit is not None or "LIMIT" in made.select.source

    def groups(self) -> Iterator[Key]:
        """The groups, in the answer's order."""
        yield from self._rows

    def value(self, group: Key, column: str) -> Value:
        """The value of a column for a group."""
        row = self._rows.get(group)
        found = self.answer.qualification
        if row is None:
            return self._absent(column)
        seen = row[self._places[column]]
        if found.exact:
            return Value(seen, seen, seen)
        words = found.bounds.get(column, "")
        if between := _BETWEEN.fullmatch(words):
            return Value(seen, *(row[self._places[name]] for name in between.groups()))
        if words.startswith("at least"):
            low = words.removeprefix("at least").strip() or column
            return Value(seen, row[self._places[low]], None)
        return Value(seen, None, seen if words == "at most" else None)

    def _absent(self, column: str) -> Value:
        """No row of that group: none was seen, unless only some of the groups are shown."""
        counted = column.rstrip("_") == "count" and not self._cut
        found = self.answer.qualification
        return Value(0, 0, found.at_most) if counted else Value(None, None, None)


class Difference:
    """What two answers say side by side, as an answer is shown.

    Attributes:
        columns: the groups', then for each value those of A and B, difference (B - A), ratio (B / A) and what B is.
        units: as those of an answer.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self._sides = (a, b)
        if (a.keys, a.values) != (b.keys, b.values):
            raise UserError("the two answers have not the same columns", "the same question, of captures of one kind")
        self._exact = a.answer.qualification.exact and b.answer.qualification.exact
        made = a.answer.plan.select.columns
        self.columns = list(a.keys)
        self.units = {key: a.answer.units[key] for key in a.keys if key in a.answer.units}
        self._types = ["text" if made[key].type == "text" else made[key].type for key in a.keys]
        for name in a.values:
            unit, kind = a.answer.units.get(name, ""), made[name].type
            shown = {"a": (unit, kind), "b": (unit, kind), "diff": ("ns" if unit else "", kind)}
            if not self._exact:
                shown |= {"diff_min": shown["diff"], "diff_max": shown["diff"]}
            shown |= {"ratio": ("", "real"), "is": ("", "text")}
            for part, (own_unit, own_kind) in shown.items():
                self.columns.append(f"{name}_{part}")
                self._types.append(own_kind)
                if own_unit:
                    self.units[f"{name}_{part}"] = own_unit

    def rows(self) -> list[tuple[Any, ...]]:
        """A row for each group that either has, the largest difference of the first value first."""
        a, b = self._sides
        made = [self._row(group) for group in dict.fromkeys((*a.groups(), *b.groups()))]
        if a.values:
            place = self.columns.index(f"{a.values[0]}_diff")
            made.sort(key=lambda row: -abs(row[place]) if row[place] is not None else 1)
        return made

    def _row(self, group: Key) -> tuple[Any, ...]:
        a, b = self._sides
        row = list(group)
        for name in a.values:
            one, other = a.value(group, name), b.value(group, name)
            told = one.compared(other)
            seen = (one.seen, other.seen)
            claimed = told != UNKNOWN and None not in seen
            row += [*seen, other.seen - one.seen if claimed else None]  # type: ignore[operator]  # not None
            row += [] if self._exact else [_less(other.low, one.high), _less(other.high, one.low)]
            row += [other.seen / one.seen if claimed and one.seen else None, told]  # type: ignore[operator]
        return tuple(row)

    def arrow(self) -> pa.Table:
        """The same as an Arrow table."""
        import pyarrow as pa  # noqa: PLC0415 - only for binary formats

        types = {"int": pa.int64(), "text": pa.string(), "bool": pa.bool_(), "real": pa.float64()}
        schema = pa.schema([(name, types[kind]) for name, kind in zip(self.columns, self._types, strict=True)])
        rows = self.rows()
        columns = [pa.array([row[n] for row in rows], field.type) for n, field in enumerate(schema)]
        return pa.Table.from_arrays(columns, schema=schema)

    def extra(self) -> dict[str, object]:
        """The qualification of each answer."""
        return {
            letter: {"capture": side.name, **qualified(side.answer.qualification, side.answer.notes)}
            for letter, side in zip("ab", self._sides, strict=True)
        }

    def notes(self, rows: int) -> list[str]:
        """Lines below a table of so many rows."""
        lines = [
            f"{letter}: {side.name}, {text.duration(side.span)}: {side.answer.qualification}"
            for letter, side in zip("ab", self._sides, strict=True)
        ]
        if not self._exact and rows:
            lines.append(
                f'no difference where the loss allows either to be larger ("{UNKNOWN}"); '
                "diff_min and diff_max: how far apart they can be"
            )
        a, b = self._sides
        if abs(a.span - b.span) > max(a.span, b.span) // 100:
            lines.append("recorded for different times: counts and sums are not per second")
        return lines + _common(a.answer.notes, b.answer.notes)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _common(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """The answers' own notes; those of one only with its letter."""
    return [note if note in b else f"a: {note}" for note in a] + [f"b: {note}" for note in b if note not in a]
