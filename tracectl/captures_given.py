"""Captures as arguments: which words of a command line are captures, and a recording that drops segments meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tracectl.store.errors import GoneError, UserError

T = TypeVar("T")
_SUFFIXES = (".parquet", ".recording")
_ATTEMPTS = 5


def captures_and_question(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The captures at the front of a command line, at least one, and the words of the question behind them.

    A question begins with a noun or ``@``: a word with a slash in it, or a capture's suffix, is none of it.
    """
    count = 1
    while count < len(words) and _is_capture(words[count]):
        count += 1
    return list(words[:count]), list(words[count:])


def _is_capture(word: str) -> bool:
    if any(character.isspace() for character in word):
        return word.endswith(_SUFFIXES) and Path(word).exists()
    return not word.startswith("@") and ("/" in word or word.endswith(_SUFFIXES))


def question_in(words: Sequence[str], example: str) -> str:
    """The question of these words.

    Raises:
        UserError: there are none.
    """
    if not words:
        raise UserError("a question is missing", example)
    return " ".join(words)


def again_if_gone(work: Callable[[], T]) -> T:
    """Do the work, and again where a running recording dropped a segment between its being listed and being read.

    Raises:
        GoneError: it happened every time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except GoneError:
            continue
    return work()
