"""The relations that questions are asked of: one commented SELECT per file in ``views/``, and those of the catalogue.

A view file's header has machine-readable lines::

    -- one row: what a row is; ``(helper)`` at the end keeps it out of the language
    -- evidence: stream=sched,irq|all cpus=own|all interval=ts..end_ts [rows=2] [lane=cpu] [vanishes] [shifting]
       (or: none)
    -- needs: kind other_kind? one|two a+b|c
    -- filled: column other by kind.column          (where there are such; or: by kind|kind)

The interval goes from a column to a column, or from ``before`` or to ``after`` (the CPU's neighbouring event); ``rows``
is how many rows one lost event can take away, if more than one (``any``: no bound); rows of one ``lane`` do not
overlap; ``vanishes``: the loss of an earlier event than the one it is named after can take a row away; ``shifting``: a
loss can make any value another one. ``needs`` lists kinds; ``?`` marks what a relation can do without, ``|``
alternatives, ``+`` what goes together. ``filled`` names columns that a recording fills only when asked to, and the
optional column of the catalogue, or the kind, that tells whether it did. What others read more than once says
``-- kept: yes``: it is computed once. Each column of the outermost SELECT ends with ``-- type unit: text``: type is
``int``, ``text`` or ``bool``, with ``?`` behind it where the column is derived; unit is ``ns`` (a duration), ``clock``
(a moment on the monotonic clock, ns) or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from tracectl.store import filtered
from tracectl.store.database import quote_string, source_sql
from tracectl.store.events import SOFTIRQS, TCP_STATES, VECTOR_CONTEXTS, Catalogue, Event
from tracectl.store.gapless import without_gaps

if TYPE_CHECKING:
    from tracectl.store.capture import Capture

_SQL_TYPES = {"int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR"}
_COLUMN_TYPES = {"int16": "int", "int32": "int", "int64": "int", "string": "text"}
_COLUMN = re.compile(
    r"^\s+(?P<expression>.*?),?\s+-- (?P<type>int|text|bool)(?P<derived>\??)(?: (?P<unit>ns|clock))?: (?P<doc>.+)$"
)
_HEADER = re.compile(r"^-- (one row|evidence|needs|filled|kept):[ ]?(.*)$", re.MULTILINE)
_EVIDENCE = re.compile(
    r"stream=(?P<streams>[\w,]+) cpus=(?P<cpus>own|all) interval=(?P<interval>\S+)(?: rows=(?P<rows>\d+|any))?"
    r"(?: lane=(?P<lane>\w+))?(?P<vanishes> vanishes)?(?P<shifting> shifting)?"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_WALKED = re.compile(r"\bFROM chain_\w+")
_USED = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_]\w*)")
_STAR = re.compile(r"(?<!\()\*")  # all columns: not that of COUNT(*)
_UNSPOKEN = re.compile(r"--.*|'[^']*'|\"[^\"]*\"")  # comments and quoted text name no relation


@dataclass(frozen=True)
class Column:
    """A column of a relation.

    Attributes:
        type: ``int``, ``text`` or ``bool``; in answers also ``real``.
        unit: ``ns`` a duration, ``clock`` a moment on the monotonic clock (ns), or empty.
        derived: whether it comes from another event than the one the row is named after, and is null in a row that
            is not certain.
    """

    name: str
    type: str
    unit: str = ""
    doc: str = ""
    derived: bool = False


@dataclass(frozen=True)
class EvidenceRule:
    """What the rows of a relation depend on.

    Attributes:
        streams: rings whose events a row is made from; ``all``: every ring.
        own_cpu: whether only the row's own CPU matters; else every CPU.
        interval: ``ts..end_ts`` by column names, or ``all``: a row stands for no event in particular.
        rows_per_event: how many rows an event that was lost can have taken away; None: no bound.
        lane: column of which rows with the same value do not overlap; empty: there is none, or rows do not last.
        vanishes: whether the loss of an earlier event than the one it is named after can take a row away. Others are
            there, not certain, as long as that event is.
        shifting: whether a row that is not certain can have other values than in a recording without loss: a thread's
            ts is that of the first event that is left of those that name it.
    """

    streams: tuple[str, ...] = ()
    own_cpu: bool = False
    interval: str = "all"
    rows_per_event: int | None = 1
    lane: str = ""
    vanishes: bool = False
    shifting: bool = False

    @property
    def starts_at_row(self) -> bool:
        """Whether nothing before the row's own ts matters."""
        return self.interval.startswith("ts..")

    @property
    def ends_at_row(self) -> bool:
        """Whether nothing after the row's own ts matters."""
        return self.interval.endswith("..ts")


@dataclass(frozen=True)
class View:
    """A view file, read.

    Attributes:
        row: what one row is.
        needs: alternatives of kinds per need; a need is met when all kinds of one alternative were recorded.
        columns: name -> column, in order.
        filled: column -> the optional column of the catalogue, as ``kind.column``, or the kind (one of those between
            ``|``), without which it says nothing.
        kept: whether it is computed once, since others read it more than once.
    """

    name: str
    row: str
    sql: str
    evidence: EvidenceRule
    needs: tuple[tuple[frozenset[str], ...], ...]
    columns: dict[str, Column]
    filled: dict[str, str] = field(default_factory=dict)
    kept: bool = False

    @property
    def helper(self) -> bool:
        """Whether it is only there for other views."""
        return self.row.endswith("(helper)")

    @property
    def walked(self) -> bool:
        """Whether it walks from a thread and a time that a question names: by itself it has no rows."""
        return bool(_WALKED.search(self.sql))


@cache
def views() -> dict[str, View]:
    """All view files by name."""
    folder = files("tracectl.store") / "views"
    texts = {entry.name.removesuffix(".sql"): entry.read_text("utf-8") for entry in folder.iterdir()}
    return {name: _read_view(name, text) for name, text in sorted(texts.items())}


def _read_view(name: str, text: str) -> View:
    header = dict(_HEADER.findall(text))
    match = _EVIDENCE.fullmatch(header["evidence"])
    rule = EvidenceRule()
    if match:
        streams = tuple(match["streams"].split(","))
        rows = None if match["rows"] == "any" else int(match["rows"] or 1)
        rule = EvidenceRule(
            streams, match["cpus"] == "own", match["interval"], rows, match["lane"] or "",
            bool(match["vanishes"]), bool(match["shifting"]),
        )  # fmt: skip
    columns = {}
    for line in text.splitlines():
        found = _COLUMN.match(line)
        if found:
            column = _WORD.findall(found["expression"])[-1]
            derived = found["derived"] == "?"
            columns[column] = Column(column, found["type"], found["unit"] or "", found["doc"], derived)
    sources = [words.partition(" by ") for what, words in _HEADER.findall(text) if what == "filled"]
    filled = {name: source for names, _, source in sources for name in names.split()}
    return View(
        name, header["one row"], text.strip(), rule, parse_needs(header["needs"]), columns, filled, "kept" in header
    )


def parse_needs(text: str) -> tuple[tuple[frozenset[str], ...], ...]:
    """``"a b|c+d e?"`` as ``(({a},), ({b}, {c, d}))``: what can be done without is left out."""
    needs = (part for part in text.split() if not part.endswith("?"))
    return tuple(tuple(frozenset(choice.split("+")) for choice in need.split("|")) for need in needs)


def kind_relation(kind: str) -> str:
    """Name of the relation with one kind's rows; set apart where a view has the kind's name."""
    return f"kind_{kind}" if kind in views() or kind in _GENERATED else kind


def kind_columns(event: Event) -> dict[str, tuple[str, Column]]:
    """The columns of a kind's relation: name -> (column of the capture, what it is).

    A kind made at run time keeps its fields in the capture as ``<kind>__<field>``; here they have their own names, with
    ``arg_`` before those that every row has already.
    """
    shown: dict[str, tuple[str, Column]] = {}
    taken = set()
    for column in event.columns:
        name = column.name.removeprefix(f"{event.kind}__")
        while name.lower() in taken:
            name = f"arg_{name}"
        taken.add(name.lower())
        unit = "clock" if name.endswith("ts") and column.unit == "ns" else "ns" if column.unit == "ns" else ""
        shown[name] = (column.name, Column(name, _COLUMN_TYPES[column.type.arrow], unit, column.doc))
    return shown


_MADE_NAME = re.compile(r"count|(?:sum|avg|min|max|p\d+(?:_\d+)?)_[a-z_]+")


@cache
def _plain_names() -> frozenset[str]:
    own = set(Catalogue().columns()) | {name for view in views().values() for name in view.columns}
    return frozenset(own - {"function"} | set(Catalogue().events))  # "function" alone is a word of SQL


def quote_name(name: str) -> str:
    """A SQL identifier; names that are not our own are quoted, since a capture's footer can hold any."""
    plain = name in _plain_names() or _MADE_NAME.fullmatch(name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def _literal(value: object) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else quote_string(str(value))


def _constants(columns: str, rows: Iterable[tuple[object, ...]], types: tuple[str, ...]) -> str:
    """A SELECT of constants, right also for no rows at all."""
    lines = [f"({', '.join(_literal(value) for value in row)})" for row in rows]
    names = columns.split()
    cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in zip(names, types, strict=True))
    if not lines:
        nulls = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in zip(names, types, strict=True))
        return f"SELECT {nulls} WHERE FALSE"
    return f"SELECT {cast} FROM (VALUES {', '.join(lines)}) AS given({', '.join(names)})"


ROOTS = "chain_roots"  # given by a question: the threads that a walk is of
_GENERATED = frozenset(
    (
        "capture",
        "streams",
        "kind_streams",
        "recorded",
        "cpus",
        "softirq_names",
        "irq_names",
        "syscall_names",
        "tcp_states",
        "vector_contexts",
        "events",
    )
)


LATE_DELAYS = "delays_late"


def only_late_delays(kinds: frozenset[str]) -> bool:
    """Whether of the delays there are only those that the kernel picked out (``record --min-delay``)."""
    full = all(any(choice <= kinds for choice in need) for need in views()["delays"].needs)
    return "runq_delay" in kinds and not full


class Relations:
    """The relations of one capture, as SQL text.

    Args:
        capture: the capture they read.
        context_by_spans: take the context of wakeups from the handlers' begins and ends, since it was not recorded.
        declared_only: take as lost what the capture says was lost, and do not look for breaks in its switches.

    Attributes:
        given: relations that a question brings with it, by name: their SELECT.
        lossless: whether it is known that ``lost`` has no row: no view looks at gaps then.
    """

    lossless = False

    def __init__(self, capture: Capture, *, context_by_spans: bool = False, declared_only: bool = False) -> None:
        self.capture = capture
        self.kinds_by_relation = {kind_relation(kind): kind for kind in capture.catalogue.events}
        self.substitutes = {}
        self.given: dict[str, str] = {}
        if context_by_spans:
            self.substitutes["wakeups"] = "wakeups_by_spans"
        if "sched_waking" not in capture.kinds and "sched_wakeup" in capture.kinds:
            self.substitutes["wakings"] = "wakings_late"
        if only_late_delays(capture.kinds):
            self.substitutes["delays"] = LATE_DELAYS
        compared = declared_only or all(footer.breaks_declared for footer in capture.footers)
        if not compared and "sched_switch" in capture.kinds and not capture.filter:
            self.substitutes["lost"] = "lost_undeclared"

    def names(self) -> list[str]:
        """Every relation that a person may want to ask: the views of the language, then the kinds, then all rows."""
        return (
            [name for name, view in views().items() if not view.helper and not view.walked]
            + sorted(self.kinds_by_relation)
            + ["capture"]
        )

    def known(self) -> frozenset[str]:
        """Every relation there is."""
        return frozenset((*views(), *self.kinds_by_relation, *_GENERATED, *self.given))

    def units(self, name: str) -> dict[str, str]:
        """The units of a relation's columns, as far as they are known."""
        if name in ("capture", "events"):
            every = (kind_columns(event) for event in self.capture.catalogue.events.values())
            return {stored: column.unit for kind in every for stored, column in kind.values()}
        if name in self.kinds_by_relation:
            known = kind_columns(self.capture.catalogue.events[self.kinds_by_relation[name]])
            return {column: one.unit for column, (_, one) in known.items()}
        view = views().get(self.substitutes.get(name, name))
        return {column: one.unit for column, one in view.columns.items()} if view else {}

    def body(self, name: str) -> str:
        """The SELECT of one relation.

        Raises:
            KeyError: there is no such relation.
        """
        if name in self.given:
            return self.given[name]
        if name in _GENERATED:
            return self._generated(name)
        known = views().get(self.substitutes.get(name, name))
        if known is None:
            return self._kind(self.kinds_by_relation[name])
        if self.lossless:
            known = replace(known, sql=without_gaps(known.sql))
        return filtered.only_inside(known, self.capture.filter) if self.capture.filter else known.sql

    @property
    def declared(self) -> bool:
        """Whether ``lost`` is what the capture itself says, and cheap to read."""
        return "lost" not in self.substitutes

    def ordered(self, names: Iterable[str]) -> list[str]:
        """These relations and all that they use, each after what it uses."""
        order: list[str] = []
        known = self.known()

        def visit(name: str) -> None:
            if name in order:
                return
            code = _UNSPOKEN.sub("", self.body(name)) if name != "capture" else ""
            for word in dict.fromkeys(_USED.findall(code)):
                if word in known and word != name:
                    visit(word)
            order.append(name)

        for name in names:
            visit(name)
        return order

    def with_clause(self, names: Iterable[str]) -> str:
        """``WITH capture AS …, …``: these relations and all that they use.

        What is not kept is not materialised, so that conditions and unused columns reach the scan of the Parquet files.
        """
        kept = {name for name, view in views().items() if view.kept}
        bodies = self._narrowed(list(names))
        parts = [
            f"{quote_name_of(name)} AS {'' if name in kept else 'NOT '}MATERIALIZED (\n{_indent(body)}\n)"
            for name, body in bodies.items()
        ]
        return "WITH " + ",\n".join(parts)

    def _narrowed(self, asked: list[str]) -> dict[str, str]:
        """These relations and all that they use: name -> SELECT, with only the columns that the others can mean.

        DuckDB looks up each column's statistics in every row group before it finds out which ones are used.
        """
        bodies = {name: self.body(name) for name in self.ordered(asked)}
        for name in reversed(bodies):
            if name in asked or not (name == "capture" or name in self.kinds_by_relation):
                continue
            spoken = [_UNSPOKEN.sub("", body) for other, body in bodies.items() if other != name]
            users = [code for code in spoken if name in _USED.findall(code)]
            if not any(_STAR.search(code) for code in users):
                words = frozenset(word.lower() for code in users for word in _WORD.findall(code))
                bodies[name] = (
                    self._capture(words) if name == "capture" else self._kind(self.kinds_by_relation[name], words)
                )
        return bodies

    def create_views(self) -> list[str]:
        """Statements that make every relation a view, for SQL typed by a person."""
        ordered = self.ordered(self.names())
        return [f"CREATE VIEW {quote_name_of(name)} AS\n{self.body(name)}" for name in ordered]

    def _kind(self, kind: str, words: frozenset[str] | None = None) -> str:
        shown = kind_columns(self.capture.catalogue.events[kind])
        columns = ", ".join(
            quote_name(stored) if stored == name else f"{quote_name(stored)} AS {quote_name(name)}"
            for name, (stored, _) in shown.items()
            if _meant(name, words)
        )
        return f"SELECT {columns or 'seq'}\nFROM capture\nWHERE kind = {quote_string(kind)}"

    def _generated(self, name: str) -> str:
        makers: dict[str, Callable[[], str]] = {
            "capture": self._capture,
            "events": self._events,
            "irq_names": lambda: self._names("irq", "irq"),
            "syscall_names": lambda: self._names("syscall", "id"),
            "streams": lambda: _constants("stream", [(s,) for s in sorted(self.capture.streams)], ("VARCHAR",)),
            "kind_streams": lambda: _constants("kind stream", self._kind_streams(), ("VARCHAR", "VARCHAR")),
            "recorded": lambda: _constants("kind", [(kind,) for kind in sorted(self.capture.kinds)], ("VARCHAR",)),
            "cpus": lambda: _constants("cpu", [(cpu,) for cpu in self.capture.cpus], ("SMALLINT",)),
            "softirq_names": lambda: _constants("vec name", enumerate(SOFTIRQS), ("INTEGER", "VARCHAR")),
            "tcp_states": lambda: _constants("state name", list(enumerate(TCP_STATES))[1:], ("INTEGER", "VARCHAR")),
            "vector_contexts": lambda: _constants("name context", VECTOR_CONTEXTS.items(), ("VARCHAR", "VARCHAR")),
        }
        return makers[name]()

    def _kind_streams(self) -> list[tuple[str, str]]:
        return [(kind, event.stream) for kind, event in self.capture.catalogue.events.items() if not event.bookkeeping]

    def _events(self) -> str:
        kept = [kind for kind, event in self.capture.catalogue.events.items() if event.bookkeeping]
        return f"SELECT *\nFROM capture\nWHERE kind NOT IN ({', '.join(quote_string(kind) for kind in kept)})"

    def _names(self, of: str, number: str) -> str:
        # From the footer alone: what the events say depends on which of them were lost.
        recorded = self.capture.footer.names.get(of, {})
        names = [(int(key), text) for key, text in recorded.items()]
        return _constants(f"{number} name", names, ("INTEGER", "VARCHAR"))

    def _capture(self, words: frozenset[str] | None = None) -> str:
        present = self.capture.columns
        columns = [
            quote_name(name)
            if name in present
            else f"CAST(NULL AS {_SQL_TYPES[column.type.arrow]}) AS {quote_name(name)}"
            for name, column in self.capture.catalogue.columns().items()
            if _meant(name, words)
        ]
        return f"SELECT {', '.join(columns)}\nFROM {source_sql(self.capture.files)}"


def _meant(column: str, words: frozenset[str] | None) -> bool:
    """Whether words of SQL, in small letters, can mean a column; None: they say all. A quoted name always may be."""
    return words is None or column.lower() in words or quote_name(column) != column


def quote_name_of(relation: str) -> str:
    """A relation's name in SQL."""
    return relation if relation in views() or relation in _GENERATED or relation == ROOTS else quote_name(relation)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
