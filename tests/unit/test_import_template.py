"""Templates: matched at once and line by line, the answer is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl.recorder.import_bytes import Block
from tracectl.recorder.import_kinds import _LAYOUTS, inferred_template, source_of
from tracectl.recorder.import_template import Template, match_at_once, match_by_line

SWITCH = Template(
    "prev_comm={comm:text} prev_pid={tid:int} prev_prio={prev_prio:int} prev_state={prev_state:word} ==> "
    "next_comm={next_comm:text} next_pid={next_tid:int} next_prio={next_prio:int}"
)
PLUGIN = Template("{:task} [{prev_prio:int}] {prev_state:word} ==> {next:task} [{next_prio:int}]")
NAMES = st.one_of(
    st.sampled_from(
        ["a b", "wrk:worker_0", "x=1", "prev_pid=7", " ==> ", "q] [", "kworker/0:1-e", "é", "<idle>", "12"]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=15),
)


def rows_of(templates: list[Template], text: str) -> list[dict[str, Any]]:
    """A text read at once, and where that fails by line."""
    block = Block(text.encode())
    which = np.arange(len(block.starts))
    parts, left = match_at_once(templates, block, block.starts, block.ends, which)
    more, _ = match_by_line(templates, block, block.starts, block.ends, left)
    columns = {name: column for _, part in parts + more for name, column in part.items()}
    return [{name: column[0].as_py() for name, column in columns.items()}] if columns else []


@given(NAMES, NAMES, st.integers(0, 4_194_304), st.sampled_from(["S", "R+", "D|K", "0", "4096"]))
def test_names_may_hold_anything(prev: str, into: str, tid: int, state: str) -> None:
    text = (
        f"prev_comm={prev} prev_pid={tid} prev_prio=120 prev_state={state} ==> next_comm={into} next_pid=5 next_prio=-1"
    )
    wanted = {"comm": prev, "tid": tid, "prev_prio": 120, "prev_state": state} | {
        "next_comm": into, "next_tid": 5, "next_prio": -1,
    }  # fmt: skip
    assert SWITCH.match_line(text) == rows_of([SWITCH], text)[0]
    if "prev_pid=" not in prev and " ==> " not in prev:  # else the text has two meanings
        assert rows_of([SWITCH], text) == [wanted]


@given(NAMES, NAMES, st.integers(0, 4_194_304))
def test_both_ways_agree_on_trace_cmd_s_own_layout(prev: str, into: str, tid: int) -> None:
    text = f"{prev}:{tid} [120] S ==> {into}:7 [100]"
    assert rows_of([PLUGIN], text) == [PLUGIN.match_line(text)]


@pytest.mark.parametrize("kind", sorted(_LAYOUTS))
def test_every_layout_reads_what_it_says(kind: str) -> None:
    for layout in _LAYOUTS[kind]:
        template = Template(layout)
        filled = {"int": "42", "hex": "0x2a", "word": "ab", "text": "c d", "task": "e f:9", "skip": "no"}
        text = "".join(filled[part.type] if part.type else part.text for part in template.parts)
        block = Block(text.encode())
        ok, columns = template.match(block, block.starts, block.ends)
        assert ok.tolist() == [True]
        got = {name: column[0].as_py() for name, column in columns.items()}
        assert got == template.match_line(text)
        assert set(got.values()) <= {42, 9, "ab", "c d", "e f"}


def test_what_is_left_over_is_no_match() -> None:
    good = "prev_comm=a prev_pid=1 prev_prio=2 prev_state=S ==> next_comm=b next_pid=3 next_prio=4"
    assert rows_of([SWITCH], good + "  ")
    for bad in (good + " more", good[:-1], good.replace("==>", "=>"), good.replace("=1 ", "=one "), ""):
        assert rows_of([SWITCH], bad) == []
        assert SWITCH.match_line(bad) is None


def test_hex_numbers_are_signed_64_bit() -> None:
    template = Template("{a:hex}")
    for text, value in (("0x10", 16), ("ffffffffffffffff", -1), ("0x8000000000000000", -(2**63)), ("0", 0)):
        assert rows_of([template], text) == [{"a": value}] == [template.match_line(text)]
    assert rows_of([template], "0x11111111111111111") == []


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("comm=a b pid=7 runtime=55172 [ns]", {"comm": "a b", "pid": "7", "runtime": "55172"}),
        ("runtime=5 [ns] vruntime=6 [ns]", {"runtime": "5", "vruntime": "6"}),
        ("fd: 0x3, buf: 0x7f, count: 0x10", {"fd": "0x3", "buf": "0x7f", "count": "0x10"}),
        ("B|77|test_slice", {"text": "B|77|test_slice"}),
        ("dev 8,1 pid=3 pid=4", {"text": "dev 8,1", "pid": "3", "pid_2": "4"}),
        ("", {"text": ""}),
        ("{x:int} a={b:text}", {"text": "{x:int}", "a": "{b:text}"}),
    ],
)
def test_fields_of_events_that_the_catalogue_lacks(text: str, fields: dict[str, str]) -> None:
    assert rows_of([inferred_template(text)], text) == [fields]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=200))
def test_a_layout_made_from_a_text_can_be_made_from_any(text: str) -> None:
    inferred_template(text.strip())


@pytest.mark.parametrize(
    ("name", "kind", "probe"),
    [
        ("sched:sched_switch", "sched_switch", "sched:sched_switch"),
        ("sched_switch", "sched_switch", "sched_switch"),
        ("cycles:u", "cycles", "cycles"),
        ("cpu-clock", "cpu_clock", "cpu-clock"),
        ("x:lost", "lost_event", "x:lost"),
        ("local_timer_entry", "irq_vector_entry", "irq_vectors:local_timer_entry"),
        ("irq_vectors:new_exit", "irq_vector_exit", "irq_vectors:new_exit"),
        ("syscalls:sys_enter_openat", "sys_enter_openat", "syscalls:sys_enter_openat"),
    ],
)
def test_kinds_of_names(name: str, kind: str, probe: str) -> None:
    source = source_of(name)
    assert (source.kind, source.probe) == (kind, probe)
