"""One import from begin to end: what the sources are, who reads them, and the capture they become."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tracectl._version import __version__
from tracectl.recorder.import_bpftrace import EpollLog, is_epoll_log
from tracectl.recorder.import_callchains import STACKED
from tracectl.recorder.import_chrome import ChromeTrace, is_chrome_json
from tracectl.recorder.import_graph import GraphText, is_graph
from tracectl.recorder.import_input import Input, blocks, is_html, traces_in_html
from tracectl.recorder.import_kinds import source_of
from tracectl.recorder.import_perfetto import PerfettoTrace, is_perfetto
from tracectl.recorder.import_rows import add_rows
from tracectl.recorder.import_spool import Spool, Totals
from tracectl.recorder.import_stacks import stack_reader
from tracectl.recorder.import_text import TextReader
from tracectl.recorder.import_tools import report_of
from tracectl.store.errors import StrictError, UserError
from tracectl.store.events import KINDS
from tracectl.store.footer import Footer

FORMATS = (
    "ftrace text, trace-cmd report (also -R), trace.dat, perf script, perf.data, systrace and atrace (text or HTML), "
    "Chrome trace JSON, Perfetto traces, text of the function and function_graph tracers, folded stacks, "
    "text of offcputime and offwaketime, maps of bpftrace, the log of ep_poll_interact; "
    "each also as .gz, .xz, .zst, .bz2"
)
CALL_CHAINS = f"lines of call chains (those of {', '.join(sorted(STACKED))} are kept)"
_BATCH_ROWS = 50_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportOptions:
    """What to import, where to.

    Attributes:
        sources: files, ``-`` for standard input.
        output: the capture file.
        force: replace an existing output.
        strict: refuse when a line cannot be read.
        command_line: what to note in the capture; default: this process's own.
    """

    sources: tuple[str, ...]
    output: Path
    force: bool = False
    strict: bool = False
    command_line: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))


@dataclass
class Imported:
    """What became of an import.

    Attributes:
        formats: source -> what it was recognised as.
        not_kept: what was passed over, and how much of it.
        elapsed_ns: from the first event to the last.
    """

    path: Path
    totals: Totals
    formats: dict[str, str]
    not_kept: Counter[str]
    elapsed_ns: int


def import_traces(options: ImportOptions, on_progress: Progress | None = None) -> Imported:
    """Make one capture of traces that other tools recorded.

    Args:
        on_progress: called now and then with the bytes read and their total, 0 when not known.

    Raises:
        UserError: a source that is no trace, or an option that cannot be meant.
        RecordError: a tool that a binary trace needs is missing.
        StrictError: ``strict``, and there are lines that could not be read.
    """
    _check_output(options)
    footer = Footer([], [], 0, 0, version=__version__, command_line=list(options.command_line))
    with closing(Spool(options.output.absolute().parent)) as spool:
        formats: dict[str, str] = {}
        not_kept: Counter[str] = Counter()
        for name in options.sources:
            with closing(Input(name)) as source:
                formats[name], passed_over = _read(source, spool, footer, on_progress)
                not_kept.update({what: n for what, n in passed_over.items() if n})
        if not spool.totals.events:
            raise UserError(_no_events(options.sources, spool.totals), f"import reads {FORMATS}")
        if options.strict and spool.totals.unparsed:
            raise StrictError(
                f"not imported: {unread_lines(spool.totals)}", "without --strict they are kept as kind unparsed"
            )
        spool.coverage()
        spool.write(options.output, footer)
        return Imported(options.output, spool.totals, formats, not_kept, footer.end_ts - footer.start_ts)


def unread_lines(totals: Totals) -> str:
    """How many lines could not be read, and the first of them."""
    plural = "line" if totals.unparsed == 1 else "lines"
    first = "; ".join(f"line {line}: {text.strip()[:80]}" for line, text in totals.examples)
    return f"{totals.unparsed} {plural} could not be read ({first})"


def _no_events(sources: tuple[str, ...], totals: Totals) -> str:
    problem = f"no event in {', '.join(sources)}"
    return f"{problem}: {unread_lines(totals)}" if totals.unparsed else problem


def _check_output(options: ImportOptions) -> None:
    output = options.output
    if output.is_dir():
        raise UserError(f"{output} is a directory", "-o names a file")
    if output.exists() and not options.force:
        raise UserError(f"{output} exists", "--force replaces it, -o names another")
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UserError(f"no such directory: {parent}", f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{parent} is not writable", "-o names a file in another directory")


def _read(source: Input, spool: Spool, footer: Footer, on_progress: Progress | None) -> tuple[str, Counter[str]]:
    """Read one source into the spool; returns what it is, and what of it was passed over."""
    head = source.head
    if head.startswith(b"PAR1"):
        raise UserError(f"{source.name} is a Parquet file, maybe a capture already", f"tracectl info {source.name}")
    tool = report_of(source)
    if tool is not None:
        with tool as chunks:
            return tool.format, _read_text(chunks, spool, footer)
    chunks = _watched(source, on_progress)
    if is_html(head):
        return "systrace HTML", _read_text(traces_in_html(chunks), spool, footer)
    if is_perfetto(head):
        return "Perfetto trace", _read_perfetto(source.name, chunks, spool)
    if is_chrome_json(head):
        return "Chrome trace JSON", _read_chrome(chunks, spool)
    lines = _reader_of_lines(head, spool)
    if lines is not None:
        if isinstance(lines[1], EpollLog):
            spool.start_ts = 0  # its times count from when the script began
        return lines[0], _read_rows(chunks, spool, lines[1], lines[0])
    return "text", _read_text(_not_binary(source, chunks, spool), spool, footer)


def _reader_of_lines(head: bytes, spool: Spool) -> tuple[str, _Lines] | None:
    """What a text is that is no kernel text, and what reads it."""
    if is_epoll_log(head):
        return "log of ep_poll_interact", EpollLog()
    if is_graph(head):
        return "function_graph text", GraphText()
    return stack_reader(head, spool.stack_id)


def _not_binary(source: Input, chunks: Iterator[bytes], spool: Spool) -> Iterator[bytes]:
    """The chunks; a file of something else is refused before all of it is taken for lines that cannot be read."""
    for number, chunk in enumerate(chunks):
        if number and b"\0" in source.head and not spool.totals.events:
            raise UserError(f"{source.name} is no trace that import knows", f"import reads {FORMATS}")
        yield chunk


def _watched(source: Input, on_progress: Progress | None) -> Iterator[bytes]:
    for chunk in source.chunks():
        yield chunk
        if on_progress is not None:
            on_progress(source.consumed(), source.size)


def _read_text(chunks: Iterator[bytes], spool: Spool, footer: Footer) -> Counter[str]:
    reader = TextReader(spool)
    for number, block in enumerate(blocks(chunks, spool.totals)):
        if number == 0:
            _read_header(block, footer)
        reader.read(block)
    reader.finish()
    return Counter({CALL_CHAINS: reader.stack_lines - reader.chains.lines})


def _read_perfetto(name: str, chunks: Iterator[bytes], spool: Spool) -> Counter[str]:
    trace = PerfettoTrace(name, spool)
    trace.read(chunks)
    return Counter({f"packets of {what}": count for what, count in trace.passed_over.items()})


def _read_chrome(chunks: Iterator[bytes], spool: Spool) -> Counter[str]:
    rows = ChromeTrace().rows(chunks)
    while batch := list(islice(rows, _BATCH_ROWS)):
        add_rows(spool, batch, "trace events")
    return Counter()


class _Lines(Protocol):
    """What reads a text by lines."""

    def rows(self, block: bytes) -> Iterator[dict[str, Any]]:
        """Rows of the next whole lines."""

    def rest(self) -> Iterator[dict[str, Any]]:
        """Rows of what was not complete at the end."""


def _read_rows(chunks: Iterator[bytes], spool: Spool, reader: _Lines, probe: str) -> Counter[str]:
    for block in blocks(chunks, spool.totals):
        add_rows(spool, reader.rows(block), probe)
    add_rows(spool, reader.rest(), probe)
    return Counter()


_HEADER = re.compile(rb"^# (hostname|os release|arch) : (.{1,200}?)\s*$", re.MULTILINE)
_EVENT_HEADER = re.compile(rb"^# event : name = (?:\w+:)?(\w+),", re.MULTILINE)
_FOOTER_NAMES = {"hostname": "host", "os release": "kernel", "arch": "machine"}


def _read_header(text: bytes, footer: Footer) -> None:
    """What ``perf script --header`` tells of the machine and of the events that were recorded."""
    for name, value in _HEADER.findall(text):
        setattr(footer, _FOOTER_NAMES[name.decode()], value.decode("utf-8", "backslashreplace"))
    recorded = (name.decode() for name in _EVENT_HEADER.findall(text))
    footer.kinds = sorted(set(footer.kinds) | {kind for kind in recorded if kind in KINDS and source_of(kind).known})
