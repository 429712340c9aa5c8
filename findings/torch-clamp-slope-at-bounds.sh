#!/usr/bin/env bash
# torch 2.15.0: clamp by numbers has slope 0 at its bounds, not only beyond them; by tensors a half, as maximum and
# minimum do. So a clamp to [0, 1] that changes no number removes the gradient of every number at a bound: in a picture
# of black ink on white paper of nearly all, and a gradient penalty behind it is a small part of what it is without.
# One would think otherwise because torch 2.11.0 still has slope 1 there, of both kinds of clamp.
# What to do: keep clamp out of the way of gradients, or write torch.where(x < 0, 0, torch.where(x > 1, 1, x)).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import tensor
from torch.nn.functional import hardtanh

NUMBERS = (-1.0, 0.0, 0.5, 1.0, 2.0)
WAYS = {
    "x": (lambda x: x, (1, 1, 1)),
    "x.clamp(0, 1)": (lambda x: x.clamp(0, 1), (0, 1, 0)),
    "hardtanh(x, 0, 1)": (lambda x: hardtanh(x, 0, 1), (0, 1, 0)),
    "x.clamp_min(0).clamp_max(1)": (lambda x: x.clamp_min(0).clamp_max(1), (0, 1, 0)),
    "x.clamp(tensor(0.0), tensor(1.0))": (lambda x: x.clamp(tensor(0.0), tensor(1.0)), (0.5, 1, 0.5)),
    "two torch.where": (lambda x: torch.where(x < 0, 0, torch.where(x > 1, 1, x)), (1, 1, 1)),
}
digit = torch.zeros(28, 28)  # mostly paper, some ink, and little between
digit[8:20, 12:16], digit[8:20, 11] = 1, 0.5
print("torch", torch.__version__.partition("+")[0])
for name, (way, at_bounds) in WAYS.items():
    x, picture = tensor(NUMBERS).requires_grad_(), digit.clone().requires_grad_()
    slopes = torch.autograd.grad(way(x).sum(), x)[0].tolist()
    assert torch.equal(way(digit), digit)  # it changes nothing
    penalty = torch.autograd.grad((3 * way(picture)).sum(), picture)[0].square().mean().item()
    print(f"{name}: slopes at {NUMBERS} {slopes}, squared gradient of a digit {penalty:.2f}")
    assert tuple(slopes[1:4]) == at_bounds
PY
