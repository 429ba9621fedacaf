"""Literals of the question language: from the text of a token to a value, with its place in the question."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lark import Token, Tree

from tracectl.store.durations import nanoseconds

INT64_MAX = (1 << 63) - 1

Node = Tree[Token]


@dataclass(frozen=True)
class Place:
    """Where in the question something stands: characters ``start`` up to, not including, ``end``."""

    start: int
    end: int


class OutOfRange(ValueError):
    """A number that no column can hold."""


@dataclass(frozen=True)
class Name:
    """A name as typed; with ``*`` or ``?`` in it, a pattern."""

    text: str
    place: Place

    @property
    def is_pattern(self) -> bool:
        """Whether it has wildcards."""
        return "*" in self.text or "?" in self.text

    @property
    def like(self) -> str:
        """The pattern for SQL's ``LIKE … ESCAPE '\\'``: only ``*`` and ``?`` are wildcards, all else is itself."""
        escaped = re.sub(r"([\\%_])", r"\\\1", self.text)
        return escaped.replace("*", "%").replace("?", "_")

    def matches(self, text: str) -> bool:
        """Whether it stands for this text."""
        if not self.is_pattern:
            return self.text == text
        pattern = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in self.text)
        return re.fullmatch(pattern, text, re.DOTALL) is not None


def place_of(node: Node | Token) -> Place:
    """Where a node or token stands."""
    if isinstance(node, Token):
        return Place(node.start_pos or 0, node.end_pos or 0)
    return Place(0, 0) if node.meta.empty else Place(node.meta.start_pos, node.meta.end_pos)


def token_in(node: Node, index: int = 0) -> Token:
    """The child at an index, which the grammar makes a token."""
    child = node.children[index]
    assert isinstance(child, Token)
    return child


def tree_in(node: Node, index: int = 0) -> Node:
    """The child at an index, which the grammar makes a tree."""
    child = node.children[index]
    assert isinstance(child, Tree)
    return child


def trees(node: Node) -> list[Node]:
    """The children that are trees."""
    return [child for child in node.children if isinstance(child, Tree)]


def tokens(node: Node) -> list[Token]:
    """The children that are tokens."""
    return [child for child in node.children if isinstance(child, Token)]


def string_of(token: Token) -> str:
    """A word, or a string without its quotes."""
    return str(token)[1:-1] if token.type == "STRING" else str(token)


def name_of(node: Node) -> Name:
    """A ``name`` rule."""
    token = token_in(node)
    return Name(string_of(token), place_of(token))


def integer_of(token: Token) -> int:
    """``UINT``, ``INT`` or ``HEX``; a hex number is a 64-bit pattern, as kernel addresses are.

    Raises:
        OutOfRange: it has more than 64 bits.
    """
    text = str(token)
    if token.type == "HEX":
        value = int(text, 16) if len(text) <= 18 else 1 << 64
        if value < 1 << 64:
            return value - (1 << 64) if value > INT64_MAX else value
    elif len(text) <= 20 and abs(int(text)) <= INT64_MAX:
        return int(text)
    raise OutOfRange(text)


def duration_of(token: Token) -> int:
    """``20.9s`` in ns, exactly; what is below a nanosecond is cut off.

    Raises:
        OutOfRange: longer than 292 years.
    """
    value = nanoseconds(str(token).lower())
    if value is None:
        raise OutOfRange(str(token))
    return value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean "…"?``, or empty when nothing is alike."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def listed(words: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    given = list(words)
    return given[0] if len(given) == 1 else f"{', '.join(given[:-1])} {last} {given[-1]}" if given else ""


def real_of(token: Token) -> float:
    """A number with a point.

    Raises:
        OutOfRange: larger than any 64-bit number.
    """
    value = float(token)
    if abs(value) > INT64_MAX:
        raise OutOfRange(str(token))
    return value


def show_duration(ns: int) -> str:
    """``1.5ms``: a duration as one would type it."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if abs(ns) >= size:
            return f"{f'{ns / size:.6f}'.rstrip('0').rstrip('.')}{unit}"
    return f"{ns}ns"
