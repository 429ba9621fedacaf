"""Containers by id: the path forms of the engines, what is none of them, and questions about one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.containers import container_id, path_pattern
from tracectl.store.errors import QueryError, UserError
from tracectl.store.writer import write_rows

ID = "4f3a12b8c9d0" + "0123456789abcdef" * 3 + "0123"
SHORT = ID[:12]
INSIDE = (
    f"/docker/{ID}",
    f"/system.slice/docker-{ID}.scope",
    f"/kubepods/burstable/pod1b2c3d4e/{ID}",
    f"/kubepods.slice/kubepods-pod1b.slice/cri-containerd-{ID}.scope",
    f"/kubepods.slice/kubepods-pod1b.slice/crio-{ID}.scope",
    f"/machine.slice/libpod-{ID}.scope",
    f"/machine.slice/libpod-{ID}.scope/container/init",
    f"/default/{ID}",
)
OUTSIDE = (
    "/", "/user.slice", f"/kubepods.slice/crio-conmon-{ID}.scope", f"/machine.slice/libpod-conmon-{ID}.scope",
    f"/docker/a{ID}", f"/docker/{ID}x", f"/docker/{ID[1:]}", f"/system.slice/docker-{ID}.service",
)  # fmt: skip


@pytest.mark.parametrize("given", (SHORT, ID, ID[:20].upper(), f"containerd://{ID}", f"cri-o://{ID}"))
def test_paths_of_every_engine(given: str) -> None:
    pattern = re.compile(path_pattern(container_id(given)))
    assert all(pattern.search(path) for path in INSIDE)
    assert not any(pattern.search(path) for path in OUTSIDE)


@pytest.mark.parametrize("given", ("", "web", SHORT[:11], ID + "0", "4f3a12b8c9d0.*", "docker://"))
def test_what_is_no_id(given: str) -> None:
    with pytest.raises(UserError, match="no container id"):
        container_id(given)


def test_questions_about_a_container(tmp_path: Path) -> None:
    rows = []
    for tid, path in enumerate((*INSIDE, *OUTSIDE), 100):
        rows.append({"kind": "task", "ts": 0, "cpu": None, "tid": tid, "pid": tid, "comm": "x", "cgroup": path})
        rows.append({"kind": "sched_waking", "ts": tid, "cpu": 0, "tid": 1, "target_tid": tid, "context": "task"})
    kinds = ["sched_waking", "sched_process_fork"]
    capture = Capture.open(write_rows(tmp_path / "x.parquet", rows, kinds=kinds))
    inside = [(tid,) for tid in range(100, 100 + len(INSIDE))]
    for given in (SHORT, f'"{ID}"', f"containerd://{ID}"):
        assert ask(capture, f"wakeups of container {given} | select tid").rows() == inside
        assert ask(capture, f"tasks of container {given} | select tid").rows() == inside
    both = ask(capture, f"wakeups of container {SHORT} or tid 108 | count")
    assert both.rows() == [(len(INSIDE) + 1,)]
    assert SHORT not in both.sql
    with pytest.raises(QueryError, match="no container id") as caught:
        ask(capture, "wakeups of container web")
    assert "^^^" in str(caught.value)
