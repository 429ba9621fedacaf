"""Call chains of perf script text: stacks of their events, the kernel's part and that of user space apart."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tracectl.query import ask
from tracectl.recorder import import_input
from tracectl.recorder.import_callchains import LONGEST_CHAIN
from tracectl.recorder.import_session import CALL_CHAINS, Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError

SHARED = Path(__file__).parents[3] / "shared" / "traces" / "speedscope"
KERNEL = "\tffffffff810b1234 schedule+0x1c ([kernel.kallsyms])\n\tffffffffc0001234 ext4_wait+0x2 ([ext4])\n"
USER = "\t    7f12ab34 f(int, char)+0x4 (/lib/a (b).so)\n\t         643 [unknown] (/bin/my app)\n"
SWITCH = "prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b next_pid=2 next_prio=120"
WAKING = "comm=b pid=2 prio=120 target_cpu=001"
STACKS = "samples with stacks | count by stack"


def imported(folder: Path, *texts: str) -> tuple[Imported, Capture]:
    names = []
    for number, text in enumerate(texts):
        names.append(folder / f"{number}.txt")
        names[-1].write_text(text)
    options = ImportOptions(tuple(map(str, names)), folder / "out.parquet", force=True)
    outcome = import_traces(options)
    return outcome, Capture.open(outcome.path)


def counted(capture: Capture, question: str = STACKS) -> dict[str | None, int]:
    return dict(ask(capture, question).rows())


def sample(frames: str, ts: str = "1.000000", name: str = "cycles:u") -> str:
    return f"a 77/1 [003] {ts}:    100 {name}: \n{frames}\n"


def by_the_obvious_reader(text: str) -> Counter[str]:
    """Folded chains by paragraphs and words."""
    found: Counter[str] = Counter()
    for paragraph in text.strip().split("\n\n"):
        labels = []
        for line in paragraph.split("\n")[1:]:
            _, name, module = line.split(None, 2)
            unknown = "[" + module.strip("()").split("/")[-1].strip("[]") + "]"
            labels.append(unknown if name == "[unknown]" else name)
        found[";".join(reversed(labels))] += 1
    return found


@pytest.mark.parametrize(("name", "samples"), [("one-sample", 1), ("simple-with-pid", 137)])
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared traces beside the checkout")
def test_stacks_of_recorded_samples(tmp_path: Path, name: str, samples: int) -> None:
    text = (SHARED / f"{name}.linux-perf.txt").read_text()
    outcome, capture = imported(tmp_path, text)
    assert dict(outcome.totals.events) == {"cpu_sample": samples}
    assert (outcome.totals.unparsed, +outcome.not_kept) == (0, {})
    assert counted(capture) == by_the_obvious_reader(text)
    assert sum(counted(capture).values()) == samples


@pytest.mark.parametrize("name", ["cycles", "cycles:ppp", "cpu-clock:pppH", "task-clock:u", "cpu_core/cycles/P"])
def test_samples_by_time_or_cycles(tmp_path: Path, name: str) -> None:
    outcome, capture = imported(tmp_path, sample(USER, name=name))
    assert dict(outcome.totals.events) == {"cpu_sample": 1}
    assert ask(capture, "samples | select comm, pid, tid, cpu").rows() == [("a", 77, 1, 3)]


def test_other_counters_are_no_samples_of_time(tmp_path: Path) -> None:
    outcome, _ = imported(tmp_path, sample(USER, name="cache-misses"))
    assert dict(outcome.totals.events) == {"cache_misses": 1}
    assert outcome.not_kept == {CALL_CHAINS: 2}


def test_user_space_and_kernel_are_apart(tmp_path: Path) -> None:
    text = (
        f"a 1 [000] 1.000000: sched:sched_waking: {WAKING}\n{KERNEL}{USER}\n"
        f"a 1 [000] 1.000001: sched:sched_switch: {SWITCH}\n{KERNEL}\n"
    )
    _, capture = imported(tmp_path, text)
    user, kernel = "[my app];f(int, char)", "ext4_wait;schedule"
    assert counted(capture, "wakeups with stacks | count by waker_stack") == {f"{user};{kernel}": 1}
    assert counted(capture, "switches with stacks | count by stack") == {kernel: 1}
    assert ask(capture, "wakeups | select context, context_source").rows() == [("task", "stack")]
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    stacks = {row["stack_id"]: row for row in table if row["kind"] == "stack"}
    assert sorted(row["folded"] for row in stacks.values()) == sorted([user, kernel])
    waking, switch = (next(row for row in table if row["kind"] == k) for k in ("sched_waking", "sched_switch"))
    assert (waking["kstack"], switch["ustack"]) == (switch["kstack"], None)
    assert json.loads(stacks[waking["kstack"]]["frames"]) == [
        {"name": "ext4_wait", "offset": 2, "module": "ext4", "address": "0xffffffffc0001234"},
        {"name": "schedule", "offset": 28, "module": "kernel", "address": "0xffffffff810b1234"},
    ]
    assert json.loads(stacks[waking["ustack"]]["frames"]) == [
        {"module": "/bin/my app", "address": "0x643"},
        {"name": "f(int, char)", "offset": 4, "module": "/lib/a (b).so", "address": "0x7f12ab34"},
    ]


FRAMES = {
    "643 a::b<int, (c)0>::d(int) const (/lib/x.so)": "a::b<int, (c)0>::d(int) const",
    "643 (anonymous namespace)::f() (/tmp/a.so (deleted))": "(anonymous namespace)::f()",
    "643 inner (inlined)": "inner",
    "643 x;y+0x1 (/lib/x.so)": "x:y",
    "643": "[unknown]",
    "643 [unknown] ([vdso]+0x643)": "[vdso]",
    "643 plain": "plain",
}


@pytest.mark.parametrize("frame", FRAMES)
def test_names_of_frames(tmp_path: Path, frame: str) -> None:
    _, capture = imported(tmp_path, sample(f"\t     {frame}\n"))
    assert counted(capture) == {FRAMES[frame]: 1}


def test_a_frame_in_the_samples_own_line(tmp_path: Path) -> None:
    line = "a 1 [000] 1.000000:    1 cycles:  ffffffff810b1234 [unknown] ([kernel.kallsyms])\n"
    other = "a 1 [000] 1.000001:    1 cycles:  what is this\n"
    outcome, capture = imported(tmp_path, line + other)
    assert dict(outcome.totals.events) == {"cpu_sample": 1, "cycles": 1}
    assert counted(capture) == {"[kernel.kallsyms]": 1}


def test_frames_of_a_line_that_cannot_be_read_are_nobodys(tmp_path: Path) -> None:
    waking = f"a 1 [000] 1.000000: sched:sched_waking: {WAKING}\n"
    interrupt = "\tffffffff810b1234 net_rx_action+0x1c ([kernel.kallsyms])\n"
    outcome, capture = imported(tmp_path, f"{waking}{KERNEL}\nthis is damaged\n{interrupt}\n{waking}")
    assert ask(capture, "wakeups | select context").rows() == [("task",), ("unknown",)]
    assert counted(capture, "wakeups with stacks | count by waker_stack") == {"ext4_wait;schedule": 1, None: 1}
    assert (outcome.totals.unparsed, outcome.not_kept) == (1, {CALL_CHAINS: 1})


def test_a_chain_that_cannot_be_read_whole_is_lost(tmp_path: Path) -> None:
    long = USER * (LONGEST_CHAIN // len(USER) + 1)
    outcome, capture = imported(tmp_path, sample(f"{USER}\tno frame\n") + sample(long, "1.000001"))
    assert counted(capture) == {"[lost stack]": 2}
    assert outcome.totals.examples == [(4, "\tno frame")]


def test_a_deep_chain_is_kept_whole_wherever_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "".join(f"\t  {n + 1:x} function_{n}+0x1 (/bin/a)\n" for n in range(300))
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 997)
    text = "".join(sample(deep, f"1.{n:06}").rstrip("\n") + "\n" for n in range(20))  # no empty lines between
    outcome, capture = imported(tmp_path, text)
    assert counted(capture) == {";".join(f"function_{n}" for n in reversed(range(300))): 20}
    assert +outcome.not_kept == {}


def test_stacks_of_several_files_are_not_mixed(tmp_path: Path) -> None:
    _, capture = imported(tmp_path, sample(USER), "x;y 3\nz 4\nx;y 1\n", "z 5\nw;v 1\n")
    totals = "stack totals | sum value by stack"
    assert counted(capture) == {"[my app];f(int, char)": 1}
    assert counted(capture, totals) == {"x;y": 4, "z": 9, "w;v": 1}


def test_without_chains_there_are_no_stacks(tmp_path: Path) -> None:
    _, capture = imported(tmp_path, f"a 1 [000] 1.000000: sched:sched_switch: {SWITCH}\n")
    with pytest.raises(NotRecordedError, match=re.escape("they were not recorded")):
        ask(capture, "switches with stacks")
