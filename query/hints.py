"""Help when a question finds nothing: threads it names that the capture does not know, and the nearest that it does."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tracectl.query.plan import Plan, Value
from tracectl.query.values import Name, Place
from tracectl.store.database import Database
from tracectl.store.relations import Relations

_SHOWN = 3


def absent(database: Database, relations: Sequence[Relations], plan: Plan) -> list[str]:
    """A line per tid, pid or comm that the question names and no event of the captures does."""
    if not plan.named:
        return []
    heads = [one.with_clause(["thread_names"]) for one in relations]
    each = (f"(\n{head}\nSELECT DISTINCT tid, pid, comm FROM thread_names\n)" for head in heads)
    known = database.execute(" UNION ".join(each)).rows()
    lines = []
    for column, value in dict.fromkeys(plan.named):
        line = _name(str(value), known) if column == "comm" else _number(column, value, known)
        if line:
            lines.append(line)
    return lines


def _number(column: str, value: Value, known: list[tuple[int, int | None, str | None]]) -> str:
    """``no event names tid 4499; nearest: 4449 (wrk:worker_0), …``"""
    wanted = int(value)
    comms = {(tid if column == "tid" else pid): comm for tid, pid, comm in known if comm is not None}
    numbers = sorted((number for number in comms if number is not None), key=lambda n: (_distance(wanted, n), n))
    if wanted in comms:
        return ""
    nearest = ", ".join(f"{number} ({comms[number]})" for number in numbers[:_SHOWN])
    return f"no event of the capture names {column} {wanted}" + (f"; nearest: {nearest}" if nearest else "")


def _distance(wanted: int, number: int) -> tuple[float, int]:
    """How unlike two ids are: first as typed (a slip of the keys), then as numbers."""
    return -round(difflib.SequenceMatcher(None, str(wanted), str(number)).ratio(), 3), abs(wanted - number)


def _name(value: str, known: list[tuple[int, int | None, str | None]]) -> str:
    comms = {comm for _, _, comm in known if comm}
    if any(Name(value, Place(0, 0)).matches(comm) for comm in comms):
        return ""
    wanted = value.replace("*", "").replace("?", "")
    near = difflib.get_close_matches(wanted, sorted(comms), n=_SHOWN, cutoff=0.4)
    text = f'no event of the capture names comm "{value}"'
    return text + (f"; nearest: {', '.join(near)}" if near else "")
