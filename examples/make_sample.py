"""Records the demo workload and writes examples/sample.parquet: the recording without what it tells of this machine.

Names of processes other than the workload's and the kernel's become ``other``; paths, cgroups and the host's name go.
Events, times, threads and the ledger stay as they were recorded.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from demo import SAMPLE, record

from tracectl.store.footer import KEY
from tracectl.store.schema import parquet_options

COMMS = ("comm", "next_comm", "target_comm", "child_comm")
PATHS = ("filename", "cgroup")
KEPT = ("demo:", "swapper/", "ksoftirqd/", "kworker/", "migration/", "rcu_preempt", "python")


def scrubbed(table: pa.Table) -> pa.Table:
    """The rows with foreign names replaced and paths removed."""
    for name in (*COMMS, *PATHS):
        index = table.schema.get_field_index(name)
        if index < 0:
            continue
        column = table.column(index).combine_chunks().cast(pa.string())
        if name in PATHS:
            column = pc.if_else(pc.is_null(column), None, "/")
        else:
            own = [pc.starts_with(column, prefix) for prefix in KEPT]
            keep = own[0]
            for one in own[1:]:
                keep = pc.or_(keep, one)
            column = pc.if_else(pc.or_(keep, pc.is_null(column)), column, "other")
        table = table.set_column(index, table.schema.field(index), column.cast(table.schema.field(index).type))
    return table


def footer_of(metadata: Mapping[bytes, bytes]) -> bytes:
    """The footer without the host's names."""
    values = json.loads(metadata[KEY])
    command = "tracectl record -o sample.parquet -- python3 examples/demo_workload.py"
    values |= {"host": "demo", "boot_id": "", "command_line": command.split()}
    values["kernel"] = values["kernel"].partition("-")[0]
    return json.dumps(values, separators=(",", ":")).encode()


def main() -> int:
    """Record, scrub, write; exit code 0 when all of it worked."""
    with tempfile.TemporaryDirectory() as place:
        recorded = Path(place) / "sample.parquet"
        if code := record(recorded):
            return code
        file = pq.ParquetFile(recorded)
        schema = file.schema_arrow
        part = SAMPLE.with_suffix(".part")
        with pq.ParquetWriter(part, schema, **parquet_options(schema)) as writer:
            for group in range(file.num_row_groups):
                writer.write_table(scrubbed(file.read_row_group(group).cast(schema)))
            writer.add_key_value_metadata({KEY: footer_of(file.metadata.metadata)})
        part.replace(SAMPLE)
    print(f"tracectl: {SAMPLE} is recorded anew")  # noqa: T201 - this is a program for a terminal
    return 0


if __name__ == "__main__":
    sys.exit(main())
