"""Call stacks on their way to a capture: frames become names as they arrive, and each stack a row of its own."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder.symbols import Frame, KernelSymbols, UserSymbols, read_maps
from tracectl.store.events import LOST_STACK

# In recorder/stacks.c: no stack could be taken.
_NEVER_TAKEN = -1
# What BPF itself puts on top of a stack (kernel/trace/bpf_trace.c and the tracepoints' own glue).
_GLUE = re.compile(
    r"(?:___?)?bpf_|bpf_prog_|__bpf_|__traceiter_|perf_trace_|trace_call_bpf|__perf_event_overflow|bpf_trampoline_"
)
COLUMNS = frozenset(("kstack", "ustack"))
_TO_EXPAND = str.maketrans({";": ":", "\n": " ", "\r": " "})


@dataclass
class Stacks:
    """The stacks of one recording.

    Args:
        again: whether stacks may have to be written again (see :meth:`write_again`); else their text is not kept.

    Attributes:
        lost: references to a stack that could not be taken or has not arrived.
    """

    again: bool = False
    kernel: KernelSymbols = field(default_factory=KernelSymbols)
    user: UserSymbols = field(default_factory=UserSymbols)
    _known: dict[int, tuple[str, str]] = field(default_factory=dict)
    _awaited: Counter[int] = field(default_factory=Counter)
    _written: set[int] = field(default_factory=set)
    lost: int = 0

    def define(self, rows: NDArray[np.void]) -> None:
        """Take frames as the program sent them; each becomes names at once, while its process lives."""
        good = hashes(rows) == rows["stack_id"].view(np.uint64)
        for row in rows[good]:
            stack_id = int(row["stack_id"])
            if stack_id not in self._known and stack_id not in self._written:
                self._known[stack_id] = self._named(row)

    def refer(self, rows: NDArray[np.void]) -> None:
        """Note which stacks these rows refer to."""
        for column in sorted(COLUMNS):
            if column in (rows.dtype.names or ()):
                ids, counts = np.unique(rows[column], return_counts=True)
                for stack_id, count in zip(ids.tolist(), counts.tolist(), strict=True):
                    if stack_id == _NEVER_TAKEN:
                        self.lost += count
                    if stack_id and stack_id not in self._written:
                        self._awaited[stack_id] += count

    def rows(self, *, last: bool = False) -> Iterator[dict[str, Any]]:
        """Rows of kind ``stack`` for what was referred to and has arrived.

        Args:
            last: nothing more will arrive: what has not is lost.
        """
        for stack_id in [*self._awaited]:
            if stack_id in self._known:
                folded, frames = self._known[stack_id] if self.again else self._known.pop(stack_id)
            elif last or stack_id == _NEVER_TAKEN:
                self.lost += self._awaited[stack_id] if stack_id != _NEVER_TAKEN else 0
                folded, frames = LOST_STACK, "[]"
            else:
                continue
            del self._awaited[stack_id]
            self._written.add(stack_id)
            yield {"stack_id": stack_id, "folded": folded, "frames": frames}

    def write_again(self) -> None:
        """What was written so far will be dropped: each stack that is referred to from now on is written once more."""
        self._written.clear()

    def _named(self, row: np.void) -> tuple[str, str]:
        addresses = row["frames"][: int(row["frame_count"])].tolist()
        if int(row["space"]):
            pid, space = int(row["pid"]), int(row["space"])
            frames = [self.user.frame(pid, space, a, exact=n == 0) for n, a in enumerate(addresses)]
        else:
            frames = _without_glue([self.kernel.frame(a, exact=n == 0) for n, a in enumerate(addresses)])
        frames.reverse()
        text = json.dumps([frame.as_json() for frame in frames], separators=(",", ":"))
        return ";".join(frame.label.translate(_TO_EXPAND) for frame in frames), text


def _without_glue(frames: list[Frame]) -> list[Frame]:
    """Frames, innermost first, without the tracer's own."""
    first = next((n for n, frame in enumerate(frames) if not _GLUE.match(frame.name)), 0)
    return frames[first:]


class Spaces:
    """In the process that reads the rings: what a process has mapped, as soon as a stack of it comes in."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def new(self, rows: NDArray[np.void]) -> Iterator[tuple[int, int, str]]:
        """(pid, address space, its ``/proc/PID/maps``) of those not seen before; none of a process that has ended."""
        users = rows[rows["space"] != 0]
        for pid, space in set(zip(users["pid"].tolist(), users["space"].tolist(), strict=True)) - self._seen:
            self._seen.add((pid, space))
            if text := read_maps(pid):
                yield pid, space, text


def hashes(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    """The hash of each stack, as recorder/stacks.c computes it."""
    with np.errstate(over="ignore"):
        found: NDArray[np.uint64] = rows["space"] ^ np.uint64(0x9E3779B97F4A7C15)
        counts = rows["frame_count"]
        for n in range(int(counts.max(initial=0))):
            mixed = (found ^ rows["frames"][:, n]) * np.uint64(0xFF51AFD7ED558CCD)
            mixed ^= mixed >> np.uint64(32)
            found = np.where(counts > n, mixed, found)
        return np.where(found + np.uint64(1) <= 1, np.uint64(2), found)
