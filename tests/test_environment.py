"""The ways in (make, conda, CI, README) lead to one environment, the one these tests run in; where its packages come
from: licences, ours too, and a check for known vulnerabilities."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import alikit

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
RANGES = {requirement.name: requirement.specifier for requirement in map(Requirement, PROJECT["dependencies"])}
PINS = [Requirement(line) for name in ("course", "test") for line in EXTRAS[name]]


def test_every_dependency_has_one_exact_pin_that_is_allowed_and_installed_and_no_index_of_its_own():
    """And what is known to be broken is refused: a pair of torch and torchvision, and one of typer and click."""
    names = [pin.name for pin in PINS]
    assert len(set(names)) == len(names) and RANGES.keys() <= set(names)
    for pin in PINS:
        (only,) = pin.specifier
        assert only.operator == "==" and "*" not in only.version, f"{pin} is not one exact version"
        assert RANGES.get(pin.name, SpecifierSet()).contains(only.version), pin
        assert Version(version(pin.name)).public == Version(only.version).public  # 2.15.0+cpu is 2.15.0
    assert not RANGES["torch"].contains("2.13.0") and not RANGES["typer"].contains("0.17.1")
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in ("environment.yml", "Makefile")]
    assert not [text for text in (*texts, f"{PROJECT['dependencies']} {EXTRAS}") if "://" in text]


def test_a_browser_that_is_missing_fails_where_it_is_required(tmp_path):
    """As in .ci/run; elsewhere its tests are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "browser")]
    environment = os.environ | {"PATH": str(tmp_path), "ALIKIT_BROWSER": "required"}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    assert re.fullmatch(r"\d+ errors? in .*", said.splitlines()[-1]), said


def test_conda_ci_and_the_readme_name_the_same():
    python, *rest = ENVIRONMENT["dependencies"]
    assert ENVIRONMENT["name"] == PROJECT["name"] and rest == ["pip", {"pip": ["-e .[course,test]"]}]
    assert python.startswith("python=") and Version(python[7:]) in SpecifierSet(PROJECT["requires-python"])
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    setup = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@"))
    assert f"python={setup['with']['python-version']}" == python
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 <= readme.find("make lab") < readme.find("make test"), "README names make lab first, then make test"
    assert "pip install -e .[course,test]" in readme.replace('"', "").replace("'", ""), "the way without make"


def test_the_page_of_licences_lists_each_pin_as_it_is():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    found = {canonicalize_name(name): (number, licence) for name, number, licence in rows[2:]}
    assert len(found) > 100 and all(licence for _, licence in found.values()) and "://" not in page
    for pin in PINS:
        number, licence = found[canonicalize_name(pin.name)]
        stated = metadata(pin.name)  # an expression, or else classifiers, or else a line of text
        kinds = [row.rpartition(" :: ")[2] for row in stated.get_all("Classifier", []) if row.startswith("License ::")]
        assert pin.specifier.contains(number), pin
        assert licence == (stated.get("License-Expression") or "; ".join(kinds) or stated["License"]), pin
    assert "pip-audit --strict" in (ROOT / "Makefile").read_text(), "or what cannot be looked up counts as sound"


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
