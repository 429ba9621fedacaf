"""Imported rows on their way to a capture: put in order, held in windows on disk, typed once everything was seen."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracectl.recorder.import_bytes import Positions
from tracectl.recorder.import_finish import Finish, Gaps, Window, cast
from tracectl.recorder.import_states import state_names
from tracectl.store.compaction import WINDOW_ROWS
from tracectl.store.events import BASE_FIELDS, EXTRA, KINDS, Catalogue, Event
from tracectl.store.fields import PATH, S64, Field
from tracectl.store.footer import Footer, event_to_json
from tracectl.store.schema import arrow_type, capture_schema
from tracectl.store.writer import write_file

Columns = dict[str, pa.Array]
_NUMBER = r"^(-?[0-9]{1,18}|0[xX][0-9a-fA-F]{1,16})?$"
_TEXT = pa.dictionary(pa.int32(), pa.string())
_FEW_UNPARSED = 5
LONGEST_UNPARSED = 200
_NEVER = 2**63 - 1
_UNITS = {"slice__dur": "ns"}  # of columns that the catalogue does not have


@dataclass
class Totals:
    """What was imported.

    Attributes:
        events: rows per kind, without bookkeeping.
        lost: events that the source says it lost, where it counted them.
        uncounted: gaps of which it does not say how many events are missing.
        unparsed: lines that could not be read, the first few of them in ``examples`` as (file's line, text).
        cut: texts that are kept only in part, since they are very long.
    """

    events: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lost: int = 0
    uncounted: int = 0
    unparsed: int = 0
    cut: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


class Spool:
    """Takes the rows of block after block; :meth:`write` makes the capture.

    Sorted by time, rows go through windows of a million on disk. Where a block begins earlier than the one before ended
    (several files, unsorted text), all rows are sorted once at the end, in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.totals = Totals()
        self.gaps = Gaps()
        self.vectors_known = True  # the softirqs of wakings; not where events were lost nobody knows when
        self.first_ts_by_cpu: dict[int, int] = {}
        self.start_ts = _NEVER
        self.end_ts = 0
        self._folder = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
        self._windows: list[dict[str, Path]] = []
        self._tables: dict[str, list[pa.Table]] = defaultdict(list)
        self._rows = 0
        self._next_seq = 1
        self._late = False
        self._block: list[tuple[str, Columns, Positions]] = []
        self._notes: list[tuple[str, dict[str, Any]]] = []
        self._own_kinds: dict[str, tuple[str, dict[str, None]]] = {}  # kind -> (probe, its columns in order)
        self._numeric: dict[str, bool] = {}  # whether a column of these is numbers so far
        self._states: set[str] = set()
        self._some_context = False
        self._irq_names: dict[int, dict[str, None]] = defaultdict(dict)
        self._stack_ids: dict[bytes, int] = {}  # by digest: stacks can be many, and long
        self._filled: dict[str, set[str]] = defaultdict(set)  # optional columns that some row has

    def add(self, kind: str, probe: str, columns: Columns, order: Positions) -> None:
        """Take rows of one kind; ``order`` places them within the block where times are equal.

        Columns of a kind that the catalogue does not have are named ``<kind>__<field>`` and texts.
        """
        if kind not in KINDS:
            self._note_columns(kind, probe, columns)
        elif kind == "sched_switch":
            self._states.update(columns["prev_state"].dictionary.to_pylist())
        elif kind == "sched_waking":
            self._some_context |= columns["context"].null_count < len(order)
        elif kind == "irq_handler_entry":
            self._note_irq_names(columns["irq"], columns["irq_name"])
        for column in KINDS[kind].optional if kind in KINDS else ():
            if column.name in columns and columns[column.name].null_count < len(order):
                self._filled[kind].add(column.name)
        if kind not in KINDS or not KINDS[kind].bookkeeping:
            self.totals.events[kind] += len(order)
        types = _TYPES.get(kind, _BASE_TYPES)
        narrow = {name: cast(column, types[name]) if name in types else column for name, column in columns.items()}
        self._block.append((kind, narrow, order))

    def _note_irq_names(self, irq: pa.Array, name: pa.Array) -> None:
        """Take the names of handlers, for those wakeups that only tell the number."""
        known = np.asarray(pc.and_(irq.is_valid(), name.is_valid()))
        numbers, codes = np.asarray(irq.fill_null(0))[known], np.asarray(name.indices.fill_null(0))[known]
        order = np.lexsort((codes, numbers))
        numbers, codes = numbers[order], codes[order]
        first = (np.diff(numbers, prepend=0) != 0) | (np.diff(codes, prepend=-1) != 0)
        for number, code in zip(numbers[first].tolist(), codes[first].tolist(), strict=True):
            self._irq_names[number][name.dictionary[code].as_py()] = None

    def stack_id(self, frames: str) -> tuple[int, bool]:
        """The number of a stack, by its frames as JSON, in all sources; and whether it is new."""
        digest = blake2b(frames.encode(), digest_size=16).digest()
        known = len(self._stack_ids)
        return self._stack_ids.setdefault(digest, known + 1), len(self._stack_ids) > known

    def lost(self, ts: int, cpu: int | None, from_ts: int | None, count: int | None) -> None:
        """Take a gap: ``count`` events (None: not known) after ``from_ts`` (None: since ever) and before ``ts``."""
        self.totals.lost += count or 0
        self.totals.uncounted += count is None
        cause = "ring_full"
        self.gaps.add(from_ts, ts)
        row = {"ts": max(ts, from_ts or 0), "cpu": cpu, "from_ts": from_ts, "lost_count": count, "cause": cause}
        self._notes.append(("lost", row))

    def unparsed(self, ts: Positions, lines: Positions, texts: pa.Array, order: Positions) -> None:
        """Take lines that could not be read, each at a time; ``lines`` are their numbers in the file."""
        self.totals.unparsed += len(order)
        room = _FEW_UNPARSED - len(self.totals.examples)
        self.totals.examples += zip(lines[:room].tolist(), texts[:room].to_pylist(), strict=True)
        self._block.append(("unparsed", {"ts": pa.array(ts), "line": pa.array(lines), "text": texts}, order))

    def end_block(self) -> None:
        """Number the rows taken since the last call by (ts, order)."""
        for kind, row in self._notes:
            columns = {name: pa.array([value], arrow_type(_type_of(kind, name))) for name, value in row.items()}
            self._block.append((kind, columns, np.array([-1])))
        self._notes = []
        block, self._block = self._block, []
        if not block:
            return
        times = [np.asarray(columns["ts"]) for _, columns, _ in block]
        ts = np.concatenate(times)
        order = np.lexsort((np.concatenate([order for *_, order in block]), ts))
        seq = np.empty(len(ts), np.int64)
        seq[order] = np.arange(self._next_seq, self._next_seq + len(ts))
        self._next_seq += len(ts)
        self._late |= bool(self._rows or self._windows) and int(ts[order[0]]) < self.end_ts
        self.end_ts = max(self.end_ts, int(ts[order[-1]]))
        for (kind, columns, _), own in zip(block, np.split(seq, np.cumsum([len(t) for t in times])[:-1]), strict=True):
            self._note_cpus(columns)
            table = pa.table({**columns, "seq": pa.array(own)})
            self._tables[kind].append(table if (own[1:] > own[:-1]).all() else table.take(pa.array(np.argsort(own))))
        self._rows += len(ts)
        if self._rows >= WINDOW_ROWS:
            self._spill()

    def _note_cpus(self, columns: Columns) -> None:
        if "tid" in columns:  # no bookkeeping
            self.start_ts = min(self.start_ts, pc.min(columns["ts"]).as_py())
            cpus, first = np.unique(np.asarray(columns["cpu"].fill_null(-1)), return_index=True)
            for cpu, at in zip(cpus.tolist(), first.tolist(), strict=True):
                if cpu >= 0:
                    self.first_ts_by_cpu.setdefault(cpu, columns["ts"][at].as_py())

    def _note_columns(self, kind: str, probe: str, columns: Columns) -> None:
        _, known = self._own_kinds.setdefault(kind, (probe, {}))
        for name, column in columns.items():
            if name not in _BASE:
                known[name] = None
                if self._numeric.setdefault(name, True):
                    other = pc.any(pc.invert(pc.match_substring_regex(column.dictionary, _NUMBER))).as_py()
                    self._numeric[name] = not other

    def _spill(self) -> None:
        window = {}
        for kind, tables in self._tables.items():
            window[kind] = self._folder / f"{len(self._windows)}.{kind}.arrow"
            table = _one_table(tables)
            with pa.OSFile(str(window[kind]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        self._windows.append(window)
        self._tables.clear()
        self._rows = 0

    def coverage(self) -> None:
        """Take a row for each kind: it was recorded from the first event to the last, as far as the text tells."""
        events = Catalogue.of(self._own_events()).events
        for kind in self.totals.events:
            row = {
                "ts": self.end_ts,
                "cpu": None,
                "from_ts": self.start_ts,
                "stream": events[kind].stream,
                "covered_kind": kind,
            }
            self._notes.append(("coverage", row))
        self.end_block()

    def close(self) -> None:
        """Remove what is on disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, path: Path, footer: Footer) -> None:
        """Write the capture; fills in the footer's kinds, CPUs and times."""
        footer.extra_events = [event_to_json(event) for event in self._own_events()]
        catalogue = footer.catalogue()
        footer.kinds = sorted(set(footer.kinds) | set(self.totals.events))
        footer.filled = {kind: sorted(columns) for kind, columns in self._filled.items()}
        footer.cpus = sorted(self.first_ts_by_cpu)
        footer.start_ts, footer.end_ts = self.start_ts, self.end_ts
        if self._irq_names:  # a line that devices share has the names of all, as in /proc/interrupts
            names = {str(irq): ", ".join(self._irq_names[irq]) for irq in sorted(self._irq_names)}
            footer.names = footer.names | {"irq": names}
        schema = capture_schema(catalogue, footer.kinds)
        finish = Finish(
            schema,
            state_names(self._states),
            self.gaps,
            some_context=self._some_context,
            vectors_known=self.vectors_known,
        )
        if self._rows:
            self._spill()
        windows = [Window(sorted(window), partial(self._load, window)) for window in self._windows]
        if self._late:
            windows = [_in_one_order(windows)]
        write_file(path, schema, (_finished(window, finish) for window in windows), footer)

    def _own_events(self) -> Iterator[Event]:
        """Catalogue entries of the kinds that the catalogue does not have."""
        for kind, (probe, names) in self._own_kinds.items():
            fields = tuple(
                Field(name, S64 if self._numeric[name] else PATH, "as in the text", unit=_UNITS.get(name, ""))
                for name in names
            )
            yield Event(kind, EXTRA, f"{probe}, from an imported text", (probe,), fields)

    @staticmethod
    def _load(window: dict[str, Path], kind: str) -> pa.Table:
        with pa.OSFile(str(window[kind]), "rb") as file:
            return pa.ipc.open_file(file).read_all()


_BASE = ("ts", "cpu", "pid", "tid", "comm")
_BASE_TYPES = {column.name: arrow_type(column.type.arrow) for column in BASE_FIELDS if column.name != "comm"}
# Numbers are kept narrow from the start; texts are typed at the end.
_TYPES = {
    kind: {column.name: arrow_type(column.type.arrow) for column in event.columns if column.type.arrow != "string"}
    for kind, event in KINDS.items()
}


def _type_of(kind: str, column: str) -> str:
    return next(c.type.arrow for c in KINDS[kind].columns if c.name == column)


def _one_table(tables: list[pa.Table]) -> pa.Table:
    """Tables of one kind, whose columns may differ, as one."""
    whole = pa.concat_tables(tables, promote_options="default")
    whole = whole.unify_dictionaries().combine_chunks()
    seq = np.asarray(whole["seq"])
    return whole if (seq[1:] > seq[:-1]).all() else whole.take(pa.array(np.argsort(seq)))


def _finished(window: Window, finish: Finish) -> Window:
    return Window(list(window), lambda kind: finish.table(kind, window[kind]))


def _in_one_order(windows: list[Window]) -> Window:
    """All rows, numbered anew by time; equal times stay in the order they came in."""
    gathered: dict[str, list[pa.Table]] = defaultdict(list)
    for window in windows:
        for kind, table in window.items():
            gathered[kind].append(table)
    whole = {kind: _one_table(tables) for kind, tables in gathered.items()}
    keys = [np.concatenate([np.asarray(table[name]) for table in whole.values()]) for name in ("seq", "ts")]
    seq = np.empty(len(keys[0]), np.int64)
    seq[np.lexsort(keys)] = np.arange(1, len(seq) + 1)
    ends = np.cumsum([table.num_rows for table in whole.values()])
    done = {}
    for (kind, table), own in zip(whole.items(), np.split(seq, ends[:-1]), strict=True):
        place = table.schema.get_field_index("seq")
        done[kind] = table.set_column(place, "seq", pa.array(own)).take(pa.array(np.argsort(own)))
    return Window(sorted(done), done.__getitem__)
