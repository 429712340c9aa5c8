"""The ways in (make, conda, CI, README) lead to one environment, and that environment is the one these tests run in."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
RANGES = {requirement.name: requirement for requirement in map(Requirement, PROJECT["dependencies"])}
PINS = [Requirement(line) for name in ("course", "test") for line in EXTRAS[name]]


def pinned(requirement):
    (only,) = requirement.specifier
    assert only.operator == "==" and "*" not in only.version, f"{requirement} is not one exact version"
    return only.version


def test_conda_installs_python_pip_and_the_extras_and_nothing_else():
    assert ENVIRONMENT["name"] == PROJECT["name"]
    python, pip, from_pip = ENVIRONMENT["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-e .[course,test]"]}
    assert {"course", "test"} <= EXTRAS.keys()
    name, _, number = python.partition("=")
    assert name == "python" and Version(number) in SpecifierSet(PROJECT["requires-python"])


def test_no_index_address_anywhere():
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    assert not [line for line in lines if "://" in line or "@" in line]
    assert "://" not in (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "://" not in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_python_is_new_enough():
    assert Version("{}.{}.{}".format(*sys.version_info)) in SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.name)
def test_pin_is_exact_allowed_and_installed(pin):
    wanted = pinned(pin)
    if pin.name in RANGES:
        assert RANGES[pin.name].specifier.contains(wanted), f"{pin} is outside {RANGES[pin.name]}"
    assert Version(version(pin.name)).public == Version(wanted).public  # 2.15.0+cpu is 2.15.0


def test_every_dependency_is_pinned_once():
    names = [pin.name for pin in PINS]
    assert sorted(set(names)) == sorted(names)
    assert RANGES.keys() <= set(names)


def test_torch_and_torchvision_are_a_matching_pair():
    """A pair that does not match dies here with "operator torchvision::nms does not exist"."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    assert kept.tolist() == [0, 2]  # the second box overlaps the first by 0.81


def test_the_pair_known_to_be_broken_is_refused():
    assert not RANGES["torch"].specifier.contains("2.13.0")


@pytest.mark.parametrize("browser", ["chromium", "chromium-browser", "google-chrome", None])
def test_ci_runs_make_test_with_a_browser_and_installs_one_where_there_is_none(browser, tmp_path):
    """The script itself, with programs that only write down how they were called."""
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    for name in filter(None, ("make", "apt-get", "sudo", browser)):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $* $ALIKIT_BROWSER" >>"{log}"\n')
        (programs / name).chmod(0o755)
    for name in ("bash", "dirname", "id"):
        (programs / name).symlink_to(shutil.which(name))
    subprocess.run(["bash", str(ROOT / ".ci" / "run")], env={"PATH": str(programs)}, check=True)
    *before, last = log.read_text().splitlines()
    assert last == "make test required"
    assert [line.removeprefix("sudo ") for line in before] == (
        [] if browser else ["apt-get update -qq required", "apt-get install -qq -y chromium required"]
    )


def test_a_browser_that_is_missing_skips_the_tests_in_it_but_fails_where_it_is_required(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "browser")]
    for wanted, outcome in (("", "skipped"), ("required", "error")):
        environment = os.environ | {"PATH": str(tmp_path), "ALIKIT_BROWSER": wanted}
        said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
        assert re.fullmatch(rf"\d+ {outcome}s? in .*", said.splitlines()[-1]), said


def test_ci_runs_the_command_the_readme_names():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    setup = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@"))
    assert f"python={setup['with']['python-version']}" == ENVIRONMENT["dependencies"][0]

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 <= readme.find("make lab") < readme.find("make test"), "README names make lab first, then make test"
    assert "pip install -e .[course,test]" in readme.replace('"', "").replace("'", ""), (
        "README gives the way without make"
    )
