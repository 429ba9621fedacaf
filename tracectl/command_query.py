"""``tracectl query`` and ``tracectl sql``: a question or a statement, and its answer in the format asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracectl.output import FORMATS

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.query import Answer

TERMINAL_ROWS = 1000


@dataclass(frozen=True)
class Shown:
    """An answer, as far as its output is concerned.

    Attributes:
        columns: names, in order.
        units: column -> unit.
        rows: fetches the rows.
        arrow: fetches them as an Arrow table instead.
        extra: what stands beside the rows in json and in the metadata of parquet and arrow.
        notes: lines below a table.
    """

    columns: Sequence[str]
    units: Mapping[str, str]
    rows: Callable[[], Sequence[Sequence[Any]]]
    arrow: Callable[[], pa.Table]
    extra: Mapping[str, object]
    notes: Sequence[str]


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
        with output.destination(self.path, form, self.force) as stream:
            match form:
                case "json":
                    output.write_json(stream, shown.columns, shown.rows(), shown.extra)
                case "csv":
                    output.write_csv(stream, shown.columns, shown.rows())
                case "parquet":
                    output.write_parquet(stream, shown.arrow(), shown.extra)
                case "arrow":
                    output.write_arrow(stream, shown.arrow(), shown.extra)
                case _:
                    table = render.Table(shown.columns, shown.rows(), shown.units, start_ts, shown.notes)
                    render.write_table(table, stream, None if self.everything else TERMINAL_ROWS)
        if form in ("csv", *output.BINARY):
            for note in shown.notes:
                click.echo(f"tracectl: {render.plain(note)}", err=True)


def _answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
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
@click.argument("capture", metavar="CAPTURE")
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...")
@_answer_options
@click.option(
    "--sql", "show_sql", is_flag=True, help="Print the SQL statement, as plain DuckDB runs it, and no answer."
)
@click.option("--explain", is_flag=True, help="Say how the question is understood, and give no answer.")
@click.option("--strict", is_flag=True, help="Refuse (exit code 4) unless the answer is exact.")
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
) -> None:
    """Answer a question from a capture.

    The question may stand in one pair of quotes or in none; with a stage (|) it needs quotes.

    \b
      tracectl query web.parquet wakeups of tid 4449 by softirq
      tracectl query web.parquet "delays over 10ms | count by comm"
    """
    from tracectl import query as language
    from tracectl.store.capture import Capture

    target = Target(form, output, force, everything)
    text = " ".join(question)
    opened = Capture.open(capture)
    with opened.database(memory, threads) as database:
        if explain:
            click.echo(language.explain(opened, text))
            return
        answer = language.ask(database, text, strict=strict)
        if show_sql:
            click.echo(answer.sql_literal)
            return
        target.write(_shown(answer), opened.start_ts)


def _shown(answer: Answer) -> Shown:
    """A question's answer: its qualification goes with it in every format."""
    qualification = answer.qualification
    extra = {"qualification": dataclasses.asdict(qualification), "notes": list(answer.notes)}
    notes = [str(qualification), *answer.notes]
    return Shown(answer.columns, dict(answer.units), answer.rows, answer.arrow, extra, notes)


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.argument("statement", nargs=-1, required=True, metavar="STATEMENT...")
@_answer_options
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
    are ns on the monotonic clock, as recorded. Nothing but the capture can be read, and nothing written.

    \b
      tracectl sql web.parquet "SELECT kind, count(*) FROM capture GROUP BY kind"
    """
    from tracectl.store.capture import Capture
    from tracectl.store.relations import Relations

    opened = Capture.open(capture)
    with opened.database(memory, threads) as database:
        for view in Relations(opened).create_views():
            database.execute(view)
        database.lock()
        result = database.execute(" ".join(statement))
        shown = Shown(result.columns, {}, result.rows, result.arrow, {}, ())
        Target(form, output, force, everything).write(shown, opened.start_ts)
