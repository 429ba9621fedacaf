"""Values for people and from people: durations, sizes, widths, and strings that would act on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl import text
from tracectl.store.errors import UserError


@pytest.mark.parametrize(
    ("ns", "shown"),
    [(0, "0ns"), (999, "999ns"), (1_000, "1us"), (1_234_567, "1.235ms"), (87_650, "87.65us"), (123_456, "123.5us"),
     (60_000_000_000, "60s"), (-1_500_000, "-1.5ms"), (12.5, "12.5ns"), (999_999, "1ms"), (999_999_999, "1s")],
)  # fmt: skip
def test_duration(ns: float, shown: str) -> None:
    assert text.duration(ns) == shown


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_a_moment_is_exact(ns: int) -> None:
    shown = text.moment(ns)
    whole, fraction = shown.removesuffix("s").split(".")
    sign = -1 if whole.startswith("-") else 1
    assert (abs(int(whole)) * 1_000_000_000 + int(fraction)) * sign == ns


@pytest.mark.parametrize(
    ("given", "ns"),
    [
        ("5s", 5_000_000_000),
        ("250ms", 250_000_000),
        ("1.5m", 90_000_000_000),
        ("2", 2_000_000_000),
        (" 10 us ", 10_000),
        ("9007199.254740993s", 9_007_199_254_740_993),  # a float has 53 bits
        ("0.1234567899us", 123),
    ],
)
def test_parse_duration(given: str, ns: int) -> None:
    assert text.parse_duration(given) == ns


@pytest.mark.parametrize("given", ["", "s", "5 x", "-5s", "0", "1e3s", "999999h" * 3, "9999999999s", "５s"])
def test_what_is_no_duration(given: str) -> None:
    with pytest.raises(UserError, match="duration"):
        text.parse_duration(given)


@pytest.mark.parametrize(
    ("given", "count"),
    [("4096", 4096), ("64K", 65_536), ("500M", 500 << 20), ("1.5G", 3 << 29), ("2kb", 2048), ("2KiB", 2048), ("7B", 7)],
)
def test_parse_size(given: str, count: int) -> None:
    assert text.parse_size(given) == count


@pytest.mark.parametrize("given", ["", "M", "5 Q", "-1", "0", "0.1", "9" * 30])
def test_what_is_no_size(given: str) -> None:
    with pytest.raises(UserError, match="size"):
        text.parse_size(given)


def test_size() -> None:
    assert [text.size(n) for n in (0, 1023, 1024, 1536, 5 << 30, 3000 << 40)] == [
        "0B",
        "1023B",
        "1K",
        "1.5K",
        "5G",
        "3000T",
    ]


def test_visible_leaves_words_and_shows_what_acts() -> None:
    assert text.visible("wrk:worker_0 名前 é") == "wrk:worker_0 名前 é"
    assert text.visible("\x1b[31m\x07\n\x9b\u202e\u2028\U000e0001") == r"\x1b[31m\x07\x0a\x9b\u202e\u2028\U000e0001"


@given(st.text())
def test_visible_text_never_acts(given: str) -> None:
    shown = text.visible(given)
    assert all(c == " " or c.isprintable() or c in given for c in shown)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert text.visible(shown) == shown


def test_width_and_padding() -> None:
    assert [text.width(s) for s in ("abc", "名前", "e\u0301")] == [3, 4, 1]
    assert text.pad("名前", 6, to_right=False) == "名前  "
    assert text.pad("7", 3, to_right=True) == "  7"


def test_nearest() -> None:
    assert text.nearest("Wakeup", ["wakeups", "delays"]) == 'did you mean "wakeups"?'
    assert text.nearest("zzz", ["wakeups", "delays"]) == ""
