#!/usr/bin/env bash
# torch 2.15.0 (CPU): randn_like and normal_ draw other numbers for a channels_last tensor than for a contiguous one of
# the same shape from the same seed: not the same ones in another order, but other ones, by another algorithm, which
# takes several times as long. rand_like draws the same numbers for both, in the order of memory.
# One would think otherwise because a memory format is a promise about speed alone, and channels_last is there to be
# quicker; a channels_last tensor is as dense as a contiguous one.
# What to do: draw a contiguous tensor, torch.randn(x.shape), and add that; or expect other numbers, and the time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import time

import torch

torch.set_num_threads(1)
SHAPE = 128, 3, 32, 32
like = {"contiguous": torch.empty(SHAPE), "channels_last": torch.empty(SHAPE).to(memory_format=torch.channels_last)}


def drawn(draw, name: str) -> torch.Tensor:
    """The numbers in the order in which they lie in memory."""
    torch.manual_seed(0)
    x = draw(like[name])
    return (x if name == "contiguous" else x.permute(0, 2, 3, 1)).flatten()


def seconds(draw, name: str) -> float:
    took = []
    for _ in range(20):
        begin = time.process_time()
        draw(like[name])
        took.append(time.process_time() - begin)
    return sorted(took)[10]


print("torch", torch.__version__.partition("+")[0])
for draw in (torch.rand_like, torch.randn_like):
    one, other = (drawn(draw, name) for name in like)
    times = {name: seconds(draw, name) for name in like}
    ratio = times["channels_last"] / times["contiguous"]
    common = len(set(one.tolist()) & set(other.tolist())) / len(set(one.tolist()))
    print(f"{draw.__name__}: the same in order of memory: {torch.equal(one, other)}, in both: {common:.2f}, ", end="")
    print(f"channels_last takes {ratio:.1f} times as long")
    if draw is torch.rand_like:
        assert torch.equal(one, other)
    else:
        assert common < 0.5 and ratio > 2
PY
