"""From the parser's refusal to an error for people: the place, what was expected there, the nearest word."""

from __future__ import annotations

import re
from contextlib import suppress

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from tracectl.query.clauses import CLAUSES
from tracectl.query.grammar import keyword_terminal
from tracectl.query.instead import name_instead, noun_instead, said_instead
from tracectl.query.nouns import BY_NAME, NOUNS
from tracectl.query.stages import STAGES
from tracectl.query.values import did_you_mean, listed
from tracectl.store.errors import QueryError

_FOUND = re.compile(r"\"[^\"]*\"?|'[^']*'?|[\w.*?:@/+~#%-]+|\S")
_FIRST_WORD = re.compile(r'"([a-z ]+)"')
_CALLS = re.compile(r"\s*calls?(?!\w)", re.IGNORECASE)
_IN_WORDS = {
    "STRING": "a name",
    "WORD": "a name",
    "NAME": "a column",
    "UINT": "a number",
    "CONTAINER": "a container id",
    "INT": "a number",
    "FLOAT": "a number",
    "HEX": "a number",
    "DURATION": "a time such as 10ms",
    "MOMENT": "a time such as 2022-05-04T16:12:15Z",
    "PLUS_MINUS": "±",
    "COMPARE": "a comparison such as =",
    "NOUN": "a noun",
    "KIND_NOUN": "a noun",
    "PERCENTILE": "a percentile such as p99",
    "VBAR": "|",
    "COMMA": "a comma",
    "LPAR": "(",
    "RPAR": ")",
    "MINUS": "-",
    "__ANON_0": "|",
    "$END": "the end",
}


def clause_words() -> list[str]:
    """The words that clauses begin with."""
    return [_FIRST_WORD.findall(clause.grammar)[0] for clause in CLAUSES]


def stage_words() -> list[str]:
    """The words that stages begin with."""
    fixed = [words[0] for stage in STAGES if (words := _FIRST_WORD.findall(stage.grammar)) and stage.rule != "totals"]
    return [word for word in fixed if word != "by"] + ["sum", "avg", "min", "max", "p50"]


def explained(parser: Lark, text: str, error: UnexpectedInput) -> QueryError:
    """The parser's error, for people."""
    start = error.pos_in_stream if isinstance(error, UnexpectedCharacters) else _start_of(error, text)
    start = len(text.rstrip()) if start is None or start >= len(text.rstrip()) else start
    match = _FOUND.match(text, start)
    found = match[0] if match else ""
    accepted = _accepted(parser, text)
    if "NOUN" in accepted and not (found[:1].isdigit() and text[:start].strip()):
        return _no_noun(text, start, found)
    if found and keyword_terminal("cgroup") in accepted and _CALLS.match(text):
        remedy = f'"of" names threads, as in: calls of comm sh; a function stands behind the noun: calls {found}'
        return QueryError(f'"{found}" is no thread', remedy, text=text, start=start, end=start + len(found))
    words, choices = _choices(accepted)
    problem = f'"{found}" is not understood here' if found else "the question ends too early"
    remedy = did_you_mean(found, words) if found else ""
    instead = said_instead(found, accepted, text[:start])
    if not instead and not remedy:
        instead = name_instead(found, accepted, text[:start])
    if instead:
        return QueryError(problem, f"here one says: {instead}", text=text, start=start, end=start + len(found))
    expected = f"expected: {listed(choices)}" if choices else "nothing more can follow here"
    return QueryError(problem, f"{remedy} {expected}".strip(), text=text, start=start, end=start + max(len(found), 1))


def _start_of(error: UnexpectedInput, text: str) -> int | None:
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        start: int | None = error.token.start_pos
        return start
    return len(text)


def _accepted(parser: Lark, text: str) -> set[str]:
    """The terminals that could stand where the parser stopped."""
    interactive = parser.parse_interactive(text)
    with suppress(UnexpectedInput):
        interactive.exhaust_lexer()
    accepted: set[str] = interactive.accepts()  # type: ignore[no-untyped-call]  # lark has no annotations
    return accepted


def _no_noun(text: str, start: int, found: str) -> QueryError:
    nouns = ", ".join(noun.name for noun in NOUNS)
    if not found:
        return QueryError("a question begins with a noun", f"nouns: {nouns}", text=text)
    near = noun_instead(found) or did_you_mean(found, BY_NAME)
    return QueryError(
        f'there is no noun "{found}"', near or f"nouns: {nouns}", text=text, start=start, end=start + len(found)
    )


def _choices(accepted: set[str]) -> tuple[list[str], list[str]]:
    """The keywords that could stand here, and all that could, in words. Clauses and stages are named as such."""
    keywords = {
        terminal: terminal[1:].lower().replace("_", " ")
        for terminal in accepted
        if terminal.startswith("_") and terminal[1] != "_"
    }
    words = sorted(keywords.values())
    choices: list[str] = []
    clauses = {keyword_terminal(word) for word in clause_words()}
    if clauses <= accepted:
        choices.append(f"a clause ({', '.join(dict.fromkeys(clause_words()))})")
        keywords = {terminal: word for terminal, word in keywords.items() if terminal not in clauses}
    stages = {keyword_terminal(word) for word in ("count", "top", "sort", "limit", "select")}
    if stages <= accepted:
        choices.append(f"a stage ({', '.join(stage_words())})")
        words += stage_words()
        keywords = {terminal: word for terminal, word in keywords.items() if word not in stage_words()}
        accepted = accepted - {"TOTAL", "PERCENTILE"}
    choices += sorted(keywords.values())
    rest = {_IN_WORDS[terminal] for terminal in accepted if not terminal.startswith("_") or terminal in _IN_WORDS}
    return words, choices + sorted(rest)
