"""A tool view of a recording that runs: a process of its own follows the finished segments and prints.

An event is printed once the segments tell of all that was lost within half a second after it: 0.6 to 2 seconds after it
happened. What is printed is what ``tracectl replay --as`` prints of the finished capture, byte for byte.
"""

from __future__ import annotations

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
from typing import IO, NoReturn, Self

from tracectl.replay import Row, Tape
from tracectl.store.capture import SEGMENTS_SUFFIX, Capture, by_number
from tracectl.store.database import Database
from tracectl.store.errors import CaptureError, TracectlError, UserError
from tracectl.toolview import LOOKAHEAD_NS, Player, ToolView, known_from

_POLL_SECONDS = 0.1
_GONE_SECONDS = 60
_DONE = b"done"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# In the rows of a follower: the view's columns, of which ts is the second, then cpu and seq.
_ts, _cpu, _seq = itemgetter(1), itemgetter(-2), itemgetter(-1)


def _order(row: Row) -> tuple[int, int, int]:
    """Where a row stands in the finished capture."""
    return _ts(row), -1 if _cpu(row) is None else _cpu(row), _seq(row)


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
    out: IO[str]
    note: Callable[[str], object]
    _player: Player | None = None
    _held: list[Row] = field(default_factory=list)
    _played: int = 0
    _until: int = -(2**63)
    _read: set[Path] = field(default_factory=set)
    _gaps: set[tuple[object, ...]] = field(default_factory=set)
    _late: bool = False

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
            for page in tape.pages():
                split = bisect_right(page, self._until, key=_ts)
                earlier += split
                self._play(page[split:])
            self._late |= earlier != played
            player.finish(tape.stack_names)
        if self._late:
            self.note("events came more than half a second late: a replay of the capture may print other lines")

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
            self._player = Player(self.view, opened, self.out, self.note)
        return self._player

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
