"""The machine at one moment: its threads from /proc, its clocks, what it is."""

from __future__ import annotations

import importlib
import os
import platform
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tracectl.recorder import namespace
from tracectl.recorder.bpf import load_bcc
from tracectl.recorder.filters import cgroup_of, threads

_TICKS = os.sysconf("SC_CLK_TCK")


def clocks() -> dict[str, int]:
    """The three clocks in ns, read within microseconds of each other."""
    return {
        "ts": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "boottime": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "realtime": time.clock_gettime_ns(time.CLOCK_REALTIME),
    }


def machine() -> dict[str, str]:
    """Host name, boot id, kernel release and machine type."""
    name = os.uname()
    return {
        "host": name.nodename,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "kernel": name.release,
        "machine": platform.machine(),
    }


def irq_names() -> dict[str, str]:
    """Number of a device interrupt -> names of its handlers, from ``/proc/interrupts`` (the last column)."""
    header, *lines = Path("/proc/interrupts").read_text(errors="backslashreplace").splitlines()
    cpus = len(header.split())
    names = {}
    for line in lines:
        number, _, rest = line.partition(":")
        columns = rest.split(maxsplit=cpus + 2)  # a count per CPU, the chip, its own number with the trigger, the names
        if number.strip().isdigit() and len(columns) > cpus + 2:
            names[number.strip()] = columns[-1].strip()
    return names


def syscall_names() -> dict[str, str]:
    """Number of a system call -> its name: from BCC's table, and from the C library's ``asm/unistd_64.h`` if installed.

    BCC's own table is that of x86-64. A machine of which neither knows has no names.
    """
    names = {}
    if platform.machine() == "x86_64":
        load_bcc()
        table = importlib.import_module("bcc.syscall").syscalls
        names = {str(number): bytes(name).decode("ascii") for number, name in table.items()}
    for place in (f"/usr/include/{platform.machine()}-linux-gnu/asm", "/usr/include/asm"):
        header = Path(place, "unistd_64.h")
        if header.is_file():
            found = re.findall(r"^#define __NR_(\w+) (\d+)$", header.read_text("ascii", "replace"), re.MULTILINE)
            return names | {number: name for name, number in found}
    return names


def tasks() -> Iterator[dict[str, Any]]:
    """All threads that exist, as rows of kind ``task`` without their ``ts``.

    ``start_ts`` is on the monotonic clock, in steps of a kernel tick (10 ms): the same value for one thread in every
    recording of a boot without suspend.
    """
    now = clocks()
    asleep = now["boottime"] - now["ts"]  # /proc counts suspended time, the events' clock does not
    shared = cache(lambda process: {"cgroup": cgroup_of(process), "pid_ns": _namespace(process)})
    found = list(threads())
    namespace.refresh()
    for task in found:
        try:
            row = _task_row(task, asleep) | shared(task.parent.parent)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        row["pid"], row["tid"] = namespace.machine(row["pid"]), namespace.machine(row["tid"])
        if row["pid"] is not None and row["tid"] is not None:
            yield row


def _task_row(task: Path, asleep: int) -> dict[str, Any]:
    stat = (task / "stat").read_bytes()
    after_comm = stat[stat.rindex(b")") + 2 :].split()  # a comm may hold blanks and parentheses
    ids = next(
        (
            line.split()[1:]
            for line in (task / "status").read_text(errors="replace").splitlines()
            if line.startswith("NSpid:")
        ),
        [],
    )
    return {
        "pid": int(task.parent.parent.name),
        "tid": int(task.name),
        "comm": stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode("utf-8", "backslashreplace"),
        "start_ts": int(after_comm[19]) * (10**9 // _TICKS) - asleep,
        "ns_tid": int(ids[-1]) if ids else None,
    }


def _namespace(process: Path) -> int | None:
    try:
        return (process / "ns" / "pid").stat().st_ino
    except PermissionError:
        return None
