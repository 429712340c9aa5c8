"""What inference is worth on the mixture: what paper section 4.5 shows in figure 8 and says in words, as numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import GridMixture
from ..errors import AlikitError
from ..models import Game

NEIGHBOURS = 10


@dataclass(frozen=True)
class Latent:
    """What `latent` found. Shares are 0..1; z_hat is drawn from q(z|x) except where the encoder's mean is named.

    identity_drawn   share of points whose reconstruction belongs, by largest responsibility, to the mode they came from
    identity_mean    the same through the encoder's mean
    identity_strict  as drawn, and the reconstruction also lies within 3 standard deviations of that mode's mean
    prior_distance   `energy_distance` of the codes to as many draws from the prior: 0 if q(z) is the prior, and
                     infinite if any code is not finite
    prior_floor      the same between two independent sets of prior draws: what 0 looks like with this many points.
                     Chance alone moves it by a factor of two either way
    purity           share of a code's 10 nearest other codes that come from the same mode, averaged over the codes;
                     by chance 1/25 for the paper's 25 modes of equal weight
    """

    identity_drawn: float
    identity_mean: float
    identity_strict: float
    prior_distance: float
    prior_floor: float
    purity: float


def latent(model: Game, x: Tensor, labels: Tensor, mixture: GridMixture | None = None) -> Latent:
    """Asks `model` about held-out points x (N, 2), labels (N,) the mode each came from; the paper has N = 10,000.

    The default mixture is the paper's. Time grows with N^2: for 10,000 points a few seconds on one core. Chance comes
    from torch's global seed alone. Codes and reconstructions that are not finite belong to no mode and have no
    neighbours. AlikitError without an encoder, without points, or unless there is one label for each point.
    """
    if not len(x) == len(labels) > 0:
        raise AlikitError(f"each point needs its label: there are {len(x)} points and {len(labels)} labels")
    mixture, labels, x = mixture or GridMixture(), labels.cpu(), x.to(model.device)
    z_hat = model.encode(x)
    drawn, close = _kept(mixture, model.decode(z_hat), z_hat, labels)
    z_mean = model.encode(x, sample=False)
    mean, _ = _kept(mixture, model.decode(z_mean), z_mean, labels)
    z, z_again = model.prior(len(x)), model.prior(len(x))
    return Latent(
        identity_drawn=drawn,
        identity_mean=mean,
        identity_strict=close,
        prior_distance=energy_distance(z_hat, z),
        prior_floor=energy_distance(z_again, z),
        purity=_purity(z_hat, labels),
    )


def energy_distance(a: Tensor, b: Tensor) -> float:
    """The E-statistic of two samples a (N, Z) and b (M, Z), in the unit of z (Szekely and Rizzo 2004; 2013):

        2 mean |a_i - b_j| - mean |a_i - a_k| - mean |b_j - b_l|,    over all pairs, those of a point with itself too

    Never negative, and 0 only for equal samples; as N and M grow it goes to 0 if and only if the two distributions are
    one. Between two samples of N points of one distribution it is 2/N mean |a_i - a_k| on average. Infinite if any
    value is not finite.
    """
    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    a, b = a.cpu().double(), b.cpu().double()
    return 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)


def _mean_distance(a: Tensor, b: Tensor, rows: int = 100) -> float:
    """Over all pairs, some rows at a time: 10,000 by 10,000 distances would fill 800 MB."""
    # The default takes |a|^2 - 2ab + |b|^2, in which the distance between near codes is lost.
    total = sum(torch.cdist(some, b, compute_mode="donot_use_mm_for_euclid_dist").sum() for some in a.split(rows))
    return total.item() / (len(a) * len(b))


def _kept(mixture: GridMixture, x_hat: Tensor, z_hat: Tensor, labels: Tensor) -> tuple[float, float]:
    """The share of reconstructions that belong to their own mode, and the share that also lies close to it."""
    mode, distance = mixture.nearest_mode(x_hat.cpu())
    own = (mode == labels) & distance.isfinite() & z_hat.isfinite().all(1).cpu()
    return own.double().mean().item(), (own & (distance <= 3)).double().mean().item()


def _purity(z_hat: Tensor, labels: Tensor) -> float:
    finite = z_hat.isfinite().all(1).cpu()
    z_hat, own = z_hat.cpu()[finite], labels[finite]
    if len(own) < 2:
        return 0.0
    from sklearn.neighbors import NearestNeighbors  # a second to import: only where it is used

    found = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(own) - 1)).fit(z_hat.numpy())
    nearest = torch.from_numpy(found.kneighbors(return_distance=False))
    return (own[nearest] == own[:, None]).sum().item() / (NEIGHBOURS * len(labels))
