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

from tracectl.recorder import btf, tracefs, usdt
from tracectl.recorder.elf import Elf, Symbol
from tracectl.recorder.probe_spec import NUMBERS, RETURNS, Argument, Kept, Load, Member, Spec, Sum, Value
from tracectl.recorder.symbols import demangle
from tracectl.recorder.usdt import Site
from tracectl.store.errors import RecordError
from tracectl.store.events import EXTRA, KINDS, Event
from tracectl.store.fields import PROBE_NAME, S16, S32, S64, TEXT, USER_TEXT, Field, FieldType

MOST_FUNCTIONS = 128
_FEW_PROBES = 8
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
    if spec.kind == "usdt":
        probes, kept = _usdt_probes(spec)
    else:
        in_kernel = spec.kind in ("kprobe", "kretprobe")
        probes = tuple(_kernel_probes(spec) if in_kernel else _user_probes(spec))
        where = _Registers("kernel" if in_kernel else "user")
        kept = [_column(spec, one, where) for one in spec.kept]
    kind = kind_name(spec)
    if is_pattern(spec.symbol):
        which, doc = ("probe", "the probe") if spec.kind == "usdt" else ("symbol", "the function")
        if any(one.name == which for one in spec.kept):
            raise spec.error(f'a field cannot be called "{which}" here', f"it holds {doc}", 0, len(spec.text))
        kept.insert(0, Field(which, PROBE_NAME, doc, "PROBE"))
    columns = tuple(replace(column, name=f"{kind}__{column.name}") for column in kept)
    what = "returns from" if spec.kind in RETURNS else "the USDT probe" if spec.kind == "usdt" else "a call of"
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


class _Registers:
    """Arguments in the registers that a call has them in.

    Args:
        space: ``kernel`` or ``user``, where their pointers point to.
    """

    def __init__(self, space: str) -> None:
        self.space = space

    def argument(self, number: int) -> str:
        """C of type u64; -1: the return value."""
        return "(u64)PT_REGS_RC(ctx)" if number < 0 else f"(u64)PT_REGS_PARM{number + 1}(ctx)"


class _Noted(_Registers):
    """Arguments of a USDT probe, where its note says that they are; any may turn out not to be readable."""

    def __init__(self, spec: Spec, site: Site) -> None:
        super().__init__("user")
        self._spec, self._site = spec, site

    def argument(self, number: int) -> str:
        """C of type s64, NOT_READ where it cannot be read."""
        site = self._site
        if number >= len(site.code):
            remedy = f"arg0 and so on: {' '.join(site.arguments)}" if site.arguments else "it has no arguments"
            raise self._spec.error(f"{site.probe} has no arg{number}", remedy)
        if not site.code[number]:
            problem = f"arg{number} of {site.probe} is where BPF cannot read: {site.arguments[number]}"
            raise self._spec.error(problem, "keep the others")
        return site.code[number]


def _column(spec: Spec, kept: Kept, where: _Registers) -> Field:
    if kept.type == "str":
        text = TEXT if where.space == "kernel" else USER_TEXT
        return Field(kept.name, text, "text, at most 127 bytes", _c(spec, kept.value, where))
    size, signed = NUMBERS[kept.type]
    c_type = f"{'s' if signed else 'u'}{8 * size}"
    doc = f"{kept.type}, as the probe was asked for"
    if isinstance(kept.value, Load | Member):
        code = f"LOAD({where.space}, {c_type}, {_address(spec, kept.value, where)})"
    elif isinstance(where, _Noted):
        code = f"CONVERTED({c_type}, {_c(spec, kept.value, where)})"
    else:
        kind = _COLUMN_TYPES.get((size, signed), S64)
        return Field(kept.name, kind, doc, f"({c_type})({_c(spec, kept.value, where)})")
    return Field(kept.name, S64, f"{doc}; null: it could not be read", code, null=_NOT_READ)


def _address(spec: Spec, value: Load | Member, where: _Registers) -> str:
    if isinstance(value, Load):
        return _c(spec, value.address, where)
    return f"({_c(spec, value.pointer, where)} + {_member_offset(spec, value)})"


def _c(spec: Spec, value: Value, where: _Registers) -> str:
    """C for a value of 64 bits. Nothing that was typed gets into it but numbers."""
    match value:
        case Argument(number):
            return where.argument(number)
        case Sum(left, constant):
            added = f"{_c(spec, left, where)}, {constant}LL" if isinstance(where, _Noted) else ""
            return f"ADDED({added})" if added else f"({_c(spec, left, where)} + ({constant}LL))"
        case Load() | Member():
            return f"read_{where.space}({_address(spec, value, where)})"


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


def _usdt_probes(spec: Spec) -> tuple[tuple[str, ...], list[Field]]:
    """The sites of a USDT probe, and the columns; what is kept is elsewhere at each site."""
    path = _file(spec)
    try:
        with Elf(path) as elf:
            known = usdt.sites(elf)
    except (OSError, ValueError) as error:
        raise spec.error(f"{path} cannot be read: {error}", "a program or library in ELF format") from error
    found = [site for site in known if _is_meant(spec.symbol, site.probe)]
    if not found:
        names = sorted({site.probe for site in known})
        remedy = _nearest_probe(spec.symbol, names) if names else "it was built without any: readelf -n shows them"
        raise spec.error(f"{path} has no such USDT probe", remedy)
    _not_too_many(spec, [site.probe for site in found], "places")
    at_each = [[_column(spec, kept, _Noted(spec, site)) for kept in spec.kept] for site in found]
    columns = [replace(same[0], c=usdt.each_site([one.c for one in same])) for same in zip(*at_each, strict=True)]
    return tuple(f"usdt:{path}:{site.probe}@{site.offset:x},{site.semaphore:x}" for site in found), columns


def _is_meant(symbol: str, probe: str) -> bool:
    """Whether a probe has this name or fits this pattern, with its provider or, if none is given, without."""
    return fnmatchcase(probe if ":" in symbol else probe.partition(":")[2], symbol)


def _nearest_probe(symbol: str, names: list[str]) -> str:
    shown = {name if ":" in symbol else name.partition(":")[2]: name for name in names}
    near = [shown[name] for name in get_close_matches(symbol.strip("*?"), shown, 5, 0.6)]
    if near:
        return f"nearest: {', '.join(near)}"
    rest = len(names) - _FEW_PROBES
    return f"it has {', '.join(names[:_FEW_PROBES])}" + (f" and {rest} more" if rest > 0 else "")


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


def _not_too_many(spec: Spec, found: list[str], what: str = "functions") -> list[str]:
    if len(found) > MOST_FUNCTIONS:
        problem = f"{len(found)} {what} match, at most {MOST_FUNCTIONS} are probed"
        raise spec.error(problem, f"such as {', '.join(found[:3])}")
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name.strip("*?"), known, 3, 0.75)
    return f"nearest: {', '.join(near)}" if near else ""
