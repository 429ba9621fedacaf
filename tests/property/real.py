"""A real capture, mutilated at random (``make soundness``): ``real.py [CAPTURE [HOW MANY [SEED]]]``.

Random windows of random rings are taken away and declared lost. Then every certain row must be in the answer on the
whole capture, the whole's count within the stated bounds, and an answer called exact must be the whole one.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from tracectl.query import ask
from tracectl.query.nouns import NOUNS
from tracectl.store import relations
from tracectl.store.capture import Capture
from tracectl.store.database import Database, source_sql
from tracectl.store.errors import NotRecordedError
from tracectl.store.relations import Relations

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.parquet"
_CLAUSES = (
    "", "", "", "on cpu 0", "on cpu 1", "after {}us", "before {}us", "of pid {pid}", "of comm {comm}", "over 20us",
)  # fmt: skip
_AT_ONCE = 3  # nouns looked at per mutilation

_PLACES = """
CREATE TABLE places AS
SELECT seq, ts, ring_of.stream, cpu, ROW_NUMBER() OVER (PARTITION BY ring_of.stream, cpu ORDER BY seq) AS place
FROM full_rows JOIN ring_of USING (kind)
"""
_GONE = """
CREATE OR REPLACE TABLE gone AS
SELECT DISTINCT places.* FROM places
JOIN (VALUES {windows}) AS hit(stream, cpu, first, last)
    ON places.stream = hit.stream AND places.cpu = hit.cpu AND places.place BETWEEN hit.first AND hit.last
"""
# Neighbouring lost events are one gap; its ends are the neighbours that are left, or those of the recording.
_LEFT = """
CREATE OR REPLACE TABLE lossy_rows AS
WITH islands AS (SELECT *, place - ROW_NUMBER() OVER (PARTITION BY stream, cpu ORDER BY place) AS island FROM gone),
gaps AS (
    SELECT stream, cpu, MIN(place) AS first, MAX(place) AS last, COUNT(*) AS events
    FROM islands GROUP BY stream, cpu, island
)
SELECT * FROM full_rows WHERE seq NOT IN (SELECT seq FROM gone)
UNION ALL BY NAME
SELECT 'lost' AS kind, 1000000000000 + ROW_NUMBER() OVER () AS seq, gap.stream, CAST(gap.cpu AS SMALLINT) AS cpu,
    COALESCE(earlier.ts, {start}) AS from_ts, COALESCE(later.ts, {end}) AS ts, {counted} AS lost_count,
    'ring_full' AS cause
FROM gaps AS gap
LEFT JOIN places AS earlier
    ON earlier.stream = gap.stream AND earlier.cpu = gap.cpu AND earlier.place = gap.first - 1
LEFT JOIN places AS later ON later.stream = gap.stream AND later.cpu = gap.cpu AND later.place = gap.last + 1
"""


class Mutilator:
    """A capture as a table, and what is left of it after losses.

    Args:
        path: the capture.
        seed: of everything that is random.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.whole = Capture.open(path)
        self.database = Database(self.whole.files, threads=2)
        self.counts: Counter[str] = Counter()
        self.known: dict[str, list[tuple[Any, ...]]] = {}
        # Read once, as a table; from here on captures are tables of that name.
        source = source_sql(self.whole.files)
        # What the recording itself lost is taken as never having been: the whole is what is there.
        self._run(f"CREATE TABLE full_rows AS SELECT * FROM {source} WHERE kind <> 'lost'")
        streams = ", ".join(f"('{kind}', '{stream}')" for kind, stream in Relations(self.whole)._kind_streams())
        self._run(f"CREATE TABLE ring_of AS SELECT * FROM (VALUES {streams}) AS known(kind, stream)")
        self.rings = self._run(
            "SELECT ring_of.stream, cpu, COUNT(*) FROM full_rows JOIN ring_of USING (kind) GROUP BY 1, 2 ORDER BY 1, 2"
        ).rows()
        self.threads = self._run(
            "SELECT DISTINCT pid, comm FROM full_rows WHERE comm SIMILAR TO '[A-Za-z]+' ORDER BY ALL"
        ).rows()
        self._run(_PLACES)

    def _run(self, sql: str) -> Any:
        return self.database.execute(sql)

    def mutilate(self) -> list[str]:
        """Make the table ``lossy_rows``; returns what was lost, in words."""
        chosen = []
        for _ in range(self.random.randint(1, 4)):
            stream, cpu, count = self.random.choice(self.rings)
            long = self.random.choice((1, 3, 20, 200, count))
            first = self.random.choice((self.random.randint(1, count), count - long + 1))  # somewhere, or the tail
            chosen.append((stream, cpu, max(first, 1), max(first, 1) + long - 1))
        windows = ", ".join(f"('{stream}', {cpu}, {first}, {last})" for stream, cpu, first, last in chosen)
        self._run(_GONE.format(windows=windows))
        counted = "NULL" if self.random.random() < 0.1 else "gap.events"
        self._run(_LEFT.format(start=self.whole.start_ts, end=self.whole.end_ts, counted=counted))
        return [f"{stream}[{cpu}] events {first} to {last}" for stream, cpu, first, last in chosen]

    def question(self, noun: str) -> str:
        """A question about the noun, perhaps with a clause that it takes."""
        pid, comm = self.random.choice(self.threads)
        span = (self.whole.end_ts - self.whole.start_ts) // 1000
        begin, end = sorted(self.random.randint(0, span) for _ in range(2))
        if noun == "chains":
            return f"chains of pid {pid} at {begin}us"
        if noun == "critical_path":
            return f"critical path of comm {comm} between {begin}us and {end}us"
        clause = self.random.choice(_CLAUSES).format(self.random.randint(0, span), pid=pid, comm=comm)
        takes_it = not (clause.startswith("over") and noun not in ("runs", "delays", "sleeps", "softirqs", "irqs"))
        return f"{noun} {clause}".strip() if takes_it else noun

    def judge(self, question: str) -> Iterator[str]:
        """What is wrong with an answer on what is left."""
        full, lossy = (
            ask(self._capture(name), question, database=self.database, strict=False)
            for name in ("full_rows", "lossy_rows")
        )
        qualification = lossy.qualification
        whole_rows, rows = full.rows(), lossy.rows()
        self.counts["answers"] += 1
        if qualification.exact:
            self.counts["exact"] += 1
            if rows != whole_rows:
                yield "called exact, but differs"
            return
        certain = lossy.columns.index("certain")
        sure = Counter(row for row in rows if row[certain])
        self.counts.update(certain=sure.total(), rows=len(rows))
        if wrong := sure - Counter(whole_rows):
            yield f"{wrong.total()} certain rows are not in the full answer, such as {next(iter(wrong))}"
        if qualification.at_most is not None:
            self.counts["bounded"] += 1
            if len(whole_rows) > len(rows) + qualification.at_most:
                yield f"{len(whole_rows)} rows, not {len(rows)} and at most {qualification.at_most} more"

    def _whole_rows(self, question: str) -> list[tuple[Any, ...]]:
        if question in self.known:
            return self.known[question]
        rows = ask(self._capture("full_rows"), question, database=self.database).rows()
        if " " not in question:  # asked again and again
            self.known[question] = rows
        return rows

    def _capture(self, table: str) -> Capture:
        whole = self.whole
        footers = tuple(replace(footer, breaks_declared=True) for footer in whole.footers)
        return Capture(whole.path, (Path(table),), whole.columns, footers, whole.rows)

    def run(self, times: int) -> Iterator[str]:
        """Mutilate so often; what is wrong, in words."""
        nouns = [noun.name for noun in NOUNS if "certain" in noun.columns]
        with mock.patch.object(relations, "source_sql", lambda files: str(files[0])):
            for _ in range(times):
                lost = self.mutilate()
                for noun in self.random.sample(nouns, _AT_ONCE):
                    question = self.question(noun)
                    try:
                        yield from (f"{question}: {wrong} (lost: {', '.join(lost)})" for wrong in self.judge(question))
                    except NotRecordedError:
                        self.counts["not recorded"] += 1


def main(path: str = str(SAMPLE), times: str = "1000", seed: str = "1") -> int:
    """Print what was found; returns an exit status."""
    begin = time.monotonic()
    mutilator = Mutilator(Path(path), int(seed))
    wrong = list(mutilator.run(int(times)))
    counts, seconds = mutilator.counts, time.monotonic() - begin
    lines = [
        *wrong,
        f"{times} mutilations of {path} (seed {seed}), {counts['answers']} answers in {seconds:.0f} s:",
        f"  exact           {counts['exact']} answers, each the same as on the whole capture",
        f"  not exact       {counts['answers'] - counts['exact']} answers, {counts['bounded']} of them with a bound",
        f"  certain rows    {counts['certain']} of {counts['rows']} in those, each looked up in the whole answer",
        f"  wrong           {len(wrong)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
