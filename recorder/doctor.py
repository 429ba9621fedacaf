"""What this machine can record: each requirement tried out, with what to do where it is not met."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tracectl.recorder import bpf, namespace
from tracectl.recorder.ring import PAGE_SIZE, PerfRing
from tracectl.store.errors import RecordError

Verdict = Literal["ok", "warn", "missing"]

BTF = Path("/sys/kernel/btf/vmlinux")
TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
MLOCK_KB = Path("/proc/sys/kernel/perf_event_mlock_kb")
UPROBES = Path("/sys/bus/event_source/devices/uprobe/type")

# include/uapi/linux/capability.h
_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 21, 38, 39
# One ring for each stream, and tracepoints; measured need is far lower.
_FILES_PER_CPU = 16

# What a recording is made of, in one: a raw tracepoint, a perf ring, a read of kernel memory.
_TINY = """
BPF_PERF_OUTPUT(ring);
int probe(struct bpf_raw_tracepoint_args *ctx) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)ctx->args[0]);
    return 0;
}
"""
# Functions with BCC's own prefixes are attached as they are compiled: that is the trial.
_KPROBE = "int kprobe__vfs_read(void *ctx) { return 0; }"
_FENTRY = "KFUNC_PROBE(vfs_read) { return 0; }"


@dataclass(frozen=True)
class Check:
    """One requirement.

    Attributes:
        name: what was looked at.
        verdict: ``ok``; ``missing``: live recording does not work without it; ``warn``: something less does not.
        detail: what was found.
        remedy: what to do about it; empty when ok.
    """

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine() -> Iterator[Check]:
    """Try everything out, cheapest first; some trials take a few tenths of a second."""
    yield _privilege()
    yield _btf()
    yield _tracefs()
    bcc = _bcc()
    yield bcc
    if os.geteuid() == 0 and bcc.verdict == "ok":
        yield from _trials()
    else:
        yield Check("programs", "missing", "not tried: root and BCC are needed to try", "see above")
    yield _uprobes()
    yield from _limits()


def can_record(checks: list[Check]) -> bool:
    """Whether live recording works."""
    return all(check.verdict != "missing" for check in checks)


def _privilege() -> Check:
    held = _capabilities()
    able = held >> _CAP_SYS_ADMIN & 1 or (held >> _CAP_BPF & 1 and held >> _CAP_PERFMON & 1)
    if os.geteuid() != 0:
        return Check("privilege", "missing", f"user {os.geteuid()}, not root", "record with sudo; asking needs no root")
    if not able:
        return Check(
            "privilege",
            "missing",
            "root without CAP_SYS_ADMIN or CAP_BPF and CAP_PERFMON",
            "run outside the container, or start it with --privileged",
        )
    return Check("privilege", "ok", "root")


def _capabilities() -> int:
    """The effective capabilities of this process, one bit each."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0


def _btf() -> Check:
    try:
        with BTF.open("rb") as file:
            file.read(1)
            return Check("BTF", "ok", f"{BTF}, {BTF.stat().st_size / (1 << 20):.1f}M (kernel {platform.release()})")
    except OSError as error:
        return Check(
            "BTF",
            "missing",
            f"{BTF}: {error.strerror}",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (distributions have it since about 2020)",
        )


def _tracefs() -> Check:
    for place in TRACEFS:
        try:
            if (place / "events" / "sched").is_dir():
                return Check("tracefs", "ok", str(place))
        except PermissionError:
            return Check("tracefs", "missing", f"{place} is there, for root only", "record with sudo")
    return Check("tracefs", "missing", "not mounted", f"mount -t tracefs tracefs {TRACEFS[0]}")


def _bcc() -> Check:
    try:
        bcc = bpf.load_bcc()
    except RecordError as error:
        return Check("BCC", "missing", error.problem, error.remedy)
    version = str(getattr(bcc, "__version__", "of unknown version"))
    return Check("BCC", "ok", f"{version}, {Path(str(bcc.__file__)).parent}")


def _trials() -> Iterator[Check]:
    """What can only be known by doing it."""
    begin = time.monotonic()
    try:
        with bpf.Program(_TINY) as program:
            program.load_raw_tracepoint("probe", "sched_switch")
            took = time.monotonic() - begin
            yield Check("programs", "ok", f"compiled, loaded and attached in {took:.2f}s, without kernel headers")
            yield _ring(program)
    except RecordError as error:
        yield Check("programs", "missing", error.problem, error.remedy)
        return
    if namespace.inside():
        yield _namespace()
    yield _optional("kprobes", _KPROBE, "tracepoints are recorded all the same; kernel functions are not")
    yield _optional("fentry", _FENTRY, "not recorded: ep_poll_callback (what wakeups came through), inet_csk_accept")


def _ring(program: bpf.Program) -> Check:
    try:
        ring = PerfRing(bpf.cpus("online")[0], 8, program.map_fd("ring"))
    except RecordError as error:
        return Check("rings", "missing", error.problem, error.remedy)
    try:
        counted = ring.lost_total() is not None
    finally:
        ring.close()
    if counted:
        return Check("loss counter", "ok", "the kernel counts what each ring lost (Linux >= 6.0)")
    return Check(
        "loss counter",
        "warn",
        "the kernel does not count what a ring lost",
        "tracectl counts by its own probes; Linux >= 6.0 adds a second, independent count",
    )


def _optional(name: str, text: str, without: str) -> Check:
    try:
        with bpf.Program(text):
            return Check(name, "ok", "available")
    except RecordError:
        return Check(
            name, "warn", "this kernel refuses them" if name.endswith("s") else "this kernel refuses it", without
        )


def _namespace() -> Check:
    try:
        with namespace.entered():
            detail = "tracectl runs inside one: -p and -t take ids as seen here, captures have the machine's own"
            return Check("PID namespace", "ok", detail)
    except RecordError as error:
        return Check("PID namespace", "missing", error.problem, error.remedy)


def _uprobes() -> Check:
    if UPROBES.exists():
        return Check("uprobes", "ok", "available")
    return Check("uprobes", "warn", "this kernel has none", "functions of programs cannot be recorded; all else can")


def _limits() -> Iterator[Check]:
    """Memory and descriptors for rings: one ring for each stream and CPU."""
    mlock_kb = int(MLOCK_KB.read_text(encoding="ascii")) if MLOCK_KB.exists() else 0
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = "unlimited" if locked == resource.RLIM_INFINITY else f"{locked >> 10}K"
    bound = "does not bind root" if os.geteuid() == 0 else "binds users other than root"
    pages = f"{PAGE_SIZE >> 10}K pages"
    yield Check("ring memory", "ok", f"perf_event_mlock_kb {mlock_kb}K per CPU, ulimit -l {text} ({bound}); {pages}")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_PER_CPU * (os.cpu_count() or 1) + 256
    if files != resource.RLIM_INFINITY and files < needed:
        yield Check("open files", "warn", f"limit {files}, up to {needed} may be needed", f"ulimit -n {needed}")
    else:
        yield Check("open files", "ok", "unlimited" if files == resource.RLIM_INFINITY else f"limit {files}")
