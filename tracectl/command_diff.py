"""``tracectl diff``: one question asked of two captures, the answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracectl.command_query import Target, answer_options
from tracectl.shell_completion import complete_question

if TYPE_CHECKING:
    from tracectl.difference import Side


@click.command()
@click.argument("capture", type=click.Path(), metavar="A")
@click.argument("other", type=click.Path(), metavar="B")
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...", shell_complete=complete_question)
@answer_options
def diff(
    *,
    capture: str,
    other: str,
    question: tuple[str, ...],
    form: str | None,
    output: Path | None,
    force: bool,
    everything: bool,
    memory: str,
    threads: int | None,
) -> None:
    """Ask one question of two captures, and compare.

    A and B are captures, directories of captures or patterns. The question ends in a stage that counts or sums up; rows
    are matched by its groups. The difference is B less A. Where events were lost, a difference is claimed only if no
    loss can have made it.

    \b
      tracectl diff before.parquet after.parquet "delays of comm nginx | p50,p99 dur"
      tracectl diff monday/ tuesday/ "softirqs | sum dur by name" --format csv
    """
    from tracectl import saved
    from tracectl.captures_given import again_if_gone
    from tracectl.difference import Difference

    asked = saved.expand(" ".join(question))

    def answered() -> None:
        sides = [_side(one, asked, memory, threads) for one in (capture, other)]
        Target(form, output, force, everything).write(Difference(*sides), 0)

    again_if_gone(answered)


def _side(path: str, question: str, memory: str, threads: int | None) -> Side:
    from tracectl import query as language
    from tracectl.difference import Side
    from tracectl.store.captures import open_captures

    opened = open_captures(path)
    with opened.database(memory, threads) as database:
        answer = language.ask(opened, question, database=database)
        return Side(path, answer, opened.end_ts - opened.start_ts)
