#!/usr/bin/env bash
# Pillow 13.0.0 makes 8 bits of 16 in two ways. Of a grey picture, convert("L") or convert("RGB") cuts every value off at
# 255: a ramp over 65,536 values becomes white but for its first 256. Of the same ramp in colour it takes the upper 8
# bits, already when the file is opened. So in one folder the same grey is 255 in one file and 1 in another, and values
# of 12 bits are nearly white if grey, nearly black if in colour. There is no warning in either case.
# What to do: scale I;16 yourself, by what is white in the files; convert 16-bit colour to 8 bits with another tool.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 pypng==0.20220715.0
cd "$folder" && venv/bin/python -W error - <<'PY'
import numpy as np
import PIL
import png
from PIL import Image

values = np.array([0, 200, 255, 300, 4095, 40_000, 65_535])
with open("grey.png", "wb") as file:
    png.Writer(len(values), 1, bitdepth=16, greyscale=True).write(file, [values])
with open("colour.png", "wb") as file:
    png.Writer(len(values), 1, bitdepth=16, greyscale=False).write(file, [values.repeat(3)])
print("Pillow", PIL.__version__)
print("16-bit values ", values.tolist())
for name, mode, expected in (
    ("grey", "I;16", [0, 200, 255, 255, 255, 255, 255]),
    ("colour", "RGB", [0, 0, 0, 1, 15, 156, 255]),
):
    with Image.open(f"{name}.png") as picture:
        found = np.asarray(picture.convert("RGB"))[0, :, 0].tolist()
        print(f"{name:<7}{picture.mode:<7}", found)
        assert (picture.mode, found) == (mode, expected)
PY
