"""``--profile``: every stage is there, once, and the answer is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracectl.profiling import STAGES, Profile

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.parquet"


def test_each_stage_is_named_on_stderr_and_the_answer_is_the_same(run: Any) -> None:
    plain = run("query", SAMPLE, "delays of comm demo:pong | p99 dur")
    profiled = run("query", "--profile", SAMPLE, "delays of comm demo:pong | p99 dur")
    assert profiled.code == 0 and profiled.out == plain.out
    lines = profiled.err.splitlines()
    start = lines.index("stage    wall ms    cpu ms")
    assert [line.split()[0] for line in lines[start + 1 :]] == [*STAGES, "all"]


def test_stages_add_up() -> None:
    profile = Profile()
    for stage in ("open", "plan", "look", "plan"):
        profile.done(stage)
    assert profile.spent["plan"][0] > 0 and profile.spent["render"] == (0.0, 0.0)
    whole = float(profile.table().splitlines()[-1].split()[1])
    assert abs(whole - sum(wall for wall, _ in profile.spent.values()) * 1e3) < 0.1
