"""Write the notebooks for a class: no outputs, no solutions, an empty cell to write in below each exercise.

    python tools/handout.py                     every notebook to build/handout
    python tools/handout.py NOTEBOOK --out DIR

A solution is a `<details><summary>Solution ...</summary> ... </details>` block in a Markdown cell. The notebooks
themselves are never written to.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
SOLUTION = re.compile(r"\n*<details[^>]*>\s*<summary>\s*Solution.*?</details>[ \t]*", re.DOTALL | re.IGNORECASE)


def handout(nb: nbformat.NotebookNode) -> int:
    """Strips `nb` in place; returns how many solutions were taken out."""
    kept, removed = [], 0
    for cell in nb.cells:
        kept.append(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source, *after = SOLUTION.split(cell.source)
            for number, text in enumerate(after, start=removed + 1):
                kept.append(new_code_cell(id=f"answer-{number}"))
                kept.append(new_markdown_cell(text.strip(), id=f"after-{number}"))
            removed += len(after)
    nb.cells = [cell for cell in kept if cell.cell_type == "code" or cell.source.strip()]
    nb.metadata.pop("widgets", None)
    return removed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the notebooks without outputs and solutions.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="which ones (default: all in notebooks/)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "handout", help="where to write")
    given = parser.parse_args()
    paths = given.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    given.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.resolve().parent == given.out.resolve():
            parser.error(f"{given.out} holds the notebooks themselves; choose another folder for the handout")
        nb = nbformat.read(path, as_version=4)
        print(f"{path.name}: {handout(nb)} solutions taken out")
        nbformat.write(nb, given.out / path.name)
    print(f"{len(paths)} notebooks in {given.out}")
