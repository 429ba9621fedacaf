"""``where``: any condition on the columns."""

from __future__ import annotations

from typing import ClassVar

from lark import Token

from tracectl.query.clause import Clause
from tracectl.query.plan import Plan
from tracectl.query.values import (
    Node,
    OutOfRange,
    Place,
    duration_of,
    integer_of,
    place_of,
    real_of,
    string_of,
    token_in,
    tokens,
    tree_in,
    trees,
)
from tracectl.store.relations import Column, quote_name

_WORDS_FOR_TYPES = {"int": "a whole number", "text": "text", "bool": "true or false", "real": "a number"}


class Where(Clause):
    """Any condition on the columns: ``= != < <= > >=``, ``like`` (``%`` and ``_`` stand for anything), ``in (…)``,
    ``is null``, ``and``, ``or``, ``not`` and parentheses. A time such as ``10ms`` compares with columns of time: with
    a moment, it counts from the start of the capture. Text is in quotes; a simple word may go without.
    """

    rule = "where"
    grammar = """
where: "where" condition
?condition: conjunction
          | condition "or" conjunction -> either
?conjunction: negation
            | conjunction "and" negation -> both
?negation: comparison
         | "not" negation -> negated
         | "(" condition ")"
comparison: NAME COMPARE value -> compare
          | NAME "like" STRING -> like
          | NAME "not like" STRING -> not_like
          | NAME "in" "(" value ("," value)* ")" -> among
          | NAME "not in" "(" value ("," value)* ")" -> not_among
          | NAME "is null" -> is_null
          | NAME "is not null" -> is_not_null
          | NAME -> truth
value: STRING | WORD | INT | UINT | FLOAT | HEX | DURATION
"""
    examples = (
        'wakeups where waker_comm = "ksoftirqd/0" and cpu != 3',
        "delays where cause = preempted and (dur > 10ms or cpu in (0, 1))",
        'switches where next_comm like "kworker%"',
        "sleeps where not certain or waker_tid is null",
    )

    def apply(self, plan: Plan) -> None:
        """Conditions on columns that are checked against the noun's; values become parameters."""
        sql = self._condition(plan, tree_in(self.node))
        plan.condition(sql, f"where {plan.text[self.place.start : self.place.end]}")

    def _condition(self, plan: Plan, node: Node) -> str:
        what = str(node.data)
        if what in ("either", "both"):
            word = "OR" if what == "either" else "AND"
            return f"({f' {word} '.join(self._condition(plan, part) for part in trees(node))})"
        if what == "negated":
            return f"NOT ({self._condition(plan, tree_in(node))})"
        token = token_in(node)
        column = self._column(plan, str(token), place_of(token))
        return self._FORMS[what](self, plan, node, column)

    @staticmethod
    def _column(plan: Plan, name: str, place: Place) -> Column:
        column = plan.column(name, place)
        plan.certainty_asked |= column.name == "certain"
        return column

    def _compare(self, plan: Plan, node: Node, column: Column) -> str:
        sign = {"==": "=", "!=": "<>"}.get(str(tokens(node)[1]), str(tokens(node)[1]))
        return f"{quote_name(column.name)} {sign} {self._value(plan, tree_in(node, 2), column)}"

    def _like(self, plan: Plan, node: Node, column: Column) -> str:
        if column.type != "text":
            raise plan.error(f"{column.name} is no text", '"like" compares text', place_of(node))
        word = "NOT LIKE" if node.data == "not_like" else "LIKE"
        return f"{quote_name(column.name)} {word} {plan.parameter(string_of(tokens(node)[1]))}"

    def _among(self, plan: Plan, node: Node, column: Column) -> str:
        word = "NOT IN" if node.data == "not_among" else "IN"
        values = ", ".join(self._value(plan, part, column) for part in trees(node))
        return f"{quote_name(column.name)} {word} ({values})"

    def _null(self, plan: Plan, node: Node, column: Column) -> str:
        sql = f"{quote_name(column.name)} IS {'' if node.data == 'is_null' else 'NOT '}NULL"
        # A null in a row that is not certain says nothing.
        return f"CASE WHEN certain THEN {sql} END" if column.derived and plan.has("certain") else sql

    def _truth(self, plan: Plan, node: Node, column: Column) -> str:
        if column.type != "bool":
            remedy = f"compare it: {column.name} = {'0' if column.type == 'int' else '…'}"
            raise plan.error(f"{column.name} is not true or false", remedy, place_of(node))
        return quote_name(column.name)

    def _value(self, plan: Plan, node: Node, column: Column) -> str:
        token = token_in(node)
        word = str(token).lower()
        if token.type == "WORD" and column.type == "bool" and word in ("true", "false"):
            return word.upper()
        if token.type in ("WORD", "STRING"):
            return self._text(plan, token, column)
        if column.type in ("text", "bool"):
            raise self._mismatch(plan, column, place_of(token))
        try:
            if token.type == "FLOAT":
                return plan.parameter(real_of(token))
            if token.type != "DURATION":
                return plan.parameter(integer_of(token))
            if not column.unit:
                raise plan.error(f"{column.name} is no time", "a number without a unit", place_of(token))
            origin = plan.scene.begin if column.unit == "clock" else 0
            return plan.parameter(origin + duration_of(token))
        except OutOfRange:
            raise plan.error("this number is too large", "at most 64 bits", place_of(token)) from None

    def _text(self, plan: Plan, token: Token, column: Column) -> str:
        text = string_of(token)
        if token.type == "WORD" and text.lower() in {name.lower() for name in plan.all_columns}:
            other = self._column(plan, text, place_of(token))
            if other.type != column.type:
                raise self._mismatch(plan, column, place_of(token))
            return quote_name(other.name)
        if column.type != "text":
            raise self._mismatch(plan, column, place_of(token))
        return plan.parameter(text)

    @staticmethod
    def _mismatch(plan: Plan, column: Column, place: Place) -> Exception:
        wanted = _WORDS_FOR_TYPES[column.type]
        remedy = f"compare it with {wanted}" + (', in quotes: "…"' if column.type == "text" else "")
        return plan.error(f"{column.name} is {wanted}", remedy, place)

    _FORMS: ClassVar = {
        "compare": _compare,
        "like": _like,
        "not_like": _like,
        "among": _among,
        "not_among": _among,
        "is_null": _null,
        "is_not_null": _null,
        "truth": _truth,
    }
