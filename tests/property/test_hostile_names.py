"""Whatever stands in a name, a pattern or a string stays a value: the SQL is that of a harmless name."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracectl.query import Scene, parse, plan
from tracectl.query.plan import Plan

SCENE = Scene(end_ts=10**12)
# What stands for the name is {}; it is quoted, as the quote that is used cannot stand inside.
EVERYWHERE = (
    "wakeups of comm {}",
    "runs of cgroup {}",
    "wakeups by comm {}",
    "wakeups not by comm {} or task",
    "runs where comm = {}",
    "runs where comm != {} or not comm = {}",
    "runs where comm like {}",
    "runs where comm not like {}",
    "runs where comm in ({}, a)",
    "runs where comm not in (a, {})",
    "calls {}",
    "wakeups during (runs of comm {})",
    "wakeups not during (runs where comm like {})",
    "wakeups followed by (epolls by comm {}) within 1ms anywhere",
    "wakeups not after (sleeps of cgroup {}) within 1ms same tid",
    "delays of comm {} during (runs followed by (sleeps of comm {}) within 1s) anywhere | count by comm",
)
HOSTILE = (
    "' OR 1=1 --", "'; DROP TABLE capture; --", "\\'; SELECT 1; --", "$p1", "$p9", "{}", "/* x */", "); --",
    "\\", "\\%", "%", "_", "x) UNION SELECT * FROM read_text(/etc/passwd) --", "\x1b[31m", "\u202e", "ʼ", "${p1}", "?1",
)  # fmt: skip
QUOTES = st.sampled_from("\"'")


def compiled(question: str, name: str, quote: str) -> Plan:
    """The plan of a question about this name."""
    return plan(parse(question.replace("{}", f"{quote}{name}{quote}")), SCENE)


def check(question: str, name: str, quote: str) -> None:
    """Nothing of the name is in the SQL, all of it in the values."""
    # As long, as columns are named after places in the question; a name with wildcards is another question.
    harmless = "*" * bool({"*", "?"} & set(name))
    harmless += "h" * (len(name) - len(harmless))
    made, other = compiled(question, name, quote), compiled(question, harmless, quote)
    assert made.select.sql() == other.select.sql()
    assert made.relations == other.relations
    assert set(made.parameters) == set(other.parameters)
    texts = [value for key, value in made.parameters.items() if value != other.parameters[key]]
    wanted = name if " where " in question else escaped(name)  # "where" has like for patterns
    assert texts == [wanted] * question.count("{}") or name == harmless


def escaped(name: str) -> str:
    """A name as it is; a pattern with only its own wildcards."""
    if not {"*", "?"} & set(name):
        return name
    return "".join({"*": "%", "?": "_"}.get(c, "\\" + c if c in "\\%_" else c) for c in name)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("question", EVERYWHERE)
def test_attempts_stay_values(question: str, name: str) -> None:
    check(question, name, "'" if '"' in name or "'" not in name else '"')


@settings(max_examples=300)
@given(st.sampled_from(EVERYWHERE), st.text(min_size=1, max_size=12), QUOTES)
@example(EVERYWHERE[0], "*'); --", '"')
def test_any_name_stays_a_value(question: str, name: str, quote: str) -> None:
    kept = "".join(c for c in name if c not in {quote, "\n", "\x00"}) or "x"
    check(question, kept, quote)
