"""Plans: what the clauses leave of the evidence, and what --explain says of it."""

from __future__ import annotations

import pytest

from tracectl.query import Scene, explain, parse, plan
from tracectl.query.clause import Clause
from tracectl.query.clauses import CLAUSES
from tracectl.query.nouns import NOUNS
from tracectl.query.stage import Stage
from tracectl.query.stages import STAGES
from tracectl.store.relations import views

SCENE = Scene(start_ts=1_000, end_ts=9_000)


@pytest.mark.parametrize(
    ("question", "streams", "cpus", "start", "end"),
    [
        ("wakeups", {"sched"}, None, None, None),
        ("wakeups on cpu 0-1 on cpu 1,2", {"sched"}, {1}, None, None),
        ("wakeups after 5ns before 7ns", {"sched"}, None, 1_005, 1_007),
        ("switches between 1ns and 2ns in last 1us", {"sched"}, None, 8_000, None),  # the next switch tells who came
        ("softirqs on cpu 3 after 5ns before 7ns", {"irq"}, {3}, 1_005, None),  # a span goes on after it begins
        ("delays on cpu 3 after 5ns before 7ns", {"sched"}, None, None, None),  # a wait hangs on every CPU
        ("epolls on cpu 3", {"epoll", "sched"}, None, None, None),
        ("events softirq_raise on cpu 3", {"irq"}, {3}, None, None),
        ("events lost", set(), None, None, None),
        ("lost on cpu 3", set(), None, None, None),
    ],
)
def test_evidence(question: str, streams: set[str], cpus: set[int] | None, start: int | None, end: int | None) -> None:
    evidence = plan(parse(question), SCENE).evidence
    assert evidence.streams == frozenset(streams)
    assert evidence.cpus == (None if cpus is None else frozenset(cpus))
    assert (evidence.start_ts, evidence.end_ts) == (start, end)


def test_wakeups_by_spans_depend_on_interrupts_too() -> None:
    scene = Scene(context="spans")
    assert plan(parse("wakeups"), scene).evidence.streams == {"sched", "irq"}


def test_explain() -> None:
    assert explain("softirqs net_rx over 50us on cpu 0-2,5 after 1ms | count by comm", SCENE).splitlines() == [
        "rows        one run of a softirq handler",
        "relation    softirqs",
        "conditions  softirq NET_RX",
        "            that lasted over 50us",
        "            on cpu 0-2 and 5",
        "            1ms after the start, or later",
        "stages      count by comm",
        "columns     comm, count",
        "depends on  events of irq, on CPU 0-2, 5, from 1ms after the start to the end",
    ]


def test_every_part_is_documented() -> None:
    parts: tuple[type[Clause] | type[Stage], ...] = (*CLAUSES, *STAGES)
    for part in parts:
        assert part.__doc__ and part.examples and part.grammar.strip().startswith(f"{part.rule}:")
    for noun in NOUNS:
        assert noun.examples and noun.row
        assert noun.name == "events" or noun.name in views()
    assert {name for name, view in views().items() if not view.helper} - {noun.name for noun in NOUNS} == {
        "wakeups_by_spans"
    }


def test_a_question_cannot_be_longer_than_reason() -> None:
    with pytest.raises(Exception, match="20007 characters"):
        parse("wakeups" + " " * 20_000)
