"""The shell's prompt on a terminal: line editing, history kept between sessions, and completion, by readline."""

from __future__ import annotations

import os
import readline
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tracectl import text
from tracectl.shell_show import coloured, style
from tracectl.shell_words import Candidate

PROMPT = "tracectl> "
HISTORY_LINES = 2000
_DELIMITERS = " \t\n|,()=<>!"


def history_file() -> Path:
    """Where questions of earlier sessions are kept (XDG)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "tracectl" / "history"


class Prompt:
    """Lines typed on a terminal.

    Args:
        complete: what the text up to the cursor can become.
    """

    def __init__(self, complete: Callable[[str], list[Candidate]]) -> None:
        self._complete = complete
        self._found: list[Candidate] = []
        self._matches: list[str] = []
        self._before, self._cursor = "", 0
        readline.set_completer(self._match)
        readline.set_completer_delims(_DELIMITERS)
        readline.set_completion_display_matches_hook(self._show)
        readline.parse_and_bind("tab: complete")
        readline.parse_and_bind("set show-all-if-ambiguous on")
        readline.parse_and_bind("set enable-bracketed-paste on")
        self._load()

    def read(self) -> str:
        """The next line.

        Raises:
            EOFError: Ctrl-D on an empty line.
            KeyboardInterrupt: Ctrl-C.
        """
        # readline must know which characters take no place.
        prompt = f"\001\033[1;36m\002{PROMPT}\001\033[0m\002" if coloured(sys.stdout) else PROMPT
        return input(prompt)

    def save(self) -> None:
        """Keep the history for the next session; where that cannot be, it is as if there was none."""
        path = history_file()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.append_history_file(readline.get_current_history_length() - self._known, str(path))
            lines = path.read_bytes().splitlines(keepends=True)
            if len(lines) > 2 * HISTORY_LINES:
                path.write_bytes(b"".join(lines[-HISTORY_LINES:]))
        except OSError as error:
            sys.stderr.write(f"the history is not kept: {error.strerror}: {text.visible(str(path))}\n")

    def _load(self) -> None:
        readline.clear_history()
        if history_file().is_file() and os.access(history_file(), os.R_OK):
            readline.read_history_file(str(history_file()))
        self._known = readline.get_current_history_length()

    def _match(self, _: str, state: int) -> str | None:
        """What readline calls for the first, second … match of the word before the cursor."""
        if state == 0:
            self._before, self._cursor = readline.get_line_buffer(), readline.get_endidx()
            self._found = self._complete(self._before[: self._cursor])
            self._matches = self._texts()
        return self._matches[state] if state < len(self._matches) else None

    def _texts(self) -> list[str]:
        """The matches from where readline's own word begins, which may be in the middle of ours."""
        begin, line = readline.get_begidx(), readline.get_line_buffer()
        texts = []
        for candidate in self._found:
            typed = line[candidate.start : begin]
            if candidate.text[: len(typed)].lower() == typed.lower():
                texts.append(candidate.text[len(typed) :])
        if len(texts) == 1 and not texts[0].endswith("="):
            texts[0] += " "
        return texts

    def _show(self, _: str, matches: Sequence[str], __: int) -> None:
        """List the matches below the line, in our own order and with what they mean, then the line again."""
        size = shutil.get_terminal_size()
        sys.stdout.write("\n" + "\n".join(listing(self._found, size.columns, size.lines)) + "\n")
        # readline still believes the line as it was before the matches' common begin went in: it is put there, and
        # what has changed since is readline's to draw.
        back = text.width(self._before[self._cursor :])
        line = style(PROMPT, sys.stdout, fg="cyan", bold=True) + self._before
        sys.stdout.write(line + (f"\033[{back}D" if back else ""))
        sys.stdout.flush()
        readline.redisplay()


def listing(found: Sequence[Candidate], columns: int, lines: int) -> list[str]:
    """The candidates, a line each with what they mean; in columns where there are many of them or nothing is told."""
    width = max((text.width(one.text) for one in found), default=0) + 2
    if any(one.tells for one in found) and len(found) <= max(lines - 4, 8):
        rows = []
        for one in found:
            tells = _cut(text.visible(one.tells), columns - width - 3)
            rows.append("  " + text.pad(one.text, width, False) + style(tells, sys.stdout, dim=True))
        return rows
    across = max(1, (columns - 2) // width)
    most = across * max(lines - 4, 1)
    shown = [text.pad(one.text, width, False) for one in found[:most]]
    down = -(-len(shown) // across)
    rows = ["  " + "".join(shown[row::down]).rstrip() for row in range(down)]
    return [*rows, f"  … {len(found) - most} more"] if len(found) > most else rows


def _cut(words: str, width: int) -> str:
    return words if text.width(words) <= width else words[: max(width - 1, 0)].rstrip() + "…"
