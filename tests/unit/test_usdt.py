"""USDT notes: operands of both machines as C, what BPF cannot read, moved and damaged notes."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from tracectl.recorder.usdt import argument_c, at_site, each_site, sites

X86, ARM = 62, 183
OPERANDS = (
    (X86, "-4@%edi", "(s64)(s32)(ctx->di)"), (X86, "8@%r15", "(s64)(u64)(ctx->r15)"),
    (X86, "1@%ah", "(s64)(u8)(ctx->ax >> 8)"), (X86, "-1@%sil", "(s64)(s8)(ctx->si)"),
    (X86, "2@%r9w", "(s64)(u16)(ctx->r9)"), (X86, "4@%r8", "(s64)(u32)(ctx->r8)"),
    (X86, "4@$5", "(s64)(u32)0x5ULL"), (X86, "-4@$-5", "(s64)(s32)0xfffffffffffffffbULL"),
    (X86, "-8@$-9223372036854775808", "(s64)(s64)0x8000000000000000ULL"),
    (X86, "8@-16(%rbp)", "LOAD(user, u64, (u64)ctx->bp + (-16LL))"),
    (X86, "-4@(%rax)", "LOAD(user, s32, (u64)ctx->ax)"),
    (X86, "1@0x10(%rbx,%rcx,8)", "LOAD(user, u8, (u64)ctx->bx + (u64)ctx->cx * 8 + (16LL))"),
    (X86, "1@(%rbx,%rcx)", "LOAD(user, u8, (u64)ctx->bx + (u64)ctx->cx * 1)"),
    (X86, "4@known(%rip)", "LOAD(user, u32, (u64)ctx->ip + (-64LL))"),
    (X86, "4@known+4(%rip)", "LOAD(user, u32, (u64)ctx->ip + (-64LL) + (4LL))"),
    (X86, "4@8+known(%rip)", "LOAD(user, u32, (u64)ctx->ip + (-64LL) + (8LL))"),
    (X86, "4@known", "LOAD(user, u32, (u64)ctx->ip + (-64LL))"),
    (ARM, "-4@w3", "(s64)(s32)(ctx->regs[3])"), (ARM, "8@x30", "(s64)(u64)(ctx->regs[30])"),
    (ARM, "8@sp", "(s64)(u64)(ctx->sp)"), (ARM, "4@wzr", "(s64)(u32)(0)"), (ARM, "4@5", "(s64)(u32)0x5ULL"),
    (ARM, "-4@-5", "(s64)(s32)0xfffffffffffffffbULL"), (ARM, "8@[x0]", "LOAD(user, u64, (u64)ctx->regs[0])"),
    (ARM, "8@[sp, 16]", "LOAD(user, u64, (u64)ctx->sp + (16LL))"),
    (ARM, "4@[x29,#-8]", "LOAD(user, u32, (u64)ctx->regs[29] + (-8LL))"),
    (ARM, "4@[x1, x2, lsl 2]", "LOAD(user, u32, (u64)ctx->regs[1] + ((u64)ctx->regs[2] << 2))"),
)  # fmt: skip
UNREADABLE = (
    (X86, "8f@%xmm0"), (X86, "8@%xmm0"), (X86, "8@%edi"), (X86, "2@%ah"), (X86, "4@%fs:16"), (X86, "4@(%eax)"),
    (X86, "4@unknown(%rip)"), (X86, "8@16(%rip)"), (X86, "4@010(%rax)"), (X86, "16@%rdi"), (X86, "%rdi"), (X86, ""),
    (X86, "4@(%rax,%ebx,4)"), (X86, "8@0); system("), (ARM, "8@w0"), (ARM, "8@x31"), (ARM, "8@[w0]"), (ARM, "8@d0"),
    (ARM, "8@[x0, w1, sxtw 3]"), (ARM, "8@[xzr]"), (3, "4@%edi"),
)  # fmt: skip


def distance(name: str) -> int | None:
    return {"known": -64}.get(name)


@pytest.mark.parametrize(("machine", "operand", "code"), OPERANDS)
def test_operands(machine: int, operand: str, code: str) -> None:
    assert argument_c(machine, operand, distance) == code


@pytest.mark.parametrize(("machine", "operand"), UNREADABLE)
def test_what_cannot_be_read(machine: int, operand: str) -> None:
    assert argument_c(machine, operand, distance) == ""


def note(*texts: str, address: int = 0x1100, base: int = 0x2000, semaphore: int = 0) -> tuple[int, str, bytes]:
    return 3, "stapsdt", struct.pack("<QQQ", address, base, semaphore) + b"".join(t.encode() + b"\0" for t in texts)


def elf(*notes: tuple[int, str, bytes], base: int = 0x2000, machine: int = X86) -> Any:
    """As much of an ELF file as notes need: its code and data are 0x1000 further up in memory than in the file."""
    return SimpleNamespace(
        notes=lambda name: iter(notes), section=lambda name: SimpleNamespace(address=base), machine=machine,
        to_offset=lambda address: address - 0x1000 if 0x1000 <= address < 0x9000 else None,
        variable=lambda name: 0x3100 if name == "known" else None,
    )  # fmt: skip


def test_sites() -> None:
    one, two = note("p", "n", "-4@%edi 8@$1"), note("p", "n", "-4@%esi 8@$2", address=0x1200, semaphore=0x3000)
    first, second = sites(elf(one, two, one, (3, "other", b""), (1, "stapsdt", b"")))
    assert (first.probe, first.offset, first.semaphore, first.arguments) == ("p:n", 0x100, 0, ("-4@%edi", "8@$1"))
    assert (second.offset, second.semaphore) == (0x200, 0x2000)
    (none,) = sites(elf(note("p", "n", "")))
    assert none.code == ()
    (arm,) = sites(elf(note("p", "n", "8@[sp, 16] -4@w0 4@[x1, x2, lsl 2]"), machine=ARM))
    assert arm.arguments == ("8@[sp, 16]", "-4@w0", "4@[x1, x2, lsl 2]")


def test_what_prelink_moved() -> None:
    moved = sites(elf(note("p", "n", "4@known(%rip)", semaphore=0x3000), base=0x2500))[0]
    assert (moved.offset, moved.semaphore) == (0x600, 0x2500)
    assert moved.code == (f"LOAD(user, u32, (u64)ctx->ip + ({0x3100 - 0x1600}LL))",)


@pytest.mark.parametrize(
    "wrong",
    [
        (3, "stapsdt", b"short"), note("p"), note("p", "n", "", address=0), note("p", "n", "", semaphore=0x10),
        note("p:q", "n", ""), note("p", "../n", ""),
    ],
)  # fmt: skip
def test_damaged_notes(wrong: tuple[int, str, bytes]) -> None:
    with pytest.raises(ValueError):
        sites(elf(wrong))


def test_c_of_each_site() -> None:
    codes = ["(s64)(u8)(ctx->ax >> 8)", "LOAD(user, u32, 1)"]
    assert [at_site(each_site(codes), n) for n in (0, 1)] == codes
    assert at_site("PROBE", 5) == "PROBE"
