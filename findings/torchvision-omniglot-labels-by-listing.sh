#!/usr/bin/env bash
# torchvision 0.29.2: Omniglot numbers its classes in the order in which the system lists the folders, which os.listdir
# does not sort. The same files on another disk give other labels: a model trained on one machine is wrong on the other,
# without an error. ImageFolder sorts. Here the listing is turned round, as another file system may have it.
# What to do: go by dataset._characters, the names of the classes in the order of the labels, and not by the numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2
cd "$folder" && venv/bin/python - <<'PY'
import os
from pathlib import Path
from unittest.mock import patch

import torchvision
from PIL import Image
from torchvision.datasets import ImageFolder, Omniglot

for alphabet, character in (("Greek", "character01"), ("Greek", "character02"), ("Latin", "character01")):
    place = Path("data/omniglot-py/images_background", alphabet, character)
    place.mkdir(parents=True)
    Image.new("L", (105, 105), 255).save(place / "0001_01.png")


class Small(Omniglot):
    """Of three pictures, whose archive nobody needs."""

    def _check_integrity(self):
        return True


listed, orders = os.listdir, []
print("torchvision", torchvision.__version__.partition("+")[0])
for name, listing in (("sorted", lambda path: sorted(listed(path))), ("turned round", lambda path: sorted(listed(path))[::-1])):
    with patch("os.listdir", listing):
        data = Small("data")
    orders.append(data._characters)
    print(f"{name}: label 0 is {data._characters[data[0][1]]}")
    assert ImageFolder("data/omniglot-py/images_background").classes == ["Greek", "Latin"]
assert orders[0][0] == "Greek/character01" and orders[1][0] == "Latin/character01"
PY
