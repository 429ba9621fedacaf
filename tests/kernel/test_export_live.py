"""A live recording, exported: the reference reader and Perfetto find in it what the kernel counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import ORACLES, Workload, need
from tracectl.cli import main

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("form", ["ftrace-text", "perf-script"])
def test_the_reference_reader_agrees_with_the_kernel(workload: Workload, tmp_path: Path, form: str) -> None:
    checker = ORACLES / "check_gt.py"
    need(checker.is_file(), f"no {checker.name}")
    text = tmp_path / "live.txt"
    assert main(["export", str(workload.path), "--to", form, "-o", str(text)]) == 0
    command = [sys.executable, str(checker), str(workload.folder / "truth.json"), str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("RESULT ok")


def test_contexts_of_the_text_are_those_of_the_kernels_flags(workload: Workload, tmp_path: Path) -> None:
    """Per wakeup that both recorders have: the third flag. ``H``, a hard irq inside a softirq, is a hard irq to us."""
    text = tmp_path / "live.txt"
    assert main(["export", str(workload.path), "--to", "ftrace-text", "-o", str(text)]) == 0
    ours = _wakings(text.read_text(encoding="utf-8").splitlines())
    kernel = _wakings(workload.ftrace)
    tids = {task["tid"] for task in workload.truth["tasks"]}
    compared = 0
    for key, theirs in kernel.items():
        mine = ours.get(key, [])
        if key[1] not in tids or len(mine) != len(theirs):
            continue
        compared += len(theirs)
        assert mine == theirs, key
    assert compared > 300


def _wakings(lines: list[str]) -> dict[tuple[int, int], list[str]]:
    """(waker, woken) -> the contexts of the wakeups, in order."""
    found: dict[tuple[int, int], list[str]] = {}
    for line in lines:
        head, separator, rest = line.partition(": sched_waking: ")
        if separator:
            before, _, after = head.partition(" [")
            waker = int(before.partition("(")[0].rpartition("-")[2])
            woken = int(rest.rpartition(" pid=")[2].partition(" ")[0])
            found.setdefault((waker, woken), []).append(after.split()[1][2].replace("H", "h"))
    return found
