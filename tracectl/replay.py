"""A capture played back: its events in time order with the loss where it happened, read in pages of bounded size."""

from __future__ import annotations

import keyword
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from tracectl.store.errors import UserError
from tracectl.store.relations import Relations, kind_columns, quote_name
from tracectl.text import nearest

if TYPE_CHECKING:
    from tracectl.store.capture import Capture
    from tracectl.store.database import Database
    from tracectl.store.events import Event as Kind

# Rows read at a time. The file's row groups are in order of time, so each page reads only its own few of them.
PAGE = 50_000
Row = tuple[Any, ...]
_SHORTEST_SLEEP = 0.001
_PYTHON_TYPES = {"int16": int, "int32": int, "int64": int, "string": str}


@dataclass(slots=True)
class Event:
    """An event of a replay; those of each kind are of a class of their own, which has the kind's fields too.

    A field that the capture does not know is None. The fields are in docs/events.md; one that is a keyword of Python
    has ``_`` behind it.

    Attributes:
        ts: kernel monotonic clock, ns.
        kind: as in the capture.
        cpu: where it fired.
        seq: its place in the capture.
        pid, tid, comm: the thread that was current.
    """

    ts: int
    kind: str
    cpu: int | None
    seq: int
    pid: int | None
    tid: int | None
    comm: str | None


@dataclass(slots=True)
class Lost:
    """A gap in a replay: events after ``from_ts`` and before ``ts`` that are not in the capture.

    Attributes:
        ts, from_ts: ns; from_ts None: since the begin.
        cpu: None: any of them.
        stream: which ring; None: any.
        lost_count: None: nobody counted.
        cause: as in docs/loss.md.
        seq: its place in the capture; None: found by comparing events.
    """

    ts: int
    from_ts: int | None
    cpu: int | None
    stream: str | None
    lost_count: int | None
    cause: str | None
    seq: int | None = None
    kind: str = field(default="lost", init=False)


@dataclass
class Tape:
    """What of a capture is played.

    Attributes:
        kinds: only events of these, and what was lost in their streams; empty: all events. ``lost``: all that was lost.
        columns: of the rows that :meth:`pages` gives.
        ts: where in a row its time is.
    """

    opened: Capture
    database: Database
    kinds: Sequence[str] = ()
    columns: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._relations = Relations(self.opened)
        known = self.opened.catalogue.events
        self._all_gaps = "lost" in self.kinds or not self.kinds
        asked = self.kinds or [kind for kind, event in known.items() if not event.bookkeeping]
        self.kinds = [kind for kind in asked if kind != "lost"]
        if not self.columns:
            used = {column.name for kind in ("lost", *self.kinds) if kind in known for column in known[kind].columns}
            self.columns = [name for name in self.opened.catalogue.columns() if name in used]
        self.ts = list(self.columns).index("ts")

    def pages(self, after_ts: int = -(2**63)) -> Iterator[list[Row]]:
        """The rows later than a moment, a page after the other."""
        head = self._relations.with_clause(["capture"])
        found = self.database.execute(
            f"{head}\nSELECT min(seq), max(seq) FROM capture WHERE ts > $after", {"after": after_ts}
        )
        ((low, high),) = found.rows()
        page = (
            f"{head}\nSELECT {', '.join(map(quote_name, self.columns))} FROM capture "
            "WHERE seq BETWEEN $first AND $last AND ts > $after AND kind IN (SELECT unnest($kinds)) ORDER BY seq"
        )
        for first in range(low or 0, (high or -1) + 1, PAGE):
            values = {"first": first, "last": first + PAGE - 1, "after": after_ts, "kinds": list(self.kinds)}
            yield self.database.execute(page, values).rows()

    def gaps(self) -> list[Lost]:
        """All gaps that concern these kinds, in the order in which they end."""
        known = self.opened.catalogue.events
        streams = {known[kind].stream for kind in self.kinds if kind in known}
        head = self._relations.with_clause(["lost"])
        rows = self.database.execute(
            f"{head}\nSELECT ts, from_ts, cpu, stream, lost_count, cause, seq FROM lost ORDER BY ts, seq"
        ).rows()
        gaps = (Lost(*row) for row in rows)
        return [gap for gap in gaps if self._all_gaps or gap.stream is None or gap.stream in streams]

    def stack_names(self, ids: set[int]) -> dict[int, str]:
        """Functions of these stacks, from the outermost to the innermost, joined by ``;``; of those that are known."""
        head = self._relations.with_clause(["stack"])
        found = self.database.execute(
            f"{head}\nSELECT stack_id, folded FROM stack WHERE stack_id IN (SELECT unnest($ids))", {"ids": sorted(ids)}
        )
        return dict(found.rows())

    def merged(self, rows: Iterable[Row], gaps: list[Lost]) -> Iterator[Row | Lost]:
        """Rows, each gap before the first of them that is not earlier than its end; takes what it gives from ``gaps``.

        Args:
            gaps: those still to come, the next one last.
        """
        for row in rows:
            while gaps and gaps[-1].ts <= row[self.ts]:
                yield gaps.pop()
            yield row

    def play(self) -> Iterator[list[Row | Lost]]:
        """Everything, a page after the other."""
        gaps = self.gaps()[::-1]
        for page in self.pages():
            yield list(self.merged(page, gaps))
        if gaps:
            yield list(gaps[::-1])


class Pace:
    """Waits until an event is due.

    Args:
        speed: 1: as it was, 0.1: ten times as slow.
        start_ts: the moment that is now.
    """

    def __init__(self, speed: float, start_ts: int) -> None:
        self._speed = speed
        self._start_ts = start_ts
        self._begun = time.monotonic()

    def wait(self, ts: int, before: Callable[[], object] = lambda: None) -> None:
        """Sleep until the moment; ``before`` is called ahead of a sleep, to show what is there."""
        due = self._begun + (ts - self._start_ts) / 1e9 / self._speed
        if due - time.monotonic() > _SHORTEST_SLEEP:
            before()
            time.sleep(max(due - time.monotonic(), 0))


def checked(opened: Capture, kinds: str | Iterable[str], speed: float | None) -> list[str]:
    """The kinds asked for, after a look at what cannot be meant.

    Raises:
        UserError: a kind that this capture cannot hold, or no possible speed.
    """
    if speed is not None and not (speed > 0 and math.isfinite(speed)):
        raise UserError(f"a replay cannot run at speed {speed:g}", "speed 1, or any number above zero")
    names = [name for part in ([kinds] if isinstance(kinds, str) else kinds) for name in part.split(",") if name]
    for name in names:
        if name not in opened.catalogue.events:
            known = sorted(opened.catalogue.events)
            remedy = nearest(name, known) or f"kinds: {', '.join(known)}"
            raise UserError(f'there is no event kind "{name}"', remedy)
    return names


@cache
def event_class(kind: Kind) -> tuple[type[Event], list[str]]:
    """The class of a kind's events, and the columns of the capture that fill its fields, in order."""
    shown = list(kind_columns(kind).items())
    base = Event.__dataclass_fields__
    types = {column.name: _PYTHON_TYPES[column.type.arrow] for column in kind.columns}
    own = [(_field_name(name), types[stored] | None) for name, (stored, _) in shown if name not in base]
    made = make_dataclass(kind.kind if kind.kind.isidentifier() else "Other", own, bases=(Event,), slots=True)
    made.__doc__ = kind.doc
    return made, [*base, *(stored for name, (stored, _) in shown if name not in base)]


def _field_name(name: str) -> str:
    """A name that a dataclass can have."""
    usable = name.isidentifier() and not keyword.iskeyword(name)
    return name if usable else f"{name}_" if name.isidentifier() else f"field_{name}"


def events(
    opened: Capture, database: Database, kinds: Sequence[str] = (), speed: float | None = None
) -> Iterator[Event | Lost]:
    """All events in order, as objects; gaps among them where they end.

    Args:
        kinds: only these; empty: all.
        speed: 1: as fast as they came; None: as fast as can be.
    """
    tape = Tape(opened, database, kinds)
    known = opened.catalogue.events
    at = {name: place for place, name in enumerate(tape.columns)}
    makers: dict[str, Callable[[Row], Event]] = {}
    for kind in tape.kinds:
        if kind in known:
            made, columns = event_class(known[kind])
            makers[kind] = _maker(made, itemgetter(*(at[name] for name in columns)))
    pace = None if speed is None else Pace(speed, opened.start_ts)
    kind_at, moment = at["kind"], attrgetter("ts")
    for page in tape.play():
        for row in page:
            event = row if isinstance(row, Lost) else makers[row[kind_at]](row)
            if pace is not None:
                pace.wait(moment(event))
            yield event


def _maker(made: type[Event], pick: Callable[[Row], Row]) -> Callable[[Row], Event]:
    return lambda row: made(*pick(row))
