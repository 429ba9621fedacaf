"""Filtered recordings against an unfiltered one of the same moment: what matches is complete, nothing else is there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import TRACECTL, Recorded, eventually, need, record_to
from tracectl.recorder.filters import cgroup_mount
from tracectl.store.errors import UserError

pytestmark = pytest.mark.kernel

# Events this near to the begin or end of the filtered recording may be on either side of it for the other recorder.
EDGE_NS = 3_000_000
_KEY = "kind, cpu, tid, comm, next_tid, target_tid, child_tid, prev_state, vec, irq, fd, ret, new_state"


@dataclass
class Target:
    """The process that is recorded, waiting to be told to work; ``threads``: name -> tids, complete after the run."""

    folder: Path
    process: subprocess.Popen[str]
    threads: dict[str, list[int]] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tids(self, *names: str) -> set[int]:
        """Thread ids by name; without names those of all its threads, without the child's."""
        wanted = names or tuple(name for name in self.threads if name != "child")
        return {tid for name in wanted for tid in self.threads[name]}

    def run_under(self, *options: str, before: str = ":") -> tuple[Recorded, Recorded]:
        """Let it work under a recorder with these filter options, itself under one without; returns (filtered, all)."""
        drive = (
            f"{before}; echo go > {shlex.quote(str(self.folder / 'in'))}; cat {shlex.quote(str(self.folder / 'out'))}"
        )
        filtered, everything = self.folder / "filtered.parquet", self.folder / "all.parquet"
        inner = [*TRACECTL, "record", "-q", "-o", filtered, *options, "--", "sh", "-c", f"{drive} > {self.folder}/said"]
        assert record_to(everything, *inner).command_exit == 0
        assert self.process.wait(10) == 0
        self.threads = json.loads((self.folder / "said").read_text())
        for recorded in (Recorded(filtered), Recorded(everything)):
            assert [line for line in recorded.capture.ledger() if line.residue or line.lost] == []
        return Recorded(filtered), Recorded(everything)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    command = [sys.executable, Path(__file__).with_name("filter_target.py"), tmp_path / "in", tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Target(tmp_path, process, json.loads(process.stdout.readline()))
        if process.poll() is None:
            process.kill()


def _about_tids(tids: set[int]) -> tuple[str, dict[str, Any]]:
    """The condition that an event is about one of these threads."""
    columns = ("tid", "next_tid", "target_tid", "child_tid")
    return " OR ".join(f"{column} IN (SELECT UNNEST($tids::INTEGER[]))" for column in columns), {"tids": list(tids)}


def _about_comm(pattern: str) -> tuple[str, dict[str, Any]]:
    """The condition that an event is about a thread that has such a name at that moment (SQL's LIKE)."""
    columns = ("comm", "next_comm", "target_comm", "child_comm")
    return " OR ".join(f"{column} LIKE $pattern" for column in columns), {"pattern": pattern}


def _events(recorded: Recorded, condition: str, begin: int, end: int, **values: Any) -> Counter[tuple[Any, ...]]:
    sql = f"SELECT {_KEY}, COUNT(*) FROM events WHERE ({condition}) AND ts BETWEEN $a AND $b GROUP BY ALL"
    return Counter({tuple(row[:-1]): row[-1] for row in recorded.rows(sql, a=begin, b=end, **values)})


def _same(filtered: Recorded, everything: Recorded, about: tuple[str, dict[str, Any]]) -> int:
    """Check that both hold the same events of that condition; returns how many."""
    condition, values = about
    begin, end = filtered.capture.start_ts, filtered.capture.end_ts
    inner, outer = (begin + EDGE_NS, end - EDGE_NS), (begin - EDGE_NS, end + EDGE_NS)
    # An event during which the same probe of that recorder ran already is skipped by the kernel, and counted.
    skipped = sum(line.skipped for recorded in (filtered, everything) for line in recorded.capture.ledger())
    missing = _events(everything, condition, *inner, **values) - _events(filtered, condition, *outer, **values)
    added = _events(filtered, condition, *inner, **values) - _events(everything, condition, *outer, **values)
    assert missing.total() <= skipped, missing.most_common(5)
    assert added.total() <= skipped, added.most_common(5)
    return _events(filtered, condition, *outer, **values).total()


def _nothing_else(filtered: Recorded, about: tuple[str, dict[str, Any]]) -> None:
    condition, values = about
    others = filtered.rows(f"SELECT {_KEY} FROM events WHERE NOT COALESCE({condition}, FALSE) LIMIT 5", **values)
    assert others == []


def test_a_process_with_threads_to_come(target: Target) -> None:
    filtered, everything = target.run_under("-p", str(target.pid))
    about = _about_tids(target.tids())
    assert _same(filtered, everything, about) > 500
    _nothing_else(filtered, about)
    assert filtered.capture.filter == f"pid {target.pid}"
    for tid in target.tids("flt:new"):
        steps = filtered.rows(
            "SELECT CASE WHEN next_tid = $tid THEN 'in' ELSE prev_state END FROM sched_switch"
            " WHERE tid = $tid OR next_tid = $tid ORDER BY seq",
            tid=tid,
        )
        assert (steps[0], steps[-1]) == (("in",), ("X",))
        assert [step == ("in",) for step in steps] == [number % 2 == 0 for number in range(len(steps))]
    # Who woke its threads, and who ran instead of them, is kept.
    own = {"tids": list(target.tids())}
    wakers = filtered.rows(
        "SELECT COUNT(*) FROM sched_waking WHERE tid NOT IN (SELECT UNNEST($tids::INTEGER[]))"
        " AND target_tid IN (SELECT UNNEST($tids::INTEGER[]))",
        **own,
    )
    instead = filtered.rows(
        "SELECT COUNT(*) FROM sched_switch WHERE tid IN (SELECT UNNEST($tids::INTEGER[]))"
        " AND next_tid NOT IN (SELECT UNNEST($tids::INTEGER[]))",
        **own,
    )
    assert wakers[0][0] > 20
    assert instead[0][0] > 20


def test_one_thread(target: Target) -> None:
    tid = target.threads["flt:old"][0]
    filtered, everything = target.run_under("-t", str(tid))
    about = _about_tids({tid})
    assert _same(filtered, everything, about) > 40
    _nothing_else(filtered, about)


@pytest.mark.parametrize(("option", "like"), [("flt:*", "flt:%"), ("flt:late", "flt:late")])
def test_a_name_as_it_is_at_each_moment(target: Target, option: str, like: str) -> None:
    filtered, everything = target.run_under("--comm", option)
    about = _about_comm(like)
    assert _same(filtered, everything, about) > 40
    _nothing_else(filtered, about)
    late = target.threads["flt:late"][0]
    # Unless the thread that runs instead has such a name: then it is kept for that one's sake.
    named = "SELECT COUNT(*) FROM sched_switch WHERE tid = $late AND comm = $name AND next_comm NOT LIKE 'flt:%'"
    assert filtered.rows(named, late=late, name="flt:late")[0][0] > 0
    assert filtered.rows(named, late=late, name="other") == [(0,)]
    assert everything.rows(named, late=late, name="other")[0][0] > 0


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of its own, removed afterwards."""
    place = None
    try:
        place = cgroup_mount() / f"tracectl-test-{os.getpid()}"
        place.mkdir()
    except (UserError, OSError) as error:
        need(False, f"no cgroup v2 can be made: {error}")
    assert place is not None
    try:
        yield place
    finally:
        assert eventually(lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()


def test_a_cgroup_with_processes_to_come(target: Target, cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(target.pid))
    # The driving shell moves in during the recording, and its children with it.
    enter = f"echo $$ > {target.folder}/shell; echo $$ > {cgroup}/cgroup.procs; sleep 0.02"
    filtered, everything = target.run_under("--cgroup", str(cgroup), before=enter)
    about = _about_tids(target.tids() | target.tids("child"))
    assert _same(filtered, everything, about) > 500
    shell = int((target.folder / "shell").read_text())
    children = {tid for (tid,) in everything.rows("SELECT child_tid FROM sched_process_fork WHERE tid = $t", t=shell)}
    assert len(children) == 2
    # A thread that moves in is known from its next switch on: until then its forks are not recorded.
    condition, values = _about_tids(children)
    assert _same(filtered, everything, (f"({condition}) AND kind <> 'sched_process_fork'", values)) > 10
    _nothing_else(filtered, _about_tids(target.tids() | target.tids("child") | children | {shell}))


def test_several_filters_are_alternatives(target: Target) -> None:
    tid = target.threads["flt:old"][0]
    filtered, everything = target.run_under("-t", str(tid), "--comm", "flt:new")
    mine, mine_values = _about_tids({tid})
    named, named_values = _about_comm("flt:new")
    about = f"{mine} OR {named}", mine_values | named_values
    assert _same(filtered, everything, about) > 100
    _nothing_else(filtered, about)
    assert filtered.capture.filter == f"tid {tid} or comm flt:new"


def test_what_can_match_nothing_is_refused(tmp_path: Path) -> None:
    for options, problem in (
        ({"pids": (2**22 + 1,)}, "no such process"),
        ({"tids": (2**22 + 1,)}, "no such thread"),
        ({"comms": ("a*b",)}, "only a \\* at the end"),
        ({"cgroups": ("/no/such/group",)}, "no such cgroup"),
    ):
        with pytest.raises(UserError, match=problem):
            record_to(tmp_path / "x.parquet", "true", **options)
    assert list(tmp_path.iterdir()) == []
