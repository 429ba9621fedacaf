"""A capture exported as text and imported again answers as it did, but for what docs/export.md says is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl.cli import main

Run = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "examples" / "sample.parquet"
QUESTIONS = (
    "switches | count by prev_state",
    "switches | count by cpu, prev_tid, next_tid, prev_comm, next_comm",
    "wakeups | count by tid, waker_tid, waker_comm, cpu",
    "accepts | count by tid",
    "closes | count by fd",
    "epolls | count by tid, events",
    "connections | count by sport, dport, old_state, new_state",
    "events sched_migrate_task | count by target_comm, orig_cpu, dest_cpu",
    "events sched_process_fork | count by tid, child_tid, child_comm",
    "events sched_process_exec | count by filename",
    "events softirq_raise | count by vec",
)

# Rows made of two events: certain ones only, since the texts tell the CPU of a gap and not its stream.
PAIRS = (
    "runs where certain | select tid, dur",
    "delays where certain | select tid, cause, dur",
    "sleeps where certain | select tid, state, dur",
    "softirqs where certain | select cpu, name, tid, dur",
    'irqs where source <> "hrtimer" and certain | select source, name, cpu, dur',
)


@pytest.fixture(scope="module", params=("ftrace-text", "perf-script"))
def again(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample capture as text, imported."""
    folder = tmp_path_factory.mktemp("again")
    text, made = folder / f"{request.param}.txt", folder / f"{request.param}.parquet"
    assert main(["export", str(SAMPLE), "--to", request.param, "-o", str(text)]) == 0
    assert main(["import", str(text), "-o", str(made), "-q"]) == 0
    return made


def rows(run: Run, capture: Path, question: str) -> Counter[str]:
    """An answer's rows, in any order."""
    done = run("query", capture, "-f", "json", question)
    assert done.code == 0, done.err
    found = json.loads(done.out)["rows"]
    # How many there are at least is not about the rows, but about what was lost.
    return Counter(
        json.dumps({name: value for name, value in row.items() if not name.endswith("_min")}) for row in found
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_answers(run: Run, again: Path, question: str) -> None:
    before = rows(run, SAMPLE, question)
    assert rows(run, again, question) == before
    assert before


@pytest.mark.parametrize("question", PAIRS)
def test_what_is_certain_was_so_before(run: Run, again: Path, question: str) -> None:
    before, now = rows(run, SAMPLE, question), rows(run, again, question)
    assert now - before == Counter()
    assert now.total() > 0.9 * before.total()


def test_contexts_of_the_flags(run: Run, again: Path) -> None:
    """A timer and an IPI are hard irqs to the kernel's text; perf's text has no contexts, only the handlers."""
    if again.stem == "perf-script":
        pytest.skip("the text of perf script has no flags")
    question = "wakeups | count by context"
    counts: Counter[str] = Counter()
    for row in map(json.loads, rows(run, SAMPLE, question)):
        counts["hardirq" if row["context"] in ("hrtimer", "ipi") else row["context"]] += row["count"]
    assert Counter({row["context"]: row["count"] for row in map(json.loads, rows(run, again, question))}) == counts
