"""Everything that can be measured of a model, as one flat table: what the command line prints and studies keep."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache

import torch
from torch import nn

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .attributes import attributes
from .features import Sets, feature_network, in_features
from .inference import codes, latent, reconstruction
from .probes import probe
from .samples import copying, coverage, fidelity
from .svm import classification, compared

SAMPLES = 10_000  # points drawn to see which modes they find, as in the paper
QUICK = ("reconstruction", "codes", "classification")
METRICS = (*QUICK, "fidelity", "copying", "probe", "attributes", "svm")
LABELS = 1_000  # of an SVM's draw, as in the paper


def found_modes(model: Game) -> dict[str, float]:
    """`coverage` of 10,000 samples, the same each time for the same model."""
    with same_chance():
        return _rounded(asdict(coverage(model.sample(SAMPLES))))


def measured(
    model: Game,
    train: Dataset,
    held_out: Dataset,
    metrics: tuple[str, ...] = QUICK,
    network: nn.Module | None = None,
    labels: int = LABELS,
) -> dict[str, float | int | None]:
    """The numbers of the chosen metrics by METRIC_NAME, the same each time: rounded, None for one that is not finite.

    Of points always also `coverage` and, with an encoder and labels, `latent`, under their own names.
    `reconstruction` and `codes` are left out without an encoder, `codes` also of points and of a single example,
    `classification` of a model that knows no classes. `fidelity` and `copying` compare 10,000 samples in the features
    of `network`, by default `feature_network`. `svm` is `svm.compared` with so many `labels`. All but the first three
    take a minute or more, of 32x32 pictures. AlikitError for another name, and where data or model do not suit it.
    """
    if unknown := set(metrics) - set(METRICS):
        raise AlikitError(f"no metric called {', '.join(sorted(unknown))}: choose from {', '.join(METRICS)}")
    is_points, has_labels, encodes = len(held_out.shape) == 1, held_out.labels is not None, model.encoder is not None

    @cache
    def sets() -> Sets:
        return in_features(model, train, held_out, (network or feature_network()).to(model.device))

    left_out = {
        "reconstruction": not encodes,
        "codes": not encodes or is_points or len(held_out) == 1,
        "classification": not (model.classes and has_labels),
    }
    table: dict[str, Callable[[], dict]] = {  # in the order in which numbers are printed
        "reconstruction": lambda: asdict(reconstruction(model, train, held_out)),
        "codes": lambda: codes(model, held_out).numbers(),
        "fidelity": lambda: asdict(fidelity(sets())),
        "copying": lambda: asdict(copying(sets())),
        "classification": lambda: asdict(classification(model, held_out)),
        "svm": lambda: compared(model, train, held_out, labels),
        "attributes": lambda: {k: v for k, v in attributes(model, train, held_out).items() if isinstance(v, float)},
        "probe": lambda: probe(model, train, held_out).numbers(),
    }
    found = found_modes(model) if is_points else {}
    for metric, numbers in table.items():
        with same_chance():
            if metric in metrics and not left_out.get(metric):
                found |= named(metric, numbers())
            # It goes on from the generator's state after `reconstruction`, as in all recorded numbers.
            if metric == "reconstruction" and is_points and encodes and has_labels:
                found |= _rounded(asdict(latent(model, held_out.x, held_out.labels)))
    return found


@contextmanager
def same_chance() -> Iterator[None]:
    """Seeds torch's generators with 0 for the block and restores their states on exit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def named(metric: str, numbers: dict[str, float]) -> dict[str, float | None]:
    """Numbers under the names that `measured` gives them, rounded to 5 decimals; None for one that is not finite."""
    return _rounded({f"{metric}_{name}": value for name, value in numbers.items()})


def _rounded(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in numbers.items()}
