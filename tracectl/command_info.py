"""``tracectl info``: what a capture holds, when and where it was recorded, its ledger, and what was lost and why."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.render import Table
    from tracectl.store.capture import Capture
    from tracectl.store.captures import CaptureSet
    from tracectl.store.database import Database

OVERHEAD_FIELDS = ("process", "pid", "cpu_time", "longest_drain_delay")
LEDGER_FIELDS = ("stream", "cpu", "emitted", "recorded", "lost", "skipped", "residue")


@click.command()
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option("--cpus", is_flag=True, help="The ledger of each CPU, not only of each stream.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, exact.")
def info(captures: tuple[str, ...], cpus: bool, as_json: bool) -> None:
    """Show what was recorded, when, where, and what was lost.

    CAPTURE is a Parquet file, or the directory of segments of a running or interrupted recording. The ledger holds
    what the kernel's probes emitted against what was recorded and lost; its residue is zero in an honest recording.
    Of several captures (files, a directory of them, a pattern) a line each is shown.
    """
    from tracectl.captures_given import again_if_gone

    again_if_gone(lambda: _show(captures, cpus, as_json))


def _show(captures: tuple[str, ...], cpus: bool, as_json: bool) -> None:
    from tracectl.info_set import show_set
    from tracectl.store.captures import CaptureSet, open_captures

    opened = open_captures(*captures)
    with opened.database() as database:
        if as_json:
            click.echo(json.dumps(facts_of(opened, database), indent=1))
        elif isinstance(opened, CaptureSet):
            show_set(opened, database, sys.stdout)
        else:
            _show_one(opened, database, cpus)


def _show_one(opened: Capture, database: Database, cpus: bool) -> None:
    from tracectl.coverage import picture
    from tracectl.ledger import verdict
    from tracectl.render import write_table

    for name, value in headings(opened):
        click.echo(f"{click.style(f'{name:<10}', bold=True)}{text.visible(value)}")
    for title, table in tables(opened, database, cpus):
        click.echo(f"\n{click.style(title, bold=True)}")
        write_table(table, sys.stdout, None)
    click.echo(f"\n{click.style('coverage', bold=True)}")
    for line in picture(opened, database):
        click.echo(line)
    line, colour, _ = verdict(opened.ledger(), uncounted(opened, database))
    click.echo("\n" + click.style(line, fg=colour, bold=True))


def headings(capture: Capture) -> Iterator[tuple[str, str]]:
    """The first lines: name and value."""
    footer = capture.footer
    size = sum(file.stat().st_size for file in capture.files)
    yield "capture", f"{capture.path} ({text.plural(capture.rows, 'row')}, {text.size(size)})"
    begin = wall_clock(capture, capture.start_ts)
    span = text.duration(capture.end_ts - capture.start_ts)
    yield "when", f"{begin.isoformat(sep=' ', timespec='milliseconds')}, for {span}" if begin else f"for {span}"
    yield "host", f"{footer.host or 'unknown'}, Linux {footer.kernel or 'unknown'} {footer.machine}".rstrip()
    yield "cpus", f"{len(capture.cpus)} ({ranges(capture.cpus)})"
    if footer.command_line:
        yield "command", shlex.join(footer.command_line)
    yield "filter", capture.filter or "none: every thread"
    if footer.min_delay_ns:
        longer = "runq_delay has the waits that began in the recording and lasted longer"
        yield "min delay", f"{text.duration(footer.min_delay_ns)}: {longer}"
    if footer.missing:
        yield "not there", "; ".join(f"{kind}: {reason}" for kind, reason in sorted(footer.missing.items()))
    yield "format", f"{footer.major}.{footer.minor}, written by tracectl {footer.version or 'unknown'}"
    if not capture.complete:
        yield "state", "cut short: what came after the last segment is not in it"


def tables(capture: Capture, database: Database, cpus: bool) -> Iterator[tuple[str, Table]]:
    """The tables below: title and table."""
    from tracectl.ledger import as_table
    from tracectl.render import Table

    yield "recorded", Table(("kind", "stream", "rows"), kinds(capture, database))
    if capture.ledger():
        yield "ledger: emitted = recorded + lost", as_table(capture.ledger(), cpus=cpus)
    losses = loss(capture, database)
    if losses:
        units = {"first_ts": "clock", "last_ts": "clock"}
        columns = ("stream", "cause", "gaps", "lost", "first_ts", "last_ts")
        yield "lost", Table(columns, losses, units, capture.start_ts)
    own = overhead(capture, database)
    if own:
        units = {"cpu_time": "ns", "longest_drain_delay": "ns"}
        yield "the recorder itself", Table(OVERHEAD_FIELDS, own, units, capture.start_ts)


def kinds(capture: Capture, database: Database) -> list[tuple[str, str, int]]:
    """Kind, stream and rows of every kind that was recorded, whether or not it fired."""
    from tracectl.store.database import source_sql

    found = dict(database.execute(f"SELECT kind, count(*) FROM {source_sql(capture.files)} GROUP BY kind").rows())
    events = capture.catalogue.events
    names = [kind for kind in events if kind in capture.kinds or kind in found]
    names += sorted(set(found) - set(names))
    return [(kind, events[kind].stream if kind in events else "?", found.get(kind, 0)) for kind in names]


def loss(capture: Capture, database: Database) -> list[tuple[Any, ...]]:
    """Gaps by stream and cause: stream, cause, gaps, events lost (None: nobody counted), first begin, last end.

    Those that nobody counted are a row of their own.
    """
    from tracectl.store.database import source_sql

    return database.execute(
        "SELECT stream, cause, count(*), sum(lost_count)::BIGINT, min(from_ts), max(ts) "
        f"FROM {source_sql(capture.files)} WHERE kind = 'lost' "
        "GROUP BY stream, cause, lost_count IS NULL ORDER BY 4 DESC, 1, 2, 3"
    ).rows()


def uncounted(capture: Capture, database: Database) -> int:
    """Gaps of which nobody counted the events."""
    return sum(gaps for _, _, gaps, lost, *_ in loss(capture, database) if lost is None)


def overhead(capture: Capture, database: Database) -> list[tuple[Any, ...]]:
    """What the recorder itself used, by process: name, pid, CPU time (ns), longest time between two drains (ns)."""
    from tracectl.store.database import source_sql

    if not {"cpu_time", "drain_delay"} <= capture.columns.keys():
        return []
    return database.execute(
        "SELECT comm, pid, max(cpu_time), max(drain_delay) "
        f"FROM {source_sql(capture.files)} WHERE kind = 'recorder' GROUP BY comm, pid ORDER BY comm, pid"
    ).rows()


def facts_of(opened: Capture | CaptureSet, database: Database) -> dict[str, Any]:
    """Everything that ``info`` shows of a capture or a set, exact."""
    from tracectl.info_set import set_facts
    from tracectl.store.captures import CaptureSet

    return set_facts(opened, database) if isinstance(opened, CaptureSet) else facts(opened, database)


def facts(capture: Capture, database: Database) -> dict[str, Any]:
    """Everything ``info`` shows, exact."""
    footer = capture.footer
    begin = wall_clock(capture, capture.start_ts)
    return {
        "capture": str(capture.path),
        "files": [str(file) for file in capture.files],
        "rows": capture.rows,
        "start": begin.isoformat() if begin else None,
        "start_ts": capture.start_ts,
        "end_ts": capture.end_ts,
        "host": footer.host,
        "boot_id": footer.boot_id,
        "kernel": footer.kernel,
        "machine": footer.machine,
        "cpus": list(capture.cpus),
        "command_line": footer.command_line,
        "filter": capture.filter,
        "min_delay_ns": footer.min_delay_ns,
        "missing": footer.missing,
        "format": f"{footer.major}.{footer.minor}",
        "version": footer.version,
        "complete": capture.complete,
        "kinds": {kind: rows for kind, _, rows in kinds(capture, database)},
        "ledger": [{name: getattr(line, name) for name in LEDGER_FIELDS} for line in capture.ledger()],
        "lost": [
            dict(zip(("stream", "cause", "gaps", "lost", "first_ts", "last_ts"), row, strict=True))
            for row in loss(capture, database)
        ],
        "recorder": [dict(zip(OVERHEAD_FIELDS, row, strict=True)) for row in overhead(capture, database)],
    }


def wall_clock(capture: Capture, ts: int) -> datetime | None:
    """The time of day of a moment, in the zone of whoever asks; None when the capture has no clock readings."""
    readings = [clock for footer in capture.footers for clock in footer.clocks if {"ts", "realtime"} <= clock.keys()]
    if not readings:
        return None
    nearest = min(readings, key=lambda clock: abs(clock["ts"] - ts))
    return datetime.fromtimestamp((nearest["realtime"] + ts - nearest["ts"]) / 1e9, UTC).astimezone()


def ranges(numbers: tuple[int, ...]) -> str:
    """Sorted numbers in short: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
