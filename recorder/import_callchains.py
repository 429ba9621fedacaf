"""Call chains of perf script text as stacks of their events: user space and kernel apart, each distinct one once."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Block, Mask, Positions
from tracectl.recorder.import_heads import Heads
from tracectl.recorder.import_rows import take_rows
from tracectl.recorder.import_spool import Columns, Spool
from tracectl.store.events import KINDS, LOST_STACK

STACKED = frozenset(kind for kind, event in KINDS.items() if {"kstack", "ustack"} <= {c.name for c in event.optional})
# Below what a block keeps together (LONGEST_LINE): of a longer chain it is not known whether it was cut in two.
LONGEST_CHAIN = 48 << 10
_FRAME = re.compile(r"\s*([0-9a-f]{1,16})(?:\s+(\S.*?))?\s*")
_WITH_OFFSET = re.compile(r"(.*?)\+0x([0-9a-f]{1,16})(?: \((.*)\))?")
_MODULE_OFFSET = re.compile(r"\+0x[0-9a-f]+$")
_DELETED = " (deleted))"
_KERNEL = ("[kernel.", "[guest.kernel.")
_KERNEL_HALF = 1 << 63  # of the addresses of 64-bit machines
_MAPPED_THERE = "[vsyscall]"  # which user space runs all the same
_IN_FOLDED = str.maketrans({";": ":", "\n": " ", "\r": " "})
Frame = tuple[bool, str, str]  # whether it is the kernel's, what stands in the folded stack, JSON


class CallChains:
    """The call chains of one text; :meth:`begin` for every block, then the columns of its events.

    Attributes:
        lines: lines of call chains that are kept so far: as stacks, or because they are no frames.
        unread: those of the block that are no frames.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._known: dict[bytes, tuple[int, int]] = {}  # digest of a chain's text -> kstack, ustack
        self._rows: list[dict[str, Any]] = []
        self._block: Block
        self._heads: Heads
        self.lines = 0
        self.unread: list[int] = []

    def begin(self, block: Block, heads: Heads, frames: Positions) -> Positions:
        """Take up a block; returns for each line of a chain the index of its event's head, -1 where it has none.

        A chain stands right behind its event: where another line is between, it belongs to what could not be read.
        """
        self._block, self._heads, self.unread = block, heads, []
        self._inline: dict[int, bytes] = {}
        self._first, self._count = np.zeros(len(heads.line), np.int64), np.zeros(len(heads.line), np.int64)
        begins = np.flatnonzero(np.diff(frames, prepend=-2) != 1)
        lengths = np.diff(begins, append=len(frames))
        before = frames[begins] - 1
        place = np.searchsorted(heads.line, before)
        has = np.zeros(len(begins), np.bool_)
        inside = place < len(heads.line)
        has[inside] = heads.line[place[inside]] == before[inside]
        self._first[place[has]], self._count[place[has]] = frames[begins[has]], lengths[has]
        return np.repeat(np.where(has, place, -1), lengths)

    def of_samples(self, which: Positions, start: Positions, end: Positions) -> Mask:
        """Take the frames that stand in the lines of samples themselves, as perf script writes them without chains.

        Args:
            start, end: of the text behind the event's name, for each of the heads ``which``.

        Returns:
            Whether there is such a frame, or no text at all.
        """
        good = np.ones(len(which), np.bool_)
        for place, (head, at, to) in enumerate(zip(which.tolist(), start.tolist(), end.tolist(), strict=True)):
            text = self._block.bytes[at : min(to, at + LONGEST_CHAIN)].tobytes().strip()
            if text:
                good[place] = not self._count[head] and b" " in text and _frame(text) is not None
                if good[place]:
                    self._inline[head] = text
        return good

    def columns(self, which: Positions) -> Columns:
        """kstack and ustack of some heads; none where none of them has a chain."""
        has = self._count > 0
        has[list(self._inline)] = True
        chained = np.flatnonzero(has[which]).tolist()
        if not chained:
            return {}
        found = np.zeros((len(which), 2), np.int64)
        for place in chained:
            found[place] = self._stacks(int(which[place]))
        return {
            name: pa.array(found[:, side], mask=found[:, side] == 0) for side, name in enumerate(("kstack", "ustack"))
        }

    def end(self) -> None:
        """Give the spool the stacks that the block's events are the first to have."""
        rows, self._rows = self._rows, []
        take_rows(self._spool, rows, "")

    def _stacks(self, head: int) -> tuple[int, int]:
        """The stack_id in the kernel and in user space of an event; 0: none."""
        block, first, count = self._block, int(self._first[head]), int(self._count[head])
        text = self._inline.get(head)
        if text is None:
            begin, end = int(block.starts[first]), int(block.ends[first + count - 1])
            if end - begin > LONGEST_CHAIN:
                return self._lost(head)
            text = block.bytes[begin:end].tobytes()
        digest = blake2b(text, digest_size=16).digest()
        if digest not in self._known:
            frames = [_frame(line) for line in text.split(b"\n")]
            if None in frames:
                self.unread += [first + n for n, frame in enumerate(frames) if frame is None]
                self.lines += frames.count(None)
                return self._lost(head)
            self._known[digest] = self._split(head, [frame for frame in frames if frame is not None])
        self.lines += count
        return self._known[digest]

    def _split(self, head: int, frames: list[Frame]) -> tuple[int, int]:
        """Number the parts of a chain, innermost function first: the kernel's, then user space, which called it."""
        at = next((n for n, (kernel, *_) in enumerate(frames) if not kernel), len(frames))
        return self._numbered(head, frames[:at]), self._numbered(head, frames[at:])

    def _numbered(self, head: int, frames: list[Frame]) -> int:
        if not frames:
            return 0
        outermost_first = frames[::-1]
        return self._row(
            head, ";".join(label for _, label, _ in outermost_first), f"[{','.join(j for *_, j in outermost_first)}]"
        )

    def _lost(self, head: int) -> tuple[int, int]:
        return 0, self._row(head, LOST_STACK, "[]")

    def _row(self, head: int, folded: str, frames: str) -> int:
        stack_id, new = self._spool.stack_id(frames)
        if new:
            ts, order = int(self._heads.ts[head]), int(self._heads.line[head])
            row = {"kind": "stack", "ts": ts, "cpu": None, "stack_id": stack_id, "folded": folded, "frames": frames}
            self._rows.append({**row, "order": order})
        return stack_id


@lru_cache(1 << 14)
def _frame(line: bytes) -> Frame | None:
    """A line ``address function+0xoffset (module)``, all but the address as far as it is known; None: it is none."""
    found = _FRAME.fullmatch(line.decode("utf-8", "backslashreplace"))
    if found is None:
        return None
    address = int(found[1], 16)
    name, offset, module = _function(found[2] or "")
    kernel = module.startswith(_KERNEL) or (address >= _KERNEL_HALF and module != _MAPPED_THERE)
    known: dict[str, Any] = {"name": name, "offset": offset, "module": _module(module) if kernel else module}
    kept = {key: value for key, value in known.items() if value not in ("", None)} | {"address": f"{address:#x}"}
    label = name or f"[{PurePosixPath(module).name.strip('[]') or 'unknown'}]"
    return kernel, label.translate(_IN_FOLDED), json.dumps(kept, separators=(",", ":"))


def _function(text: str) -> tuple[str, int | None, str]:
    """Name (empty: not known), offset and module of ``function+0xoffset (module)``; both may have spaces, and ``(``."""
    found = _WITH_OFFSET.fullmatch(text)
    if found:
        name, offset, module = found[1], int(found[2], 16), found[3] or ""
    else:
        padded, offset = f" {text}", None
        end = len(padded) - (len(_DELETED) if padded.endswith(_DELETED) else 0)
        at = max(padded.rfind(" (/"), padded.rfind(" ([")) if padded.endswith(")") else -1
        at = padded.rfind(" (", 0, end) if at < 0 and padded.endswith(")") else at
        name, module = (padded[:at], padded[at + 2 : -1]) if at >= 0 else (padded, "")
    module = "" if module in ("inlined", "[unknown]") else _MODULE_OFFSET.sub("", module)
    return "" if name.strip() == "[unknown]" else name.strip(), offset, module


def _module(module: str) -> str:
    """A module of the kernel as recordings name it."""
    return "kernel" if module.startswith(_KERNEL) else module.strip("[]")
