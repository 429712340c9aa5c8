#!/usr/bin/env bash
# torch 2.15.0: under torch.autocast, torch.func.vmap leaves convolutions, and linear layers with a bias, in float32, be
# it weights or examples or both that are batched; a linear layer without a bias is computed in bfloat16. There is no
# warning. An ensemble of models as one computation so costs what float32 costs, and its numbers are not the loop's.
# One would think otherwise because in a loop over the same models all of these layers give bfloat16.
# What to do: hand vmap weights and examples that are bfloat16 already, and do not rely on autocast.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import warnings

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

warnings.simplefilter("error")
LAYERS = {
    "Linear": (lambda bias: nn.Linear(8, 4, bias=bias), (5, 8)),
    "Conv2d": (lambda bias: nn.Conv2d(3, 4, 3, bias=bias), (5, 3, 8, 8)),
    "ConvTranspose2d": (lambda bias: nn.ConvTranspose2d(3, 4, 3, bias=bias), (5, 3, 8, 8)),
}
print("torch", torch.__version__.partition("+")[0])
for name, (make, shape) in LAYERS.items():
    for bias in (True, False):
        layers, x = [make(bias) for _ in range(3)], torch.randn(3, *shape)
        weights, _ = stack_module_state(layers)
        with torch.autocast("cpu", torch.bfloat16):
            loop = torch.stack([layer(part) for layer, part in zip(layers, x)])
            both = vmap(lambda w, x: functional_call(layers[0], w, (x,)))(weights, x)
            only_x = vmap(layers[0])(x)
        print(f"{name}, bias={bias}: loop {loop.dtype}, vmap {both.dtype}, over examples alone {only_x.dtype}")
        expected = torch.bfloat16 if (name, bias) == ("Linear", False) else torch.float32
        assert (loop.dtype, both.dtype, only_x.dtype) == (torch.bfloat16, expected, expected)
PY
