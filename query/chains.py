"""``chains`` and ``critical path``: walks back through waits and wakings, from the threads and time of a question."""

from __future__ import annotations

from tracectl.query.plan import Plan, Walk
from tracectl.query.values import INT64_MAX, Place
from tracectl.store.relations import ROOTS, views

# How far around the time asked for other threads' events are read, ns. What began earlier is not known.
BACK = {False: 10_000_000_000, True: 1_000_000_000}
AHEAD = 1_000_000_000
# How many wakings a walk goes back at most.
DEEPEST = 64
_EXAMPLES = {False: "chains of tid 4449 at 20.929s", True: "critical path of tid 4449 between 20s and 21s"}


def show_example(*, path: bool) -> str:
    """A whole question about a critical path or a chain."""
    return _EXAMPLES[path]


def begin(plan: Plan) -> None:
    """Make the plan that of a walk, where its noun is one."""
    if views()[plan.relations[0]].walked:
        plan.walk = Walk(path=plan.noun.name == "critical_path")


def set_threads(plan: Plan, sql: str, place: Place, *, by_number: bool) -> None:
    """Take the threads that the walk is of.

    Args:
        sql: a condition on tid, pid and comm.
        by_number: whether it names their tids, so that no event has to tell which they are.

    Raises:
        QueryError: they were named before.
    """
    assert plan.walk
    if plan.walk.threads:
        raise plan.error("the threads were named before", 'several with "or": of tid 4449 or tid 4450', place)
    plan.walk.threads = sql
    plan.inside = False  # a walk goes where it has to, a filter or not
    named = "SELECT DISTINCT tid FROM thread_names"
    plan.given[ROOTS] = f"{named} WHERE tid <> 0 AND ({sql})"
    if not by_number:
        events = plan.scene.catalogue.events.values()
        plan.evidence.streams |= {event.stream for event in events if not event.bookkeeping}


def set_times(plan: Plan, from_ts: int, to_ts: int, words: str, place: Place) -> None:
    """Take the time that the walk is of, ns monotonic.

    Raises:
        QueryError: it was named before.
    """
    assert plan.walk
    if plan.walk.to_ts is not None:
        raise plan.error("the time was named before", f"once: {_EXAMPLES[plan.walk.path]}", place)
    plan.walk.from_ts, plan.walk.to_ts = from_ts, to_ts
    plan.conditions.append(words)


def finish(plan: Plan, place: Place) -> None:
    """All clauses were applied: fix what the walk reads.

    Raises:
        QueryError: threads or time were not named.
    """
    walk = plan.walk
    if walk is None:
        return
    if not walk.threads or walk.from_ts is None or walk.to_ts is None:
        lacking = "threads" if not walk.threads else "a time (between … and …)" if walk.path else "a moment (at …)"
        who = "a critical path needs" if walk.path else "chains need"
        raise plan.error(f"{who} {lacking} to walk back from", _EXAMPLES[walk.path], place)
    first, last = (max(0, min(ts, INT64_MAX - AHEAD)) for ts in (walk.from_ts, walk.to_ts))
    plan.parameters |= {
        "whole": not walk.path,
        "from_ts": first if walk.path else -1,
        "to_ts": last,
        "read_from": max(first - BACK[walk.path], 0),
        "read_to": last + AHEAD,
        "deepest": DEEPEST,
    }
