"""What finished segments account for: each one's own part of the ledger, and what the kernel emitted beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tracectl.recorder.ledger import Place
from tracectl.store.compaction import Tables
from tracectl.store.footer import LedgerLine


@dataclass
class Settlement:
    """Totals per stream and CPU over the segments so far.

    A segment's part is ``emitted = recorded + lost`` by its own rows, so that any choice of segments adds up; the
    kernel's count is held against it by :meth:`unsettled`, and at the end by the whole capture's ledger.
    """

    total: dict[Place, LedgerLine] = field(default_factory=dict)

    def settle(self, places: Iterable[Place], recorded: Counter[Place], tables: Tables) -> list[LedgerLine]:
        """Account for the next segment; returns its own lines.

        Args:
            places: the rings; each gets a line.
            recorded: rows of all segments, this one included.
            tables: the segment's rows.
        """
        gaps = tables["lost"].select(["stream", "cpu", "lost_count"]).to_pylist() if "lost" in tables else []
        lost: Counter[Place] = Counter()
        for gap in gaps:
            lost[gap["stream"], -1 if gap["cpu"] is None else gap["cpu"]] += gap["lost_count"] or 0
        lines = []
        for place in sorted({*places, *recorded, *lost}):
            before = self.total.get(place, LedgerLine(*place, 0, 0, 0))
            line = LedgerLine(*place, 0, 0, 0, lost[place])  # of no CPU: skipped by the kernel, not emitted
            if place[1] >= 0:
                rows = recorded[place] - before.recorded
                line = LedgerLine(*place, rows + lost[place], rows, lost[place])
            self.total[place] = before + line
            lines.append(line)
        return lines

    def unsettled(self, account: Iterable[LedgerLine]) -> list[LedgerLine]:
        """What the kernel emitted that no segment accounts for, as lost: it is, when no further segment comes.

        Args:
            account: the ledger of the whole recording so far.
        """
        return [
            LedgerLine(line.stream, line.cpu, missing, 0, missing)
            for line in account
            if (missing := line.emitted - self._emitted(line)) > 0
        ]

    def without(self, account: Iterable[LedgerLine], dropped: Iterable[LedgerLine]) -> list[LedgerLine]:
        """The ledger without segments that were dropped."""
        gone: dict[Place, LedgerLine] = {}
        for line in dropped:
            place = line.stream, line.cpu
            gone[place] = gone.get(place, replace(line, emitted=0, recorded=0, lost=0, skipped=0)) + line
        return [line - gone.get((line.stream, line.cpu), line - line) for line in account]

    def _emitted(self, line: LedgerLine) -> int:
        known = self.total.get((line.stream, line.cpu))
        return known.emitted if known else 0
