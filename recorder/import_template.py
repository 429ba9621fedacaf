"""Templates: how an event's text is laid out, matched on all lines of that event at once.

``"prev_comm={comm:text} prev_pid={tid:int}"`` is literal text and fields. Types of fields:

- ``int``: decimal digits, with or without a minus,
- ``hex``: hexadecimal digits, with or without 0x, as a signed number of 64 bits,
- ``word``: characters up to a space or the end, at most 256,
- ``text``: anything, as short as what follows allows; at the end of a template: the rest of the line,
- ``task``: a name, a colon and a number; gives ``<name>_comm`` and ``<name>_tid``, or ``comm`` and ``tid``,
- ``skip``: like ``text``, but not kept.

The same template is matched in two ways that agree: :meth:`Template.match` takes the nearest place where the text
behind a field can begin, for all lines at once; lines for which that fails, such as names with ``=`` in them, go one by
one through :attr:`Template.regex`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Block, Mask, Positions

_FIELD = re.compile(r"\{(\w*):(\w+)\}")
_PATTERNS = {
    "int": r"(-?\d{1,16})",
    "hex": r"((?:0[xX])?[0-9a-fA-F]{1,16})",
    "word": r"([^\x00-\x20]*)",
    "text": r"(.{0,255}?)",
    "task": r"(.{0,255}?):(\d{1,16})",
    "skip": r".{0,255}?",
}
_NUMBERS = ("int", "hex")
LONGEST_BY_REGEX = 2048
Columns = dict[str, pa.Array]


@dataclass(frozen=True)
class Part:
    """A literal (``type`` empty) or a field of a template."""

    text: str
    type: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it gives."""
        if self.type == "task":
            prefix = f"{self.text}_" if self.text else ""
            return f"{prefix}comm", f"{prefix}tid"
        return (self.text,) if self.type not in ("", "skip") else ()


class Template:
    """One layout of an event's text.

    Attributes:
        parts: literals and fields in turn.
    """

    def __init__(self, layout: str) -> None:
        self.parts: list[Part] = []
        at = 0
        for match in _FIELD.finditer(layout):
            if match.start() > at:
                self.parts.append(Part(layout[at : match.start()]))
            self.parts.append(Part(match[1], match[2]))
            at = match.end()
        if at < len(layout):
            self.parts.append(Part(layout[at:]))

    @classmethod
    def of(cls, parts: list[Part]) -> Template:
        """A template of parts, whose literals may hold anything."""
        made = cls("")
        made.parts = parts
        return made

    @cached_property
    def types(self) -> dict[str, str]:
        """Column -> ``int`` or ``text``."""
        found = {}
        for part in self.parts:
            for name in part.names:
                number = part.type in _NUMBERS or (part.type == "task" and name.endswith("tid"))
                found[name] = "int" if number else "text"
        return found

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The same layout for a line at a time."""
        parts = [_PATTERNS[part.type] if part.type else re.escape(part.text) for part in self.parts]
        if self.parts and self.parts[-1].type == "text":
            parts[-1] = "(.*)"
        elif self.parts and self.parts[-1].type == "skip":
            parts[-1] = ".*"
        return re.compile("".join(parts) + " *", re.DOTALL)

    def match(self, block: Block, start: Positions, end: Positions) -> tuple[Mask, Columns]:
        """Read the texts between positions.

        Returns:
            which of them have this layout, and the columns of those, in order.
        """
        ok = np.ones(len(start), np.bool_)
        at = start
        values: dict[str, Positions] = {}
        spans: dict[str, tuple[Positions, Positions]] = {}
        for number, part in enumerate(self.parts):
            if not part.type:
                ok &= block.is_at(at, part.text.encode())
                at = np.where(ok, at + len(part.text.encode()), at)
            elif part.type == "int":
                values[part.text], count = block.signed(at)
                ok &= count > 0
                at = at + count
            elif part.type == "hex":
                values[part.text], count = _hex(block, at)
                ok &= count > 0
                at = at + count
            else:
                until = self._end_of(number, block, at, end)
                ok &= (until >= at) & (until <= end)
                if part.type == "task":
                    tid, digits = block.number_before(until)
                    ok &= (digits < until) & (digits - 1 >= at) & (block.bytes[digits - 1] == ord(":"))
                    comm, name = part.names
                    values[name], spans[comm] = tid, (at, digits - 1)
                elif part.type != "skip":
                    spans[part.text] = at, until
                at = np.where(ok, until, at)
        ok &= (at <= end) & (block.skip(at) >= end)
        return ok, self._columns(block, ok, values, spans)

    def _end_of(self, number: int, block: Block, at: Positions, end: Positions) -> Positions:
        """Where a field without a fixed form ends: before the text that follows it."""
        if self.parts[number].type == "word":
            return np.minimum(block.word_end(at), end)
        if number + 1 == len(self.parts):
            return end
        literal = self.parts[number + 1].text.encode()
        anchor = literal.find(b"=")
        anchor = anchor if anchor >= 0 else len(literal) - len(literal.lstrip(b" "))
        if anchor == len(literal):
            anchor = 0
        return block.next(literal[anchor], at) - anchor

    def _columns(
        self, block: Block, ok: Mask, values: dict[str, Positions], spans: dict[str, tuple[Positions, Positions]]
    ) -> Columns:
        columns: Columns = {name: pa.array(number[ok]) for name, number in values.items()}
        for name, (start, end) in spans.items():
            columns[name] = block.texts(start[ok], end[ok])
        return columns

    def match_line(self, text: str) -> dict[str, int | str] | None:
        """Read one text; None when it has another layout."""
        found = self.regex.fullmatch(text) if len(text) <= LONGEST_BY_REGEX else None
        if found is None:
            return None
        kinds = {"int": int, "text": str}
        names = [(name, part.type) for part in self.parts for name in part.names]
        return {
            name: hex_value(value) if form == "hex" else kinds[self.types[name]](value)
            for (name, form), value in zip(names, found.groups(), strict=True)
        }


def hex_value(text: str) -> int:
    """A hexadecimal number as the signed one of 64 bits."""
    value = int(text, 16)
    return value - (1 << 64) if value >= 1 << 63 else value


def _hex(block: Block, at: Positions) -> tuple[Positions, Positions]:
    """Hexadecimal digits: (value, count of characters, 0 for none)."""
    prefix = 2 * (block.is_at(at, b"0x") | block.is_at(at, b"0X"))
    value = np.zeros(len(at), np.uint64)
    count = np.zeros(len(at), np.int64)
    for place in range(17):
        digit = _HEX[block.bytes[at + prefix + place]]
        more = (digit < 16) & (count == place)
        if not more.any():
            break
        value = np.where(more, (value << np.uint64(4)) | digit.astype(np.uint64), value)
        count += more
    return value.view(np.int64), np.where((count > 0) & (count <= 16), count + prefix, 0)


_HEX = np.full(256, 255, np.uint8)
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)


Parts = list[tuple[Positions, Columns]]


def match_at_once(
    templates: list[Template], block: Block, start: Positions, end: Positions, which: Positions
) -> tuple[Parts, Positions]:
    """Read texts of one event that may have several layouts.

    Args:
        which: indices into ``start`` of those to read.

    Returns:
        parts of (indices, columns), and the indices that no template could read at once.
    """
    parts = []
    for template in templates:
        if not len(which):
            break
        ok, columns = template.match(block, start[which], end[which])
        if ok.any():
            parts.append((which[ok], columns))
            which = which[~ok]
    return parts, which


def match_by_line(
    templates: list[Template], block: Block, start: Positions, end: Positions, which: Positions
) -> tuple[Parts, Positions]:
    """The same, one text after the other, for what :func:`match_at_once` left."""
    found: dict[int, tuple[list[int], list[dict[str, int | str]]]] = {}
    unread = []
    for index in which.tolist():
        text = block.text(int(start[index]), int(end[index]))
        for number, template in enumerate(templates):
            row = template.match_line(text)
            if row is not None:
                indices, rows = found.setdefault(number, ([], []))
                indices.append(index)
                rows.append(row)
                break
        else:
            unread.append(index)
    parts = [(np.array(indices), _columns_of(templates[n], rows)) for n, (indices, rows) in found.items()]
    return parts, np.array(unread, np.int64)


_ARROW_TYPES = {"int": pa.int64(), "text": pa.dictionary(pa.int32(), pa.string())}


def _columns_of(template: Template, rows: list[dict[str, int | str]]) -> Columns:
    return {name: pa.array([row[name] for row in rows], _ARROW_TYPES[form]) for name, form in template.types.items()}
