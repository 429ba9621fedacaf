"""Flame graphs: folded stacks as one SVG that stands alone, with zoom, search and details, drawn to be read without."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from tracectl.text import visible

Stacks = Sequence[tuple[Sequence[str], int]]
_WIDTH, _MARGIN, _ROW, _LETTER = 1200, 10, 17, 6.7
_TOP, _BOTTOM = 92, 30
# Frames narrower than this part of the whole, a pixel, cannot be seen; towers of them only make the picture high.
_NARROWEST = 1 / (_WIDTH - 2 * _MARGIN)
WAKER = "--"
# Part of a graph -> (what it is, hue, saturation, lightness); a function's own shade varies with its name.
_PARTS = {
    "thread": ("thread", 0, 0, 80),
    "user": ("user space", 38, 90, 66),
    "kernel": ("kernel", 205, 70, 72),
    "waker": ("waker", 130, 45, 68),
    "divider": ("woken by", 0, 0, 64),
    "lost": ("lost stack", 0, 75, 78),
}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Frame:
    """A function in a place of the graph: on top of the one that called it.

    Attributes:
        part: ``thread``, ``user``, ``kernel``, ``waker``, ``divider`` or ``lost``.
        value: of all stacks that go through it.
        x: where it begins, as a part of the whole.
    """

    name: str
    part: str
    depth: int
    value: int = 0
    x: float = 0.0
    callees: dict[tuple[str, str], Frame] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """What is drawn.

    Attributes:
        title: the question.
        total: what the whole width is, in words.
        worth: the qualification of the answer.
        exact: whether nothing can be missing.
        kernel: names of functions of the kernel.
        threads: whether stacks begin with the name of a thread.
        show: a value in words.
    """

    title: str
    total: str
    worth: str
    exact: bool
    kernel: frozenset[str]
    threads: bool
    show: Callable[[int], str]


def tree(stacks: Stacks, graph: Graph) -> Frame:
    """The stacks merged, functions beside each other by name."""
    root = Frame("all", "thread", 0)
    for frames, value in stacks:
        root.value += value
        at = root
        for part, name in _parts(frames, graph):
            at = at.callees.setdefault((part, name), Frame(name, part, at.depth + 1))
            at.value += value
    _place(root)
    return root


def _parts(frames: Sequence[str], graph: Graph) -> Iterator[tuple[str, str]]:
    waker = in_kernel = False
    for number, name in enumerate(frames):
        waker_begins = name == WAKER and not waker
        waker |= waker_begins
        in_kernel |= name in graph.kernel
        if waker_begins:
            yield "divider", "woken by"
        elif name.startswith("[") and name.endswith("stack]"):
            yield "lost", name
        elif number == 0 and graph.threads:
            yield "thread", name
        else:
            yield "waker" if waker else "kernel" if in_kernel else "user", name


def _place(root: Frame) -> None:
    """Give each frame its place; without recursion, since stacks can be deep."""
    pending = [root]
    while pending:
        frame = pending.pop()
        x = frame.x
        for callee in sorted(frame.callees.values(), key=lambda callee: (callee.name, callee.part)):
            callee.x = x
            x += callee.value / root.value
            pending.append(callee)


def frames_of(root: Frame) -> Iterator[Frame]:
    """All frames, callers before those they called."""
    pending = [root]
    while pending:
        frame = pending.pop()
        yield frame
        pending += frame.callees.values()


def svg(stacks: Stacks, graph: Graph) -> str:
    """The graph as an SVG document.

    Args:
        stacks: (functions from the outermost to the innermost, value), values above zero.
    """
    root = tree(stacks, graph)
    drawn, narrow = [], 0
    for frame in frames_of(root):
        if frame.value / root.value >= _NARROWEST:
            drawn.append(frame)
        else:
            narrow += 1
    height = _TOP + _BOTTOM + (max(frame.depth for frame in drawn) + 1) * _ROW
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    inner = _WIDTH - 2 * _MARGIN
    data = f'data-width="{inner}" data-letter="{_LETTER}" data-margin="{_MARGIN}"'
    parts = {frame.part for frame in drawn}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="flamegraph" {size} {data} {_FONT}>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" x="0" y="0" width="{_WIDTH}" height="{height}"/>',
        *_head(graph, narrow, root),
        *_legend(parts),
        *(_drawn(frame, root, graph, height - _BOTTOM) for frame in drawn),
        f'<text id="details" x="{_MARGIN}" y="{height - 10}">{_HELP}</text>',
        f"<script>{(files('tracectl') / 'flamegraph.js').read_text('utf-8')}</script>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def html(stacks: Stacks, graph: Graph) -> str:
    """The same as a page."""
    title = safe(graph.title)
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    style = "<style>body { margin: 0 } svg { width: 100%; height: auto }</style>"
    return f"{head}{style}</head>\n<body>\n{svg(stacks, graph)}</body></html>\n"


_FONT = 'font-family="monospace" font-size="11"'
_HELP = "click a frame to zoom, / to search, Escape to go back"
_STYLE = """
.paper { fill: #fff } text { fill: #111; pointer-events: none } .title { font-size: 16px; font-weight: bold }
.worth { font-weight: bold } .missing { fill: #b00020 } .button { pointer-events: all; cursor: pointer; fill: #0645ad }
.frame { cursor: pointer } .frame:hover rect { stroke: #000; stroke-width: 1 } .below { opacity: 0.5 }
.hit rect { fill: #e040fb !important }
"""


def _head(graph: Graph, narrow: int, root: Frame) -> Iterator[str]:
    yield f'<text class="title" x="{_MARGIN}" y="24">{_cut(graph.title, 110)}</text>'
    yield f'<text x="{_MARGIN}" y="42">{_cut(graph.total, 160)}</text>'
    kind = "worth" if graph.exact else "worth missing"
    yield f'<text class="{kind}" x="{_MARGIN}" y="59">{_cut(graph.worth, 170)}</text>'
    if narrow:
        words = (
            f"{narrow:,} frame{'s' if narrow > 1 else ''} narrower than {graph.show(round(root.value * _NARROWEST))}"
        )
        yield f'<text x="{_MARGIN}" y="76">not drawn: {escape(words)}</text>'
    right = _WIDTH - _MARGIN
    yield f'<text id="search" class="button" x="{right}" y="24" text-anchor="end">search</text>'
    hidden = 'text-anchor="end" style="display:none"'
    yield f'<text id="reset" class="button" x="{right - 60}" y="24" {hidden}>zoom out</text>'
    yield f'<text id="found" x="{right}" y="42" text-anchor="end"></text>'


def _legend(parts: Iterable[str]) -> Iterator[str]:
    x = float(_WIDTH - _MARGIN)
    for part in [part for part in _PARTS if part in parts][::-1]:
        words = _PARTS[part][0]
        x -= len(words) * _LETTER + 8
        yield f'<text x="{x:.0f}" y="76">{words}</text>'
        x -= 16
        yield f'<rect x="{x:.0f}" y="66" width="12" height="12" rx="1" fill="{_colour(part, "")}"/>'
        x -= 8


def _drawn(frame: Frame, root: Frame, graph: Graph, floor: int) -> str:
    inner = _WIDTH - 2 * _MARGIN
    share = frame.value / root.value
    x, width = _MARGIN + frame.x * inner, share * inner
    y = floor - (frame.depth + 1) * _ROW
    name = safe(frame.name)
    title = f"{name} ({escape(graph.show(frame.value))}, {100 * share:.2f} %)"
    place = f'data-x="{frame.x:.9f}" data-w="{share:.9f}" data-depth="{frame.depth}" data-name="{name}"'
    fill = _colour(frame.part, frame.name)
    return (
        f'<g class="frame" {place}><title>{title}</title>'
        f'<rect x="{x:.2f}" y="{y}" width="{max(width - 0.3, 0.1):.2f}" height="{_ROW - 1}" rx="1" fill="{fill}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 12}">{_cut(frame.name, int((width - 6) / _LETTER))}</text></g>'
    )


def _colour(part: str, name: str) -> str:
    """The part's colour, shifted by the name: the same function has the same everywhere."""
    _, hue, saturation, lightness = _PARTS[part]
    shift = zlib.crc32(name.encode("utf-8", "replace")) % 100 if name and saturation else 50
    return f"hsl({hue + (shift - 50) * 0.3:.0f},{saturation}%,{lightness + (shift % 10 - 5) * 0.8:.0f}%)"


def safe(text: str) -> str:
    """A text for XML and HTML, between tags and in attributes: shown as it is, and never more than text."""
    return escape(_NO_XML.sub("\ufffd", visible(text)))


def _cut(text: str, longest: int) -> str:
    shown = visible(text)
    if len(shown) > longest:
        shown = f"{shown[: longest - 1]}…" if longest >= 3 else ""
    return safe(shown)
