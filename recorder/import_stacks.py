"""Totals by call stack that other tools print: folded stacks, BCC's offcputime and offwaketime, ``@map[stack]: n``.

Such texts have no times and no contexts, and mostly do not tell what a number counts: none is guessed. Stacks become
rows of kind ``stack``, outermost function first; those that are printed innermost first are turned around.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from tracectl.recorder.import_spool import LONGEST_UNPARSED

Row = dict[str, Any]
_LONGEST_LINE = 64 << 10
_MOST_FRAMES = 4096
_LARGEST = 1 << 63
_BETWEEN = "--"  # between a sleeper's stack and its waker's, in folded lines of offwaketime
_FOLDED = re.compile(r"(\S.*?) (\d{1,19})")
_MISSED = re.compile(r"WARNING: (\d{1,15}) stack traces (?:lost and )?could not be displayed\..*")
_ADDRESS = re.compile(r"(?:0x)?[0-9a-f]{8,16}\s+(?=\S)")  # -v of BCC's tools, and the perf layout of bpftrace


class StackTotals(ABC):
    """Makes rows of totals; each distinct stack becomes a row once.

    Args:
        stack_id: numbers a stack by its frames as JSON, and tells whether it is new.
    """

    def __init__(self, stack_id: Callable[[str], tuple[int, bool]]) -> None:
        self._stack_id = stack_id
        self._line = 0

    @abstractmethod
    def rows(self, block: bytes) -> Iterator[Row]:
        """Rows of the next whole lines."""

    def rest(self) -> Iterator[Row]:
        """What was begun and has no end is no total."""
        yield from ()

    def _total(self, frames: list[str], value: str, waker: list[str] | None = None, **columns: Any) -> Iterator[Row]:
        """The rows of one total, stacks outermost function first."""
        number = int(value)
        if number >= _LARGEST:
            yield self._unread(value)
            return
        row = {"kind": "stack_total", "ts": 0, "cpu": None, "value": number, "order": self._line, **columns}
        for column, stack in (("target_stack_id", frames), ("waker_stack_id", waker)):
            if stack:  # none at all: the text does not tell
                names = [_name(frame) for frame in stack[:_MOST_FRAMES]]
                folded = ";".join(names)
                frames_json = json.dumps([{"name": name} for name in names])
                row[column], new = self._stack_id(frames_json)
                if new:
                    yield {"kind": "stack", "ts": 0, "cpu": None, "stack_id": row[column], "folded": folded,
                           "frames": frames_json, "order": self._line}  # fmt: skip
        yield row

    def _unread(self, text: str) -> Row:
        return {"kind": "unparsed", "ts": 0, "line": self._line, "text": text[:LONGEST_UNPARSED], "order": self._line}

    def _missed(self, text: str) -> Row | None:
        found = _MISSED.fullmatch(text.strip())
        lost = {"kind": "lost", "ts": 0, "cpu": None, "from_ts": None, "stream": "total", "cause": "map_full"}
        return {**lost, "lost_count": int(found[1]), "order": self._line} if found else None

    def _lines(self, block: bytes) -> Iterator[str]:
        for text in block.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"):
            self._line += 1
            yield text.rstrip("\r")[:_LONGEST_LINE]


def _name(frame: str) -> str:
    return frame.replace(";", ":").strip()


class FoldedStacks(StackTotals):
    """``a;b;c 12``. With ``--`` in it the line is offwaketime's: sleeper;stack;--;the waker's, innermost first;waker.

    That the first of other lines is a thread's name, as stackcollapse-perf writes it, cannot be seen: it stays a frame.
    """

    def rows(self, block: bytes) -> Iterator[Row]:
        """Rows of the next whole lines."""
        for text in self._lines(block):
            found = _FOLDED.fullmatch(text.strip())
            if found is None:
                if text.strip() and not text.startswith("#"):
                    yield self._missed(text) or self._unread(text)
                continue
            frames = found[1].split(";")
            if frames.count(_BETWEEN) != 1 or len(frames) < 3:
                yield from self._total(frames, found[2])
                continue
            at = frames.index(_BETWEEN)
            target, waker = ([f for f in part if f != "-"] for part in (frames[1:at], frames[at + 1 : -1]))
            known = {"comm": frames[0], "waker_comm": frames[-1] or None, "unit": "us"}
            yield from self._total(target, found[2], waker[::-1], **known)


_WAKER = re.compile(r" {4}waker: {10} (\S.{0,15}?)?(?: (\d{1,9}))?\s*")  # no name: nobody was seen to wake it
_TARGET = re.compile(r"\s*target:\s+(.{1,16}?)(?:\s+(\d{1,9}))?\s*")
_THREAD = re.compile(r"\s+-\s+(\S.{0,15}?)(?:\s+\((\d{1,9})\))?\s*")
_HEADER = re.compile(r"Tracing (?:blocked|off-CPU) time \(us\).*|(?:\^C)?\s*")
_VALUE = re.compile(r"\s+(\d{1,19})\s*")


class OffTime(StackTotals):
    """The paragraphs of offcputime and offwaketime: the waker (outermost first), ``--``, the sleeper (innermost first),
    whose name stands at the end, then the microseconds.
    """

    def __init__(self, stack_id: Callable[[str], tuple[int, bool]]) -> None:
        super().__init__(stack_id)
        self._clear()

    def _clear(self) -> None:
        self._frames: list[str] = []
        self._texts: list[tuple[int, str]] = []
        self._waker: list[str] | None = None
        self._known: dict[str, Any] = {}

    def rows(self, block: bytes) -> Iterator[Row]:
        """Rows of the next whole lines."""
        for text in self._lines(block):
            if _HEADER.fullmatch(text) or len(self._frames) > _MOST_FRAMES:
                yield from self._rest_of_paragraph()
            elif missed := self._missed(text):
                yield missed
            elif found := _WAKER.fullmatch(text):
                self._texts.append((self._line, text))
                self._known |= {"waker_comm": found[1], "waker_tid": int(found[2]) if found[1] and found[2] else None}
            elif found := _TARGET.fullmatch(text) or _THREAD.fullmatch(text):
                self._texts.append((self._line, text))
                self._known |= {"comm": found[1], "tid": int(found[2]) if found[2] else None}
            elif "comm" in self._known and (found := _VALUE.fullmatch(text)):
                yield from self._total(self._frames[::-1], found[1], self._waker, unit="us", **self._known)
                self._clear()
            elif text.split() == [_BETWEEN, _BETWEEN]:
                self._waker, self._frames = self._frames, []
            elif text.strip() not in ("-", _BETWEEN):
                self._texts.append((self._line, text))
                self._frames.append(_ADDRESS.sub("", text.strip(), count=1))

    def rest(self) -> Iterator[Row]:
        """A paragraph without its total."""
        yield from self._rest_of_paragraph()

    def _rest_of_paragraph(self) -> Iterator[Row]:
        for line, text in self._texts:
            yield {**self._unread(text), "line": line, "order": line}
        self._clear()


_MAP = re.compile(r"@(\w{0,64})\[(.*)")
_SCALAR = re.compile(r"@(\w{0,64}): (\d{1,19})\s*")
_MAP_END = re.compile(r"(.*)\]: (\d{1,19})\s*")
_NO_TOTAL = re.compile(r"Attaching \d+ probes?\.\.\.|Attached \d+ probes?|\^C|\s*")


class MapDump(StackTotals):
    """Maps of bpftrace whose keys hold a stack: ``@name[``, its frames innermost first and indented, ``, key]: 12``.

    Which of two stacks is the kernel's cannot be seen: they stand as written, with ``--`` between them.
    """

    def __init__(self, stack_id: Callable[[str], tuple[int, bool]]) -> None:
        super().__init__(stack_id)
        self._map: str | None = None
        self._stacks: list[list[str]] = []
        self._keys: list[str] = []
        self._texts: list[tuple[int, str]] = []

    def rows(self, block: bytes) -> Iterator[Row]:
        """Rows of the next whole lines."""
        for text in self._lines(block):
            begun = _MAP.fullmatch(text)
            if begun:
                yield from self.rest()
                self._map, text_left = begun[1], begun[2]
                self._texts = [(self._line, text)]
                yield from self._part(text_left)
            elif scalar := _SCALAR.fullmatch(text):
                yield from self.rest()
                yield from self._total([], scalar[2], map=f"@{scalar[1]}")
            elif self._map is None:
                if not _NO_TOTAL.fullmatch(text):
                    yield self._unread(text)
            elif text[:1] in (" ", "\t") and len(self._texts) < _MOST_FRAMES:
                self._texts.append((self._line, text))
                if not self._stacks:
                    self._stacks.append([])
                self._stacks[-1].append(_ADDRESS.sub("", text.strip(), count=1))
            elif text.startswith((",", "]")):
                self._texts.append((self._line, text))
                yield from self._part(text)
            else:
                yield from self.rest()
                if not _NO_TOTAL.fullmatch(text):
                    yield self._unread(text)

    def _part(self, text: str) -> Iterator[Row]:
        """What stands between stacks, or ends the key."""
        end = _MAP_END.fullmatch(text)
        keys = end[1] if end else text
        self._keys += [key for key in keys.strip(", ").split(", ") if key]
        if end is None:
            self._stacks.append([])
            return
        stacks = [stack[::-1] for stack in self._stacks if stack]
        frames = [frame for number, stack in enumerate(stacks) for frame in ([_BETWEEN] * bool(number) + stack)]
        key = ", ".join(self._keys) or None
        yield from self._total(frames, end[2], map=f"@{self._map}", key=key)
        self._map, self._stacks, self._keys, self._texts = None, [], [], []

    def rest(self) -> Iterator[Row]:
        """A key without a value."""
        for line, text in self._texts:
            yield {**self._unread(text), "line": line, "order": line}
        self._map, self._stacks, self._keys, self._texts = None, [], [], []


_IS_OFF_TIME = re.compile(
    rb"^Tracing (?:blocked|off-CPU) time \(us\) |^ {4}waker: |^ {4}target: |^ {4}-\s+\S.*\n +\d+$", re.M
)
_IS_MAP = re.compile(rb"^@\w*\[(?:\n|.*, ?\n)", re.M)
_IS_FOLDED = re.compile(rb"(?!.*\d\.\d{6}(?:\d{3})?: )[^\s#].* \d+\s*")
_PASSED_OVER = re.compile(rb"#.*|WARNING: .*|\s*")


def stack_reader(head: bytes, stack_id: Callable[[str], tuple[int, bool]]) -> tuple[str, StackTotals] | None:
    """What reads a text of totals by stack; None when it is none."""
    if _IS_OFF_TIME.search(head):
        return "text of offcputime or offwaketime", OffTime(stack_id)
    if _IS_MAP.search(head):
        return "map dump of bpftrace", MapDump(stack_id)
    lines = [line for line in head.split(b"\n")[:20] if not _PASSED_OVER.fullmatch(line)]
    folded = [line for line in lines if _IS_FOLDED.fullmatch(line)]
    if len(folded) > len(lines) / 2 and folded[0] == lines[0] and any(b";" in line for line in folded):
        return "folded stacks", FoldedStacks(stack_id)
    return None
