"""Saved questions: the shipped ones are answered, parameters are values and nothing else, the user's file counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl import saved
from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.errors import UserError
from tracectl.store.events import CATALOGUE
from tracectl.store.writer import write_rows

SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"
Run = Callable[..., Any]
# Parameters that have no default: a worker of the sample, and the port that it listens on.
NEEDED = {"wakers": {"tid": "18803"}, "port": {"port": "43837"}}
ALL = sorted(saved.shipped())
STACKS = {"sched_switch": ["kstack"]}
# What asks for stacks, which the sample has none of: tests/property/test_saved_questions.py.
IN_SAMPLE = [name for name in ALL if "stacks" not in saved.shipped()[name].question]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's configuration folder, empty at first; where the questions would be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = saved.user_file()
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """A capture of every kind in which nothing happened."""
    path = tmp_path_factory.mktemp("empty") / "empty.parquet"
    kinds = [event.kind for event in CATALOGUE if event.probes]
    return Capture.open(write_rows(path, [], kinds=kinds, cpus=(0, 1), start_ts=0, end_ts=1000, filled=STACKS))


def test_the_start_of_the_library() -> None:
    assert {"runqlat", "offcpu", "dstate", "softirq_time", "irq_time", "wakeup_matrix", "wakers"} <= set(ALL)
    assert {"herd", "irq_storms", "runqlat_hist", "offcpu_stacks"} <= set(ALL)
    assert {"cpu_time", "switches", "top_delays", "epoll_idle", "connections_by_port"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_is_documented(name: str) -> None:
    one = saved.shipped()[name]
    assert one.tells.endswith(".") and len(one.tells) <= 60
    assert "{clauses}" in one.question
    assert all(parameter.tells for parameter in one.parameters.values())


@pytest.mark.parametrize("name", IN_SAMPLE)
def test_each_finds_something_in_the_sample(name: str) -> None:
    text = saved.shipped()[name].written(NEEDED.get(name, {}))
    assert ask(Capture.open(SAMPLE), text).rows()


@pytest.mark.parametrize("name", ALL)
def test_each_finds_nothing_in_an_empty_capture(name: str, empty: Capture) -> None:
    answer = ask(empty, saved.shipped()[name].written(NEEDED.get(name, {})))
    assert answer.rows() == [] and answer.qualification.exact


@pytest.mark.parametrize("name", IN_SAMPLE)
def test_each_takes_a_clause(name: str) -> None:
    text = saved.shipped()[name].written(NEEDED.get(name, {}) | {"after": "1ms", "cpu": "0-1"})
    rows = ask(Capture.open(SAMPLE), text).rows()
    assert rows or name == "dstate"


@pytest.mark.parametrize(
    ("given", "question"),
    [
        ("wakeups | count", "wakeups | count"),
        ("@runqlat", "delays | p50,p95,p99 dur by comm"),
        ("  @runqlat pid=4182 over=10ms", "delays of pid 4182 over 10ms | p50,p95,p99 dur by comm"),
        ('@runqlat comm="wrk: *" | limit 3', 'delays of comm "wrk: *" | p50,p95,p99 dur by comm | limit 3'),
        ("@runqlat comm=or", 'delays of comm "or" | p50,p95,p99 dur by comm'),
        (
            "@top_delays n=3 last=1s",
            "delays in last 1s | top 3 by dur | select ts, dur, comm, tid, cpu, cause, prev_comm",
        ),
        ("@wakers tid=7", "wakeups of tid 7 | count by context, vec_name, waker_comm"),
        ("@herd", "wakeups not followed by accepts within 1ms | count by comm"),
        (
            "@herd port=80 within=5ms comm=wrk",
            'wakeups on port 80 of comm "wrk" not followed by accepts within 5ms | count by comm',
        ),
        ("@runqlat cpu=0-3,7", "delays on cpu 0-3,7 | p50,p95,p99 dur by comm"),
    ],
)
def test_what_it_stands_for(given: str, question: str) -> None:
    assert saved.expand(given) == question


@pytest.mark.parametrize(
    ("given", "problem", "remedy"),
    [
        ("@runqlt", 'there is no saved question "@runqlt"', 'did you mean "runqlat"?'),
        ("@runqlat pdi=3", '@runqlat has no parameter "pdi"', 'did you mean "pid"?'),
        ("@runqlat pid=x", 'pid="x" is not a number', "pid=…: a number"),
        ("@runqlat over=10", 'over="10" is not a time such as 10ms', "over=…: a time such as 10ms"),
        ("@herd port=http", 'port="http" is not a number', "port=…: a number"),
        ("@wakers", "@wakers needs tid: the thread", "@wakers tid=…"),
        ("@runqlat now", '"now" is not understood after @runqlat', "parameters as key=value, then | stages"),
    ],
)
def test_mistakes(given: str, problem: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        saved.expand(given)
    assert (caught.value.problem, caught.value.remedy) == (problem, remedy)


@pytest.mark.parametrize("value", ['x"|count', "1 or tid 2", "1|count", "0x1", "-1", ""])
def test_a_value_cannot_become_more_than_a_value(value: str) -> None:
    for key in ("pid", "cpu", "over"):
        with pytest.raises(UserError):
            saved.shipped()["runqlat"].written({key: value})


def test_a_name_stays_a_name() -> None:
    text = saved.shipped()["runqlat"].written({"comm": "x' | count"})
    assert ask(Capture.open(SAMPLE), text).columns[:1] == ["comm"]
    with pytest.raises(UserError, match="without double quotes"):
        saved.shipped()["runqlat"].written({"comm": 'x" | count'})


def test_own_questions_add_and_replace(config: Path, run: Run) -> None:
    config.write_text(
        '[mine]\ntells = "Mine."\nquestion = "accepts {clauses} | count"\n[loss]\nquestion = "lost | count"\n'
    )
    assert saved.library()["mine"].source == str(config)
    assert saved.expand("@loss") == "lost | count"
    assert "@mine" in run("query", SAMPLE, "@").out
    assert run("query", SAMPLE, "@mine").out == "count\n   97\n1 row, exact\nasked: accepts | count\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[mine", "is no TOML"),
        (b"\xff", "is no TOML"),
        (b"mine = 3", "[mine] has no question"),
        (b"[mine]\ntells = 'x'", "[mine] has no question"),
        (b"[mine]\nquestion = 'delays {where}'", "[mine] names {where}"),
        (b"[mine]\nquestion = 'delays'\n[mine.parameters]\nn = 3", "parameter n has no kind"),
        (b"[mine]\nquestion = 'delays'\n[mine.parameters]\nn = {kind = 'sql'}", "parameter n has no kind"),
        (
            b"[mine]\nquestion = 'delays {n}'\n[mine.parameters]\nn = {kind = 'number', clause = 'on fd {}'}",
            "names {n}",
        ),
        (b"[mine]\nquestion = 'delays'\n[mine.parameters]\nn = {kind = 'number', clause = 'on fd'}", "n is no clause"),
        (b"['a b']\nquestion = 'delays'", "is no name"),
        (b"[mine]\nquestion = 'delays {clauses}'\nparameters = 3", ""),
    ],
)
def test_a_damaged_file_is_told(config: Path, text: bytes, problem: str) -> None:
    config.write_bytes(text)
    if not problem:
        assert saved.expand("@mine") == "delays"
        return
    with pytest.raises(UserError) as caught:
        saved.library()
    assert problem in caught.value.problem and str(config) in caught.value.problem and caught.value.remedy


def test_on_the_command_line(run: Run) -> None:
    done = run("query", SAMPLE, "@runqlat", "comm=demo:hog_?", "|", "select comm, p99_dur")
    assert done.code == 0 and done.out.startswith("comm        p99_dur\n")
    assert 'asked: delays of comm "demo:hog_?" | p50,p95,p99 dur by comm | select comm, p99_dur\n' in done.out
    assert run("query", SAMPLE, "@nothing").code == 1
    listed = run("query", SAMPLE, "@").out
    assert all(f"@{name} " in listed for name in ALL)


def test_hostile_text_in_a_file_does_not_reach_the_terminal(config: Path) -> None:
    config.write_text('[mine]\ntells = "\\u001b[31mred"\nquestion = "delays {clauses}"\n')
    assert "\x1b" not in saved.listing() + saved.described(saved.library()["mine"])


def test_each_question_is_on_the_page() -> None:
    page = (SAMPLE.parents[1] / "docs/questions.md").read_text(encoding="utf-8")
    for one in saved.shipped().values():
        assert f"### @{one.name}\n" in page and one.tells in page and one.question in page
        assert all(f"`{key}=`" in page for key in one.parameters)
