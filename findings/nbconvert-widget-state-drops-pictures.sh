#!/usr/bin/env bash
# nbconvert 7.17.2: an output that holds a widget and, beside it, a picture shows the picture in HTML only as long as
# the notebook stores no state of its widgets. Once it does (nbclient, and so `nbconvert --execute`, stores it unasked),
# the page holds the widget alone, whose scripts come from the network: offline, nothing is seen. One would think that
# the picture beside a widget is what a page without a kernel falls back to.
# What to do: drop nb.metadata["widgets"] before the conversion, or show the picture as an output of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nbconvert==7.17.2
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from nbconvert import HTMLExporter
from nbformat import v4

pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "image/png": pixel, "text/plain": "IntSlider()"}
slider = {"model_name": "IntSliderModel", "model_module": "@jupyter-widgets/controls", "model_module_version": "2.0.0"}
state = {"version_major": 2, "version_minor": 0, "state": {"a": slider | {"state": {}}}}
for stored in (False, True):
    nb = v4.new_notebook(cells=[v4.new_code_cell("slider", outputs=[v4.new_output("display_data", data=data)])])
    if stored:
        nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    page, _ = HTMLExporter().from_notebook_node(nb)
    print(f"nbconvert {version('nbconvert')}, widget state stored: {stored}; picture in the page: {pixel in page}")
    assert (pixel in page) is not stored
PY
