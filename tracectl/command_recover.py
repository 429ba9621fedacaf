"""``tracectl recover``: one capture of the segments that a killed recording left."""

from __future__ import annotations

from pathlib import Path

import click

from tracectl import text


@click.command()
@click.argument("recording", type=click.Path(path_type=Path), metavar="RECORDING")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The capture. Default: what it was to become.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def recover(recording: Path, output: Path | None, force: bool) -> None:
    """Make one capture of a recording that was killed.

    RECORDING is the directory NAME.recording that it left, or NAME. What came after the last segment is in the capture
    as a gap of cause "killed"; answers that it can change say so. The directory is removed, unless a segment in it is
    damaged: that one is left out, and declared as a gap too.

    \b
      tracectl recover web.parquet.recording
      tracectl recover web.parquet.recording -o /tmp/web.parquet
    """
    from tracectl.recorder.recovery import recover as make

    made = make(recording, output, force=force)
    capture = made.capture
    span = text.duration(capture.end_ts - capture.start_ts)
    events = sum(line.recorded for line in capture.ledger())
    click.echo(text.visible(f"{made.path}: {text.plural(events, 'event')} in {span}"))
    if not capture.complete:
        counted = sum(line.lost for line in capture.ledger())
        known = f"; {text.count(counted)} lost are known" if counted else ""
        click.echo(f"cut short: what came after these {span} is declared lost{known}")
    for file in made.damaged:
        click.echo(text.visible(f"damaged, left out and kept: {file}"), err=True)
