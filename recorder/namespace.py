"""PID namespaces: ids of threads as this process's /proc has them, and as the kernel records them.

They differ where tracectl runs inside a PID namespace, a container's say. What a capture holds are the machine's own
ids (those of the initial namespace): trace events have no others. The kernel tells what they are inside by its iterator
over threads (Documentation/bpf/bpf_iterators.rst, Linux 5.8): a BPF program of type tracing that is called for each.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracectl.recorder import btf
from tracectl.recorder.bpf import Program
from tracectl.recorder.syscall import iterate, link_iterator
from tracectl.store.errors import RecordError

_OWN = Path("/proc/self/ns/pid")
_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_AGAIN_NS = 20_000_000
_MOST_THREADS = 65_536
# Both maps have the level of /proc's namespace under 0, which is no thread's id.
_TEXT = """
#include <uapi/linux/ptrace.h>
BPF_HASH(machine, s32, s32, MOST_THREADS);
BPF_HASH(here, s32, s32, MOST_THREADS);
static __always_inline u64 pid_of(u64 task) {
    u64 pid = 0;
    bpf_probe_read_kernel(&pid, sizeof(pid), (void *)(task + THREAD_PID));
    return pid;
}
int each_thread(struct bpf_raw_tracepoint_args *ctx) {
    u64 task = ctx->args[1];
    if (!task) return 0;
    s32 level = 0, inside = 0, outside = 0, none = 0;
    bpf_probe_read_kernel(&level, sizeof(level), (void *)(pid_of(bpf_get_current_task()) + LEVEL));
    level -= BELOW;
    bpf_probe_read_kernel(&inside, sizeof(inside), (void *)(pid_of(task) + NUMBERS + 16 * (u64)(level & 63)));
    bpf_probe_read_kernel(&outside, sizeof(outside), (void *)(task + TID));
    machine.update(&inside, &outside);
    here.update(&outside, &inside);
    here.update(&none, &level);
    return 0;
}
"""


def inside() -> bool:
    """Whether this process is in a PID namespace other than the machine's own."""
    try:
        return _OWN.stat().st_ino != _INITIAL
    except FileNotFoundError:  # a kernel without CONFIG_PID_NS
        return False


@contextmanager
def entered() -> Iterator[None]:
    """While this lasts, :func:`machine` and :func:`here` translate, if there is anything to translate.

    Raises:
        RecordError: there is, but this kernel does not tell.
    """
    global _ids  # noqa: PLW0603 -- there is one /proc
    _ids = _translation() if inside() else None
    try:
        yield
    finally:
        if _ids is not None:
            _ids.close()
        _ids = None


def machine(tid: int) -> int | None:
    """The machine's id of a thread that /proc has under ``tid``; None: it has ended, or began a moment ago."""
    return tid if _ids is None else _ids.find("machine", tid)


def here(tid: int) -> int:
    """The id under which /proc has a thread of the machine; 0: it has none."""
    return tid if _ids is None else _ids.find("here", tid) or 0


def refresh() -> None:
    """Learn of all threads that there are now; what is not found is looked for anew without this."""
    if _ids is not None:
        _ids.refresh()


def own() -> tuple[int | None, int | None]:
    """The machine's ids of this process's parent and of itself."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(errors="replace").splitlines())
    return machine(int(status["PPid"])), machine(int(status["Pid"]))


class _Translation:
    """The ids of all threads of this process's namespace, as far as they were looked at."""

    def __init__(self, below: int) -> None:
        members = {
            "THREAD_PID": "task_struct.thread_pid", "TID": "task_struct.pid", "LEVEL": "pid.level",
            "NUMBERS": "pid.numbers",
        }  # fmt: skip
        flags = [f"-D{name}={btf.kernel().offset(path)}" for name, path in members.items()]
        self._program = Program(_TEXT, [*flags, f"-DBELOW={below}", f"-DMOST_THREADS={_MOST_THREADS}"])
        self._link = -1
        try:
            self._link = link_iterator(self._program.load_iterator("each_thread", "bpf_iter_task"))
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Look at all threads that there are now."""
        iterate(self._link)
        self._refreshed = time.monotonic_ns()

    @property
    def is_the_machines(self) -> bool:
        """Whether /proc is that of the initial namespace after all (bound from outside)."""
        return self._lookup("here", 0) == 0

    def find(self, name: str, tid: int) -> int | None:
        """The other id of a thread; one that is not known is looked for anew, if not just done."""
        found = self._lookup(name, tid)
        if found is None and time.monotonic_ns() - self._refreshed > _AGAIN_NS:
            self.refresh()
            found = self._lookup(name, tid)
        return found

    def _lookup(self, name: str, tid: int) -> int | None:
        value = self._program.lookup(name, struct.pack("=i", tid))
        return None if value is None else int(struct.unpack("=i", value)[0])

    def close(self) -> None:
        """Free it. Can be repeated."""
        if self._link >= 0:
            os.close(self._link)
            self._link = -1
        self._program.close()


_ids: _Translation | None = None


def _translation() -> _Translation | None:
    """What translates between /proc's ids and the machine's; None: they are the same."""
    status = Path("/proc/self/status").read_text(errors="replace")
    levels = next(len(line.split()) - 1 for line in status.splitlines() if line.startswith("NSpid:"))
    try:
        found = _Translation(levels - 1)
    except (RecordError, OSError) as error:
        why = error.problem if isinstance(error, RecordError) else error.strerror
        problem = f"tracectl runs inside a PID namespace, and which ids its threads have outside is not told: {why}"
        raise RecordError(problem, "run it outside, or its container with --pid=host") from error
    if found.is_the_machines:
        found.close()
        return None
    return found
