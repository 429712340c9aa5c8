"""What the tests say at their end of faults and of bad input, in whichever process they ran; `make soak` keeps it."""

import os
import platform
import shlex
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parents[1] / "results" / "faults" / "README.md"
HEAD = """# Faults, recorded

What `make soak` wrote the last time it ran: faults with many more kills and damaged files than in `make test`, and the
notebooks as a learner uses them; of these, the tests that are named below. What is promised, and what is not, says
[docs/trust.md](../../docs/trust.md).
"""


def lines(reports: list) -> list[str]:
    """A line on each kind of fault that was tried."""
    return [*_of_kills(reports), *_of_bad_input(reports)]


def keep(reports: list, seconds: float) -> None:
    """Writes the page."""
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    ran = Counter(
        (report.nodeid.partition("::")[0], report.outcome)
        for report in reports
        if report.when == "call" or report.outcome != "passed"
    )
    tests = ["| tests | | |", "| --- | --- | --- |"]
    tests += [f"| `{file}` | {number} | {outcome} |" for (file, outcome), number in sorted(ran.items())]
    kills = ["| what | after | killed | and then |", "| --- | --- | --- | --- |"]
    for report, (what, seconds_in, state) in sorted(_told(reports, "kill"), key=lambda told: told[1][:2]):
        end = "ended as if it had not been" if report.outcome == "passed" else "**did not end as it should**"
        kills.append(f"| {what} | {seconds_in:.2f} s | {state} | {end} |")
    bad = ["| kind | refused in one line | read | else |", "| --- | --- | --- | --- |"]
    for count in sorted((count for _, count in _told(reports, "bad input")), key=lambda count: count["kind"]):
        bad.append(f"| {count['kind']} | {count['refused']} | {count['read']} | {count['failed']} |")
    PAGE.parent.mkdir(exist_ok=True)
    how = f"`{shlex.join(['pytest', *sys.argv[1:]])}`, {date.today()}; {machine}; {seconds / 60:.0f} minutes."
    said = [f"- {line}" for line in lines(reports)]
    parts = [HEAD, how, "", *said, "", *tests, "", "## Kills", "", *kills, "", "## Bad files", "", *bad, ""]
    PAGE.write_text("\n".join(parts))


def _told(reports: list, name: str) -> list[tuple]:
    """What tests have recorded under a name, with the report of each; once, for a report comes in three parts."""
    called = [report for report in reports if report.when == "call"]
    return [(report, found) for report in called for told, found in report.user_properties if told == name]


def _of_kills(reports: list) -> list[str]:
    kills = _told(reports, "kill")
    if not kills:
        return []
    number = Counter(what for _, (what, _, _) in kills)
    lost = sum(report.outcome != "passed" for report, _ in kills)
    tried = ", ".join(f"{count} x {what}" for what, count in number.items())
    return [f"killed at random moments: {tried}; {len(kills) - lost} went on to the same end, {lost} did not"]


def _of_bad_input(reports: list) -> list[str]:
    counts = [count for _, count in _told(reports, "bad input")]
    if not counts:
        return []
    refused, read, failed = (sum(count[outcome] for count in counts) for outcome in ("refused", "read", "failed"))
    return [
        f"bad input: {refused + read + failed:,} files of {len(counts)} kinds: {refused:,} refused in one line, "
        f"{read:,} read, {failed:,} else"
    ]
