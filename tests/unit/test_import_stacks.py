"""Totals by call stack: folded lines, offcputime, offwaketime, bpftrace's maps; what they do not tell; damaged ones."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.query import ask
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, TracectlError

OFFWAKE = """\
Tracing blocked time (us) by user + kernel off-CPU and waker stack... Hit Ctrl-C to end.
^C
    waker:           ss hd 7124
    __libc_start_main
    write
    -
    entry_SYSCALL_64
    ksys_write
    --               --
    schedule
    do_epoll_wait
    -
    epoll_wait
    main
    target:          sh d 900
        4567

    waker:            0
    --               --
    schedule
    target:          kworker/0:1 11
        12

"""
OFFWAKE_FOLDED = """\
sh d;main;epoll_wait;do_epoll_wait;schedule;--;ksys_write;entry_SYSCALL_64;write;__libc_start_main;ss hd 4567
kworker/0:1;schedule;--; 12
"""
OFFCPU = """\
Tracing off-CPU time (us) of all threads by user + kernel stack... Hit Ctrl-C to end.

    schedule
    do_nanosleep
    --
    main
    -                my prog (77)
        100

    ffffffff810b1234 schedule
    -                swapper/0
        7

"""
MAPS = """\
Attaching 2 probes...
^C

@[
    tcp_sendmsg+1
    sock_sendmsg+62
    main+3
]: 12
@b[
    k1
    k2
,\x20
    u1
    u2
, bash]: 5
@c[bash, 77,\x20
    x::y<int, int>(long)+4
]: 7
@d[
        7f12ab34cd56 inner+1 (/lib/x.so)
        7f12ab34cd99 outer+2 (/lib/x.so)
]: 1
@plain: 9
@by_name[sh]: 3
"""
FOLDED = "# made by x\nmain;a;b c 12\nsh;[unknown];d 3\nmain;a;b c 1\n"
TOTALS = "stack totals | select comm, tid, stack, waker_comm, waker_tid, waker_stack, value, unit"


def imported(folder: Path, text: str | bytes) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


def answer(folder: Path, text: str, question: str) -> list[tuple[Any, ...]]:
    outcome, capture = imported(folder, text)
    assert outcome.totals.unparsed == 0, outcome.totals.examples
    return ask(capture, question).rows()


WAKER_STACK = "__libc_start_main;write;entry_SYSCALL_64;ksys_write"
SLEEPER_STACK = "main;epoll_wait;do_epoll_wait;schedule"


def test_offwaketime(tmp_path: Path) -> None:
    assert answer(tmp_path, OFFWAKE, TOTALS) == [
        ("sh d", 900, SLEEPER_STACK, "ss hd", 7124, WAKER_STACK, 4567, "us"),
        ("kworker/0:1", 11, "schedule", None, None, None, 12, "us"),
    ]


def test_both_forms_of_offwaketime_say_the_same(tmp_path: Path) -> None:
    question = "stack totals | select comm, stack, waker_comm, waker_stack, value, unit"
    assert answer(tmp_path, OFFWAKE_FOLDED, question) == answer(tmp_path, OFFWAKE, question)
    summed = answer(tmp_path, OFFWAKE_FOLDED, "stack totals | sum value by waker_stack, stack")
    assert summed == [(WAKER_STACK, SLEEPER_STACK, 4567), (None, "schedule", 12)]


def test_offcputime(tmp_path: Path) -> None:
    assert answer(tmp_path, OFFCPU, TOTALS) == [
        ("my prog", 77, "main;do_nanosleep;schedule", None, None, None, 100, "us"),
        ("swapper/0", None, "schedule", None, None, None, 7, "us"),
    ]


def test_maps_of_bpftrace(tmp_path: Path) -> None:
    assert answer(tmp_path, MAPS, "stack totals | select map, key, stack, value, unit") == [
        ("@", None, "main+3;sock_sendmsg+62;tcp_sendmsg+1", 12, None),
        ("@b", "bash", "k2;k1;--;u2;u1", 5, None),
        ("@c", "bash, 77", "x::y<int, int>(long)+4", 7, None),
        ("@d", None, "outer+2 (/lib/x.so);inner+1 (/lib/x.so)", 1, None),
        ("@plain", None, None, 9, None),
        ("@by_name", "sh", None, 3, None),
    ]


def test_folded_stacks_do_not_tell_whose_they_are(tmp_path: Path) -> None:
    assert answer(tmp_path, FOLDED, TOTALS) == [
        (None, None, "main;a;b c", None, None, None, 12, None),
        (None, None, "sh;[unknown];d", None, None, None, 3, None),
        (None, None, "main;a;b c", None, None, None, 1, None),
    ]
    assert answer(tmp_path, FOLDED, "stack totals | sum value by stack") == [("main;a;b c", 13), ("sh;[unknown];d", 3)]


def test_a_stack_is_a_row_once_with_its_frames(tmp_path: Path) -> None:
    stacks = answer(tmp_path, FOLDED, "events stack | select stack_id, folded, frames")
    assert [row[:2] for row in stacks] == [(1, "main;a;b c"), (2, "sh;[unknown];d")]
    assert [frame["name"] for frame in json.loads(stacks[0][2])] == ["main", "a", "b c"]


def test_there_is_no_time_and_no_context(tmp_path: Path) -> None:
    _, capture = imported(tmp_path, OFFWAKE)
    for noun in ("wakeups", "sleeps", "switches", "delays"):
        with pytest.raises(NotRecordedError):
            ask(capture, noun)
    assert ask(capture, "stack totals | select ts, cpu").rows() == [(None, None)] * 2


def test_stacks_that_the_tool_missed(tmp_path: Path) -> None:
    warning = "WARNING: 3 stack traces lost and could not be displayed. Consider increasing --stack-storage-size.\n"
    for text in (OFFWAKE, OFFWAKE_FOLDED):
        outcome, capture = imported(tmp_path, text + warning)
        assert (outcome.totals.lost, outcome.totals.unparsed) == (3, 0)
        assert ask(capture, "stack totals | count").qualification.at_most == 3


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        (OFFWAKE + "    waker: x 1\n    frame\n", 2),
        (OFFWAKE.replace("        12\n", "        many\n"), 4),
        (MAPS + "@h[\n    x\n]: count 3, average 5, total 15\n", 3),
        (MAPS + "@h[\n    x\n@i[\n    y\n]: 4\n", 2),
        (FOLDED + "what is this\n", 1),
        (FOLDED + "a;b 99999999999999999999\n", 1),
        (FOLDED + "a;b 9999999999999999999\n", 1),
    ],
)
def test_what_cannot_be_read_is_kept(tmp_path: Path, text: str, unread: int) -> None:
    outcome, _ = imported(tmp_path, text)
    assert outcome.totals.unparsed == unread


def test_names_with_semicolons_stay_one_frame(tmp_path: Path) -> None:
    text = MAPS.replace("main+3", "main;evil\x1b[31m+3")
    assert answer(tmp_path, text, "stack totals | limit 1 | select stack")[0][0].startswith("main:evil")


FRAMES = st.text("abcxyz_:<>()[]+ ", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(
    st.lists(
        st.tuples(st.lists(FRAMES, min_size=2, max_size=5), st.integers(0, 2**62)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
@settings(max_examples=60)
def test_sums_by_stack_are_those_of_a_plain_reader(totals: list[tuple[list[str], int]]) -> None:
    expected: Counter[str] = Counter()
    for frames, value in totals:
        expected[";".join(frames)] += value
    if sum(expected.values()) >= 1 << 63:
        return
    text = "".join(f"{';'.join(frames)} {value}\n" for frames, value in totals)
    with tempfile.TemporaryDirectory() as folder:
        assert dict(answer(Path(folder), text, "stack totals | sum value by stack")) == expected


SEEDS = {"offwake": OFFWAKE, "offwake-folded": OFFWAKE_FOLDED, "offcpu": OFFCPU, "maps": MAPS, "folded": FOLDED}


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_texts(name: str, data: st.DataObject) -> None:
    lines = SEEDS[name].encode().splitlines(keepends=True)
    junk = st.one_of(st.binary(max_size=20), st.text("@[];:-, 0123456789\n\t", max_size=20).map(str.encode))
    at, cut = data.draw(st.integers(0, len(lines))), data.draw(st.integers(0, 5))
    text = b"".join(lines[:at]) + data.draw(junk) + b"".join(lines[at + cut :])[: data.draw(st.integers(0, 2000))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, capture = imported(Path(folder), text)
        except TracectlError as error:
            assert error.problem
            return
        assert 0 < ask(capture, "events | count").rows()[0][0] <= text.count(b"\n") + text.count(b"\r") + 1
