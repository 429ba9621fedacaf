"""BCC's offwaketime at the same time as a recording with stacks: the same time for each pair of stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.vm.conftest import Files

TOP = 10
KNOWN = ("waits", "swapper/")
Pair = tuple[str, ...]


def _pairs(text: str, *, whole: bool) -> Counter[Pair]:
    """(stack of the sleeper, stack of its waker) -> microseconds, from folded lines with delimiters.

    Where the two tools put their probes is cut off: the sleeper's kernel stack from __schedule inwards, the waker's
    from try_to_wake_up. BCC's tool leaves out the innermost function of each stack; ``whole``: ours, which does not.
    """
    found: Counter[Pair] = Counter()
    for line in text.splitlines():
        frames, _, us = line.rpartition(" ")
        sleeper, _, waker = frames.partition(";--;")
        comm, *outwards = sleeper.split(";")
        user, kernel = _parted(outwards)
        waker_kernel, waker_user = _parted(waker.split(";")[:-1], kernel_first=True)
        if whole:
            user, waker_user = user[:-1], waker_user[1:]
        if "__schedule" in kernel:
            kernel = kernel[: kernel.index("__schedule")]
        if "try_to_wake_up" in waker_kernel:
            waker_kernel = waker_kernel[waker_kernel.index("try_to_wake_up") + 1 :]
        found[comm, *user, "-", *kernel, "--", *waker_kernel, "-", *waker_user, waker.split(";")[-1]] += int(us)
    return found


def _parted(frames: list[str], *, kernel_first: bool = False) -> tuple[list[str], list[str]]:
    """The parts before and after the delimiter; without one there is a kernel part only."""
    if "-" not in frames:
        return (frames, []) if kernel_first else ([], frames)
    at = frames.index("-")
    return frames[:at], frames[at + 1 :]


def _kernel_part(pair: Pair) -> Pair:
    """Without the stacks in user space."""
    kernel = pair[pair.index("-") :]
    last = len(kernel) - kernel[::-1].index("-")
    return (pair[0], *kernel[:last], pair[-1])


def _alike(theirs: Counter[Pair], ours: Counter[Pair]) -> list[Counter[Pair]]:
    """Both, with pairs taken together of which BCC's tool missed a stack in user space.

    Its table keeps no two stacks of one hash (error 17); ours has them.
    """
    missed = {_kernel_part(pair) for pair in theirs if any("[Missed User Stack]" in frame for frame in pair)}
    made = []
    for tool in (theirs, ours):
        together: Counter[Pair] = Counter()
        for pair, us in tool.items():
            kernel = _kernel_part(pair)
            together[kernel if kernel in missed else pair] += us
        made.append(together)
    return made


def test_pairs_with_a_stack_that_bcc_missed_are_compared_by_the_others() -> None:
    theirs = _pairs(
        "a;main;-;entry;__schedule;--;wake;-;f;b 5\na;[Missed User Stack] -17;-;entry;--;wake;-;f;b 7", whole=False
    )
    ours = _pairs("a;main;x;-;entry;--;wake;-;x;f;b 5\na;other;x;-;entry;--;wake;-;x;f;b 7", whole=True)
    assert theirs != ours
    first, second = _alike(theirs, ours)
    assert first == second == {("a", "-", "entry", "--", "wake", "-", "b"): 12}


def test_blocked_time_of_each_pair_of_stacks_is_offwaketimes(scenario: Callable[[str], Files]) -> None:
    files = scenario("offwake")
    assert {(line.lost, line.residue) for line in files.capture("ours").capture.ledger()} == {(0, 0)}
    theirs, ours = _pairs(files.text("theirs.txt"), whole=False), _pairs(files.text("ours.txt"), whole=True)
    assert abs(ours.total() - theirs.total()) <= 0.02 * theirs.total()
    # A timer's waker is whoever was current. Where that is a program without symbols the tools name its functions each
    # in its own way; the workload's own threads and the idle ones are left, which are most of the time.
    both = _alike(theirs, ours)
    named = [{pair: us for pair, us in tool.items() if pair[-1].startswith(KNOWN)} for tool in both]
    near = 0.02 * theirs.total()
    assert sum(named[0].values()) > 0.5 * theirs.total()
    for pair in {pair for tool in named for pair, _ in Counter(tool).most_common(TOP)}:
        assert abs(named[0].get(pair, 0) - named[1].get(pair, 0)) <= near, pair
    longest = [{pair for pair, us in tool.items() if us > 2 * near} for tool in named]
    assert len(longest[0] | longest[1]) >= 4
    assert all(pair in named[0] and pair in named[1] for pair in longest[0] | longest[1])
