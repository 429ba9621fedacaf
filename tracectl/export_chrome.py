"""Captures as Chrome trace JSON (chrome://tracing, Perfetto, catapult): DuckDB makes the events, a page at a time.

Times are microseconds since the capture's start, with three decimals: as monotonic times they would lose their ns in
the doubles that readers use. ``otherData`` tells the start.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from tracectl.export_protobuf import lanes
from tracectl.export_rows import row_name
from tracectl.export_text import line_bytes
from tracectl.output import exact

if TYPE_CHECKING:
    from tracectl.export_source import Source

# Tracks that are no thread's stand in processes of ours, above every pid that Linux gives (2^22): CPU n of each is its
# thread pid + 1 + n, so that no tid comes twice.
_OURS = {
    "CPUs": 10_000_000,
    "softirqs per CPU": 10_100_000,
    "interrupts per CPU": 10_200_000,
    "timers per CPU": 10_300_000,
    "CPU's own interrupts": 10_400_000,
    "lost events per CPU": 10_500_000,
    "answer": 10_600_000,
}
_CPU, _SOFTIRQ, _IRQ, _TIMER, _VECTOR, _LOST, _ANSWER = _OURS.values()
_SOURCE_PID = f"CASE source WHEN 'handler' THEN {_IRQ} WHEN 'hrtimer' THEN {_TIMER} ELSE {_VECTOR} END"
_THREAD = "COALESCE(pid, tid)"
# Relation -> the slices made of its rows: name, pid, tid, duration, args as pairs of name and value.
_SLICES: dict[str, list[tuple[str, str, str, str, dict[str, str]]]] = {
    "runs": [
        ("comm", str(_CPU), f"{_CPU + 1} + cpu", "dur", {"tid": "tid", "prio": "prio", "end_state": "end_state"}),
        ("'running'", _THREAD, "tid", "dur", {"cpu": "cpu", "end_state": "end_state"}),
    ],
    "delays": [("'runnable'", _THREAD, "tid", "dur", {"cause": "cause", "cpu": "cpu"})],
    "sleeps": [
        (
            "'sleeping ' || state",
            _THREAD,
            "tid",
            "COALESCE(blocked, dur)",
            {"waker": "waker_comm", "waker_tid": "waker_tid", "context": "context", "vector": "vec_name"},
        )
    ],
    "softirqs": [
        ("COALESCE(name, vec::VARCHAR)", str(_SOFTIRQ), f"{_SOFTIRQ + 1} + cpu", "dur", {"tid": "tid", "comm": "comm"})
    ],
    "irqs": [
        ("COALESCE(name, irq::VARCHAR)", _SOURCE_PID, f"{_SOURCE_PID} + 1 + cpu", "dur", {"tid": "tid", "comm": "comm"})
    ],
}
_NEEDS = {
    "runs": {"sched_switch"},
    "delays": {"sched_switch"},
    "sleeps": {"sched_switch"},
    "softirqs": {"softirq_entry", "softirq_exit"},
    "irqs": {"irq_handler_entry", "hrtimer_expire_entry", "irq_vector_entry"},
}
# An arrow from the waker to the thread it woke. In an interrupt the current thread is a bystander: no arrow.
_ARROWS = (
    'SELECT concat(\',\n{{"ph":"s","cat":"wakeup","name":"wakeup","id":\', seq, \',"pid":\', '
    "COALESCE(waker_pid, waker_tid), ',\"tid\":', waker_tid, ',\"ts\":', us(ts + blocked), "
    '\'}},\n{{"ph":"f","bp":"e","cat":"wakeup","name":"wakeup","id":\', seq, \',"pid":\', '
    "COALESCE(pid, tid), ',\"tid\":', tid, ',\"ts\":', us(end_ts), '}}') AS line FROM {table} "
    "WHERE seq BETWEEN $first AND $last AND context = 'task' AND waker_tid > 0 AND blocked IS NOT NULL ORDER BY seq"
)


def dumps(value: object) -> str:
    """JSON that may also stand inside HTML: no ``</script>`` in it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def write_chrome(stream: IO[bytes], source: Source) -> None:
    """Chrome's JSON object format."""
    asked = source.keep_answer("chrome")
    start = source.capture.start_ts
    source.database.execute(
        "CREATE OR REPLACE TEMP MACRO js(s) AS replace(CAST(to_json(s) AS VARCHAR), '<', '\\u003c')"
    )
    source.database.execute(
        f"CREATE OR REPLACE TEMP MACRO us(t) AS printf('%d.%03d', greatest(t - {start}, 0) // 1000, "
        f"greatest(t - {start}, 0) % 1000)"
    )
    stream.write(b'{"traceEvents":[\n')
    stream.write(dumps(_named("process_name", _CPU, _CPU, "CPUs")).encode())
    for event in _metadata(source):
        stream.write(b",\n" + dumps(event).encode())
    for relation, slices in _SLICES.items():
        if source.capture.kinds & _NEEDS[relation]:
            _relation(stream, source, relation, slices)
    for event in (*_gaps(source), *(_answer(source) if asked else ())):
        stream.write(b",\n" + dumps(event).encode())
    footer = source.capture.footer
    told = {
        "host": footer.host,
        "kernel": footer.kernel,
        "start_ts_monotonic_ns": str(start),
        "question": source.question,
    }
    stream.write(b'\n],"displayTimeUnit":"ns","otherData":' + dumps(told).encode() + b"}\n")


def _relation(stream: IO[bytes], source: Source, relation: str, slices: list[Any]) -> None:
    """Write a relation's rows: computed once, then read in pages."""
    table = f"kept_{relation}"
    # A row without a duration is not certain: its other end was lost.
    busy = "" if relation in ("softirqs", "irqs") else " AND tid > 0"
    source.keep(table, [relation], f"SELECT * FROM {relation} WHERE dur IS NOT NULL{busy}")
    lines = [
        f"SELECT {_slice(*one)} AS line FROM {table} WHERE seq BETWEEN $first AND $last ORDER BY seq" for one in slices
    ]
    if relation == "sleeps":
        lines.append(_ARROWS.format(table=table))
    for sql in lines:
        for page in source.pages(["capture"], sql):
            for part in line_bytes(page.column("line")):
                stream.write(part)
    source.database.execute(f"DROP TABLE {table}")


def _slice(name: str, pid: str, tid: str, dur: str, args: dict[str, str]) -> str:
    """SQL of one complete event that begins at ts, with the comma that goes before it."""
    pairs = ", ".join(f"{what!r}, {column}" for what, column in args.items())
    return (
        f'concat(\',\n{{"ph":"X","name":\', js({name}), \',"pid":\', {pid}, \',"tid":\', {tid}, \',"ts":\', us(ts), '
        f"',\"dur\":', printf('%d.%03d', ({dur}) // 1000, ({dur}) % 1000), "
        f"',\"args\":', replace(CAST(json_object({pairs}) AS VARCHAR), '<', '\\u003c'), '}}')"
    )


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _metadata(source: Source) -> list[dict[str, object]]:
    """Names of processes and threads."""
    rows = source.table(
        ["tasks"], "SELECT tid, arg_max(pid, seq), arg_max(comm, seq) FROM tasks WHERE tid > 0 GROUP BY 1"
    )
    events = [_named("process_name", pid, pid, name) for name, pid in _OURS.items() if name != "CPUs"]
    events += [
        _named("thread_name", pid, pid + 1 + cpu, f"CPU {cpu}")
        for name, pid in _OURS.items()
        if name != "answer"
        for cpu in source.capture.cpus
    ]
    for tid, pid, comm in zip(*rows.to_pydict().values(), strict=True):
        events.append(_named("thread_name", pid or tid, tid, comm or ""))
        if tid == pid:
            events.append(_named("process_name", pid, tid, comm or ""))
    return events


def _microseconds(ns: int) -> float:
    return round(ns / 1000, 3)


def _gaps(source: Source) -> list[dict[str, object]]:
    """Lost events as red slices."""
    start = source.capture.start_ts
    sql = f"SELECT greatest(COALESCE(from_ts, 0), {start}) AS from_ts, ts, cpu, stream, lost_count, cause FROM lost"
    events: list[dict[str, object]] = [_named("thread_name", _LOST, _LOST, "all CPUs")]
    for row in source.table(["lost"], sql).to_pylist():
        begin, end = row.pop("from_ts"), row.pop("ts")
        events.append(
            {
                "ph": "X",
                "name": f"lost {'?' if row['lost_count'] is None else row['lost_count']} events",
                "cname": "terrible",
                "pid": _LOST,
                "tid": _LOST if row["cpu"] is None else _LOST + 1 + row["cpu"],
                "ts": _microseconds(begin - start),
                "dur": _microseconds(max(end - begin, 0)),
                "args": row,
            }
        )
    return events


def _answer(source: Source) -> list[dict[str, object]]:
    """The answer's rows: slices where they have a duration, else instants; what overlaps has a lane each."""
    start = source.capture.start_ts
    rows = source.answer_spans().to_pylist()
    spans = [(row.pop("begin"), row.pop("until")) for row in rows]
    events: list[dict[str, object]] = []
    lanes_used = set()
    for row, (begin, end), lane in zip(rows, spans, lanes(spans), strict=True):
        event: dict[str, object] = {
            "name": row_name(row),
            "pid": _ANSWER,
            "tid": _ANSWER + lane,
            "ts": _microseconds(begin - start),
        }
        event |= {"ph": "X", "dur": _microseconds(end - begin)} if end > begin else {"ph": "i", "s": "t"}
        events.append(event | {"args": {name: exact(value) for name, value in row.items()}})
        lanes_used.add(lane)
    return events + [_named("thread_name", _ANSWER, _ANSWER + lane, source.question) for lane in sorted(lanes_used)]
