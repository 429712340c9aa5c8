"""Everything that can be measured of a model, as one flat table: what the command line prints and studies keep."""

import math
from dataclasses import asdict

import torch

from ..data.dataset import Dataset
from ..models import Game
from .coverage import coverage
from .fidelity import reconstruction
from .latent import latent

SAMPLES = 10_000  # points drawn to see which modes they find, as in the paper


def found_modes(model: Game) -> dict[str, float]:
    """`coverage` of 10,000 samples, the same every time it is asked of the same model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _rounded(asdict(coverage(model.sample(SAMPLES))))


def measured(model: Game, train: Dataset, held_out: Dataset) -> dict[str, float | None]:
    """Of points: `coverage`. With an encoder: `reconstruction` error, its names led by "reconstruction_"; and of points
    with known modes `latent` too. Rounded to 5 decimals; None for a number that is not finite. The same every time."""
    found = found_modes(model) if len(held_out.shape) == 1 else {}
    if model.encoder is None:
        return found
    with torch.random.fork_rng():
        torch.manual_seed(0)
        errors = asdict(reconstruction(model, train, held_out))
        found |= _rounded({f"reconstruction_{name}": value for name, value in errors.items()})
        if len(held_out.shape) == 1 and held_out.labels is not None:
            found |= _rounded(asdict(latent(model, held_out.x, held_out.labels)))
    return found


def _rounded(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in numbers.items()}
