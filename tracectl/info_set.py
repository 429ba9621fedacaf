"""`tracectl info` of a set of captures: a line for each, and how their clocks were put on one axis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO, Any

from tracectl import text
from tracectl.command_info import facts, uncounted
from tracectl.ledger import verdict
from tracectl.render import Table, write_table
from tracectl.store.captures import CaptureSet, Member
from tracectl.store.database import Database

_COLUMNS = ("capture", "host", "begin", "for", "cpus", "rows", "clock_spread", "loss")
_UNITS = {"begin": "clock", "for": "ns", "clock_spread": "ns"}


def show_set(whole: CaptureSet, database: Database, stream: IO[str]) -> None:
    """Write the table, and what to know of the clocks."""
    size = sum(file.stat().st_size for file in whole.files)
    head = f"{text.plural(len(whole.members), 'capture')}, {text.plural(whole.rows, 'row')}, {text.size(size)}"
    stream.write(f"set       {text.visible(str(whole.path))} ({head})\n")
    span = text.duration(whole.end_ts - whole.start_ts)
    stream.write(f"when      {begin(whole) or 'not known'}, for {span}\n\n")
    rows = [_line(whole, member, database) for member in whole.members]
    write_table(Table(_COLUMNS, rows, _UNITS, whole.start_ts, _notes(whole)), stream, None)


def begin(whole: CaptureSet) -> str:
    """The time of day at which the set begins, UTC; empty: no capture has a reading of that clock."""
    if whole.begin is None:
        return ""
    return datetime.fromtimestamp(whole.begin / 1e9, UTC).isoformat(sep=" ", timespec="milliseconds")


def _line(whole: CaptureSet, member: Member, database: Database) -> tuple[Any, ...]:
    one = member.capture
    lost = verdict(one.ledger(), uncounted(one, database)).line
    start = one.start_ts + member.shift
    return (member.name, member.host, start, one.end_ts - one.start_ts, len(one.cpus), one.rows, member.spread, lost)


def _notes(whole: CaptureSet) -> list[str]:
    unknown = [one.name for one in whole.members if one.spread is None]
    notes = ["clock_spread: by how much the readings of a host's own wall clock differ; how well two hosts' clocks"]
    notes[0] += " agree is not recorded"
    if unknown:
        notes.append(f"no reading of the wall clock, begin not known, taken as the set's: {', '.join(unknown)}")
    return notes


def set_facts(whole: CaptureSet, database: Database) -> dict[str, Any]:
    """Everything about the set and each of its captures, exact."""
    return {
        "set": str(whole.path),
        "rows": whole.rows,
        "begin": begin(whole) or None,
        "begin_realtime": whole.begin,
        "start_ts": whole.start_ts,
        "end_ts": whole.end_ts,
        "captures": {
            one.name: facts(one.capture, database)
            | {"shift": one.shift, "clock_spread": one.spread, "clock_readings": one.readings}
            for one in whole.members
        },
    }
