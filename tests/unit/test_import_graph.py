"""Text of the function and function_graph tracers: columns, marks, nesting, threads, gaps, and the noun ``calls``.

The texts are written after the kernel's documentation (Documentation/trace/ftrace.rst) and its printing functions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.query import Answer, ask
from tracectl.recorder import import_input
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, QueryError, TracectlError

Asked = Callable[[str, str], Answer]
HEADER = "# tracer: function_graph\n#\n"
HEADER += "# CPU  DURATION                  FUNCTION CALLS\n# |     |   |                     |   |   |   |\n"
PLAIN = (
    HEADER
    + """\
 0)               |  sys_open() {
 0)               |    do_sys_open() {
 0)   1.382 us    |      getname();
 0) + 12.478 us   |    }
 0) ! 112.000 us  |  }
"""
)
CALLS = "calls | select function, dur, depth"
NAMES = [("sys_open", 112_000, 0), ("do_sys_open", 12_478, 1), ("getname", 1_382, 2)]


def imported(folder: Path, text: str | bytes) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """The answer to a question about a text, all lines of which were read."""

    def answer(text: str, question: str) -> Answer:
        outcome, capture = imported(tmp_path, text)
        assert outcome.totals.unparsed == 0, outcome.totals.examples
        return ask(capture, question)

    return answer


def with_columns(time: bool, cpu: bool, proc: bool, flags: bool) -> str:
    """The same calls with optional columns."""
    lines = PLAIN.removeprefix(HEADER).splitlines()
    parts = []
    for number, line in enumerate(lines):
        rest = line.removeprefix(" 0)")
        head = f"  100.00001{number} |  " if time else ""
        head += " 0)" if cpu else ""
        head += "    sh-4802    | " if proc else ""
        head += "  d..1. | " if flags else ""
        parts.append(head + rest)
    return HEADER + "\n".join(parts) + "\n"


@pytest.mark.parametrize("columns", [(t, c, p, f) for t in (0, 1) for c in (0, 1) for p in (0, 1) for f in (0, 1)])
def test_optional_columns(asked: Asked, columns: tuple[bool, bool, bool, bool]) -> None:
    time, cpu, proc, _ = columns
    found = asked(with_columns(*columns), "calls | sort depth | select function, dur, depth, ts, cpu, tid, comm").rows()
    assert [row[:3] for row in found] == NAMES
    assert [row[3] for row in found] == ([100_000_010_000, 100_000_011_000, 100_000_012_000] if time else [None] * 3)
    assert {row[4:] for row in found} == {(0 if cpu else None, *((4802, "sh") if proc else (None, None)))}


def test_text_without_times_asks_no_question_of_time(asked: Asked) -> None:
    assert asked(PLAIN, "calls | sort depth | select function, dur, ts, end_ts").rows() == [
        (name, dur, None, None) for name, dur, _ in NAMES
    ]  # fmt: skip
    assert asked(PLAIN, "calls | count").qualification.exact


@pytest.mark.parametrize(
    ("printed", "dur"),
    [
        ("  0.541 us    ", 541), ("+ 12.345 us   ", 12_345), ("! 123.456 us  ", 123_456), ("# 1234.567 us ", 1_234_567),
        ("* 15437.66 us ", 15_437_660), ("@ 110112.1 us ", 110_112_100), ("$ 1234567 us  ", 1_234_567_000),
        ("  2 us        ", 2_000), ("              ", None),
    ],
)  # fmt: skip
def test_durations_and_their_marks(asked: Asked, printed: str, dur: int | None) -> None:
    answer = asked(
        f"{HEADER} 0) {printed}|  f();\n 0)   1.000 us    |  g();\n", "events function_call | select function, dur"
    )
    assert answer.rows() == [("f", dur), ("g", 1_000)]


@pytest.mark.parametrize(
    ("note", "ret"),
    [
        ("/* = 0x0 */", 0), ("/* = -22 */", -22), ("/* = 0xffffffffffffffea */", -22), ("/* ret=0x10 */", 16),
        ("/* <-caller+0x1/0x2 ret=0x3 */", 3), ("", None), ("/* f */", None),
    ],
)  # fmt: skip
def test_returned_values(asked: Asked, note: str, ret: int | None) -> None:
    text = f"{HEADER} 0)   1.000 us    |  f(); {note}\n 0)               |  f() {{\n 0)   2.000 us    |  }} {note}\n"
    assert asked(text, "calls | select function, dur, ret").rows() == [("f", 1_000, ret), ("f", 2_000, ret)]


def test_modules_and_arguments(asked: Asked) -> None:
    text = f"{HEADER} 0)   1.000 us    |  ext4_map [ext4](inode=0x1, c=(x));\n 0)   1.500 us    |  __x.isra.0();\n"
    assert asked(text, "calls | select function").rows() == [("ext4_map [ext4]",), ("__x.isra.0",)]


def test_threads_follow_the_switches(asked: Asked) -> None:
    text = (
        HEADER
        + """\
 0)               |  schedule() {
 ------------------------------------------
 0)    sh-4802     =>    cat-4803\x20\x20
 ------------------------------------------

 0)   1.000 us    |  g();
 1)   3.000 us    |  other();
 0)   ==========> |
 0)   0.500 us    |  irq_enter();
 0)   <========== |
 ------------------------------------------
 0)    cat-4803    =>    sh-4802\x20\x20
 ------------------------------------------

 0) # 2000.000 us |  }
"""
    )
    assert asked(text, "calls | sort function | select function, dur, tid, comm").rows() == [
        ("g", 1_000, 4803, "cat"), ("irq_enter", 500, 4803, "cat"), ("other", 3_000, None, None),
        ("schedule", 2_000_000, 4802, "sh"),
    ]  # fmt: skip


def test_a_call_that_ends_on_another_cpu(asked: Asked) -> None:
    text = (
        HEADER
        + """\
 0)    sh-1    |               |  schedule() {
 0)    cat-2   |               |  f() {
 1)    sh-1    |   9.000 us    |  }
 0)    cat-2   |   4.000 us    |  }
"""
    )
    assert asked(text, "calls | select function, dur, tid").rows() == [("schedule", 9_000, 1), ("f", 4_000, 2)]


def test_an_end_whose_begin_was_not_seen(asked: Asked) -> None:
    text = HEADER + "  5.000100 |   0)   7.000 us    |    } /* inner */\n  5.000200 |   0)   50.00 us    |  }\n"
    rows = asked(text, "calls | sort dur | select function, ts, dur, certain").rows()
    assert rows == [("inner", 5_000_093_000, 7_000, True), (None, 5_000_150_000, None, False)]
    some = asked(text, "calls inner | count")
    assert not some.qualification.exact  # the other may have been one as well
    assert some.rows()[0][0] == 1


def test_a_call_without_an_end_is_none_yet(asked: Asked) -> None:
    text = HEADER + " 0)               |  f() {\n 0)   1.000 us    |    g();\n"
    assert asked(text, CALLS).rows() == [("g", 1_000, 1)]
    assert asked(text, "events function_call | sort function | select function, dur").rows() == [
        ("f", None),
        ("g", 1_000),
    ]


def test_other_events_inside_are_kept(asked: Asked) -> None:
    text = HEADER + " 0)               |  /* sched_wakeup: comm=x pid=1 */\n 0)   1.000 us    |  g();\n"
    assert asked(text, "events graph_note | select text").rows() == [("sched_wakeup: comm=x pid=1",)]


GAPS = {"CPU:0 [LOST 7 EVENTS]": 7, "CPU:0 [LOST EVENTS]": None}


@pytest.mark.parametrize("gap", GAPS)
def test_a_call_over_a_gap_is_not_certain(asked: Asked, gap: str) -> None:
    text = (
        HEADER
        + f"""\
  5.000100 |   0)    sh-1    |   1.000 us    |  before();
  5.000200 |   0)    sh-1    |               |  f() {{
  5.000300 |   1)    cat-2   |   2.000 us    |  elsewhere();
{gap}
  5.000400 |   0)    sh-1    |   100.0 us    |  }}
  5.000500 |   0)    sh-1    |   3.000 us    |  after();
"""
    )
    # The end may be that of a second call of f, or of another function: the begin's own end may have been lost.
    rows = asked(text, "calls | sort ts | select function, dur, certain").rows()
    certain = {function: dur for function, dur, sure in rows if sure}
    assert certain == {"before": 1_000, "after": 3_000}
    assert all(dur is None for _, dur, sure in rows if not sure)
    counted = asked(text, "calls f | count")
    assert not counted.qualification.exact
    assert (counted.qualification.at_most is None) == (GAPS[gap] is None)
    assert "f" in [row[0] for row in rows]


def test_a_gap_in_a_text_without_times_leaves_nothing_certain(asked: Asked) -> None:
    text = HEADER + " 0)   1.000 us    |  f();\nCPU:0 [LOST 7 EVENTS]\n 0)   1.000 us    |  f();\n"
    assert asked(text, "calls | select certain").rows() == [(False,), (False,)]


def test_a_deeper_begin_at_the_same_depth_ends_what_is_open(asked: Asked) -> None:
    text = HEADER + " 0)               |  f() {\n 0)               |  g() {\n 0)   2.000 us    |  }\n"
    assert asked(text, CALLS).rows() == [("g", 2_000, 0)]
    wrong_name = text.replace("  }\n", "  } /* h */\n")
    assert asked(wrong_name, CALLS).rows() == [("h", 2_000, 0)]


REPORT = """\
cpus=2
 ruby-7 [001] 10.000001: funcgraph_entry:        7.076 us   |  math();
 ruby-7 [001] 10.000002: funcgraph_entry:                   |  sys_open() {
 sh-3   [000] 10.000003: funcgraph_entry:                   |    do_exit() {
 ruby-7 [001] 10.000004: funcgraph_entry:                   |    getname() {
 ruby-7 [000] 10.000050: funcgraph_exit:       + 11.065 us  |    }
 ruby-7 [000] 10.000060: funcgraph_exit:       ! 2485 us |  } /* sys_open */
 sh-3   [000] 10.000070: funcgraph_exit:       # 60.500 us |    }
"""
REPORTED = [("math", 7_076, 7, 0), ("sys_open", 2_485_000, 7, 0), ("do_exit", 60_500, 3, 1), ("getname", 11_065, 7, 1)]


@pytest.mark.parametrize("block", [1 << 20, 90])
def test_calls_of_trace_cmd_report(asked: Asked, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """The begin's line has time and name, the end's the duration; the thread may have moved."""
    monkeypatch.setattr(import_input, "HEAD_BYTES", block)
    monkeypatch.setattr(import_input, "BLOCK_BYTES", block)
    answer = asked(REPORT, "calls | sort ts | select function, dur, tid, depth")
    assert [row[:4] for row in answer.rows()] == REPORTED


BETWEEN = {
    "CPU:1 [LOST 3 EVENTS]": 0,
    " ruby-7 [001] 10.000009: funcgraph_entry: what": 0,  # it may be a begin
    " ruby-7 [001] 10.000009: funcgraph_entry: func=0xffffffff81 depth=1": 0,  # of report -R, which has no names
    "no line at all": 1,
    " ruby-7 [001] 10.000009: other: a=1": 0,
}


@pytest.mark.parametrize("line", BETWEEN)
def test_calls_of_trace_cmd_report_are_not_paired_over_what_was_not_read(tmp_path: Path, line: str) -> None:
    lines = REPORT.splitlines()
    outcome, capture = imported(tmp_path, "\n".join([*lines[:5], line, *lines[5:]]))
    assert outcome.totals.unparsed == BETWEEN[line]
    rows = ask(capture, "events function_call | select function, dur, tid, depth").rows()
    found = {row[:4] for row in rows}
    if "other" in line:
        assert found == set(REPORTED)
    else:
        assert {name for name, dur, *_ in found if name and dur} == {"math", "sys_open"}  # whose end has it
        assert {(dur, tid) for name, dur, tid, _ in found if name is None} == {(11_065, 7), (60_500, 3)}


def test_calls_go_from_block_to_block(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = asked(with_columns(True, True, True, False), CALLS).rows()
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 60)
    monkeypatch.setattr(import_input, "HEAD_BYTES", 200)
    assert asked(with_columns(True, True, True, False), CALLS).rows() == expected == NAMES


def test_questions_about_functions(asked: Asked) -> None:
    assert asked(PLAIN, "calls do_sys_open over 10us | count").rows() == [(1,)]
    assert asked(PLAIN, "calls do_sys_open over 100us | count").rows() == [(0,)]
    assert asked(PLAIN, 'calls "*sys_open" | sum dur by function').rows() == [
        ("sys_open", 112_000),
        ("do_sys_open", 12_478),
    ]
    assert asked(with_columns(True, True, True, False), "calls getname of comm sh | select dur").rows() == [(1_382,)]
    with pytest.raises(QueryError, match=r'(?s)"do_mount" is no thread.*calls do_mount'):
        asked(PLAIN, "calls of do_mount over 100us")


def test_the_function_tracer_has_no_durations(asked: Asked) -> None:
    text = "# tracer: function\na-1 [000] d..1 1.000000: ktime_get <-sched_clock\n"
    text += "a-1 [000] .... 2.000000: f.x <-g [ext4]\n"
    rows = asked(text, "calls | select ts, function, parent, tid, dur, certain").rows()
    assert rows == [
        (1_000_000_000, "ktime_get", "sched_clock", 1, None, True), (2_000_000_000, "f.x", "g [ext4]", 1, None, True),
    ]  # fmt: skip
    assert asked(text, "calls f.x | count").qualification.exact
    # How long they took is not known: none is taken to have been short.
    long = asked(text, "calls over 1us | count")
    assert long.qualification.undetermined == 2
    gap = text.replace("\na-1 [000] ....", "\nCPU:1 [LOST 2 EVENTS]\na-1 [000] ....")
    assert asked(gap, "calls | count").qualification.at_most == 2


def test_calls_of_a_capture_without_them(asked: Asked) -> None:
    text = "a-1 [000] d..1 1.000000: sched_wakeup: comm=b pid=2 prio=120 target_cpu=001\n"
    with pytest.raises(NotRecordedError, match=r"(?s)calls cannot be told.*tracectl import"):
        asked(text, "calls")


LINES = [line.encode() + b"\n" for line in (PLAIN + with_columns(True, True, True, True)).splitlines()]
LINES += [b"CPU:0 [LOST 3 EVENTS]\n", b" 0)    sh-4802     =>    cat-4803   \n", b" 0)   ==========> |\n"]
PIECES = st.one_of(
    st.sampled_from(LINES),
    st.binary(max_size=40),
    st.text(" |){}();/*+!#us.0123456789-=>\n", max_size=40).map(str.encode),
    st.builds(
        lambda line, at, junk: line[:at] + junk + line[at:],
        st.sampled_from(LINES),
        st.integers(0, 80),
        st.binary(max_size=9),
    ),
    st.builds(
        lambda line, at, n: line[:at] + line[at + n :], st.sampled_from(LINES), st.integers(0, 80), st.integers(1, 9)
    ),
)


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=15).map(b"".join))
def test_damaged_texts(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, capture = imported(Path(folder), HEADER.encode() + data)
        except TracectlError as error:
            assert error.problem
            return
        lines = data.count(b"\n") + data.count(b"\r") + 1
        assert 0 < ask(capture, "events | count").rows()[0][0] <= lines
        if "function_call" in capture.kinds:
            for row in ask(capture, "calls | select dur, certain").rows():
                assert row[0] is None or (row[0] >= 0 and row[1])
