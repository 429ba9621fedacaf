"""Sets of captures: what the set answers is what each capture answers, and no loss in one makes the answer unsound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from soundness import Read, unsound, vocabulary
from traces import FOCUS, Bench, Case, Row, cases, rows_of, without

from tracectl.query import Answer, ask
from tracectl.query import together as query_together
from tracectl.query.bounds import Loss
from tracectl.store.capture import Capture
from tracectl.store.captures import CaptureSet, Member

CASES = int(os.environ.get("TRACECTL_SOUNDNESS", "12"))
NOUN = {"spans": "wakeups"}
SHIFTS = (-90, -83)
# Times are counted from the begin of the set, not of each capture.
_TIMED = ("after", "before", "between", "in last", "end_ts <")
VOCABULARY = {focus: vocabulary(NOUN.get(focus, focus), "spans" if focus == "spans" else "recorded") for focus in FOCUS}
# Relations to rows of another question. The long times reach the end of the captures, which is not that of the set.
RELATED = {
    "wakeups": ("followed by switches within 3ns anywhere", "not followed by wakeups within 880ns anywhere"),
    "runs": ("followed by runs within 5ns", "not after runs within 870ns", "not followed by wakeups within 885ns"),
    "delays": ("followed by runs within 1ns", "not after (wakeups by softirq) within 3ns"),
    "sleeps": ("not followed by delays within 2ns", "after sleeps within 9ns"),
    "softirqs": ("not during softirqs anywhere", "followed by softirqs within 890ns"),
    "epolls": ("not after wakeups within 4ns",),
}
EXTRA = (
    "count by capture",
    "count by host",
    "count",
    "count by host, cpu",
    "sum dur by capture",
    "p50 dur by host",
    "rate 300ns",
    "rate 100ns by host",
    "histogram dur by capture",
)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


def whole(captures: list[Capture]) -> CaptureSet:
    """Two captures of hosts whose clocks are apart."""
    members = (Member(f"c{n}", one, shift) for n, (one, shift) in enumerate(zip(captures, SHIFTS, strict=True)))
    return CaptureSet(Path("set"), tuple(members))


@st.composite
def questions(draw: st.DrawFn, focus: str, *, timed: bool = True) -> tuple[str, str]:
    """A noun with some clauses, and perhaps a stage."""
    clauses, stages = VOCABULARY[focus]
    usable = [clause for clause in clauses if timed or not any(word in clause for word in _TIMED)]
    chosen = draw(st.lists(st.sampled_from(usable), max_size=2)) if usable else []
    if draw(st.booleans()):
        chosen += draw(st.lists(st.sampled_from(RELATED[focus]), max_size=1)) if focus in RELATED else []
    has_dur = any("dur" in stage for stage in stages)
    extra = [stage for stage in EXTRA if (has_dur or "dur" not in stage) and (focus != "tasks" or "rate" not in stage)]
    stage = draw(st.one_of(st.just(""), st.sampled_from(extra), st.sampled_from(stages or extra)))
    return " ".join([NOUN.get(focus, focus), *chosen]), stage


def captures(bench: Bench, focus: str, name: str, traces: list[list[Row]], declared: bool) -> list[Capture]:
    """A capture of each trace."""
    kinds = FOCUS[focus][0].split()
    return [bench.capture(f"{name}{n}", rows, kinds=kinds, declared=declared) for n, rows in enumerate(traces)]


def judge(bench: Bench, pair: tuple[Case, Case], question: str, both: bool) -> str:
    """What is wrong with the answer on the set of which one capture or both lost something; empty: nothing."""
    traces = [rows_of(case) for case in pair]
    left = [without(case, rows)[0] for case, rows in zip(pair, traces, strict=True)]
    given = [left[0] if both else traces[0], left[1]]
    focus, declared = pair[0].focus, pair[0].declared
    full, lossy = (
        Read.of(ask(whole(captures(bench, focus, name, some, declared)), question, database=bench.database))
        for name, some in (("whole", traces), ("lossy", given))
    )
    said = unsound(lossy, full)
    return said and f"{question}: {said}\nfull {full.rows}\nlossy {lossy.rows}\n{lossy.answer.qualification}"


@pytest.mark.parametrize("focus", sorted(FOCUS))
def test_answers_of_sets_are_sound(bench: Bench, focus: str) -> None:
    @settings(max_examples=CASES)
    @given(st.tuples(cases(focus), cases(focus)), questions(focus), st.booleans())
    def run(pair: tuple[Case, Case], question: tuple[str, str], both: bool) -> None:
        said = judge(bench, pair, " | ".join(filter(None, question)), both)
        assert not said, said

    run()


@pytest.mark.parametrize("focus", sorted(FOCUS))
def test_a_set_answers_what_its_captures_answer(bench: Bench, focus: str) -> None:
    """The same rows, with the moments moved: nothing of one capture touches another."""

    @settings(max_examples=CASES)
    @given(st.tuples(cases(focus), cases(focus)), questions(focus, timed=False))
    def run(pair: tuple[Case, Case], question: tuple[str, str]) -> None:
        traces = [without(case, rows_of(case))[0] for case in pair]
        made = captures(bench, focus, "one", traces, pair[0].declared)
        together = ask(whole(made), question[0], database=bench.database)
        found = sorted(map(repr, together.rows()))
        singles = [ask(one, question[0], database=bench.database) for one in made]
        expected = [row for n, one in enumerate(singles) for row in moved(one, n)]
        assert found == sorted(map(repr, expected)), question
        assert together.qualification.gaps == sum(one.qualification.gaps for one in singles)
        counts = [one.qualification.at_most for one in singles]
        assert together.qualification.at_most == (None if None in counts else sum(filter(None, counts)))
        assert together.qualification.exact == all(one.qualification.exact for one in singles)

    run()


def moved(answer: Answer, number: int) -> list[tuple[Any, ...]]:
    """The rows of a capture's own answer as the set has them."""
    clock = {n for n, name in enumerate(answer.columns) if answer.units.get(name) == "clock"}
    return [
        (
            f"c{number}",
            None,
            *(v + SHIFTS[number] if n in clock and v is not None else v for n, v in enumerate(row)),
        )
        for row in answer.rows()
    ]


def test_the_property_can_fail(bench: Bench) -> None:
    """A set that forgets the loss of its captures is caught."""

    @settings(max_examples=150, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
    @given(st.tuples(cases("wakeups"), cases("wakeups")))
    def run(pair: tuple[Case, Case]) -> None:
        assert not judge(bench, pair, "wakeups | count", False)

    with mock.patch.object(query_together, "_sum", lambda *_: Loss()), pytest.raises(AssertionError):
        run()
