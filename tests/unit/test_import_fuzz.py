"""Damaged texts: every one becomes a capture or an error for people, and no line disappears."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.query import ask
from tracectl.recorder.import_session import ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, TracectlError

SEED = b"""# tracer: nop
# entries-in-buffer/entries-written: 3/5   #P:2
          <idle>-0       (-----) [000] d.s2.  12.000345: sched_waking: comm=a b pid=7 prio=120 target_cpu=000
          <idle>-0       [000] dNh2.  12.000346: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 \
prev_state=R ==> next_comm=a b next_pid=7 next_prio=120
CPU:1 [LOST 30 EVENTS]
 perf  8372/8372 [001]  12.000347123:  1 sched:sched_stat_runtime: comm=perf pid=8372 runtime=55172 [ns]
\tffffffff810b1234 net_rx_action+0x1c ([kernel.kallsyms])

 perf  8372/8372 [001]  12.000347125:  1 cycles:u:
\t    7f12ab34 operator()(int) const+0x1 (/x (deleted))
\tno frame

 perf  8372/8372 [001]  12.000347126:  1 cpu-clock:  ffffffff810b1234 [unknown] ([kernel.kallsyms])
   k:0-46    [002]  12.000348: sched_switch:   k:0:46 [120] W ==> sh:1642 [120]
 a-7 [000] ..s.. 12.000349: softirq_entry: vec=3 [action=NET_RX]\\n\\
 a-7 [000] .... 12.000350: sys_close(fd: 3)
 a-7 [000] .... 12.000351: sys_close -> 0x0
 :-1 -1 [000] 12.000352: PERF_RECORD_LOST lost 3
 a-7 [000] .... 12.000353: tracing_mark_write: B|7|x\r
 a-7 [000] 12.000354: funcgraph_entry:                   |  f() {
 a-7 [000] 12.000355: funcgraph_entry:        7.076 us   |    g();
 a-7 [000] 12.000356: funcgraph_exit:       + 11.065 us  |  }
"""
LINES = SEED.splitlines(keepends=True)
PIECES = st.one_of(
    st.sampled_from(LINES),
    st.binary(max_size=40),
    st.text(' :.=[]()-\t\n\r\\"0123456789#_aez|', max_size=40).map(str.encode),
    st.builds(
        lambda line, at, n: line[:at] + line[at + n :], st.sampled_from(LINES), st.integers(0, 99), st.integers(1, 9)
    ),
    st.builds(lambda line, at: line[:at], st.sampled_from(LINES), st.integers(0, 120)),
    st.builds(
        lambda line, at, junk: line[:at] + junk + line[at:],
        st.sampled_from(LINES),
        st.integers(0, 120),
        st.one_of(
            st.binary(max_size=9), st.sampled_from([b"9" * 30, b"=", b" prev_pid=", b": ", b"[000]", b"1.000000: "])
        ),
    ),
)
TEXTS = st.lists(PIECES, max_size=15).map(b"".join)


def imported(data: bytes, folder: Path) -> Capture | None:
    """The capture; None where the file was refused in words."""
    source = folder / "a\x1b[31m; rm 'x' $(y) \"é.txt"
    source.write_bytes(data)
    try:
        import_traces(ImportOptions((str(source),), folder / "out.parquet", force=True))
    except TracectlError as error:
        assert error.problem
        return None
    finally:
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    return Capture.open(folder / "out.parquet")


@settings(max_examples=150)
@given(TEXTS)
def test_damaged_texts(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        capture = imported(data, Path(folder))
        if capture is None:
            return
        events = ask(capture, "events | count").rows()[0][0]
        for noun in ("switches", "delays", "runs", "softirqs", "wakeups", "tasks"):
            try:
                ask(capture, f"{noun} | limit 5").rows()
            except NotRecordedError as error:
                assert error.problem
        assert 0 < events <= data.count(b"\n") + data.count(b"\r") + 1


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([line for line in LINES if b"-" in line and b": " in line]), min_size=1, max_size=8), TEXTS
)
def test_whole_lines_beside_damaged_ones_are_still_read(good: list[bytes], junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        alone = imported(b"".join(good), Path(folder))
        mixed = imported(b"".join(good) + b"\n" + junk, Path(folder))
        if alone is not None:
            assert mixed is not None
            count = ask(alone, "events | count").rows()[0][0] if alone.kinds else 0
            assert ask(mixed, "events | count").rows()[0][0] >= count


def test_one_endless_line_takes_bounded_memory(tmp_path: Path) -> None:
    source = tmp_path / "endless"
    with source.open("wb") as file:
        file.write(LINES[2])
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = import_traces(ImportOptions((str(source),), tmp_path / "out.parquet"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10
    assert (dict(outcome.totals.events), outcome.totals.unparsed) == ({"sched_waking": 1}, 1)
