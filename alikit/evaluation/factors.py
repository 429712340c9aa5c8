"""What a code keeps of a rendered picture, all of whose factors are known: what can be read from z, and what survives
in the reconstruction.

Answers about a factor come from a linear probe of z, or from a `FactorClassifier` that looks at pictures. They are in
the form of `targets`: kinds (N,) int64, numbers (N, K) float32, marks (N, K) bool.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import storage
from ..data import house_numbers
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .features import unit
from .probes import applied, component_features, fitted, means, regression

RESAMPLES = 1000  # behind an interval


def targets(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors of a data set as they are to be predicted. Several kinds side by side, -1 for none, become marks:
    whether each is there. AlikitError without factors."""
    if not factors:
        raise AlikitError("the factors of this data are not known: choose rendered data, house-numbers for one")
    found = {name: v if v.is_floating_point() or v.ndim == 1 else v >= 0 for name, v in factors.items()}
    return {name: v.float().reshape(len(v), -1) if v.is_floating_point() else v for name, v in found.items()}


@dataclass(frozen=True)
class Score:
    """How well answers fit the truth: 1 if all are right, 0 or less if they say nothing.

    The share of right answers for kinds and marks, R^2 for numbers. Both are 1 - sum(lost) / sum(at_stake) over
    examples, (N,) each.
    """

    lost: np.ndarray
    at_stake: np.ndarray

    @property
    def value(self) -> float:
        return float(1 - self.lost.sum() / self.at_stake.sum())

    def interval(self) -> tuple[float, float]:
        """The 95 % interval over held-out examples, by resampling them (a bootstrap, seed 0)."""
        chosen = np.random.default_rng(0).integers(len(self.lost), size=(RESAMPLES, len(self.lost)))
        values = 1 - self.lost[chosen].sum(1) / self.at_stake[chosen].sum(1)
        return tuple(np.quantile(values, (0.025, 0.975)).tolist())


def score(answers: Tensor, truth: Tensor) -> Score:
    """Compares answers with targets, both of one shape."""
    if truth.is_floating_point():
        lost, at_stake = (answers - truth).square().sum(1), (truth - truth.mean(0)).square().sum(1)
    else:
        lost = (answers != truth).double().reshape(len(truth), -1).mean(1)
        at_stake = torch.ones_like(lost)
    return Score(lost.double().numpy(), at_stake.double().numpy())


def uninformed(train: Tensor, truth: Tensor) -> Score:
    """The floor, of answers that ignore the picture: what is most frequent in training, or the mean."""
    if truth.is_floating_point():
        return score(truth.mean(0).expand_as(truth), truth)
    most_frequent = train.mode(0).values if train.ndim == 1 else train.double().mean(0) > 0.5
    return score(most_frequent.expand_as(truth), truth)


def read(model: Game, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """How well linear probes read each factor from the encoder's means: logistic regression, or ridge for numbers."""
    return _read(means(model, train), means(model, held_out), train, held_out)


def read_pixels(z_dim: int, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """The same from the first Z principal components of the pixels."""
    components = component_features(train, z_dim)
    return _read(applied(components, train), applied(components, held_out), train, held_out)


def _read(v: np.ndarray, v_held_out: np.ndarray, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    known, found = targets(train.factors), {}
    for name, truth in targets(held_out.factors).items():
        if truth.is_floating_point():
            weight, bias = _ridge(v, known[name])
            answers = v_held_out @ weight.T + bias
        else:
            answers = regression(v, v_held_out, known[name].numpy())[0]
        found[name] = score(torch.from_numpy(answers).to(truth.dtype), truth)
    return found


def _ridge(v: np.ndarray, numbers: Tensor) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge  # takes a second to import

    return fitted(Ridge(alpha=1.0), v, numbers.numpy())


def scalars(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors that can be turned up and down, one number for each example, (N,) float32: brightness and warmth (red
    less blue) of colours, both coordinates of positions, whether each mark is there. Kinds are left out."""
    found = {}
    for name, value in targets(factors).items():
        value = value.float()
        if value.ndim == 1:
            continue
        if value.shape[1] == 3:
            found[f"{name}, brightness"] = value @ torch.tensor([0.299, 0.587, 0.114])
            found[f"{name}, warmth"] = value[:, 0] - value[:, 2]
        elif value.shape[1] == 2:
            ways = ("right", "down") if factors[name].is_floating_point() else ("left", "right")
            found |= {f"{name}, {way}": column for way, column in zip(ways, value.T, strict=True)}
        else:
            found[name] = value[:, 0]
    return found


def scales(model: Game, train: Dataset, held_out: Dataset) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Linear readings of all F `scalars` from z, z @ weight.T + bias, by ridge regression on training examples: weight
    (F, Z), bias (F,), and by name how well each reads held-out examples (R^2)."""
    known, truth = scalars(train.factors), scalars(held_out.factors)
    weight, bias = _ridge(means(model, train), torch.stack([*known.values()], 1))
    answers = torch.from_numpy(means(model, held_out) @ weight.T + bias)
    columns = zip(truth.items(), answers.T, strict=True)
    r2 = {name: score(column[:, None], of.double()[:, None]).value for (name, of), column in columns}
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), r2


class FactorClassifier(nn.Module):
    """The factor classifier: pictures (N, 3, 32, 32) in [0, 1] to answers about each factor of `data`; untrained.

    It does not pool over the whole picture, so it can read positions. tools/what_z_keeps.py trains one.
    """

    def __init__(self, data: Dataset):
        super().__init__()
        truth = targets(data.factors)
        self.kinds = {name for name, v in truth.items() if v.ndim == 1}
        self.widths = {name: 1 + int(v.max()) if v.ndim == 1 else v.shape[1] for name, v in truth.items()}
        rows = unit(3, 32), unit(32, 64, stride=2), unit(64, 96, stride=2), unit(96, 96, stride=2)  # to 4x4
        layers = [layer for row in rows for layer in row]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 4 * 4, sum(self.widths.values())))
        # Numbers are learned in standard deviations, so that units do not matter.
        numbers = {name: v for name, v in truth.items() if v.is_floating_point()}
        self.mean = nn.ParameterDict({name: nn.Parameter(v.mean(0), False) for name, v in numbers.items()})
        self.scale = nn.ParameterDict({name: nn.Parameter(v.std(0), False) for name, v in numbers.items()})

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Logits for each factor, or numbers in standard deviations from their mean."""
        return dict(zip(self.widths, self.net(x).float().split([*self.widths.values()], dim=1), strict=True))

    def loss(self, x: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Cross-entropies, and squared errors of standardised numbers, summed over the factors."""
        losses = []
        for name, output in self.outputs(x).items():
            if name in self.scale:
                losses.append(F.mse_loss(output, (truth[name] - self.mean[name]) / self.scale[name]))
            elif name in self.kinds:
                losses.append(F.cross_entropy(output, truth[name]))
            else:
                losses.append(F.binary_cross_entropy_with_logits(output, truth[name].float()))
        return torch.stack(losses).sum()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        with Game.inference(self):
            found = self.outputs(x)
        for name, output in found.items():
            if name in self.scale:
                found[name] = output * self.scale[name] + self.mean[name]
            else:
                found[name] = output.argmax(1) if name in self.kinds else output > 0
        return found


def trained_factor_classifier(file: str | Path) -> FactorClassifier:
    """The factor classifier of house numbers in a file. AlikitError where it is missing or damaged."""
    classifier = FactorClassifier(house_numbers(1000)).eval()
    storage.from_file(classifier, Path(file))
    return classifier
