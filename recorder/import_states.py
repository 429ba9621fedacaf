"""States of threads that a text gives as numbers (``trace-cmd report -R``), by the kernel's own letters."""

from __future__ import annotations

from collections.abc import Iterable

# include/linux/sched.h: TASK_REPORT of 4.14 and later, and the state letters of the kernels before.
_NEW = {1: "S", 2: "D", 4: "T", 8: "t", 16: "X", 32: "Z", 64: "P", 128: "I"}
_OLD = {1: "S", 2: "D", 4: "T", 8: "t", 16: "X", 32: "Z", 64: "x", 128: "K", 256: "W", 512: "P", 1024: "N"}
_NEW_PREEMPTED = 256


def state_names(words: Iterable[str]) -> dict[str, str]:
    """The words that are numbers, with what ``sched_switch`` prints for them.

    The flag of a preempted thread is the bit above all states, which moved: 256 since Linux 4.14, 1024 to 4096 before.
    It is taken to be the largest power of two that stands alone (runnable, preempted) and is 256 or more.
    """
    numbers = {word: int(word) for word in words if word.isdecimal() and len(word) <= 9}
    alone = [n for n in numbers.values() if n >= _NEW_PREEMPTED and n & (n - 1) == 0]
    flag = max(alone, default=_NEW_PREEMPTED)
    letters = _NEW if flag == _NEW_PREEMPTED else _OLD
    return {word: _name(number, flag, letters) for word, number in numbers.items()}


def _name(number: int, flag: int, letters: dict[int, str]) -> str:
    state = "|".join(letter for bit, letter in letters.items() if number & bit and bit != flag) or "R"
    return f"{state}+" if number & flag else state
