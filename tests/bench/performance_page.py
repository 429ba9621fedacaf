"""The table in docs/performance.md, from the figures of the recorder's benchmark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- generated: make bench -->", "<!-- end of generated part -->"
TOOLS = ("none", "tracectl", "perf", "bpftrace", "tracefs", "bcc")


def write_page(found: dict[str, Any]) -> None:
    """Put the figures between the page's two marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{page(found)}\n{END}{after}", encoding="utf-8")


def page(found: dict[str, Any]) -> str:
    """The generated part."""
    machine, storm, large = found["machine"], found["storm"], found["large"]
    lines = [
        f"Linux {machine['kernel']}, {machine['cpus']} CPUs, load {machine['load']:.1f} at the begin from other work; "
        f"medians of {found['rounds']} rounds, each tool in each round.",
        "",
        f"Two `dd bs=1`, {storm['tracectl']['events']:,.0f} system calls:",
        "",
        "| recorder | lost (worst round) | CPU ns / recorded event | to tracectl | run time to none | bytes / event |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ours = storm["tracectl"]["cpu_ns_per_event"]
    for name in TOOLS:
        own = storm[name]
        if name == "none":
            lines.append("| none | | | | 1.00 | |")
            continue
        size = f"{own['bytes_per_event']:.1f}" if own["bytes"] else ""
        cost = own["cpu_ns_per_event"]  # 0: less than what stopping the tool varies by
        shown = f"{cost:,.0f} | {cost / ours:.1f} ×" if cost else "too little to measure | "
        lines.append(
            f"| {name} | {own['lost']:.1%} ({own['worst_lost']:.1%}) | {shown} | {own['slowdown']:.2f} | {size} |"
        )
    reading = storm["tracectl"]["reading_ns_per_event"]
    sched = {tool: f"{size:.1f}" for tool, size in found["answers"][0]["bytes"].items()}
    lines += [
        "",
        "| what | tracectl | perf |",
        "| --- | --- | --- |",
        f"| highest rate without loss, calls a second | {_lossless(found, 'tracectl')} | {_lossless(found, 'perf')} |",
        f"| CPU ns per event of emptying the rings alone | {reading:.0f} | |",
        f"| bytes per scheduler event | {sched['tracectl']} | {sched.get('perf', '')} |",
        f"| memory of both processes in a storm of {large['events']:,} events (PSS; RSS) | "
        f"{large['pss_mib']:.0f} MiB; {large['rss_mib']:.0f} MiB | |",
        f"| from the stop to the capture, to the first answer | {large['stop_seconds']:.1f} s, "
        f"{large['stop_seconds'] + large['query_seconds']:.1f} s | |",
        *_answers(found["answers"]),
    ]
    return "\n".join(lines)


def _answers(found: list[dict[str, Any]]) -> list[str]:
    """Time to the answer; the process's start is in it."""
    kept = ", ".join(f"{one['samples']:,} of {one['events']:,}" for one in found if one["samples"])
    lines = [
        "",
        "Scheduler events of two tasks that wake each other; seconds until the answer was printed, a tool's start and "
        f"the loading of its file included{f' (perf kept {kept} events)' if kept else ''}:",
        "",
        "| question | tool | seconds | to tracectl |",
        "| --- | --- | --- | --- |",
    ]
    for question, tools in ((question, tools) for one in found for question, tools in one["seconds"].items()):
        ours = tools["tracectl"]
        for tool, took in tools.items():
            if isinstance(took, str):
                lines.append(f"| {question} | {tool} | {took} | |")
            else:
                ratio = f"{took / ours:.1f} ×" if isinstance(ours, float) else ""
                lines.append(f"| {question} | {tool} | {took:.1f} | {ratio} |")
    return lines


def _lossless(found: dict[str, Any], tool: str) -> str:
    """The highest rate of ramp and storm at which nothing was lost."""
    storm = found["storm"][tool]
    kept = [step["rate"] for step in found["ramp"][tool] if step["lost"] == 0]
    if storm["worst_lost"] == 0:
        kept.append(storm["rate"])
    lowest = min(step["rate"] for step in found["ramp"][tool])
    return f"{max(kept):,.0f}" if kept else f"below {lowest:,.0f}"


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text()))
