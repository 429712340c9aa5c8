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
AUDITOR = Path("build") / "audit" / "bin" / "python"
OURS = ("alikit", "pip")  # and what came with Python's venv
HEAD = """# Licences of what alikit runs on

Written by `make licences`: what the packages that `make test` and `make audit` install state of themselves, on {where}.
alikit's own licence is in [LICENSE](../LICENSE), those of data sets and of weights are in [data/](../data/README.md).

| package | version | wanted by | licence |
| --- | --- | --- | --- |
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


def brought(rows: list[dict]) -> str:
    """How many packages have which licence, the most frequent first."""
    counts = sorted(Counter(row["License"] for row in rows).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {'without a statement' if name == 'UNKNOWN' else name}" for name, number in counts)


def page(wanted: dict[str, list[str]], here: dict[str, dict], auditing: dict[str, dict]) -> str:
    """The page's text. KeyError for a package that is not installed."""
    lines = []
    for name, by in wanted.items():
        row = (auditing if by == ["audit"] else here)[canonicalize_name(name)]
        lines.append(f"| {name} | {row['Version']} | {', '.join(by)} | {row['License']} |")
    named = set(map(canonicalize_name, wanted))
    further = [[row for name, row in rows.items() if name not in named] for rows in (here, auditing)]
    return (
        HEAD.format(where=sys.platform)
        + "\n".join(lines)
        + f"\n\nAll but the last two bring {len(further[0])} more, by licence: {brought(further[0])}.\n\n"
        + f"Those two, which have an environment of their own, bring {len(further[1])} more: {brought(further[1])}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the licences of what alikit runs on.")
    parser.add_argument("--auditor", type=Path, default=AUDITOR, help="a Python that has pip-licenses")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "licences.md", help="page to write")
    arguments = parser.parse_args()
    here, auditing = (stated(arguments.auditor, python) for python in (sys.executable, arguments.auditor))
    arguments.out.write_text(page(direct(), here, auditing), encoding="utf-8")
    print(f"licences in {arguments.out}")


if __name__ == "__main__":
    main()
