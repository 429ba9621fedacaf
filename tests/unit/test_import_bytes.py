"""Lines, numbers and words of a block, held against Python's own string functions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracectl.recorder.import_bytes import Block

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\\"), max_size=90), max_size=12)


def block_of(lines: list[str]) -> Block:
    return Block("".join(f"{line}\n" for line in lines).encode())


def test_line_ends_of_every_form_are_no_part_of_the_line() -> None:
    block = Block(b"plain\ncarriage\r\nquoted\\n\\\n\nlast")
    assert [block.text(*span) for span in zip(block.starts, block.ends, strict=True)] == [
        "plain", "carriage", "quoted", "", "last",
    ]  # fmt: skip


@given(LINES)
def test_texts_are_the_lines(lines: list[str]) -> None:
    block = block_of(lines or [""])
    texts = block.texts(block.starts, block.ends)
    assert [text.rstrip("\0") for text in lines or [""]] == texts.to_pylist()
    assert len(texts.dictionary.unique()) == len(texts.dictionary)


def test_bytes_that_are_no_utf8_are_shown_as_escapes() -> None:
    block = Block(b"a\xff\nb\n")
    assert block.texts(block.starts, block.ends).to_pylist() == ["a\\xff", "b"]


@given(st.lists(st.integers(0, 10**16 - 1), min_size=1, max_size=20), st.sampled_from(["", " x", ".5", "-"]))
def test_numbers_forwards_and_backwards(numbers: list[int], tail: str) -> None:
    block = block_of([f"{number}{tail}" for number in numbers])
    values, counts = block.number(block.starts)
    assert values.tolist() == numbers
    assert counts.tolist() == [len(str(number)) for number in numbers]
    back, starts = block.number_before(block.starts + counts)
    assert back.tolist() == numbers
    assert starts.tolist() == block.starts.tolist()


def test_what_is_no_number_has_no_digits() -> None:
    block = block_of(["", "x1", "-", "12345678901234567", "-12"])
    assert block.number(block.starts)[1].tolist() == [0, 0, 0, 0, 0]
    values, counts = block.signed(block.starts)
    assert counts.tolist() == [0, 0, 0, 0, 3]
    assert values[-1] == -12


@given(LINES.filter(bool), st.sampled_from("a =:"))
def test_next_and_previous_are_find_and_rfind(lines: list[str], character: str) -> None:
    block = block_of(lines)
    after = block.next(ord(character), block.starts)
    before = block.previous(ord(character), block.ends)
    for line, start, end, first, last in zip(lines, block.starts, block.ends, after, before, strict=True):
        raw = line.encode()
        assert (first - start if first < end else -1) == raw.find(character.encode())
        assert (last - start if last >= start else -1) == raw.rfind(character.encode())


@given(LINES.filter(bool))
def test_a_word_ends_at_a_space_or_control_character(lines: list[str]) -> None:
    block = block_of(lines)
    ends = block.word_end(block.starts) - block.starts
    for line, end in zip(lines, ends.tolist(), strict=True):
        raw = line.encode() + b"\n"
        assert end == next(at for at, byte in enumerate(raw) if byte <= 32 or at >= 256)


def test_a_literal_is_found_over_word_borders() -> None:
    block = block_of(["prev_comm=x", "prev_comn=x", "prev"])
    assert block.is_at(block.starts, b"prev_comm=").tolist() == [True, False, False]
    assert np.array_equal(block.skip(block.starts, ord("p")), block.starts + 1)
