"""``of``: the threads that rows are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tracectl.query.chains import set_threads
from tracectl.query.clause import Clause
from tracectl.query.plan import OPEN, Evidence, Plan
from tracectl.query.values import (
    Name,
    Node,
    OutOfRange,
    integer_of,
    listed,
    name_of,
    place_of,
    string_of,
    token_in,
    tree_in,
    trees,
)
from tracectl.store.containers import container_id, path_pattern
from tracectl.store.errors import UserError
from tracectl.store.filtered import Inside
from tracectl.store.relations import EvidenceRule


def name_condition(plan: Plan, column: str, name: Name) -> str:
    """SQL that compares a column with a name or pattern, which enters as a parameter."""
    if name.is_pattern:
        return f"{column} LIKE {plan.parameter(name.like)} ESCAPE '\\'"
    return f"{column} = {plan.parameter(name.text)}"


def number(plan: Plan, node: Node) -> int:
    """The number in a node.

    Raises:
        QueryError: too large for any id.
    """
    try:
        return integer_of(token_in(node))
    except OutOfRange:
        raise plan.error("this number is too large", "ids have at most 64 bits", place_of(node)) from None


class Of(Clause):
    """The threads that rows are about: the woken one of a wakeup, the one that waited of a delay, either of a switch.

    ``of tid N``, ``of pid N`` (all threads of the process), ``of comm NAME``, ``of cgroup PATH``,
    ``of container ID`` (12 or more digits, as docker ps and kubectl print them); several with ``or``.
    In names ``*`` and ``?`` stand for anything; quotes may be left out around simple words.
    """

    rule = "of"
    grammar = r"""
of: "of" subject ("or" subject)*
subject: "tid" UINT -> tid
       | "pid" UINT -> pid
       | "comm" name -> comm
       | "cgroup" name -> cgroup
       | "container" (CONTAINER | STRING) -> container
CONTAINER: /[\w:\/.-]+/
"""
    examples = (
        "wakeups of tid 4449",
        "delays of pid 4182",
        'sleeps of comm "wrk:*"',
        'wakeups of cgroup "/kubepods/*"',
        "delays of container 4f3a12b8c9d0 over 1ms",
        "wakeups of tid 4449 or tid 4450",
    )
    _COLUMN: ClassVar = {"tid": 0, "pid": 1, "comm": 2}

    def apply(self, plan: Plan) -> None:
        """Keep rows about one of the threads."""
        if not plan.noun.subjects:
            raise plan.error(f"{plan.noun.name} are about no thread", "leave out: of", self.place)
        inside = Inside.of(plan.scene.filter or "")
        pairs = [self._one(plan, node) for node in trees(self.node)]
        plan.inside |= all(inside.holds(str(node.data), self._asked(plan, node)) for node in trees(self.node))
        sql = " OR ".join(sql for sql, _ in pairs)
        if plan.walk is not None:
            by_number = all(node.data == "tid" for node in trees(self.node))
            set_threads(plan, sql, self.place, by_number=by_number)
            plan.conditions.append(f"of {listed(words for _, words in pairs)}")
            return
        if all(node.data in ("pid", "comm") for node in trees(self.node)) and not plan.thread_sql:
            plan.thread_sql = sql
        plan.condition(f"({sql})" if len(pairs) > 1 else sql, f"of {listed(words for _, words in pairs)}")

    @staticmethod
    def _asked(plan: Plan, node: Node) -> int | str:
        if node.data == "container":
            return string_of(token_in(node))
        return number(plan, node) if node.data in ("tid", "pid") else name_of(tree_in(node)).text

    def _one(self, plan: Plan, node: Node) -> tuple[str, str]:
        what = str(node.data)
        if what == "cgroup":
            name = name_of(tree_in(node))
            return self._in_cgroups(plan, lambda column: name_condition(plan, column, name)), f'cgroup "{name.text}"'
        if what == "container":
            return self._container(plan, node)
        columns = [subject[self._COLUMN[what]] for subject in plan.noun.subjects]
        columns = [column for column in columns if plan.walk is not None or plan.has(column)]
        if not columns:
            raise plan.error(f"{plan.noun.name} have no {what}", "leave out: of", place_of(node))
        if what == "comm":
            name = name_of(tree_in(node))
            plan.named.append(("comm", name.text))
            conditions = [name_condition(plan, column, name) for column in columns]
            words = f'comm "{name.text}"'
        else:
            value = number(plan, node)
            plan.named.append((what, value))
            placeholder = plan.parameter(value)
            conditions = [f"{column} = {placeholder}" for column in columns]
            words = f"{what} {value}"
        return (f"({' OR '.join(conditions)})" if len(conditions) > 1 else conditions[0]), words

    def _container(self, plan: Plan, node: Node) -> tuple[str, str]:
        given = string_of(token_in(node))
        try:
            pattern = path_pattern(container_id(given))
        except UserError as error:
            raise plan.error(error.problem, error.remedy, place_of(token_in(node))) from None
        matches = self._in_cgroups(plan, lambda column: f"regexp_matches({column}, {plan.parameter(pattern)})")
        return matches, f"container {given}"

    @staticmethod
    def _in_cgroups(plan: Plan, matches: Callable[[str], str]) -> str:
        """Threads whose cgroup matches; ``matches`` gives the SQL for a column."""
        if plan.has("cgroup"):
            return matches("cgroup")
        plan.relations.append("thread_cgroups")
        inner = f"SELECT tid FROM thread_cgroups WHERE {matches('cgroup')}"
        columns = [subject[0] for subject in plan.noun.subjects if plan.has(subject[0])]
        sql = " OR ".join(f"{column} IN ({inner})" for column in columns)
        # A fork that was lost can only take threads away from those found: no other thread is surely none of them.
        if not plan.loss_in(Evidence(EvidenceRule(), frozenset({"task"}))).exact:
            plan.descent_asked = True
            sql += f" {OPEN}"
        return f"({sql})" if len(columns) > 1 or plan.descent_asked else sql
