"""Where the packages come from that alikit runs on: their licences and ours, and a check for known vulnerabilities."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import alikit

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {pin.name: pin for extra in ("course", "test", "audit") for pin in map(Requirement, EXTRAS[extra])}
ROWS = {
    cells[0]: cells[1:]
    for line in (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def stated_licence(name: str) -> str:
    """What an installed package states: an expression, or else classifiers, or else a line of text."""
    stated = metadata(name)
    classifiers = [
        row.rpartition(" :: ")[2] for row in stated.get_all("Classifier", []) if row.startswith("License ::")
    ]
    return stated.get("License-Expression") or "; ".join(classifiers) or stated["License"]


# Licences of others.


@pytest.mark.parametrize("name", PINS)
def test_each_pin_is_on_the_page_of_licences(name):
    version, wanted_by, licence = ROWS[name]
    assert f"=={version}" == str(PINS[name].specifier)
    extras = [extra for extra, rows in EXTRAS.items() if name in {Requirement(row).name for row in rows}]
    assert [who for who in wanted_by.split(", ") if who != "alikit"] == extras
    assert ("alikit" in wanted_by) == (name in {Requirement(row).name for row in PROJECT["dependencies"]})
    try:
        assert licence == stated_licence(name)
    except PackageNotFoundError:  # what `make audit` installs is elsewhere
        assert extras == ["audit"] and licence


def test_nothing_else_is_on_the_page():
    assert ROWS.keys() - {"package", "---"} == PINS.keys()
    assert "://" not in (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")


def test_what_checks_the_course_is_no_part_of_it():
    assert [
        pin.specifier for pin in map(Requirement, EXTRAS["audit"]) if not re.match("==[^*]+$", str(pin.specifier))
    ] == []
    assert not {Requirement(row).name for row in EXTRAS["audit"]} & {
        Requirement(row).name for extra in ("course", "test", "study") for row in EXTRAS[extra]
    }


# Our own.


def test_licence():
    assert PROJECT["license"] == "MIT" and PROJECT["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The alikit authors\n")
    assert (
        'THE SOFTWARE IS PROVIDED "AS IS"' in text and "The above copyright notice and this permission notice" in text
    )


def test_citation():
    assert {"message", "title", "authors", "version", "license", "abstract"} <= CITATION.keys()
    assert CITATION["cff-version"] == "1.2.0" and CITATION["authors"] == [{"name": "The alikit authors"}]
    assert CITATION["version"] == PROJECT["version"] == alikit.__version__
    assert CITATION["license"] == PROJECT["license"]


def test_citation_names_the_papers():
    found = {paper["title"]: paper for paper in CITATION["references"]}
    ali, bigan = found["Adversarially Learned Inference"], found["Adversarial Feature Learning"]
    assert len(found) == 2 and {paper["year"] for paper in found.values()} == {2017}
    assert [author["family-names"] for author in ali["authors"]] == [
        *("Dumoulin", "Belghazi", "Poole", "Mastropietro", "Lamb", "Arjovsky", "Courville")
    ]
    assert [author["family-names"] for author in bigan["authors"]] == ["Donahue", "Krähenbühl", "Darrell"]
    assert [paper["identifiers"][0]["value"] for paper in (ali, bigan)] == ["arXiv:1606.00704", "arXiv:1605.09782"]


def test_readme_names_both_and_says_that_data_is_another_matter():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in ("LICENSE", "CITATION.cff", "docs/licences.md", "data/README.md"):
        assert f"]({target})" in readme and (ROOT / target).is_file()
    assert re.search(r"Data sets,\s+and weights trained on them", readme)


# Known vulnerabilities.

FINE = {"name": "numpy", "version": "2.4.6", "vulns": []}
OURS = {"name": "alikit", "skip_reason": "not found"}
HOLE = {
    "name": "pillow",
    "version": "1.0",
    "vulns": [{"id": "X-1", "fix_versions": ["1.1", "2.0"]}, {"id": "X-2", "fix_versions": []}],
}
UNKNOWN = {"name": "tqdm", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([FINE, OURS], 0, "1 packages looked up, none with known vulnerabilities"),
        (
            [FINE, HOLE, OURS],
            1,
            "pillow 1.0: X-1, fixed in: 1.1, 2.0\npillow 1.0: X-2, fixed in: none yet\n"
            "2 packages looked up, 1 with known vulnerabilities",
        ),
        ([FINE, UNKNOWN, OURS], 2, "1 of 2 packages were not audited, such as tqdm (not found): try again where"),
        (None, 2, "nothing was audited, pip-audit failed (no route to the host): try again with a network"),
    ],
    ids=["none", "some", "not looked up", "no network"],
)
def test_audit(tmp_path, found, status, said):
    """The tool itself, with a program in pip-audit's place."""
    auditor = tmp_path / "python"
    answer = "echo 'no route to the host' >&2; exit 1" if found is None else f"cat {tmp_path / 'found'}"
    (tmp_path / "found").write_text(json.dumps({"dependencies": found}))
    auditor.write_text(f'#!/bin/sh\necho "$@" >{tmp_path / "asked"}\n{answer}\n')
    auditor.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, ROOT / "tools" / "audit.py", "--auditor", auditor], capture_output=True, text=True
    )
    assert (ran.returncode, (ran.stdout + ran.stderr)[: len(said)]) == (status, said)
    assert "-m pip_audit" in (asked := (tmp_path / "asked").read_text()) and "--path" in asked
    assert len(ran.stderr.splitlines()) == (status == 2)
