"""``with previous``: more of the thread that had the CPU which a waiting thread then got."""

from __future__ import annotations

from tracectl.query.clause import Clause
from tracectl.query.plan import Plan
from tracectl.store.relations import Column, kind_relation

_COLUMNS = {
    "prev_pid": Column("prev_pid", "int", "", "process of the thread that left the CPU", derived=True),
    "prev_state": Column("prev_state", "text", "", "state it left in: R or R+ preempted, S, D, …", derived=True),
}


class WithPrevious(Clause):
    """Of delays: also the process of the thread that left the CPU when the waiting one got it, and the state it left
    in: whether it was preempted (R+) or had enough (S, D). Its tid and name are there anyway.
    """

    rule = "with_previous"
    grammar = """
with_previous: "with previous"
"""
    examples = ("delays over 1ms with previous | count by prev_comm, prev_state",)

    def apply(self, plan: Plan) -> None:
        """Join the switch that ended the wait."""
        if plan.noun.name != "delays":
            raise plan.error(
                f"{plan.noun.name} have nothing before them", '"with previous" goes with delays', self.place
            )
        if "prev_pid" in plan.all_columns:
            return
        plan.require(((frozenset(("sched_switch",)),),), "what went before", self.place)
        switches = kind_relation("sched_switch")
        plan.relations.append(switches)
        plan.select.source = (
            f"(\n  SELECT named.*, before.pid AS prev_pid, before.prev_state FROM {plan.select.source} AS named\n"
            f"  LEFT JOIN {switches} AS before ON before.seq = named.end_seq\n) AS followed"
        )
        plan.all_columns.update(_COLUMNS)
        plan.select.columns.update(_COLUMNS)
