"""``tracectl replay``: a capture's events again, in time order, at any speed, or as another tool would show them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tracectl import text
from tracectl.event_text import event_line, lost_line

if TYPE_CHECKING:
    from tracectl.store.capture import Capture


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- TOOL ARGUMENTS...]")
@click.option(
    "-k", "--kind", "kinds", multiple=True, metavar="KIND", help="Only these kinds (may be repeated, or a comma list)."
)
@click.option(
    "--speed", type=float, metavar="X", help="1: as fast as it was; 0.1: ten times as slow. Default: no waiting."
)
@click.option("--as", "tool", metavar="TOOL", help="Print what this tool would have printed: runqslower, …")
def replay(
    *, capture: str, arguments: tuple[str, ...], kinds: tuple[str, ...], speed: float | None, tool: str | None
) -> None:
    """Print a capture's events again, in time order.

    As fast as can be, or at --speed. A line that begins with *** tells what was lost, where it happened. With --as the
    events are shown as another tool shows them while it runs; its own options stand behind --. What is lost is told on
    stderr then.

    \b
      tracectl replay web.parquet --speed 0.1
      tracectl replay web.parquet --as runqslower -- 10000 -P
    """
    from tracectl.replay import checked
    from tracectl.store.capture import Capture
    from tracectl.store.errors import UserError

    opened = Capture.open(capture)
    wanted = checked(opened, kinds, speed)
    if tool is not None:
        if kinds:
            raise UserError("-k goes with events, not with --as", "the tool reads the kinds it needs")
        _as_tool(opened, tool, arguments, speed)
        return
    if arguments:
        raise UserError(f"unexpected: {' '.join(arguments)}", "arguments behind -- are those of a tool: --as TOOL")
    _print_events(opened, wanted, speed)


def _print_events(opened: Capture, kinds: list[str], speed: float | None) -> None:
    from tracectl.replay import Lost, Pace, Tape

    with opened.database() as database:
        tape = Tape(opened, database, kinds)
        pace = None if speed is None else Pace(speed, opened.start_ts)
        lines: list[str] = []
        for page in tape.play():
            for row in page:
                if pace is not None:
                    pace.wait(row.ts if isinstance(row, Lost) else row[tape.ts], lambda: _show(lines))
                if isinstance(row, Lost):
                    lines.append(lost_line(row, opened.start_ts))
                else:
                    lines.append(event_line(dict(zip(tape.columns, row, strict=True)), opened.start_ts))
            _show(lines)


def _show(lines: list[str]) -> None:
    """Write lines out now, and forget them."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    lines.clear()


def _as_tool(opened: Capture, tool: str, arguments: tuple[str, ...], speed: float | None) -> None:
    from tracectl.replay import Pace
    from tracectl.toolview import Player, view_of

    view = view_of(tool, arguments)
    with opened.database() as database:
        player = Player(view, opened, sys.stdout, lambda note: click.echo(text.visible(f"tracectl: {note}"), err=True))
        player.replay(database, None if speed is None else Pace(speed, opened.start_ts))
