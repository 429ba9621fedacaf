"""``tracectl import``: traces of other tools into a capture, with a progress line and what could not be read."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.recorder.import_session import Imported

_CLEAR_LINE = "\r\x1b[K"
_BAR = 30
_SECONDS_BETWEEN = 0.1


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The capture to write.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--strict", is_flag=True, help="Refuse (exit code 4) when a line cannot be read.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary; what was not read is still told.")
def import_(*, files: tuple[str, ...], output: Path, force: bool, strict: bool, quiet: bool) -> None:
    """Make a capture of traces that other tools recorded.

    FILE is ftrace text, trace-cmd report (also -R), trace.dat, perf script, perf.data, or a systrace as text or HTML,
    plain or as gz, xz, zst, bz2; it is recognised by its content. - is standard input. Several files become one
    capture. Events that tracectl does not know are kept with their fields; lines that cannot be read are counted,
    shown, and kept as kind unparsed.

    \b
      tracectl import trace.txt.gz -o web.parquet
      perf script --ns -i perf.data | tracectl import - -o web.parquet
    """
    from tracectl.recorder.import_session import ImportOptions, import_traces

    options = ImportOptions(files, output, force, strict, ("tracectl", *sys.argv[1:]))
    bar = ProgressBar() if sys.stderr.isatty() and not quiet else None
    try:
        imported = import_traces(options, bar.show if bar else None)
    finally:
        if bar:
            click.echo(_CLEAR_LINE, nl=False, err=True)
    _summarize(imported, quiet)


class ProgressBar:
    """One line on a terminal that is written over again and again."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, done: int, total: int) -> None:
        """Write how far the file that is being read is."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN
        full = _BAR * done // total if total else 0
        line = f"importing [{'#' * full}{' ' * (_BAR - full)}] {text.size(done)}" if total else "importing …"
        click.echo(_CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1], nl=False, err=True)


def _summarize(imported: Imported, quiet: bool) -> None:
    """What was read, and what could not be."""
    from tracectl.recorder.import_session import unread_lines

    totals = imported.totals
    if not quiet:
        events = text.plural(sum(totals.events.values()), "event")
        kinds = text.plural(len(totals.events), "kind")
        size, span = text.size(imported.path.stat().st_size), text.duration(imported.elapsed_ns)
        _tell(f"{imported.path}: {events} of {kinds} over {span}, {size}")
        for what, count in imported.not_kept.items():
            _tell(f"not kept: {text.count(count)} {what}")
    counted = [text.plural(totals.lost, "event")] if totals.lost else []
    uncounted = [f"{text.plural(totals.uncounted, 'gap')} of unknown size"] if totals.uncounted else []
    if counted or uncounted:
        _tell(f"LOST {' and '.join(counted + uncounted)}, as the trace itself tells", "red")
    if totals.cut:
        _tell(f"{text.plural(totals.cut, 'text')} or line so long that only the begin is kept", "yellow")
    if totals.unparsed:
        _tell(f"{unread_lines(totals)}; all are kept as kind unparsed", "yellow")


def _tell(line: str, colour: str | None = None) -> None:
    click.echo(click.style(text.visible(line), fg=colour, bold=colour is not None), err=True)
