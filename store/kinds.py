"""The kinds of rows about scheduling, threads and interrupts."""

from __future__ import annotations

from tracectl.store.columns import CALLBACK, CPU_OF_ARG0, IRQ, RET, STACKS, TARGET, VEC
from tracectl.store.entry import Event
from tracectl.store.fields import COMM, CONTEXT, KSYM, NAME, PATH, PROBE_NAME, S32, S64, TASK_STATE, WAIT_CAUSE, Field

SCHED = (
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
            Field("target_cpu", S32, "CPU the thread ran on last", CPU_OF_ARG0),
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
            *CALLBACK,
            *STACKS,
        ),
        example="wakeups by softirq net_rx | count by comm",
    ),
    Event(
        "sched_wakeup",
        "sched",
        "the woken thread is in a run queue; current may be a bystander",
        ("sched:sched_wakeup",),
        (*TARGET, Field("target_cpu", S32, "CPU whose run queue it is in", CPU_OF_ARG0)),
        raw=True,
        subjects=("tid", "target_tid"),
        example="events sched_wakeup | count by target_cpu",
    ),
    Event(
        "sched_wakeup_new",
        "sched",
        "a new thread is put in a run queue for the first time; current is its parent",
        ("sched:sched_wakeup_new",),
        (*TARGET, Field("target_cpu", S32, "CPU whose run queue it is in", CPU_OF_ARG0)),
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
            Field("orig_cpu", S32, "CPU it leaves", CPU_OF_ARG0),
            Field("dest_cpu", S32, "CPU it goes to", "ARG(1)"),
        ),
        raw=True,
        subjects=("tid", "target_tid"),
        example="events sched_migrate_task | count by target_comm",
    ),
)

# A stream of its own: what is lost of others does not touch these rows, which the kernel has put together.
RUNQ = (
    Event(
        "runq_delay",
        "runq",
        "a thread gets a CPU that it waited for over --min-delay; pid, tid and comm are its own",
        ("sched:sched_switch",),
        (
            Field("dur", S64, "how long it lasted; null: not known", "WAIT_NS", unit="ns"),
            Field("cause", WAIT_CAUSE, "why it waited: wakeup, preempted, new", "WAIT_CAUSE"),
            Field("prev_tid", S32, "thread that leaves that CPU", "BTF(s32, ARG(1), task_struct.pid)"),
            Field("prev_comm", COMM, "its name", "ARG(1) + OFFSET(task_struct.comm)"),
        ),
        raw=True,
        of_task="ARG(2)",
        example="events runq_delay where dur > 5ms | count by comm",
    ),
)

TASK = (
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
IRQS = (
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
