"""Answers as text for people: aligned tables with humane values, coloured on a terminal, plain elsewhere.

Moments are shown as seconds since the capture's start, which is what a question takes; durations with the unit that
suits. Exact numbers are the business of json, csv, parquet and arrow (output.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from tracectl import text

NONE = "-"
_GAP = "  "
# Kernel addresses, stored as signed integers: a question takes them as 0x….
_ADDRESSES = {"socket", "hrtimer", "file", "epoll", "listener"}
_WORD = (1 << 64) - 1
# Left out first where a terminal is too narrow for all columns.
_LEAST_WANTED = (
    "seq", "end_seq", "context_source", "since_ts", "end_ts", "prev_cpu", "prev_prio", "next_prio", "prio",
    "context_vec", "waker_pid", "pid", "waker_tid", "end_cpu",
)  # fmt: skip

Cell = Callable[[Any], str]


@dataclass(frozen=True)
class Table:
    """Rows to show.

    Attributes:
        columns: names, in order.
        rows: Python values, one tuple per row.
        units: column -> ``clock`` (a moment in ns), ``ns`` (a duration) or others, which are shown as they are.
        start_ts: ns; what moments count from.
        notes: lines to print below the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    units: Mapping[str, str] = field(default_factory=dict)
    start_ts: int = 0
    notes: Sequence[str] = ()


def cell_format(column: str, unit: str, start_ts: int) -> Cell:
    """How a column's values are shown."""
    if unit == "clock":
        return lambda value: text.moment(round(value) - start_ts)
    if unit == "ns":
        return text.duration
    if column in _ADDRESSES:
        return lambda value: f"0x{value & _WORD:x}" if isinstance(value, int) else plain(value)
    return plain


def plain(value: object) -> str:
    """A value without a unit."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case str():
            return text.visible(value)
        case _:
            return text.visible(str(value))


def cells(table: Table, limit: int | None = None) -> list[list[str]]:
    """The table's first rows as strings, ``-`` for null."""
    formats = [cell_format(name, table.units.get(name, ""), table.start_ts) for name in table.columns]
    return [
        [NONE if value is None else show(value) for show, value in zip(formats, row, strict=True)]
        for row in table.rows[:limit]
    ]


def right_aligned(table: Table) -> list[bool]:
    """Per column: numbers stand right, text stands left; nulls do not decide."""
    decided: list[bool | None] = [None] * len(table.columns)
    for row in table.rows[:1000]:
        for i, value in enumerate(row):
            if decided[i] is None and value is not None:
                decided[i] = isinstance(value, int | float) and not isinstance(value, bool)
    return [bool(right) for right in decided]


def with_bars(table: Table, width: int = 40) -> Table:
    """A histogram with a bar per bucket and the empty buckets between; any other table as it is."""
    names = list(table.columns)
    if "bucket_from" not in names or "bucket_to" not in names or "count" not in names:
        return table
    low, high, count = (names.index(name) for name in ("bucket_from", "bucket_to", "count"))
    filled: list[Sequence[Any]] = []
    for row in table.rows:
        before = filled[-1] if filled else None
        same = before is not None and [v for i, v in enumerate(before) if i < low] == list(row[:low])
        # From one power of two to the next: at most 63 steps.
        while before is not None and same and None not in (before[low], row[low]) and 0 < before[high] < row[low]:
            empty = [*row[:low], *[None] * (len(names) - low)]
            empty[low], empty[high], empty[count] = before[high], 2 * before[high], 0
            filled.append(empty)
            before = empty
        filled.append(row)
    most = max((row[count] or 0 for row in filled), default=0)
    rows = [[*row, _bar((row[count] or 0) / most if most else 0, width)] for row in filled]
    return replace(table, columns=[*names, ""], rows=rows)


def _bar(share: float, width: int) -> str:
    """A bar of eighths of characters; what is more than nothing is seen."""
    eighths = max(round(share * width * 8), 1 if share else 0)
    part: str = ("", *"▏▎▍▌▋▊▉")[eighths % 8]
    return "█" * (eighths // 8) + part


def write_plain(table: Table, stream: IO[str]) -> None:
    """Aligned columns, all rows, no colour: for pipes and files."""
    right = right_aligned(table)
    body = cells(table)
    names = [text.visible(name) for name in table.columns]
    widths = [max(map(text.width, column)) for column in zip(names, *body, strict=True)]
    for line in (names, *body):
        padded = (text.pad(cell, width, to_right) for cell, width, to_right in zip(line, widths, right, strict=True))
        stream.write(_GAP.join(padded).rstrip() + "\n")
    for note in table.notes:
        stream.write(text.visible(note) + "\n")


def write_terminal(table: Table, stream: IO[str], limit: int | None) -> None:
    """A coloured table that fits the terminal: at most ``limit`` rows, and the columns that fit.

    What is left out is said below the table.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only terminals need it
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream, highlight=False, soft_wrap=False)
    table = with_bars(table)
    body = cells(table, limit)
    names = [text.visible(name) for name in table.columns]
    right = right_aligned(table)
    shown = _fitting(names, body, console.width)
    rich_table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i in shown:
        rich_table.add_column(Text(names[i]), justify="right" if right[i] else "left", no_wrap=True)
    for row in body:
        rich_table.add_row(*(Text(row[i], style="dim" if row[i] == NONE else "") for i in shown))
    console.print(rich_table)
    rest = len(table.rows) - len(body)
    if rest:
        console.print(Text(f"… {text.plural(rest, 'more row')} (--all)", style="yellow"))
    hidden = [name for i, name in enumerate(names) if i not in shown]
    if hidden:
        told = f"… {text.plural(len(hidden), 'more column')}: {', '.join(hidden)} (| select, a wider terminal)"
        console.print(Text(told, style="yellow"))
    for note in table.notes:
        console.print(Text(text.visible(note), style="dim"))


def _fitting(names: Sequence[str], body: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns that fit into that many characters, at least one: the least wanted go first, then the last ones."""
    widths = [max(map(text.width, column)) for column in zip(names, *body, strict=True)]
    shown = list(range(len(names)))
    while len(shown) > 1 and sum(widths[i] for i in shown) + len(_GAP) * (len(shown) - 1) > width:
        rank = {i: _LEAST_WANTED.index(names[i]) for i in shown if names[i] in _LEAST_WANTED}
        shown.remove(min(rank, key=rank.__getitem__) if rank else shown[-1])
    return shown


def write_table(table: Table, stream: IO[str], limit: int | None) -> None:
    """The table as the stream calls for: a terminal's or plain."""
    if stream.isatty():
        write_terminal(table, stream, limit)
    else:
        write_plain(table, stream)
