"""One plan of the plans of several captures: each is asked by itself, and the stages see the rows of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tracectl.query.bounds import MATCH, Bounding, Loss
from tracectl.query.compile import apply_stages, rows_of
from tracectl.query.hosts import chosen
from tracectl.query.plan import Evidence, Plan, Scene, Value
from tracectl.query.select import Select
from tracectl.query.start import Query
from tracectl.store.captures import CaptureSet, Member
from tracectl.store.errors import NotRecordedError, UserError
from tracectl.store.relations import Column, Relations, quote_name

CAPTURE, HOST = "capture", "host"
_TYPES = {"int": "BIGINT", "text": "VARCHAR", "bool": "BOOLEAN", "real": "DOUBLE"}


@dataclass(frozen=True)
class Part:
    """One capture of a set, ready to be asked.

    Attributes:
        scene: its facts; times in questions count from the set's begin, on its own clock.
        loss: tells what is missing from some evidence.
    """

    member: Member
    relations: Relations
    scene: Scene
    loss: Callable[[Evidence], Loss]


def scene_in(whole: CaptureSet, member: Member, context: str) -> Scene:
    """The facts of one capture of a set."""
    own = Scene.of(member.capture, context)
    return replace(own, origin_ts=whole.start_ts - member.shift, limit_ts=whole.end_ts - member.shift)


def plan_together(query: Query, whole: CaptureSet, parts: Sequence[Part], *, settled: bool = False) -> Plan:
    """Make a question ready to be run on a set of captures, in one statement.

    The noun's rows and the clauses are those of each capture alone, so that no thread, CPU or loss of one touches
    another. Captures that lack what the question needs are left out, and the answer is not exact.

    Args:
        settled: take it that every row tells whether it matches.

    Raises:
        QueryError: it makes no sense; points at the place.
        NotRecordedError: it needs events that none of the captures holds.
    """
    parameters: dict[str, Value] = {}
    plans: list[tuple[Part, Plan]] = []
    lacking: list[tuple[Part, NotRecordedError]] = []
    for part in chosen(query.clauses, parts, lambda part: part.scene.host, query.text):
        before = dict(parameters)
        try:
            label = partial(_label, part.member)
            made = rows_of(query, part.scene, part.loss, settled=settled, parameters=parameters, label=label)
            plans.append((part, made))
        except NotRecordedError as error:
            lacking.append((part, error))
            parameters.clear()
            parameters |= before
    if not plans:
        raise lacking[0][1]
    if plans[0][1].walk and len(plans) > 1:
        # A walk's times are named parameters of the statement: there is one of each.
        remedy = "name its host, as in: on host web-1"
        raise plans[0][1].error(f"{query.noun.name} are walked in one capture only", remedy, query.noun_place)
    made = _union(whole, plans, [part.member.name for part, _ in lacking])
    apply_stages(query, made)
    return made


def _label(member: Member, made: Plan) -> None:
    """Give the rows the columns that say which capture and host they are from."""
    labels = {}
    for wanted, value, doc in ((CAPTURE, member.name, "capture of the set"), (HOST, member.host, "name of its host")):
        name = f"{wanted}_" if wanted in made.all_columns else wanted
        given = "NULL" if value is None else made.parameter(value)
        labels[name] = (f"CAST({given} AS VARCHAR) AS {quote_name(name)}", Column(name, "text", "", doc))
    source = made.select.source
    made.select.source = f"(SELECT {', '.join(sql for sql, _ in labels.values())}, * FROM {source})"
    columns = {name: column for name, (_, column) in labels.items()}
    made.all_columns = columns | made.all_columns
    made.select.columns = columns | made.select.columns


def _union(whole: CaptureSet, plans: list[tuple[Part, Plan]], lacking: list[str]) -> Plan:
    """The rows of all plans as those of one."""
    first = plans[0][1]
    columns = _merged([made.all_columns | made.select.columns for _, made in plans])
    shown = {name: columns[name] for _, made in plans for name in made.select.columns}
    tri = any(made.select.tri for _, made in plans)
    branches = "\n  UNION ALL\n".join(_branch(part, made, columns, tri=tri) for part, made in plans)
    in_time = first.select.order[:1] == ["seq"]
    order = [*(["ts"] if in_time else []), quote_name(CAPTURE), *first.select.order]
    select = Select(f"(\n{branches}\n) AS {quote_name(first.noun.name)}", shown, order=order, tri=tri)
    loss = _sum([(part.member.name, made.loss) for part, made in plans], lacking)
    scene = Scene(first.scene.catalogue, whole.kinds, whole.start_ts, whole.end_ts, first.scene.context)
    derived = any(column.derived for column in columns.values())
    made = replace(
        first, scene=scene, select=select, all_columns=columns, loss=loss,
        several=True, gaps=sum(one.gaps for _, one in plans), open_rows=select.source if tri else "",
        first_ts=_moved(min, [(one.first_ts, part) for part, one in plans]),
        last_ts=_moved(max, [(one.last_ts, part) for part, one in plans]),
        unfilled={name: by for _, one in plans for name, by in one.unfilled.items()},
        bounding=Bounding(loss, tri, "certain" in columns, derived), evidence=_on_axis(first, plans[0][0].member.shift),
        notes=_notes([(part.member.name, made.notes) for part, made in plans]),
    )  # fmt: skip
    made.notes += [f"{name} did not record what the question needs" for name in lacking]
    made.notes += [
        f"{part.member.name}: {_told(one.loss)}" for part, one in plans if not one.loss.exact and len(plans) > 1
    ]
    return made


def _moved(choose: Callable[[list[int]], int], moments: Sequence[tuple[int | None, Part]]) -> int | None:
    """The least or largest of moments, on the common axis; None: one is not known."""
    known = [ts + part.member.shift for ts, part in moments if ts is not None]
    return choose(known) if len(known) == len(moments) else None


def _merged(plans: Sequence[dict[str, Column]]) -> dict[str, Column]:
    """All columns by name; one that may be null for want of certainty in any capture is so in all.

    Raises:
        UserError: a column has two types.
    """
    columns: dict[str, Column] = {}
    for name, column in (item for known in plans for item in known.items()):
        known = columns.setdefault(name, column)
        if known.type != column.type:
            raise UserError(
                f"{name} is {known.type} in one capture and {column.type} in another", "ask them one at a time"
            )
        if column.derived and not known.derived:
            columns[name] = column
    return columns


def _branch(part: Part, made: Plan, columns: dict[str, Column], *, tri: bool) -> str:
    """SQL for the rows of one capture, its moments on the common axis."""
    shown = [_on_common_axis(made, column, part.member.shift) for column in columns.values()]
    if tri:
        shown.append(MATCH if made.select.tri else f"TRUE AS {MATCH}")
    part.relations.given = made.given
    lines = [part.relations.with_clause(made.relations), f"SELECT {', '.join(shown)}", f"FROM {made.select.source}"]
    lines += [f"{'WHERE' if n == 0 else '  AND'} {condition}" for n, condition in enumerate(made.select.where)]
    return "  (\n" + "\n".join(f"  {line}" for line in "\n".join(lines).splitlines()) + "\n  )"


def _on_common_axis(made: Plan, column: Column, shift: int) -> str:
    name = quote_name(column.name)
    own = {**made.all_columns, **made.select.columns}
    if column.name not in own:
        return f"CAST(NULL AS {_TYPES[column.type]}) AS {name}"
    value = made.select.expressions.get(column.name, name)
    if own[column.name].unit != "clock" or not shift:
        return value if value == name else f"{value} AS {name}"
    return f"{value} {'+' if shift > 0 else '-'} {abs(shift)} AS {name}"


def _on_axis(made: Plan, shift: int) -> Evidence:
    """The evidence of one capture, its times on the common axis: what `--explain` tells of all."""
    known = made.evidence
    start, end = (None if ts is None else ts + shift for ts in (known.start_ts, known.end_ts))
    return replace(known, start_ts=start, end_ts=end)


def _sum(losses: Sequence[tuple[str, Loss]], lacking: Sequence[str]) -> Loss:
    """What is missing from all of them."""
    counts = [loss.at_most for _, loss in losses]
    known = [count for count in counts if count is not None]
    return Loss(
        sum(known) if len(known) == len(counts) and not lacking else None,
        sum(loss.gaps for _, loss in losses),
        "; ".join(f"{name}: {loss.filter}" for name, loss in losses if loss.filter),
        ", ".join(lacking),
    )


def _told(loss: Loss) -> str:
    """``at most 12 missing (1 gap)``"""
    counted = "not known how many" if loss.at_most is None else f"at most {loss.at_most}"
    reasons = [f"{loss.gaps} gap{'s' if loss.gaps != 1 else ''}"] if loss.gaps else []
    return f"{counted} missing ({', '.join([*reasons, *(['filtered'] if loss.filter else [])])})"


def _notes(given: Sequence[tuple[str, list[str]]]) -> list[str]:
    """The notes on the captures: one that is the same for all stands once."""
    every = [note for note in given[0][1] if all(note in notes for _, notes in given)]
    return every + [f"{name}: {note}" for name, notes in given for note in notes if note not in every]
