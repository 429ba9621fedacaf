"""Perfetto's protobuf traces: events, compact bundles, names, contexts, losses, and files that are damaged."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl.query import ask
from tracectl.recorder import import_perfetto
from tracectl.recorder.import_perfetto import is_perfetto
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import RecordError, TracectlError

proto: Any = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the perfetto package is not installed"
)


def trace() -> Any:
    """One CPU: a comes, a softirq wakes b, an interrupt in it wakes c, a is preempted by b, b sleeps."""
    made = proto.Trace()
    tree = made.packet.add().process_tree
    tree.processes.add(pid=7, cmdline=["/bin/a", "-x"])
    tree.threads.add(tid=71, tgid=7, name="a")
    bundle = made.packet.add().ftrace_events
    bundle.cpu = 1
    first = bundle.event.add(timestamp=1000, pid=0)
    switch = {"prev_comm": "swapper/1", "prev_pid": 0, "prev_prio": 120, "prev_state": 0}
    first.sched_switch.MergeFrom(proto.SchedSwitchFtraceEvent(**switch, next_comm="a", next_pid=71, next_prio=120))
    compact = bundle.compact_sched
    compact.intern_table.extend(["b", "c"])
    compact.switch_timestamp.extend([3000, 1000])
    compact.switch_prev_state.extend([256, 1])
    compact.switch_next_pid.extend([72, 0])
    compact.switch_next_prio.extend([100, 120])
    compact.switch_next_comm_index.extend([0, 9])
    compact.waking_timestamp.extend([2000, 100, 100])
    compact.waking_pid.extend([72, 73, 72])
    compact.waking_target_cpu.extend([1, 0, 1])
    compact.waking_prio.extend([100, 120, 100])
    compact.waking_comm_index.extend([0, 1, 0])
    compact.waking_common_flags.extend([0x11, 0x18, 0x01])
    later = made.packet.add().ftrace_events
    later.cpu = 1
    later.lost_events = True
    later.event.add(timestamp=1900, pid=71).softirq_entry.vec = 3
    later.event.add(timestamp=2150, pid=71).softirq_exit.vec = 3
    later.event.add(timestamp=1850, pid=71).print.buf = "hello"  # the gap ends here
    later.event.add(timestamp=2170, pid=71).kmalloc.ptr = (1 << 64) - 1
    made.packet.add().track_event.name = "other"
    return made


def imported(folder: Path, data: bytes) -> tuple[Imported, Capture]:
    (folder / "in").write_bytes(data)
    outcome = import_traces(ImportOptions((str(folder / "in"),), folder / "out.parquet", force=True))
    return outcome, Capture.open(outcome.path)


def compressed(made: Any) -> bytes:
    """The same trace in one compressed packet."""
    whole = proto.Trace()
    whole.packet.add().compressed_packets = zlib.compress(made.SerializeToString())
    data: bytes = whole.SerializeToString()
    return data


@pytest.mark.parametrize("form", ["plain", "compressed"])
def test_events_of_bundles(tmp_path: Path, form: str) -> None:
    outcome, capture = imported(tmp_path, trace().SerializeToString() if form == "plain" else compressed(trace()))
    assert outcome.totals.unparsed == 0
    assert list(outcome.formats.values()) == ["Perfetto trace"]
    assert outcome.not_kept == {"packets of track_event": 1}
    assert ask(
        capture, "switches | select ts, prev_tid, prev_pid, prev_comm, prev_state, next_tid, next_comm"
    ).rows() == [
        (1000, 0, 0, "swapper/1", "R", 71, "a"),
        (3000, 71, 7, "a", "R+", 72, "b"),
        (4000, 72, None, "b", "S", 0, None),
    ]
    question = "wakeups | select ts, tid, comm, waker_tid, waker_pid, context, vec_name, context_source"
    assert ask(capture, question).rows() == [
        (2000, 72, "b", 71, 7, "softirq", "NET_RX", "flags"),
        (2100, 73, "c", 71, 7, "hardirq", None, "flags"),
        (2200, 72, "b", 71, 7, "task", None, "flags"),
    ]
    assert ask(capture, "softirqs | select ts, dur, name").rows() == [(1900, 250, "NET_RX")]
    assert ask(capture, "events print | select comm, buf").rows() == [("a", "hello")]
    assert ask(capture, "events kmalloc | select ptr").rows() == [(str((1 << 64) - 1),)]
    assert [count for (count,) in ask(capture, "lost | select lost_count").rows()] == [None]


def test_recognised_by_content() -> None:
    assert is_perfetto(trace().SerializeToString())
    assert not is_perfetto(b"")
    assert not is_perfetto(b"\n a-1 [000] d..1 1.000000: x: y\n\n")
    assert not is_perfetto(b"# tracer: nop\n")


@given(st.integers(0, 600), st.binary(min_size=1, max_size=30), st.integers(0, 30))
def test_damaged_traces(at: int, junk: bytes, cut: int) -> None:
    import tempfile  # noqa: PLC0415 - hypothesis allows no fixture that is not made anew

    data = trace().SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        try:
            imported(Path(folder), data[:at] + junk + data[at + cut :])
        except TracectlError as error:
            assert error.problem


def test_a_trace_that_ends_early_gives_what_is_whole(tmp_path: Path) -> None:
    data = trace().SerializeToString()
    outcome, capture = imported(tmp_path, data[:-40])
    assert outcome.totals.events["sched_switch"] == 3
    assert outcome.totals.unparsed == 1
    # What the CPU did from the last event on stood in what is missing.
    assert [row[:3] for row in ask(capture, "lost | select cpu, from_ts, ts").rows()] == [(1, 4000, 4000)]


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
def test_packets_across_chunks(size: int) -> None:
    """Also those of a few bytes, at the end of all."""
    made = proto.Trace()
    for number in range(6):
        made.packet.add(trusted_uid=number)
    made.packet.add()
    data = made.SerializeToString()
    found = list(import_perfetto._packets((data[i : i + size] for i in range(0, len(data), size)), "x"))
    assert found == [(packet.SerializeToString(), True) for packet in made.packet]
    cut = list(import_perfetto._packets([data + b"\x0a\x05abc"], "x"))
    assert cut == [*found, (b"\x0a\x05abc", False)]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(import_perfetto, "import_module", missing)
    with pytest.raises(RecordError, match="pip install perfetto"):
        imported(tmp_path, trace().SerializeToString())
