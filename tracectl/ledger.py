"""The ledger for people: what was emitted, recorded and lost as a table, and the verdict in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tracectl import text
from tracectl.render import Table
from tracectl.store.footer import LedgerLine

_COUNTS = ("emitted", "recorded", "lost", "skipped", "residue")


class Verdict(NamedTuple):
    """One line on what is missing.

    Attributes:
        complete: whether nothing is missing, and that is known.
    """

    line: str
    colour: str
    complete: bool


def as_table(lines: Iterable[LedgerLine], *, cpus: bool = False) -> Table:
    """The ledger by stream, or by stream and CPU."""
    if cpus:
        rows = [
            (line.stream, line.cpu if line.cpu >= 0 else None, *_counts(line)) for line in lines
        ]  # -1: no CPU known
        return Table(("stream", "cpu", *_COUNTS), rows)
    sums: dict[str, tuple[int, ...]] = {}
    for line in lines:
        before = sums.get(line.stream, (0,) * len(_COUNTS))
        sums[line.stream] = tuple(a + b for a, b in zip(before, _counts(line), strict=True))
    return Table(("stream", *_COUNTS), [(stream, *counts) for stream, counts in sums.items()])


def _counts(line: LedgerLine) -> tuple[int, ...]:
    return tuple(getattr(line, name) for name in _COUNTS)


def verdict(lines: Iterable[LedgerLine], uncounted: int = 0) -> Verdict:
    """Whether anything is missing from a recording with this ledger and so many gaps that nobody counted."""
    lines = list(lines)
    if not lines:
        return Verdict("this capture has no ledger: what was lost is not known", "yellow", False)
    residue = sum(abs(line.residue) for line in lines)
    if residue:
        return Verdict(f"the ledger does not add up: {text.plural(residue, 'event')} unaccounted for", "red", False)
    emitted, lost, skipped = (sum(getattr(line, name) for line in lines) for name in ("emitted", "lost", "skipped"))
    if not lost and not skipped and not uncounted:
        return Verdict("nothing was lost", "green", True)
    parts = []
    if lost:
        parts.append(
            f"LOST {text.count(lost)} of {text.plural(emitted, 'event')} ({100 * lost / max(emitted, 1):.2g} %)"
        )
    if skipped:
        parts.append(f"at most {text.plural(skipped, 'event')} skipped by the kernel")
    if uncounted:
        parts.append(f"{text.plural(uncounted, 'gap')} of unknown size")
    return Verdict("; ".join(parts), "red" if lost else "yellow", False)
