"""``over``, ``under``, ``in state``: how long a row lasted, and the state it is about."""

from __future__ import annotations

from tracectl.query.clause import Clause
from tracectl.query.nouns import NOUNS
from tracectl.query.plan import Plan
from tracectl.query.values import OutOfRange, duration_of, listed, name_of, show_duration, token_in, tree_in


def _lasting(clause: Clause, plan: Plan, sign: str, word: str) -> int:
    """Add the condition; returns the time, ns."""
    if not plan.has("dur"):
        lasting = listed(noun.name for noun in NOUNS if "dur" in noun.columns)
        raise plan.error(f"{plan.noun.name} have no duration", f'"{word}" goes with {lasting}', clause.place)
    try:
        value = duration_of(token_in(clause.node))
    except OutOfRange:
        raise plan.error("this time is too long", "at most 292 years", clause.place) from None
    plan.condition(f"dur {sign} {plan.parameter(value)}", f"that lasted {word} {show_duration(value)}")
    return value


class Over(Clause):
    """Rows that lasted longer than this."""

    rule = "over"
    grammar = """
over: "over" DURATION
"""
    examples = ("delays over 10ms",)

    def apply(self, plan: Plan) -> None:
        """A condition on dur."""
        plan.over_ns = max(plan.over_ns, _lasting(self, plan, ">", "over"))


class Under(Clause):
    """Rows that lasted less than this."""

    rule = "under"
    grammar = """
under: "under" DURATION
"""
    examples = ("softirqs under 50us",)

    def apply(self, plan: Plan) -> None:
        """A condition on dur."""
        _lasting(self, plan, "<", "under")


# Columns that hold states of TCP, which are written in capitals.
_TCP_STATES = {"new_state", "tcp_state"}


class InState(Clause):
    """Rows about this state: of a sleep (S, D, I), the one that a run or a switch ended in (R, R+, S, D, …), the new
    one of a connection or the socket's at a callback (ESTABLISHED, CLOSE, …, in any case). ``R`` does not include
    ``R+`` (preempted).
    """

    rule = "in_state"
    grammar = """
in_state: "in state" name
"""
    examples = ("sleeps in state D", "switches in state R+", "connections in state LISTEN")

    def apply(self, plan: Plan) -> None:
        """A condition on the noun's state column."""
        if not plan.noun.state:
            with_state = listed(noun.name for noun in NOUNS if noun.state)
            raise plan.error(f"{plan.noun.name} have no state", f'"in state" goes with {with_state}', self.place)
        name = name_of(tree_in(self.node))
        text = name.text.upper() if plan.noun.state in _TCP_STATES else name.text
        plan.condition(f"{plan.noun.state} = {plan.parameter(text)}", f'in state "{text}"')
