"""What a wakeup in an imported text happened in: from ftrace's flags, else from the call chain; else it stays null.

Null means that the question language finds the context from the handlers' begins and ends, where they were recorded.
Flags do not name the softirq: that is the one whose entry on the same CPU came last, unless its exit followed, or a
loss, which the exit may be part of.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Block, Positions
from tracectl.recorder.import_heads import Heads
from tracectl.store.events import CONTEXTS, SOFTIRQS

NO_VEC = -1
_NUMBER = {name: number for number, name in enumerate(CONTEXTS)}
# The third flag (kernel/trace/trace_output.c): H is a hard interrupt inside a softirq, which is no softirq wakeup.
_BY_FLAG = np.full(256, -1, np.int64)
for _flag, _context in {".": "task", "s": "softirq", "h": "hardirq", "H": "hardirq", "z": "nmi", "Z": "nmi"}.items():
    _BY_FLAG[ord(_flag)] = _NUMBER[_context]
# Kernel functions that are in a call chain only in that context.
_FUNCTIONS = (
    (r"net_tx_action", "softirq", "NET_TX"),
    (r"net_rx_action", "softirq", "NET_RX"),
    (r"blk_(?:mq_|done_)softirq\w*|blk_complete_reqs", "softirq", "BLOCK"),
    (r"(?:run_timer|timer_expire)_softirq|__run_timers", "softirq", "TIMER"),
    (r"tasklet_(?:hi_)?action(?:_common)?(?:\.\w+)*", "softirq", "TASKLET"),
    (r"run_rebalance_domains|sched_balance_softirq", "softirq", "SCHED"),
    (r"hrtimer_run_softirq", "softirq", "HRTIMER"),
    (r"rcu_core(?:_si)?|rcu_process_callbacks", "softirq", "RCU"),
    (r"__do_softirq|handle_softirqs|__softirqentry_text_start|do_softirq_own_stack", "softirq", ""),
    (r"hrtimer_interrupt|__hrtimer_run_queues|(?:asm_)?sysvec_apic_timer_\w+|smp_apic_timer_interrupt", "hrtimer", ""),
    (r"(?:asm_)?sysvec_(?:reschedule_ipi|call_function\w*|irq_work)|smp_reschedule_interrupt", "ipi", ""),
    (r"(?:asm_)?(?:sysvec_\w+|common_interrupt)|do_IRQ|handle_irq_event\w*", "hardirq", ""),
    (r"el[01]\w*_irq\w*|gic_handle_irq", "hardirq", ""),
    (r"(?:asm_)?exc_nmi|nmi_handle|do_nmi", "nmi", ""),
)  # fmt: skip
_PATTERNS = [(re.compile(p), _NUMBER[c], SOFTIRQS.index(v) if v else NO_VEC) for p, c, v in _FUNCTIONS]


class Contexts:
    """The contexts of the wakings of one text; call :meth:`begin` for every block, and wakings last."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # CPU -> softirq vector that runs at the end of the block before
        self._heads: Heads
        self._steps: list[tuple[Positions, Positions, Positions]] = []  # heads, their CPUs, vectors from there on
        self._losses: list[tuple[Positions, Positions, Positions]] = []

    def begin(self, block: Block, heads: Heads, frames: Positions, event: Positions) -> None:
        """Take up a block: its heads, and the lines that are frames of call chains, each of an event or -1."""
        self._heads = heads
        flag = block.bytes[heads.flags_start + 2]
        self._context = np.where(heads.flags_end - heads.flags_start >= 4, _BY_FLAG[flag], -1)
        self._by_flags = self._context >= 0
        self._vec = np.full(len(heads.line), NO_VEC)
        self._steps, self._losses = [], []
        if len(frames) and len(heads.line):
            self._read_chains(block, frames, event)

    def _read_chains(self, block: Block, frames: Positions, event: Positions) -> None:
        """The innermost telling function of each event's call chain; a chain without one is a task's."""
        start = block.skip(block.starts[frames] + 1)
        start = block.skip(block.word_end(start))
        symbols = block.texts(start, np.maximum(start, np.minimum(block.word_end(start), block.ends[frames])))
        told = [_context_of(symbol.partition("+")[0]) for symbol in symbols.dictionary.to_pylist()]
        codes = symbols.indices.to_numpy(zero_copy_only=False)
        context, vec = (np.array(column, np.int64)[codes] for column in zip(*told, strict=True))
        whole = event >= 0
        chained = np.unique(event[whole])
        chained = chained[~self._by_flags[chained]]
        self._context[chained] = _NUMBER["task"]
        telling = np.flatnonzero(whole & (context >= 0) & ~self._by_flags[np.maximum(event, 0)])
        events, first = np.unique(event[telling], return_index=True)
        self._context[events] = context[telling[first]]
        # A function of softirqs in general stands inside of the one that names the vector, or outside of it.
        self._vec[events] = vec[telling[first]]

    def softirqs(self, kind: str, which: Positions, vec: pa.Array) -> None:
        """Take softirq entries or exits of the block; ``which`` are indices of its heads."""
        number = np.asarray(vec.fill_null(NO_VEC).to_numpy(zero_copy_only=False), np.int64)
        vectors = number if kind == "softirq_entry" else np.full(len(which), NO_VEC)
        self._steps.append((which, self._heads.cpu[which], vectors))

    def lost(self, before: int, cpu: int | None) -> None:
        """Events were lost behind a head of the block (-1: before the first) on a CPU, or on whichever."""
        cpus = np.array(self._cpus() if cpu is None else [cpu], np.int64)
        self._losses.append((np.full(len(cpus), before), cpus, np.full(len(cpus), NO_VEC)))

    def _cpus(self) -> list[int]:
        return sorted({*np.unique(self._heads.cpu).tolist(), *self._open})

    def of_wakings(self, which: Positions) -> dict[str, pa.Array]:
        """context, context_vec and context_source of some heads. Ends the block."""
        context, vec = self._context[which], self._vec[which]
        in_softirq = (context == _NUMBER["softirq"]) & (vec == NO_VEC)
        vec[in_softirq] = self._running(which[in_softirq])
        known = context >= 0
        by_flags = self._by_flags[which]
        return {
            "context": named(np.where(known, context, -1), CONTEXTS),
            "context_vec": pa.array(vec, mask=vec == NO_VEC),
            "context_source": named(np.where(known, np.where(by_flags, 0, 1), -1), ("flags", "stack")),
        }

    def end(self) -> None:
        """Remember which softirqs run on at the end of the block."""
        cpus = self._cpus()
        vectors = self._running(np.full(len(cpus), len(self._heads.line)), np.array(cpus, np.int64))
        self._open = dict(zip(cpus, vectors.tolist(), strict=True))

    def _running(self, which: Positions, cpus: Positions | None = None) -> Positions:
        """The softirq vector that runs on the CPU of each of these heads just before it, or NO_VEC."""
        cpus = self._heads.cpu[which] if cpus is None else cpus
        found = np.full(len(which), NO_VEC)
        none = np.empty(0, np.int64)
        given = zip(*self._steps, *self._losses, strict=True) if self._steps or self._losses else ()
        steps, step_cpus, vecs = (np.concatenate(column) for column in given) if given else (none, none, none)
        order = np.argsort(steps, kind="stable")
        steps, step_cpus, vecs = steps[order], step_cpus[order], vecs[order]
        for cpu in np.unique(cpus).tolist():
            own, mine = steps[step_cpus == cpu], cpus == cpu
            values = np.concatenate([[self._open.get(cpu, NO_VEC)], vecs[step_cpus == cpu]])
            found[mine] = values[np.searchsorted(own, which[mine])]
        return found


def _context_of(function: str) -> tuple[int, int]:
    """(context, vector) that a function in a call chain tells of; -1 where it tells nothing."""
    return next(((context, vec) for pattern, context, vec in _PATTERNS if pattern.fullmatch(function)), (-1, NO_VEC))


def named(codes: Positions, names: tuple[str, ...]) -> pa.DictionaryArray:
    """A column of names by their numbers; null for -1."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(names))
