"""Linear probes: what a weighted sum reads off the encoder's means, and off as many numbers made of pixels."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .examples import examples

TRAIN_EXAMPLES, HELD_OUT_EXAMPLES = 20_000, 10_000  # probed at most
ITERATIONS = 300  # of one fit at most
SIDE = 32  # in pixels: larger pictures are averaged to this before their principal components are taken


@dataclass(frozen=True)
class Probe:
    """A linear probe of z, and how well it does on held-out examples. Shares are 0..1.

    weight, bias  (K, Z) and (K,) float32: logits are z @ weight.T + bias, of z as the encoder gives it. Of classes the
                  largest logit is the guess; an attribute is guessed to be there where its logit is above 0
    names         K classes or attributes, in the rows' order; a class without training examples has no row
    accuracy      share of right guesses, for attributes averaged over them
    balanced      the same with every class counting alike, however rare; by chance 1/K, for attributes 1/2
    baseline      accuracy of always guessing what is most frequent in training
    pixels, pixels_balanced   accuracy and balanced accuracy of the same probe on the first Z principal components of
                  the examples themselves
    n             held-out examples that were probed
    unconverged   fits of both probes that were stopped after 300 iterations
    attributes    for attributes: {name: {"accuracy", "balanced", "baseline"}}
    """

    weight: Tensor
    bias: Tensor
    names: tuple[str, ...]
    accuracy: float
    balanced: float
    baseline: float
    pixels: float
    pixels_balanced: float
    n: int
    unconverged: int
    attributes: dict[str, dict[str, float]] = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """All but weights, names and single attributes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int | float)}


def probe(model: Game, train: Dataset, held_out: Dataset) -> Probe:
    """Logistic regression on the standardised means of at most 20,000 training examples, by torch's global seed.

    Labels are (N,) classes, or (N, A) attributes of 0 and 1. AlikitError without an encoder, without labels, or where
    codes are not finite.
    """
    if train.labels is None or held_out.labels is None:
        raise AlikitError("a linear probe needs labels, and this data has none: leave out probe")
    train = train.select(torch.randperm(len(train))[:TRAIN_EXAMPLES])
    held_out = held_out.select(torch.randperm(len(held_out))[:HELD_OUT_EXAMPLES])
    z, z_held_out = means(model, train), means(model, held_out)
    if not (np.isfinite(z).all() and np.isfinite(z_held_out).all()):
        raise AlikitError("a linear probe needs codes that are numbers, and this encoder gives others: train it again")
    labels, truth = train.labels.cpu().numpy(), held_out.labels.cpu().numpy()
    v, v_held_out = components(train, held_out, z.shape[1])
    of_z, of_v = _fit(z, labels), _fit(v, labels)
    guess = of_z.guess(z_held_out)
    accuracy, balanced = _shares(guess, truth)
    most_frequent = np.broadcast_to(_most_frequent(labels), truth.shape)
    pixels, pixels_balanced = _shares(of_v.guess(v_held_out), truth)
    names = train.classes or tuple(map(str, range(1 + labels.max() if labels.ndim == 1 else labels.shape[1])))
    attributes = {}
    if labels.ndim == 2:
        for i, name in enumerate(names):
            own = _shares(guess[:, i], truth[:, i])
            baseline = float((truth[:, i] == most_frequent[:, i]).mean())
            attributes[name] = {"accuracy": own[0], "balanced": own[1], "baseline": baseline}
    return Probe(
        weight=torch.from_numpy(of_z.weight),
        bias=torch.from_numpy(of_z.bias),
        names=tuple(names[row] for row in of_z.rows),
        accuracy=accuracy,
        balanced=balanced,
        baseline=float((truth == most_frequent).mean()),
        pixels=pixels,
        pixels_balanced=pixels_balanced,
        n=len(truth),
        unconverged=of_z.unconverged + of_v.unconverged,
        attributes=attributes,
    )


@dataclass(frozen=True)
class _Fit:
    """Weights in terms of what was probed, and which class or attribute each row is for."""

    rows: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    unconverged: int
    attributes: bool

    def guess(self, v: np.ndarray) -> np.ndarray:
        logits = v @ self.weight.T + self.bias
        return (logits > 0).astype(int) if self.attributes else self.rows[logits.argmax(1)]


def _fit(v: np.ndarray, labels: np.ndarray) -> _Fit:
    attributes = labels.ndim == 2
    if attributes:
        rows = np.arange(labels.shape[1])
        weights, biases, stopped = zip(*(regression(v, column) for column in labels.T), strict=True)
        weight, bias, unconverged = np.concatenate(weights), np.concatenate(biases), sum(stopped)
    else:
        rows = np.unique(labels)
        weight, bias, unconverged = regression(v, labels)
        if len(rows) == 2:  # one row tells the second class from the first
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return _Fit(rows, weight.astype(np.float32), bias.astype(np.float32), int(unconverged), attributes)


def regression(v: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Weights (K, D) and bias (K,), K = 1 for two classes or one; and whether the fit was stopped before its end."""
    from sklearn.linear_model import LogisticRegression  # a second to import: only where it is used

    if (labels == labels[0]).all():
        return np.zeros((1, v.shape[1])), np.array([1.0 if labels[0] else -1.0]), False
    mean, scale = standard(v)
    regression = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is counted
        regression.fit((v - mean) / scale, labels)
    weight = regression.coef_ / scale
    return weight, regression.intercept_ - weight @ mean, regression.n_iter_.max() >= ITERATIONS


def standard(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) of v (N, D); infinite, so that it gets no weight, for a number that is constant
    but for rounding, which would be blown up."""
    mean, scale = v.mean(0), v.std(0)
    scale[scale <= 1e-6 * scale.max()] = np.inf
    return mean, scale


def _shares(guess: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The share of right guesses, and its mean over the classes; averaged over columns where there are such."""
    if truth.ndim == 2:
        both = [_shares(*columns) for columns in zip(guess.T, truth.T, strict=True)]
        return tuple(float(share) for share in np.mean(both, axis=0))
    right = guess == truth
    return float(right.mean()), float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def _most_frequent(labels: np.ndarray) -> np.ndarray:
    """The class, (), or for attributes each one's, (A,)."""
    return np.bincount(labels).argmax() if labels.ndim == 1 else (labels.mean(0) > 0.5).astype(int)


def means(model: Game, data: Dataset) -> np.ndarray:
    """(N, Z) float64."""
    found = [model.encode(x, sample=False, y=y).cpu() for x, y in examples(model, data)]
    return torch.cat(found).double().numpy()


def components(train: Dataset, held_out: Dataset, z_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples in the first Z principal components of the training ones, each (N, Z); fewer if there are fewer."""
    from sklearn.decomposition import PCA

    flat, flat_held_out = (torch.cat([_small(x) for x in part.batches(500)]).numpy() for part in (train, held_out))
    # N examples span N - 1 directions: one more would be rounding.
    components = PCA(min(z_dim, len(flat) - 1, flat.shape[1]), random_state=0).fit(flat)
    return components.transform(flat), components.transform(flat_held_out)


def _small(x: Tensor) -> Tensor:
    """(N, D) of pictures or points."""
    return (F.adaptive_avg_pool2d(x, SIDE) if x.ndim == 4 and max(x.shape[2:]) > SIDE else x).flatten(1)
