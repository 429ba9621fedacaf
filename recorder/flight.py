"""The flight recorder: only the newest segments are kept, the oldest go whole, and the account with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tracectl.store.footer import LedgerLine
from tracectl.store.writer import SegmentWriter

_SECOND = 1_000_000_000
# Segments of a recording that is kept for long are longer: fewer files to open, and more to lose when killed.
_SEGMENTS_KEPT = 120
_LONGEST_SEGMENT = 10 * _SECOND


@dataclass(frozen=True)
class Keep:
    """How much to keep.

    Attributes:
        ns: of time; a whole segment more may be there.
        size: bytes of all segments together; None: no limit.
    """

    ns: int
    size: int | None = None

    @property
    def segment_ns(self) -> int:
        """How long segments are."""
        return min(max(self.ns // _SEGMENTS_KEPT, _SECOND), _LONGEST_SEGMENT)


@dataclass
class Flight:
    """Drops segments from a recording that runs.

    Attributes:
        dropped: the account of what was dropped.
    """

    keep: Keep
    segments: SegmentWriter
    dropped: list[LedgerLine] = field(default_factory=list)
    _kept: deque[tuple[int, list[LedgerLine]]] = field(default_factory=deque)

    def wrote(self, end_ts: int, lines: Iterable[LedgerLine]) -> None:
        """A segment up to ``end_ts`` was written; drop what is too old or too much, but never this one."""
        self._kept.append((end_ts, list(lines)))
        while len(self._kept) > 1 and self._too_much(end_ts):
            _, gone = self._kept.popleft()
            self.segments.drop_oldest()
            self.dropped = _summed([*self.dropped, *gone])

    def _too_much(self, now: int) -> bool:
        oldest_end = self._kept[0][0]
        return oldest_end <= now - self.keep.ns or (
            self.keep.size is not None and self.segments.bytes_written > self.keep.size
        )


def _summed(lines: Iterable[LedgerLine]) -> list[LedgerLine]:
    books: dict[tuple[str, int], LedgerLine] = {}
    for line in lines:
        place = line.stream, line.cpu
        books[place] = books[place] + line if place in books else line
    return list(books.values())
