"""Call stacks of real recordings: of programs whose functions are known, none missing, however often it comes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, need, record_to

pytestmark = pytest.mark.kernel
SLEEPS = 3000
SOURCE = """
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#define KEEP __attribute__((noinline))
volatile unsigned long sink;
long slept[2];
int chain;
KEEP void nap(void) {
    struct timespec t = {0, 100000};
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    syscall(SYS_nanosleep, &t, 0);
    getrusage(RUSAGE_THREAD, &after);
    slept[chain] += after.ru_nvcsw - before.ru_nvcsw;
}
KEEP void burn(long ms) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    do {
        for (int i = 0; i < 1000000; i++) sink += i;
        clock_gettime(CLOCK_MONOTONIC, &b);
    } while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < ms);
}
KEEP void deep(int n) { if (n) deep(n - 1); else nap(); sink++; }
KEEP void first(void) { chain = 0; deep(3); sink++; }
KEEP void second(void) { chain = 1; deep(5); sink++; }
KEEP void hot(void) { burn(1500); sink++; }
int main(int argc, char **argv) {
    if (argc < 3) { hot(); return 0; }
    for (int i = 0; i < atoi(argv[1]); i++) { if (i % 3) first(); else second(); }
    FILE *out = fopen(argv[2], "w");
    fprintf(out, "%ld %ld", slept[0], slept[1]);
    fclose(out);
    poll(0, 0, 500); // names are looked up while it lives
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("cc") is not None, "there is no C compiler")
    folder = tmp_path_factory.mktemp("stacks")
    (folder / "stacked.c").write_text(SOURCE)
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-w"]
    subprocess.run(["cc", *flags, "-o", folder / "stacked", folder / "stacked.c"], check=True)
    return folder / "stacked"


STACKED = """
    WITH stack AS (SELECT stack_id, ANY_VALUE(folded) AS folded FROM capture WHERE kind = 'stack' GROUP BY stack_id)
    SELECT COALESCE(stack.folded, 'none'), COUNT(*) FROM capture AS event
    LEFT JOIN stack ON stack.stack_id = event.{column}
    WHERE event.kind = '{kind}' AND event.comm = 'stacked' {condition} GROUP BY ALL
"""


def stacks_of(recorded: Recorded, kind: str, column: str, condition: str = "") -> dict[str, int]:
    return dict(recorded.rows(STACKED.format(kind=kind, column=column, condition=condition)))


def test_every_sleep_has_the_stack_it_went_to_sleep_with(program: Path, tmp_path: Path) -> None:
    kinds = ("sched_switch", "sched_waking")
    command = program, str(SLEEPS), tmp_path / "truth"
    outcome = record_to(tmp_path / "x.parquet", *command, events=kinds, stacks=kinds, buffer_bytes=8 << 20)
    in_first, in_second = map(int, (tmp_path / "truth").read_text().split())
    recorded = Recorded(outcome.path)
    assert (outcome.lost, outcome.causes.get("stack", 0)) == (0, 0)
    asleep = "AND event.prev_state = 'S'"
    user = stacks_of(recorded, "sched_switch", "ustack", asleep)
    naps = {folded: n for folded, n in user.items() if "deep;" in folded}
    chains = {name: sum(n for folded, n in naps.items() if f";main;{name};" in folded) for name in ("first", "second")}
    # The stacks that come most often are the ones that other tools lose.
    assert chains == {"first": in_first, "second": in_second}
    assert in_first > SLEEPS / 2
    assert all(folded.count("deep") == (4 if "first" in folded else 6) for folded in naps)
    kernel = stacks_of(recorded, "sched_switch", "kstack", asleep)
    assert sum(n for folded, n in kernel.items() if folded.endswith("__schedule") and "nanosleep" in folded) == sum(
        chains.values()
    )
    wakers = dict(
        recorded.rows(
            "SELECT folded LIKE '%hrtimer_wakeup;try_to_wake_up', COUNT(*) FROM sched_waking JOIN (SELECT stack_id,"
            " ANY_VALUE(folded) AS folded FROM capture WHERE kind = 'stack' GROUP BY stack_id) AS s"
            " ON s.stack_id = kstack WHERE target_comm = 'stacked' AND context = 'hrtimer' GROUP BY ALL"
        )
    )
    assert set(wakers) == {True}
    assert wakers[True] > SLEEPS / 2


def test_samples_show_what_runs(program: Path, tmp_path: Path) -> None:
    kinds = ("cpu_sample",)
    outcome = record_to(tmp_path / "x.parquet", program, "hot", events=kinds, stacks=kinds, frequency=199)
    recorded = Recorded(outcome.path)
    ((run,),) = recorded.rows("SELECT COUNT(*) FROM cpu_sample WHERE comm = 'stacked'")
    burning = sum(n for folded, n in stacks_of(recorded, "cpu_sample", "ustack").items() if "main;hot;burn" in folded)
    assert run > 10
    assert burning > 0.9 * run
    assert outcome.causes.get("stack", 0) == 0
    assert recorded.ask("samples of comm stacked | count") == [(run,)]
    assert recorded.rows("SELECT COUNT(*) FROM cpu_sample WHERE tid = 0") == [(0,)]


def test_any_kind_can_have_stacks(program: Path, tmp_path: Path) -> None:
    """Also those made at run time; the others have none, and the capture says which."""
    kinds = ("syscalls:sys_enter_nanosleep", "sys_enter_close")
    outcome = record_to(
        tmp_path / "x.parquet", program, "50", tmp_path / "truth", events=("sched", *kinds[1:]), stacks=kinds[:1]
    )
    recorded = Recorded(outcome.path)
    found = stacks_of(recorded, "sys_enter_nanosleep", "ustack")
    assert sum(n for folded, n in found.items() if ";deep;syscall" in folded) == 50, found
    assert recorded.rows("SELECT COUNT(*) FROM sys_enter_nanosleep WHERE kstack IS NULL") == [(0,)]
    assert recorded.capture.footer.filled == {}
    assert recorded.rows("SELECT COUNT(*) FROM capture WHERE kind = 'sched_switch' AND ustack IS NOT NULL") == [(0,)]


def test_stacks_that_find_no_room_are_said_to_be_lost(program: Path, tmp_path: Path) -> None:
    """Rings of a page hold three stacks; every row has its own stack or none, and what is missing is counted."""
    kinds = ("sched_switch", "sched_waking")
    command = program, "2000", tmp_path / "truth"
    outcome = record_to(tmp_path / "x.parquet", *command, events=kinds, stacks=kinds, buffer_bytes=4096)
    recorded = Recorded(outcome.path)
    names = stacks_of(recorded, "sched_switch", "ustack", "AND event.prev_state = 'S'")
    known = {folded for folded in names if "main;" in folded and "deep" in folded}
    assert all(folded.count("deep") == (4 if "main;first;" in folded else 6) for folded in known)
    assert "none" not in names  # each reference has its row
    asked = "SELECT COUNT(*) FROM capture WHERE {0} IN (SELECT stack_id FROM capture WHERE folded = '[lost stack]')"
    lost = sum(recorded.rows(asked.format(column))[0][0] for column in ("kstack", "ustack"))
    assert outcome.causes.get("stack", 0) == lost
    assert recorded.rows("SELECT SUM(lost_count) FROM lost WHERE cause = 'stack'") == [(lost or None,)]
    assert all(line.residue == 0 for line in outcome.ledger)
