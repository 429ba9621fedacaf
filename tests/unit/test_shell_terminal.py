"""The shell on a terminal: a pseudo-terminal types, and what appears is read until the awaited text is there."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"
PROMPT = "tracectl> "
# A test that waits longer has failed; nothing is assumed about how much sooner it comes.
PATIENCE = 60


class Terminal:
    """A shell in a terminal of 100 columns and 30 lines."""

    def __init__(self, home: Path, **environment: str) -> None:
        given = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PAGER": "cat", "INPUTRC": "/dev/null"}
        given |= {"XDG_STATE_HOME": str(home), "XDG_CONFIG_HOME": str(home), **environment}
        arguments = [sys.executable, "-m", "tracectl", "shell", str(SAMPLE)]
        self.pid, self._side = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, arguments, given)
        self.text = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._side, keys.encode())

    def until(self, awaited: str, press: str = "") -> str:
        """What appeared up to and with this text, since the last call.

        Args:
            press: keys to press now, and again where nothing comes: CPython may take a signal that comes between
                readline's prompt and its wait for keys for one that waits for the next key.
        """
        end = time.monotonic() + PATIENCE
        self.type(press)
        while awaited not in self.text:
            assert time.monotonic() < end, f"{awaited!r} did not come: {self.text!r}"
            if not select.select([self._side], [], [], 2)[0]:
                self.type(press)
            else:
                self.text += os.read(self._side, 65536).decode(errors="replace")
        found, _, self.text = self.text.partition(awaited)
        return found + awaited

    def exit_code(self) -> int:
        """Wait for its end, reading what it still writes."""
        try:
            while os.read(self._side, 65536):
                continue
        except OSError:  # its end of the terminal is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """End it, if it has not ended."""
        os.close(self._side)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens shells whose history is in one folder."""
    opened: list[Terminal] = []

    def start(**environment: str) -> Terminal:
        opened.append(
            Terminal(tmp_path, NO_COLOR="1", **environment) if "colour" not in environment else Terminal(tmp_path)
        )
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_question_its_answer_and_the_end(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shell = terminal()
    assert "sample.parquet: 42,290 rows, 2.166s, 2 CPUs, demo" in shell.until(PROMPT)
    shell.type("accepts | count\n")
    assert "97" in shell.until("1 row, exact")
    shell.until(PROMPT)
    shell.type("\x04")
    assert shell.exit_code() == 0
    history = tmp_path / "tracectl" / "history"
    assert history.read_text() == "accepts | count\n"
    assert history.stat().st_mode & 0o777 == 0o600


def test_history_of_the_session_before(terminal: Callable[..., Terminal]) -> None:
    first = terminal()
    first.until(PROMPT)
    first.type("accepts | count\n\x04")
    first.exit_code()
    second = terminal()
    second.until(PROMPT)
    second.type("\x1b[A\n")
    assert "accepts | count" in second.until("1 row, exact")


def test_tab_completes_and_lists(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shell.until(PROMPT)
    shell.type("acc\t")
    shell.until("accepts ")
    shell.type("of comm demo:wor\t")
    assert "demo:worker_0" in shell.until("demo:worker_1")
    shell.until("demo:worker_")
    shell.type("1 | cou\t\n")
    assert "56" in shell.until("1 row, exact")
    shell.until(PROMPT)
    shell.type("sleeps in st\t\t")
    shell.until("sleeps in st")
    assert re.search(r"S +D +I", shell.until("sleeps in state "))


def test_an_error_points_into_the_line_that_was_typed(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shell.until(PROMPT)
    shell.type("  delays over 1ms | cuont\n")
    shell.until("cuont")
    shown = shell.until('did you mean "count"?')
    lines = re.sub(r"\r|\x1b\[\?2004l", "", shown).splitlines()
    assert " " * len("tracectl>   delays over 1ms | ") + "^^^^^" in lines
    assert "  delays over 1ms | cuont" not in lines


def test_ctrl_c_cancels_the_question_and_not_the_shell(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shell.until(PROMPT)
    # Pressed before readline has let go of the line, Ctrl-C gives up the line instead: then again.
    for _ in range(20):
        shell.type("\\sql SELECT count(*) FROM range(1000000000000) AS t(a) WHERE hash(a) % 7 = 3\n")
        shell.until("% 7 = 3")
        shell.until("\x1b[?2004l")  # the line is taken
        if "cancelled" in shell.until(PROMPT, press="\x03"):
            break
    else:
        pytest.fail("nothing was cancelled")
    shell.type("half a line")
    shell.until("half a line")
    shell.until(PROMPT, press="\x03")
    shell.type("accepts | count\n")
    shell.until("1 row, exact")


def test_only_long_answers_go_through_the_pager(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\nexec cat\n")
    pager.chmod(0o755)
    shell = terminal(PAGER=str(pager))
    shell.until(PROMPT)
    shell.type("accepts | count\n")
    assert "PAGED" not in shell.until("1 row, exact")
    shell.type("accepts | limit 40\n")
    shell.until("PAGED")
    shell.until("40 rows, exact")
    shell.until(PROMPT)


def test_colours_and_none(terminal: Callable[..., Terminal]) -> None:
    plain = terminal()
    plain.until(PROMPT)
    plain.type("nothing\n")
    assert not re.search(r"\x1b\[[0-9;]*m", plain.until("nouns:"))
    coloured = terminal(colour="yes")
    assert re.search(r"\x1b\[[0-9;]*m", coloured.until("\x1b[0m"))
