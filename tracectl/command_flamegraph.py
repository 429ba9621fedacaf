"""``tracectl flamegraph``: the stacks of an answer as a picture, with the question and what it is worth on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.export_source import Source
    from tracectl.flamegraph import Graph
    from tracectl.query import Answer


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="NAME.svg or NAME.html; one file, for any browser.",
)
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--memory", default="4GiB", show_default=True, metavar="SIZE", help="Memory limit; more spills to disk.")
def flamegraph(*, capture: str, question: tuple[str, ...], output: Path, force: bool, memory: str) -> None:
    """Draw the call stacks of an answer as a flame graph.

    Of sleeps, the waker's stack stands on top of the sleeper's. The width is the time (blocked, or how long rows last),
    else the number of rows. What lost events may do to it stands on it.

    \b
      tracectl flamegraph web.parquet "sleeps of pid 4182" -o offwake.svg
      tracectl flamegraph web.parquet "samples of pid 4182" -o cpu.html
    """
    from tracectl import query as language
    from tracectl.export_flame import stacks_of
    from tracectl.export_source import Source
    from tracectl.flamegraph import html, svg
    from tracectl.output import check_target, destination
    from tracectl.query.answer import context_source
    from tracectl.store.capture import Capture
    from tracectl.store.errors import UserError
    from tracectl.store.relations import Relations

    if output.suffix not in (".svg", ".html"):
        raise UserError(f"{output}: a flame graph is an SVG picture or a page", "-o NAME.svg or -o NAME.html")
    check_target(output, force)
    opened = Capture.open(capture)
    asked = " ".join(question)
    with opened.database(memory) as database:
        relations = Relations(opened, context_by_spans=context_source(opened, database) == "spans")
        answer = language.ask(opened, folding(asked), database=database)
        source = Source(opened, database, relations, answer, asked, memory)
        stacks = [(frames, value) for frames, value in stacks_of(source, "a flame graph") if value > 0]
        if not stacks:
            raise UserError("there is nothing to draw: no row of the answer has a time or a stack", "another question")
        graph = _graph(source, answer, sum(value for _, value in stacks), len(stacks))
    with destination(output, "table", force) as stream:
        stream.write(svg(stacks, graph) if output.suffix == ".svg" else html(stacks, graph))
    click.echo(text.visible(f"{output}: {graph.total}; {graph.worth}"))


def folding(question: str) -> str:
    """The question with ``with stacks`` and ``| folded``, where they are not in it already.

    Raises:
        QueryError: it makes no sense; points at the place.
    """
    from tracectl.query import parse

    query = parse(question)
    if query.stages and query.stages[-1].rule == "folded":
        return question
    if not any(clause.rule == "with_stacks" for clause in query.clauses):
        bar = question.rindex("|", 0, query.stages[0].place.start) if query.stages else len(question)
        question = f"{question[:bar].rstrip()} with stacks {question[bar:]}"
    return f"{question.rstrip()} | folded"


def _graph(source: Source, answer: Answer, total: int, stacks: int) -> Graph:
    from tracectl.flamegraph import Graph

    value = answer.columns[1]
    counted = value not in answer.units
    show = text.count if counted else text.duration
    of = "rows" if counted else value.removeprefix("sum_").replace("_", " ")
    bound = answer.qualification.bounds.get(value)
    return Graph(
        title=source.question,
        total=f"{show(total)} {of}, {text.plural(stacks, 'stack')}, {source.capture.path.name}, "
        f"host {source.capture.footer.host or 'unknown'}",
        worth=f"{answer.qualification}" + (f"; widths: {bound}" if bound else ""),
        exact=answer.qualification.exact,
        kernel=_kernel_names(source),
        threads=len(answer.plan.stages) == 1 and "comm" in answer.plan.all_columns,
        show=show,
    )


def _kernel_names(source: Source) -> frozenset[str]:
    """Functions that occur in stacks of the kernel, and in none of user space."""
    head = source.relations.with_clause(["capture", "stack"])
    names = (
        "SELECT DISTINCT unnest(string_split(folded, ';')) FROM stack "
        "WHERE stack_id IN (SELECT {0} FROM capture WHERE {0} IS NOT NULL)"
    )
    sql = f"{head}\n{names.format('kstack')} EXCEPT {names.format('ustack')}"
    return frozenset(name for (name,) in source.database.execute(sql).rows())
