"""Compile, attach, drain, overload and detach with the running kernel: nothing that was emitted goes unaccounted."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tracectl.recorder.bpf import Program, cpus, load_bcc
from tracectl.recorder.btf import Btf
from tracectl.recorder.parse import parse
from tracectl.recorder.ring import PAGE_SIZE, PerfRing
from tracectl.recorder.syscall import _bpf, object_info
from tracectl.store.errors import RecordError


def _reason_to_skip() -> str:
    if os.geteuid() != 0:
        return "recording needs root"
    try:
        load_bcc()
    except RecordError as error:
        return error.problem
    return ""


pytestmark = [pytest.mark.kernel, pytest.mark.skipif(bool(_reason_to_skip()), reason=_reason_to_skip() or "-")]

BPF_PROG_GET_FD_BY_ID = 13
EVENT_SIZE = 72
TEXT = """
struct event { u64 ts; u32 kind; u32 tid; u64 number; char comm[16]; u64 rest[4]; };
BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(emitted, u64, 2);
BPF_ARRAY(target, u32, 1);

int on_sys_enter(struct bpf_raw_tracepoint_args *ctx) {
  int zero = 0, one = 1;
  u32 tid = bpf_get_current_pid_tgid(), *wanted = target.lookup(&zero);
  if (!wanted || *wanted != tid) return 0;
  u64 *count = emitted.lookup(&zero);
  if (!count) return 0;
  struct event e = {};
  e.ts = bpf_ktime_get_ns(); e.kind = 1; e.tid = tid; e.number = *count;
  bpf_get_current_comm(e.comm, sizeof(e.comm));
  *count += 1;
  if (events.perf_submit(ctx, &e, sizeof(e)) != 0) emitted.increment(one);
  return 0;
}
int on_waking_raw(struct bpf_raw_tracepoint_args *ctx) { int zero = 0; emitted.increment(zero); return 0; }
int on_waking(struct tracepoint__sched__sched_waking *args) {
  int one = 1;
  if (args->pid > 0 && args->comm[0] != 0) emitted.increment(one);
  return 0;
}
int on_bad(struct bpf_raw_tracepoint_args *ctx) { return *(int *)((char *)ctx + 4000); }
"""


@pytest.fixture
def program() -> Iterator[Program]:
    with Program(TEXT) as program:
        yield program


def _eventually(condition: Callable[[], bool]) -> bool:
    """Wait for what the kernel does after a grace period; the limit is for a kernel that never does."""
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


def _program_ids(program: Program) -> set[int]:
    return {struct.unpack_from("=I", object_info(fd, 8), 4)[0] for fd in program._functions.values()}


def _alive(prog_id: int) -> bool:
    try:
        os.close(_bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=I", prog_id)))
    except FileNotFoundError:
        return False
    return True


def test_compiles_without_kernel_headers() -> None:
    """In a mount namespace without /lib/modules and with a bogus BCC_KERNEL_SOURCE, neither of which may be used."""
    code = "from tracectl.recorder.bpf import Program; import sys; Program(sys.stdin.read()).close(); print('compiled')"
    script = 'if [ -d /lib/modules ]; then mount -t tmpfs none /lib/modules; fi; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code],
        input=TEXT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "BCC_KERNEL_SOURCE": "/nonexistent", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("compiled\n", "", 0)


def test_raw_and_classic_tracepoints_see_wakings(program: Program) -> None:
    program.load_raw_tracepoint("on_waking_raw", "sched_waking")
    program.load_tracepoint("on_waking", "sched:sched_waking")
    for _ in range(50):
        subprocess.run(["true"], check=True)
    program.detach("on_waking_raw")
    program.detach("on_waking", "sched:sched_waking")
    raw, classic = program.percpu_u64("emitted").sum(axis=1).tolist()
    assert raw >= 50
    assert classic >= 50
    assert program.misses().keys() == {"on_waking_raw", "on_waking"}
    subprocess.run(["true"], check=True)
    assert program.percpu_u64("emitted").sum() == raw + classic, "nothing runs after detaching"


def test_percpu_array_has_a_column_per_cpu_number(program: Program) -> None:
    assert program.percpu_u64("emitted").shape == (2, max(cpus("possible")) + 1)


def test_map_elements(program: Program) -> None:
    key, value = struct.pack("=I", 0), struct.pack("=I", 4711)
    program.update("target", key, value)
    assert program.lookup("target", key) == value
    assert program.lookup("target", struct.pack("=I", 9)) is None
    with pytest.raises(ValueError, match="keys of 4 and values of 4 bytes"):
        program.update("target", key, b"\0" * 8)
    with pytest.raises(KeyError):
        program.map_fd("absent")


class Drain:
    """Rings on all online CPUs, and what came out of them."""

    def __init__(self, program: Program, pages: int) -> None:
        self.rings = {cpu: PerfRing(cpu, pages, program.map_fd("events")) for cpu in cpus("online")}
        self.numbers: dict[int, list[np.ndarray]] = {cpu: [] for cpu in self.rings}
        self.marked = dict.fromkeys(self.rings, 0)

    def take(self) -> None:
        for cpu, ring in self.rings.items():
            region = ring.take()
            if region is None:
                continue
            assert len(region) <= ring.pages * PAGE_SIZE
            parsed = parse(region, {1: EVENT_SIZE})
            assert parsed.skipped == 0
            self.marked[cpu] += sum(count for _, count in parsed.lost)
            if 1 in parsed.by_kind:
                self.numbers[cpu].append(parsed.by_kind[1][0][:, 16:24].copy().view(np.uint64).ravel())

    def close(self) -> None:
        for ring in self.rings.values():
            ring.close()
            ring.close()


def test_overload_is_accounted_for_to_the_event(program: Program) -> None:
    """A thread emits far more than 8 pages hold between two drains: emitted = received + lost, on each CPU."""
    drain = Drain(program, 8)
    writer = subprocess.Popen(
        ["sh", "-c", "read go; exec dd if=/dev/zero of=/dev/null bs=1 count=200000"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert writer.stdin is not None
    program.update("target", struct.pack("=I", 0), struct.pack("=I", writer.pid))
    program.load_raw_tracepoint("on_sys_enter", "sys_enter")
    writer.stdin.close()  # the shell reads end of file and goes on
    while writer.poll() is None:
        drain.take()
        time.sleep(0.01)
    program.detach("on_sys_enter")
    drain.take()
    emitted, refused = program.percpu_u64("emitted")
    assert emitted.sum() >= 400_000, "dd reads and writes each byte"
    assert program.misses() == {"on_sys_enter": 0}
    for cpu, ring in drain.rings.items():
        numbers = np.concatenate([np.empty(0, np.uint64), *drain.numbers[cpu]])
        lost = ring.lost_total()
        if lost is None:
            pytest.skip("Linux before 6.0 does not count lost records in the ring")
        assert len(numbers) + lost == emitted[cpu]
        assert lost == refused[cpu], "the ring's count and perf_submit's agree"
        assert drain.marked[cpu] <= lost
        assert np.all(np.diff(numbers.astype(np.int64)) > 0), "in order, none twice"
    assert refused.sum() > 0, "this was meant to overload"
    drain.close()


def test_ring_becomes_readable_at_its_watermark(program: Program) -> None:
    drain = Drain(program, 8)
    program.update("target", struct.pack("=I", 0), struct.pack("=I", os.getpid()))
    poll = select.epoll()
    for ring in drain.rings.values():
        poll.register(ring.fileno(), select.EPOLLIN)
    assert poll.poll(0) == []
    program.load_raw_tracepoint("on_sys_enter", "sys_enter")
    for _ in range(8 * PAGE_SIZE // EVENT_SIZE * len(drain.rings)):
        os.getppid()
    program.detach("on_sys_enter")
    assert poll.poll(0)
    poll.close()
    drain.close()
    with pytest.raises(ValueError, match="closed"):
        next(iter(drain.rings.values())).take()


def test_refusals_are_told_in_a_line(program: Program, capfd: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: program.load_raw_tracepoint("on_waking_raw", "no_such"), "tracepoint no_such"),
        (lambda: program.load_tracepoint("on_waking", "sched:no_such"), "tracepoint sched:no_such"),
        (lambda: program.load("on_bad", raw=True), "invalid bpf_context access"),
        (lambda: Program("int f( {"), "/virtual/main.c:1"),
        (lambda: PerfRing(4095, 1, program.map_fd("events")), "CPU 4095"),
    ]
    for attempt, words in cases:
        with pytest.raises(RecordError) as refusal:
            attempt()
        assert words in refusal.value.problem
        assert "\n" not in refusal.value.problem
        assert refusal.value.remedy
    assert capfd.readouterr() == ("", "")


def test_debug_tells_the_whole_reason() -> None:
    with Program(TEXT, debug=True) as program, pytest.raises(RecordError) as refusal:
        program.load("on_bad", raw=True)
    assert "\n" in refusal.value.problem


def test_close_leaves_no_program_behind() -> None:
    program = Program(TEXT)
    program.load_raw_tracepoint("on_waking_raw", "sched_waking")
    program.load_tracepoint("on_waking", "sched:sched_waking")
    ids = _program_ids(program)
    assert len(ids) == 2
    assert all(map(_alive, ids))
    before = len(list(Path("/proc/self/fd").iterdir()))
    program.close()
    program.close()
    assert len(list(Path("/proc/self/fd").iterdir())) < before
    assert _eventually(lambda: not any(_alive(prog_id) for prog_id in ids))


COMM_TEXT = """
BPF_PERCPU_ARRAY(seen, u64, 2);
int on_waking(struct bpf_raw_tracepoint_args *ctx) {
  int same = 0, other = 1;
  char by_helper[16] = {}, by_offset[16] = {};
  char *current_task = (char *)bpf_get_current_task();
  int tid = 0;
  bpf_get_current_comm(by_helper, sizeof(by_helper));
  bpf_probe_read_kernel(by_offset, sizeof(by_offset), current_task + O_COMM);
  bpf_probe_read_kernel(&tid, sizeof(tid), current_task + O_PID);
  u64 *a = (u64 *)by_helper, *b = (u64 *)by_offset;
  if (a[0] == b[0] && a[1] == b[1] && tid == (u32)bpf_get_current_pid_tgid()) seen.increment(same);
  else seen.increment(other);
  return 0;
}
"""


def test_struct_members_by_btf_offsets_are_what_the_helpers_say() -> None:
    btf = Btf()
    flags = [f"-DO_COMM={btf.offset('task_struct.comm')}", f"-DO_PID={btf.offset('task_struct.pid')}"]
    with Program(COMM_TEXT, flags) as program:
        program.load_raw_tracepoint("on_waking", "sched_waking")
        for _ in range(50):
            subprocess.run(["true"], check=True)
        program.detach("on_waking")
        same, other = program.percpu_u64("seen").sum(axis=1).tolist()
    assert same >= 50
    assert other == 0


def test_bcc_is_found_past_its_namesake_and_nothing_else_of_the_distribution(tmp_path: Path) -> None:
    """PyPI's ``bcc`` stands first on the path; the distribution's directory, with its old numpy, must stay off it."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise SystemExit('the namesake was imported')")
    code = (
        "import sys; from tracectl.recorder.bpf import load_bcc\n"
        "before = list(sys.path); bcc = load_bcc()\n"
        "assert load_bcc() is bcc and sys.path == before\n"
        "print(bcc.BPF.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("BPF\n", "", 0)
