"""Names for addresses: held against the tools that print the same, and against processes whose functions are known."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracectl.recorder.elf import Elf
from tracectl.recorder.symbols import Frame, KernelSymbols, UserSymbols, demangle

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
needs_binutils = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm and readelf")
SOURCE = """
#include <stdio.h>
__attribute__((noinline)) int inner(int x) { return x * 3; }
__attribute__((noinline)) int outer(int x) { return inner(x) + 1; }
int main(void) { printf("%p %p\\n", (void *)inner, (void *)outer); fflush(stdout); getchar(); return outer(2); }
"""


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "x.c").write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-Wl,--build-id", "-o", folder / "x", folder / "x.c"], check=True)
    return folder / "x"


@pytest.fixture
def running(binary: Path) -> Iterator[tuple[int, int, int]]:
    """(pid, address of inner, of outer) of a process of it."""
    with subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        inner, outer = (int(word, 16) for word in process.stdout.readline().split())
        yield process.pid, inner, outer
        process.communicate("x")


@needs_cc
@needs_binutils
def test_functions_are_those_of_nm(binary: Path) -> None:
    elf = Elf(binary)
    listed = subprocess.run(["nm", "--defined-only", binary], check=True, capture_output=True, text=True).stdout
    wanted = {(name, int(at, 16)) for at, kind, name in map(str.split, listed.splitlines()) if kind in "tTwWi"}
    found = {(symbol.name, symbol.address) for symbol in elf.functions()}
    assert {("inner", dict(wanted)["inner"]), ("main", dict(wanted)["main"])} <= found
    assert found <= wanted | {(name.partition("@")[0], at) for name, at in wanted}
    notes = subprocess.run(["readelf", "-n", binary], check=True, capture_output=True, text=True).stdout
    assert f"Build ID: {elf.build_id}\n" in notes and len(elf.build_id) == 40


@needs_cc
def test_an_address_is_in_the_function_that_holds_it(binary: Path) -> None:
    elf = Elf(binary)
    known = {symbol.name: symbol for symbol in elf.functions()}
    for symbol in (known["inner"], known["outer"], known["main"]):
        for inside in (0, symbol.size - 1):
            found = elf.symbol_at(symbol.address + inside)
            assert found is not None and found.name == symbol.name
        offset = elf.to_offset(symbol.address)
        assert offset is not None and elf.to_address(offset) == symbol.address
    assert elf.symbol_at(0) is None
    assert elf.symbol_at(2**63) is None
    assert elf.to_offset(2**40) is None


@needs_cc
def test_frames_of_a_process(running: tuple[int, int, int], binary: Path) -> None:
    pid, inner, outer = running
    symbols = UserSymbols()
    frame = symbols.frame(pid, 1, inner, exact=True)
    assert frame == Frame("inner", 0, inner, str(binary), Elf(binary).build_id)
    # The address to return to may be the first of the next function.
    assert symbols.frame(pid, 1, outer, exact=False).name != "outer"
    assert symbols.frame(pid, 1, outer + 1, exact=False) == Frame("outer", 1, outer + 1, frame.module, frame.build_id)
    assert symbols.frame(pid, 1, 8, exact=True) == Frame("", 0, 8)


@needs_cc
def test_a_process_that_has_ended_has_addresses_but_no_names(binary: Path) -> None:
    done = subprocess.run([binary], input="x", capture_output=True, text=True, check=False)
    inner = int(done.stdout.split()[0], 16)
    with subprocess.Popen(["true"]) as process:
        pass
    assert UserSymbols().frame(process.pid, 1, inner, exact=True) == Frame("", 0, inner)


def test_code_made_at_run_time_has_the_names_its_maker_gives() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        at = ctypes.addressof(ctypes.c_char.from_buffer(code))
        path = Path(f"/tmp/perf-{os.getpid()}.map")
        path.write_text(f"{at:x} 10 first; x\n{at + 16:#x} 20 second\nnonsense\n")
        try:
            symbols = UserSymbols()
            assert symbols.frame(os.getpid(), 1, at + 15, exact=True) == Frame("first; x", 15, at + 15, "jit")
            assert symbols.frame(os.getpid(), 1, at + 16, exact=True).name == "second"
            assert symbols.frame(os.getpid(), 1, at + 48, exact=True).name == ""
        finally:
            path.unlink()


def test_kernel_functions() -> None:
    listed = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    addresses = {name: int(at, 16) for at, kind, name, *_ in listed if kind in "tT"}
    if not addresses.get("schedule"):
        pytest.skip("this user may not see kernel addresses")
    at = addresses["schedule"]
    symbols = KernelSymbols()
    assert symbols.frame(at + 4, exact=True) == Frame("schedule", 4, at + 4, "kernel")
    assert symbols.frame(at, exact=False).name != "schedule"
    assert symbols.frame(1, exact=True) == Frame("", 0, 1)


@pytest.mark.parametrize(
    ("mangled", "written"),
    (
        (
            "_ZN5Envoy7Network13FileEventImpl12assignEventsEj",
            "Envoy::Network::FileEventImpl::assignEvents(unsigned int)",
        ),
        ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
        ("main", "main"),
        ("_Znot", "_Znot"),
    ),
)
def test_names_are_as_written(mangled: str, written: str) -> None:
    if demangle("_Z1fv") == "_Z1fv":
        pytest.skip("there is no C++ library here")
    assert demangle(mangled) == written


@pytest.mark.parametrize("damage", (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 100, b"#!/bin/sh\n" + b"x" * 100))
def test_what_is_no_elf_file_is_refused(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match="ELF"):
        Elf(path)


@needs_cc
def test_a_damaged_file_never_does_harm(binary: Path, tmp_path: Path) -> None:
    whole = binary.read_bytes()
    for at in range(0, min(len(whole), 16384), 97):
        path = tmp_path / "x"
        path.write_bytes(whole[:at] + bytes(255 - b for b in whole[at : at + 8]) + whole[at + 8 :])
        try:
            elf = Elf(path)
            elf.symbol_at(4444)
            assert isinstance(elf.build_id, str)
        except ValueError:
            continue
