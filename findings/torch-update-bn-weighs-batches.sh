#!/usr/bin/env bash
# torch 2.15.0: update_bn weighs batches, not examples, though it sets momentum=None "to compute the average". With a
# DataLoader as it is by default, which keeps a short last batch, the last example of 1,002 in batches of 500 counts 250
# times as much as the first: here the variance comes to 17, and is 1.2. A last batch of one example raises an error from
# inside batch norm. And where examples are in the order of their classes, the variance between batches is lost: here
# three quarters of it. Only the error says anything.
# What to do: shuffle, and give it batches of one size, for instance with torch.randperm(n).tensor_split(k).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

torch.manual_seed(0)
print("torch", torch.__version__.partition("+")[0])


def counted(x, order=None, batches=None) -> float | str:
    norm = nn.BatchNorm1d(1)
    parts = DataLoader(x, batch_size=500) if order is None else [x[i] for i in order.tensor_split(batches)]
    try:
        update_bn(parts, norm)
    except ValueError as error:
        return str(error).partition(" [")[0]
    return norm.running_var.item()


few = torch.randn(1002, 1)
few[-2:, 0] = torch.tensor([10.0, 0.0])  # two examples that are far apart
sides = torch.cat([torch.randn(500, 1) - 1.75, torch.randn(500, 1) + 1.75])  # two classes, one after the other
cases = {
    "1,002 examples": (few, None, None, 17.37),
    "1,001 examples": (few[:1001], None, None, None),
    "two classes, one after the other": (sides, None, None, 0.98),
    "1,002 examples, shuffled, in 3 parts": (few, torch.randperm(1002), 3, 1.16),
    "two classes, shuffled, in 2 parts": (sides, torch.randperm(1000), 2, 3.8),
}
for what, (x, order, parts, expected) in cases.items():
    found = counted(x, order, parts)
    print(f"{what}: {found if isinstance(found, str) else round(found, 2)}; all at once: {x.var().item():.2f}")
    assert abs(found - expected) < 0.1 if expected else found.startswith("Expected more than 1 value")
PY
