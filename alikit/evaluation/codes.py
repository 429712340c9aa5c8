"""How near the encoder's codes come to the prior, for any data and any Z: q(z) = E_x q(z|x) against N(0, I)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .awake import awake
from .examples import examples
from .latent import energy_distance

CODES = 10_000  # examples encoded at most
FOR_ENERGY = 2_000  # codes of them for the energy distance, whose time grows with their square
FOR_AWAKE = 500  # examples for `awake`, which asks for all at once


@dataclass(frozen=True)
class Codes:
    """What `codes` found of z_hat ~ q(z|x).

    mean          (Z,) of the codes, float64
    covariance    (Z, Z) of the codes, float64
    kl            KL(N(mean, covariance) || N(0, I)) in nats, of all Z numbers together; 0 if they are the prior's.
                  Infinite if the codes leave a direction out, as fewer than Z + 1 codes do, or are not finite
    kl_floor      the same of as many draws from the prior: what 0 looks like with this many
    energy        `energy_distance` of codes to draws from the prior
    energy_floor  the same between two independent sets of prior draws
    cycle, spread, sigma   as in `awake`; sigma is not a number for encoders that have none
    """

    mean: Tensor
    covariance: Tensor
    kl: float
    kl_floor: float
    energy: float
    energy_floor: float
    cycle: float
    spread: float
    sigma: float

    def numbers(self) -> dict[str, float]:
        """All but the two tensors."""
        return {name: value for name, value in vars(self).items() if name not in ("mean", "covariance")}


def codes(model: Game, held_out: Dataset, batch_size: int = 500) -> Codes:
    """Encodes held-out examples, at most 10,000, by torch's global seed. AlikitError for fewer than 2 of them."""
    if len(held_out) < 2:
        raise AlikitError(f"cannot tell how codes spread from {len(held_out)} examples: hold out at least 2")
    some = held_out.select(torch.randperm(len(held_out))[:CODES])
    z_hat = torch.cat([model.encode(x, y=y).cpu() for x, y in examples(model, some, batch_size)])
    z, z_again = model.prior(len(z_hat)).cpu(), model.prior(len(z_hat)).cpu()
    mean, covariance = moments(z_hat)
    x, y = next(examples(model, some, FOR_AWAKE))
    alive = awake(model, x, z[:FOR_AWAKE].to(model.device), y)
    return Codes(
        mean=mean,
        covariance=covariance,
        kl=kl_to_prior(mean, covariance),
        kl_floor=kl_to_prior(*moments(z)),
        energy=energy_distance(z_hat[:FOR_ENERGY], z[:FOR_ENERGY]),
        energy_floor=energy_distance(z_again[:FOR_ENERGY], z[:FOR_ENERGY]),
        **({"sigma": float("nan")} | alive),
    )


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (Z,) and covariance (Z, Z) of codes z (N, Z), float64."""
    return z.double().mean(0), z.double().T.cov().reshape(z.shape[1], z.shape[1])


def kl_to_prior(mean: Tensor, covariance: Tensor) -> float:
    """KL(N(mean, covariance) || N(0, I)) = (trace(covariance) + |mean|^2 - Z - log det covariance) / 2, in nats.

    mean (Z,), covariance (Z, Z). Infinite for a covariance that is singular or not finite.
    """
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        return float("inf")
    variances = torch.linalg.eigvalsh(covariance)
    if variances[0] <= len(mean) * torch.finfo(variances.dtype).eps * variances[-1]:
        return float("inf")
    return ((variances.sum() + mean.square().sum() - len(mean) - variances.log().sum()) / 2).item()
