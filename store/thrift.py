"""The part of Thrift's compact protocol that Parquet footers need: bytes of structs, taken apart and put together.

Specification: thrift/doc/specs/thrift-compact-protocol.md of Apache Thrift; a footer's structs: parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BYTES, LIST, STRUCT, I32, I64 = 8, 9, 12, 5, 6
_TRUE, _FALSE, _I8, _I16, _DOUBLE, _SET = 1, 2, 3, 4, 7, 10
_SHORT_LIST = 15


class Member(NamedTuple):
    """A member of a struct: its number and type, and where its value lies."""

    number: int
    type: int
    begin: int
    end: int


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


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(unsigned number at a place, place behind it)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def read_number(data: bytes, at: int) -> int:
    """The signed number at a place."""
    value, _ = read_varint(data, at)
    return value >> 1 ^ -(value & 1)


def read_text(data: bytes, at: int) -> bytes:
    """The string at a place."""
    length, at = read_varint(data, at)
    return data[at : at + length]


def members(data: bytes, at: int) -> Iterator[Member]:
    """The members of the struct at a place."""
    last = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            last += head >> 4
        else:
            last = read_number(data, at)
            _, at = read_varint(data, at)
        end = _behind(data, at, head & 0xF)
        yield Member(last, head & 0xF, at, end)
        at = end


def items(data: bytes, at: int) -> Iterator[int]:
    """The places of the items of the list at a place."""
    count, kind, at = _list_head(data, at)
    for _ in range(count):
        yield at
        at = _behind(data, at, kind)


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """(items, their type, place of the first)."""
    head = data[at]
    if head >> 4 < _SHORT_LIST:
        return head >> 4, head & 0xF, at + 1
    count, at = read_varint(data, at + 1)
    return count, head & 0xF, at


def _behind(data: bytes, at: int, kind: int) -> int:
    """The place behind a value."""
    if kind in (_I16, I32, I64):
        while data[at] > 0x7F:
            at += 1
        return at + 1
    if kind == BYTES:
        length, at = read_varint(data, at)
        return at + length
    if kind == STRUCT:
        end = at
        for member in members(data, at):
            end = member.end
        return end + 1
    if kind in (LIST, _SET):
        count, inner, at = _list_head(data, at)
        for _ in range(count):
            at = at + 1 if inner in (_TRUE, _FALSE) else _behind(data, at, inner)
        return at
    fixed = {_TRUE: 0, _FALSE: 0, _I8: 1, _DOUBLE: 8}  # a boolean member's value is its type
    if kind not in fixed:
        raise ValueError(f"type {kind} does not occur in Parquet footers")
    return at + fixed[kind]
