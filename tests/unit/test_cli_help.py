"""``tracectl help``: the cheat sheet fits a screen, and every word of the language is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracectl.cli import COMMANDS
from tracectl.command_help import about, overview, topics
from tracectl.query.clauses import CLAUSES
from tracectl.query.mistakes import clause_words, stage_words
from tracectl.query.nouns import BY_NAME, NOUNS
from tracectl.query.stages import STAGES

Run = Callable[..., Any]


def test_the_cheat_sheet_fits_a_screen_and_names_everything() -> None:
    lines = overview().splitlines()
    assert max(map(len, lines)) <= 100 and len(lines) <= 36
    assert all(noun.name in overview() for noun in NOUNS)
    assert all(word in overview() for word in [*clause_words(), *stage_words()])


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
def test_nouns(noun: Any) -> None:
    text = about(noun.name)
    assert noun.row in text and all(example in text for example in noun.examples)
    for name, column in noun.columns.items():
        assert f"  {name} " in text and column.doc in text
    assert all(about(name) == text for name in noun.names)


@pytest.mark.parametrize("part", [*CLAUSES, *STAGES], ids=lambda part: part.rule)
def test_clauses_and_stages(part: Any) -> None:
    text = about(part.rule.replace("_", " "))
    assert all(example in text for example in part.examples)
    assert (part.__doc__ or "").split(".")[0].split("\n")[0].replace("``", "") in text


@pytest.mark.parametrize("word", sorted({*clause_words(), *stage_words(), *BY_NAME, *topics()}))
def test_every_word_is_explained(word: str) -> None:
    assert len(about(word).splitlines()) >= 3


def test_words_in_any_case_and_several_arguments(run: Run) -> None:
    assert run("help", "IN", "state").out == run("help", "in state").out == about("in state") + "\n"


def test_commands_are_explained_by_their_own_help(run: Run) -> None:
    for name in COMMANDS:
        if name != "help" and name not in BY_NAME:
            assert run("help", name).out == run(name, "--help").out


def test_an_unknown_word_has_a_nearest_one(run: Run) -> None:
    done = run("help", "wakups")
    assert done.code == 1 and 'did you mean "wakeups"?' in done.err
    assert "\x1b" not in run("help", "\x1b[31m").err
