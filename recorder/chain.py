"""Losses that nobody declared: per CPU, the thread that a switch brings in must be the one that the next takes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

KIND = "sched_switch"


class SwitchChain:
    """Follows the switches of each CPU and finds where one is missing."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}

    def breaks(self, cpu: int, rows: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[tuple[int, int]]:
        """Intervals (ts, ts; ns) between two neighbouring switches that do not follow each other.

        Args:
            rows: the next switches of that CPU in ring order: columns ``ts``, ``tid`` and ``next_tid``.
        """
        ts = rows["ts"].astype(np.int64)
        if not len(ts):
            return
        if cpu in self._last:
            last_ts, last_tid = self._last[cpu]
            if last_tid != rows["tid"][0]:
                yield last_ts, int(ts[0])
        for at in np.flatnonzero(rows["next_tid"][:-1] != rows["tid"][1:]):
            yield int(ts[at]), int(ts[at + 1])
        self._last[cpu] = int(ts[-1]), int(rows["next_tid"][-1])
