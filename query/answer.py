"""From a question to an answer: the rows, the SQL that gave them, and what may be missing from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tracectl.query.bounds import MATCH, Loss
from tracectl.query.compile import parse, plan
from tracectl.query.hints import absent
from tracectl.query.hosts import chosen
from tracectl.query.plan import Evidence, Plan, Scene, Value
from tracectl.query.start import Query
from tracectl.query.together import Part, plan_together, scene_in
from tracectl.query.values import show_duration
from tracectl.store.captures import CaptureSet
from tracectl.store.database import Database, Result, quote_string
from tracectl.store.errors import StrictError
from tracectl.store.relations import Relations, quote_name
from tracectl.store.together import views_together

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.store.capture import Capture

_PLACEHOLDER = re.compile(r"--[^\n]*|\"[^\"]*\"|'[^']*'|\$([a-z]\w*)")


@dataclass(frozen=True)
class Qualification:
    """What lost events may do to an answer.

    Attributes:
        kind: ``exact``: the answer is that of a recording without loss; ``missing``: rows may be missing from it.
            (A question about what was not recorded at all has no answer: NotRecordedError.)
        at_most: how many rows may be missing: events lost, and rows that may or may not match; None: not known.
        gaps: how many gaps touch the evidence.
        filter: the recording's own filter, where the question goes beyond it: what it left out is missing.
        unrecorded: captures of a set that did not record what the question needs: all their rows are missing.
        undetermined: rows that may or may not match the conditions, since what they are about was lost or not known.
        bounds: column of the answer -> what its value is: ``at least`` [COLUMN], ``at most``, ``not bounded``
            or ``between COLUMN and COLUMN``; a null in such a column is no bound.
    """

    kind: str
    at_most: int | None = 0
    gaps: int = 0
    undetermined: int = 0
    filter: str = ""
    bounds: dict[str, str] = field(default_factory=dict)
    unrecorded: str = ""

    @property
    def exact(self) -> bool:
        """Whether nothing can be missing."""
        return self.kind == "exact"

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        counted = "not known how many" if self.at_most is None else f"at most {self.at_most}"
        reasons = [f"{self.gaps} gap{'s' if self.gaps != 1 else ''}"] if self.gaps else []
        if self.filter:
            reasons.append(f"the recording was filtered: {self.filter}")
        if self.unrecorded:
            reasons.append(f"not recorded in {self.unrecorded}")
        if self.undetermined:
            reasons.append(f"{self.undetermined} row{'s' if self.undetermined != 1 else ''} that may match")
        return f"{counted} missing ({', '.join(reasons)})"


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
    _hint: Any = None

    def only_first(self, count: int) -> None:
        """Make no more than the first so many rows."""
        self._read().only_first(count)

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
        return _PLACEHOLDER.sub(lambda match: _literal(self.parameters[match[1]]) if match[1] else match[0], self.sql)

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


def ask(
    capture: Capture | CaptureSet,
    text: str,
    *,
    database: Database | None = None,
    strict: bool = False,
    done: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Answer a question.

    Args:
        capture: an opened capture, or a set of them.
        text: the question, as in docs/language.md.
        database: a connection that can read the capture; a new one by default.
        strict: refuse unless the answer is exact.
        done: called with the name of each stage of the work when it ends (``--profile``).

    Raises:
        QueryError: the question makes no sense; points at the place.
        NotRecordedError: it needs events that the capture does not hold.
        StrictError: ``strict``, and lost events may change the answer.
    """
    query = parse(text)
    done("parse")
    base = capture.database() if database is None else database
    asked = asked_of(capture, base)
    done("look")
    made, head = asked.compiled(query)
    done("plan")
    sql = f"{head}\n{made.select.sql()}"
    result, found = _run(base, head, made)
    done("sql")
    parameters = made.parameters
    if made.select.qualified and found.exact:
        # Nothing was left open: the plain statement gives the same rows, and is easier to read.
        plain, head = asked.compiled(query, settled=True)
        parameters, sql = plain.parameters, f"{head}\n{plain.select.sql()}"
    if strict and not found.exact:
        raise StrictError(f"not an exact answer: {found}", "leave out --strict, or record again with a larger --buffer")
    units = {name: made.select.columns[name].unit for name in result.columns if made.select.columns[name].unit}
    return Answer(
        result.columns, units, sql, parameters, found, made, made.notes + _axis(capture, units), result,
        lambda: absent(base, asked.relations, made),
    )  # fmt: skip


class _Compiled(Protocol):
    def __call__(self, query: Query, *, settled: bool = False) -> tuple[Plan, str]: ...


@dataclass(frozen=True)
class Asked:
    """What questions are asked of.

    Attributes:
        relations: of each capture.
        compiled: gives the plan of a question, and the relations that its statement begins with; ``settled`` as in
            :func:`plan`.
    """

    relations: list[Relations]
    compiled: _Compiled


def asked_of(capture: Capture | CaptureSet, database: Database) -> Asked:
    """Make a capture or a set of captures ready to be asked."""
    return _together(capture, database) if isinstance(capture, CaptureSet) else _alone(capture, database)


def views_of(capture: Capture | CaptureSet, database: Database) -> list[str]:
    """Statements that make every relation a view, for SQL typed by a person."""
    relations = asked_of(capture, database).relations
    return views_together(capture, relations) if isinstance(capture, CaptureSet) else relations[0].create_views()


def _alone(capture: Capture, database: Database) -> Asked:
    context = context_source(capture, database)
    relations = _relations(capture, context, database)
    scene = Scene.of(capture, context)

    def compiled(query: Query, *, settled: bool = False) -> tuple[Plan, str]:
        chosen(query.clauses, [capture], lambda one: one.footer.host, query.text)
        made = plan(query, scene, partial(loss_in, database, relations), settled=settled)
        relations.given = made.given
        return made, relations.with_clause(made.relations)

    return Asked([relations], compiled)


def _relations(capture: Capture, context: str, database: Database) -> Relations:
    made = Relations(capture, context_by_spans=context == "spans")
    if made.declared:
        made.lossless = not database.execute(f"{made.with_clause(['lost'])}\nSELECT seq FROM lost LIMIT 1").rows()
    return made


def _together(whole: CaptureSet, database: Database) -> Asked:
    parts = []
    for member in whole.members:
        context = context_source(member.capture, database)
        relations = _relations(member.capture, context, database)
        parts.append(Part(member, relations, scene_in(whole, member, context), partial(loss_in, database, relations)))

    def compiled(query: Query, *, settled: bool = False) -> tuple[Plan, str]:
        made = plan_together(query, whole, parts, settled=settled)
        return made, ""

    return Asked([part.relations for part in parts], compiled)


def _axis(capture: Capture | CaptureSet, units: dict[str, str]) -> list[str]:
    """What to know of the moments of a set, where there are any."""
    if not isinstance(capture, CaptureSet) or "clock" not in units.values():
        return []
    unknown = [one.name for one in capture.members if one.spread is None]
    if capture.begin is None:
        return ["no capture has a reading of the wall clock: the time of each counts from its own start"]
    begin = datetime.fromtimestamp(capture.begin / 1e9, UTC).isoformat(sep=" ", timespec="milliseconds")
    spread = show_duration(max(one.spread or 0 for one in capture.members))
    line = (
        f"times count from {begin}; the hosts' wall clocks put them there (each host's own readings differ by {spread})"
    )
    alone = f"without a reading of the wall clock, their time counts from their own start: {', '.join(unknown)}"
    return [line, *([alone] if unknown else [])]


def _left_open(database: Database, head: str, made: Plan) -> int:
    """How many rows may or may not match."""
    sql = f"{head}\nSELECT COUNT(*) FILTER (WHERE {MATCH} IS NULL) FROM {made.open_rows}"
    # Not of the head: a quote in a comment would hide what stands behind it.
    used = {name for name in _PLACEHOLDER.findall(made.open_rows) if name}
    values = {name: value for name, value in made.parameters.items() if name in used}
    ((count,),) = database.execute(sql, values).rows()
    return int(count)


def _run(database: Database, head: str, made: Plan) -> tuple[Result, Qualification]:
    """Run a statement; with rows that only may match, set them apart and count them."""
    sql = f"{head}\n{made.select.sql()}"
    loss = made.loss
    columns = list(made.select.columns)
    undetermined = 0
    if made.select.qualified:
        table = database.keep(sql, made.parameters)
        ((undetermined,),) = database.execute(made.select.count_undetermined(table)).rows()
        sql = f"SELECT {{}} FROM {table}" + (f" WHERE {MATCH}" if made.select.group != [] else "")
    elif made.open_rows:
        # A stage stands around those before it, and no longer tells what was left open below.
        undetermined = _left_open(database, head, made)
    if loss.exact and not undetermined:
        found = Qualification("exact")
        columns = [name for name in columns if name not in made.bound_columns]
    else:
        gaps = made.gaps if undetermined else loss.gaps
        at_most = None if loss.at_most is None else loss.at_most + undetermined
        found = Qualification("missing", at_most, gaps, undetermined, loss.filter, dict(made.bounds), loss.unrecorded)
    if not made.select.qualified:
        return database.execute(sql, made.parameters), found
    return database.execute(sql.format(", ".join(quote_name(name) for name in columns))), found


def context_source(capture: Capture, database: Database) -> str:
    """Where a waker's context comes from in this capture: ``recorded``, ``spans``, or empty (it is not known)."""
    if "sched_waking" not in capture.kinds:
        return ""
    if "context" in capture.columns:
        head = Relations(capture).with_clause(["sched_waking"])
        some = database.execute(f"{head}\nSELECT 1 FROM sched_waking WHERE context IS NOT NULL LIMIT 1").rows()
        any_at_all = some or database.execute(f"{head}\nSELECT 1 FROM sched_waking LIMIT 1").rows()
        if some or not any_at_all:
            return "recorded"
    return "spans" if {"softirq_entry", "softirq_exit"} <= capture.kinds else ""


def loss_in(database: Database, relations: Relations, evidence: Evidence) -> Loss:
    """Sum up the gaps that touch the evidence: its streams, CPUs and time."""
    if relations.lossless:
        return Loss()
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
    per_event = evidence.rule.rows_per_event
    unbounded = uncounted or (gaps and per_event is None)
    return Loss(None if unbounded else (lost or 0) * (per_event or 0), gaps)


def _one_of(column: str, values: list[Any], parameters: dict[str, Any]) -> str:
    """SQL that a gap's column is null (it touches all) or one of the values."""
    if not values:
        return "FALSE"
    parameters[column] = values
    return f"({column} IS NULL OR list_contains(${column}, {column}))"
