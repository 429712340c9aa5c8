"""The tour and the handout, run as commands: of the course, and of small notebooks written here."""

import re
import runpy
from base64 import b64encode
from html import unescape

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from solutions import SOLUTION
from test_notebooks import NOTEBOOKS, ROOT


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


def test_the_course_as_pages_is_all_there_and_needs_no_network(tmp_path, run):
    course = NOTEBOOKS[::3]  # with panels, and without
    assert run("tour.py", "--stored", "--out", tmp_path, *course) == (0, "")
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    for number, path in enumerate(course):
        cells = nbformat.read(path, as_version=4).cells
        page = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
        for text in (page, index):
            for tag in re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", text):
                assert not re.search(r"(?:src|href|srcset)\s*=\s*[\"']?(?!data:)[^\"'\s>]", tag), tag
            assert "@import" not in text and not re.search(r"url\((?![\"']?data:)", text)
        assert not re.search(r"# NBVAL_|Loading widget|widget-view|\$\$", page)
        assert all(f'href="{other.stem}.html"' in page for other in course[number + 1 : number + 2])
        assert f'href="{path.stem}.html"' in index and cells[0].source.partition("\n")[0].lstrip("# ") in unescape(
            index
        )
        folded = re.findall(r"<details[^>]*>(.*?)</details>", page, re.DOTALL)
        solutions = [solution for cell in cells for solution in SOLUTION.findall(cell.source)]
        assert len(folded) >= len(solutions) and not any("```" in text for text in folded)
        assert sum('<div class="highlight">' in text for text in folded) == sum("```" in text for text in solutions)
        pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", ()))
        assert page.count("data:image/png;base64,") >= pictures
    first = (tmp_path / f"{NOTEBOOKS[0].stem}.html").read_text(encoding="utf-8")
    assert re.search(
        'display="block">(<[^>]*>)*<munder>(<[^>]*>)*min<', first
    )  # limits below the operator, as in print


def test_tour_complains_about_what_fails_and_what_it_cannot_show(tmp_path, paint, run):
    complaints = {
        "The variable `$x$` and the pair `$$y$$` are code.\n\n![pixel](pixel.png)": None,
        r"So $\nosuchcommand{x}$": 'formula not understood: \\nosuchcommand{x}: Unknown command "\\nosuchcommand"',
        "And $\\frac{1}\n{2$": 'formula not understood: \\frac{1} {2: Expected closing token "}"',
        r"$$\begin{aligned} a &= b \\[6pt] c &= d \end{aligned}$$": r"formula not understood: \begin{aligned}",
        r"A box $\boxed{E}$": r"formula not understood: \boxed{E}: <menclose cannot be shown",
        "![far](https://example.org/far.png)": "picture not in the page: https://example.org/far.png",
        '<iframe src="local.html"></iframe>': "the page would need the network for <iframe",
        '<script src="https://example.org/a.js"></script>': "the page would need the network for <script src",
        '<video src="https://example.org/a.mp4"></video>': "the page would need the network for <video src",
        '<style>@import url("https://example.org/a.css")</style>': "the page would need the network for url(",
    }
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "IntSlider(value=3)"}
    stale = [new_output("stream", name="stdout", text="stale 17"), new_output("display_data", data=widget)]
    sources = ["123 * 1001", "raise KeyError('no such mode')", "6 * 7"]
    cells = [new_code_cell(source, outputs=stale) for source in sources]
    path = paint("pixel.png").with_name("odd.ipynb")
    nbformat.write(new_notebook(cells=[*map(new_markdown_cell, ("# Odd\n\nWhy?", *complaints)), *cells]), path)
    before = path.read_bytes()
    status, said = run("tour.py", "--out", tmp_path / "html", path)
    assert status == 1 and path.read_bytes() == before
    expected = ["code cell 2 failed: KeyError: 'no such mode'", *filter(None, complaints.values())]
    for line, complaint in zip(said.splitlines(), expected, strict=True):
        assert line.startswith(f"odd.ipynb: {complaint}")
    page = (tmp_path / "html" / "odd.html").read_text(encoding="utf-8")
    assert "nosuchcommand" in page and "<code>$x$</code>" in page and "<code>$$y$$</code>" in page
    assert "123123" in page and "stale 17" not in page and "data:image/png;base64," in page
    index = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"took \d+ s to run, and failed", index) and "Why?" in index
    assert run("tour.py", "--stored", "--out", tmp_path / "html", path)[1].splitlines() == said.splitlines()[1:]
    page = (tmp_path / "html" / "odd.html").read_text(encoding="utf-8")
    assert "stale 17" in page and "123123" not in page and "IntSlider" not in page
    status, said = run("tour.py", "--out", tmp_path / "html", tmp_path / "none.ipynb")
    assert status == 2 and "no such notebook" in said


BROKEN = [
    *(r"a}", r"b_{c", r"a}{b", r"\frac{a}", r"\overset{a}", r"\binom{n}", r"\sqrt", r"\hat", r"a^b^c", r"a_b_c"),
    *(r"\left( a", r"a \right)", r"\left a \right)", r"\sum_^n", r"\limits a", r"a & b", r"x #1", r"x^2'"),
    *(r"\alpah", r"\text{a_b}", r"\begin{nosuch} a \end{nosuch}", r"\begin{cases} a", r"a \end{cases}"),
]
FOUND = [  # what JupyterLab shows as formulas, and how many
    ("| h | i |\n|---|---|\n| $p(x|z)$ | $\\|b\\|$ |", 2),
    ("<details><summary>Why $a$?</summary>\n<p>For $a < b$</p>\n</details>", 2),
    (r"# On $a$" "\n\n[as $b$](odd.ipynb) *and $c*d$ or* $ e $,\n- $f$\n  $$\n  g\n  $$", 6),
    ("\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}\n\n\\\\(e\\\\) $$\\begin{aligned} a &= b \\end{aligned}$$", 3),
    (r"From $\$5$ to $x\$y$", 2),
    ("Not `$h$`, ``$`i``, one $, nor\n\n```\n$x$\n```\n\nbut $x\n+ y$. ![$z$](pixel.png)", 1),
]
# No formulas; but JupyterLab takes the first two for one, alas.
TYPED = [r"\$5 or \$6", "&#36;c&#36;", "$a\n\nb$", r"\\(d", r"\begin{align} e"]


def test_tour_shows_a_formula_wherever_jupyterlab_does_and_refuses_broken_latex(tmp_path, paint, run):
    path = paint("pixel.png").with_name("odd.ipynb")
    html = new_output("display_data", data={"text/html": "<b>$h^2$</b>"})
    latex = new_output("display_data", data={"text/latex": "$l$", "text/plain": "text of it"})
    shown = [source for source, _ in FOUND]
    sources = ["# Odd\n\nWhy?", *shown, *(f"So ${broken}$" for broken in BROKEN), *TYPED]
    cells = [*map(new_markdown_cell, sources), new_code_cell("1", outputs=[html, latex])]
    nbformat.write(new_notebook(cells=cells), path)
    status, said = run("tour.py", "--stored", "--out", tmp_path / "html", path)
    assert status == 1
    refused, typed = said.splitlines()[: len(BROKEN)], said.splitlines()[len(BROKEN) :]
    for formula, line in zip(BROKEN, refused, strict=True):
        assert re.fullmatch(rf"odd.ipynb: formula not understood: {re.escape(formula)}: \S.*", line)
    expected = ["$5 or $", "$c$", "$a b$", r"\(d", r"\begin{align} e", "$h^2$"]
    assert typed == [f"odd.ipynb: formula not shown: {one}" for one in expected]
    page = (tmp_path / "html" / "odd.html").read_text(encoding="utf-8")
    assert page.count("<math") == sum(count for _, count in FOUND) + 1 and "text of it" not in page
    assert "<code>$h$</code>" in page and "<code>$`i</code>" in page and 'alt="$z$"' in page and "@@" not in page


def test_tour_shows_what_stands_beside_a_widget_and_says_which_output_it_cannot_show(tmp_path, paint, run):
    path = paint("pixel.png").with_name("odd.ipynb")
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "IntSlider(value=3)"}
    state = {"0": {"model_name": "IntSliderModel", "model_module": "@jupyter-widgets/controls", "state": {}}}
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": state}}}
    pixel = b64encode(path.with_name("pixel.png").read_bytes()).decode()
    beside = [{"image/png": pixel}, {"image/jpeg": "/9j/4AAQ"}, {"text/html": "<i>HTML</i>"}, {"text/markdown": "*MD*"}]
    outputs = [new_output("display_data", data=widget | one) for one in beside]
    outputs += [new_output("display_data", data={"image/gif": "R0lG", "text/plain": "<Image>"})]
    attached = new_markdown_cell("![](attachment:a.png) ![](attachment:b.png)\n\n<img src='pixel.png'>")
    attached["attachments"] = {"a.png": {"image/png": pixel}}
    alone = new_code_cell("2", outputs=[new_output("display_data", data=widget)] * 2)
    cells = [new_markdown_cell("# Odd\n\nWhy?"), new_code_cell("1", outputs=outputs), alone]
    cells += [new_raw_cell("a <b\n\n$c < d$"), attached]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    status, said = run("tour.py", "--stored", "--out", tmp_path / "html", path)
    complaints = [f"output not shown: {kind}" for kind in ("image/gif", *(set(widget) - {"text/plain"}))]
    complaints += ["picture not in the page: attachment:b.png"]
    assert status == 1 and said.splitlines() == [f"odd.ipynb: {complaint}" for complaint in complaints]
    page = (tmp_path / "html" / "odd.html").read_text(encoding="utf-8")
    assert page.count(f"data:image/png;base64,{pixel}") == 3 and "data:image/jpeg;base64,/9j/4AAQ" in page
    assert "<i>HTML</i>" in page and "<em>MD</em>" in page and "a &lt;b\n\n$c &lt; d$\n" in page


def test_handout_drops_outputs_and_solutions_and_leaves_a_cell_for_each(tmp_path, run):
    before = [path.read_bytes() for path in NOTEBOOKS]
    assert run("handout.py", "--out", tmp_path) == (0, "")
    status, said = run("handout.py", "--out", NOTEBOOKS[0].parent)
    assert status == 2 and "choose another folder" in said and [path.read_bytes() for path in NOTEBOOKS] == before
    for path in NOTEBOOKS:
        old, new = (nbformat.read(file, as_version=4) for file in (path, tmp_path / path.name))
        nbformat.validate(new)
        answers = [cell for cell in new.cells if cell.cell_type == "code" and not cell.source]
        assert len(answers) == sum(len(SOLUTION.findall(cell.source)) for cell in old.cells) > 2
        assert all(not cell.outputs and cell.execution_count is None for cell in new.cells if cell.cell_type == "code")
        kept = "\n\n".join(cell.source for cell in new.cells if cell.source)
        whole = "\n\n".join(SOLUTION.sub("", cell.source) for cell in old.cells)
        assert re.sub(r"<[^>]*>|\s+", " ", kept).split() == re.sub(r"<[^>]*>|\s+", " ", whole).split()
