"""``tracectl record`` as a command: its options reach the recorder, the summary, the exit code, what a pipe gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl import ledger
from tracectl.command_record import StatusLine
from tracectl.recorder import session
from tracectl.recorder.drain import Outcome, Status
from tracectl.store.footer import LedgerLine

Run = Callable[..., Any]
SECOND = 1_000_000_000


def outcome(
    path: Path, *lines: LedgerLine, exit_code: int | None = None, causes: dict[str, int] | None = None
) -> Outcome:
    """A finished recording with this ledger."""
    path.write_bytes(b"x" * 2048)
    recorded = sum(line.recorded for line in lines)
    lost = sum(line.lost for line in lines)
    return Outcome(
        path=path, events=recorded, lost=lost, size=2048, elapsed_ns=5 * SECOND, cpu_ns=SECOND, ledger=list(lines),
        causes=causes or {}, missing={}, stopped_by="duration reached", command_exit=exit_code,
    )  # fmt: skip


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Puts a recorder in place that notes its options and says that nothing was lost."""
    calls: list[Any] = []

    def pretend(options: session.RecordOptions, on_status: object = None) -> Outcome:
        calls.append((options, on_status))
        return outcome(
            tmp_path / "x.parquet", LedgerLine("sched", 0, 5, 5, 0), exit_code=7 if options.command else None
        )

    monkeypatch.setattr(session, "record", pretend)
    return calls


def test_options_reach_the_recorder(run: Run, recorded: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "record -o w.parquet -d 250ms -e sched,irq -e sched:sched_stat_runtime -p 1 -p 2 -t 3 --comm wrk:* --cgroup /a"
    )
    words += " -n 1000 --max-size 500M --buffer 64K --force --realtime --keep 10m"
    words += " --stats-json - --prometheus x.prom"
    monkeypatch.setattr(sys, "argv", ["/somewhere/tracectl", *words.split()])
    assert run(*words.split()).code == 0
    ((options, on_status),) = recorded
    assert options == session.RecordOptions(
        output=Path("w.parquet"), duration_ns=250_000_000, events=("sched,irq", "sched:sched_stat_runtime"),
        pids=(1, 2), tids=(3,), comms=("wrk:*",), cgroups=("/a",), max_events=1000, max_size=500 << 20,
        buffer_bytes=64 << 10, keep_ns=600 * SECOND, realtime=True,
        stats_json=Path("-"), prometheus=Path("x.prom"), force=True, command=(),
        command_line=("tracectl", *words.split()),
        debug=bool(os.environ.get("TRACECTL_DEBUG")),
    )  # fmt: skip
    assert on_status is None, "there is no terminal here"


def test_defaults_are_the_recorders(run: Run, recorded: list[Any]) -> None:
    assert run("record").code == 0
    options = recorded[0][0]
    assert options.buffer_bytes == session.DEFAULT_BUFFER
    assert options.output.name.startswith("tracectl-") and options.output.suffix == ".parquet"
    assert (options.duration_ns, options.events, options.command) == (None, (), ())


@pytest.mark.parametrize("words", [["--", "make", "-j", "8"], ["make", "-j", "8"]])
def test_a_command_keeps_its_own_options_and_exit_code(run: Run, recorded: list[Any], words: list[str]) -> None:
    assert run("record", "-q", *words) == (7, "", "")
    assert recorded[0][0].command == ("make", "-j", "8")


def test_summary(run: Run, recorded: list[Any]) -> None:
    code, out, err = run("record")
    assert (code, out) == (0, "")
    assert "5 events in 5s, 2K (duration reached)" in err
    assert err.endswith("nothing was lost\n")


def test_loss_is_told_even_when_quiet(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lossy = outcome(tmp_path / "x.parquet", LedgerLine("sched", 0, 1100, 1000, 100), causes={"tail": 100})
    monkeypatch.setattr(session, "record", lambda *_: lossy)
    err = run("record", "-q").err.splitlines()
    assert err[0] == "LOST 100 of 1,100 events (9.1 %)"
    assert err[1].startswith("  100 tail: ") and "larger --buffer" in err[1]


@pytest.mark.parametrize(
    ("lines", "told", "complete"),
    [
        ([], "not known", False),
        ([LedgerLine("sched", 0, 5, 5, 0)], "nothing was lost", True),
        ([LedgerLine("sched", 0, 5, 5, 0, 2)], "at most 2 events skipped", False),
        ([LedgerLine("sched", 0, 5, 4, 0), LedgerLine("sched", 1, 5, 6, 0)], "does not add up: 2 events", False),
    ],
)
def test_verdict(lines: list[LedgerLine], told: str, complete: bool) -> None:
    verdict = ledger.verdict(lines)
    assert told in verdict.line and verdict.complete is complete


def test_gaps_that_nobody_counted_are_told(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gaps = outcome(tmp_path / "x.parquet", LedgerLine("sched", 0, 5, 5, 0), causes={"undeclared": 3})
    monkeypatch.setattr(session, "record", lambda *_: gaps)
    assert run("record", "-q").err.splitlines()[0] == "3 gaps of unknown size"


def test_status_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    line = StatusLine()
    line.show(Status(SECOND, 1_000, 0, 0))
    line.show(Status(2 * SECOND, 251_000, 12, 3 << 20))
    err = capfd.readouterr().err
    first, second = err.split("\r")[1:]
    assert "1.0s  1,000 events/s  lost 0" in first
    assert "2.0s  250,000 events/s  lost 12  3M" in second
    assert "\n" not in err
    monkeypatch.setenv("COLUMNS", "20")
    line.show(Status(3 * SECOND, 252_000, 0, 0))
    assert capfd.readouterr().err == "\rrecording 3.0s  1,0"  # one column is left for the cursor


@pytest.mark.kernel
def test_live(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "live.parquet"
    code, out, err = run("record", "-o", target, "--", "sh", "-c", "exit 7")
    assert (code, out) == (7, "")
    assert "\r" not in err and "\x1b" not in err
    assert "(command ended)" in err
    assert run("info", target).code == 0
    assert "sched_switch" in run("dump", target, "-k", "sched_switch").out


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("without", "told", "remedy"),
    [
        ("umount -l /sys/kernel/tracing; mount -t tmpfs none /sys/kernel/debug", "tracefs", "mount -t tracefs"),
        ("mount -t tmpfs none /sys/kernel/btf", "BTF", ""),
    ],
    ids=["tracefs", "BTF"],
)
def test_what_the_machine_lacks(tmp_path: Path, without: str, told: str, remedy: str) -> None:
    # In a mount namespace of its own: nothing changes for the rest of the machine.
    record = f"'{sys.executable}' -m tracectl record -d 100ms -o '{tmp_path}/x.parquet'"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{without}; exec {record}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("this container allows no mount namespace")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tracectl: ") and told in done.stderr and remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
