"""Literals: exact numbers, kernel addresses, patterns."""

from __future__ import annotations

import pytest
from lark import Token

from tracectl.query.values import (
    Name,
    OutOfRange,
    Place,
    did_you_mean,
    duration_of,
    integer_of,
    listed,
    real_of,
    show_duration,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1ns", 1), ("1.5us", 1500), ("1µs", 1000), ("10 ms", 10_000_000), ("20.9s", 20_900_000_000), ("1MS", 10**6),
        ("2m", 120 * 10**9), ("1h", 3600 * 10**9), ("0.1s", 100_000_000), ("0.3ns", 0),
        ("9007199254740993ns", 9007199254740993),
    ],
)  # fmt: skip
def test_durations_are_exact(text: str, ns: int) -> None:
    assert duration_of(Token("DURATION", text)) == ns


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        ("UINT", "9223372036854775807", 2**63 - 1),
        ("INT", "-5", -5),
        ("HEX", "0xffff9f5e53bfbd40", -106247495893696),  # as the capture stores it: signed
        ("HEX", "0x10", 16),
    ],
)
def test_integers_are_64_bits(kind: str, text: str, number: int) -> None:
    assert integer_of(Token(kind, text)) == number


@pytest.mark.parametrize(
    ("kind", "text"), [("UINT", "9223372036854775808"), ("HEX", "0x1ffffffffffffffff"), ("UINT", "9" * 5000)]
)
def test_more_than_64_bits_is_out_of_range(kind: str, text: str) -> None:
    with pytest.raises(OutOfRange):
        integer_of(Token(kind, text))


def test_long_times_and_large_reals_are_out_of_range() -> None:
    for text in ("9223372037s", "1" * 30 + "ns", "1." + "1" * 40 + "s"):
        with pytest.raises(OutOfRange):
            duration_of(Token("DURATION", text))
    with pytest.raises(OutOfRange):
        real_of(Token("FLOAT", "9" * 400 + ".0"))


@pytest.mark.parametrize(
    ("pattern", "like", "hit", "miss"),
    [
        ("wrk:*", "wrk:%", "wrk:a", "xwrk:a"),
        ("a?c", "a_c", "abc", "ac"),
        ("100%*", "100\\%%", "100%x", "1000"),
        ("a_*", "a\\_%", "a_b", "axb"),
        ("a\\*", "a\\\\%", "a\\b", "ab"),
        ("[ab]*", "[ab]%", "[ab]c", "ac"),
    ],
)
def test_patterns(pattern: str, like: str, hit: str, miss: str) -> None:
    name = Name(pattern, Place(0, 0))
    assert name.is_pattern
    assert name.like == like
    assert name.matches(hit)
    assert not name.matches(miss)


def test_words_for_people() -> None:
    assert [show_duration(ns) for ns in (5, 1500, 10_000_000, 20_900_000_000)] == ["5ns", "1.5us", "10ms", "20.9s"]
    assert (listed(["a"]), listed(["a", "b", "c"]), listed([])) == ("a", "a, b or c", "")
    assert did_you_mean("WAKUPS", ["wakeups", "delays"]) == 'did you mean "wakeups"?'
    assert did_you_mean("xyz", ["wakeups"]) == ""
