"""From text to :class:`Query` (what was asked, with places) to :class:`Plan`."""

from __future__ import annotations

from collections.abc import Callable

from lark.exceptions import UnexpectedInput

from tracectl.query import chains, late
from tracectl.query.bounds import Loss
from tracectl.query.clause import Clause
from tracectl.query.clauses import CLAUSES
from tracectl.query.grammar import parser
from tracectl.query.mistakes import explained
from tracectl.query.nouns import find
from tracectl.query.plan import Evidence, Plan, Scene, Value
from tracectl.query.pushdown import push_threads_down
from tracectl.query.relate import Relation
from tracectl.query.stages import STAGES
from tracectl.query.start import Query, start
from tracectl.query.values import Node, place_of, token_in, tokens, tree_in, trees
from tracectl.store.errors import QueryError

LONGEST = 10_000
DEEPEST = 3  # relations inside relations
DEEPEST_TREE = 150  # of the grammar's rules; a condition "a or b or c" takes one for each


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
    _check_depth(text, tree)
    return _query(text, tree)


def _check_depth(text: str, tree: Node) -> None:
    """Refuse what nests deeper than what reads it can go."""
    level: list[Node] = [tree]
    for _ in range(DEEPEST_TREE):
        level = [below for node in level for below in trees(node)]
        if not level:
            return
    place = place_of(level[0])
    remedy = "fewer conditions; many values of one column: in (1, 2, …)"
    raise QueryError("too many conditions inside each other", remedy, text=text, start=place.start, end=place.end)


def _query(text: str, tree: Node, depth: int = 0) -> Query:
    noun_node, *rest = trees(tree)
    if depth > DEEPEST:
        place = place_of(noun_node)
        remedy = f"at most {DEEPEST}"
        raise QueryError("too many questions inside each other", remedy, text=text, start=place.start, end=place.end)
    noun = find(str(token_in(noun_node)))
    given = tokens(noun_node)
    argument = given[1] if len(given) > 1 else None
    if argument is not None and not noun.argument:
        place = place_of(argument)
        raise QueryError(f"{noun.name} take no word after them", "", text=text, start=place.start, end=place.end)
    stages = {stage.rule: stage for stage in STAGES}
    return Query(
        text,
        noun,
        place_of(given[0]),
        argument,
        tuple(_clause(text, tree_in(node), depth) for node in rest if node.data == "clause"),
        tuple(stages[str(tree_in(node).data)](tree_in(node)) for node in rest if node.data == "stage"),
    )


def _clause(text: str, node: Node, depth: int) -> Clause:
    made = next(clause for clause in CLAUSES if clause.rule == node.data)(node)
    if isinstance(made, Relation):
        made.inner = _query(text, tree_in(node), depth + 1)
    return made


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
    made = rows_of(query, scene, loss, settled=settled)
    apply_stages(query, made)
    return made


def rows_of(
    query: Query,
    scene: Scene,
    loss: Callable[[Evidence], Loss],
    *,
    settled: bool,
    parameters: dict[str, Value] | None = None,
    label: Callable[[Plan], None] = lambda _: None,
) -> Plan:
    """The plan of the rows that the stages begin with: the noun's, with all clauses applied.

    Args:
        loss, settled: as for :func:`plan`.
        parameters: values that the statement has so far; those of the plan are added.
        label: adds columns before the clauses.
    """
    parameters = {} if parameters is None else parameters

    def opened(asked: Query) -> Plan:
        plan = start(asked, scene, parameters)
        if asked is query:
            label(plan)
        plan.loss_in, plan.settled, plan.nested = loss, settled, opened
        for clause in asked.clauses:
            clause.apply(plan)
        chains.finish(plan, asked.noun_place)
        late.finish(plan, asked.noun_place)
        return plan

    made = opened(query)
    push_threads_down(made)
    made.settle()
    made.gaps = loss(made.whole_evidence).gaps if made.related else made.loss.gaps
    _notes(made)
    return made


def apply_stages(query: Query, made: Plan) -> None:
    """Apply the stages to the rows."""
    for stage in query.stages:
        stage.apply(made)
        made.stages.append(query.text[stage.place.start : stage.place.end])


def _notes(made: Plan) -> None:
    if made.scene.filter and not made.loss.filter:
        made.notes.append(f"the recording was filtered ({made.scene.filter}): other threads' events are not in it")
    if "wakeups" in made.relations and made.scene.context == "spans":
        made.notes.append(
            "the waker's context was not recorded: it is found from the begins and ends of interrupt handlers"
        )
