"""A bare GPU machine has no jupyterlab, seaborn or optuna: the package and its commands work there all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("jupyterlab", "ipywidgets", "ipycanvas", "seaborn", "nbval", "IPython", "pandas", "optuna", "sqlalchemy")
WITHOUT = f'''
import sys

class Without:
    """A finder that does not find what is absent; asking for it is no error, as on a machine that does not have it."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT!r} else self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
'''
COMMAND = """
import runpy
sys.argv[0] = "alikit"
runpy.run_module("alikit", run_name="__main__")
"""


def run(script, *arguments, cwd=ROOT):
    command = [sys.executable, "-c", WITHOUT + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.mark.parametrize("name", ABSENT)
def test_the_blocker_blocks(name):
    finished = run(f"import {name}")
    assert finished.returncode == 1 and "ModuleNotFoundError" in finished.stderr


def test_import():
    finished = run(f"import alikit; print(sorted(set({ABSENT!r}) & sys.modules.keys()))")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[]"


def test_what_takes_long_to_import_waits_until_it_is_used():
    finished = run("import alikit; print(sorted({'sklearn', 'scipy', 'matplotlib.figure'} & sys.modules.keys()))")
    assert finished.stdout.strip() == "[]", finished.stderr


def test_recipes():
    finished = run(COMMAND, "recipes")
    assert finished.returncode == 0, finished.stderr
    assert "digits" in finished.stdout and "mixture-solved" in finished.stdout


def test_a_study_says_what_it_needs(tmp_path):
    finished = run(COMMAND, "study", "mixture", "--out", tmp_path / "study", "--store", "sqlite:///a.db")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "alikit: a store needs sqlalchemy: pip install 'alikit[study]'\n"
    assert not list(tmp_path.iterdir())


def test_train(tmp_path):
    finished = run(COMMAND, "train", "digits", "--steps", 2, "--out", tmp_path / "run")
    assert finished.returncode == 0, finished.stderr
    assert list((tmp_path / "run").rglob("*.safetensors"))


def test_the_checkout_is_not_taken_for_the_package(tmp_path):
    """In the folder that holds the checkout, itself called alikit."""
    (tmp_path / "alikit").mkdir()
    found = subprocess.run([sys.executable, "-c", "import alikit; alikit.load"], capture_output=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
