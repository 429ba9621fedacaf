"""The view of ep_poll_interact: a log, imported and replayed, is the log again; and the story of examples/envoy."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "traces"
LOG = FOLDER / "pubdiy" / "ep_poll_interact.bt.log"
HEAD = "Tracing nanosecond time in off-CPU stacks. Ctrl-C to end."
needs_log = pytest.mark.skipif(not LOG.is_file(), reason=f"no traces in {FOLDER}")


@pytest.fixture(scope="module")
def made_up() -> ModuleType:
    """examples/envoy/log.py."""
    spec = importlib.util.spec_from_file_location("envoy_log", ROOT / "examples/envoy/log.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def again(run: Any, tmp_path: Path) -> Any:
    """Imports a log and prints it again."""

    def make(log: Path, pid: int) -> list[str]:
        capture = tmp_path / "log.parquet"
        assert run("import", log, "-o", capture, "--force").code == 0
        code, out, err = run("replay", capture, "--as", "epoll", "--", pid)
        assert (code, err) == (0, "")
        return out.splitlines()

    return make


def test_a_log_comes_out_as_it_went_in(again: Any, made_up: ModuleType, tmp_path: Path) -> None:
    lines = list(made_up.lines())
    log = tmp_path / "made-up.log"
    log.write_text("\n".join(lines) + "\n")
    assert again(log, made_up.PID) == lines[1:]
    assert not [line for line in again(log, 4711) if "waker" in line or "wakeup" in line]


@needs_log
def test_the_real_log_comes_out_as_it_went_in(again: Any) -> None:
    lines = LOG.read_text().splitlines()
    begin, end = lines.index(HEAD), lines.index("^C")
    assert again(LOG, 4182) == lines[begin:end]


def test_sockets_of_ipv6_and_what_is_not_known(run: Any, trace: Any, capture_of: Any) -> None:
    socket = {"fd": 7, "saddr": "::1", "sport": 8080, "daddr": "::1", "dport": 40000, "family": 10, "socket": -256}
    thread = {"target_tid": 4450, "target_pid": 4182, "target_comm": "w\x1b"}
    trace.event(5_000_000, 0, "sched_waking", "curl:9", **thread, **socket, tcp_state=1)
    trace.event(6_000_000, 0, "sched_waking", "curl:9", **thread, fd=8)
    trace.event(7_000_000, 0, "sched_waking", "curl:9", **thread)  # not through epoll
    trace.event(8_000_000, 0, "sys_exit_epoll_wait", "w:4450/4182", ret=0)
    trace.event(8_000_000, 0, "sys_exit_epoll_pwait", "w:4450/4182", ret=2)
    trace.lost(6_000_000, 8_000_000, 0, "sched", 3)
    trace.options["end_ts"] = 9_000_000
    code, out, err = run("replay", capture_of(trace).path, "--as", "epoll", "--", 4182)
    assert code == 0 and "3 events of sched" in err and "not recorded, so that their lines are missing" in err
    assert out.splitlines() == [
        HEAD,
        "",
        "***waker: elapsed=5          tid=9,comm=curl: ep_poll_callback: "
        "fd=7,            ::1:8080              ::1:40000  ESTABLISHED socket=0xffffffffffffff00",
        "try_to_wake_up: wakeupedPID=4182, wakeupedTID=4450, wakeupedTIDComm=w\\x1b",
        "",
        "***waker: elapsed=6          tid=9,comm=curl: ep_poll_callback: "
        "fd=8,              ?:?                   ?:?           ? socket=?",
        "try_to_wake_up: wakeupedPID=4182, wakeupedTID=4450, wakeupedTIDComm=w\\x1b",
        "--------",
        "***sleeper-wakeup: elapsed=8         , pid=4182, tid=4450,comm=w, event_count=2",
    ]  # fmt: skip


def test_without_callbacks_it_is_unknowable(run: Any) -> None:
    code, out, err = run("replay", ROOT / "examples/sample.parquet", "--as", "epoll", "--", 4182)
    assert (code, out) == (1, "") and "what a wakeup came through was not recorded" in err
    code, _, err = run("replay", ROOT / "examples/sample.parquet", "--as", "epoll")
    assert code == 1 and "required: PID" in err


def _story(*arguments: object) -> str:
    command = [sys.executable, str(ROOT / "examples/envoy/story.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_story_on_a_log_that_is_made_up(made_up: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "made-up.log"
    log.write_text("\n".join(made_up.lines(10)) + "\n")
    told = _story(log)
    assert "LISTEN       15006     20\n" in told  # both workers for each of ten connections
    assert "\ncount\n   10\n" in told
    assert 'by comm "swapper/*"' in told and "cannot be told from this capture" in told
    assert f"{HEAD}\n\n***waker: elapsed=20 " in told


@needs_log
def test_the_story_on_the_real_log() -> None:
    told = _story(LOG)
    assert "LISTEN       15021     62\n" in told and "\ncount\n   34\n" in told
    assert "wrk:worker_0     23\nwrk:worker_1     10\n" in told
    assert "0xffff9f5e5390abc0  15021      2\n" in told
