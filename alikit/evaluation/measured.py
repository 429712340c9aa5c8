"""Everything that can be measured of a model, as one flat table: what the command line prints and studies keep."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import nn

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .attributes import attributes
from .classification import classification
from .codes import codes
from .copying import copying
from .coverage import coverage
from .features import feature_network, in_features
from .fidelity import fidelity, reconstruction
from .latent import latent
from .probes import probe
from .svm import compared

SAMPLES = 10_000  # points drawn to see which modes they find, as in the paper
QUICK = ("reconstruction", "codes", "classification")
METRICS = (*QUICK, "fidelity", "copying", "probe", "attributes", "svm")
LABELS = 1_000  # of an SVM's draw, as in the paper


def found_modes(model: Game) -> dict[str, float]:
    """`coverage` of 10,000 samples, the same every time it is asked of the same model."""
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
    """The chosen metrics, their names led by that of the metric; of points `coverage`, and `latent` where modes are
    known and there is an encoder, in any case and under their own names. Rounded to 5 decimals; None for a number that
    is not finite. The same every time.

    reconstruction  `reconstruction` error; left out without an encoder
    codes           `codes`, of pictures; left out without an encoder, and of a single example
    classification  `classification`; left out of a model that knows no classes
    fidelity        `fidelity` of 10,000 samples in the features of `network`, by default `feature_network`
    copying         the shares that `copying` finds in the same sets; these two take a minute together, of 32x32
    probe           `probe`, without weights and single attributes; a minute or two, of 32x32
    attributes      `attributes`, without single ones; trains a judge, some minutes
    svm             `svm.compared` with so many `labels`; some minutes, of 32x32

    AlikitError for another name, or where data or model are not for one of the latter five.
    """
    if unknown := set(metrics) - set(METRICS):
        raise AlikitError(f"no metric called {', '.join(sorted(unknown))}: choose from {', '.join(METRICS)}")
    points = len(held_out.shape) == 1
    found = found_modes(model) if points else {}
    with same_chance():
        if model.encoder is not None and "reconstruction" in metrics:
            found |= named("reconstruction", asdict(reconstruction(model, train, held_out)))
        if model.encoder is not None and points and held_out.labels is not None:
            found |= _rounded(asdict(latent(model, held_out.x, held_out.labels)))
    with same_chance():
        if model.encoder is not None and not points and "codes" in metrics and len(held_out) > 1:
            found |= named("codes", codes(model, held_out).numbers())
    with same_chance():
        if {"fidelity", "copying"} & set(metrics):
            sets = in_features(model, train, held_out, (network or feature_network()).to(model.device))
            found |= named("fidelity", asdict(fidelity(sets))) if "fidelity" in metrics else {}
            found |= named("copying", copying(sets).numbers()) if "copying" in metrics else {}
    with same_chance():
        if model.classes and held_out.labels is not None and "classification" in metrics:
            found |= named("classification", asdict(classification(model, held_out)))
    with same_chance():
        if "svm" in metrics:
            found |= named("svm", compared(model, train, held_out, labels))
    with same_chance():
        if "attributes" in metrics:
            whole = attributes(model, train, held_out)
            found |= named("attributes", {name: v for name, v in whole.items() if isinstance(v, float)})
    with same_chance():
        if "probe" in metrics:
            found |= named("probe", probe(model, train, held_out).numbers())
    return found


@contextmanager
def same_chance() -> Iterator[None]:
    """Torch's chance from a seed of its own, and as it was before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def named(metric: str, numbers: dict[str, float]) -> dict[str, float | None]:
    """Numbers under the names, and rounded as, `measured` gives them."""
    return _rounded({f"{metric}_{name}": value for name, value in numbers.items()})


def _rounded(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in numbers.items()}
