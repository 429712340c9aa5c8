#!/usr/bin/env bash
# nbconvert 7.17.2: with embed_images=True, HTML that opens in one paragraph of a Markdown cell and closes in a later one
# is closed at once. Each piece of raw HTML goes through BeautifulSoup by itself, which closes what it leaves open: a
# <details> with Markdown inside, the usual way to fold a solution away, ends before the Markdown, which then stands
# unfolded. Without embed_images the tags come out as they were written. No picture needs to be in the cell.
# What to do: put pictures into the page oneself, by a pattern and not by a parser.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nbconvert==7.17.2
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from nbconvert import HTMLExporter
from nbformat import v4

cell = v4.new_markdown_cell("<details><summary>Solution</summary>\n\nIt is *four*.\n\n</details>")
for embed in (False, True):
    page, _ = HTMLExporter(template_name="basic", embed_images=embed).from_notebook_node(v4.new_notebook(cells=[cell]))
    opened, answer = page.index("<details>"), page.index("<em>four</em>")
    closed_first = "</details>" in page[opened:answer]
    print(f"nbconvert {version('nbconvert')}, embed_images={embed}: closed before the solution: {closed_first}")
    assert closed_first is embed, page
PY
