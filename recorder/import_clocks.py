"""The clocks of a Perfetto trace: their times as those of boottime, by the snapshots that stand before in the file.

Ids from 64 to 127 mean another clock on every sequence of packets; programs use 64 for times that count on from the
packet before on their sequence (clock_snapshot.proto, trace_packet.proto).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Any

BOOTTIME = 6  # the clock that also stands where none is named (builtin_clock.proto)
_OWN_TO_A_SEQUENCE = range(64, 128)
_LATEST = 1 << 62


@dataclass
class _Clock:
    """One clock; times in ns.

    Attributes:
        now: where an incremental clock stands; None: not known.
        points: (its time, boottime) of the snapshots, by time.
    """

    unit: int = 1
    incremental: bool = False
    now: int | None = None
    points: list[tuple[int, int]] = field(default_factory=list)

    def boottime(self, ns: int) -> int | None:
        """By the last snapshot before a time, or else the first behind it."""
        if not self.points:
            return None
        mine, boot = self.points[max(bisect_right(self.points, (ns, _LATEST)) - 1, 0)]
        found = boot + ns - mine
        return found if 0 <= found < _LATEST else None


class Clocks:
    """Takes the snapshots of one trace in the order of the file."""

    def __init__(self) -> None:
        self._clocks: dict[tuple[int, int], _Clock] = {}

    def snapshot(self, sequence: int, clocks: Any) -> None:
        """Take what clocks showed at one moment; ``clocks`` has messages of the class ClockSnapshot.Clock."""
        shown = {}
        for one in clocks:
            clock = self._clocks.setdefault(_key(sequence, one.clock_id), _Clock())
            clock.unit, clock.incremental = one.unit_multiplier_ns or 1, one.is_incremental
            clock.now = one.timestamp * clock.unit
            shown[one.clock_id] = clock
        boot = self._moment(shown)
        if boot is not None:
            for clock in shown.values():
                if clock.now is not None and clock.now < _LATEST:
                    insort(clock.points, (clock.now, boot))

    @staticmethod
    def _moment(shown: dict[int, _Clock]) -> int | None:
        """The boottime of a snapshot: its own, or what earlier snapshots tell of another clock in it."""
        if BOOTTIME in shown:
            return shown[BOOTTIME].now
        told = (clock.boottime(clock.now or 0) for number, clock in shown.items() if number not in _OWN_TO_A_SEQUENCE)
        return next((boot for boot in told if boot is not None), None)

    def forget(self, sequence: int) -> None:
        """Packets are missing: where incremental clocks of the sequence stand is not known until the next snapshot."""
        for number in _OWN_TO_A_SEQUENCE:
            if (sequence, number) in self._clocks:
                self._clocks[sequence, number].now = None

    def boottime(self, sequence: int, number: int, timestamp: int) -> int | None:
        """A packet's time in ns, None where it cannot be known; call it for every packet, in the order of the file."""
        if number == BOOTTIME:
            return timestamp if timestamp < _LATEST else None
        clock = self._clocks.get(_key(sequence, number))
        if clock is None:
            return None
        if not clock.incremental:
            return clock.boottime(timestamp * clock.unit)
        if clock.now is None:
            return None
        clock.now += timestamp * clock.unit
        return clock.boottime(clock.now)


def _key(sequence: int, number: int) -> tuple[int, int]:
    return (sequence if number in _OWN_TO_A_SEQUENCE else 0), number
