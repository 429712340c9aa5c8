"""Run the notebooks and write them as web pages that need no network.

    python tools/tour.py                                     every notebook, executed, to build/course
    python tools/tour.py --stored                            the same pages from the outputs stored in the notebooks
    python tools/tour.py notebooks/02_toy_mixture.ipynb      that one alone

The notebooks themselves are never written to. Formulas become MathML, which browsers draw without a script; pictures
become part of the page. Exit status 1 if a cell failed, a formula was not understood, an output could not be shown or
something would have to be fetched; the pages are written all the same.
"""

import argparse
import html
import re
import sys
import time
from pathlib import Path

import nbformat
from jinja2 import DictLoader, pass_context
from jinja2.runtime import Context
from math_core import LatexError, LatexToMathML
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Adversarially Learned Inference"
CELL_TIMEOUT = 180  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"
RICH = {"text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg"}  # what a page shows
# What JupyterLab takes for a formula, and code, where a dollar sign begins none.
FORMULA = re.compile(
    r"""(?P<code> ^\ *(?P<fence>```+|~~~+).*?^\ *(?P=fence) | (?P<tick>`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)(?P=tick)(?!`) )
      | (?P<block> (?<!\\)\$\$(?:(?!\n\s*\n).)+?\$\$ | \\\\\[.+?\\\\\] | \\begin{(?P<name>\w+\*?)}.*?\\end{(?P=name)} )
      | (?<![\\$])\$(?:(?!\n\s*\n)(?:\\.|[^$\\]))+\$ | \\\\\(.+?\\\\\) """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
CONVERTER = LatexToMathML(fancy_error=False)
MARK = "@@@"  # around the number of a formula
# JupyterLab's page without its scripts, which would be fetched. With a font for mathematics, without which browsers set
# the limits of a sum on the sum; and what is wider than a telephone scrolls instead of being cut off.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}<style>
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "DejaVu Math TeX Gyre", math; }
.highlight, .jp-RenderedHTMLCommon, .jp-OutputArea-child { overflow-x: auto; }
.jp-OutputArea-output pre { white-space: pre; word-break: normal; }
</style>{% endblock %}"""


def mathml(tex: str, display: bool) -> str:
    """One formula as a `<math>` element. ValueError, saying what is wrong, for one that is not right LaTeX."""
    wrong = f"formula not understood: {' '.join(tex.split())}"
    try:
        element = CONVERTER.convert_with_local_state(tex, displaystyle=display)
    except LatexError as error:
        raise ValueError(f"{wrong}: {str(error).partition(': ')[2]}") from error
    # The converter sets the first as typed, and browsers do not draw the second.
    if found := re.search(r"\\\\\s*[*\[]", tex) or re.search("<menclose", element):
        raise ValueError(f"{wrong}: {found[0]} cannot be shown")
    return element


class Renderer(IPythonRenderer):
    """Pictures become part of the page; one that is not there keeps its address."""

    def _html_embed_images(self, html: str) -> str:
        """Without parsing it, which would close a `<details>` that goes on in Markdown."""
        source = r"""(<img\b[^>]*?\bsrc=["'])([^"']+)"""
        return re.sub(source, lambda found: found[1] + (self._src_to_base64(found[2]) or found[2]), html)

    def _embed_image_or_attachment(self, src: str) -> str:
        try:
            return super()._embed_image_or_attachment(src)
        except InvalidNotebook:
            return src


def with_formulas(source: str, renderer: IPythonRenderer, problems: list[str]) -> str:
    """Markdown to HTML with MathML. A formula that cannot be read is shown as typed and listed in `problems`.

    As in JupyterLab, formulas are taken out first, so that one in a table or in HTML is found and no `|` or `*` in one
    means anything else.
    """
    formulas: list[re.Match] = []

    def take_out(found: re.Match) -> str:
        if found["code"]:
            return found[0]
        formulas.append(found)
        return f"{MARK}{len(formulas) - 1}{MARK}"

    def put_back(found: re.Match) -> str:
        if not found["number"]:  # a tag, or code: as typed
            return re.sub(rf"{MARK}(\d+){MARK}", lambda found: html.escape(formulas[int(found[1])][0]), found[0])
        formula = formulas[int(found["number"])]
        tex = re.sub(r"^(?:\$\$?|\\\\[\[(])|(?:\$\$?|\\\\[\])])$", "", formula[0])
        try:
            return mathml(tex, display=bool(formula["block"]))
        except ValueError as error:
            problems.append(str(error))
            return f"<code>{html.escape(tex)}</code>"

    page = MarkdownWithMath(renderer).render(FORMULA.sub(take_out, source))
    return re.sub(rf"(?s)<(pre|code)\b.*?</\1>|<[^>]*>|{MARK}(?P<number>\d+){MARK}", put_back, page)


def opening(nb: nbformat.NotebookNode) -> tuple[str, str]:
    """The notebook's title and the first paragraph below it, which holds its question. Both are Markdown."""
    first = nb.cells[0].source if nb.cells else ""
    title, question, *_ = (part.strip() for part in re.split(r"\n\s*\n", first + "\n\n"))
    return title.lstrip("# "), re.sub(r"^>\s?", "", question, flags=re.MULTILINE)


def keep_static(nb: nbformat.NotebookNode) -> list[str]:
    """Drops what only a running notebook can show: widgets, which leave a picture beside them; test marks go too. A
    line for each output of which nothing would be seen."""
    problems = []
    nb.metadata.pop("widgets", None)  # with it, nbconvert would show the dead widget in place of what is beside it
    for cell in nb.cells:
        if cell.cell_type == "raw":  # nbconvert would take it for HTML
            cell.update(new_markdown_cell(f"~~~~~~~~\n{cell.source}\n~~~~~~~~"))
        if cell.cell_type == "code":
            cell.source = re.sub(r"^#\s*NBVAL_\w+\n?", "", cell.source, flags=re.MULTILINE)
        for output in list(cell.get("outputs", ())):
            data = output.get("data", {})
            if "text/latex" in data:
                data.setdefault("text/markdown", data.pop("text/latex"))
            if data.pop(WIDGET, None) and not data.keys() & RICH:
                cell.outputs.remove(output)
                if not cell.outputs:
                    problems.append(f"output not shown: {WIDGET}")
            elif data and not data.keys() & RICH and (unknown := data.keys() - {"text/plain"}):
                problems.append(f"output not shown: {', '.join(sorted(unknown))}")
    return problems


def write(nb: nbformat.NotebookNode, folder: Path, page: Path, title: str) -> list[str]:
    """Writes a notebook whose pictures lie in `folder` as a page; a line for each thing that could not be shown."""
    problems = keep_static(nb)

    @pass_context
    def markdown2html(context: Context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = Renderer(escape=False, embed_images=True, path=str(folder), attachments=attachments)
        return with_formulas(source, renderer, problems)

    loaders, bare = [DictLoader({"tour.html.j2": TEMPLATE})], {"exclude_input_prompt": True}
    exporter = HTMLExporter(extra_loaders=loaders, template_file="tour.html.j2", exclude_output_prompt=True, **bare)
    exporter.register_filter("markdown2html", markdown2html)
    text, _ = exporter.from_notebook_node(nb, {"metadata": {"name": title}})
    page.write_text(re.sub(r'(<a href="[\w.-]+)\.ipynb', r"\1.html", text), encoding="utf-8")
    for source in re.findall(r"""<img\b[^>]*?\bsrc=["'](?!data:)([^"']*)""", text):
        problems.append(f"picture not in the page: {html.unescape(source)}")
    remote = re.findall(r"""<(?!a\b|img\b)\w[^>]*?\b(?:src|href|poster)=["']?(?!data:|[#"'])[^>]*>""", text)
    remote += re.findall(r"""(?:@import|\burl\(|\bimport)[\s"'(]*(?:https?:)?//[^\s"')]*""", text)
    problems += [f"the page would need the network for {tag}" for tag in remote]
    # JupyterLab looks for formulas in the finished page, so that it also finds what is typed as \$ or made by HTML.
    prose = html.unescape(re.sub(r"(?s)<(pre|code|math|script|style|title)\b.*?</\1>|<[^>]*>", "", text))
    typed = re.findall(r"\$\$|\$(?:(?!\n\s*\n)[^$])+\$|\\[([].*|\\(?:begin|eqref|ref|newcommand)\b.*", prose)
    return problems + [f"formula not shown: {' '.join(one.split())}" for one in typed]


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
