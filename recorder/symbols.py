"""Names for addresses: kernel functions, functions of running processes, JIT code; C++ and Rust names as written."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import time
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tracectl.recorder.elf import Elf
from tracectl.recorder.namespace import here


@dataclass(frozen=True)
class Frame:
    """One frame of a call stack.

    Attributes:
        name: of the function, demangled; empty: not known.
        offset: from the function's begin; where the function is not known, in the module.
        address: as sampled.
        module: ``kernel``, a kernel module, or the path of the file the code is from; empty: none.
        build_id: of that file, to find its symbols later.
    """

    name: str
    offset: int
    address: int
    module: str = ""
    build_id: str = ""

    @property
    def label(self) -> str:
        """The name, or what stands for it: the file's, in brackets."""
        return self.name or f"[{Path(self.module).name.strip('[]') or 'unknown'}]"

    def as_json(self) -> dict[str, Any]:
        """What is known, without what is empty; the address as the kernel's lists print it."""
        known = {"name": self.name, "offset": self.offset, "module": self.module, "build_id": self.build_id}
        return {**{key: value for key, value in known.items() if value != ""}, "address": f"{self.address:#x}"}


class KernelSymbols:
    """Names of kernel functions by address, from /proc/kallsyms (read at the first use)."""

    @cached_property
    def _table(self) -> tuple[list[int], list[tuple[str, str]]]:
        pairs = []
        for line in Path("/proc/kallsyms").read_text(errors="replace").splitlines():
            address, kind, name, *module = line.split()
            if kind in "tTwW" and int(address, 16):
                pairs.append((int(address, 16), (name, module[0].strip("[]") if module else "kernel")))
        pairs.sort()
        return [address for address, _ in pairs], [name for _, name in pairs]

    def name(self, address: int) -> str | None:
        """The function that holds an address; the number where it is not known; None for 0."""
        if not address:
            return None
        found = self._find(address)
        return found[1] if found else hex(address)

    def frame(self, address: int, *, exact: bool) -> Frame:
        """A frame of a stack; ``exact``: the address is of an instruction, not of the one to return to."""
        found = self._find(address if exact else address - 1)
        if not found:
            return Frame("", 0, address)
        start, name, module = found
        return Frame(name, address - start, address, module)

    def _find(self, address: int) -> tuple[int, str, str] | None:
        addresses, names = self._table
        at = bisect_right(addresses, address) - 1
        return (addresses[at], *names[at]) if at >= 0 else None


@dataclass(frozen=True)
class _Mapping:
    start: int
    end: int
    offset: int
    file: tuple[str, int]  # device, inode
    path: str


class UserSymbols:
    """Names of functions of processes, while they live. Address spaces are told apart by the caller's own key."""

    def __init__(self) -> None:
        self._maps: dict[tuple[int, int], list[_Mapping]] = {}
        self._read: dict[tuple[int, int], float] = {}
        self._files: dict[tuple[str, int], Elf | None] = {}
        self._jit: dict[int, tuple[int, list[tuple[int, int, str]]]] = {}

    def frame(self, pid: int, space: int, address: int, *, exact: bool) -> Frame:
        """A frame of a stack.

        Args:
            pid: the process.
            space: whatever tells its address spaces apart (exec makes a new one).
            exact: the address is of an instruction, not of the one to return to.
        """
        place = address if exact else address - 1
        mapping = self._mapping(pid, space, place)
        if mapping is None:
            return Frame("", 0, address)
        elf = self._file(pid, mapping)
        if elf is None:
            return self._generated(pid, mapping, address, place)
        own = elf.to_address(place - mapping.start + mapping.offset)
        try:
            symbol = elf.symbol_at(own) if own is not None else None
        except (OSError, ValueError):  # it was damaged or truncated meanwhile
            symbol = None
        if symbol is None:
            return Frame("", address - mapping.start + mapping.offset, address, mapping.path, elf.build_id)
        offset = (own or 0) - symbol.address + address - place
        return Frame(demangle(symbol.name), offset, address, mapping.path, elf.build_id)

    def _mapping(self, pid: int, space: int, address: int) -> _Mapping | None:
        key = pid, space
        if key not in self._maps:
            self._load(key)
        found = _holding(self._maps[key], address)
        # Something may have been loaded since; but addresses that were never code are common, too.
        if found is None and time.monotonic() - self._read[key] > _MAPS_SECONDS:
            self._load(key)
            found = _holding(self._maps[key], address)
        return found

    def learn(self, pid: int, space: int, text: str) -> None:
        """Take what ``/proc/PID/maps`` said when the first stack of an address space was seen."""
        if (pid, space) not in self._maps:
            self._load((pid, space), text)

    def _load(self, key: tuple[int, int], text: str = "") -> None:
        maps = _parse_maps(text or read_maps(key[0]))
        self._read[key] = time.monotonic()
        if maps or key not in self._maps:  # of a process that has ended, what was known stays
            self._maps[key] = maps
        while len(self._maps) > _MOST_SPACES:
            oldest = next(iter(self._maps))
            del self._maps[oldest], self._read[oldest]

    def _file(self, pid: int, mapping: _Mapping) -> Elf | None:
        if not mapping.path.startswith("/") or mapping.file[1] == 0:
            return None
        if mapping.file not in self._files:
            # Through the mapping itself: right in containers and for files that were deleted or replaced.
            process = here(pid)
            through = Path(f"/proc/{process}/map_files/{mapping.start:x}-{mapping.end:x}")
            inside = Path(f"/proc/{process}/root{mapping.path}")
            self._files[mapping.file] = _elf(through, process) or _elf(inside, process) or _same_file(mapping)
        return self._files[mapping.file]

    def _generated(self, pid: int, mapping: _Mapping, address: int, place: int) -> Frame:
        """Code of a just-in-time compiler, which may tell its names in a file perf has the convention of."""
        table = self._jit_table(pid)
        at = bisect_right(table, place, key=lambda one: one[0]) - 1
        if at >= 0 and place < table[at][0] + table[at][1]:
            return Frame(table[at][2], address - table[at][0], address, "jit")
        return Frame("", address - mapping.start, address, mapping.path)

    def _jit_table(self, pid: int) -> list[tuple[int, int, str]]:
        try:
            process = here(pid)
            path = Path(f"/proc/{process}/root", "tmp", f"perf-{_innermost_pid(process)}.map")
            size = path.stat().st_size
            if self._jit.get(pid, (-1, []))[0] != size:
                found = [_JIT_LINE.fullmatch(line) for line in path.read_text(errors="backslashreplace").splitlines()]
                lines = [(int(one[1], 16), int(one[2], 16), one[3]) for one in found if one]
                self._jit[pid] = size, sorted(lines)
        except OSError:
            return self._jit.get(pid, (-1, []))[1]
        return self._jit[pid][1]


def _holding(maps: list[_Mapping], address: int) -> _Mapping | None:
    at = bisect_right(maps, address, key=lambda one: one.start) - 1
    return maps[at] if at >= 0 and address < maps[at].end else None


_MAPS_SECONDS = 0.2
_MOST_SPACES = 4096
_JIT_LINE = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16}) ([0-9a-fA-F]{1,16}) (.{1,1000})")
_MAP_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) (\S+) (\d+) *(.*)")


def read_maps(pid: int) -> str:
    """``/proc/PID/maps`` of a process by the machine's id; empty when it has ended, or is not seen from here."""
    try:
        return Path(f"/proc/{here(pid)}/maps").read_text(errors="backslashreplace")
    except OSError:
        return ""


def _parse_maps(text: str) -> list[_Mapping]:
    """Mappings, sorted by address as the kernel lists them."""
    found = [_MAP_LINE.match(line) for line in text.splitlines()]
    return [
        _Mapping(int(m[1], 16), int(m[2], 16), int(m[3], 16), (m[4], int(m[5])), m[6].removesuffix(" (deleted)"))
        for m in found
        if m
    ]


def _same_file(mapping: _Mapping) -> Elf | None:
    """The file of a process that has ended, if it is still there under its path."""
    try:
        found = Path(mapping.path).stat()
    except OSError:
        return None
    major, minor = (int(part, 16) for part in mapping.file[0].split(":"))
    same = (os.makedev(major, minor), mapping.file[1]) == (found.st_dev, found.st_ino)
    return _elf(Path(mapping.path), os.getpid()) if same else None


def _innermost_pid(pid: int) -> str:
    """The id, in its own PID namespace, of a process that /proc has under ``pid``."""
    status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    return next((line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")), str(pid))


def _elf(path: Path, pid: int) -> Elf | None:
    try:
        return Elf(path, f"/proc/{pid}/root")
    except (OSError, ValueError):
        return None


@cache
def _demangler() -> Any:
    """``__cxa_demangle`` of the C++ library; None where there is none."""
    name = ctypes.util.find_library("stdc++") or ctypes.util.find_library("c++abi")
    if name is None:
        return None
    try:
        function = ctypes.CDLL(name).__cxa_demangle
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    return function


_libc = ctypes.CDLL(None)
_libc.free.argtypes = [ctypes.c_void_p]
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")


@cache
def demangle(name: str) -> str:
    """A C++ or (legacy) Rust name as it is written in the source; any other as it is."""
    function = _demangler() if name.startswith(("_Z", "__Z")) else None
    if function is None:
        return name
    status = ctypes.c_int()
    result = function(name.encode(), None, None, ctypes.byref(status))
    if not result:
        return name
    text = ctypes.string_at(result).decode("utf-8", "backslashreplace")
    _libc.free(result)
    return _RUST_HASH.sub("", text)
