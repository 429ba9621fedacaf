"""``tracectl dump``: a capture as text, one event per line in the capture's order, stable enough to compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.store.capture import Capture

# Shown at the head of each line; all other columns follow as name=value.
HEAD = ("seq", "ts", "cpu", "kind", "comm", "tid", "pid")

# Events read at a time. The file's row groups are in order of time, so each page reads only its own few of them.
PAGE = 50_000


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.option(
    "-k", "--kind", "kinds", multiple=True, metavar="KIND", help="Only these kinds (may be repeated, or a comma list)."
)
def dump(capture: str, kinds: tuple[str, ...]) -> None:
    """Print a capture as text, one event per line, in order.

    Each line: seq, seconds since the start, [cpu], comm-tid/pid of the current thread, kind, name=value of the kind's
    columns that are not null.
    """
    from tracectl.store.capture import Capture
    from tracectl.store.database import source_sql

    opened = Capture.open(capture)
    wanted = _known_kinds(opened, kinds)
    columns = [name for name in opened.catalogue.columns() if name in opened.columns]
    kind = " AND kind IN (SELECT unnest($kinds))" if wanted else ""
    source = source_sql(opened.files)
    page = f"SELECT {', '.join(columns)} FROM {source} WHERE seq BETWEEN $first AND $last{kind} ORDER BY seq"
    parameters = {"kinds": wanted} if wanted else {}
    with opened.database() as database:
        ((low, high),) = database.execute(f"SELECT min(seq), max(seq) FROM {source}").rows()
        for first in range(low or 0, (high or -1) + 1, PAGE):
            rows = database.execute(page, {**parameters, "first": first, "last": first + PAGE - 1}).rows()
            sys.stdout.write("".join(_line(columns, row, opened.start_ts) for row in rows))


def _known_kinds(capture: Capture, asked: Iterable[str]) -> list[str]:
    """The kinds asked for; an error with the nearest name for one that this capture cannot hold."""
    from tracectl.store.errors import UserError

    names = [name for part in asked for name in part.split(",") if name]
    for name in names:
        if name not in capture.catalogue.events:
            known = sorted(capture.catalogue.events)
            raise UserError(
                f'there is no event kind "{name}"', text.nearest(name, known) or f"kinds: {', '.join(known)}"
            )
    return names


def _line(columns: Sequence[str], row: Sequence[Any], start_ts: int) -> str:
    values = dict(zip(columns, row, strict=True))
    seq, ts, cpu, kind, comm, tid, pid = (values.pop(name, None) for name in HEAD)
    place = "---" if cpu is None else f"{cpu:03d}"
    current = "" if tid is None else f" {_word(comm)}-{tid}/{_word(pid)}"
    fields = "".join(f" {name}={_word(value)}" for name, value in values.items() if value is not None)
    return f"{seq} {text.moment(ts - start_ts)} [{place}]{current} {kind}:{fields}\n"


def _word(value: object) -> str:
    """A value that is one word: quoted as JSON where it would not be, or could act on a terminal."""
    if value is None:
        return "?"
    shown = str(value)
    plain = shown.isascii() and shown.isprintable() and shown and not set(shown) & set(" \"'=\\")
    return shown if plain else json.dumps(shown)
