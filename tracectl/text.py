"""Numbers and strings for people and from people: durations, sizes, counts, and strings made harmless."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from tracectl.store.durations import NS_PER, nanoseconds
from tracectl.store.errors import UserError

BYTES_PER = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# The unit a duration is shown in: the largest that it reaches.
_SHOWN = (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000))
# Unicode categories a terminal acts on or that reorder the text: controls, formats (bidi), separators, surrogates.
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_NUMBER_AND_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµμ]*)")


def visible(text: str) -> str:
    r"""The text with control and formatting characters written as ``\x1b`` or ``\u202e``: safe on a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(map(visible, text.split("\n")))


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(ns: float) -> str:
    """Nanoseconds with the unit that suits, four significant digits: ``1.2ms``, ``87us``, ``-3s``."""
    size = abs(ns)
    for unit, per in _SHOWN:
        if size >= 0.99995 * per:  # what would be rounded to 1000 of the smaller unit is 1 of this one
            return f"{_short(ns / per)}{unit}"
    return f"{_short(ns)}ns"


def _short(value: float) -> str:
    digits = f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
    return digits.rstrip("0").rstrip(".")


def moment(ns: int) -> str:
    """Nanoseconds since the capture's start as exact seconds, as a question can use them: ``20.900123456s``."""
    sign, size = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{size // 1_000_000_000}.{size % 1_000_000_000:09d}s"


def size(count: float) -> str:
    """Bytes with the binary unit that suits: ``3.4M``."""
    for unit in ("B", "K", "M", "G"):
        if abs(count) < 1024:
            return f"{_short(count)}{unit}"
        count /= 1024
    return f"{_short(count)}T"


def count(number: int) -> str:
    """A whole number with thousands separated: ``1,234,567``."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """``1 row``, ``1,234 rows``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def parse_duration(text: str) -> int:
    """Nanoseconds of ``5s``, ``250ms``, ``1.5m``; a bare number is seconds.

    Raises:
        UserError: not a duration, or zero.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None or (match[2] or "s") not in NS_PER:
        raise UserError(
            f'"{text}" is not a duration', "a number and a unit: ns, us, ms, s, m, h; for example 5s or 250ms"
        )
    ns = nanoseconds(text.strip(), "s")
    if not ns:
        raise UserError(f'"{text}" is not a possible duration', "more than zero and less than 292 years")
    return ns


def parse_size(text: str) -> int:
    """Bytes of ``500M``, ``64K``, ``1.5G``, ``4096``; units are powers of 1024, ``KB`` and ``KiB`` mean ``K``.

    Raises:
        UserError: not a size, or zero.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    unit = re.sub(r"(?<=[KMGT])I?B$", "", match[2].upper()) if match else "?"
    if match is None or unit not in BYTES_PER:
        raise UserError(f'"{text}" is not a size', "a number and a unit: K, M, G, T; for example 500M")
    number = round(float(match[1]) * BYTES_PER[unit])
    if number <= 0 or number >= 1 << 63:
        raise UserError(f'"{text}" is not a possible size', "more than zero bytes")
    return number


def width(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, columns: int, to_right: bool) -> str:
    """The text filled up with spaces to that many columns."""
    space = " " * (columns - width(text))
    return space + text if to_right else text + space


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean "…"?`` with the known name most like it; empty when none is alike."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""
