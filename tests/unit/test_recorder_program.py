"""The generated program: C that compiles, whole, in the right order, reading where the kernel's own tables say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tracectl.recorder import filters, selection, tracefs
from tracectl.recorder.filters import TaskFilter
from tracectl.recorder.program import COUNTERS_PER_STREAM, Source, generate, streams_of_function
from tracectl.recorder.selection import select
from tracectl.recorder.tracefs import Format, FormatField, parse_format
from tracectl.store.errors import RecordError
from tracectl.store.events import GROUPS, KINDS

VECTORS = ("local_timer", "reschedule", "irq_work", "thermal_apic")
RUN_TIME = {
    "9p:9p_client_req": "field:void * clnt; offset:8; size:8; signed:0;\n"
    "field:char line[32]; offset:16; size:32; signed:0;",
    "sched:sched_stat_runtime": "field:__data_loc char[] comm; offset:8; size:4; signed:0;\n"
    "field:u16 small; offset:14; size:2; signed:0;",
}
TRACEPOINTS = frozenset(
    {p for event in KINDS.values() for p in event.probes if not re.search(r"\*|^(fentry|fexit|perf):", p)}
    | {f"irq_vectors:{name}_{end}" for name in VECTORS for end in ("entry", "exit")}
    | {"task:task_rename", "sched:sched_process_free", *RUN_TIME}
)


class FakeBtf:
    """Offsets made up from the names, so that each can be told from the others."""

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.known: dict[str, int] = {}

    def func_args(self, name: str) -> list[tuple[str, str]]:
        return {
            "inet_csk_accept": [("sk", ""), ("flags", ""), ("err", ""), ("kern", "")],
            "btf_trace_sched_switch": [("preempt", ""), ("prev", ""), ("next", ""), ("prev_state", "")],
        }[name]

    def offset(self, *paths: str) -> int:
        for path in paths:
            if path not in self.missing:
                return self.known.setdefault(path, 4096 + 8 * len(self.known))
        raise RecordError(f"this kernel has no struct member {' nor '.join(paths)}")


def fake_format(tracepoint: str) -> Format:
    """Every field that the catalogue reads of a tracepoint, 8 bytes each."""
    if tracepoint in RUN_TIME:
        return parse_format(RUN_TIME[tracepoint])
    code = " ".join(c.c for event in KINDS.values() if tracepoint in event.probes for c in event.fields)
    names = dict.fromkeys(re.findall(r"(?:args->|DATA_LOC\()(\w+)", code))
    arrays = {"next_comm": "char next_comm[16]", "saddr_v6": "u8 saddr_v6[16]", "daddr_v6": "u8 daddr_v6[16]"}
    arrays["filename"] = "__data_loc char[] filename"
    fields = [FormatField(arrays.get(n, f"long {n}"), n, 16 + 16 * i, 8, i % 2 == 0) for i, n in enumerate(names)]
    return Format(tuple(fields), "")


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "cgroup.procs").touch()
    monkeypatch.setattr(tracefs, "tracepoints", lambda: TRACEPOINTS)
    monkeypatch.setattr(tracefs, "read_format", fake_format)
    monkeypatch.setattr(selection, "untraceable", lambda function: "")
    monkeypatch.setattr(filters, "cgroup_mount", lambda: tmp_path)


def made(
    names: tuple[str, ...] = (), task_filter: TaskFilter | None = None, btf: Any = None, stacks: tuple[str, ...] = ()
) -> Source:
    return generate(select(names, stacks), task_filter or TaskFilter(), btf or FakeBtf())


ALL = (*GROUPS, *RUN_TIME)
SELECTIONS = ((), ALL, ("sched_waking",), ("epoll",), ("net", "sched_switch"), tuple(RUN_TIME))
FILTERS = (
    TaskFilter(),
    TaskFilter(pids=(1, 2)),
    TaskFilter(tids=(3,)),
    TaskFilter(comms=("wrk:*", "größe")),
    TaskFilter(cgroups=("/a/b",)),
    TaskFilter((1,), (2,), ("x",), ("/a/b",)),
)
# What BCC's own rewriting gives the program, as plain C.
PRELUDE = """
typedef unsigned long long u64; typedef long long s64; typedef unsigned u32; typedef int s32;
typedef unsigned short u16; typedef short s16; typedef unsigned char u8; typedef signed char s8;
struct bpf_raw_tracepoint_args { u64 args[12]; };
struct pt_regs { u64 ip, parm[6], rc; };
#define PT_REGS_IP(regs) ((regs)->ip)
#define PT_REGS_RC(regs) ((regs)->rc)
#define PT_REGS_PARM1(regs) ((regs)->parm[0])
#define PT_REGS_PARM2(regs) ((regs)->parm[1])
#define PT_REGS_PARM3(regs) ((regs)->parm[2])
#define PT_REGS_PARM4(regs) ((regs)->parm[3])
#define PT_REGS_PARM5(regs) ((regs)->parm[4])
#define PT_REGS_PARM6(regs) ((regs)->parm[5])
long bpf_probe_read_user(void *, u32, const void *); long bpf_probe_read_user_str(void *, u32, const void *);
u64 bpf_ktime_get_ns(void); u64 bpf_get_current_pid_tgid(void); u64 bpf_get_current_ancestor_cgroup_id(int);
long bpf_get_current_comm(void *, u32); long bpf_probe_read_kernel(void *, u32, const void *);
long bpf_probe_read_kernel_str(void *, u32, const void *);
#define lock_xadd(p, n) __sync_fetch_and_add(p, n)
#define __always_inline inline __attribute__((always_inline))
#define MAP(name, K, V) struct { V *(*lookup)(K *); int (*update)(K *, V *); void (*delete)(K *); \
    V *(*lookup_or_try_init)(K *, V *); } name
#define BPF_HASH(name, K, V, n) MAP(name, K, V)
#define BPF_ARRAY(name, V, n) MAP(name, int, V)
#define BPF_PERCPU_ARRAY(name, V, n) MAP(name, int, V)
#define BPF_TABLE(type, K, V, name, n) MAP(name, K, V)
long bpf_get_stack(void *, void *, u32, u64); u64 bpf_get_current_task(void);
#define BPF_PERF_OUTPUT(name) struct { int (*perf_submit)(void *, void *, u32); } name
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("task_filter", FILTERS, ids=str)
@pytest.mark.parametrize("names", SELECTIONS, ids=lambda names: ",".join(names)[:40] or "default")
def test_it_is_c(names: tuple[str, ...], task_filter: TaskFilter, tmp_path: Path) -> None:
    stacks = ("sched_switch", "sched_waking") if "epoll" not in names else ()
    text = made(names, task_filter, stacks=stacks).text.replace("#include <uapi/linux/ptrace.h>", "")
    path = tmp_path / "program.c"
    path.write_text(PRELUDE + text)
    flags = ["-fsyntax-only", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unknown-pragmas"]
    done = subprocess.run(["cc", *flags, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize("task_filter", FILTERS, ids=str)
def test_nothing_of_the_vocabulary_is_left(task_filter: TaskFilter) -> None:
    text = made(ALL, task_filter).text
    assert not re.findall(
        r"\b(ARG|BTF|OFFSET|DATA_LOC|CALLBACK|ENDPOINT)\(|\b(RETURN|PASS_ON|[KU]STACK)\b|args->[a-z_]+\b(?<!args->args)|\{[me]\}",
        text,
    )
    assert "MAX_WATCHED" not in text


@pytest.mark.parametrize("names", SELECTIONS, ids=lambda names: ",".join(names)[:40] or "default")
def test_records_streams_and_functions_fit_together(names: tuple[str, ...]) -> None:
    source = made(names)
    kinds = {record.event.kind for record in source.records.values()}
    assert kinds >= set(GROUPS["task"])
    assert set(source.streams) == {record.event.stream for record in source.records.values()}
    assert 0 not in source.records
    assert f"#define COUNTERS {COUNTERS_PER_STREAM * len(source.streams)}\n" in source.text
    functions = {function.name: function for function in source.functions}
    assert len(functions) == len(source.functions)
    assert set(functions) == set(re.findall(r"^int (\w+)\(", source.text, re.MULTILINE))
    for record in source.records.values():
        assert f"e.kind = {record.number};" in source.text
        assert f"sizeof(struct row_{record.event.kind}) == {record.dtype.itemsize}," in source.text
        for tracepoint in record.probes:
            name = f"on_{'raw_' if record.event.raw else ''}{tracepoint.replace(':', '_')}"
            assert functions[name].raw == record.event.raw
    emitting = streams_of_function(source.functions)
    assert {stream for streams in emitting.values() for stream in streams} == set(source.streams)


def body(source: Source, tracepoint: str) -> str:
    name = tracepoint.replace(":", "_")
    return re.findall(rf"^int on_(?:raw_)?{name}\(.*?^\}}", source.text, re.MULTILINE | re.DOTALL)[0]


def test_exits_are_attached_before_entries_and_readers_last() -> None:
    source = made()
    order = [function.tracepoint for function in source.functions]
    exits = [i for i, name in enumerate(order) if "context_leave" in body(source, name)]
    entries = [i for i, name in enumerate(order) if "context_enter" in body(source, name)]
    assert exits
    assert max(exits) < min(entries)
    assert order[-1] == "sched:sched_waking"
    assert order.count("sched:sched_switch") == 1
    assert body(source, "sched:sched_switch").index("context_reset") < body(source, "sched:sched_switch").index(
        "gate_open"
    )


def test_the_context_is_followed_only_for_wakeups_but_then_without_the_irq_group() -> None:
    assert "context_enter(CONTEXT" not in made(("epoll",)).text
    source = made(("sched_waking",))
    assert {record.event.kind for record in source.records.values()} == {"sched_waking", *GROUPS["task"]}
    assert "context_enter(CONTEXT_SOFTIRQ, ctx->args[0])" in body(source, "irq:softirq_entry")
    assert "perf_submit" not in body(source, "irq:softirq_entry")
    switch = {function.tracepoint: function for function in source.functions}["sched:sched_switch"]
    assert switch.raw
    assert "irq:softirq_entry" not in {f.tracepoint for f in source.functions if f.streams}


@pytest.mark.parametrize(
    ("tracepoint", "said"),
    (
        ("irq:irq_handler_entry", "context_enter(CONTEXT_HARDIRQ, ctx->args[0]);"),
        ("timer:hrtimer_expire_entry", "context_enter(CONTEXT_HRTIMER, NO_VECTOR);"),
        ("irq_vectors:local_timer_entry", "context_enter(CONTEXT_HRTIMER, NO_VECTOR);"),
        ("irq_vectors:reschedule_entry", "context_enter(CONTEXT_IPI, ctx->args[0]);"),
        ("irq_vectors:thermal_apic_entry", "context_enter(CONTEXT_HARDIRQ, ctx->args[0]);"),
        ("irq_vectors:thermal_apic_exit", "context_leave(CONTEXT_HARDIRQ);"),
        ("irq_vectors:local_timer_exit", "context_leave(CONTEXT_HRTIMER);"),
        ("irq:softirq_exit", "context_leave(CONTEXT_SOFTIRQ);"),
    ),
)
def test_each_interrupt_is_a_context_of_its_class(tracepoint: str, said: str) -> None:
    assert said in body(made(), tracepoint)


def test_delivery_does_not_trace_itself() -> None:
    source = made()
    for end in ("entry", "exit"):
        text = body(source, f"irq_vectors:irq_work_{end}")
        assert "perf_submit" not in text
        assert "context_" in text
    assert "e.vector = 1;" in body(source, "irq_vectors:local_timer_entry")
    assert source.records[1].event.kind == "sched_switch"


def test_fields_are_read_where_the_kernel_has_them() -> None:
    btf = FakeBtf("task_struct.thread_info.cpu")
    source = made(ALL, None, btf)
    assert f"e.target_cpu = read_s32((u64)ctx->args[0] + {btf.known['task_struct.cpu']});" in source.text
    comm = btf.known["task_struct.comm"]
    assert f"sizeof(e.target_comm), (void *)(ctx->args[0] + {comm}));" in body(source, "sched:sched_waking")
    switch = body(source, "sched:sched_switch")
    found = {field.name: field for field in fake_format("sched:sched_switch").fields}
    assert f"(void *)(((char *)args + {found['next_comm'].offset}))" in switch
    state = found["prev_state"]
    assert f"e.prev_state = (*({'s' if state.signed else 'u'}64 *)((char *)args + {state.offset}));" in switch
    run_time = body(source, "sched:sched_stat_runtime")
    assert "((char *)args + (*(u32 *)((char *)args + 8) & 0xffff))" in run_time
    assert "(s64)(*(u16 *)((char *)args + 14))" in run_time


def test_a_member_this_kernel_lacks_is_named() -> None:
    with pytest.raises(RecordError, match=r"task_struct\.prio"):
        made((), None, FakeBtf("task_struct.prio"))


@pytest.mark.parametrize("task_filter", FILTERS[1:], ids=str)
def test_a_filter_looks_at_all_whom_an_event_is_about(task_filter: TaskFilter) -> None:
    source = made((), task_filter)
    for record in source.records.values():
        for tracepoint in record.probes:
            text = body(source, tracepoint)
            if "perf_submit" in text:
                assert text.count("is_watched(") == len(record.event.subjects)
                assert text.index("is_watched(") < text.index("count(")
    # In before the event is tested: the birth itself is recorded.
    born = body(source, "sched:sched_wakeup_new")
    assert born.index("watch(") < born.index("is_watched(")
    assert body(source, "sched:sched_process_free")


def test_what_is_counted_as_emitted_is_handed_over() -> None:
    """Between the count and the ring nothing may return, else the ledger never adds up (a failed accept did)."""
    source = made()
    seen = set()
    for record in source.records.values():
        for tracepoint in record.probes:
            text = body(source, tracepoint)
            if "perf_submit" in text:
                seen.add(record.event.kind)
                assert "return" not in text[text.index("count(") : text.index("perf_submit")]
    assert {"inet_csk_accept", "ep_poll_callback", "sched_waking", "sched_switch"} <= seen


def test_without_a_filter_there_is_no_test() -> None:
    assert "watch" not in made().text
    assert "task:task_rename" not in {function.tracepoint for function in made().functions}
