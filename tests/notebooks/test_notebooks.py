"""What every stored notebook must be: run from top to bottom, readable without a kernel, checked cell by cell."""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import comment_markers, find_comment_markers, get_sanitize_patterns
from solutions import PYTHON_BLOCK, SOLUTION

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"
PICTURES = {"image/png", "image/jpeg", "image/svg+xml"}
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/|\b[A-Z]:\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


@every_notebook
def test_valid_small_and_numbered_opens_with_its_title_and_question_and_is_stored_as_run_from_top_to_bottom(path):
    """And it names no place on a machine."""
    nb, cells = nbformat.read(path, as_version=4), code_cells(path)
    nbformat.validate(nb)
    assert nb.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 3_000_000 and int(path.stem[:2]) == NOTEBOOKS.index(path) + 1
    assert nb.cells[0].cell_type == "markdown" and re.match(r"# \S", nb.cells[0].source) and "?" in nb.cells[0].source
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8")).replace(r"\n", "\n")
    assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


@every_notebook
def test_cells_are_short(path):
    lengths = []
    for cell in code_cells(path):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith("# NBVAL_")]
        lengths.append(len(lines))
        assert len(lines) <= 30, f"{len(lines)} lines:\n{cell.source}"
    assert statistics.median(lengths) <= 8


@every_notebook
def test_marks_say_what_nbval_does_and_widgets_leave_a_picture(path):
    """nbval skips pictures and widget views without a word, so a cell that holds one says that it is not compared."""
    assert "Loading widget" not in path.read_text(encoding="utf-8")
    for cell in code_cells(path):
        options = dict(find_comment_markers(cell.source))
        heard = {name for name in comment_markers if re.search(rf"^\s*#+\s*{name}\s*$", cell.source, re.MULTILINE)}
        unheard = set(re.findall(r"NBVAL_\w+", cell.source)) - heard
        assert not unheard, f"nbval only hears a mark that has a line of its own: {unheard}\n{cell.source}"
        assert not options.get("skip") and "nbval-skip" not in cell.metadata.get("tags", []), "every cell is run"
        kinds = set().union(*(output.get("data", {}) for output in cell.outputs))
        if (PICTURES | {WIDGET}) & kinds:
            assert options.get("check") is False, f"needs the line # NBVAL_IGNORE_OUTPUT:\n{cell.source}"
            assert PICTURES & kinds, f"only a running notebook can show this:\n{cell.source}"


@every_notebook
def test_at_least_three_solutions_folded_away(path):
    solutions = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            solutions += SOLUTION.findall(cell.source)
            assert cell.source.count("<details") == cell.source.count("</details>"), cell.source
            assert len(re.findall("<summary>.*Solution", cell.source)) == len(SOLUTION.findall(cell.source)), (
                cell.source
            )
    for solution in solutions:
        # Without the blank lines Markdown takes the block for HTML and shows its text as typed.
        assert re.match(r"[ \t]*\n[ \t]*\n", solution) and re.search(r"\n[ \t]*\n[ \t]*$", solution), solution
        fences = re.findall(r"^[ \t]*```[ \t]*\S", solution, re.MULTILINE)
        assert len(fences) == len(PYTHON_BLOCK.findall(solution)), (
            f"only ```python at a line's start is run:\n{solution}"
        )
    assert sum(bool(PYTHON_BLOCK.search(solution)) for solution in solutions) >= 3


def sanitize(text):
    for regex, replacement in get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8")):
        text = re.sub(regex, replacement, text)
    return text


def test_durations_speeds_and_addresses_may_differ_and_other_numbers_may_not():
    assert sanitize("took 12.3 s, 0.85 ms per step") == sanitize("took 47.0 s, 1e-3 s per step")
    assert sanitize("5,120 images/s, 1.2k samples per second") == sanitize("312.5 images/s, 900 samples per second")
    assert sanitize("<object at 0x7f3a5c0e9d30>") == sanitize("<object at 0x7f11223344aa>")
    text = "25 modes 0.693 3 sigma 25 samples 5 minutes torch.Size([100, 2]) 13.4 +- 5.8 sum 2 #0072b2"
    assert sanitize(text) == text


def test_nbval_compares_what_is_not_marked_and_runs_solutions(tmp_path):
    """The command `make test` runs: on stored outputs that are right, wrong, wrong but marked as not compared, and
    stripped; and on solutions that run, that do not, and that change what follows them."""
    outcomes = {
        "print('25 modes')": "PASSED",
        "print('24 modes')": "FAILED",
        "# NBVAL_IGNORE_OUTPUT\nprint('24 modes')": "PASSED",
        "n = 25": "PASSED",
        "print(f'{n} modes')": "PASSED",
        "assert n == 26": "FAILED",
        "n -= 1": "PASSED",
        "print('never run')": "FAILED",
        "# print it here, never run": "PASSED",
        "print(f'{n} modes', end='\\n')": "FAILED",
    }
    cells, stored = [], [new_output("stream", name="stdout", text="25 modes\n")]
    for source in outcomes:
        folded = f"<details>\n<summary>Solution</summary>\n\n```python\n{source}\n```\n\n</details>"
        ran = {"execution_count": 1, "outputs": stored} if "never" not in source else {}
        cells.append(new_code_cell(source, **ran) if "print" in source else new_markdown_cell(folded))
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    options = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider", f"--nbval-sanitize-with={SANITIZE}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(SANITIZE.parent), os.environ["PYTHONPATH"]))}
    command = [sys.executable, "-m", "pytest", "-vv", "--color=no", "-p", "solutions", *options, "."]
    output = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert re.findall(r"^a(?:::|.)ipynb::.* (PASSED|FAILED)", output, re.MULTILINE) == [*outcomes.values()], output
