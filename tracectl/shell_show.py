"""What the shell writes: answers as tables or data, through a pager where they are long, and errors with carets."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

from tracectl import output, render, text
from tracectl.store.errors import QueryError, TracectlError

if TYPE_CHECKING:
    from tracectl.api import Rows

FORMATS = ("table", "json", "csv")
# Rows of a table; more are in the relation _, in json and in csv.
MOST_ROWS = 1000
# Rows that are read at all: a question that gives a whole capture must not fill the memory.
MOST_KEPT = 200_000


class Page(io.StringIO):
    """Text that is written as for the real stdout, and shown once it is complete."""

    def isatty(self) -> bool:
        """Whether it ends on a terminal."""
        return sys.stdout.isatty()


def coloured(stream: IO[str]) -> bool:
    """Whether colours are wanted there."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(words: str, stream: IO[str], **how: bool | str) -> str:
    """The words coloured, where colours are wanted."""
    return click.style(words, **how) if coloured(stream) else words  # type: ignore[arg-type]  # click's many keywords


def show_answer(answer: Rows, form: str, notes: list[str], start_ts: int, extra: dict[str, object]) -> None:
    """Write an answer.

    Args:
        form: one of FORMATS.
        notes: lines below a table.
        start_ts: ns; what moments count from.
        extra: what stands beside the rows in json.
    """
    page = Page()
    if form == "json":
        output.write_json(page, answer.columns, answer.rows(), extra)
    elif form == "csv":
        output.write_csv(page, answer.columns, answer.rows())
    else:
        rows = answer.first(MOST_ROWS)
        left = len(answer) - len(rows)
        more = [f"… {text.plural(left, 'more row')}: in _, and with \\format csv or json"] if left else []
        more += [f"… and others: only the first {text.plural(len(answer), 'row')} were read"] if answer.cut else []
        table = render.Table(answer.columns, rows, answer.units, start_ts, [*more, *notes])
        if answer.columns:
            render.write_table(table, page, None)
    show_text(page.getvalue())


def show_text(words: str) -> None:
    """Write text, through the pager when it is higher than the terminal."""
    if words and not words.endswith("\n"):
        words += "\n"
    command = pager()
    if command and words.count("\n") >= shutil.get_terminal_size().lines:
        _page(command, words)
    else:
        sys.stdout.write(words)
        sys.stdout.flush()


def pager() -> list[str]:
    """The command that shows long text; empty: there is none, or stdout is no terminal."""
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return []
    chosen = os.environ.get("PAGER")
    try:
        command = shlex.split("less" if chosen is None else chosen)
    except ValueError:
        return []
    return command if command and shutil.which(command[0]) else []


def _page(command: list[str], words: str) -> None:
    # Colours, no cleared screen, straight back when it fits: as git has it, where nobody has said otherwise.
    environment = {"LESS": "FRX", "LV": "-c"} | os.environ
    with _pager_has_ctrl_c():
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment)
        assert process.stdin is not None
        try:
            process.stdin.write(words)
            process.stdin.close()
        except BrokenPipeError:  # left before the end: that is what pagers are for
            process.stdin = None
        process.wait()


@contextmanager
def _pager_has_ctrl_c() -> Iterator[None]:
    """Leave Ctrl-C to the pager for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A function, since SIG_IGN would be inherited by the pager.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def show_error(error: TracectlError, line: str = "", prompt: str = "") -> None:
    """Write an error to stderr: what is wrong, where, what to do.

    Args:
        line: as typed, when it stands on the terminal right above, behind ``prompt``: the carets go under it.
    """
    sys.stdout.flush()
    for part in _error_lines(error, line, prompt):
        sys.stderr.write(part + "\n")
    sys.stderr.flush()


def _error_lines(error: TracectlError, line: str, prompt: str) -> Iterator[str]:
    problem = style(text.visible_lines(error.problem), sys.stderr, fg="red", bold=True)
    question = error.text if isinstance(error, QueryError) else ""
    if isinstance(error, QueryError) and question:
        indent, start, end = 2, error.start, error.end
        seen = question in line and text.width(prompt + line) < shutil.get_terminal_size().columns
        if seen:
            moved = line.index(question)
            indent, start, end, question = text.width(prompt), start + moved, end + moved, line
        before = indent + text.width(text.visible(question[:start]))
        carets = "^" * max(1, text.width(text.visible(question[start:end].ljust(end - start))))
        place = " " * before + style(carets, sys.stderr, fg="red", bold=True)
        yield from (place, problem) if seen else (problem, " " * indent + text.visible(question), place)
    else:
        yield problem
    if error.remedy:
        yield style(f"  {text.visible_lines(error.remedy)}", sys.stderr, fg="yellow")
