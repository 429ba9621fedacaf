"""What a program that records late run-queue waits does at each step of a thread: it calls the functions in runq.c."""

from __future__ import annotations

from pathlib import Path

from tracectl.recorder.btf import Btf
from tracectl.store.errors import RecordError
from tracectl.store.events import WAIT_CAUSES

KIND = "runq_delay"
_TID = "BTF(s32, ARG({}), task_struct.pid)"


def source(min_delay_ns: int) -> str:
    """The functions that the statements call, in C; only waits longer than so long are late."""
    constants = {f"CAUSE_{name.upper()}": number for number, name in enumerate(WAIT_CAUSES)} | {
        "MIN_DELAY": min_delay_ns
    }
    defines = [f"#define {name} {number}" for name, number in constants.items()]
    return "\n".join([*defines, Path(__file__).with_name("runq.c").read_text()])


def steps_code(btf: Btf) -> dict[str, str]:
    """Statements that follow every thread's steps, by raw tracepoint; the switch's leave ``wait`` and ``wait_ts``.

    Raises:
        RecordError: this kernel's sched_switch has other arguments.
    """
    names = [name for name, _ in btf.func_args("btf_trace_sched_switch")]
    if len(names) < 3 or any(name not in ("", known) for name, known in zip(names, _SWITCH, strict=False)):
        raise RecordError(
            f"this kernel's sched_switch has arguments of another order: {', '.join(names)}", f"record without {KIND}"
        )
    # Before Linux 5.18 the state that counted is not among the arguments.
    state = "(u32)ARG(3)" if len(names) > 3 else "(u32)BTF(s32, ARG(1), task_struct.__state|task_struct.state)"
    return {
        # First, since probes are attached in this order: then whoever is seen to be woken is also seen to get a CPU.
        "sched:sched_switch": (
            "u64 wait_ts = bpf_ktime_get_ns();\n"
            f"    runq_leaves(wait_ts, {_TID.format(1)}, (int)(ARG(0) & 1), {state});\n"
            f"    struct wait wait = runq_gets(wait_ts, {_TID.format(2)});"
        ),
        "sched:sched_waking": f"runq_woken({_TID.format(0)});",
        "sched:sched_wakeup_new": f"runq_born({_TID.format(0)});",
    }


_SWITCH = ("preempt", "prev", "next", "prev_state")


def late_code(base: int) -> list[str]:
    """Statements that let only late waits pass, and count those that the map of threads had no room for.

    Args:
        base: the first of the stream's counters.
    """
    return [
        f"if (wait.unsure) {{ count({base}); count({base + 5}); return PASS_ON; }}",
        "if (!runq_late(&wait, ts)) return PASS_ON;",
    ]
