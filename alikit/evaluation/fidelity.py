"""How near a reconstruction comes to the original."""

from dataclasses import dataclass

import torch

from ..data.dataset import Dataset
from ..models import Game


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared errors of one value (pictures: one pixel of one channel, in [0, 1]).

    drawn     z_hat drawn from q(z|x), as the game plays it
    mean      z_hat the encoder's mean
    baseline  the mean of the training data in place of a reconstruction: only below this was something understood
    """

    drawn: float
    mean: float
    baseline: float


def reconstruction(model: Game, train: Dataset, held_out: Dataset, batch_size: int = 500) -> Reconstruction:
    """Reconstructs every held-out example; `train` only gives the baseline's mean."""
    mean_example = train.mean()
    total = torch.zeros(3)
    for batch in held_out.batches(batch_size):
        x = batch.to(model.device)
        guesses = (model.reconstruct(x), model.reconstruct(x, sample=False), mean_example.to(x.device))
        total += torch.stack([(x - guess).square().flatten(1).mean(1).sum().cpu() for guess in guesses])
    return Reconstruction(*(total / len(held_out)).tolist())
