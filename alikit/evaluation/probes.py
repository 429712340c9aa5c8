"""Linear probes: what a weighted sum reads off the encoder's means, and off as many principal components of pixels."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .inference import examples

TRAIN_EXAMPLES, HELD_OUT_EXAMPLES = 20_000, 10_000  # probed at most
ITERATIONS = 300  # of one fit at most
SIDE = 32  # pixels: larger pictures are averaged to this before their principal components are taken

Features = Callable[[Tensor], Tensor]  # (N, ...) examples as `Dataset.floats` gives them -> (N, F), on the CPU


def probe(model: Game, train: Dataset, held_out: Dataset) -> dict:
    """Logistic regression on the standardised means of at most 20,000 training examples, by torch's global seed, for
    labels that are (N,) classes or (N, A) attributes of 0 and 1. Shares are 0..1, means over attributes.

    weight, bias  (K, Z) and (K,) float32: logits are z @ weight.T + bias, of z as the encoder gives it
    names         of these K rows: attributes, or the classes that training has examples of
    accuracy      share of right guesses: the class of the largest logit; an attribute if its logit is above 0
    balanced      the same, each class weighing the same however rare; by chance 1/K, for attributes 1/2
    baseline      accuracy of always guessing what is most frequent in training
    pixels, pixels_balanced   accuracy of the same probe on the first Z principal components of the examples themselves
    n             held-out examples
    unconverged   fits of both probes that were stopped after 300 iterations
    attributes    {name: {"accuracy", "balanced", "baseline"}}, empty for classes

    AlikitError without an encoder, without labels, or where codes are not finite.
    """
    if train.labels is None or held_out.labels is None:
        raise AlikitError("a linear probe needs labels, and this data has none: leave out probe")
    train = train.select(torch.randperm(len(train))[:TRAIN_EXAMPLES])
    held_out = held_out.select(torch.randperm(len(held_out))[:HELD_OUT_EXAMPLES])
    z, z_held_out = means(model, train), means(model, held_out)
    if not (np.isfinite(z).all() and np.isfinite(z_held_out).all()):
        raise AlikitError("a linear probe needs finite codes, and this encoder gives others: train it again")
    labels, truth = train.labels.cpu().numpy(), held_out.labels.cpu().numpy()
    of_z, weight, bias, stopped = regression(z, z_held_out, labels)
    components = component_features(train, z.shape[1])
    of_pixels, *_, also_stopped = regression(applied(components, train), applied(components, held_out), labels)
    most_frequent = np.bincount(labels).argmax() if labels.ndim == 1 else labels.mean(0) > 0.5
    baseline = _shares(np.broadcast_to(most_frequent, truth.shape), truth)[:, :1]
    shares = np.hstack([_shares(of_z, truth), baseline, _shares(of_pixels, truth)])
    names = train.classes or tuple(map(str, range(1 + labels.max() if labels.ndim == 1 else labels.shape[1])))
    kinds, attributes = ("accuracy", "balanced", "baseline", "pixels", "pixels_balanced"), {}
    if labels.ndim == 1:
        names = tuple(names[label] for label in np.unique(labels))
    else:
        rows = shares[:, :3].tolist()
        attributes = {name: dict(zip(kinds, row, strict=False)) for name, row in zip(names, rows, strict=True)}
    found = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias), "names": names}
    found |= dict(zip(kinds, shares.mean(0).tolist(), strict=True))
    return found | {"n": len(truth), "unconverged": stopped + also_stopped, "attributes": attributes}


def fitted(estimator, v: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a linear estimator of scikit-learn to standardised v (N, D): weights (K, D) and bias (K,) for v as it is."""
    mean, scale = v.mean(0), v.std(0)
    scale[scale <= 1e-6 * scale.max()] = np.inf  # no weight for what is constant but for rounding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits that do not converge are counted
        estimator.fit((v - mean) / scale, targets)
    weight = np.atleast_2d(estimator.coef_) / scale
    return weight, estimator.intercept_ - weight @ mean


def regression(v: np.ndarray, v_new: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Logistic regression of labels on v (N, D): its guesses for v_new (M, D), weights (K, D), bias (K,), and how many
    fits were stopped before their end. There is a row for each class that occurs in labels (N,), or for each column of
    labels (N, A), of 0 and 1; guesses are classes (M,), or whether each attribute is there, (M, A)."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    rows, stopped = [], 0
    for column in labels.T if labels.ndim == 2 else [labels]:
        if (column == column[0]).all():
            rows.append((np.zeros((1, v.shape[1])), [1.0 if column[0] else -1.0]))
        else:
            estimator = LogisticRegression(max_iter=ITERATIONS)
            rows.append(fitted(estimator, v, column))
            stopped += int(estimator.n_iter_.max() >= ITERATIONS)
    weight, bias = (np.concatenate(parts).astype(np.float32) for parts in zip(*rows, strict=True))
    if labels.ndim == 1 and len(np.unique(labels)) == 2:  # one row tells the second class from the first
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    logits = v_new @ weight.T + bias
    return logits > 0 if labels.ndim == 2 else np.unique(labels)[logits.argmax(1)], weight, bias, stopped


def _shares(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The share of right guesses, and its mean over the classes, of each column: (A, 2), or (1, 2) for classes (N,)."""
    found = []
    for guesses, labels in zip(np.atleast_2d(guess.T), np.atleast_2d(truth.T), strict=True):
        right = guesses == labels
        found.append((right.mean(), np.mean([right[labels == label].mean() for label in np.unique(labels)])))
    return np.array(found)


def means(model: Game, data: Dataset) -> np.ndarray:
    """The encoder's means of all examples, (N, Z) float64."""
    return torch.cat([model.encode(x, False, y).cpu() for x, y in examples(model, data)]).double().numpy()


def applied(features: Features, data: Dataset) -> np.ndarray:
    """Features of all examples, (N, F) float32."""
    return np.concatenate([features(x).numpy() for x in data.batches(500)])


def component_features(train: Dataset, number: int) -> Features:
    """The first principal components of at most 20,000 training examples, fewer than `number` if there are fewer.
    Pictures larger than 32x32 are first averaged to that."""
    from sklearn.decomposition import PCA  # takes a second to import

    def flat(x: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(x, SIDE) if x.ndim == 4 and max(x.shape[2:]) > SIDE else x).flatten(1).cpu()

    v = applied(flat, train.some(TRAIN_EXAMPLES))
    # N examples span N - 1 directions: one more would be rounding.
    pca = PCA(min(number, len(v) - 1, v.shape[1]), random_state=0).fit(v)
    return lambda x: torch.from_numpy(pca.transform(flat(x).numpy()))
