"""Run the notebooks and write them as web pages that need no network.

    python tools/tour.py                                     every notebook, executed, to build/course
    python tools/tour.py --stored                            the same pages from the outputs stored in the notebooks
    python tools/tour.py notebooks/02_toy_mixture.ipynb      that one alone

The notebooks themselves are never written to. Formulas become MathML, which browsers draw without a script; pictures
become part of the page. Exit status 1 if a cell failed, a formula could not be read or something would have to be
fetched; the pages are written all the same.
"""

import argparse
import html
import re
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Adversarially Learned Inference"
CELL_TIMEOUT = 180  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"
# The converter's MathML where browsers would set it badly: "x ~ p" without room, "log D" run together, a minus sign
# after "=" with the room of a subtraction, a hat as wide as an operator.
SETTING = [
    (r' xmlns="[^"]*"', ""),
    (r"<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
    (r"<mi>&#x000B1;</mi>", "<mo>&#x000B1;</mo>"),
    (r"<mo>(?!min|max|inf|sup|lim)(\w{2,})</mo>", r"<mi>\1</mi>"),
    (r"(<mi>\w{2,}</mi>)(?=<m(?:i|n|sub|sup|subsup|over|frac|row)\b)", r'\1<mspace width="0.167em" />'),
    (
        r"(<mo[^>]*>(?!&#x0(?:0029|005D|007D|007C|2016|2032);|[])}|!])[^<]*</mo>)<mo>&#x02212;",
        r'\1<mo form="prefix">&#x02212;',
    ),
    (r"<mo>(/|&#x0002F;)</mo>", r'<mo lspace="0" rspace="0">\1</mo>'),
    (r"<mo>&#x0005E;</mo></mover>", '<mo stretchy="false">&#x002C6;</mo></mover>'),
]
# JupyterLab's page without its scripts, which would be fetched.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}<style>body { max-width: 60rem; margin: 0 auto; padding: 1rem; }</style>{% endblock %}"""


def mathml(tex: str, display: bool) -> str:
    """One formula as a `<math>` element. ValueError for unbalanced braces or an unknown command."""
    braces = re.sub(r"\\[\\{}]", "", tex)
    try:
        element = convert(tex.strip(), display="block" if display else "inline")
        ElementTree.fromstring(element)
        # The converter copies an unknown command into the page instead of complaining, and forgives a missing brace.
        if "\\" in element or braces.count("{") != braces.count("}"):
            raise ValueError
    except Exception as error:  # the converter raises whatever its parser stumbles over
        raise ValueError(f"formula not understood: {tex.strip()}") from error
    for pattern, replacement in SETTING:
        element = re.sub(pattern, replacement, element)
    if display:
        element = re.sub(r"<msub>(<mo>(?:min|max|inf|sup|lim)</mo>.*?)</msub>", r"<munder>\1</munder>", element)
    return element


class MathRenderer(IPythonRenderer):
    """Markdown to HTML with MathML. A formula that cannot be read is shown as typed and listed in `problems`."""

    problems: list[str]

    def _html_embed_images(self, html: str) -> str:
        return html  # it would close a `<details>` that goes on in Markdown

    def inline_math(self, body: str, display: bool = False) -> str:
        try:
            return mathml(body, display)
        except ValueError as error:
            self.problems.append(str(error))
            return f"<code>{html.escape(body)}</code>"

    def block_math(self, body: str) -> str:
        return self.inline_math(body, display=True)

    def latex_environment(self, name: str, body: str) -> str:
        return self.inline_math(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


def opening(nb: nbformat.NotebookNode) -> tuple[str, str]:
    """The notebook's title and the first paragraph below it, which holds its question. Both are Markdown."""
    title, question, *_ = (part.strip() for part in re.split(r"\n\s*\n", nb.cells[0].source + "\n\n"))
    return title.lstrip("# "), re.sub(r"^>\s?", "", question, flags=re.MULTILINE)


def keep_static(nb: nbformat.NotebookNode) -> None:
    """Drops what only a running notebook can show: widgets, which leave a picture beside them; test marks go too."""
    nb.metadata.pop("widgets", None)
    for cell in (cell for cell in nb.cells if cell.cell_type == "code"):
        cell.source = re.sub(r"^#\s*NBVAL_\w+\n?", "", cell.source, flags=re.MULTILINE)
        for output in list(cell.outputs):
            data = output.get("data", {})
            if data.pop(WIDGET, None) and "image/png" not in data:
                cell.outputs.remove(output)


def write(nb: nbformat.NotebookNode, folder: Path, page: Path, title: str) -> list[str]:
    """Writes a notebook whose pictures lie in `folder` as a page; a line for each thing that could not be shown."""
    problems: list[str] = []

    def markdown2html(source: str) -> str:
        renderer = MathRenderer(escape=False, embed_images=True, path=str(folder))
        renderer.problems = problems
        return MarkdownWithMath(renderer).render(source)

    keep_static(nb)
    loaders, bare = [DictLoader({"tour.html.j2": TEMPLATE})], {"exclude_input_prompt": True}
    exporter = HTMLExporter(extra_loaders=loaders, template_file="tour.html.j2", exclude_output_prompt=True, **bare)
    exporter.register_filter("markdown2html", markdown2html)
    text, _ = exporter.from_notebook_node(nb, {"metadata": {"name": title}})
    page.write_text(re.sub(r'(<a href="[\w.-]+)\.ipynb', r"\1.html", text), encoding="utf-8")
    for source in re.findall(r"""<img\b[^>]*?\bsrc=["'](?!data:)([^"']*)""", text):
        problems.append(f"picture not found beside the notebook: {html.unescape(source)}")
    remote = re.findall(r"""<(?:script|link|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""", text)
    return problems + [f"the page would need the network for {tag}" for tag in remote]


def execute(nb: nbformat.NotebookNode, folder: Path) -> list[str]:
    """Runs every cell in a fresh kernel, keeping the outputs in `nb`; a line for the cell that failed, if one did."""
    for cell in nb.cells:
        if cell.cell_type == "code":  # below a failure nothing must look as if it had run
            cell.outputs, cell.execution_count = [], None
    quiet = ["--IPKernelApp.log_level=ERROR"]  # otherwise it warns that local sockets are not encrypted
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(nb, kernel_name="python3", timeout=CELL_TIMEOUT, resources=where, extra_arguments=quiet)
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
        return [f"code cell {client.code_cells_executed} failed: {reason.strip().splitlines()[0]}"]
    return []


def tour(paths: list[Path], out: Path, stored: bool) -> int:
    """Writes one page for each notebook and the index; returns how many notebooks had something wrong."""
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    openings = [opening(nb) for nb in notebooks]
    links = [f"[{name}]({path.stem}.html)" for path, (name, _) in zip(paths, openings, strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    broken, index = 0, [f"# {TITLE}"]
    for number, (path, nb) in enumerate(zip(paths, notebooks, strict=True)):
        started = time.perf_counter()
        problems = [] if stored else execute(nb, path.parent)
        took = "stored outputs" if stored else f"took {time.perf_counter() - started:.0f} s to run"
        before, after = links[:number][-1:], links[number + 1 :][:1]
        home = f"[{TITLE}](index.html)"
        end = " · ".join([*(f"← {link}" for link in before), home, *(f"{link} →" for link in after)])
        nb.cells = [new_markdown_cell(home), *nb.cells, new_markdown_cell(end)]
        problems += write(nb, path.parent, out / f"{path.stem}.html", re.sub(r"[$`*]", "", openings[number][0]))
        failed = ", and failed" if problems and not stored else ""
        index.append(f"## {links[number]}\n\n{openings[number][1]}\n\n*{took}{failed}*")
        print(f"{path.stem}: {took}", flush=True)
        for problem in problems:
            print(f"{path.name}: {problem}", file=sys.stderr, flush=True)
        broken += bool(problems)
    write(new_notebook(cells=[new_markdown_cell("\n\n".join(index))]), ROOT, out / "index.html", TITLE)
    print(f"{len(paths)} notebooks in {out / 'index.html'}")
    return broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the notebooks and write them as web pages that need no network.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="which ones (default: all in notebooks/)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "course", help="where to write, by default there")
    parser.add_argument("--stored", action="store_true", help="show the stored outputs, run nothing")
    given = parser.parse_args()
    paths = [path.resolve() for path in given.notebooks] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        if not path.is_file():
            parser.error(f"no such notebook: {path}")
    sys.exit(bool(tour(paths, given.out, given.stored)))
