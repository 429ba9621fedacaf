"""What the shell offers after a begin of a question: what the parser accepts and the capture knows."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.command_query import query
from tracectl.query import parse
from tracectl.query.clauses import CLAUSES
from tracectl.query.nouns import NOUNS
from tracectl.query.stages import STAGES
from tracectl.shell_completion import complete_question
from tracectl.shell_prompt import listing
from tracectl.shell_words import Candidate, Names, complete, quoted
from tracectl.store.capture import Capture
from tracectl.store.writer import write_rows

SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"
NAMES = Names(Capture.open(SAMPLE), Capture.open(SAMPLE).database())


@pytest.fixture
def names() -> Names:
    """Those of the sample."""
    return NAMES


def words(text: str, names: Names) -> list[str]:
    """The lines that completion makes of a text."""
    return [text[: one.start] + one.text for one in complete(text, names)]


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("wa", ["wakeups"]),
        ("runq ", ["runq latencies"]),
        ("closes o", ["closes of", "closes on"]),
        ("sleeps in", ["sleeps in last", "sleeps in state"]),
        ("sleeps in st", ["sleeps in state"]),
        ("sleeps in state ", ["sleeps in state S", "sleeps in state D", "sleeps in state I"]),
        ("wakeups NOT", [f"wakeups not {word}" for word in ("by", "during", "followed by", "after")]),
        ("softirqs ne", ["softirqs net_tx", "softirqs net_rx"]),
        ("wakeups by softirq net_r", ["wakeups by softirq net_rx"]),
        ("events sched_mig", ["events sched_migrate_task"]),
        ("wakeups of tid 1880", [f"wakeups of tid {tid}" for tid in range(18800, 18810)]),
        ("wakeups of comm demo:ho", ["wakeups of comm demo:hog_a", "wakeups of comm demo:hog_b"]),
        ('wakeups of comm "demo:ho', ['wakeups of comm "demo:hog_a"', 'wakeups of comm "demo:hog_b"']),
        ("connections on port 438", ["connections on port 43837"]),
        ("runs on cpu ", ["runs on cpu 0", "runs on cpu 1"]),
        ("delays where ca", ["delays where cause"]),
        ("delays where cause = p", ["delays where cause = preempted"]),
        ("delays where cause in (", [f"delays where cause in ({c}" for c in ("wakeup", "preempted", "new")]),
        ("delays where waker_comm = nobody", []),
        ("delays over 1", ["delays over 100us", "delays over 1ms", "delays over 10ms", "delays over 100ms"]),
        ("delays | li", ["delays | limit"]),
        ("delays | sum du", ["delays | sum dur"]),
        ("delays | count by comm | top 3 by ", [f"delays | count by comm | top 3 by {c}" for c in ("comm", "count")]),
        ("wakeups dur", ["wakeups during"]),
        ("wakeups not fo", ["wakeups not followed by"]),
        ("wakeups followed by acc", ["wakeups followed by accepts"]),
        (
            "wakeups followed by accepts wi",
            [f"wakeups followed by accepts with{c}" for c in (" stacks", " previous", "in")],
        ),
        ("wakeups after clo", ["wakeups after closes"]),
        ("delays during softirqs ne", ["delays during softirqs net_tx", "delays during softirqs net_rx"]),
        ("delays during (sof", ["delays during (softirqs"]),
        ("wakeups followed by accepts within 1ms sa", ["wakeups followed by accepts within 1ms same"]),
        ("wakeups not followed b", ["wakeups not followed by"]),
        ("chai", ["chains"]),
        ("chains of tid 18803 at", ["chains of tid 18803 at"]),
        ("critical p", ["critical path"]),
        ("stack t", ["stack totals"]),
        ("sleeps with st", ["sleeps with stacks"]),
        ("sleeps with stacks | fo", ["sleeps with stacks | folded"]),
        ("wakeups on host ", ['wakeups on host "demo"']),
        ("delays | hi", ["delays | histogram"]),
        ("delays | histogram d", ["delays | histogram dur"]),
        ("delays | ra", ["delays | rate"]),
        ("@herd p", ["@herd port=", "@herd pid="]),
        ("@top", ["@top_delays"]),
        ("@top_delays n", ["@top_delays n="]),
        ("@nothing ", []),
        ("delays delays ", []),
        ("42", []),
    ],
)
def test_what_is_offered(text: str, full: list[str], names: Names) -> None:
    assert words(text, names) == full


def test_at_the_begin_nouns_then_saved_questions(names: Names) -> None:
    offered = words("", names)
    assert offered[: len(NOUNS)] == [noun.names[0] for noun in NOUNS]
    assert "@runqlat" in offered


def test_a_clause_is_offered_where_it_makes_sense(names: Names) -> None:
    assert "closes over" not in words("closes ", names) and "delays over" in words("delays ", names)
    assert "delays by" not in words("delays ", names) and "sleeps by" in words("sleeps ", names)
    assert "lost of" not in words("lost ", names)
    assert "closes on port" not in words("closes on ", names)


def test_what_can_be_in_a_relation(names: Names) -> None:
    """Rows at a moment; behind during only rows that last."""
    assert {"wakeups followed by accepts", "wakeups followed by delays"} <= set(words("wakeups followed by ", names))
    assert not {f"wakeups followed by {noun}" for noun in ("chains", "lost", "tasks")} & set(
        words("wakeups followed by ", names)
    )
    during = words("wakeups not during ", names)
    assert "wakeups not during sleeps" in during and "wakeups not during accepts" not in during


def test_sizes_are_of_numbers_durations_first(names: Names) -> None:
    offered = words("delays | histogram ", names)
    assert offered[0] == "delays | histogram dur"
    assert not {"delays | histogram ts", "delays | histogram comm"} & set(offered)


def test_only_numbers_are_summed_durations_first(names: Names) -> None:
    offered = words("delays | sum ", names)
    assert offered[0] == "delays | sum dur" and "delays | sum comm" not in offered


@pytest.mark.parametrize("part", [*CLAUSES, *STAGES], ids=lambda part: part.rule)
def test_the_grammar_drives_it(part: type, names: Names) -> None:
    """Every word of every example is offered, or is a value, after what stands before it."""
    for example in part.examples:  # type: ignore[attr-defined]
        offered = words(f"{example} ", names)
        for line in offered:
            parse_begin(line)


def parse_begin(line: str) -> None:
    """The parser takes the line as the begin of a question."""
    from tracectl.shell_words import _State  # noqa: PLC0415 - what is tested

    assert _State.of(f"{line} ") is not None, line


def test_what_is_offered_can_be_asked(names: Names) -> None:
    for line in words("wakeups of comm ", names) + words("wakeups of tid ", names)[:50]:
        parse(line)


@pytest.mark.parametrize(
    ("name", "written"), [("wrk:0", "wrk:0"), ("a b", '"a b"'), ("by", '"by"'), ("7up", '"7up"'), ("or", '"or"')]
)
def test_names_are_quoted_where_they_must(name: str, written: str) -> None:
    assert quoted(name) == written


def test_hostile_names_are_not_offered(tmp_path: Path) -> None:
    rows = [
        {"kind": "task", "ts": 1, "cpu": 0, "tid": n, "pid": n, "comm": comm}
        for n, comm in enumerate(("\x1b[31m", 'a"b', "ok"))
    ]
    capture = Capture.open(write_rows(tmp_path / "c.parquet", rows, cpus=(0,), start_ts=0, end_ts=9))
    with capture.database() as database:
        offered = words("tasks of comm ", Names(capture, database))
    assert offered == ['tasks of comm "ok"']


def test_the_list_fits_the_terminal() -> None:
    many = [Candidate(0, f"word_{n:03}", "told") for n in range(500)]
    lines = listing(many, 80, 24)
    assert len(lines) <= 22 and max(map(len, lines)) <= 80 and lines[-1].strip().startswith("… ")
    few = listing([Candidate(0, "word", "x" * 200)], 80, 24)
    assert few == [f"  word  {'x' * 70}…"]


EXAMPLES = [example for part in (*NOUNS, *CLAUSES, *STAGES) for example in part.examples]
TOKENS = sorted({word for example in EXAMPLES for word in example.split()} | {*"\"'|()=@,\0", "\ud800", "é", "<>"})


@given(st.lists(st.sampled_from(TOKENS), max_size=8), st.integers(0, 60))
@settings(max_examples=300)
def test_any_text_is_taken(tokens: list[str], length: int) -> None:
    """No begin of anything makes an error; what is offered ends what was typed."""
    text = " ".join(tokens)[:length]
    for one in complete(text, NAMES):
        assert 0 <= one.start <= len(text) and one.text


@pytest.mark.parametrize(
    ("before", "incomplete", "offered"),
    [
        ((), "wake", ["wakeups"]),
        (("wakeups", "of", "comm"), "demo:wor", ["demo:worker_0", "demo:worker_1"]),
        (("sleeps", "in"), "st", ["state"]),
        (("@runqlat",), "o", ["over="]),
        (("wakeups",), "dur", ["during"]),
        (("wakeups", "followed", "by"), "acc", ["accepts"]),
        (("wakeups", "not", "followed"), "b", ["by"]),
        (("critical",), "p", ["path"]),
        (("sleeps", "with"), "st", ["stacks"]),
        (("delays", "during", "softirqs"), "net_r", ["net_rx"]),
        (("@herd",), "p", ["port=", "pid="]),
        (("wakeups",), "|", []),
        (("nothing",), "", []),
    ],
)
def test_completion_in_shells(before: tuple[str, ...], incomplete: str, offered: list[str]) -> None:
    assert completed(before, incomplete) == offered


def completed(before: tuple[str, ...], incomplete: str, capture: Path = SAMPLE) -> list[str]:
    """What bash, zsh or fish are given."""
    context = click.Context(query)
    context.params = {"capture": str(capture), "question": before}
    return [str(item.value) for item in complete_question(context, query.params[1], incomplete)]


def test_bash_breaks_words_at_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TRACECTL_COMPLETE", "bash_complete")
    assert completed(("wakeups", "of", "comm", "demo", ":"), "wor") == ["worker_0", "worker_1"]


def test_completion_in_shells_is_silent_where_there_is_no_capture(tmp_path: Path) -> None:
    assert completed((), "wake", tmp_path / "nothing") == []
