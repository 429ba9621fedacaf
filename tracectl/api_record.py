"""Recording from Python: a process of its own records while a ``with`` block runs, or for a given time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

from tracectl import text
from tracectl.api import Capture
from tracectl.api import open as open_capture
from tracectl.record_words import parsed, words_of
from tracectl.store import errors

# How long: text with a unit, seconds, or a timedelta.
Time: TypeAlias = str | float | timedelta


@dataclass(frozen=True)
class Recorded:
    """What a recording came to.

    Attributes:
        path: the capture.
        events: how many were recorded.
        lost: how many were lost; the capture tells which.
        size: bytes.
        elapsed_ns: how long was recorded, ns.
        missing: kinds that this kernel could not give, with the reason.
        stopped_by: why it ended, in words.
    """

    path: Path
    events: int
    lost: int
    size: int
    elapsed_ns: int
    missing: dict[str, str]
    stopped_by: str


def record(
    path: str | Path,
    *,
    duration: Time | None = None,
    events: str | Iterable[str] = (),
    stacks: str | Iterable[str] = (),
    profiles: str | Iterable[str] = (),
    frequency: int | None = None,
    pids: int | Iterable[int] = (),
    tids: int | Iterable[int] = (),
    comms: str | Iterable[str] = (),
    cgroups: str | Iterable[str] = (),
    container: str = "",
    every: int = 1,
    min_delay: Time | None = None,
    max_events: int | None = None,
    max_size: str | int | None = None,
    keep: Time | None = None,
    buffer: str | int = "auto",
    realtime: bool = False,
    force: bool = False,
) -> Recording:
    """A recording, not begun yet: use it as a context manager, or call :meth:`Recording.run`.

    >>> with tracectl.record("web.parquet", events="sched,irq") as recording:  # doctest: +SKIP
    ...     work()
    >>> capture = tracectl.record("web.parquet", duration="5s").run()  # doctest: +SKIP

    Everything that happens in the ``with`` block is recorded: the block begins once the probes are attached.
    The options are those of the command ``tracectl record``, with its defaults and its checks. Times are ``"5s"``,
    ``"250ms"``, a ``timedelta``, or a number of seconds; sizes ``"500M"`` or a number of bytes.

    Args:
        path: the capture to write; with ``keep`` a directory.
        duration: stop after this time.
        events: kinds, groups (sched, task, irq, epoll, net, syscall, profile), ``category:event`` tracepoints, and
            probes of functions; default: what ``profiles`` or ``min_delay`` need, else all but syscall and profile.
        stacks: kinds that get kernel and user call stacks, besides being recorded.
        profiles: what is needed for flame graphs: ``"offwake"``, ``"cpu"``.
        frequency: CPU samples a second and CPU; default: 99.
        pids, tids, comms, cgroups: record only these; one or several, which are alternatives.
        container: only the container of this id; ``pids`` are then ids inside.
        every: record one of so many events of each kind on each CPU; answers know that the others are missing.
        min_delay: record only waits for a CPU longer than this, which the kernel picks out.
        max_events, max_size: stop after so many events, or bytes.
        keep: flight recorder: keep only the newest segments, for this time, and no more than ``max_size``.
        buffer: memory of each ring, one for each CPU and stream; ``"auto"``: by the machine's memory and CPUs.
        realtime: run the reader before all else: for machines under load.
        force: write over an existing file.

    Raises:
        UserError: an argument that cannot be meant. What the machine refuses is raised when the recording begins.
    """
    return Recording(Path(path), words_of({name: value for name, value in locals().items() if name != "path"}))


class Recording:
    """A recording; made by :func:`record`. It runs in a process of its own, so that Python's work does not delay it.

    Attributes:
        path: the capture, there once the recording has ended.
        result: what it came to; None until it has ended.

    Args:
        path: the capture to write.
        words: options as typed for ``tracectl record``.

    Raises:
        UserError: one that cannot be meant.
    """

    def __init__(self, path: Path, words: list[str]) -> None:
        self._words = words
        self._options = parsed(words)
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[bytes] | None = None
        self.path = path.absolute()
        self.result: Recorded | None = None

    def run(self) -> Capture:
        """Record until the duration is over or another limit is met; Ctrl-C ends it as well. Returns the capture.

        Raises:
            UserError: there is no limit, or an option that cannot be meant.
            RecordError: recording is not possible here (root, BCC, tracefs), or the disk is full.
        """
        limits = ("duration", "max_events") if self._options["keep"] else ("duration", "max_events", "max_size")
        if not any(self._options[limit] for limit in limits):
            raise errors.UserError("this recording would never end", 'duration="5s", or record in a with block')
        self._begin()
        try:
            self._end(stop=False)
        except KeyboardInterrupt:
            self._end(stop=True)
        return self.open()

    def open(self) -> Capture:
        """The capture that was recorded, opened.

        Raises:
            UserError: nothing was recorded yet.
        """
        if self.result is None:
            raise errors.UserError(f"{self.path} is not recorded yet", "use it in a with block, or call run()")
        return open_capture(self.path)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(stop=True)
        except errors.TracectlError as problem:
            if error is None:
                raise
            error.add_note(f"the recording failed as well: {problem}")

    def __repr__(self) -> str:
        state = "recorded" if self.result else "running" if self._process else "not begun: use with, or .run()"
        return f"<tracectl.Recording {str(self.path)!r}, {state}>"

    def _begin(self) -> None:
        """Start the process and wait until it records."""
        if self._process is not None or self.result is not None:
            raise errors.UserError(f"{self.path}: this recording was begun before", "tracectl.record makes another")
        package = str(Path(__file__).parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed in _failure and _end
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tracectl.api_recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C reaches this process, which then stops the recording
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"output": str(self.path), "words": self._words}) + "\n")
        self._process.stdin.flush()
        try:
            self._receive("begun")
        except BaseException:
            self._close()
            raise

    def _end(self, *, stop: bool) -> None:
        """Wait for the end, asked for or not, and take the result."""
        process = self._process
        assert process is not None
        if stop and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        told = self._receive("outcome")
        if stop and told["stopped_by"] == "terminated":
            told["stopped_by"] = "stopped"
        self.result = Recorded(**{**told, "path": Path(told["path"])})
        self._close()

    def _receive(self, wanted: str) -> dict[str, Any]:
        """The next thing of that name that the process tells; "begun" is also known once there is an outcome."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "error" in told:
                self._close()
                raise getattr(errors, told["error"])(told["problem"], told["remedy"])
            if wanted in told:
                found: dict[str, Any] = told[wanted]
                return found
        raise self._failure()

    def _failure(self) -> errors.RecordError:
        """The process has ended without a word."""
        assert self._process is not None and self._complaints is not None
        status = self._process.wait()
        self._complaints.seek(0)
        last = self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
        self._close()
        return errors.RecordError(
            f"the recording process ended with status {status}" + (f": {text.visible(last)}" if last else ""),
            "tracectl recover makes a capture of what was written; tracectl doctor tells what is missing",
        )

    def _close(self) -> None:
        """Let go of the process: it has told all, or nobody is interested any more."""
        process, self._process = self._process, None
        if process is None:
            return
        if self.result is None and process.poll() is None:
            process.terminate()
        for pipe in (process.stdin, process.stdout, self._complaints):
            if pipe is not None:
                pipe.close()
        process.wait()
