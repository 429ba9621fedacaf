"""The nouns of the question language: what one can ask for. The rows are relations (store/views)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracectl.store.events import SOFTIRQS
from tracectl.store.relations import Column, EvidenceRule, views


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        name: plural, also the relation's name.
        names: all that may be typed for it, lower case.
        subjects: (tid, pid, comm) columns of the threads that a row is about: ``of`` means any of them.
        state: the column that ``in state`` means; empty: none.
        argument: what a word after the noun picks: ``vector`` (softirqs net_rx), ``kind`` (events sched_waking),
            ``function`` (calls do_mount), ``name`` (syscalls read).
        unknown: a column that rows may not know even where nothing was lost: a comparison leaves those open.
        links: columns that can tie a row to one of another noun, the best first; none: a row is at no moment.
        order: columns that put the rows in an order which is the same every time.
        examples: questions, executed by tests and shown in docs/language.md.
    """

    name: str
    names: tuple[str, ...]
    subjects: tuple[tuple[str, str, str], ...] = (("tid", "pid", "comm"),)
    state: str = ""
    argument: str = ""
    unknown: str = ""
    order: tuple[str, ...] = ("seq",)
    links: tuple[str, ...] = ("tid", "cpu")
    examples: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """What one row is."""
        return views()[self.name].row if self.name in views() else "an event as recorded"

    @property
    def columns(self) -> dict[str, Column]:
        """The relation's columns; those of ``events`` depend on the kind and the capture."""
        return views()[self.name].columns if self.name in views() else {}

    @property
    def evidence(self) -> EvidenceRule:
        """What its rows depend on."""
        return views()[self.name].evidence if self.name in views() else EvidenceRule((), True, "ts..ts")

    @property
    def acted(self) -> bool:
        """Whether a row has a waker and its context, for ``by``."""
        return "context" in self.columns


_SWITCHED = (("prev_tid", "prev_pid", "prev_comm"), ("next_tid", "next_pid", "next_comm"))
NOUNS: tuple[Noun, ...] = (
    Noun(
        "wakeups",
        ("wakeups", "wakeup"),
        examples=(
            "wakeups of tid 4449 by softirq",
            "wakeups | count by comm, context",
            "wakeups on port 15006 | count by comm, fd",
        ),
    ),
    Noun(
        "switches",
        ("switches", "switch"),
        _SWITCHED,
        "prev_state",
        links=("cpu",),
        examples=("switches | count by prev_state",),
    ),
    Noun("runs", ("runs", "run"), state="end_state", examples=('runs of comm "wrk:*" | sum dur by comm',)),
    Noun(
        "delays",
        ("delays", "delay", "runq latencies", "runq latency"),
        examples=("delays over 10ms | top 10 by dur", "runq latencies of pid 4182 | p50,p95,p99 dur by comm"),
    ),
    Noun("sleeps", ("sleeps", "sleep"), state="state", examples=("sleeps in state D | sum blocked by comm",)),
    Noun(
        "softirqs",
        ("softirqs", "softirq"),
        argument="vector",
        unknown="dur",
        links=("cpu",),
        examples=("softirqs net_rx over 50us", "softirqs | sum dur by name"),
    ),
    Noun("irqs", ("irqs", "irq"), unknown="dur", links=("cpu",), examples=("irqs | sum dur by source, name",)),
    Noun("epolls", ("epolls", "epoll"), examples=('epolls of comm "wrk:*" by softirq | count by comm, events',)),
    Noun(
        "callbacks",
        ("callbacks", "callback"),
        state="tcp_state",
        links=("socket", "cpu"),
        examples=("callbacks on port 15006 | count by fd, tcp_state",),
    ),
    Noun("accepts", ("accepts", "accept"), examples=("accepts | count by comm",)),
    Noun("closes", ("closes", "close"), examples=("closes on fd 42",)),
    Noun(
        "connections",
        ("connections", "connection"),
        state="new_state",
        links=("socket",),
        examples=("connections on port 15006 in state established",),
    ),
    Noun(
        "chains",
        ("chains", "chain"),
        state="state",
        links=(),
        order=("root_tid", "depth", "seq DESC", "ts DESC"),
        examples=("chains of tid 4449 at 20.929s", 'chains of comm "wrk:*" at 20.929s where not certain'),
    ),
    Noun(
        "critical_path",
        ("critical path", "critical paths", "critical_path"),
        state="state",
        links=(),
        order=("root_tid", "ts", "depth", "seq"),
        examples=(
            "critical path of tid 4449 between 20s and 21s",
            "critical path of tid 4449 between 20s and 21s | sum dur by what, comm, ran_comm",
        ),
    ),
    Noun(
        "syscalls",
        ("syscalls", "syscall"),
        argument="name",
        examples=("syscalls read over 1ms of pid 4182", "syscalls where error > 0 | count by name, error"),
    ),
    Noun("samples", ("samples", "sample"), examples=("samples | count by comm",)),
    Noun(
        "calls",
        ("calls", "call"),
        argument="function",
        unknown="dur",
        links=(),
        examples=("calls do_mount over 100us", 'calls "vfs_*" of comm sh | sum dur by function'),
    ),
    Noun(
        "stack_totals",
        ("stack totals", "stack total", "stack_totals"),
        links=(),
        examples=("stack totals | sum value by stack", "stack totals of comm sh | sum value by waker_stack, stack"),
    ),
    Noun(
        "lost",
        ("lost", "losses", "loss"),
        (),
        unknown="lost_count",
        links=(),
        examples=("lost | sum lost_count by stream, cpu",),
    ),
    Noun("tasks", ("tasks", "task"), order=("seq", "tid"), links=(), examples=('tasks of comm "wrk:*"',)),
    Noun(
        "events",
        ("events", "event"),
        argument="kind",
        examples=("events | count by kind", "events sched_wakeup_new | count by target_comm"),
    ),
)
BY_NAME: dict[str, Noun] = {name: noun for noun in NOUNS for name in noun.names}


def find(text: str) -> Noun:
    """The noun that was typed, in any case and with any space inside."""
    return BY_NAME[re.sub(r"\s+", " ", text.lower())]


def softirq_vector(word: str) -> int | None:
    """Number of a softirq vector by name or number; None: there is no such."""
    name = word.upper()
    if name in SOFTIRQS:
        return SOFTIRQS.index(name)
    return int(word) if word.isascii() and word.isdigit() and int(word[:3]) < len(SOFTIRQS) else None


def _alternatives(names: list[str]) -> str:
    longest_first = sorted(names, key=len, reverse=True)
    return "|".join(name.replace(" ", r"\s+") for name in longest_first)


def grammar() -> str:
    """The nouns' rules: those that take a word after them, and the others."""
    plain = [name for noun in NOUNS for name in noun.names if not noun.argument]
    taking = [name for noun in NOUNS for name in noun.names if noun.argument]
    return (
        "noun: NOUN | KIND_NOUN (WORD | STRING | UINT)?\n"
        f"NOUN.3: /({_alternatives(plain)})(?!\\w)/i\n"
        f"KIND_NOUN.3: /({_alternatives(taking)})(?!\\w)/i\n"
    )
