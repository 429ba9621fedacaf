"""System calls of a program that counts its own, as the recording tells them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, record_to

pytestmark = pytest.mark.kernel
READS, REFUSED, SLEEP_MS = 37, 23, 20
CHILD = f"""
import ctypes, errno, json, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
zero = os.open("/dev/zero", os.O_RDONLY)
first = time.monotonic_ns()
got = [len(os.read(zero, n + 1)) for n in range({READS})]
refused = 0
for _ in range({REFUSED}):
    libc.chroot(b"/nope/nope")
    refused += ctypes.get_errno() == errno.ENOENT
libc.usleep({SLEEP_MS}000)
last = time.monotonic_ns()
json.dump({{"tid": os.getpid(), "first": first, "last": last, "got": got, "refused": refused}}, open(sys.argv[1], "w"))
sys.stdout.flush()
os._exit(3)
"""


def test_counts_results_and_errors_equal_the_programs_own(tmp_path: Path) -> None:
    told = tmp_path / "told"
    outcome = record_to(tmp_path / "x.parquet", sys.executable, "-c", CHILD, told, events=("syscall",))
    assert outcome.lost == 0
    recorded = Recorded(tmp_path / "x.parquet")
    truth = json.loads(told.read_text())
    between = {"t": truth["tid"], "a": truth["first"], "b": truth["last"]}
    where = "WHERE tid = $t AND ts BETWEEN $a AND $b AND certain"
    reads = recorded.rows(f"SELECT ret FROM syscalls {where} AND name = 'read' ORDER BY seq", **between)
    assert [ret for (ret,) in reads] == truth["got"] == list(range(1, READS + 1))
    failed = recorded.rows(f"SELECT error, ret FROM syscalls {where} AND name = 'chroot'", **between)
    assert failed == [(2, -2)] * truth["refused"] == [(2, -2)] * REFUSED
    (asleep,) = recorded.rows(f"SELECT dur FROM syscalls {where} AND name = 'clock_nanosleep'", **between)
    assert asleep[0] >= SLEEP_MS * 1_000_000
    ended = recorded.rows("SELECT name, dur, ret, certain FROM syscalls WHERE tid = $t ORDER BY seq DESC LIMIT 1",
                          t=truth["tid"])  # fmt: skip
    assert ended == [("exit_group", None, None, True)]


INT80 = """
import ctypes, mmap, os
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("53 b814000000 cd80 5b c3"))  # push rbx; mov eax, 20 (getpid of i386); int 0x80; pop rbx; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
os._exit(0 if call() == os.getpid() else 1)
"""


def test_a_32_bit_call_gets_no_64_bit_name(tmp_path: Path) -> None:
    outcome = record_to(tmp_path / "x.parquet", sys.executable, "-c", INT80, events=("syscall",))
    if outcome.command_exit != 0:
        pytest.skip("this kernel has no 32-bit calls (CONFIG_IA32_EMULATION)")
    recorded = Recorded(tmp_path / "x.parquet")
    assert recorded.rows("SELECT ret = pid FROM syscalls WHERE name = 'compat:20'") == [(True,)]
    assert recorded.rows("SELECT COUNT(*) FROM sys_enter WHERE compat <> 0") == [(1,)]
