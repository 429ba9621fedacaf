"""Questions built in Python without text: ``q.wakeups.of(tid=4449).by("softirq").count("comm")``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tracectl.query.nouns import BY_NAME
from tracectl.store.errors import UserError
from tracectl.text import nearest, visible

# A time: "10ms" as in a question, or a timedelta; where a moment is meant also by the wall clock.
Time = str | timedelta
Moment = str | timedelta | datetime
Value = str | int
_TIME = re.compile(r"\d+(\.\d+)?(ns|us|µs|μs|ms|s|m|h)")
_ON_THE_WALL = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)"
_WORD = re.compile(r"[A-Za-z_]\w*")
_CPUS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


class Question:
    """A question, made a part at a time; each method returns a new one. ``str()`` is its text.

    The text is what is asked, so that the SQL is the same. Values are written as values: a name can be nothing else.
    What the language has and this class has not is added by :meth:`also`.

    Raises UserError where a value cannot be written.
    """

    def __init__(self, noun: str, clauses: tuple[str, ...] = (), stages: tuple[str, ...] = ()) -> None:
        self._noun, self._clauses, self._stages = noun, clauses, stages

    def __str__(self) -> str:
        return " | ".join((" ".join((self._noun, *self._clauses)), *self._stages))

    def __repr__(self) -> str:
        return f"<question: {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Question) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __call__(self, argument: str) -> Question:
        """Only one vector or kind: ``q.softirqs("net_rx")``, ``q.events("sched_waking")``."""
        return Question(f"{self._noun} {_name(argument)}", self._clauses, self._stages)

    def also(self, part: str) -> Question:
        """A clause as text; with ``|`` before it, a stage."""
        if part.lstrip().startswith("|"):
            return self._stage(part.lstrip().removeprefix("|").strip())
        return self._clause(part)

    # ---- clauses ----

    def of(self, **subjects: Value | Iterable[Value]) -> Question:
        """Rows about one of the threads: ``tid=``, ``pid=``, ``comm=``, ``cgroup=``, each one value or several."""
        return self._clause(f"of {_either(subjects)}")

    def by(self, *actors: str, **threads: Value | Iterable[Value]) -> Question:
        """Rows with one of these causes: ``"softirq"``, ``"softirq net_rx"``, ``"timer"``; ``tid=``, ``comm=``."""
        return self._clause(f"by {_either(threads, actors)}")

    def not_by(self, *actors: str, **threads: Value | Iterable[Value]) -> Question:
        """Rows with none of these causes."""
        return self._clause(f"not by {_either(threads, actors)}")

    def on(self, **places: Value | Iterable[int]) -> Question:
        """Rows of these places: ``cpu=`` (a number, several, or ``"0-3"``), ``fd=``, ``port=``, ``socket=``."""
        made = self
        for place, value in places.items():
            given = value if isinstance(value, str | int) else ",".join(map(str, value))
            if not (_CPUS.fullmatch(str(given)) or re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", str(given))):
                raise UserError(f'{place}="{visible(str(given))}" is not a number', "numbers, as 0, 0-3 or 0,2")
            made = made._clause(f"on {_word(place)} {given}")
        return made

    def after(self, time: Moment) -> Question:
        """Rows that begin so long after the start of the capture, or at this time of the wall clock, or later."""
        return self._clause(f"after {_moment(time)}")

    def before(self, time: Moment) -> Question:
        """Rows that begin so long after the start of the capture, or at this time of the wall clock, or earlier."""
        return self._clause(f"before {_moment(time)}")

    def between(self, first: Moment, last: Moment) -> Question:
        """Rows that begin between two times after the start of the capture, or of the wall clock."""
        return self._clause(f"between {_moment(first)} and {_moment(last)}")

    def around(self, time: Moment, within: Time) -> Question:
        """Rows that begin around a time, no further from it than this."""
        return self._clause(f"at {_moment(time)} ± {_time(within)}")

    def in_last(self, time: Time) -> Question:
        """Rows that begin in the last part of the capture."""
        return self._clause(f"in last {_time(time)}")

    def over(self, time: Time) -> Question:
        """Rows that lasted longer."""
        return self._clause(f"over {_time(time)}")

    def under(self, time: Time) -> Question:
        """Rows that lasted less."""
        return self._clause(f"under {_time(time)}")

    def in_state(self, state: str) -> Question:
        """Rows about this state: ``"D"``, ``"R+"``, ``"ESTABLISHED"``."""
        return self._clause(f"in state {_name(state)}")

    def during(self, other: Question, link: str = "") -> Question:
        """Rows that lie within a row of another question; ``link``: ``"same cpu"``, ``"anywhere"``."""
        return self._clause(f"during {_inside(other)}{_link(link)}")

    def followed_by(self, other: Question, within: Time, link: str = "") -> Question:
        """Rows after which a row of another question begins, no later than this after they end."""
        return self._clause(f"followed by {_inside(other)} within {_time(within)}{_link(link)}")

    def not_followed_by(self, other: Question, within: Time, link: str = "") -> Question:
        """Rows after which none begins in this time."""
        return self._clause(f"not followed by {_inside(other)} within {_time(within)}{_link(link)}")

    def after_row(self, other: Question, within: Time, link: str = "") -> Question:
        """Rows that begin after a row of another question, no later than this after it ends."""
        return self._clause(f"after {_inside(other)} within {_time(within)}{_link(link)}")

    def where(self, **equal: Value | bool) -> Question:
        """Rows whose columns have these values: ``where(cause="preempted", cpu=3, certain=True)``."""
        tests = []
        for column, value in equal.items():
            if isinstance(value, bool):
                tests.append(_word(column) if value else f"not {_word(column)}")
            else:
                tests.append(f"{_word(column)} = {value if isinstance(value, int) else _name(value)}")
        return self._clause(f"where {' and '.join(tests)}")

    # ---- stages ----

    def count(self, *by: str) -> Question:
        """The number of rows, in all or by columns."""
        return self._stage(f"count{_by(by)}")

    def sum(self, *columns: str, by: str | Iterable[str] = ()) -> Question:
        """Sums of columns."""
        return self._stage(f"sum {_listed(columns)}{_by(by)}")

    def avg(self, *columns: str, by: str | Iterable[str] = ()) -> Question:
        """Averages of columns."""
        return self._stage(f"avg {_listed(columns)}{_by(by)}")

    def min(self, *columns: str, by: str | Iterable[str] = ()) -> Question:
        """Least values of columns."""
        return self._stage(f"min {_listed(columns)}{_by(by)}")

    def max(self, *columns: str, by: str | Iterable[str] = ()) -> Question:
        """Largest values of columns."""
        return self._stage(f"max {_listed(columns)}{_by(by)}")

    def percentiles(self, *which: float, of: str = "dur", by: str | Iterable[str] = ()) -> Question:
        """Percentiles of a column: ``percentiles(50, 99, 99.9)``."""
        return self._stage(f"{','.join(f'p{one:g}' for one in which)} {_word(of)}{_by(by)}")

    def histogram(self, column: str = "dur", by: str | Iterable[str] = ()) -> Question:
        """How many rows have a value of which size, in powers of two."""
        return self._stage(f"histogram {_word(column)}{_by(by)}")

    def rate(self, part: Time, by: str | Iterable[str] = ()) -> Question:
        """How many rows begin in each so long part of the time."""
        return self._stage(f"rate {_time(part)}{_by(by)}")

    def top(self, count: int, by: str) -> Question:
        """The rows with the largest values of a column."""
        return self._stage(f"top {int(count)} by {_word(by)}")

    def sort(self, column: str) -> Question:
        """Rows in the order of a column; ``"-dur"``: largest first."""
        return self._stage(f"sort {'-' if column.startswith('-') else ''}{_word(column.removeprefix('-'))}")

    def limit(self, count: int) -> Question:
        """The first rows only."""
        return self._stage(f"limit {int(count)}")

    def select(self, *columns: str) -> Question:
        """Some of the columns."""
        return self._stage(f"select {_listed(columns)}")

    def _clause(self, text: str) -> Question:
        if self._stages:
            raise UserError(f'"{visible(text)}" comes after a stage', "clauses first, then stages")
        return Question(self._noun, (*self._clauses, text))

    def _stage(self, text: str) -> Question:
        return Question(self._noun, self._clauses, (*self._stages, text))


class Nouns:
    """Where questions begin: each noun of the language is an attribute, as ``q.wakeups``."""

    def __getattr__(self, name: str) -> Question:
        wanted = name.replace("_", " ")
        if wanted not in BY_NAME:
            raise AttributeError(f"there is no noun {name!r}; {nearest(wanted, BY_NAME) or ', '.join(dir(self))}")
        return Question(wanted)

    def __dir__(self) -> list[str]:
        return sorted({noun.name for noun in BY_NAME.values()})


q = Nouns()


def _name(value: str) -> str:
    """A name in quotes."""
    quote = "'" if '"' in value else '"'
    if quote in value or "\n" in value or "\0" in value:
        raise UserError(f"a question cannot hold the name {visible(value)!r}", "a pattern: ? stands for any character")
    return f"{quote}{value}{quote}"


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise UserError(f'"{visible(value)}" is not the name of a column', "letters, digits and _")
    return value


def _time(value: Time) -> str:
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)}us"
    if not _TIME.fullmatch(value):
        raise UserError(f'"{visible(value)}" is not a time', "as in 10ms, 1.5s")
    return value


def _moment(value: Moment) -> str:
    """A time after the start, or one of the wall clock, which must have a zone."""
    if isinstance(value, timedelta):
        return _time(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise UserError(f"{value.isoformat()} has no zone", "datetime(…, tzinfo=UTC)")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value if re.fullmatch(_ON_THE_WALL, value) else _time(value)


def _inside(other: Question) -> str:
    """A question inside another one."""
    if other._stages:
        raise UserError(f'"{visible(str(other))}" has a stage', "a noun with its clauses")
    return f"({other})"


def _link(text: str) -> str:
    if text and not re.fullmatch(r"anywhere|same [A-Za-z_]\w*(, ?[A-Za-z_]\w*)*", text):
        raise UserError(f'"{visible(text)}" links no rows', 'as in "same cpu", "same pid", "anywhere"')
    return f" {text}" if text else ""


def _either(named: dict[str, Value | Iterable[Value]], words: Iterable[str] = ()) -> str:
    """``softirq net_rx or tid 1 or tid 2``."""
    parts = []
    for word in words:
        if not re.fullmatch(r"[a-z]+( [\w]+)?", word, re.IGNORECASE):
            raise UserError(f'"{visible(word)}" is not a cause', 'as in "softirq", "softirq net_rx", "irq 11", "timer"')
        parts.append(word)
    for what, given in named.items():
        for value in [given] if isinstance(given, str | int) else given:
            parts.append(f"{_word(what)} {value if isinstance(value, int) else _name(value)}")
    if not parts:
        raise UserError("of and by need something to compare with", 'of(tid=4449), by("softirq")')
    return " or ".join(parts)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(map(_word, columns))


def _by(columns: str | Iterable[str]) -> str:
    listed = _listed([columns] if isinstance(columns, str) else columns)
    return f" by {listed}" if listed else ""
