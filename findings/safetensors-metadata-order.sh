#!/usr/bin/env bash
# safetensors 0.8.0: save and save_file write the metadata in an order that differs from call to call, in one process
# too. So the same tensors with the same metadata give files of other bytes, and checksums, caches by content and
# version control see a change where there is none. Without metadata, or with one entry, the files are equal.
# One would think otherwise because tensors are written in a fixed order, whatever that of the dict, and because a dict
# keeps its own.
# What to do: put all metadata into one entry, as JSON with sorted keys, or compare tensors instead of files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import json

import numpy as np
import safetensors
from safetensors.numpy import save

tensors = {"weight": np.ones((4, 3), np.float32), "bias": np.zeros(4, np.float32)}
known = {"seed": "0", "steps": "3600", "data": "digits", "accuracy": "0.93", "licence": "MIT"}
CASES = {
    "no metadata": lambda: save(tensors),
    "no metadata, tensors in the other order": lambda: save(dict(reversed(tensors.items()))),
    "one entry": lambda: save(tensors, {"known": json.dumps(known, sort_keys=True)}),
    "five entries": lambda: save(tensors, known),
}
print("safetensors", safetensors.__version__)
for name, saved in CASES.items():
    files = {saved() for _ in range(100)}
    print(f"{name}: {len(files)} different files in 100 calls")
    assert (len(files) > 10) if name == "five entries" else (len(files) == 1)
length = int.from_bytes(save(tensors, known)[:8], "little")
for _ in range(2):
    print(*json.loads(save(tensors, known)[8 : 8 + length])["__metadata__"])
assert save(tensors) == CASES["no metadata, tensors in the other order"]()
PY
