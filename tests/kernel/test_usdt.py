"""USDT probes, held against a program that prints the values its probes have, and against its own semaphores."""

from __future__ import annotations

import platform
import random
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, need, record_to
from tracectl.recorder.elf import Elf
from tracectl.recorder.selection import select
from tracectl.recorder.usdt import sites
from tracectl.store.errors import QueryError, UserError

pytestmark = pytest.mark.kernel
CALLS = 500
SOURCE = Path(__file__).parents[1] / "vm" / "guest" / "noted.c"
# What each demo:values keeps, and the same as the program prints it.
FIELDS = "a=arg0,b=arg1,c=arg2,s=arg3,beside=arg4,text:str=arg5,high=arg6,u=arg7,d=arg8,character=arg10"
COLUMNS = 'a, b, c, s, beside, "text", high, u, d, "character"'


@pytest.fixture(scope="module", params=("-fPIE -pie", "-no-pie"))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("cc") is not None and platform.machine() == "x86_64", "there is no C compiler for x86-64")
    need(Path("/sys/bus/event_source/devices/uprobe/type").exists(), "the kernel has no uprobes")
    folder = tmp_path_factory.mktemp("usdt")
    options = ["-O2", "-Wall", "-Werror", f"-DCALLS={CALLS}", *request.param.split()]
    subprocess.run(["cc", *options, "-o", folder / "noted", SOURCE], check=True)
    return folder / "noted"


def printed(text: str) -> list[tuple[int | str, ...]]:
    """The rows that the program printed."""
    return [
        tuple(word if word in ("odd", "even") else int(word) for word in line.split()) for line in text.splitlines()
    ]


def test_every_value_at_every_site(program: Path, tmp_path: Path) -> None:
    probe = f"usdt:{program}:demo:values({FIELDS},none=arg9,low:u8=arg0,more=arg0+1000,again:s16=*(arg5-0))"
    outcome = record_to(tmp_path / "x.parquet", program, tmp_path / "out", events=(probe,), buffer_bytes=4 << 20)
    assert outcome.lost == 0 and all(line.residue == 0 for line in outcome.ledger)
    recorded = Recorded(outcome.path)
    expected = printed((tmp_path / "out").read_text())
    assert len(expected) == CALLS and {row[2] for row in expected} == {-5, 7}
    assert recorded.rows(f"SELECT {COLUMNS} FROM demo_values ORDER BY seq") == expected
    odd, even = (int.from_bytes(word, "little") for word in (b"od", b"ev"))
    assert recorded.rows('SELECT "none", "low", "more", "again" FROM demo_values ORDER BY seq') == [
        (None, row[0] % 256, row[0] + 1000, odd if row[5] == "odd" else even) for row in expected
    ]


def test_a_semaphore_is_raised_where_somebody_waits_for_it(program: Path, tmp_path: Path) -> None:
    """In a process that runs already, at both inlined places; and it is 0 again when the recording is over."""
    assert subprocess.run([program, tmp_path / "out"], check=False).returncode == 0  # nobody listens
    process = subprocess.Popen([program, tmp_path / "out", "wait"], stdin=subprocess.PIPE)
    try:
        wake = ["sh", "-c", f"echo > /proc/{process.pid}/fd/0; while [ ! -s {tmp_path}/out ]; do sleep 0.01; done"]
        (tmp_path / "out").unlink()
        patterns = (f"usdt:/proc/{process.pid}/root{program}:demo:gu*(i=arg0)",)
        recorded = Recorded(record_to(tmp_path / "x.parquet", *wake, events=("task",), stacks=patterns).path)
        assert process.wait(10) == 0  # it has seen its semaphore fall to 0
    finally:
        process.kill()
        process.wait()
    expected = [("demo:guarded", n if n % 3 else -n) for n in range(CALLS)]
    assert recorded.rows('SELECT "probe", i FROM demo_gu ORDER BY seq') == expected
    assert recorded.ask("events demo_gu where i < -490 | count") == [(3,)]
    assert recorded.rows("SELECT COUNT(ustack), COUNT(kstack) FROM demo_gu") == [(CALLS, 0)]


WRONG = """
demo:value
has no such USDT probe
nearest: demo:values

guarde
has no such USDT probe
nearest: demo:guarded

other:values
has no such USDT probe
nearest: demo:values

xyz
has no such USDT probe
it has demo:guarded, demo:values

guarded(i=arg1)
demo:guarded has no arg1
arg0 and so on: 8@%

values(f=arg11)
arg11 of demo:values is where BPF cannot read: 8f@%xmm0
keep the others

*(probe=arg0)
a field cannot be called "probe" here
it holds the probe
"""


@pytest.mark.parametrize("case", WRONG.strip().split("\n\n"), ids=lambda case: case.partition("\n")[0])
def test_what_is_said_of_a_wrong_probe(program: Path, case: str) -> None:
    given, problem, remedy = case.splitlines()
    with pytest.raises(QueryError) as caught:
        select([f"usdt:{program}:{given}"])
    assert problem in str(caught.value) and remedy in caught.value.remedy


def test_a_file_without_probes_and_a_place_of_two_kinds(program: Path, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }")
    subprocess.run(["cc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True)
    with pytest.raises(QueryError, match="it was built without any"):
        select([f"usdt:{tmp_path}/x:demo:values"])
    with pytest.raises(UserError, match="demo:values would be of kind demo_values and of kind demo_val"):
        select([f"usdt:{program}:demo:values", f"usdt:{program}:demo:val*"])


def test_a_probe_that_is_named_twice(program: Path) -> None:
    """Once for what is kept of it and once for its stacks, say."""
    plain, kept = f"usdt:{program}:demo:values", f"usdt:{program}:demo:values(a=arg0)"
    for names, stacks in (([kept], [plain]), ([plain], [kept]), ([plain, kept], [])):
        (event,) = (event for event in select(names, stacks).events if event.kind == "demo_values")
        assert "demo_values__a" in [column.name for column in event.fields]
        assert ("ustack" in [column.name for column in event.fields]) == bool(stacks)
    with pytest.raises(UserError, match="other fields of demo_values are kept already"):
        select([kept], [f"usdt:{program}:demo:values(b=arg1)"])


def test_damaged_files(program: Path, tmp_path: Path) -> None:
    """Whatever is in a file, it is refused in words or read as another; half of the wrong bytes are in its notes."""
    whole = program.read_bytes()
    notes = whole.index(b"stapsdt\0") - 12
    chance = random.Random(5)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            place = chance.choice((chance.randrange(len(whole)), chance.randrange(notes, notes + 600)))
            damaged[place] = chance.randrange(256)
        (tmp_path / "x").write_bytes(damaged[: chance.choice((len(whole), chance.randrange(len(whole))))])
        with suppress(ValueError), Elf(tmp_path / "x") as elf:
            for site in sites(elf):
                assert len(site.code) == len(site.arguments)
                assert all(re.fullmatch(r"[\w ()+*,<>-]*", code) for code in site.code)
