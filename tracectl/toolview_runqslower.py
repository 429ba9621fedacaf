"""BCC's runqslower: threads that waited longer than so long in a run queue.

https://github.com/iovisor/bcc, tools/runqslower.py. A wait begins at ``sched_wakeup``, ``sched_wakeup_new`` or a
switch-out in a runnable state, and ends at the switch-in. Without ``sched_wakeup`` it begins at ``sched_waking``, some
microseconds earlier.
"""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from tracectl.replay import Lost
from tracectl.store.capture import Capture
from tracectl.text import visible
from tracectl.toolview import ToolView


class RunqSlower(ToolView):
    """``runqslower [-p PID | -t TID] [-P] [min_us]``.

    A wait is printed only where no loss lies between its begin and its end.
    """

    tool = "runqslower"
    kinds: ClassVar[tuple[str, ...]] = ("sched_switch", "sched_wakeup", "sched_wakeup_new", "sched_waking")
    record: ClassVar[tuple[str, ...]] = ("sched_switch", "sched_wakeup", "sched_wakeup_new")
    columns = (
        "kind", "ts", "pid", "tid", "comm", "prev_state", "next_tid", "next_comm", "target_tid", "target_pid",
    )  # fmt: skip

    def declare(self, parser: argparse.ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("-p", "--pid", type=int)
        which.add_argument("-t", "--tid", type=int)
        parser.add_argument("-P", "--previous", action="store_true")
        parser.add_argument("min_us", nargs="?", default=10_000, type=int)

    def begin(self, capture: Capture) -> None:
        self.need(capture, "sched_switch")
        self._woken_by = self.need(capture, "sched_wakeup", "sched_waking")
        if self._woken_by == "sched_waking":
            self.note("sched_wakeup was not recorded: waits begin at sched_waking, some microseconds earlier")
        if "sched_wakeup_new" not in capture.kinds:
            self.note("sched_wakeup_new was not recorded: the first wait of new threads is not known")
        if not self.clock.known:
            self.note("this capture does not tell the time of day: TIME is in seconds since its start")
        self._begun: dict[int, int] = {}
        self._blind_until = -(2**63)
        self.write(f"Tracing run queue latency higher than {self.options.min_us} us\n")
        head = f"{'TIME':8} {'COMM':16} {'TID':6} {'LAT(us)':>14}"
        self.write(f"{head} {'PREV COMM':16} {'PREV TID':6}\n" if self.options.previous else f"{head}\n")

    def event(self, row: tuple[Any, ...]) -> None:
        kind, ts, pid, tid, comm, state, next_tid, next_comm, target_tid, target_pid = row
        if kind == "sched_switch":
            if state is not None and state[:1] == "R":
                self._enqueue(ts, tid, pid)
            begun = self._begun.pop(next_tid, None)
            if begun is not None and ((us := (ts - begun) // 1000) > self.options.min_us or not self.options.min_us):
                self._print(ts, (next_tid, next_comm), us, (tid, comm))
        elif kind in (self._woken_by, "sched_wakeup_new"):
            self._enqueue(ts, target_tid, target_pid)

    def lost(self, gap: Lost) -> None:
        self._begun.clear()
        self._blind_until = max(self._blind_until, gap.ts)
        self.tell_gap(gap, "waits that touch that time are not known")

    def _enqueue(self, ts: int, tid: int, pid: int | None) -> None:
        """A thread begins to wait. Where the process is not known, a wait is not one of the process asked for."""
        wanted = self.options
        if not tid or ts <= self._blind_until:
            return
        if (wanted.pid is not None and pid != wanted.pid) or (wanted.tid is not None and tid != wanted.tid):
            return
        self._begun[tid] = ts

    def _print(self, ts: int, thread: tuple[int, str], us: int, before: tuple[int, str]) -> None:
        line = f"{self.clock.show(ts):8} {visible(thread[1] or '?'):16} {thread[0]:<6} {us:14}"
        if self.options.previous:
            line += f" {visible(before[1] or '?'):16} {before[0]:<6}"
        self.write(f"{line}\n")
