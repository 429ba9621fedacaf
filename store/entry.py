"""What an entry of the event catalogue is, the columns of every row, and the codes that rows hold.

C expressions are a small vocabulary that the recorder expands:

- ``args->name``: a field of the tracepoint's own format (classic tracepoints),
- ``ARG(n)``: the n-th argument of a raw tracepoint, an integer of 64 bits,
- ``BTF(type, pointer, struct.member|struct.other)``: a kernel struct's member, its offset taken from the running
  kernel's BTF; the first path that exists is used,
- ``DATA_LOC(name)``: pointer to a classic tracepoint's variable-length field,
- ``RETURN``: what the function returned (``fexit``),
- ``CALLBACK(member)``: of the innermost ep_poll_callback that runs on this CPU: ``struct callback`` in
  recorder/epoll.c,
- ``ENDPOINT(member)``: of its socket, or of the one at ``Event.endpoint``: ``struct endpoint`` there,
- ``KSTACK``, ``USTACK``: call stacks,
- ``COMPAT``: 1 while the thread is in a 32-bit system call of a 64-bit kernel,
- ``WAIT_NS``, ``WAIT_CAUSE``: of the wait in a run queue that ends here: recorder/runq.c.

Probes that can fire inside an interrupt are raw: the kernel skips a classic tracepoint's BPF program when an interrupt
arrives while another one runs on that CPU, and the event is gone (kernel/trace/bpf_trace.c, ``trace_call_bpf``).
"""

from __future__ import annotations

from dataclasses import dataclass

from tracectl.store.fields import COMM, NAME, S16, S32, S64, Field


@dataclass(frozen=True)
class Event:
    """One kind of row.

    Attributes:
        kind: the name, the kernel's own where it has one.
        stream: the ring it travels in, also its group in ``record -e``. Loss is known per stream and CPU.
        doc: one line for people.
        probes: ``category:event`` tracepoints (globs allowed) that write it, or ``fentry:function``,
            ``fexit:function``, ``perf:cpu_clock``; empty for bookkeeping kinds.
        fields: the kind's own columns, besides BASE_FIELDS.
        raw: attach as raw tracepoint (see above) instead of a classic one.
        subjects: the columns with the tids the event is about; a task filter keeps it when one of them matches.
        context: what it does to the CPU's interrupt context: ``enter softirq|hardirq|hrtimer|ipi`` or ``leave``.
        context_vec: C expression of the vector that is entered.
        of_task: C expression of the task_struct that the row's own pid, tid and comm are of; empty: the current one.
        endpoint: C expression of the struct sock whose addresses and ports the row has; a row without one is not
            recorded.
        optional: columns that are filled only when asked for (stacks), together with another kind (``CALLBACK``), or
            only by imports of other tools' traces. Which were filled stands in the capture's footer.
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
    of_task: str = ""
    endpoint: str = ""
    optional: tuple[Field, ...] = ()
    example: str = ""

    @property
    def bookkeeping(self) -> bool:
        """Whether the row tells about the recording instead of the kernel."""
        return self.stream == BOOKKEEPING

    @property
    def imported(self) -> bool:
        """Whether only other tools' traces hold it."""
        return not self.bookkeeping and not self.probes

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
# Why a thread was waiting in a run queue; the order is the record's number.
WAIT_CAUSES = ("wakeup", "preempted", "new")
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
# What stands for the functions of a call stack that could not be taken, or is lost.
LOST_STACK = "[lost stack]"
# Why events are missing; each its own cause, since each has its own remedy.
CAUSES = {
    "ring_full": "the ring was full, a marker in the ring told of it; larger --buffer",
    "tail": "the ring was full when the recording ended, after the last marker; larger --buffer",
    "nested": "an interrupt's event came while the same probe ran on that CPU and the kernel skipped it",
    "busy": "the kernel refused the event (nested too deeply)",
    "undeclared": "a CPU's switches do not follow each other, though nothing told of a loss",
    "killed": "the recorder ended without a clean stop; what it had not yet written is gone",
    "not_attached": "the probe could not be attached, or the CPU came online later, or again; record again",
    "map_full": "a BPF map was full",
    "reader": "the recorder could not write as fast as events came",
    "stack": "a call stack could not be taken or did not arrive; rows that refer to it say [lost stack]",
    "sampled": "left out on purpose: --every N takes one of N events of each kind on each CPU",
    "filtered": "left out on purpose by a filter of the recording",
}
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
