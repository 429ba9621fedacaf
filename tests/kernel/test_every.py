"""``record --every N``: one of N events of each kind; the rest is counted, and no answer forgets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, record_to
from tracectl.query.answer import ask

pytestmark = pytest.mark.kernel


def test_one_of_many_is_recorded_and_the_others_are_declared(tmp_path: Path) -> None:
    dd = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=50000", "status=none")
    outcome = record_to(tmp_path / "x.parquet", *dd, events=("raw_syscalls:sys_enter",), every=10)
    (extra,) = {line.stream for line in outcome.ledger} - {"task"}
    lines = [line for line in outcome.ledger if line.stream == extra]
    assert all(line.residue == 0 for line in outcome.ledger)
    emitted, recorded = sum(line.emitted for line in lines), sum(line.recorded for line in lines)
    assert emitted > 100_000  # a read and a write each
    # The first of each ten on each CPU.
    assert recorded == sum(-(-line.emitted // 10) for line in lines if line.emitted)
    assert outcome.causes["sampled"] == emitted - recorded
    assert all(line.lost == 0 for line in outcome.ledger if line.stream == "task")
    found = Recorded(outcome.path)
    answer = ask(found.capture, "events sys_enter of comm dd | count")
    assert not answer.qualification.exact
    assert answer.qualification.at_most >= 90_000
    assert 9_000 < answer.rows()[0][0] < 11_000


def test_no_pair_of_a_sampled_recording_is_certain(tmp_path: Path) -> None:
    pipe = "for i in $(seq 300); do echo $i; done | while read line; do /bin/true; done"
    outcome = record_to(tmp_path / "x.parquet", "sh", "-c", pipe, events=("sched",), every=7)
    assert outcome.causes["sampled"] > 1000
    found = Recorded(outcome.path)
    assert not outcome.causes.get("undeclared")  # what is left out was declared
    for noun in ("runs", "delays", "sleeps"):
        assert found.rows(f"SELECT COUNT(*) FROM {noun}")[0][0] > 0
        assert found.rows(f"SELECT COUNT(*) FROM {noun} WHERE certain")[0][0] == 0, noun
