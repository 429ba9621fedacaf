"""Kernel headers that are wrong change nothing; a kernel without BTF is said to be the trouble, with what to do."""

from __future__ import annotations

from collections.abc import Callable

from tests.vm.conftest import Files
from tests.vm.test_recording import voluntary_switches

Scenario = Callable[[str], Files]


def test_headers_of_another_kernel_are_not_used(scenario: Scenario) -> None:
    files = scenario("messages")
    assert files.json("said")["wrong_headers"][0] == 0
    truth = files.json("truth")
    # Had the layout of task_struct come from these headers, threads and counts would be wrong and nothing would say so.
    counted = voluntary_switches(files.capture("mismatch"), truth)
    assert counted == {name: thread["voluntary"] for name, thread in truth.items()}


def test_record_without_btf_says_so_and_what_to_do(scenario: Scenario) -> None:
    said = scenario("messages").json("said")
    code, out, error = said["no_btf_record"]
    assert (code, out) == (2, "")
    problem, remedy = error.splitlines()
    assert problem.startswith("tracectl: the kernel's type information cannot be read: /sys/kernel/btf/vmlinux")
    assert "CONFIG_DEBUG_INFO_BTF=y" in remedy
    assert [name for name in said["files"] if name.startswith("never")] == []


def test_doctor_without_btf(scenario: Scenario) -> None:
    code, out, _ = scenario("messages").json("said")["no_btf_doctor"]
    assert code == 2
    lines = out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("missing")]
    assert lines[at].split()[1] == "BTF"
    assert "CONFIG_DEBUG_INFO_BTF=y" in lines[at + 1]
    assert lines[-1] == "live recording: no"
