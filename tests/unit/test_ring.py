"""Ring memory without a kernel: what is copied, in which order memory is touched, what is refused."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from tracectl.recorder import ring
from tracectl.recorder.bpf import parse_cpu_list
from tracectl.recorder.ring import PerfRing, RingMemory

PAGE = 4096


class FakeKernel:
    """The writer's side of a ring in ordinary memory, filled with a running byte pattern."""

    def __init__(self, pages: int) -> None:
        self.memory = np.zeros((pages + 1) * PAGE, np.uint8)
        self.control = self.memory[:PAGE].view(np.uint64)
        self.data = self.memory[PAGE:]
        self.ring = RingMemory(self.memory.ctypes.data, pages, PAGE)
        self.written = 0

    @property
    def tail(self) -> int:
        return int(self.control[1032 // 8])

    def start_at(self, position: int) -> None:
        self.control[[1024 // 8, 1032 // 8]] = self.written = position

    def write(self, length: int) -> bytes:
        pattern = ((np.arange(length) + self.written % 251) % 251).astype(np.uint8)
        self.data[(np.arange(length) + self.written % len(self.data)) % len(self.data)] = pattern
        self.written = (self.written + length) % 2**64
        self.control[1024 // 8] = self.written
        return pattern.tobytes()


def test_empty_ring_gives_nothing() -> None:
    assert FakeKernel(2).ring.take() is None


@pytest.mark.parametrize("start", [0, PAGE - 8, 2 * PAGE - 8, 5 * PAGE + 16, 2**64 - 16])
@pytest.mark.parametrize("length", [8, 4000, 2 * PAGE])
def test_take_copies_all_and_gives_the_room_back(start: int, length: int) -> None:
    kernel = FakeKernel(2)
    kernel.start_at(start)
    expected = kernel.write(length)
    region = kernel.ring.take()
    assert region is not None
    assert region.tobytes() == expected
    assert kernel.tail == kernel.written
    assert kernel.ring.take() is None


def test_region_is_a_copy_fit_for_words() -> None:
    kernel = FakeKernel(1)
    kernel.write(64)
    region = kernel.ring.take()
    assert region is not None
    before = region.tobytes()
    kernel.data[:] = 0xFF
    assert region.tobytes() == before
    assert region.flags.c_contiguous
    assert region.ctypes.data % 8 == 0


def test_barriers_stand_between_head_and_data_and_between_data_and_tail() -> None:
    kernel = FakeKernel(1)
    kernel.write(64)
    tails: list[int] = []

    def barrier() -> None:
        tails.append(kernel.tail)
        # What the kernel finishes only now belongs to the next region; what it wrote before must still be copied.
        kernel.data[:64] = len(tails)

    kernel.ring._barrier = barrier
    region = kernel.ring.take()
    assert region is not None
    assert tails == [0, 0], "two barriers, both before the tail moves"
    assert set(region.tolist()) == {1}, "the copy is made after the first barrier and before the second"
    assert kernel.tail == 64


def test_barrier_is_a_release_then_an_acquire() -> None:
    barrier = ring.Barrier()
    steps: list[str] = []

    class Lock:
        def release(self) -> None:
            steps.append("release")

        def acquire(self) -> None:
            steps.append("acquire")

    assert barrier._lock.locked()
    barrier()
    assert barrier._lock.locked(), "or the next one could not release it"
    barrier._lock = Lock()  # type: ignore[assignment]
    barrier()
    assert steps == ["release", "acquire"]


def test_each_ring_has_a_barrier_of_its_own() -> None:
    rings = [FakeKernel(1) for _ in range(4)]
    failures: list[BaseException] = []

    def drain(kernel: FakeKernel) -> None:
        try:
            for _ in range(500):
                expected = kernel.write(24)
                region = kernel.ring.take()
                assert region is not None
                assert region.tobytes() == expected
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=drain, args=(kernel,)) for kernel in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("pages", [0, -8, 3, 12])
def test_pages_must_be_a_power_of_two(pages: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        PerfRing(0, pages, -1)
    with pytest.raises(ValueError, match="power of two"):
        RingMemory(0, pages)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "refuses perf events"),
        (errno.EMFILE, "too many open files"),
        (errno.ENOMEM, "no memory for a ring of 36 KiB for CPU 5"),
        (errno.ENODEV, "CPU 5 is offline"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_refusals_say_what_and_what_to_do(code: int, words: str) -> None:
    error = ring._refusal(OSError(code, os.strerror(code)), 5, 36864)
    assert words in error.problem
    assert error.remedy
    assert error.exit_code == 2


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert parse_cpu_list("0\n") == [0]
    assert parse_cpu_list("\n") == []
