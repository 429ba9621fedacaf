"""BCC's offwaketime: time off the CPU, summed by the stack of the thread that slept and the stack of its waker.

https://github.com/iovisor/bcc, tools/offwaketime.py. As there, a wait lasts from the switch-out, in any state, to the
switch-in, and its waker is the last one that woke the thread. Other than there, a stack keeps its innermost function,
and the idle threads are left out (there, those of all CPUs are one).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from tracectl.replay import Lost
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, UserError
from tracectl.text import visible
from tracectl.toolview import StackNames, ToolView

LOST_STACK = "[lost stack]"
_FOREVER = 99_999_999


@dataclass(frozen=True)
class _End:
    """The waker or the thread that slept: who, and the ids of its stacks."""

    comm: str = ""
    tid: int = 0
    kstack: int | None = None
    ustack: int | None = None


class OffWakeTime(ToolView):
    """``offwaketime [-p PIDS | -t TIDS] [-U | -K] [-d] [-f] [-m MIN_US] [-M MAX_US] [duration]``.

    As in the tool, a wait that -m or -M leaves out leaves its waker to the thread's next wait.

    Waits that a loss touches are not counted, nor those whose waker a loss may have hidden.
    """

    tool = "offwaketime"
    kinds: ClassVar[tuple[str, ...]] = ("sched_switch", "sched_waking")
    record: ClassVar[tuple[str, ...]] = ("sched_switch", "sched_waking")
    stacks: ClassVar[tuple[str, ...]] = ("sched_switch", "sched_waking")
    columns = (
        "kind", "ts", "pid", "tid", "comm", "next_tid", "next_comm", "target_tid", "target_pid", "kstack", "ustack",
    )  # fmt: skip

    def declare(self, parser: argparse.ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("-p", "--pid", type=_numbers, metavar="PIDS")
        which.add_argument("-t", "--tid", type=_numbers, metavar="TIDS")
        which.add_argument("-u", "--user-threads-only", action=_Unknown, nargs=0, help=argparse.SUPPRESS)
        which.add_argument("-k", "--kernel-threads-only", action=_Unknown, nargs=0, help=argparse.SUPPRESS)
        shown = parser.add_mutually_exclusive_group()
        shown.add_argument("-U", "--user-stacks-only", action="store_true")
        shown.add_argument("-K", "--kernel-stacks-only", action="store_true")
        parser.add_argument("-d", "--delimited", action="store_true")
        parser.add_argument("-f", "--folded", action="store_true")
        parser.add_argument("-m", "--min-block-time", type=_positive, default=1, metavar="MIN_US")
        parser.add_argument("-M", "--max-block-time", type=_positive, default=(1 << 64) - 1, metavar="MAX_US")
        parser.add_argument("duration", nargs="?", type=_positive, default=_FOREVER)

    def begin(self, capture: Capture) -> None:
        for kind in self.kinds:
            self.need(capture, kind)
        without = [k for k in self.kinds if not {f"{k}.kstack", f"{k}.ustack"} & capture.filled]
        if without:
            raise NotRecordedError(
                f"offwaketime cannot be told from this capture: stacks of {' and '.join(without)} were not recorded",
                f"record again with: tracectl record --stacks {','.join(self.stacks)}",
            )
        self._left: dict[int, tuple[int, _End]] = {}
        self._woken: dict[int, _End] = {}
        self._totals: dict[tuple[_End, _End], int] = defaultdict(int)
        self._blind_until = -(2**63)
        self._waker_known: set[int] | None = None  # threads whose waker is known since the last gap; None: no gap yet
        self._until = capture.start_ts + self.options.duration * 1_000_000_000
        if not self.options.folded:
            which = "user" if self.options.user_stacks_only else "kernel"
            which = which if self._one_part else "user + kernel"
            limited = self.options.duration < _FOREVER
            ending = f" for {self.options.duration} secs." if limited else "... Hit Ctrl-C to end."
            self.write(f"Tracing blocked time (us) by {which} off-CPU and waker stack{ending}\n")

    @property
    def _one_part(self) -> bool:
        return bool(self.options.user_stacks_only or self.options.kernel_stacks_only)

    def event(self, row: tuple[Any, ...]) -> None:
        kind, ts, pid, tid, comm, next_tid, next_comm, target_tid, target_pid, kstack, ustack = row
        if ts > self._until:
            return
        if kind == "sched_waking":
            if target_tid and ts > self._blind_until and self._wanted(target_tid, target_pid):
                self._woken[target_tid] = _End(comm or "", tid, kstack, ustack)
                if self._waker_known is not None:
                    self._waker_known.add(target_tid)
            return
        if tid and ts > self._blind_until and self._wanted(tid, pid):
            self._left[tid] = ts, _End("", tid, kstack, ustack)
        begun = self._left.pop(next_tid, None)
        if begun is None:
            self._forget_waker(next_tid)
        else:
            self._count(ts - begun[0], _End(next_comm or "", next_tid, begun[1].kstack, begun[1].ustack))

    def _count(self, ns: int, target: _End) -> None:
        us = ns // 1000
        if not self.options.min_block_time <= us <= self.options.max_block_time:
            return
        waker = self._woken.pop(target.tid, None)
        known = self._waker_known is None or target.tid in self._waker_known
        if self._waker_known is not None:
            self._waker_known.add(target.tid)
        if waker is not None or known:
            self._totals[target, waker or _End()] += us

    def _forget_waker(self, tid: int) -> None:
        """A wait has ended whose begin a gap may have hidden: unknown whether the tool gave its waker to it."""
        if self._waker_known is not None:
            self._woken.pop(tid, None)
            self._waker_known.discard(tid)

    def lost(self, gap: Lost) -> None:
        if gap.from_ts is not None and gap.from_ts > self._until:
            return
        self._left.clear()
        self._woken.clear()
        self._waker_known = set()
        self._blind_until = max(self._blind_until, gap.ts)
        self.tell_gap(gap, "waits that touch that time are not counted")

    def end(self, names: StackNames) -> None:
        ends = [end for pair in self._totals for end in pair]
        self._names = names({stack for end in ends for stack in (end.kstack, end.ustack) if stack is not None})
        self._missed = 0
        if not self.options.folded:
            self.write("\n")
        for (target, waker), us in sorted(self._totals.items(), key=lambda item: item[1]):
            lines = self._folded(target, waker, us) if self.options.folded else self._paragraph(target, waker, us)
            self.write("".join(f"{visible(line)}\n" for line in lines))
        if self._missed:
            self.note(f"WARNING: {self._missed} stack traces lost and could not be displayed.")

    def _wanted(self, tid: int, pid: int | None) -> bool:
        pids, tids = self.options.pid, self.options.tid
        return (pids is None or pid in pids) and (tids is None or tid in tids)

    def _frames(self, stack: int | None, part: str) -> list[str]:
        """Functions, the outermost first."""
        if stack is None:
            return []
        folded = self._names.get(stack, LOST_STACK)
        if folded == LOST_STACK:
            self._missed += 1
            return [f"[Missed {part} Stack]"]
        return folded.split(";")

    def _parts(self, end: _End) -> Iterator[list[str]]:
        """The stacks that are shown, that of user space first, with a delimiter between them where one is wanted."""
        user = [] if self.options.kernel_stacks_only else self._frames(end.ustack, "User")
        kernel = [] if self.options.user_stacks_only else self._frames(end.kstack, "Kernel")
        yield user
        if self.options.delimited and not self._one_part and user and kernel:
            yield ["-"]
        yield kernel

    def _outermost_first(self, end: _End) -> list[str]:
        return [frame for part in self._parts(end) for frame in part]

    def _folded(self, target: _End, waker: _End, us: int) -> Iterable[str]:
        frames = [target.comm, *self._outermost_first(target), "--", *self._outermost_first(waker)[::-1], waker.comm]
        yield f"{';'.join(frame.replace(';', ':') for frame in frames)} {us}"

    def _paragraph(self, target: _End, waker: _End, us: int) -> Iterable[str]:
        yield f"    {'waker:':16} {waker.comm} {waker.tid}"
        yield from (f"    {frame}" for frame in self._outermost_first(waker))
        yield f"    {'--':16} --"
        yield from (f"    {frame}" for frame in self._outermost_first(target)[::-1])
        yield f"    {'target:':16} {target.comm} {target.tid}"
        yield f"        {us}"
        yield ""


class _Unknown(argparse.Action):
    """An option of the original that a capture cannot answer."""

    def __call__(self, *_: object) -> None:
        raise UserError(
            f"offwaketime {'/'.join(self.option_strings)}: a capture does not tell kernel threads from others",
            "-p or -t: only the threads named",
        )


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than zero")
    return value


def _numbers(text: str) -> frozenset[int]:
    try:
        return frozenset(_positive(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers such as 4182,4183") from error
