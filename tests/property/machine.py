"""A simulated machine of two CPUs and four threads: what it records is as a kernel would, from a seed."""

from __future__ import annotations

import random
from typing import Any

Row = dict[str, Any]
START, END = 90, 5_000
PIDS = {0: 0, 1: 1, 2: 1, 3: 3, 4: 3}
COMMS = {0: "swapper/0", 1: "wrk:a", 2: "wrk:b", 3: "kubelet", 4: "sleeper"}
KINDS = (
    "sched_switch", "sched_waking", "sched_wakeup_new", "softirq_entry", "softirq_exit", "irq_handler_entry",
    "irq_handler_exit",
    "sys_exit_epoll_wait", "sys_exit_accept4", "sys_enter_close", "inet_sock_set_state",
)  # fmt: skip
_HANDLERS = {"softirq": {"vec": (1, 3, 7)}, "irq_handler": {"irq": (11, 12)}}


class Machine:
    """Runs a number of steps; ``rows`` is what was recorded.

    Args:
        seed: the same gives the same rows.
    """

    def __init__(self, seed: int, steps: int = 60) -> None:
        self.random = random.Random(seed)
        self.rows: list[Row] = []
        self.ts = 100
        self.current = [0, 0]
        self.runnable: set[int] = set()
        self.open: list[list[tuple[str, Row]]] = [[], []]
        for _ in range(steps):
            cpu = self.random.randint(0, 1)
            self.random.choice((self._switch, self._switch, self._wake, self._wake, self._handler, self._call))(cpu)
        for cpu in (0, 1):
            while self.open[cpu]:
                self._leave(cpu)

    def _event(self, cpu: int, kind: str, **columns: Any) -> None:
        self.ts += self.random.choice((0, 1, 1, 2, 5, 9))
        tid = self.current[cpu]
        row = {"seq": len(self.rows) + 1, "ts": self.ts, "kind": kind, "cpu": cpu, "tid": tid}
        self.rows.append({**row, "pid": PIDS[tid], "comm": COMMS[tid], **columns})

    def _switch(self, cpu: int) -> None:
        if self.open[cpu]:
            return  # never within a handler
        old, ready = self.current[cpu], sorted(self.runnable)
        new = self.random.choice([*ready, 0])
        if new == old:
            return
        state = "R" if old == 0 else self.random.choice(("S", "S", "D", "R", "R+"))
        self._event(
            cpu, "sched_switch", prev_state=state, next_tid=new, next_comm=COMMS[new], next_prio=120, prev_prio=120
        )
        self.runnable -= {new}
        self.runnable |= {old} if state.startswith("R") and old else set()
        self.current[cpu] = new

    def _wake(self, cpu: int) -> None:
        asleep = sorted({1, 2, 3, 4} - self.runnable - set(self.current))
        if not asleep:
            return
        tid = self.random.choice(asleep)
        context, vec = "task", None
        if self.open[cpu]:
            name, fields = self.open[cpu][-1]
            context, vec = ("softirq", fields["vec"]) if name == "softirq" else ("hardirq", fields["irq"])
        self.runnable.add(tid)
        self._event(
            cpu, "sched_waking", target_tid=tid, target_pid=PIDS[tid], target_comm=COMMS[tid], target_prio=120,
            target_cpu=cpu, context=context, context_vec=vec,
        )  # fmt: skip

    def _handler(self, cpu: int) -> None:
        if self.open[cpu] and (len(self.open[cpu]) == 2 or self.random.random() < 0.7):
            self._leave(cpu)
            return
        name = "irq_handler" if self.open[cpu] else self.random.choice(("softirq", "irq_handler"))
        if name in {open_name for open_name, _ in self.open[cpu]}:
            return
        fields = {column: self.random.choice(values) for column, values in _HANDLERS[name].items()}
        self.open[cpu].append((name, fields))
        self._event(cpu, f"{name}_entry", **fields, **({"irq_name": "eth0"} if name == "irq_handler" else {}))

    def _leave(self, cpu: int) -> None:
        name, fields = self.open[cpu].pop()
        self._event(cpu, f"{name}_exit", **fields)

    def _call(self, cpu: int) -> None:
        if self.current[cpu] == 0 or self.open[cpu]:
            return
        number = self.random.randint(0, 3)
        self.random.choice((
            lambda: self._event(cpu, "sys_exit_epoll_wait", ret=number - 1),
            lambda: self._event(cpu, "sys_exit_accept4", ret=40 + number),
            lambda: self._event(cpu, "sys_enter_close", fd=40 + number),
            lambda: self._event(
                cpu, "inet_sock_set_state", old_state=2, new_state=1 + number, sport=80, dport=1000 + number,
                socket=number, family=2, protocol=6,
            ),
        ))()  # fmt: skip
