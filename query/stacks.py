"""``with stacks``: the call stacks that events were recorded with, as text."""

from __future__ import annotations

from dataclasses import dataclass

from tracectl.query.clause import Clause
from tracectl.query.plan import Plan
from tracectl.query.values import listed
from tracectl.store.relations import Column

RELATION = "event_stacks"


@dataclass(frozen=True)
class _Stack:
    """A column with the stack of one of the events that a row is made from.

    Attributes:
        seq: the row's column with that event's seq.
        kind: kind of the event; others with that seq have no stack here.
        doc: what the column is.
        derived: whether it is another event than the one the row is named after.
    """

    seq: str
    kind: str
    doc: str
    derived: bool = False


_LEFT = "functions of the thread when it left its CPU, outermost first"
_WAKER = "functions of the thread that was current at the waking, outermost first"
# Noun -> its stack columns. Nouns that are made from one event only are of that event's kind.
_STACKS: dict[str, dict[str, _Stack]] = {
    "wakeups": {"waker_stack": _Stack("seq", "sched_waking", _WAKER)},
    "switches": {"stack": _Stack("seq", "sched_switch", _LEFT)},
    "runs": {"stack": _Stack("end_seq", "sched_switch", _LEFT, derived=True)},
    "delays": {
        "stack": _Stack("seq", "sched_switch", f"{_LEFT}; null: it was not preempted"),
        "waker_stack": _Stack("seq", "sched_waking", f"{_WAKER}; null: it was preempted"),
    },
    "sleeps": {
        "stack": _Stack("seq", "sched_switch", _LEFT),
        "waker_stack": _Stack("waking_seq", "sched_waking", _WAKER, derived=True),
    },
    "samples": {"stack": _Stack("seq", "cpu_sample", "functions that the CPU was in, outermost first")},
    "callbacks": {"stack": _Stack("seq", "ep_poll_callback", "functions that led to it, outermost first")},
}


class WithStacks(Clause):
    """Adds the call stacks that the events were recorded with: ``stack`` is that of the thread the row is about (where
    a sleep or a run ended in leaving the CPU), ``waker_stack`` that of the thread that was current at the waking.

    Functions of user space come first, then those of the kernel, each from the outermost to the innermost, joined by
    ``;``. A stack that could not be taken is ``[lost stack]``; null: the event has none.
    """

    rule = "with_stacks"
    grammar = """
with_stacks: "with stacks"
"""
    examples = (
        "sleeps of pid 4182 with stacks | sum blocked by waker_stack, stack | top 10",
        "wakeups with stacks | count by waker_stack",
        "sleeps of pid 4182 with stacks | folded",
    )
    needs = "stacks: `record --stacks sched_switch,sched_waking` or `--profile offwake`"

    def apply(self, plan: Plan) -> None:
        """Join the stacks."""
        stacks = _of(plan)
        if not stacks:
            raise plan.error(
                f"{plan.noun.name} have no stacks", f'"with stacks" goes with {listed(_STACKS)}', self.place
            )
        if RELATION in plan.relations:
            return
        missing = {name for name, stack in stacks.items() if not _recorded(plan, stack.kind)}
        if len(missing) == len(stacks):
            kinds = ",".join(dict.fromkeys(stack.kind for stack in stacks.values()))
            raise plan.not_recorded(
                "stacks cannot be told from this capture: they were not recorded",
                f"record again with: tracectl record --stacks {kinds}",
                self.place,
            )
        self._join(plan, {name: stack for name, stack in stacks.items() if name not in missing})
        for name in missing:
            plan.unfilled[name] = f"{stacks[name].kind}.kstack"
        for name, stack in stacks.items():
            column = Column(name, "text", "", stack.doc, stack.derived)
            plan.all_columns[name] = column
            if name not in missing:
                plan.select.columns[name] = column

    @staticmethod
    def _join(plan: Plan, stacks: dict[str, _Stack]) -> None:
        plan.relations.append(RELATION)
        columns = "".join(f", {name}_of.stack AS {name}" for name in stacks)
        joins = "".join(
            f"\n  LEFT JOIN {RELATION} AS {name}_of ON {name}_of.seq = named.{stack.seq} AND {name}_of.kind = '{kind}'"
            for name, stack in stacks.items()
            for kind in [stack.kind]
        )
        plan.select.source = f"(\n  SELECT named.*{columns} FROM {plan.select.source} AS named{joins}\n) AS stacked"


def _of(plan: Plan) -> dict[str, _Stack]:
    if plan.noun.name != "events":
        return _STACKS.get(plan.noun.name, {})
    kind = next((kind for kind, event in plan.scene.catalogue.events.items() if _is(plan, kind)), "")
    known = {column.name for column in plan.scene.catalogue.events[kind].columns} if kind else set()
    doc = "functions of the thread that was current, outermost first"
    return {"stack": _Stack("seq", kind, doc)} if "kstack" in known else {}


def _is(plan: Plan, kind: str) -> bool:
    """Whether the question is about the events of this kind."""
    return plan.relations[0] in (kind, f"kind_{kind}")


def _recorded(plan: Plan, kind: str) -> bool:
    filled = plan.scene.filled
    return filled is None or f"{kind}.kstack" in filled or f"{kind}.ustack" in filled
