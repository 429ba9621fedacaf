"""Recording from inside a PID namespace: ids given are those seen there, ids in the capture the machine's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACECTL, Recorded, environment, eventually, need
from tracectl.recorder import namespace
from tracectl.recorder.containers import said_of_absent
from tracectl.recorder.filters import TaskFilter
from tracectl.store.errors import RecordError, UserError

pytestmark = pytest.mark.kernel
SLEEPER = "import os, time\nopen('{ids}', 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.005)"
# Process 1 of the namespace: a sleeper, a recording of it, and then nothing until the test has looked.
INSIDE = """
"$PYTHON" -c "$SLEEPER" &
while [ ! -s ids ]; do sleep 0.01; done
$TRACECTL record -o x.parquet -d 700ms --stacks sched_switch -e sched -p $(cat ids) 2> said
$TRACECTL record -q -o y.parquet -d 200ms -e sched_switch -t $(cat ids) --comm 'no*'
$TRACECTL doctor > doctor
touch done
wait
"""


def outside(inner: int, argument: str) -> int:
    """The process that has this id in a namespace below, and this in its command line."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and argument in (process / "cmdline").read_text(errors="replace"):
            status = (process / "status").read_text(errors="replace")
            ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            found += [int(process.name)] if len(ids) > 1 and int(ids[-1]) == inner else []
    (only,) = found
    return only


def test_a_recording_made_inside(tmp_path: Path) -> None:
    need(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare are needed")
    need(not namespace.inside(), "the test itself runs inside a PID namespace")
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INSIDE], cwd=tmp_path,
        env=environment(
            TRACECTL=" ".join(TRACECTL), SLEEPER=SLEEPER.format(ids=tmp_path / "ids"), PYTHON=sys.executable
        ),
    )  # fmt: skip
    try:
        assert eventually(lambda: (tmp_path / "done").exists() or process.poll() is not None)
        inner = int((tmp_path / "ids").read_text())
        pid = outside(inner, str(tmp_path / "ids"))
        assert f"-p {pid} (python" in said_of_absent(inner)
    finally:
        process.kill()
        process.wait()
    whole, some = Recorded(tmp_path / "x.parquet"), Recorded(tmp_path / "y.parquet")
    assert whole.capture.footer.filter == f"pid {pid}" and some.capture.footer.filter == f"tid {pid} or comm no*"
    assert f"pid {pid} was recorded" in (tmp_path / "said").read_text()
    assert "-p and -t take ids as seen here" in (tmp_path / "doctor").read_text()
    noted = "SELECT tid, pid FROM capture WHERE kind = 'task' AND ns_tid = $inner"
    assert whole.rows(noted, inner=inner) == some.rows(noted, inner=inner) == [(pid, pid)]
    slept = "SELECT COUNT(*) > 20 FROM sched_switch WHERE tid = $pid"
    assert whole.rows(slept, pid=pid) == some.rows(slept, pid=pid) == [(True,)]
    # Nothing else but what is about it.
    about = "SELECT COUNT(*) FROM sched_switch WHERE tid <> $pid AND next_tid <> $pid"
    assert whole.rows(about, pid=pid) == some.rows(about, pid=pid) == [(0,)]
    # And the names in its stacks are its own.
    stacks = whole.rows(
        "SELECT DISTINCT s.folded FROM sched_switch w JOIN capture s ON s.stack_id = w.ustack"
        " WHERE w.tid = $pid", pid=pid,
    )  # fmt: skip
    assert any("nanosleep" in folded for (folded,) in stacks)
    # The recorder knows itself.
    own = whole.rows("SELECT DISTINCT comm, tid FROM capture WHERE kind = 'recorder'")
    assert {tid for _, tid in own} <= {tid for (tid,) in whole.rows("SELECT tid FROM capture WHERE kind = 'task'")}


def test_outside_of_any_nothing_is_translated() -> None:
    need(not namespace.inside(), "the test itself runs inside a PID namespace")
    with namespace.entered():
        assert (namespace.machine(4182), namespace.here(4182)) == (4182, 4182)
        assert namespace.own() == (os.getppid(), os.getpid())


def test_a_kernel_without_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(namespace, "_OWN", tmp_path / "pid")
    assert not namespace.inside()


def test_a_number_that_is_a_process_inside_only(tmp_path: Path) -> None:
    need(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare are needed")
    # What runs in a namespace of its own, under a number that nothing has here.
    last = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    need(not Path(f"/proc/{last}").exists(), f"there is a process {last}")
    script = f"echo {last - 1} > /proc/sys/kernel/ns_last_pid; sleep 100 & touch {tmp_path}/ready; wait"
    process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script])
    try:
        assert eventually((tmp_path / "ready").exists)
        with pytest.raises(UserError, match=f"-p {last}: no such process") as caught:
            TaskFilter(pids=(last,)).check(said_of_absent)
    finally:
        process.kill()
        process.wait()
    assert "(sleep) has that id inside a PID namespace" in caught.value.remedy


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_program: int) -> int:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(namespace, "inside", lambda: True)
    monkeypatch.setattr(namespace, "link_iterator", refused)
    with pytest.raises(RecordError, match="inside a PID namespace") as caught, namespace.entered():
        pass
    assert "--pid=host" in caught.value.remedy


def test_proc_of_the_machine_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process inside has it where it is bound there: its ids need no translation."""
    monkeypatch.setattr(namespace, "inside", lambda: True)
    with namespace.entered():
        assert namespace.machine(2**22 + 5) == 2**22 + 5
