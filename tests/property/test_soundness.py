"""No row called certain is ever wrong, the full answer lies within the stated bounds, an exact answer is the full one.

``TRACECTL_SOUNDNESS=2000`` runs so many cases per noun.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import pytest
from caught import case_of
from hypothesis import given, settings
from hypothesis import strategies as st
from real import SAMPLE, Mutilator
from soundness import Read, missing_anchors, unsound, vocabulary
from traces import FOCUS, STREAMS, Bench, Case, cases, rows_of, without

from tracectl.query import ask
from tracectl.store import relations as store_relations
from tracectl.store.relations import View, views

query_plan = sys.modules["tracectl.query.plan"]  # the package has a function of that name
CASES = int(os.environ.get("TRACECTL_SOUNDNESS", "15"))
NOUN = {"spans": "wakeups"}
# A wait that begins at the switch-out, since a waking raced with it, is lost with that waking and counted with it. A
# thread is named after no event in particular.
UNANCHORED = ("delays", "tasks", "events")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


@st.composite
def questions(draw: st.DrawFn, focus: str) -> str:
    """A noun with some clauses and perhaps a stage; often nothing but the noun."""
    noun = NOUN.get(focus, focus)
    clauses, stages = VOCABULARY[focus]
    chosen = draw(st.lists(st.sampled_from(clauses), max_size=2)) if clauses else []
    stage = draw(st.one_of(st.just(""), st.sampled_from(stages))) if stages else ""
    return " ".join([noun, *chosen, *(["|", stage] if stage else [])])


VOCABULARY = {focus: vocabulary(NOUN.get(focus, focus), "spans" if focus == "spans" else "recorded") for focus in FOCUS}


def judge(bench: Bench, case: Case, question: str) -> str:
    """What is wrong with the answer on the capture that lost something; empty: nothing."""
    rows = rows_of(case)
    left, _ = without(case, rows)
    kinds = FOCUS[case.focus][0].split()
    captures = [
        bench.capture(name, some, kinds=kinds, declared=case.declared)
        for name, some in (("whole", rows), ("lossy", left))
    ]
    full, lossy = (Read.of(ask(capture, question, database=bench.database)) for capture in captures)
    said = unsound(lossy, full)
    if not said and question in FOCUS and question not in UNANCHORED:
        kept = {row["seq"] for row in left if row["kind"] in STREAMS}
        absent = missing_anchors(lossy, full, kept)
        said = f"recorded, and in the full answer, but not in this one: {absent}" if absent else ""
    return said and f"{question}: {said}\nfull {full.rows}\nlossy {lossy.rows}\n{lossy.answer.qualification}"


@pytest.mark.parametrize("focus", sorted(FOCUS))
def test_answers_are_sound(bench: Bench, focus: str) -> None:
    @settings(max_examples=CASES)
    @given(cases(focus), questions(focus))
    def run(case: Case, question: str) -> None:
        said = judge(bench, case, question)
        assert not said, said

    run()


# ---- the property can fail: what each relation declares to depend on is needed ----

Swap = tuple[str, str, str]  # view, what its text has, what stands there instead


def _plain(focus: str) -> str:
    return NOUN.get(focus, focus)


def _no_gaps(view: str) -> Swap:
    return (view, "FROM grouped", "FROM grouped WHERE FALSE")


def _rule(name: str, **changes: object) -> dict[str, View]:
    return {name: replace(views()[name], evidence=replace(views()[name].evidence, **changes))}


def _text(*swaps: Swap) -> dict[str, View]:
    changed: dict[str, View] = {}
    for name, old, new in swaps:
        view = changed.get(name, views()[name])
        assert old in view.sql, (name, old)
        changed[name] = replace(view, sql=view.sql.replace(old, new))
    return changed


NEGLECT = (_no_gaps("gap_reach"), _no_gaps("gap_reach_cpu"), ("tasks", "NOT EXISTS (SELECT 1 FROM lost)", "TRUE"))
READ = {focus: "wakeups_by_spans" if focus == "spans" else focus for focus in FOCUS if focus != "events"}
PAIRING = [focus for focus, name in READ.items() if any(c.derived for c in views()[name].columns.values())]
# What is wrong -> the trace's focus, a question that must tell, the views changed.
MUTATIONS: dict[str, tuple[str, str, dict[str, View]]] = {
    **{f"{focus}: depends on nothing": (focus, _plain(focus), _rule(name, streams=())) for focus, name in READ.items()},
    **{f"{focus}: its rows see no gap": (focus, _plain(focus), _text(*NEGLECT)) for focus in PAIRING},
    "switches: nothing after": ("switches", "switches before 14ns", _rule("switches", interval="ts..ts")),
    "spans: no gaps of irq": ("spans", "wakeups", _text(("gap_reach_cpu", "IN ('sched', 'irq')", "= 'sched'"))),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_declaration_is_caught(bench: Bench, name: str) -> None:
    focus, question, changed = MUTATIONS[name]
    wrong = {**views(), **changed}

    def shows(case: Case) -> bool:
        with (
            mock.patch.object(store_relations, "views", lambda: wrong),
            mock.patch.object(query_plan, "views", lambda: wrong),
        ):
            return bool(judge(bench, case, question))

    case = case_of(name, focus, shows)
    assert shows(case)
    assert not judge(bench, case, question)


def test_a_real_capture_mutilated() -> None:
    """The short form of ``make soundness``."""
    mutilator = Mutilator(SAMPLE, seed=7)
    assert list(mutilator.run(20)) == []
    assert mutilator.counts["exact"] and mutilator.counts["certain"] and mutilator.counts["bounded"]
