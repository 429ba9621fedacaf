"""Whether a capture is what it says: invariants that hold in every honest recording, each checked by one statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.relations import Relations

SHOWN = 5


@dataclass(frozen=True)
class Violation:
    """One place where an invariant does not hold; ``ts`` in ns monotonic. None: not at one moment or CPU."""

    cpu: int | None
    ts: int | None
    what: str


@dataclass(frozen=True)
class Finding:
    """What became of one check.

    Attributes:
        name: a word or two.
        doc: what was checked.
        count: how many violations; None: it could not be checked, ``why`` says why.
        violations: the first few.
    """

    name: str
    doc: str
    count: int | None
    violations: tuple[Violation, ...] = ()
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether the invariant holds, or could not be checked."""
        return not self.count


def check(capture: Capture, database: Database) -> list[Finding]:
    """Run every check on a capture."""
    return [_finding(one, capture, database) for one in _CHECKS]


@dataclass(frozen=True)
class _Check:
    """An invariant: ``sql`` gives (cpu, ts, what) for each violation, reading ``relations``."""

    name: str
    doc: str
    relations: tuple[str, ...]
    sql: str
    needs: frozenset[str] = frozenset()
    complete_only: bool = False
    parameters: Callable[[Capture], dict[str, Any]] = lambda _: {}


def _finding(one: _Check, capture: Capture, database: Database) -> Finding:
    missing = sorted(one.needs - capture.kinds)
    if missing:
        return Finding(one.name, one.doc, None, why=f"{', '.join(missing)} not recorded")
    if one.complete_only and capture.filter:
        return Finding(one.name, one.doc, None, why=f"the recording was filtered ({capture.filter})")
    head = Relations(capture, declared_only=True).with_clause(one.relations)
    body = f"{head}, violations AS (\n{one.sql}\n)\nSELECT cpu, ts, what, COUNT(*) OVER () FROM violations"
    rows = database.execute(f"{body} ORDER BY ts, cpu LIMIT {SHOWN}", one.parameters(capture)).rows()
    places = tuple(Violation(cpu, ts, what) for cpu, ts, what, _ in rows)
    return Finding(one.name, one.doc, rows[0][3] if rows else 0, places)


def _ledger_parameters(capture: Capture) -> dict[str, Any]:
    lines = [line for line in capture.ledger() if line.cpu >= 0]
    return {
        "streams": [line.stream for line in lines],
        "cpus": [line.cpu for line in lines],
        "emitted": [line.emitted for line in lines],
        "recorded": [line.recorded for line in lines],
        "lost": [line.lost for line in lines],
    }


_LEDGER = """
SELECT CAST(UNNEST($streams) AS VARCHAR) AS stream, CAST(UNNEST($cpus) AS SMALLINT) AS cpu,
    CAST(UNNEST($emitted) AS BIGINT) AS emitted, CAST(UNNEST($recorded) AS BIGINT) AS recorded,
    CAST(UNNEST($lost) AS BIGINT) AS lost
"""

# A gap of that stream and CPU lies between two neighbours exactly if one that began before the second ends after the
# first: what does not fit together there is declared. One that only touches a neighbour tells of a loss on its other
# side (the events at both ends of a gap were recorded), unless it takes no time at all: then the order is not known.
_NO_GAP = """
ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = '{stream}') AS gap
    ON gap.cpu = pairs.cpu AND pairs.end_ts > gap.from_ts
LEFT JOIN (SELECT DISTINCT cpu, ts FROM gaps WHERE stream = '{stream}' AND from_ts = ts) AS at_first
    ON at_first.cpu = pairs.cpu AND at_first.ts = pairs.ts
LEFT JOIN (SELECT DISTINCT cpu, ts FROM gaps WHERE stream = '{stream}' AND from_ts = ts) AS at_second
    ON at_second.cpu = pairs.cpu AND at_second.ts = pairs.end_ts
WHERE COALESCE(gap.reach <= pairs.ts, TRUE) AND at_first.ts IS NULL AND at_second.ts IS NULL AND
"""

_CHECKS = (
    _Check(
        "ledger",
        "per stream and CPU: emitted = recorded + lost",
        ("lost",),
        f"WITH book AS ({_LEDGER})\n"
        "SELECT cpu, CAST(NULL AS BIGINT) AS ts, stream || ': emitted ' || emitted || ', recorded ' || recorded || "
        "', lost ' || lost AS what FROM book WHERE emitted <> recorded + lost",
        parameters=_ledger_parameters,
    ),
    _Check(
        "rows",
        "per stream and CPU: as many rows as the ledger says were recorded",
        ("capture", "kind_streams"),
        f"WITH book AS ({_LEDGER}),\n"
        "found AS (SELECT stream_of.stream, capture.cpu, COUNT(*) AS rows FROM capture "
        "JOIN kind_streams AS stream_of ON stream_of.kind = capture.kind GROUP BY ALL)\n"
        "SELECT book.cpu, CAST(NULL AS BIGINT) AS ts, book.stream || ': ' || COALESCE(found.rows, 0) || ' rows, the "
        "ledger says ' || book.recorded AS what FROM book LEFT JOIN found ON found.stream = book.stream AND "
        "found.cpu = book.cpu WHERE book.recorded <> COALESCE(found.rows, 0)",
        parameters=_ledger_parameters,
    ),
    _Check(
        "gaps",
        "per stream and CPU: the lost rows add up to the ledger's lost",
        ("lost",),
        f"WITH book AS ({_LEDGER}),\n"
        "found AS (SELECT stream, cpu, SUM(lost_count) AS events FROM lost WHERE cpu IS NOT NULL GROUP BY ALL)\n"
        "SELECT book.cpu, CAST(NULL AS BIGINT) AS ts, book.stream || ': ' || COALESCE(found.events, 0) || ' in lost "
        "rows, the ledger says ' || book.lost AS what FROM book LEFT JOIN found ON found.stream = book.stream AND "
        "found.cpu = book.cpu WHERE book.lost <> COALESCE(found.events, 0)",
        parameters=_ledger_parameters,
    ),
    _Check(
        "order",
        "seq is unique, and in its order time never goes back",
        ("capture",),
        "WITH pairs AS (SELECT cpu, seq, ts, LEAD(seq) OVER later AS next_seq, LEAD(ts) OVER later AS next_ts\n"
        "  FROM capture WINDOW later AS (ORDER BY seq, ts))\n"
        "SELECT cpu, ts, 'seq ' || seq || CASE WHEN next_seq = seq THEN ' occurs twice' ELSE ': the next row is ' || "
        "(ts - next_ts) || ' ns earlier' END AS what FROM pairs WHERE next_seq = seq OR next_ts < ts",
    ),
    _Check(
        "coverage",
        "every event lies inside the time that was recorded",
        ("events",),
        "SELECT cpu, ts, kind || ' outside' AS what FROM events WHERE ts < $start OR ts > $end",
        parameters=lambda capture: {"start": capture.start_ts, "end": capture.end_ts},
    ),
    _Check(
        "switches",
        "per CPU, the thread that a switch brings in is the one that the next takes out",
        ("sched_switch", "gap_reach_cpu", "gaps"),
        "WITH pairs AS (SELECT cpu, ts, next_tid, LEAD(ts) OVER later AS end_ts, LEAD(tid) OVER later AS end_tid\n"
        "  FROM sched_switch WINDOW later AS (PARTITION BY cpu ORDER BY seq))\n"
        "SELECT pairs.cpu, pairs.ts, 'tid ' || next_tid || ' came in, tid ' || end_tid || ' went out ' || "
        "(end_ts - pairs.ts) || ' ns later: a loss nobody declared' AS what FROM pairs"
        + _NO_GAP.format(stream="sched")
        + "end_tid <> next_tid",
        needs=frozenset({"sched_switch"}),
        complete_only=True,
    ),
    _Check(
        "softirqs",
        "per CPU, a softirq's entry is followed by its exit",
        ("softirq_entry", "softirq_exit", "gap_reach_cpu", "gaps"),
        "WITH steps AS (SELECT seq, ts, cpu, vec, TRUE AS begins FROM softirq_entry\n"
        "  UNION ALL SELECT seq, ts, cpu, vec, FALSE FROM softirq_exit),\n"
        "pairs AS (SELECT cpu, ts, vec, begins, LEAD(ts) OVER later AS end_ts, LEAD(vec) OVER later AS end_vec,\n"
        "  LEAD(begins) OVER later AS end_begins FROM steps WINDOW later AS (PARTITION BY cpu ORDER BY seq))\n"
        "SELECT pairs.cpu, pairs.ts, 'softirq ' || vec || CASE WHEN begins THEN ' begins' ELSE ' ends' END || "
        "', then ' || end_vec || CASE WHEN end_begins THEN ' begins' ELSE ' ends' END AS what FROM pairs"
        + _NO_GAP.format(stream="irq")
        + "(begins = end_begins OR (begins AND vec <> end_vec))",
        needs=frozenset({"softirq_entry", "softirq_exit"}),
        complete_only=True,
    ),
    _Check(
        "irqs",
        "per CPU, a handler's entry is followed by its exit",
        ("irq_handler_entry", "irq_handler_exit", "gap_reach_cpu", "gaps"),
        "WITH steps AS (SELECT seq, ts, cpu, irq, TRUE AS begins FROM irq_handler_entry\n"
        "  UNION ALL SELECT seq, ts, cpu, irq, FALSE FROM irq_handler_exit),\n"
        "pairs AS (SELECT cpu, ts, irq, begins, LEAD(ts) OVER later AS end_ts, LEAD(begins) OVER later AS end_begins\n"
        "  FROM steps WINDOW later AS (PARTITION BY cpu, irq ORDER BY seq))\n"
        "SELECT pairs.cpu, pairs.ts, 'irq ' || irq || CASE WHEN begins THEN ' begins' ELSE ' ends' END || ' twice' "
        "AS what FROM pairs" + _NO_GAP.format(stream="irq") + "begins = end_begins",
        needs=frozenset({"irq_handler_entry", "irq_handler_exit"}),
        complete_only=True,
    ),
)
