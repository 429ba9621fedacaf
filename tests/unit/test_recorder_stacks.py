"""Stacks between ring and capture: none is taken for another, and one that is missing is said to be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tracectl.recorder.program import HEADER_FIELDS, STACK
from tracectl.recorder.stacks import Stacks, hashes
from tracectl.recorder.symbols import Frame

DTYPE = np.dtype(HEADER_FIELDS + [(column.name, column.type.numpy) for column in STACK.fields], align=True)
ROW = np.dtype([("ts", "u8"), ("kstack", "i8"), ("ustack", "i8")])
MASK = 2**64 - 1


def plain_hash(space: int, frames: list[int]) -> int:
    """As recorder/stacks.c does it, number by number."""
    value = space ^ 0x9E3779B97F4A7C15
    for frame in frames:
        value = (value ^ frame) * 0xFF51AFD7ED558CCD & MASK
        value ^= value >> 32
    return 2 if value in (0, MASK) else value


def sent(space: int, frames: list[int], pid: int = 7) -> NDArray[np.void]:
    rows = np.zeros(1, DTYPE)
    rows["space"], rows["frame_count"], rows["pid"] = space, len(frames), pid
    rows["frames"][0, : len(frames)] = frames
    rows["stack_id"] = np.array([plain_hash(space, frames)], np.uint64).view(np.int64)
    return rows


class Names:
    """Names that say what was asked."""

    def frame(self, *where: Any, exact: bool) -> Frame:
        name = {1: "bpf_prog_12_on_x", 2: "__traceiter_sched_waking"}.get(where[-1], f"f{where[-1]}")
        return Frame(name + ("!" if exact and not name.startswith(("bpf", "__")) else ""), 0, where[-1])


def stacks(**options: Any) -> Stacks:
    names: Any = Names()
    return Stacks(kernel=names, user=names, **options)


def rows_with(*ids: int) -> NDArray[np.void]:
    rows = np.zeros(len(ids), ROW)
    rows["kstack"] = ids
    return rows


def test_the_hash_is_that_of_the_program() -> None:
    given = [sent(0, [5]), sent(9 << 40, [MASK, 3, 2**63]), sent(0, list(range(1, 128))), sent(0, [])]
    found = hashes(np.concatenate(given))
    assert found.tolist() == [int(one["stack_id"].view(np.uint64)[0]) for one in given]


def test_a_stack_is_written_once_however_often_it_is_referred_to() -> None:
    table = stacks()
    row = sent(0, [1, 2, 30, 40])
    table.define(row)
    table.define(row)
    assert list(table.rows()) == []
    stack_id = int(row["stack_id"][0])
    table.refer(rows_with(stack_id, 0, stack_id))
    (written,) = table.rows()
    # Root first; what BPF itself put on top is gone.
    assert (written["stack_id"], written["folded"]) == (stack_id, "f40;f30")
    assert [frame["address"] for frame in json.loads(written["frames"])] == ["0x28", "0x1e"]
    table.refer(rows_with(stack_id))
    table.define(row)
    assert list(table.rows(last=True)) == []
    assert table.lost == 0


def test_frames_that_do_not_fit_their_hash_are_no_stack() -> None:
    table = stacks()
    row = sent(0, [10, 20])
    stack_id = int(row["stack_id"][0])
    row["frames"][0, 1] = 21
    table.define(row)
    table.refer(rows_with(stack_id, stack_id))
    assert list(table.rows()) == []
    assert [row["folded"] for row in table.rows(last=True)] == ["[lost stack]"]
    assert table.lost == 2


def test_frames_may_come_after_what_refers_to_them() -> None:
    table = stacks()
    row = sent(5 << 32, [10])
    table.refer(rows_with(int(row["stack_id"][0])))
    assert list(table.rows()) == []
    table.define(row)
    assert [row["folded"] for row in table.rows()] == ["f10!"]


def test_a_stack_that_could_not_be_taken_is_a_value() -> None:
    table = stacks()
    table.refer(rows_with(-1, -1))
    assert [row["stack_id"] for row in table.rows()] == [-1]
    table.refer(rows_with(-1))
    assert list(table.rows(last=True)) == []
    assert table.lost == 3


def test_the_flight_recorder_writes_a_stack_again() -> None:
    table = stacks(again=True)
    row = sent(0, [10])
    table.define(row)
    for _ in range(2):
        table.refer(rows_with(int(row["stack_id"][0])))
        assert len(list(table.rows())) == 1
        table.write_again()


@pytest.mark.parametrize("name", ("a;b", "x\ny"))
def test_names_cannot_break_a_folded_stack(name: str) -> None:
    class Hostile:
        def frame(self, *_: Any, exact: bool) -> Frame:
            return Frame(name, 0, 1)

    hostile: Any = Hostile()
    table = Stacks(user=hostile)
    row = sent(5 << 32, [10, 11])
    table.define(row)
    table.refer(rows_with(int(row["stack_id"][0])))
    (written,) = table.rows()
    assert written["folded"].count(";") == 1
    assert "\n" not in written["folded"]
    assert json.loads(written["frames"])[0]["name"] == name
