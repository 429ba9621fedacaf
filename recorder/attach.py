"""The types of probes: how a function of the program is written, loaded and attached for each."""

from __future__ import annotations

from dataclasses import dataclass

from tracectl.recorder.bpf import Program, cpus

RAW_ARGUMENTS = "struct bpf_raw_tracepoint_args *ctx"
REGISTERS = "struct pt_regs *ctx"


@dataclass(frozen=True)
class ProbeType:
    """A type of probe, by the word before the first colon of its name.

    Attributes:
        argument: of the C function.
        returns: what it has to return: from a tracepoint's program, 0 would hide the event from every other user of
            that tracepoint; a tracing program must return 0.
        load: the program type, as :meth:`Program.load` knows it.
    """

    argument: str
    returns: int
    load: str


_TYPES = {
    "fentry": ProbeType(RAW_ARGUMENTS, 0, "fentry"),
    "fexit": ProbeType(RAW_ARGUMENTS, 0, "fexit"),
    "kprobe": ProbeType(REGISTERS, 1, "kprobe"),
    "kretprobe": ProbeType(REGISTERS, 1, "kprobe"),
    "uprobe": ProbeType(REGISTERS, 1, "kprobe"),
    "uretprobe": ProbeType(REGISTERS, 1, "kprobe"),
    "usdt": ProbeType(REGISTERS, 1, "kprobe"),
    "perf": ProbeType(REGISTERS, 1, "perf_event"),
}
_RAW = ProbeType(RAW_ARGUMENTS, 1, "raw_tracepoint")
_CLASSIC = ProbeType("void *args", 1, "tracepoint")
USER_PROBES = frozenset(("kprobe", "kretprobe", "uprobe", "uretprobe", "usdt"))


def category_of(probe: str) -> str:
    """``fentry`` of ``fentry:ep_poll_callback``; a tracepoint's category has no dash in it, nor any of these names."""
    return probe.partition(":")[0]


def is_tracepoint(probe: str) -> bool:
    """Whether a probe is one of tracefs."""
    return category_of(probe) not in _TYPES


def short_name(probe: str) -> str:
    """Of a probe of :data:`USER_PROBES`, what it is at: a function's name as in the file, or ``provider:name``."""
    category, _, name = probe.partition(":")
    if category in ("kprobe", "kretprobe"):
        return name
    parts = 2 if category == "usdt" else 1
    return ":".join(name.rpartition("@")[0].rsplit(":", parts)[1:])


def probe_type(probe: str, *, raw: bool) -> ProbeType:
    """The type of a probe; ``raw``: of a tracepoint, the raw one."""
    return _TYPES.get(category_of(probe), _RAW if raw else _CLASSIC)


def load(program: Program, function: str, probe: str, *, raw: bool) -> None:
    """Have the kernel verify a function of the program."""
    kind = probe_type(probe, raw=raw).load
    program.load_as(function, kind, probe.partition(":")[2] if kind in ("fentry", "fexit") else "")


def attach(program: Program, function: str, probe: str, *, raw: bool, frequency: int) -> None:
    """Attach a loaded function.

    Args:
        frequency: of samples, in Hz.

    Raises:
        RecordError: the kernel refuses.
    """
    category, _, name = probe.partition(":")
    if category in ("fentry", "fexit"):
        program.attach_tracing(function, probe)
    elif category == "perf":
        for cpu in cpus("online"):
            program.attach_clock(function, probe, cpu, frequency)
    elif category in ("kprobe", "kretprobe"):
        program.attach_kprobe(function, probe, name, returns=category == "kretprobe")
    elif category in ("uprobe", "uretprobe"):
        path, _, place = name.rpartition("@")
        program.attach_uprobe(function, probe, path.rpartition(":")[0], int(place, 16), returns=category == "uretprobe")
    elif category == "usdt":
        path, _, place = name.rpartition("@")
        offset, _, semaphore = place.partition(",")
        path = path.rsplit(":", 2)[0]
        program.attach_uprobe(function, probe, path, int(offset, 16), semaphore=int(semaphore, 16))
    elif raw:
        program.load_raw_tracepoint(function, name)
    else:
        program.load_tracepoint(function, probe)
