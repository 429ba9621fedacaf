"""Probes of any function, as typed, read and checked: ``uprobe:/usr/bin/envoy:*assignEvents*(fd:int=arg0)``.

``kprobe:NAME``, ``kretprobe:NAME``, ``uprobe:FILE:SYMBOL``, ``uretprobe:FILE:SYMBOL``, ``usdt:FILE:PROVIDER:NAME``; in
what stands behind the file ``*`` and ``?`` stand for anything. In parentheses what to keep of each call:
``name:type=value``, or ``ret`` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracectl.store.errors import QueryError

ARGUMENTS = 6  # of a function, that registers hold
USDT_ARGUMENTS = 12  # <sys/sdt.h> has STAP_PROBE to STAP_PROBE12
RETURNS = ("kretprobe", "uretprobe")
IN_FILES = ("uprobe", "uretprobe", "usdt")
KINDS_OF_PROBES = ("kprobe", "kretprobe", *IN_FILES)
# Type -> its size in bytes, and whether it is signed. A str is read up to its end, at most 127 bytes.
NUMBERS = {
    "s8": (1, True), "u8": (1, False), "s16": (2, True), "u16": (2, False), "s32": (4, True), "u32": (4, False),
    "s64": (8, True), "u64": (8, False), "int": (4, True), "uint": (4, False), "ptr": (8, False),
}  # fmt: skip
TYPES = (*NUMBERS, "str")


@dataclass(frozen=True)
class Argument:
    """``arg0`` … ``arg5`` (``arg11`` of USDT probes); -1: the return value."""

    number: int


@dataclass(frozen=True)
class Sum:
    """A value and a constant."""

    left: Value
    constant: int


@dataclass(frozen=True)
class Load:
    """What is at an address: ``*(value)``."""

    address: Value


@dataclass(frozen=True)
class Member:
    """A member of the kernel struct that an argument points to: ``arg0->sk_protocol``."""

    pointer: Argument
    path: str
    start: int
    end: int


Value = Argument | Sum | Load | Member


@dataclass(frozen=True)
class Kept:
    """One field: its name, a type of :data:`TYPES`, where it comes from."""

    name: str
    type: str
    value: Value


@dataclass(frozen=True)
class Spec:
    """A probe as typed.

    Attributes:
        kind: one of :data:`KINDS_OF_PROBES`.
        file: of uprobes, else empty.
        symbol: a function's name, or a pattern; of a USDT probe ``provider:name``, or a name alone.
        text: all of it.
        symbol_start: where the symbol is in the text.
    """

    kind: str
    file: str
    symbol: str
    kept: tuple[Kept, ...]
    text: str
    symbol_start: int

    def error(self, problem: str, remedy: str = "", start: int | None = None, end: int | None = None) -> QueryError:
        """An error that points into the text; at the symbol if nothing else is said."""
        begin = self.symbol_start if start is None else start
        stop = begin + len(self.symbol) if end is None else end
        return QueryError(problem, remedy, text=self.text, start=begin, end=stop)


def is_spec(text: str) -> bool:
    """Whether a name means such a probe."""
    return text.partition(":")[0] in KINDS_OF_PROBES


def parse_spec(text: str) -> Spec:
    """Read a probe.

    Raises:
        QueryError: it is none; points at the place.
    """
    return _Reader(text).spec()


_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>0[xX][0-9a-fA-F]+|\d+)|(?P<mark>->|[():=,*+.-]))")
_WORDS = {"": "the end", ",": '","', ")": '")"', "=": '"="', "(": '"("'}


class _Reader:
    """Reads one probe from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind = ""

    def spec(self) -> Spec:
        self._kind, _, rest = self._text.partition(":")
        head = rest.partition("(")[0]
        file, colon, symbol = head.partition(":") if self._kind in IN_FILES else ("", ":", head)
        start = len(self._kind) + 1 + (len(file) + 1 if file else 0)
        usdt = self._kind == "usdt"
        if not colon or (self._kind in IN_FILES and not file):
            wanted = "a file and a probe" if usdt else "a file and a function"
            example = "usdt:/usr/bin/python3:python:gc__*" if usdt else f"{self._kind}:/usr/bin/envoy:*assignEvents*"
            raise self._error(f"{wanted} are needed", example, len(self._kind) + 1, len(self._text))
        if not symbol.strip():
            missing = "the probe is missing" if usdt else "the function is missing"
            wanted = "provider:name, or a pattern with *" if usdt else "its name, or a pattern with *"
            raise self._error(missing, wanted, start, start + 1)
        self._at = start + len(symbol)
        kept = self._fields() if self._at < len(self._text) else ()
        return Spec(self._kind, file, symbol.strip(), kept, self._text, start)

    def _fields(self) -> tuple[Kept, ...]:
        self._expect("(")
        kept = [self._field()]
        while self._next(",", ")") == ",":
            kept.append(self._field())
        if self._text[self._at :].strip():
            raise self._error('nothing is understood behind ")"', "", self._at, len(self._text))
        names = [one.name.lower() for one in kept]
        for name in names:
            if names.count(name) > 1:
                raise self._error(f'two fields are called "{name}"', "give each a name of its own", 0, len(self._text))
        return tuple(kept)

    def _field(self) -> Kept:
        name, start, end = self._token("name", "a field: name:type=value")
        if name == "ret" and self._peek() in (",", ")"):
            return Kept("ret", "s64", self._argument(name, start, end))
        kind = "s64"
        if self._next(":", "=") == ":":
            kind, at, stop = self._token("name", f"a type: {', '.join(TYPES)}")
            if kind not in TYPES:
                raise self._error(f'there is no type "{kind}"', f"types: {', '.join(TYPES)}", at, stop)
            self._expect("=")
        at = self._at
        value = self._value()
        if isinstance(value, Sum) and not isinstance(value.left, Argument | Sum):
            raise self._error("nothing can be added to what is loaded", "add it in the question", at, self._at)
        return Kept(name, kind, value)

    def _value(self) -> Value:
        if self._peek() == "*":
            self._expect("*")
            self._expect("(")
            value: Value = Load(self._value())
            self._expect(")")
        else:
            value = self._argument(*self._token("name", "a value: arg0 …, ret, *(arg0 + 8), arg0->member"))
        if self._peek() == "->":
            value = self._member(value)
        while self._peek() in ("+", "-"):
            sign = self._next("+", "-")
            digits, _, _ = self._token("number", "a number")
            value = Sum(value, int(digits, 0) * (1 if sign == "+" else -1))
        return value

    def _argument(self, word: str, start: int, end: int) -> Argument:
        if self._kind == "usdt":
            return self._usdt_argument(word, start, end)
        if word in ("ret", "retval"):
            if self._kind not in RETURNS:
                raise self._error(
                    "a function has returned nothing yet when it begins", f"{self._returning()}:…", start, end
                )
            return Argument(-1)
        found = re.fullmatch(r"arg(\d)", word)
        if not found or int(found[1]) >= ARGUMENTS:
            raise self._error(f'there is no value "{word}"', f"arg0 … arg{ARGUMENTS - 1}, ret", start, end)
        if self._kind in RETURNS:
            raise self._error("arguments are gone when a function returns", "ret, or a probe of its begin", start, end)
        return Argument(int(found[1]))

    def _usdt_argument(self, word: str, start: int, end: int) -> Argument:
        found = re.fullmatch(r"arg(\d\d?)", word)
        if not found or int(found[1]) >= USDT_ARGUMENTS:
            raise self._error(f'there is no value "{word}"', f"arg0 … arg{USDT_ARGUMENTS - 1}", start, end)
        return Argument(int(found[1]))

    def _returning(self) -> str:
        return "kretprobe" if self._kind == "kprobe" else "uretprobe"

    def _member(self, value: Value) -> Member:
        if not isinstance(value, Argument) or self._kind != "kprobe":
            remedy = "*(value + offset) reads at an address"
            raise self._error("only a kernel function's arguments have members", remedy, self._at, self._at + 2)
        self._expect("->")
        path, start, end = self._token("name", "a member")
        while self._peek() == ".":
            self._expect(".")
            part, _, end = self._token("name", "a member")
            path += f".{part}"
        return Member(value, path, start, end)

    # -- tokens --

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found[0].strip() if found else ""

    def _token(self, group: str, wanted: str) -> tuple[str, int, int]:
        found = _TOKEN.match(self._text, self._at)
        if not found or found[group] is None:
            raise self._unexpected(wanted)
        self._at = found.end()
        return found[group], found.start(group), found.end(group)

    def _next(self, *marks: str) -> str:
        mark = self._peek()
        if mark not in marks:
            raise self._unexpected(" or ".join(_WORDS.get(one, f'"{one}"') for one in marks))
        self._at = self._text.index(mark, self._at) + len(mark)
        return mark

    def _expect(self, mark: str) -> None:
        self._next(mark)

    def _unexpected(self, wanted: str) -> QueryError:
        rest = self._text[self._at :]
        start = self._at + len(rest) - len(rest.lstrip())
        word = self._peek() or rest.strip()[:1]
        problem = f'"{word}" is not understood here' if word else "the probe ends too early"
        return self._error(problem, f"expected: {wanted}", start, start + max(len(word), 1))

    def _error(self, problem: str, remedy: str, start: int, end: int) -> QueryError:
        return QueryError(problem, remedy, text=self._text, start=start, end=end)
