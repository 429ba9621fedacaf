"""Task filters: the generated C test of a name, what is refused, who matches now, which kinds and tracepoints."""

from __future__ import annotations

import os
import re
import struct
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracectl.recorder import filters, selection, snapshot, tracefs
from tracectl.recorder.filters import TaskFilter, c_followers, c_functions
from tracectl.recorder.selection import matching, select
from tracectl.store.errors import UserError
from tracectl.store.events import DEFAULT_GROUPS, GROUPS, KINDS, Event

# Blanks and parentheses, which /proc/PID/stat does not escape.
ODD_NAME = f"o) (x {os.getpid()}"
NAMES = st.text(st.sampled_from("ab:/0ü\udcff"), min_size=1, max_size=18)


def kernel_comm(name: str) -> bytes:
    """A name as task->comm holds it: 15 bytes, a NUL."""
    return os.fsencode(name)[:15].ljust(16, b"\0")


def c_matches(pattern: str, comm: bytes) -> bool:
    """The generated test, computed by Python."""
    text = c_functions(TaskFilter(comms=(pattern,)))
    (test,) = re.findall(r"comm_matches\(u64 \*comm\) \{ return (.*); \}", text)
    code = test.replace("ULL", "").replace("&&", "and").replace("||", "or")
    assert re.fullmatch(r"[()\[\]&= 0-9a-z]+", code)
    return bool(eval(code, {"comm": struct.unpack("=QQ", comm)}))


def cut(pattern: str) -> bytes:
    """A pattern as it is meant for names of at most 15 bytes."""
    raw = os.fsencode(pattern)
    return raw[:-1][:15] + b"*" if raw.endswith(b"*") and len(raw) <= 16 else raw[:15]


@given(NAMES, st.booleans(), NAMES)
@example("a" * 15, True, "a" * 15)
@example("a" * 15, False, "a" * 16)
@example("a" * 16, True, "a" * 15)
@example("a" * 14, True, "a" * 15)
@example("a" * 7, False, "a" * 8)
@example("a" * 8, False, "a" * 8)
@example("a" * 8, False, "a" * 9)
def test_the_generated_test_is_fnmatch(stem: str, star: bool, name: str) -> None:
    pattern = stem + "*" * star
    TaskFilter(comms=(pattern,)).check()
    comm = kernel_comm(name)
    wanted = fnmatchcase(comm.rstrip(b"\0").decode("latin-1"), cut(pattern).decode("latin-1"))
    assert c_matches(pattern, comm) == wanted
    assert filters._comm_matches(pattern, comm.rstrip(b"\0")) == wanted


@given(st.lists(NAMES, min_size=2, max_size=4), NAMES)
def test_several_names_are_alternatives(patterns: list[str], name: str) -> None:
    text = c_functions(TaskFilter(comms=tuple(patterns)))
    (test,) = re.findall(r"comm_matches\(u64 \*comm\) \{ return (.*); \}", text)
    assert test.count("||") == len(patterns) - 1
    single = [re.findall(r"return (.*); \}", c_functions(TaskFilter(comms=(p,))))[-1] for p in patterns]
    assert test == " || ".join(single)


@pytest.mark.parametrize("pattern", ("", "*", "**", "a**", "a*b", "*a", "a?", "[ab]", "?*"))
def test_patterns_the_kernel_side_cannot_test_are_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="only a \\* at the end"):
        TaskFilter(comms=(pattern,)).check()


def test_a_filter_in_words() -> None:
    assert TaskFilter().describe() is None
    assert not TaskFilter()
    assert c_functions(TaskFilter()) == ""
    assert c_followers(TaskFilter()) == {}
    whole = TaskFilter((1, 2), (3,), ("a*", "b\udcff"), ("/x",))
    assert whole.describe() == "pid 1 or pid 2 or tid 3 or comm a* or comm b\\xff or cgroup /x"
    assert all(
        TaskFilter(**{name: (value,)}) for name, value in (("pids", 1), ("tids", 1), ("comms", "a"), ("cgroups", "/"))
    )


@pytest.fixture
def other_thread() -> Iterator[int]:
    """A thread of this process that is not its first, and has a name."""
    ready, stop, tids = threading.Event(), threading.Event(), []

    def run() -> None:
        tids.append(threading.get_native_id())
        Path(f"/proc/self/task/{tids[0]}/comm").write_text(ODD_NAME)
        ready.set()
        stop.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    yield tids[0]
    stop.set()
    thread.join()


def test_threads_and_processes_are_told_apart(other_thread: int) -> None:
    TaskFilter(pids=(os.getpid(),), tids=(other_thread, os.getpid())).check()
    with pytest.raises(UserError, match=f"a thread of process {os.getpid()}") as caught:
        TaskFilter(pids=(other_thread,)).check()
    assert caught.value.remedy == f"-p {os.getpid()}, or -t {other_thread}"
    for absent in (2**30, -1, 0):
        with pytest.raises(UserError, match="no such process"):
            TaskFilter(pids=(absent,)).check()
        with pytest.raises(UserError, match="no such thread"):
            TaskFilter(tids=(absent,)).check()


def test_who_matches_now(other_thread: int) -> None:
    own = {int(path.name) for path in Path("/proc/self/task").iterdir()}
    assert set(TaskFilter(pids=(os.getpid(),)).matching_threads()) == own
    assert set(TaskFilter(comms=(ODD_NAME[:-1] + "*",)).matching_threads()) == {other_thread}
    assert set(TaskFilter(comms=(ODD_NAME,)).matching_threads()) == {other_thread}
    assert set(TaskFilter(comms=(ODD_NAME[:-1],)).matching_threads()) == set()
    assert set(TaskFilter(tids=(4711,)).matching_threads()) == {4711}


def vanish(monkeypatch: pytest.MonkeyPatch, method: str, error: type[OSError], gone: str) -> None:
    original = getattr(Path, method)

    def maybe(self: Path, *arguments: Any, **options: Any) -> Any:
        if str(self).startswith(gone):
            raise error
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, method, maybe)


@pytest.mark.parametrize("error", (FileNotFoundError, ProcessLookupError))
@pytest.mark.parametrize("method", ("iterdir", "read_bytes", "read_text"))
def test_threads_that_end_meanwhile_do_not_hide_others(
    monkeypatch: pytest.MonkeyPatch, other_thread: int, method: str, error: type[OSError]
) -> None:
    pid = os.getpid()
    gone = "/proc/1/task" if method == "iterdir" else f"/proc/{pid}/task/{pid}/"
    vanish(monkeypatch, method, error, gone)
    assert other_thread in set(TaskFilter(comms=(ODD_NAME,)).matching_threads())
    seen = {row["tid"] for row in snapshot.tasks()}
    assert other_thread in seen
    assert (1 if method == "iterdir" else pid) not in seen


def test_the_snapshot_of_this_process(other_thread: int) -> None:
    rows = {row["tid"]: row for row in snapshot.tasks()}
    columns = {column.name for column in KINDS["task"].columns} - {"ts", "kind", "cpu", "seq"}
    assert all(set(row) == columns for row in rows.values())
    mine = rows[other_thread]
    assert (mine["pid"], mine["comm"]) == (os.getpid(), ODD_NAME)
    assert mine["pid_ns"] == Path("/proc/self/ns/pid").stat().st_ino
    assert mine["cgroup"] == filters.cgroup_of(Path("/proc/self"))
    assert rows[os.getpid()]["start_ts"] <= mine["start_ts"] <= snapshot.clocks()["ts"]
    assert mine["start_ts"] > snapshot.clocks()["ts"] - 3600 * 10**9


def test_the_machine() -> None:
    here = snapshot.machine()
    assert here["kernel"] == os.uname().release
    assert all(here.values())
    first, second = snapshot.clocks(), snapshot.clocks()
    assert all(first[name] <= second[name] for name in ("ts", "boottime"))


MOUNTS = b"""proc /proc proc rw 0 0
tmp /mnt/\xff tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw 0 0
cgroup2 %s cgroup2 rw 0 0
"""


@pytest.mark.parametrize(
    ("written", "place"),
    ((b"/sys/fs/cgroup", "/sys/fs/cgroup"), ("/größe\\040v2\\134".encode(), "/größe v2\\"), (b"/\xff", "/\udcff")),
)
def test_where_cgroups_are(monkeypatch: pytest.MonkeyPatch, written: bytes, place: str) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: MOUNTS % written)
    assert filters.cgroup_mount() == Path(place)
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"proc /proc proc rw 0 0\n")
    with pytest.raises(UserError, match="no cgroup v2"):
        filters.cgroup_mount()


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup hierarchy of the test's own: /, /a, /a/b."""
    for directory in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.procs").touch()
    (tmp_path / "plain").mkdir()
    monkeypatch.setattr(filters, "cgroup_mount", lambda: tmp_path)
    return tmp_path


def test_cgroups_are_named_either_way(mount: Path) -> None:
    for name in ("/a/b", "a/b", "a/b/", "/a/../a/b", str(mount / "a" / "b")):
        assert filters.cgroup_directory(name) == mount / "a" / "b"
    assert filters.cgroup_directory("/") == mount
    for name in ("/c", "/plain", "/etc", ""):
        if name:
            with pytest.raises(UserError, match="no such cgroup under"):
                TaskFilter(cgroups=(name,)).check()


def test_threads_of_a_cgroup_and_below(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {1: "/", 2: "/a", 3: "/a/b", 4: "/ab"}
    monkeypatch.setattr(filters, "threads", lambda: [Path(f"/proc/{tid}/task/{tid}") for tid in groups])
    monkeypatch.setattr(filters, "cgroup_of", lambda task: groups[int(task.name)])
    assert set(TaskFilter(cgroups=("/a",)).matching_threads()) == {2, 3}
    assert set(TaskFilter(cgroups=("/a/b",)).matching_threads()) == {3}
    assert set(TaskFilter(cgroups=("/",)).matching_threads()) == {1, 2, 3, 4}


def test_cgroup_of_reads_the_v2_line(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_bytes(b"1:cpu:/x\n0::/a:b/c\xff (deleted)\n")
    assert filters.cgroup_of(tmp_path) == "/a:b/c\\xff"
    (tmp_path / "cgroup").write_bytes(b"1:cpu:/x\n")
    assert filters.cgroup_of(tmp_path) == "/"


def test_followers_of_a_filter(mount: Path) -> None:
    born = c_followers(TaskFilter(pids=(7,)))
    assert set(born) == {"sched:sched_wakeup_new", "sched:sched_process_free"}
    assert "task_struct.tgid) == 7" in born["sched:sched_wakeup_new"]
    names = c_followers(TaskFilter(comms=("a*",)))["task:task_rename"]
    assert "else watch" in names
    # Another condition may have brought the thread in: a new name must not put it out.
    assert "else watch" not in c_followers(TaskFilter(comms=("a*",), tids=(5,)))["task:task_rename"]
    inside = c_followers(TaskFilter(cgroups=("/a/b",)))["sched:sched_switch"]
    assert f"bpf_get_current_ancestor_cgroup_id(2) == {(mount / 'a' / 'b').stat().st_ino}ULL" in inside
    assert filters.seed_key(-2) == (b"\xfe\xff\xff\xff", b"\1")


# ---- which kinds ----

HERE = frozenset(probe for event in KINDS.values() for probe in event.probes if "*" not in probe) | {
    "irq_vectors:local_timer_entry", "irq_vectors:local_timer_exit", "irq_vectors:irq_work_entry",
    "sched:sched_stat_runtime", "9p:9p_client_req", "other:sched_switch", "other:lost",
}  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "tracepoints", lambda: HERE - {"syscalls:sys_exit_epoll_pwait2"})
    monkeypatch.setattr(tracefs, "has_fields", lambda event, tracepoint: event.kind != "sk_data_ready")
    made = lambda name: Event(name.partition(":")[2], "extra", "", (name,))  # noqa: E731
    monkeypatch.setattr(tracefs, "runtime_event", made)


@pytest.mark.usefixtures("here")
def test_nothing_named_means_all_that_is_there() -> None:
    found = select(())
    kinds = [event.kind for event in found.events]
    lacking = {"sys_exit_epoll_pwait2", "sk_data_ready"}
    functions = {"ep_poll_callback", "inet_csk_accept"}  # whether this kernel has them is not made up here
    assert set(kinds) | functions == {kind for group in DEFAULT_GROUPS for kind in GROUPS[group]} - lacking
    assert len(set(kinds)) == len(kinds)
    assert set(found.missing) - functions == lacking
    assert functions <= set(kinds) | set(found.missing)
    assert "no tracepoint" in found.missing["sys_exit_epoll_pwait2"]
    assert "lacks a field" in found.missing["sk_data_ready"]
    assert all(found.tracepoints[kind] for kind in kinds)
    assert matching(KINDS["irq_vector_entry"]) == ("irq_vectors:irq_work_entry", "irq_vectors:local_timer_entry")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("names", "kinds"),
    (
        (("sched_switch",), {"sched_switch"}),
        (("sched:sched_switch",), {"sched_switch"}),
        ((" sched_switch , irq_handler_entry ",), {"sched_switch", "irq_handler_entry"}),
        (("sched", "sched_switch"), set(GROUPS["sched"])),
        (("sched:sched_stat_runtime",), {"sched_stat_runtime"}),
        (("irq_vectors:local_timer_entry",), {"local_timer_entry"}),
        (("9p:9p_client_req",), {"9p_client_req"}),
    ),
)
def test_names_groups_and_tracepoints(names: tuple[str, ...], kinds: set[str]) -> None:
    assert {event.kind for event in select(names).events} == kinds | set(GROUPS["task"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "said"),
    (
        ("sched_swich", "nearest: sched_switch"),
        ("sched_stat_runtim", "sched:sched_stat_runtime"),
        ("zzz", "groups: sched"),
        ("lost", "no such event"),
        ("sk_data_ready", "lacks a field"),
        ("sys_exit_epoll_pwait2", "no tracepoint"),
        ("other:sched_switch", "another kind of that name"),
        ("other:lost", "another kind of that name"),
        ("irq_vectors:irq_work_entry", "without end"),
    ),
)
def test_what_cannot_be_selected_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        selection.select([name])
    near = caught.value.remedy.removeprefix("nearest: ").split(", ")
    assert len(near) == len(set(near))
