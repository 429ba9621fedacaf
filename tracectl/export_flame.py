"""Folded lines and speedscope's JSON: call stacks of an answer, or how long its rows or threads' states lasted."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from tracectl.export_chrome import dumps
from tracectl.export_rows import DETAILS, harmless
from tracectl.store.errors import NotRecordedError, UserError

if TYPE_CHECKING:
    from tracectl.export_source import Source

# What a thread does at any moment: it runs, waits in a run queue, or sleeps until it is woken.
_STATES = (
    "SELECT comm, tid, 'running' AS state, NULL AS detail, dur FROM runs WHERE tid > 0 "
    "UNION ALL SELECT comm, tid, 'runnable', cause, dur FROM delays WHERE tid > 0 "
    "UNION ALL SELECT comm, tid, 'sleeping', state, COALESCE(blocked, dur) FROM sleeps WHERE tid > 0"
)

Stacks = list[tuple[tuple[str, ...], int]]


def write_folded(stream: IO[bytes], source: Source) -> None:
    """``frame;frame;frame ns`` lines, for flamegraph.pl and its kin."""
    for frames, ns in stacks_of(source, "folded"):
        # A semicolon would begin another frame; a line end is no frame either.
        line = ";".join(harmless(frame).replace(";", "\\x3b") for frame in frames)
        stream.write(f"{line} {ns}\n".encode())


def write_speedscope(stream: IO[bytes], source: Source) -> None:
    """A sampled profile of speedscope.app: one sample per distinct stack, its weight the time."""
    stacks = stacks_of(source, "speedscope")
    places: dict[str, int] = {}
    samples = [[places.setdefault(frame, len(places)) for frame in frames] for frames, _ in stacks]
    weights = [ns for _, ns in stacks]
    name = source.question or "time of threads by state"
    profile = {"type": "sampled", "name": name, "unit": "nanoseconds", "startValue": 0, "endValue": sum(weights)}
    made = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "tracectl",
        "name": f"{name} ({source.capture.path.name})",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in places]},
        "profiles": [{**profile, "samples": samples, "weights": weights}],
    }
    stream.write(dumps(made).encode() + b"\n")


def stacks_of(source: Source, form: str) -> Stacks:
    """Distinct stacks, outermost frame first, with their total ns; by name.

    Raises:
        UserError: the rows have no duration.
        NotRecordedError: the capture has no switches, and there is no question.
    """
    if source.answer is None:
        if "sched_switch" not in source.capture.kinds:
            raise NotRecordedError(
                f"{form} shows the time of threads, and this capture has no sched_switch; call stacks it has none",
                "record with the group sched, or ask for rows with durations: softirqs, irqs",
            )
        frames = ["comm", "'tid ' || tid", "state || COALESCE(' ' || detail, '')"]
        head = source.relations.with_clause(["runs", "delays", "sleeps"])
        rows = f"{head}\nSELECT {_listed(frames)} AS frames, CAST(SUM(dur) AS BIGINT) AS ns FROM ({_STATES})"
    elif source.answer.columns[:1] == ["folded"]:
        folded = sorted(source.answer.rows())
        return [(tuple(str(row[0]).split(";")), int(row[1])) for row in folded if row[1]]
    else:
        columns = source.answer.columns
        if "dur" not in columns or "seq" not in columns:
            raise UserError(
                f"{form} needs rows with durations: this answer has none, and the capture has no call stacks",
                "runs, delays, sleeps, softirqs or irqs, without a stage that sums up",
            )
        source.keep_answer(form)
        frames = ["comm", "'tid ' || tid"] if "tid" in columns else []
        frames += [f'CAST("{name}" AS VARCHAR)' for name in DETAILS if name in columns]
        rows = f"SELECT {_listed(frames)} AS frames, CAST(SUM(dur) AS BIGINT) AS ns FROM answer WHERE dur IS NOT NULL"
    table = source.database.execute(f"{rows} GROUP BY 1 HAVING SUM(dur) > 0 ORDER BY 1").rows()
    return [(tuple(frames), ns) for frames, ns in table]


def _listed(frames: list[str]) -> str:
    """SQL of a list without its nulls."""
    return f"list_filter([{', '.join(frames)}], lambda x: x IS NOT NULL AND x <> '')"
