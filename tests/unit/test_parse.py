"""Regions of perf records against an obvious walk, one struct.unpack at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracectl.recorder import parse as parse_module
from tracectl.recorder.parse import Parsed, parse

SIZES = {1: 72, 2: 80, 3: 20, 7: 13}


def sample(payload: bytes, misc: int = 1) -> bytes:
    """A PERF_RECORD_SAMPLE as the kernel writes it."""
    size = (12 + len(payload) + 7) // 8 * 8
    body = payload.ljust(size - 12, b"\0")
    return struct.pack("<IHHI", 9, misc, size, len(body)) + body


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", 2, 0, 24, 4711, count)


def event(kind: int, filler: bytes = b"", ts: int = 5) -> bytes:
    return (struct.pack("<QI", ts, kind) + filler)[: SIZES.get(kind, 16)].ljust(SIZES.get(kind, 16), b"\xee")


def region(*records: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(records), np.uint8).copy()


@dataclass
class Walked:
    by_kind: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    skipped: int = 0
    count: int = 0


def walk(data: bytes) -> Walked:
    result, at = Walked(), 0
    while at < len(data):
        kind_of_record, _misc, size = struct.unpack_from("<IHH", data, at)
        if kind_of_record == 2 and size >= 24:
            result.lost.append((result.count, struct.unpack_from("<Q", data, at + 16)[0]))
        elif kind_of_record == 9 and size >= 24:
            (kind,) = struct.unpack_from("<I", data, at + 20)
            if kind in SIZES and size >= 12 + SIZES[kind]:
                row = data[at + 12 : at + 12 + SIZES[kind]]
                result.by_kind.setdefault(kind, []).append((row, result.count))
            else:
                result.skipped += 1
        else:
            result.skipped += 1
        result.count += 1
        at += size
    return result


def assert_same(parsed: Parsed, expected: Walked) -> None:
    got = {
        kind: [(row.tobytes(), int(at)) for row, at in zip(rows, positions, strict=True)]
        for kind, (rows, positions) in parsed.by_kind.items()
    }
    assert got == expected.by_kind
    assert (parsed.lost, parsed.skipped, parsed.count) == (expected.lost, expected.skipped, expected.count)
    for kind, (rows, positions) in parsed.by_kind.items():
        assert (rows.dtype, rows.shape[1:], positions.dtype) == (np.uint8, (SIZES[kind],), np.int64)


# Words inside payloads that look like each header that can occur.
LOOKALIKE = [struct.pack("<IHH", 9, 1, (12 + size + 7) // 8 * 8) for size in SIZES.values()]
LOOKALIKE.append(struct.pack("<IHH", 2, 0, 24))
# What follows ts and kind stands on a word; a filler of 4 bytes moves the look-alikes off it.
fillers = st.lists(st.sampled_from([*LOOKALIKE, b"\0" * 4, b"\x09\0\0\0", b"\xff" * 8]), max_size=9).map(b"".join)
events = st.builds(
    lambda kind, filler, misc: sample(event(kind, filler), misc),
    st.sampled_from([*SIZES, 99]),
    st.one_of(st.binary(max_size=70), fillers),
    st.sampled_from([0, 1, 2, 0x4001]),
)
others = st.builds(
    lambda type_, words: struct.pack("<IHH", type_, 0, 8 + 8 * words) + bytes(8 * words),
    st.sampled_from([1, 3, 5, 9, 2, 13]),
    st.integers(0, 4),
)
records = st.lists(st.one_of(events, events, st.builds(lost, st.integers(0, 2**40)), others), max_size=40)


@given(records)
@example([])
@example([lost(3)])
@example([sample(event(1, LOOKALIKE[0] * 7)), sample(event(2))])
def test_same_as_the_obvious_walk(chain: list[bytes]) -> None:
    data = region(*chain)
    assert_same(parse(data, SIZES), walk(data.tobytes()))


def test_clean_chain_needs_no_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_module, "_walked_chain", lambda words: pytest.fail("walked"))
    chain = [sample(event(1 + n % 2), misc=n % 3) if n % 10 else lost(n) for n in range(1000)]
    data = region(*chain)
    assert_same(parse(data, SIZES), walk(data.tobytes()))


def test_lookalike_is_found_out_and_walked() -> None:
    # What follows ts and kind stands on a word: a whole record inside the payload of another.
    disguised = sample(event(1, 2 * lost(9)))
    data = region(disguised, sample(event(2)), disguised)
    words = data.view(np.uint64)
    assert parse_module._guessed_chain(words, SIZES) is None
    assert_same(parse(data, SIZES), walk(data.tobytes()))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = region(*(sample(event(1 + n % 3, ts=n)) for n in range(50)))
    whole = parse(data, SIZES)
    monkeypatch.setattr(parse_module, "_BLOCK", 7)
    for kind, (rows, positions) in parse(data, SIZES).by_kind.items():
        np.testing.assert_array_equal(rows, whole.by_kind[kind][0])
        np.testing.assert_array_equal(positions, whole.by_kind[kind][1])


def test_result_does_not_share_memory_with_the_region() -> None:
    data = region(sample(event(1)))
    assert not np.shares_memory(parse(data, SIZES).by_kind[1][0], data)


@pytest.mark.parametrize(
    "data",
    [bytes(8), struct.pack("<IHH", 9, 0, 80), struct.pack("<IHHQ", 2, 0, 12, 0), lost(1) + bytes(16), b"\1" * 12],
    ids=["size 0", "beyond the end", "size not of words", "zeros after a record", "not of words"],
)
def test_what_is_no_chain_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no (perf record at byte|chain of perf records)"):
        parse(np.frombuffer(data, np.uint8), SIZES)
