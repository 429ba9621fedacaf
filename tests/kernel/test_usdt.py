"""USDT probes, held against a program that prints the values its probes have, and against its own semaphores."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, eventually, need, record_to
from tracectl.recorder.selection import select
from tracectl.store.errors import QueryError, UserError

pytestmark = pytest.mark.kernel
CALLS = 500
# The notes as <sys/sdt.h> makes them, with operands of every form that x86-64 has for them.
SOURCE = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define NOTE(NAME, SEMAPHORE, ARGUMENTS) \
    "990: nop\n" \
    ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " SEMAPHORE "\n" \
    ".asciz \"demo\"\n.asciz \"" NAME "\"\n.asciz \"" ARGUMENTS "\"\n994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n" \
    ".popsection\n.endif\n"
#define KEEP __attribute__((noinline, noclone))
#define ALL "-4@%[a] 8@%[b] -4@%[c] -2@(%[base],%[index],2) -4@beside+4(%%rip) 8@%[text] 1@%h[high] 4@%[u] -8@%[d]" \
            " 4@8(%[none]) 1@-1(%[end]) 8f@%%xmm0"
#define FIRE(WHERE, CONSTANT) \
    asm volatile(NOTE("values", "0", ALL) :: [a] WHERE(a), [b] "m"(b), [c] "i"(CONSTANT), [base] "r"(shorts), \
        [index] "r"(i % 4), [text] "r"(text), [high] "Q"((int)(high << 8)), [u] WHERE(u), [d] "r"(d), \
        [none] "r"(0L), [end] "r"(text + 1)); \
    print(out, CONSTANT, a, b, shorts[i % 4], text, high, u, d)
short shorts[4] = {-1, 2, -30000, 30000};
int beside[2] = {1, 4711};
unsigned short guarded_semaphore __attribute__((section(".probes"), used));
static void print(FILE *out, int c, int a, long b, short s, const char *text, unsigned char high, unsigned u, long d) {
    fprintf(out, "%d %ld %d %d %d %s %d %u %ld %d\n", a, b, c, s, beside[1], text, high, u, d, text[0]);
}
static inline __attribute__((always_inline)) void guarded(long i) {
    if (__builtin_expect(*(volatile unsigned short *)&guarded_semaphore, 0))
        asm volatile(NOTE("guarded", "guarded_semaphore", "8@%0") :: "nor"(i));
}
KEEP void first(FILE *out, long i, int a, long b, const char *text, unsigned char high, unsigned u, long d) {
    FIRE("r", -5);
    guarded(i);
}
KEEP void second(FILE *out, long i, int a, long b, const char *text, unsigned char high, unsigned u, long d) {
    FIRE("m", 7);
    guarded(-i);
}
void on_signal(int number) {}
int main(int argc, char **argv) {
    if (argc == 3) { /* say when ready, run when told so */
        signal(SIGUSR1, on_signal);
        pause();
    }
    FILE *out = fopen(argv[1], "w");
    for (long i = 0; i < CALLS; i++) {
        (i % 3 ? first : second)(out, i, (int)-i, i << 40, i % 2 ? "odd" : "even", i, ~(unsigned)i, -(i << 33));
    }
    fclose(out);
    while (argc == 3 && *(volatile unsigned short *)&guarded_semaphore) usleep(1000);
    return *(volatile unsigned short *)&guarded_semaphore;
}
"""
FIELDS = "a=arg0,b=arg1,c=arg2,s=arg3,beside=arg4,text:str=arg5,high=arg6,u=arg7,d=arg8,character=arg10"
COLUMNS = 'a, b, c, s, beside, "text", high, u, d, "character"'


@pytest.fixture(scope="module", params=("-fPIE -pie", "-no-pie"))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("cc") is not None and platform.machine() == "x86_64", "there is no C compiler for x86-64")
    need(Path("/sys/bus/event_source/devices/uprobe/type").exists(), "the kernel has no uprobes")
    folder = tmp_path_factory.mktemp("usdt")
    (folder / "noted.c").write_text(SOURCE)
    options = ["-O2", "-w", f"-DCALLS={CALLS}", *request.param.split()]
    subprocess.run(["cc", *options, "-o", folder / "noted", folder / "noted.c"], check=True)
    return folder / "noted"


def printed(path: Path) -> list[tuple[int | str, ...]]:
    return [
        tuple(word if word in ("odd", "even") else int(word) for word in line.split())
        for line in path.read_text().splitlines()
    ]


def test_every_value_at_every_site(program: Path, tmp_path: Path) -> None:
    probe = f"usdt:{program}:demo:values({FIELDS},none=arg9,low:u8=arg0,more=arg0+1000,again:s16=*(arg5-0))"
    outcome = record_to(tmp_path / "x.parquet", program, tmp_path / "out", events=(probe,), buffer_bytes=4 << 20)
    assert outcome.lost == 0 and all(line.residue == 0 for line in outcome.ledger)
    recorded = Recorded(outcome.path)
    expected = printed(tmp_path / "out")
    assert len(expected) == CALLS and {row[2] for row in expected} == {-5, 7}
    assert recorded.rows(f"SELECT {COLUMNS} FROM demo_values ORDER BY seq") == expected
    odd, even = (int.from_bytes(word, "little") for word in (b"od", b"ev"))
    assert recorded.rows('SELECT "none", "low", "more", "again" FROM demo_values ORDER BY seq') == [
        (None, row[0] % 256, row[0] + 1000, odd if row[5] == "odd" else even) for row in expected
    ]


def test_a_semaphore_is_raised_where_somebody_waits_for_it(program: Path, tmp_path: Path) -> None:
    """In a process that runs already, at both inlined places; and it is 0 again when the recording is over."""
    assert subprocess.run([program, tmp_path / "out"], check=False).returncode == 0  # nobody listens
    process = subprocess.Popen([program, tmp_path / "out", "wait"])
    try:
        wake = ["sh", "-c", f"kill -USR1 {process.pid}; while [ ! -s {tmp_path}/out ]; do sleep 0.01; done"]
        (tmp_path / "out").unlink()
        assert eventually(lambda: "State:\tS" in Path(f"/proc/{process.pid}/status").read_text())
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
