"""``delays`` of a recording that kept only the late ones (``record --min-delay``): what can be asked of them."""

from __future__ import annotations

from tracectl.query.plan import Plan, view_of
from tracectl.query.values import Place, show_duration
from tracectl.store.relations import LATE_DELAYS


def picked(plan: Plan) -> bool:
    """Whether the rows are delays that the kernel picked out."""
    return plan.noun.name == "delays" and view_of(plan.noun, plan.scene).name == LATE_DELAYS


def finish(plan: Plan, place: Place) -> None:
    """All clauses were applied: make sure that no row is asked for that was too short to be recorded.

    Args:
        place: of the noun.

    Raises:
        NotRecordedError: shorter ones are asked for, too.
    """
    least = plan.scene.min_delay_ns
    if not picked(plan) or not least:
        return
    if plan.over_ns < least:
        least_shown = show_duration(least)
        raise plan.not_recorded(
            f"only delays over {least_shown} were recorded (--min-delay)",
            f"delays over {least_shown}; all of them need: tracectl record -e sched",
            place,
        )
    plan.notes.append(only_over(least))


def only_over(least: int) -> str:
    """What there is to know of waits where the kernel left out the others; ns."""
    return f"only waits of more than {show_duration(least)} that began in the recording were recorded (--min-delay)"
