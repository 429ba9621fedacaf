"""Kernel text to rows: ftrace, atrace, ``trace-cmd report`` (also -R) and ``perf script``, a block of lines at once."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Block, Mask, Positions
from tracectl.recorder.import_callchains import STACKED, CallChains
from tracectl.recorder.import_context import Contexts
from tracectl.recorder.import_graph import Calls
from tracectl.recorder.import_heads import NONE, Heads, Names, read_heads, read_names
from tracectl.recorder.import_kinds import (
    CODES,
    PLUGIN_LETTERS,
    PLUGIN_STATE,
    SAMPLE,
    Source,
    inferred_template,
    is_sample,
    known_templates,
    source_of,
)
from tracectl.recorder.import_marks import Marks
from tracectl.recorder.import_rows import LONGEST_TEXT, take_rows
from tracectl.recorder.import_spool import LONGEST_UNPARSED, Spool
from tracectl.recorder.import_template import Columns, Part, Parts, Template, match_at_once, match_by_line

MOST_KINDS = 500
_MOST_LAYOUTS = 8
_LONGEST_NAME = 64
_TAB, _HASH = b"\t#"
_FUNCTION = "function_call"
MARKS = "ftrace:print"
_MARKED = ("tracing_mark_write", "print")
_GRAPH = ("funcgraph_entry", "funcgraph_exit")
Take = Callable[[dict[str, Any], str], list[dict[str, Any]] | None]
Groups = list[tuple[str, Positions]]
_WHOLE = Template.of([Part("text", "text")])
_BUFFER = b"# entries-in-buffer/entries-written: "
_BUFFER_COUNTS = re.compile(rb"(\d{1,15})/(\d{1,15})[ \t]*(?:#P:(\d{1,5}))?")
# The kernel writes no number where it does not know one (print_trace_line), and neither does trace-cmd.
_LOST = re.compile(r"\s*(?:CPU:(\d{1,5}) )?\[(?:(?:LOST )?(\d{1,20}) )?(?:LOST )?EVENTS(?: DROPPED| LOST)?\]\s*")
_PERF_LOST = re.compile(r"PERF_RECORD_LOST(?:_SAMPLES)?(?::? lost(?: samples)?:?(?: (\d{1,20}))?)?\s*")
# What perf says on its standard error, which may stand in the same text; chunks are no events.
_PERF_LOST_SOMEWHERE = re.compile(r"Processed \d+ (?:events and lost \d+ chunks!|samples and lost \d+(?:\.\d+)?%!)\s*")
_LARGEST_COUNT = 1 << 62
_NOT_EVENTS = re.compile(r"\s*(?:cpus=\d+|version = \d+|CPU \d+ is empty|\\?)\s*")


class TextReader:
    """Reads the blocks of one file, in order, into a spool.

    Attributes:
        lines: lines read so far.
        stack_lines: lines of call chains.
        chains: the chains among them that became stacks.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.lines = 0
        self.stack_lines = 0
        self._layouts: dict[str, list[Template]] = {}
        self.chains = CallChains(spool)
        self._contexts = Contexts()
        self._marks = Marks()
        self._calls = Calls()
        self._losses = 0  # before the block
        self._lost_lines: list[int] = []  # of the block
        self._last_ts = 0
        self._last_by_cpu: dict[int, int] = {}
        self._open_losses: list[tuple[int | None, int, int | None]] = []  # (cpu, from_ts, count) until the next event
        self._first_by_cpu: dict[int, int] = {}
        self._overwritten = 0
        self._cpus = 0
        self._lost_somewhere = False

    def read(self, data: bytes) -> None:
        """Read whole lines."""
        block = Block(data)
        lines = np.flatnonzero(block.ends > block.starts)
        first = block.bytes[block.starts[lines]]
        plain = lines[(first != _TAB) & (first != _HASH)]
        frames = lines[first == _TAB]
        self.stack_lines += len(frames)
        heads = read_heads(block, plain)
        names = read_names(block, heads)
        self._see_header(data)
        pending, self._open_losses = self._open_losses, []
        self._losses, self._lost_lines = self._losses + len(self._lost_lines), []
        for cpu, since, count in pending:
            self._lost(heads, -1, cpu, since, count)
        self._contexts.begin(block, heads, frames, self.chains.begin(block, heads, frames))
        # Losses first: what a softirq is told to be depends on them.
        unread = [self._other_lines(block, heads, plain), self._events(block, heads, names)]
        unread.append(np.array(sorted(set(self.chains.unread)), np.int64))
        self.chains.end()
        self._unparsed(block, heads, np.sort(np.concatenate(unread)))
        self.lines += len(block.starts)
        self._remember(heads)
        if len(self._first_by_cpu) == self._cpus:
            self._note_overwritten()
        self.spool.end_block()

    def finish(self) -> None:
        """Note losses that no event follows."""
        self._note_overwritten()
        take_rows(self.spool, [*self._marks.rest(), *self._calls.rest()], MARKS)
        if self._lost_somewhere:
            self.spool.lost(self._last_ts, None, None, None)
            self.spool.vectors_known = False
        for cpu, since, count in self._open_losses:
            self.spool.lost(self._last_ts, cpu, since, count)
        self.spool.end_block()

    def _see_header(self, data: bytes) -> None:
        """Take what ftrace says was overwritten, and how many CPUs there are."""
        at = data.find(_BUFFER)
        found = _BUFFER_COUNTS.match(data, at + len(_BUFFER)) if at >= 0 else None
        if found:
            self._overwritten += max(int(found[2]) - int(found[1]), 0)
            self._cpus = int(found[3] or 0)

    def _note_overwritten(self) -> None:
        """Note what was overwritten: before each CPU's first event, so known once every CPU has one, or at the end."""
        if self._overwritten and self._first_by_cpu:
            self.spool.lost(max(self._first_by_cpu.values()), None, None, self._overwritten)
            self._overwritten = 0

    def _remember(self, heads: Heads) -> None:
        if len(heads.ts):
            cpus, first = np.unique(heads.cpu, return_index=True)
            for cpu, ts in zip(cpus.tolist(), heads.ts[first].tolist(), strict=True):
                self._first_by_cpu.setdefault(cpu, ts)
            self._last_ts = int(heads.ts[-1])
            cpus, last = np.unique(heads.cpu[::-1], return_index=True)
            self._last_by_cpu |= dict(zip(cpus.tolist(), heads.ts[::-1][last].tolist(), strict=True))

    def _events(self, block: Block, heads: Heads, names: Names) -> Positions:
        """Give the spool the rows of all events; returns the lines that could not be read."""
        base = _Base(block, heads)
        end = block.ends[heads.line]
        unread = np.ones(len(end), np.bool_)
        wakings = []
        groups = list(_groups(block, names, end))
        for _, which in groups:
            unread[which] = False
        unread[self._lost_by_perf(block, heads, names, np.flatnonzero(unread))] = False
        groups = self._paired(_MARKED, self._marks.take, base, names, groups)
        groups = self._paired(_GRAPH, self._call, base, names, groups)
        for name, group in groups:
            source = source_of(name)
            which = self._samples(block, base, names, name, group) if is_sample(name) else group
            if not len(which):
                continue
            parts, left = self._read_texts(block, source, names.text, end, which)
            unread[left] = True
            if source.kind == "sched_waking":
                wakings += [(source, *part) for part in parts]
                continue
            for indices, columns in parts:
                self._add(base, source, indices, columns)
        for source, indices, columns in wakings:  # last: their contexts need all softirqs of the block
            self._add(base, source, indices, columns | self._contexts.of_wakings(indices))
        self._contexts.end()
        return heads.line[unread]

    def _call(self, row: dict[str, Any], text: str) -> list[dict[str, Any]] | None:
        found = self._calls.of_text(row, text, self._losses + bisect_left(self._lost_lines, row["order"]))
        if found is None:  # it may have been a begin or an end
            insort(self._lost_lines, row["order"])
        return found

    def _paired(self, kinds: tuple[str, ...], take: Take, base: _Base, names: Names, groups: Groups) -> Groups:
        """Take events that begin and end something out of the groups, in order, and give their rows to the spool."""
        marked = [which for name, which in groups if source_of(name).kind in kinds]
        if not marked:
            return groups
        every = np.sort(np.concatenate(marked))
        end = base.block.ends[base.heads.line[every]]
        texts = base.block.texts(names.text[every], np.minimum(end, names.text[every] + LONGEST_TEXT)).to_pylist()
        columns = {name: column.to_pylist() for name, column in base.columns(every).items()}
        rows: list[dict[str, Any]] = []
        done = np.zeros(len(every), np.bool_)
        for place, (text, order) in enumerate(zip(texts, base.heads.line[every].tolist(), strict=True)):
            found = take({name: column[place] for name, column in columns.items()} | {"order": order}, text)
            done[place] = found is not None
            rows += found or ()
        take_rows(self.spool, rows, f"ftrace:{kinds[-1]}")
        taken = every[done]
        self.spool.totals.cut += int((done & (end - names.text[every] > LONGEST_TEXT)).sum())
        left = [
            (name, np.setdiff1d(which, taken) if source_of(name).kind in kinds else which) for name, which in groups
        ]
        return [(name, which) for name, which in left if len(which)]

    def _lost_by_perf(self, block: Block, heads: Heads, names: Names, which: Positions) -> Positions:
        """Take perf's records of loss out of what could not be read; returns their heads."""
        marked = which[block.is_at(names.start[which], b"PERF_RECORD_LOST")]
        lost = []
        for index in marked.tolist():
            line = int(heads.line[index])
            found = _PERF_LOST.fullmatch(block.text(int(names.start[index]), int(block.ends[line]))[:80])
            if found:
                cpu = int(heads.cpu[index]) if heads.cpu[index] >= 0 else None
                self.spool.lost(int(heads.ts[index]), cpu, self._before(heads, line, cpu), _count(found[1]))
                self._contexts.lost(index, cpu)
                insort(self._lost_lines, line)
                lost.append(index)
        return np.array(lost, np.int64)

    def _samples(self, block: Block, base: _Base, names: Names, name: str, which: Positions) -> Positions:
        """Give the spool the samples of what CPUs ran; returns the others, whose lines have more than a frame."""
        good = self.chains.of_samples(which, names.text[which], block.ends[base.heads.line[which]])
        if good.any():
            self._add(base, Source(SAMPLE, name), which[good], {})
        return which[~good]

    def _read_texts(
        self, block: Block, source: Source, start: Positions, end: Positions, which: Positions
    ) -> tuple[Parts, Positions]:
        if source.known:
            templates = known_templates(source.kind)
            parts, left = match_at_once(templates, block, start, end, which)
            more, left = match_by_line(templates, block, start, end, left)
            return parts + more, left
        if source.kind not in self._layouts and len(self._layouts) >= MOST_KINDS:
            return [], which
        templates = self._layouts.setdefault(source.kind, [])
        parts, left = match_at_once(templates, block, start, end, which)
        while len(left) and len(templates) < _MOST_LAYOUTS:
            templates.append(inferred_template(block.text(int(start[left[0]]), int(end[left[0]]))[:4096]))
            more, left = match_at_once(templates[-1:], block, start, end, left)
            parts += more
        more, left = match_by_line(templates, block, start, end, left)
        whole, _ = match_at_once([_WHOLE], block, start, end, left)
        return parts + more + whole, left[:0]

    def _add(self, base: _Base, source: Source, indices: Positions, columns: Columns) -> None:
        if source.kind in STACKED:
            columns = columns | self.chains.columns(indices)
        if source.known:
            columns = _as_catalogue(columns, source, len(indices))
            if source.kind in ("softirq_entry", "softirq_exit"):
                self._contexts.softirqs(source.kind, indices, columns["vec"])
        else:
            columns = {f"{source.kind}__{name}": column for name, column in columns.items()}
        self.spool.add(source.kind, source.probe, {**base.columns(indices), **columns}, base.heads.line[indices])

    def _other_lines(self, block: Block, heads: Heads, plain: Positions) -> Positions:
        """Lines without a head: losses are noted, what is no event is passed over; returns the others."""
        unread = []
        for line in np.setdiff1d(plain, heads.line, assume_unique=True).tolist():
            start, end = int(block.starts[line]), int(block.ends[line])
            text = block.text(start, min(end, start + LONGEST_UNPARSED))
            lost = _LOST.fullmatch(text)
            if lost:
                cpu = int(lost[1]) if lost[1] else None
                self._lost(heads, line, cpu, self._before(heads, line, cpu), _count(lost[2]))
                self._contexts.lost(int(np.searchsorted(heads.line, line)) - 1, cpu)
                self._lost_lines.append(line)
            elif _PERF_LOST_SOMEWHERE.fullmatch(text):
                self._lost_somewhere = True
            elif not _NOT_EVENTS.fullmatch(text):
                unread.append(line)
                self._lost_lines.append(line)  # it may have been the begin or the end of a call
        return np.array(unread, np.int64)

    def _before(self, heads: Heads, line: int, cpu: int | None) -> int:
        """Time of the last event before a line, of that CPU where it is known."""
        earlier = heads.ts[(heads.line < line) & (True if cpu is None else heads.cpu == cpu)]
        if len(earlier):
            return int(earlier[-1])
        return self._last_ts if cpu is None else self._last_by_cpu.get(cpu, 0)

    def _lost(self, heads: Heads, line: int, cpu: int | None, since: int, count: int | None) -> None:
        """Note a gap that ends at the next event behind a line, of that CPU where it is known."""
        later = heads.ts[(heads.line > line) & (True if cpu is None else heads.cpu == cpu)]
        if len(later):
            self.spool.lost(int(later[0]), cpu, since, count)
        else:
            self._open_losses.append((cpu, since, count))

    def _unparsed(self, block: Block, heads: Heads, lines: Positions) -> None:
        """Keep lines that could not be read, at the time of the event before them; perf's losses are among them."""
        if not len(lines):
            return
        times = np.concatenate([[self._last_ts], heads.ts])[np.searchsorted(heads.line, lines, side="right")]
        start = block.starts[lines]
        texts = block.texts(start, np.minimum(block.ends[lines], start + LONGEST_UNPARSED))
        self.spool.unparsed(times, self.lines + lines + 1, texts, lines)


class _Base:
    """The columns that every row has."""

    def __init__(self, block: Block, heads: Heads) -> None:
        self.block, self.heads = block, heads
        comm = block.texts(heads.comm_start, heads.comm_end)
        names = comm.dictionary.to_pylist()
        known = [None if name == "<...>" or re.fullmatch(r":-?\d+", name) else name for name in names]
        distinct = list(dict.fromkeys(name for name in known if name is not None))
        number = {name: index for index, name in enumerate(distinct)}
        codes = np.array([-1 if name is None else number[name] for name in known], np.int64)
        codes = codes[comm.indices.to_numpy(zero_copy_only=False)] if known else np.empty(0, np.int64)
        # The idle thread is <idle> to ftrace and swapper to perf; its name in the kernel has the CPU's number.
        idle = (heads.tid == 0) & (heads.cpu >= 0)
        cpus = np.unique(heads.cpu[idle])
        codes[idle] = len(distinct) + np.searchsorted(cpus, heads.cpu[idle])
        self._codes = codes
        idle_names = [f"swapper/{cpu}" for cpu in cpus.tolist()]
        self._names, self._place = _without_repeats(distinct + idle_names)

    def columns(self, which: Positions) -> Columns:
        """ts, cpu, pid, tid and comm of some heads."""
        heads = self.heads
        codes = self._codes[which]
        place = np.where(codes >= 0, self._place[np.maximum(codes, 0)] if len(self._place) else 0, 0)
        comm = pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32), mask=codes < 0), self._names)
        pid = np.where(heads.tid[which] == 0, 0, heads.pid[which])
        return {
            "ts": pa.array(heads.ts[which]),
            "cpu": _numbers(heads.cpu[which]),
            "pid": _numbers(pid),
            "tid": _numbers(heads.tid[which]),
            "comm": comm,
        }


def _count(digits: str | None) -> int | None:
    """How many events were lost; None where the text does not know, or gives a number that cannot be one."""
    return int(digits) if digits and int(digits) < _LARGEST_COUNT else None


def _without_repeats(names: list[str]) -> tuple[pa.Array, Positions]:
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return pa.array(list(place), pa.string()), np.array([place[name] for name in names], np.int64)


def _numbers(values: Positions) -> pa.Array:
    return pa.array(values, mask=values == NONE)


def _groups(block: Block, names: Names, line_end: Positions) -> Iterator[tuple[str, Positions]]:
    """Event names and the indices of their heads; moves the ends of texts that stand in brackets."""
    usable = names.named & (names.end - names.start <= _LONGEST_NAME)
    for form in _special_forms(block, names, line_end, ~usable):
        yield from _by_text(block, *form)
    yield from _by_text(block, np.flatnonzero(usable), names.start[usable], names.end[usable], "")


def _by_text(
    block: Block, which: Positions, start: Positions, end: Positions, prefix: str
) -> Iterator[tuple[str, Positions]]:
    """Groups of equal text: (prefix + text, members of ``which``)."""
    if not len(which):
        return
    encoded = block.texts(start, end)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        members = order[bounds[code] : bounds[code + 1]]
        if len(members):
            yield prefix + name, which[members]


def _special_forms(
    block: Block, names: Names, line_end: Positions, which: Mask
) -> Iterator[tuple[Positions, Positions, Positions, str]]:
    """Events whose name no colon ends: ``sys_close(fd: 3)`` and ``sys_close -> 0x0`` of ftrace, ``f <-g`` of its
    function tracer. Moves ``names.text`` to what follows the name."""
    index = np.flatnonzero(which)
    start = names.start[index]
    space = np.minimum(block.word_end(start), line_end[index])
    syscall = block.is_at(start, b"sys_")
    leaving = syscall & block.is_at(space, b" -> ")
    names.text[index[leaving]] = space[leaving] + 4
    yield index[leaving], start[leaving] + 4, space[leaving], "sys_exit_"
    calling = block.is_at(space, b" <-")
    yield index[calling], start[calling], start[calling], _FUNCTION
    bracket = block.next(ord("("), start)
    entering = syscall & ~leaving & (bracket < line_end[index])
    closing = line_end[index[entering]] - 1
    good = block.bytes[closing] == ord(")")
    entering = index[entering][good]
    line_end[entering] -= 1
    names.text[entering] = block.next(ord("("), names.start[entering]) + 1
    yield entering, names.start[entering] + 4, names.text[entering] - 1, "sys_enter_"


def _as_catalogue(columns: Columns, source: Source, rows: int) -> Columns:
    """Columns of a known kind as the catalogue has them."""
    if PLUGIN_STATE in columns:
        state = columns.pop(PLUGIN_STATE)
        words = [word.translate(PLUGIN_LETTERS) for word in state.dictionary.to_pylist()]
        columns["prev_state"] = pa.array(words, pa.string()).take(state.indices).dictionary_encode()
    if source.vector:
        zeros = pa.array(np.zeros(rows, np.int32))
        columns["vector"] = pa.DictionaryArray.from_arrays(zeros, pa.array([source.vector]))
    for name in ("saddr", "daddr"):  # an IPv4 address is printed as the IPv6 one that maps it
        if name in columns:
            addresses = [re.sub(r"^::ffff:(?=\d+\.)", "", word) for word in columns[name].dictionary.to_pylist()]
            columns[name] = pa.array(addresses, pa.string()).take(columns[name].indices).dictionary_encode()
    for name, codes in CODES.items():
        if name in columns and pa.types.is_dictionary(columns[name].type):
            words = columns[name].dictionary.to_pylist()
            numbers = [codes.get(word, int(word) if word.isdecimal() and len(word) < 10 else None) for word in words]
            columns[name] = pa.array(numbers, pa.int64()).take(columns[name].indices)
    return columns
