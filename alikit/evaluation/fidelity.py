"""How near a reconstruction comes to the original, and how near samples come to the pictures they are to look like."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..models import Game
from .examples import examples
from .features import Sets


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
    for x, y in examples(model, held_out, batch_size):
        guesses = (model.reconstruct(x, y=y), model.reconstruct(x, sample=False, y=y), mean_example.to(x.device))
        total += torch.stack([(x - guess).square().flatten(1).mean(1).sum().cpu() for guess in guesses])
    return Reconstruction(*(total / len(held_out)).tolist())


@dataclass(frozen=True)
class Fidelity:
    """What `fidelity` found. The same network and the same n make two numbers comparable, and nothing else does.

    frechet            Frechet distance of the samples to the training pictures: 0 or more, lower is better, infinite if
                       a sample is not finite
    frechet_floor      the same of held-out pictures: what two sets of n real pictures get, and a perfect model would
    precision          share of samples among the training pictures, 0..1; not a number if a sample is not finite
    precision_ceiling  the same of held-out pictures
    recall             share of training pictures among the samples, 0..1; not a number if a sample is not finite
    recall_ceiling     the same of held-out pictures
    n                  pictures in each set
    """

    frechet: float
    frechet_floor: float
    precision: float
    precision_ceiling: float
    recall: float
    recall_ceiling: float
    n: int


def fidelity(sets: Sets) -> Fidelity:
    """`frechet` and `precision_recall` of the samples beside those of held-out pictures, in the sets of `in_features`.

    Both are biased by n: fewer pictures make every distance larger. So the floor and the ceilings are as much part of
    the answer as the numbers that they bound.
    """
    precision, recall = precision_recall(sets.train, sets.samples)
    precision_ceiling, recall_ceiling = precision_recall(sets.train, sets.held_out)
    return Fidelity(
        frechet=frechet(sets.train, sets.samples),
        frechet_floor=frechet(sets.train, sets.held_out),
        precision=precision,
        precision_ceiling=precision_ceiling,
        recall=recall,
        recall_ceiling=recall_ceiling,
        n=len(sets.samples),
    )


def frechet(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance of two Gaussians with the moments of features a (N, F) and b (M, F):

        |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)),    Heusel et al. 2017

    By torchmetrics, in double precision. In Inception's features it is known as FID. Infinite if any value is not
    finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import: only where it is used

    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    as_they_are = nn.Identity()  # the metric asks a network for features, and these are features already
    as_they_are.num_features = a.shape[1]
    metric = FrechetInceptionDistance(as_they_are)
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    return metric.compute().clamp(min=0).item()  # rounding can leave a little less


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """How much of `fake` lies where `real` is, and how much of `real` where `fake` is: (N, F), (M, F) -> two of 0..1.

    Where a set is: in the balls around its points that reach to their k-th nearest neighbour of the set
    (Kynkaanniemi et al. 2019). Not a number if any value is not finite.
    """
    if not (real.isfinite().all() and fake.isfinite().all()):
        return float("nan"), float("nan")
    return _share_within(fake, real, k), _share_within(real, fake, k)


def _share_within(points: Tensor, centres: Tensor, k: int, rows: int = 1000) -> float:
    """Some rows at a time: 10,000 by 10,000 distances would fill 400 MB."""
    # A centre is its own nearest neighbour, so the k-th other one comes at place k + 1.
    reach = torch.cat(
        [torch.cdist(some, centres).topk(k + 1, largest=False).values[:, k] for some in centres.split(rows)]
    )
    inside = [(torch.cdist(some, centres) <= reach).any(1) for some in points.split(rows)]
    return torch.cat(inside).double().mean().item()
