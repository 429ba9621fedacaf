"""A capture that was cut off or in which bits flipped gives an error, or the very answers it gave before: never others.

Each damaged file is asked in a process of its own pool, so that a crash would show. ``make crash`` flips 10,000 bits
(TRACECTL_FLIPS).
"""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tracectl.query.answer import ask
from tracectl.store import checksum
from tracectl.store.capture import Capture
from tracectl.store.database import source_sql
from tracectl.store.errors import CaptureError, TracectlError
from tracectl.store.writer import write_rows

FLIPS = int(os.environ.get("TRACECTL_FLIPS", "150"))
PAGE = 4096
BATCH = 25
QUESTIONS = ("runs | sum dur by comm", "wakeups by task | count", "switches of comm t3 | count")


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand switches and wakeups on two CPUs."""
    rng = random.Random(7)
    rows = []
    for cpu in (0, 1):
        tid = ts = 0
        for _ in range(6000):
            ts += rng.randrange(1, 5000)
            after = rng.randrange(1, 9)
            rows.append({
                "kind": "sched_switch", "ts": ts, "cpu": cpu, "tid": tid, "pid": tid, "comm": f"t{tid}",
                "prev_state": "S", "next_tid": after, "next_comm": f"t{after}",
            })  # fmt: skip
            rows.append({
                "kind": "sched_waking", "ts": ts + 1, "cpu": cpu, "tid": after, "comm": f"t{after}",
                "target_tid": rng.randrange(1, 9), "context": "task",
            })  # fmt: skip
            tid = after
    return write_rows(tmp_path_factory.mktemp("whole") / "c.parquet", rows)


def answers(path: Path) -> str:
    """Every answer of a capture in a text, or the class of the error."""
    try:
        opened = Capture.open(path)
        with opened.database("256MiB", 1) as database:
            found = [sorted(ask(opened, question, database=database).rows(), key=str) for question in QUESTIONS]
            source = source_sql(opened.files)
            sums = f"SELECT kind, COUNT(*), SUM(HASH(row)::HUGEINT) FROM {source} AS row GROUP BY 1 ORDER BY 1"
            found += database.execute(sums).rows()
    except TracectlError as error:
        return type(error).__name__
    return repr(found)


def of_damaged(whole: bytes, place: Path, damages: list[tuple[int, int]]) -> list[str]:
    """Answers with one byte changed (position, bits), or cut off there (bits 0)."""
    said = []
    for position, bits in damages:
        damaged = bytearray(whole)
        if bits:
            damaged[position] ^= bits
        else:
            del damaged[position:]
        path = place / f"{position}-{bits}.parquet"
        path.write_bytes(damaged)
        said.append(answers(path))
        path.unlink()
    return said


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes that are asked."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def asked(pool: ProcessPoolExecutor, path: Path, place: Path, damages: list[tuple[int, int]]) -> Counter[str]:
    """How often each answer came."""
    batches = [damages[at : at + BATCH] for at in range(0, len(damages), BATCH)]
    return Counter(
        answer for part in pool.map(partial(of_damaged, path.read_bytes(), place), batches) for answer in part
    )


def test_the_whole_capture_answers(capture: Path) -> None:
    assert "t3" in answers(capture)
    assert checksum.KEY in pq.read_metadata(capture).metadata


def test_truncated_at_every_page(capture: Path, pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    size = capture.stat().st_size
    assert size > 20 * PAGE
    cuts = [(at, 0) for at in (*range(0, size, PAGE), *range(size - 20, size))]
    assert asked(pool, capture, tmp_path, cuts) == {"CaptureError": len(cuts)}


def test_flipped_bits(capture: Path, pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    rng = random.Random(FLIPS)
    size = capture.stat().st_size
    footer = 8 + int.from_bytes(capture.read_bytes()[-8:-4], "little")
    begins = [0 if number % 2 else size - footer for number in range(FLIPS)]  # every other one in the small footer
    flips = [(rng.randrange(begin, size), 1 << rng.randrange(8)) for begin in begins]
    said = asked(pool, capture, tmp_path, flips)
    # The key of the checksum itself may be hit: the capture then has none, and is as it was.
    assert set(said) <= {"CaptureError", answers(capture)}
    assert said["CaptureError"] > 0.99 * FLIPS


def test_without_the_checksum_flips_would_go_unseen(capture: Path, tmp_path: Path) -> None:
    """What the test above is worth."""
    table = pq.read_table(capture)
    plain = tmp_path / "plain.parquet"
    kept = {key: value for key, value in pq.read_metadata(capture).metadata.items() if key != checksum.KEY}
    pq.write_table(table.replace_schema_metadata(kept), plain)
    assert checksum.KEY not in pq.read_metadata(plain).metadata
    whole = answers(plain)
    size = plain.stat().st_size
    said = of_damaged(plain.read_bytes(), tmp_path, [(at, 4) for at in range(100, size // 2, size // 80)])
    assert set(said) - {whole, "CaptureError", "UserError"}


def test_a_checksum_is_of_one_file(capture: Path, tmp_path: Path) -> None:
    changed = bytearray(capture.read_bytes())
    changed[1000] ^= 1
    with (tmp_path / "c.parquet").open("w+b") as file:
        file.write(changed)
        file.flush()
    with pytest.raises(CaptureError, match="checksum"):
        checksum.verify(tmp_path / "c.parquet", pq.read_metadata(capture).metadata[checksum.KEY])
    checksum.verify(capture, pq.read_metadata(capture).metadata[checksum.KEY])


def test_captures_above_the_limit_are_opened_unchecked(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "verify", lambda *_: pytest.fail("checked"))
    monkeypatch.setattr(checksum, "LIMIT", capture.stat().st_size - 1)
    Capture.open(capture)


def test_a_file_without_room_for_it_is_refused(tmp_path: Path, capture: Path) -> None:
    pq.write_table(pq.read_table(capture).replace_schema_metadata({}), tmp_path / "p.parquet")
    with (tmp_path / "p.parquet").open("r+b") as file, pytest.raises(ValueError, match="no place"):
        checksum.seal(file)
