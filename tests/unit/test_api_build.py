"""Questions built without text are the questions that one would have typed, and values stay values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tracectl
from tracectl import q
from tracectl.query import Scene, parse, plan
from tracectl.query.nouns import NOUNS

Make = Callable[[], tracectl.Question]


def sql(question: str) -> tuple[str, dict[str, Any]]:
    """What it compiles to."""
    made = plan(parse(question), Scene(end_ts=10**12, clocks=((1, 10**18),)), settled=True)
    return re.sub(r"_\d+\b", "", made.select.sql()), made.parameters  # joins are numbered by their place in the text


@pytest.mark.parametrize(
    ("built", "typed"),
    [
        (q.wakeups.of(tid=4449).by("softirq"), "wakeups of tid 4449 by softirq"),
        (q.wakeups.by("softirq net_rx", tid=10).count("comm"), "wakeups by softirq net_rx or tid 10 | count by comm"),
        (q.sleeps.not_by("timer").in_state("D"), "sleeps not by timer in state D"),
        (q.delays.of(pid=4182).over("1ms").top(10, by="dur"), "delays of pid 4182 over 1ms | top 10 by dur"),
        (q.runq_latencies.percentiles(50, 99.9, by="comm"), "runq latencies | p50,p99.9 dur by comm"),
        (q.delays.under(timedelta(milliseconds=1)).limit(3), "delays under 1ms | limit 3"),
        (q.runs.of(comm="wrk:*").sum("dur", by=["comm", "cpu"]), 'runs of comm "wrk:*" | sum dur by comm, cpu'),
        (q.runs.of(comm=["a b", "c"]).avg("dur"), 'runs of comm "a b" or comm c | avg dur'),
        (q.runs.on(cpu="0-3").max("dur").select("max_dur"), "runs on cpu 0-3 | max dur | select max_dur"),
        (q.runs.on(cpu=[0, 2]).min("dur"), "runs on cpu 0,2 | min dur"),
        (q.connections.on(port=80, cpu=1), "connections on port 80 on cpu 1"),
        (q.connections.on(socket="0xffff9f5e53bfbd40"), "connections on socket 0xffff9f5e53bfbd40"),
        (q.wakeups.after("1s").before("2s").sort("-ts"), "wakeups after 1s before 2s | sort -ts"),
        (q.wakeups.between("1s", "1.5s").in_last("1s"), "wakeups between 1s and 1.5s in last 1s"),
        (q.softirqs("net_rx").over("50us"), "softirqs net_rx over 50us"),
        (q.events("sched_switch").count(), "events sched_switch | count"),
        (
            q.delays.where(cause="preempted", cpu=3, certain=True),
            "delays where cause = preempted and cpu = 3 and certain",
        ),
        (q.delays.where(certain=False), "delays where not certain"),
        (q.wakeups.after("2022-05-04T16:12:15+09:00"), "wakeups after 2022-05-04T16:12:15+09:00"),
        (q.wakeups.before(datetime(2022, 5, 4, 7, 12, tzinfo=UTC)), "wakeups before 2022-05-04T07:12:00Z"),
        (q.wakeups.around("2s", timedelta(seconds=1)), "wakeups at 2s ± 1s"),
        (q.delays.during(q.softirqs("net_rx"), "anywhere"), "delays during softirqs net_rx anywhere"),
        (q.wakeups.followed_by(q.accepts.on(fd=3), "1ms"), "wakeups followed by accepts on fd 3 within 1ms"),
        (q.wakeups.not_followed_by(q.accepts, "1ms").count(), "wakeups not followed by accepts within 1ms | count"),
        (
            q.wakeups.of(tid=1).by("softirq").not_followed_by(q.accepts, within="1ms"),
            "wakeups of tid 1 by softirq not followed by accepts within 1ms",
        ),
        (q.sleeps.after_row(q.closes, "5ms", "same pid"), "sleeps after closes within 5ms same pid"),
        (q.delays.histogram(by="comm"), "delays | histogram dur by comm"),
        (q.wakeups.rate("1s"), "wakeups | rate 1s"),
        (q.wakeups.also("in last 5s").also("| limit 3"), "wakeups in last 5s | limit 3"),
    ],
)
def test_the_same_sql(built: tracectl.Question, typed: str) -> None:
    assert sql(str(built)) == sql(typed)


def test_every_noun_is_there() -> None:
    assert dir(q) == sorted(noun.name for noun in NOUNS)
    for noun in NOUNS:
        assert parse(str(getattr(q, noun.name))).noun is noun
    with pytest.raises(AttributeError, match="did you mean"):
        _ = q.wakups


@pytest.mark.parametrize("name", ["x' | count", "or tid 1", "a -- b", "%_\\", "日本", "}{", "\x1b[31m", 'say "hi"'])
def test_a_name_is_nothing_but_a_name(name: str) -> None:
    made = plan(parse(str(q.wakeups.of(comm=name))), Scene(), settled=True)
    assert list(made.parameters.values()) == [name] and made.stages == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: q.wakeups.of(comm="a'\"b"),
        lambda: q.wakeups.of(comm="a\nb"),
        q.wakeups.of,
        lambda: q.wakeups.by("softirq | count"),
        lambda: q.wakeups.over("10"),
        lambda: q.wakeups.after("2022-05-04T16:12:15"),
        lambda: q.wakeups.after(datetime(2022, 5, 4)),
        lambda: q.wakeups.during(q.softirqs.count()),
        lambda: q.wakeups.during(q.softirqs, "same cpu | count"),
        lambda: q.wakeups.over("1ms | count"),
        lambda: q.wakeups.on(cpu="0 | count"),
        lambda: q.wakeups.count("comm, tid"),
        lambda: q.wakeups.where(**{"1 = 1 or cpu": 3}),
        lambda: q.wakeups.count().of(tid=3),
    ],
)
def test_what_cannot_be_written_is_refused(make: Make) -> None:
    with pytest.raises(tracectl.UserError) as caught:
        make()
    assert caught.value.remedy


def test_questions_are_values() -> None:
    base = q.wakeups.of(tid=1)
    assert base.count() != base and str(base) == "wakeups of tid 1" and base == q.wakeups.of(tid=1)
    assert len({base, q.wakeups.of(tid=1)}) == 1 and repr(base) == "<question: wakeups of tid 1>"
