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
# From the bottom: a module imports those that stand before it, and what is in its own folder.
MODULES = [
    *("errors", "stopping", "reading", "losses", "views", "networks", "fast", "architectures", "storage"),
    *("distributed", "data", "models", "semi_supervised", "training", "recipes", "evaluation", "figures"),
    *("runs", "__init__", "latent", "studies", "side_by_side", "widgets", "cli"),
    "__main__",
]
# What reaches upwards all the same: for the number of the version, which stands in alikit/__init__.py.
EXCEPTIONS = {("reading", "__init__"), ("runs", "__init__")}
# What is above 400 lines, or 60 of a function, and should not be.
LONG: set[str] = set()
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """The package's modules that a file imports, inside its functions too."""
    place = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            start = ".".join(place[: len(place) - node.level]) if node.level else ""
            module = ".".join(filter(None, [start, node.module]))
            modules = [f"{module}.{alias.name}" for alias in node.names] if module == "alikit" else [module]
        for first, _, rest in (module.partition(".") for module in modules):
            if first == "alikit":
                name = rest.partition(".")[0]
                is_module = name and ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file())
                yield name if is_module else "__init__"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_what_is_below_it(file):
    module = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = {other for other in imported(file) if MODULES.index(other) > MODULES.index(module)}
    assert {(module, other) for other in above} <= EXCEPTIONS


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


# Everything that follows is one process, because importing torch takes seconds.
BARE = """
import importlib.util, sys

ABSENT = ("jupyterlab", "ipywidgets", "ipycanvas", "seaborn", "nbval", "IPython", "pandas", "sqlalchemy")

class Without:
    '''A finder that does not find what is absent, as on a machine that does not have it.'''

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
assert not any(map(importlib.util.find_spec, ABSENT))

import alikit
LATE = {"sklearn", "scipy", "torchvision", "matplotlib.figure"}
assert not {*ABSENT, *LATE} & sys.modules.keys(), "they wait until they are used"

from alikit.cli import main
for arguments in (
    ["recipes"],
    ["train", "digits", "--steps", "2", "--out", "run"],
    ["study", "mixture", "--out", "study", "--store", "sqlite:///a.db"],
):
    sys.argv = ["alikit", *arguments]
    print("status", main(), flush=True)
assert not {"torch._dynamo", "torchvision"} & sys.modules.keys(), "they take more than a second, and nobody needs them"
"""


def test_a_bare_machine(tmp_path):
    bare = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert bare.returncode == 0, bare.stderr
    assert "digits" in bare.stdout and "mixture-solved" in bare.stdout
    assert [line for line in bare.stdout.splitlines() if line.startswith("status")] == ["status 0"] * 2 + ["status 2"]
    assert list((tmp_path / "run").rglob("*.safetensors"))
    assert bare.stderr.endswith("alikit: a store needs sqlalchemy: pip install 'alikit[store]'\n")
    assert not (tmp_path / "study").exists()


def test_the_checkout_is_not_taken_for_the_package(tmp_path):
    """In the folder that holds the checkout, itself called alikit."""
    (tmp_path / "alikit").mkdir()
    found = subprocess.run([sys.executable, "-c", "import alikit; alikit.load"], capture_output=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
