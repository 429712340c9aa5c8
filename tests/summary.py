"""What the tests say at their end of faults and of bad input, in whichever process they ran; `make soak` keeps it."""

import os
import platform
import shlex
import sys
from collections import Counter
from datetime import date
from pathlib import Path

PAGES = Path(__file__).resolve().parents[1] / "results" / "faults"
LEARNER = "tests/notebooks/test_learner.py::test_"
OUTCOMES = ("refused", "read", "failed")


def lines(reports: list) -> list[str]:
    """A line on each kind of fault that was tried."""
    kills, bad, found = _recorded(reports, "kill"), [count for _, count in _recorded(reports, "bad input")], []
    if kills:
        tried = ", ".join(f"{count} x {what}" for what, count in Counter(what for _, what in kills).items())
        lost = sum(report.outcome != "passed" for report, _ in kills)
        found.append(f"killed at random moments: {tried}; {len(kills) - lost} went on to the same end, {lost} did not")
    if bad:
        refused, read, failed = (sum(count[outcome] for count in bad) for outcome in OUTCOMES)
        files = f"{refused + read + failed:,} files of {len(bad)} kinds"
        found.append(f"bad input: {files}: {refused:,} refused in one line, {read:,} read, {failed:,} else")
    if stopped := _recorded(reports, "stopped"):
        found.append(f"stopped: {sum(count for _, count in stopped)} cells of {len(stopped)} notebooks")
    return found


def keep(reports: list, seconds: float) -> None:
    """Writes the page of what ran, the faults or the notebooks, below the prose at its head. If other tests ran too, or
    only they, it writes nothing."""
    import torch  # not where the tests begin, which need not wait for it

    ran = [report for report in reports if report.when == "call" or report.outcome != "passed"]
    if ran and all(report.nodeid.startswith("tests/faults/") for report in ran):
        page, kinds = PAGES / "README.md", [f"`{report.nodeid.partition('::')[0]}`" for report in ran]
    elif ran and all(report.nodeid.startswith(LEARNER) for report in ran):
        names = [report.nodeid.removeprefix(LEARNER).replace("_", " ").partition("[") for report in ran]
        page, kinds = PAGES / "notebooks.md", [f"{test} {of.partition('-')[0].rstrip(']')}" for test, _, of in names]
    else:
        return
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    command = f"`{shlex.join(['pytest', *sys.argv[1:]])}`, {date.today()}"
    count = Counter(zip(kinds, (report.outcome for report in ran), strict=True))
    rows = [f"| {kind.strip()} | {number} | {outcome} |" for (kind, outcome), number in sorted(count.items())]
    bad = sorted((count for _, count in _recorded(reports, "bad input")), key=lambda count: count["kind"])
    if bad:
        rows += ["", "| damaged files | refused in one line | read | else |", "| --- | --- | --- | --- |"]
        rows += [f"| {' | '.join(str(count[name]) for name in ('kind', *OUTCOMES))} |" for count in bad]
    how = f"{command}; {machine}, torch {torch.__version__}; {seconds / 60:.0f} minutes."
    listed = "\n".join(
        ["", *(f"- {line}" for line in lines(reports)), "", "| tests | | |", "| --- | --- | --- |", *rows]
    )
    page.write_text(f"{page.read_text().partition('`pytest')[0]}{how}\n{listed}\n")


def _recorded(reports: list, name: str) -> list[tuple]:
    """What tests have recorded under a name, with the report of each; once, because a report comes in three parts."""
    called = [report for report in reports if report.when == "call"]
    return [(report, found) for report in called for key, found in report.user_properties if key == name]
