"""Relations between rows as SQL: a column per relation that is TRUE, FALSE, or NULL where lost events could decide.

Each joins the nearest rows of the inner question to the outer rows (ASOF, on seq), and asks then how near they are.
TRUE needs an inner row that is certain and surely matches. FALSE needs that no such row can have been lost: no inner
row that may match, no gap of the inner question's evidence where one could stand, and a window inside the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracectl.query.bounds import MATCH
from tracectl.store.filtered import Inside
from tracectl.store.relations import quote_name

if TYPE_CHECKING:
    from tracectl.query.plan import Plan

NEVER = "9223372036854775807"


@dataclass
class Related:
    """A relation of the rows of a plan to those of another.

    Attributes:
        how: ``during``, ``followed by`` or ``after``.
        inner: the other question, with its clauses applied.
        keys: columns that are the same in both rows.
        within: placeholder of the longest time between them, ns; empty with ``during``.
        negated: whether the rows without are asked for.
        column: what the column is called.
    """

    how: str
    inner: Plan
    keys: tuple[str, ...]
    within: str
    negated: bool
    column: str

    @property
    def lossy(self) -> bool:
        """Whether rows of the inner question may be missing."""
        return not self.inner.loss.exact

    @property
    def in_lane(self) -> bool:
        """Whether the inner rows that are looked at for one outer row do not overlap."""
        return self.keys == (self.inner.evidence.rule.lane,)

    @property
    def condition(self) -> str:
        """SQL for the rows that are asked for."""
        return f"NOT {self.column}" if self.negated else self.column

    @property
    def number(self) -> str:
        """What sets its joins apart from those of the others."""
        return self.column.removeprefix("related_")


def is_span(plan: Plan) -> bool:
    """Whether rows have an end of their own."""
    return plan.has("end_ts", "end_seq")


def joined(plan: Plan) -> str:
    """The rows of a plan that meet its other conditions, or may, with a column for each of its relations."""
    about_rows = [sql for sql in plan.maybe if sql not in {one.condition for one in plan.related}]
    where = [*plan.select.where, *(f"({sql}) IS NOT FALSE" for sql in about_rows)]
    this = f"FROM {plan.select.source}" + "".join(
        f"\n  {'WHERE' if n == 0 else '  AND'} {condition}" for n, condition in enumerate(where)
    )
    made = [_Join(plan, one) for one in plan.related]
    columns = ",\n".join(f"    {join.value()} AS {join.related.column}" for join in made)
    joins = "\n".join(f"  {line}" for join in made for line in "\n".join(join.joins).splitlines())
    return f"(\n  SELECT this.*,\n{columns}\n  FROM (\n    SELECT * {this}\n  ) AS this\n{joins}\n) AS linked"


def bounded(related: Related) -> str:
    """The relation of the inner question, with the latest that a row can end whose end is not known.

    That is the begin of the next certain one, where rows do not overlap (the relation's ``lane``).
    """
    inner = related.inner
    names = ", ".join(
        f"LAST_VALUE(CASE WHEN certain THEN {name} END IGNORE NULLS) OVER later AS bound_{name}"
        for name in ("seq", "ts")
    )
    window = f"PARTITION BY {related.keys[0]} ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    return f"(SELECT *, {names} FROM {inner.select.source} WINDOW later AS ({window})) AS bounded"


class _Join:
    """The joins of one relation, and the expression that they allow."""

    def __init__(self, outer: Plan, related: Related) -> None:
        self.outer, self.related, self.inner = outer, related, related.inner
        self.settled = outer.settled
        self.span, self.inner_span = is_span(outer), is_span(related.inner)
        self.end_ts, self.end_seq = ("this.end_ts", "this.end_seq") if self.span else ("this.ts", "this.seq")
        self.bound = self.inner_span and related.in_lane
        self.joins: list[str] = []
        # What leaves it open whether there is a row.
        self.open = [f"this.{quote_name(key)} IS NULL" for key in related.keys if outer.all_columns[key].derived]
        if related.lossy and self._blind():
            self.open.append("TRUE")

    def value(self) -> str:
        """SQL of the column; fills ``joins``."""
        found = {"during": self._during, "followed by": self._followed, "after": self._after}[self.related.how]()
        if self.settled:
            return f"COALESCE({found}, FALSE)"
        undecided = f" WHEN {' OR '.join(self.open)} THEN NULL" if self.open else ""
        return f"CASE WHEN {found} THEN TRUE{undecided} ELSE FALSE END"

    def _followed(self) -> str:
        near = self._name("next")
        sure = "ts"
        if not self.settled:
            later = f"{self._partition()}ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
            sure = f"ts, LAST_VALUE(CASE WHEN sure THEN ts END IGNORE NULLS) OVER ({later}) AS sure_ts"
        self._join(near, f"seq, {sure}", f"{self.end_seq} {self._or_same('<')} {near}.seq")
        within = self.related.within
        if self.settled:
            return f"{near}.ts - {self.end_ts} <= {within}"
        self.open += [f"{near}.ts - {self.end_ts} <= {within}", f"{self.outer.end} - {self.end_ts} < {within}"]
        self.open += [f"{self.end_ts} IS NULL"] * self.span
        if self.related.lossy:
            since = self.end_ts
            if self.inner.evidence.rule.vanishes:
                since = self._last_before(f"{self.end_seq} >= {{}}.end_seq")
            self._gaps(self.end_ts, since, shift=f" - {within}")
        return f"{near}.sure_ts - {self.end_ts} <= {within}"

    def _after(self) -> str:
        near, within = self._name("last"), self.related.within
        end_seq, end_ts = ("end_seq", "end_ts") if self.inner_span else ("seq", "ts")
        same = self._or_same(">")
        if self.settled:
            self._join(near, f"{end_seq} AS seq, {end_ts} AS ts", f"this.seq {same} {near}.seq")
            return f"this.ts - {near}.ts <= {within}"
        # A row that is sure stands at its end; one that may match where it begins, and reaches as far as it can.
        reach = f"COALESCE({end_ts}, {'bound_ts, ' if self.bound else ''}{NEVER})"
        window = f"({self._partition()}ORDER BY CASE WHEN sure THEN {end_seq} ELSE seq END)"
        columns = (
            f"CASE WHEN sure THEN {end_seq} ELSE seq END AS seq,\n"
            f"    MAX(CASE WHEN sure THEN {end_ts} END) OVER {window} AS sure_ts,\n"
            f"    MAX(CASE WHEN NOT sure THEN {reach} END) OVER {window} AS reach"
        )
        self._join(near, columns, f"this.seq {same} {near}.seq")
        self.open += [f"this.ts - {near}.reach <= {within}", f"this.ts - {self.outer.start} < {within}"]
        if self.related.lossy:
            since = f"this.ts - {within}"
            if self.inner_span:
                since = self._last_before(f"this.ts - {within} >= {{}}.end_ts")
            self._gaps("this.ts", since)
        return f"this.ts - {near}.sure_ts <= {within}"

    def _during(self) -> str:
        near = self._name("around")
        until = "COALESCE(this.end_seq, this.seq)" if self.span else "this.seq"
        window = f"({self._partition()}ORDER BY seq)"
        # Rows may overlap: what counts is how far those reach that began before. No row lies within itself.
        on = f"this.seq {'>' if self.outer.noun.name == self.inner.noun.name else '>='} {near}.seq"
        if self.settled:
            self._join(near, f"seq, MAX(end_seq) OVER {window} AS reach", on)
            return f"{near}.reach >= {self.end_seq}"
        reach = f"COALESCE(end_seq, {'bound_seq, ' if self.bound else ''}{NEVER})"
        columns = (
            f"seq,\n    MAX(CASE WHEN sure THEN end_seq END) OVER {window} AS sure_seq,\n"
            f"    MAX(CASE WHEN NOT sure THEN {reach} END) OVER {window} AS reach"
        )
        self._join(near, columns, on)
        self.open.append(f"{near}.reach >= {until}")
        if self.span:
            self.open.append(f"(this.end_seq IS NULL AND {near}.sure_seq >= this.seq)")
        if self.related.lossy:
            self._gaps("this.ts", self._last_before("this.seq >= {}.seq"))
        return f"{near}.sure_seq >= {self.end_seq}"

    def _join(self, name: str, columns: str, on: str) -> None:
        """Join the inner rows that stand nearest."""
        keys = "".join(f"{quote_name(key)}, " for key in self.related.keys)
        equal = "".join(f"{name}.{quote_name(key)} = this.{quote_name(key)} AND " for key in self.related.keys)
        rows = f"  SELECT {keys}{columns}\n  FROM {self._rows()}"
        self.joins.append(f"ASOF LEFT JOIN (\n{rows}\n) AS {name} ON {equal}{on}")

    def _rows(self) -> str:
        """The inner rows that match or may, with ``sure``; when settled, those that surely match."""
        select = self.inner.select
        certain = self.inner.has("certain")
        if self.settled:
            sure_ones = [*select.where, *["certain"] * certain]
            return select.source + (f"\n  WHERE {' AND '.join(sure_ones)}" if sure_ones else "")
        sure = " AND ".join([f"{MATCH} IS NOT NULL"] * select.tri + ["certain"] * certain) or "TRUE"
        where = f" WHERE {' AND '.join(select.where)}" if select.where else ""
        return f"(SELECT *, {sure} AS sure FROM {select.source}{where}) AS inner_rows"

    def _last_before(self, on: str) -> str:
        """Join the last certain inner row, of any kind, before which nothing can have begun that is looked for.

        Returns:
            SQL of its end; the begin of time where rows overlap or there is none.
        """
        if not self.related.in_lane:
            return "0"
        name, lane = self._name("before"), self.related.keys[0]
        rows = f"SELECT {lane}, seq, end_seq, end_ts FROM {self.inner.relations[0]} WHERE certain"
        on = f"{name}.{lane} = this.{lane} AND {on.format(name)}"
        self.joins.append(f"ASOF LEFT JOIN ({rows}) AS {name} ON {on}")
        return f"COALESCE({name}.end_ts, 0)"

    def _gaps(self, until: str, since: str, *, shift: str = "") -> None:
        """Leave it open where a gap of the inner question's evidence touches the time since … until (+ shift)."""
        evidence, name = self.inner.evidence, self._name("gap")
        own = evidence.rule.own_cpu and "cpu" in self.related.keys
        tests = [f"stream IN ({', '.join(map(self.outer.parameter, sorted(evidence.streams)))})"]
        if evidence.cpus is not None:
            cpus = ", ".join(map(self.outer.parameter, sorted(evidence.cpus)))
            tests.append(f"cpu IN ({cpus})" if cpus else "FALSE")
        window = f"({'PARTITION BY cpu ' if own else ''}ORDER BY from_ts RANGE UNBOUNDED PRECEDING)"
        rows = f"SELECT {'cpu, ' if own else ''}from_ts{shift} AS from_ts, MAX(ts) OVER {window} AS reach"
        on = f"{f'{name}.cpu = this.cpu AND ' if own else ''}{until} >= {name}.from_ts"
        self.joins.append(f"ASOF LEFT JOIN (\n  {rows}\n  FROM gaps WHERE {' AND '.join(tests)}\n) AS {name} ON {on}")
        self.open.append(f"{name}.reach >= {since}")

    def _blind(self) -> bool:
        """Whether the recording's own filter may have left out inner rows."""
        text = self.outer.scene.filter
        if not text or not self.inner.noun.subjects or self.inner.inside:
            return False
        # A thread keeps its tid and pid, but not its name: one that is inside by name may be outside a moment later.
        inside = Inside.of(text)
        same_thread = "tid" in self.related.keys and not inside.comms and not inside.cgroups
        return not (self.outer.inside and same_thread)

    def _or_same(self, sign: str) -> str:
        """Strictly earlier or later, so that no row relates to itself; else the event that both share counts."""
        itself = not self.span and not self.inner_span and self.outer.noun.name == self.inner.noun.name
        return sign if itself else f"{sign}="

    def _partition(self) -> str:
        keys = ", ".join(map(quote_name, self.related.keys))
        return f"PARTITION BY {keys} " if keys else ""

    def _name(self, role: str) -> str:
        return f"{role}_{self.related.number}"
