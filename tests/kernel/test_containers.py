"""Recording one container: a cgroup with an engine's name, and a PID namespace in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, eventually, need, record_to
from tracectl.query import ask
from tracectl.recorder.containers import cgroups_of, host_pid
from tracectl.recorder.filters import cgroup_mount
from tracectl.store.errors import UserError

pytestmark = pytest.mark.kernel
ID = "c0ffee" + os.urandom(29).hex()
# Process 1 of the namespace and, with another id inside than outside, a child that sleeps and wakes.
INSIDE = "echo $$ > {cgroup}/cgroup.procs; exec unshare --pid --fork sh -c 'while :; do sleep 0.01; done & wait'"


@pytest.fixture
def container() -> Iterator[Path]:
    """The cgroup of something like a container that runs."""
    need(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare are needed")
    cgroup = cgroup_mount() / f"docker-{ID}.scope"
    cgroup.mkdir()
    process = subprocess.Popen(["sh", "-c", INSIDE.format(cgroup=cgroup)], start_new_session=True)
    try:
        assert eventually(lambda: len((cgroup / "cgroup.procs").read_text().split()) >= 3)
        yield cgroup
    finally:
        (cgroup / "cgroup.kill").write_text("1")
        process.wait()
        assert eventually(lambda: not (cgroup / "cgroup.procs").read_text())
        cgroup.rmdir()


def test_a_container_and_a_process_in_it(container: Path, tmp_path: Path) -> None:
    assert cgroups_of(ID[:12]) == (f"/{container.name}",)
    first = host_pid(ID, 1)
    assert f"docker-{ID}.scope" in Path(f"/proc/{first}/cgroup").read_text()
    assert Path(f"/proc/{first}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
    whole = Recorded(record_to(tmp_path / "x.parquet", "sleep", "0.5", events=("sched",), container=ID[:12]).path)
    names = {
        comm for (comm,) in whole.rows("SELECT DISTINCT target_comm FROM sched_waking WHERE target_comm = 'sleep'")
    }
    assert names == {"sleep"}
    asked = whole.ask(f"wakeups of container {ID[:14]} | count")
    assert asked[0][0] > 0
    assert str(ask(whole.capture, f"wakeups of container {ID[:14]}").qualification) == "exact"
    assert whole.capture.footer.filter == f"cgroup /{container.name}"
    one = Recorded(record_to(tmp_path / "y.parquet", "true", events=("sched",), container=ID, pids=(1,)).path)
    assert one.capture.footer.filter == f"pid {first}"
    with pytest.raises(UserError, match="-p 30000: no such process in container"):
        host_pid(ID, 30000)


def test_a_container_that_does_not_run() -> None:
    with pytest.raises(UserError, match="no process runs in a container"):
        cgroups_of("0123456789abcdef" * 4)
