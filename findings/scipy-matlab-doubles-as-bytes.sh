#!/usr/bin/env bash
# SciPy 1.17.1: loadmat gives a MATLAB double array back as uint8 where all its values are whole numbers from 0 to 255.
# MATLAB stores such an array in the smallest type, and loadmat keeps that type, though the file and whosmat say double.
# So labels 0 to 9, doubles in MATLAB as all its numbers are, wrap without a warning: y - 1 of 0 is 255, and 30 * y of 9
# is 14. The type depends on the values: with one 0.5 among them the same variable is float64. The file is written here
# byte for byte as MATLAB's own description, "MAT-File Format", says.
# What to do: loadmat(file, mat_dtype=True), which goes by the class, or astype before any arithmetic.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cd "$folder" && venv/bin/python -W error - <<'PY'
import struct

import numpy as np
import scipy
from scipy.io import loadmat, whosmat

BYTE, INT, UINT, DOUBLE, MATRIX, DOUBLE_CLASS = 2, 5, 6, 9, 14, 6  # numbers of the format


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def write(file: str, values: list[float]) -> None:
    """The variable y, a column of doubles, in the smallest type that holds them."""
    array = np.array(values)
    kind, stored = (BYTE, array.astype("u1")) if (array % 1 == 0).all() else (DOUBLE, array)
    about = element(UINT, struct.pack("<II", DOUBLE_CLASS, 0)) + element(INT, struct.pack("<ii", len(values), 1))
    with open(file, "wb") as out:
        out.write(b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\0\1IM")
        out.write(element(MATRIX, about + element(1, b"y") + element(kind, stored.tobytes())))


print("SciPy", scipy.__version__)
write("whole.mat", range(10))
write("half.mat", [*range(9), 0.5])
assert whosmat("whole.mat") == whosmat("half.mat") == [("y", (10, 1), "double")]
y = loadmat("whole.mat")["y"]
print("class double, whole numbers:", y.dtype)
print("  y - 1: ", (y - 1).ravel().tolist())
print("  30 * y:", (30 * y).ravel().tolist())
assert y.dtype == np.uint8 and (y - 1)[0, 0] == 255 and (30 * y)[9, 0] == 14
print("class double, with a half:  ", (half := loadmat("half.mat")["y"]).dtype)
print("mat_dtype=True:             ", (right := loadmat("whole.mat", mat_dtype=True)["y"]).dtype)
assert half.dtype == right.dtype == np.float64 and (right - 1)[0, 0] == -1
PY
