"""ELF files (64-bit): functions by address and by name, where they are in the file, the build id."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
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
_STT_OBJECT, _STT_FUNC, _STT_GNU_IFUNC = 1, 2, 10
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

    Attributes:
        build_id: the GNU build id in hex; empty: it has none.
        machine: e_machine: 62 x86-64, 183 arm64.

    Raises:
        ValueError: no 64-bit little-endian ELF file, or a damaged one.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path, root: str | Path = "/") -> None:
        self._root = Path(root)
        # Read, not mapped: what others truncate would be a fatal signal here.
        self._file = Path(path).open("rb")  # noqa: SIM115 -- closed when its functions were read
        try:
            if self._read(0, 6) != b"\x7fELF\x02\x01":
                raise ValueError(f"{path} is no 64-bit ELF file")
            self._sections, self._segments = self._headers()
            self.build_id = self._build_id()
        except (struct.error, OverflowError) as error:
            self._file.close()
            raise ValueError(f"{path} is a damaged ELF file: {error}") from error
        except ValueError:
            self._file.close()
            raise

    def _read(self, offset: int, size: int) -> bytes:
        found = os.pread(self._file.fileno(), size, offset) if size < 1 << 40 else b""
        if len(found) != size:
            raise ValueError(f"the ELF file ends before {offset + size:#x}")
        return found

    def _headers(self) -> tuple[list[Section], list[tuple[int, int, int]]]:
        head = self._read(0, 64)
        (self.machine,) = struct.unpack_from("<H", head, 18)
        phoff, shoff = struct.unpack_from("<QQ", head, 32)
        phsize, phnum, shsize, shnum, self._names = struct.unpack_from("<5H", head, 54)
        data = self._read(phoff, phsize * phnum)
        segments = []
        for n in range(phnum):
            kind, _, offset, address, _, in_file = struct.unpack_from("<IIQQQQ", data, n * phsize)
            if kind == _PT_LOAD:
                segments.append((offset, address, in_file))
        data = self._read(shoff, shsize * shnum)
        sections = []
        for n in range(shnum):
            name, kind, _, address, offset, size, link = struct.unpack_from("<IIQQQQI", data, n * shsize)
            sections.append(Section(name, kind, address, offset, size, link))
        return sections, segments

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        if self._names >= len(self._sections):
            return None
        strings = self._bytes(self._sections[self._names])
        return next((one for one in self._sections if _string(strings, one.name) == name), None)

    def _bytes(self, section: Section) -> bytes:
        return self._read(section.offset, section.size)

    def _build_id(self) -> str:
        for section in self._sections:
            if section.type == _SHT_NOTE:
                for kind, owner, data in _notes(self._bytes(section)):
                    if (kind, owner) == (_NT_GNU_BUILD_ID, "GNU"):
                        return data.hex()
        return ""

    def notes(self, name: str) -> Iterator[tuple[int, str, bytes]]:
        """The notes in a section: type, owner, data. To be asked for before any function.

        Raises:
            ValueError: it is damaged.
        """
        section = self.section(name)
        return _notes(self._bytes(section)) if section else iter(())

    @cached_property
    def _variables(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for table, strings in self._symbol_tables((_STT_OBJECT,)):
            for row in table:
                found.setdefault(_string(strings, int(row["name"])), set()).add(int(row["value"]))
        return found

    def variable(self, name: str) -> int | None:
        """The address of a variable; None: there is none of that name, or several. Before any function, too."""
        places = self._variables.get(name, set())
        return next(iter(places)) if len(places) == 1 else None

    def _symbol_tables(self, kinds: tuple[int, ...]) -> Iterator[tuple[NDArray[np.void], bytes]]:
        """The defined symbols of these types in each symbol table, and the names they refer to."""
        for section in self._sections:
            if section.type in (_SHT_SYMTAB, _SHT_DYNSYM) and section.link < len(self._sections):
                count = section.size // _SYMBOL.itemsize
                table = np.frombuffer(self._bytes(section)[: count * _SYMBOL.itemsize], _SYMBOL)
                wanted = np.isin(table["info"] & 15, kinds) & (table["shndx"] != 0)
                yield table[wanted], self._bytes(self._sections[section.link])

    @cached_property
    def _functions(self) -> tuple[NDArray[np.void], list[bytes], NDArray[np.intp]]:
        """Functions sorted by address; for each, which string table its name is in."""
        parts, strings = [], []
        for functions, names in self._symbol_tables((_STT_FUNC, _STT_GNU_IFUNC)):
            parts.append(functions)
            strings.append(names)
        self._file.close()
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
        size = int(table["size"][best])
        inside = address < int(table["value"][best]) + size if size else self.to_offset(address) is not None
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

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _notes(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """The notes of a section (elf(5), Elf64_Nhdr): type, owner, data."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        begin = at + 12 + (name_size + 3) // 4 * 4
        yield kind, _string(data[at + 12 : at + 12 + name_size], 0), data[begin : begin + size]
        at = begin + (size + 3) // 4 * 4


def _string(table: bytes, at: int) -> str:
    end = table.find(b"\0", at)
    return table[at : end if end >= 0 else len(table)].decode("utf-8", "backslashreplace")
