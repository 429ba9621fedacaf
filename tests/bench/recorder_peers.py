"""Recorders of one tracepoint for the recorder's benchmark: how each is started, stopped, and its output counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
TRACEFS = Path("/sys/kernel/tracing")
INSTANCE = TRACEFS / "instances" / "tracectl-bench"

# What a Python program with BCC usually looks like: a callback for each event, which reads its fields.
BCC = r"""
import os, signal, sys
from bcc import BPF
text = '''
struct row { u64 ts; u32 kind; s32 pid; s32 tid; char comm[16]; s64 id; };
BPF_PERF_OUTPUT(rows);
int on_enter(struct bpf_raw_tracepoint_args *ctx) {
    struct row e = {};
    e.ts = bpf_ktime_get_ns();
    e.pid = bpf_get_current_pid_tgid() >> 32; e.tid = bpf_get_current_pid_tgid();
    bpf_get_current_comm(&e.comm, sizeof(e.comm));
    e.id = ctx->args[1];
    rows.perf_submit(ctx, &e, sizeof(e));
    return 0;
}
'''
HEADERS
b = BPF(text=text)
b.attach_raw_tracepoint("sys_enter", "on_enter")
seen = lost = 0
by_id = {}
def on_row(cpu, data, size):
    global seen
    e = b["rows"].event(data)
    if e.comm == b"dd":
        seen += 1
        by_id[e.tid, e.id] = e.ts
def on_lost(*counts):
    global lost
    lost += counts[-1]
b["rows"].open_perf_buffer(on_row, page_cnt=2048, lost_cb=on_lost)
stop = []
signal.signal(signal.SIGINT, lambda *_: stop.append(1))
print("ready", flush=True)
while not stop:
    b.perf_buffer_poll(timeout=100)
print(seen, lost, flush=True)
"""


@dataclass
class Peer:
    """A tool that records system calls.

    Attributes:
        command: what to run; ``{out}`` is its output file.
        ready: whether it records by now.
        count: events of ``dd`` in the output file (and what the tool said).
    """

    name: str
    command: list[str]
    ready: Callable[[Path], bool]
    count: Callable[[Path, str], int]
    prepare: Callable[[], None] = lambda: None
    clean: Callable[[], None] = lambda: None


@dataclass
class Started:
    """A tool that runs.

    Attributes:
        used: CPU seconds that it had used when it was ready.
    """

    peer: Peer
    process: subprocess.Popen[bytes]
    out: Path
    said: IO[bytes]
    used: float

    def stop(self) -> tuple[float, float, str]:
        """End it; returns (CPU seconds of it and its children since it was ready, seconds until done, what it said)."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - begin
        self.said.seek(0)
        said = self.said.read().decode(errors="replace")
        self.said.close()
        self.peer.clean()
        return usage.ru_utime + usage.ru_stime - self.used, took, said


def start(peer: Peer, folder: Path) -> Started:
    """Start a tool and wait until it records."""
    out = folder / f"{peer.name}.out"
    log = folder / f"{peer.name}.log"
    peer.prepare()
    said = log.open("w+b")
    command = [word.replace("{out}", str(out)) for word in peer.command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BPFTRACE_MAX_STRLEN": "64"}
    process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    while not peer.ready(out if peer.name != "bcc" else log):
        if process.poll() is not None:
            raise RuntimeError(f"{peer.name} ended: {log.read_text()}")
        time.sleep(0.02)
    time.sleep(1.5)  # perf and bpftrace write their file before they record; on a busy machine, some time before
    return Started(peer, process, out, said, _cpu_of(process.pid))


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children, by their CPU clocks (man 3 clock_getcpuclockid)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return time.clock_gettime(~pid << 3 | 2) + sum(_cpu_of(int(child)) for child in children)


def _tracectl_count(out: Path, _said: str) -> int:
    command = [
        sys.executable,
        "-m",
        "tracectl",
        "query",
        str(out),
        "events sys_enter of comm dd | count",
        "--format",
        "csv",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return int(done.stdout.splitlines()[1].split(",")[0])


def _perf_count(out: Path, _said: str) -> int:
    command = ["perf", "report", "--stdio", "-n", "--sort", "comm", "-i", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"%\s+(\d+)\s+dd\s*$", done.stdout, re.MULTILINE)
    return int(found[1]) if found else 0


def _lines_with(mark: bytes) -> Callable[[Path, str], int]:
    def count(out: Path, _said: str) -> int:
        with out.open("rb") as file:
            return sum(mark in line for line in file)

    return count


def _tracefs_on() -> None:
    INSTANCE.mkdir(exist_ok=True)
    (INSTANCE / "events/raw_syscalls/sys_enter/enable").write_text("1")


def _tracefs_off() -> None:
    (INSTANCE / "events/raw_syscalls/sys_enter/enable").write_text("0")
    INSTANCE.rmdir()


def peers(folder: Path) -> list[Peer]:
    """All of them; ``folder`` is for what they need."""
    from tracectl.recorder.headers import stub_tree  # noqa: PLC0415

    script = folder / "bcc_callback.py"
    script.write_text(BCC.replace("HEADERS", f"os.environ['BCC_KERNEL_SOURCE'] = {str(stub_tree())!r}"))
    tracectl = [sys.executable, "-m", "tracectl", "record", "--force", "-e", "raw_syscalls:sys_enter", "-o", "{out}"]
    point = "raw_syscalls:sys_enter"
    program = f'tracepoint:{point} {{ printf("%llu %d %s %d\\n", nsecs, tid, comm, args->id); }}'
    return [
        Peer("tracectl", tracectl, _has_tail, _tracectl_count),
        Peer("perf", ["perf", "record", "-q", "-a", "-e", point, "-o", "{out}"], _grows, _perf_count),
        Peer("bpftrace", ["bpftrace", "-o", "{out}", "-e", program], _grows, _lines_with(b" dd ")),
        Peer(
            "tracefs", ["sh", "-c", f"exec cat {INSTANCE}/trace_pipe > {{out}}"], _grows, _lines_with(b" dd-"),
            _tracefs_on, _tracefs_off,
        ),
        Peer("bcc", ["/usr/bin/python3", str(script)], lambda log: b"ready" in log.read_bytes(),
             lambda _out, said: int(said.split()[-2])),
    ]  # fmt: skip


def _has_tail(out: Path) -> bool:
    return any(out.with_name(out.name + ".recording").glob("*.tail"))


def _grows(out: Path) -> bool:
    return out.exists() and out.stat().st_size > 0
