"""Who may import whom, how long files and functions are, and what works where jupyterlab, seaborn and sqlalchemy are
not installed, as on a bare GPU machine."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "alikit"
# From the bottom: a room imports rooms that stand before it, and what is in it.
ROOMS = [
    *("errors", "stopping", "reading", "formats", "losses", "views", "networks", "fast", "architectures", "storage"),
    *("distributed", "data", "models", "semi_supervised", "training", "recipes", "evaluation", "figures"),
    *("runs", "__init__", "latent", "studies", "side_by_side", "widgets", "cli"),
    "__main__",
]
# What reaches upwards all the same: for the number of the version, which stands in alikit/__init__.py.
EXCEPTIONS = {("formats", "__init__"), ("runs", "__init__")}
# What is above 400 lines, or 60 of a function, and should not be.
LONG = {"runs/running.py"}
FILES = sorted(PACKAGE.rglob("*.py"))
ABSENT = ("jupyterlab", "ipywidgets", "ipycanvas", "seaborn", "nbval", "IPython", "pandas", "sqlalchemy")
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


def imported(file: Path) -> Iterator[str]:
    """The rooms that a file imports, inside its functions too."""
    place = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            start = ".".join(place[: len(place) - node.level]) if node.level else ""
            module = ".".join(filter(None, [start, node.module]))
            modules = [f"{module}.{alias.name}" for alias in node.names] if module == "alikit" else [module]
        for parts in (module.split(".") for module in modules):
            if parts[0] == "alikit":
                yield parts[1] if len(parts) > 1 and _is_room(parts[1]) else "__init__"


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_what_is_below_it(file):
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = {other for other in imported(file) if ROOMS.index(other) > ROOMS.index(room)}
    assert {(room, other) for other in above} <= EXCEPTIONS


def test_files_and_functions_are_short():
    """Docstrings are no part of a function's length."""
    long = set()
    for file in FILES:
        text, name = file.read_text(), str(file.relative_to(PACKAGE))
        long |= {name} if text.count("\n") > 400 else set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long |= {f"{name}: {node.name}"} if lines > 60 else set()
    assert long == LONG


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
    assert finished.stderr == "alikit: a store needs sqlalchemy: pip install 'alikit[store]'\n"
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
