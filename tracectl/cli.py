"""The command line: which commands there are, and what an error prints and exits with. No command's logic.

Exit codes: 0 an answer, 1 the user's mistake, 2 recording is not possible, 3 damaged capture, 4 ``--strict`` refused,
130 interrupted. ``record -- COMMAND`` passes on the command's own.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from tracectl._version import __version__
from tracectl.store.errors import TracectlError
from tracectl.text import nearest, visible

# name -> module:function. A module is imported when its command runs; the line is what `tracectl --help` shows, so
# that help imports none of them (a test holds the two together).
COMMANDS: dict[str, tuple[str, str]] = {
    "record": ("tracectl.command_record:record", "Record what the kernel does, into one Parquet file (root)."),
    "import": ("tracectl.command_import:import_", "Make a capture of traces that other tools recorded."),
    "query": ("tracectl.command_query:query", "Answer a question from a capture."),
    "diff": ("tracectl.command_diff:diff", "Ask one question of two captures, and compare."),
    "shell": ("tracectl.command_shell:shell", "Ask one question after the other."),
    "sql": ("tracectl.command_query:sql", "Run SQL on a capture, read-only."),
    "info": ("tracectl.command_info:info", "Show what was recorded, when, where, and what was lost."),
    "dump": ("tracectl.command_dump:dump", "Print a capture as text, one event per line, in order."),
    "flamegraph": ("tracectl.command_flamegraph:flamegraph", "Draw the call stacks of an answer as a flame graph."),
    "replay": ("tracectl.command_replay:replay", "Print a capture's events again, in time order."),
    "export": ("tracectl.command_export:export", "Write a capture or an answer in the format of another tool."),
    "check": ("tracectl.command_check:check", "Check that a capture is what it says."),
    "snapshot": (
        "tracectl.command_snapshot:snapshot",
        "Copy what a running recording has so far, or its last part, into one capture.",
    ),
    "recover": ("tracectl.command_recover:recover", "Make one capture of a recording that was killed."),
    "doctor": ("tracectl.command_doctor:doctor", "Check what recording needs on this machine."),
    "help": ("tracectl.command_help:help_", "Explain a word of the question language, or a command."),
}

COMPLETION = "_TRACECTL_COMPLETE"
INTERRUPTED = 130
BUG = 70
PROBLEM_TRACKER_HINT = "this is a bug in tracectl; please report it with the output of TRACECTL_DEBUG=1"


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is an error with the nearest name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            remedy = nearest(name, COMMANDS) or f"commands: {', '.join(COMMANDS)}"
            raise TracectlError(f'there is no command "{visible(name)}"', remedy)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 an answer, 1 the user's mistake, 2 recording is not possible, 3 damaged capture, "
    "4 --strict refused, 130 interrupted.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error (also TRACECTL_DEBUG=1).")
@click.pass_context
def group(ctx: click.Context, debug: bool) -> None:
    """Record what the Linux kernel did to your threads, and ask questions of the recording."""
    if debug:
        os.environ["TRACECTL_DEBUG"] = "1"
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return the exit code; errors go to stderr."""
    try:
        if instruction := os.environ.get(COMPLETION):
            return shell_complete(group, {}, "tracectl", COMPLETION, instruction)
        # Not click's main(): it would end the process by itself when the reader of stdout goes.
        with group.make_context("tracectl", list(sys.argv[1:] if arguments is None else arguments)) as context:
            result = group.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback for a user who did nothing wrong
        return _complain(*_explain(error))


def _reader_gone() -> int:
    """The reader of stdout (head, less) has had enough: no error. Keep the flush at exit from failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _explain(error: Exception) -> tuple[str, int]:
    """What to print for an error, and the exit code."""
    match error:
        case TracectlError():
            return str(error), error.exit_code
        case click.ClickException():
            problem = error.format_message().rstrip(".")
            command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "tracectl"
            return f"{problem}\nsee: {command} --help", TracectlError.exit_code
        case OSError(filename=str() as name, strerror=str() as reason):
            return f"{name}: {reason}\ncheck that the path is right and may be used", TracectlError.exit_code
        case _:
            if os.environ.get("TRACECTL_DEBUG"):
                traceback.print_exception(error)
            return f"unexpected {type(error).__name__}: {error}\n{PROBLEM_TRACKER_HINT}", BUG


def _complain(message: str, code: int) -> int:
    """Print an error, its first line prefixed and the others indented, with nothing that a terminal would obey."""
    first, *rest = message.splitlines() or [""]
    rest = [line for line in rest if line.strip()]
    # All or none, so that a caret stays under its word.
    indent = "" if all(line.startswith("  ") for line in rest) else "  "
    lines = [f"tracectl: {first}", *(indent + line for line in rest)]
    print("\n".join(visible(line) for line in lines), file=sys.stderr)  # noqa: T201
    return code
