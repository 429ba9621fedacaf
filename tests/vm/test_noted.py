"""USDT probes and PID namespaces in the stock kernels: what the program printed, and ids that mean the same thread."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.kernel.test_usdt import CALLS, COLUMNS, printed
from tests.vm.conftest import Files

Scenario = Callable[[str], Files]


def test_every_value_at_every_site(scenario: Scenario) -> None:
    files = scenario("noted")
    expected = printed(files.text("printed"))
    assert len(expected) == CALLS
    recorded = files.capture("values")
    assert recorded.rows(f"SELECT {COLUMNS} FROM demo_values ORDER BY seq") == expected
    assert recorded.rows("SELECT DISTINCT nothing FROM demo_values") == [(None,)]


def test_a_semaphore(scenario: Scenario) -> None:
    files = scenario("noted")
    rows = files.capture("guarded").rows('SELECT "probe", i FROM demo_gu ORDER BY seq')
    assert rows == [("demo:guarded", n if n % 3 else -n) for n in range(CALLS)]
    assert files.json("ends") == [0, 0, 0, 0]  # the third: the program saw its semaphore fall to 0


def test_ids_of_a_namespace(scenario: Scenario) -> None:
    files = scenario("noted")
    recorded = files.capture("inside")
    inner = files.json("inner")
    ((pid, comm),) = recorded.rows("SELECT tid, comm FROM capture WHERE kind = 'task' AND ns_tid = $n", n=inner)
    assert pid > files.json("ours") and comm == "python3"  # it was begun later
    assert recorded.capture.footer.filter == f"pid {pid}"
    assert recorded.rows("SELECT COUNT(*) > 20 FROM sched_switch WHERE tid = $pid", pid=pid) == [(True,)]
    stacks = recorded.rows(
        "SELECT DISTINCT s.folded FROM sched_switch w JOIN capture s ON s.stack_id = w.ustack WHERE w.tid = $pid",
        pid=pid,
    )
    # Its files were found: the C library's function where that has a name for it, else the library.
    assert any(re.search(r"nanosleep|\[libc", folded) for (folded,) in stacks)
