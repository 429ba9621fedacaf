"""Tool views: what the tools of BCC and bpftrace print, made from a capture's events, live or on replay."""

from __future__ import annotations

import argparse
import heapq
import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, Protocol

from tracectl import text
from tracectl.event_text import lost_words
from tracectl.replay import Lost, Pace, Tape
from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.errors import NotRecordedError, UserError

# name -> module:class. One consumer of the event stream each.
TOOLS = {
    "runqslower": "tracectl.toolview_runqslower:RunqSlower",
    "offwaketime": "tracectl.toolview_offwaketime:OffWakeTime",
    "epoll": "tracectl.toolview_epoll:Epoll",
}
# A view learns of a gap so much before the gap ends, at the latest when it begins. Live, events are held back for as
# long, so that the output is the same live and on replay.
LOOKAHEAD_NS = 500_000_000


# Ids of stacks -> the functions of those that are known, from the outermost to the innermost, joined by ";".
StackNames = Callable[[set[int]], dict[int, str]]


class Out(Protocol):
    """Where a view's output goes."""

    def write(self, text: str, /) -> object:
        """Take text."""

    def flush(self) -> object:
        """Let it be seen."""


class ToolView(ABC):
    """What one tool prints. It is given events and gaps in order, and knows nothing of where they come from.

    Attributes:
        tool: its name.
        kinds: kinds it reads; those not in the capture are left out.
        record: what to record for it, as ``record -e`` takes it.
        columns: of the rows it is given, in order; ``kind`` and ``ts`` first. Known once it was opened.
        stacks: kinds that need their call stacks recorded.
        needs: of what is recorded for it, kinds that not every kernel can give, without which it shows nothing.
        arguments: those that it was made with.
    """

    tool: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    record: ClassVar[tuple[str, ...]]
    columns: tuple[str, ...]
    stacks: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = _Parser(prog=self.tool, add_help=False, allow_abbrev=False)
        self.declare(parser)
        self.arguments = tuple(arguments)
        self.options = parser.parse_args(list(arguments))

    @abstractmethod
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the tool's own options.

        Wrong ones end in UserError.
        """

    def open(self, capture: Capture, write: Callable[[str], object], note: Callable[[str], object]) -> None:
        """Begin with a capture, or with the first segment of one that is being recorded.

        Args:
            write: takes lines of output, each with its end.
            note: takes what is to be said beside the output.

        Raises:
            NotRecordedError: the capture does not hold what the tool shows.
        """
        self.write = write
        self.note = note
        self.start_ts = capture.start_ts
        self.clock = Clock.of(capture)
        if capture.filter:
            note(f"the recording was filtered ({capture.filter}): other threads' events are not in it")
        self.begin(capture)

    @abstractmethod
    def begin(self, capture: Capture) -> None:
        """Check what was recorded, and print the head."""

    @abstractmethod
    def event(self, row: tuple[Any, ...]) -> None:
        """Take an event: its :attr:`columns`."""

    @abstractmethod
    def lost(self, gap: Lost) -> None:
        """Take a gap, ahead of the events that it may concern where :data:`LOOKAHEAD_NS` allows it."""

    def end(self, names: StackNames) -> None:  # noqa: B027 -- most views have printed everything by then
        """There are no more events; ``names`` tells what is known of stacks by now."""

    def need(self, capture: Capture, *alternatives: str) -> str:
        """The first of these kinds that was recorded.

        Raises:
            NotRecordedError: none was.
        """
        for kind in alternatives:
            if kind in capture.kinds:
                return kind
        raise NotRecordedError(
            f"{self.tool} cannot be told from this capture: not recorded: {' or '.join(alternatives)}",
            f"record again with: tracectl record -e {','.join(self.record)}",
        )

    def tell_gap(self, gap: Lost, meaning: str) -> None:
        """Say what was lost, and what that means; and when output is already there that it may touch."""
        early = gap.from_ts is not None and gap.from_ts < known_from(gap)
        late = "; what was printed for that time may be wrong" if early else ""
        self.note(f"lost: {lost_words(gap, self.start_ts)}: {meaning}{late}")


@dataclass(frozen=True)
class Clock:
    """The time of day of an event.

    Attributes:
        offset: CLOCK_REALTIME less the monotonic clock at the begin of the recording, ns; None: not known.
    """

    offset: int | None
    start_ts: int

    @classmethod
    def of(cls, capture: Capture) -> Clock:
        """The first pair of clocks that was read, so that it is the same live and on replay."""
        first = capture.footers[0].clocks[:1]
        known = [clock["realtime"] - clock["ts"] for clock in first if {"realtime", "ts"} <= clock.keys()]
        return cls(known[0] if known else None, capture.start_ts)

    @property
    def known(self) -> bool:
        """Whether there is a time of day."""
        return self.offset is not None

    def show(self, ts: int) -> str:
        """``16:12:15`` in the local time zone; without a time of day, seconds since the start."""
        if self.offset is None:
            return f"{(ts - self.start_ts) / 1e9:.3f}"
        return time.strftime("%H:%M:%S", time.localtime((ts + self.offset) // 1_000_000_000))


class _Parser(argparse.ArgumentParser):
    """Complains like every other part of tracectl."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}", self.format_usage().strip())


def known_from(gap: Lost) -> int:
    """From when on a view knows of a gap."""
    begin = -(2**63) if gap.from_ts is None else gap.from_ts
    return max(begin, gap.ts - LOOKAHEAD_NS)


def view_of(tool: str, arguments: Sequence[str]) -> ToolView:
    """The view of a tool, with the tool's own arguments.

    Raises:
        UserError: there is no such tool, or the arguments cannot be meant.
    """
    if tool not in TOOLS:
        raise UserError(
            f'there is no view of a tool "{tool}"', text.nearest(tool, TOOLS) or f"tools: {', '.join(TOOLS)}"
        )
    module, _, name = TOOLS[tool].partition(":")
    made: ToolView = getattr(importlib.import_module(module), name)(arguments)
    return made


@dataclass
class Player:
    """Gives a view its events and gaps in order, and writes what it prints.

    Args:
        out: where the output goes.
        note: takes what is said beside it.
    """

    view: ToolView
    opened: Capture
    out: Out
    note: Callable[[str], object]
    _lines: list[str] = field(default_factory=list)
    _gaps: list[tuple[int, int, Lost]] = field(default_factory=list)
    _gap_number: int = 0

    def __post_init__(self) -> None:
        self.view.open(self.opened, self._lines.append, self.note)
        self.ts = list(self.view.columns).index("ts")
        self.flush()

    def replay(self, database: Database, pace: Pace | None = None) -> None:
        """Play all of the capture."""
        kinds = [kind for kind in self.view.kinds if kind in self.opened.kinds]
        tape = Tape(self.opened, database, kinds, self.view.columns)
        try:
            self.add_gaps(tape.gaps())
            for page in tape.pages():
                self.feed(page, pace)
        except KeyboardInterrupt:  # the tools tell what they have
            self.finish(tape.stack_names)
            raise
        self.finish(tape.stack_names)

    def add_gaps(self, gaps: Iterable[Lost]) -> None:
        """Take gaps; none may be known earlier than an event that was given already."""
        for gap in gaps:
            self._gap_number += 1
            heapq.heappush(self._gaps, (known_from(gap), self._gap_number, gap))

    def feed(self, rows: Iterable[tuple[Any, ...]], pace: Pace | None = None) -> None:
        """Give the next events."""
        event = self.view.event
        for row in rows:
            ts = row[self.ts]
            while self._gaps and self._gaps[0][0] <= ts:
                self.view.lost(heapq.heappop(self._gaps)[2])
            if pace is not None:
                pace.wait(ts, self.flush)
            event(row)
        self.flush()

    def finish(self, names: StackNames) -> None:
        """There are no more events."""
        while self._gaps:
            self.view.lost(heapq.heappop(self._gaps)[2])
        self.view.end(names)
        self.flush()

    def flush(self) -> None:
        """Write what the view has printed."""
        self.out.write("".join(self._lines))
        self.out.flush()
        self._lines.clear()
