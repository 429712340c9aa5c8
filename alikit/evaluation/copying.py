"""Whether a model repeats its training pictures: are its samples nearer to them than to pictures it never saw?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .features import Sets


@dataclass(frozen=True)
class Copying:
    """What `copying` found, for n samples.

    share              of samples nearer to a training picture than to any held-out one, 0..1, ties by halves; 0.5 give
                       or take `chance` for a model that copies nothing. Not a number if a sample is not finite
    chance             standard deviation of the share if nothing is copied: 0.5 / sqrt(2n) if no two samples have the
                       same nearest picture, and up to 0.5 if all have, as those of a collapsed model
    distance_train     (n,) from each sample to its nearest training picture, in the unit of the features
    distance_held_out  (n,) likewise among the held-out pictures
    nearest_train      (n,) which training picture that is, a row of the training part
    nearest_held_out   (n,) likewise, a row of the held-out part
    """

    share: float
    chance: float
    distance_train: Tensor
    distance_held_out: Tensor
    nearest_train: Tensor
    nearest_held_out: Tensor

    def numbers(self) -> dict[str, float]:
        """What sums it up."""
        return {"share": self.share, "chance": self.chance}

    def most_suspicious(self, n: int) -> Tensor:
        """(n,) the samples that come nearest to a training picture for their distance to the held-out ones."""
        return (self.distance_train / self.distance_held_out).argsort()[:n]


def copying(sets: Sets) -> Copying:
    """Each sample's nearest neighbours in the sets of `in_features`, which hold equally many pictures of both parts.

    A model that has learned what pictures are like, and not these pictures, cannot tell the two parts apart: to which
    of them a sample's nearest picture belongs is a coin's throw, however good or bad the samples are. Where the
    training part is larger than n, a copy of a picture outside the set of n goes unseen: a model that only copies, from
    a part of N, then has a share of 0.5 + 0.5 n / N.
    """
    distance_train, in_train = nearest(sets.samples, sets.train)
    distance_held_out, in_held_out = nearest(sets.samples, sets.held_out)
    lead = distance_held_out - distance_train
    share = (0.5 + 0.5 * lead.sign().double().mean()).item()
    # If chance alone dealt the real pictures out, half of them to each part: one throw for each of them, and it counts
    # for all the samples that this picture is nearest to.
    real = len(sets.train) + len(sets.held_out)
    weight = torch.where(lead >= 0, in_train, len(sets.train) + in_held_out).bincount().double() / len(lead)
    variance = (real * weight.square().sum() - 1) / (4 * (real - 1))
    return Copying(
        share=share if lead.isfinite().all() else float("nan"),
        chance=variance.sqrt().item(),
        distance_train=distance_train,
        distance_held_out=distance_held_out,
        nearest_train=sets.train_index[in_train],
        nearest_held_out=sets.held_out_index[in_held_out],
    )


def nearest(a: Tensor, b: Tensor, rows: int = 1000) -> tuple[Tensor, Tensor]:
    """For each of a (N, F) the Euclidean distance to the nearest of b (M, F), (N,), and which it is, (N,)."""
    index = torch.cat([torch.cdist(some, b).argmin(1) for some in a.split(rows)])
    # By matrix products cdist is quick, and off by what matters for copies: so the distance itself is taken again.
    return (a - b[index]).norm(dim=1), index
