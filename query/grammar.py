"""The grammar of the question language, put together from the base and the rules of nouns, clauses and stages."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from lark import Lark

from tracectl.query import nouns
from tracectl.query.clauses import CLAUSES
from tracectl.query.stages import STAGES

_KEYWORD = re.compile(r'"([a-z][a-z ]*)"(?=[^/\n]*$)', re.MULTILINE)
_RULE_LINE = re.compile(r"^(?:\?|\w+:|\s+[|:])")


def keyword_terminal(word: str) -> str:
    """The terminal of a keyword; its underscore keeps it out of the tree."""
    return "_" + word.upper().replace(" ", "_")


def assemble() -> str:
    """The whole grammar, in lark's notation.

    Quoted words in rules become terminals that match a whole word in any case and win over names; those of two words
    win over those of one.
    """
    base = (files("tracectl.query") / "grammar.lark").read_text("utf-8")
    parts = [
        base.strip(),
        nouns.grammar().strip(),
        "clause: " + "\n      | ".join(clause.rule for clause in CLAUSES),
        *(clause.grammar.strip() for clause in CLAUSES),
        "stage: " + "\n     | ".join(stage.rule for stage in STAGES),
        *(stage.grammar.strip() for stage in STAGES),
    ]
    words: dict[str, str] = {}

    def terminal(match: re.Match[str]) -> str:
        words[keyword_terminal(match[1])] = match[1]
        return keyword_terminal(match[1])

    rules = "\n\n".join(
        "\n".join(_KEYWORD.sub(terminal, line) if _RULE_LINE.match(line) else line for line in part.splitlines())
        for part in parts
    )
    terminals = "\n".join(_terminal(name, word) for name, word in sorted(words.items()))
    return f"{rules}\n\n{terminals}\n"


def _terminal(name: str, word: str) -> str:
    parts = word.split()
    spaced = r"\s+".join(parts)
    return f"{name}.{2 + len(parts)}: /{spaced}(?!\\w)/i"


@cache
def parser() -> Lark:
    """The LALR parser."""
    return Lark(assemble(), parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False)
