"""The event catalogue: every kind of row a capture can hold, declared once.

From an entry here come the BPF C that records it, the record's numpy dtype, the Arrow schema, the DuckDB view, the
choice in ``record -e``, its page in docs/events.md and every test parametrised over the catalogue.

C expressions are a small vocabulary that the recorder expands:

- ``args->name``: a field of the tracepoint's own format (classic tracepoints),
- ``ARG(n)``: the n-th argument of a raw tracepoint, an integer of 64 bits,
- ``BTF(type, pointer, struct.member|struct.other)``: a kernel struct's member, its offset taken from the running
  kernel's BTF; the first path that exists is used,
- ``DATA_LOC(name)``: pointer to a classic tracepoint's variable-length field.

Probes that can fire inside an interrupt are raw: the kernel skips a classic tracepoint's BPF program when an interrupt
arrives while another one runs on that CPU, and the event is gone (kernel/trace/bpf_trace.c, ``trace_call_bpf``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tracectl.store.fields import (
    COMM,
    CONTEXT,
    IP,
    KSYM,
    NAME,
    PATH,
    PROBE_NAME,
    S16,
    S32,
    S64,
    TASK_STATE,
    Field,
)

FORMAT_MAJOR = 1
FORMAT_MINOR = 0


@dataclass(frozen=True)
class Event:
    """One kind of row.

    Attributes:
        kind: the name, the kernel's own where it has one.
        stream: the ring it travels in, also its group in ``record -e``. Loss is known per stream and CPU.
        doc: one line for people.
        probes: ``category:event`` tracepoints (globs allowed) that write it; empty for bookkeeping kinds.
        fields: the kind's own columns, besides BASE_FIELDS.
        raw: attach as raw tracepoint (see above) instead of a classic one.
        subjects: the columns with the tids the event is about; a task filter keeps it when one of them matches.
        context: what it does to the CPU's interrupt context: ``enter softirq|hardirq|hrtimer|ipi`` or ``leave``.
        context_vec: C expression of the vector that is entered.
        optional: columns that are filled only when asked for (stacks), or only by imports of other tools' traces.
        example: a question that uses it.
    """

    kind: str
    stream: str
    doc: str
    probes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    raw: bool = False
    subjects: tuple[str, ...] = ("tid",)
    context: str = ""
    context_vec: str = ""
    optional: tuple[Field, ...] = ()
    example: str = ""

    @property
    def bookkeeping(self) -> bool:
        """Whether the row tells about the recording instead of the kernel."""
        return self.stream == BOOKKEEPING

    @property
    def columns(self) -> tuple[Field, ...]:
        """All columns of a row of this kind, base columns first."""
        return BASE_FIELDS + self.fields + self.optional


BOOKKEEPING = "bookkeeping"
EXTRA = "extra"

BASE_FIELDS = (
    Field("ts", S64, "kernel monotonic clock at the event (bpf_ktime_get_ns)", unit="ns"),
    Field("kind", NAME, "event kind"),
    Field("cpu", S16, "CPU the event fired on"),
    Field("seq", S64, "total order of the capture, unique: events by (ts, cpu, position in the ring)"),
    Field("pid", S32, "process (kernel tgid) of the task that was current"),
    Field("tid", S32, "thread (kernel pid) that was current"),
    Field("comm", COMM, "name of the thread that was current, at the event"),
)

# Codes of the context stack in the kernel; the order is the record's number, the text the capture's value.
CONTEXTS = ("task", "softirq", "hardirq", "hrtimer", "ipi", "nmi", "unknown")
SOFTIRQS = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")
TCP_STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)
# Why events are missing; each its own cause, since each has its own remedy.
CAUSES = {
    "ring_full": "the ring was full, a marker in the ring told of it; larger --buffer",
    "tail": "the ring was full when the recording ended, after the last marker; larger --buffer",
    "nested": "an interrupt's event came while the same probe ran on that CPU and the kernel skipped it",
    "busy": "the kernel refused the event (nested too deeply)",
    "undeclared": "a CPU's switches do not follow each other, though nothing told of a loss",
    "killed": "the recorder ended without a clean stop; what it had not yet written is gone",
    "not_attached": "the probe could not be attached, or the CPU came online later",
    "map_full": "a BPF map was full",
    "reader": "the recorder could not write as fast as events came",
    "filtered": "left out on purpose by a filter of the recording",
}

_PID = "BTF(s32, ARG(0), task_struct.pid)"
_TGID = "BTF(s32, ARG(0), task_struct.tgid)"
_COMM_OF_ARG0 = "ARG(0) + OFFSET(task_struct.comm)"
_CPU_OF_ARG0 = "BTF(s32, ARG(0), task_struct.thread_info.cpu|task_struct.cpu)"

TARGET_TID = Field("target_tid", S32, "thread the event is about", _PID)
TARGET_PID = Field("target_pid", S32, "process of that thread", _TGID)
TARGET_COMM = Field("target_comm", COMM, "name of that thread", _COMM_OF_ARG0)
TARGET_PRIO = Field(
    "target_prio", S32, "its kernel priority (120 = nice 0, below 100 real-time)", "BTF(s32, ARG(0), task_struct.prio)"
)
TARGET = (TARGET_TID, TARGET_PID, TARGET_COMM, TARGET_PRIO)
# The call stacks of the current thread at the event, where they were asked for: the stack_id of a row of kind stack.
STACKS = (
    Field("kstack", S64, "stack_id of its stack in the kernel"),
    Field("ustack", S64, "stack_id of its stack in user space"),
)
RET = Field("ret", S64, "return value; negative: -errno", "args->ret")
VEC = Field("vec", S32, "softirq vector or interrupt vector number", "ARG(0)")
IRQ = Field("irq", S32, "interrupt number, as in /proc/interrupts", "ARG(0)")
SOCKET = Field("socket", S64, "address of the kernel's struct sock", "(s64)args->skaddr")
FAMILY = Field("family", S32, "address family: 2 IPv4, 10 IPv6", "args->family")
PROTOCOL = Field("protocol", S32, "IP protocol number: 6 TCP", "args->protocol")


def _syscall_exit(name: str, doc: str, example: str) -> Event:
    return Event(f"sys_exit_{name}", "epoll", doc, (f"syscalls:sys_exit_{name}",), (RET,), example=example)


_SCHED = (
    Event(
        "sched_switch",
        "sched",
        "a CPU changes from one thread to another; current is the one that leaves",
        ("sched:sched_switch",),
        (
            Field("prev_prio", S32, "kernel priority of the thread that leaves", "args->prev_prio"),
            Field(
                "prev_state",
                TASK_STATE,
                "state it leaves in, as ftrace prints it: R runnable, R+ preempted, S, D, …",
                "args->prev_state",
            ),
            Field("next_tid", S32, "thread that gets the CPU", "args->next_pid"),
            Field("next_prio", S32, "its kernel priority", "args->next_prio"),
            Field("next_comm", COMM, "its name", "args->next_comm"),
        ),
        subjects=("tid", "next_tid"),
        optional=STACKS,
        example="switches on cpu 0 | count by prev_comm",
    ),
    Event(
        "sched_waking",
        "sched",
        "a wakeup, in the waker's own context: current is the waker, or whom the interrupt hit",
        ("sched:sched_waking",),
        (
            *TARGET,
            Field("target_cpu", S32, "CPU the thread ran on last", _CPU_OF_ARG0),
            Field(
                "context",
                CONTEXT,
                "what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown",
                "CONTEXT",
            ),
            Field("context_vec", S32, "softirq vector or irq number of that context", "CONTEXT_VEC", null=-1),
        ),
        raw=True,
        subjects=("tid", "target_tid"),
        optional=(
            Field(
                "context_source",
                NAME,
                "where an imported context is from: flags (of ftrace), stack (the call chain), unknown; null: recorded",
            ),
            *STACKS,
        ),
        example="wakeups by softirq net_rx | count by comm",
    ),
    Event(
        "sched_wakeup",
        "sched",
        "the woken thread is in a run queue; current may be a bystander",
        ("sched:sched_wakeup",),
        (*TARGET, Field("target_cpu", S32, "CPU whose run queue it is in", _CPU_OF_ARG0)),
        raw=True,
        subjects=("tid", "target_tid"),
        example="events sched_wakeup | count by target_cpu",
    ),
    Event(
        "sched_wakeup_new",
        "sched",
        "a new thread is put in a run queue for the first time; current is its parent",
        ("sched:sched_wakeup_new",),
        (*TARGET, Field("target_cpu", S32, "CPU whose run queue it is in", _CPU_OF_ARG0)),
        raw=True,
        subjects=("tid", "target_tid"),
        example='delays where cause = "new"',
    ),
    Event(
        "sched_migrate_task",
        "sched",
        "a thread moves to another CPU's run queue",
        ("sched:sched_migrate_task",),
        (
            *TARGET,
            Field("orig_cpu", S32, "CPU it leaves", _CPU_OF_ARG0),
            Field("dest_cpu", S32, "CPU it goes to", "ARG(1)"),
        ),
        raw=True,
        subjects=("tid", "target_tid"),
        example="events sched_migrate_task | count by target_comm",
    ),
)

_TASK = (
    Event(
        "sched_process_fork",
        "task",
        "a thread or process is created; current is the parent",
        ("sched:sched_process_fork",),
        (
            Field("child_tid", S32, "the new thread", "BTF(s32, ARG(1), task_struct.pid)"),
            Field("child_pid", S32, "its process", "BTF(s32, ARG(1), task_struct.tgid)"),
            Field("child_comm", COMM, "its name", "ARG(1) + OFFSET(task_struct.comm)"),
        ),
        raw=True,
        subjects=("tid", "child_tid"),
        example='tasks of comm "wrk:*"',
    ),
    Event(
        "sched_process_exec",
        "task",
        "a process starts another program",
        ("sched:sched_process_exec",),
        (
            Field("old_tid", S32, "thread that called exec (others of the process are gone)", "args->old_pid"),
            Field("filename", PATH, "path of the program, at most 127 bytes", "DATA_LOC(filename)"),
        ),
        example="events sched_process_exec",
    ),
    Event(
        "sched_process_exit",
        "task",
        "a thread ends",
        ("sched:sched_process_exit",),
        example="events sched_process_exit | count by comm",
    ),
)

_SOFTIRQ_EXAMPLE = "softirqs net_rx over 50us"
_IRQ = (
    Event(
        "softirq_raise",
        "irq",
        "a softirq is marked to be run",
        ("irq:softirq_raise",),
        (VEC,),
        raw=True,
        example="events softirq_raise | count by vec",
    ),
    Event(
        "softirq_entry",
        "irq",
        "a softirq handler begins; current is whom it runs on top of, or ksoftirqd/N",
        ("irq:softirq_entry",),
        (VEC,),
        raw=True,
        context="enter softirq",
        context_vec="ARG(0)",
        example=_SOFTIRQ_EXAMPLE,
    ),
    Event(
        "softirq_exit",
        "irq",
        "a softirq handler ends",
        ("irq:softirq_exit",),
        (VEC,),
        raw=True,
        context="leave",
        example=_SOFTIRQ_EXAMPLE,
    ),
    Event(
        "irq_handler_entry",
        "irq",
        "a device interrupt's handler begins; current is whom it interrupted",
        ("irq:irq_handler_entry",),
        (IRQ, Field("irq_name", NAME, "name of the handler", "BTF(u64, ARG(1), irqaction.name)")),
        raw=True,
        context="enter hardirq",
        context_vec="ARG(0)",
        example="irqs | sum dur by name",
    ),
    Event(
        "irq_handler_exit",
        "irq",
        "a device interrupt's handler ends",
        ("irq:irq_handler_exit",),
        (IRQ, Field("ret", S64, RET.doc, "ARG(2)")),
        raw=True,
        context="leave",
        example="irqs | sum dur by name",
    ),
    Event(
        "hrtimer_expire_entry",
        "irq",
        "a high-resolution timer's function begins",
        ("timer:hrtimer_expire_entry",),
        (
            Field("hrtimer", S64, "address of the timer", "ARG(0)"),
            Field("function", KSYM, "kernel function", "BTF(u64, ARG(0), hrtimer.function)"),
        ),
        raw=True,
        context="enter hrtimer",
        example='irqs where name = "hrtimer_wakeup"',
    ),
    Event(
        "hrtimer_expire_exit",
        "irq",
        "a high-resolution timer's function ends",
        ("timer:hrtimer_expire_exit",),
        (Field("hrtimer", S64, "address of the timer", "ARG(0)"),),
        raw=True,
        context="leave",
        example='irqs where name = "hrtimer_wakeup"',
    ),
    Event(
        "irq_vector_entry",
        "irq",
        "a CPU's own interrupt begins: local timer, IPI, … (x86)",
        ("irq_vectors:*_entry",),
        (VEC, Field("vector", PROBE_NAME, "its name: local_timer, reschedule, …", "PROBE")),
        raw=True,
        context="enter vector",
        context_vec="ARG(0)",
        example='irqs where name = "local_timer"',
    ),
    Event(
        "irq_vector_exit",
        "irq",
        "a CPU's own interrupt ends",
        ("irq_vectors:*_exit",),
        (VEC, Field("vector", PROBE_NAME, "its name: local_timer, reschedule, …", "PROBE")),
        raw=True,
        context="leave",
        example='irqs where name = "local_timer"',
    ),
)
# What an x86 vector is for the waker's context. Vectors not named here are hard interrupts.
VECTOR_CONTEXTS = {
    "local_timer": "hrtimer",
    "reschedule": "ipi",
    "call_function": "ipi",
    "call_function_single": "ipi",
    "x86_platform_ipi": "ipi",
    "irq_work": "ipi",
}
# Followed for the context but never emitted: delivering the event raises the next irq_work, without end.
NEVER_EMITTED_PROBES = ("irq_vectors:irq_work_*",)

_EPOLL = (
    _syscall_exit("epoll_wait", "epoll_wait returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("epoll_pwait", "epoll_pwait returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("epoll_pwait2", "epoll_pwait2 returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("accept", "accept returns", "accepts | count by comm"),
    _syscall_exit("accept4", "accept4 returns", "accepts | count by comm"),
    Event(
        "sys_enter_close",
        "epoll",
        "close is called",
        ("syscalls:sys_enter_close",),
        (Field("fd", S32, "file descriptor", "args->fd"),),
        example="closes on fd 42",
    ),
)

_NET = (
    Event(
        "inet_sock_set_state",
        "net",
        "a TCP (or SCTP, MPTCP) socket changes state",
        ("sock:inet_sock_set_state",),
        (
            SOCKET,
            FAMILY,
            PROTOCOL,
            Field("old_state", S32, "TCP state before (include/net/tcp_states.h)", "args->oldstate"),
            Field("new_state", S32, "TCP state after", "args->newstate"),
            Field("sport", S32, "local port", "args->sport"),
            Field("dport", S32, "remote port", "args->dport"),
            Field("saddr", IP, "local address", "args->saddr_v6"),
            Field("daddr", IP, "remote address", "args->daddr_v6"),
        ),
        example="connections on port 15006",
    ),
    Event(
        "sk_data_ready",
        "net",
        "a socket tells its reader that there is data",
        ("sock:sk_data_ready",),
        (SOCKET, FAMILY, PROTOCOL),
        example="events sk_data_ready | count by comm",
    ),
)

_STREAM = Field("stream", NAME, "which ring")
_FROM_TS = Field("from_ts", S64, "begin of the interval that ends at ts", unit="ns")
_LOST_COUNT = Field("lost_count", S64, "events lost", unit="count")
_BOOKKEEPING = (
    Event(
        "lost",
        BOOKKEEPING,
        "a gap: events of one stream and CPU that are not in the capture, after from_ts and before ts",
        fields=(_STREAM, _FROM_TS, _LOST_COUNT, Field("cause", NAME, "why: " + ", ".join(CAUSES))),
        example="lost | sum lost_count by stream, cpu",
    ),
    Event(
        "coverage",
        BOOKKEEPING,
        "one kind was recorded on one CPU (null: all) from from_ts to ts",
        fields=(
            _STREAM,
            _FROM_TS,
            Field("covered_kind", NAME, "event kind"),
            Field("filter", PATH, "the filter in force; null: none"),
        ),
    ),
    Event(
        "task",
        BOOKKEEPING,
        "a thread that existed when the recording began, from /proc",
        fields=(
            Field("start_ts", S64, "when it was created, on the clock of ts (negative: before boot's zero)", unit="ns"),
            Field("cgroup", PATH, "cgroup v2 path"),
            Field("pid_ns", S64, "inode of its PID namespace"),
            Field("ns_tid", S32, "its tid inside that namespace"),
        ),
        example='tasks of comm "wrk:*"',
    ),
    Event(
        "clock",
        BOOKKEEPING,
        "the clocks read at one moment, ts being the monotonic one",
        fields=(
            Field("boottime", S64, "CLOCK_BOOTTIME", unit="ns"),
            Field("realtime", S64, "CLOCK_REALTIME, since 1970 UTC", unit="ns"),
        ),
    ),
    Event(
        "recorder",
        BOOKKEEPING,
        "once a second: the recorder observes itself, totals since the start",
        fields=(
            Field("events_in", S64, "events taken from the rings", unit="count"),
            Field("events_out", S64, "rows written", unit="count"),
            _LOST_COUNT,
            Field("drain_delay", S64, "longest time between two drains in that second", unit="ns"),
            Field("cpu_time", S64, "CPU time the recorder has used", unit="ns"),
        ),
    ),
    Event(
        "stack",
        BOOKKEEPING,
        "a call stack, once however many events have it",
        fields=(
            Field("stack_id", S64, "what kstack and ustack of events refer to; unique in the capture"),
            Field("folded", PATH, "functions from the outermost to the innermost, joined by ;"),
            Field("frames", PATH, "the same frames as JSON: name, offset, address, module, build_id, as far as known"),
        ),
    ),
    Event(
        "unparsed",
        BOOKKEEPING,
        "a line of an imported text that could not be read; ts is that of the event before it",
        fields=(
            Field("line", S64, "number of the line in its file"),
            Field("text", PATH, "its first 200 characters"),
        ),
    ),
)

CATALOGUE: tuple[Event, ...] = _SCHED + _TASK + _IRQ + _EPOLL + _NET + _BOOKKEEPING
KINDS: dict[str, Event] = {event.kind: event for event in CATALOGUE}
GROUPS: dict[str, tuple[str, ...]] = {
    stream: tuple(event.kind for event in CATALOGUE if event.stream == stream)
    for stream in ("sched", "task", "irq", "epoll", "net")
}


@dataclass(frozen=True)
class Catalogue:
    """The kinds one capture uses: those built in and those made at run time from a tracefs format file."""

    events: dict[str, Event] = field(default_factory=lambda: dict(KINDS))

    @classmethod
    def of(cls, events: Iterable[Event]) -> Catalogue:
        """A catalogue of the built-in kinds and these (later ones win)."""
        return cls({**KINDS, **{event.kind: event for event in events}})

    def columns(self) -> dict[str, Field]:
        """Every column with its declaration, base columns first.

        Raises:
            ValueError: one name has two types.
        """
        found: dict[str, Field] = {}
        for event in self.events.values():
            for column in event.columns:
                known = found.setdefault(column.name, column)
                if known.type.arrow != column.type.arrow:
                    raise ValueError(
                        f"column {column.name} is {known.type.arrow} and, in {event.kind}, {column.type.arrow}"
                    )
        return found


def probe_matches(pattern: str, tracepoint: str) -> bool:
    """Whether a probe pattern of the catalogue (``category:event`` with globs) covers a tracepoint."""
    return fnmatchcase(tracepoint, pattern)
