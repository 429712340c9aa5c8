"""Where the packages come from that alikit runs on: their licences and ours, and a check for known vulnerabilities."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import alikit

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {
    extra: {pin.name: pin for pin in map(Requirement, rows)} for extra, rows in PROJECT["optional-dependencies"].items()
}
PINS = {name: pin for extra in ("course", "test", "audit") for name, pin in OPTIONAL[extra].items()}


def test_the_page_of_licences_lists_each_pin_as_it_is():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    rows = {cells[0]: cells[1:] for cells in rows if len(cells) == 4 and cells[0] not in ("package", "---")}
    assert rows.keys() == PINS.keys() and "://" not in page
    needed = {Requirement(row).name for row in PROJECT["dependencies"]}
    for name, (version, wanted_by, licence) in rows.items():
        assert f"=={version}" == str(PINS[name].specifier), name
        extras = [extra for extra in OPTIONAL if name in OPTIONAL[extra]]  # what checks the course is no part of it
        assert len(extras) == 1 or "audit" not in extras
        assert wanted_by.split(", ") == ["alikit"] * (name in needed) + extras, name
        if extras == ["audit"]:  # what `make audit` installs is elsewhere
            assert licence, name
            continue
        stated = metadata(name)  # an expression, or else classifiers, or else a line of text
        kinds = [row.rpartition(" :: ")[2] for row in stated.get_all("Classifier", []) if row.startswith("License ::")]
        assert licence == (stated.get("License-Expression") or "; ".join(kinds) or stated["License"]), name


def test_our_own_licence_and_citation_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert PROJECT["version"] == alikit.__version__ and PROJECT["license-files"] == ["LICENSE"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    papers = {paper["title"]: paper["identifiers"][0]["value"] for paper in citation["references"]}
    assert papers == {
        "Adversarially Learned Inference": "arXiv:1606.00704",
        "Adversarial Feature Learning": "arXiv:1605.09782",
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"]({target})" in readme for target in ("LICENSE", "CITATION.cff", "docs/licences.md", "data/README.md"))


FINE, UNKNOWN = {"name": "numpy", "version": "2.4.6", "vulns": []}, {"name": "tqdm", "skip_reason": "not found"}
HOLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "X-1", "fix_versions": ["1.1"]}]}
AUDITS = {  # what pip-audit found, the status, and what is said
    "none": ([FINE], 0, "1 packages looked up, none with known vulnerabilities"),
    "some": ([FINE, HOLE], 1, "pillow 1.0: X-1, fixed in: 1.1\n2 packages looked up, 1 with known vulnerabilities"),
    "unknown": ([FINE, UNKNOWN], 2, "1 of 2 packages were not audited, such as tqdm (not found): try again where"),
    "no network": (None, 2, "nothing was audited, pip-audit failed (no route to the host): try again with a network"),
}


@pytest.mark.parametrize("case", AUDITS)
def test_audit(tmp_path, case):
    """The tool itself, with a program in pip-audit's place."""
    found, status, said = AUDITS[case]
    auditor, answer = tmp_path / "python", tmp_path / "found"
    answer.write_text(json.dumps({"dependencies": [*(found or ()), {"name": "alikit", "skip_reason": "not found"}]}))
    says = "echo 'no route to the host' >&2; exit 1" if found is None else f"cat {answer}"
    auditor.write_text(f'#!/bin/sh\necho "$@" >{tmp_path / "asked"}\n{says}\n')
    auditor.chmod(0o755)
    tool = [sys.executable, ROOT / "tools" / "audit.py", "--auditor", auditor]
    ran = subprocess.run(tool, capture_output=True, text=True)
    assert (ran.returncode, (ran.stdout + ran.stderr)[: len(said)]) == (status, said)
    assert re.search("-m pip_audit .*--path", (tmp_path / "asked").read_text())
    assert len(ran.stderr.splitlines()) == (status == 2)
