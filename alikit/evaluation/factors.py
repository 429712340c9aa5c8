"""What a code keeps of a rendered picture, whose every factor is known: what is read from z, and what comes back.

Answers about a factor come from a linear probe of z, or from a `Judge` that looks at originals and reconstructions
(tools/what_z_keeps.py trains one). They get a `Score`, beside that of being `uninformed`.
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
from .probes import applied, component_features, fitted, guess, means, regression

RESAMPLES = 1000  # behind an interval


def asked(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A data set's factors in the form of answers: kinds stay (N,) int64, numbers become (N, K) float32; of several
    kinds side by side, -1 for none, remains which are there, marks (N, K) bool. AlikitError without factors."""
    if not factors:
        raise AlikitError("the factors of this data are not known: choose rendered data, house-numbers for one")
    return {
        name: v.float().reshape(len(v), -1) if v.is_floating_point() else v if v.ndim == 1 else v >= 0
        for name, v in factors.items()
    }


@dataclass(frozen=True)
class Score:
    """How well answers fit the truth: 1 if all are right, 0 or less if they say nothing.

    Of kinds and marks the share of right answers; of numbers R^2, the share of their variance that the answers account
    for. Both are 1 - sum(lost) / sum(at_stake) over examples, (N,) each.
    """

    lost: np.ndarray
    at_stake: np.ndarray

    @property
    def value(self) -> float:
        return float(1 - self.lost.sum() / self.at_stake.sum())

    def interval(self) -> tuple[float, float]:
        """95 % of what other held-out examples would have given, by resampling these (a bootstrap, seed 0)."""
        chosen = np.random.default_rng(0).integers(len(self.lost), size=(RESAMPLES, len(self.lost)))
        values = 1 - self.lost[chosen].sum(1) / self.at_stake[chosen].sum(1)
        return tuple(float(v) for v in np.quantile(values, (0.025, 0.975)))


def score(answers: Tensor, truth: Tensor) -> Score:
    """Answers to what `asked` gives, in the same form. AlikitError where their shapes differ."""
    if answers.shape != truth.shape:
        raise AlikitError(f"answers {tuple(answers.shape)} do not fit a truth of {tuple(truth.shape)}")
    if truth.is_floating_point():
        lost, at_stake = (answers - truth).square().sum(1), (truth - truth.mean(0)).square().sum(1)
    else:
        lost = (answers != truth).double().reshape(len(truth), -1).mean(1)
        at_stake = torch.ones_like(lost)
    return Score(lost.double().numpy(), at_stake.double().numpy())


def uninformed(train: Tensor, truth: Tensor) -> Score:
    """The floor, by answers that ignore the picture: the most frequent kind in training, marks likewise, the mean."""
    if truth.is_floating_point():
        return score(truth.mean(0).expand_as(truth), truth)
    most_frequent = train.mode(0).values if train.ndim == 1 else train.double().mean(0) > 0.5
    return score(most_frequent.expand_as(truth), truth)


def read(model: Game, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """How well linear probes read each factor from the encoder's means: logistic regression for kinds and marks, ridge
    regression for numbers, on standardised inputs."""
    return _read(means(model, train), means(model, held_out), train, held_out)


def read_pixels(z_dim: int, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """The same from the first Z principal components of the pixels."""
    components = component_features(train, z_dim)
    return _read(applied(components, train), applied(components, held_out), train, held_out)


def _read(v: np.ndarray, v_held_out: np.ndarray, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    truth, found = asked(train.factors), {}
    for name, of in asked(held_out.factors).items():
        known = truth[name].numpy()
        if of.is_floating_point():
            weight, bias = _ridge(v, known)
            answers = v_held_out @ weight.T + bias
        else:
            answers = guess(v_held_out, *regression(v, known)[:2], known)
        found[name] = score(torch.from_numpy(answers).to(of.dtype), of)
    return found


def _ridge(v: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge  # a second to import: only where it is used

    return fitted(Ridge(alpha=1.0), v, numbers)


def scalars(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors that can be turned up and down, one number an example each, (N,) float32: of colours brightness and
    warmth (red less blue), of positions both coordinates, of marks whether each is there."""
    found = {}
    for name, value in asked(factors).items():
        value = value.float()
        if value.ndim == 1:
            continue  # kinds
        if value.shape[1] == 3:
            found[f"{name}, brightness"] = value @ torch.tensor([0.299, 0.587, 0.114])
            found[f"{name}, warmth"] = value[:, 0] - value[:, 2]
        elif value.shape[1] == 2:
            ways = ("right", "down") if factors[name].is_floating_point() else ("left", "right")
            found |= {f"{name}, {way}": column for way, column in zip(ways, value.T, strict=True)}
        else:
            found[name] = value[:, 0]
    return found


@dataclass(frozen=True)
class Scales:
    """Linear readings of z of all `scalars`, by ridge regression: z @ weight.T + bias."""

    weight: Tensor  # (F, Z) float32
    bias: Tensor  # (F,) float32
    r2: dict[str, float]  # the rows' names, in order, and how well each reads held-out examples


def scales(model: Game, train: Dataset, held_out: Dataset) -> Scales:
    """Fits them to training examples, and tries them on held-out ones."""
    truth, truth_held_out = (torch.stack([*scalars(part.factors).values()], 1) for part in (train, held_out))
    z, z_held_out = means(model, train), means(model, held_out)
    weight, bias = _ridge(z, truth.numpy())
    answers = torch.from_numpy(z_held_out @ weight.T + bias)
    columns = zip(scalars(held_out.factors), answers.T, truth_held_out.double().T, strict=True)
    r2 = {name: score(said[:, None], of[:, None]).value for name, said, of in columns}
    return Scales(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), r2)


class Judge(nn.Module):
    """Pictures (N, 3, 32, 32) in [0, 1] to answers about each factor of `data`, in the form of `asked`; untrained.

    It does not pool over the whole picture, so that places can be read.
    """

    def __init__(self, data: Dataset):
        super().__init__()
        truth = asked(data.factors)
        self.names, self.kinds = tuple(truth), {name for name, v in truth.items() if v.ndim == 1}
        self.widths = [1 + int(v.max()) if v.ndim == 1 else v.shape[1] for v in truth.values()]
        rows = unit(3, 32), unit(32, 64, stride=2), unit(64, 96, stride=2), unit(96, 96, stride=2)  # to 4x4
        layers = [layer for row in rows for layer in row]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 4 * 4, sum(self.widths)))
        # Numbers are learned in standard deviations, all of them alike whatever their unit.
        numbers = {name: v for name, v in truth.items() if v.is_floating_point()}
        self.mean = nn.ParameterDict({name: nn.Parameter(v.mean(0), False) for name, v in numbers.items()})
        self.scale = nn.ParameterDict({name: nn.Parameter(v.std(0), False) for name, v in numbers.items()})

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Of each factor logits, or numbers in standard deviations from their mean."""
        return dict(zip(self.names, self.net(x).float().split(self.widths, dim=1), strict=True))

    def loss(self, x: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Cross-entropies, and of numbers the squared error in standard deviations, summed over the factors."""
        losses = []
        for name, output in self.outputs(x).items():
            if name in self.scale:
                losses.append(F.mse_loss(output, (truth[name] - self.mean[name]) / self.scale[name]))
            elif name in self.kinds:
                losses.append(F.cross_entropy(output, truth[name]))
            else:
                losses.append(F.binary_cross_entropy_with_logits(output, truth[name].float()))
        return torch.stack(losses).sum()

    @torch.no_grad()
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.outputs(x)
        for name, output in found.items():
            if name in self.scale:
                found[name] = output * self.scale[name] + self.mean[name]
            else:
                found[name] = output.argmax(1) if name in self.kinds else output > 0
        return found


def trained_judge(file: str | Path) -> Judge:
    """The judge of house numbers that is kept in a file. AlikitError where it is missing or damaged."""
    judge = Judge(house_numbers(1000)).eval()
    storage.from_file(judge, Path(file))
    return judge
