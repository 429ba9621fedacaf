"""From a copied ring region to arrays of records: pure numpy, no Python per event."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# struct perf_event_header { u32 type; u16 misc; u16 size }, as one little-endian word: type | misc << 32 | size << 48.
_LOST = 2
_SAMPLE = 9
_LOST_SIZE = 24
# A sample: header, u32 size of the raw data, raw data, padded so that the whole is a multiple of 8.
_RAW_AT = 12
_KIND_AT = _RAW_AT + 8
_SAMPLE_HEAD = _KIND_AT + 4

# misc tells where the interrupted code ran (user, kernel), which differs between probes.
_NOT_MISC = np.uint64(0xFFFF_0000_FFFF_FFFF)
# Words searched at a time: what a step leaves is still in the processor's cache for the next.
_BLOCK = 32768


@dataclass
class Parsed:
    """The records of one region.

    Attributes:
        by_kind: kind -> (records, position): records is uint8 [n, size of the kind's struct], position int64 [n], the
            index of each record in the region's chain, over all types of records. Kinds without records are absent.
        lost: (position, count) for each PERF_RECORD_LOST: count records were dropped just before that position.
        skipped: records of other types, and samples of unknown kinds or too short for their kind.
        count: all records, so positions are 0 … count - 1.
    """

    by_kind: dict[int, tuple[NDArray[np.uint8], NDArray[np.int64]]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    skipped: int = 0
    count: int = 0


def parse(region: NDArray[np.uint8], kind_sizes: dict[int, int]) -> Parsed:
    """Split a region, a chain of whole perf records as RingMemory.take gives it, into records.

    Args:
        region: uint8, contiguous, a multiple of 8 bytes.
        kind_sizes: kind -> sizeof its struct; each begins with ``u64 ts; u32 kind``.

    Raises ValueError when the region is no chain of records.
    """
    if not len(region):
        return Parsed()
    if len(region) % 8:
        raise ValueError(f"a region of {len(region)} bytes is no chain of perf records")
    words = np.ascontiguousarray(region).view(np.uint64)
    starts = _uniform_chain(words)
    if starts is None:
        starts = _guessed_chain(words, kind_sizes)
    if starts is None:
        starts = _walked_chain(words)
    return _split(words, starts, kind_sizes)


def _uniform_chain(words: NDArray[np.uint64]) -> NDArray[np.int64] | None:
    """Word indices at which records start if all of them are samples of one size; None if not."""
    step = int(words[0] >> np.uint64(51))
    if not step or len(words) % step:
        return None
    headers = words[::step] & _NOT_MISC
    uniform = headers[0] == np.uint64(_SAMPLE | 8 * step << 48) and (headers == headers[0]).all()
    return np.arange(0, len(words), step) if uniform else None


def _guessed_chain(words: NDArray[np.uint64], kind_sizes: dict[int, int]) -> NDArray[np.int64] | None:
    """Word indices at which records start, found by their header words and proved to be a chain; None if it is not.

    Sound without any assumption on payloads: from a true start each proved link leads to the next true start.
    """
    # The payload's start is 4 bytes off a word, so the kernel pads to 4 modulo 8 within size, and counts it in.
    sizes = {(_RAW_AT + size + 7) // 8 * 8 for size in kind_sizes.values()}
    headers = [np.uint64(_SAMPLE | size << 48) for size in sizes] + [np.uint64(_LOST | _LOST_SIZE << 48)]
    parts = []
    for at in range(0, len(words), _BLOCK):
        block = words[at : at + _BLOCK] & _NOT_MISC
        found = block == headers[0]
        for header in headers[1:]:
            found |= block == header
        parts.append(np.flatnonzero(found) + at)
    starts = np.concatenate(parts)
    if not len(starts) or starts[0] != 0:
        return None
    ends = starts + (words[starts] >> np.uint64(51)).astype(np.int64)
    if ends[-1] != len(words) or not np.array_equal(ends[:-1], starts[1:]):
        return None
    return starts


def _walked_chain(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Word indices at which records start, header by header: for payloads that look like headers, and other types."""
    starts: list[int] = []
    at = 0
    sizes = words >> np.uint64(48)
    while at < len(words):
        step, odd = divmod(int(sizes[at]), 8)
        if step == 0 or odd or at + step > len(words):
            raise ValueError(f"no perf record at byte {8 * at} of a region of {8 * len(words)} bytes")
        starts.append(at)
        at += step
    return np.array(starts, np.int64)


def _split(words: NDArray[np.uint64], starts: NDArray[np.int64], kind_sizes: dict[int, int]) -> Parsed:
    headers = words[starts]
    types = headers.astype(np.uint32)
    sizes = (headers >> np.uint64(48)).astype(np.int64)
    losses = np.flatnonzero((types == _LOST) & (sizes >= _LOST_SIZE))
    samples = np.flatnonzero((types == _SAMPLE) & (sizes >= _SAMPLE_HEAD))
    sizes = sizes[samples]

    parsed = Parsed(count=len(starts), skipped=len(starts) - len(losses))
    parsed.lost = list(zip(losses.tolist(), words[starts[losses] + 2].tolist(), strict=True))
    data = words.view(np.uint8)
    # ts begins in the upper half of word 1, so kind is the upper half of word 2.
    kinds = words.view(np.uint32)[2 * starts[samples] + _KIND_AT // 4]
    for kind, size in kind_sizes.items():
        mine = samples[(kinds == kind) & (sizes >= _RAW_AT + size)]
        if len(mine):
            parsed.by_kind[kind] = _rows(data, 8 * starts[mine] + _RAW_AT, size), mine
            parsed.skipped -= len(mine)
    return parsed


def _rows(data: NDArray[np.uint8], offsets: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """The ``size`` bytes at each of ``offsets`` (multiples of 4) as rows; in place where they are evenly apart."""
    step = int(offsets[1] - offsets[0]) if len(offsets) > 1 else 0
    if step and (np.diff(offsets) == step).all():
        return np.ndarray((len(offsets), size), np.uint8, data, int(offsets[0]), (step, 1))
    items = np.ndarray((len(data) - size) // 4 + 1, f"V{size}", data, strides=4)
    return items[offsets // 4].view(np.uint8).reshape(len(offsets), size)
