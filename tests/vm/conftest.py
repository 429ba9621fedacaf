"""One boot of each guest per test run: every scenario runs in it, the tests look at what came back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Recorded
from tests.vm.image import GUEST, TARGETS, Target, Unavailable, image
from tests.vm.machine import Results, Scenario, boot

# Set it where the guests must work (CI): what cannot run then fails instead of being skipped.
REQUIRE_VM = "TRACECTL_REQUIRE_VM"
# A limit is for what hangs: on a quiet machine each takes a tenth of it.
SCENARIOS = (
    Scenario("recording", 400),
    Scenario("peers", 400),
    Scenario("offwake", 400),
    Scenario("herd", 300),
    Scenario("noted", 300),
    Scenario("late", 400),
    Scenario("hotplug", 200),
    Scenario("messages", 300),  # the last: it hides BTF and breaks the headers for the rest of the boot
)


def _programs(folder: Path) -> list[Path]:
    """Programs for the guest, without libraries: its C library may be older than this machine's."""
    options = ["-O1", "-fno-omit-frame-pointer", "-static", "-pthread", "-Wall", "-Werror"]
    for source in GUEST.glob("*.c"):
        subprocess.run(["gcc", *options, "-o", folder / source.stem, source], check=True)
    return sorted(folder.iterdir())


@pytest.fixture(scope="session", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """The distributions, one after the other."""
    return TARGETS[request.param]


@pytest.fixture(scope="session")
def guest(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What came back from a guest of this distribution after all scenarios."""
    try:
        disks = image(target)
    except Unavailable as error:
        if os.environ.get(REQUIRE_VM):
            pytest.fail(f"{REQUIRE_VM} is set, but there is no guest: {error}")
        pytest.skip(f"no guest: {error}")
    programs = _programs(tmp_path_factory.mktemp("programs"))
    results = boot(disks, SCENARIOS, tmp_path_factory.mktemp(target.name) / "guest", programs)
    assert results.verdict is not None, f"two boots, no verdict\n{results.story(SCENARIOS[-1].name)}"
    return results


class Files:
    """What a scenario left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def json(self, name: str) -> Any:
        """A value that the scenario kept."""
        return json.loads((self._folder / f"{name}.json").read_text())

    def capture(self, name: str) -> Recorded:
        """A capture made in the guest."""
        return Recorded(self._folder / f"{name}.parquet")

    def text(self, name: str) -> str:
        """A text file."""
        return (self._folder / name).read_text()


@pytest.fixture
def scenario(guest: Results) -> Callable[[str], Files]:
    """The files of a scenario; fails with its log when it did not end well."""
    return lambda name: Files(guest.of(name))
