"""The cheat sheet has every word of the language on one line, and what it shows can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracectl.command_help import form
from tracectl.query import Scene, parse, plan
from tracectl.query.clauses import CLAUSES
from tracectl.query.nouns import NOUNS
from tracectl.query.stages import STAGES
from tracectl.saved import shipped

PAGE = (Path(__file__).parents[2] / "docs/cheatsheet.md").read_text(encoding="utf-8")
HOLES = {
    "a time": "delays over {}",
    "a moment after the start": "wakeups after {}",
    "a moment of the wall clock": "wakeups after {}",
    "a name": "wakeups of comm {}",
    "CPUs": "wakeups on cpu {}",
}


def lines(heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    part = re.split(rf"^## {heading}$", PAGE, flags=re.MULTILINE)[1].partition("\n## ")[0]
    rows = [row for row in part.splitlines() if row.startswith("| ")][2:]
    return [[cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_every_word_is_on_one_line() -> None:
    assert [row[0] for row in lines("Nouns")] == [f"`{noun.name}`" for noun in NOUNS]
    assert [row[0] for row in lines("Clauses")] == [f"`{form(clause)}`" for clause in CLAUSES]
    assert [row[0] for row in lines("Stages")] == [f"`{form(stage)}`" for stage in STAGES]
    assert all(f"[`@{name}`](questions.md#{name})" in PAGE for name in shipped())
    for row in lines("Nouns") + lines("Clauses") + lines("Stages"):
        assert len(row) == 3 and 5 < len(row[1]) < 200


@pytest.mark.parametrize("row", lines("Nouns") + lines("Clauses") + lines("Stages"), ids=lambda row: row[0])
def test_examples_show_their_word(row: list[str]) -> None:
    question = row[2].strip("`")
    made = parse(question)
    if row in lines("Nouns"):
        assert f"`{made.noun.name}`" == row[0]
        return
    used = [type(part) for part in (*made.clauses, *made.stages)]
    assert row[0] in [f"`{form(part)}`" for part in used]


@pytest.mark.parametrize("part", [*CLAUSES, *STAGES], ids=lambda part: part.rule)
def test_the_form_is_how_it_is_typed(part: type) -> None:
    """Each alternative of a form, with values put in, is read as that clause or stage."""
    text = form(part)
    text = re.sub(r"\[by …\]|\[by COLUMNS\]|\[-\]", "", text).replace("…", "tid 7" if part.rule == "not_by" else "11")
    for word, value in {
        "CONDITION on columns": "tid = 3", "COLUMNS": "dur", "COLUMN": "dur", "NAME": '"x"', "PATH": '"/x"',
        "Q": "accepts", "container ID": "container 0123456789ab", "sum|avg|min|max": "sum",
    }.items():  # fmt: skip
        text = text.replace(word, value)
    text = re.sub(r"\bN\b", "7", text)
    begin = text.split()[0]
    for alternative in text.split(" | "):
        clause = alternative if alternative.startswith(begin) else f"{begin} {alternative}"
        for written in {clause.replace("[", "").replace("]", ""), re.sub(r" ?\[[^]]*\]", "", clause)}:
            made = parse(f"delays {written}" if part in CLAUSES else f"delays | {written}")
            assert [type(one) for one in (*made.clauses, *made.stages)] == [part], written


@pytest.mark.parametrize("row", lines("Values"), ids=lambda row: row[0])
def test_values_can_be_asked_with(row: list[str]) -> None:
    values = re.findall(r"`([^`]+)`", row[1])
    assert values
    for value in values:
        question = parse(HOLES[row[0]].format(value))
        assert plan(question, Scene(end_ts=10**12, clocks=((1, 10**18),)), settled=True).parameters
