"""docs/probes.md: every command on it is understood, and what the page shows is what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tracectl.recorder.probe_spec import is_spec, parse_spec
from tracectl.recorder.selection import split_names
from tracectl.store.writer import write_rows

PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text("utf-8")
SHOWN = re.findall(r"^\$ tracectl (.+)\n((?:(?!\$ |```).*\n)*)", PAGE, re.MULTILINE)
COMMANDS = re.findall(r"^sudo tracectl (record .+)$", PAGE, re.MULTILINE)


def captures(folder: Path) -> None:
    """Two workers woken by one connection, then data for the winner; and a recording without callbacks."""
    listening = {"saddr": "0.0.0.0", "sport": 15006, "daddr": "0.0.0.0", "dport": 0, "tcp_state": 10, "family": 2}
    connected = {
        "saddr": "127.0.0.1",
        "sport": 15006,
        "daddr": "127.0.0.1",
        "dport": 38590,
        "tcp_state": 1,
        "family": 2,
    }
    rows: list[dict[str, Any]] = []
    for ts, worker, fd, ends in ((1, 0, 36, listening), (2, 1, 40, listening), (9, 0, 42, connected)):
        target = {"target_tid": 4449 + worker, "target_pid": 4182, "target_comm": f"wrk:worker_{worker}"}
        row = {"kind": "sched_waking", "ts": ts, "cpu": 0, "tid": 0, "context": "softirq", "context_vec": 3}
        rows.append({**row, **target, "fd": fd, **ends})
    write_rows(folder / "herd.parquet", rows, kinds=["sched_waking", "ep_poll_callback"])
    write_rows(folder / "other.parquet", [], kinds=["sched_waking"], cpus=(0,))


@pytest.mark.parametrize("example", SHOWN, ids=lambda example: example[0])
def test_the_page_shows_what_is_said(
    run: Any, example: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    command, expected = example
    done = run(*shlex.split(command))
    assert [line.rstrip() for line in (done.out + done.err).splitlines()] == expected.rstrip("\n").splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_probes_on_the_page_are_understood(command: str) -> None:
    words = shlex.split(command)
    values = [words[n + 1] for n, word in enumerate(words) if word in ("-e", "--stacks")]
    specs = [name for name in split_names(values) if is_spec(name)]
    assert all(parse_spec(spec).symbol for spec in specs)
    assert specs or "--profile" in words


def test_there_are_examples() -> None:
    assert len(SHOWN) >= 3
    assert len(COMMANDS) >= 8
