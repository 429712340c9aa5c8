"""How good samples are: the modes they cover, how near they come to real pictures, and whether they are copies."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import GridMixture
from ..errors import AlikitError

ENOUGH = 20  # samples close to a mode's mean, from which the mode counts strictly
NEIGHBOUR = 3  # to which the balls of `precision_recall` reach
# From n points in F features a Frechet distance finds too little spread better than the truth. If features are
# independent, the spread that it likes best is 0.75 of the truth at n = F, 0.85 at 2 F, 0.95 at 5 F. In features of
# our network, which are not, the truth wins against 0.9 from 4 F on.
PER_FEATURE = 4
SPECTRA = 2_000  # pictures that `checkerboard` sees in `measured`: white noise then gets 1, give or take 0.07


@dataclass(frozen=True)
class Coverage:
    """How many of the mixture's modes samples cover."""

    modes: int  # modes to which a sample belongs, by largest responsibility (the paper's measure)
    within_3std: float  # share of samples within 3 standard deviations of the mean of a mode, 0..1 (real data: 0.989)
    strict_modes: int  # modes with at least 20 samples that close
    kl_uniform: float  # KL from the modes' shares of the samples to equal shares, in nats; 0 is even, also of a smear


def coverage(x: Tensor, mixture: GridMixture | None = None) -> Coverage:
    """Counts the modes of a mixture, by default the paper's, in samples x (N, 2); the paper draws N = 10,000.

    By the paper's measure a smear over the plane covers everything; the two strict ones count only samples where the
    data is. Samples that are not finite belong to no mode.
    """
    mixture, finite = mixture or GridMixture(), x[x.isfinite().all(1)].cpu()
    mode, distance = mixture.nearest_mode(finite)
    close, number = distance <= 3, len(mixture.means)
    share = mode.bincount(minlength=number).double() / max(1, len(finite))
    return Coverage(
        modes=int((share > 0).sum()),
        within_3std=close.sum().item() / len(x),
        strict_modes=int((mode[close].bincount(minlength=number) >= ENOUGH).sum()),
        kl_uniform=torch.xlogy(share, share * number).sum().item() if len(finite) else math.log(number),
    )


def fidelity(samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, float]:
    """`frechet` and `precision_recall` of samples and training pictures, in the features (n, F) of `in_features`, and
    their floor and ceilings: those of held-out and training pictures, which is what a perfect model gets. Only numbers
    of one network and one n can be compared. AlikitError where n is too small for `frechet`."""
    found = {"frechet": frechet(train, samples), "frechet_floor": frechet(train, held_out)}
    precision, recall = precision_recall(train, samples)
    ceilings = precision_recall(train, held_out)
    found |= {"precision": precision, "precision_ceiling": ceilings[0], "recall": recall, "recall_ceiling": ceilings[1]}
    return found | {"n": len(samples)}


def check_enough(n: int, m: int, features: int) -> None:
    """AlikitError if n or m points are too few for a Frechet distance in so many features."""
    if min(n, m) < (wanted := PER_FEATURE * features):
        why = f"with fewer it prefers samples of too little spread, and here are {n:,} and {m:,}"
        needs = f"a Frechet distance in {features:,} features needs two sets of {wanted:,} examples"
        raise AlikitError(f"{needs}; {why}: leave out fidelity, or take more data")


def frechet(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance of two Gaussians with the moments of features a (N, F) and b (M, F):

        |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)),    Heusel et al. 2017

    By torchmetrics, in double precision; in Inception's features it is known as FID. Infinite if a value is not finite.
    AlikitError if N or M is below 4 F.
    """
    check_enough(len(a), len(b), a.shape[1])
    from torchmetrics.image.fid import FrechetInceptionDistance  # takes seconds to import

    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    identity = nn.Identity()  # the metric expects a network, and these are features already
    identity.num_features = a.shape[1]
    metric = FrechetInceptionDistance(identity)
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    return metric.compute().clamp(min=0).item()  # rounding can leave a little less


def precision_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The shares of `fake` (M, F) that lie where `real` (N, F) is, and of `real` where `fake` is, each 0..1.

    A set is in the balls around its points that reach to their third nearest neighbour in the set (Kynkaanniemi et al.
    2019). A point that is not finite lies nowhere.
    """

    def share_within(points: Tensor, centres: Tensor) -> float:
        # A thousand rows at a time: all 10,000 by 10,000 distances would fill 400 MB. A centre's nearest is itself.
        nearest = [torch.cdist(some, centres).topk(NEIGHBOUR + 1, largest=False)[0] for some in centres.split(1000)]
        reach = torch.cat(nearest)[:, NEIGHBOUR]
        inside = [(torch.cdist(some, centres) <= reach).any(1) for some in points.split(1000)]
        return torch.cat(inside).double().mean().item()

    return share_within(fake, real), share_within(real, fake)


def checkerboard(samples: Tensor, held_out: Tensor) -> dict[str, float]:
    """How strongly pixels alternate like the squares of a chessboard, in samples (n, C, H, W) and, as `_real`, in
    held-out pictures, all in [0, 1] and rounded to 256 levels: mean spectral power at the highest frequency of both
    directions, over that of the 16 frequencies two steps away from it.

    luma    of the mean of a pixel's channels
    chroma  of the differences of neighbouring channels; left out for grey pictures

    A chessboard of amplitude a in white noise of standard deviation s gets 1 + a^2 HW / s^2, so noise alone gets 1;
    real pictures get about 1, or less where they are smooth. Transposed convolutions that overlap unevenly leave such a
    pattern (Odena et al. 2016). An odd side has no such frequency: its last row or column is left out. NaN for sides
    below 6, and where pictures are flat or not finite. AlikitError for examples that are no pictures.
    """
    if samples.ndim != 4:
        shape = "x".join(map(str, samples.shape[1:]))
        raise AlikitError(f"a checkerboard is seen in pictures, and these examples are {shape}: leave checkerboard out")
    found = {}
    for end, x in (("", samples), ("_real", held_out)):
        if not x.is_floating_point():
            raise AlikitError(f"a checkerboard is seen in pictures from 0 to 1, not {x.dtype}: see data.floats()")
        levels = (255 * x.where(x.isfinite(), torch.nan)).round().clamp(0, 255)
        found[f"luma{end}"] = _at_the_highest_frequency(levels.mean(1, keepdim=True))
        if x.shape[1] > 1:
            found[f"chroma{end}"] = _at_the_highest_frequency(levels.diff(dim=1))
    return found | {"n": len(samples)}


def _at_the_highest_frequency(x: Tensor) -> float:
    row, column = x.shape[2] // 2, x.shape[3] // 2
    if min(row, column) < 3:
        return float("nan")
    power = torch.zeros(5, 5, dtype=torch.float64)
    for some in x[..., : 2 * row, : 2 * column].double().split(250):
        around = torch.fft.fft2(some - some.mean((2, 3), keepdim=True))[..., row - 2 : row + 3, column - 2 : column + 3]
        power += around.abs().square().sum((0, 1))
    return (16 * power[2, 2] / (power.sum() - power[1:4, 1:4].sum())).item()


def copying(samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, float]:
    """The memorisation test: are samples nearer to training than to held-out pictures, in the features (n, F) of
    `in_features`?

    share   of samples nearer to a training picture than to any held-out one, 0..1, ties by halves: 0.5 without
            memorisation, however good samples are; 0.5 + 0.5 n / N for a model that only copies the N training
            pictures; NaN if a sample is not finite
    chance  standard deviation of the share without memorisation: 0.5 / sqrt(2n) if no two samples have the same nearest
            picture, up to 0.5 if all have, as in a collapsed model
    """
    distance_train, in_train = nearest(samples, train)
    distance_held_out, in_held_out = nearest(samples, held_out)
    lead = distance_held_out - distance_train
    share = (0.5 + 0.5 * lead.sign().double().mean()).item() if lead.isfinite().all() else float("nan")
    # The variance if real pictures were dealt out to the two parts by chance: a coin is thrown for each picture, and
    # counts for all the samples that it is nearest to.
    real = len(train) + len(held_out)
    weight = torch.where(lead >= 0, in_train, len(train) + in_held_out).bincount().double() / len(lead)
    return {"share": share, "chance": ((real * weight.square().sum() - 1) / (4 * (real - 1))).sqrt().item()}


def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each of a (N, F) the Euclidean distance to the nearest of b (M, F), (N,), and its index, (N,)."""
    index = torch.cat([torch.cdist(some, b).argmin(1) for some in a.split(1000)])
    # cdist uses matrix products: quick, and too inexact for copies. So the distance is computed again.
    return (a - b[index]).norm(dim=1), index
