"""Rows in a notebook: an HTML table, a small picture of how long things took, and what the answer is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from tracectl import text
from tracectl.render import Table, cells, right_aligned

if TYPE_CHECKING:
    from tracectl.api import Rows

# Bars take the notebook's own text colour, so that they show on light and on dark ground.
_BAR, _GAP, _HEIGHT, _LABELS = 22, 3, 60, 26


def page(given: Rows, shown: Sequence[tuple[Any, ...]], start_ts: int, footer: Iterable[str]) -> str:
    """The picture, the first rows and the footer. All text from the capture is escaped.

    Args:
        given: all rows.
        shown: those that go into the table.
        start_ts: ns; what moments count from.
        footer: lines below the table.
    """
    lines = list(footer)
    if len(given) > len(shown):
        lines.insert(0, f"… {text.plural(len(given) - len(shown), 'more row')}")
    told = "<br/>".join(escape(text.visible(line)) for line in lines)
    body = table(Table(given.columns, shown, given.units, start_ts))
    return f'<div class="tracectl">{picture(given)}{body}<p style="opacity:.7">{told}</p></div>'


def table(given: Table) -> str:
    """An HTML table with humane values."""
    align = ["right" if right else "left" for right in right_aligned(given)]
    head = "".join(
        f'<th style="text-align:{side}">{escape(text.visible(name))}</th>'
        for name, side in zip(given.columns, align, strict=True)
    )
    rows = "".join(
        "<tr>{}</tr>".format(
            "".join(f'<td style="text-align:{side}">{escape(c)}</td>' for c, side in zip(line, align, strict=True))
        )
        for line in cells(given)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def picture(given: Rows) -> str:
    """The log2 histogram of the first column that is a duration, as inline SVG; empty when there is none."""
    column = next((name for name in given.columns if given.units.get(name) == "ns"), None)
    if column is None:
        return ""
    values = [value for value in given.arrow().column(column).to_pylist() if value is not None and value >= 0]
    if len(values) < 2:
        return ""
    return histogram(values, column)


def histogram(values: Iterable[int], name: str) -> str:
    """Bars for the powers of two (ns) that values lie between, labelled at both ends; each tells its own count."""
    found = Counter(value.bit_length() for value in values)
    first, last = min(found), max(found)
    most = max(found.values())
    bars = []
    for place, bits in enumerate(range(first, last + 1)):
        count = found.get(bits, 0)
        height = round(_HEIGHT * count / most, 1)
        told = f"{_edge(bits - 1)} to {_edge(bits)}: {text.count(count)}"
        bars.append(
            f'<rect x="{place * (_BAR + _GAP)}" y="{_HEIGHT - height}" width="{_BAR}" height="{height}">'
            f"<title>{escape(told)}</title></rect>"
        )
    width = max((last - first + 1) * (_BAR + _GAP), 160)
    base = _HEIGHT + 16
    labels = (
        f'<text x="0" y="{base}">{escape(_edge(first - 1))}</text>'
        f'<text x="{width / 2}" y="{base}" text-anchor="middle">{escape(text.visible(name))}</text>'
        f'<text x="{width}" y="{base}" text-anchor="end">{escape(_edge(last))}</text>'
    )
    return (
        f'<svg width="{width}" height="{_HEIGHT + _LABELS}" role="img" fill="currentColor" font-size="11">'
        f'<g opacity=".6">{"".join(bars)}</g>{labels}</svg>'
    )


def _edge(bits: int) -> str:
    return text.duration(1 << bits) if bits >= 0 else text.duration(0)
