"""Marks that programs write into the kernel's trace (atrace: ``B|pid|name`` … ``E|pid``): slices, counters, instants.

The letters (frameworks/native and Perfetto's systrace parser): ``B`` begins and ``E`` ends a slice of the thread that
writes; ``S`` and ``F`` one that is known by its name and a cookie, wherever it ends; ``G`` and ``H`` the same on a
track with a name; ``C`` is a counter's new value; ``I`` and ``N`` happen at one moment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

Row = dict[str, Any]
MARK = re.compile(r"(?:tracing_mark_write: )?([BESFGHCIN])(?:\|(\d{1,9})?(?:\|(.*))?)?\s*", re.DOTALL)
# In how many parts the text behind the process is read; a name may hold the separator, what stands behind it not.
_PARTS = {"B": 1, "E": 0, "S": 2, "F": 2, "G": 3, "H": 2, "C": 2, "I": 1, "N": 2}
_MOST_OPEN = 100_000


class Marks:
    """Pairs the marks of one text, which must come in the order they were written."""

    def __init__(self) -> None:
        self._open: dict[Hashable, list[Row]] = defaultdict(list)
        self._count = 0

    def take(self, row: Row, text: str) -> list[Row] | None:
        """The rows that a mark completes; None where it is no mark, or an end whose begin was not seen.

        Args:
            row: ts, cpu, pid, tid, comm and order of the line.
        """
        found = MARK.fullmatch(text)
        if found is None:
            return None
        phase, process, rest = found.groups()
        parts = _split(phase, rest)
        if parts is None:
            return None
        if process is not None:
            row["pid"] = int(process)
        if phase in "BSG":
            return self._begin(phase, row, parts)
        if phase in "EFH":
            return self._end(phase, row, parts)
        if phase == "C":
            return [{**row, "kind": "counter", "name": parts[0], "value": parts[1]}] if _is_number(parts[1]) else None
        track = {"track": parts[0]} if phase == "N" else {}
        return [{**row, "kind": "instant", "name": parts[-1], **track}]

    def rest(self) -> Iterator[Row]:
        """Slices that have no end."""
        for rows in self._open.values():
            yield from rows
        self._open.clear()

    def _begin(self, phase: str, row: Row, parts: list[str]) -> list[Row] | None:
        if self._count >= _MOST_OPEN:  # a text of begins alone
            return [{**row, "kind": "slice", "name": parts[0], "dur": None}]
        self._count += 1
        begun = {**row, "kind": "slice", "name": parts[0], "dur": None}
        if phase == "S":
            begun["id"] = parts[1]
        elif phase == "G":
            begun |= {"track": parts[0], "name": parts[1], "id": parts[2]}
        self._open[_track(phase, row, parts)].append(begun)
        return []

    def _end(self, phase: str, row: Row, parts: list[str]) -> list[Row] | None:
        track = _track({"E": "B", "F": "S", "H": "G"}[phase], row, parts)
        begun = self._open.get(track)
        if not begun:
            return None
        # Of a thread's slices the innermost ends; of those with a cookie the one that is open.
        ended = begun.pop()
        self._count -= 1
        if not begun:
            del self._open[track]
        dur = row["ts"] - ended["ts"]
        return [{**ended, "dur": dur if dur >= 0 else None}]


def _track(phase: str, row: Row, parts: list[str]) -> Hashable:
    if phase == "B":
        return phase, row["tid"]
    return phase, row["pid"], parts[0], parts[-1]


def _split(phase: str, rest: str | None) -> list[str] | None:
    """The parts behind the process: from the right, so that a name may hold the separator; None: too few."""
    wanted = _PARTS[phase]
    if not wanted:
        return []
    if rest is None:
        return None
    parts = rest.split("|", wanted - 1) if phase in "GHN" else rest.rsplit("|", wanted - 1)
    return parts if len(parts) == wanted else None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None
