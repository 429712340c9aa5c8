#!/usr/bin/env bash
# ipywidgets 8.1.9: every widget is kept in one table until it is closed, so that deleting all names of it frees nothing.
# And closing a box closes the box alone: its children, and every layout and style, the box's own too, stay for as long
# as the kernel runs. A cell that builds a panel and is run again piles up all of its earlier ones, and what they hold.
# What to do: close children, layouts and styles one by one, and hold what is large in the panel by a weak reference.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check ipywidgets==8.1.9
"$folder/venv/bin/python" - <<'PY'
import gc
import weakref

import ipywidgets
from ipywidgets.widgets import widget


class Large:
    """Stands for a model that a callback of the panel uses."""


def panel():
    large, slider = Large(), ipywidgets.FloatSlider()
    slider.observe(lambda change: large, "value")
    return ipywidgets.VBox([slider]), weakref.ref(large)


def there():
    gc.collect()
    return len(widget._instances)


print("ipywidgets", ipywidgets.__version__)
before = there()
box, large = panel()
made = there() - before
del box
deleted, kept = there() - before, large() is not None
box, large = panel()
box.close()
del box
closed, still = there() - before - deleted, large() is not None
print(f"a box with a slider: {made} widgets; deleted: {deleted} stay, what the slider calls: {kept}")
print(f"closed and deleted: {closed} stay, what the slider calls: {still}")
assert (made, deleted, kept, closed, still) == (5, 5, True, 4, True)
PY
