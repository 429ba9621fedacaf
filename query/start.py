"""From what was asked to a plan of the noun alone: its relation, what it depends on, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from lark import Token

from tracectl.query import chains, late
from tracectl.query.clause import Clause
from tracectl.query.nouns import Noun, softirq_vector
from tracectl.query.plan import Evidence, Plan, Scene, Value, view_of
from tracectl.query.select import Select
from tracectl.query.stage import Stage
from tracectl.query.subject import name_condition
from tracectl.query.values import Name, Place, did_you_mean, place_of, string_of
from tracectl.store.errors import NotRecordedError
from tracectl.store.events import SOFTIRQS
from tracectl.store.relations import Column, EvidenceRule, kind_columns, kind_relation, quote_name

_EVENTS_SHOWN = ("seq", "ts", "kind", "cpu", "tid", "pid", "comm")


@dataclass(frozen=True)
class Query:
    """A question as asked.

    Attributes:
        noun_place: where the noun stands.
        argument: the word after the noun, as ``net_rx`` in ``softirqs net_rx``; None: there is none.
    """

    text: str
    noun: Noun
    noun_place: Place
    argument: Token | None
    clauses: tuple[Clause, ...]
    stages: tuple[Stage, ...]


def start(query: Query, scene: Scene, parameters: dict[str, Value]) -> Plan:
    """The plan of a noun, before any clause.

    Args:
        parameters: values of the statement so far; those of the plan are added.

    Raises:
        QueryError: the word after the noun picks nothing.
        NotRecordedError: the noun needs events that the capture does not hold.
    """
    noun = query.noun
    if noun.name == "events":
        return _start_events(query, scene, parameters)
    view = view_of(noun, scene)
    columns = dict(view.columns)
    unfilled = scene.unfilled(view)
    shown = {name: column for name, column in columns.items() if name not in unfilled}
    select = Select(noun.name, shown, order=list(noun.order))
    evidence = Evidence(view.evidence, _streams(view.evidence, scene))
    made = Plan(
        query.text, noun, scene, [noun.name], select, evidence, columns, unfilled=unfilled, parameters=parameters
    )
    made.require(view.needs, noun.name, query.noun_place)
    chains.begin(made)
    if query.argument is not None:
        pick = _pick_vector if noun.argument == "vector" else _pick_name
        pick(made, query.argument)
    return made


def _streams(rule: EvidenceRule, scene: Scene) -> frozenset[str]:
    if rule.streams != ("all",):
        return frozenset(rule.streams)
    return frozenset(event.stream for event in scene.catalogue.events.values() if not event.bookkeeping)


def _pick_vector(made: Plan, token: Token) -> None:
    vector = softirq_vector(string_of(token))
    if vector is None:
        known = [name.lower() for name in SOFTIRQS]
        remedy = did_you_mean(string_of(token), known) or f"softirqs: {', '.join(known)}"
        raise made.error(f'there is no softirq "{token}"', remedy, place_of(token))
    made.condition(f"vec = {made.parameter(vector)}", f"softirq {SOFTIRQS[vector]}")


def _pick_name(made: Plan, token: Token) -> None:
    name = Name(string_of(token), place_of(token))
    column = made.noun.argument
    made.condition(name_condition(made, quote_name(column), name), f"{column} {name.text}")


def _start_events(query: Query, scene: Scene, parameters: dict[str, Value]) -> Plan:
    events = scene.catalogue.events
    rule = EvidenceRule((), True, "ts..ts")
    if query.argument is None:
        known = {
            name: Column(name, "text" if c.type.arrow == "string" else "int", "", c.doc)
            for name, c in scene.catalogue.columns().items()
        }
        for name in ("ts", "from_ts"):
            known[name] = Column(name, "int", "clock", known[name].doc)
        shown = {name: known[name] for name in _EVENTS_SHOWN}
        streams = _streams(EvidenceRule(("all",)), scene)
        select = Select("events", shown, order=["seq"])
        evidence = Evidence(rule, streams)
        return Plan(query.text, query.noun, scene, ["events"], select, evidence, known, parameters=parameters)
    kind = string_of(query.argument)
    kind = (
        kind if kind in events else kind.replace(":", "_") if kind.replace(":", "_") in events else kind.split(":")[-1]
    )
    if kind not in events:
        place = place_of(query.argument)
        known_kinds = sorted(scene.kinds if scene.kinds is not None else events)
        remedy = did_you_mean(kind, events) or f"recorded: {', '.join(known_kinds)}"
        raise NotRecordedError(
            f'there is no event "{kind}" in this capture', remedy, text=query.text, start=place.start, end=place.end
        )
    columns = {name: column for name, (_, column) in kind_columns(events[kind]).items()}
    source = kind_relation(kind)
    select = Select(source, dict(columns), order=["seq"])
    streams = frozenset() if events[kind].bookkeeping else frozenset((events[kind].stream,))
    evidence = Evidence(rule, streams)
    made = Plan(query.text, query.noun, scene, [source], select, evidence, columns, parameters=parameters)
    if not events[kind].bookkeeping:
        made.require(((frozenset((kind,)),),), f"events {kind}", place_of(query.argument))
    if kind == "runq_delay" and scene.min_delay_ns:
        made.notes.append(late.only_over(scene.min_delay_ns))
    return made
