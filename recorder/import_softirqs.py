"""Wakings in a softirq whose number another event tells, that may come later in the file: Perfetto's bundles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Positions
from tracectl.recorder.import_spool import Columns

_ENDED, _UNKNOWN = -1, -2


class Softirqs:
    """Takes begins and ends of softirqs, and the wakings in them, in any order."""

    def __init__(self) -> None:
        self._steps: dict[int, list[tuple[Positions, Positions]]] = defaultdict(list)  # CPU -> times, vectors
        self._wakings: list[tuple[Columns, Positions, Positions, Positions]] = []

    def step(self, cpu: Positions, ts: Positions, vec: Positions | None) -> None:
        """Softirqs begin; None: they end."""
        vec = np.full(len(ts), _ENDED) if vec is None else vec
        for one in np.unique(cpu).tolist():
            own = cpu == one
            self._steps[one].append((ts[own], vec[own]))

    def forget(self, cpu: int, ts: int) -> None:
        """Events were lost before a time: what runs then is not known."""
        self._steps[cpu].append((np.array([ts]), np.array([_UNKNOWN])))

    def defer(self, columns: Columns, cpu: Positions, ts: Positions, order: Positions) -> None:
        """Take wakings whose ``context_vec`` is to be found."""
        if len(ts):
            self._wakings.append((columns, cpu, ts, order))

    def wakings(self) -> Iterator[tuple[Columns, Positions]]:
        """All of them and their order, when everything was taken."""
        steps = {}
        for number, parts in self._steps.items():
            times, vecs = (np.concatenate(column) for column in zip(*parts, strict=True))
            sort = np.lexsort((vecs, times))
            steps[number] = times[sort], vecs[sort]
        for columns, cpu, ts, order in self._wakings:
            vec = np.full(len(ts), _UNKNOWN)
            for one in steps.keys() & set(cpu.tolist()):
                vec[cpu == one] = _running(*steps[one], ts[cpu == one])
            yield columns | {"context_vec": pa.array(vec, mask=vec < 0)}, order


def _running(steps: Positions, vec: Positions, ts: Positions) -> Positions:
    """The softirq at each time, negative for none; one that ended at that very time still counts."""
    at = np.searchsorted(steps, ts, side="right") - 1
    ended = (at > 0) & (steps[at] == ts) & (vec[at] == _ENDED)
    at = at - ended
    return np.where(at >= 0, vec[at], _UNKNOWN)
