"""What every stage has, and what aggregates have in common: groups, names, bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

from lark import Token

from tracectl.query.bounds import NOT_BOUNDED, Bounding
from tracectl.query.plan import Plan
from tracectl.query.values import Node, OutOfRange, Place, integer_of, place_of, tokens
from tracectl.store.relations import Column, quote_name


class Stage(ABC):
    """A stage.

    Attributes:
        rule: name of the grammar rule that makes it.
        grammar: its grammar lines.
        examples: whole questions, executed by tests and shown in docs/language.md.
    """

    rule: ClassVar[str]
    grammar: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]

    def __init__(self, node: Node) -> None:
        self.node = node
        self.place = place_of(node)

    @abstractmethod
    def apply(self, plan: Plan) -> None:
        """Change the plan's SELECT.

        Raises:
            QueryError: a column that is not there, or of the wrong type.
        """

    def column(self, plan: Plan, token: Token, *, numeric: bool = False) -> Column:
        """A column of the rows before this stage."""
        column = plan.column(str(token), place_of(token), plan.select.columns if plan.narrowed else None)
        if numeric and column.type not in ("int", "real"):
            remedy = "sums, averages and percentiles are of numbers"
            raise plan.error(f"{column.name} is no number", remedy, place_of(token))
        return column

    def names(self, plan: Plan, node: Node) -> list[Column]:
        """The columns of a ``columns`` rule, each once."""
        return list({c.name: c for c in (self.column(plan, token) for token in tokens(node))}.values())

    def number(self, plan: Plan, token: Token) -> int:
        """How many rows."""
        try:
            return integer_of(token)
        except OutOfRange:
            raise plan.error("this number is too large", "at most 64 bits", place_of(token)) from None


def aggregate(plan: Plan, by: list[Column], made: dict[str, tuple[str, Column]]) -> None:
    """Replace the rows by groups: the columns of ``by``, then those made (name -> expression, column)."""
    select = plan.select
    select.columns = {column.name: column for column in by} | {name: column for name, (_, column) in made.items()}
    select.expressions = {name: expression for name, (expression, _) in made.items()}
    select.group = [column.name for column in by]
    select.any_group = any_group(plan, by)
    plan.keys = list(select.group)
    # What comes after groups or limits is not bounded any more: a row that is missing could change which there are.
    plan.bounding = None
    first = next(iter(made))
    select.order = [f"{quote_name(first)} DESC NULLS LAST", *(quote_name(column.name) for column in by)] if by else []
    plan.narrowed = True


def free_name(wanted: str, by: list[Column]) -> str:
    """A name for a made column that none of the group's has."""
    return f"{wanted}_" if wanted in {column.name for column in by} else wanted


def opened(plan: Plan, place: Place) -> Bounding:
    """Make ready for aggregates; returns how they are bounded.

    Raises:
        QueryError: the rows are those of a histogram, which no further number can be made of.
    """
    if plan.final:
        remedy = "behind it: sort, limit, top or select"
        raise plan.error(f"the rows of a {plan.final} cannot be summed up again", remedy, place)
    if plan.select.closed:
        plan.select = plan.select.around()
        plan.bounding = None
    # Over rows that an earlier stage made: what is missing is only known as a whole.
    return plan.bounding or Bounding(replace(plan.loss, at_most=None), tri=False, pairs=False, open_ended=True)


def any_group(plan: Plan, by: list[Column]) -> bool:
    """Whether a row that is not certain may belong to another group than the one it is in."""
    known = plan.bounding
    moving = any(column.derived or column.name == "certain" for column in by)
    return known is not None and known.pairs and not known.loss.exact and moving


def between(plan: Plan, column: Column, limits: tuple[str, str], by: list[Column]) -> dict[str, tuple[str, Column]]:
    """Two more columns: how small and how large a value can be."""
    made = {}
    for end, expression in zip(("min", "max"), limits, strict=True):
        if expression == NOT_BOUNDED:
            continue
        name = free_name(f"{column.name}_{end}", by)
        made[name] = (
            f"CAST({expression} AS BIGINT)",
            Column(name, column.type, column.unit, f"{end} of {column.name}"),
        )
    words = {0: "not bounded", 1: f"at least {' '.join(made)}", 2: f"between {' and '.join(made)}"}
    plan.bounds[column.name] = words[len(made)]
    plan.bound_columns |= set(made)
    return made


def total_bound(what: str, column: Column, bounding: Bounding) -> str:
    """What a sum, max or min is when rows are missing; a sum only grows with them where no value is negative."""
    if bounding.open_ended and not column.derived:
        return "not bounded"  # it may be the value of a row that stands for none
    known = {"sum": "at least" if column.unit == "ns" else "not bounded", "max": "at least", "min": "at most"}
    return known.get(what, "not bounded")
