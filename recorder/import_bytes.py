"""Text as arrays: lines, numbers and words of a block of bytes, found for all lines at once.

A position is an index into :attr:`Block.bytes`; every method takes and gives arrays with one position per line. Eight
characters are handled as one 64-bit word (little endian: the first character is the lowest byte).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Positions = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Words = np.ndarray[Any, np.dtype[np.uint64]]

# Room before and behind the text, so that a word beside any position can be read.
_MARGIN = 256
_WIDTHS = (16, 32, 64)
_U = np.uint64
_TOPS = _U(0x8080808080808080)
_FIRSTS = _U(0x0101010101010101)
_ZEROS = _U(0x3030303030303030)
# Row n keeps the first n bytes of a fixed-width text.
_KEEP = {width: np.tril(np.full((width + 1, width), 255, np.uint8), -1).view(f"V{width}").ravel() for width in _WIDTHS}
NEWLINE, SPACE = 10, 32


class Block:
    """Whole lines of a text.

    Attributes:
        bytes: uint8, the text with a margin of zeros on both sides.
        starts, ends: the lines; ``ends`` excludes the line's end in any of its forms.
    """

    def __init__(self, data: bytes) -> None:
        if not data.endswith(b"\n"):
            data += b"\n"
        self.bytes = np.zeros(len(data) + 2 * _MARGIN, np.uint8)
        self.bytes[_MARGIN:-_MARGIN] = np.frombuffer(data, np.uint8)
        self._views: dict[str, np.ndarray[Any, Any]] = {}
        self._found: dict[int, Positions] = {}
        newlines = np.flatnonzero(self.bytes == NEWLINE)
        self.starts = np.concatenate([[_MARGIN], newlines[:-1] + 1])
        # Captures quoted in HTML and JavaScript end their lines with a literal \n\, others with a carriage return.
        quoted = self.is_at(newlines - 3, b"\\n\\") & (newlines - 3 >= self.starts)
        ends = newlines - np.where(quoted, 3, 0)
        self.ends = ends - ((self.bytes[ends - 1] == 13) & (ends > self.starts))

    def _at(self, at: Positions, form: str) -> np.ndarray[Any, Any]:
        if form not in self._views:
            size = np.dtype(form).itemsize
            self._views[form] = np.ndarray((len(self.bytes) - size + 1,), form, self.bytes.data, strides=(1,))
        return self._views[form][at]

    def word(self, at: Positions) -> Words:
        """The 8 characters from a position."""
        return self._at(at, "<u8")

    def is_at(self, at: Positions, literal: bytes) -> Mask:
        """Whether the literal stands at a position."""
        ok = np.ones(len(at), np.bool_)
        for start in range(0, len(literal), 8):
            part = literal[start : start + 8]
            wanted, mask = (_U(int.from_bytes(p, "little")) for p in (part, b"\xff" * len(part)))
            ok &= (self.word(at + start) & mask) == wanted
        return ok

    def positions(self, character: int) -> Positions:
        """All positions of a character, ending with two behind the text."""
        if character not in self._found:
            found = np.flatnonzero(self.bytes == character)
            self._found[character] = np.concatenate([found, [len(self.bytes) - _MARGIN // 2] * 2])
        return self._found[character]

    def next(self, character: int, at: Positions) -> Positions:
        """The first place of a character at or behind a position; behind the text where there is none."""
        found = self.positions(character)
        return found[np.searchsorted(found, at)]

    def previous(self, character: int, at: Positions) -> Positions:
        """The last place of a character before a position; -1 where there is none."""
        found = self.positions(character)
        index = np.searchsorted(found, at) - 1
        return np.where(index >= 0, found[index], -1)

    def skip(self, at: Positions, character: int = SPACE) -> Positions:
        """Behind a run of one character, of at most 64."""
        return self._run(at, character, 1)

    def skip_back(self, end: Positions, character: int = SPACE) -> Positions:
        """Before a run of one character that ends at a position, of at most 64."""
        return self._run(end - 1, character, -1) + 1

    def _run(self, at: Positions, character: int, step: int) -> Positions:
        at = at.copy()
        active = np.flatnonzero(self.bytes[at] == character)
        for _ in range(64):
            if not len(active):
                break
            at[active] += step
            active = active[self.bytes[at[active]] == character]
        return at

    def word_end(self, at: Positions) -> Positions:
        """The first space or control character at or behind a position, at most 256 characters on."""
        end = at.copy()
        active = np.arange(len(at))
        for _ in range(_MARGIN // 8):
            word = self.word(end[active])
            ending = (word - _FIRSTS * _U(SPACE + 1)) & ~word & _TOPS
            count = _characters_before(ending)
            end[active] += count
            active = active[count == 8]
            if not len(active):
                break
        return end

    def number(self, at: Positions) -> tuple[Positions, Positions]:
        """Decimal digits from a position: (value, count of digits). More than 16 digits: not read, count 0."""
        word = self.word(at)
        count = _digits_before_other(word)
        value = _value(word << ((_U(8) - count) << _U(3)) & _spread(count))
        more = np.flatnonzero(count == 8)
        if len(more):
            rest, extra = self._short_number(at[more] + 8)
            value[more] = value[more] * _POWERS[extra] + rest
            total = 8 + extra
            total[(extra == 8) & _is_digit(self.bytes[at[more] + 16])] = 0
            count[more] = total.astype(np.uint64)
        return value.view(np.int64), count.view(np.int64)

    def _short_number(self, at: Positions) -> tuple[Words, Positions]:
        word = self.word(at)
        count = _digits_before_other(word)
        return _value(word << ((_U(8) - count) << _U(3)) & _spread(count)), count.view(np.int64)

    def number_before(self, end: Positions) -> tuple[Positions, Positions]:
        """Decimal digits that end at a position, at most 16: (value, position of the first)."""
        start = end.copy()
        active = np.arange(len(end))
        for _ in range(17):
            active = active[_is_digit(self.bytes[start[active] - 1])]
            if not len(active):
                break
            start[active] -= 1
        value, count = self.number(start)
        return value, np.where(count == end - start, start, end)

    def signed(self, at: Positions) -> tuple[Positions, Positions]:
        """Decimal digits with or without a minus: (value, count of characters, 0 for none)."""
        minus = self.bytes[at] == 45
        if not minus.any():
            return self.number(at)
        value, count = self.number(at + minus)
        return np.where(minus, -value, value), np.where(count > 0, count + minus, 0)

    def texts(self, start: Positions, end: Positions) -> pa.DictionaryArray:
        """The texts between positions as a dictionary column; what is no UTF-8 becomes ``\\xNN``."""
        length = np.maximum(end - start, 0)
        longest = int(length.max()) if len(length) else 0
        width = next((width for width in _WIDTHS if width >= longest), 0)
        if width:
            kept = self._at(start, f"V{width}").view(np.uint64) & _KEEP[width][length].view(np.uint64)
            raw = pa.Array.from_buffers(pa.binary(width), len(start), [None, pa.py_buffer(kept)])
        else:
            raw = self._long_texts(start, length)
        return _as_text(raw.dictionary_encode())

    def _long_texts(self, start: Positions, length: Positions) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(length)])
        index = np.repeat(start - offsets[:-1], length) + np.arange(offsets[-1])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(self.bytes[index]))]
        return pa.Array.from_buffers(pa.large_binary(), len(start), buffers).cast(pa.binary())

    def text(self, start: int, end: int) -> str:
        """One text."""
        return self.bytes[start:end].tobytes().decode("utf-8", "backslashreplace")


def _as_text(encoded: pa.DictionaryArray) -> pa.DictionaryArray:
    values = encoded.dictionary.cast(pa.binary())
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array([value.decode("utf-8", "backslashreplace") for value in values.to_pylist()], pa.string())
    texts = pc.ascii_rtrim(texts, characters="\0")
    if len(texts.unique()) != len(texts):  # a Parquet dictionary must not repeat itself
        return texts.take(encoded.indices).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


_POWERS = _U(10) ** np.arange(9, dtype=np.uint64)


def _is_digit(characters: np.ndarray[Any, Any]) -> Mask:
    return (characters - np.uint8(48)) < 10


def _digits_before_other(word: Words) -> Words:
    """How many of a word's characters, from the first, are digits."""
    digits = word ^ _ZEROS
    # A byte above 9, or with its top bit set, gets its top bit set; a carry only reaches bytes behind such a one.
    other = (((digits & ~_TOPS) + _U(0x7676767676767676)) | digits) & _TOPS
    return _characters_before(other).view(np.uint64)


def _characters_before(marks: Words) -> Positions:
    """How many of a word's characters stand before the first that has its top bit set in ``marks``."""
    return (np.bitwise_count((marks & (~marks + _U(1))) - _U(1)) >> 3).astype(np.int64)


def _spread(count: Words) -> Words:
    """All ones, or for no digits at all zeros: a shift by 64 bits is none."""
    return np.where(count > 0, _U(0xFFFFFFFFFFFFFFFF), _U(0))


def _value(word: Words) -> Words:
    """The number that 8 digits make; a zero byte counts as the digit 0."""
    word = (word & _U(0x0F0F0F0F0F0F0F0F)) * _U(2561) >> _U(8)
    word = (word & _U(0x00FF00FF00FF00FF)) * _U(6553601) >> _U(16)
    return (word & _U(0x0000FFFF0000FFFF)) * _U(42949672960001) >> _U(32)
