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
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tracectl import text
from tracectl.api import Capture
from tracectl.api import open as open_capture
from tracectl.store import errors


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
    events: str | Iterable[str] = (),
    duration: str | float | None = None,
    pids: Iterable[int] = (),
    tids: Iterable[int] = (),
    comms: Iterable[str] = (),
    cgroups: Iterable[str] = (),
    max_events: int | None = None,
    max_size: str | int | None = None,
    buffer: str | int = "2M",
    force: bool = False,
) -> Recording:
    """A recording, not begun yet: use it as a context manager, or call :meth:`Recording.run`.

    >>> with tracectl.record("web.parquet", events="sched,irq") as recording:  # doctest: +SKIP
    ...     work()
    >>> capture = tracectl.record("web.parquet", duration="5s").run()  # doctest: +SKIP

    Everything that happens in the ``with`` block is recorded: the block begins once the probes are attached.

    Args:
        path: the capture to write.
        events: kinds, groups (sched, task, irq, epoll, net) and ``category:event`` tracepoints; default: all groups.
        duration: stop after this time, as ``"5s"``, ``"250ms"``, or a number of seconds.
        pids, tids, comms, cgroups: record only these; several are alternatives.
        max_events, max_size: stop after so many events, or bytes (``"500M"``).
        buffer: memory of each ring: one for each CPU and stream.
        force: write over an existing file.

    Raises:
        UserError: an argument that cannot be meant. What the machine refuses is raised when the recording begins.
    """
    given: dict[str, Any] = {"output": str(Path(path).absolute()), "force": force, "max_events": max_events}
    given["events"] = [events] if isinstance(events, str) else list(events)
    given |= {"pids": list(pids), "tids": list(tids), "comms": list(comms), "cgroups": list(cgroups)}
    given["duration_ns"] = None if duration is None else text.parse_duration(str(duration))
    given["max_size"] = None if max_size is None else text.parse_size(str(max_size))
    return Recording(given | {"buffer_bytes": text.parse_size(str(buffer))})


class Recording:
    """A recording; made by :func:`record`. It runs in a process of its own, so that Python's work does not delay it.

    Attributes:
        path: the capture, there once the recording has ended.
        result: what it came to; None until it has ended.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[bytes] | None = None
        self.path = Path(options["output"])
        self.result: Recorded | None = None

    def run(self) -> Capture:
        """Record until the duration is over or another limit is met; Ctrl-C ends it as well. Returns the capture.

        Raises:
            UserError: there is no limit, or an option that cannot be meant.
            RecordError: recording is not possible here (root, BCC, tracefs), or the disk is full.
        """
        if not any(self._options[limit] for limit in ("duration_ns", "max_events", "max_size")):
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
        self._process.stdin.write(json.dumps(self._options) + "\n")
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
