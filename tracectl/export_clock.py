"""The clocks of a capture: from its monotonic times to those of other tools."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracectl.store.capture import Capture

Int64s = npt.NDArray[np.int64]


# Readings of the clocks one after the other differ by microseconds; a suspend is longer than this.
_SUSPEND = 1_000_000


class Clocks:
    """The clocks that the capture read at some moments.

    Attributes:
        read: ``{"ts", "realtime"}`` of each moment, ns, in order; empty when the capture holds none.
    """

    def __init__(self, capture: Capture) -> None:
        known = {int(clock["ts"]): clock for footer in capture.footers for clock in footer.clocks}
        self.read = [known[ts] for ts in sorted(known) if "realtime" in known[ts]]
        ahead = 0
        since, offsets = [0], [0]
        for ts in sorted(known):
            read = known[ts].get("boottime", ts) - ts
            if abs(read - ahead) > _SUSPEND:
                since.append(ts)
                offsets.append(ahead := read)
        if len(since) > 1 and since[1] == min(known):  # known from the first reading on, hence before it
            since[1] = 0
        self._since, self._offsets = np.array(since, dtype=np.int64), np.array(offsets, dtype=np.int64)

    def boottime(self, ts: Int64s) -> Int64s:
        """Monotonic ns as boottime ns, which also counts suspended time; the same where the capture has no clocks."""
        at = np.maximum(np.searchsorted(self._since, ts, side="right") - 1, 0)
        converted: Int64s = ts + self._offsets[at]
        return converted

    def from_start(self, start_ts: int) -> list[dict[str, int]]:
        """The readings, with one for the capture's start before them: others know no time before the first one."""
        first = self.read[:1]
        if first and start_ts < first[0]["ts"]:
            first = [{"ts": start_ts, "realtime": first[0]["realtime"] - (first[0]["ts"] - start_ts)}]
            return first + self.read
        return self.read
