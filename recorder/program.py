"""The BPF program of a recording: C generated from the catalogue entries that were selected.

Each probe gets one function, made of up to three parts: keep the task filter's set up to date, follow what the CPU is
in (interrupts, ep_poll_callback), emit a row.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from tracectl.recorder import runq, tracefs
from tracectl.recorder.attach import USER_PROBES, category_of, is_tracepoint, probe_type
from tracectl.recorder.btf import Btf
from tracectl.recorder.filters import TaskFilter, c_followers, c_functions
from tracectl.recorder.selection import Selection, matching
from tracectl.recorder.usdt import at_site
from tracectl.store.events import CONTEXTS, KINDS, NEVER_EMITTED_PROBES, VECTOR_CONTEXTS, Event, probe_matches
from tracectl.store.fields import FRAMES, S32, S64, U64, Field

HEADER_FIELDS = [("ts", "u8"), ("kind", "u4"), ("pid", "i4"), ("tid", "i4"), ("comm", "S16")]
_HEADER_C = "u64 ts; u32 kind; s32 pid; s32 tid; char comm[16];"
# Frames of a stack that events refer to: no row of the capture, but what its rows of kind stack are made from.
STACK = Event(
    "stack_frames",
    "stack",
    "",
    ("stack:frames",),
    (
        Field("frame_count", S32, ""),
        Field("space", U64, ""),
        Field("stack_id", S64, ""),
        Field("frames", FRAMES, ""),
    ),
)
# Emitted, ring full, no ring on this CPU, refused otherwise, left out by --every, not known for a full map.
COUNTERS_PER_STREAM = 6


@dataclass(frozen=True)
class Record:
    """How one kind looks in a ring.

    Attributes:
        number: its ``kind`` in the record.
        dtype: the C struct, with the compiler's padding.
        probes: those that write it; a ``PROBE`` field holds an index into these.
    """

    number: int
    event: Event
    dtype: np.dtype[np.void]
    probes: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """One BPF function and where it goes.

    Attributes:
        streams: those that lose a row when the kernel skips it; empty: none does.
    """

    name: str
    tracepoint: str
    raw: bool
    streams: tuple[str, ...]
    order: int

    @property
    def probe(self) -> str:
        """Where it goes: ``category:event``, ``fentry:function``, …"""
        return self.tracepoint


@dataclass(frozen=True)
class Source:
    """A generated program.

    Attributes:
        functions: in the order in which they must be attached.
        records: by number.
        streams: in the order of their counters.
        rings: the streams, and the ring of stacks if there are any.
    """

    text: str
    functions: tuple[Function, ...]
    records: dict[int, Record]
    streams: tuple[str, ...]
    rings: tuple[str, ...]


@dataclass
class _Parts:
    """What one tracepoint's function does, gathered before it is written."""

    raw: bool
    follow: str = ""
    context: str = ""
    emit: str = ""
    streams: tuple[str, ...] = ()
    order: int = 1


# Exits before entries, else an interrupt between the two leaves the stack one too deep (measured: half of all wakeups
# came out wrong). What reads the context comes last.
_ORDER_LEAVE, _ORDER_PLAIN, _ORDER_ENTER, _ORDER_READS = 0, 1, 2, 3


def generate(selection: Selection, task_filter: TaskFilter, btf: Btf) -> Source:
    """Write the program that records a selection.

    Raises:
        RecordError: a struct member or tracepoint field that a selected kind reads does not exist in this kernel.
    """
    return _Generator(selection, task_filter, btf).source()


@dataclass
class _Generator:
    selection: Selection
    task_filter: TaskFilter
    btf: Btf
    parts: dict[tuple[str, bool], _Parts] = field(default_factory=dict)

    def source(self) -> Source:
        streams = tuple(dict.fromkeys(event.stream for event in self.selection.events))
        records = {number: self._record(number, event) for number, event in enumerate(self.selection.events, 1)}
        for tracepoint, code in c_followers(self.task_filter).items():
            if tracepoint in tracefs.tracepoints():
                self._part(tracepoint, raw=True).follow = code
        if "sched_waking" in self.selection.tracepoints:
            self._follow_context()
        if "ep_poll_callback" in self.selection.tracepoints:
            self._follow_callbacks()
        if runq.KIND in self.selection.tracepoints:
            self._follow_waits()
        for record in records.values():
            self._emit(record, streams.index(record.event.stream))
        rings = streams
        if any(column.c in _STACKS for event in self.selection.events for column in event.fields):
            rings += (STACK.stream,)
            dtype = np.dtype(HEADER_FIELDS + [(column.name, column.type.numpy) for column in STACK.fields], align=True)
            records[len(records) + 1] = Record(len(records) + 1, STACK, dtype, STACK.probes)
        return Source(self._text(records, streams, rings), self._functions(), records, streams, rings)

    def _part(self, tracepoint: str, *, raw: bool) -> _Parts:
        return self.parts.setdefault((tracepoint, raw), _Parts(raw))

    # -- context --

    def _follow_context(self) -> None:
        # The classic one where it is recorded too: one function a tracepoint.
        self._part(
            "sched:sched_switch", raw="sched_switch" not in self.selection.tracepoints
        ).context = "context_reset();"
        for event in KINDS.values():
            for tracepoint in matching(event) if event.context else ():
                part = self._part(tracepoint, raw=True)
                part.context, part.order = _context_code(event, tracepoint)

    def _follow_callbacks(self) -> None:
        enter, leave = (self._part(f"{edge}:ep_poll_callback", raw=True) for edge in ("fentry", "fexit"))
        enter.context, enter.order = "callback_enter(ARG(0), ARG(3));", _ORDER_ENTER
        leave.context, leave.order = "callback_leave();", _ORDER_LEAVE
        classic = "sched_switch" in self.selection.tracepoints
        self._part("sched:sched_switch", raw=not classic).context += "callback_reset();"

    def _follow_waits(self) -> None:
        for tracepoint, code in runq.steps_code(self.btf).items():
            part = self._part(tracepoint, raw=True)
            part.follow = "\n    ".join(filter(None, (part.follow, code)))
            part.streams += (KINDS[runq.KIND].stream,)

    # -- rows --

    def _record(self, number: int, event: Event) -> Record:
        columns = [(column.name, column.type.numpy) for column in event.fields]
        dtype = np.dtype(HEADER_FIELDS + columns, align=True)
        return Record(number, event, dtype, self.selection.tracepoints[event.kind])

    def _emit(self, record: Record, stream: int) -> None:
        event = record.event
        for index, tracepoint in enumerate(record.probes):
            if any(probe_matches(pattern, tracepoint) for pattern in NEVER_EMITTED_PROBES):
                continue
            part = self._part(tracepoint, raw=event.raw)
            part.streams = tuple(dict.fromkeys((*part.streams, event.stream)))
            part.emit = self._emit_code(record, stream, index)
            if event.kind == "sched_waking":
                part.order = _ORDER_READS

    def _emit_code(self, record: Record, stream: int, probe_index: int) -> str:
        event = record.event
        lines = [
            f"u64 ts = {'wait_ts' if event.kind == runq.KIND else 'bpf_ktime_get_ns()'};",
            "if (!gate_open(ts)) return PASS_ON;",
            f"u64 pid_tgid = {_IDS_OF.format(event.of_task) if event.of_task else 'bpf_get_current_pid_tgid()'};",
            "s32 tid = pid_tgid;",
        ]
        if event.stream == "profile":
            lines.append("if (tid == 0) return PASS_ON; // idle")
        if self.task_filter:
            subjects = {column.name: column.c for column in event.fields} | {"tid": "tid"}
            tests = " || ".join(f"is_watched({subjects[name]})" for name in event.subjects)
            lines.append(f"if (!({tests})) return PASS_ON;")
        if event.endpoint:  # nothing was accepted, say: before the event is counted
            lines += [f"u64 sock = {event.endpoint};", "if (!sock) return PASS_ON;"]
        base = stream * COUNTERS_PER_STREAM
        if event.kind == runq.KIND:
            lines += runq.late_code(base)
        lines.append(f"count({base});")
        if self.selection.every > 1 and event.stream != "task":
            lines.append(f"if (!taken({record.number})) {{ count({base + 4}); return PASS_ON; }}")
        lines += [
            f"struct row_{event.kind} e = {{}};",
            f"e.ts = ts; e.kind = {record.number}; e.pid = pid_tgid >> 32; e.tid = tid;",
            _COMM_AT.format(event.of_task) if event.of_task else "bpf_get_current_comm(&e.comm, sizeof(e.comm));",
        ]
        if event.kind == "sched_waking":
            lines.append("u32 context = context_now();")
        ctx = "ctx" if event.raw or not is_tracepoint(record.probes[probe_index]) else "args"
        lines += _beside(event, ctx)
        through = [column for column in event.fields if _THROUGH.match(column.c)]
        plain = [column for column in event.fields if column not in through]
        lines += [_assignment(column.type.assign, column.name, column.c, probe_index) for column in plain]
        lines += [_emptied(column) for column in through]
        for column in through:
            where = "callback" if "CALLBACK" in column.c else "endpoint"
            code = _assignment(column.type.assign, column.name, column.c, probe_index)
            lines.append(f"if ({where}) {{ {code} }}")
        if event.kind == "sched_waking":
            lines.append(
                "if (e.context == CONTEXT_TASK && woken_by_a_tail(e.target_comm)) e.context = CONTEXT_UNKNOWN;"
            )
        lines += [
            f"int error = ring_{event.stream}.perf_submit({ctx}, &e, sizeof(e));",
            f"if (error) count_failure({base}, error);",
        ]
        return "\n    ".join(lines)

    # -- text --

    def _text(self, records: dict[int, Record], streams: tuple[str, ...], rings: tuple[str, ...]) -> str:
        constants = {f"CONTEXT_{name.upper()}": number for number, name in enumerate(CONTEXTS)}
        constants["COUNTERS"] = COUNTERS_PER_STREAM * len(streams)
        constants |= {"EVERY": self.selection.every, "KINDS": len(records) + 1}
        lines = [f"#define {name} {number}" for name, number in constants.items()]
        lines.append(_c_file("program"))
        if any(_THROUGH.match(column.c) for record in records.values() for column in record.event.fields):
            lines.append(_c_file("epoll"))
        if runq.KIND in self.selection.tracepoints:
            lines.append(runq.source(self.selection.min_delay_ns))
        lines.append(c_functions(self.task_filter))
        if self.task_filter.comms:
            lines.append(_COMM_OF)
        lines += [f"BPF_PERF_OUTPUT(ring_{ring});" for ring in rings]
        for record in records.values():
            members = " ".join(column.type.c.format(_member(column.name)) + ";" for column in record.event.fields)
            name = f"struct row_{record.event.kind}"
            lines.append(f"{name} {{ {_HEADER_C} {members} }};")
            lines.append(f'_Static_assert(sizeof({name}) == {record.dtype.itemsize}, "layout");')
        if rings != streams:
            lines += [f"#define STACK_KIND {len(records)}", _c_file("stacks")]
        lines += [self._function_text(tracepoint, parts) for (tracepoint, _), parts in self.parts.items()]
        return self._expand("\n".join(lines))

    def _function_text(self, probe: str, parts: _Parts) -> str:
        body = "\n    ".join(filter(None, (parts.follow, parts.context, parts.emit)))
        if not parts.raw and is_tracepoint(probe):
            body = _with_arguments(body, tracefs.read_format(probe))
        kind = probe_type(probe, raw=parts.raw)
        returned = "RETURN" in body
        if returned:
            body = body.replace("RETURN", f"ARG({len(self.btf.func_args(probe.partition(':')[2]))})")
        body = f"{body}\n    return PASS_ON;".replace("PASS_ON", str(kind.returns))
        return f"int {_function_name(probe, parts.raw)}({kind.argument}) {{\n    {body}\n}}"

    def _functions(self) -> tuple[Function, ...]:
        found = (Function(_function_name(t, raw), t, raw, p.streams, p.order) for (t, raw), p in self.parts.items())
        return tuple(sorted(found, key=lambda function: function.order))

    def _expand(self, text: str) -> str:
        """Replace the catalogue's vocabulary by C."""
        text = re.sub(r"OFFSET\(([\w.|]+)\)", lambda m: str(self._offset(m[1])), text)
        text = re.sub(r"\bARG\((\d)\)", r"ctx->args[\1]", text)
        text = re.sub(r"\bCOMPAT\b", _COMPAT.get(platform.machine(), "0"), text)
        return re.sub(
            r"BTF\((s32|u64), ([^,]+), ([\w.|]+)\)",
            lambda m: f"read_{m[1]}((u64){m[2]} + {self._offset(m[3])})",
            text,
        )

    def _offset(self, paths: str) -> int:
        return self.btf.offset(*paths.split("|"))


# A flag of the thread, set while a 32-bit call runs: TS_COMPAT of x86; TIF_32BIT of arm64, for good.
_COMPAT = {
    "x86_64": "(BTF(s32, bpf_get_current_task(), task_struct.thread_info.status) >> 1 & 1)",
    "aarch64": "(BTF(u64, bpf_get_current_task(), task_struct.thread_info.flags) >> 22 & 1)",
}
# A task's pid and tid, and its name.
_IDS_OF = "(u64)BTF(s32, {0}, task_struct.tgid) << 32 | (u32)BTF(s32, {0}, task_struct.pid)"
_COMM_AT = "bpf_probe_read_kernel_str(&e.comm, sizeof(e.comm), (void *)({0} + OFFSET(task_struct.comm)));"
_COMM_OF = """
static __always_inline int comm_of(u64 task) {
    u64 name[2] = {};
    bpf_probe_read_kernel(name, sizeof(name), (void *)(task + OFFSET(task_struct.comm)));
    return comm_matches(name);
}
"""


def _with_arguments(body: str, layout: tracefs.Format) -> str:
    """Replace ``args->name`` and ``DATA_LOC(name)`` by reads at the offsets of the tracepoint's own format."""
    at = {found.name: found for found in layout.fields}

    def value(match: re.Match[str]) -> str:
        found = at[match[1]]
        place = f"(char *)args + {found.offset}"
        return f"({place})" if found.array else f"(*({'s' if found.signed else 'u'}{8 * found.size} *)({place}))"

    body = re.sub(r"args->(\w+)", value, body)
    location = "((char *)args + (*(u32 *)((char *)args + {}) & 0xffff))"
    return re.sub(r"DATA_LOC\((\w+)\)", lambda match: location.format(at[match[1]].offset), body)


def _function_name(probe: str, raw: bool) -> str:
    if category_of(probe) in USER_PROBES:  # paths, and symbols of any length
        return f"on_probe_{crc32(probe.encode()):08x}"
    return f"on_{'raw_' if raw else ''}{probe.replace(':', '_')}"


def _member(column: str) -> str:
    """A column's name in C, where a name (9p_client_req__tag) must not begin with a digit."""
    return f"_{column}" if column[0].isdigit() else column


def _c_file(name: str) -> str:
    return Path(__file__).with_name(f"{name}.c").read_text()


_STACKS = {"KSTACK": "kernel_stack", "USTACK": "user_stack"}
# Columns that a row has only inside ep_poll_callback, or with a socket.
_THROUGH = re.compile(r"(CALLBACK|ENDPOINT)\(\w+\)")


def _beside(event: Event, ctx: str) -> list[str]:
    """Statements before the columns' own: what they read besides the probe's arguments."""
    lines = []
    if event.endpoint:
        lines += [
            "struct endpoint found;",
            "read_endpoint(sock, &found);",
            "struct endpoint *endpoint = &found;",
        ]
    elif any("CALLBACK" in column.c for column in event.fields):
        end = "callback ? &callback->end : 0" if event.kind == "ep_poll_callback" else "endpoint_of(callback)"
        lines.append("struct callback *callback = callback_now();")
        lines.append(f"struct endpoint *endpoint = {end};")
    for column in (column for column in event.fields if column.c in _STACKS):
        taken = f"{_STACKS[column.c]}({ctx}, ts)"
        if column.c == "KSTACK" and category_of(event.probes[0]) in ("uprobe", "uretprobe", "usdt"):
            taken = "STACK_NONE"  # it comes straight from user space
        elif column.c == "KSTACK" and event.stream == "profile":
            # A sample may hit user space, whose addresses have the upper bit clear.
            taken = f"(s64)PT_REGS_IP(ctx) < 0 ? {taken} : STACK_NONE"
        lines.append(f"e.{column.name} = {taken};")
    return lines


def _emptied(column: Field) -> str:
    """The value that stands for null."""
    if column.type.decode == "ip":
        return f"__builtin_memset(&e.{column.name}, 0xff, sizeof(e.{column.name}));"
    return f"e.{column.name} = {column.null or 0};"


def _assignment(template: str, member: str, expression: str, probe_index: int) -> str:
    if expression in _STACKS:
        return ""
    expression = at_site(expression, probe_index)
    expression = _THROUGH.sub(lambda m: m[0].replace(f"{m[1]}(", f"{m[1].lower()}->").rstrip(")"), expression)
    special = {"CONTEXT": "context >> 24", "CONTEXT_VEC": _CONTEXT_VEC, "PROBE": str(probe_index)}
    special |= {"WAIT_NS": "ts - wait.since", "WAIT_CAUSE": "wait.cause"}
    expression = special.get(expression, expression)
    return template.replace("{m}", f"e.{_member(member)}").replace("{e}", expression)


_CONTEXT_VEC = "(context & NO_VECTOR) == NO_VECTOR ? -1 : (s32)(context & NO_VECTOR)"


def _context_code(event: Event, tracepoint: str) -> tuple[str, int]:
    """The statement that enters or leaves a level, and when to attach it."""
    class_name = _context_class(event, tracepoint)
    if event.context == "leave":
        return f"context_leave(CONTEXT_{class_name});", _ORDER_LEAVE
    # Where a timer interrupt's vector number says nothing more than that it is a timer.
    vector = event.context_vec if event.context_vec and class_name != "HRTIMER" else "NO_VECTOR"
    return f"context_enter(CONTEXT_{class_name}, {vector});", _ORDER_ENTER


def _context_class(event: Event, tracepoint: str) -> str:
    family = tracepoint.partition(":")[2].removesuffix("_entry").removesuffix("_exit")
    classes = {"softirq": "softirq", "irq_handler": "hardirq", "hrtimer_expire": "hrtimer"}
    return classes.get(family, VECTOR_CONTEXTS.get(family, "hardirq")).upper()


def streams_of_function(functions: Iterable[Function]) -> dict[str, tuple[str, ...]]:
    """Which streams lose an event when a function is skipped; only functions of which one would."""
    return {function.name: function.streams for function in functions if function.streams}
