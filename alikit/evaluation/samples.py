"""How good samples are: the modes they cover, how near they come to real pictures, and whether they are copies."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import GridMixture
from .features import Sets


@dataclass(frozen=True)
class Coverage:
    """How many of the mixture's modes samples cover."""

    modes: int  # modes to which a sample belongs, by largest responsibility (the paper's measure)
    within_3std: float  # share of samples within 3 standard deviations of the mean of a mode, 0..1 (real data: 0.989)
    strict_modes: int  # modes with at least 20 samples that close
    kl_uniform: float  # KL from the modes' shares of the samples to equal shares, in nats; 0 is even, also of a smear


def coverage(x: Tensor, mixture: GridMixture | None = None, enough: int = 20) -> Coverage:
    """Counts modes in samples x (N, 2); the paper draws N = 10,000. The default mixture is the paper's.

    By the paper's measure a smear over the plane covers everything, for every point belongs to some mode. The two
    strict measures ask for samples where the data is. Samples that are not finite belong to no mode.
    """
    mixture = mixture or GridMixture()
    finite, number = x[x.isfinite().all(1)].cpu(), len(mixture.means)
    mode, distance = mixture.nearest_mode(finite)
    close = distance <= 3
    share = mode.bincount(minlength=number).double() / max(1, len(finite))
    return Coverage(
        modes=int((share > 0).sum()),
        within_3std=close.sum().item() / len(x),
        strict_modes=int((mode[close].bincount(minlength=number) >= enough).sum()),
        kl_uniform=torch.xlogy(share, share * number).sum().item() if len(finite) else math.log(number),
    )


@dataclass(frozen=True)
class Fidelity:
    """How near samples come to real pictures. Only numbers of the same network and the same n can be compared.

    Floor and ceilings are those of held-out pictures in place of samples, which is what a perfect model gets.
    """

    frechet: float  # Frechet distance of the samples from the training pictures, 0 or more
    frechet_floor: float
    precision: float  # share of samples among the training pictures, 0..1
    precision_ceiling: float
    recall: float  # share of training pictures among the samples, 0..1
    recall_ceiling: float
    n: int  # pictures in each set


def fidelity(sets: Sets) -> Fidelity:
    """`frechet` and `precision_recall` in the sets of `in_features`; both are biased by n."""
    (precision, recall), (precision_ceiling, recall_ceiling) = (
        precision_recall(sets.train, others) for others in (sets.samples, sets.held_out)
    )
    distance, floor = frechet(sets.train, sets.samples), frechet(sets.train, sets.held_out)
    return Fidelity(distance, floor, precision, precision_ceiling, recall, recall_ceiling, len(sets.samples))


def frechet(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance of two Gaussians with the moments of features a (N, F) and b (M, F):

        |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)),    Heusel et al. 2017

    By torchmetrics, in double precision; in Inception's features it is known as FID. Infinite if a value is not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import: only where it is used

    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    identity = nn.Identity()  # the metric asks a network for features, and these are features already
    identity.num_features = a.shape[1]
    metric = FrechetInceptionDistance(identity)
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    return metric.compute().clamp(min=0).item()  # rounding can leave a little less


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """The shares of `fake` (M, F) that lie where `real` (N, F) is, and of `real` where `fake` is, each 0..1.

    A set is in the balls around its points that reach to their k-th nearest neighbour in the set (Kynkaanniemi et al.
    2019). Not a number if a value is not finite.
    """
    if not (real.isfinite().all() and fake.isfinite().all()):
        return float("nan"), float("nan")

    def share_within(points: Tensor, centres: Tensor) -> float:
        # A thousand rows at a time: all 10,000 by 10,000 distances would fill 400 MB. A centre is its own nearest
        # neighbour, so the k-th other one comes at place k + 1.
        nearest = [torch.cdist(some, centres).topk(k + 1, largest=False).values for some in centres.split(1000)]
        reach = torch.cat(nearest)[:, k]
        inside = [(torch.cdist(some, centres) <= reach).any(1) for some in points.split(1000)]
        return torch.cat(inside).double().mean().item()

    return share_within(fake, real), share_within(real, fake)


@dataclass(frozen=True)
class Copying:
    """The memorisation test: whether samples are nearer to training pictures than to others."""

    share: float  # of samples nearer to a training picture than to any held-out one, 0..1, ties by halves
    chance: float  # standard deviation of the share about 0.5 for a model that copies nothing


def copying(sets: Sets) -> Copying:
    """Finds each sample's nearest neighbours in the sets of `in_features`, which are equally large.

    For a model that learned what pictures are like, and not these pictures, a coin's throw decides to which of the two
    parts a sample's nearest picture belongs, however good or bad the samples are. `chance` is then 0.5 / sqrt(2n) if no
    two samples share their nearest picture, up to 0.5 if all do, as those of a collapsed model. Where the training part
    has N > n pictures, a model that only copies has a share of 0.5 + 0.5 n / N. Not a number if a sample is not finite.
    """
    distance_train, in_train = nearest(sets.samples, sets.train)
    distance_held_out, in_held_out = nearest(sets.samples, sets.held_out)
    lead = distance_held_out - distance_train
    share = (0.5 + 0.5 * lead.sign().double().mean()).item() if lead.isfinite().all() else float("nan")
    # The variance if chance had dealt the real pictures out, half of them to each part: one throw for each picture,
    # which counts for all the samples that it is nearest to.
    real = len(sets.train) + len(sets.held_out)
    weight = torch.where(lead >= 0, in_train, len(sets.train) + in_held_out).bincount().double() / len(lead)
    return Copying(share, ((real * weight.square().sum() - 1) / (4 * (real - 1))).sqrt().item())


def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each of a (N, F) the Euclidean distance to the nearest of b (M, F), (N,), and which it is, (N,)."""
    index = torch.cat([torch.cdist(some, b).argmin(1) for some in a.split(1000)])
    # By matrix products cdist is quick, and off by what matters for copies: so the distance itself is taken again.
    return (a - b[index]).norm(dim=1), index
