"""A tool view of a recording that runs: a process of its own follows the finished segments and prints.

An event is printed once the segments tell of all that was lost within half a second after it: 0.6 to 2 seconds after it
happened. What is printed is what ``tracectl replay --as`` prints of the finished capture, byte for byte: if the machine
was so slow that something was learnt later than that, the finished capture is played from its begin, and what follows
the lines that are there already is printed; only where these themselves would be others, that is said instead.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from tracectl.replay import Row, Tape
from tracectl.store.capture import SEGMENTS_SUFFIX, Capture, by_number
from tracectl.store.database import Database
from tracectl.store.errors import CaptureError, TracectlError, UserError
from tracectl.toolview import LOOKAHEAD_NS, Out, Player, ToolView, known_from

_POLL_SECONDS = 0.1
_GONE_SECONDS = 60
_DONE = b"done"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# In the rows of a follower: the view's columns, of which ts is the second, then cpu and seq.
_ts, _cpu, _seq = itemgetter(1), itemgetter(-2), itemgetter(-1)


def _order(row: Row) -> tuple[int, int, int]:
    """Where a row stands in the finished capture."""
    return _ts(row), -1 if _cpu(row) is None else _cpu(row), _seq(row)


class _Printed:
    """Text on its way out, of which its length and a hash are kept."""

    def __init__(self, out: Out) -> None:
        self.out = out
        self.length = 0
        self.hash = hashlib.sha256()

    def write(self, text: str) -> None:
        """Print it."""
        self.out.write(text)
        self.length += len(text)
        self.hash.update(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Let it be seen."""
        self.out.flush()


class _OtherLinesError(Exception):
    """What was printed is not what would be printed now."""


class _Rest:
    """Takes the same text again from its begin, and prints what follows it.

    Attributes:
        left: characters of it that have not come yet.
    """

    def __init__(self, printed: _Printed) -> None:
        self._printed = printed
        self._hash = hashlib.sha256()
        self.left = printed.length

    def write(self, text: str) -> None:
        """Leave out what was printed.

        Raises:
            _OtherLinesError: it was something else.
        """
        known, new = text[: self.left], text[self.left :]
        if known:
            self._hash.update(known.encode("utf-8", "backslashreplace"))
            self.left -= len(known)
            if not self.left and self._hash.digest() != self._printed.hash.digest():
                raise _OtherLinesError
        self._printed.out.write(new)

    def flush(self) -> None:
        """Let it be seen."""
        self._printed.out.flush()


@dataclass
class Follower:
    """Plays a capture while it is recorded.

    Args:
        output: the capture to be.
        out: where the view's output goes.
        note: takes what is said beside it.
    """

    view: ToolView
    output: Path
    out: Out
    note: Callable[[str], object]
    _player: Player | None = None
    _held: list[Row] = field(default_factory=list)
    _played: int = 0
    _until: int = -(2**63)
    _read: set[Path] = field(default_factory=set)
    _gaps: set[tuple[object, ...]] = field(default_factory=set)
    _late: bool = False
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._printed = _Printed(self.out)

    @property
    def _directory(self) -> Path:
        return self.output.with_name(self.output.name + SEGMENTS_SUFFIX)

    def catch_up(self) -> None:
        """Take in the segments that were finished since the last call, and play what is ready."""
        for path in sorted(self._directory.glob("*.parquet"), key=by_number):
            if path not in self._read:
                self._segment(path)
                self._read.add(path)

    def finish(self) -> None:
        """The capture is finished: play what was not played yet."""
        opened = Capture.open(self.output)
        player = self._begin(opened)
        self._held.clear()
        earlier, played = 0, self._played
        with opened.database(threads=1) as database:
            tape = self._tape(opened, database)
            self._take_gaps(tape)
            if self._late and self._again(opened, database):
                return
            for page in tape.pages():
                split = bisect_right(page, self._until, key=_ts)
                earlier += split
                self._play(page[split:])
            self._late |= earlier != played
            if self._late and self._again(opened, database):
                return
            player.finish(tape.stack_names)
        if self._late:
            self.note("events came more than half a second late: a replay of the capture prints other lines")

    def _again(self, opened: Capture, database: Database) -> bool:
        """Play the finished capture from its begin, and print what is not there yet; False: other lines are there."""
        rest = _Rest(self._printed)
        again = type(self.view)(self.view.arguments)
        try:
            Player(again, opened, rest, self._say).replay(database)
        except _OtherLinesError:
            return False
        return rest.left == 0

    def give_up(self) -> None:
        """There will be no capture: play what is known."""
        if self._player is not None:
            self._play(self._held)
            opened = Capture.open(self._directory)
            with opened.database(threads=1) as database:
                self._player.finish(self._tape(opened, database).stack_names)

    def _segment(self, path: Path) -> None:
        opened = Capture.open(path)
        self._begin(opened)
        with opened.database(threads=1) as database:
            tape = self._tape(opened, database)
            rows = [row for page in tape.pages() for row in page]
            self._take_gaps(tape)
        self._held += rows
        if opened.footer.late:
            self._held.sort(key=_order)
        self._until = max(self._until, opened.end_ts - LOOKAHEAD_NS)
        ready = bisect_right(self._held, self._until, key=_ts)
        self._play(self._held[:ready])
        del self._held[:ready]

    def _begin(self, opened: Capture) -> Player:
        if self._player is None:
            self._player = Player(self.view, opened, self._printed, self._say)
        return self._player

    def _say(self, note: str) -> None:
        """Say something once."""
        if note not in self._said:
            self._said.add(note)
            self.note(note)

    def _tape(self, opened: Capture, database: Database) -> Tape:
        kinds = [kind for kind in self.view.kinds if kind in opened.kinds]
        return Tape(opened, database, kinds, (*self.view.columns, "cpu", "seq"))

    def _take_gaps(self, tape: Tape) -> None:
        """Take the gaps that are new. One that should have been known of already comes late."""
        assert self._player is not None
        for gap in tape.gaps():
            same = gap.ts, gap.from_ts, gap.cpu, gap.stream, gap.lost_count, gap.cause
            if same not in self._gaps:
                self._gaps.add(same)
                self._late |= known_from(gap) <= self._until
                self._player.add_gaps([gap])

    def _play(self, rows: list[Row]) -> None:
        assert self._player is not None
        self._played += len(rows)
        self._player.feed(row[:-2] for row in rows)


class Live:
    """The process that follows a recording; a context manager around the recording.

    Args:
        output: the capture to be.
        note: takes what is said beside the output.

    Attributes:
        failed: whether it ended with an error, which it has told.
    """

    def __init__(self, view: ToolView, output: Path, note: Callable[[str], object]) -> None:
        self._follower = Follower(view, output, sys.stdout, note)
        self._pid = 0
        self._pipe = -1
        self.failed = False

    def __enter__(self) -> Self:
        sys.stdout.flush()
        sys.stderr.flush()
        reading, self._pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._pipe)
            _process(self._follower, reading)
        os.close(reading)
        return self

    def check(self) -> None:
        """End the recording when nobody reads what is printed any more, or the view has failed."""
        if self._pid and self._ended(os.WNOHANG):
            os.kill(os.getpid(), signal.SIGTERM)

    def _ended(self, options: int) -> bool:
        """Whether the process has ended, or will have when this returns."""
        pid, status = os.waitpid(self._pid, options)
        if pid:
            self._pid = 0
            self.failed = status != 0
        return pid != 0

    def done(self) -> None:
        """The capture is there: let the rest be printed."""
        if self._pid:
            os.write(self._pipe, _DONE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pipe)
        if self._pid:
            self._ended(0)


def _process(follower: Follower, pipe: int) -> NoReturn:
    """Follow the recording in this, a forked, process; never returns."""
    status = 1
    try:
        for number in _SIGNALS:  # a terminal's Ctrl-C reaches all; the recording decides
            signal.signal(number, signal.SIG_IGN)
        Path("/proc/self/comm").write_text("tracectl-view")
        _follow(follower, pipe)
        status = 0
    except BrokenPipeError:
        status = 0  # the reader has had enough
    except TracectlError as error:
        follower.note("; ".join(line.strip() for line in str(error).splitlines()))
    except Exception as error:  # noqa: BLE001 -- told here: nobody else learns of it
        follower.note(f"the view failed: {type(error).__name__}: {error}")
    finally:
        # Nothing of the recorder's (exit handlers, buffered output, temporary files) is to run here.
        os._exit(status)


def _follow(follower: Follower, pipe: int) -> None:
    """Until the recording is done, or gone."""
    while True:
        readable, _, _ = select.select([pipe], [], [], _POLL_SECONDS)
        if readable:
            word = os.read(pipe, len(_DONE))
            follower.finish() if word == _DONE else follower.give_up()
            return
        try:
            follower.catch_up()
        except (CaptureError, UserError, FileNotFoundError):
            # Segments go when the capture is finished: then it is told so next.
            if select.select([pipe], [], [], _GONE_SECONDS)[0]:
                continue
            raise
