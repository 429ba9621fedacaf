"""``on``: the CPU, file descriptor, port or socket."""

from __future__ import annotations

from tracectl.query.clause import Clause
from tracectl.query.plan import Plan
from tracectl.query.values import (
    Node,
    OutOfRange,
    integer_of,
    listed,
    name_of,
    place_of,
    token_in,
    tokens,
    tree_in,
    trees,
)

_MOST_CPUS = 8192  # NR_CPUS of the largest kernel configuration


class On(Clause):
    """Where it happened: ``on cpu 0``, ``on cpu 0-3``, ``on cpu 0,2``, ``on fd 42``, ``on port 15006`` (either end),
    ``on socket 0xffff9f5e53bfbd40`` (address of the kernel's struct sock). In a set of captures
    also ``on host "web-*"``.
    """

    rule = "on"
    grammar = """
on: "on" place
place: "cpu" numbers -> cpu
     | "fd" UINT -> fd
     | "port" UINT -> port
     | "socket" (HEX | UINT | INT) -> socket
     | "host" name -> host
"""
    examples = (
        "switches on cpu 0",
        "wakeups on cpu 0-3 | count by cpu",
        "runs on cpu 0,2 | sum dur by cpu",
        "closes on fd 42",
        "wakeups on fd 42 | count by waker_comm, context",
        "connections on port 15006",
        "connections on socket 0xffff9f5e53bfbd40",
        'wakeups on host "*"',
    )

    def apply(self, plan: Plan) -> None:
        """Keep rows of that place; CPUs narrow the evidence of rows that depend on their own CPU only."""
        node = tree_in(self.node)
        what = str(node.data)
        if what == "cpu":
            self._cpus(plan, tree_in(node))
            return
        if what == "host":  # captures of other hosts are not asked: query/hosts.py
            name = name_of(tree_in(node))
            if name.matches(plan.scene.host) or plan.scene.kinds is None:
                plan.conditions.append(f'on host "{name.text}"')
            else:
                plan.condition("FALSE", f'on host "{name.text}"')  # inside another question
            return
        columns = {"fd": ("fd",), "port": ("sport", "dport"), "socket": ("socket",)}[what]
        if not plan.has(*columns):
            raise plan.error(f"{plan.noun.name} have no {what}", f"columns: {', '.join(plan.all_columns)}", self.place)
        plan.known(self.place, *columns)
        try:
            value = integer_of(token_in(node))
        except OutOfRange:
            raise plan.error("this number is too large", "at most 64 bits", place_of(node)) from None
        placeholder = plan.parameter(value)
        sql = " OR ".join(f"{column} = {placeholder}" for column in columns)
        plan.condition(f"({sql})" if len(columns) > 1 else sql, f"on {what} {token_in(node)}")

    def _cpus(self, plan: Plan, node: Node) -> None:
        ranges = [_range(plan, part) for part in trees(node)]
        sql = " OR ".join(
            f"cpu = {plan.parameter(low)}"
            if low == high
            else f"cpu BETWEEN {plan.parameter(low)} AND {plan.parameter(high)}"
            for low, high in ranges
        )
        words = listed((str(low) if low == high else f"{low}-{high}" for low, high in ranges), "and")
        plan.condition(f"({sql})" if len(ranges) > 1 else sql, f"on cpu {words}")
        plan.evidence.only_cpus(frozenset(cpu for low, high in ranges for cpu in range(low, high + 1)))


def _range(plan: Plan, node: Node) -> tuple[int, int]:
    ends = [int(token) if len(token) <= 6 else _MOST_CPUS for token in tokens(node)]
    low, high = ends[0], ends[-1]
    if high >= _MOST_CPUS:
        raise plan.error("there is no such CPU", f"CPUs are numbered from 0 to {_MOST_CPUS - 1}", place_of(node))
    if low > high:
        raise plan.error("this range of CPUs is empty", f"the lower number first: {high}-{low}", place_of(node))
    return low, high
