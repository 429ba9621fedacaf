"""Relations between rows: no row called certain is ever wrong, whatever was lost of either side."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from caught import case_of
from hypothesis import given, settings
from hypothesis import strategies as st
from soundness import Read, unsound, vocabulary
from traces import RELATED, Bench, Case, cases, rows_of, without

from tracectl.query import ask
from tracectl.store.errors import QueryError

linked = sys.modules["tracectl.query.linked"]
CASES = int(os.environ.get("TRACECTL_SOUNDNESS", "20"))
RELATIONS = ("during", "followed by", "after")
LASTING = ("softirqs", "irqs", "runs", "delays", "sleeps")
LINKS = ("", "", "", "same cpu", "same tid", "same comm", "anywhere")
STAGES = ("count", "count by cpu", "count by tid", "max ts", "p50 dur", "sum dur by tid")
NOUNS = sorted({noun for focus in RELATED for noun in focus.split()})
CLAUSES = {noun: vocabulary(noun)[0] for noun in NOUNS}
FITTING = {noun: [f"| {stage}" for stage in STAGES if stage in vocabulary(noun)[1]] for noun in NOUNS}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


@st.composite
def questions(draw: st.DrawFn, focus: str, *, deep: bool = True) -> str:
    """One noun in relation to another, each perhaps with a clause."""
    outer = _part(draw, focus.split())
    stages = ["", "", *FITTING[outer.split()[0]]]
    return f"{outer} {relation(draw, focus, deep=deep)} {draw(st.sampled_from(stages))}".strip()


def relation(draw: st.DrawFn, focus: str, *, deep: bool) -> str:
    lasting = [noun for noun in focus.split() if noun in LASTING]
    how = draw(st.sampled_from(RELATIONS if lasting else RELATIONS[1:]))
    inner = _part(draw, lasting if how == "during" else focus.split())
    if deep and draw(st.integers(0, 7)) == 7:
        inner += f" {relation(draw, focus, deep=False)}"
    within = "" if how == "during" else f"within {draw(st.sampled_from((0, 1, 2, 3, 5, 10, 860, 900)))}ns"
    word = f"not {how}" if draw(st.booleans()) else how
    return f"{word} ({inner}) {within} {draw(st.sampled_from(LINKS))}"


def _part(draw: st.DrawFn, nouns: list[str]) -> str:
    noun = draw(st.sampled_from(nouns))
    clauses = draw(st.lists(st.sampled_from(CLAUSES[noun]), max_size=1)) if CLAUSES[noun] else []
    return " ".join([noun, *clauses])


def judge(bench: Bench, case: Case, question: str) -> str:
    """What is wrong with the answer on the capture that lost something; empty: nothing."""
    rows = rows_of(case)
    left, _ = without(case, rows)
    kinds = RELATED[case.focus][0].split()
    found = []
    for name, some in (("whole", rows), ("lossy", left)):
        capture = bench.capture(name, some, kinds=kinds, declared=case.declared)
        try:
            found.append(Read.of(ask(capture, question, database=bench.database)))
        except QueryError:
            return ""
    full, lossy = found
    said = unsound(lossy, full)
    return said and f"{question}: {said}\nfull {full.rows}\nlossy {lossy.rows}\n{lossy.answer.qualification}"


@pytest.mark.parametrize("focus", sorted(RELATED))
def test_relations_are_sound(bench: Bench, focus: str) -> None:
    @settings(max_examples=CASES)
    @given(cases(focus), questions(focus))
    def run(case: Case, question: str) -> None:
        said = judge(bench, case, question)
        assert not said, said

    run()


# ---- the property can fail: what each join takes care of is needed ----


def _no_gaps(*_: object, **__: object) -> None:
    """Gaps are not looked at."""


def _edited(method: str, old: str, new: str) -> Callable[..., str]:
    """A method whose SQL says something else."""
    plain = getattr(linked._Join, method)

    def edited(join: Any, *arguments: object) -> str:
        return str(plain(join, *arguments).replace(old, new))

    return edited


CLOSES = "wakeups accepts closes"
SCHED = "wakeups delays sleeps runs closes"
SPANS = "wakeups softirqs closes"
ONLY_CERTAIN = _edited("_rows", ") AS inner_rows", " WHERE certain) AS inner_rows")
# What is wrong -> the trace's focus, a question that must tell, the method and what it does instead.
MUTATIONS: dict[str, tuple[str, str, str, Any]] = {
    "followed by: no gaps": (CLOSES, "wakeups not followed by accepts within 5ns", "_gaps", _no_gaps),
    "after: no gaps": (CLOSES, "wakeups not after accepts within 5ns anywhere", "_gaps", _no_gaps),
    "during: no gaps": (SPANS, "wakeups not during softirqs", "_gaps", _no_gaps),
    "during at a thread: no gaps": (SCHED, "wakeups not during sleeps", "_gaps", _no_gaps),
    "found where it may be": (
        SPANS, "wakeups followed by softirqs under 3ns within 9ns", "_rows",
        _edited("_rows", "match_ IS NOT NULL AND certain AS sure", "TRUE AS sure"),
    ),
    "found where it may not pair": (
        SCHED, "closes followed by delays within 9ns", "_rows", _edited("_rows", "certain AS sure", "TRUE AS sure"),
    ),
    "not found where it may be": (SCHED, "closes not followed by delays within 9ns", "_rows", ONLY_CERTAIN),
    "not around where it may be": (SCHED, "wakeups not during sleeps", "_rows", ONLY_CERTAIN),
    "during: a row that began before the gap's end is forgotten": (
        SPANS, "wakeups not during softirqs", "_last_before", lambda *_: "this.ts",
    ),
    "after: so is one that ends": (
        SPANS, "wakeups not after softirqs within 3ns", "_last_before", lambda *_: "this.ts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_relation_is_caught(bench: Bench, name: str) -> None:
    focus, question, method, wrong = MUTATIONS[name]

    def shows(case: Case) -> bool:
        with mock.patch.object(linked._Join, method, wrong):
            return bool(judge(bench, case, question))

    case = case_of(name, focus, shows)
    assert shows(case)
    assert not judge(bench, case, question)
