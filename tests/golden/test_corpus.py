"""A corpus of questions: the SQL, the values and the rows of each, on a whole trace and on one with loss.

``TRACECTL_REWRITE=1 python -m pytest tests/golden/test_corpus.py`` writes the answers again: read the difference.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tracectl.query import Answer, ask, parse
from tracectl.query.clauses import CLAUSES
from tracectl.query.nouns import NOUNS
from tracectl.query.stages import STAGES
from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.events import KINDS
from tracectl.store.relations import Relations
from tracectl.store.writer import write_rows

HERE = Path(__file__).parent
FILES = sorted((HERE / "corpus").glob("*.txt"))
REWRITE = "TRACECTL_REWRITE"
ALL_KINDS = [kind for kind, event in KINDS.items() if not event.bookkeeping]
WALKED_NOUNS = (
    "wakeups", "switches", "runs", "delays", "sleeps", "softirqs", "irqs", "epolls", "callbacks", "accepts", "closes",
    "connections",
)  # fmt: skip
WALKED = 100  # of the questions, so many at least are ones that walking.py can answer


def beside(name: str, folder: str) -> ModuleType:
    """A module of the tests, which are no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE.parent / folder / f"{name}.py")
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


walking, soundness, oracle = (beside(name, "property") for name in ("walking", "soundness", "oracle"))
corpus_trace = beside("corpus_trace", "golden")


def blocks(path: Path) -> dict[str, str]:
    """The questions of a file, each with all that is written below it."""
    found = re.split(r"^\? (.*)\n", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {question: text.strip("\n") for question, text in zip(found[::2], found[1::2], strict=True)}


PINNED = {question: text for path in FILES for question, text in blocks(path).items()}


@dataclass
class Asked:
    """A capture with its database, to ask it much."""

    capture: Capture
    database: Database
    answers: dict[str, tuple[Answer, list[tuple[Any, ...]]]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def ask(self, question: str) -> tuple[Answer, list[tuple[Any, ...]]]:
        """The answer and its rows."""
        if question not in self.answers:
            answer = ask(self.capture, question, database=self.database)
            self.answers[question] = answer, answer.rows()
        return self.answers[question]

    def table(self, noun: str) -> list[dict[str, Any]]:
        """All rows of a noun."""
        if noun not in self.tables:
            head = Relations(self.capture).with_clause([noun])
            result = self.database.execute(f"{head} SELECT * FROM {noun} ORDER BY seq")
            self.tables[noun] = [dict(zip(result.columns, row, strict=True)) for row in result.rows()]
        return self.tables[noun]


def made(trace: Any, path: Path) -> Iterator[Asked]:
    """The capture of a trace."""
    options = {"cpus": (0, 1), "kinds": ALL_KINDS, "breaks_declared": True, **trace.options}
    options["filled"] |= {"sched_waking": ["kstack", "ustack", "fd"]}
    capture = Capture.open(write_rows(path, trace.rows, **options))
    with capture.database() as database:
        yield Asked(capture, database)


@pytest.fixture(scope="module")
def whole(new_trace: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    yield from made(corpus_trace.whole(new_trace()), tmp_path_factory.mktemp("corpus") / "whole.parquet")


@pytest.fixture(scope="module")
def lossy(new_trace: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    yield from made(corpus_trace.lossy(new_trace()), tmp_path_factory.mktemp("corpus") / "lossy.parquet")


def statement(answer: Answer) -> list[str]:
    """The question's own SELECT, without the relations that it names (store/views), and its values."""
    values = [f"${name} = {value!r}" for name, value in answer.parameters.items()]
    return [*(line.rstrip() for line in answer.plan.select.sql().splitlines()), *values]


def table(answer: Answer, rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows as text, columns aligned."""
    cells = [answer.columns, *([("-" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def written(question: str, whole: Asked, lossy: Asked) -> str:
    """What the corpus holds below a question."""
    answer, rows = whole.ask(question)
    lines = [*statement(answer), f"-- nothing lost: {answer.qualification}", *table(answer, rows)]
    lossy_answer, lossy_rows = lossy.ask(question)
    if statement(lossy_answer) != statement(answer):
        lines += ["-- the statement where events are lost", *statement(lossy_answer)]
    return "\n".join([*lines, f"-- with loss: {lossy_answer.qualification}", *table(lossy_answer, lossy_rows)])


if os.environ.get(REWRITE):

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_rewriting(path: Path, whole: Asked, lossy: Asked) -> None:
        text = "\n\n".join(f"? {question}\n{written(question, whole, lossy)}" for question in blocks(path))
        path.write_text(text + "\n", "utf-8")
        PINNED.update(blocks(path))


@pytest.mark.parametrize("question", PINNED)
def test_answers_are_those_pinned(question: str, whole: Asked, lossy: Asked) -> None:
    assert written(question, whole, lossy) == PINNED[question]


# Of the noun "lost" the rows are what differs.
@pytest.mark.parametrize("question", [question for question in PINNED if not question.startswith("lost")])
def test_what_is_claimed_in_spite_of_loss_is_true(question: str, whole: Asked, lossy: Asked) -> None:
    full, found = (soundness.Read(*asked.ask(question)) for asked in (whole, lossy))
    assert soundness.unsound(found, full) == ""


def walked(question: str, asked: Asked, answer: Answer) -> list[tuple[Any, ...]] | None:
    """What walking over the rows gives; None: its language is too small for the question."""
    names = [name for name in WALKED_NOUNS if re.search(rf"\b{name}\b", question)]
    capture = walking.Capture({name: asked.table(name) for name in names}, asked.capture.start_ts, corpus_trace.END)
    kept = [name for name in answer.columns if name not in answer.plan.bound_columns]
    try:
        found: list[tuple[Any, ...]] = capture.answer(question, kept)
    except (AssertionError, KeyError, AttributeError, ValueError):
        return None
    return found


def test_walking_gives_the_same(whole: Asked) -> None:
    agreed = []
    for question in PINNED:
        answer, rows = whole.ask(question)
        expected = walked(question, whole, answer)
        if expected is None:
            continue
        kept = [n for n, name in enumerate(answer.columns) if name not in answer.plan.bound_columns]
        found = [tuple(row[n] for n in kept) for row in rows]
        assert Counter(map(str, found)) == Counter(map(str, expected)), question
        agreed.append(question)
    assert len(PINNED) >= 150
    assert len(agreed) >= WALKED, sorted(set(PINNED) - set(agreed))


def test_the_nouns_rows_are_what_walking_over_events_gives(whole: Asked, new_trace: Any) -> None:
    """walking.py takes the nouns' rows as given."""
    events = sorted(corpus_trace.whole(new_trace()).rows, key=lambda row: (row["ts"], row["cpu"] or 0))
    columns = {
        "delays": "tid ts end_ts cpu cause", "sleeps": "tid ts end_ts blocked delay waker_tid",
        "runs": "cpu tid ts end_ts end_state", "softirqs": "cpu vec ts end_ts", "epolls": "tid ts events waking_ts",
    }  # fmt: skip
    for noun, names in columns.items():
        rows = [row for row in whole.table(noun) if row["certain"]]
        found = [tuple(row[name] for name in names.split()) for row in rows]
        assert Counter(map(str, found)) == Counter(map(str, getattr(oracle, noun)(events))), noun


def test_every_part_of_the_language_is_asked() -> None:
    trees = [parse(question) for question in PINNED]
    nouns = {tree.noun.name for tree in trees}
    parts = {type(part) for tree in trees for part in (*tree.clauses, *tree.stages)}
    assert {noun.name for noun in NOUNS} == nouns
    assert {*CLAUSES, *STAGES} <= parts
