#!/usr/bin/env bash
# torchmetrics 1.9.0: FrechetInceptionDistance, KernelInceptionDistance and InceptionScore leave a feature network of
# one's own in the mode that it comes in, for a module training mode. Its batch norm then learns from every picture that
# it measures, generated ones too; of the first kind already in the constructor, from a picture of noise, unless the
# network has num_features. So a distance depends on what was measured before, and the network is changed. The built-in
# Inception is in evaluation mode whatever is called. Nothing is said.
# What to do: call eval() on the network before it is given away, and again after metric.train().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

print("torchmetrics", version("torchmetrics"), "torch", torch.__version__.partition("+")[0])


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net


real, fake = torch.rand(2, 400, 3, 16, 16)
for mode in ("training", "evaluation"):
    net = network().train(mode == "training")
    metric = FrechetInceptionDistance(net, input_img_size=(3, 16, 16), normalize=True)
    batches = [net[1].num_batches_tracked.item()]
    for part, is_real in ((real, True), (fake / 2, False)):
        metric.update(part, real=is_real)
        batches.append(net[1].num_batches_tracked.item())
    print(f"{mode} mode: batch norm has learned from {batches} batches: constructor, real, generated pictures")
    assert batches == ([1, 2, 3] if mode == "training" else [0, 0, 0])
for kind in (KernelInceptionDistance, InceptionScore):
    net = network()
    kind(net)
    print(f"{kind.__name__}: still in training mode: {net.training}")
    assert net.training
PY
