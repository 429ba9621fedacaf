"""recorder/runq.c, compiled for this machine: on random scheduling it tells those waits that really were late."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tracectl.recorder import runq
from tracectl.recorder.btf import Btf
from tracectl.store.errors import RecordError
from tracectl.store.events import WAIT_CAUSES

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

_THREADS, _CPUS, _STEPS = 5, 2, 120
_MIN_DELAY, _FROM = 7, 60
# BPF maps as arrays, in which there is room for ROOM keys.
_HARNESS = """
typedef unsigned long long u64; typedef long long s64; typedef unsigned u32; typedef int s32;
#define __always_inline inline __attribute__((always_inline))
#define MAP(name, K, V, room) \\
    static V name##_at[64]; static int name##_there[64], name##_used; \\
    static V *name##_lookup(K *k) { return name##_there[*k] ? &name##_at[*k] : 0; } \\
    static V *name##_init(K *k, V *v) { \\
        if (name##_there[*k]) return &name##_at[*k]; \\
        if (name##_used >= room) return 0; \\
        name##_used++; name##_there[*k] = 1; name##_at[*k] = *v; return &name##_at[*k]; } \\
    static int name##_update(K *k, V *v) { \\
        V *there = name##_init(k, v); if (there) *there = *v; return there ? 0 : -7; } \\
    static void name##_delete(K *k) { name##_used -= name##_there[*k]; name##_there[*k] = 0; } \\
    static struct { \\
        V *(*lookup)(K *); V *(*lookup_or_try_init)(K *, V *); int (*update)(K *, V *); void (*delete)(K *); \\
    } name = { name##_lookup, name##_init, name##_update, name##_delete };
#define BPF_HASH(name, K, V, n) MAP(name, K, V, ROOM)
#define BPF_ARRAY(name, V, n) MAP(name, int, V, n)
struct gate { u64 from, to; };
BPF_ARRAY(gate, struct gate, 1)
static u64 now;
static u64 bpf_ktime_get_ns(void) { return now; }
"""
_CALLS = """
void open_gate(u64 from) {
    int zero = 0;
    u32 no = 0;
    struct gate g = { from, ~0ULL };
    gate.update(&zero, &g);
    steps_full.update(&zero, &no);
}
void woken(u64 ts, s32 tid) { now = ts; runq_woken(tid); }
void born(u64 ts, s32 tid) { now = ts; runq_born(tid); }
void switches(u64 ts, s32 prev, int preempted, u32 state, s32 next, u64 *out) {
    runq_leaves(ts, prev, preempted, state);
    struct wait wait = runq_gets(ts, next);
    out[0] = wait.unsure; out[1] = !wait.unsure && runq_late(&wait, ts); out[2] = wait.since; out[3] = wait.cause;
}
"""
_STATES = {"R": (0, 0), "R+": (1, 1), "S": (0, 1), "D": (0, 2), "I": (0, 0x402), "X": (0, 0x80)}

Wait = tuple[int, int, int, str]  # tid, from, to, cause


@dataclass
class Machine:
    """Threads that are run, preempted, put to sleep, woken (also while they still run) and born, by chance."""

    chance: random.Random
    call: ctypes.CDLL
    ts: int = 0
    waits: list[Wait] = field(default_factory=list)
    told: list[Wait] = field(default_factory=list)
    unsure: int = 0

    def __post_init__(self) -> None:
        threads = list(range(1, _THREADS + 1))
        self.chance.shuffle(threads)
        self.running = [self.chance.choice([0, threads[cpu]]) for cpu in range(_CPUS)]
        rest = [tid for tid in threads if tid not in self.running]
        # When and why it became runnable; a time of 0: before anybody looked.
        self.runnable: dict[int, tuple[int, str]] = dict.fromkeys(rest[::3], (0, ""))
        self.asleep = set(rest[1::3])
        self.dead = set(rest[2::3])
        self.raced: set[int] = set()  # woken while they ran
        self.won: set[int] = set()  # and therefore runnable, though they went to sleep

    def step(self) -> None:
        """One event."""
        self.ts += self.chance.choice((1, 2, 3, 9))
        running = [tid for tid in self.running if tid]
        kinds: list[Callable[[], None]] = [self._switch, self._switch, self._switch]
        kinds += [lambda: self._wake(self.chance.choice(sorted(self.asleep)))] * 2 if self.asleep else []
        kinds += [lambda: self._wake(self.chance.choice(running))] if running else []
        # One that was preempted as it went to sleep is woken while it waits. Had it not been seen before, that would be
        # taken for the begin of its wait, as store/views/delays.sql does.
        again = sorted(tid for tid, (since, _) in self.runnable.items() if since and tid not in self.won)
        kinds += [lambda: self.call.woken(self.ts, self.chance.choice(again))] if again else []
        kinds += [lambda: self._bear(self.chance.choice(sorted(self.dead)))] if self.dead else []
        self.chance.choice(kinds)()

    def _wake(self, tid: int) -> None:
        self.call.woken(self.ts, tid)
        if tid in self.asleep:
            self.asleep.remove(tid)
            self.runnable[tid] = self.ts, "wakeup"
        else:
            self.raced.add(tid)

    def _bear(self, tid: int) -> None:
        self.call.born(self.ts, tid)
        self.dead.remove(tid)
        self.runnable[tid] = self.ts, "new"

    def _switch(self) -> None:
        cpu = self.chance.randrange(_CPUS)
        prev = self.running[cpu]
        following = self.chance.choice([*sorted(self.runnable), *([0] if prev else [])] or [0])
        if following == prev:
            return
        preempted, state = 0, 0
        if prev:
            preempted, state = self._leave(prev)
        out = (ctypes.c_uint64 * 4)()
        self.call.switches(self.ts, prev, preempted, state, following, out)
        unsure, late, since, cause = out
        self.unsure += unsure
        if late:
            self.told.append((following, since, self.ts, WAIT_CAUSES[cause]))
        begun = self.runnable.pop(following, None)
        if begun and begun[0] >= _FROM and self.ts - begun[0] > _MIN_DELAY:
            self.waits.append((following, begun[0], self.ts, begun[1]))
        self.running[cpu] = following
        self.won.discard(following)

    def _leave(self, tid: int) -> tuple[int, int]:
        name = self.chance.choice(["R", "R+", "S", "S", "D", "I", "X"])
        if name in ("R", "R+"):
            self.runnable[tid] = self.ts, "preempted"
        elif name == "X":
            self.dead.add(tid)
        elif tid in self.raced and self.chance.random() < 0.5:  # else that waking was for an earlier attempt to sleep
            self.runnable[tid] = self.ts, "wakeup"
            self.won.add(tid)
        else:
            self.asleep.add(tid)
        self.raced.discard(tid)
        return _STATES[name]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A shared library of runq.c with room for so many threads."""
    folder = tmp_path_factory.mktemp("runq")

    def build(room: int) -> Path:
        path = folder / f"runq{room}"
        path.with_suffix(".c").write_text(f"#define ROOM {room}\n{_HARNESS}{runq.source(_MIN_DELAY)}{_CALLS}")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, path.with_suffix(".c")], check=True)
        return path

    return build


def _played(library: Path, seed: int) -> Machine:
    """A machine that ran for a while, with maps of its own."""
    own = library.with_name(f"{library.name}-{seed}.so")  # a library is loaded once for each name
    shutil.copy(library, own)
    call = ctypes.CDLL(str(own))
    own.unlink()
    call.switches.argtypes = [ctypes.c_uint64] + [ctypes.c_int] * 2 + [ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p]
    for name in ("woken", "born"):
        getattr(call, name).argtypes = [ctypes.c_uint64, ctypes.c_int]
    call.open_gate(ctypes.c_uint64(_FROM))
    machine = Machine(random.Random(seed), call)
    for _ in range(_STEPS):
        machine.step()
    return machine


def test_the_late_waits_are_those_that_were(compiled: Callable[[int], Path]) -> None:
    library = compiled(_THREADS)
    causes = set()
    for seed in range(200):
        machine = _played(library, seed)
        assert machine.told == machine.waits, seed
        assert machine.unsure == 0
        causes |= {cause for *_, cause in machine.told}
    assert causes == set(WAIT_CAUSES)


@pytest.mark.parametrize("room", (1, 3))
def test_without_room_no_wait_is_wrong_and_each_that_is_missed_is_counted(
    compiled: Callable[[int], Path], room: int
) -> None:
    library = compiled(room)
    told = missed = 0
    for seed in range(200):
        machine = _played(library, seed)
        assert set(machine.told) <= set(machine.waits), seed
        assert len(machine.waits) - len(machine.told) <= machine.unsure, seed
        told += len(machine.told)
        missed += len(machine.waits) - len(machine.told)
    assert min(told, missed) > 100


class _Kernel(Btf):
    """Only the arguments of sched_switch."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def func_args(self, name: str) -> list[tuple[str, str]]:
        assert name == "btf_trace_sched_switch"
        return [(one, "") for one in self.names]


def test_the_state_is_taken_from_where_this_kernel_has_it() -> None:
    for names in (("preempt", "prev", "next", "prev_state"), ("", "", "", "")):
        assert "(u32)ARG(3)" in runq.steps_code(_Kernel(*names))["sched:sched_switch"]
    for names in (("preempt", "prev", "next"), ("", "", "")):
        assert "task_struct.__state|task_struct.state" in runq.steps_code(_Kernel(*names))["sched:sched_switch"]
    with pytest.raises(RecordError, match="another order"):  # Linux 5.18
        runq.steps_code(_Kernel("preempt", "prev_state", "prev", "next"))
