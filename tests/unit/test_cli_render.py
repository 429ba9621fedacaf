"""Tables: aligned, humane, nothing that a terminal obeys, nothing left out in silence."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest

from tracectl.render import Table, write_table, write_terminal

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
EVIL = "\x1b[31mevil\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain(table: Table) -> list[str]:
    stream = io.StringIO()
    write_table(table, stream, limit=1)
    return stream.getvalue().splitlines()


def terminal(table: Table, monkeypatch: pytest.MonkeyPatch, limit: int | None, width: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    write_terminal(table, stream, limit)
    return [_STYLE.sub("", line).rstrip() for line in stream.getvalue().splitlines()]


def rows(*given: Sequence[object]) -> Table:
    return Table(
        ("ts", "dur", "comm", "n", "certain"), given, {"ts": "clock", "dur": "ns"}, start_ts=1_000, notes=("exact",)
    )


def test_piped_table() -> None:
    table = rows((2_000, 1_200_000, "a b", 7, True), (1_000_001_000, 900, "名前", 1234, None))
    assert plain(table) == [
        "          ts    dur  comm     n  certain",
        "0.000001000s  1.2ms  a b      7  yes",
        "1.000000000s  900ns  名前  1234  -",
        "exact",
    ]


def test_terminal_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows((2_000, 1_200_000, "a b", 7, True))
    assert terminal(table, monkeypatch, None, 80) == [line.rstrip() for line in plain(table)]


def test_hostile_strings_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table((EVIL,), [(EVIL,)], notes=(EVIL,))
    for shown in (terminal(table, monkeypatch, None, 80), plain(table)):
        assert [line.strip() for line in shown] == [r"\x1b[31mevil\x0a"] * 3


def test_brackets_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(("[bold]x",), [("[/red]kworker/0:1",)], notes=("[link]",))
    assert terminal(table, monkeypatch, None, 80) == ["[bold]x", "[/red]kworker/0:1", "[link]"]


def test_long_table_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(("n",), [(n,) for n in range(1500)])
    shown = terminal(table, monkeypatch, 1000, 80)
    assert len(shown) == 1 + 1000 + 1
    assert shown[-1] == "… 500 more rows (--all)"
    assert len(plain(table)) == 1501


def test_narrow_terminal_says_which_columns_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows((2_000, 1_200_000, "worker", 7, True))
    assert terminal(table, monkeypatch, None, 22)[:2] == ["          ts    dur", "0.000001000s  1.2ms"]
    told = " ".join(terminal(table, monkeypatch, None, 22)[2:])
    assert "3 more columns: comm, n, certain" in told


def test_what_is_wanted_least_is_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(("seq", "comm", "pid", "context", "vec_name"), [(1, "worker", 4182, "softirq", "NET_RX")])
    assert terminal(table, monkeypatch, None, 26)[:2] == ["comm    context  vec_name", "worker  softirq  NET_RX"]


def test_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(Table(("a", "b"), [], notes=("none",))) == ["a  b", "none"]
    assert terminal(Table(("a", "b"), [], notes=("none",)), monkeypatch, None, 80) == ["a  b", "none"]


def test_addresses_are_hexadecimal() -> None:
    assert plain(Table(("socket",), [(-0x60_A1_AC_40_42_C0,)]))[1].strip() == "0xffff9f5e53bfbd40"
