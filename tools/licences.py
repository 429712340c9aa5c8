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

All but the last two bring {} more, by licence: {}.

Those two, which have an environment of their own, bring {} more: {}.
"""


def page(auditor: Path) -> str:
    """The page's text. KeyError for a package that pyproject.toml names and that is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted: dict[str, list[str]] = {}  # by the package itself, or by its extras
    for who, rows in {"alikit": project["dependencies"], **project["optional-dependencies"]}.items():
        for row in rows:
            wanted.setdefault(canonicalize_name(Requirement(row).name), []).append(who)
    installed, others = [], []
    for python in (sys.executable, auditor):
        command = [auditor, "-m", "piplicenses", "--python", python, "--format", "json", "--with-system"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        installed.append({name: row for row in found if (name := canonicalize_name(row["Name"])) not in OURS})
        counts = Counter(row["License"] for name, row in installed[-1].items() if name not in wanted)
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        by_licence = [f"{number} {'without a statement' if name == 'UNKNOWN' else name}" for name, number in most]
        others += [counts.total(), ", ".join(by_licence)]
    lines = []
    for name, by in wanted.items():
        row = installed[by == ["audit"]][name]
        lines.append(f"| {name} | {row['Version']} | {', '.join(by)} | {row['License']} |")
    return PAGE.format(*others, where=sys.platform, rows="\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the licences of what alikit runs on.")
    parser.add_argument("--auditor", type=Path, default="build/audit/bin/python", help="a Python that has pip-licenses")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "licences.md", help="page to write")
    given = parser.parse_args()
    given.out.write_text(page(given.auditor), encoding="utf-8")
