"""Everything that can be measured of a model, as one flat table: what the command line prints and studies keep.

A metric of your own is a function of model, which is in evaluation mode, training data and held-out data that returns
numbers by name:

    OWN_METRICS["sharpness"] = lambda model, train, held_out: {"mean": model.sample(100).diff(dim=-1).abs().mean()}
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from ..data import Dataset, GridMixture
from ..errors import AlikitError
from ..models import Game
from .attributes import attributes, class_agreement
from .features import feature_network, in_features, samples_for
from .inference import codes, latent, reconstruction
from .probes import probe
from .samples import SPECTRA, check_enough, checkerboard, copying, coverage, fidelity
from .svm import classification, compared

SAMPLES = 10_000  # points drawn to see which modes they find, as in the paper
QUICK = ("reconstruction", "codes", "classification")
METRICS = (*QUICK, "fidelity", "copying", "checkerboard", "probe", "attributes", "classes", "svm")
OWN_METRICS: dict[str, Callable[[Game, Dataset, Dataset], dict]] = {}
LABELS = 1_000  # of an SVM's draw, as in the paper


def found_modes(model: Game) -> dict[str, float]:
    """`coverage` of 10,000 samples, the same each time for the same model."""
    with same_chance():
        return _numbers(vars(coverage(model.sample(SAMPLES))))


def measured(
    model: Game,
    train: Dataset,
    held_out: Dataset,
    metrics: tuple[str, ...] = QUICK,
    network: nn.Module | None = None,
    labels: int = LABELS,
) -> dict[str, float | None]:
    """The numbers of the chosen metrics by METRIC_NAME, the same each time: rounded, None for one that is not finite.

    Points of the paper's grid have `coverage` too and, with an encoder and labels, `latent`, under their own names.
    QUICK metrics are left out where they do not apply; the others take a minute or more and raise AlikitError.
    `fidelity`, `copying`, the memorisation test, and `classes` use features of `network`, by default `feature_network`;
    `svm.compared` has so many `labels`. `checkerboard` is of at most 2,000 samples and held-out pictures.
    """
    known = [*METRICS, *OWN_METRICS]
    if unknown := ", ".join(sorted({*metrics} - {*known})):
        raise AlikitError(f"no metric called {unknown}: choose from {', '.join(known)}")
    is_points, has_labels, encodes = len(held_out.shape) == 1, held_out.labels is not None, model.encoder is not None

    @cache
    def sets() -> tuple[Tensor, Tensor, Tensor]:
        looking = (network or feature_network()).to(model.device)
        if "fidelity" in metrics:  # before all pictures are looked at, which takes Inception an hour
            with Game.inference(looking):
                features = looking(held_out.floats(slice(1)).to(model.device)).shape[1]
            check_enough(len(train), len(held_out), features)
        return in_features(model, train, held_out, looking)

    def alternating() -> dict[str, float]:
        some = held_out.some(SPECTRA)
        return checkerboard(torch.cat(samples_for(model, some)), some.floats())

    table = {  # in the order in which numbers are printed: whether it applies, and what it finds
        "reconstruction": (encodes, lambda: vars(reconstruction(model, train, held_out))),
        "codes": (encodes and not is_points and len(held_out) > 1, lambda: codes(model, held_out)),
        "fidelity": (True, lambda: fidelity(*sets())),
        "copying": (True, lambda: copying(*sets())),
        "checkerboard": (True, alternating),
        "classification": (model.classes and has_labels, lambda: vars(classification(model, held_out))),
        "svm": (True, lambda: compared(model, train, held_out, labels)),
        "attributes": (True, lambda: attributes(model, train, held_out)),
        "classes": (True, lambda: class_agreement(model, train, held_out, network)),
        "probe": (True, lambda: probe(model, train, held_out)),
        **{name: (True, partial(_own, name, model, train, held_out)) for name in OWN_METRICS},
    }
    is_grid = is_points and GridMixture().holds(held_out.x)
    found = found_modes(model) if is_grid else {}
    for metric, (applies, measure) in table.items():
        with same_chance():
            if metric in metrics and applies:
                found |= named(metric, measure())
            # It goes on from the generator's state after `reconstruction`, as in all recorded numbers.
            if metric == "reconstruction" and is_grid and encodes and has_labels:
                found |= _numbers(latent(model, held_out.x, held_out.labels))
    return found


def _own(name: str, model: Game, train: Dataset, held_out: Dataset) -> dict:
    try:
        with model.inference(), torch.enable_grad():  # it may call the networks itself, and take gradients
            found = {**OWN_METRICS[name](model, train, held_out)}
        # Tensors and numpy's numbers have an item().
        return {key: value.item() if hasattr(value, "item") else value for key, value in found.items()}
    except Exception as error:
        what = f"metric {name} failed ({type(error).__name__}: {error})"
        raise AlikitError(f"{what}: correct it, and let it return a dict of numbers") from error


@contextmanager
def same_chance() -> Iterator[None]:
    """Seeds torch's generators with 0 for the block and restores their states on exit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def named(metric: str, found: dict) -> dict[str, float | None]:
    """The numbers among what a metric found, as METRIC_NAME, rounded to 5 decimals; None for one that is not finite."""
    return {f"{metric}_{name}": value for name, value in _numbers(found).items()}


def _numbers(found: dict) -> dict[str, float | None]:
    kept = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in kept.items()}
