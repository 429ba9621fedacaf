"""One SELECT under construction: stages change it, or put another one around it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tracectl.query.bounds import MATCH, UNDETERMINED
from tracectl.store.relations import Column, quote_name


@dataclass
class Select:
    """A SELECT.

    Attributes:
        source: what stands after FROM.
        columns: name -> what it is, in the order of the answer.
        expressions: name -> SQL, for columns that are more than their name.
        where: conditions, joined by AND.
        group: names to group by; None: no aggregate.
        order: terms of ORDER BY.
        limit: at most so many rows; None: all.
        tri: whether the source has rows that only may match (query/bounds.py); then the answer has two more columns,
            ``match_`` and ``undetermined_``, and rows without a match come last.
        any_group: whether rows that are not certain may belong to other groups; they are undetermined then as well.
    """

    source: str
    columns: dict[str, Column]
    expressions: dict[str, str] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    group: list[str] | None = None
    order: list[str] = field(default_factory=list)
    limit: int | None = None
    tri: bool = False
    any_group: bool = False
    having: str = ""

    def sql(self) -> str:
        """The statement's text."""
        shown = [
            f"{self.expressions[name]} AS {quote_name(name)}" if name in self.expressions else quote_name(name)
            for name in self.columns
        ]
        order = self.order
        if self.qualified:
            match = self._matched if self.tri else "TRUE"
            shown += [f"{match} AS {MATCH}", f"{self._undetermined} AS {UNDETERMINED}"]
            order = [f"COALESCE({match}, FALSE) DESC", *order] if self.tri else order
        lines = [f"SELECT {', '.join(shown)}", f"FROM {self.source}"]
        lines += [f"{'WHERE' if n == 0 else '  AND'} {condition}" for n, condition in enumerate(self.where)]
        if self.group:
            lines.append(f"GROUP BY {', '.join(self.expressions.get(name, quote_name(name)) for name in self.group)}")
        if self.having:
            lines.append(f"HAVING {self.having}")
        if order:
            lines.append(f"ORDER BY {', '.join(order)}")
        if self.limit is not None:
            lines.append(f"LIMIT {self.limit}")
        return "\n".join(lines)

    @property
    def qualified(self) -> bool:
        """Whether the answer has the columns ``match_`` and ``undetermined_``."""
        return self.tri or self.any_group

    @property
    def _matched(self) -> str:
        return MATCH if self.group is None else f"COUNT(*) FILTER (WHERE {MATCH}) > 0"

    @property
    def _undetermined(self) -> str:
        """SQL for the number of rows of which one cannot tell whether, or where, they are in the answer."""
        tests = [f"{MATCH} IS NULL"] * self.tri + ["NOT certain"] * self.any_group
        if self._each_tells:
            return f"CASE WHEN {' OR '.join(tests)} THEN 1 ELSE 0 END"
        count = f"COUNT(*) FILTER (WHERE {' OR '.join(tests)})"
        return f"{count} OVER ()" if self.group is None else f"CAST(SUM({count}) OVER () AS BIGINT)"

    @property
    def _each_tells(self) -> bool:
        """Whether ``undetermined_`` is of each row, since all rows are there: counting in a window costs more."""
        return self.group is None and self.limit is None

    def count_undetermined(self, table: str) -> str:
        """The statement that counts the undetermined rows in a table of this one's rows."""
        total = "SUM" if self._each_tells else "MAX"
        return f"SELECT CAST(COALESCE({total}({UNDETERMINED}), 0) AS BIGINT) FROM {table}"

    def around(self) -> Select:
        """A SELECT of all of this one's rows and columns, in its order."""
        order = self.order if self.limit is not None else []
        having = self.having
        where = self.where
        if self.tri and self.group is None:
            where = [*where, MATCH]
        elif self.tri and self.group:
            having = self._matched
        plain = replace(self, order=order, where=where, having=having, tri=False, any_group=False)
        inner = "\n".join(f"  {line}" for line in plain.sql().splitlines())
        kept = [term for term in self.order if term.split()[0] in {quote_name(name) for name in self.columns}]
        return Select(f"(\n{inner}\n) AS step", dict(self.columns), order=kept)

    @property
    def closed(self) -> bool:
        """Whether it has a limit or groups, so that what comes next must stand around it."""
        return self.limit is not None or self.group is not None
