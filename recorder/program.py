"""The BPF program of a recording: C generated from the catalogue entries that were selected.

Each tracepoint gets one function, made of up to three parts: keep the task filter's set up to date, follow the CPU's
interrupt context, emit a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tracectl.recorder import tracefs
from tracectl.recorder.btf import Btf
from tracectl.recorder.filters import TaskFilter, c_followers, c_functions
from tracectl.recorder.selection import Selection, matching
from tracectl.store.events import CONTEXTS, KINDS, NEVER_EMITTED_PROBES, VECTOR_CONTEXTS, Event, probe_matches

HEADER_FIELDS = [("ts", "u8"), ("kind", "u4"), ("pid", "i4"), ("tid", "i4"), ("comm", "S16")]
_HEADER_C = "u64 ts; u32 kind; s32 pid; s32 tid; char comm[16];"
COUNTERS_PER_STREAM = 4  # emitted, ring full, no ring on this CPU, refused otherwise


@dataclass(frozen=True)
class Record:
    """How one kind looks in a ring.

    Attributes:
        number: its ``kind`` in the record.
        dtype: the C struct, with the compiler's padding.
        probes: tracepoints that write it; a ``PROBE`` field holds an index into these.
    """

    number: int
    event: Event
    dtype: np.dtype[np.void]
    probes: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """One BPF function and where it goes."""

    name: str
    tracepoint: str
    raw: bool
    stream: str
    order: int


@dataclass(frozen=True)
class Source:
    """A generated program.

    Attributes:
        functions: in the order in which they must be attached.
        records: by number.
        streams: in the order of their counters.
    """

    text: str
    functions: tuple[Function, ...]
    records: dict[int, Record]
    streams: tuple[str, ...]


@dataclass
class _Parts:
    """What one tracepoint's function does, gathered before it is written."""

    raw: bool
    follow: str = ""
    context: str = ""
    emit: str = ""
    stream: str = ""
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
        for record in records.values():
            self._emit(record, streams.index(record.event.stream))
        return Source(self._text(records, streams), self._functions(), records, streams)

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
            part.stream = event.stream
            part.emit = self._emit_code(record, stream, index)
            if event.kind == "sched_waking":
                part.order = _ORDER_READS

    def _emit_code(self, record: Record, stream: int, probe_index: int) -> str:
        event = record.event
        lines = [
            "u64 ts = bpf_ktime_get_ns();",
            "if (!gate_open(ts)) return PASS_ON;",
            "u64 pid_tgid = bpf_get_current_pid_tgid();",
            "s32 tid = pid_tgid;",
        ]
        if self.task_filter:
            subjects = {column.name: column.c for column in event.fields} | {"tid": "tid"}
            tests = " || ".join(f"is_watched({subjects[name]})" for name in event.subjects)
            lines.append(f"if (!({tests})) return PASS_ON;")
        lines += [
            f"struct row_{event.kind} e = {{}};",
            f"e.ts = ts; e.kind = {record.number}; e.pid = pid_tgid >> 32; e.tid = tid;",
            "bpf_get_current_comm(&e.comm, sizeof(e.comm));",
        ]
        if event.kind == "sched_waking":
            lines.append("u32 context = context_now();")
        lines += [_assignment(column.type.assign, column.name, column.c, probe_index) for column in event.fields]
        base = stream * COUNTERS_PER_STREAM
        if event.kind == "sched_waking":
            lines.append(
                "if (e.context == CONTEXT_TASK && woken_by_a_tail(e.target_comm)) e.context = CONTEXT_UNKNOWN;"
            )
        lines += [
            f"count({base});",
            f"int error = ring_{event.stream}.perf_submit({'ctx' if event.raw else 'args'}, &e, sizeof(e));",
            f"if (error) count_failure({base}, error);",
        ]
        return "\n    ".join(lines)

    # -- text --

    def _text(self, records: dict[int, Record], streams: tuple[str, ...]) -> str:
        constants = {f"CONTEXT_{name.upper()}": number for number, name in enumerate(CONTEXTS)}
        constants["COUNTERS"] = COUNTERS_PER_STREAM * len(streams)
        lines = [f"#define {name} {number}" for name, number in constants.items()]
        lines.append(Path(__file__).with_name("program.c").read_text())
        lines.append(c_functions(self.task_filter))
        if self.task_filter.comms:
            lines.append(_COMM_OF)
        lines += [f"BPF_PERF_OUTPUT(ring_{stream});" for stream in streams]
        for record in records.values():
            members = " ".join(column.type.c.format(_member(column.name)) + ";" for column in record.event.fields)
            name = f"struct row_{record.event.kind}"
            lines.append(f"{name} {{ {_HEADER_C} {members} }};")
            lines.append(f'_Static_assert(sizeof({name}) == {record.dtype.itemsize}, "layout");')
        lines += [self._function_text(tracepoint, parts) for (tracepoint, _), parts in self.parts.items()]
        return self._expand("\n".join(lines))

    def _function_text(self, tracepoint: str, parts: _Parts) -> str:
        body = "\n    ".join(filter(None, (parts.follow, parts.context, parts.emit)))
        if not parts.raw:
            body = _with_arguments(body, tracefs.read_format(tracepoint))
        argument = "struct bpf_raw_tracepoint_args *ctx" if parts.raw else "void *args"
        return f"int {_function_name(tracepoint, parts.raw)}({argument}) {{\n    {body}\n    return PASS_ON;\n}}"

    def _functions(self) -> tuple[Function, ...]:
        found = (Function(_function_name(t, raw), t, raw, p.stream, p.order) for (t, raw), p in self.parts.items())
        return tuple(sorted(found, key=lambda function: function.order))

    def _expand(self, text: str) -> str:
        """Replace the catalogue's vocabulary by C."""
        text = re.sub(r"OFFSET\(([\w.|]+)\)", lambda m: str(self._offset(m[1])), text)
        text = re.sub(r"\bARG\((\d)\)", r"ctx->args[\1]", text)
        return re.sub(
            r"BTF\((s32|u64), ([^,]+), ([\w.|]+)\)",
            lambda m: f"read_{m[1]}((u64){m[2]} + {self._offset(m[3])})",
            text,
        )

    def _offset(self, paths: str) -> int:
        return self.btf.offset(*paths.split("|"))


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


def _function_name(tracepoint: str, raw: bool) -> str:
    return f"on_{'raw_' if raw else ''}{tracepoint.replace(':', '_')}"


def _member(column: str) -> str:
    """A column's name in C, where a name (9p_client_req__tag) must not begin with a digit."""
    return f"_{column}" if column[0].isdigit() else column


def _assignment(template: str, member: str, expression: str, probe_index: int) -> str:
    special = {"CONTEXT": "context >> 24", "CONTEXT_VEC": _CONTEXT_VEC, "PROBE": str(probe_index)}
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


def stream_of_function(functions: Iterable[Function]) -> dict[str, str]:
    """Which stream loses an event when a function is skipped; only functions that emit."""
    return {function.name: function.stream for function in functions if function.stream}
