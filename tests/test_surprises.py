"""The page of surprises names tests and scripts that are there, and scripts have the form that findings/README.md says.

The scripts themselves are not run here: they install gigabytes."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "surprises.md").read_text(encoding="utf-8")
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))


def test_each_row_of_the_page_names_what_is_there():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "one would think" not in line]
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 6, f"four columns: {row}"
        for script in re.findall(r"\(\.\./findings/([^)]*)\)", row):
            assert (ROOT / "findings" / script).is_file(), script
        for name in re.findall(r"\btest_\w+(?=`)", row):
            assert re.search(rf"def {name}\(", tests), name
        for file in re.findall(r"\btests/[\w/]+\.py", row):
            assert (ROOT / file).is_file(), file
    assert len(rows) > 20


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_has_its_form(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    text = script.read_text(encoding="utf-8")
    head, _, body = text.partition("\nset -euo pipefail\n")
    first, about, *others = head.splitlines()
    assert first == "#!/usr/bin/env bash" and re.match(r"# .*\d+\.\d+", about), "the library with its version"
    assert all(line.startswith("# ") for line in others) and "\n# What to do: " in head
    assert "folder=$(mktemp -d)\ntrap 'rm -rf \"$folder\"' EXIT\n" in body and re.search(r"[\w-]+==[\d$]", body)
    assert re.search(r"(^|; then|else) *(assert |\[\[? )", body, re.MULTILINE), (
        "it fails where the behaviour has changed"
    )
    assert not re.search(r"(import|from) alikit", body)
    assert f"(../findings/{script.name})" in PAGE, "the page lists it"
