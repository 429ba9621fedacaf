"""How long the rings had to wait: quantiles of many durations in little memory."""

from __future__ import annotations

import math
from collections import Counter


class Delays:
    """How long rings had to wait to be emptied, in classes that grow by an eighth of a power of two."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self._longest = 0

    def add(self, delay: int) -> None:
        """Count one (ns)."""
        self._classes[int(8 * math.log2(max(delay, 1)))] += 1
        self._longest = max(self._longest, delay)

    def summary(self) -> tuple[int, int, int]:
        """(median, 99th percentile, longest) in ns, the first two up to 9 % too large."""
        return self._quantile(0.5), self._quantile(0.99), self._longest

    def _quantile(self, part: float) -> int:
        left = math.ceil(part * sum(self._classes.values()))
        for number in sorted(self._classes):
            left -= self._classes[number]
            if left <= 0:
                return min(int(2 ** ((number + 1) / 8)), self._longest)
        return 0
