"""Completion of questions in bash, zsh and fish: what ``tracectl query CAPTURE …`` can go on with."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import CompletionItem

from tracectl.store.errors import TracectlError


def complete_question(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words that can stand next, names of the capture included; none where that cannot be told.

    Args:
        context: of the command: the capture and the words before this one.
        incomplete: the word before the cursor.
    """
    from tracectl.captures_given import captures_and_question  # noqa: PLC0415 - engines, imported where they run
    from tracectl.shell_words import Names, complete  # noqa: PLC0415
    from tracectl.store.captures import open_captures  # noqa: PLC0415

    path, before = context.params.get("capture"), context.params.get("question") or ()
    if not isinstance(path, str):
        return []
    paths, before = captures_and_question((path, *before))
    words = " ".join((*before, incomplete))
    if "bash" in os.environ.get("_TRACECTL_COMPLETE", ""):
        words = re.sub(r" ?([:=]) ?", r"\1", words)  # bash takes these for words of their own
    typed = len(words) - len(incomplete)
    try:
        capture = open_captures(*paths)
        with capture.database(threads=1) as database:
            found = complete(words, Names(capture, database))
    except TracectlError:
        return []  # a message would only disturb the line that is being typed
    # What the shell takes for itself would need quotes around the whole question.
    plain = [one for one in found if not re.search(r"[|\"'*?<>()&;$`\\]", one.text)]
    return [
        CompletionItem(one.text[typed - one.start :] if typed > one.start else one.text, help=one.tells or None)
        for one in plain
        if one.start <= typed
    ]
