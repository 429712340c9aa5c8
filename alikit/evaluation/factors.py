"""What a code keeps of a rendered picture, whose every factor is known: what is read from z, and what comes back.

A factor is asked for as what it is, see `asked`: a kind, numbers, or marks that are there or not. Whatever answers, a
linear probe of z or a judge looking at a reconstruction, its answers get one kind of score, see `Score`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .probes import components, means, regression, standard

RESAMPLES = 1000  # behind an interval


def asked(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors in the form in which they are asked for.

    Kinds stay (N,) int64 and numbers become (N, K) float32; of several kinds side by side, -1 where there is none, is
    asked which are there: (N, K) bool.
    """
    found = {}
    for name, value in factors.items():
        if value.is_floating_point():
            found[name] = value.float().reshape(len(value), -1)
        else:
            found[name] = value if value.ndim == 1 else value >= 0
    return found


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
    """The score of who knows nothing of the picture: the most frequent kind in training, marks likewise, the mean."""
    if truth.is_floating_point():
        return score(truth.mean(0).expand_as(truth), truth)
    guess = train.mode(0).values if train.ndim == 1 else train.double().mean(0) > 0.5
    return score(guess.expand_as(truth), truth)


def read(model: Game, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """How well linear probes read each factor from the encoder's means: logistic regression for kinds and marks, ridge
    regression for numbers, on standardised inputs. AlikitError for data whose factors are not known."""
    return _read(means(model, train), means(model, held_out), _known(train), _known(held_out))


def read_pixels(z_dim: int, train: Dataset, held_out: Dataset) -> dict[str, Score]:
    """The same from the first Z principal components of the pixels."""
    return _read(*components(train, held_out, z_dim), _known(train), _known(held_out))


def _read(v: np.ndarray, v_held_out: np.ndarray, truth: dict, truth_held_out: dict) -> dict[str, Score]:
    return {name: score(_guess(v, truth[name], v_held_out), of) for name, of in truth_held_out.items()}


def _known(data: Dataset) -> dict[str, Tensor]:
    if not data.factors:
        raise AlikitError(f"the factors of {data.name} are not known: choose rendered data, house-numbers for one")
    return asked(data.factors)


def _guess(v: np.ndarray, truth: Tensor, v_held_out: np.ndarray) -> Tensor:
    """A linear probe's answers about `v_held_out`, fitted on `v` and its truth."""
    if truth.is_floating_point():
        weight, bias = ridge(v, truth.numpy())
        return torch.from_numpy(v_held_out @ weight.T + bias).float()
    columns = []
    for labels in truth.reshape(len(truth), -1).long().numpy().T:
        weight, bias, _ = regression(v, labels)
        logits = v_held_out @ weight.T + bias
        columns.append(np.unique(labels)[logits.argmax(1)] if len(weight) > 1 else logits[:, 0] > 0)
    return torch.from_numpy(np.stack(columns, axis=1)).to(truth.dtype).reshape(-1, *truth.shape[1:])


def ridge(v: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and bias (K,) of ridge regression of numbers (N, K) on v (N, D), standardised inside."""
    from sklearn.linear_model import Ridge  # a second to import: only where it is used

    mean, scale = standard(v)
    fitted = Ridge(alpha=1.0).fit((v - mean) / scale, numbers)
    weight = np.atleast_2d(fitted.coef_) / scale
    return weight, fitted.intercept_ - weight @ mean


def scalars(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors that can be turned up and down, one number an example each, (N,) float32: of colours brightness and
    warmth (red less blue), of positions both coordinates, of marks whether each is there."""
    found = {}
    for name, value in asked(factors).items():
        if value.ndim == 1:
            continue
        value = value.float()
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
    """Linear readings of z of all `scalars`, by ridge regression: z @ weight.T + bias, (F, Z) and (F,) float32. Rows
    are in the order of `r2`, which says of each how well it reads held-out examples."""

    weight: Tensor
    bias: Tensor
    r2: dict[str, float]


def scales(model: Game, train: Dataset, held_out: Dataset) -> Scales:
    """AlikitError for data whose factors are not known."""
    _known(train), _known(held_out)
    z, z_held_out = means(model, train), means(model, held_out)
    truth, truth_held_out = (torch.stack([*scalars(part.factors).values()], 1) for part in (train, held_out))
    weight, bias = ridge(z, truth.numpy())
    guess = torch.from_numpy(z_held_out @ weight.T + bias)
    r2 = {
        name: score(guess[:, [i]], truth_held_out[:, [i]].double()).value
        for i, name in enumerate(scalars(held_out.factors))
    }
    return Scales(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), r2)
