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
MOMENTS = ["2022-05-04T07:12:15Z", "2022-05-04 07:12+09:00", "2022-05-04T07:12:15", "9999-99-99T99:99:99Z",
           "0001-01-01T00:00:00.000000001+0000", "± 5s", "+- 1ms", "20.9s"]  # fmt: skip
TOKENS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(COLUMNS),
    st.sampled_from(
        ["|", ",", "(", ")", "=", "!=", "<", "-", "not", "and", "or", "in", "is null", "like", "0x" + "f" * 16]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.integers(0, 10**25).map(lambda n: f"{n}s"),
    st.sampled_from(MOMENTS),
    st.sampled_from(
        ["during (", "not after (", "followed by (runs", ") within 5ms", ") within 1s same cpu", "anywhere"]
    ),
    st.text(max_size=6).map(lambda text: f'"{text}"'),
    st.text(max_size=4),
)
HEADS = st.tuples(st.sampled_from(sorted(BY_NAME)), st.lists(TOKENS, max_size=2)).map(lambda q: " ".join([q[0], *q[1]]))
USUAL = sorted({text.split(" | ", maxsplit=1)[0] for clause in CLAUSES for text in clause.examples})
HOW = st.sampled_from(["during", "not during", "followed by", "not followed by", "after", "not after"])
AFTER_INNER = st.sampled_from(
    ["", " within 5ms", " within 0ns anywhere", " within 1s same cpu", " anywhere", " within", " )"]
)
# Relations in relations, mostly with all their parentheses.
NESTED = st.recursive(
    st.one_of(st.sampled_from(USUAL), HEADS),
    lambda inner: st.builds(
        lambda head, how, opening, inside, closing, rest: f"{head} {how} {opening}{inside}{closing}{rest}",
        st.one_of(st.sampled_from(USUAL), HEADS), HOW, st.sampled_from(["(", "(", "(", "", "(("]), inner,
        st.sampled_from([")", ")", ")", "", "))"]), AFTER_INNER,
    ),
    max_leaves=6,
)  # fmt: skip
MOMENT_QUESTIONS = st.builds(
    lambda noun, word, first, joint, second: f"{noun} {word} {first} {joint} {second}",
    st.sampled_from(sorted(BY_NAME)), st.sampled_from(["after", "before", "between", "at", "in last"]),
    st.sampled_from(MOMENTS), st.sampled_from(["and", "±", "", "before"]), st.sampled_from([*MOMENTS, ""]),
)  # fmt: skip
QUESTIONS = st.one_of(
    NESTED,
    MOMENT_QUESTIONS,
    st.text(max_size=40),
    st.lists(TOKENS, max_size=12).map(" ".join),
    st.tuples(st.sampled_from(sorted(BY_NAME)), st.lists(TOKENS, max_size=8)).map(lambda q: " ".join([q[0], *q[1]])),
)


# What the views of chains take besides.
WALK = {"whole", "deepest", "from_ts", "to_ts", "read_from", "read_to", "moment"}
SCENES = [Scene(end_ts=10**12), Scene(end_ts=10**12, clocks=((0, 1_651_648_335 * 10**9),))]


@settings(max_examples=600)
@given(QUESTIONS, st.sampled_from(SCENES))
def test_any_text(text: str, scene: Scene) -> None:
    try:
        made = plan(parse(text), scene)
    except QueryError as error:
        assert error.problem
        assert 0 <= error.start < error.end
        assert error.end <= max(len(text), 1) + 1
        assert str(error)
    else:
        assert made.select.sql().startswith("SELECT ")
        values = set(made.parameters) - (WALK if made.walk else set())
        assert values == {f"p{n + 1}" for n in range(len(values))}
