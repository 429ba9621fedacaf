"""The command line's frame: help is instant and imports no engine; errors have a remedy and their exit code."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tracectl import cli
from tracectl._version import __version__
from tracectl.cli import COMMANDS, LazyGroup, group
from tracectl.store import errors

ENGINES = {"duckdb", "pyarrow", "lark", "numpy", "rich", "bcc"}
Run = Callable[..., Any]


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"tracectl {__version__}\n", "")
    help_text = run("--help").out
    assert all(name in help_text for name in COMMANDS)
    assert "Exit codes" in help_text
    assert run().out == help_text


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_no_engine(arguments: list[str]) -> None:
    script = f"import sys; from tracectl.cli import main; main({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not ENGINES & set(done.stdout.split())


def test_help_is_quick() -> None:
    # CPU time as a ratio to bare Python, the best of several: neither a slow nor a busy machine changes it much. Bare
    # Python and click make a ratio of 3 to 5, under 60 ms on a usual machine; duckdb alone would add 100 ms, 7 more.
    assert cpu_time("from tracectl.cli import main; main(['--help'])") < 8 * cpu_time("pass")


def cpu_time(script: str) -> float:
    """CPU seconds of a Python script, the least of five runs."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_command_summaries_are_those_of_the_commands() -> None:
    assert isinstance(group, LazyGroup)
    with click.Context(group) as context:
        for name, (_, summary) in COMMANDS.items():
            command = group.get_command(context, name)
            assert command is not None and command.name == name
            assert (command.help or "").startswith(summary)


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        (["qurey"], 'there is no command "qurey"', 'did you mean "query"?'),
        (["xyzzy"], 'there is no command "xyzzy"', "commands: record, import, query"),
        (["--nonsense"], "--nonsense", "see: tracectl --help"),
        (["query"], "Missing argument 'CAPTURE'", "see: tracectl query --help"),
        (["query", "x", "y", "--format", "yaml"], "'yaml' is not one of", "see: tracectl query --help"),
        (["record", "-d", "soon"], '"soon" is not a duration', "for example 5s or 250ms"),
        (["record", "--max-size", "0"], '"0" is not a possible size', "more than zero bytes"),
        (["record", "-p", "0"], "0 is not in the range x>=1", "see: tracectl record --help"),
    ],
)
def test_wrong_arguments(run: Run, arguments: list[str], problem: str, remedy: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    first, *rest = err.splitlines()
    assert first.startswith("tracectl: ") and problem in first
    assert remedy in "\n".join(rest)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UserError("p", "r"), 1),
        (errors.QueryError("p", "r", text="wakeups off", start=8, end=11), 1),
        (errors.RecordError("p", "r"), 2),
        (errors.CaptureError("p", "r"), 3),
        (errors.StrictError("p", "r"), 4),
    ],
)
def test_exit_codes(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    failing(monkeypatch, error)
    done = run("info", "x")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("tracectl: p\n") and done.err.endswith("\n  r\n")


def test_a_question_gets_its_caret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errors.QueryError("not understood", 'did you mean "of"?', text="wakeups off", start=8, end=11))
    assert run("info", "x").err == 'tracectl: not understood\n  wakeups off\n          ^^^\n  did you mean "of"?\n'


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("\x1b[2Jboo"))
    monkeypatch.setenv("TRACECTL_DEBUG", "")
    code, _, err = run("info", "x")
    assert code == cli.BUG
    assert err.splitlines()[0] == r"tracectl: unexpected ZeroDivisionError: \x1b[2Jboo"
    assert "Traceback" not in err
    assert "Traceback" in run("--debug", "info", "x").err


def test_a_file_that_the_system_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/secret"))
    code, _, err = run("info", "x")
    assert (code, err.splitlines()[0]) == (1, "tracectl: /secret: Permission denied")


def test_shell_completion(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TRACECTL_COMPLETE", "bash_source")
    assert "_TRACECTL_COMPLETE=bash_complete" in run().out
    monkeypatch.setenv("_TRACECTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "tracectl qu")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run().out == "plain,query\n"


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run("info", "x") == (130, "", "\n")  # the terminal shows ^C before it


def test_a_reader_that_leaves_is_no_error(capture: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tracectl", "dump", str(capture)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make every command fail with this error."""

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def command(rest: tuple[str, ...]) -> None:
        raise error

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
