"""The Python API: answers in every form, held against the command line; the import costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import tracectl
from tracectl.api_html import histogram

SAMPLE = Path(__file__).parents[2] / "examples/sample.parquet"
ENGINES = {"duckdb", "pyarrow", "lark", "numpy", "rich", "bcc", "click", "pandas", "polars"}
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def sample() -> Iterator[tracectl.Capture]:
    """The sample, opened."""
    with tracectl.open(SAMPLE) as capture:
        yield capture


def test_the_import_alone_imports_no_engine() -> None:
    script = "import sys, tracectl; tracectl.__version__; dir(tracectl); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tracectl" in loaded and not ENGINES & loaded
    assert {name for name in loaded if name.startswith("tracectl.")} == {"tracectl._version"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in tracectl.__all__:
        assert name in dir(tracectl)
        if name != "__version__":
            assert (getattr(tracectl, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="nothing"):
        tracectl.nothing  # noqa: B018 - to see that it is not there


def test_the_forms_of_an_answer_agree(sample: tracectl.Capture) -> None:
    answer = sample.query("accepts | count by comm")
    assert answer.columns == ["comm", "count"]
    assert answer.rows() == answer.rows() == list(answer) == [("demo:worker_1", 56), ("demo:worker_0", 41)]
    assert answer.arrow().to_pydict() == {"comm": ["demo:worker_1", "demo:worker_0"], "count": [56, 41]}
    assert len(answer) == 2 and answer.first(1) == answer.rows()[:1]
    assert answer.qualification.exact and str(answer.qualification) == "exact"


def test_the_same_as_on_the_command_line(sample: tracectl.Capture, run: Run) -> None:
    for question in ('delays of comm "demo:*" | p50,p99 dur by comm', "lost", "wakeups of tid 1", "@top_delays n=3"):
        answer = sample.query(question)
        assert repr(answer) + "\n" == run("query", SAMPLE, question).out
        told = json.loads(run("query", SAMPLE, question, "--format", "json").out)
        assert [tuple(row.values()) for row in told["rows"]] == answer.rows()
        assert told["notes"] == answer.notes
        assert answer.sql + "\n" == run("query", SAMPLE, question, "--sql").out


def test_an_answer_outlives_the_next_question_and_the_capture() -> None:
    with tracectl.open(SAMPLE) as capture:
        first = capture.query("wakeups by softirq | count by comm")
        before = first.rows()
        capture.query("wakeups by timer | count by comm")
        assert capture.sql("SELECT 1 AS one").rows() == [(1,)]
    assert first.rows() == before and len(before) > 3


def test_a_closed_capture_says_so() -> None:
    capture = tracectl.open(SAMPLE)
    capture.close()
    capture.close()
    assert repr(capture).endswith("closed>")
    with pytest.raises(tracectl.UserError, match="is closed"):
        capture.query("wakeups")


def test_units(sample: tracectl.Capture) -> None:
    answer = sample.query("delays | limit 1")
    assert (answer.units["dur"], answer.units["ts"]) == ("ns", "clock")


def test_sql_and_its_limits(sample: tracectl.Capture, tmp_path: Path) -> None:
    assert sample.sql("SELECT count(*) AS n FROM accepts").rows() == [(97,)]
    assert sample.sql("SELECT 1 AS a, 2 AS a").rows() == [(1, 2)]
    assert repr(sample.sql("SELECT 1 AS a WHERE false")) == "a\n0 rows"
    for statement in (f"COPY capture TO '{tmp_path}/x'", "SELECT * FROM '/etc/passwd'", "SELEKT"):
        with pytest.raises(tracectl.UserError):
            sample.sql(statement)


def test_sql_before_and_after_questions() -> None:
    with tracectl.open(SAMPLE) as capture:
        capture.sql("SELECT 1")
        assert capture.query("wakeups by softirq | count").rows()[0][0] > 300


def test_no_more_rows_than_wanted(sample: tracectl.Capture) -> None:
    everything = sample.query("accepts")
    for most, cut in ((10, True), (97, False), (1000, False)):
        answer = sample.query("accepts", most=most)
        assert (answer.rows(), answer.cut) == (everything.rows()[:most], cut)
    nothing = sample.query("accepts of tid 999999", most=3)
    assert nothing.rows() == [] and nothing.columns == everything.columns and nothing.notes
    guessed = sample.query("wakeups by softirq", most=7)
    assert guessed.rows() == sample.query("wakeups by softirq").rows()[:7] and guessed.cut


@pytest.mark.parametrize("statement", ["DESCRIBE accepts", "SHOW TABLES", "SUMMARIZE accepts", "EXPLAIN FROM accepts"])
def test_statements_that_are_no_select(sample: tracectl.Capture, statement: str) -> None:
    assert len(sample.sql(statement, most=1)) == 1
    assert sample.sql("CREATE OR REPLACE TABLE mine AS SELECT 1 AS a", most=1).columns in ([], ["Count"])


def test_sql_after_a_cancelled_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come while the views are made: they are made again."""
    with tracectl.open(SAMPLE) as capture:
        run, made = capture.database.execute, []

        def cancelled(sql: str, parameters: Any = None) -> Any:
            made.append(sql)
            if len(made) > 5:
                raise tracectl.UserError("cancelled")
            return run(sql, parameters)

        monkeypatch.setattr(capture.database, "execute", cancelled)
        with pytest.raises(tracectl.UserError, match="cancelled"):
            capture.sql("SELECT 1")
        monkeypatch.undo()
        assert capture.sql("SELECT count(*) FROM accepts").rows() == [(97,)]
        with pytest.raises(tracectl.UserError, match="not allowed"):
            capture.sql("DROP VIEW accepts")


def test_errors_keep_their_parts(sample: tracectl.Capture) -> None:
    with pytest.raises(tracectl.QueryError) as caught:
        sample.query("delays ovr 1ms")
    assert (caught.value.start, caught.value.end) == (7, 10) and "over" in caught.value.remedy
    with pytest.raises(tracectl.StrictError):
        sample.query("delays", strict=True)
    with pytest.raises(tracectl.UserError, match="no such capture"):
        tracectl.open("nothing.parquet")
    with pytest.raises(tracectl.CaptureError):
        tracectl.open(__file__)


def test_info_is_that_of_the_command(sample: tracectl.Capture, run: Run) -> None:
    assert json.loads(json.dumps(sample.info)) == json.loads(run("info", "--json", SAMPLE).out)


def test_explain(sample: tracectl.Capture, run: Run) -> None:
    assert sample.explain("@loss") + "\n" == run("query", SAMPLE, "--explain", "@loss").out


def test_questions_from_several_threads(sample: tracectl.Capture) -> None:
    """Each thread gets its own answer, though they share temporary tables."""
    found: dict[str, list[Any]] = {}
    comms = ["demo:ping", "demo:pong", "demo:sleeper", "demo:worker_0"]

    def ask(comm: str) -> None:
        found[comm] = [sample.query(f"wakeups of comm {comm} | count by comm").rows()[0][0] for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(comm,)) for comm in comms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {comm: [comm] * 5 for comm in comms}


def test_pandas(sample: tracectl.Capture) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = sample.query("sleeps").df()
    assert str(frame["waker_tid"].dtype) == "Int32" and frame["waker_tid"].isna().any()
    assert frame["ts"].tolist() == [row[1] for row in sample.query("sleeps").rows()]
    assert frame.attrs["qualification"].startswith("not known") and frame.attrs["units"]["dur"] == "ns"


def test_polars(sample: tracectl.Capture) -> None:
    pytest.importorskip("polars", reason="Polars is not installed")
    answer = sample.query("accepts | count by comm")
    assert answer.pl().rows() == answer.rows()


@pytest.mark.parametrize(("name", "method"), [("pandas", "df"), ("polars", "pl")])
def test_what_is_not_installed_is_said(
    name: str, method: str, sample: tracectl.Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(tracectl.UserError) as caught:
        getattr(sample.query("accepts"), method)()
    assert f"{name} is not installed" in str(caught.value) and f"pip install {name}" in str(caught.value)


def test_html_for_notebooks(sample: tracectl.Capture) -> None:
    page = sample.query("delays over 1ms")._repr_html_()
    assert page.count("<svg") == page.count("</svg>") == 1 and "<table>" in page
    assert "13 gaps" in page and page.count("<tr>") == 51 and "more rows" in page
    ElementTree.fromstring(page)  # every element is closed, every sign escaped
    assert "<svg" not in sample.query("accepts")._repr_html_()
    assert "none seen" in sample.query("delays over 1h")._repr_html_()


def test_html_escapes_what_a_capture_says(capture: Path, tmp_path: Path) -> None:
    with tracectl.open(capture) as opened:
        page = opened.sql("""SELECT '<script>alert("x")</script>' AS "<b>", comm FROM capture""")._repr_html_()
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in page and "\u202e" not in page and "\\x1b[31mevil" in page


def test_the_histogram_counts_all_values() -> None:
    svg = histogram([0, 1, 1000, 1023, 1024, 10**9], "dur")
    assert svg.count("<rect") == 31  # 0, then each power of two up to 2^30
    assert "<title>512ns to 1.024us: 2</title>" in svg and "<title>0ns to 1ns: 1</title>" in svg


def test_long_answers_are_cut_in_print_only(sample: tracectl.Capture) -> None:
    text = repr(sample.query("switches"))
    assert text.count("\n") == 1 + 20 + 1 and "… 7728 more" in text


def test_hostile_names_in_print(capture: Path) -> None:
    with tracectl.open(capture) as opened:
        assert "\x1b" not in repr(opened.query("wakeups"))
