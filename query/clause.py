"""What every clause has: a grammar rule, a docstring that becomes its documentation, examples, and its effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tracectl.query.plan import Plan
from tracectl.query.values import Node, Place, place_of


class Clause(ABC):
    """A part of a question that narrows what the noun gives.

    Attributes:
        rule: name of the grammar rule that makes it.
        grammar: its grammar lines.
        examples: whole questions, executed by tests and shown in docs/language.md.
        needs: kinds it needs beyond the noun's, in words for the documentation.
    """

    rule: ClassVar[str]
    grammar: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    needs: ClassVar[str] = ""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.place: Place = place_of(node)

    @abstractmethod
    def apply(self, plan: Plan) -> None:
        """Add the condition to the plan and narrow its evidence.

        Raises:
            QueryError: it makes no sense for this noun, or names what does not exist.
        """
