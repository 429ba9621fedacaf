"""``during``, ``followed by``, ``after``: rows that another question's rows surround, follow or precede."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tracectl.query import late
from tracectl.query.clause import Clause
from tracectl.query.linked import Related, bounded, is_span
from tracectl.query.nouns import NOUNS
from tracectl.query.plan import Plan
from tracectl.query.values import INT64_MAX, Node, OutOfRange, duration_of, listed, place_of, tokens, trees

if TYPE_CHECKING:
    from tracectl.query.start import Query


class Relation(Clause):
    """A clause with a question of its own inside.

    Attributes:
        inner: that question; the parser sets it.
        how: as in :class:`Related`.
        negated: whether the rows without are asked for.
    """

    inner: Query
    how: ClassVar[str]
    negated: ClassVar[bool] = False

    def apply(self, plan: Plan) -> None:
        """Keep rows that are so related to one of the other question's."""
        assert plan.nested is not None
        inner = plan.nested(self.inner)
        self._check(plan, inner)
        keys, chosen = self._keys(plan, inner)
        column = f"related_{self.place.start}"  # the place in the question sets it apart from all others
        related = Related(self.how, inner, keys, self._within(plan), self.negated, column)
        if is_span(inner) and related.in_lane and not plan.settled:
            inner.select.source = bounded(related)
        inner.settle()
        plan.relate(related)
        said = f"linked by {listed(keys, 'and')}" if keys else "linked by nothing but time"
        asked = " ".join(plan.text[self.place.start : self.place.end].split())
        plan.conditions.append(f"{asked} ({said})")
        if not chosen:
            plan.notes.append(f"{self._shown(plan)}: {said}")

    def _check(self, plan: Plan, inner: Plan) -> None:
        for one, place in ((plan, self.place), (inner, self.inner.noun_place)):
            if late.picked(one):
                remedy = "record again with: tracectl record -e sched"
                raise plan.error("of delays that the kernel picked out, only the ends are in order", remedy, place)
            if not one.noun.links:
                near = listed((noun.name for noun in NOUNS if noun.links), "and")
                remedy = f"those that are: {near}"
                raise plan.error(f"{one.noun.name} are at no moment that others could be near to", remedy, place)
        if self.how == "during" and not is_span(inner):
            lasting = listed(noun.name for noun in NOUNS if noun.links and "end_seq" in noun.columns)
            raise plan.error(f"{inner.noun.name} do not last", f'"during" goes with {lasting}', self.inner.noun_place)

    def _keys(self, plan: Plan, inner: Plan) -> tuple[tuple[str, ...], bool]:
        """The columns that link the rows, and whether the question names them."""
        link = next((node for node in trees(self.node)[1:] if node.data in ("same", "anywhere")), None)
        if link is not None:
            return (self._named(plan, inner, link) if link.data == "same" else ()), True
        spans_of_cpu = self.how == "during" and inner.evidence.rule.own_cpu
        choice = ("cpu",) if spans_of_cpu else plan.noun.links
        for name in choice:
            if (spans_of_cpu or name in inner.noun.links) and plan.has(name) and self._tells(inner, name):
                return (name,), False
        raise plan.error(
            f"{plan.noun.name} and {inner.noun.name} have no thread, CPU or socket in common by themselves",
            'say behind it what must be the same: "same cpu", "same pid", or "anywhere"',
            self.place,
        )

    def _named(self, plan: Plan, inner: Plan, link: Node) -> tuple[str, ...]:
        names = []
        for token in tokens(trees(link)[0]):
            place = place_of(token)
            name = plan.column(str(token), place).name
            if inner.column(str(token), place).type != plan.all_columns[name].type:
                raise plan.error(f"{name} is not the same kind of value in both", "another column", place)
            if not self._tells(inner, name):
                remedy = "a column that each row has by itself, or: anywhere"
                raise plan.error(f"where events were lost, {inner.noun.name} do not tell their {name}", remedy, place)
            names.append(name)
        return tuple(dict.fromkeys(names))

    @staticmethod
    def _tells(inner: Plan, name: str) -> bool:
        return inner.has(name) and not inner.all_columns[name].derived

    def _within(self, plan: Plan) -> str:
        given = tokens(self.node)
        if not given:
            return ""
        try:
            # Half of what 64 bits hold is longer than any recording, and can be added to any moment of one.
            return plan.parameter(min(duration_of(given[0]), INT64_MAX // 4))
        except OutOfRange:
            raise plan.error("this time is too long", "at most 292 years", place_of(given[0])) from None

    def _shown(self, plan: Plan) -> str:
        """The clause up to its noun."""
        place = self.inner.noun_place
        return " ".join(plan.text[self.place.start : place.end].replace("(", " ").split())


class During(Relation):
    """Rows that lie within a row of another question: ``during softirqs net_rx``, ``during sleeps in state D``.

    A moment must lie within it, a row that lasts must begin and end within it. Handlers and slices (softirqs, irqs,
    runs) are looked for on the same CPU, other rows that last (delays, sleeps, syscalls) at the same thread; a
    ``same COLUMNS`` or ``anywhere`` behind it says otherwise. What was going on when the recording began or ended is no
    row. The clauses that follow belong to the inner question; parentheses end it: ``during (softirqs net_rx)``.
    """

    rule = "during"
    grammar = """
during: "during" inner link?
inner: noun clause* | "(" noun clause* ")"
link: "same" columns -> same
    | "anywhere" -> anywhere
"""
    examples: ClassVar[tuple[str, ...]] = (
        "wakeups during softirqs net_rx | count by comm",
        "wakeups of tid 4449 during (irqs over 10us)",
        "irqs during softirqs | sum dur by name",
    )
    how = "during"


class NotDuring(During):
    """Rows that do not lie within any row of another question; the same as ``during`` otherwise."""

    rule = "not_during"
    grammar = """
not_during: "not during" inner link?
"""
    examples = ("wakeups not during softirqs | count by context",)
    negated = True


class FollowedBy(Relation):
    """Rows after which a row of another question begins, no later than this after they end:
    ``followed by accepts within 1ms``, ``followed by runs over 10ms within 1us``.

    Both must be of the same thread (of the same CPU with softirqs, irqs and switches, of the same socket with
    connections); ``same COLUMNS`` or ``anywhere`` behind it says otherwise. An event that both share counts: the switch
    that ends a delay begins a run. Where the time reaches beyond the end of the recording, nobody knows.
    """

    rule = "followed_by"
    grammar = """
followed_by: "followed by" inner "within" DURATION link?
"""
    examples: ClassVar[tuple[str, ...]] = (
        "wakeups followed by accepts within 1ms | count by comm",
        "closes on fd 42 followed by accepts within 5ms same pid",
        "delays over 1ms followed by (runs under 50us) within 1us",
        "softirqs net_rx followed by wakeups within 10us anywhere",
    )
    how = "followed by"


class NotFollowedBy(FollowedBy):
    """Rows after which no row of another question begins in this time: ``not followed by accepts within 1ms`` are
    wakeups for nothing. Where lost events could have been such rows, the answer says so and claims nothing.
    """

    rule = "not_followed_by"
    grammar = """
not_followed_by: "not followed by" inner "within" DURATION link?
"""
    examples = (
        "wakeups not followed by accepts within 1ms | count by comm",
        "epolls not followed by accepts within 1ms",
    )
    negated = True


class AfterRow(Relation):
    """Rows that begin after a row of another question, no later than this after it ends:
    ``after closes on fd 42 within 5ms``. What must be the same is as with ``followed by``. Where the time reaches
    before the begin of the recording, nobody knows.
    """

    rule = "after_row"
    grammar = """
after_row: "after" inner "within" DURATION link?
"""
    examples: ClassVar[tuple[str, ...]] = (
        "sleeps after closes on fd 42 within 5ms",
        "delays after (wakeups by softirq net_rx) within 1us | p99 dur",
    )
    how = "after"


class NotAfterRow(AfterRow):
    """Rows that do not begin so soon after any row of another question."""

    rule = "not_after_row"
    grammar = """
not_after_row: "not after" inner "within" DURATION link?
"""
    examples = ("sleeps not after closes within 5ms",)
    negated = True
