"""The shell: questions and commands, line by line as through a pipe, in this process."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracectl import api
from tracectl.command_shell import COMMANDS, Shell
from tracectl.store.errors import UserError

SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"
Run = Callable[..., Any]


@pytest.fixture
def ask(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Gives the shell these lines; returns exit code, stdout, stderr."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def give(*lines: str, capture: Path = SAMPLE) -> Any:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run("shell", capture)

    return give


@pytest.fixture
def session() -> Iterator[Shell]:
    """A shell on the sample."""
    with api.open(SAMPLE) as capture:
        yield Shell(capture)


def test_a_pipe_gets_answers_and_no_prompt() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tracectl", "shell", str(SAMPLE)],
        input="accepts | count", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("count\n   97\n1 row, exact\n", "")


def test_answers_are_those_of_query(ask: Run, run: Run) -> None:
    question = 'delays of comm "demo:*" | p50,p99 dur by comm'
    assert ask(question).out == run("query", SAMPLE, question).out


def test_comments_and_empty_lines_are_nothing(ask: Run) -> None:
    assert ask("# accepts", "", "   ") == (0, "", "")


def test_an_error_is_told_and_the_next_line_answered(ask: Run) -> None:
    done = ask("dleays over 1ms", "accepts | count", "closes over 1ms")
    assert done.code == 1 and done.out == "count\n   97\n1 row, exact\n"
    assert done.err.splitlines()[:4] == [
        'there is no noun "dleays"',
        "  dleays over 1ms",
        "  ^^^^^^",
        '  did you mean "delays"?',
    ]


def test_the_last_answer_is_a_relation(ask: Run) -> None:
    done = ask("accepts | count by comm", "\\sql SELECT sum(count)::INT AS n FROM _", "\\sql SELECT n + 1 AS m FROM _")
    assert done.out.endswith(" n\n97\n1 row\n m\n98\n1 row\n") and done.err == ""


def test_an_error_leaves_the_last_answer(ask: Run) -> None:
    assert ask("accepts | count", "nothing", "\\sql FROM _").out.endswith("count\n   97\n1 row\n")


def test_sql_alone_shows_the_statement(ask: Run, run: Run) -> None:
    shown = ask("accepts | count", "\\sql").out.removeprefix("count\n   97\n1 row, exact\n")
    assert shown == run("query", SAMPLE, "accepts | count", "--sql").out
    assert "\\sql SELECT … runs one" in ask("\\sql").err


def test_sql_only_reads(ask: Run, tmp_path: Path) -> None:
    target = tmp_path / "stolen"
    assert "not allowed" in ask(f"\\sql COPY capture TO '{target}'").err
    assert not target.exists()


def test_formats(ask: Run) -> None:
    out = ask("\\format json", "accepts | count", "\\format csv", "accepts | count by comm").out
    told, end = json.JSONDecoder().raw_decode(out)
    assert told["rows"] == [{"count": 97}] and told["qualification"]["kind"] == "exact"
    assert out[end:] == "\ncomm,count\ndemo:worker_1,56\ndemo:worker_0,41\n"
    assert "now: table" in ask("\\format xml").err


def test_commands(ask: Run, run: Run) -> None:
    assert ask("\\explain closes on fd 4").out == run("query", SAMPLE, "--explain", "closes on fd 4").out
    assert ask("\\saved").out == ask("@").out == run("query", SAMPLE, "@").out
    assert ask("\\help wakeups").out == ask("help wakeups").out == run("help", "wakeups").out
    assert all(f"\\{name}" in ask("\\help").out for name in COMMANDS)
    assert "host      demo" in ask("\\info").out and "sched_switch" in ask("\\info").out
    assert ask("\\q", "accepts").out == ask("quit", "accepts").out == ""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("\\foo", "there is no command \\foo\n"),
        ("\\formt json", 'there is no command \\formt\n  did you mean "format"?\n'),
        ("\\", "there is no command \\\n"),
        ("\\q now", "\\q takes nothing behind it\n"),
        ("\\explain", "\\explain needs a question\n"),
        ("\\help nothing", 'there is no help on "nothing"\n'),
    ],
)
def test_mistakes_in_commands(ask: Run, line: str, error: str) -> None:
    done = ask(line)
    assert done.err.startswith(error) and done.code == 1


def test_a_begin_of_a_command_is_enough(ask: Run) -> None:
    assert ask("\\e closes").out == ask("\\explain closes").out


def test_a_saved_question(ask: Run) -> None:
    assert ask("@top_delays n=2 | select dur").out.count("ms\n") == 2


def test_escape_sequences_of_a_capture_stay_away(ask: Run, capture: Path) -> None:
    for line in ("wakeups", "\\sql SELECT comm FROM capture", "\\format json", "\\explain wakeups of comm \x1b[31m"):
        done = ask(line, "wakeups", capture=capture)
        assert "\x1b" not in done.out + done.err and "\u202e" not in done.out + done.err


def test_rows_beyond_a_screenful_are_counted(ask: Run) -> None:
    lines = ask("switches").out.splitlines()
    assert len(lines) == 1 + 1000 + 2
    assert lines[-2].startswith("… 6,748 more rows")


def test_a_whole_capture_does_not_fill_the_memory(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracectl.shell_show.MOST_KEPT", 5)
    out = ask("switches | select ts", "\\sql SELECT count(*) AS n FROM _", "\\sql FROM range(9)").out
    assert out.count("… and others: only the first 5 rows were read") == 2
    assert "n\n5\n1 row\n" in out


def test_completion_of_commands(session: Shell) -> None:
    assert [one.text for one in session.complete("\\f")] == ["\\format"]
    assert [one.text for one in session.complete("\\format j")] == ["json"]
    assert [one.text for one in session.complete("\\help @wakeu")] == ["@wakeup_matrix"]
    assert "softirqs" in [one.text for one in session.complete("\\sql SELECT * FROM soft")]
    (one,) = session.complete("\\explain delays wh")
    assert (one.start, one.text) == (16, "where")


def test_interrupt_cancels_what_runs(session: Shell) -> None:
    """Ctrl-C comes while the work goes on; the next question is answered as ever."""

    def endless() -> None:
        signal.raise_signal(signal.SIGINT)
        session.capture.sql("SELECT count(*) FROM range(1000000000000) AS t(a) WHERE hash(a) % 7 = 3")

    with pytest.raises(UserError, match="cancelled"):
        session._run(endless)
    answer, _ = session._run(lambda: session.capture.query("accepts | count"))
    assert answer.rows() == [(97,)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
