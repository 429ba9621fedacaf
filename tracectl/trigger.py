"""``record --trigger``: asks each segment of a flight recorder a question, and keeps what surrounds a hit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tracectl import text
from tracectl.query.answer import ask
from tracectl.query.compile import parse, plan
from tracectl.query.plan import Scene
from tracectl.recorder.recovery import snapshot
from tracectl.recorder.session import RecordOptions, selection_of
from tracectl.store.capture import Capture, by_number
from tracectl.store.errors import TracectlError, UserError
from tracectl.store.events import Catalogue, Event
from tracectl.store.writer import is_being_written

Note = Callable[[str], object]
_LOOK_SECONDS = 0.2
_END_SECONDS = 60.0


@dataclass(frozen=True)
class Trigger:
    """When to keep something for good.

    Attributes:
        question: a hit is a row of its answer.
        window_ns: how much is kept before the two segments of a hit and after them, in whole segments.
        pause_ns: from one snapshot to the next hit at least.
    """

    question: str
    window_ns: int
    pause_ns: int

    def check(self, events: Sequence[Event], min_delay_ns: int = 0) -> None:
        """Find mistakes before the recording begins.

        Args:
            events: what is going to be recorded.
            min_delay_ns: of waits only those longer than this.

        Raises:
            QueryError: the question makes no sense, or needs events that are not recorded.
            UserError: its answer has a row whatever happened.
        """
        kinds = frozenset(event.kind for event in events)
        scene = Scene(Catalogue.of(events), kinds, min_delay_ns=min_delay_ns)
        if plan(parse(self.question), scene).select.group == []:
            raise UserError(
                f"--trigger {self.question}: the answer always has a row", "a question for the rows: delays over 50ms"
            )


class Watch:
    """Looks at the segments of a flight recorder.

    Args:
        directory: of the segments.
        note: is told of each snapshot, and of what failed.
    """

    def __init__(self, directory: Path, trigger: Trigger, note: Note) -> None:
        self._directory = directory
        self._trigger = trigger
        self._note = note
        self._asked = 0
        self._end = self._quiet_until = 0
        self._hit: tuple[int, int, int] | None = None  # from, to (ns), rows

    def run(self) -> None:
        """Look until the recording has ended."""
        going = True
        while going:
            going = is_being_written(self._directory)  # asked before looking: the last segment is not missed
            self.look()
            if going:
                time.sleep(_LOOK_SECONDS)
        if self._hit:
            self._keep(*self._hit)

    def look(self) -> None:
        """Ask the question of what was finished since the last look; make the snapshot that is due."""
        segments = sorted(self._directory.glob("[0-9]*.parquet"), key=by_number)
        for number, segment in enumerate(segments):
            if int(segment.stem) > self._asked:
                self._asked = int(segment.stem)
                self._ask(segments[max(number - 1, 0) : number + 1])
        if self._hit and self._end >= self._hit[1] + self._trigger.window_ns:
            self._keep(*self._hit)

    def _ask(self, segments: list[Path]) -> None:
        """Ask it of a segment and the one before, which holds the begin of what ends in this one."""
        parent = self._directory.absolute().parent
        with tempfile.TemporaryDirectory(prefix=".tracectl-", dir=parent) as place:
            for segment in segments:
                try:  # a name of our own: the recorder may drop its own at any moment
                    os.link(segment, Path(place) / segment.name)
                except FileNotFoundError:
                    return
            capture = Capture.open(place)
            known = self._end
            self._end = capture.end_ts
            if self._hit or self._end < self._quiet_until:
                return
            rows = self._new_rows(capture, known)
        if rows:
            self._hit = capture.start_ts, self._end, rows

    def _new_rows(self, capture: Capture, known: int) -> int:
        """How many rows the answer has that are not of the time up to ``known`` alone."""
        count = 0
        with capture.database(threads=1) as database:
            answer = ask(capture, self._trigger.question, database=database)
            moments = [number for number, name in enumerate(answer.columns) if name in ("ts", "end_ts")]
            for rows in answer.batches():
                for row in rows:
                    times = [row[number] for number in moments if row[number] is not None]
                    count += not times or max(times) > known
        return count

    def _keep(self, begin: int, _end: int, rows: int) -> None:
        """Make a snapshot of what surrounds a hit."""
        self._hit = None
        self._quiet_until = self._end + self._trigger.pause_ns
        stamp = time.strftime("%Y%m%d-%H%M%S")
        output = self._directory.with_name(f"{self._directory.name}-{stamp}.parquet")
        last_ns = self._end - begin + self._trigger.window_ns
        try:
            made = snapshot(self._directory, output, last_ns=last_ns)
        except (TracectlError, OSError) as error:
            self._note(f"trigger: {text.plural(rows, 'row')}, but no snapshot: {error}")
            return
        span = text.duration(made.capture.end_ts - made.capture.start_ts)
        self._note(f"trigger: {text.plural(rows, 'row')}: {made.path} ({span})")


class Watcher:
    """The process that watches, for the one that records.

    Args:
        options: of the recording.
        note: is told when it fails.
    """

    def __init__(self, options: RecordOptions, trigger: Trigger, note: Note) -> None:
        if options.keep is None:
            raise UserError("--trigger needs --keep", "tracectl record --keep 10m -o DIRECTORY --trigger QUESTION")
        selection = selection_of(options)
        trigger.check(selection.events, selection.min_delay_ns)
        self._arguments = json.dumps({"directory": str(options.output.absolute()), "trigger": asdict(trigger)})
        self._note = note
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    def check(self) -> None:
        """Start it, the recording having begun; say so once if it has ended."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-m", "tracectl.trigger", self._arguments])
        elif not self._told and self._process.poll() is not None:
            self._told = True
            self._note("the trigger has failed; the recording goes on without it")

    def end(self) -> None:
        """The recording has ended: wait for a snapshot that is being made."""
        if self._process is None:
            return
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def say(line: str) -> None:
    """Tell a person, between the lines of a recording's status."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}tracectl: {text.visible(line)}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Be the watching process; its only argument is JSON."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the recording's end is its own
        signal.signal(number, signal.SIG_IGN)
    Path("/proc/self/comm").write_text("tracectl-watch")
    given = json.loads(sys.argv[1])
    try:
        Watch(Path(given["directory"]), Trigger(**given["trigger"]), say).run()
    except TracectlError as error:
        say(f"trigger: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
