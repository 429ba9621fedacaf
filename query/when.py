"""``after``, ``before``, ``between``, ``at``, ``in last``: when rows begin."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from lark import Token

from tracectl.query.chains import set_times, show_example
from tracectl.query.clause import Clause
from tracectl.query.plan import Plan, Scene
from tracectl.query.values import INT64_MAX, OutOfRange, duration_of, place_of, show_duration, tokens, trees

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?\s*([Zz]|[+-]\d\d:?\d\d)?")
_STEPPED = 10**6  # ns; less is what readings of two clocks, one after the other, differ by


def monotonic(scene: Scene, realtime: int) -> int:
    """The monotonic time at which the wall clock showed this, both ns.

    Between two readings of both clocks in a straight line, before the first and after the last by the nearest.
    """
    before = [(ts, real) for ts, real in scene.clocks if real <= realtime]
    after = [(ts, real) for ts, real in scene.clocks if real > realtime]
    if not before or not after:
        ts, real = before[-1] if before else after[0]
        return ts + realtime - real
    (ts, real), (next_ts, next_real) = before[-1], after[0]
    return ts + (realtime - real) * (next_ts - ts) // (next_real - real)


class When(Clause):
    """What the clauses of time have in common."""

    def time(self, plan: Plan, token: Token) -> tuple[int, str]:
        """A moment on the monotonic clock, ns, and in words.

        Raises:
            QueryError: it is no time, or the capture cannot tell which.
        """
        if token.type == "MOMENT":
            return self._on_the_wall(plan, token), str(token)
        ns = self.duration(plan, token)
        return plan.scene.begin + ns, f"{show_duration(ns)} after the start"

    def moments(self, plan: Plan) -> list[tuple[int, str]]:
        """Those of the clause's ``moment`` rules."""
        return [self.time(plan, tokens(node)[0]) for node in trees(self.node)]

    def duration(self, plan: Plan, token: Token) -> int:
        """A time as typed, ns.

        Raises:
            QueryError: longer than the clock goes.
        """
        try:
            return duration_of(token)
        except OutOfRange:
            raise plan.error("this time is too long", "at most 292 years", place_of(self.node)) from None

    @staticmethod
    def _on_the_wall(plan: Plan, token: Token) -> int:
        place = place_of(token)
        match = _MOMENT.fullmatch(str(token))
        assert match
        date, time, fraction, zone = match.groups()
        if zone is None:
            remedy = f"{token}Z for UTC, or an offset: {token}+02:00"
            raise plan.error("this time has no zone: the capture may be from anywhere", remedy, place)
        try:
            second = datetime.fromisoformat(f"{date}T{time}{zone.upper()}").astimezone(UTC)
        except (ValueError, OverflowError):
            raise plan.error("there is no such time", "as in 2022-05-04T16:12:15+09:00", place) from None
        if not plan.scene.clocks:
            remedy = "times from its start, as in: after 20.9s"
            raise plan.error("this capture does not tell what the wall clock showed", remedy, place)
        whole = int((second - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        offsets = [real - ts for ts, real in plan.scene.clocks]
        if max(offsets) - min(offsets) > _STEPPED:
            moved = show_duration(max(offsets) - min(offsets))
            note = f"the wall clock moved by {moved} against the monotonic clock during the recording"
            plan.notes += [note] * (note not in plan.notes)
        return monotonic(plan.scene, whole * 10**9 + int((fraction or "0").ljust(9, "0")))

    def not_before(self, plan: Plan, ts: int) -> str:
        """SQL that a row begins at ``ts`` or later."""
        plan.evidence.only_from(ts)
        plan.first_ts = ts if plan.first_ts is None else max(ts, plan.first_ts)
        return f"ts >= {plan.parameter(_within(ts))}"

    def not_later(self, plan: Plan, ts: int) -> str:
        """SQL that a row begins at ``ts`` or earlier."""
        plan.evidence.only_to(ts)
        plan.last_ts = ts if plan.last_ts is None else min(ts, plan.last_ts)
        return f"ts <= {plan.parameter(_within(ts))}"

    def from_to(self, plan: Plan, first: int, last: int) -> str:
        """SQL that a row begins between two moments, both included."""
        return f"{self.not_before(plan, first)} AND {self.not_later(plan, last)}"


def _within(ts: int) -> int:
    """What a column of times can be compared with."""
    return max(-INT64_MAX, min(ts, INT64_MAX))


class After(When):
    """Rows that begin at this time or later: ``20.9s`` counts from the start of the capture (units: ns, us, ms, s, m,
    h), ``2022-05-04T16:12:15.5+09:00`` is by the wall clock, with its zone (``Z``: UTC). With a question instead of a
    time: see ``after row``.
    """

    rule = "after"
    grammar = """
after: "after" moment
moment: DURATION | MOMENT
MOMENT.6: /\\d{4}-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d(:\\d\\d([.,]\\d{1,9})?)?(\\s*Z(?!\\w)|[+-]\\d\\d:?\\d\\d(?!\\d))?/i
"""
    examples = ("wakeups after 20.9s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from below, where rows do not depend on what came before them."""
        ((time, words),) = self.moments(plan)
        plan.condition(self.not_before(plan, time), f"{words}, or later")


class Before(When):
    """Rows that begin at this time or earlier; times as with ``after``."""

    rule = "before"
    grammar = """
before: "before" moment
"""
    examples = ("wakeups before 21s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from above, where rows do not go on after they begin."""
        ((time, words),) = self.moments(plan)
        plan.condition(self.not_later(plan, time), f"{words}, or earlier")


class Between(When):
    """Rows that begin between two times, both included; times as with ``after``."""

    rule = "between"
    grammar = """
between: "between" moment "and" moment
"""
    examples = ("delays between 20.9s and 21s",)

    def apply(self, plan: Plan) -> None:
        """Both of after and before."""
        (first, begin), (last, end) = self.moments(plan)
        if first > last:
            raise plan.error("this time is empty: it ends before it begins", "the earlier time first", self.place)
        words = f"between {begin.removesuffix(_SINCE)} and {end}"
        if plan.walk is not None and plan.walk.path:
            set_times(plan, first, last, words, self.place)
            return
        plan.condition(self.from_to(plan, first, last), words)


_SINCE = " after the start"


class Around(When):
    """Rows that begin around a time, no further from it than this: ``at 20.9s ± 5ms``,
    ``at 2022-05-04T16:12:15+09:00 +- 5s``; times as with ``after``.
    """

    rule = "around"
    grammar = """
around: "at" moment PLUS_MINUS DURATION
PLUS_MINUS: /±|\\+\\/-|\\+-/
"""
    examples = ("delays at 20.9s ± 5ms", "wakeups at 2s +- 100ms | count by comm")

    def apply(self, plan: Plan) -> None:
        """Both of after and before."""
        ((time, words),) = self.moments(plan)
        far = self.duration(plan, tokens(self.node)[1])
        plan.condition(self.from_to(plan, time - far, time + far), f"at {words} ± {show_duration(far)}")


class At(When):
    """The moment that a chain is walked back from; times as with ``after``."""

    rule = "at"
    grammar = """
at: "at" moment
"""
    examples = ("chains of tid 4449 at 20.929s", "chains of tid 4449 at 20.929s | sum dur by what")

    def apply(self, plan: Plan) -> None:
        """Sets the moment."""
        ((time, words),) = self.moments(plan)
        if plan.walk is None:
            text = " ".join(plan.text[self.place.start : self.place.end].split())
            remedy = f"around it: {text} ± 5ms; a moment alone goes with chains: {show_example(path=False)}"
            raise plan.error(f"{plan.noun.name} have no moment to begin at", remedy, self.place)
        if plan.walk.path:
            raise plan.error("a critical path is of a time, not of a moment", show_example(path=True), self.place)
        set_times(plan, time, time, f"back from {words}", self.place)


class InLast(When):
    """Rows that begin in the last part of the capture."""

    rule = "in_last"
    grammar = """
in_last: "in last" DURATION
"""
    examples = ("wakeups in last 5s",)

    def apply(self, plan: Plan) -> None:
        """Narrows the evidence from below."""
        time = self.duration(plan, tokens(self.node)[0])
        plan.condition(self.not_before(plan, plan.scene.until - time), f"in the last {show_duration(time)}")
