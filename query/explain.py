"""``--explain``: what a question comes to, in words."""

from __future__ import annotations

from tracectl.query.compile import parse, plan
from tracectl.query.plan import Evidence, Plan, Scene
from tracectl.query.values import listed, show_duration


def explain(text: str, scene: Scene | None = None) -> str:
    """Describe a question: rows, relations, conditions, stages, and what the answer depends on.

    Args:
        scene: the capture's facts (:meth:`Scene.of`); without, everything is taken as recorded.

    Raises:
        QueryError: the question makes no sense; points at the place.
    """
    return told(plan(parse(text), Scene() if scene is None else scene, settled=True))


def told(made: Plan) -> str:
    """The same of a question that is planned already."""
    lines = [f"rows        {made.noun.row}", f"relation    {listed(made.relations, 'and')}"]
    lines += [f"{'conditions' if n == 0 else '':12}{condition}" for n, condition in enumerate(made.conditions)]
    lines += [f"{'stages' if n == 0 else '':12}{stage}" for n, stage in enumerate(made.stages)]
    lines.append(f"columns     {', '.join(made.select.columns)}")
    lines += [
        f"{'depends on' if n == 0 else '':12}{depends}" for n, depends in enumerate(dict.fromkeys(_evidence(made)))
    ]
    lines += [f"note        {note}" for note in made.notes]
    return "\n".join(lines)


def _evidence(made: Plan) -> list[str]:
    """What the question's rows depend on, then those of the questions inside it."""
    inside = (line for one in made.related for line in _evidence(one.inner))
    return [_depends(made, made.evidence), *inside]


def _depends(made: Plan, evidence: Evidence) -> str:
    if not evidence.streams:
        return "no events"
    streams = f"events of {listed(sorted(evidence.streams), 'and')}"
    cpus = "on every CPU" if evidence.cpus is None else f"on CPU {_ranges(evidence.cpus)}"
    start = made.scene.begin
    since = "the start" if evidence.start_ts is None else f"{show_duration(evidence.start_ts - start)} after the start"
    until = "the end" if evidence.end_ts is None else f"{show_duration(evidence.end_ts - start)} after the start"
    return f"{streams}, {cpus}, from {since} to {until}"


def _ranges(cpus: frozenset[int]) -> str:
    """``0-3, 8``."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts) or "none"
