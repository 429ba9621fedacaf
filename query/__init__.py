"""From a question to rows. Imports tracectl.store only."""

from tracectl.query.answer import Answer, Qualification, ask
from tracectl.query.compile import parse, plan
from tracectl.query.explain import explain
from tracectl.query.plan import Plan, Scene
from tracectl.query.start import Query

__all__ = ["Answer", "Plan", "Qualification", "Query", "Scene", "ask", "explain", "parse", "plan"]
