"""``tracectl check``: whether a capture is whole and consistent, invariant by invariant."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tracectl import text

if TYPE_CHECKING:
    from tracectl.store.integrity import Finding, Violation


@click.command()
@click.argument("capture", metavar="CAPTURE")
@click.option("--json", "as_json", is_flag=True, help="As JSON, exact.")
def check(capture: str, as_json: bool) -> int:
    """Check that a capture is what it says.

    Runs every invariant that an honest recording keeps: the ledger adds up, rows are in order and inside the recorded
    time, and per CPU the thread that one switch brings in is the one that the next takes out. The last needs no
    marker: it finds losses that nobody declared. Exit code 3 when one does not hold.
    """
    from tracectl.store.capture import Capture
    from tracectl.store.errors import CaptureError
    from tracectl.store.integrity import check as run

    opened = Capture.open(capture)
    with opened.database() as database:
        findings = run(opened, database)
    broken = [finding for finding in findings if not finding.ok]
    if as_json:
        click.echo(json.dumps([asdict(finding) | {"ok": finding.ok} for finding in findings], indent=1))
    else:
        for finding in findings:
            _show(finding, opened.start_ts)
        verdict = "the capture is consistent" if not broken else f"{text.plural(len(broken), 'check')} failed"
        click.echo("\n" + click.style(verdict, fg="red" if broken else "green", bold=True))
    return CaptureError.exit_code if broken else 0


def _show(finding: Finding, start_ts: int) -> None:
    state, colour = ("ok", "green") if finding.ok else ("BROKEN", "red")
    if finding.count is None:
        state, colour = "-", "yellow"
    click.echo(f"{click.style(f'{state:<8}', fg=colour, bold=True)}{finding.name:<10}{finding.doc}")
    if finding.why:
        click.echo(f"{'':18}not checked: {text.visible(finding.why)}")
    for violation in finding.violations:
        click.echo(f"{'':18}{text.visible(_place(violation, start_ts))}")
    if (finding.count or 0) > len(finding.violations):
        click.echo(f"{'':18}… and {(finding.count or 0) - len(finding.violations)} more")


def _place(violation: Violation, start_ts: int) -> str:
    at = "" if violation.ts is None else f"at {text.moment(violation.ts - start_ts)}, "
    return f"{at}cpu {violation.cpu}: {violation.what}" if violation.cpu is not None else f"{at}{violation.what}"
