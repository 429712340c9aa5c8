"""A part of nbval for `make test`: the code of a folded solution is a cell too, run at its place in the same kernel.

So that a notebook runs once for its cells and its solutions both, and what is compared below a solution shows that the
reader who tries it is not led astray. What solutions print is not stored, so it is not compared.

And a cell fails where nbval lets it pass unseen: see `pytest_runtest_call`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

SOLUTION = re.compile(r"<details[^>]*>\s*<summary>\s*Solution.*?</summary>(.*?)</details>", re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def code_of_solutions(source: str) -> list[str]:
    """The Python blocks of the solutions in a Markdown cell, in their order."""
    return [block for solution in SOLUTION.findall(source) for block in PYTHON_BLOCK.findall(solution)]


def _with_solutions(notebook: IPyNbFile, items: list[IPyNbCell]) -> Iterator[IPyNbCell]:
    cells, count = iter(items), 0
    for number, cell in enumerate(notebook.nb.cells):
        if cell.cell_type == "code":
            yield next(cells)
        elif cell.cell_type == "markdown":
            for code in code_of_solutions(cell.source):
                count += 1
                never_run = nbformat.v4.new_code_cell(code)
                named = {"name": f"Solution {count}", "cell_num": number, "options": defaultdict(bool)}
                yield IPyNbCell.from_parent(notebook, cell=never_run, **named)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if isinstance(collector, IPyNbFile) and report.passed:
        report.result = list(_with_solutions(collector, report.result))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After a time-out nbval expects every later cell to fail, even if this one handles the interrupt and passes. Of a
    cell without an execution count, which is how nbstripout leaves a notebook, it compares nothing."""
    result = yield
    if isinstance(item, IPyNbCell):
        if item.parent.timed_out:
            limit = item.config.option.nbval_cell_timeout
            item.raise_cell_error(f"{item.name} took more than {limit:g} seconds and handled the interrupt")
        has_code = re.search(r"^\s*[^#\s]", item.cell.source, re.MULTILINE)
        if item.options["check"] and has_code and item.cell.execution_count is None:
            item.raise_cell_error(f"{item.name} was never run, so nothing is compared: run and save the notebook")
    return result
