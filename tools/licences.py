"""Write docs/licences.md, the licences of what alikit runs on, from what is installed: `make licences`.

    python tools/licences.py

pip-licenses, in an environment of its own, reads what the installed packages state of themselves.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OURS = ("alikit", "pip")  # and what came with Python's venv
PAGE = """# Licences of what alikit runs on

Written by `make licences`: what the packages that `make test` and `make audit` install state of themselves, on {where}.
alikit's own licence is in [LICENSE](../LICENSE), those of data sets and of weights are in [data/](../data/README.md).

| package | version | wanted by | licence |
| --- | --- | --- | --- |
{rows}

All but the last two bring {here} more, by licence: {of_here}.

Those two, which have an environment of their own, bring {auditing} more: {of_auditing}.
"""


def direct() -> dict[str, list[str]]:
    """Each package that pyproject.toml names, and what wants it: the package itself, or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted: dict[str, list[str]] = {}
    for who, rows in {"alikit": project["dependencies"], **project["optional-dependencies"]}.items():
        for row in rows:
            wanted.setdefault(Requirement(row).name, []).append(who)
    return wanted


def stated(auditor: Path, python: Path) -> dict[str, dict]:
    """Name, version and licence of every package that the environment of `python` holds, by canonical name."""
    command = [auditor, "-m", "piplicenses", "--python", python, "--format", "json", "--with-system"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {name: row for row in found if (name := canonicalize_name(row["Name"])) not in OURS}


def page(wanted: dict[str, list[str]], here: dict[str, dict], auditing: dict[str, dict]) -> str:
    """The page's text. KeyError for a package that is not installed."""
    lines, known = [], {}
    for name, by in wanted.items():
        row = (auditing if by == ["audit"] else here)[canonicalize_name(name)]
        lines.append(f"| {name} | {row['Version']} | {', '.join(by)} | {row['License']} |")
    named = set(map(canonicalize_name, wanted))
    for where, rows in {"here": here, "auditing": auditing}.items():
        counts = Counter(row["License"] for name, row in rows.items() if name not in named)
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        by_licence = [f"{number} {'without a statement' if name == 'UNKNOWN' else name}" for name, number in most]
        known |= {where: counts.total(), f"of_{where}": ", ".join(by_licence)}
    return PAGE.format(where=sys.platform, rows="\n".join(lines), **known)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the licences of what alikit runs on.")
    parser.add_argument("--auditor", type=Path, default="build/audit/bin/python", help="a Python that has pip-licenses")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "licences.md", help="page to write")
    given = parser.parse_args()
    here, auditing = (stated(given.auditor, python) for python in (sys.executable, given.auditor))
    given.out.write_text(page(direct(), here, auditing), encoding="utf-8")
    print(f"licences in {given.out}")
