"""What can stand next in a question: the parser's own accepted tokens, as words, columns and names of the capture."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from lark import Token
from lark.exceptions import UnexpectedInput

from tracectl import saved
from tracectl.query import Plan, Scene, parse, plan
from tracectl.query.bounds import Loss
from tracectl.query.clauses import CLAUSES
from tracectl.query.grammar import parser
from tracectl.query.mistakes import clause_words
from tracectl.query.nouns import BY_NAME, NOUNS, Noun, find
from tracectl.query.stages import STAGES
from tracectl.query.together import Part, plan_together
from tracectl.store.captures import CaptureSet, captures_in
from tracectl.store.errors import TracectlError
from tracectl.store.events import SOFTIRQS, TCP_STATES
from tracectl.store.relations import Column, Relations
from tracectl.text import visible

if TYPE_CHECKING:
    from tracectl.store.capture import Capture
    from tracectl.store.database import Database

_PORTS_SHOWN = 30
# Above so many rows, threads are taken from the snapshot at the start and not looked for in every event.
_MANY_ROWS = 5_000_000
_WORD_END = re.compile(r"[^\s|,()=<>!]*$")
_SIMPLE = re.compile(r"[A-Za-z_*?/~][\w*?.:@/+~#%&\[\]-]*")
_CONTEXTS = ("task", "softirq", "hardirq", "hrtimer", "ipi", "nmi", "unknown")
_STATES = {"sleeps": ("S", "D", "I"), "connections": tuple(TCP_STATES[1:])}
_RUN_STATES = ("R", "R+", "S", "D", "T", "I", "X", "Z")
_TOTALS = {"sum": "sum of columns", "avg": "average", "min": "least value", "max": "largest value"}
_PERCENTILES = {"p50": "the median", "p95": "", "p99": "", "p99.9": "one in a thousand"}
# Tokens of a condition after which a value stands.
_BEFORE_VALUES = ("COMPARE", "LPAR", "COMMA", "_LIKE", "_NOT_LIKE")
# Columns without which a place makes no sense.
_PLACES = {"fd": "fd", "port": "sport", "socket": "socket"}

Told = dict[str, str]  # word -> what it is, in a few words; may be empty


@dataclass(frozen=True)
class Candidate:
    """A word that can stand at ``start`` (characters of the text) up to the cursor."""

    start: int
    text: str
    tells: str = ""


class Names:
    """What the capture knows by name or number; each is looked up once, when it is first asked for."""

    def __init__(self, capture: Capture | CaptureSet, database: Database) -> None:
        self.capture = capture
        self._captures = captures_in(capture)
        self._database = database
        self._columns: dict[str, dict[str, Column]] = {}

    @cached_property
    def _threads(self) -> list[tuple[int, int | None, str]]:
        few = self.capture.rows <= _MANY_ROWS
        relation = "thread_names" if few else "task"
        rows = self._distinct(relation, "tid, pid, comm", "comm IS NOT NULL")
        # Names that a question cannot hold, or that a terminal would obey, are not offered.
        return [row for row in rows if visible(row[2]) == row[2] and '"' not in row[2]]

    def _distinct(self, relation: str, columns: str, condition: str) -> list[tuple[Any, ...]]:
        """Rows of a relation of all captures, each once, in order."""
        select = f"SELECT DISTINCT {columns} FROM {relation} WHERE {condition}"
        each = (f"(\n{Relations(one).with_clause([relation])}\n{select}\n)" for one in self._captures)
        return self._database.execute(f"{' UNION '.join(each)} ORDER BY ALL").rows()

    @property
    def hosts(self) -> Told:
        """Names of the machines."""
        names = sorted({one.footer.host for one in self._captures} - {""})
        return {quoted(name): "" for name in names if visible(name) == name and '"' not in name}

    @cached_property
    def kinds(self) -> Told:
        """Kinds that were recorded, and what they are."""
        events = {kind: event for one in self._captures for kind, event in one.catalogue.events.items()}
        return {kind: events[kind].doc for kind in sorted(self.capture.kinds)}

    @property
    def tids(self) -> Told:
        """Threads with their names."""
        return {str(tid): comm for tid, _, comm in self._threads}

    @property
    def pids(self) -> Told:
        """Processes with the name of their first thread."""
        found = {str(pid): comm for _, pid, comm in self._threads if pid is not None}
        return found | {str(tid): comm for tid, pid, comm in self._threads if tid == pid}

    @property
    def comms(self) -> Told:
        """Names of threads, as a question writes them."""
        return dict.fromkeys((quoted(comm) for comm in sorted({comm for *_, comm in self._threads})), "")

    @property
    def irqs(self) -> Told:
        """Interrupts with the names of their devices."""
        named = (item for one in self._captures for item in one.footer.names.get("irq", {}).items())
        return {number: visible(name) for number, name in named}

    @cached_property
    def ports(self) -> Told:
        """Local ports of connections."""
        changes: Counter[int] = Counter()
        for one in self._captures:
            if "inet_sock_set_state" in one.kinds:
                head = Relations(one).with_clause(["inet_sock_set_state"])
                which = "FROM inet_sock_set_state WHERE sport > 0 GROUP BY 1"
                changes.update(dict(self._database.execute(f"{head}\nSELECT sport, count(*) {which}").rows()))
        most = sorted(changes.items(), key=lambda item: (-item[1], item[0]))[:_PORTS_SHOWN]
        return {str(port): f"{count} changes of state" for port, count in most}

    @cached_property
    def cgroups(self) -> Told:
        """Paths of cgroups."""
        rows = self._distinct("tasks", "cgroup", "cgroup IS NOT NULL")
        return {quoted(path): "" for (path,) in rows if visible(path) == path and '"' not in path}

    def columns(self, question: str, noun: Noun) -> dict[str, Column]:
        """The columns that a stage or condition after this question can name."""
        if question not in self._columns:
            try:
                made = self._planned(question)
                self._columns[question] = made.select.columns if made.narrowed else made.all_columns
            except TracectlError:
                self._columns[question] = noun.columns
        return self._columns[question]

    def _planned(self, question: str) -> Plan:
        query = parse(question)
        scenes = [Scene(one.catalogue, None, one.start_ts, one.end_ts) for one in self._captures]
        if not isinstance(self.capture, CaptureSet):
            return plan(query, scenes[0], settled=True)
        parts = [
            Part(member, Relations(member.capture), scene, lambda _: Loss())
            for member, scene in zip(self.capture.members, scenes, strict=True)
        ]
        return plan_together(query, self.capture, parts, settled=True)


def quoted(name: str) -> str:
    """A name as a question writes it: in quotes where it is no simple word or could be taken for a keyword."""
    return name if _SIMPLE.fullmatch(name) and not name.isalpha() else f'"{name}"'


def complete(text: str, names: Names) -> list[Candidate]:
    """What the last word of the text can become, best first.

    Args:
        text: a question up to the cursor.
    """
    if text.lstrip().startswith("@"):
        return _saved(text)
    found: list[Candidate] = []
    for start in _starts(text):
        state = _State.of(text[:start])
        if state is None:
            continue
        for word, tells in _words(state, names).items():
            if (full := _matched(word, text[start:])) is not None:
                found.append(Candidate(start, full, tells))
        if found:
            break
    if not text.strip():
        found += _saved(text)
    return found


def _matched(word: str, typed: str) -> str | None:
    """The word as it completes what was typed, in any case, with or without its quotes; None: it does not."""
    quote, bare = (typed[0], typed[1:]) if typed[:1] in ('"', "'") and typed else ("", typed)
    plain = word.strip('"')
    if not plain.lower().startswith(bare.lower()):
        return None
    return f"{quote}{plain}{quote}" if quote else word


def _starts(text: str) -> Iterator[int]:
    """Where the last word may begin: at an open quote, else after a space or sign, or up to two words before that."""
    for quote in "\"'":
        if text.count(quote) % 2:
            yield text.rindex(quote)
            return
    match = _WORD_END.search(text)
    assert match
    yield match.start()
    for words in (1, 2):  # "in last", "not followed by"
        before = re.search(rf"(?<!\S)([a-z]+\s+){{{words}}}$", text[: match.start()], re.IGNORECASE)
        if before:
            yield before.start()


@dataclass(frozen=True)
class _State:
    """Where the parser is after a text.

    Attributes:
        tokens: what it has read.
        accepts: terminals that can follow.
    """

    text: str
    tokens: list[Token]
    accepts: set[str]

    @classmethod
    def of(cls, text: str) -> _State | None:
        """The state; None: this is no begin of a question."""
        interactive = parser().parse_interactive(text)
        try:
            tokens = list(interactive.exhaust_lexer())
        except UnexpectedInput:
            return None
        return cls(text, tokens, interactive.accepts())  # type: ignore[no-untyped-call]  # lark has no annotations

    @property
    def last(self) -> str:
        """Type of the last token; empty at the begin."""
        return self.tokens[-1].type if self.tokens else ""

    @property
    def noun(self) -> Noun | None:
        """The noun, once there is one."""
        return find(str(self.tokens[0])) if self.tokens else None

    @property
    def head(self) -> str:
        """The question whose columns can be named here: up to the last stage's |, or the noun alone."""
        bars = [token.start_pos for token in self.tokens if token.type == "VBAR"]
        ends = [token.end_pos for token in self.tokens[:2] if token.type in ("NOUN", "KIND_NOUN", "WORD")]
        return self.text[: bars[-1] if bars else ends[-1]]

    @property
    def wants_number(self) -> bool:
        """Whether a column that is named here is added up or ranked."""
        before = [token.type for token in self.tokens if token.type not in ("COMMA", "NAME")]
        return bool(before) and before[-1] in ("TOTAL", "PERCENTILE", "_HISTOGRAM")

    @property
    def sizes(self) -> bool:
        """Whether a column that is named here is put into buckets."""
        return self.last == "_HISTOGRAM"


def _words(state: _State, names: Names) -> Told:
    """Words that the parser accepts next."""
    words: Told = {}
    if "NOUN" in state.accepts:
        nouns = [noun for noun in NOUNS if _can_be_inside(noun, state)]
        words |= {noun.names[0]: noun.row for noun in nouns}
        words |= {name: "delays" for name in BY_NAME if name.startswith("runq latencies")}
    if {"UINT", "WORD", "STRING", "INT"} & state.accepts:
        words |= _values(state, names)
    if "NAME" in state.accepts and state.noun is not None:
        columns = list(names.columns(state.head, state.noun).values())
        if state.wants_number:  # durations first: they are what is mostly meant
            types = ("int",) if state.sizes else ("int", "real")
            columns = [c for c in columns if c.type in types and not (state.sizes and c.unit == "clock")]
            columns.sort(key=lambda column: column.unit != "ns")
        words |= {column.name: column.doc for column in columns}
    words |= _PERCENTILES if "PERCENTILE" in state.accepts else {}
    words |= _TOTALS if "TOTAL" in state.accepts else {}
    if state.last in ("_OVER", "_UNDER"):
        words |= dict.fromkeys(("100us", "1ms", "10ms", "100ms"), "a time: ns, us, ms, s")
    elif "DURATION" in state.accepts and state.last not in _BEFORE_VALUES:
        words |= dict.fromkeys(("100ms", "1s", "5s"), "a time: ns, us, ms, s, m, h")
    words |= {word: tells for word, tells in _keywords(state).items() if _makes_sense(word, state, names)}
    return words | ({"|": "then a stage: count, top, p99 …"} if "VBAR" in state.accepts else {})


def _can_be_inside(noun: Noun, state: _State) -> bool:
    """Whether a noun can stand here: in a relation only what is at a moment, behind ``during`` only what lasts."""
    before = [token.type for token in state.tokens if token.type != "LPAR"]
    if not before:
        return True
    return bool(noun.links) and (not before[-1].endswith("_DURING") or "end_seq" in noun.columns)


def _keywords(state: _State) -> Told:
    """Keywords that the parser accepts; clauses and stages in the order of the documentation."""
    accepted = {terminal[1:].lower().replace("_", " ") for terminal in state.accepts if re.match(r"_[A-Z]", terminal)}
    told = {word: tells for word, tells in sentences().items() if word in accepted}
    return told | dict.fromkeys(sorted(accepted - told.keys()), "")


@cache
def sentences() -> Told:
    """The first sentence of each clause's and stage's documentation, by the word that it begins with."""
    told: Told = {}
    for word, clause in zip(clause_words(), CLAUSES, strict=True):
        told.setdefault(word, first_sentence(clause))
    for stage in STAGES:
        begin = re.search(r'"([a-z ]+)"', stage.grammar.partition(":")[2])
        if begin and begin[1] != "by":
            told[begin[1]] = first_sentence(stage)
    return told


def first_sentence(documented: type) -> str:
    """What a class says of itself first."""
    text = " ".join(inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".").replace("``", "")


def _makes_sense(word: str, state: _State, names: Names) -> bool:
    """Whether a keyword goes with the noun; the grammar takes each with any."""
    noun = state.noun
    if noun is None:
        return True
    columns = names.columns(state.head, noun)
    if state.last == "_ON":
        return _PLACES.get(word, "") in ("", *columns)
    tests: dict[str, Callable[[], bool]] = {
        "of": lambda: bool(noun.subjects),
        "by": lambda: noun.acted or "VBAR" in {token.type for token in state.tokens},
        "not by": lambda: noun.acted,
        "in state": lambda: bool(noun.state),
        "over": lambda: "dur" in columns,
        "under": lambda: "dur" in columns,
    }
    return word not in tests or tests[word]()


def _values(state: _State, names: Names) -> Told:
    """Values that can follow the last token: of the capture where it knows them."""
    noun = state.noun
    assert noun is not None
    vectors = {name.lower(): f"softirq {number}" for number, name in enumerate(SOFTIRQS)}
    if state.last == "KIND_NOUN":  # the question's own noun, or one in a relation
        return {"vector": vectors, "kind": names.kinds}.get(find(str(state.tokens[-1])).argument, {})
    if state.last in _BEFORE_VALUES:
        columns = [token for token in state.tokens if token.type == "NAME"]
        return _of_column(str(columns[-1]).lower() if columns else "", names)
    makers: dict[str, Callable[[], Told]] = {
        "_COMM": lambda: names.comms,
        "_CGROUP": lambda: names.cgroups,
        "_TID": lambda: names.tids,
        "_PID": lambda: names.pids,
        "_CPU": lambda: dict.fromkeys(map(str, names.capture.cpus), ""),
        "_PORT": lambda: names.ports,
        "_HOST": lambda: names.hosts,
        "_IRQ": lambda: names.irqs,
        "_SOFTIRQ": lambda: vectors,
        "_IN_STATE": lambda: dict.fromkeys(_STATES.get(noun.name, _RUN_STATES), ""),
        "_TOP": lambda: {"10": "how many"},
        "_LIMIT": lambda: {"10": "how many"},
    }
    return makers[state.last]() if state.last in makers else {}


def _of_column(column: str, names: Names) -> Told:
    """Values of a column in a condition."""
    if column.endswith("comm"):
        return names.comms
    if column == "host":
        return names.hosts
    if column.endswith(("tid", "pid")):
        return names.tids if column.endswith("tid") else names.pids
    fixed = {
        "context": _CONTEXTS,
        "cause": ("wakeup", "preempted", "new"),
        "state": _RUN_STATES,
        "cpu": tuple(map(str, names.capture.cpus)),
        "vec_name": SOFTIRQS,
    }
    if column in ("old_state", "new_state"):
        return dict.fromkeys(_STATES["connections"], "")
    return dict.fromkeys(fixed.get("state" if column.endswith("_state") else column, ()), "")


def _saved(text: str) -> list[Candidate]:
    """Saved questions, or their parameters."""
    name, space, _ = text.lstrip().partition(" ")
    known = saved.library()
    if not space:
        start = len(text) - len(name)
        words = ((f"@{one.name}", one.tells) for one in known.values())
        return [Candidate(start, word, tells) for word, tells in words if word.startswith(name)]
    if name[1:] not in known:
        return []
    match = re.search(r"\S*$", text)
    assert match
    own = {key: parameter.tells for key, parameter in known[name[1:]].parameters.items()}
    told = own | {key: tells for key, (_, _, tells) in saved.COMMON.items() if key not in own}
    return [Candidate(match.start(), f"{key}=", tells) for key, tells in told.items() if key.startswith(match[0])]
