"""From a question to an answer: the rows, the SQL that gave them, and what may be missing from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracectl.query.compile import parse, plan
from tracectl.query.hints import absent
from tracectl.query.plan import Evidence, Plan, Scene, Value
from tracectl.store.database import Database, Result, quote_string
from tracectl.store.errors import StrictError
from tracectl.store.relations import Relations

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.store.capture import Capture

_PLACEHOLDER = re.compile(r"\"[^\"]*\"|'[^']*'|\$(p\d+)")


@dataclass(frozen=True)
class Qualification:
    """What lost events may do to an answer.

    Attributes:
        kind: ``exact``: nothing that the answer depends on was lost; ``missing``: at most ``at_most`` events were;
            ``unknowable``: events were lost and nobody counted them.
        at_most: number of lost events; None: not known.
        gaps: how many gaps touch the evidence.
    """

    kind: str
    at_most: int | None = 0
    gaps: int = 0

    @property
    def exact(self) -> bool:
        """Whether nothing can be missing."""
        return self.kind == "exact"

    def __str__(self) -> str:
        gaps = f"{self.gaps} gap{'s' if self.gaps != 1 else ''}"
        if self.exact:
            return "exact"
        return (
            f"at most {self.at_most} events missing ({gaps})"
            if self.kind == "missing"
            else f"unknown how many events are missing ({gaps})"
        )


@dataclass
class Answer:
    """The answer to a question. Rows are read once: by ``rows``, ``batches`` or ``arrow``.

    Attributes:
        columns: names.
        units: column -> ``ns`` (a duration) or ``clock`` (a moment on the monotonic clock, ns), where there is one.
        sql: the statement that was run, with parameters ``$p1`` ….
        parameters: their values.
        notes: what else to know, one line each.
    """

    columns: list[str]
    units: dict[str, str]
    sql: str
    parameters: dict[str, Value]
    qualification: Qualification
    plan: Plan
    notes: list[str] = field(default_factory=list)
    _result: Result | None = None
    _head: str = ""
    _hint: Any = None

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows, as Python values; durations and moments in ns. No row may add notes on what was named."""
        rows = self._read().rows()
        self._explain_absence(rows)
        return rows

    def batches(self, size: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """The same, in lists of at most ``size`` rows."""
        seen = False
        for rows in self._read().batches(size):
            seen = True
            yield rows
        self._explain_absence(seen)

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        table = self._read().arrow()
        self._explain_absence(table.num_rows)
        return table

    @property
    def sql_literal(self) -> str:
        """The statement with its values written in, to be pasted into plain DuckDB."""
        body = self.sql[len(self._head) :]
        return self._head + _PLACEHOLDER.sub(
            lambda match: _literal(self.parameters[match[1]]) if match[1] else match[0], body
        )

    def _read(self) -> Result:
        assert self._result is not None
        return self._result

    def _explain_absence(self, rows: object) -> None:
        if not rows and self._hint is not None:
            self.notes += self._hint()
            self._hint = None


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return quote_string(value)
    return f"({value})" if value < 0 else str(value)


def ask(capture: Capture, text: str, *, database: Database | None = None, strict: bool = False) -> Answer:
    """Answer a question.

    Args:
        capture: an opened capture.
        text: the question, as in docs/language.md.
        database: a connection that can read the capture; a new one by default.
        strict: refuse unless the answer is exact.

    Raises:
        QueryError: the question makes no sense; points at the place.
        NotRecordedError: it needs events that the capture does not hold.
        StrictError: ``strict``, and lost events may change the answer.
    """
    query = parse(text)
    base = capture.database() if database is None else database
    context = context_source(capture, base)
    made = plan(query, Scene.of(capture, context))
    relations = Relations(capture, context_by_spans=context == "spans")
    found = qualification(base, relations, made.evidence)
    if strict and not found.exact:
        raise StrictError(f"not an exact answer: {found}", "leave out --strict, or record again with a larger --buffer")
    head = relations.with_clause(made.relations)
    sql = f"{head}\n{made.select.sql()}"
    result = base.execute(sql, made.parameters)
    units = {name: column.unit for name, column in made.select.columns.items() if column.unit}
    return Answer(
        result.columns, units, sql, made.parameters, found, made, list(made.notes), result, head,
        lambda: absent(base, relations, made),
    )  # fmt: skip


def context_source(capture: Capture, database: Database) -> str:
    """Where a waker's context comes from in this capture: ``recorded``, ``spans``, or empty (it is not known)."""
    if "sched_waking" not in capture.kinds:
        return ""
    if "context" in capture.columns:
        head = Relations(capture).with_clause(["sched_waking"])
        some = database.execute(f"{head}\nSELECT seq FROM sched_waking WHERE context IS NOT NULL LIMIT 1").rows()
        any_at_all = some or database.execute(f"{head}\nSELECT seq FROM sched_waking LIMIT 1").rows()
        if some or not any_at_all:
            return "recorded"
    return "spans" if {"softirq_entry", "softirq_exit"} <= capture.kinds else ""


def qualification(database: Database, relations: Relations, evidence: Evidence) -> Qualification:
    """Sum up the gaps that touch the evidence: its streams, CPUs and time."""
    parameters: dict[str, Any] = {}
    conditions = [_one_of("stream", sorted(evidence.streams), parameters)]
    if evidence.cpus is not None:
        conditions.append(_one_of("cpu", sorted(evidence.cpus), parameters))
    if evidence.start_ts is not None:
        parameters["start"] = evidence.start_ts
        conditions.append("ts >= $start")
    if evidence.end_ts is not None:
        parameters["end"] = evidence.end_ts
        conditions.append("COALESCE(from_ts, 0) <= $end")
    sql = (
        f"{relations.with_clause(['lost'])}\n"
        "SELECT COUNT(*), CAST(SUM(lost_count) AS BIGINT), COUNT(*) FILTER (WHERE lost_count IS NULL)\n"
        f"FROM lost WHERE {' AND '.join(conditions)}"
    )
    ((gaps, lost, uncounted),) = database.execute(sql, parameters).rows()
    if not gaps:
        return Qualification("exact")
    return Qualification("unknowable", None, gaps) if uncounted else Qualification("missing", lost, gaps)


def _one_of(column: str, values: list[Any], parameters: dict[str, Any]) -> str:
    """SQL that a gap's column is null (it touches all) or one of the values."""
    if not values:
        return "FALSE"
    parameters[column] = values
    return f"({column} IS NULL OR list_contains(${column}, {column}))"
