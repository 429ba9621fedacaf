"""Probes of functions of programs, held against programs that count their own calls."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, need, record_to
from tracectl.store.errors import QueryError

pytestmark = pytest.mark.kernel
CALLS = 4000
SOURCE = """
#include <cstdlib>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
volatile long sink;
struct Pair { char c; unsigned short port; int deep; };
namespace Envoy {
struct FileEventImpl { KEEP long assignEvents(unsigned events, const char *name); KEEP long other(int n); };
long FileEventImpl::assignEvents(unsigned events, const char *name) { sink += events; return -(long)events; }
long FileEventImpl::other(int n) { sink += n; return n; }
}
extern "C" KEEP int plain(signed char a, unsigned char b, short c, Pair *pair) {
    sink += a;
    return a + b + c + (pair ? pair->port : 0);
}
const char *volatile names[] = {"even", "odd"};
int main(int argc, char **argv) {
    Envoy::FileEventImpl impl;
    Pair pair = {1, 15006, 7};
    sink += names[0][0] + names[1][0]; // in memory: a probe does not wait for a page
    for (int i = 0; i < atoi(argv[1]); i++) {
        impl.assignEvents(i, names[i % 2]);
        impl.other(i);
        pair.port = i;
        plain(-1, 200, -300, &pair);
    }
    plain(0, 0, 0, 0);
    impl.assignEvents(0, 0);
    usleep(500000); // names are looked up while it lives
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("c++") is not None, "there is no C++ compiler")
    need(Path("/sys/bus/event_source/devices/uprobe/type").exists(), "the kernel has no uprobes")
    folder = tmp_path_factory.mktemp("probes")
    (folder / "probed.cc").write_text(SOURCE)
    subprocess.run(["c++", "-O1", "-w", "-o", folder / "probed", folder / "probed.cc"], check=True)
    return folder / "probed"


def recorded_with(program: Path, path: Path, *events: str) -> Recorded:
    outcome = record_to(path / "x.parquet", program, str(CALLS), events=events, buffer_bytes=8 << 20)
    assert outcome.lost == 0
    assert all(line.residue == 0 for line in outcome.ledger)
    return Recorded(outcome.path)


def test_every_call_with_its_arguments(program: Path, tmp_path: Path) -> None:
    fields = "a:s8=arg0, b:u8=arg1, c:s16=arg2, port:u16=*(arg3+2), deep:int=*(arg3+4), at:ptr=arg3"
    recorded = recorded_with(program, tmp_path, f"uprobe:{program}:plain({fields})")
    constant = recorded.rows('SELECT a, b, c, deep, COUNT(DISTINCT "at"), COUNT(*) FROM plain GROUP BY ALL ORDER BY a')
    # What is not there to be read is null, not 0.
    assert constant == [(-1, 200, -300, 7, 1, CALLS), (0, 0, 0, None, 1, 1)]
    assert recorded.rows("SELECT port FROM plain ORDER BY seq") == [*((n,) for n in range(CALLS)), (None,)]
    assert recorded.ask("events plain where port < 10 | count") == [(10,)]


def test_patterns_mean_names_as_they_are_written(program: Path, tmp_path: Path) -> None:
    """And the functions they stand for are told apart."""
    pattern = "*FileEventImpl*assignEvents*"
    recorded = recorded_with(
        program, tmp_path,
        f"uprobe:{program}:{pattern}(events:uint=arg1, name:str=arg2)", f"uretprobe:{program}:*FileEventImpl::*(ret)",
    )  # fmt: skip
    kind = "fileeventimpl_assignevents"
    written = "Envoy::FileEventImpl::assignEvents(unsigned int, char const*)"
    assert recorded.rows(f"SELECT symbol, name, COUNT(*), SUM(events) FROM {kind} GROUP BY ALL ORDER BY name") == [
        (written, "even", CALLS // 2, sum(range(0, CALLS, 2))), (written, "odd", CALLS // 2, sum(range(1, CALLS, 2))),
        (written, None, 1, 0),
    ]  # fmt: skip
    returns = recorded.rows("SELECT symbol, COUNT(*), SUM(ret) FROM fileeventimpl_return GROUP BY ALL ORDER BY symbol")
    assert returns == [
        (written, CALLS + 1, -sum(range(CALLS))), ("Envoy::FileEventImpl::other(int)", CALLS, sum(range(CALLS))),
    ]  # fmt: skip


def test_with_stacks_and_a_filter(program: Path, tmp_path: Path) -> None:
    probe = f"uprobe:{program}:plain(a:s8=arg0)"
    outcome = record_to(tmp_path / "x.parquet", program, "100", events=(), stacks=(probe,), comms=("nobody",))
    recorded = Recorded(outcome.path)
    assert recorded.rows("SELECT COUNT(*) FROM plain") == [(0,)]
    outcome = record_to(tmp_path / "y.parquet", program, "100", events=("task",), stacks=(probe,), comms=("probed",))
    recorded = Recorded(outcome.path)
    assert recorded.rows("SELECT COUNT(*), COUNT(ustack), COUNT(kstack) FROM plain") == [(101, 101, 0)]
    assert "stack" not in outcome.causes
    ((folded,),) = recorded.rows("SELECT DISTINCT folded FROM capture WHERE stack_id = (SELECT MAX(ustack) FROM plain)")
    assert folded.endswith(";plain")


def test_an_indirect_function_is_refused(tmp_path: Path) -> None:
    libc = next(iter(Path("/").glob("lib/*-linux-gnu/libc.so.6")), None)
    need(libc is not None, "there is no GNU C library")
    with pytest.raises(QueryError, match="chosen when it is loaded"):
        record_to(tmp_path / "x.parquet", "true", events=(f"uprobe:{libc}:memcpy",))
