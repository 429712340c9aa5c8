#!/usr/bin/env bash
# nbconvert 7.17.2: a Markdown table with a bar in one of its formulas, such as $p(x|z)$, is no table in HTML, but a
# paragraph full of bars; JupyterLab shows the table. nbconvert's Markdown knows formulas, so one would think that it
# keeps them whole; but rows are split at every bar before, and a row with one cell too many makes the whole no table.
# What to do: write \mid or \vert in tables.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nbconvert==7.17.2
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from nbconvert import HTMLExporter
from nbformat import v4

for bar in ("|", r"\mid ", r"\vert "):
    cell = v4.new_markdown_cell(f"| pair | density |\n|---|---|\n| decoder | $p(x{bar}z)$ |")
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(v4.new_notebook(cells=[cell]))
    print(f"nbconvert {version('nbconvert')}, $p(x{bar}z)$: a table: {'<table>' in page}")
    assert ("<table>" in page) is (bar != "|"), page
PY
