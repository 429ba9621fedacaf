"""One recording from begin to end: probes in, rings drained, rows on disk, probes out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from tracectl.recorder import namespace
from tracectl.recorder.containers import cgroups_of, host_pid, said_of_absent
from tracectl.recorder.drain import Drain, Outcome, Status
from tracectl.recorder.filters import TaskFilter
from tracectl.recorder.flight import Keep
from tracectl.recorder.priority import realtime
from tracectl.recorder.probes import DEFAULT_FREQUENCY, Probes
from tracectl.recorder.selection import Selection, select
from tracectl.recorder.telemetry import Telemetry
from tracectl.store.errors import RecordError, UserError
from tracectl.store.writer import SegmentWriter, is_being_written

DEFAULT_BUFFER = 0  # by the machine's memory and CPUs
STATUS_SECONDS = 0.25
_TELEMETRY_SECONDS = 1.0
# The rings are emptied at least this often, so that a stop condition is met in time.
_CYCLE_SECONDS = 0.05
_COMMAND_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class RecordOptions:
    """What to record, where to, until when.

    Attributes:
        output: the capture file.
        duration_ns: stop after this time; None: no limit.
        events: as given to ``-e``: kinds, groups, ``category:event`` tracepoints; empty: all groups.
        stacks: kinds that get call stacks, besides being recorded.
        frequency: of CPU samples, in Hz.
        pids, tids, comms, cgroups: the task filter.
        container: the id of one; ``pids`` are then ids inside it, and without any all of it is recorded.
        every: of each kind record one event of so many, on each CPU; the others are counted as lost (``sampled``).
        min_delay_ns: record ``runq_delay``, of waits longer than this; None: only if ``events`` names it.
        max_events: stop once so many events were taken from the rings.
        max_size: stop once so many bytes were written; with ``keep_ns``: keep no more.
        keep_ns: flight recorder: ``output`` is a directory, of whose segments only the newest stay, for so long.
        buffer_bytes: size of each ring; there is one per stream and CPU. 0: by the machine's memory and CPUs.
        stats_json, prometheus: where to write how it goes, once a second (see telemetry.py).
        realtime: let the reader run before everything else.
        force: replace an existing output.
        command: run it, and stop when it ends.
        command_line: what to note in the capture; default: this process's own.
    """

    output: Path
    duration_ns: int | None = None
    events: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    frequency: int = DEFAULT_FREQUENCY
    pids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    container: str = ""
    every: int = 1
    min_delay_ns: int | None = None
    max_events: int | None = None
    max_size: int | None = None
    keep_ns: int | None = None
    buffer_bytes: int = DEFAULT_BUFFER
    realtime: bool = False
    stats_json: Path | None = None
    prometheus: Path | None = None
    force: bool = False
    command: tuple[str, ...] = ()
    command_line: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    debug: bool = False

    @property
    def keep(self) -> Keep | None:
        """What a flight recorder keeps; None: it is none."""
        return None if self.keep_ns is None else Keep(self.keep_ns, self.max_size)

    @property
    def task_filter(self) -> TaskFilter:
        """The task filter."""
        if not self.container:
            return TaskFilter(self.pids, self.tids, self.comms, self.cgroups)
        if self.pids:
            pids = tuple(host_pid(self.container, pid) for pid in self.pids)
            return TaskFilter(pids, self.tids, self.comms, self.cgroups)
        return TaskFilter((), self.tids, self.comms, self.cgroups + cgroups_of(self.container))


def record(options: RecordOptions, on_status: Callable[[Status], None] | None = None) -> Outcome:
    """Record until a stop condition is met or a signal (INT, TERM, HUP) comes.

    Args:
        on_status: called about four times a second.

    Raises:
        UserError: an option that cannot be meant.
        RecordError: recording is not possible, or the disk is full; finished segments are kept.
    """
    _check_output(options)
    if options.command and shutil.which(options.command[0]) is None:
        raise UserError(f"no such command: {options.command[0]}", "tracectl record -- COMMAND [ARG …]")
    if os.geteuid() != 0:
        raise RecordError(
            "recording needs root", "sudo tracectl record …; tracectl doctor shows what this machine can do"
        )
    telemetry = Telemetry(options.stats_json, options.prometheus)
    with ExitStack() as stack:
        stack.enter_context(namespace.entered())
        task_filter = options.task_filter
        task_filter.check(said_of_absent)
        task_filter = task_filter.on_machine()
        selection = selection_of(options)
        stop = stack.enter_context(_signals())
        probes = stack.enter_context(_probes(selection, task_filter, options))
        segments = SegmentWriter(options.output, Drain.schema_of(selection), _owner(), stay=options.keep is not None)
        drain = Drain(probes, segments, options.command_line, options.keep)
        try:
            drain.begin()
            command = stack.enter_context(_Command(options.command))
            if options.realtime:  # after the writer and the command were started, which are not to have it
                stack.enter_context(realtime())
            reason = _run(options, stop, drain, command, _tellers(on_status, telemetry))
            drain.stop()
            outcome = drain.finish(reason, command.end())
            telemetry.write(drain.status(), recording=False)
            return outcome
        except BaseException:
            drain.abort()
            raise


def selection_of(options: RecordOptions) -> Selection:
    """The kinds that these options record.

    Raises:
        UserError: a name that is no kind, group or tracepoint of this kernel.
    """
    late = () if options.min_delay_ns is None else ("runq_delay",)
    found = select(options.events + late, options.stacks)
    return replace(found, every=options.every, min_delay_ns=options.min_delay_ns or 0)


def _probes(selection: Selection, task_filter: TaskFilter, options: RecordOptions) -> Probes:
    return Probes(selection, task_filter, options.buffer_bytes, options.debug, options.frequency)


@dataclass
class _Teller:
    """Something that is told how it goes, every so many seconds."""

    tell: Callable[[Status], None]
    seconds: float
    due: float = field(default_factory=time.monotonic)

    def __call__(self, drain: Drain) -> None:
        now = time.monotonic()
        if now >= self.due:
            self.due = max(self.due + self.seconds, now)
            self.tell(drain.status())


def _tellers(on_status: Callable[[Status], None] | None, telemetry: Telemetry) -> list[_Teller]:
    tellers = [_Teller(on_status, STATUS_SECONDS, time.monotonic() + STATUS_SECONDS)] if on_status else []
    return tellers + ([_Teller(telemetry.write, _TELEMETRY_SECONDS)] if telemetry else [])


def _run(options: RecordOptions, stop: list[str], drain: Drain, command: _Command, tellers: list[_Teller]) -> str:
    """Drain until something says stop; returns what it was."""
    while True:
        drain.cycle(_CYCLE_SECONDS)
        reason = stop[0] if stop else _stop_reason(options, drain) or command.ended()
        if reason:
            return reason
        for teller in tellers:
            teller(drain)


def _stop_reason(options: RecordOptions, drain: Drain) -> str:
    if options.duration_ns is not None and drain.elapsed_ns >= options.duration_ns:
        return "duration reached"
    if options.max_events is not None and drain.events >= options.max_events:
        return "number of events reached"
    if options.keep is None and options.max_size is not None and drain.size >= options.max_size:
        return "size reached"
    return ""


def _check_output(options: RecordOptions) -> None:
    output = options.output
    if options.keep is not None:
        _clear(output, options.force)
    elif output.exists() and (not output.is_file() or not options.force):
        remedy = "--force replaces it, -o names another" if output.is_file() else "-o names a file"
        raise UserError(f"{output} exists", remedy)
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UserError(f"no such directory: {parent}", f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{parent} is not writable", "-o names a file in another directory")


def _clear(directory: Path, force: bool) -> None:
    """Make room for a flight recorder; what an earlier one left is kept beside it."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UserError(f"{directory} exists and is no directory", "-o DIRECTORY")
    if is_being_written(directory):
        raise UserError(f"{directory}: another recording is running", "-o names another directory")
    ours = all(entry.suffix in (".parquet", ".tail", ".tmp") for entry in directory.iterdir())
    if not ours or (not force and any(directory.iterdir())):
        remedy = "--force keeps what is there as NAME.before" if ours else "-o names a new directory"
        raise UserError(f"{directory} exists", f"{remedy}; tracectl recover makes a capture of it" if ours else remedy)
    before = directory.with_name(directory.name + ".before")
    shutil.rmtree(before, ignore_errors=True)
    directory.rename(before)


def _owner() -> tuple[int, int] | None:
    """Whom the capture shall belong to: the user that called sudo."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if os.geteuid() == 0 and uid.isdigit() and gid.isdigit() else None


@contextmanager
def _signals() -> Iterator[list[str]]:
    """Catch the signals that end a recording; their reason appears in the list."""
    stop: list[str] = []
    reasons = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.append(reasons[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in reasons}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Command:
    """The traced command, if there is one."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if command:
            try:
                self._process = subprocess.Popen(command)
            except OSError as error:
                raise UserError(f"{command[0]} cannot be run: {error.strerror}") from error

    def ended(self) -> str:
        """Why to stop, once it has ended."""
        return "command ended" if self._process is not None and self._process.poll() is not None else ""

    def end(self) -> int | None:
        """Its exit status; one that still runs is asked to terminate, then killed."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_COMMAND_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        status = self._process.wait()
        return 128 - status if status < 0 else status

    def __enter__(self) -> _Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
