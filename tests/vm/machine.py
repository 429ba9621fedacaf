"""One boot of a guest under QEMU without KVM: what goes in, what comes out, and what is shown when it fails."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import GUEST, ROOT, Image, disk

_RESULTS_SPACE = 512 << 20
_BOOT_S = 60  # beside the scenarios' own limits; a boot takes about 10 s
# thread=single: several threads of emulation make the guest hang or crash while the kernel patches itself (QEMU < 8.1).
_QEMU = (
    "qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=1024", "-cpu", "max", "-smp", "2", "-m", "3G",
    "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
)  # fmt: skip
# clearcpuid=141: no cmpxchg16b (CX16) in the kernel. QEMU < 8 takes the flags after it from a stale state; impossible
# ones are restored later; Linux 6.12 has it in every allocation of memory, and crashed in four boots of four.
# hpet: under load the kernel takes the TSC for slower than it is; its clock went eight times too fast.
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check random.trust_cpu=1"
    " clearcpuid=141 clocksource=hpet"
)


@dataclass(frozen=True)
class Scenario:
    """What a guest runs: ``guest/NAME.py``, ended after so many seconds."""

    name: str
    seconds: int


@dataclass(frozen=True)
class Results:
    """What came back from a guest."""

    folder: Path

    @property
    def verdict(self) -> str | None:
        """The guest's kernel release when it ran to its end; else None."""
        file = self.folder / "results" / "verdict"
        return file.read_text().strip() if file.exists() else None

    def of(self, name: str) -> Path:
        """The files of a scenario that ended well; AssertionError with its log otherwise."""
        folder = self.folder / "results" / name
        ended = (folder / "rc").read_text().strip() if (folder / "rc").exists() else None
        if ended == "0":
            return folder
        how = {None: "did not end", "124": "was ended by its time limit"}.get(ended, f"ended with {ended}")
        raise AssertionError(f"{name} {how} in the guest\n{self.story(name)}")

    def story(self, name: str | None = None) -> str:
        """The ends of the console and of a scenario's log, for people."""
        parts = [("console", self.folder / "console.log", 40)]
        if name:
            parts.append((f"log of {name}", self.folder / "results" / name / "log", 80))
        return "\n".join(f"--- {title}\n{_tail(path, lines)}" for title, path, lines in parts)


def boot(image: Image, scenarios: Sequence[Scenario], folder: Path, programs: Sequence[Path] = ()) -> Results:
    """Run scenarios in a guest; a second time when the first left no verdict, which emulation may be blamed for.

    Args:
        folder: made anew: the exchange disk, the console, and afterwards ``results``.
        programs: executables that the guest finds in ``/mnt/out/programs``.
    """
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        results = _boot(image, scenarios, folder, programs)
        if results.verdict is not None:
            break
    return results


def _boot(image: Image, scenarios: Sequence[Scenario], folder: Path, programs: Sequence[Path]) -> Results:
    content, exchange, log = folder / "content", folder / "exchange.ext4", folder / "host.log"
    _fill(content, scenarios, programs)
    disk(content, exchange, log, _RESULTS_SPACE)
    shutil.rmtree(content)
    command = [
        *_QEMU, "-serial", f"file:{folder / 'console.log'}",
        "-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", _KERNEL_ARGUMENTS,
        "-drive", f"file={image.root},format=raw,if=virtio,readonly=on,cache=unsafe",
        "-drive", f"file={exchange},format=raw,if=virtio,cache=unsafe",
    ]  # fmt: skip
    limit = _BOOT_S + sum(scenario.seconds for scenario in scenarios)
    with log.open("ab") as output:
        try:  # its exit code says nothing: it is 0 even when the guest's kernel panics
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, timeout=limit)
        except subprocess.TimeoutExpired:  # run() has killed it
            output.write(f"\nQEMU was ended after {limit} s\n".encode())
        subprocess.run(
            ["debugfs", "-R", f"rdump /results {folder}", str(exchange)],
            stdout=output, stderr=output, check=True, timeout=60,
        )  # fmt: skip
    exchange.unlink()
    return Results(folder)


def _fill(content: Path, scenarios: Sequence[Scenario], programs: Sequence[Path]) -> None:
    """The exchange disk: tracectl as it is installed, the scenarios, what they need."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tracectl", content / "code" / "tracectl", ignore=ignore)
    shutil.copytree(GUEST, content / "guest", ignore=ignore)
    (content / "programs").mkdir()
    for program in programs:
        shutil.copy(program, content / "programs")
    (content / "scenarios").write_text("".join(f"{s.name} {s.seconds}\n" for s in scenarios))
    (content / "results").mkdir()


def _tail(path: Path, lines: int) -> str:
    if not path.exists():
        return "(there is none)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
