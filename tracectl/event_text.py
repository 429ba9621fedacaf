"""An event as one line of text, the same in ``dump`` and ``replay``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracectl import text

if TYPE_CHECKING:
    from tracectl.replay import Lost

# Shown at the head of each line; all other columns follow as name=value.
HEAD = ("seq", "ts", "cpu", "kind", "comm", "tid", "pid")


def event_line(values: Mapping[str, Any], start_ts: int) -> str:
    """``seq moment [cpu] comm-tid/pid kind: name=value …``, without what is null.

    Args:
        values: column -> value, of one row.
        start_ts: begin of the recording; moments are shown from there.
    """
    seq, ts, cpu, kind, comm, tid, pid = (values.get(name) for name in HEAD)
    place = "---" if cpu is None else f"{cpu:03d}"
    current = "" if tid is None else f" {_word(comm)}-{tid}/{_word(pid)}"
    others = ((name, value) for name, value in values.items() if value is not None and name not in HEAD)
    fields = "".join(f" {name}={_word(value)}" for name, value in others)
    return f"{seq} {text.moment((ts or 0) - start_ts)} [{place}]{current} {kind}:{fields}"


def lost_line(gap: Lost, start_ts: int) -> str:
    """A gap as a sentence that catches the eye between events."""
    return f"*** lost: {lost_words(gap, start_ts)}"


def lost_words(gap: Lost, start_ts: int) -> str:
    """What was lost, of what, where, when and why."""
    events = "an unknown number of events" if gap.lost_count is None else text.plural(gap.lost_count, "event")
    of = "" if gap.stream is None else f" of {_word(gap.stream)}"
    where = "" if gap.cpu is None else f" on cpu {gap.cpu}"
    begin = start_ts if gap.from_ts is None else gap.from_ts
    span = f"between {text.moment(begin - start_ts)} and {text.moment(gap.ts - start_ts)}"
    return f"{events}{of}{where} {span} ({_word(gap.cause)})"


def _word(value: object) -> str:
    """A value that is one word: quoted as JSON where it would not be, or could act on a terminal."""
    if value is None:
        return "?"
    shown = str(value)
    plain = shown.isascii() and shown.isprintable() and shown and not set(shown) & set(" \"'=\\")
    return shown if plain else json.dumps(shown)
