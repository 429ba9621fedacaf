"""Random small recordings for the property tests, what a loss makes of them, and a quick way to ask them questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from hypothesis import strategies as st

from tracectl.store import relations
from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.events import KINDS, Catalogue
from tracectl.store.footer import Footer

Row = dict[str, Any]
START, END = 90, 1_000
CPUS = (0, 1)
STREAMS = {kind: event.stream for kind, event in KINDS.items() if not event.bookkeeping}
_TYPES = {"int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(), "string": pa.string()}
COLUMNS = Catalogue().columns()
_SCHEMA = pa.schema([(name, _TYPES[column.type.arrow]) for name, column in COLUMNS.items()])
_SQL = {"int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR"}

# What a trace is about: the kinds in it (often: several times), and the streams that a loss may hit. Few kinds at a
# time, or what a loss hides would hardly ever matter.
FOCUS: dict[str, tuple[str, str]] = {
    "wakeups": ("sched_waking sched_waking sched_switch", "sched"),
    "spans": (
        "softirq_entry softirq_exit sched_waking sched_waking irq_handler_entry irq_handler_exit sched_switch",
        "irq sched",
    ),
    "switches": ("sched_switch", "sched"),
    "runs": ("sched_switch sched_switch sched_waking", "sched"),
    "delays": ("sched_switch sched_switch sched_waking sched_wakeup_new", "sched"),
    "sleeps": ("sched_switch sched_switch sched_waking", "sched"),
    "softirqs": ("softirq_entry softirq_exit", "irq"),
    "irqs": (
        "irq_handler_entry irq_handler_exit hrtimer_expire_entry hrtimer_expire_exit irq_vector_entry irq_vector_exit",
        "irq",
    ),
    "epolls": ("sched_waking sys_exit_epoll_wait sys_exit_epoll_pwait", "epoll sched"),
    "accepts": ("sys_exit_accept4", "epoll"),
    "closes": ("sys_enter_close", "epoll"),
    "connections": ("inet_sock_set_state", "net"),
    "tasks": ("sched_process_fork sched_wakeup_new sched_process_exit sched_switch sched_waking", "task sched"),
    "syscalls": ("sys_enter sys_enter sys_exit sys_exit sched_process_exit sched_process_exec", "syscall task"),
    "events": ("sched_switch softirq_entry sys_enter_close", "sched irq epoll"),
}

# The same for relations between rows, with the nouns that a question can be about.
RELATED: dict[str, tuple[str, str]] = {
    "wakeups accepts closes": ("sched_waking sched_waking sys_exit_accept4 sys_enter_close", "sched epoll"),
    "wakeups softirqs closes": ("softirq_entry softirq_exit softirq_entry softirq_exit sched_waking sys_enter_close",
                                "irq sched epoll"),
    "wakeups irqs softirqs": (
        "irq_handler_entry irq_handler_exit hrtimer_expire_entry hrtimer_expire_exit softirq_entry softirq_exit "
        "sched_waking", "irq sched",
    ),
    "wakeups runs switches closes": ("sched_switch sched_switch sched_waking sys_enter_close", "sched epoll"),
    "wakeups delays sleeps runs closes": (
        "sched_switch sched_switch sched_switch sched_waking sched_wakeup_new sys_enter_close", "sched epoll",
    ),
    "syscalls wakeups": ("sys_enter sys_enter sys_exit sys_exit sched_process_exit sched_waking", "syscall task sched"),
    "delays sleeps": ("sched_switch sched_switch sched_switch sched_waking", "sched"),
    "epolls accepts wakeups": ("sched_waking sys_exit_epoll_wait sys_exit_accept4", "epoll sched"),
    "connections events": ("inet_sock_set_state sys_enter_close", "net epoll"),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """An event to be: its kind, CPU, the thread it is about, time since the step before, state, and whether the current
    thread is the one that the CPU runs.
    """

    kind: str
    cpu: int
    about: int
    delta: int
    state: str
    sane: bool


@dataclass(frozen=True)
class Loss:
    """Consecutive events of one ring that are lost; those of all the stream's rings when ``whole``."""

    stream: str
    cpu: int
    first: int
    count: int
    whole: bool


@dataclass(frozen=True)
class Case:
    """A trace and what is lost of it.

    Attributes:
        blur: what the gaps do not say: nothing, the ``count``, the ``cpu``, or the ``stream``.
        spans: whether the wakings have no recorded context.
        declared: whether the recorder compared the switches with each other.
    """

    focus: str
    steps: tuple[Step, ...]
    losses: tuple[Loss, ...]
    blur: str = ""
    declared: bool = True

    @property
    def spans(self) -> bool:
        return self.focus == "spans"


@st.composite
def cases(draw: st.DrawFn, focus: str) -> Case:
    """Traces about one noun, and losses that hit it."""
    kinds, streams = (FOCUS | RELATED)[focus]
    cpu = st.sampled_from((0, 0, 0, 1))
    state = st.sampled_from(("S", "S", "R", "R+", "D", "I", "X"))
    step = st.builds(
        Step,
        st.sampled_from(kinds.split()),
        cpu,
        st.integers(0, 2),
        st.integers(0, 3),
        state,
        st.integers(0, 5).map(bool),
    )
    loss = st.builds(
        Loss, st.sampled_from(streams.split()), cpu, st.integers(0, 6), st.sampled_from((1, 2, 1, 3, 40)),
        st.integers(0, 9).map(lambda n: n == 9),
    )  # fmt: skip
    return Case(
        focus,
        tuple(draw(st.lists(step, min_size=3, max_size=20))),
        tuple(draw(st.lists(loss, min_size=1, max_size=3))),
        draw(st.sampled_from(("", "", "", "", "count", "cpu", "stream"))),
        draw(st.integers(0, 5).map(bool)),
    )


def rows_of(case: Case) -> list[Row]:
    """Rows in the order of the steps. Mostly a thread runs where it was put; sometimes anything goes."""
    running = [0, 0]
    ts = 100
    rows: list[Row] = [
        {
            "seq": tid,
            "ts": 91,
            "kind": "task",
            "tid": tid,
            "pid": tid,
            "comm": f"t{tid}",
            "cgroup": "/" + "ab"[tid - 1],
        }
        for tid in (1, 2)
    ]
    for seq, step in enumerate(case.steps, 3):
        ts += step.delta
        tid = running[step.cpu] if step.sane and running != [0, 0] else step.about
        row = {"seq": seq, "ts": ts, "kind": step.kind, "cpu": step.cpu, "tid": tid, "pid": tid, "comm": f"t{tid}"}
        row |= _fields(step, tid, case.spans)
        if step.kind == "sched_switch":
            running[step.cpu] = row["next_tid"]
        rows.append(row)
    return rows


def _fields(step: Step, tid: int, spans: bool) -> Row:
    about, kind = step.about, step.kind
    other = about or 3
    target = {"target_tid": other, "target_pid": other, "target_comm": f"t{other}", "target_prio": 120}
    into = about if about != tid else (about + 1) % 3
    context = ("task", "softirq", "unknown", "hardirq", "softirq", "task")[2 * about + step.sane]
    return {
        "sched_switch": {
            "prev_state": "R" if tid == 0 else step.state, "next_tid": into, "next_comm": f"t{into}", "next_prio": 120,
        },
        "sched_waking": target | ({} if spans else {"context": context, "context_vec": about if about else None})
        | ({"fd": about, "sport": 80, "dport": about} if step.sane else {}),
        "sched_wakeup_new": target,
        "sched_process_fork": {"child_tid": other, "child_pid": other, "child_comm": f"t{other}"},
        "softirq_entry": {"vec": about // 2}, "softirq_exit": {"vec": about // 2},
        "irq_handler_entry": {"irq": about % 2, "irq_name": "eth0"}, "irq_handler_exit": {"irq": about % 2},
        "hrtimer_expire_entry": {"hrtimer": about, "function": "tick"}, "hrtimer_expire_exit": {"hrtimer": about},
        "irq_vector_entry": {"vec": about, "vector": "ipi"}, "irq_vector_exit": {"vec": about, "vector": "ipi"},
        "sys_exit_epoll_wait": {"ret": about}, "sys_exit_epoll_pwait": {"ret": -4},
        "sys_exit_accept4": {"ret": about - 1},
        "sys_enter_close": {"fd": about},
        "sys_enter": {"id": about // 2, "compat": 0}, "sys_exit": {"id": (0, 0, -1)[about], "ret": about - 1},
        "sched_process_exec": {"old_tid": other},
        "inet_sock_set_state": {"old_state": 1, "new_state": about + 2, "sport": 80, "dport": about, "socket": about},
    }.get(kind, {})  # fmt: skip


def without(case: Case, rows: list[Row]) -> tuple[list[Row], int]:
    """The rows that are left, with gaps in place of the others as the recorder would write them; how many are gone."""
    rings: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] in STREAMS:
            rings[STREAMS[row["kind"]], row["cpu"]].append(row)
    gone: set[int] = set()
    for loss in case.losses:
        for (stream, cpu), ring in rings.items():
            if stream == loss.stream and loss.whole:
                gone |= {row["seq"] for row in ring}
            elif (stream, cpu) == (loss.stream, loss.cpu):
                gone |= {row["seq"] for row in ring[loss.first : loss.first + loss.count]}
    gaps = [gap for place, ring in rings.items() for gap in _gaps(place, ring, gone)]
    blurred = {"count": "lost_count", "cpu": "cpu", "stream": "stream"}.get(case.blur, "")
    numbered = [
        {**gap, "seq": 1_000 + n, blurred: None} if blurred else {**gap, "seq": 1_000 + n} for n, gap in enumerate(gaps)
    ]
    return [row for row in rows if row["seq"] not in gone] + numbered, len(gone)


def _gaps(place: tuple[str, int], ring: list[Row], gone: set[int]) -> Iterator[Row]:
    stream, cpu = place
    from_ts, count = START, 0
    for row in [*ring, {"seq": 0, "ts": END}]:
        if row["seq"] in gone:
            count += 1
            continue
        if count:
            cause = "ring_full" if row["seq"] else "tail"
            yield {
                "kind": "lost", "ts": row["ts"], "cpu": cpu, "stream": stream, "from_ts": from_ts, "lost_count": count,
                "cause": cause,
            }  # fmt: skip
        from_ts, count = row["ts"], 0


@dataclass
class Bench:
    """A database that holds small captures as tables: hundreds of them a minute, without a file each."""

    database: Database = field(default_factory=lambda: Database([], threads=1))

    def capture(self, name: str, rows: Iterable[Row], *, kinds: Iterable[str], declared: bool) -> Capture:
        """A capture of these rows; it replaces the one of that name."""
        table = pa.Table.from_pylist(list(rows), schema=_SCHEMA)
        self.database.connection.register("incoming", table)
        self.database.connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM incoming")
        filled = {"sched_waking": ["fd", "sport", "dport"]}
        footer = Footer(sorted(set(kinds)), list(CPUS), START, END, breaks_declared=declared, filled=filled)
        columns = {column: _SQL[kind.type.arrow] for column, kind in COLUMNS.items()}
        return Capture(Path(name), (Path(name),), columns, (footer,), table.num_rows)

    @contextmanager
    def tables(self) -> Iterator[None]:
        """Captures are read from their tables."""
        with mock.patch.object(relations, "source_sql", lambda files: str(files[0])):
            yield
