"""How far lost events can move an answer: rows that may or may not match, and bounds of every aggregate.

A row that pairs events over a gap is kept with nulls where the other event would speak (columns marked ``derived`` in
store/views) and ``certain`` false. A condition on such a column is neither true nor false for it. In SQL the answer's
own three-valued logic tells: ``match_`` is TRUE, or NULL for a row that may match.
"""

from __future__ import annotations

from dataclasses import dataclass

MATCH = "match_"
UNDETERMINED = "undetermined_"
NOT_BOUNDED = "NULL"


@dataclass(frozen=True)
class Loss:
    """What is missing from the evidence of an answer.

    Attributes:
        at_most: rows that may be missing; None: nobody counted them.
        gaps: how many gaps touch the evidence.
        filter: the recording's own filter, where the question goes beyond it.
        unrecorded: captures of a set that did not record what the question needs, and why.
    """

    at_most: int | None = 0
    gaps: int = 0
    filter: str = ""
    unrecorded: str = ""

    @property
    def exact(self) -> bool:
        """Whether nothing is missing."""
        return self.gaps == 0 and not self.filter and not self.unrecorded


@dataclass(frozen=True)
class Bounding:
    """How aggregates over the rows of one SELECT are bounded.

    Attributes:
        loss: what is missing.
        tri: whether the rows have the column ``match_``; without it all of them match.
        pairs: whether the rows have the column ``certain``.
        open_ended: whether a row that is not certain may stand for none.
    """

    loss: Loss
    tri: bool
    pairs: bool
    open_ended: bool = False

    @property
    def needed(self) -> bool:
        """Whether anything but the plain answer is possible."""
        return self.tri or not self.loss.exact

    @property
    def only_matching(self) -> str:
        """What follows an aggregate function, so that it sees the rows that do match."""
        return f" FILTER (WHERE {MATCH})" if self.tri else ""

    def count(self, *, any_group: bool) -> tuple[str, str]:
        """Least and largest number of rows, in SQL; NULL: not bounded.

        Args:
            any_group: whether a row that is not certain may belong to another group than the one it is in.
        """
        sure = " AND ".join(name for name, there in ((MATCH, self.tri), ("certain", self.pairs)) if there)
        least = f"COUNT(*) FILTER (WHERE {sure})" if sure else "COUNT(*)"
        return least, self._most(any_group=any_group)

    def percentile(self, fraction: str, column: str, *, any_group: bool) -> tuple[str, str]:
        """Least and largest value of a percentile of a column that is not negative, in SQL; NULL: not bounded.

        With n known values and up to m more, the one at rank ⌈f (n + m)⌉ is least when all m are smaller than any
        known, and largest when all are larger.
        """
        if self.loss.at_most is None:
            return NOT_BOUNDED, NOT_BOUNDED
        values = f"LIST_SORT(LIST({column}) FILTER (WHERE {column} IS NOT NULL{f' AND {MATCH}' if self.tri else ''}))"
        known = f"LEN({values})"
        most = self._most(any_group=any_group)
        rank = f"GREATEST(CAST(CEIL({fraction} * ({most})) AS BIGINT), 1)"
        low = f"CASE WHEN {rank} > ({most}) - {known} THEN {values}[{rank} - (({most}) - {known})] ELSE 0 END"
        return low, f"{values}[{rank}]"

    def _most(self, *, any_group: bool) -> str:
        """SQL for the rows that a group can have at most."""
        if self.loss.at_most is None:
            return NOT_BOUNDED
        count = f"COUNT(*) + {self.loss.at_most}"
        if any_group and self.pairs:
            count += " + CAST(SUM(COUNT(*) FILTER (WHERE NOT certain)) OVER () AS BIGINT)"
            count += " - COUNT(*) FILTER (WHERE NOT certain)"
        return count


def tri_state(source: str, definite: list[str], maybe: list[str], unknown: str, *, guessed: bool = False) -> str:
    """A table expression of the rows that match or may match, with ``match_``.

    Args:
        definite: conditions that are true or false for every row.
        maybe: conditions that are NULL where the row does not tell.
        unknown: for which rows a NULL means that the row does not tell. In others it is a value: there is no such
            thing, and the condition does not hold.
        guessed: whether rows that are not certain hold values that may be wrong, instead of nulls.
    """
    where = "".join(f"\n    {'WHERE' if n == 0 else '  AND'} {condition}" for n, condition in enumerate(definite))
    match = " AND ".join(f"({condition})" for condition in maybe)
    undecided = "NOT certain" if guessed else f"({match}) IS NULL AND ({unknown})"
    return (
        f"(\n  SELECT * FROM (\n    SELECT *,\n      CASE WHEN {match} THEN TRUE\n"
        f"      WHEN {undecided} THEN NULL ELSE FALSE END AS {MATCH}\n"
        f"    FROM {source}{where}\n  ) WHERE {MATCH} IS NOT FALSE\n) AS seen"
    )
