"""The picture in ``tracectl info``: for each CPU, when its events were recorded and where some were lost."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from tracectl import text

if TYPE_CHECKING:
    from tracectl.store.capture import Capture
    from tracectl.store.database import Database

_BLOCKS, _ASCII = "█░", "#."
_WIDEST = 60
_MOST_LINES = 64

Gap = tuple[int, int]  # begin and end, ns monotonic


def gaps_of(capture: Capture, database: Database) -> dict[tuple[int, str], list[Gap]]:
    """The gaps of each CPU and stream; those of unknown CPU or stream are in each."""
    from tracectl.store.relations import Relations  # noqa: PLC0415 -- info's other parts do without

    head = Relations(capture).with_clause(["gaps"])
    found: dict[tuple[int, str], list[Gap]] = defaultdict(list)
    for cpu, stream, begin, end in database.execute(
        f"{head} SELECT cpu, stream, from_ts, ts FROM gaps ORDER BY ALL"
    ).rows():
        found[cpu, stream].append((begin, end))
    return found


def bar(gaps: list[Gap], start_ts: int, end_ts: int, width: int, marks: str) -> str:
    """One character per stretch of time: the first mark where all was recorded, the second where a gap touches it."""
    span = max(end_ts - start_ts, 1)
    lost = [False] * width
    for begin, end in gaps:
        first, last = ((min(max(ts - start_ts, 0), span) * width) // span for ts in (begin, end))
        for place in range(min(first, width - 1), min(last, width - 1) + 1):
            lost[place] = True
    return "".join(marks[one] for one in lost)


def picture(capture: Capture, database: Database) -> list[str]:
    """Lines: a bar per CPU, and per stream of it that lost something; then the axis of time."""
    gaps = gaps_of(capture, database)
    marks = _BLOCKS if _can_show(_BLOCKS) else _ASCII
    rows: list[tuple[str, list[Gap]]] = []
    for cpu in capture.cpus:
        lossy = sorted(stream for at, stream in gaps if at == cpu)
        rows += [(f"cpu {cpu} {stream}", gaps[cpu, stream]) for stream in lossy]
        if len(lossy) < len(capture.streams):
            rows.append((f"cpu {cpu} {'the rest' if lossy else 'all'}", []))
    indent = max((len(label) for label, _ in rows), default=0) + 2
    width = max(min(shutil.get_terminal_size((indent + _WIDEST, 24)).columns - indent - 1, _WIDEST), 10)
    lines = [
        f"{label:<{indent}}{bar(found, capture.start_ts, capture.end_ts, width, marks)}"
        for label, found in rows[:_MOST_LINES]
    ]
    if len(rows) > _MOST_LINES:
        lines.append(f"… {len(rows) - _MOST_LINES} more")
    end = text.duration(capture.end_ts - capture.start_ts)
    lines.append(f"{'':<{indent}}0{end:>{max(width - 1, len(end) + 1)}}")
    lines.append(f"{'':<{indent}}{marks[0]} recorded  {marks[1]} events lost in this stretch")
    return lines


def _can_show(characters: str) -> bool:
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
