"""What looks compared is compared: nbval leaves things out without a word, and lets cells pass after a time-out."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import IPyNbFile, coalesce_streams, get_sanitize_patterns
from test_notebooks import SANITIZE, every_notebook

RULES = SANITIZE.read_text(encoding="utf-8")
# Live displays, and a history of inputs and outputs: the output that is stored is another than nbval gets.
UNCOMPARED = re.compile(r"update_display|display_id|clear_output|\bOutput\(|\b(?:Out|In)\[|(?<![\w}$])_\d+\b|;\s*\Z")


def changed(text: str) -> Iterator[str]:
    """Without one of its lines, or with one number that is larger by 1: every way."""
    lines = text.splitlines(keepends=True)
    yield from ("".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines)))
    for found in re.finditer(r"\d+", text):
        yield f"{text[: found.start()]}{int(found[0]) + 1}{text[found.end() :]}"


@every_notebook
def test_a_change_of_any_number_or_line_of_an_output_without_a_mark_is_found(path, request, monkeypatch):
    """By nbval's own comparison, with what it leaves out and what the sanitize file lets it overlook."""
    notebook = IPyNbFile.from_parent(request.session, path=path)
    notebook.sanitize_patterns.update(get_sanitize_patterns(RULES))
    outputs = 0
    for cell in notebook.collect():
        marked = cell.cell.source.startswith("# NBVAL_IGNORE_OUTPUT\n")
        assert cell.options == {"check": not marked}, f"a tag or another line changes it:\n{cell.cell.source}"
        monkeypatch.setattr(cell, "format_output_compare", lambda *_: None)  # takes long, and is not read
        stored = coalesce_streams(deepcopy(cell.cell.outputs))
        for output in [] if marked else stored:
            outputs += 1
            values = output.get("data", output)
            for kind in {*values} - {"output_type", "name"}:
                whole = values[kind]
                assert cell.compare_outputs(deepcopy(stored), coalesce_streams(cell.cell.outputs))
                for text in changed(whole):
                    values[kind] = text
                    found = not cell.compare_outputs(deepcopy(stored), coalesce_streams(cell.cell.outputs))
                    assert found, f"{kind}: nbval takes\n{text}\nfor\n{whole}"
                values[kind] = whole
        if stored and not marked:
            assert not UNCOMPARED.search(cell.cell.source), f"nbval does not follow this:\n{cell.cell.source}"
    assert outputs > 5


def test_nbval_reads_every_rule_of_the_sanitize_file():
    """It reads those of two lines that stand together, each from its first character on, and drops others unsaid."""

    def all_read(text: str) -> bool:
        read = (f"regex: {regex}\nreplace: {replacement}" for regex, replacement in get_sanitize_patterns(text))
        return "\n".join(read) == "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))

    assert all_read(RULES)
    for separated in ("\n\nreplace", "\n# why\nreplace", "\n  replace"):
        assert not all_read(RULES.replace("\nreplace", separated))
    assert not all_read(RULES.replace("regex: ", "regex:")) and not all_read(RULES + "regex: 1\nreplace:\n")


def test_a_cell_that_times_out_and_handles_the_interrupt_fails(tmp_path):
    """Otherwise nbval expects the cells after it to fail, and the run passes. Also in a solution, and in a worker."""
    handled = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    folded = f"<details>\n<summary>Solution</summary>\n\n```python\n{handled}\n```\n\n</details>"
    wrong = new_code_cell("print(24)", execution_count=2, outputs=[new_output("stream", name="stdout", text="25\n")])
    slow = {"cell": new_code_cell(handled, execution_count=1), "solution": new_markdown_cell(folded)}
    for name, cell in slow.items():
        nbformat.write(new_notebook(cells=[cell, wrong]), tmp_path / f"{name}.ipynb")
    options = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=1", "-p", "no:cacheprovider", "-n", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(SANITIZE.parent), os.environ["PYTHONPATH"]))}
    command = [sys.executable, "-m", "pytest", "--color=no", "--dist", "loadfile", "-p", "solutions", *options, "."]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert finished.returncode == 1, finished.stdout
    # The second is said where a kernel is too busy to answer the interrupt.
    assert len(re.findall(r"(?:took more than|Timeout of) 1 seconds", finished.stdout)) >= 2, finished.stdout
