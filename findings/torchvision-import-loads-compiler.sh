#!/usr/bin/env bash
# torchvision 0.29.2 with torch 2.15.0: any import of torchvision, as for make_grid or a data set, imports torch's
# compiler (torch._dynamo), which is most of its time, though nothing is compiled. It comes in by
# torchvision/ops/roi_align.py, whose own helper lazy_compile is there to avoid just that. To import torch does not do it.
# What to do: import torchvision where it is needed, and not where a dozen lines of tensors do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2
"$folder/venv/bin/python" - <<'PY'
import inspect
import sys
import time
import traceback

import torch

assert "torch._dynamo" not in sys.modules
found = []


class Finder:
    """Notes who asks for the compiler first, and how long it takes."""

    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo" and not found:
            frames = traceback.extract_stack()
            asked = next(f for f in reversed(frames[:-1]) if "importlib" not in f.filename)
            found.append(asked.filename.rpartition("site-packages/")[2])


sys.meta_path.insert(0, Finder())
begin = time.process_time()
from torchvision.utils import make_grid  # noqa: E402

seconds = time.process_time() - begin
from torchvision.ops import roi_align  # noqa: E402

helper = inspect.getdoc(sys.modules[roi_align.__module__].lazy_compile)
print("torch", torch.__version__.partition("+")[0], "torchvision", sys.modules["torchvision"].__version__.partition("+")[0])
print(f"make_grid: {seconds:.1f} processor seconds, with torch._dynamo: {'torch._dynamo' in sys.modules}, by {found}")
print("lazy_compile:", helper.splitlines()[-1].strip())
assert "torch._dynamo" in sys.modules and found == ["torchvision/ops/roi_align.py"]
assert make_grid
PY
