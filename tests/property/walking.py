"""What questions should give on a capture without loss, the slow and obvious way: rows as dictionaries, read by Python.

It has its own reading of the question (regular expressions) and takes only the nouns' rows from the product, which
oracle.py and test_relations_oracle.py hold against a walk over the events.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Truth = bool | None
Test = Callable[[Row], Truth]
_TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_SUBJECTS = {"switches": (("prev_tid", "prev_pid", "prev_comm"), ("next_tid", "next_pid", "next_comm"))}
_STATES = {"switches": "prev_state", "runs": "end_state", "sleeps": "state", "connections": "new_state"}
_LINKS = {"softirqs": "cpu", "irqs": "cpu", "switches": "cpu", "connections": "socket"}
_VECTORS = {"timer": 1, "net_rx": 3, "sched": 7}
_FAR = 10**18


def ns(text: str) -> int:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return round(float(number) * _TIMES[unit])


def both(*parts: Truth) -> Truth:
    return False if False in parts else None if None in parts else True


def either(*parts: Truth) -> Truth:
    return True if True in parts else None if None in parts else False


def no(part: Truth) -> Truth:
    return None if part is None else not part


@dataclass
class Capture:
    """The rows of each noun, and when the recording began and ended."""

    tables: dict[str, list[Row]]
    start: int
    end: int

    def rows(self, head: str) -> list[Row]:
        """The rows of a noun with its clauses."""
        noun, rest = re.fullmatch(r"(\w+)(.*)", head.strip()).groups()  # type: ignore[union-attr]
        found = self.tables[noun]
        if noun == "softirqs" and (vector := re.match(r" (timer|net_rx|sched)\b", rest)):
            found = [row for row in found if row["vec"] == _VECTORS[vector[1]]]
            rest = rest[vector.end() :]
        tests = self._clauses(noun, rest.strip())
        return [row for row in found if both(*(test(row) for test in tests)) is True]

    def _clauses(self, noun: str, text: str) -> list[Test]:
        tests = []
        while text:
            for pattern, make in _CLAUSES:
                if match := re.match(pattern + r"(?= |$|\))", text):
                    tests.append(make(self, noun, match))
                    text = text[match.end() :].strip()
                    break
            else:
                raise AssertionError(text)
        return tests

    def answer(self, question: str, columns: list[str]) -> list[tuple[Any, ...]]:
        """All rows of the answer; of whole rows only these columns."""
        head, *stages = question.split(" | ")
        rows = self.rows(head)
        for stage in stages:
            for pattern, make in _STAGES:
                if match := re.fullmatch(pattern, stage):
                    rows = make(self, rows, match)
                    break
            else:
                raise AssertionError(stage)
        whole = all("certain" in row for row in rows)
        return [tuple(row[name] for name in columns) if whole else tuple(row.values()) for row in rows]


# ---- clauses ----


def _of(_: Capture, noun: str, match: re.Match[str]) -> Test:
    subjects = _SUBJECTS.get(noun, (("tid", "pid", "comm"),))

    def test(row: Row) -> Truth:
        found: list[Truth] = []
        for what, value in re.findall(r'(tid|pid|comm) "?([^ "]+)"?', match[0]):
            for columns in subjects:
                held = row[columns[("tid", "pid", "comm").index(what)]]
                same = fnmatch.fnmatchcase(held, value) if what == "comm" and held else str(held) == value
                found.append(None if held is None else same)
        return either(*found)

    return test


def _by(_: Capture, __: str, match: re.Match[str]) -> Test:
    def test(row: Row) -> Truth:
        found: list[Truth] = []
        for actor in match[2].split(" or "):
            what, _, value = actor.partition(" ")
            context, vec = row["context"], row["context_vec"]
            contexts = {"softirq": ("softirq",), "irq": ("hardirq", "hrtimer", "ipi"), "task": ("task",)}
            if what in contexts:
                wanted = str(_VECTORS.get(value, value))
                here = None if context is None else context in contexts[what]
                found.append(
                    both(here, str(vec) == wanted)
                    if value and vec is not None
                    else here
                    if not value
                    else both(here, None)
                )
            elif what == "idle":
                found.append(None if row["waker_tid"] is None else row["waker_tid"] == 0)
            elif what == "timer":
                found.append(
                    None if context is None else context == "hrtimer" or (context == "softirq" and vec in (1, 8))
                )
            else:
                held = row["waker_tid" if what == "tid" else "waker_comm"]
                found.append(None if held is None else fnmatch.fnmatchcase(str(held), value.strip('"')))
        return no(either(*found)) if match[1] else either(*found)

    return test


def _on(_: Capture, __: str, match: re.Match[str]) -> Test:
    numbers: set[int] = set()
    for part in match[2].split(","):
        low, _, high = part.partition("-")
        numbers |= set(range(int(low), int(high or low) + 1))
    columns = {"port": ("sport", "dport")}.get(match[1], (match[1],))
    return lambda row: either(*(None if row[c] is None else row[c] in numbers for c in columns))


def _when(capture: Capture, __: str, match: re.Match[str]) -> Test:
    word, times = match[0], [ns(text) for text in re.findall(r"[\d.]+(?:ns|us|ms|s)\b", match[0])]
    low, high = capture.start, _FAR
    if word.startswith("in last"):
        low = capture.end - times[0]
    elif word.startswith("at"):
        low, high = capture.start + times[0] - times[1], capture.start + times[0] + times[1]
    elif word.startswith("before"):
        low, high = -_FAR, capture.start + times[0]
    else:
        low = capture.start + times[0]
        high = capture.start + times[1] if len(times) > 1 else _FAR
    return lambda row: low <= row["ts"] <= high


def _lasting(_: Capture, __: str, match: re.Match[str]) -> Test:
    limit = ns(match[2])
    return lambda row: None if row["dur"] is None else row["dur"] > limit if match[1] == "over" else row["dur"] < limit


def _state(_: Capture, noun: str, match: re.Match[str]) -> Test:
    wanted = match[1].upper() if noun == "connections" else match[1]
    return lambda row: None if row[_STATES[noun]] is None else row[_STATES[noun]] == wanted


def _where(capture: Capture, __: str, match: re.Match[str]) -> Test:
    def one(text: str, row: Row) -> Truth:
        return no(_plain(capture, text[4:], row)) if text.startswith("not ") else _plain(capture, text, row)

    def test(row: Row) -> Truth:
        return either(*(both(*(one(t, row) for t in part.split(" and "))) for part in match[1].split(" or ")))

    return test


def _plain(capture: Capture, text: str, row: Row) -> Truth:
    """One comparison, without a "not" before it."""
    if null := re.fullmatch(r"(\w+) is (not )?null", text):
        return (row[null[1]] is not None) == bool(null[2])
    if among := re.fullmatch(r"(\w+) (not )?in \((.*)\)", text):
        inside = None if row[among[1]] is None else str(row[among[1]]) in among[3].split(", ")
        return no(inside) if among[2] else inside
    if like := re.fullmatch(r"(\w+) like '(.*)'", text):
        held, pattern = row[like[1]], like[2].replace("%", ".*").replace("_", ".")
        return None if held is None else bool(re.fullmatch(pattern, held))
    if compared := re.fullmatch(r"(\w+) (=|!=|<|<=|>|>=) (\S+)", text):
        return _compare(capture, compared, row)
    return row[text]  # type: ignore[no-any-return]


def _compare(capture: Capture, match: re.Match[str], row: Row) -> Truth:
    column, sign, value = match.groups()
    held, other = row[column], row.get(value, value)
    if isinstance(held, int) and isinstance(other, str):
        moment = column.endswith("ts") and not other.isdigit()
        other = (capture.start if moment else 0) + (int(other) if other.isdigit() else ns(other))
    if held is None or other is None:
        return None
    signs: dict[str, bool] = {
        "=": held == other, "!=": held != other, "<": held < other, "<=": held <= other, ">": held > other,
        ">=": held >= other,
    }  # fmt: skip
    return signs[sign]


def _related(capture: Capture, noun: str, match: re.Match[str]) -> Test:
    negated, how, head, within, link = match.groups()
    inner_noun = re.match(r"\w+", head)[0]  # type: ignore[index]
    inner = capture.rows(head)
    assert all(row.get("certain", True) for row in inner), "on machines as they are, every row pairs"
    far = ns(within) if within else 0
    if link is None:
        own = _LINKS.get(noun, "tid"), _LINKS.get(inner_noun, "tid")
        at_cpu = how == "during" and inner_noun in ("runs", "softirqs", "irqs")
        keys = ("cpu",) if at_cpu or "cpu" in own else (own[0],)
    else:
        keys = () if link == "anywhere" else tuple(link.removeprefix("same ").split(", "))

    def end(row: Row) -> tuple[int, int]:
        return (row["end_seq"], row["end_ts"]) if "end_seq" in row else (row["seq"], row["ts"])

    def near(row: Row, other: Row) -> bool:
        if any(row[key] != other[key] or row[key] is None for key in keys):
            return False
        itself = noun == inner_noun and row["seq"] == other["seq"]
        if how == "during":
            return not itself and other["seq"] <= row["seq"] and end(row)[0] <= end(other)[0]
        first, then = (row, other) if how == "followed by" else (other, row)
        return not itself and end(first)[0] <= then["seq"] and then["ts"] - end(first)[1] <= far

    def test(row: Row) -> Truth:
        if any(near(row, other) for other in inner):
            found: Truth = True
        elif (how == "followed by" and end(row)[1] + far > capture.end) or (
            how == "after" and row["ts"] - far < capture.start
        ):
            found = None
        else:
            found = False
        return no(found) if negated else found

    return test


_THREAD = r'(?:tid|pid|comm) "?[\w:*?/]+"?'
_ACTOR = r'(?:softirq(?: (?:net_rx|timer|sched))?|irq(?: \d+)?|timer|task|idle|tid \d+|comm "?[\w:*/]+"?)'
_TIME = r"[\d.]+(?:ns|us|ms|s)"
_ONE = (
    r"(?:not )?(?:\w+ is (?:not )?null|\w+ (?:not )?in \([^)]*\)|\w+ like '[^']*'"
    r"|\w+ (?:=|!=|<=|>=|<|>) \S+|certain|slept)"
)
_CLAUSES: list[tuple[str, Callable[[Capture, str, re.Match[str]], Test]]] = [
    (rf"of {_THREAD}(?: or {_THREAD})*", _of),
    (rf"(not )?by ({_ACTOR}(?: or {_ACTOR})*)", _by),
    (r"on (cpu|fd|port|socket) ([\d,-]+)", _on),
    (rf"after {_TIME}|before {_TIME}|between {_TIME} and {_TIME}|in last {_TIME}|at {_TIME} ± {_TIME}", _when),
    (rf"(over|under) ({_TIME})", _lasting),
    (r"in state (\S+)", _state),
    (rf"where ({_ONE}(?: (?:and|or) {_ONE})*)", _where),
    (
        r"(not )?(during|followed by|after) \(((?:[^()]|\([^()]*\))*)\)"
        rf"(?: within ({_TIME}))?(?: (same \w+(?:, \w+)*|anywhere))?",
        _related,
    ),
]


# ---- stages ----


def _groups(rows: list[Row], by: str | None) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    if by is None:
        groups[()] = []
    for row in rows:
        groups[tuple(row[name] for name in by.split(", ")) if by else ()].append(row)
    return groups


def _made(groups: dict[tuple[Any, ...], list[Row]], by: str | None, make: Callable[[list[Row]], Row]) -> list[Row]:
    return [dict(zip(by.split(", ") if by else (), key, strict=True)) | make(rows) for key, rows in groups.items()]


def _sorted(rows: list[Row], column: str, *, descending: bool) -> list[Row]:
    known = sorted((r for r in rows if r[column] is not None), key=lambda r: r[column], reverse=descending)
    return known + [r for r in rows if r[column] is None]


def _count(_: Capture, rows: list[Row], match: re.Match[str]) -> list[Row]:
    return _made(_groups(rows, match[1]), match[1], lambda group: {"count": len(group)})


def _total(_: Capture, rows: list[Row], match: re.Match[str]) -> list[Row]:
    what, column, by = match.groups()

    def make(group: list[Row]) -> Row:
        held = [row[column] for row in group if row[column] is not None]
        made = {"sum": sum, "min": min, "max": max}.get(what, lambda v: _half_away(sum(v) / len(v)))
        return {f"{what}_{column}": made(held) if held else None}

    return _made(_groups(rows, by), by, make)


def _half_away(value: float) -> int:
    return math.floor(value + 0.5)


def _percentile(_: Capture, rows: list[Row], match: re.Match[str]) -> list[Row]:
    fraction, column, by = int(match[1]) / 100, match[2], match[3]

    def make(group: list[Row]) -> Row:
        held = sorted(row[column] for row in group if row[column] is not None)
        return {"p": held[max(math.ceil(fraction * len(held)), 1) - 1] if held else None}

    return _made(_groups(rows, by), by, make)


def _histogram(_: Capture, rows: list[Row], match: re.Match[str]) -> list[Row]:
    counts: Counter[tuple[int, int]] = Counter()
    for row in rows:
        low = 0 if row[match[1]] == 0 else 2 ** int(math.log2(row[match[1]]))
        counts[low, max(2 * low, 1)] += 1
    return [{"from": low, "to": high, "count": count} for (low, high), count in sorted(counts.items())]


def _rate(capture: Capture, rows: list[Row], match: re.Match[str]) -> list[Row]:
    step, found = ns(match[1]), []
    for ts in range(capture.start, capture.end + 1, step):
        count = sum(ts <= row["ts"] < ts + step for row in rows)
        found.append({"ts": ts, "count": count, "per_second": count * 1e9 / min(step, capture.end + 1 - ts)})
    return found


_STAGES: list[tuple[str, Callable[[Capture, list[Row], re.Match[str]], list[Row]]]] = [
    (r"count(?: by ([\w, ]+))?", _count),
    (r"(sum|min|max|avg) (\w+)(?: by ([\w, ]+))?", _total),
    (r"p(\d+) (\w+)(?: by ([\w, ]+))?", _percentile),
    (r"histogram (\w+)", _histogram),
    (r"rate (\S+)", _rate),
    (r"top (\d+) by (\w+)", lambda _, rows, m: _sorted(rows, m[2], descending=True)[: int(m[1])]),
    (r"sort (-?)(\w+)", lambda _, rows, m: _sorted(rows, m[2], descending=bool(m[1]))),
    (r"limit (\d+)", lambda _, rows, m: rows[: int(m[1])]),
    (r"select ([\w, ]+)", lambda _, rows, m: [{name: row[name] for name in m[1].split(", ")} for row in rows]),
]
