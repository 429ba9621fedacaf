"""``after``, ``before``, ``between``, ``in last``: when rows begin, counted from the start of the capture."""

from __future__ import annotations

from tracectl.query.clause import Clause
from tracectl.query.plan import Plan
from tracectl.query.values import INT64_MAX, OutOfRange, duration_of, place_of, show_duration, tokens


class When(Clause):
    """What the clauses of time have in common."""

    def times(self, plan: Plan) -> list[int]:
        """The durations typed, ns.

        Raises:
            QueryError: longer than the clock goes.
        """
        try:
            return [duration_of(token) for token in tokens(self.node)]
        except OutOfRange:
            raise plan.error("this time is too long", "at most 292 years", place_of(self.node)) from None

    def not_before(self, plan: Plan, ts: int) -> str:
        """SQL that a row begins at ``ts`` or later."""
        plan.evidence.only_from(ts)
        plan.first_ts = ts if plan.first_ts is None else max(ts, plan.first_ts)
        return f"ts >= {plan.parameter(min(ts, INT64_MAX))}"

    def not_later(self, plan: Plan, ts: int) -> str:
        """SQL that a row begins at ``ts`` or earlier."""
        plan.evidence.only_to(ts)
        plan.last_ts = ts if plan.last_ts is None else min(ts, plan.last_ts)
        return f"ts <= {plan.parameter(min(ts, INT64_MAX))}"


class After(When):
    """Rows that begin at this time or later, from the start of the capture. Units: ns, us, ms, s, m, h."""

    rule = "after"
    grammar = """
after: "after" DURATION
"""
    examples = ("wakeups after 20.9s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from below, where rows do not depend on what came before them."""
        (time,) = self.times(plan)
        plan.condition(
            self.not_before(plan, plan.scene.start_ts + time), f"{show_duration(time)} after the start, or later"
        )


class Before(When):
    """Rows that begin at this time or earlier, from the start of the capture."""

    rule = "before"
    grammar = """
before: "before" DURATION
"""
    examples = ("wakeups before 21s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from above, where rows do not go on after they begin."""
        (time,) = self.times(plan)
        plan.condition(
            self.not_later(plan, plan.scene.start_ts + time), f"{show_duration(time)} after the start, or earlier"
        )


class Between(When):
    """Rows that begin between two times, both included, from the start of the capture."""

    rule = "between"
    grammar = """
between: "between" DURATION "and" DURATION
"""
    examples = ("delays between 20.9s and 21s",)

    def apply(self, plan: Plan) -> None:
        """Both of after and before."""
        first, last = self.times(plan)
        if first > last:
            raise plan.error("this time is empty: it ends before it begins", "the earlier time first", self.place)
        start = plan.scene.start_ts
        sql = f"{self.not_before(plan, start + first)} AND {self.not_later(plan, start + last)}"
        plan.condition(sql, f"between {show_duration(first)} and {show_duration(last)} after the start")


class InLast(When):
    """Rows that begin in the last part of the capture."""

    rule = "in_last"
    grammar = """
in_last: "in last" DURATION
"""
    examples = ("wakeups in last 5s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from below."""
        (time,) = self.times(plan)
        plan.condition(self.not_before(plan, plan.scene.end_ts - time), f"in the last {show_duration(time)}")
