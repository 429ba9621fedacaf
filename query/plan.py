"""What a question comes to: relations, conditions, parameters, and the evidence that the answer depends on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tracectl.query.bounds import Bounding, Loss, tri_state
from tracectl.query.linked import Related, joined
from tracectl.query.nouns import Noun
from tracectl.query.select import Select
from tracectl.query.values import Place, did_you_mean, listed
from tracectl.store.errors import NotRecordedError, QueryError
from tracectl.store.events import Catalogue
from tracectl.store.relations import LATE_DELAYS, Column, EvidenceRule, View, only_late_delays, views

if TYPE_CHECKING:
    from tracectl.query.start import Query
    from tracectl.store.capture import Capture

Value = int | float | str | bool


@dataclass(frozen=True)
class Scene:
    """What a question is planned against: a capture's facts, or none (to explain a question without a capture).

    Attributes:
        kinds: recorded kinds; None: not known, everything is taken as recorded.
        start_ts, end_ts: the recording, ns monotonic.
        filled: optional columns that were recorded, as ``kind.column``; None: not known, all are taken as recorded.
        clocks: readings of the monotonic and the wall clock at one moment each, ns, in order.
        context: where a waker's context comes from: ``recorded``, ``spans`` or empty (not known).
        host: name of the machine; empty: not known.
        min_delay_ns: ``runq_delay`` has only waits longer than this.
        origin_ts, limit_ts: what times in questions count from, from either end; None: from the recording's own.
    """

    catalogue: Catalogue = field(default_factory=Catalogue)
    kinds: frozenset[str] | None = None
    start_ts: int = 0
    end_ts: int = 0
    context: str = "recorded"
    filter: str | None = None
    filled: frozenset[str] | None = None
    clocks: tuple[tuple[int, int], ...] = ()
    host: str = ""
    origin_ts: int | None = None
    limit_ts: int | None = None
    min_delay_ns: int = 0

    @property
    def begin(self) -> int:
        """What times in questions count from, ns on the monotonic clock."""
        return self.start_ts if self.origin_ts is None else self.origin_ts

    @property
    def until(self) -> int:
        """What ``in last`` counts back from."""
        return self.end_ts if self.limit_ts is None else self.limit_ts

    @classmethod
    def of(cls, capture: Capture, context: str) -> Scene:
        """The facts of a capture."""
        return cls(
            capture.catalogue,
            capture.kinds,
            capture.start_ts,
            capture.end_ts,
            context,
            capture.filter,
            capture.filled,
            capture.clocks,
            capture.footer.host,
            min_delay_ns=capture.footer.min_delay_ns,
        )

    def recorded(self, kinds: frozenset[str]) -> bool:
        """Whether all of these kinds were recorded."""
        return self.kinds is None or kinds <= self.kinds

    def unfilled(self, view: View) -> dict[str, str]:
        """Columns of a view that are left empty -> the optional column (``kind.column``) or kinds that fill."""
        return {column: by for column, by in view.filled.items() if not self._fills(by)}

    def _fills(self, by: str) -> bool:
        if "." not in by:
            return any(self.recorded(frozenset((kind,))) for kind in by.split("|"))
        return self.filled is None or by in self.filled


@dataclass
class Evidence:
    """What an answer depends on: events of these streams, on these CPUs, in this time. None: any.

    Attributes:
        rule: the noun's own rule; it says which clauses may narrow the rest.
    """

    rule: EvidenceRule
    streams: frozenset[str]
    cpus: frozenset[int] | None = None
    start_ts: int | None = None
    end_ts: int | None = None

    def only_cpus(self, cpus: frozenset[int]) -> None:
        """Rows are asked for on these CPUs only. Narrows nothing where a row depends on other CPUs too."""
        if self.rule.own_cpu:
            self.cpus = cpus if self.cpus is None else self.cpus & cpus

    def only_from(self, ts: int) -> None:
        """Rows are asked for that begin then or later. Narrows nothing where a row depends on what came before it."""
        if self.rule.starts_at_row:
            self.start_ts = ts if self.start_ts is None else max(ts, self.start_ts)

    def only_to(self, ts: int) -> None:
        """Rows are asked for that begin then or earlier. Narrows nothing where a row goes on after its ts."""
        if self.rule.ends_at_row:
            self.end_ts = ts if self.end_ts is None else min(ts, self.end_ts)


@dataclass
class Walk:
    """What a walk through waits and wakings is of.

    Attributes:
        path: whether it fills a time (``critical path``), or goes back from a moment (``chains``).
        threads: SQL that picks the threads among tid, pid and comm; empty: not said yet.
        from_ts, to_ts: ns monotonic; None: not said yet.
    """

    path: bool
    threads: str = ""
    from_ts: int | None = None
    to_ts: int | None = None


@dataclass
class Plan:
    """A question made ready to be run.

    Attributes:
        text: the question.
        relations: the relations that the statement reads, the noun's first.
        conditions: in words, one per clause.
        maybe: SQL of those conditions that a row which is not certain may leave open; see query/bounds.py.
        context_asked: whether a condition is about the waker's context, which a row may not know.
        certainty_asked: whether a condition is about what was lost itself: nobody can count the rows it will have.
        descent_asked: whether a condition is about cgroups, and forks were lost that would tell.
        inside: whether the recording's own filter keeps all threads that the question is about.
        related: relations of the rows to those of other questions (query/linked.py).
        settled: take it that every row tells whether it matches.
        nested: makes a plan of a question inside this one, with its clauses applied.
        loss_in: tells what is missing from some evidence.
        loss: what is missing from the evidence.
        gaps: how many gaps touch it, or that of the questions inside.
        bound_columns: columns that only say how far others can be off.
        bounding: how aggregates of the rows so far are bounded; None once that cannot be told any more.
        bounds: column of the answer -> what its value is when the answer is not exact, as ``at least``.
        parameters: values by name; none of them is in the SQL text.
        named: (column, value or pattern) of threads that the question names, to help when none is found.
        unfilled: columns that this capture leaves empty -> the optional column (``kind.column``) or kind that tells.
        final: the stage of which no further number can be made, as ``histogram``; empty: there is none.
        first_ts, last_ts: when the rows asked for begin, at least and at most; None: at any time.
        open_rows: the rows that match or may; empty when each tells.
        walk: the threads and the time that the walk of ``chains`` and ``critical path`` is of; None: another noun.
        thread_sql: SQL of the condition on tid, pid and comm of the threads that the question is about; empty: none.
        given: relations that the question brings with it, by name: their SELECT.
        over_ns: rows asked for lasted longer than this.
        narrowed: whether a stage has left columns out, so that only the SELECT's own can be named.
        stages: in words.
        several: whether the rows are those of several captures.
        keys: columns of the groups that the last aggregate made; None: the rows are those of the noun.
    """

    text: str
    noun: Noun
    scene: Scene
    relations: list[str]
    select: Select
    evidence: Evidence
    all_columns: dict[str, Column]
    conditions: list[str] = field(default_factory=list)
    maybe: list[str] = field(default_factory=list)
    context_asked: bool = False
    certainty_asked: bool = False
    descent_asked: bool = False
    inside: bool = False
    related: list[Related] = field(default_factory=list)
    settled: bool = False
    nested: Callable[[Query], Plan] | None = None
    loss_in: Callable[[Evidence], Loss] = lambda _: Loss()
    loss: Loss = field(default_factory=Loss)
    gaps: int = 0
    bounding: Bounding | None = None
    bound_columns: set[str] = field(default_factory=set)
    bounds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Value] = field(default_factory=dict)
    named: list[tuple[str, Value]] = field(default_factory=list)
    unfilled: dict[str, str] = field(default_factory=dict)
    final: str = ""
    first_ts: int | None = None
    last_ts: int | None = None
    open_rows: str = ""
    walk: Walk | None = None
    thread_sql: str = ""
    given: dict[str, str] = field(default_factory=dict)
    over_ns: int = 0
    narrowed: bool = False
    stages: list[str] = field(default_factory=list)
    several: bool = False
    keys: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def parameter(self, value: Value) -> str:
        """Take in a value; returns its placeholder."""
        name = f"p{len(self.parameters) + 1}"
        self.parameters[name] = value
        return f"${name}"

    def condition(self, sql: str, words: str) -> None:
        """Keep only rows for which the SQL holds."""
        about = [self.all_columns[word] for word in _WORD.findall(sql) if word in self.all_columns]
        open_ended = any(column.derived or (column.name == "context" and self.context_asked) for column in about)
        (self.maybe if open_ended or OPEN in sql else self.select.where).append(sql)
        self.conditions.append(words)

    def settle(self) -> None:
        """All clauses were applied: look up what is missing from their evidence, and fix the rows."""
        loss = self.loss_in(self.evidence)
        if self.certainty_asked and not loss.exact:
            loss = replace(loss, at_most=None)
        if self.scene.filter and self.noun.subjects and not self.inside:
            loss = replace(loss, at_most=None, filter=self.scene.filter)
        unknown = [name for name, there in _UNKNOWN.items() if there(self)]
        unknown += [f"{one.column} IS NULL" for one in self.related]
        unknown += [f"{self.noun.unknown} IS NULL"] if self.noun.unknown else []
        asked = self.context_asked or self.descent_asked or bool(self.related)
        open_ = asked or bool(self.noun.unknown) or not loss.exact
        tri = bool(self.maybe and unknown) and open_ and not self.settled
        if self.related:
            self.select.source, self.select.where = joined(self), []
        if tri:
            guessed = self.evidence.rule.interval == "all" and "certain" in self.all_columns
            source = tri_state(self.select.source, self.select.where, self.maybe, " OR ".join(unknown), guessed=guessed)
            self.select.source, self.select.where, self.select.tri = source, [], True
            self.open_rows = source
        else:
            self.select.where += self.maybe
        self.loss = loss
        derived = any(column.derived for column in self.all_columns.values())
        self.bounding = Bounding(loss, tri, "certain" in self.all_columns, derived)

    def relate(self, related: Related) -> None:
        """Keep only rows that are so related to those of another question, which is settled."""
        self.related.append(related)
        self.maybe.append(related.condition)
        inner = related.inner
        used = [*inner.relations, *["gaps"] * (related.lossy and not self.settled)]
        self.relations += [name for name in used if name not in self.relations]
        self.named += inner.named

    @property
    def whole_evidence(self) -> Evidence:
        """The evidence of this question and of those inside it."""
        whole = replace(self.evidence)
        for inner in (one.inner.whole_evidence for one in self.related):
            whole.streams |= inner.streams
            whole.cpus = None if whole.cpus is None or inner.cpus is None else whole.cpus | inner.cpus
            whole.start_ts = _both(min, whole.start_ts, inner.start_ts)
            whole.end_ts = _both(max, whole.end_ts, inner.end_ts)
        return whole

    @cached_property
    def start(self) -> str:
        """Placeholder of the begin of the recording."""
        return self.parameter(self.scene.start_ts)

    @cached_property
    def end(self) -> str:
        """Placeholder of its end."""
        return self.parameter(self.scene.end_ts)

    def error(self, problem: str, remedy: str, place: Place) -> QueryError:
        """An error that points into the question."""
        return QueryError(problem, remedy, text=self.text, start=place.start, end=place.end)

    def not_recorded(self, problem: str, remedy: str, place: Place) -> NotRecordedError:
        """The same, where the capture lacks what the question needs."""
        return NotRecordedError(problem, remedy, text=self.text, start=place.start, end=place.end)

    def has(self, *columns: str) -> bool:
        """Whether rows of the noun have these columns."""
        return all(column in self.all_columns for column in columns)

    def column(self, name: str, place: Place, among: dict[str, Column] | None = None) -> Column:
        """A column by the name typed, in any case.

        Raises:
            QueryError: there is none.
        """
        known = self.all_columns if among is None else among
        by_lower = {column.lower(): found for column, found in known.items()}
        if name.lower() in by_lower:
            self.known(place, by_lower[name.lower()].name)
            return by_lower[name.lower()]
        remedy = did_you_mean(name, by_lower) or f"columns: {', '.join(known)}"
        raise self.error(f'{self.noun.name} have no column "{name}" here', remedy, place)

    def known(self, place: Place, *columns: str) -> None:
        """Make sure that these columns were recorded.

        Raises:
            NotRecordedError: one is empty because nobody asked the recording to fill it.
        """
        empty = next((self.unfilled[column] for column in columns if column in self.unfilled), None)
        if empty is None:
            return
        kind, _, optional = empty.split("|")[0].partition(".")
        option = f"-e {kind},ep_poll_callback" if optional else f"-e {kind}"
        option = f"--stacks {kind}" if optional.endswith("stack") else option
        raise self.not_recorded(
            f"{listed(columns)} of {self.noun.name} cannot be told from this capture: not recorded",
            f"record again with: tracectl record {option}",
            place,
        )

    def require(self, needs: tuple[tuple[frozenset[str], ...], ...], who: str, place: Place, instead: str = "") -> None:
        """Make sure that what is needed was recorded.

        Args:
            instead: what can be asked of this capture.

        Raises:
            NotRecordedError: names what is missing and the option that records it.
        """
        unmet = [need for need in needs if not any(self.scene.recorded(choice) for choice in need)]
        if not unmet:
            return
        choices = [listed(" and ".join(sorted(choice)) for choice in need) for need in unmet]
        first = sorted({kind for need in unmet for kind in need[0]} - (self.scene.kinds or set()))
        events = self.scene.catalogue.events
        imported = first[:1] and first[0] in events and events[first[0]].imported
        remedy = f"tracectl record -e {','.join(first)}"
        remedy = f"tracectl import reads it: {events[first[0]].doc}" if imported else f"record again with: {remedy}"
        raise self.not_recorded(
            f"{who} cannot be told from this capture: not recorded: {'; '.join(choices)}",
            f"{remedy}{f'; {instead}' if instead else ''}",
            place,
        )


def _both(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else choose(one, other)


OPEN = "OR NULL"  # ends a condition that no row can fail for certain
_WORD = re.compile(r"[A-Za-z_]\w*")
# SQL for rows that do not tell, and when there can be any.
_UNKNOWN: dict[str, Callable[[Plan], bool]] = {
    "NOT certain": lambda plan: plan.has("certain"),
    "context = 'unknown'": lambda plan: plan.context_asked,
    "TRUE": lambda plan: plan.descent_asked,
}


def view_of(noun: Noun, scene: Scene) -> View:
    """The view that a noun reads in this capture."""
    known = views()
    if noun.name == "delays" and scene.kinds is not None and only_late_delays(scene.kinds):
        return known[LATE_DELAYS]
    return known["wakeups_by_spans"] if noun.name == "wakeups" and scene.context == "spans" else known[noun.name]
