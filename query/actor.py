"""``by`` and ``not by``: who or what woke the thread."""

from __future__ import annotations

from typing import ClassVar

from tracectl.query.clause import Clause
from tracectl.query.nouns import NOUNS, softirq_vector
from tracectl.query.plan import Plan
from tracectl.query.subject import name_condition, number
from tracectl.query.values import Node, did_you_mean, listed, name_of, place_of, string_of, tokens, tree_in, trees
from tracectl.store.events import SOFTIRQS

_TIMER_VECTORS = ", ".join(str(SOFTIRQS.index(name)) for name in ("TIMER", "HRTIMER"))


class By(Clause):
    """What woke the thread.

    ``by softirq [NET_RX]``, ``by irq [11]`` (any hard interrupt; with a number, that device's), ``by timer``,
    ``by task`` (no interrupt at all): the context that the waking happened in. ``by tid N``, ``by comm NAME``,
    ``by idle``: the thread that was current then. In an interrupt that thread is a bystander: use the context to ask
    for the cause. Several with ``or``.
    """

    rule = "by"
    grammar = """
by: "by" actor ("or" actor)*
actor: "softirq" (WORD | UINT)? -> softirq
     | "irq" UINT? -> irq
     | "timer" -> timer
     | "task" -> task
     | "idle" -> idle
     | "tid" UINT -> tid
     | "comm" name -> comm
"""
    examples: ClassVar[tuple[str, ...]] = (
        "wakeups of tid 4449 by softirq",
        "wakeups by softirq net_rx | count by comm",
        "wakeups by irq 11",
        "wakeups of comm tmr:sleeper by timer",
        "wakeups by task",
        "wakeups by comm kubelet",
        "sleeps by idle",
        "wakeups by tid 10 or tid 4450",
    )
    needs = "the waker's context: recorded with sched_waking, else softirq_entry and softirq_exit"
    negated = False
    # An unknown context is neither this nor that: the row may match, and the answer says so.
    context = "NULLIF(context, 'unknown')"

    def apply(self, plan: Plan) -> None:
        """Keep rows that one of the actors caused (or, negated, none of them)."""
        word = "not by" if self.negated else "by"
        if not plan.noun.acted:
            acted = listed(noun.name for noun in NOUNS if noun.acted)
            raise plan.error(f"{plan.noun.name} have no waker", f'"{word}" goes with {acted}', self.place)
        pairs = [self._one(plan, node) for node in trees(self.node)]
        sql = " OR ".join(sql for sql, _ in pairs)
        sql = f"NOT ({sql})" if self.negated else f"({sql})" if len(pairs) > 1 else sql
        plan.condition(sql, f"{word} {listed(words for _, words in pairs)}")

    def _one(self, plan: Plan, node: Node) -> tuple[str, str]:
        what = str(node.data)
        if what == "idle":
            return "waker_tid = 0", "idle (the current thread was a CPU's idle thread)"
        if what == "tid":
            value = number(plan, node)
            plan.named.append(("tid", value))
            return f"waker_tid = {plan.parameter(value)}", f"tid {value}"
        if what == "comm":
            name = name_of(tree_in(node))
            plan.named.append(("comm", name.text))
            return name_condition(plan, "waker_comm", name), f'comm "{name.text}"'
        self._need_context(plan, node)
        if what == "timer":
            by_softirq = f"{self.context} = 'softirq' AND context_vec IN ({_TIMER_VECTORS})"
            sql = f"({self.context} = 'hrtimer' OR ({by_softirq}))"
            return sql, "a timer (hrtimer, or softirq TIMER or HRTIMER)"
        if what == "task":
            return f"{self.context} = 'task'", "a thread itself, in no interrupt"
        return self._softirq(plan, node) if what == "softirq" else self._irq(plan, node)

    def _softirq(self, plan: Plan, node: Node) -> tuple[str, str]:
        if not node.children:
            return f"{self.context} = 'softirq'", "softirq"
        token = tokens(node)[0]
        vector = softirq_vector(string_of(token))
        if vector is None:
            known = [name.lower() for name in SOFTIRQS]
            remedy = did_you_mean(string_of(token), known) or f"softirqs: {', '.join(known)}"
            raise plan.error(f'there is no softirq "{token}"', remedy, place_of(token))
        sql = f"({self.context} = 'softirq' AND context_vec = {plan.parameter(vector)})"
        return sql, f"softirq {SOFTIRQS[vector]}"

    def _irq(self, plan: Plan, node: Node) -> tuple[str, str]:
        if not node.children:
            return f"{self.context} IN ('hardirq', 'hrtimer', 'ipi')", "a hard interrupt"
        value = number(plan, node)
        return f"({self.context} = 'hardirq' AND context_vec = {plan.parameter(value)})", f"irq {value}"

    def _need_context(self, plan: Plan, node: Node) -> None:
        plan.context_asked = True
        if not plan.scene.context:
            needs = ((frozenset({"softirq_entry", "softirq_exit"}),),)
            instead = 'who was current at the waking is known: by comm "swapper/*", by comm "ksoftirqd/*"'
            plan.require(needs, "the waker's context", place_of(node), instead)


class NotBy(By):
    """What did not wake the thread; the same actors as ``by``. Wakeups of unknown context are in neither."""

    rule = "not_by"
    grammar = """
not_by: "not by" actor ("or" actor)*
"""
    examples = ("wakeups of tid 4449 not by softirq",)
    negated = True
