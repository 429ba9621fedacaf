"""``tracectl query`` and ``tracectl sql``: a question or a statement, and its answer in the format asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from tracectl import text
from tracectl.output import FORMATS
from tracectl.shell_completion import complete_question

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.query import Answer, Qualification
    from tracectl.store.database import Result

TERMINAL_ROWS = 1000


class Shown(Protocol):
    """An answer, as far as its output is concerned. ``extra`` and ``notes`` are complete once the rows were read."""

    columns: list[str]
    units: dict[str, str]

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows."""

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table, instead."""

    def extra(self) -> dict[str, object]:
        """What stands beside the rows in json, and in the metadata of parquet and arrow."""

    def notes(self, rows: int) -> list[str]:
        """Lines below a table of so many rows."""


@dataclass(frozen=True)
class Target:
    """Where an answer goes and how."""

    form: str | None
    path: Path | None
    force: bool
    everything: bool

    def write(self, shown: Shown, start_ts: int) -> None:
        """Write the answer.

        Raises:
            UserError: the target exists or cannot be written.
        """
        from tracectl import output, render

        form = output.format_of(self.form, self.path)
        folded = form == "table" and shown.columns[:1] == ["folded"]
        with output.destination(self.path, form, self.force) as stream:
            if form in output.BINARY:
                arrow = shown.arrow()
                notes = shown.notes(arrow.num_rows)
                write = output.write_parquet if form == "parquet" else output.write_arrow
                write(stream, arrow, shown.extra())
            else:
                rows = shown.rows()
                notes = shown.notes(len(rows))
                match form:
                    case "json":
                        output.write_json(stream, shown.columns, rows, shown.extra())
                    case "csv":
                        output.write_csv(stream, shown.columns, rows)
                    case _ if folded:
                        output.write_folded(stream, rows)
                    case _:
                        table = render.Table(shown.columns, rows, shown.units, start_ts, notes)
                        render.write_table(table, stream, None if self.everything else TERMINAL_ROWS)
        if folded or form in ("csv", *output.BINARY):
            for note in notes:
                click.echo(f"tracectl: {render.plain(note)}", err=True)


def answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how an answer is shown."""
    for option in reversed(
        (
            click.option(
                "-f", "--format", "form", type=click.Choice(FORMATS), help="Default: a table, or by -o's suffix."
            ),
            click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file."),
            click.option("--force", is_flag=True, help="Write over an existing file."),
            click.option("--all", "everything", is_flag=True, help=f"All rows on a terminal, not {TERMINAL_ROWS}."),
            click.option(
                "--memory", default="4GiB", show_default=True, metavar="SIZE", help="Memory limit; more spills to disk."
            ),
            click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads; default: one per CPU."),
        )
    ):
        function = option(function)
    return function


@click.command()
@click.argument("capture", type=click.Path(), metavar="CAPTURE")
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...", shell_complete=complete_question)
@answer_options
@click.option(
    "--sql", "show_sql", is_flag=True, help="Print the SQL statement, as plain DuckDB runs it, and no answer."
)
@click.option("--explain", is_flag=True, help="Say how the question is understood, and give no answer.")
@click.option("--strict", is_flag=True, help="Refuse (exit code 4) unless the answer is exact.")
@click.option("--profile", is_flag=True, help="Say on stderr how much time each stage took.")
def query(
    *,
    capture: str,
    question: tuple[str, ...],
    form: str | None,
    output: Path | None,
    force: bool,
    everything: bool,
    memory: str,
    threads: int | None,
    show_sql: bool,
    explain: bool,
    strict: bool,
    profile: bool,
) -> None:
    """Answer a question from a capture.

    The question may stand in one pair of quotes or in none; with a stage (|) it needs quotes. Several captures, a
    directory of them or a pattern are one set, with the columns capture and host.

    \b
      tracectl query web.parquet wakeups of tid 4449 by softirq
      tracectl query web.parquet "delays over 10ms | count by comm"
      tracectl query web.parquet @runqlat pid=4182
      tracectl query web-*.parquet "delays over 10ms | count by host"

    A question that begins with @ is a saved one; @ alone lists them.
    """
    from tracectl import query as language
    from tracectl import saved
    from tracectl.captures_given import again_if_gone, captures_and_question, question_in
    from tracectl.profiling import Profile
    from tracectl.store.captures import open_captures

    captures, words = captures_and_question((capture, *question))
    asked = question_in(words, "tracectl query CAPTURE wakeups")
    if asked.strip() == "@":
        click.echo(saved.listing())
        return
    question_text = saved.expand(asked)

    def answered() -> None:
        stages = Profile()
        opened = open_captures(*captures)
        with opened.database(memory, threads) as database:
            if explain:
                made, _ = language.asked_of(opened, database).compiled(language.parse(question_text), settled=True)
                click.echo(text.visible_lines(language.told(made)))
                return
            stages.done("open")
            answer = language.ask(opened, question_text, database=database, strict=strict, done=stages.done)
            if question_text != asked:
                answer.notes.append(f"asked: {question_text}")
            if show_sql:
                click.echo(text.visible_lines(answer.sql_literal))
                return
            Target(form, output, force, everything).write(AnswerShown(answer, stages.done), opened.start_ts)
            stages.done("render")
            if profile:
                click.echo(stages.table(), err=True)

    again_if_gone(answered)


class AnswerShown:
    """A question's answer: its qualification goes with it in every format."""

    def __init__(self, answer: Answer, done: Callable[[str], None]) -> None:
        self._answer, self._done = answer, done
        self.columns, self.units = answer.columns, answer.units

    def rows(self) -> list[tuple[Any, ...]]:
        rows = self._answer.rows()
        self._done("fetch")
        return rows

    def arrow(self) -> pa.Table:
        table = self._answer.arrow()
        self._done("fetch")
        return table

    def extra(self) -> dict[str, object]:
        return qualified(self._answer.qualification, self._answer.notes)

    def notes(self, rows: int) -> list[str]:
        return footer(rows, self._answer.qualification, self._answer.notes)


def qualified(qualification: Qualification, notes: Sequence[str]) -> dict[str, object]:
    """What stands beside an answer's rows in json."""
    return {"qualification": dataclasses.asdict(qualification), "notes": list(notes)}


def footer(rows: int, qualification: Qualification, notes: Sequence[str]) -> list[str]:
    """What stands below so many rows of an answer where people read them, a line each."""
    # Absence can be claimed only where nothing was lost.
    none = "none" if qualification.exact else "none seen"
    bounds = "; ".join(f"{column}: {words}" for column, words in qualification.bounds.items())
    return [
        f"{text.plural(rows, 'row') if rows else none}, {qualification}",
        *([f"bounds: {bounds}"] if bounds else []),
        *notes,
    ]


class _Rows:
    """A statement's result: nothing is known of it but its rows."""

    def __init__(self, result: Result) -> None:
        self.columns: list[str] = result.columns
        self.units: dict[str, str] = {}
        self.rows, self.arrow = result.rows, result.arrow

    def extra(self) -> dict[str, object]:
        return {}

    def notes(self, rows: int) -> list[str]:
        return []


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.argument("statement", nargs=-1, required=True, metavar="STATEMENT...")
@answer_options
def sql(
    *,
    capture: str,
    statement: tuple[str, ...],
    form: str | None,
    output: Path | None,
    force: bool,
    everything: bool,
    memory: str,
    threads: int | None,
) -> None:
    """Run SQL on a capture, read-only.

    The table "capture" has the rows as recorded; every kind of event and every noun of the language is a view. Times
    are ns on the monotonic clock, as recorded; of several captures, ns since the earliest began, and the views have the
    columns capture and host. Nothing but the captures can be read, and nothing written.

    \b
      tracectl sql web.parquet "SELECT kind, count(*) FROM capture GROUP BY kind"
    """
    from tracectl.captures_given import again_if_gone, captures_and_question, question_in
    from tracectl.query.answer import views_of
    from tracectl.store.captures import open_captures

    captures, words = captures_and_question((capture, *statement))
    asked = question_in(words, 'tracectl sql CAPTURE "SELECT 1"')

    def answered() -> None:
        opened = open_captures(*captures)
        with opened.database(memory, threads) as database:
            for view in views_of(opened, database):
                database.execute(view)
            database.lock()
            result = database.execute(asked)
            Target(form, output, force, everything).write(_Rows(result), opened.start_ts)

    again_if_gone(answered)
