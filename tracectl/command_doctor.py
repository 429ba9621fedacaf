"""``tracectl doctor``: what recording needs on this machine, each line with its remedy."""

from __future__ import annotations

import click

COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}


@click.command()
def doctor() -> int:
    """Check what recording needs on this machine.

    Tries everything out and ends with "live recording: yes" or "no" (exit code 2). A line marked "warn" takes
    something lesser away. Asking questions needs none of this.
    """
    from tracectl.recorder.doctor import can_record, examine
    from tracectl.store.errors import RecordError
    from tracectl.text import visible

    checks = []
    for check in examine():
        checks.append(check)
        mark = click.style(f"{check.verdict:<7}", fg=COLOURS[check.verdict])
        click.echo(f"{mark}  {check.name:<12}  {visible(check.detail)}")
        if check.remedy:
            click.echo(f"{'':23}{click.style(visible(check.remedy), dim=True)}")
    able = can_record(checks)
    click.echo(click.style(f"live recording: {'yes' if able else 'no'}", bold=True))
    return 0 if able else RecordError.exit_code
