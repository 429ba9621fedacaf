"""Any text at all is a question or a ``QueryError`` that points into it; nothing else ever comes out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.query import Scene, parse, plan
from tracectl.query.clause import Clause
from tracectl.query.clauses import CLAUSES
from tracectl.query.nouns import BY_NAME, NOUNS
from tracectl.query.stage import Stage
from tracectl.query.stages import STAGES
from tracectl.store.errors import QueryError

PARTS: tuple[type[Clause] | type[Stage], ...] = (*CLAUSES, *STAGES)
WORDS = sorted({word for part in PARTS for text in part.examples for word in text.split()} | set(BY_NAME))
COLUMNS = sorted({column for noun in NOUNS for column in noun.columns})
TOKENS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(COLUMNS),
    st.sampled_from(
        ["|", ",", "(", ")", "=", "!=", "<", "-", "not", "and", "or", "in", "is null", "like", "0x" + "f" * 16]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.integers(0, 10**25).map(lambda n: f"{n}s"),
    st.text(max_size=6).map(lambda text: f'"{text}"'),
    st.text(max_size=4),
)
QUESTIONS = st.one_of(
    st.text(max_size=40),
    st.lists(TOKENS, max_size=12).map(" ".join),
    st.tuples(st.sampled_from(sorted(BY_NAME)), st.lists(TOKENS, max_size=8)).map(lambda q: " ".join([q[0], *q[1]])),
)


@settings(max_examples=400, deadline=None)
@given(QUESTIONS)
def test_any_text(text: str) -> None:
    try:
        made = plan(parse(text), Scene(end_ts=10**12))
    except QueryError as error:
        assert error.problem
        assert 0 <= error.start < error.end
        assert error.end <= max(len(text), 1) + 1
        assert str(error)
    else:
        assert made.select.sql().startswith("SELECT ")
        assert set(made.parameters) == {f"p{n + 1}" for n in range(len(made.parameters))}
