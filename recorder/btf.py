"""The running kernel's own types, from its BTF: offsets of struct members and the arguments of raw tracepoints.

Format: Documentation/bpf/btf.rst of the kernel. Kernel headers are no substitute: with those of another kernel, members
are read from wrong places and nothing says so.
"""

from __future__ import annotations

import array
import struct
from functools import cache
from pathlib import Path

import numpy as np

from tracectl.store.errors import RecordError

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(11, 20)

# Words of a type after its first three: a fixed number for its kind, and a number for each of its vlen members.
_FIXED = {_INT: 1, _ARRAY: 3, _VAR: 1, _DECL_TAG: 1}
_PER_MEMBER = {_STRUCT: 3, _UNION: 3, _ENUM: 2, _FUNC_PROTO: 2, _DATASEC: 3, _ENUM64: 3}
_FIXED_WORDS = [3 + _FIXED.get(kind, 0) for kind in range(32)]
_MEMBER_WORDS = [_PER_MEMBER.get(kind, 0) for kind in range(32)]

_TRANSPARENT = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}
_PREFIXES = {_STRUCT: "struct ", _UNION: "union ", _ENUM: "enum ", _ENUM64: "enum ", _FWD: "struct "}
_QUALIFIERS = {_CONST: "const ", _VOLATILE: "volatile ", _RESTRICT: "", _TYPE_TAG: ""}


@cache
def kernel() -> Btf:
    """The running kernel's types, read once."""
    return Btf()


class Btf:
    """The types of one BTF file.

    Raises RecordError when the file is missing or is not BTF.
    """

    def __init__(self, path: str | Path = "/sys/kernel/btf/vmlinux") -> None:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise RecordError(
                f"the kernel's type information cannot be read: {path}: {error.strerror}",
                "recording needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of Debian and Ubuntu are)",
            ) from error
        try:
            magic, _, _, header, types_at, types_size, strings_at, strings_size = struct.unpack_from("=HBB5I", data)
            if magic != _MAGIC or header + strings_at + strings_size > len(data):
                raise ValueError("no BTF header")
            self._words = array.array("I", data[header + types_at : header + types_at + types_size])
            self._strings = data[header + strings_at : header + strings_at + strings_size]
            self._index()
        except (struct.error, ValueError, IndexError) as error:
            raise RecordError(f"{path} is not BTF: {error}", "name the vmlinux file of /sys/kernel/btf") from error

    def _index(self) -> None:
        """Note where each type begins; type 0 is void, which has no entry of its own."""
        words, fixed, per_member = self._words, _FIXED_WORDS, _MEMBER_WORDS
        starts = [0]
        at, end = 0, len(words)
        while at < end:
            starts.append(at)
            info = words[at + 1]
            kind = info >> 24 & 31
            at += fixed[kind] + per_member[kind] * (info & 0xFFFF)
        if at != end:
            raise ValueError("its types are cut off")
        self._starts = starts
        flat = np.frombuffer(words, np.uint32) if len(words) else np.zeros(2, np.uint32)
        self._names = flat[starts]
        self._kinds = flat[np.array(starts) + 1] >> np.uint32(24) & np.uint32(31)

    def offset(self, *paths: str) -> int:
        """Bytes from a struct's start to a member, e.g. ``task_struct.thread_info.cpu``.

        Members of anonymous structs and unions are found as C finds them. The first of ``paths`` that exists counts:
        members are renamed and moved between kernels. RecordError names what is missing.
        """
        for path in paths:
            found = self._find(path)
            if found is not None:
                return found
        raise RecordError(
            f"this kernel has no struct member {' nor '.join(paths)}",
            "its version is not supported by this probe; record without the events that need it",
        )

    def func_id(self, name: str) -> int | None:
        """Number of a function's type; None: this kernel has no such function, or it is inlined everywhere."""
        return self._named(name, {_FUNC})

    def func_args(self, name: str) -> list[tuple[str, str]]:
        """(name, C type) of each argument of a function or of a typedef of a pointer to one.

        ``btf_trace_EVENT`` gives the arguments of a raw tracepoint in the order of ``ctx->args``, without the private
        first one. Its typedef has no names: they come from the kernel's function that calls the probes
        (``__traceiter_EVENT``, Linux >= 5.10); an argument whose name is unknown has an empty one.
        """
        event = name.removeprefix("btf_trace_") if name.startswith("btf_trace_") else None
        caller = self._named(f"__traceiter_{event}", {_FUNC}) if event else None
        type_id = caller or self._named(name, {_TYPEDEF, _FUNC})
        if type_id is None:
            what = f"raw tracepoint {event}" if event else f"function {name}"
            raise RecordError(f"this kernel has no {what}", "see /sys/kernel/tracing/available_events for what it has")
        type_id = self._followed(type_id, _TRANSPARENT | {_PTR, _FUNC})
        at, kind, members = self._head(type_id)
        if kind != _FUNC_PROTO:
            raise RecordError(f"{name} is no function in this kernel's BTF", "name a function or a typedef of one")
        pairs = (self._words[at + 3 + 2 * i : at + 5 + 2 * i] for i in range(1 if event else 0, members))
        return [(self._string(arg), self._type_text(arg_type)) for arg, arg_type in pairs]

    # -- types --

    def _head(self, type_id: int) -> tuple[int, int, int]:
        """Where a type's words begin, its kind, and how many members it has."""
        at = self._starts[type_id]
        info = self._words[at + 1]
        return at, info >> 24 & 31, info & 0xFFFF

    def _string(self, at: int) -> str:
        return self._strings[at : self._strings.index(0, at)].decode("utf-8", "replace")

    def _named(self, name: str, kinds: set[int]) -> int | None:
        # Strings are stored once each; looking for the bytes saves decoding all of them.
        at = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if at == 0:
            return None
        found = np.flatnonzero((self._names == at) & np.isin(self._kinds, list(kinds)))
        found = found[found > 0]
        return int(found[0]) if len(found) else None

    def _followed(self, type_id: int, through: set[int]) -> int:
        """The type behind typedefs, qualifiers or what else ``through`` has."""
        while type_id:
            at, kind, _ = self._head(type_id)
            if kind not in through:
                break
            type_id = self._words[at + 2]
        return type_id

    def _find(self, path: str) -> int | None:
        """Byte offset of ``struct.member.member``; None when there is none, or it begins within a byte."""
        name, *members = path.split(".")
        type_id = self._named(name, {_STRUCT, _UNION})
        bits = 0
        for member in members:
            found = self._member(type_id, member) if type_id else None
            if found is None:
                return None
            type_id, offset = found
            bits += offset
        return bits // 8 if type_id and bits % 8 == 0 else None

    def _member(self, type_id: int, member: str) -> tuple[int, int] | None:
        """(type, offset in bits) of a member, looked for in anonymous members too."""
        at, kind, count = self._head(self._followed(type_id, _TRANSPARENT))
        if kind not in (_STRUCT, _UNION):
            return None
        bit_fields = self._words[at + 1] >> 31  # then the offset's upper byte is the member's size in bits
        for i in range(at + 3, at + 3 + 3 * count, 3):
            name, inner, offset = self._words[i : i + 3]
            if bit_fields:
                offset &= 0xFFFFFF
            if not name:
                found = self._member(inner, member)
                if found is not None:
                    return found[0], offset + found[1]
            elif self._string(name) == member:
                return inner, offset
        return None

    def _type_text(self, type_id: int) -> str:
        """A type as C writes it, good enough to tell an integer from a pointer and to what."""
        if type_id == 0:
            return "void"
        at, kind, _ = self._head(type_id)
        name, target = self._string(self._words[at]), self._words[at + 2]
        if kind == _PTR:
            inner = self._type_text(target)
            return inner + ("*" if inner.endswith("*") else " *")
        if kind in _QUALIFIERS:
            return _QUALIFIERS[kind] + self._type_text(target)
        if kind == _FUNC_PROTO:
            return "function"
        if kind == _ARRAY:
            return f"{self._type_text(target)}[]"
        return _PREFIXES.get(kind, "") + name
