"""``tracectl help``: the language on one screen, and all about one noun, clause, stage, saved question or command."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from tracectl.store.errors import UserError
from tracectl.text import nearest, visible

if TYPE_CHECKING:
    from tracectl.query.clause import Clause
    from tracectl.query.nouns import Noun
    from tracectl.query.stage import Stage

_STAGE_FORMS = {
    "count": "count [by COLUMNS]",
    "totals": "sum|avg|min|max COLUMNS [by …]",
    "percentiles": "p50,p99 COLUMN [by …]",
    "histogram": "histogram COLUMN [by …]",
    "rate": "rate 1s [by …]",
    "top": "top N by COLUMN",
    "sort": "sort [-]COLUMN",
    "limit": "limit N",
    "pick": "select COLUMNS",
}
_CLAUSE_FORMS = {
    "of": "of tid N | pid N | comm NAME | cgroup PATH | container ID",
    "by": "by softirq [net_rx] | irq [N] | timer | task | idle | tid N | comm NAME",
    "not_by": "not by …",
    "on": "on cpu 0-3 | fd N | port N | socket 0x… | host NAME",
    "after": "after 1.5s",
    "before": "before 2s",
    "between": "between 1s and 2s",
    "around": "at 20.9s ± 5ms",
    "at": "at 20.9s",
    "in_last": "in last 5s",
    "over": "over 10ms",
    "under": "under 50us",
    "in_state": "in state D",
    "where": "where CONDITION on columns",
    "during": "during Q",
    "not_during": "not during Q",
    "followed_by": "followed by Q within 1ms",
    "not_followed_by": "not followed by Q within 1ms",
    "after_row": "after Q within 1ms",
    "not_after_row": "not after Q within 1ms",
}


_HEADINGS = (
    "Nouns",
    "Clauses",
    "Stages",
    "Values",
    "Worth of an answer",
    "More",
    "In the shell",
    "columns",
    "examples",
)


@click.command(name="help")
@click.argument("word", nargs=-1, metavar="[WORD]")
def help_(word: tuple[str, ...]) -> None:
    """Explain a word of the question language, or a command.

    Without a word: the language on one screen. "questions" lists the saved questions.

    \b
      tracectl help wakeups
      tracectl help in state
      tracectl help @runqlat
    """
    click.echo(emphasised(about(" ".join(word)) if word else overview()))


def emphasised(text: str) -> str:
    """The text with its headings bold, where stdout shows that."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    title, *lines = text.split("\n")
    bold = [click.style(line, bold=True) if line in _HEADINGS else line for line in lines]
    return "\n".join([click.style(title, bold=True), *bold])


def overview() -> str:
    """The cheat sheet."""
    from tracectl.query.clauses import CLAUSES
    from tracectl.query.nouns import NOUNS
    from tracectl.query.stages import STAGES

    lines = ["A question: noun, clauses in any order, stages behind |", ""]
    lines += ['  wakeups of comm "wrk:*" by softirq after 1s | count by comm, vec_name', ""]
    lines += ["Nouns", *_wrapped(noun.name for noun in NOUNS), "Clauses"]
    lines += _wrapped(map(form, CLAUSES), " · ")
    lines += ["Stages", *_wrapped(map(form, STAGES), " · ")]
    lines += ["Values", "  times 10ms 1.5s 200us · names with * and ? · in quotes where there are spaces"]
    lines += ["Worth of an answer", "  exact · at most N missing · not known how many missing; --strict wants exact"]
    lines += ["More", "  tracectl help WORD · tracectl help questions · tracectl query CAPTURE @runqlat pid=4182"]
    return "\n".join(lines)


def _wrapped(words: Iterable[str], between: str = ", ", width: int = 78) -> list[str]:
    """The words in lines of at most that width, indented; no word is broken."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(between) + len(word) <= width:
            lines[-1] += between + word
        else:
            lines.append(f"  {word}")
    return lines


def topics() -> dict[str, str]:
    """Every word that help knows, and what it is in a few words."""
    from tracectl import saved
    from tracectl.cli import COMMANDS
    from tracectl.query.clauses import CLAUSES
    from tracectl.query.nouns import NOUNS
    from tracectl.query.stages import STAGES

    told = {noun.name: noun.row for noun in NOUNS}
    told |= {_word(clause): _first_sentence(clause) for clause in CLAUSES}
    told |= {_word(stage): _first_sentence(stage) for stage in STAGES}
    told |= {f"@{name}": one.tells for name, one in saved.library().items()}
    told["questions"] = "the saved questions"
    return told | {name: summary for name, (_, summary) in COMMANDS.items() if name not in told}


def about(word: str) -> str:
    """All about a word: from the noun's columns, the clause's or stage's docstring, the saved question, the command.

    Raises:
        UserError: help knows no such word.
    """
    from tracectl import saved
    from tracectl.query.clauses import CLAUSES
    from tracectl.query.mistakes import clause_words
    from tracectl.query.nouns import BY_NAME
    from tracectl.query.stages import STAGES

    wanted = " ".join(word.lower().split())
    if wanted in ("questions", "@", "saved"):
        return saved.listing()
    if wanted.startswith("@") and wanted[1:] in saved.library():
        return saved.described(saved.library()[wanted[1:]])
    if wanted in BY_NAME:
        return _noun(BY_NAME[wanted])
    # What is typed, and what the documentation calls it: sum is one of the totals, select is pick.
    names: dict[str, type[Clause] | type[Stage]] = dict(zip(reversed(clause_words()), reversed(CLAUSES), strict=True))
    names |= {_word(clause): clause for clause in CLAUSES} | {_word(stage): stage for stage in STAGES}
    names |= {key: one for one in STAGES for key in _typed(one)}
    if wanted in names:
        return _part(names[wanted])
    if wanted in saved.library():
        return saved.described(saved.library()[wanted])
    return _command(wanted, [*names, *BY_NAME])


def _command(wanted: str, words: list[str]) -> str:
    """A command's own help."""
    from tracectl.cli import COMMANDS, group

    with click.Context(group, info_name="tracectl") as context:
        command = group.get_command(context, wanted)
        if command is not None:
            with click.Context(command, info_name=wanted, parent=context) as inner:
                return command.get_help(inner)
    remedy = nearest(wanted, [*words, *COMMANDS]) or "tracectl help shows the language, tracectl --help the commands"
    raise UserError(f'there is no help on "{visible(wanted)}"', remedy)


def _word(part: type[Clause] | type[Stage]) -> str:
    return part.rule.replace("_", " ")


def _typed(stage: type[Stage]) -> list[str]:
    """The words that a stage is typed with: keywords before its columns, and alternatives of its first terminal."""
    if stage.rule == "percentiles":
        return ["p50", "p95", "p99", "percentile"]
    begin = stage.grammar.strip().splitlines()[0].partition(":")[2].partition("columns")[0]
    found = [word for word in re.findall(r'"([a-z ]+)"', begin) if word != "by"][:1]
    alternatives = re.search(r"/\(([a-z|]+)\)", stage.grammar)
    return found + (alternatives[1].split("|") if alternatives else [])


def _first_sentence(documented: type) -> str:
    return " ".join(inspect.cleandoc(documented.__doc__ or "").split()).partition(". ")[0].rstrip(".").replace("``", "")


def _noun(noun: Noun) -> str:
    """A noun: what a row is, its other names, columns with units, examples."""
    lines = [f"{noun.name}: one row is {noun.row}"]
    others = [name for name in noun.names if name != noun.name]
    lines += [f"also: {', '.join(others)}"] if others else []
    if noun.argument:
        example = next((e for e in noun.examples if len(e.split()) > 1 and e.split()[1] not in ("|", "of")), "")
        lines.append(f"a word behind it picks one {noun.argument}: {example}" if example else "")
    if noun.columns:
        width = max(map(len, noun.columns))
        lines += ["", "columns"]
        for name, column in noun.columns.items():
            kind = {"clock": "moment", "ns": "time"}.get(column.unit, column.type)
            lines.append(f"  {name:<{width}}  {kind:<6}  {column.doc}")
        lines += ["", "times are ns in data, moments ns on the monotonic clock; tables show them since the start"]
    else:
        lines += ["", "columns: those of the kind, see docs/events.md; tracectl info shows which kinds are there"]
    return "\n".join([*lines, "", *_examples(noun.examples)])


def form(part: type[Clause] | type[Stage]) -> str:
    """How a clause or stage is typed, its values in capitals or as an example."""
    return _CLAUSE_FORMS.get(part.rule) or _STAGE_FORMS.get(part.rule) or _word(part)


def _part(part: type[Clause] | type[Stage]) -> str:
    """A clause or stage: its own documentation and examples."""
    lines = [form(part), "", inspect.cleandoc(part.__doc__ or "").replace("``", "")]
    needs = getattr(part, "needs", "")
    lines += ["", f"needs {needs}"] if needs else []
    return "\n".join([*lines, "", *_examples(part.examples)])


def _examples(questions: Iterable[str]) -> list[str]:
    return ["examples", *(f"  {question}" for question in questions)]
