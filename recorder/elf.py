"""ELF files (64-bit): functions by address and by name, where they are in the file, the build id."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_SHT_SYMTAB, _SHT_NOTE, _SHT_DYNSYM = 2, 7, 11
_PT_LOAD = 1
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_NT_GNU_BUILD_ID = 3
_DEBUG_FOLDERS = ("usr/lib/debug/.build-id",)


class Section(NamedTuple):
    """A section header (elf(5), Elf64_Shdr), as far as it is used."""

    name: int
    type: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Symbol:
    """A function: its name as in the file (mangled), its address and size; ``indirect``: chosen when it is loaded."""

    name: str
    address: int
    size: int
    indirect: bool = False


class Elf:
    """One ELF file.

    Args:
        path: where to read it.
        root: a folder whose ``usr/lib/debug`` may hold the symbols of stripped files, by build id.

    Raises:
        ValueError: no 64-bit little-endian ELF file, or a damaged one.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path, root: str | Path = "/") -> None:
        self._root = Path(root)
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size < 64:
                raise ValueError(f"{path} is no ELF file")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is no 64-bit ELF file")
        try:
            self._sections, self._segments = self._headers()
        except struct.error as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def _headers(self) -> tuple[list[Section], list[tuple[int, int, int]]]:
        phoff, shoff = struct.unpack_from("<QQ", self._data, 32)
        phsize, phnum, shsize, shnum = struct.unpack_from("<4H", self._data, 54)
        segments = []
        for at in range(phoff, phoff + phnum * phsize, phsize or 1):
            kind, _, offset, address, _, in_file = struct.unpack_from("<IIQQQQ", self._data, at)
            if kind == _PT_LOAD:
                segments.append((offset, address, in_file))
        sections = []
        for at in range(shoff, shoff + shnum * shsize, shsize or 1):
            name, kind, _, address, offset, size, link = struct.unpack_from("<IIQQQQI", self._data, at)
            sections.append(Section(name, kind, address, offset, size, link))
        self._names = struct.unpack_from("<H", self._data, 62)[0]
        return sections, segments

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        if self._names >= len(self._sections):
            return None
        strings = self._bytes(self._sections[self._names])
        return next((one for one in self._sections if _string(strings, one.name) == name), None)

    def _bytes(self, section: Section) -> bytes:
        return self._data[section.offset : section.offset + section.size]

    @cached_property
    def build_id(self) -> str:
        """The GNU build id in hex; empty: it has none."""
        for section in self._sections:
            if section.type != _SHT_NOTE:
                continue
            notes = self._bytes(section)
            at = 0
            while at + 12 <= len(notes):
                name_size, size, kind = struct.unpack_from("<III", notes, at)
                begin = at + 12 + (name_size + 3) // 4 * 4
                if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
                    return notes[begin : begin + size].hex()
                at = begin + (size + 3) // 4 * 4
        return ""

    @cached_property
    def _functions(self) -> tuple[NDArray[np.void], list[bytes], NDArray[np.intp]]:
        """Functions sorted by address; for each, which string table its name is in."""
        parts, strings = [], []
        for section in self._sections:
            if section.type in (_SHT_SYMTAB, _SHT_DYNSYM) and section.link < len(self._sections):
                count = section.size // _SYMBOL.itemsize
                table = np.frombuffer(self._data, _SYMBOL, count, section.offset)
                kinds = table["info"] & 15
                parts.append(table[((kinds == _STT_FUNC) | (kinds == _STT_GNU_IFUNC)) & (table["shndx"] != 0)])
                strings.append(self._bytes(self._sections[section.link]))
        if not parts:
            return np.empty(0, _SYMBOL), [], np.empty(0, np.intp)
        table = np.concatenate(parts)
        where = np.concatenate([np.full(len(part), n) for n, part in enumerate(parts)])
        order = np.lexsort((where, table["value"]))
        return table[order], strings, where[order]

    @cached_property
    def _debug(self) -> Elf | None:
        """The file with the symbols that were stripped from this one, if it is installed."""
        if len(self.build_id) < 4 or any(section.type == _SHT_SYMTAB for section in self._sections):
            return None
        for folder in _DEBUG_FOLDERS:
            path = self._root / folder / self.build_id[:2] / f"{self.build_id[2:]}.debug"
            try:
                return Elf(path, self._root)
            except (OSError, ValueError):
                continue  # not installed, or not whole
        return None

    def symbol_at(self, address: int) -> Symbol | None:
        """The function that holds an address of the file's own; one without a size ends where the next begins."""
        if self._debug is not None and (found := self._debug.symbol_at(address)):
            return found
        table, _, _ = self._functions
        at = int(np.searchsorted(table["value"], np.uint64(address), "right")) - 1
        if at < 0:
            return None
        first = int(np.searchsorted(table["value"], table["value"][at], "left"))
        best = max(range(first, at + 1), key=lambda n: int(table["size"][n]))
        inside = address < int(table["value"][best]) + int(table["size"][best]) or not table["size"][best]
        return self._symbol(best) if inside else None

    def functions(self) -> list[Symbol]:
        """All functions, by address."""
        own = [self._symbol(n) for n in range(len(self._functions[0]))]
        return own + (self._debug.functions() if self._debug is not None else [])

    def _symbol(self, at: int) -> Symbol:
        table, strings, where = self._functions
        row = table[at]
        name = _string(strings[int(where[at])], int(row["name"]))
        return Symbol(name, int(row["value"]), int(row["size"]), int(row["info"]) & 15 == _STT_GNU_IFUNC)

    def to_address(self, offset: int) -> int | None:
        """The file's own address of a place in it; None: it is not loaded."""
        for start, address, size in self._segments:
            if start <= offset < start + size:
                return offset - start + address
        return None

    def to_offset(self, address: int) -> int | None:
        """The place in the file of one of its own addresses."""
        for start, begin, size in self._segments:
            if begin <= address < begin + size:
                return address - begin + start
        return None

    def notes(self, name: str) -> bytes:
        """The bytes of a section; empty: there is none."""
        section = self.section(name)
        return self._bytes(section) if section else b""


def _string(table: bytes, at: int) -> str:
    end = table.find(b"\0", at)
    return table[at : end if end >= 0 else len(table)].decode("utf-8", "backslashreplace")
