"""Captures as the text that the kernel (ftrace) and ``perf script`` print, for the many readers of these.

DuckDB makes the lines, a page at a time; Python only passes their bytes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from tracectl.export_rows import harmless
from tracectl.export_source import escaped_sql
from tracectl.store.database import quote_string
from tracectl.store.events import SOFTIRQS, TCP_STATES, Event
from tracectl.store.relations import quote_name

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.export_source import Source

# A priority or CPU that the capture does not hold is written as the usual one: the readers refuse a line without.
_TARGET = "'comm=', clean(target_comm), ' pid=', target_tid, ' prio=', COALESCE(target_prio, 120)"
_TARGET_CPU = f"{_TARGET}, printf(' target_cpu=%03d', COALESCE(target_cpu, cpu, 0))"
_ADDRESS = "lpad(lower(hex({})), 16, '0')"


def _symbols(column: str, names: dict[int, str]) -> str:
    cases = " ".join(f"WHEN {number} THEN {quote_string(name)}" for number, name in names.items())
    return f"CASE {column} {cases} ELSE CAST({column} AS VARCHAR) END"


_VEC = f"'vec=', vec, ' [action=', {_symbols('vec', dict(enumerate(SOFTIRQS)))}, ']'"
_TCP = {number: f"TCP_{name}" for number, name in enumerate(TCP_STATES) if name}
_IPV4 = "CASE WHEN family = 2 THEN {0} ELSE '0.0.0.0' END"
_IPV6 = "CASE WHEN family = 2 THEN '::ffff:' || {0} ELSE {0} END"
# What stands behind the event's name, as arguments of concat(): the tracepoints' own print formats. Left out is what
# the recording does not have (the function of sk_data_ready, the priority at exit, a timer's now).
FIELDS = {
    "sched_switch": "'prev_comm=', clean(comm), ' prev_pid=', tid, ' prev_prio=', COALESCE(prev_prio, 120), "
    "' prev_state=', clean(prev_state), ' ==> next_comm=', clean(next_comm), ' next_pid=', next_tid, "
    "' next_prio=', COALESCE(next_prio, 120)",
    "sched_waking": _TARGET_CPU,
    "sched_wakeup": _TARGET_CPU,
    "sched_wakeup_new": _TARGET_CPU,
    "sched_migrate_task": f"{_TARGET}, ' orig_cpu=', orig_cpu, ' dest_cpu=', dest_cpu",
    "sched_process_fork": "'comm=', clean(comm), ' pid=', tid, ' child_comm=', clean(child_comm), "
    "' child_pid=', child_tid",
    "sched_process_exec": "'filename=', clean(filename), ' pid=', tid, ' old_pid=', old_tid",
    "sched_process_exit": "'comm=', clean(comm), ' pid=', tid",
    "softirq_raise": _VEC,
    "softirq_entry": _VEC,
    "softirq_exit": _VEC,
    "irq_handler_entry": "'irq=', irq, ' name=', clean(irq_name)",
    "irq_handler_exit": "'irq=', irq, ' ret=', CASE WHEN ret = 0 THEN 'unhandled' ELSE 'handled' END",
    "hrtimer_expire_entry": f"'hrtimer=', {_ADDRESS.format('hrtimer')}, ' function=', clean(\"function\")",
    "hrtimer_expire_exit": f"'hrtimer=', {_ADDRESS.format('hrtimer')}",
    "irq_vector_entry": "'vector=', vec",
    "irq_vector_exit": "'vector=', vec",
    "inet_sock_set_state": f"'family=', {_symbols('family', {2: 'AF_INET', 10: 'AF_INET6'})}, ' protocol=', "
    f"{_symbols('protocol', {6: 'IPPROTO_TCP', 132: 'IPPROTO_SCTP', 262: 'IPPROTO_MPTCP'})}, ' sport=', sport, "
    f"' dport=', dport, ' saddr=', {_IPV4.format('saddr')}, ' daddr=', {_IPV4.format('daddr')}, ' saddrv6=', "
    f"{_IPV6.format('saddr')}, ' daddrv6=', {_IPV6.format('daddr')}, ' oldstate=', {_symbols('old_state', _TCP)}, "
    f"' newstate=', {_symbols('new_state', _TCP)}",
    "sk_data_ready": "'family=', family, ' protocol=', protocol",
}
_NAMES = {"irq_vector_entry": "vector || '_entry'", "irq_vector_exit": "vector || '_exit'"}
# The third character of ftrace's flags is the context; X is the kernel's sign for a flag that it cannot tell.
_FLAGS = (
    "CASE WHEN kind = 'sched_switch' THEN 'X....' WHEN context = 'task' THEN 'X....' "
    "WHEN context = 'softirq' THEN 'X.s..' WHEN context IN ('hardirq', 'hrtimer', 'ipi') THEN 'X.h..' "
    "WHEN context = 'nmi' THEN 'X.z..' ELSE 'X.X..' END"
)
_SECONDS = "ts // 1000000000, ts % 1000000000"
_FTRACE_HEAD = (
    "printf('%16s-%-7d %s [%03d] %s %5d.%09d: ', "
    "CASE tid WHEN 0 THEN '<idle>' ELSE COALESCE(clean(comm), '<...>') END, "
    f"COALESCE(tid, 0), CASE WHEN pid > 0 THEN printf('(%7d)', pid) ELSE '(-------)' END, COALESCE(cpu, 0), {_FLAGS}, "
    f"{_SECONDS})"
)
_PERF_HEAD = (
    "printf('%16s %7d [%03d] %5d.%09d: ', CASE tid WHEN 0 THEN 'swapper' ELSE COALESCE(clean(comm), ':-1') END, "
    f"COALESCE(tid, -1), COALESCE(cpu, 0), {_SECONDS})"
)
_FTRACE_LEGEND = """\
#
#                                          _-----=> irqs-off/BH-disabled (X: not recorded)
#                                         / _----=> need-resched (not recorded)
#                                        | / _---=> hardirq/softirq (X: not recorded)
#                                        || / _--=> preempt-depth (not recorded)
#                                        ||| / _-=> migrate-disable (not recorded)
#                                        |||| /     delay
#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION
#              | |           |       |   |||||     |         |
"""


def _category(event: Event) -> str:
    return event.probes[0].partition(":")[0] if event.probes else "tracectl"


def _fields_of(event: Event) -> str:
    """The fields of a kind without a print format of its own, as ``name=value``."""
    shown = []
    for column in event.fields:
        name = quote_string(f"{column.name.removeprefix(event.kind + '__')}=")
        shown.append(f"{name} || clean(CAST({quote_name(column.name)} AS VARCHAR))")
    return f"concat_ws(' ', {', '.join(shown)})" if shown else "''"


def _ftrace_body(event: Event) -> str:
    """Arguments of concat() for what follows the time in ftrace's text."""
    kind = event.kind
    if kind.startswith("sys_enter_close"):
        return "'sys_close(fd: ', lower(hex(fd)), ')'"
    if kind.startswith("sys_exit_"):
        return f"{quote_string('sys_' + kind.removeprefix('sys_exit_') + ' -> 0x')}, lower(hex(ret))"
    return f"{_NAMES.get(kind, quote_string(kind))}, ': ', {FIELDS.get(kind) or _fields_of(event)}"


def _perf_body(event: Event) -> str:
    """The same for the text of ``perf script``."""
    kind = event.kind
    fields = FIELDS.get(kind) or _fields_of(event)
    if kind.startswith("sys_enter_close"):
        fields = "printf('fd: 0x%08x', fd)"
    elif kind.startswith("sys_exit_"):
        fields = "'0x', lower(hex(ret))"
    return f"{quote_string(_category(event) + ':')}, {_NAMES.get(kind, quote_string(kind))}, ': ', {fields}"


def _lost_sql(perf: bool, cpus: Iterable[int]) -> str:
    """The line, or lines, of a gap. One of no CPU in particular is one on each, and uncounted there."""
    everywhere = ", ".join(_lost_line(perf, str(cpu), "CAST(NULL AS VARCHAR)") for cpu in cpus)
    return (
        f"CASE WHEN cpu IS NULL THEN concat_ws(chr(10), {everywhere}) ELSE {_lost_line(perf, 'cpu', 'lost_count')} END"
    )


def _inside_sql(perf: bool) -> str:
    """A line before each event that lies within a gap: of one stream, which these texts cannot say.

    Readers take the gap to begin at the line before the one that tells of it.
    """
    where = "(gap.cpu = capture.cpu OR gap.cpu IS NULL) AND gap.from_ts < capture.ts AND capture.ts < gap.ts"
    line = _lost_line(perf, "capture.cpu", "CAST(NULL AS VARCHAR)", "capture.ts")
    return f"CASE WHEN EXISTS (SELECT 1 FROM gap_times AS gap WHERE {where}) THEN {line} || chr(10) ELSE '' END"


def _lost_line(perf: bool, cpu: str, count: str, ts: str = "ts") -> str:
    if perf:
        seconds = f"{ts} // 1000000000, {ts} % 1000000000"
        head = f"printf('%16s %7d [%03d] %5d.%09d: ', ':-1', -1, {cpu}, {seconds})"
        return f"concat({head}, 'PERF_RECORD_LOST', ' lost ' || {count})"
    return f"concat('CPU:', {cpu}, ' [LOST ', {count} || ' ', 'EVENTS]')"


def _lines_sql(source: Source, perf: bool, asked: bool) -> str:
    """The statement that yields the lines of one page, each with its line end."""
    events = [event for kind, event in source.capture.catalogue.events.items() if kind in source.capture.kinds]
    events = [event for event in events if not event.bookkeeping]
    body = _perf_body if perf else _ftrace_body
    cases = " ".join(f"WHEN {quote_string(event.kind)} THEN concat({body(event)})" for event in events)
    lost = _lost_sql(perf, source.capture.cpus or (0,))
    head = _PERF_HEAD if perf else _FTRACE_HEAD
    kinds = ", ".join(quote_string(kind) for kind in ("lost", *(event.kind for event in events)))
    wanted = " AND seq IN (SELECT seq FROM wanted)" if asked else ""
    event = f"{head} || CASE kind {cases} END" if asked else f"{_inside_sql(perf)} || {head} || CASE kind {cases} END"
    return (
        f"SELECT CASE kind WHEN 'lost' THEN {lost} ELSE {event} END || chr(10) AS line\n"
        f"FROM capture WHERE seq BETWEEN $first AND $last AND kind IN ({kinds}){wanted} ORDER BY seq"
    )


def line_bytes(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The strings of a column joined, as they lie in memory. No nulls."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and --help needs none of it

    for chunk in column.cast(pa.large_string()).chunks:
        _, offsets, data = chunk.buffers()
        if len(chunk) and data is not None:
            places = memoryview(offsets).cast("q")
            yield memoryview(data)[places[chunk.offset] : places[chunk.offset + len(chunk)]]


def write_ftrace(stream: IO[bytes], source: Source) -> None:
    """The kernel's own text, with TGID column and nanoseconds; gaps as ``CPU:1 [LOST 12 EVENTS]``."""
    asked = source.keep_answer("ftrace-text")
    counts = "count(*) FILTER (WHERE kind <> 'lost'), COALESCE(sum(lost_count) FILTER (WHERE kind = 'lost'), 0)"
    wanted = " AND (kind = 'lost' OR seq IN (SELECT seq FROM wanted))" if asked else ""
    names = ", ".join(quote_string(kind) for kind in ("lost", *source.capture.kinds))
    sql = f"SELECT {counts} FROM capture WHERE kind IN ({names}){wanted}"
    ((kept, lost),) = source.database.execute(f"{source.relations.with_clause(['capture'])}\n{sql}").rows()
    cpus = len(source.capture.cpus)
    stream.write(f"# tracer: nop\n#\n# entries-in-buffer/entries-written: {kept}/{kept + lost}   #P:{cpus}\n".encode())
    stream.write(_FTRACE_LEGEND.encode())
    _write_lines(stream, source, perf=False, asked=asked)


def write_perf(stream: IO[bytes], source: Source) -> None:
    """What ``perf script --ns --show-lost-events`` prints."""
    asked = source.keep_answer("perf-script")
    footer = source.capture.footer
    for name, value in (("hostname", footer.host), ("os release", footer.kernel), ("arch", footer.machine)):
        stream.write(f"# {name} : {harmless(value)}\n".encode() if value else b"")
    _write_lines(stream, source, perf=True, asked=asked)


def _write_lines(stream: IO[bytes], source: Source, *, perf: bool, asked: bool) -> None:
    # As harmless(), in SQL. Perfetto takes </script> for the end of a systrace page.
    clean = f"replace({escaped_sql('s')}, '</', '\\x3c/')"
    source.database.execute(f"CREATE OR REPLACE TEMP MACRO clean(s) AS {clean}")
    source.keep("gap_times", ["capture"], "SELECT cpu, from_ts, ts FROM capture WHERE kind = 'lost' AND from_ts < ts")
    for page in source.pages(["capture"], _lines_sql(source, perf, asked)):
        for part in line_bytes(page.column("line")):
            stream.write(part)
