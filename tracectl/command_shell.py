"""``tracectl shell``: questions one after the other on one open capture, and commands that begin with a backslash."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tracectl import text
from tracectl.store.errors import TracectlError, UserError

if TYPE_CHECKING:
    from tracectl.api import Capture, Rows
    from tracectl.shell_words import Candidate, Names

T = TypeVar("T")
LAST = "_"
# Name -> what is typed behind it, what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("[WORD]", "this, or all about a word of the language"),
    "saved": ("", "the saved questions: ask them as @name key=value"),
    "info": ("", "what was recorded, when, where, and what was lost"),
    "explain": ("QUESTION", "how a question is understood"),
    "sql": ("[STATEMENT]", f"run SQL; {LAST} is the last answer. Alone: its statement"),
    "format": ("table|json|csv", "how answers are shown"),
    "q": ("", "leave (also Ctrl-D)"),
}
_SPOKEN = {"help": "help", "?": "help", "quit": "q", "exit": "q"}  # words that are no question but clearly meant


@click.command()
@click.argument("captures", nargs=-1, required=True, type=click.Path(), metavar="CAPTURE...")
@click.option("--memory", default="4GiB", show_default=True, metavar="SIZE", help="Memory limit; more spills to disk.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads; default: one per CPU.")
def shell(captures: tuple[str, ...], memory: str, threads: int | None) -> int:
    """Ask one question after the other.

    Tab completes nouns, clauses, columns, and the capture's own names. The last answer is the relation _ for \\sql.
    Ctrl-C cancels a question, Ctrl-D leaves. What comes through a pipe is answered line by line; the exit code is
    that of the first question that had no answer.

    \b
      tracectl shell web.parquet
      echo "wakeups | count by context" | tracectl shell web.parquet
    """
    from tracectl import api

    with api.open(*captures, memory=memory, threads=threads) as opened:
        session = Shell(opened)
        return session.talk() if sys.stdin.isatty() and sys.stdout.isatty() else session.read_lines()


class Shell:
    """A session on one capture."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.form = "table"
        self.exit_code = 0
        self._last: Rows | None = None
        self._names: Names | None = None
        self._left = False

    def talk(self) -> int:
        """Ask for lines on a terminal until the end is wanted."""
        from tracectl.shell_prompt import PROMPT, Prompt
        from tracectl.shell_show import style

        prompt = Prompt(self.complete)
        click.echo(self._greeting(lambda words: style(words, sys.stdout, bold=True)))
        try:
            while not self._left:
                try:
                    line = prompt.read()
                except KeyboardInterrupt:  # the line is given up
                    click.echo()
                    continue
                except EOFError:
                    click.echo()
                    break
                try:
                    self.do(line, PROMPT)
                except KeyboardInterrupt:
                    click.echo("cancelled", err=True)
        finally:
            prompt.save()
        return 0

    def read_lines(self) -> int:
        """Do the lines of stdin; the exit code of the first that failed, else 0."""
        for line in sys.stdin:
            self.do(line)
            if self._left:
                break
        return self.exit_code

    def do(self, line: str, prompt: str = "") -> None:
        """Do a line: a question, a command, a comment (#) or nothing. Errors are told, not raised.

        Args:
            prompt: what stands before the line on the terminal; empty: the line is not seen there.
        """
        from tracectl.shell_show import show_error

        line = line.rstrip()
        if not line.strip() or line.lstrip().startswith("#"):
            return
        first, _, rest = line.strip().partition(" ")
        try:
            if line.lstrip().startswith("\\"):
                self._command(first[1:], rest.strip())
            elif first.lower() in _SPOKEN:
                self._command(_SPOKEN[first.lower()], rest.strip())
            elif line.strip() == "@":
                self._command("saved", "")
            else:
                self._ask(line.strip())
        except TracectlError as error:
            self.exit_code = self.exit_code or error.exit_code
            show_error(error, line if prompt else "", prompt)

    def complete(self, line: str) -> list[Candidate]:
        """What the line up to the cursor can become."""
        from tracectl.shell_words import Candidate, Names, complete

        if self._names is None:
            self._names = Names(self.capture.opened, self.capture.database)
        command, space, rest = line.partition(" ")
        if not line.startswith("\\"):
            return complete(line, self._names)
        if not space:
            named = ((f"\\{name}", tells) for name, (_, tells) in COMMANDS.items())
            return [Candidate(0, name, tells) for name, tells in named if name.startswith(command)]
        if command == "\\explain":
            skipped = len(line) - len(rest)
            return [dataclasses.replace(one, start=one.start + skipped) for one in complete(rest, self._names)]
        word = line.rpartition(" ")[2]
        return [
            Candidate(len(line) - len(word), w, t) for w, t in self._words_for(command).items() if w.startswith(word)
        ]

    def _words_for(self, command: str) -> dict[str, str]:
        """Words behind a command, and what they are."""
        from tracectl.command_help import topics
        from tracectl.shell_show import FORMATS

        if command == "\\sql":
            return dict.fromkeys([LAST, *self.capture.relations()], "")
        return {"\\format": dict.fromkeys(FORMATS, ""), "\\help": topics()}.get(command, {})

    def _greeting(self, bold: Callable[[str], str]) -> str:
        from tracectl.store.captures import CaptureSet

        opened = self.capture.opened
        span = text.duration(opened.end_ts - opened.start_ts)
        facts = [text.plural(opened.rows, "row"), span, text.plural(len(opened.cpus), "CPU")]
        hosts = opened.hosts if isinstance(opened, CaptureSet) else [opened.footer.host]
        facts += [text.visible(", ".join(hosts))] if any(hosts) else []
        return (
            f"{bold(text.visible(opened.path.name))}: {', '.join(facts)}\n"
            f"Ask, as in {bold('wakeups | count by comm, context')}. Tab completes, {bold(chr(92) + 'help')} helps, "
            "Ctrl-D leaves."
        )

    def _command(self, name: str, rest: str) -> None:
        known = [known for known in COMMANDS if known.startswith(name)] if name else []
        if name not in COMMANDS and len(known) != 1:
            remedy = text.nearest(name, COMMANDS) or ", ".join(f"\\{command}" for command in COMMANDS)
            raise UserError(f"there is no command \\{text.visible(name)}", remedy)
        name = name if name in COMMANDS else known[0]
        if not COMMANDS[name][0] and rest:
            raise UserError(f"\\{name} takes nothing behind it", f"\\{name}")
        getattr(self, f"_do_{name}")(rest)

    def _do_help(self, word: str) -> None:
        from tracectl.command_help import about, emphasised, overview
        from tracectl.shell_show import show_text

        commands = "\n".join(f"  {f'{chr(92)}{name} {usage}':<24}{tells}" for name, (usage, tells) in COMMANDS.items())
        show_text(emphasised(about(word) if word else f"{overview()}\n\nIn the shell\n{commands}"))

    def _do_saved(self, _: str) -> None:
        from tracectl import saved
        from tracectl.shell_show import show_text

        show_text(saved.listing())

    def _do_info(self, _: str) -> None:
        from tracectl.command_info import headings, tables
        from tracectl.info_set import show_set
        from tracectl.render import write_table
        from tracectl.shell_show import Page, show_text
        from tracectl.store.captures import CaptureSet

        page = Page()
        if isinstance(self.capture.opened, CaptureSet):
            show_set(self.capture.opened, self.capture.database, page)
            show_text(page.getvalue())
            return
        for name, value in headings(self.capture.opened):
            page.write(f"{name:<10}{text.visible(value)}\n")
        for title, table in tables(self.capture.opened, self.capture.database, False):
            page.write(f"\n{title}\n")
            write_table(table, page, None)
        show_text(page.getvalue())

    def _do_explain(self, question: str) -> None:
        from tracectl.shell_show import show_text

        if not question:
            raise UserError("\\explain needs a question", "\\explain delays over 10ms")
        show_text(text.visible_lines(self.capture.explain(question)))

    def _do_sql(self, statement: str) -> None:
        from tracectl import shell_show
        from tracectl.api import Answer

        if statement:
            self._show(*self._run(lambda: self.capture.sql(statement, most=shell_show.MOST_KEPT)))
        elif isinstance(self._last, Answer):
            shell_show.show_text(text.visible_lines(self._last.sql))
        else:
            raise UserError("\\sql alone shows the statement of the last question", "\\sql SELECT … runs one")

    def _do_format(self, form: str) -> None:
        from tracectl.shell_show import FORMATS

        if form not in FORMATS:
            raise UserError(
                f'there is no format "{text.visible(form)}"', f"\\format {'|'.join(FORMATS)}; now: {self.form}"
            )
        self.form = form

    def _do_q(self, _: str) -> None:
        self._left = True

    def _ask(self, question: str) -> None:
        from tracectl import shell_show

        self._show(*self._run(lambda: self.capture.query(question, most=shell_show.MOST_KEPT)))

    def _run(self, work: Callable[[], T]) -> tuple[T, float]:
        """Do the work in a thread, so that Ctrl-C can cancel it; returns what it returned, and the seconds it took."""
        outcome: list[Any] = []
        ended, cancelled = threading.Event(), threading.Event()
        begin = time.monotonic()

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again where the work was asked for
                outcome.append(error)
            finally:
                ended.set()

        # No KeyboardInterrupt: it could come between any two steps, and leave the thread running.
        before = signal.signal(signal.SIGINT, lambda *_: cancelled.set())
        try:
            threading.Thread(target=run).start()
            while not ended.wait(0.05):
                if cancelled.is_set():  # again and again: it may not have begun yet what can be cancelled
                    self.capture.interrupt()
        finally:
            signal.signal(signal.SIGINT, before)
        if cancelled.is_set():
            raise UserError("cancelled")
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0], time.monotonic() - begin

    def _show(self, answer: Rows, seconds: float) -> None:
        """Show an answer and keep it as the last one."""
        from tracectl.api import Answer
        from tracectl.shell_show import show_answer

        if answer.columns:
            self.capture.keep(LAST, answer)
            self._last = answer
        notes = answer.footer()
        extra: dict[str, object] = {}
        if isinstance(answer, Answer):
            extra = {"qualification": dataclasses.asdict(answer.qualification), "notes": answer.notes}
        if sys.stdout.isatty():
            notes[0] += f", {text.duration(seconds * 1e9)}"
        show_answer(answer, self.form, notes, self.capture.opened.start_ts, extra)
