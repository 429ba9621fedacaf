"""From text to :class:`Query` (what was asked, with places) to :class:`Plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lark import Token
from lark.exceptions import UnexpectedInput

from tracectl.query.bounds import Loss
from tracectl.query.clause import Clause
from tracectl.query.clauses import CLAUSES
from tracectl.query.grammar import parser
from tracectl.query.mistakes import explained
from tracectl.query.nouns import Noun, find, softirq_vector
from tracectl.query.plan import Evidence, Plan, Scene, view_of
from tracectl.query.select import Select
from tracectl.query.stages import STAGES, Stage
from tracectl.query.values import Place, did_you_mean, place_of, string_of, token_in, tokens, tree_in, trees
from tracectl.store.errors import QueryError
from tracectl.store.events import SOFTIRQS
from tracectl.store.relations import Column, EvidenceRule, kind_columns, kind_relation

LONGEST = 10_000
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


def parse(text: str) -> Query:
    """Read a question.

    Raises:
        QueryError: it is not one; points at the place.
    """
    _check_text(text)
    try:
        tree = parser().parse(text)
    except UnexpectedInput as error:
        raise explained(parser(), text, error) from None
    noun_node, *rest = trees(tree)
    noun = find(str(token_in(noun_node)))
    given = tokens(noun_node)
    argument = given[1] if len(given) > 1 else None
    if argument is not None and not noun.argument:
        place = place_of(argument)
        raise QueryError(f"{noun.name} take no word after them", "", text=text, start=place.start, end=place.end)
    clauses = {clause.rule: clause for clause in CLAUSES}
    stages = {stage.rule: stage for stage in STAGES}
    return Query(
        text,
        noun,
        place_of(given[0]),
        argument,
        tuple(clauses[str(tree_in(node).data)](tree_in(node)) for node in rest if node.data == "clause"),
        tuple(stages[str(tree_in(node).data)](tree_in(node)) for node in rest if node.data == "stage"),
    )


def _check_text(text: str) -> None:
    if len(text) > LONGEST:
        raise QueryError(f"the question has {len(text)} characters", f"at most {LONGEST}")
    bad = next((n for n, c in enumerate(text) if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        shown = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
        raise QueryError("this is no text", "UTF-8 without null characters", text=shown, start=bad, end=bad + 1)


def plan(
    query: Query, scene: Scene, loss: Callable[[Evidence], Loss] = lambda _: Loss(), *, settled: bool = False
) -> Plan:
    """Make a question ready to be run on a capture.

    Args:
        loss: tells what is missing from the evidence that the clauses have left.
        settled: take it that every row tells whether it matches.

    Raises:
        QueryError: it makes no sense; points at the place.
        NotRecordedError: it needs events that the capture does not hold.
    """
    made = _start(query, scene)
    made.loss_in = loss
    for clause in query.clauses:
        clause.apply(made)
    made.settle(loss(made.evidence), settled=settled)
    for stage in query.stages:
        stage.apply(made)
        made.stages.append(query.text[stage.place.start : stage.place.end])
    _notes(made)
    return made


def _start(query: Query, scene: Scene) -> Plan:
    noun = query.noun
    if noun.name == "events":
        return _start_events(query, scene)
    view = view_of(noun, scene)
    columns = dict(view.columns)
    unfilled = scene.unfilled(view)
    shown = {name: column for name, column in columns.items() if name not in unfilled}
    select = Select(noun.name, shown, order=list(noun.order))
    evidence = Evidence(view.evidence, _streams(view.evidence, scene))
    made = Plan(query.text, noun, scene, [noun.name], select, evidence, columns, unfilled=unfilled)
    made.require(view.needs, noun.name, query.noun_place)
    if query.argument is not None:
        _pick_vector(made, query.argument)
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


def _start_events(query: Query, scene: Scene) -> Plan:
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
        return Plan(query.text, query.noun, scene, ["events"], select, Evidence(rule, streams), known)
    kind = string_of(query.argument)
    kind = (
        kind if kind in events else kind.replace(":", "_") if kind.replace(":", "_") in events else kind.split(":")[-1]
    )
    if kind not in events:
        place = place_of(query.argument)
        known_kinds = sorted(scene.kinds if scene.kinds is not None else events)
        remedy = did_you_mean(kind, events) or f"recorded: {', '.join(known_kinds)}"
        raise QueryError(
            f'there is no event "{kind}" in this capture', remedy, text=query.text, start=place.start, end=place.end
        )
    columns = {name: column for name, (_, column) in kind_columns(events[kind]).items()}
    source = kind_relation(kind)
    select = Select(source, dict(columns), order=["seq"])
    streams = frozenset() if events[kind].bookkeeping else frozenset((events[kind].stream,))
    made = Plan(query.text, query.noun, scene, [source], select, Evidence(rule, streams), columns)
    if not events[kind].bookkeeping:
        made.require(((frozenset((kind,)),),), f"events {kind}", place_of(query.argument))
    return made


def _notes(made: Plan) -> None:
    if made.scene.filter and not made.loss.filter:
        made.notes.append(f"the recording was filtered ({made.scene.filter}): other threads' events are not in it")
    if made.relations[0] == "wakeups" and made.scene.context == "spans":
        made.notes.append(
            "the waker's context was not recorded: it is found from the begins and ends of interrupt handlers"
        )
