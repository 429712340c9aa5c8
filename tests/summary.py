"""What the tests say at their end of faults and of bad input, in whichever process they ran; `make soak` keeps it."""

import os
import platform
import shlex
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import torch

PAGES = Path(__file__).resolve().parents[1] / "results" / "faults"
FAULTS = """# Faults, recorded

What `make soak` wrote the last time it ran: faults with many more kills and damaged files than in `make test`, of these
the tests that are named below. How the notebooks stand a learner is on [a page of its own](notebooks.md). What is
promised, and what is not, says [docs/trust.md](../../docs/trust.md).
"""
NOTEBOOKS = """# Notebooks as a learner uses them, recorded

What `make soak` wrote the last time it ran: of each notebook every section and exercise in a fresh kernel, after the
first code cell and what its title says that it needs; and the whole notebook with each cell stopped that takes longer
than a moment, run again, and the notebook run from the top once more. What is promised, and what is not, says
[docs/trust.md](../../docs/trust.md).
"""


def lines(reports: list) -> list[str]:
    """A line on each kind of fault that was tried."""
    return [*_of_kills(reports), *_of_bad_input(reports)]


def keep(reports: list, seconds: float) -> None:
    """Writes the page of what ran: faults, or the notebooks."""
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    how = f"`{shlex.join(['pytest', *sys.argv[1:]])}`, {date.today()}; {machine}; {seconds / 60:.0f} minutes."
    ran = [report for report in reports if report.when == "call" or report.outcome != "passed"]
    are_faults = any(report.nodeid.startswith("tests/faults/") for report in ran)
    head, parts = (FAULTS, _faults(reports, ran)) if are_faults else (NOTEBOOKS, _notebooks(reports, ran))
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / ("README.md" if are_faults else "notebooks.md")).write_text("\n".join([head, how, "", *parts, ""]))


def _faults(reports: list, ran: list) -> list[str]:
    count = Counter((report.nodeid.partition("::")[0], report.outcome) for report in ran)
    tests = [f"| `{file}` | {number} | {outcome} |" for (file, outcome), number in sorted(count.items())]
    kills = []
    for report, (what, seconds, state) in sorted(_told(reports, "kill"), key=lambda told: told[1][:2]):
        end = "ended as if it had not been" if report.outcome == "passed" else "**did not end as it should**"
        kills.append(f"| {what} | {seconds:.2f} s | {state} | {end} |")
    bad = [
        f"| {count['kind']} | {count['refused']} | {count['read']} | {count['failed']} |"
        for count in sorted((count for _, count in _told(reports, "bad input")), key=lambda count: count["kind"])
    ]
    return [
        *(f"- {line}" for line in lines(reports)),
        *["", "| tests | | |", "| --- | --- | --- |", *tests],
        *["", "## Kills", "", "| what | after | killed | and then |", "| --- | --- | --- | --- |", *kills],
        *["", "## Bad files", "", "| kind | refused in one line | read | else |", "| --- | --- | --- | --- |", *bad],
    ]


def _notebooks(reports: list, ran: list) -> list[str]:
    """A row for each notebook and each test of it, by the parameters in its name, as test[02_toy_mixture-5]."""
    count: dict[tuple[str, str], Counter] = {}
    for report in ran:
        test, _, of = report.nodeid.rpartition("::")[2].partition("[")
        row = of.rstrip("]").partition("-")[0] or "of them all", test.removeprefix("test_").replace("_", " ")
        count.setdefault(row, Counter())[report.outcome] += 1
    stopped = {notebook: number for _, (notebook, number) in _told(reports, "stopped")}
    rows = []
    for (notebook, test), outcomes in sorted(count.items()):
        cells = f", {stopped[notebook]} cells stopped" if notebook in stopped and "stopped wherever" in test else ""
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        rows.append(f"| {notebook} | {test}{cells} | {said} |")
    return ["| notebook | tests | |", "| --- | --- | --- |", *rows]


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
