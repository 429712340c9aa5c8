#!/usr/bin/env bash
# torch 2.15.0: AveragedModel(use_buffers=True) averages integer buffers too and cuts the result down to a whole number.
# The default average leaves batch norm's num_batches_tracked at 1 for ever; an exponential one with decay d stays
# 1 / (1 - d) behind. A batch norm with momentum=None weighs its next batch by 1 / num_batches_tracked: if the averaged
# model trains on, that batch then counts for half of all statistics.
# What to do: copy integer buffers, in an avg_fn or multi_avg_fn of your own, or recount statistics with update_bn.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

print("torch", torch.__version__.partition("+")[0])
for name, way, expected in (
    ("default", {}, 1),
    ("exponential, 0.9", {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}, 90),
):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2, momentum=None)
    averaged = AveragedModel(norm, use_buffers=True, **way)
    for _ in range(100):
        norm(torch.randn(50, 2) + 5)
        averaged.update_parameters(norm)
    counted = averaged.module.num_batches_tracked.item()
    averaged.module.train()(torch.full((50, 2), 7.0))  # one batch more, of another mean
    mean = averaged.module.running_mean[0].item()
    print(f"{name}: {norm.num_batches_tracked.item()} batches, {counted} in the average; mean after one more {mean:.2f}")
    assert (norm.num_batches_tracked.item(), counted) == (100, expected)
    assert abs(mean - (5 + 2 / (expected + 1))) < 0.1
PY
