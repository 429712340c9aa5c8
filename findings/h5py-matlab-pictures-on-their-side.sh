#!/usr/bin/env bash
# h5py 3.16.0 and MATLAB's files of version 7.3: pictures, rows x columns x colours x N in MATLAB, have the shape (N,
# colours, COLUMNS, ROWS). Of square ones that is just the (N, 3, 32, 32) that PyTorch wants, so nothing fails, and all
# pictures lie on their side, mirrored. scipy.io.loadmat, which gives MATLAB's own axes, refuses such files and says "use
# HDF reader ... e.g. h5py", whose arrays have all axes reversed: labels, a column in MATLAB, are a row.
# What to do: file["X"][()].T is MATLAB's array; for pictures file["X"][()].swapaxes(-1, -2), for labels .ravel().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
packages="h5py==3.16.0 hdf5storage==0.2.2 numpy==2.4.6 scipy==1.17.1"
# shellcheck disable=SC2086
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check $packages
cd "$folder" && venv/bin/python - <<'PY'
import h5py
import hdf5storage
import numpy as np
import scipy
from scipy.io import loadmat, savemat

pictures = np.zeros((5, 32, 32, 3), np.uint8)
pictures[:, :4] = 255  # a bar at the top of each
content = {"X": np.moveaxis(pictures, 0, -1), "y": np.arange(1.0, 6)[:, None]}  # as SVHN has them
savemat("old.mat", content)
hdf5storage.savemat("new.mat", content, format="7.3", appendmat=False)
print("h5py", h5py.__version__, "SciPy", scipy.__version__)
assert np.array_equal(loadmat("old.mat")["X"], content["X"])
try:
    loadmat("new.mat")
except NotImplementedError as error:
    print("loadmat:", error)
else:
    raise AssertionError("loadmat reads version 7.3")
with h5py.File("new.mat") as file:
    x, y = file["X"][()], file["y"][()]
print("h5py: X is", x.shape, "and y", y.shape)
print("the bar is at the top:", bool((x[:, :, :4] == 255).all()), "- at the left:", bool((x[..., :4] == 255).all()))
assert x.shape == (5, 3, 32, 32) and y.shape == (1, 5)
assert not (x[:, :, :4] == 255).all() and (x[..., :4] == 255).all()
assert np.array_equal(x.T, content["X"]) and np.array_equal(x.swapaxes(-1, -2), pictures.transpose(0, 3, 1, 2))
PY
