"""Several captures as one set: which they are, what each is called, and all their clocks on one axis."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import median_low

from tracectl.store.capture import SEGMENTS_SUFFIX, Capture, holds_segments
from tracectl.store.database import DEFAULT_MEMORY_LIMIT, Database
from tracectl.store.errors import CaptureError, UserError

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Member:
    """One capture of a set.

    Attributes:
        name: what the column ``capture`` has: the file's name without ``.parquet``, with as much of its path as sets it
            apart from the others.
        shift: ns to be added to its monotonic clock: 0 is the begin of the set.
        spread: by how many ns the offsets differ that readings of its realtime clock give; None: it has no reading, and
            its time begins with that of the set.
        readings: how many readings of the clock there are.
    """

    name: str
    capture: Capture
    shift: int = 0
    spread: int | None = None
    readings: int = 0

    @property
    def host(self) -> str | None:
        """Name of the machine; None: the capture does not say."""
        return self.capture.footer.host or None


@dataclass(frozen=True)
class CaptureSet:
    """Captures that are asked together. No event of one has to do with any of another.

    Times are ns since the begin of the earliest capture. Each capture is put there by readings of its own host's
    realtime clock: how well the clocks of two hosts agree is not recorded. Captures of one boot share their clock.

    Attributes:
        path: as given.
        members: in the order of their names.
        begin: realtime ns of time 0; None: no capture has a reading of that clock.
    """

    path: Path
    members: tuple[Member, ...]
    begin: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All Parquet files, absolute."""
        return tuple(file for one in self.members for file in one.capture.files)

    @property
    def rows(self) -> int:
        """Rows of all captures."""
        return sum(one.capture.rows for one in self.members)

    @property
    def start_ts(self) -> int:
        """Begin of the earliest capture on the common axis: 0."""
        return min(one.capture.start_ts + one.shift for one in self.members)

    @property
    def end_ts(self) -> int:
        """End of the last one, ns on the common axis."""
        return max(one.capture.end_ts + one.shift for one in self.members)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Kinds that any of them recorded."""
        return frozenset(kind for one in self.members for kind in one.capture.kinds)

    @cached_property
    def cpus(self) -> tuple[int, ...]:
        """Numbers that a CPU has in any of them."""
        return tuple(sorted({cpu for one in self.members for cpu in one.capture.cpus}))

    @property
    def hosts(self) -> list[str]:
        """Names of the machines, each once."""
        return sorted({one.host for one in self.members if one.host})

    def database(self, memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> Database:
        """A DuckDB connection that can read these captures and nothing else."""
        return Database(self.files, memory_limit, threads)


def open_captures(*paths: str | Path) -> Capture | CaptureSet:
    """Open one capture, or several as a set.

    Args:
        paths: capture files; directories of segments; directories of captures; patterns such as ``web/*.parquet``.
            A file or the directory of one recording alone is a capture, all else a set.

    Raises:
        UserError: nothing is there, or two of them hold the same events.
        CaptureError: one is no capture, damaged, or of a later format.
    """
    found = [(path, inside) for path in paths for inside in _inside(Path(path))]
    if not found or (len(found) == 1 and found[0][1] == Path(found[0][0])):
        return Capture.open(paths[0])
    given = Path(" ".join(map(str, paths)))
    names = _names([path for _, path in found])
    opened = [Capture.open(path) for _, path in found]
    _refuse_twice(opened)
    return together(given, zip(names, opened, strict=True))


def captures_in(opened: Capture | CaptureSet) -> list[Capture]:
    """The captures of a set, or the one alone."""
    return [one.capture for one in opened.members] if isinstance(opened, CaptureSet) else [opened]


def together(path: Path, captures: Iterable[tuple[str, Capture]]) -> CaptureSet:
    """Captures by name as a set: their clocks are put on one axis."""
    named = sorted(captures)
    clocks = _clocks([capture for _, capture in named])
    placed = [capture.start_ts + clock[0] for (_, capture), clock in zip(named, clocks, strict=True) if clock]
    begin = min(placed, default=None)
    members = tuple(
        Member(name, capture, clock[0] - begin, clock[1], clock[2])
        if clock and begin is not None
        else Member(name, capture, -capture.start_ts)
        for (name, capture), clock in zip(named, clocks, strict=True)
    )
    return CaptureSet(path, members, begin)


def _clocks(captures: Sequence[Capture]) -> list[tuple[int, int, int] | None]:
    """Per capture: realtime less monotonic (ns), by how much readings of it differ, how many there are.

    One value for a whole boot, whose captures have one monotonic clock: whatever the realtime clock did meanwhile, what
    happened first stays first, and durations stay what they are.
    """
    readings: dict[str, set[int]] = defaultdict(set)
    for number, capture in enumerate(captures):
        for footer in capture.footers:
            offsets = {c["realtime"] - c["ts"] for c in footer.clocks if {"ts", "realtime"} <= c.keys()}
            readings[capture.footer.boot_id or f"{number}"] |= offsets
    found: list[tuple[int, int, int] | None] = []
    for number, capture in enumerate(captures):
        offsets = readings[capture.footer.boot_id or f"{number}"]
        found.append((median_low(offsets), max(offsets) - min(offsets), len(offsets)) if offsets else None)
    return found


def _inside(path: Path) -> list[Path]:
    """The captures that a path stands for; one that does not exist stands for itself, and is told when opened."""
    if path.is_dir() and not holds_segments(path):
        found = sorted(path.glob(f"*{SUFFIX}"))
        known = {str(one) for one in found}
        running = sorted(path.glob(f"*{SUFFIX}{SEGMENTS_SUFFIX}"))
        found += [one for one in running if str(one).removesuffix(SEGMENTS_SUFFIX) not in known and holds_segments(one)]
        if not found:
            raise CaptureError(f"{path} holds no capture", f"captures are files whose names end in {SUFFIX}")
        return found
    if glob.has_magic(str(path)) and not path.exists():
        matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - it may be absolute
        if not matches:
            raise UserError(f"no file matches {path}", f"captures are files whose names end in {SUFFIX}")
        return [one for match in matches for one in _inside(match)]
    return [path]


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, or as many as all need to differ."""
    plain = [str(path).removesuffix("/").removesuffix(SEGMENTS_SUFFIX).removesuffix(SUFFIX) for path in paths]
    parts = [Path(os.path.abspath(one)).parts for one in plain]  # noqa: PTH100 - resolve() would follow links
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    (twice, _), *_ = Counter(plain).most_common(1)
    raise UserError(f"{twice} is given twice", "each capture once")


def _refuse_twice(captures: Sequence[Capture]) -> None:
    """Refuse captures that would count events twice.

    Raises:
        UserError: two hold the same kinds of the same boot's events at the same time, or are copies of each other.
    """
    for one, other in combinations(captures, 2):
        a, b = one.footer, other.footer
        facts = [(c.rows, c.start_ts, c.end_ts, c.kinds, c.footer.host) for c in (one, other)]
        copies = facts[0] == facts[1] and (not a.boot_id or not b.boot_id or a.boot_id == b.boot_id)
        overlap = one.start_ts < other.end_ts and other.start_ts < one.end_ts
        both = sorted(kind for kind in one.kinds & other.kinds if kind in one.catalogue.events)
        if one.rows and (copies or (a.boot_id and a.boot_id == b.boot_id and overlap and both)):
            what = "are copies of each other" if copies else f"both hold {both[0]} of one machine at the same time"
            raise UserError(f"{one.path} and {other.path} {what}: events would count twice", "leave one of them out")
