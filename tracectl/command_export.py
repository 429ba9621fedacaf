"""``tracectl export``: a capture, or the answer to a question, in the format of another tool."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.export_source import Source


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        writer: ``module:function``; takes the stream to write to, or a Path where ``file`` is set, and the Source.
        suffix: its file's usual suffix.
        terminal: whether it may go to a terminal: it has nothing that a terminal would obey.
        file: it can only be a file.
    """

    writer: str
    suffix: str
    terminal: bool = False
    file: bool = False


FORMATS = {
    "perfetto": Format("tracectl.export_perfetto:write_perfetto", "pftrace"),
    "chrome": Format("tracectl.export_chrome:write_chrome", "json"),
    "folded": Format("tracectl.export_flame:write_folded", "folded", terminal=True),
    "speedscope": Format("tracectl.export_flame:write_speedscope", "speedscope.json"),
    "ftrace-text": Format("tracectl.export_text:write_ftrace", "txt", terminal=True),
    "perf-script": Format("tracectl.export_text:write_perf", "txt", terminal=True),
    "csv": Format("tracectl.export_tables:write_csv", "csv"),
    "duckdb": Format("tracectl.export_tables:write_duckdb", "duckdb", file=True),
    "arrow": Format("tracectl.export_tables:write_arrow", "arrow"),
}


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.argument("question", nargs=-1, metavar="[QUESTION]...")
@click.option("--to", "form", required=True, metavar="FORMAT", help=", ".join(FORMATS) + ".")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file; default, and -: stdout.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--memory", default="4GiB", show_default=True, metavar="SIZE", help="Memory limit; more spills to disk.")
def export(
    *, capture: str, question: tuple[str, ...], form: str, output: Path | None, force: bool, memory: str
) -> None:
    """Write a capture or an answer in the format of another tool.

    docs/export.md says what each format keeps and how to open it.

    \b
      tracectl export web.parquet --to perfetto -o web.pftrace
      tracectl export web.parquet --to perfetto -o slow.pftrace "delays over 10ms"
      tracectl export web.parquet --to csv "wakeups by softirq | count by comm"
    """
    from tracectl import query as language
    from tracectl.export_source import Source
    from tracectl.query.answer import context_source
    from tracectl.store.capture import Capture
    from tracectl.store.relations import Relations

    chosen = _format_of(form)
    target = None if output is None or str(output) == "-" else output
    opened = Capture.open(capture)
    asked = " ".join(question)
    with opened.database(memory) as database:
        relations = Relations(opened, context_by_spans=context_source(opened, database) == "spans")
        answer = language.ask(opened, asked, database=database) if asked else None
        with _destination(target, form, force) as stream:
            _write(chosen, stream, Source(opened, database, relations, answer, asked, memory))
        if answer is not None:
            click.echo(f"tracectl: {answer.qualification}", err=True)


def _format_of(name: str) -> Format:
    from tracectl.store.errors import UserError

    if name not in FORMATS:
        remedy = text.nearest(name, FORMATS) or f"formats: {', '.join(FORMATS)}"
        raise UserError(f'there is no export format "{name}"', remedy)
    return FORMATS[name]


def _write(form: Format, stream: IO[bytes], source: Source) -> None:
    module, _, function = form.writer.partition(":")
    getattr(importlib.import_module(module), function)(Path(stream.name) if form.file else stream, source)


@contextmanager
def _destination(path: Path | None, form: str, force: bool) -> Iterator[IO[bytes]]:
    """The file, which appears whole at the end or not at all, or stdout as bytes."""
    from tracectl.output import destination
    from tracectl.store.errors import UserError

    chosen = FORMATS[form]
    if chosen.file and (path is None or (path.exists() and not path.is_file())):
        raise UserError(f"{form} is a file, not a stream", f"name a file: -o capture.{chosen.suffix}")
    if path is not None:
        # Of the formats known there, arrow stands for "bytes".
        with destination(path, "arrow", force) as file:
            yield file
        return
    if not chosen.terminal and sys.stdout.isatty():
        raise UserError(f"{form} is not for a terminal", f"name a file: -o capture.{chosen.suffix}")
    sys.stdout.flush()
    yield sys.stdout.buffer
