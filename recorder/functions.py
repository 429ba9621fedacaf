"""From a probe as typed to a kind: the functions it means, where they are, and the columns that are kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from tracectl.recorder import btf, tracefs
from tracectl.recorder.elf import Elf, Symbol
from tracectl.recorder.probe_spec import NUMBERS, RETURNS, Argument, Kept, Load, Member, Spec, Sum, Value
from tracectl.recorder.symbols import demangle
from tracectl.store.errors import RecordError
from tracectl.store.events import EXTRA, KINDS, Event
from tracectl.store.fields import PROBE_NAME, S16, S32, S64, TEXT, USER_TEXT, Field, FieldType

MOST_FUNCTIONS = 128
_NOT_READ = -(2**63)  # NOT_READ in recorder/program.c
_LIBRARY_FOLDERS = ("lib/*-linux-gnu", "usr/lib/*-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib")

_COLUMN_TYPES: dict[tuple[int, bool], FieldType] = {
    (1, True): S16, (1, False): S16, (2, True): S16, (2, False): S32, (4, True): S32, (4, False): S64,
}  # fmt: skip


def event_of(spec: Spec) -> Event:
    """A kind for a probe; its columns are stored as ``<kind>__<field>``.

    Raises:
        QueryError: no such function, too many, or a member that there is not; points at the place.
    """
    in_kernel = spec.kind in ("kprobe", "kretprobe")
    probes = tuple(_kernel_probes(spec) if in_kernel else _user_probes(spec))
    kind = kind_name(spec)
    kept = [_column(spec, one, in_kernel=in_kernel) for one in spec.kept]
    if is_pattern(spec.symbol):
        if any(one.name == "symbol" for one in spec.kept):
            raise spec.error(
                'a field cannot be called "symbol" here', "it holds which function it was", 0, len(spec.text)
            )
        kept.insert(0, Field("symbol", PROBE_NAME, "the function", "PROBE"))
    columns = tuple(replace(column, name=f"{kind}__{column.name}") for column in kept)
    what = "returns from" if spec.kind in RETURNS else "a call of"
    return Event(kind, EXTRA, f"{what} {spec.symbol}, by {spec.kind}", probes, columns)


def kind_name(spec: Spec) -> str:
    """What the kind is called: the function's name, or the fixed parts of its pattern."""
    words = re.sub(r"\W+", "_", spec.symbol, flags=re.ASCII).strip("_").lower() or "function"
    words = f"f_{words}" if words[0].isdigit() else words
    name = words[:48] + ("_return" if spec.kind in RETURNS else "")
    return f"{name}_probe" if name in KINDS else name


def is_pattern(symbol: str) -> bool:
    """Whether a name stands for several."""
    return any(c in symbol for c in "*?")


# -- columns --


def _column(spec: Spec, kept: Kept, *, in_kernel: bool) -> Field:
    if kept.type == "str":
        return Field(
            kept.name, TEXT if in_kernel else USER_TEXT, "text, at most 127 bytes", _c(spec, kept.value, in_kernel)
        )
    size, signed = NUMBERS[kept.type]
    c_type = f"{'s' if signed else 'u'}{8 * size}"
    doc = f"{kept.type}, as the probe was asked for"
    if isinstance(kept.value, Load | Member):
        space = "kernel" if in_kernel else "user"
        code = f"LOAD({space}, {c_type}, {_address(spec, kept.value, in_kernel)})"
        return Field(kept.name, S64, f"{doc}; null: it could not be read", code, null=_NOT_READ)
    return Field(
        kept.name, _COLUMN_TYPES.get((size, signed), S64), doc, f"({c_type})({_c(spec, kept.value, in_kernel)})"
    )


def _address(spec: Spec, value: Load | Member, in_kernel: bool) -> str:
    if isinstance(value, Load):
        return _c(spec, value.address, in_kernel)
    return f"({_c(spec, value.pointer, in_kernel)} + {_member_offset(spec, value)})"


def _c(spec: Spec, value: Value, in_kernel: bool) -> str:
    """C for a value of 64 bits. Nothing that was typed gets into it but numbers."""
    match value:
        case Argument(number):
            return "(u64)PT_REGS_RC(ctx)" if number < 0 else f"(u64)PT_REGS_PARM{number + 1}(ctx)"
        case Sum(left, constant):
            return f"({_c(spec, left, in_kernel)} + ({constant}LL))"
        case Load() | Member():
            return f"read_{'kernel' if in_kernel else 'user'}({_address(spec, value, in_kernel)})"


def _member_offset(spec: Spec, member: Member) -> int:
    """Where a member is in the struct that an argument points to, by the running kernel's BTF."""
    names = _kernel_functions(spec)
    try:
        arguments = btf.kernel().func_args(names[0])
    except RecordError as error:
        raise spec.error(error.problem, "*(arg0 + offset) needs no type") from error
    if member.pointer.number >= len(arguments):
        raise spec.error(f"{names[0]} has {len(arguments)} arguments", "", member.start, member.end)
    declared = arguments[member.pointer.number][1]
    found = re.fullmatch(r"(?:const )?(?:struct|union) (\w+) \*", declared)
    if not found:
        problem = f"arg{member.pointer.number} of {names[0]} is {declared}, no pointer to a struct"
        raise spec.error(problem, "*(arg0 + offset) reads at an address", member.start, member.end)
    try:
        return btf.kernel().offset(f"{found[1]}.{member.path}")
    except RecordError as error:
        raise spec.error(error.problem, "", member.start, member.end) from error


# -- functions of the kernel --


def _kernel_probes(spec: Spec) -> Iterator[str]:
    for name in _kernel_functions(spec):
        yield f"{spec.kind}:{name}"


def _kernel_functions(spec: Spec) -> list[str]:
    known = _traceable()
    found = (
        sorted(name for name in known if fnmatchcase(name, spec.symbol)) if is_pattern(spec.symbol) else [spec.symbol]
    )
    if not found or (not is_pattern(spec.symbol) and spec.symbol not in known):
        raise spec.error("the kernel has no such function, or it is inlined", _nearest(spec.symbol, known))
    return _not_too_many(spec, found)


@cache
def _traceable() -> frozenset[str]:
    """Functions of the kernel that can be probed, as far as it tells."""
    with suppress(OSError):  # not there, or nobody may read it: then what can be probed is found out by trying
        listed = (tracefs.root() / "available_filter_functions").read_text()
        return frozenset(line.split()[0] for line in listed.splitlines())
    lines = (line.split() for line in Path("/proc/kallsyms").read_text(errors="replace").splitlines())
    return frozenset(name for _, kind, name, *_ in lines if kind in "tT")


# -- functions of programs --


def _user_probes(spec: Spec) -> Iterator[str]:
    path = _file(spec)
    try:
        elf = Elf(path)
        functions = elf.functions()
    except (OSError, ValueError) as error:
        raise spec.error(f"{path} cannot be read: {error}", "a program or library in ELF format") from error
    found = {symbol.address: symbol for symbol in _matching(spec, functions)}  # one address can have several names
    if not found:
        names = {demangle(symbol.name) for symbol in functions[:20_000]}
        raise spec.error(f"{path} has no such function", _nearest(spec.symbol, names) or _stripped(functions))
    _not_too_many(spec, [demangle(symbol.name) for symbol in found.values()])
    for symbol in found.values():
        offset = elf.to_offset(symbol.address)
        if symbol.indirect or offset is None:
            what = "chosen when it is loaded (an indirect function)" if symbol.indirect else "not in the file's code"
            raise spec.error(f"{symbol.name} is {what}", "name the variant that runs: perf report shows it")
        yield f"{spec.kind}:{path}:{symbol.name.partition('@')[0]}@{offset:x}"


def _file(spec: Spec) -> str:
    if spec.file.startswith("/"):
        return spec.file
    places = [Path(found) for found in (shutil.which(spec.file),) if found]
    for folder in _LIBRARY_FOLDERS:
        for pattern in (f"lib{spec.file}.so*", f"{spec.file}.so*", spec.file):
            places += sorted(Path("/").glob(f"{folder}/{pattern}"))
    for place in places:
        if _is_elf(place):  # libc.so may be a linker's script
            return str(place.resolve())
    at = len(spec.kind) + 1
    raise spec.error(f"no program or library {spec.file} was found", "its whole path", at, at + len(spec.file))


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _matching(spec: Spec, functions: Iterable[Symbol]) -> Iterator[Symbol]:
    """Functions whose name, as in the file or as written in the source, is the symbol or fits the pattern."""
    if not is_pattern(spec.symbol):
        for symbol in functions:
            if spec.symbol in (symbol.name, symbol.name.partition("@")[0]) or _plain(symbol.name) == spec.symbol:
                yield symbol
        return
    pieces = re.findall(
        r"\w{2,}", spec.symbol
    )  # these stand in mangled names, too: what has them not need not be demangled
    for symbol in functions:
        if all(piece in symbol.name for piece in pieces):
            written = demangle(symbol.name)
            if fnmatchcase(written, spec.symbol) or fnmatchcase(symbol.name, spec.symbol):
                yield symbol


def _plain(name: str) -> str:
    """``Envoy::assignEvents`` of ``_ZN5Envoy12assignEventsEj``: as written, without its arguments."""
    return demangle(name).partition("(")[0] if name.startswith("_Z") else name


def _stripped(functions: list[Symbol]) -> str:
    return "" if functions else "it is stripped: install its debug symbols, or name a file that has them"


def _not_too_many(spec: Spec, found: list[str]) -> list[str]:
    if len(found) > MOST_FUNCTIONS:
        raise spec.error(
            f"{len(found)} functions match, at most {MOST_FUNCTIONS} are probed", f"such as {', '.join(found[:3])}"
        )
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name.strip("*?"), known, 3, 0.75)
    return f"nearest: {', '.join(near)}" if near else ""
