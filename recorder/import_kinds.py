"""How the catalogue's kinds are written by ftrace, trace-cmd and perf script, and how other events are taken in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from tracectl.recorder.import_template import Part, Template
from tracectl.store.events import KINDS, TCP_STATES

# trace-cmd's own letters for the state of a thread are those of kernels before 3.14. The same bits since then:
PLUGIN_STATE = "plugin_state"
PLUGIN_LETTERS = str.maketrans({"Z": "X", "X": "Z", "x": "P", "W": "I"})
_TARGET = "comm={target_comm:text} pid={target_tid:int} prio={target_prio:int}"
_WAKEUP = (
    f"{_TARGET} target_cpu={{target_cpu:int}}",
    "{target:task} [{target_prio:int}] CPU:{target_cpu:int}",
    f"{_TARGET} success={{:skip}} target_cpu={{target_cpu:int}}",
    "{target:task} [{target_prio:int}]{:skip}CPU:{target_cpu:int}",
)
_PREV = "prev_comm={comm:text} prev_pid={tid:int} prev_prio={prev_prio:int} prev_state={prev_state:word}"
_NEXT = "next_comm={next_comm:text} next_pid={next_tid:int} next_prio={next_prio:int}"
_CHILD = "child_comm={child_comm:text} child_pid={child_tid:int}"
_SOFTIRQ = ("vec={vec:int} [action={:skip}]", "vec={vec:int}")
_SYSCALL_EXIT = ("{ret:hex}",)
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "sched_switch": (
        f"{_PREV} ==> {_NEXT}",
        f"{{:task}} [{{prev_prio:int}}] {{{PLUGIN_STATE}:word}} ==> {{next:task}} [{{next_prio:int}}]",
        f"{_PREV} {_NEXT}",
    ),
    "sched_waking": _WAKEUP,
    "sched_wakeup": _WAKEUP,
    "sched_wakeup_new": _WAKEUP,
    "sched_migrate_task": (f"{_TARGET} orig_cpu={{orig_cpu:int}} dest_cpu={{dest_cpu:int}}",),
    "sched_process_fork": (
        f"comm={{:skip}} pid={{:skip}} {_CHILD}",
        f"parent_comm={{:skip}} parent_pid={{:skip}} {_CHILD}",
    ),
    "sched_process_exec": ("filename={filename:text} pid={tid:int} old_pid={old_tid:int}",),
    "sched_process_exit": ("comm={comm:text} pid={tid:int} prio={:skip}",),
    "softirq_raise": _SOFTIRQ,
    "softirq_entry": _SOFTIRQ,
    "softirq_exit": _SOFTIRQ,
    "irq_handler_entry": ("irq={irq:int} name={irq_name:text}", "irq={irq:int} handler={irq_name:text}"),
    "irq_handler_exit": ("irq={irq:int} ret={ret:word}", "irq={irq:int} return={ret:word}"),
    "hrtimer_expire_entry": (
        "hrtimer={hrtimer:hex} function={function:text} now={:skip}",
        "hrtimer={hrtimer:hex} now={:skip}",
        "hrtimer={hrtimer:hex} function={function:text}",
        "hrtimer={hrtimer:hex}",
    ),
    "hrtimer_expire_exit": ("hrtimer={hrtimer:hex}",),
    "sys_exit_epoll_wait": _SYSCALL_EXIT,
    "sys_exit_epoll_pwait": _SYSCALL_EXIT,
    "sys_exit_epoll_pwait2": _SYSCALL_EXIT,
    "sys_exit_accept": _SYSCALL_EXIT,
    "sys_exit_accept4": _SYSCALL_EXIT,
    "sys_enter_close": ("fd: {fd:hex}",),
    "inet_sock_set_state": (
        "family={family:word} protocol={protocol:word} sport={sport:int} dport={dport:int} saddr={:skip} daddr={:skip} "
        "saddrv6={saddr:word} daddrv6={daddr:word} oldstate={old_state:word} newstate={new_state:word}",
    ),
    "function_call": ("{function:word} <-{parent:word}", "{function:text} <-{parent:text}"),
    "sk_data_ready": (
        "family={family:word} protocol={protocol:word} func={:skip}",
        "family={family:word} protocol={protocol:word}",
    ),
}
# Numbers that the kernel prints as words.
CODES: dict[str, dict[str, int]] = {
    "family": {"AF_INET": 2, "AF_INET6": 10},
    "protocol": {"IPPROTO_TCP": 6, "IPPROTO_DCCP": 33, "IPPROTO_SCTP": 132, "IPPROTO_MPTCP": 262},
    "old_state": {f"TCP_{name}": number for number, name in enumerate(TCP_STATES) if name},
    "new_state": {f"TCP_{name}": number for number, name in enumerate(TCP_STATES) if name},
    "ret": {"handled": 1, "unhandled": 0},
}
MOST_FIELDS = 32
# What perf samples by when it looks at what CPUs run: time, or the cycles in it.
SAMPLE = "cpu_sample"
_SAMPLED_BY = re.compile(
    r"(?:(?:cpu|cpu_core|cpu_atom)/)?(?:cycles|cpu-cycles|cpu-clock|task-clock)(?:[/:][a-zA-Z]{0,8}){0,2}"
)
_KEY = re.compile(r"(?:^|(?<=[ ,({|]))([A-Za-z_][\w.-]{0,63})(=|: )")
_UNIT = re.compile(r"(\S+)( \[\w{1,16}\])")
_SEPARATORS = " ,({|"
_MODIFIERS = re.compile(r"[ukhpPGHSDIWeb]{1,8}")
_UNSAFE = re.compile(r"\W+", re.ASCII)


@dataclass(frozen=True)
class Source:
    """What an event's name as written stands for.

    Attributes:
        kind: of the catalogue, or a name for a kind of its own.
        probe: ``category:event`` where the category is written, else the event.
        vector: for a CPU's own interrupts, its name.
    """

    kind: str
    probe: str
    vector: str = ""

    @property
    def known(self) -> bool:
        """Whether the catalogue has the kind."""
        return self.kind in (*_LAYOUTS, SAMPLE) or bool(self.vector)


def is_sample(name: str) -> bool:
    """Whether an event such as ``cycles:u``, ``cpu-clock`` or ``cpu_core/cycles/`` is a sample of what a CPU ran."""
    return _SAMPLED_BY.fullmatch(name) is not None


@lru_cache(4096)
def source_of(name: str) -> Source:
    """What is behind a name such as ``sched:sched_switch``, ``sched_switch``, ``cycles:u``."""
    category, colon, event = name.partition(":")
    if not colon or _MODIFIERS.fullmatch(event):
        category, event = "", category
    if category in ("", "irq_vectors"):
        vector, _, edge = event.rpartition("_")
        if edge in ("entry", "exit") and (category or vector in _VECTORS):
            return Source(f"irq_vector_{edge}", f"irq_vectors:{event}", vector)
    kind = _UNSAFE.sub("_", event).lower()  # names that differ in case alone are one column to SQL
    taken = kind in KINDS and kind not in _LAYOUTS
    return Source(f"{kind}_event" if taken else kind, f"{category}:{event}" if category else event)


_VECTORS = frozenset(
    ("local_timer", "reschedule", "call_function", "call_function_single", "x86_platform_ipi", "irq_work", "error_apic",
     "spurious_apic", "thermal_apic", "threshold_apic", "deferred_error_apic")
)  # fmt: skip


@cache
def known_templates(kind: str) -> list[Template]:
    """The layouts of a kind of the catalogue."""
    if kind.startswith("irq_vector_"):
        return [Template("vector={vec:int}")]
    return [Template(layout) for layout in _LAYOUTS[kind]]


def inferred_template(text: str) -> Template:
    """A layout from one example of an event that is not in the catalogue: ``key=value`` or ``key: value``.

    Every value is kept as text; whether a column is numbers is known at the end. Without keys the whole is one column.
    """
    keys = list(_KEY.finditer(text))[:MOST_FIELDS]
    if not keys:
        return Template.of([Part("text", "text")])
    names: list[str] = []
    parts: list[Part] = []
    lead = text[: keys[0].start()].rstrip(_SEPARATORS)
    if lead:
        names.append("text")
        parts.append(Part("text", "text"))
    at = len(lead)
    for number, key in enumerate(keys):
        end = keys[number + 1].start() if number + 1 < len(keys) else len(text)
        value = text[key.end() : end].rstrip(_SEPARATORS) if number + 1 < len(keys) else text[key.end() :]
        unit = _UNIT.fullmatch(value.rstrip())
        name = _unused(_UNSAFE.sub("_", key[1]).strip("_").lower() or "field", names)
        names.append(name)
        parts += [Part(text[at : key.end()]), Part(name, "word" if unit else "text")]
        at = key.end() + (len(unit[1]) if unit else len(value))
    if at < len(text.rstrip()):
        parts.append(Part(text[at:].rstrip()))
    return Template.of(parts)


def _unused(name: str, names: list[str]) -> str:
    """The name, with a number behind it when it is taken."""
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}_{number}"
    return free
