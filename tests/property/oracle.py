"""What the relations should give, the slow and obvious way: one walk over the events in order, no SQL."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

Row = dict[str, Any]
ENTER = {"softirq_entry": ("softirq", "vec"), "irq_handler_entry": ("hardirq", "irq")}


class Life:
    """What is known of a thread: its last step, and who woke it since then."""

    def __init__(self) -> None:
        self.last: Row | None = None
        self.what = ""
        self.wakings: list[Row] = []
        self.raced: Row | None = None

    def step(self, what: str, row: Row) -> None:
        """A switch or a birth. A waking just before a switch-out may be the one that races with it."""
        self.raced = self.wakings[-1] if what == "out" and self.what in ("in", "") and self.wakings else None
        self.what, self.last, self.wakings = what, row, []


def delays(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(tid, ts, end ts, CPU, cause) of waits in a run queue."""
    return [wait for wait, _ in _scheduling(rows) if wait]


def sleeps(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(tid, ts, end ts, blocked, delay, waker tid) of sleeps."""
    return [sleep for _, sleep in _scheduling(rows) if sleep]


def _scheduling(rows: list[Row]) -> list[tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]]:
    lives: dict[int, Life] = defaultdict(Life)
    found = []
    for row in rows:
        kind = row["kind"]
        if kind == "sched_waking":
            lives[row["target_tid"]].wakings.append(row)
        elif kind == "sched_wakeup_new":
            lives[row["target_tid"]].step("new", row)
        elif kind == "sched_switch":
            if row["tid"]:
                lives[row["tid"]].step("out", row)
            if row["next_tid"]:
                life = lives[row["next_tid"]]
                found.append((_wait(life, row), _sleep(life, row)))
                life.step("in", row)
    return found


def _wait(life: Life, row: Row) -> tuple[Any, ...] | None:
    state = life.last["prev_state"] if life.last and life.what == "out" else ""
    if life.what == "new":
        begin, cause = life.last, "new"
    elif life.what == "out" and state.startswith("R"):
        begin, cause = life.last, "preempted"
    elif life.what in ("out", "") and life.wakings:
        begin, cause = life.wakings[0], "wakeup"
    elif life.what == "out" and life.raced and state[0] not in "XZ":
        begin, cause = life.last, "wakeup"
    else:
        return None
    assert begin
    return row["next_tid"], begin["ts"], row["ts"], row["cpu"], cause


def _sleep(life: Life, row: Row) -> tuple[Any, ...] | None:
    if life.what != "out" or not life.last or life.last["prev_state"][0] not in "SDI":
        return None
    out = life.last["ts"]
    waking = life.wakings[0] if life.wakings else life.raced
    if not waking:
        return row["next_tid"], out, row["ts"], None, None, None
    runnable = max(out, waking["ts"])
    return row["next_tid"], out, row["ts"], runnable - out, row["ts"] - runnable, waking["tid"]


def runs(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(CPU, tid, ts, end ts, state) of slices on a CPU."""
    running: dict[int, Row] = {}
    found = []
    for row in rows:
        if row["kind"] == "sched_switch":
            into = running.get(row["cpu"])
            if into and into["next_tid"] == row["tid"]:
                found.append((row["cpu"], row["tid"], into["ts"], row["ts"], row["prev_state"]))
            running[row["cpu"]] = row
    return found


def softirqs(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(CPU, vec, ts, end ts) of softirq handlers."""
    entry: dict[int, Row | None] = {}
    found = []
    for row in rows:
        if row["kind"] == "softirq_entry":
            entry[row["cpu"]] = row
        elif row["kind"] == "softirq_exit":
            begun = entry.get(row["cpu"])
            if begun and begun["vec"] == row["vec"]:
                found.append((row["cpu"], row["vec"], begun["ts"], row["ts"]))
            entry[row["cpu"]] = None
    return found


def contexts(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(target tid, ts, context, vec) of wakeups, from a stack per CPU as the kernel would keep it."""
    stacks: dict[int, list[tuple[str, int | None]]] = defaultdict(list)
    known: set[int] = set()
    found: list[tuple[Any, ...]] = []
    for row in rows:
        kind, stack = row["kind"], stacks[row["cpu"]]
        if kind in ENTER:
            context, column = ENTER[kind]
            stack.append((context, row[column]))
        elif kind in ("softirq_exit", "irq_handler_exit"):
            if stack:
                stack.pop()
        elif kind == "sched_switch":
            stack.clear()
        elif kind == "sched_waking":
            nothing = ("task" if row["cpu"] in known else "unknown", None)
            found.append((row["target_tid"], row["ts"], *(stack[-1] if stack else nothing)))
        if kind in ("sched_switch", "softirq_entry"):
            known.add(row["cpu"])
    return found


def epolls(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(tid, ts, events, ts of the waking) of returns of epoll_wait."""
    woken: dict[int, int] = {}
    found = []
    for row in rows:
        if row["kind"] == "sched_waking":
            woken[row["target_tid"]] = row["ts"]
        elif row["kind"] == "sys_exit_epoll_wait":
            found.append((row["tid"], row["ts"], row["ret"], woken.pop(row["tid"], None)))
    return found
