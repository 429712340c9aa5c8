"""Whether an encoder is learning: three numbers, cheap enough for every line of a training log."""

from torch import Tensor

from ..models import Game
from ..networks import Gaussian


def awake(model: Game, x: Tensor, z: Tensor, y: Tensor | None = None) -> dict[str, float]:
    """Asks the encoder about pictures or points x (N, ...) and codes z (M, Z) from the prior. It sleeps at first: the
    decoder learns to draw long before the encoder tells one x from another. A conditional model is told y (N, A), and
    of z the first M rows of it.

    cycle   mean squared error of one number of z on the way z -> x -> z, decoded and encoded by the means; an encoder
            that always says 0 has 1. All Z numbers count alike, those too that hardly move the picture: with many of
            these an encoder that reconstructs well may still have 1 (notebook 03, section 10)
    spread  of the encoder's means over x: root of their variance, averaged over the Z numbers; 0 for an encoder that
            gives every x one code, and spread^2 + sigma^2 = 1 where q(z) is the prior
    sigma   of q(z|x), averaged likewise; left out for encoders that have none
    """
    means = model.encode(x, sample=False, y=y)
    of_z = y if y is None else y[: len(z)]
    found = {
        "cycle": (z - model.encode(model.decode(z, y=of_z), sample=False, y=of_z)).square().mean().item(),
        "spread": means.var(0, correction=0).mean().sqrt().item(),
    }
    if isinstance(model.encoder, Gaussian):
        with model.inference():
            sigma = model.encoder.moments(x, *model.condition(y, len(x)))[1].exp()
        found["sigma"] = sigma.square().mean().sqrt().item()
    return found
