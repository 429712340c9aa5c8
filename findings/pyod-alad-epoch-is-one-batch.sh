#!/usr/bin/env bash
# pyod 3.6.7: an epoch of ALAD (adversarially learned anomaly detection) is one batch, drawn anew. With the defaults, 200
# epochs and batches of 32, a fit on 10,000 rows takes 200 steps, and most rows are never looked at; twice as many rows
# take as many steps. AutoEncoder of the same package goes through all rows in each epoch.
# One would think otherwise because the docstring says "number of epochs to train the model".
# What to do: ask for epochs times rows / batch_size of what you would ask for elsewhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
packages="pyod==3.6.7 torch==2.15.0 numpy==2.4.6 pandas==3.1.1 tqdm==4.70.1"  # the last two, which pyod does not bring
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check $packages
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import pyod
import torch
from pyod.models.alad import ALAD
from pyod.models.auto_encoder import AutoEncoder


class Counted(ALAD):
    """Counts steps, and the rows that they see: each row holds its number, which noise and scaling leave in order."""

    def train_step(self, data):
        self.steps = getattr(self, "steps", 0) + 1
        self.seen = getattr(self, "seen", set()) | set(np.rint(data[0][:, 0]).astype(int).tolist())
        return super().train_step(data)


print("pyod", pyod.__version__, "torch", torch.__version__.partition("+")[0])
steps = {}
for number in (1_000, 10_000):
    rows = np.random.default_rng(0).normal(size=(number, 5))
    rows[:, 0] = 10 * np.arange(number)
    detector = Counted(preprocessing=False)
    detector.fit(rows, noise_std=0.1)
    steps[number] = detector.steps
    share = len({round(row / 10) for row in detector.seen}) / number
    print(f"{number} rows, {detector.epochs} epochs, batches of {detector.batch_size}:", end=" ")
    print(f"{detector.steps} steps, {share:.0%} of rows seen")
assert steps == {1_000: 200, 10_000: 200} and share < 0.6

detector, taken = AutoEncoder(epoch_num=1, batch_size=32, hidden_neuron_list=[4], verbose=0), []
training = detector.training_forward
detector.training_forward = lambda batch: taken.append(1) or training(batch)
detector.fit(rows)
print(f"AutoEncoder, 1 epoch of {len(rows)} rows: {len(taken)} steps")
assert len(taken) == len(rows) // 32
PY
