"""Write the notebooks for a class: no outputs, no solutions, an empty cell to write in below each exercise.

    python tools/handout.py                     every notebook to build/handout
    python tools/handout.py NOTEBOOK --out DIR

A solution is a `<details><summary>Solution ...</summary> ... </details>` block in a Markdown cell, or a whole cell
tagged "solution". The notebooks themselves are never written to.
"""

import argparse
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
SOLUTION = re.compile(r"\n*<details[^>]*>\s*<summary>\s*Solution.*?</details>[ \t]*", re.DOTALL | re.IGNORECASE)


def handout(nb: nbformat.NotebookNode) -> int:
    """Strips `nb` in place; returns how many solutions were taken out."""
    tagged = [cell for cell in nb.cells if "solution" in cell.metadata.get("tags", [])]
    removed, kept = len(tagged), []
    for cell in (cell for cell in nb.cells if cell not in tagged):
        kept.append(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
        elif cell.cell_type == "markdown":
            cell.source, *rest = SOLUTION.split(cell.source)
            removed += len(rest)
            for number, text in enumerate(rest, start=1):
                kept.append(nbformat.v4.new_code_cell(id=f"{cell.id}-answer{number}"[-64:]))
                kept.append(nbformat.v4.new_markdown_cell(text.strip(), id=f"{cell.id}-after{number}"[-64:]))
    nb.cells = [cell for cell in kept if cell.cell_type != "markdown" or cell.source.strip()]
    nb.metadata.pop("widgets", None)
    return removed


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the notebooks without outputs and solutions.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="which ones (default: all in notebooks/)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "handout", help="where to write")
    arguments = parser.parse_args()
    paths = arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    if any(arguments.out.resolve() == path.resolve().parent for path in paths):
        parser.error(f"{arguments.out} holds the notebooks themselves; choose another folder for the handout")
    for path in paths:
        nb = nbformat.read(path, as_version=4)
        print(f"{path.name}: {handout(nb)} solutions taken out")
        nbformat.write(nb, arguments.out / path.name)
    print(f"{len(paths)} notebooks in {arguments.out}")


if __name__ == "__main__":
    main()
