"""``--profile``: where the time of an answer went, stage by stage."""

from __future__ import annotations

import time

STAGES = {
    "open": "the capture is opened and checked",
    "parse": "the question is read",
    "look": "where a waker's context comes from is looked up",
    "plan": "the question becomes SQL; gaps that touch it are summed up",
    "sql": "the statement is prepared; run, where rows may or may not match",
    "fetch": "the statement is run, its rows are taken",
    "render": "the rows are written",
}


class Profile:
    """Wall and CPU time (of all threads of this process) by stage."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[float, float]] = dict.fromkeys(STAGES, (0.0, 0.0))
        self._since = (time.perf_counter(), time.process_time())

    def done(self, stage: str) -> None:
        """A stage, or another part of it, ends here: what passed since the last call was its time."""
        now = (time.perf_counter(), time.process_time())
        wall, cpu = self.spent[stage]
        self.spent[stage] = (wall + now[0] - self._since[0], cpu + now[1] - self._since[1])
        self._since = now

    def table(self) -> str:
        """The stages in their order, then the sum."""
        rows = [(stage, *self.spent[stage], words) for stage, words in STAGES.items()]
        rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows), ""))
        lines = ["stage    wall ms    cpu ms"]
        lines += [f"{name:6}{wall * 1e3:10.1f}{cpu * 1e3:10.1f}  {words}".rstrip() for name, wall, cpu, words in rows]
        return "\n".join(lines)
