"""The view of offwaketime: layouts, options, waits and wakers that a loss may have hidden."""

from __future__ import annotations

from typing import Any

import pytest

APP = "wrk:worker_0:4449/4182"
PEER = "wrk:worker_1:4450/4182"
US = 1_000


@pytest.fixture
def stacked(trace: Any) -> Any:
    """Two sleeps of one worker with one waker, a preemption of it, and one sleep of another process."""
    trace.stack(1, "entry;schedule").stack(2, "main;epoll_wait").stack(3, "net_rx;try_to_wake_up").stack(
        5, "[lost stack]"
    )
    for start in (100, 200):
        trace.switch(start * US, 0, APP, "S", "idle", 1, 2)
        trace.waking((start + 40) * US, 1, "idle", APP, "softirq", 3, kstack=3)
        trace.switch((start + 50) * US, 0, "idle", "R", APP, 9)
    trace.switch(300 * US, 0, APP, "R+", "a;b:77", None, 5)
    trace.switch(310 * US, 0, "a;b:77", "S", APP, 5)
    trace.waking(320 * US, 1, APP, "a;b:77", kstack=9, ustack=2)
    trace.switch(330 * US, 0, APP, "S", "a;b:77", 1)
    trace.options["end_ts"] = 1_000 * US
    return trace


@pytest.fixture
def printed(run: Any, capture_of: Any) -> Any:
    """Runs the view on a trace."""
    return lambda trace, *arguments: run("replay", capture_of(trace).path, "--as", "offwaketime", "--", *arguments)


HEAD = "Tracing blocked time (us) by user + kernel off-CPU and waker stack... Hit Ctrl-C to end."
WOKEN = "wrk:worker_0;main;epoll_wait;entry;schedule;--;try_to_wake_up;net_rx;swapper/0 100"


def test_folded(stacked: Any, printed: Any) -> None:
    code, out, err = printed(stacked, "-f")
    assert code == 0
    assert out.splitlines() == [
        "wrk:worker_0;[Missed User Stack];--; 10",
        "a:b;[Missed Kernel Stack];--;[Missed Kernel Stack];epoll_wait;main;wrk:worker_0 20",
        WOKEN,
    ]
    assert "WARNING: 3 stack traces lost" in err


def test_paragraphs(stacked: Any, printed: Any) -> None:
    out = printed(stacked, "-t", "4449", "-m", "50").out
    assert out.splitlines() == [
        HEAD, "",
        "    waker:           swapper/0 0", "    net_rx", "    try_to_wake_up", "    --               --",
        "    schedule", "    entry", "    epoll_wait", "    main", "    target:          wrk:worker_0 4449",
        "        100", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("-p 4182 -m 11", [WOKEN]),
        # As in the tool, a wait that -m or -M leaves out leaves its waker to the next one.
        ("-p 1,4182 -M 11", ["wrk:worker_0;[Missed User Stack];--;try_to_wake_up;net_rx;swapper/0 10"]),
        ("-t 4450", []),
        ("-p 4182 -m 11 -K", ["wrk:worker_0;entry;schedule;--;try_to_wake_up;net_rx;swapper/0 100"]),
        ("-p 4182 -m 11 -U", ["wrk:worker_0;main;epoll_wait;--;swapper/0 100"]),
        ("-p 4182 -m 11 -d", [WOKEN.replace("epoll_wait;", "epoll_wait;-;")]),
    ],
)
def test_options(stacked: Any, printed: Any, options: str, lines: list[str]) -> None:
    assert printed(stacked, "-f", *options.split()).out.splitlines() == lines


def test_a_duration(stacked: Any, printed: Any) -> None:
    for row in stacked.rows:
        row["ts"] *= 10_000
    stacked.options["end_ts"] = 10_000_000 * US
    assert printed(stacked, "-f", "-m", "20", "2").out.splitlines() == [WOKEN.replace(" 100", " 500000")]
    assert printed(stacked, "2").out.splitlines()[0] == HEAD.replace("... Hit Ctrl-C to end.", " for 2 secs.")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-p x", "no list of numbers"),
        ("-p 1 -t 2", "not allowed with"),
        ("-U -K", "not allowed with"),
        ("-m 0", "not more than zero"),
        ("-k", "does not tell kernel threads"),
        ("-z", "unrecognized arguments"),
    ],
)
def test_wrong_options(stacked: Any, printed: Any, options: str, words: str) -> None:
    code, out, err = printed(stacked, *options.split())
    assert (code, out) == (1, "") and words in err


def test_without_stacks_it_is_unknowable(trace: Any, printed: Any) -> None:
    trace.switch(100, 0, APP, "S", "idle").waking(140, 1, "idle", APP)
    code, out, err = printed(trace)
    assert (code, out) == (1, "")
    assert "tracectl record --stacks sched_switch,sched_waking" in err


def test_waits_that_a_loss_touches_are_not_counted(stacked: Any, printed: Any) -> None:
    stacked.lost(210 * US, 220 * US, 1, "sched")
    code, out, err = printed(stacked, "-f", "-p", "4182", "-m", "11")
    assert (code, out) == (0, WOKEN.replace(" 100", " 50") + "\n")
    assert "1 event of sched on cpu 1" in err and "waits that touch that time are not counted" in err


def test_a_wait_without_a_waker_counts_only_where_no_loss_can_have_hidden_one(trace: Any, printed: Any) -> None:
    trace.stack(1, "main")
    trace.switch(100 * US, 0, APP, "S", "idle", 1)
    trace.lost(110 * US, 120 * US, 1, "sched")
    trace.switch(150 * US, 0, "idle", "R", APP)
    trace.switch(160 * US, 0, APP, "R", PEER, 1)  # what woke it during the loss would stand here
    trace.switch(170 * US, 0, PEER, "S", APP)
    trace.switch(180 * US, 0, APP, "R", PEER, 1)
    trace.switch(200 * US, 0, PEER, "S", APP)
    trace.options["filled"]["sched_waking"] = ["kstack"]
    trace.options["kinds"] = ["sched_switch", "sched_waking"]
    assert printed(trace, "-f", "-t", "4449").out == "wrk:worker_0;main;--; 20\n"


def test_the_waker_of_a_wait_whose_begin_is_lost_is_not_given_to_the_next(trace: Any, printed: Any) -> None:
    trace.stack(1, "main").stack(3, "try_to_wake_up")
    trace.lost(100 * US, 110 * US, 1, "sched")  # its going to sleep
    trace.waking(140 * US, 1, "idle", APP, "softirq", 3, kstack=3)
    trace.switch(150 * US, 0, "idle", "R", APP)
    trace.switch(160 * US, 0, APP, "R", PEER, 1)
    trace.switch(170 * US, 0, PEER, "S", APP)
    trace.switch(180 * US, 0, APP, "R", PEER, 1)
    trace.switch(200 * US, 0, PEER, "S", APP)
    trace.options["filled"]["sched_waking"] = ["kstack"]
    assert printed(trace, "-f", "-t", "4449").out == "wrk:worker_0;main;--; 20\n"
