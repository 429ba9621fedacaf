"""Containers on this machine: their cgroups, and what a process id inside one is outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tracectl.recorder.filters import cgroup_of
from tracectl.store.containers import SHORTEST, container_id, container_in, path_pattern
from tracectl.store.errors import UserError

_MOST_SAID = 5
_REMEDY = "docker ps --no-trunc, crictl ps or podman ps list what runs"


def cgroups_of(text: str) -> tuple[str, ...]:
    """The cgroup paths of a running container, without those below them.

    Raises:
        UserError: no id, or no process runs in such a container.
    """
    pattern = re.compile(path_pattern(container_id(text)))
    found = set()
    for process in _processes():
        path = cgroup_of(process)
        if match := pattern.search(path):
            found.add(path[: match.end()].rstrip("/"))
    if not found:
        raise UserError(f"no process runs in a container {text}", _REMEDY)
    return tuple(sorted(found))


def host_pid(text: str, pid: int) -> int:
    """The process that has this id inside a container.

    Raises:
        UserError: there is none, or several (the container has PID namespaces of its own inside).
    """
    roots = cgroups_of(text)
    found = []
    for process in _processes():
        path = cgroup_of(process)
        if any(path == root or path.startswith(f"{root}/") for root in roots) and _inner_pid(process) == pid:
            found.append(int(process.name))
    if not found:
        raise UserError(f"-p {pid}: no such process in container {text}", "ps inside the container shows what runs")
    if len(found) > 1:
        listed = ", ".join(map(str, sorted(found)))
        problem = f"-p {pid}: {len(found)} processes have this id inside container {text}"
        raise UserError(problem, f"-p without --container takes the ids of this machine: {listed}")
    return found[0]


def said_of_absent(number: int) -> str:
    """The remedy for an id that no thread has: those that have it inside a container or another PID namespace."""
    said = []
    for process in _processes():
        for task in _tasks_of(process):
            if _inner_pid(task) == number:
                container = container_in(cgroup_of(process))
                option = "-p" if task.name == process.name else "-t"
                inside = f", or --container {container[:SHORTEST]} -p {number}" if container and option == "-p" else ""
                said.append(f"{option} {task.name} ({_comm(task)}) has that id inside a PID namespace{inside}")
    return "\n  ".join(said[:_MOST_SAID]) + (f"\n  and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else "")


def _tasks_of(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


def _comm(task: Path) -> str:
    try:
        return (task / "comm").read_text(errors="backslashreplace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return "it has ended"


def _processes() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (process / "cgroup").exists():
            yield process


def _inner_pid(process: Path) -> int | None:
    """Its id in the innermost PID namespace it is in; None: it has ended."""
    try:
        status = (process / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((int(line.split()[-1]) for line in status.splitlines() if line.startswith("NSpid:")), None)
