"""Who may import whom, how long files and functions are, and what works where jupyterlab, seaborn and sqlalchemy are
not installed, as on a bare GPU machine."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the bottom: a module imports those that stand before it, and what is in its own folder.
MODULES = [
    *("errors", "stopping", "reading", "losses", "views", "networks", "fast", "architectures", "storage"),
    *("distributed", "data", "models", "semi_supervised", "training", "recipes", "evaluation", "figures"),
    *("runs", "__init__", "latent", "studies", "side_by_side", "widgets", "cli"),
    "__main__",
]
# What reaches upwards all the same: for the number of the version, which stands in alikit/__init__.py.
EXCEPTIONS = {("reading", "__init__"), ("runs", "__init__")}
FILES = {str(file.relative_to(ROOT / "alikit")): file for file in (ROOT / "alikit").rglob("*.py")}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_what_is_below_it_and_is_short(name):
    """Inside its functions too. 400 lines, and 60 of a function without its docstring."""
    text, place, found = FILES[name].read_text(), ("alikit", *Path(name).with_suffix("").parts), []
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = [*place[: -node.level], node.module or ""] if node.level else [node.module]
            found += [".".join(filter(None, [*module, alias.name])) for alias in node.names]
        elif isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 60, node.name
    tops = {f"{path}.__init__".split(".")[1] for path in found if f"{path}.".startswith("alikit.")}
    module = place[1]
    above = {top if top in MODULES else "__init__" for top in tops}
    assert {(module, top) for top in above if MODULES.index(top) > MODULES.index(module)} <= EXCEPTIONS


# What follows is one process, because importing torch takes seconds.
BARE = """
import sys

ABSENT = ("jupyterlab", "ipywidgets", "ipycanvas", "seaborn", "nbval", "IPython", "pandas", "sqlalchemy")
sys.modules.update(dict.fromkeys(ABSENT))  # an import of these fails

import alikit
LATE = {"sklearn", "scipy", "torchvision", "matplotlib.figure"}
assert not LATE & sys.modules.keys(), "they wait until they are used"

from unittest.mock import patch
import torch
kept = {"get_rng_state": lambda device: torch.get_rng_state(), "set_rng_state": lambda state, device: None}
with patch.multiple("torch.cuda", device_count=lambda: 2, **kept), torch.random.fork_rng():
    pass  # silent on a machine with two GPUs

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


def test_a_bare_machine_in_the_folder_that_holds_the_checkout(tmp_path):
    """Itself called alikit, which is not taken for the package."""
    (tmp_path / "alikit").mkdir()
    bare = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert bare.returncode == 0, bare.stderr
    assert "digits" in bare.stdout and "mixture-solved" in bare.stdout
    assert [line for line in bare.stdout.splitlines() if line.startswith("status")] == ["status 0"] * 2 + ["status 2"]
    assert list((tmp_path / "run").rglob("*.safetensors"))
    assert "available devices" not in bare.stderr
    assert bare.stderr.endswith("alikit: a store needs sqlalchemy: pip install sqlalchemy\n")
    assert not (tmp_path / "study").exists()
