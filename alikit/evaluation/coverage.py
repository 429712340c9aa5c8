"""How many of the mixture's modes a generator covers: the paper's lenient measure, strict ones, and evenness."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import GridMixture


@dataclass(frozen=True)
class Coverage:
    """What `coverage` found.

    modes         modes that at least one sample belongs to, by largest responsibility (the paper's measure)
    within_3std   share of samples within 3 standard deviations of the mean of a mode, 0..1 (real data: 0.989)
    strict_modes  modes holding at least 20 samples that lie that close
    kl_uniform    KL from the samples' mode weights (by largest responsibility) to equal weights, in nats; 0 is even.
                  About evenness alone, and as lenient as `modes`: a smear can be even. Where no sample is finite the
                  log of the number of modes, as if all belonged to one
    """

    modes: int
    within_3std: float
    strict_modes: int
    kl_uniform: float


def coverage(x: Tensor, mixture: GridMixture | None = None, enough: int = 20) -> Coverage:
    """Measures samples x (N, 2); the paper draws N = 10,000. The default mixture is the paper's.

    By the paper's measure a smear over the plane covers everything, for every point belongs to some mode. The strict
    measures, the middle two, ask for samples where the data is. Samples that are not finite belong to no mode.
    """
    mixture = mixture or GridMixture()
    finite = x[x.isfinite().all(1)].cpu()
    mode, distance = mixture.nearest_mode(finite)
    close = distance <= 3
    total = torch.bincount(mode, minlength=len(mixture.means))
    share = total.double() / max(1, len(finite))
    counts = torch.bincount(mode[close], minlength=len(mixture.means))
    return Coverage(
        modes=int((total > 0).sum()),
        within_3std=close.sum().item() / len(x),
        strict_modes=int((counts >= enough).sum()),
        kl_uniform=torch.xlogy(share, share * len(share)).sum().item() if len(finite) else math.log(len(share)),
    )
