"""USDT probes (<sys/sdt.h>): where a program has them, by its ELF notes, and their arguments as C.

A note (https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation) holds the address of a nop, that of the
semaphore by which the program sees whether anybody listens (0: it has none), and, as assembler text, where the
arguments are just then: ``-4@%edi 8@-16(%rbp)``. BCC's own reader of them raises a semaphore, and tells the sites of a
probe apart, only in a process named by its id; the kernel does both for all processes, given places in the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracectl.recorder.elf import Elf

_NT_STAPSDT = 3
_X86_64, _AARCH64 = 62, 183  # e_machine
_NAME = re.compile(r"[\w.$-]+")
_FIRST_OF_NEXT = re.compile(r"\s+(?=-?\d+f?@)")  # an operand of arm64 may have a space in it: [sp, 16]


@dataclass(frozen=True)
class Site:
    """One place of a probe; inlined code has several.

    Attributes:
        probe: ``provider:name``.
        offset: of the nop in the file.
        semaphore: its place in the file; 0: the probe has none.
        arguments: as in the note.
        code: C for each, of type s64, NOT_READ where it cannot be read then; empty: BPF cannot read such a one.
    """

    probe: str
    offset: int
    semaphore: int
    arguments: tuple[str, ...]
    code: tuple[str, ...]


def sites(elf: Elf) -> list[Site]:
    """All sites of a file, as its notes have them, each once.

    Raises:
        ValueError: a damaged note, or a place that is not in the file.
    """
    base = elf.section(".stapsdt.base")
    found: dict[tuple[str, int], Site] = {}
    for kind, owner, data in elf.notes(".note.stapsdt"):
        if (kind, owner) == (_NT_STAPSDT, "stapsdt"):
            site = _site(elf, data, base.address if base else None)
            found[site.probe, site.offset] = site
    return list(found.values())


def _site(elf: Elf, data: bytes, base: int | None) -> Site:
    texts = data[24:].split(b"\0")
    if len(data) < 24 or len(texts) < 3:
        raise ValueError("a USDT note is damaged")
    address, linked_base, semaphore = struct.unpack_from("<QQQ", data)
    moved = base - linked_base if base is not None and linked_base else 0  # what prelink did not tell the note
    provider, name, arguments = (text.decode("utf-8", "backslashreplace") for text in texts[:3])
    if not (_NAME.fullmatch(provider) and _NAME.fullmatch(name)):
        raise ValueError(f"a USDT probe has no plain name: {provider}:{name}")
    offset = elf.to_offset(address + moved)
    counted = elf.to_offset(semaphore + moved) if semaphore else 0
    if offset is None or counted is None:
        raise ValueError(f"the USDT probe {provider}:{name} is not in the file's code")
    operands = tuple(_FIRST_OF_NEXT.split(arguments.strip())) if arguments.strip() else ()

    def distance(symbol: str) -> int | None:
        place = elf.variable(symbol)
        return None if place is None else place - address - moved

    code = tuple(argument_c(elf.machine, operand, distance) for operand in operands)
    return Site(f"{provider}:{name}", offset, counted, operands, code)


def each_site(codes: Sequence[str]) -> str:
    """A column's C where it differs by the site: :func:`at_site` takes the one of a site."""
    return _EACH + _BETWEEN.join(codes)


def at_site(code: str, index: int) -> str:
    """The C of one site; that of a column of any other probe is returned as it is."""
    return code.removeprefix(_EACH).split(_BETWEEN)[index] if code.startswith(_EACH) else code


_EACH, _BETWEEN = "EACH_SITE ", " NEXT_SITE "


# -- arguments --

_TYPES = {"1": "u8", "-1": "s8", "2": "u16", "-2": "s16", "4": "u32", "-4": "s32", "8": "u64", "-8": "s64"}
_NUMBER = r"[+-]?(?:0x[0-9a-f]{1,15}|0|[1-9]\d{0,17})"
_X86_CONSTANT = re.compile(r"\$([+-]?(?:0x[0-9a-f]{1,16}|0|[1-9]\d{0,19}))")
_X86_MEMORY = re.compile(rf"({_NUMBER})?\(%(\w+)(?:,%(\w+)(?:,([1248]))?)?\)")
_X86_VARIABLE = re.compile(rf"(?:({_NUMBER})\+)?([A-Za-z_][\w.]*)([+-][1-9]\d{{0,17}})?(?:\(%rip\))?")
_ARM_MEMORY = re.compile(rf"\[(\w+)(?:, ?(?:#?({_NUMBER})|(x\d+)(?:, ?lsl #?(\d))?))?\]")
_ARM_CONSTANT = re.compile(r"#?([+-]?(?:0x[0-9a-f]{1,16}|0|[1-9]\d{0,19}))")
Distance = Callable[[str], int | None]


def argument_c(machine: int, operand: str, distance: Distance) -> str:
    """C for an argument, made of numbers and registers alone; empty: BPF cannot read such a one.

    Args:
        machine: e_machine of the ELF file.
        operand: such as ``-4@%edi``: a size in bytes, negative for signed numbers, and where it is.
        distance: how far a variable is from the site; None: there is none of that name, or several.
    """
    size, _, place = operand.partition("@")
    kind = _TYPES.get(size)
    if kind is None:  # a float, say: BPF does not see those registers
        return ""
    width = abs(int(size))
    if machine == _X86_64:
        return _x86(kind, width, place, distance)
    return _arm(kind, width, place) if machine == _AARCH64 else ""


def _x86(kind: str, width: int, place: str, distance: Distance) -> str:
    if found := _X86_CONSTANT.fullmatch(place):
        return _constant(kind, found[1])
    if place.startswith("%"):
        member, bits, shift = _X86_REGISTERS.get(place[1:], ("", 0, 0))
        shifted = f"ctx->{member} >> {shift}" if shift else f"ctx->{member}"
        return f"(s64)({kind})({shifted})" if 8 * width <= bits else ""
    if found := _X86_MEMORY.fullmatch(place):
        parts = [_x86_address(found[2])]
        if found[3]:
            parts.append(f"{_x86_address(found[3])} * {found[4] or 1}")
        return _load(kind, parts, found[1]) if all(part.startswith("(u64)") for part in parts) else ""
    if found := _X86_VARIABLE.fullmatch(place):
        away = distance(found[2])
        return "" if away is None else _load(kind, [f"(u64)ctx->ip + ({away}LL)"], found[1], found[3])
    return ""


def _x86_address(register: str) -> str:
    member, bits, _ = _X86_REGISTERS.get(register, ("", 0, 0))
    return f"(u64)ctx->{member}" if bits == 64 else ""


def _x86_registers() -> dict[str, tuple[str, int, int]]:
    """Register -> member of pt_regs, bits, and how far up they are in it."""
    found: dict[str, tuple[str, int, int]] = {}
    for letter in "abcd":
        member = f"{letter}x"
        found |= {f"r{member}": (member, 64, 0), f"e{member}": (member, 32, 0), member: (member, 16, 0)}
        found |= {f"{letter}l": (member, 8, 0), f"{letter}h": (member, 8, 8)}
    for member in ("si", "di", "bp", "sp"):
        found |= {f"r{member}": (member, 64, 0), f"e{member}": (member, 32, 0)}
        found |= {member: (member, 16, 0), f"{member}l": (member, 8, 0)}
    for number in range(8, 16):
        member = f"r{number}"
        found |= {f"{member}{end}": (member, bits, 0) for end, bits in (("", 64), ("d", 32), ("w", 16), ("b", 8))}
    return found


_X86_REGISTERS = _x86_registers()


def _arm(kind: str, width: int, place: str) -> str:
    if found := _ARM_CONSTANT.fullmatch(place):
        return _constant(kind, found[1])
    if register := _arm_register(place):
        return f"(s64)({kind})({register})" if width <= (4 if place.startswith("w") else 8) else ""
    found = _ARM_MEMORY.fullmatch(place)
    if not found or found[1].startswith("w"):
        return ""
    parts = [f"(u64){_arm_register(found[1])}"]
    if found[3]:
        parts.append(f"((u64){_arm_register(found[3])} << {found[4] or 0})")
    return _load(kind, parts, found[2]) if all("ctx->" in part for part in parts) else ""


def _arm_register(name: str) -> str:
    """A register as a member of pt_regs; empty: none."""
    found = re.fullmatch(r"[xw](\d\d?)", name)
    if found and int(found[1]) <= 30:
        return f"ctx->regs[{int(found[1])}]"
    return {"sp": "ctx->sp", "xzr": "0", "wzr": "0"}.get(name, "")


def _constant(kind: str, text: str) -> str:
    return f"(s64)({kind}){int(text, 0) % 2**64:#x}ULL"


def _load(kind: str, parts: list[str], *added: str | None) -> str:
    numbers = [f"({int(number, 0)}LL)" for number in added if number]
    return f"LOAD(user, {kind}, {' + '.join(parts + numbers)})"
