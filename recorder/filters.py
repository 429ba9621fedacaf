"""Task filters in the kernel: ``-p -t --comm --cgroup`` become one set of thread ids that BPF keeps up to date.

A kind is recorded when one of the threads it is about (``Event.subjects``) is in the set, so what is needed about
others (the waker of a matching thread, the thread that ran instead of it) is kept too.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tracectl.recorder.namespace import machine
from tracectl.store.errors import UserError

MAX_WATCHED = 65_536


@dataclass(frozen=True)
class TaskFilter:
    """Which threads to record; several conditions are alternatives.

    Attributes:
        pids: processes: all their threads, also those started later.
        tids: single threads.
        comms: names as they are at each moment; a trailing ``*`` stands for any rest.
        cgroups: cgroup v2 paths, as a directory or as ``/proc/PID/cgroup`` prints them; with everything below.
    """

    pids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pids or self.tids or self.comms or self.cgroups)

    def describe(self) -> str | None:
        """In words, for the capture; None when everything is recorded."""
        words = [f"pid {pid}" for pid in self.pids] + [f"tid {tid}" for tid in self.tids]
        words += [f"comm {comm}" for comm in self.comms] + [f"cgroup {path}" for path in self.cgroups]
        return os.fsencode(" or ".join(words)).decode("utf-8", "backslashreplace") or None

    def check(self, said_of_absent: Callable[[int], str] = lambda _: "") -> None:
        """Refuse what can match nothing.

        Args:
            said_of_absent: the remedy for a number that is none of a process or thread.

        Raises:
            UserError: no such process, thread or cgroup, or a pattern the kernel side cannot test.
        """
        for option, numbers in (("-p", self.pids), ("-t", self.tids)):
            for number in numbers:
                process = _process_of(number)
                if process is None:
                    problem = f"{option} {number}: no such {'process' if option == '-p' else 'thread'}"
                    raise UserError(problem, said_of_absent(number))
                if option == "-p" and process != number:
                    raise UserError(f"-p {number}: a thread of process {process}", f"-p {process}, or -t {number}")
        for comm in self.comms:
            if not comm.rstrip("*") or any(c in comm[:-1] + comm[-1].replace("*", "") for c in "*?["):
                raise UserError(f"--comm {comm}: only a * at the end is understood", "--comm 'wrk:*'")
        for path in self.cgroups:
            cgroup_directory(path)

    def on_machine(self) -> TaskFilter:
        """The same with the machine's own ids, which the kernel goes by; those given are as /proc has them.

        Raises:
            UserError: one has just ended.
        """
        return replace(self, pids=_on_machine("-p", self.pids), tids=_on_machine("-t", self.tids))

    def matching_threads(self) -> Iterator[int]:
        """Threads that match now, from /proc."""
        groups = [cgroup_directory(path) for path in self.cgroups]
        yield from self.tids
        for task in threads():
            try:
                matches = self._matches(task, groups)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if matches:
                tid = machine(int(task.name))
                if tid is not None:
                    yield tid

    def _matches(self, task: Path, groups: list[Path]) -> bool:
        if self.pids and machine(int(task.parent.parent.name)) in self.pids:
            return True
        if self.comms:
            comm = (task / "comm").read_bytes().rstrip(b"\n")
            if any(_comm_matches(pattern, comm) for pattern in self.comms):
                return True
        if groups:
            own = cgroup_mount() / cgroup_of(task).lstrip("/")
            return any(own == group or group in own.parents for group in groups)
        return False


def _on_machine(option: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    found = [(number, machine(number)) for number in numbers]
    for number, outside in found:
        if outside is None:
            raise UserError(f"{option} {number}: it has just ended")
    return tuple(outside for _, outside in found if outside is not None)


def threads() -> Iterator[Path]:
    """``/proc/PID/task/TID`` of all threads, as far as they exist while we look."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found = list((process / "task").iterdir())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            yield from found


def _process_of(tid: int) -> int | None:
    """The process of a thread; None when there is no such thread."""
    try:
        status = Path(f"/proc/{tid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Tgid:"))


def _comm_matches(pattern: str, comm: bytes) -> bool:
    wanted = os.fsencode(pattern)[:16]
    return comm.startswith(wanted[:-1]) if wanted.endswith(b"*") else comm == wanted[:15]


def cgroup_mount() -> Path:
    """Where cgroup v2 is mounted.

    Raises:
        UserError: nowhere.
    """
    for line in Path("/proc/mounts").read_bytes().splitlines():
        _, place, kind, *_ = line.split(b" ")
        if kind == b"cgroup2":
            return Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), place)))
    raise UserError("--cgroup: no cgroup v2 hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")


def cgroup_of(task: Path) -> str:
    """cgroup v2 path of a ``/proc/PID/task/TID`` directory, ``/`` for the root."""
    for line in (task / "cgroup").read_text(errors="backslashreplace").splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return "/"


def cgroup_directory(path: str) -> Path:
    """The directory of a cgroup given either way.

    Raises:
        UserError: no such cgroup.
    """
    mount = cgroup_mount()
    for candidate in (Path(path), mount / path.lstrip("/")):
        if (candidate / "cgroup.procs").exists() and candidate.is_relative_to(mount):
            return candidate.resolve()
    raise UserError(f"--cgroup {path}: no such cgroup under {mount}", f"ls {mount}, or cat /proc/PID/cgroup")


# ---- the C side ----

FUNCTIONS = """
BPF_HASH(watched, s32, u8, MAX_WATCHED);
static __always_inline int is_watched(s32 tid) { return watched.lookup(&tid) != 0; }
static __always_inline void watch(s32 tid, int yes) {
    u8 one = 1;
    if (yes) watched.update(&tid, &one); else watched.delete(&tid);
}
"""


def c_functions(task_filter: TaskFilter) -> str:
    """The set of watched threads and the tests for it, in C."""
    if not task_filter:
        return ""
    lines = [FUNCTIONS.replace("MAX_WATCHED", str(MAX_WATCHED))]
    if task_filter.comms:
        tests = " || ".join(f"({_comm_test(pattern)})" for pattern in task_filter.comms)
        lines.append(f"static __always_inline int comm_matches(u64 *comm) {{ return {tests}; }}")
    return "\n".join(lines)


def c_followers(task_filter: TaskFilter) -> dict[str, str]:
    """Statements that keep the set up to date, by raw tracepoint; ``ctx`` is its context."""
    if not task_filter:
        return {}
    born = [f"BTF(s32, ARG(0), task_struct.tgid) == {pid}" for pid in task_filter.pids]
    born += [_in_cgroup(path) for path in task_filter.cgroups]
    followers = {}
    if task_filter.comms:
        born.append("comm_of(ARG(0))")
        followers["task:task_rename"] = (
            "u64 renamed[2] = {};\n"
            "    bpf_probe_read_kernel_str(renamed, sizeof(renamed), (void *)ARG(1));\n"
            f"    if (comm_matches(renamed)) watch({_TID}, 1);\n"
            + ("" if task_filter.pids or task_filter.tids or task_filter.cgroups else f"    else watch({_TID}, 0);\n")
        )
    # A thread is born: in or out, whatever an earlier one with this tid was.
    followers["sched:sched_wakeup_new"] = f"watch({_TID}, {' || '.join(born) or '0'});"
    if task_filter.cgroups:
        inside = " || ".join(_in_cgroup(path) for path in task_filter.cgroups)
        followers["sched:sched_switch"] = f"if ({inside}) watch((s32)bpf_get_current_pid_tgid(), 1);"
    # Not at sched_process_exit: the last switch-out comes after it.
    followers["sched:sched_process_free"] = f"watch({_TID}, 0);"
    return followers


_TID = "BTF(s32, ARG(0), task_struct.pid)"


def _in_cgroup(path: str) -> str:
    directory = cgroup_directory(path)
    level = len(directory.relative_to(cgroup_mount()).parts)
    return f"bpf_get_current_ancestor_cgroup_id({level}) == {directory.stat().st_ino}ULL"


def _comm_test(pattern: str) -> str:
    """Compare a 16-byte name as two words, those bytes that the pattern fixes."""
    text = os.fsencode(pattern)[:16]
    fixed = text[:-1] if text.endswith(b"*") else text[:15] + b"\0"
    mask = (b"\xff" * len(fixed)).ljust(16, b"\0")
    (value0, value1), (mask0, mask1) = struct.unpack("=QQ", fixed.ljust(16, b"\0")), struct.unpack("=QQ", mask)
    return f"(comm[0] & {mask0}ULL) == {value0}ULL && (comm[1] & {mask1}ULL) == {value1}ULL"


def seed_key(tid: int) -> tuple[bytes, bytes]:
    """Key and value of a thread in the map ``watched``."""
    return struct.pack("=i", tid), b"\1"
