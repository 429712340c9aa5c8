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


def lines(reports: list) -> list[str]:
    """A line on each kind of fault that was tried."""
    kills, bad = _recorded(reports, "kill"), [count for _, count in _recorded(reports, "bad input")]
    said = []
    if kills:
        tried = ", ".join(f"{count} x {what}" for what, count in Counter(what for _, (what, _, _) in kills).items())
        lost = sum(report.outcome != "passed" for report, _ in kills)
        said.append(f"killed at random moments: {tried}; {len(kills) - lost} went on to the same end, {lost} did not")
    if bad:
        refused, read, failed = (sum(count[outcome] for count in bad) for outcome in ("refused", "read", "failed"))
        said.append(
            f"bad input: {refused + read + failed:,} files of {len(bad)} kinds: {refused:,} refused in one line, "
            f"{read:,} read, {failed:,} else"
        )
    return said


def keep(reports: list, seconds: float) -> None:
    """Writes the page of what ran, faults or the notebooks, below the prose that stands at its head."""
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    how = f"`{shlex.join(['pytest', *sys.argv[1:]])}`, {date.today()}; {machine}; {seconds / 60:.0f} minutes."
    ran = [report for report in reports if report.when == "call" or report.outcome != "passed"]
    are_faults = any(report.nodeid.startswith("tests/faults/") for report in ran)
    page = PAGES / ("README.md" if are_faults else "notebooks.md")
    parts = _faults(reports, ran) if are_faults else _notebooks(reports, ran)
    head = page.read_text().partition("`pytest")[0] if page.is_file() else ""
    PAGES.mkdir(parents=True, exist_ok=True)
    page.write_text(head + "\n".join([how, "", *parts, ""]))


def _faults(reports: list, ran: list) -> list[str]:
    """Tests by their file, then each kill, then each kind of bad file."""
    count = Counter((report.nodeid.partition("::")[0], report.outcome) for report in ran)
    tests = [f"| `{file}` | {number} | {outcome} |" for (file, outcome), number in sorted(count.items())]
    kills = []
    for report, (what, after, state) in sorted(_recorded(reports, "kill"), key=lambda kill: kill[1][:2]):
        end = "ended as if it had not been" if report.outcome == "passed" else "**did not end as it should**"
        kills.append(f"| {what} | {after:.2f} s | {state} | {end} |")
    bad = sorted((count for _, count in _recorded(reports, "bad input")), key=lambda count: count["kind"])
    bad = [f"| {count['kind']} | {count['refused']} | {count['read']} | {count['failed']} |" for count in bad]
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
    stopped = {notebook: number for _, (notebook, number) in _recorded(reports, "stopped")}
    rows = []
    for (notebook, test), outcomes in sorted(count.items()):
        cells = f", {stopped[notebook]} cells stopped" if notebook in stopped and "stopped wherever" in test else ""
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        rows.append(f"| {notebook} | {test}{cells} | {said} |")
    return ["| notebook | tests | |", "| --- | --- | --- |", *rows]


def _recorded(reports: list, name: str) -> list[tuple]:
    """What tests have recorded under a name, with the report of each; once, for a report comes in three parts."""
    called = [report for report in reports if report.when == "call"]
    return [(report, found) for report in called for key, found in report.user_properties if key == name]
