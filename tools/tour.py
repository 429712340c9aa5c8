"""Run the notebooks and write them as web pages that need no network.

    python tools/tour.py                                     every notebook, executed, to build/course
    python tools/tour.py --stored                            the same pages from the outputs stored in the notebooks
    python tools/tour.py notebooks/02_toy_mixture.ipynb      that one alone

The notebooks themselves are never written to. Formulas become MathML, which browsers draw without a script; pictures
become part of the page. Exit status 1 when a cell failed, a formula could not be read or something would have to be
fetched; the pages are written all the same.
"""

import argparse
import base64
import html
import mimetypes
import re
import string
import sys
import time
from pathlib import Path
from typing import ClassVar

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, MathBlockParser
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Adversarially Learned Inference"
CELL_TIMEOUT = 180  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"
VISIBLE = {"image/png", "image/jpeg", "image/svg+xml", "text/html", "text/markdown"}

# What the converter does not know, said so that it does. JupyterLab numbers no equation, so the pages do not either.
SPELLING = [
    (r"\\(begin|end)\{(?:align|aligned|gather|gathered|split)\*?\}", r"\\\1{align*}"),
    (r"\\(?:begin|end)\{equation\*?\}", ""),
    (r"\\(mathcal|mathbb|mathbf|mathrm|boldsymbol)\s+([A-Za-z0-9])", r"\\\1{\2}"),
    (r"\\arg(?![A-Za-z])", r"\\operatorname{arg}"),
]
# Its MathML where browsers would set it badly: "x ~ p" without room, "log D" run together, a minus sign after "=" with
# the room of a subtraction, a hat as wide as an operator.
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
    (r"<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>"),
    (r"<mo>(/|&#x0002F;)</mo>", r'<mo lspace="0" rspace="0">\1</mo>'),
    (r"<mo>&#x0005E;</mo></mover>", '<mo stretchy="false">&#x002C6;</mo></mover>'),
]

CSS = """
body { margin: 0 auto; padding: 0 1.5rem 4rem; max-width: 54rem; color: #1b1f24; background: #fff;
       font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }
nav { display: flex; justify-content: space-between; gap: 1rem; padding: 1rem 0; font-size: .9rem; color: #57606a; }
nav.end { margin-top: 3rem; border-top: 1px solid #d8dee4; }
a { color: #0a5fb4; text-decoration: none; } a:hover { text-decoration: underline; }
h1, h2, h3 { line-height: 1.25; margin: 2.2em 0 .6em; } h1 { margin-top: .6em; font-size: 2rem; }
h2 { padding-bottom: .2em; border-bottom: 1px solid #d8dee4; font-size: 1.45rem; } h3 { font-size: 1.15rem; }
.anchor-link { visibility: hidden; margin-left: .4em; color: #8c959f; } :hover > .anchor-link { visibility: visible; }
code, pre { font: .9em/1.5 ui-monospace, "SF Mono", Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace; }
p code, li code, td code { padding: .1em .3em; border-radius: 3px; background: #f0f2f5; }
pre { margin: 0; overflow-x: auto; } pre code { font-size: 1em; }
.input, div.highlight { margin: 1rem 0 0; } .input div.highlight { margin: 0; }
div.highlight pre { padding: .75rem 1rem; border-left: 3px solid #0a5fb4; border-radius: 3px; background: #f6f8fa; }
.output_area { margin: .6rem 0 1rem; overflow-x: auto; } .output_text pre { padding: 0 1rem; color: #3d444d; }
.output_error pre { padding: .75rem 1rem; border-left: 3px solid #c0392b; background: #fdf3f2; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
blockquote { margin: 1.2rem 0; padding: .1rem 1.2rem; border-left: 3px solid #d98e04; background: #fdf8ee; }
details { margin: 1rem 0; padding: .5rem 1rem; border: 1px solid #d8dee4; border-radius: 4px; }
summary { cursor: pointer; font-weight: 600; } details[open] > summary { margin-bottom: .8rem; }
table { margin: 1rem auto; border: 0; border-collapse: collapse; font-size: .95rem; }
th, td { padding: .35rem .8rem; border: 0; border-bottom: 1px solid #d8dee4; text-align: left; vertical-align: top; }
math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", "DejaVu Math TeX Gyre", math; }
math[display=block] { margin: 1.1rem 0; overflow-x: auto; overflow-y: hidden; }
math mtd { padding-left: .1em; padding-right: .1em; } math [mathvariant^=bold] { font-weight: bold; }
.ansi-red-fg { color: #b42318; } .ansi-green-fg { color: #1a7f37; } .ansi-bold { font-weight: bold; }
.contents { padding: 0; list-style: none; } .contents li { padding: 1rem 0; border-top: 1px solid #d8dee4; }
.contents h2 { margin: 0; border: 0; font-size: 1.2rem; } .contents p { margin: .3rem 0 0; } .quiet { color: #57606a; }
"""
PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$css</style>
</head>
<body>
$body
</body>
</html>
"""
)


def mathml(tex: str, display: bool = False) -> str:
    """One formula as a `<math>` element. Raises ValueError when it holds a command the converter does not know."""
    spelled = tex.strip()
    for pattern, replacement in SPELLING:
        spelled = re.sub(pattern, replacement, spelled)
    try:
        element = convert(spelled, display="block" if display else "inline")
    except Exception as error:  # the converter raises whatever its parser stumbles over
        raise ValueError(f"formula not understood: {tex.strip()}") from error
    if "\\" in element or "<mi>&</mi>" in element:  # it copies an unknown command into the page instead of complaining
        raise ValueError(f"formula not understood: {tex.strip()}")
    for pattern, replacement in SETTING:
        element = re.sub(pattern, replacement, element)
    if display:
        element = re.sub(r"<msub>(<mo>(?:min|max|inf|sup|lim)</mo>.*?)</msub>", r"<munder>\1</munder>", element)
    return element


class MathRenderer(IPythonRenderer):
    """Markdown to HTML with MathML. A formula that cannot be read is shown as typed and listed in `problems`."""

    def __init__(self, problems: list[str], attachments: dict | None = None):
        super().__init__(escape=False, attachments=attachments)
        self.problems = problems

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


class MathAtLineStart(MathBlockParser):
    """Displayed formulas begin a line. Elsewhere `$$` may be in a code span, which only the inline rules can tell."""

    SPECIFICATION: ClassVar = {
        **MathBlockParser.SPECIFICATION,
        "multiline_math": rf"^ {{0,3}}(?:{MathBlockParser.MULTILINE_MATH})",
    }


def markdown(source: str, problems: list[str], attachments: dict | None = None) -> str:
    return MarkdownWithMath(MathRenderer(problems, attachments), block=MathAtLineStart()).render(source)


def opening(nb: nbformat.NotebookNode) -> tuple[str, str]:
    """The notebook's H1 and the first paragraph below it, which holds its question. Both are Markdown."""
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    heading, _, rest = text.strip().partition("\n")
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", rest))
    question = next((part for part in paragraphs if part and not part.startswith("#")), "")
    return heading.lstrip("# "), re.sub(r"^>\s?", "", question, flags=re.MULTILINE)


def keep_static(nb: nbformat.NotebookNode) -> None:
    """Drop what only a running notebook can show: a widget leaves its picture, or else a note; test marks go too."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        cell.source = re.sub(r"^#\s*NBVAL_\w+\n?", "", cell.source, flags=re.MULTILINE)
        has_picture = any(VISIBLE & output.get("data", {}).keys() for output in cell.outputs)
        for output in list(cell.outputs):
            data = output.get("data", {})
            if "text/latex" in data:
                data["text/markdown"] = data.pop("text/latex")
            if data.pop(WIDGET, None) is None or VISIBLE & data.keys():
                continue
            if has_picture:
                cell.outputs.remove(output)
            else:
                data["text/markdown"] = "*A control to move by hand: run the notebook to use it.*"


def embed(page: str, folder: Path, problems: list[str]) -> str:
    """Move pictures that are named by a path into the page, and list whatever it would still have to fetch."""

    def inline(match: re.Match) -> str:
        src = html.unescape(match[2])
        if src.startswith("data:"):
            return match[0]
        if "://" in src or not (folder / src).is_file():
            problems.append(f"picture not found beside the notebook: {src}")
            return match[0]
        kind = mimetypes.guess_type(src)[0] or "image/png"
        return f"{match[1]}data:{kind};base64,{base64.b64encode((folder / src).read_bytes()).decode()}"

    page = re.sub(r"""(<img\b[^>]*?\bsrc=["'])([^"']*)""", inline, page)
    remote = re.findall(r"""<(?:script|link|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""", page)
    problems.extend(f"the page would need the network for {tag}" for tag in remote)
    return page


def render(nb: nbformat.NotebookNode, folder: Path) -> tuple[str, list[str]]:
    """The notebook's cells as HTML, and one line for each thing in them that could not be shown."""
    problems: list[str] = []

    @pass_context
    def markdown2html(context, source: str) -> str:
        return markdown(source, problems, context.get("cell", {}).get("attachments"))

    keep_static(nb)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown2html)
    body, _ = exporter.from_notebook_node(nb)
    body = re.sub(r'(<a href="[\w.-]+)\.ipynb', r"\1.html", body)
    return embed(body, folder, problems), problems


def execute(nb: nbformat.NotebookNode, folder: Path) -> list[str]:
    """Run every cell in a fresh kernel, keeping the outputs in `nb`; a line for the cell that failed, if one did."""
    for cell in nb.cells:
        if cell.cell_type == "code":  # below a failure nothing must look as if it had run
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        nb,
        kernel_name="python3",
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else it warns that local sockets are not encrypted
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = client.code_cells_executed
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
        return [f"code cell {number} failed: {reason.strip().splitlines()[0]}"]
    return []


def write_page(path: Path, title: str, body: str) -> None:
    css = CSS + HtmlFormatter(style="friendly").get_style_defs("div.highlight")
    path.write_text(PAGE.substitute(title=html.escape(title), css=css, body=body), encoding="utf-8")


def contents(entries: list[dict]) -> str:
    """The index: what each notebook is called, asks and took."""
    items = [
        f'<li><h2><a href="{entry["page"]}">{entry["heading"]}</a></h2>\n{markdown(entry["question"], [])}'
        f'<p class="quiet">{entry["note"]}</p></li>'
        for entry in entries
    ]
    return f'<h1>{TITLE}</h1>\n<ol class="contents">\n' + "\n".join(items) + "\n</ol>"


def tour(paths: list[Path], out: Path, stored: bool) -> int:
    """Write one page for each notebook and the index; return how many notebooks had something wrong."""
    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    entries = []
    for path, nb in notebooks.items():
        heading, question = opening(nb)
        heading = re.sub(r"<a class=.*|</?h1[^>]*>", "", markdown(f"# {heading or path.stem}", [])).strip()
        entries.append(
            {"page": f"{path.stem}.html", "heading": heading, "question": question, "note": "stored outputs"}
        )
    links = ["", *(f'<a href="{entry["page"]}">{entry["heading"]}</a>' for entry in entries), ""]

    out.mkdir(parents=True, exist_ok=True)
    broken = 0
    for position, (path, nb) in enumerate(notebooks.items()):
        started = time.perf_counter()
        problems = [] if stored else execute(nb, path.parent)
        seconds = time.perf_counter() - started
        body, unshown = render(nb, path.parent)
        problems += unshown

        entry = entries[position]
        if not stored:
            entry["note"] = f"took {seconds:.0f} s to run" + (", and failed" if problems else "")
        before, after = links[position], links[position + 2]
        top = f'<nav><a href="index.html">{TITLE}</a></nav>'
        end = f'<nav class="end"><span>{before and "← " + before}</span><span>{after and after + " →"}</span></nav>'
        title = re.sub(r"<[^>]+>", "", entry["heading"])
        write_page(out / entry["page"], title, f"{top}\n<main>\n{body}\n</main>\n{end}")
        print(f"{path.stem}: {'stored outputs' if stored else f'{seconds:.1f} s'}", flush=True)
        for problem in problems:
            print(f"{path.name}: {problem}", file=sys.stderr, flush=True)
        broken += bool(problems)
    write_page(out / "index.html", TITLE, contents(entries))
    print(f"{len(entries)} notebooks in {out / 'index.html'}")
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the notebooks and write them as web pages that need no network.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="which ones (default: all in notebooks/)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "course", help="where to write (default: build/course)"
    )
    parser.add_argument("--stored", action="store_true", help="show the stored outputs, run nothing")
    arguments = parser.parse_args()
    paths = [path.resolve() for path in arguments.notebooks] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        parser.error(f"no such notebook: {', '.join(missing)}" if missing else "there is no notebook in notebooks/")
    sys.exit(1 if tour(paths, arguments.out, arguments.stored) else 0)


if __name__ == "__main__":
    main()
