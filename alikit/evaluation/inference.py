"""What inference is worth: reconstructions, codes beside the prior, and on the mixture the modes that codes keep."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import GridMixture
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from ..networks import Gaussian

CODES = 10_000  # examples that `codes` encodes at most
FOR_ENERGY, FOR_AWAKE = 2_000, 500  # of these, for the energy distance and for `awake`, which takes them in one batch
NEIGHBOURS = 10


def conditions_of(model: Game, data: Dataset) -> Tensor | None:
    """y of all examples, (N, A); None for a model that is not conditional."""
    return data.conditions() if model.attributes else None


def examples(model: Game, data: Dataset, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor | None]]:
    """All examples in order as `Dataset.floats`, each batch with its y or None, on the model's device."""
    y = conditions_of(model, data)
    for begin in range(0, len(data), batch_size):
        batch = slice(begin, begin + batch_size)
        yield data.floats(batch).to(model.device), None if y is None else y[batch].to(model.device)


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared errors of one value (of pictures: one channel of a pixel, in [0, 1])."""

    drawn: float  # z_hat drawn from q(z|x), as in training
    mean: float  # z_hat the encoder's mean
    baseline: float  # the mean training example in place of all reconstructions


def reconstruction(model: Game, train: Dataset, held_out: Dataset) -> Reconstruction:
    """Reconstructs every held-out example; `train` only gives the baseline."""
    mean_example, total = train.mean(), torch.zeros(3)
    for x, y in examples(model, held_out):
        guesses = (model.reconstruct(x, y=y), model.reconstruct(x, sample=False, y=y), mean_example.to(x.device))
        total += torch.stack([(x - guess).square().flatten(1).mean(1).sum().cpu() for guess in guesses])
    return Reconstruction(*(total / len(held_out)).tolist())


def awake(model: Game, x: Tensor, z: Tensor, y: Tensor | None = None) -> dict[str, float]:
    """Whether an encoder has begun to learn, from examples x (N, ...) with y (N, A) and draws z (M, Z) of the prior.

    cycle   mean squared error of one number of z after z -> x -> z, by the means; 1 for an encoder that always says 0,
            or where most numbers of z hardly move the picture (notebook 03, section 10)
    spread  root of the variance over x of the encoder's means, averaged over Z; 0 for one code for every x
    sigma   of q(z|x), averaged likewise, if the encoder has one; spread^2 + sigma^2 = 1 where q(z) is the prior
    """
    means, y_of_z = model.encode(x, sample=False, y=y), None if y is None else y[: len(z)]
    x_tilde = model.decode(z, y=y_of_z)
    is_finite = x_tilde.isfinite().all()  # a model that has diverged may draw what no encoder takes
    z_hat = model.encode(x_tilde, sample=False, y=y_of_z) if is_finite else torch.full_like(z, torch.nan)
    found = {"cycle": (z - z_hat).square().mean().item(), "spread": means.var(0, correction=0).mean().sqrt().item()}
    if isinstance(model.encoder, Gaussian):
        with model.inference():
            _, log_sigma = model.encoder.moments(x, *model.condition(y, len(x)))
        found["sigma"] = log_sigma.exp().square().mean().sqrt().item()
    return found


def codes(model: Game, held_out: Dataset) -> dict[str, float | Tensor]:
    """How near the codes z_hat ~ q(z|x) of at most 10,000 examples, by torch's global seed, come to the prior N(0, I):

    mean, covariance      (Z,) and (Z, Z) float64, the moments of the aggregate posterior q(z) = E_x q(z|x)
    kl, kl_floor          `kl_to_prior` of these moments, and of those of as many draws of the prior, in nats
    energy, energy_floor  `energy_distance` of codes from draws of the prior, and of two sets of draws of the prior
    cycle, spread, sigma  as in `awake`; sigma is NaN for an encoder without one
    """
    if len(held_out) < 2:
        raise AlikitError(f"cannot see how codes spread from {len(held_out)} examples: hold out at least 2")
    some = held_out.select(torch.randperm(len(held_out))[:CODES])
    z_hat = torch.cat([model.encode(x, y=y).cpu() for x, y in examples(model, some)])
    z, z_again = model.prior(len(z_hat)).cpu(), model.prior(len(z_hat)).cpu()
    x, y = next(examples(model, some, FOR_AWAKE))
    mean, covariance = moments(z_hat)
    energy, energy_floor = (energy_distance(v[:FOR_ENERGY], z[:FOR_ENERGY]) for v in (z_hat, z_again))
    found = {"mean": mean, "covariance": covariance, "kl": kl_to_prior(mean, covariance)}
    found |= {"kl_floor": kl_to_prior(*moments(z)), "energy": energy, "energy_floor": energy_floor}
    found |= dict.fromkeys(("cycle", "spread", "sigma"), float("nan"))
    return found | awake(model, x, z[:FOR_AWAKE].to(model.device), y)


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (Z,) and covariance (Z, Z) of codes z (N, Z), float64."""
    return z.double().mean(0), z.double().T.cov().reshape(z.shape[1], z.shape[1])


def kl_to_prior(mean: Tensor, covariance: Tensor) -> float:
    """KL(N(mean, covariance) || N(0, I)) in nats; infinite for a covariance that is singular or not finite."""
    if not covariance.isfinite().all():
        return float("inf")
    variances = torch.linalg.eigvalsh(covariance)
    if variances[0] <= len(mean) * torch.finfo(variances.dtype).eps * variances[-1]:
        return float("inf")
    return ((variances.sum() + mean.square().sum() - len(mean) - variances.log().sum()) / 2).item()


def energy_distance(a: Tensor, b: Tensor) -> float:
    """The E-statistic of two samples a (N, Z) and b (M, Z), in the unit of z (Szekely and Rizzo 2004; 2013):

        2 mean |a_i - b_j| - mean |a_i - a_k| - mean |b_j - b_l|,    over all pairs, those of a point with itself too

    0 for equal samples, above 0 for others: on average 2/N mean |a_i - a_k| for two samples of N points from one
    distribution.
    """

    def mean_distance(a: Tensor, b: Tensor) -> float:
        # A hundred rows at a time: all 10,000 by 10,000 distances would fill 800 MB. And not by matrix products:
        # |a|^2 - 2ab + |b|^2 loses the distance between near codes.
        total = sum(torch.cdist(some, b, compute_mode="donot_use_mm_for_euclid_dist").sum() for some in a.split(100))
        return total.item() / (len(a) * len(b))

    a, b = a.cpu().double(), b.cpu().double()
    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def latent(model: Game, x: Tensor, labels: Tensor) -> dict[str, float]:
    """What figure 8 of the paper (section 4.5) shows, as numbers, for held-out points x (N, 2) of its mixture, labels
    (N,) the mode of each, by torch's global seed. The paper has N = 10,000, which takes seconds.

    identity_drawn   share of points whose reconstruction, from a draw of q(z|x), is nearest to their own mode, 0..1
    identity_mean    the same from the encoder's mean
    identity_strict  as drawn, and the reconstruction lies within 3 standard deviations of the mode's mean
    prior_distance   `energy_distance` of the codes from as many draws of the prior
    prior_floor      of two such sets of draws; chance alone moves it by a factor of two either way
    purity           mean share of a finite code's 10 nearest others that come from its mode, 0..1; by chance 1/25
    """
    from sklearn.neighbors import NearestNeighbors  # takes a second to import

    mixture, labels = GridMixture(), labels.cpu()

    def identity(z_hat: Tensor) -> tuple[float, float]:
        mode, distance = mixture.nearest_mode(model.decode(z_hat).cpu())
        own = (mode == labels) & distance.isfinite()
        return own.double().mean().item(), (own & (distance <= 3)).double().mean().item()

    z_hat = model.encode(x)
    drawn, strict = identity(z_hat)
    mean, _ = identity(model.encode(x, sample=False))
    z, z_again = model.prior(len(x)), model.prior(len(x))
    finite, purity = z_hat.isfinite().all(1).cpu(), 0.0
    if finite.sum() > NEIGHBOURS:
        neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(z_hat.cpu()[finite].numpy())
        own, nearest = labels[finite], torch.from_numpy(neighbours.kneighbors(return_distance=False))
        purity = (own[nearest] == own[:, None]).sum().item() / (NEIGHBOURS * len(labels))
    found = {"identity_drawn": drawn, "identity_mean": mean, "identity_strict": strict}
    found |= {"prior_distance": energy_distance(z_hat, z), "prior_floor": energy_distance(z_again, z)}
    return found | {"purity": purity}
