"""What a question's threads spare: steps of other threads are left out before they are sorted, not after."""

from __future__ import annotations

from tracectl.query.plan import Plan
from tracectl.store.relations import views

_STEPS = "thread_steps"
_ALL = "FROM steps\nWINDOW"
_MADE = "WITH steps AS ("
# Nouns whose rows are steps of a thread, with the pid and the comm of that very step.
_MADE_OF_STEPS = frozenset({"delays", "sleeps"})


def push_threads_down(plan: Plan) -> None:
    """Let thread_steps read only threads of which some step meets the condition on the question's threads.

    A condition on tid reaches the scan by itself, since the windows are partitioned by tid. One on pid or comm does
    not: a thread's pid is not in all of its steps. All steps of a thread that is kept are kept: the rows are the same.
    """
    if (
        not plan.thread_sql
        or plan.related
        or plan.relations != [plan.noun.name]
        or plan.noun.name not in _MADE_OF_STEPS
    ):
        return
    text = views()[_STEPS].sql
    assert _ALL in text and _MADE in text
    asked = f"SELECT DISTINCT tid FROM steps WHERE {plan.thread_sql}"
    kept = f"FROM steps\nWHERE tid IN ({asked})\nWINDOW"
    # Read twice, so DuckDB would first keep the steps of all threads.
    text = text.replace(_MADE, "WITH steps AS NOT MATERIALIZED (")
    plan.given[_STEPS] = text.replace(_ALL, kept)
