"""Probes as typed: what is understood, what is said of the rest, and that nothing typed gets into the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracectl.recorder import functions, selection
from tracectl.recorder.functions import event_of, kind_name
from tracectl.recorder.probe_spec import Argument, Kept, Load, Member, Sum, is_spec, parse_spec
from tracectl.recorder.selection import split_names
from tracectl.store.errors import QueryError


def test_a_probe_is_read() -> None:
    spec = parse_spec("uprobe:/usr/bin/envoy:*FileEventImpl*assignEvents*(fd:int=arg0, events:u16=arg1,name:str=arg2)")
    assert (spec.kind, spec.file, spec.symbol) == ("uprobe", "/usr/bin/envoy", "*FileEventImpl*assignEvents*")
    assert spec.kept == (
        Kept("fd", "int", Argument(0)), Kept("events", "u16", Argument(1)), Kept("name", "str", Argument(2)),
    )  # fmt: skip
    assert kind_name(spec) == "fileeventimpl_assignevents"
    assert parse_spec("kprobe:vfs_read").kept == ()
    assert parse_spec("uretprobe:libc:malloc(ret)").kept == (Kept("ret", "s64", Argument(-1)),)
    assert parse_spec("uretprobe:c:read( r : s32 = retval )").kept == (Kept("r", "s32", Argument(-1)),)
    assert parse_spec("uprobe:/x:Envoy::Network::assign").symbol == "Envoy::Network::assign"
    usdt = parse_spec("usdt:/usr/bin/python3:python:function__*(file:str=arg0,last=arg11)")
    assert (usdt.kind, usdt.file, usdt.symbol) == ("usdt", "/usr/bin/python3", "python:function__*")
    assert usdt.kept == (Kept("file", "str", Argument(0)), Kept("last", "s64", Argument(11)))
    assert kind_name(usdt) == "python_function"
    assert kind_name(parse_spec("usdt:x:python:function__entry")) == "python_function__entry"
    assert parse_spec("usdt:x:gc__start").symbol == "gc__start"


def test_values() -> None:
    kept = parse_spec("kprobe:f(a=arg0 + 8, b:u8=*(arg1 - 0x10), c=*(*(arg0)+4), d:u16=arg2->sk.num)").kept
    assert [one.value for one in kept[:3]] == [
        Sum(Argument(0), 8), Load(Sum(Argument(1), -16)), Load(Sum(Load(Argument(0)), 4)),
    ]  # fmt: skip
    assert isinstance(kept[3].value, Member)
    assert (kept[3].value.pointer, kept[3].value.path) == (Argument(2), "sk.num")


def test_commas_between_parentheses_separate_nothing() -> None:
    assert split_names(["sched,kprobe:f(a=arg0,b=arg1),net", " task "]) == [
        "sched",
        "kprobe:f(a=arg0,b=arg1)",
        "net",
        "task",
    ]
    assert is_spec("uprobe:/x:y")
    assert not is_spec("sched:sched_switch")


WRONG = """
uprobe:malloc
a file and a function are needed
  uprobe:malloc
         ^^^^^^
  uprobe:/usr/bin/envoy:*assignEvents*

kprobe:
the function is missing
  kprobe:
         ^
  its name, or a pattern with *

kprobe:f(fd:strange=arg0)
there is no type "strange"
  kprobe:f(fd:strange=arg0)
              ^^^^^^^
  types: s8, u8, s16, u16, s32, u32, s64, u64, int, uint, ptr, str

kprobe:f(fd=arg6)
there is no value "arg6"
  kprobe:f(fd=arg6)
              ^^^^
  arg0 … arg5, ret

kprobe:f(fd=ret)
a function has returned nothing yet when it begins
  kprobe:f(fd=ret)
              ^^^
  kretprobe:…

uretprobe:/x:f(fd=arg0)
arguments are gone when a function returns
  uretprobe:/x:f(fd=arg0)
                    ^^^^
  ret, or a probe of its begin

kprobe:f(fd=arg0
the probe ends too early
  kprobe:f(fd=arg0
                  ^
  expected: "," or ")"

kprobe:f(fd=arg0) x
nothing is understood behind ")"
  kprobe:f(fd=arg0) x
                   ^^

kprobe:f(fd=system("x"))
there is no value "system"
  kprobe:f(fd=system("x"))
              ^^^^^^
  arg0 … arg5, ret

uprobe:/x:f(a=arg0->b)
only a kernel function's arguments have members
  uprobe:/x:f(a=arg0->b)
                    ^^
  *(value + offset) reads at an address

kprobe:f(a=*(arg0)+4)
nothing can be added to what is loaded
  kprobe:f(a=*(arg0)+4)
             ^^^^^^^^^
  add it in the question

usdt:python3
a file and a probe are needed
  usdt:python3
       ^^^^^^^
  usdt:/usr/bin/python3:python:gc__*

usdt:python3:
the probe is missing
  usdt:python3:
               ^
  provider:name, or a pattern with *

usdt:x:p:n(a=ret)
there is no value "ret"
  usdt:x:p:n(a=ret)
               ^^^
  arg0 … arg11

usdt:x:p:n(a=arg12)
there is no value "arg12"
  usdt:x:p:n(a=arg12)
               ^^^^^
  arg0 … arg11

kprobe:f(a=arg0, A=arg1)
two fields are called "a"
  kprobe:f(a=arg0, A=arg1)
  ^^^^^^^^^^^^^^^^^^^^^^^^
  give each a name of its own
"""


@pytest.mark.parametrize("case", WRONG.strip().split("\n\n"), ids=lambda case: case.partition("\n")[0])
def test_what_is_said_of_a_wrong_probe(case: str) -> None:
    text, _, said = case.partition("\n")
    with pytest.raises(QueryError) as caught:
        parse_spec(text)
    assert str(caught.value) == said


def test_what_is_typed_does_not_get_into_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_traceable", lambda: frozenset(("do_it", "do_more", "do_most")))
    event = event_of(parse_spec("kprobe:do_*(evil_name:u16=*(arg1+4), text:str=arg2)"))
    assert event.probes == ("kprobe:do_it", "kprobe:do_more", "kprobe:do_most")
    assert [column.name for column in event.fields] == ["do__symbol", "do__evil_name", "do__text"]
    codes = [column.c for column in event.fields]
    assert codes == [
        "PROBE", "LOAD(kernel, u16, ((u64)PT_REGS_PARM2(ctx) + (4LL)))", "(u64)PT_REGS_PARM3(ctx)",
    ]  # fmt: skip


def test_a_realtime_kernel_cannot_tell_what_a_wakeup_came_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its callbacks can be preempted."""
    monkeypatch.setattr(selection, "_REALTIME", tmp_path / "realtime")
    (tmp_path / "realtime").write_text("1\n")
    assert "PREEMPT_RT" in selection.untraceable.__wrapped__("ep_poll_callback")


def test_functions_that_there_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_traceable", lambda: frozenset(f"do_{n}" for n in range(200)))
    with pytest.raises(QueryError, match="200 functions match, at most 128"):
        event_of(parse_spec("kprobe:do_*"))
    with pytest.raises(QueryError, match="no such function"):
        event_of(parse_spec("kprobe:do_1000"))
    with pytest.raises(QueryError, match="cannot be read"):
        event_of(parse_spec("uprobe:/nowhere:x"))
    with pytest.raises(QueryError, match="no program or library"):
        event_of(parse_spec("uprobe:nosuchlibraryatall:x"))
