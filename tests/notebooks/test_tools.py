"""The tour and the handout, run as commands on small notebooks written here."""

import base64
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
# One white pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEANl9ngAAAAABJRU5ErkJggg=="
SHOW_PNG = "# NBVAL_IGNORE_OUTPUT\nfrom IPython.display import Image\nImage('pixel.png')"
PROSE = r"""# 1. A small notebook

**Which half is $\frac{1}{2}$?** The other.

$$
\min_G \max_D \mathbb{E}_q[\log D(x)]
$$

\begin{align*}
a &= b \\
c &= d
\end{align*}

The variable `$x$` and the pair `$$y$$` are code. So is

```python
price = "$z$"
```

![pixel](pixel.png) and [the next one](02_next.ipynb)
"""
EXERCISE = r"""### Exercise

Add one.

<details><summary>Solution</summary>

It is **easy**.

```python
answer = 1 + 1
```

</details>

Afterwards.
"""
STALE = [new_output("stream", name="stdout", text="stale 17")]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a tool as a command, in this process, because its imports take seconds. Returns its status and stderr."""

    def run(tool, *arguments) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", [tool, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        return status, capsys.readouterr().err

    return run


def write(path: Path, *cells) -> Path:
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "IntSlider(value=3)"}
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "pixel.png").write_bytes(base64.b64decode(PNG))
    return write(
        tmp_path / "course" / "01_small.ipynb",
        new_markdown_cell(PROSE),
        new_code_cell(SHOW_PNG, execution_count=1),
        new_code_cell("123 * 1001", execution_count=2, outputs=STALE),
        new_code_cell("'control'", execution_count=3, outputs=[new_output("display_data", data=widget)]),
        new_markdown_cell(EXERCISE),
    )


def test_tour_writes_pages_that_need_no_network_and_names_the_cell_that_failed(notebook, tmp_path, run):
    before = notebook.read_bytes()
    cells = ["1", "raise KeyError('no such mode')", "6 * 7"]
    cells = [new_markdown_cell("# 0. Broken"), *(new_code_cell(source, outputs=STALE) for source in cells)]
    broken = write(notebook.with_name("00_broken.ipynb"), *cells)
    status, said = run("tour.py", "--out", tmp_path / "html", broken, notebook)
    assert status == 1 and notebook.read_bytes() == before
    assert said.strip() == "00_broken.ipynb: code cell 2 failed: KeyError: 'no such mode'"

    page, index, failed = (
        (tmp_path / "html" / f"{name}.html").read_text(encoding="utf-8") for name in ("01_small", "index", "00_broken")
    )
    for text in (page, index):
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", text):
            assert not re.search(r"(?:src|href|srcset)\s*=\s*[\"']?(?!data:)[^\"'\s>]", tag), tag
        assert "@import" not in text and not re.search(r"url\((?![\"']?data:)", text) and "Loading widget" not in text
    assert "<mfrac>" in page and page.count("<math") == 3 and page.count('display="block"') == 2
    assert "<munder><mo>min</mo>" in page  # limits below the operator, as in print
    assert "<code>$x$</code>" in page and "<code>$$y$$</code>" in page and "$z$" in page
    assert page.count(f"data:image/png;base64,{PNG}") == 2  # the output and the picture beside the notebook
    assert "123123" in page and "stale 17" not in page + failed and "NBVAL" not in page
    assert 'href="02_next.html"' in page and 'href="00_broken.html"' in page
    folded = re.search(r"<details>(.*?)</details>", page, re.DOTALL)[1]
    assert "<strong>easy</strong>" in folded and '<div class="highlight">' in folded and "```" not in folded
    assert 'href="01_small.html"' in index and "1. A small notebook" in index and "and failed" in index
    assert "Which half is" in index and "<mfrac>" in index and re.search(r"took \d+ s", index)


def test_tour_of_stored_outputs_complains_about_what_it_cannot_show(notebook, tmp_path, run):
    complaints = {
        r"So $\nosuchcommand{x}$": r"formula not understood: \nosuchcommand{x}",
        "And $\\frac{1}{2$": "formula not understood: \\frac{1}{2",
        "![far](https://example.org/far.png)": "picture not found beside the notebook: https://example.org/far.png",
        '<script src="https://example.org/a.js"></script>': "the page would need the network for <script src",
    }
    odd = write(tmp_path / "odd.ipynb", *map(new_markdown_cell, ("# Odd", *complaints)))
    status, said = run("tour.py", "--stored", "--out", tmp_path / "html", notebook, odd)
    assert status == 1
    for line, complaint in zip(said.splitlines(), complaints.values(), strict=True):
        assert line.startswith(f"odd.ipynb: {complaint}")
    assert "nosuchcommand" in (tmp_path / "html" / "odd.html").read_text(encoding="utf-8")
    page = (tmp_path / "html" / "01_small.html").read_text(encoding="utf-8")
    assert "stale 17" in page and "123123" not in page and "widget-view" not in page and "IntSlider" not in page
    status, said = run("tour.py", "--out", tmp_path / "html", tmp_path / "none.ipynb")
    assert status == 2 and "no such notebook" in said


def test_handout_drops_outputs_and_solutions(notebook, tmp_path, run):
    before = notebook.read_bytes()
    assert run("handout.py", "--out", tmp_path / "handout", notebook)[0] == 0
    status, said = run("handout.py", "--out", notebook.parent, notebook)
    assert status == 2 and "choose another folder" in said and notebook.read_bytes() == before

    nb = nbformat.read(tmp_path / "handout" / "01_small.ipynb", as_version=4)
    nbformat.validate(nb)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in nb.cells if cell.cell_type == "code")
    everything = "\n".join(cell.source for cell in nb.cells)
    assert "answer = 1 + 1" not in everything and "details" not in everything
    assert "price" in everything and "123 * 1001" in everything
    kinds = [(cell.cell_type, cell.source) for cell in nb.cells[-3:]]
    assert kinds == [("markdown", "### Exercise\n\nAdd one."), ("code", ""), ("markdown", "Afterwards.")]
