"""Flame graphs: widths and places of frames, parts, what is too narrow, hostile names, and the script that zooms."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import START, switch, waking
from tracectl import text
from tracectl.command_flamegraph import folding
from tracectl.flamegraph import Graph, frames_of, svg, tree
from tracectl.query import parse
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tracectl" / "flamegraph.js"
SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&;\x1b\u202e]]>"
GRAPH = Graph("a question", "10 rows", "exact", True, frozenset({"k1", "k2"}), threads=True, show=text.count)
STACKS = [
    (("w", "main", "read", "k1", "k2", "--", "wake", "k1", "waker"), 6),
    (("w", "main", "write", "[lost stack]"), 3),
    (("v", "main"), 1),
]


def test_places_and_parts() -> None:
    found = {(frame.depth, frame.name): frame for frame in frames_of(tree(STACKS, GRAPH))}
    places = {key: (frame.part, frame.value, round(frame.x, 9)) for key, frame in found.items()}
    assert places == {
        (0, "all"): ("thread", 10, 0.0),
        (1, "v"): ("thread", 1, 0.0),
        (1, "w"): ("thread", 9, 0.1),
        (2, "main"): ("user", 9, 0.1),
        (3, "read"): ("user", 6, 0.1),
        (3, "write"): ("user", 3, 0.7),
        (4, "k1"): ("kernel", 6, 0.1),
        (4, "[lost stack]"): ("lost", 3, 0.7),
        (5, "k2"): ("kernel", 6, 0.1),
        (6, "woken by"): ("divider", 6, 0.1),
        (7, "wake"): ("waker", 6, 0.1),
        (8, "k1"): ("waker", 6, 0.1),
        (9, "waker"): ("waker", 6, 0.1),
    }


def _frames(document: str) -> list[ElementTree.Element]:
    return [group for group in ElementTree.fromstring(document).iter(f"{SVG}g") if group.get("class") == "frame"]


def test_what_is_drawn_is_as_wide_as_its_share() -> None:
    document = svg(STACKS, GRAPH)
    for group in _frames(document):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        assert float(rect.get("width", "")) == pytest.approx(1180 * float(group.get("data-w", "")), abs=0.4)
        assert float(rect.get("x", "")) == pytest.approx(10 + 1180 * float(group.get("data-x", "")), abs=0.01)
    titles = [group.findtext(f"{SVG}title") for group in _frames(document)]
    assert "read (6, 60.00 %)" in titles and "w (9, 90.00 %)" in titles
    assert "not drawn" not in document


def test_frames_too_narrow_to_see_are_counted() -> None:
    stacks = [(("w", "main"), 1_000_000), *((("w", "main", f"f{n}"), 1) for n in range(40)), (("v",), 1)]
    document = svg(stacks, GRAPH)
    assert "not drawn: 41 frames narrower than 847" in document
    assert len(_frames(document)) == 3


def test_a_stack_of_ten_thousand_functions() -> None:
    assert len(_frames(svg([(("w", *map(str, range(10_000))), 1)], GRAPH))) == 10_002


def _evil_capture(path: Path, **options: Any) -> Path:
    name = EVIL[:15]
    stack = {"kind": "stack", "ts": START, "cpu": None, "stack_id": 1, "folded": EVIL}
    worker = (4449, 4182, name)
    rows = [
        stack,
        switch(START, 0, (4449, name, "S"), (0, "swapper/0")) | {"pid": 4182, "kstack": 1, "ustack": 1},
        waking(START + 5_000, 1, (7, name), worker, ("task", None)) | {"kstack": 1},
        switch(START + 9_000, 0, (0, "swapper/0", "R"), (4449, name)),
        *options.pop("more", []),
    ]
    return write_rows(path, rows, breaks_declared=True, host=EVIL, **options)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_hostile_names_stay_names(run: Run, tmp_path: Path) -> None:
    capture = _evil_capture(tmp_path / "evil.parquet")
    for suffix in ("svg", "html"):
        path = tmp_path / f"x.{suffix}"
        code, out, err = run("flamegraph", capture, 'sleeps where comm != "</script>"', "-o", path)
        assert (code, err) == (0, "") and out.count("\n") == 1 and "\x1b" not in out
        document = path.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", document)
        page = _Tags()
        page.feed(document)
        assert page.tags.count("script") == 1 and "img" not in page.tags
        assert not [name for name in page.attributes if name.startswith("on")]
        if suffix == "svg":
            names = {group.get("data-name") for group in _frames(document)}
            assert EVIL.partition(";")[0] in names  # as it is, and only text


def test_the_script_needs_no_escapes() -> None:
    assert not set(SCRIPT.read_text("utf-8")) & set("<&") and "]]>" not in SCRIPT.read_text("utf-8")


def test_the_qualification_stands_on_it(run: Run, tmp_path: Path) -> None:
    gap = {"kind": "lost", "ts": START + 8_000, "from_ts": START + 7_000, "cpu": 1, "stream": "sched"}
    gap |= {"lost_count": 3, "cause": "ring_full"}
    other = (4450, 4182, "other")
    more = [
        gap,
        switch(START + 20_000, 0, (4450, "other", "S"), (4449, "w")) | {"kstack": 1, "pid": 4182},
        waking(START + 30_000, 0, (4449, "w"), other, ("task", None)),
        switch(START + 40_000, 0, (4449, "w", "R"), (4450, "other")),
    ]
    lossy = _evil_capture(tmp_path / "lossy.parquet", more=more)
    code, out, _ = run("flamegraph", lossy, "sleeps", "-o", tmp_path / "lossy.svg")
    assert code == 0 and "missing (1 gap" in out and "widths: at least" in out
    root = ElementTree.parse(tmp_path / "lossy.svg").getroot()
    (worth,) = [node.text for node in root.iter(f"{SVG}text") if node.get("class") == "worth missing"]
    assert worth and "missing (1 gap" in worth and "widths: at least" in worth
    exact = _evil_capture(tmp_path / "exact.parquet")
    run("flamegraph", exact, "sleeps", "-o", tmp_path / "exact.svg")
    assert '<text class="worth" x="10" y="59">exact</text>' in (tmp_path / "exact.svg").read_text()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("sleeps of pid 4182", "sleeps of pid 4182 with stacks | folded"),
        ("sleeps with stacks", "sleeps with stacks | folded"),
        ("sleeps with stacks | folded", "sleeps with stacks | folded"),
        ("sleeps|sum blocked by stack", "sleeps with stacks |sum blocked by stack | folded"),
        ('sleeps of comm "a|b" | sum blocked by stack | top 3 by sum_blocked',
         'sleeps of comm "a|b" with stacks | sum blocked by stack | top 3 by sum_blocked | folded'),
    ],
)  # fmt: skip
def test_what_a_question_is_folded_to(asked: str, meant: str) -> None:
    assert folding(asked) == meant
    parse(meant)


def test_refusals(run: Run, tmp_path: Path) -> None:
    capture = _evil_capture(tmp_path / "evil.parquet")
    sample = ROOT / "examples" / "sample.parquet"
    picture = tmp_path / "x.svg"
    for arguments, words in (
        ((sample, "sleeps", "-o", picture), "--stacks sched_switch,sched_waking"),
        ((capture, "sleeps", "-o", tmp_path / "x.png"), "-o NAME.svg or -o NAME.html"),
        ((capture, "sleeps of tid 4711", "-o", picture), "nothing to draw"),
        ((capture, "slepes", "-o", picture), 'there is no noun "slepes"'),
        ((capture, "sleeps"), "Missing option"),
        ((capture, "-o", picture), "Missing argument"),
    ):
        code, out, err = run("flamegraph", *arguments)
        assert (code, out) == (1, "") and words in err, err
    assert not picture.exists()
    picture.write_text("mine")
    assert run("flamegraph", capture, "sleeps", "-o", picture).code == 1 and picture.read_text() == "mine"
    assert run("flamegraph", capture, "sleeps", "-o", picture, "--force").code == 0


def test_stacks_in_other_exports(run: Run, tmp_path: Path) -> None:
    capture = _evil_capture(tmp_path / "evil.parquet")
    folded = run("export", capture, "--to", "folded", "switches with stacks where prev_tid = 4449 | folded").out
    assert folded.endswith(" 1\n") and folded.count("\n") == 1
    made = json.loads(run("export", capture, "--to", "speedscope", "sleeps with stacks | folded").out)
    assert made["profiles"][0]["weights"] == [5_000]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the script")
def test_the_script_zooms_and_finds(tmp_path: Path) -> None:
    groups = [dict(group.attrib, title=group.findtext(f"{SVG}title")) for group in _frames(svg(STACKS, GRAPH))]
    program = Path(__file__).with_name("flamegraph_page.js")
    done = subprocess.run(
        ["node", str(program), str(SCRIPT)], input=json.dumps(groups), capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["zoomed"].keys() == {frame.name for frame in frames_of(tree(STACKS, GRAPH))} - {"v"}
    places = {
        "all": [10, 1180], "w": [10, 1180], "main": [10, 1180], "read": [10, 1180 * 6 / 9],
        "write": [10 + 1180 * 6 / 9, 1180 * 3 / 9], "[lost stack]": [10 + 1180 * 6 / 9, 1180 * 3 / 9],
    } | {name: [10, 1180 * 6 / 9] for name in ("k1", "k2", "woken by", "wake", "waker")}  # fmt: skip
    assert {name: pytest.approx(place, abs=0.02) for name, place in places.items()} == told["zoomed"]
    assert told["reset"] == told["begin"]
    assert told["details"] == "read (6, 60.00 %)"
    assert told["found"] == "found: 60.0 %"  # k1 below and above is one
