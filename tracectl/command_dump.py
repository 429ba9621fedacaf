"""``tracectl dump``: a capture as text, one event per line in the capture's order, stable enough to compare."""

from __future__ import annotations

import sys

import click

from tracectl.event_text import event_line

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
    from tracectl.replay import checked
    from tracectl.store.capture import Capture
    from tracectl.store.database import source_sql

    opened = Capture.open(capture)
    wanted = checked(opened, kinds, None)
    columns = [name for name in opened.catalogue.columns() if name in opened.columns]
    kind = " AND kind IN (SELECT unnest($kinds))" if wanted else ""
    source = source_sql(opened.files)
    page = f"SELECT {', '.join(columns)} FROM {source} WHERE seq BETWEEN $first AND $last{kind} ORDER BY seq"
    parameters = {"kinds": wanted} if wanted else {}
    with opened.database() as database:
        ((low, high),) = database.execute(f"SELECT min(seq), max(seq) FROM {source}").rows()
        for first in range(low or 0, (high or -1) + 1, PAGE):
            rows = database.execute(page, {**parameters, "first": first, "last": first + PAGE - 1}).rows()
            lines = (event_line(dict(zip(columns, row, strict=True)), opened.start_ts) for row in rows)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
