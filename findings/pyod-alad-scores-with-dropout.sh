#!/usr/bin/env bash
# pyod 3.6.7: ALAD (adversarially learned anomaly detection) never calls eval() on its networks, so decision_function
# and predict score with dropout on, of 0.2 unless asked otherwise. Two calls on the same rows of one fitted detector
# order them in ways that have nothing to do with each other, nor with decision_scores_; predict names other outliers.
# One would think otherwise because a fitted detector is a function of the row: without dropout this one is, too.
# What to do: call eval() on enc, dec and the three discriminators after fit, and score the training rows again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
packages="pyod==3.6.7 torch==2.15.0 numpy==2.4.6 pandas==3.1.1"  # ALAD needs the last, which pyod does not bring
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check $packages
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import pyod
import torch
from pyod.models.alad import ALAD
from scipy.stats import spearmanr

rng = np.random.default_rng(0)
rows = rng.normal(size=(1000, 10))
rows[:50] += 4  # the outliers


def agreement(detector) -> float:
    """The rank correlation of the scores that the same rows get in two calls."""
    return spearmanr(detector.decision_function(rows), detector.decision_function(rows))[0]


print("pyod", pyod.__version__, "torch", torch.__version__.partition("+")[0])
torch.manual_seed(0)
detector = ALAD(epochs=20, batch_size=100).fit(rows)
fitted, labels = agreement(detector), [detector.predict(rows).astype(bool) for _ in range(2)]
both = (labels[0] & labels[1]).sum()
with_scores = spearmanr(detector.decision_function(rows), detector.decision_scores_)[0]
for network in (detector.enc, detector.dec, detector.disc_xx, detector.disc_zz, detector.disc_xz):
    network.eval()
evaluated, without = agreement(detector), agreement(ALAD(epochs=20, batch_size=100, dropout_rate=0.0).fit(rows))
print(f"two calls after fit: rank correlation {fitted:.2f}, with decision_scores_ {with_scores:.2f}")
print(f"outliers by predict: {labels[0].sum()} and {labels[1].sum()}, {both} of them in both calls")
print(f"after eval(): {evaluated:.2f}; with dropout_rate=0: {without:.2f}")
assert abs(fitted) < 0.3 and abs(with_scores) < 0.3 and both < min(map(sum, labels)) / 2
assert evaluated > 0.999 and without > 0.999
PY
