"""From a question to rows. Imports tracectl.store only."""

from tracectl.query.answer import Answer, Qualification, ask, asked_of
from tracectl.query.compile import parse, plan
from tracectl.query.explain import explain, told
from tracectl.query.plan import Plan, Scene
from tracectl.query.start import Query

__all__ = ["Answer", "Plan", "Qualification", "Query", "Scene", "ask", "asked_of", "explain", "parse", "plan", "told"]
