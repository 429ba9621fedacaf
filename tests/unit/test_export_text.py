"""Exports as text: what the kernel and perf print, read back line by line; gaps, hostile names, answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl.store.events import CATALOGUE
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
START = 1_000_000_000_000
# A head of the kernel's text and one of perf script, as strict as their strictest readers are.
FTRACE = re.compile(
    r"^ {0,15}(?P<comm>.{1,})-(?P<tid>\d+) +\((?P<pid>[ \d-]{7})\) \[(?P<cpu>\d{3})\] (?P<flags>[\w.]{5}) +"
    r"(?P<ts>\d+\.\d{9}): (?P<rest>\S.*)$"
)
PERF = re.compile(
    r"^ *(?P<comm>\S.*?) +(?P<tid>-?\d+) \[(?P<cpu>\d{3})\] +(?P<ts>\d+\.\d{9}): "
    r"(?P<rest>\w+:\w+: .*|PERF_RECORD_LOST.*)$"
)
HOSTILE = ("\x1b[31mevil\n\u202e", 'q"uo;te\r</script>', "a\u2028b\x00c", "<script>&'", "näme 名 \x85")


def lines(text: str) -> list[str]:
    """Without the comments at the head; splits at nothing but the line feed."""
    return [line for line in text.split("\n")[:-1] if not line.startswith("#")]


@pytest.fixture
def every_kind(tmp_path: Path) -> Path:
    """A capture with one row of each kind, every column filled."""
    values = {"int16": 1, "int32": 3, "int64": 7, "string": "word"}
    rows = []
    for number, event in enumerate(event for event in CATALOGUE if not event.bookkeeping):
        row = {column.name: values[column.type.arrow] for column in event.columns}
        rows.append(row | {"kind": event.kind, "ts": START + number, "seq": number + 1, "cpu": 1})
    return write_rows(tmp_path / "every.parquet", rows)


@pytest.mark.parametrize(("form", "head"), [("ftrace-text", FTRACE), ("perf-script", PERF)])
def test_every_kind_is_a_line(run: Run, every_kind: Path, form: str, head: re.Pattern[str]) -> None:
    done = run("export", every_kind, "--to", form)
    assert done.code == 0, done.err
    matches = [head.match(line) for line in lines(done.out)]
    assert len(matches) == len([event for event in CATALOGUE if not event.bookkeeping]) and all(matches)
    assert "NULL" not in done.out and "None" not in done.out


def test_as_the_kernel_prints_it(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "ftrace-text")
    assert done.out.startswith("# tracer: nop\n#\n# entries-in-buffer/entries-written: 8/8   #P:2\n")
    assert lines(done.out)[:3] == [
        "          <idle>-0       (-------) [000] X.s..  1000.000001000: sched_waking: "
        "comm=wrk:worker_0 pid=4449 prio=120 target_cpu=000",
        "          <idle>-0       (-------) [000] X....  1000.000003000: sched_switch: prev_comm=swapper/0 prev_pid=0 "
        "prev_prio=120 prev_state=R ==> next_comm=wrk:worker_0 next_pid=4449 next_prio=120",
        "    wrk:worker_0-4449    (   4449) [000] X....  1000.002000000: sched_switch: prev_comm=wrk:worker_0 "
        "prev_pid=4449 prev_prio=120 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120",
    ]


def test_as_perf_script_prints_it(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "perf-script")
    assert done.out.startswith("# hostname : web-1\n# os release : 6.1.0\n# arch : x86_64\n")
    assert lines(done.out)[0] == (
        "         swapper       0 [000]  1000.000001000: sched:sched_waking: "
        "comm=wrk:worker_0 pid=4449 prio=120 target_cpu=000"
    )


@pytest.mark.parametrize(
    ("context", "flags"),
    [("task", "X...."), ("softirq", "X.s.."), ("hardirq", "X.h.."), ("hrtimer", "X.h.."), ("ipi", "X.h.."),
     ("nmi", "X.z.."), ("unknown", "X.X.."), (None, "X.X..")],
)  # fmt: skip
def test_flags_tell_the_context_and_nothing_that_was_not_recorded(
    run: Run, tmp_path: Path, context: str | None, flags: str
) -> None:
    row = {"kind": "sched_waking", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": "a", "target_tid": 2}
    done = run("export", write_rows(tmp_path / "c.parquet", [{**row, "context": context}]), "--to", "ftrace-text")
    (line,) = lines(done.out)
    match = FTRACE.match(line)
    assert match and match["flags"] == flags
    assert match["rest"] == "sched_waking: comm= pid=2 prio=120 target_cpu=000"


def test_gaps_as_the_kernel_prints_them(run: Run, lossy_capture: Path) -> None:
    done = run("export", lossy_capture, "--to", "ftrace-text")
    assert lines(done.out)[-1] == "CPU:1 [LOST 12 EVENTS]"
    assert "# entries-in-buffer/entries-written: 8/20   #P:2" in done.out
    done = run("export", lossy_capture, "--to", "perf-script")
    assert lines(done.out)[-1] == "             :-1      -1 [001]  1000.009000000: PERF_RECORD_LOST lost 12"


def test_gaps_of_unknown_cpu_or_size(run: Run, tmp_path: Path) -> None:
    event = {"kind": "sched_process_exit", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": "a"}
    gap = {"kind": "lost", "ts": START + 5, "cpu": None, "stream": "sched", "lost_count": 3, "cause": "killed"}
    uncounted = {"kind": "lost", "ts": START + 9, "cpu": 1, "stream": "sched", "cause": "killed"}
    capture = write_rows(tmp_path / "c.parquet", [event, gap, uncounted], cpus=(0, 1))
    text = lines(run("export", capture, "--to", "ftrace-text").out)
    # Not three on each of both.
    assert text[1:] == ["CPU:0 [LOST EVENTS]", "CPU:1 [LOST EVENTS]", "CPU:1 [LOST EVENTS]"]
    perf = lines(run("export", capture, "--to", "perf-script").out)
    assert [line.split("]")[1] for line in perf[1:]] == ["  1000.000000005: PERF_RECORD_LOST"] * 2 + [
        "  1000.000000009: PERF_RECORD_LOST"
    ]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["ftrace-text", "perf-script"])
def test_hostile_names_stay_one_harmless_line(run: Run, tmp_path: Path, form: str, name: str) -> None:
    row = {"kind": "sched_switch", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": name, "prev_state": "S"}
    row |= {"next_tid": 2, "next_comm": name, "prev_prio": 120, "next_prio": 120}
    exec_ = {"kind": "sched_process_exec", "ts": START + 1, "cpu": 0, "pid": 1, "tid": 1, "comm": name}
    capture = write_rows(tmp_path / "c.parquet", [row, {**exec_, "old_tid": 1, "filename": f"/bin/{name}"}])
    out = run("export", capture, "--to", form).out
    head = FTRACE if form == "ftrace-text" else PERF
    assert len(lines(out)) == 2 and all(head.match(line) for line in lines(out))
    assert all(character == "\n" or character.isprintable() for character in out)
    assert "</" not in out


def test_an_answers_events(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "perf-script", "runs of tid 4449")
    rest = [line.split(": ", 2)[1] for line in lines(done.out)]
    assert rest == ["sched:sched_switch"] * 4  # two runs, each with its begin and end
    assert done.err == "tracectl: exact\n"


def test_rows_that_are_no_events_are_refused(run: Run, capture: Path) -> None:
    done = run("export", capture, "--to", "ftrace-text", "runs | count by comm")
    assert (done.code, done.out) == (1, "")
    assert "no events" in done.err and "--to csv" in done.err


def test_kinds_made_at_run_time(run: Run, tmp_path: Path) -> None:
    extra = {"kind": "block_rq_issue", "stream": "extra", "doc": "", "probes": ["block:block_rq_issue"]}
    extra["fields"] = [{"name": f"block_rq_issue__{name}", "type": kind, "doc": ""} for name, kind in
                       (("sector", "int64"), ("rwbs", "string"))]  # fmt: skip
    row = {"kind": "block_rq_issue", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": "dd"}
    row |= {"block_rq_issue__sector": 2048, "block_rq_issue__rwbs": "W\n"}
    capture = write_rows(tmp_path / "c.parquet", [row], extra_events=[extra])
    assert lines(run("export", capture, "--to", "ftrace-text").out)[0].endswith(
        "block_rq_issue: sector=2048 rwbs=W\\x0a"
    )
    assert " block:block_rq_issue: sector=2048" in run("export", capture, "--to", "perf-script").out


def test_a_capture_without_events(run: Run, tmp_path: Path) -> None:
    capture = write_rows(tmp_path / "c.parquet", [], kinds=["sched_switch"], cpus=[0], start_ts=1, end_ts=2)
    done = run("export", capture, "--to", "ftrace-text")
    assert (done.code, lines(done.out)) == (0, [])
