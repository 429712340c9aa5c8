"""What every stored notebook must be: run from top to bottom, readable without a kernel, checked cell by cell."""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import comment_markers, find_comment_markers, get_sanitize_patterns
from solutions import PYTHON_BLOCK, SOLUTION

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEGABYTE = 1_000_000
PICTURES = {"image/png", "image/jpeg", "image/svg+xml"}
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/|\b[A-Z]:\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()
    ]


def mime_types(cell):
    return set().union(*(output.get("data", {}).keys() for output in cell.outputs))


def texts(nb):
    """Everything a person can read in a notebook: sources, printed text, textual representations. No picture data."""
    for cell in nb.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from output.get("traceback", [])
            yield from (str(value) for mime, value in output.get("data", {}).items() if mime.startswith("text/"))


def test_the_course_is_numbered_without_a_gap():
    numbers = [int(path.stem[:2]) for path in NOTEBOOKS]
    assert len(numbers) >= 3
    assert numbers == list(range(1, len(numbers) + 1))


@every_notebook
def test_valid_and_small(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert nb.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 3 * MEGABYTE


@every_notebook
def test_opens_with_its_title_and_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source)
    assert "?" in first.source


@every_notebook
def test_stored_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"{cell.source}\nwrote to stderr:\n{output.text}"


@every_notebook
def test_names_no_place_on_a_machine(path):
    for text in texts(nbformat.read(path, as_version=4)):
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
def test_widgets_leave_a_picture_for_those_who_only_read(path):
    assert "Loading widget" not in path.read_text(encoding="utf-8")
    for cell in code_cells(path):
        if WIDGET in mime_types(cell):
            assert PICTURES & mime_types(cell), f"only a running notebook can show this:\n{cell.source}"


@every_notebook
def test_marks_say_what_nbval_does(path):
    """nbval skips pictures and widget views without a word, so a cell that holds one says that it is not compared."""
    for cell in code_cells(path):
        options = dict(find_comment_markers(cell.source))
        unheard = set(re.findall(r"NBVAL_\w+", cell.source)) - {
            name for name in comment_markers if re.search(rf"^\s*#+\s*{name}\s*$", cell.source, re.MULTILINE)
        }
        assert not unheard, f"nbval only hears a mark that has a line of its own: {unheard}\n{cell.source}"
        assert not options.get("skip") and "nbval-skip" not in cell.metadata.get("tags", []), "every cell is run"
        if (PICTURES | {WIDGET}) & mime_types(cell):
            assert options.get("check") is False, f"needs the line # NBVAL_IGNORE_OUTPUT:\n{cell.source}"


@every_notebook
def test_at_least_three_solutions_folded_away(path):
    solutions = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            solutions += SOLUTION.findall(cell.source)
            assert cell.source.count("<details") == cell.source.count("</details>"), cell.source
    for solution in solutions:
        # Without the blank lines Markdown takes the block for HTML and shows its text as typed.
        assert re.match(r"[ \t]*\n[ \t]*\n", solution) and re.search(r"\n[ \t]*\n[ \t]*$", solution), solution
    assert sum(bool(PYTHON_BLOCK.search(solution)) for solution in solutions) >= 3


SANITIZED = [
    ("took 12.3 s", "took 47.0 s"),
    ("0.85 ms per step", "1e-3 s per step"),
    ("5,120 images/s", "312.5 images/s"),
    ("1.2k samples per second", "900 samples per second"),
    ("<object at 0x7f3a5c0e9d30>", "<object at 0x7f11223344aa>"),
]
COMPARED = [
    ("25 modes", "24 modes"),
    ("loss 0.693", "loss 0.694"),
    ("3 sigma", "4 sigma"),
    ("25 samples", "24 samples"),
    ("torch.Size([100, 2])", "torch.Size([100, 3])"),
    ("13.4 +- 5.8", "13.4 +- 5.9"),
    ("sum 2", "sum 3"),
    ("#0072b2", "#0072b3"),
]


def sanitize(text):
    patterns = get_sanitize_patterns((Path(__file__).parent / "nbval_sanitize.cfg").read_text(encoding="utf-8"))
    assert patterns
    for regex, replacement in patterns:
        text = re.sub(regex, replacement, text)
    return text


@pytest.mark.parametrize(("stored", "fresh"), SANITIZED)
def test_durations_speeds_and_addresses_may_differ(stored, fresh):
    assert sanitize(stored) == sanitize(fresh)


@pytest.mark.parametrize(("stored", "fresh"), COMPARED)
def test_other_numbers_may_not(stored, fresh):
    assert sanitize(stored) != sanitize(fresh)


def test_nbval_compares_what_is_not_marked_and_runs_solutions(tmp_path):
    """The command `make test` runs: on stored outputs that are right, wrong, and wrong but marked as not compared; and
    on solutions that run, that do not, and that change what follows them."""
    sources = {
        "right": "print('25 modes')",
        "wrong": "print('24 modes')",
        "marked": "# NBVAL_IGNORE_OUTPUT\nprint('24 modes')",
        "solved": "print(f'{n} modes')",
        "unsolved": "print('25 modes')",
        "astray": "print(f'{n} modes')",
    }
    solutions = {"solved": ["n = 25"], "unsolved": ["assert n == 25"], "astray": ["n = 25", "n -= 1"]}
    for name, source in sources.items():
        cell = nbformat.v4.new_code_cell(source, execution_count=1)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="25 modes\n")]
        folded = "<details>\n<summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"
        above = [nbformat.v4.new_markdown_cell(folded.format(code)) for code in solutions.get(name, [])]
        nbformat.write(nbformat.v4.new_notebook(cells=[*above, cell]), tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "--color=no"]
    options = [f"--nbval-sanitize-with={Path(__file__).parent / 'nbval_sanitize.cfg'}", "-p", "solutions"]
    path = os.pathsep.join((str(Path(__file__).parent), os.environ["PYTHONPATH"]))
    environment = {**os.environ, "PYTHONPATH": path}
    finished = subprocess.run(
        [*command, *options, "."], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert "3 failed, 7 passed" in finished.stdout
    for failed in ("wrong.ipynb::Cell 0", "unsolved.ipynb::Solution 1", "astray.ipynb::Cell 0"):
        assert f"FAILED {failed}" in finished.stdout
