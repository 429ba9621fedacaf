"""The part of Thrift's compact protocol that Parquet footers need: bytes of structs, taken apart and put together.

Specification: thrift/doc/specs/thrift-compact-protocol.md of Apache Thrift; a footer's structs: parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator

BYTES, LIST, STRUCT, I32, I64 = 8, 9, 12, 5, 6
_TRUE, _FALSE, _I8, _I16, _DOUBLE, _SET = 1, 2, 3, 4, 7, 10
_SHORT_LIST = 15
_FIXED = {_TRUE: 0, _FALSE: 0, _I8: 1, _DOUBLE: 8}


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(value: int) -> bytes:
    """A signed number (i16, i32, i64)."""
    return varint(value << 1 ^ value >> 63)


def text(value: bytes) -> bytes:
    """A string or binary."""
    return varint(len(value)) + value


def list_of(kind: int, items: list[bytes]) -> bytes:
    """A list of encoded values of one type."""
    count = len(items)
    head = bytes([count << 4 | kind]) if count < _SHORT_LIST else bytes([0xF0 | kind]) + varint(count)
    return head + b"".join(items)


def struct(*members: tuple[int, int, bytes]) -> bytes:
    """A struct of (number, type, encoded value), numbers growing by at most 15."""
    out, last = [], 0
    for at, kind, value in members:
        out += [bytes([at - last << 4 | kind]), value]
        last = at
    return b"".join(out) + b"\0"


class Reader:
    """A place in encoded bytes that moves forward.

    What an iterator of it stands at can be read, or left: then it is skipped.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        """Read an unsigned number."""
        data, at = self.data, self.at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at
                return value
            shift += 7

    def number(self) -> int:
        """Read a signed number."""
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def text(self) -> bytes:
        """Read a string."""
        length = self.varint()
        self.at += length
        return self.data[self.at - length : self.at]

    def members(self) -> Iterator[tuple[int, int]]:
        """Read a struct: (number, type) of each member, standing at its value."""
        number = 0
        while head := self.data[self.at]:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self.number()
            begin = self.at
            yield number, head & 0xF
            if self.at == begin:
                self.skip(head & 0xF)
        self.at += 1

    def items(self) -> Iterator[int]:
        """Read a list: the type of each item, standing at it."""
        head = self.data[self.at]
        self.at += 1
        count = head >> 4 if head >> 4 < _SHORT_LIST else self.varint()
        for _ in range(count):
            begin = self.at
            yield head & 0xF
            if self.at == begin:
                self.skip(head & 0xF, item=True)

    def each(self, member: int, *inner: int) -> Iterator[None]:
        """Read a struct: stand at each value of a member, of a member of it, …; of a list at each item."""
        for number, kind in self.members():
            if number == member:
                for _ in self.items() if kind == LIST else (None,):
                    if inner:
                        yield from self.each(*inner)
                    else:
                        yield

    def skip(self, kind: int, *, item: bool = False) -> None:
        """Go behind a value; ``item``: of a list, where a boolean takes a byte (a member's value is its type)."""
        if kind in (_I16, I32, I64):
            while self.data[self.at] > 0x7F:
                self.at += 1
            self.at += 1
        elif kind == BYTES:
            length = self.varint()
            self.at += length
        elif kind == STRUCT:
            for _ in self.members():
                pass
        elif kind in (LIST, _SET):
            for _ in self.items():
                pass
        elif kind in _FIXED:
            self.at += 1 if item and kind in (_TRUE, _FALSE) else _FIXED[kind]
        else:
            raise ValueError(f"type {kind} does not occur in Parquet footers")
