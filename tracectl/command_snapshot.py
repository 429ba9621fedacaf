"""``tracectl snapshot``: the newest part of a recording that runs, as a capture of its own."""

from __future__ import annotations

from pathlib import Path

import click

from tracectl import text


@click.command()
@click.argument("recording", type=click.Path(path_type=Path), metavar="RECORDING")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The capture to make.")
@click.option("--last", metavar="TIME", help="Only the last 30s, 2m, …, in whole segments. Default: all that is there.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def snapshot(recording: Path, output: Path, last: str | None, force: bool) -> None:
    """Copy what a running recording has so far, or its last part, into one capture.

    RECORDING is the directory of a flight recorder (tracectl record --keep), NAME.recording of any other recording, or
    NAME. The recording goes on undisturbed; its newest second or so is not yet in a segment.

    \b
      tracectl snapshot /var/lib/tracectl/flight -o incident.parquet --last 30s
    """
    from tracectl.recorder.recovery import snapshot as make

    made = make(recording, output, last_ns=None if last is None else text.parse_duration(last), force=force)
    capture = made.capture
    events = sum(line.recorded for line in capture.ledger())
    span = text.duration(capture.end_ts - capture.start_ts)
    click.echo(text.visible(f"{made.path}: {text.plural(events, 'event')} in {span}"))
