"""Texts of every dialect as captures: heads, states, contexts, losses, what is unknown and what cannot be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracectl.query import ask
from tracectl.recorder import import_input, import_spool, import_text, import_tools
from tracectl.recorder.import_input import LONGEST_LINE, Input, blocks
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.recorder.import_spool import Totals
from tracectl.recorder.import_states import state_names
from tracectl.store.capture import Capture
from tracectl.store.errors import RecordError, StrictError, UserError

Rows = Callable[..., list[dict[str, Any]]]
SWITCH = "prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b next_pid=2 next_prio=120"
WAKING = "comm=b pid=2 prio=120 target_cpu=001"


def imported(folder: Path, *texts: str | bytes, **options: Any) -> tuple[Imported, Capture]:
    """Import texts, a file each."""
    names = []
    for number, text in enumerate(texts):
        path = folder / f"in [{number}] *.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        names.append(str(path))
    outcome = import_traces(ImportOptions(tuple(names), folder / "out.parquet", **options))
    return outcome, Capture.open(outcome.path)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """The rows of imported texts in order, without columns that are null."""

    def read(*texts: str | bytes, kind: str | None = None) -> list[dict[str, Any]]:
        imported(tmp_path, *texts, force=True)
        table = pq.read_table(tmp_path / "out.parquet").sort_by("seq").to_pylist()
        found = [{k: v for k, v in row.items() if v is not None} for row in table if row["kind"] != "coverage"]
        return [row for row in found if kind in (None, row["kind"])]

    return read


HEADS = {
    "          a-1     [003] d..2.  12.000345: sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "     my prog-1     [003] d..2  12.000345: sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a-1     (  77) [003] d..2.  12.000345: sched_switch: ": ("a", 1, 77, 3, 12_000_345_000),
    "a-1     (-----) [003] d..2.  12.000345: sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a-1     [003]  12.000345: sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a-1     [003]  12.000345678: sched_switch:   ": ("a", 1, None, 3, 12_000_345_678),
    "a-1     [003] ....12.000345: sched_switch:   ": ("a", 1, None, 3, 12_000_345_000),
    "a 1 [003] 12.000345: sched:sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a 77/1 [003] 12.000345678:    1 sched:sched_switch: ": ("a", 1, 77, 3, 12_000_345_678),
    "a     1  12.000345: sched:sched_switch: ": ("a", 1, None, None, 12_000_345_000),
    "  :-1    -1 [003] 12.000345: sched:sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a 1.000000: b-1 [003] d..1 12.000345: sched_switch: ": ("a", 1, None, 3, 12_000_345_000),
    "a 1234567890-1 [3] 1700000000.000345: sched_switch: ": ("a", 1, None, 3, 1_700_000_000_000_345_000),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads(rows: Rows, head: str) -> None:
    (row,) = rows(head + SWITCH + "\n")
    assert (row["comm"], row["tid"], row.get("pid"), row.get("cpu"), row["ts"]) == HEADS[head]
    assert (row["prev_state"], row["next_comm"], row["next_tid"], row["next_prio"]) == ("S", "b", 2, 120)


@pytest.mark.parametrize(
    ("head", "comm", "tid"),
    [
        ("<...>-5 [000]", None, 5),
        ("<idle>-0 [002]", "swapper/2", 0),
        ("swapper 0 [002]", "swapper/2", 0),
        (":-1 -1 [000]", None, None),
        (":1234 1234 [000]", None, 1234),
        ("File appending -9 [000]", "File appending ", 9),
        ("a-b-9 [000]", "a-b", 9),
        ("x [0] y-9 [000]", "x [0] y", 9),
    ],
)
def test_who_was_current(rows: Rows, head: str, comm: str | None, tid: int | None) -> None:
    (row,) = rows(f"{head} 1.000000: sched_waking: {WAKING}")
    assert (row.get("comm"), row.get("tid")) == (comm, tid)
    assert (row["target_comm"], row["target_tid"], row["target_prio"], row["target_cpu"]) == ("b", 2, 120, 1)


FLAGS = {".": "task", "s": "softirq", "h": "hardirq", "H": "hardirq", "z": "nmi", "Z": "nmi"}


@pytest.mark.parametrize("flag", FLAGS)
def test_context_by_flags(rows: Rows, flag: str) -> None:
    (row,) = rows(f"a-1 [000] dN{flag}3. 1.000000: sched_waking: {WAKING}")
    assert (row["context"], row["context_source"]) == (FLAGS[flag], "flags")
    assert "context_vec" not in row


def test_the_softirq_of_a_flag_is_the_one_that_runs(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "a-1 [000] ..s.. 1.000001: softirq_entry: vec=3 [action=NET_RX]",
        "a-1 [001] ..s.. 1.000002: softirq_entry: vec=1 [action=TIMER]",
        f"a-1 [000] d.s2. 1.000003: sched_waking: {WAKING}",
        f"a-1 [000] d.H2. 1.000004: sched_waking: {WAKING}",
        f"a-1 [001] d.s2. 1.000005: sched_waking: {WAKING}",
        "a-1 [000] ..s.. 1.000006: softirq_exit: vec=3 [action=NET_RX]",
        f"a-1 [000] d.s2. 1.000007: sched_waking: {WAKING}",
        f"a-1 [001] d.s2. 1.000008: sched_waking: {WAKING}",
    ]
    wanted = [("softirq", 3), ("hardirq", None), ("softirq", 1), ("softirq", None), ("softirq", 1)]
    text = "\n".join(lines)
    assert [(r["context"], r.get("context_vec")) for r in rows(text, kind="sched_waking")] == wanted
    monkeypatch.setattr(import_input, "HEAD_BYTES", 70)  # every block a line: the state goes from block to block
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 70)
    assert [(r["context"], r.get("context_vec")) for r in rows(text, kind="sched_waking")] == wanted


BEHIND_LOSSES = {
    "CPU:0 [LOST 30 EVENTS]": (None, 1),
    "CPU:1 [LOST EVENTS]": (3, None),
    "[30 EVENTS DROPPED]": (None, None),
    "a-1 [000] 1.000003: PERF_RECORD_LOST lost 3": (None, 1),
}


@pytest.mark.parametrize("block", [1 << 20, 70])
@pytest.mark.parametrize("loss", BEHIND_LOSSES)
def test_a_softirq_is_not_the_one_before_a_loss(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, loss: str, block: int
) -> None:
    """Its exit and the next one's entry may be what was lost."""
    lines = [
        "a-1 [000] ..s.. 1.000001: softirq_entry: vec=3 [action=NET_RX]",
        "a-1 [001] ..s.. 1.000002: softirq_entry: vec=1 [action=TIMER]",
        loss,
        f"a-1 [000] d.s2. 1.000004: sched_waking: {WAKING}",
        f"a-1 [001] d.s2. 1.000005: sched_waking: {WAKING}",
        "a-1 [000] ..s.. 1.000006: softirq_entry: vec=7 [action=SCHED]",
        f"a-1 [000] d.s2. 1.000007: sched_waking: {WAKING}",
    ]
    monkeypatch.setattr(import_input, "HEAD_BYTES", block)
    monkeypatch.setattr(import_input, "BLOCK_BYTES", block)
    found = [(row["context"], row.get("context_vec")) for row in rows("\n".join(lines), kind="sched_waking")]
    assert found == [("softirq", vec) for vec in (*BEHIND_LOSSES[loss], 7)]


def test_no_softirq_has_a_name_where_perf_lost_chunks(rows: Rows) -> None:
    lines = [
        "a-1 [000] ..s.. 1.000001: softirq_entry: vec=3 [action=NET_RX]",
        f"a-1 [000] d.s2. 1.000004: sched_waking: {WAKING}",
        "Processed 5 events and lost 3 chunks!",
    ]
    (row,) = rows("\n".join(lines), kind="sched_waking")
    assert (row["context"], row.get("context_vec")) == ("softirq", None)
    (row,) = rows("\n".join(lines[:2]), kind="sched_waking")
    assert (row["context"], row["context_vec"]) == ("softirq", 3)


CHAINS = {
    ("try_to_wake_up", "ep_poll_callback", "tcp_data_ready", "net_rx_action", "__do_softirq"): ("softirq", 3),
    ("try_to_wake_up", "handle_softirqs", "irq_exit_rcu", "asm_sysvec_apic_timer_interrupt"): ("softirq", None),
    ("hrtimer_wakeup", "__hrtimer_run_queues", "hrtimer_interrupt", "net_rx_action"): ("hrtimer", None),
    ("try_to_wake_up", "sysvec_reschedule_ipi"): ("ipi", None),
    ("try_to_wake_up", "handle_irq_event", "common_interrupt"): ("hardirq", None),
    ("try_to_wake_up", "do_futex", "do_syscall_64"): ("task", None),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_context_by_call_chain(rows: Rows, chain: tuple[str, ...]) -> None:
    frames = "".join(f"\tffffffff810b1234 {name}+0x1c ([kernel.kallsyms])\n" for name in chain)
    first, last = rows(
        f"a 1 [000] 1.000000: sched:sched_waking: {WAKING}\n{frames}\n"
        f"a 1 [000] 1.000001: sched:sched_waking: {WAKING}\n",
        kind="sched_waking",
    )
    assert (first["context"], first.get("context_vec"), first["context_source"]) == (*CHAINS[chain], "stack")
    assert (last["context"], last["context_source"]) == ("unknown", "unknown")


def test_context_that_the_text_does_not_tell_comes_from_the_spans(tmp_path: Path) -> None:
    text = (
        f"a 1 [000] 1.000000: sched:sched_switch: {SWITCH}\n"
        "a 1 [000] 1.000001: irq:softirq_entry: vec=3 [action=NET_RX]\n"
        f"b 2 [000] 1.000002: sched:sched_waking: {WAKING}\n"
        "a 1 [000] 1.000003: irq:softirq_exit: vec=3 [action=NET_RX]\n"
    )
    _, capture = imported(tmp_path, text)
    assert ask(capture, "wakeups | select context, vec_name, context_source").rows() == [("softirq", "NET_RX", "spans")]


def test_states_as_numbers_have_the_kernel_s_letters() -> None:
    assert state_names(["0", "1", "128", "256", "S", "R+"]) == {"0": "R", "1": "S", "128": "I", "256": "R+"}
    assert state_names(["0", "2", "64", "4096", "1026"]) == {
        "0": "R", "2": "D", "64": "x", "4096": "R+", "1026": "D|N",
    }  # fmt: skip


def test_trace_cmd_prints_the_idle_state_as_w(rows: Rows) -> None:
    (row,) = rows("k:0-46 [002] 1.000000: sched_switch:  k:0:46 [120] W ==> my:prog:7 [100]")
    assert (row["comm"], row["tid"], row["prev_state"], row["next_comm"], row["next_tid"]) == (
        "k:0", 46, "I", "my:prog", 7,
    )  # fmt: skip


OTHERS = {
    "sched_wakeup: x=1:7 [120] CPU:003": {"target_comm": "x=1", "target_tid": 7, "target_cpu": 3},
    "sched_wakeup: x:7 [120]<CANT FIND FIELD success>CPU:003": {"target_comm": "x", "target_cpu": 3},
    "sched_wakeup_new: comm=x pid=7 prio=120 success=1 target_cpu=003": {"target_tid": 7, "target_cpu": 3},
    "sched_migrate_task: comm=x pid=7 prio=120 orig_cpu=0 dest_cpu=1": {"orig_cpu": 0, "dest_cpu": 1},
    "sched_process_fork: comm=p pid=1 child_comm=c d child_pid=9": {"child_comm": "c d", "child_tid": 9},
    "sched_process_fork: parent_comm=p parent_pid=1 child_comm=c child_pid=9": {"child_tid": 9},
    "sched_process_exec: filename=/bin/a b pid=5 old_pid=4": {"filename": "/bin/a b", "tid": 5, "old_tid": 4},
    "sched_process_exit: comm=gone pid=5 prio=120 group_dead=true": {"comm": "gone", "tid": 5},
    "softirq_raise: vec=7": {"vec": 7},
    "irq_handler_entry: irq=28 name=eth0 rx": {"irq": 28, "irq_name": "eth0 rx"},
    "irq_handler_exit: irq=28 ret=handled": {"irq": 28, "ret": 1},
    "irq_handler_exit: irq=28 ret=unhandled": {"irq": 28, "ret": 0},
    "hrtimer_expire_entry: hrtimer=ffffffffffffff00 function=hrtimer_wakeup now=5": {
        "hrtimer": -256, "function": "hrtimer_wakeup",
    },
    "hrtimer_expire_entry: hrtimer=0x10 function=hrtimer_wakeup": {"hrtimer": 16, "function": "hrtimer_wakeup"},
    "hrtimer_expire_entry: hrtimer=0x10 now=5": {"hrtimer": 16},
    "hrtimer_expire_entry: hrtimer=0x10": {"hrtimer": 16},
    "hrtimer_expire_exit: hrtimer=0x10": {"hrtimer": 16},
    "sk_data_ready: family=2 protocol=6 func=sock_def_readable": {"family": 2, "protocol": 6},
    "sk_data_ready: family=AF_INET protocol=IPPROTO_TCP": {"family": 2, "protocol": 6},
    "irq_vectors:local_timer_entry: vector=236": {"kind": "irq_vector_entry", "vec": 236, "vector": "local_timer"},
    "syscalls:sys_exit_epoll_wait: 0xfffffffffffffffc": {"ret": -4},
    "sys_epoll_wait -> 0x1": {"kind": "sys_exit_epoll_wait", "ret": 1},
    "syscalls:sys_enter_close: fd: 0x0000001f": {"fd": 31},
    "sys_close(fd: 1f)": {"kind": "sys_enter_close", "fd": 31},
    "inet_sock_set_state: family=AF_INET protocol=IPPROTO_TCP sport=80 dport=9 saddr=1.2.3.4 daddr=5.6.7.8 "
    "saddrv6=::ffff:1.2.3.4 daddrv6=::ffff:5.6.7.8 oldstate=TCP_SYN_RECV newstate=TCP_ESTABLISHED": {
        "family": 2, "protocol": 6, "sport": 80, "old_state": 3, "new_state": 1, "saddr": "1.2.3.4",
    },
}  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_kinds_of_the_catalogue(rows: Rows, text: str) -> None:
    (row,) = rows(f"a-1 [000] d..1 1.000000: {text}")
    assert row | OTHERS[text] == row


def test_other_events_keep_their_fields_typed_over_the_whole_file(tmp_path: Path) -> None:
    lines = ["new: id=7 who=x y size=0x10 odd=1", "new: id=-8 who=z size=17 odd=q", "mark: B|1|slice", "new: id=9"]
    text = "".join(f"a-1 [000] .... 1.00000{i}: {line}\n" for i, line in enumerate(lines))
    outcome, capture = imported(tmp_path, text)
    assert outcome.totals.unparsed == 0
    assert ask(capture, "events new | select id, who, size, odd").rows() == [
        (7, "x y", 16, "1"), (-8, "z", 17, "q"), (9, None, None, None),
    ]  # fmt: skip
    assert ask(capture, 'events where kind = "mark" | count').rows() == [(1,)]
    assert ask(capture, "events mark | select text").rows() == [("B|1|slice",)]


def test_the_function_tracer(tmp_path: Path) -> None:
    _, capture = imported(tmp_path, "a-1 [000] d..1 1.000000: ktime_get <-sched_clock\na-1 [000] 2.000000: f.x <-g\n")
    assert ask(capture, "events function_call | select function, parent, tid").rows() == [
        ("ktime_get", "sched_clock", 1), ("f.x", "g", 1),
    ]  # fmt: skip


def test_fields_named_as_base_columns_do_not_replace_them(tmp_path: Path) -> None:
    _, capture = imported(tmp_path, "a-1 [003] .... 1.000000: migrate: cpu=x TID=9 tid=8 ts=1 kind=k")
    table = pq.read_table(capture.path).filter(pa.compute.field("kind") == "migrate")
    (row,) = table.select(["ts", "cpu", "tid", "migrate__cpu", "migrate__tid", "migrate__tid_2"]).to_pylist()
    assert list(row.values()) == [1_000_000_000, 3, 1, "x", 9, 8]


LOSSES = {
    "CPU:0 [LOST 30 EVENTS]": (0, 1_000_000_000, 3_000_000_000, 30),
    "CPU:1 [30 EVENTS DROPPED]": (1, 2_000_000_000, 4_000_000_000, 30),
    "[LOST 30 EVENTS]": (None, 2_000_000_000, 3_000_000_000, 30),
    "a 1 [001] 2.500000: PERF_RECORD_LOST lost 30": (1, 2_000_000_000, 2_500_000_000, 30),
    "a 1 [001] 2.500000: PERF_RECORD_LOST_SAMPLES lost 30": (1, 2_000_000_000, 2_500_000_000, 30),
    # Nobody counted these.
    "CPU:0 [LOST EVENTS]": (0, 1_000_000_000, 3_000_000_000, None),
    "CPU:1 [EVENTS DROPPED]": (1, 2_000_000_000, 4_000_000_000, None),
    "[LOST EVENTS]": (None, 2_000_000_000, 3_000_000_000, None),
    "CPU:0 [LOST 18446744073709551615 EVENTS]": (0, 1_000_000_000, 3_000_000_000, None),
    "a 1 [001] 2.500000: PERF_RECORD_LOST": (1, 2_000_000_000, 2_500_000_000, None),
    "a 1 [001] 2.500000: PERF_RECORD_LOST lost": (1, 2_000_000_000, 2_500_000_000, None),
    "Processed 4 events and lost 1 chunks!": (None, None, 4_000_000_000, None),
    "Processed 4 samples and lost 20.00%!": (None, None, 4_000_000_000, None),
}


@pytest.mark.parametrize("line", LOSSES)
def test_losses_become_gaps(rows: Rows, line: str) -> None:
    events = [f"a-1 [00{cpu}] d..1 {s}.000000: sched_waking: {WAKING}" for cpu, s in ((0, 1), (1, 2), (0, 3), (1, 4))]
    text = "\n".join([*events[:2], line, *events[2:]])
    (row,) = rows(text, kind="lost")
    assert (row.get("cpu"), row.get("from_ts"), row["ts"], row.get("lost_count")) == LOSSES[line]
    assert not rows(text, kind="unparsed")


@pytest.mark.parametrize("line", [line for line, gap in LOSSES.items() if gap[3] is None])
def test_a_loss_without_a_count_is_not_known_how_large(tmp_path: Path, line: str) -> None:
    lines = [f"a-1 [000] 1.000000: sched_switch: {SWITCH}", "CPU:1 [LOST 30 EVENTS]", line]
    text = "\n".join([*lines, f"b-2 [000] 3.000000: sched_waking: {WAKING}"])
    outcome, capture = imported(tmp_path, text)
    assert (outcome.totals.lost, outcome.totals.uncounted) == (30, 1)
    counted = ask(capture, "switches | count")
    assert not counted.qualification.exact
    assert counted.qualification.at_most is None
    assert "not known how many missing" in str(counted.qualification)
    assert ask(capture, "runs | sum dur").qualification.at_most is None
    # What is not counted takes no part in a sum as if it were nothing, and may be larger than anything.
    assert ask(capture, "lost | sum lost_count").rows() == [(None,)]
    assert ask(capture, "lost | max lost_count").rows() == [(None,)]
    assert ask(capture, "lost | p50 lost_count").rows() == [(None,)]
    assert ask(capture, "lost where lost_count is not null | sum lost_count").rows() == [(30,)]
    many = ask(capture, "lost where lost_count > 10 | count")
    assert (many.qualification.exact, many.qualification.undetermined) == (False, 1)
    assert many.rows()[0][0] == 1


def test_a_sum_of_counted_losses_is_exact(tmp_path: Path) -> None:
    text = f"a-1 [000] 1.000000: sched_switch: {SWITCH}\nCPU:1 [LOST 30 EVENTS]\n[LOST 12 EVENTS]"
    _, capture = imported(tmp_path, text)
    answer = ask(capture, "lost where lost_count > 10 | sum lost_count")
    assert answer.qualification.exact
    assert answer.rows() == [(42,)]


def test_an_overwritten_buffer_is_a_gap_before_the_first_events(rows: Rows) -> None:
    header = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 100/250   #P:2\n"
    text = "".join(f"a-1 [00{cpu}] d..1 {s}.000000: sched_waking: {WAKING}\n" for cpu, s in ((0, 1), (1, 2), (0, 3)))
    (row,) = rows(header + text, kind="lost")
    assert (row["lost_count"], row["ts"]) == (150, 2_000_000_000)
    assert "from_ts" not in row
    assert "cpu" not in row
    assert rows(header.replace("250", "100") + text, kind="lost") == []


def test_what_was_overwritten_reaches_to_the_first_event_of_the_last_cpu(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_input, "HEAD_BYTES", 130)  # a CPU's first event comes in a later block
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 130)
    header = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 100/250   #P:2\n"
    events = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (0, 6))
    text = "".join(f"a-1 [00{cpu}] d..1 {s}.000000: sched_waking: {WAKING}\n" for cpu, s in events)
    for cpus in ("2", "4"):
        (row,) = rows(header.replace("#P:2", f"#P:{cpus}") + text, kind="lost")
        assert (row["lost_count"], row["ts"]) == (150, 5_000_000_000)
        seqs = [row["seq"] for row in rows(header + text)]
        assert seqs == sorted(set(seqs))


def test_the_names_of_interrupts_are_in_the_footer(tmp_path: Path) -> None:
    lines = ["irq_handler_entry: irq=28 name=eth0 rx", "irq_handler_entry: irq=28 name=usb1"]
    lines += ["irq_handler_exit: irq=28 ret=handled", "irq_handler_entry: irq=9 name=acpi"] * 2
    _, capture = imported(tmp_path, "".join(f"a-1 [000] d.h. 1.00000{n}: {line}\n" for n, line in enumerate(lines)))
    assert capture.footer.names == {"irq": {"9": "acpi", "28": "eth0 rx, usb1"}}


def test_lines_that_cannot_be_read_are_kept_and_told(tmp_path: Path) -> None:
    text = (
        f"a-1 [000] d..1 1.000000: sched_waking: {WAKING}\nwhat is this\na-1 [000] d..1 2.000000: sched_waking: comm=\n"
    )
    outcome, capture = imported(tmp_path, text)
    assert outcome.totals.unparsed == 2
    assert [line for line, _ in outcome.totals.examples] == [2, 3]
    table = pq.read_table(capture.path).sort_by("seq").to_pylist()
    kept = [(row["line"], row["ts"], row["text"]) for row in table if row["kind"] == "unparsed"]
    assert kept == [
        (2, 1_000_000_000, "what is this"),
        (3, 2_000_000_000, "a-1 [000] d..1 2.000000: sched_waking: comm="),
    ]
    with pytest.raises(StrictError, match=r"2 lines could not be read \(line 2: what is this"):
        imported(tmp_path, text, force=True, strict=True)


def test_several_files_become_one_order(rows: Rows) -> None:
    one = "".join(f"a-1 [000] d..1 {s}.000000: sched_waking: {WAKING}\n" for s in (1, 3, 5))
    two = "".join(f"b-2 [001] d..1 {s}.000000: sched_waking: {WAKING}\n" for s in (2, 3, 4))
    got = rows(one, two, kind="sched_waking")
    assert [(row["ts"] // 10**9, row["tid"]) for row in got] == [(1, 1), (2, 2), (3, 1), (3, 2), (4, 2), (5, 1)]
    seqs = [row["seq"] for row in got]
    assert sorted(set(seqs)) == seqs


def test_equal_times_stay_in_the_text_s_order(rows: Rows) -> None:
    lines = [
        f"a-{tid} [00{cpu}] d..1 1.000000: sched_waking: {WAKING}" for tid, cpu in ((1, 1), (2, 0), (3, 1), (4, 0))
    ]
    assert [row["tid"] for row in rows("\n".join(lines), kind="sched_waking")] == [1, 2, 3, 4]


def test_windows_on_disk_give_the_same_rows(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        f"a-{i} [000] d..1 {i}.000000: sched_waking: {WAKING}\nx-1 [001] .... {i}.5000{i:02}: own: n={i}\n"
        for i in range(1, 60)
    ]
    whole = rows("".join(lines))
    monkeypatch.setattr(import_spool, "WINDOW_ROWS", 10)
    monkeypatch.setattr(import_input, "HEAD_BYTES", 300)
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 300)
    assert rows("".join(lines)) == whole
    assert len([row for row in whole if row["kind"] == "own"]) == 59
    assert sorted(rows("".join(reversed(lines))), key=lambda r: (r["ts"], r["kind"])) == sorted(
        whole, key=lambda r: (r["ts"], r["kind"])
    )


def test_many_own_kinds_do_not_fill_the_memory(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_text, "MOST_KINDS", 3)
    got = rows("".join(f"a-1 [000] .... 1.00000{i}: own{i}: x=1\n" for i in range(6)))
    assert [row["kind"] for row in got] == ["own0", "own1", "own2", "unparsed", "unparsed", "unparsed"]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "two gz": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
}  # fmt: skip


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_texts(rows: Rows, packer: str) -> None:
    text = f"a-1 [000] d..1 1.000000: sched_waking: {WAKING}\n".encode() * 3
    assert len(rows(PACKERS[packer](text))) == 3


@pytest.mark.parametrize("packer", ["gz", "xz", "bz2"])
def test_a_damaged_compressed_file_is_an_error(tmp_path: Path, packer: str) -> None:
    text = "".join(f"a-1 [000] d..1 {i}.000000: sched_waking: {WAKING}\n" for i in range(999)).encode()
    with pytest.raises(UserError, match="cannot be decompressed"):
        imported(tmp_path, PACKERS[packer](text)[:-30])
    assert list(tmp_path.glob("*.parquet")) == []
    assert list(tmp_path.glob(".import-*")) == []


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"a-1 [000] d..1 1.000000: sched_waking: {WAKING}\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(text)))))
    outcome = import_traces(ImportOptions(("-",), tmp_path / "out.parquet"))
    assert dict(outcome.totals.events) == {"sched_waking": 1}


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_blocks_are_whole_lines_and_nothing_is_lost(size: int) -> None:
    data = b"".join(b"line %d\n\n" % i for i in range(300)) + b"no end"
    cut = list(blocks((data[i : i + size] for i in range(0, len(data), size)), Totals()))
    assert b"".join(cut) == data
    assert all(block.endswith(b"\n") for block in cut[:-1])


def test_a_line_without_end_takes_no_memory() -> None:
    chunks = [b"x" * 100_000] * 50 + [b"\nnext\n"]
    cut = list(blocks(iter(chunks), Totals()))
    assert b"".join(cut).endswith(b"\nnext\n")
    assert sum(map(len, cut)) < 3 * LONGEST_LINE + 100_000


@pytest.mark.parametrize("size", [10, 33, 10_000])
def test_systrace_html(rows: Rows, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(import_input, "BLOCK_BYTES", size)
    line = f"a-1 [000] d..1 1.000000: sched_waking: {WAKING}\n"
    new = f'<!DOCTYPE html>\n<script>var x;</script>\n<script class="trace-data" type="text">\n{line}</script>\n<b>\n'
    old = '<html>\n<script>\n  var linuxPerfData = "\\\n' + line.replace("\n", "\\n\\\n") + '";\n</script>\n</html>\n'
    assert len(rows(new)) == 1
    assert [row["kind"] for row in rows(old)] == ["sched_waking", "unparsed"]  # the line with the closing quote


def test_perf_s_header_tells_host_and_kinds(tmp_path: Path) -> None:
    header = (
        "# ========\n# hostname : box\n# os release : 6.1.0\n# arch : x86_64\n"
        "# event : name = sched:sched_switch, , id = { 1 }, type = 2\n# ========\n#\n"
    )
    _, capture = imported(tmp_path, header + f"a 1 [000] 1.000000: sched:sched_waking: {WAKING}\n")
    assert (capture.footer.host, capture.footer.kernel, capture.footer.machine) == ("box", "6.1.0", "x86_64")
    assert capture.kinds == {"sched_switch", "sched_waking"}
    assert ask(capture, "switches | count").rows() == [(0,)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no event in"),
        (b"hello\nworld\n", r"no event in .* 2 lines could not be read \(line 1: hello; line 2: world\)"),
        (b"\x7fELF\0\0\0" + bytes(import_input.HEAD_BYTES), "is no trace that import knows"),
        (b"\x7fELF\0\0\0", "no event in"),
        (b"PAR1xxxx", "is a Parquet file"),
    ],
)
def test_what_is_no_trace(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        imported(tmp_path, content)
    assert not (tmp_path / "out.parquet").exists()


def test_arguments_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        import_traces(ImportOptions((str(tmp_path / "none"),), tmp_path / "o.parquet"))
    with pytest.raises(UserError, match="is a directory"):
        import_traces(ImportOptions((str(tmp_path),), tmp_path / "o.parquet"))
    with pytest.raises(UserError, match="no such directory"):
        import_traces(ImportOptions(("-",), tmp_path / "none" / "o.parquet"))
    (tmp_path / "there").touch()
    with pytest.raises(UserError, match="exists"):
        import_traces(ImportOptions(("-",), tmp_path / "there"))
    assert Input(str(tmp_path / "there")).head == b""


@pytest.mark.parametrize(("magic", "package"), [(b"PERFILE2", "linux-perf"), (b"\x17\x08\x44tracing", "trace-cmd")])
def test_a_binary_trace_without_its_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: bytes, package: str
) -> None:
    monkeypatch.setattr(import_tools.shutil, "which", lambda _: None)
    with pytest.raises(RecordError, match=f"not installed\n  apt install {package}"):
        imported(tmp_path, magic + bytes(100))


def test_what_a_tool_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = import_tools._Tool(b"MAGIC", "some.dat", ("sh", "-c", "echo oh no >&2; exit 3", "--"), "sh")
    monkeypatch.setattr(import_tools, "_TOOLS", (tool,))
    with pytest.raises(UserError, match="sh cannot read it: oh no"):
        imported(tmp_path, b"MAGIC")


def test_a_tool_s_text_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = import_tools._Tool(b"MAGIC", "some.dat", ("sed", "1d"), "sed")
    monkeypatch.setattr(import_tools, "_TOOLS", (tool,))
    data = f"MAGIC\na-1 [000] d..1 1.000000: sched_waking: {WAKING}\n".encode()
    for content in (data, gzip.compress(data)):
        outcome, _ = imported(tmp_path, content, force=True)
        assert dict(outcome.totals.events) == {"sched_waking": 1}
        assert list(outcome.formats.values()) == ["some.dat"]
