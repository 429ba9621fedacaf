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
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tracectl.recorder.drain import Drain, Outcome, Status
from tracectl.recorder.filters import TaskFilter
from tracectl.recorder.priority import realtime
from tracectl.recorder.probes import Probes
from tracectl.recorder.selection import select
from tracectl.store.errors import RecordError, UserError
from tracectl.store.writer import SegmentWriter

DEFAULT_BUFFER = 0  # by the machine's memory and CPUs
STATUS_SECONDS = 0.25
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
        pids, tids, comms, cgroups: the task filter.
        max_events: stop once so many events were taken from the rings.
        max_size: stop once so many bytes were written.
        buffer_bytes: size of each ring; there is one per stream and CPU. 0: by the machine's memory and CPUs.
        realtime: let the reader run before everything else.
        force: replace an existing output.
        command: run it, and stop when it ends.
        command_line: what to note in the capture; default: this process's own.
    """

    output: Path
    duration_ns: int | None = None
    events: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    max_events: int | None = None
    max_size: int | None = None
    buffer_bytes: int = DEFAULT_BUFFER
    realtime: bool = False
    force: bool = False
    command: tuple[str, ...] = ()
    command_line: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    debug: bool = False

    @property
    def task_filter(self) -> TaskFilter:
        """The task filter."""
        return TaskFilter(self.pids, self.tids, self.comms, self.cgroups)


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
    task_filter = options.task_filter
    task_filter.check()
    selection = select(options.events)
    with ExitStack() as stack:
        stop = stack.enter_context(_signals())
        probes = stack.enter_context(Probes(selection, task_filter, options.buffer_bytes, options.debug))
        segments = SegmentWriter(options.output, Drain.schema_of(selection), _owner())
        drain = Drain(probes, segments, options.command_line)
        try:
            drain.begin()
            command = stack.enter_context(_Command(options.command))
            if options.realtime:  # after the writer and the command were started, which are not to have it
                stack.enter_context(realtime())
            reason = _run(options, stop, drain, command, on_status)
            drain.stop()
            return drain.finish(reason, command.end())
        except BaseException:
            drain.abort()
            raise


def _run(
    options: RecordOptions,
    stop: list[str],
    drain: Drain,
    command: _Command,
    on_status: Callable[[Status], None] | None,
) -> str:
    """Drain until something says stop; returns what it was."""
    next_status = time.monotonic() + STATUS_SECONDS
    while True:
        drain.cycle(_CYCLE_SECONDS)
        reason = stop[0] if stop else _stop_reason(options, drain) or command.ended()
        if reason:
            return reason
        if on_status and time.monotonic() >= next_status:
            on_status(drain.status())
            next_status += STATUS_SECONDS


def _stop_reason(options: RecordOptions, drain: Drain) -> str:
    if options.duration_ns is not None and drain.elapsed_ns >= options.duration_ns:
        return "duration reached"
    if options.max_events is not None and drain.events >= options.max_events:
        return "number of events reached"
    if options.max_size is not None and drain.size >= options.max_size:
        return "size reached"
    return ""


def _check_output(options: RecordOptions) -> None:
    output = options.output
    if output.exists() and (not output.is_file() or not options.force):
        remedy = "--force replaces it, -o names another" if output.is_file() else "-o names a file"
        raise UserError(f"{output} exists", remedy)
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UserError(f"no such directory: {parent}", f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{parent} is not writable", "-o names a file in another directory")


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
