"""Saved questions: ``@name key=value …`` becomes a question of the language, from the shipped and the user's file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tracectl.store.errors import UserError
from tracectl.text import nearest, visible

# What a value may look like, and how it is written into the question; nothing else gets into it.
_DURATION = r"\d+(\.\d+)?(ns|us|µs|μs|ms|s|m|h)"
KINDS: dict[str, tuple[str, str]] = {
    "number": (r"\d+", "a number"),
    "duration": (_DURATION, "a time such as 10ms"),
    "cpus": (r"\d+(-\d+)?(,\d+(-\d+)?)*", "CPUs such as 0-3 or 0,2"),
    "word": (r"[A-Za-z_]\w*", "a word"),
    "name": (r"[^\"\n\0]+", "a name without double quotes"),
}
# Parameters that every question takes, the clauses they become, and what they tell.
COMMON: dict[str, tuple[str, str, str]] = {
    "pid": ("number", "of pid {}", "one process"),
    "tid": ("number", "of tid {}", "one thread"),
    "comm": ("name", "of comm {}", "threads of this name; * and ? stand for anything"),
    "cgroup": ("name", "of cgroup {}", "threads of this cgroup"),
    "cpu": ("cpus", "on cpu {}", "these CPUs"),
    "over": ("duration", "over {}", "what lasted longer"),
    "under": ("duration", "under {}", "what lasted less"),
    "after": ("duration", "after {}", "from this time after the start"),
    "before": ("duration", "before {}", "up to this time after the start"),
    "last": ("duration", "in last {}", "the last part of the capture"),
}
CLAUSES = "clauses"
_FORM = '[name], tells = "…", question = "wakeups {clauses} | count by comm"'
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_CALL = re.compile(r"\s*@(?P<name>[\w-]*)(?P<rest>.*)", re.DOTALL)
_GIVEN = re.compile(r"\s*(?P<key>\w+)=(?P<value>\"[^\"]*\"|'[^']*'|[^\s|]+)")


@dataclass(frozen=True)
class Parameter:
    """A question's own parameter; ``default`` None: it must be given, unless it is a ``clause``, as ``on port {}``."""

    kind: str
    tells: str = ""
    default: str | None = None
    clause: str = ""


@dataclass(frozen=True)
class Saved:
    """A saved question.

    Attributes:
        tells: in one line, what the answer tells.
        question: with ``{clauses}`` and ``{parameter}`` for what is filled in.
        source: the user's file; empty: shipped with tracectl.
    """

    name: str
    tells: str
    question: str
    more: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    source: str = ""

    def written(self, given: Mapping[str, str]) -> str:
        """The question with its parameters filled in.

        Raises:
            UserError: a parameter that it does not have, that is missing, or that is no such thing.
        """
        for key in given:
            if key not in self.parameters and key not in COMMON:
                known = [*self.parameters, *COMMON]
                remedy = nearest(key, known) or f"parameters: {', '.join(known)}"
                raise UserError(f'@{self.name} has no parameter "{visible(key)}"', remedy)
        filled = {}
        for key, own in self.parameters.items():
            if own.clause:
                continue
            value = given.get(key, own.default)
            if value is None:
                raise UserError(f"@{self.name} needs {key}: {own.tells}", f"@{self.name} {key}=…")
            filled[key] = _value(key, own.kind, value)
        clauses = []
        for key, value in given.items():
            kind, clause = self._clause(key)
            if clause:
                clauses.append(clause.replace("{}", _value(key, kind, value)))
        filled[CLAUSES] = " ".join(clauses)
        # Only around what is filled in: spaces inside the question's own quotes are meant.
        text = re.sub(rf"\s*\{{{CLAUSES}\}}", lambda _: f" {filled[CLAUSES]}" if clauses else "", self.question)
        return _PLACEHOLDER.sub(lambda found: filled[found[1]], text)

    def _clause(self, key: str) -> tuple[str, str]:
        """A parameter's kind, and the clause that it becomes; no clause: it has its place in the question."""
        own = self.parameters.get(key)
        return (own.kind, own.clause) if own else COMMON[key][:2]


def _value(key: str, kind: str, text: str) -> str:
    pattern, words = KINDS[kind]
    if not re.fullmatch(pattern, text):
        raise UserError(f'{key}="{visible(text)}" is not {words}', f"{key}=…: {words}")
    return f'"{text}"' if kind == "name" else text


def expand(text: str) -> str:
    """The question that ``@name key=value … [| stages]`` stands for; any other text as it is.

    Raises:
        UserError: there is no such question, or a parameter cannot be meant.
    """
    call = _CALL.fullmatch(text)
    if call is None:
        return text
    known = library()
    if call["name"] not in known:
        remedy = nearest(call["name"], known) or f"saved questions: {', '.join(known)}"
        raise UserError(f'there is no saved question "@{visible(call["name"])}"', remedy)
    saved = known[call["name"]]
    given: dict[str, str] = {}
    rest = call["rest"]
    while found := _GIVEN.match(rest):
        value = found["value"]
        given[found["key"]] = value[1:-1] if value[0] in "\"'" else value
        rest = rest[found.end() :]
    rest = rest.strip()
    if rest and not rest.startswith("|"):
        raise UserError(
            f'"{visible(rest)}" is not understood after @{saved.name}',
            "parameters as key=value, then | stages",
        )
    return f"{saved.written(given)} {rest}".rstrip()


def library() -> dict[str, Saved]:
    """All saved questions by name: those shipped, in their order, then the user's own.

    Raises:
        UserError: the user's file cannot be read.
    """
    path = user_file()
    return shipped() | (_read(path.read_bytes(), str(path)) if path.is_file() else {})


@cache
def shipped() -> dict[str, Saved]:
    """The questions that tracectl brings."""
    return _read((files("tracectl") / "questions.toml").read_bytes(), "")


def user_file() -> Path:
    """Where the user's own questions are looked for (XDG)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "tracectl" / "questions.toml"


def _read(content: bytes, source: str) -> dict[str, Saved]:
    try:
        entries = tomllib.loads(content.decode())
    except ValueError as error:  # of TOML or of UTF-8
        raise UserError(f"{source} is no TOML: {error}", f"for each question: {_FORM}") from error
    return {name: _saved(name, entry, source) for name, entry in entries.items()}


def _saved(name: str, entry: Any, source: str) -> Saved:
    """One entry of a file, checked."""

    def wrong(problem: str, remedy: str) -> UserError:
        return UserError(f"{source}: [{visible(name)}] {problem}", remedy)

    if not re.fullmatch(r"[\w-]+", name):
        raise wrong("is no name for a question", "letters, digits, _ and -")
    if not isinstance(entry, dict) or not isinstance(entry.get("question"), str):
        raise wrong("has no question", _FORM)
    parameters = {}
    own = entry.get("parameters", {})
    for key, given in own.items() if isinstance(own, dict) else ():
        if not isinstance(given, dict) or given.get("kind") not in KINDS:
            raise wrong(f"parameter {visible(key)} has no kind", f"kind: {', '.join(KINDS)}")
        default, clause = given.get("default"), str(given.get("clause", ""))
        if clause and (clause.count("{}") != 1 or default is not None):
            raise wrong(f"parameter {visible(key)} is no clause", 'clause = "on port {}", without default')
        tells = str(given.get("tells", ""))
        parameters[key] = Parameter(given["kind"], tells, None if default is None else str(default), clause)
    placed = {key for key, own in parameters.items() if not own.clause}
    unknown = set(_PLACEHOLDER.findall(entry["question"])) - {CLAUSES} - placed
    if unknown:
        raise wrong(f"names {{{visible(min(unknown))}}}", "a placeholder is {clauses} or one of its parameters")
    tells, more = str(entry.get("tells", "")), str(entry.get("more", ""))
    return Saved(name, tells, entry["question"], more, parameters, source)


def listing() -> str:
    """All saved questions, a line each."""
    known = library()
    width = max(map(len, known)) + 1
    lines = [f"{'@' + saved.name:<{width}}  {visible(saved.tells)}" for saved in known.values()]
    lines += ["", f"parameters of each: {', '.join(f'{key}=' for key in COMMON)}"]
    lines += [f"more of one: tracectl help @{next(iter(known))}; own ones: {user_file()}"]
    return "\n".join(lines)


def described(saved: Saved) -> str:
    """All about one saved question."""
    lines = [f"@{saved.name}: {visible(saved.tells)}"]
    lines += [visible(saved.more)] if saved.more else []
    lines += ["", f"  {visible(saved.question)}", ""]
    rows = [(key, p.tells + (f" (default {p.default})" if p.default else "")) for key, p in saved.parameters.items()]
    rows += [(key, tells) for key, (_, _, tells) in COMMON.items() if key not in saved.parameters]
    lines += [f"  {key + '=':<9} {visible(tells)}" for key, tells in rows]
    lines += ["", f"from {visible(saved.source) or 'the questions shipped with tracectl'}"]
    return "\n".join(lines)
