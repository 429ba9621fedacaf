"""Binary traces through the tool that wrote them: trace.dat by trace-cmd, perf.data by perf."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from tracectl.recorder.import_input import BLOCK_BYTES, Input
from tracectl.store.errors import RecordError, UserError


@dataclass(frozen=True)
class _Tool:
    """A program that prints a binary trace as text."""

    magic: bytes
    format: str
    command: tuple[str, ...]
    package: str


_TOOLS = (
    _Tool(b"\x17\x08\x44tracing", "trace.dat", ("trace-cmd", "report", "-R", "-t", "-i"), "trace-cmd"),
    _Tool(b"PERFILE2", "perf.data", ("perf", "script", "--ns", "--show-lost-events", "-f", "-i"), "linux-perf"),
)


@dataclass
class Report:
    """The text that a tool prints of a trace; a context manager that gives its chunks.

    Attributes:
        format: what the trace is.
    """

    format: str
    command: list[str]
    source: Input
    _process: subprocess.Popen[bytes] | None = None
    _copy: Path | None = None
    _errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> Iterator[bytes]:
        path = self.source.path
        if path is None or self.source.compressed:
            path = self._copy = self._copied()
        # An absolute path cannot be taken for an option.
        command = [*self.command, str(path.absolute())]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
        )
        return self._chunks(self._process)

    def _copied(self) -> Path:
        """The trace as a plain file, since the tools read no pipe and no compressed file."""
        with tempfile.NamedTemporaryFile(prefix="tracectl-import-", delete=False) as file:
            for chunk in self.source.chunks():
                file.write(chunk)
        return Path(file.name)

    def _chunks(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdout is not None
        some = False
        while chunk := process.stdout.read(BLOCK_BYTES):
            some = True
            yield chunk
        if process.wait() != 0 or not some:
            self._errors.seek(0)
            told = self._errors.read(4096).decode("utf-8", "replace").strip().splitlines()
            why = told[-1].strip() if told else "it prints nothing"
            raise UserError(
                f"{self.source.name}: {self.command[0]} cannot read it: {why}",
                "copy it again from where it was recorded, or print it there and import the text",
            )

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._errors.close()
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)


def report_of(source: Input) -> Report | None:
    """The tool's report of a binary trace; None when it is none.

    Raises:
        RecordError: the tool is not installed.
    """
    tool = next((tool for tool in _TOOLS if source.head.startswith(tool.magic)), None)
    if tool is None:
        return None
    program = tool.command[0]
    if shutil.which(program) is None:
        raise RecordError(
            f"{source.name} is a {tool.format}, which {program} reads; it is not installed",
            f"apt install {tool.package}, or print it as text where it was recorded: {' '.join(tool.command[:2])}",
        )
    return Report(tool.format, list(tool.command), source)
