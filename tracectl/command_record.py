"""``tracectl record``: options for the recorder, the live status line, and the summary at the stop."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.recorder.drain import Outcome, Status
    from tracectl.recorder.session import RecordOptions
    from tracectl.toolview import ToolView

# What --profile records, all with stacks.
_PROFILES = {"offwake": ("sched_switch", "sched_waking"), "cpu": ("cpu_sample",)}
# Parameters that the recorder takes by the same name and as they are.
_UNCHANGED = (
    "pids", "tids", "comms", "cgroups", "container", "every", "max_events", "max_size", "realtime", "stats_json",
    "prometheus", "force", "command",
)  # fmt: skip
_CLEAR_LINE = "\r\x1b[K"


def _parsed(parse: Callable[[str], int]) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """A click callback that reads an option's value with ``parse``."""
    return lambda _context, _option, value: None if value is None else parse(value)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The capture. Default: tracectl-DATE-TIME.parquet."
)
@click.option(
    "-d", "--duration", callback=_parsed(text.parse_duration), metavar="TIME", help="Stop after 5s, 500ms, 2m, …"
)
@click.option(
    "-e", "--events", multiple=True, metavar="NAMES", help="What to record: kinds, groups, probes; may be repeated."
)
@click.option("--stacks", multiple=True, metavar="KINDS", help="Record these with kernel and user call stacks.")
@click.option(
    "--profile", "profiles", type=click.Choice(["offwake", "cpu"]), multiple=True,
    help="What is needed for flame graphs: offwake, who waits for whom; cpu, what the CPUs run.",
)  # fmt: skip
@click.option(
    "-F", "--frequency", type=click.IntRange(1, 10_000), metavar="HZ", help="CPU samples a second and CPU. Default: 99."
)
@click.option(
    "-p",
    "--pid",
    "pids",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="PID",
    help="This process, all its threads.",
)
@click.option("-t", "--tid", "tids", type=click.IntRange(min=1), multiple=True, metavar="TID", help="Only this thread.")
@click.option("--comm", "comms", multiple=True, metavar="GLOB", help="Only threads of this name, such as 'wrk:*'.")
@click.option("--cgroup", "cgroups", multiple=True, metavar="PATH", help="Only threads in this cgroup and below.")
@click.option(
    "--container",
    default="",
    metavar="ID",
    help="Only this container (Docker, containerd, CRI-O, Podman); -p then takes ids inside.",
)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, metavar="N",
    help="Record one of N events of each kind on each CPU; answers know that the others are missing.",
)  # fmt: skip
@click.option(
    "--min-delay", callback=_parsed(text.parse_duration), metavar="TIME",
    help="Record only waits for a CPU over 1ms, …, which the kernel picks out; asked as delays over 1ms.",
)  # fmt: skip
@click.option("-n", "--max-events", type=click.IntRange(min=1), metavar="N", help="Stop after so many events.")
@click.option(
    "--max-size", callback=_parsed(text.parse_size), metavar="SIZE",
    help="Stop when the capture has 500M, 2G, …; with --keep: keep no more than that.",
)  # fmt: skip
@click.option(
    "--keep", callback=_parsed(text.parse_duration), metavar="TIME",
    help="Flight recorder: run on, keep only the last 10m, … as segments in the directory -o; see tracectl snapshot.",
)  # fmt: skip
@click.option(
    "--trigger", metavar="QUESTION",
    help="With --keep: ask this of each segment; when it has rows, keep what surrounds them as a capture of its own.",
)  # fmt: skip
@click.option(
    "--trigger-window", callback=_parsed(text.parse_duration), default="10s", show_default=True, metavar="TIME",
    help="How much before and after such a hit.",
)  # fmt: skip
@click.option(
    "--trigger-pause", callback=_parsed(text.parse_duration), default="1m", show_default=True, metavar="TIME",
    help="After a snapshot, how long no other is made.",
)  # fmt: skip
@click.option(
    "--buffer", default="auto", show_default=True, callback=lambda _context, _option, value: _buffer(value),
    metavar="SIZE", help="Memory of each ring, one for each CPU and stream; auto: 512K to 8M, by the machine's memory.",
)  # fmt: skip
@click.option("--realtime", is_flag=True, help="Run the reader before all else (SCHED_FIFO): for machines under load.")
@click.option(
    "--stats-json", type=click.Path(path_type=Path), metavar="FILE",
    help="Write once a second how it goes, as JSON; - is a line on standard output each time.",
)  # fmt: skip
@click.option(
    "--prometheus", type=click.Path(path_type=Path), metavar="FILE",
    help="The same for node_exporter's textfile collector.",
)  # fmt: skip
@click.option(
    "--as", "tool", metavar="TOOL",
    help="Print while recording what this tool prints: runqslower, 'runqslower 1000 -P', …; see tracectl replay.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("-q", "--quiet", is_flag=True, help="No status and no summary; lost events are still told.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def record(*, output: Path | None, quiet: bool, tool: str | None, **options: Any) -> int:
    """Record what the kernel does, into one Parquet file (root).

    Stops on Ctrl-C, after -d, -n or --max-size, or when COMMAND ends; then COMMAND's exit code is passed on.

    -e takes kinds (sched_switch), groups (sched, task, irq, epoll, net, syscall, profile), any tracepoint of this
    kernel (sched:sched_stat_runtime) and any function or USDT probe ('uprobe:c:malloc(size:u64=arg0)', kprobe:…,
    usdt:/usr/bin/python3:python:gc__*; docs/probes.md), separated by commas. Default: with --profile or --min-delay
    what it needs, else all but syscall and profile.
    Several of -p, -t, --comm, --cgroup are alternatives; what the questions need about others (a waker, the thread
    that ran instead) is kept.

    \b
      sudo tracectl record -o web.parquet -d 5s
      sudo tracectl record -p 4182 -e sched,irq
      sudo tracectl record -o make.parquet -- make
      sudo tracectl record --keep 10m --max-size 2G -o /var/lib/tracectl/flight
      sudo tracectl record --keep 10m -o flight --trigger "delays of pid 4182 over 50ms"
      sudo tracectl record --min-delay 1ms -d 1m
      sudo tracectl record --profile cpu -F 199 -d 10s
      sudo tracectl record --as 'runqslower 10000 -P'
    """
    suffix = "flight" if options["keep"] else "parquet"
    path = output or Path(time.strftime(f"tracectl-%Y%m%d-%H%M%S.{suffix}"))
    if tool is not None:
        outcome = _recorded_live(path, tool, options)
    else:
        live = sys.stderr.isatty() and not quiet
        outcome = _recorded(recorder_options(path, options), StatusLine().show if live else None, options)
        if live:
            click.echo(_CLEAR_LINE, nl=False, err=True)
    _summarize(outcome, quiet)
    return outcome.command_exit or 0


def _recorded(options: RecordOptions, show: Callable[[Status], None] | None, given: dict[str, Any]) -> Outcome:
    """Record, and have the trigger watched meanwhile."""
    from tracectl.recorder.session import record as record_session

    if given["trigger"] is None:
        return record_session(options, show)
    from tracectl.trigger import Trigger, Watcher, say

    watcher = Watcher(options, Trigger(given["trigger"], given["trigger_window"], given["trigger_pause"]), say)

    def on_status(status: Status) -> None:
        watcher.check()
        if show is not None:
            show(status)

    try:
        return record_session(options, on_status)
    finally:
        watcher.end()


def _recorded_live(path: Path, tool: str, options: dict[str, Any]) -> Outcome:
    """Record, and print meanwhile what a tool would; without -e, what that tool needs is recorded."""
    from tracectl.recorder.session import record as record_session
    from tracectl.store.errors import UserError
    from tracectl.toolview import view_of
    from tracectl.toolview_live import Live

    try:
        name, *arguments = shlex.split(tool)
    except ValueError as error:
        raise UserError(f"--as {tool}: no tool with its options ({error})", "--as 'runqslower 1000 -P'") from error
    if options["keep"]:
        raise UserError("--as does not go with --keep, which drops what was shown", "record to a file: -o x.parquet")
    if options["min_delay"] is not None:
        raise UserError("--as does not go with --min-delay: it needs every switch", "--as 'runqslower 1000'")
    view = view_of(name, arguments)
    needed = {"events": options["events"] or view.record, "stacks": options["stacks"] + view.stacks}
    given = recorder_options(path, options | needed)
    if os.geteuid() == 0:
        _check_needs(view, tool, given)
    with Live(view, path, lambda note: click.echo(text.visible(f"tracectl: {note}"), err=True)) as live:
        outcome = record_session(given, lambda _: live.check())
        live.done()
    if live.failed:
        raise UserError(f"--as {tool} ended early", f"what was recorded until then: {path}")
    return outcome


def _check_needs(view: ToolView, tool: str, given: RecordOptions) -> None:
    """Refuse to record for a tool what this kernel does not give it.

    Raises:
        RecordError: what, and why.
    """
    from tracectl.recorder.selection import select
    from tracectl.store.errors import RecordError

    missing = select(given.events, given.stacks).missing
    for kind in view.needs:
        if kind in missing:
            raise RecordError(
                f"--as {tool}: {kind} cannot be recorded here: {missing[kind]}",
                f"a capture or log of another machine can be shown: tracectl replay CAPTURE --as {view.tool}"
                f" -- {shlex.join(view.arguments)}",
            )


def _buffer(value: str) -> int:
    return 0 if value == "auto" else text.parse_size(value)


def recorder_options(path: Path, given: dict[str, Any], line: Sequence[str] | None = None) -> RecordOptions:
    """The recorder's options from the command's.

    Args:
        path: the capture.
        given: the command's parameters by name, as click hands them over.
        line: what the capture notes as the command line; default: this process's own.
    """
    from tracectl.recorder.session import RecordOptions

    profiled = tuple(kind for profile in given["profiles"] for kind in _PROFILES[profile])
    return RecordOptions(
        output=path,
        duration_ns=given["duration"],
        events=given["events"] or profiled,
        stacks=given["stacks"] + profiled,
        **({} if given["frequency"] is None else {"frequency": given["frequency"]}),
        min_delay_ns=given["min_delay"],
        keep_ns=given["keep"],
        buffer_bytes=given["buffer"],
        command_line=("tracectl", *sys.argv[1:]) if line is None else tuple(line),
        debug=bool(os.environ.get("TRACECTL_DEBUG")),
        **{name: given[name] for name in _UNCHANGED},
    )


class StatusLine:
    """One line on a terminal that is written over again and again, cut to the terminal's width."""

    def __init__(self) -> None:
        self._before: tuple[int, int] = (0, 0)  # elapsed_ns and events at the last call

    def show(self, status: Status) -> None:
        """Write how the recording goes; the rate is that since the last call."""
        elapsed, events = self._before
        rate = (status.events - events) * 1e9 / max(status.elapsed_ns - elapsed, 1)
        self._before = status.elapsed_ns, status.events
        lost = f"lost {text.count(status.lost)}"
        line = f"recording {status.elapsed_ns / 1e9:.1f}s  {text.count(round(rate))} events/s  {lost}  "
        line += f"{text.size(status.size)}  (Ctrl-C stops)"
        line = line[: shutil.get_terminal_size().columns - 1]
        if status.lost:
            line = line.replace(lost, click.style(lost, fg="red", bold=True))
        click.echo(_CLEAR_LINE + line, nl=False, err=True)


def _summarize(outcome: Outcome, quiet: bool) -> None:
    """What was written and why it ended, the ledger, what this kernel lacks, and the loss: that even when quiet."""
    from tracectl.ledger import as_table, verdict
    from tracectl.recorder.namespace import inside as inside_namespace
    from tracectl.render import write_table
    from tracectl.store.events import CAUSES

    if not quiet:
        size, span = text.size(outcome.size), text.duration(outcome.elapsed_ns)
        done = f"{outcome.path}: {text.plural(outcome.events, 'event')} in {span}, {size} ({outcome.stopped_by})"
        click.echo(text.visible(done), err=True)
        if inside_namespace():
            recorded = f": {outcome.filter} was recorded" if outcome.filter else ""
            note = f"tracectl ran inside a PID namespace; the capture has the machine's own ids{recorded}"
            click.echo(text.visible(note), err=True)
        for kind, reason in sorted(outcome.missing.items()):
            click.echo(text.visible(f"not recorded: {kind}: {reason}"), err=True)
        write_table(as_table(outcome.ledger), sys.stderr, None)
        click.echo(_overhead(outcome), err=True)
    line, colour, complete = verdict(outcome.ledger, outcome.causes.get("undeclared", 0))
    if not quiet or not complete:
        click.echo(click.style(line, fg=colour, bold=True), err=True)
    for cause, number in sorted(outcome.causes.items()):
        click.echo(text.visible(f"  {text.count(number)} {cause}: {CAUSES.get(cause, 'cause unknown')}"), err=True)


def _overhead(outcome: Outcome) -> str:
    """What the recording cost."""
    each = f", {text.duration(outcome.cpu_ns / outcome.events)} an event" if outcome.events else ""
    _, p99, longest = outcome.delays_ns
    return (
        f"the recorder used {text.duration(outcome.cpu_ns)} CPU ({text.duration(outcome.reader_cpu_ns)} of it reading)"
        f"{each}; rings were emptied every {text.duration(p99)} (p99; longest {text.duration(longest)})"
    )
