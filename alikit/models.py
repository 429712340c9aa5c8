"""The games over pairs, and what stands beside them. All are trained, sampled and asked in the same way.

A game says what one batch means in `losses`: {player: loss}, one forward pass for all players. `players` names who owns
which parameters. GAN compares (x,) with (x_tilde,); ALI compares (x, z_hat) with (x_tilde, z); a GAN's decoder kept
frozen inside ALI is post-hoc inference. `VAE` and `InverseMapping` have one player and no discriminator.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from .errors import AlikitError
from .losses import P, Q, slope_of_surprise, surprise
from .networks import Discriminator, Frozen, Gaussian, attributes_of, has_batch_norm


class Game(nn.Module):
    """What every model can be asked, whatever it played. Codes z are (N, Z); x is (N, D) or (N, C, H, W).

    Questions are answered without gradients and in evaluation mode (batch norm by its running statistics, no dropout);
    the mode is put back afterwards. Answers are on the model's device, wherever the question was. Only `losses` and
    `players` differ from game to game. `classes` is the number of classes that a model tells apart, K, or 0.

    A conditional model (paper section 5) has `attributes`, A, above 0. All its questions are asked with y: (N, A), 0 or
    1 for each attribute, or one 1 for a class, see `Dataset.conditions`; (A,) where one y is meant for all examples.
    Numbers between are allowed there, y enters through linear embeddings.
    """

    classes = 0

    def __init__(self, decoder: nn.Module | None, z_dim: int, encoder: nn.Module | None = None):
        super().__init__()
        self.decoder, self.z_dim, self.encoder = decoder, z_dim, encoder
        self.attributes = attributes_of(encoder, decoder)

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Each player's loss (a scalar, in nats unless said otherwise) on one batch of data x, in one forward pass.

        y  for games with a few labels: the classes of the last M examples of x, (M,) int64; for conditional games: what
           all of them are told, (N, A) float32
        """
        raise NotImplementedError

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Each player's parameters that learn."""
        raise NotImplementedError

    def gradients(
        self, x: Tensor, y: Tensor | None = None, players: dict[str, list[nn.Parameter]] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """The losses on one batch, and the gradient of each player's loss for that player's own parameters.

        players  what `players()` gives, from whoever has it at hand: to collect it takes a while
        """
        losses = self.losses(x) if y is None else self.losses(x, y)
        return losses, {
            player: torch.autograd.grad(losses[player], own, retain_graph=True)
            for player, own in (players or self.players()).items()
        }

    @property
    def device(self) -> torch.device:
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def prior(self, n: int) -> Tensor:
        """n draws of z ~ p(z) = N(0, I), (n, Z), on the model's device."""
        return torch.randn(n, self.z_dim, device=self.device)

    def sample(self, n: int, y: Tensor | None = None) -> Tensor:
        """n draws of x ~ p(x), or p(x|y): z from the prior, then x from p(x|z) or p(x|z, y)."""
        if n < 1:
            raise AlikitError(f"cannot draw {n} samples: ask for at least 1")
        return self.decode(self.prior(n), sample=True, y=y)

    def encode(self, x: Tensor, sample: bool = True, y: Tensor | None = None) -> Tensor:
        """z_hat ~ q(z|x), (N, Z); with sample=False the conditional's mean instead of a draw."""
        if self.encoder is None:
            if self.decoder is None:
                raise AlikitError("a classifier has no codes: train a recipe that has an encoder")
            raise AlikitError(
                "a GAN cannot encode: nothing in it says which z made x; train ALI or a VAE, "
                "or give this GAN an encoder with inverse_mapping or post_hoc_inference"
            )
        return self._ask(self.encoder, x, sample, y)

    def decode(self, z: Tensor, sample: bool = False, y: Tensor | None = None) -> Tensor:
        """x_tilde for each z, (N, ...): the mean of p(x|z), or a draw from it with sample=True."""
        if self.decoder is None:
            raise AlikitError("a classifier draws nothing: train a recipe that has a decoder")
        return self._ask(self.decoder, z, sample, y)

    def reconstruct(self, x: Tensor, sample: bool = True, y: Tensor | None = None, to: Tensor | None = None) -> Tensor:
        """Gx(Gz(x)), same shape as x: encode, then decode; sample as for `encode`.

        With `to` a conditional model encodes with y and decodes with `to`: the same picture with other attributes.
        """
        return self.decode(self.encode(x, sample, y), y=y if to is None else to)

    def classify(self, x: Tensor) -> Tensor:
        """The logits of the K classes, (N, K); the largest is the guess."""
        raise AlikitError("this model knows no classes: train a recipe with labels, see alikit recipes")

    def interpolate(
        self,
        x_from: Tensor,
        x_to: Tensor,
        steps: int = 9,
        spherical: bool = False,
        y_from: Tensor | None = None,
        y_to: Tensor | None = None,
    ) -> Tensor:
        """Paths between pairs of examples, decoded at `steps` points from one code to the other: (N, steps, ...).

        y_from and y_to, each (N, A), are what a conditional model is told of the ends; between, it goes in a straight
        line from one to the other.
        """
        z = mix(self.encode(x_from, False, y_from), self.encode(x_to, False, y_to), steps, spherical)
        ends = [self.told(y, len(z)) for y in (y_from, y_to)]
        y = mix(*(told for (told,) in ends), steps).flatten(0, 1) if self.attributes else None
        return self.decode(z.flatten(0, 1), y=y).unflatten(0, z.shape[:2])

    def told(self, y: Tensor | None, n: int) -> tuple[Tensor, ...]:
        """y as the networks take it for n examples: nothing, or one tensor (n, A).

        AlikitError where a model that is not conditional is told something, or a conditional one too little.
        """
        if not self.attributes:
            if y is not None:
                raise AlikitError("this model is told nothing beside x: leave y out, or train a conditional recipe")
            return ()
        if y is None:
            raise AlikitError(f"a conditional model wants to be told y, {self.attributes} numbers for each example")
        try:
            y = torch.as_tensor(y, dtype=torch.float32, device=self.device)
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError(
                "y is a tensor of 0 and 1: data.conditions() has it, alikit.data.conditions.usual makes it of names"
            ) from None
        if y.shape not in ((self.attributes,), (n, self.attributes)):
            raise AlikitError(
                f"y is {' x '.join(map(str, y.shape)) or 'a single number'}, and this model takes {self.attributes} "
                f"numbers for each of {n} examples: {n} x {self.attributes}"
            )
        return (y.expand(n, -1),)

    def _ask(self, conditional: nn.Module, v: Tensor, sample: bool, y: Tensor | None) -> Tensor:
        if not isinstance(sample, bool):
            raise AlikitError("y goes by its name here: say y=...")
        v, told = v.to(self.device), self.told(y, len(v))
        if told and not ((told[0] >= 0) & (told[0] <= 1)).all():
            raise AlikitError("y goes from 0, which is no, to 1, which is yes: a class is a 1 in its own place")
        with self.asked():
            return conditional(v, *told) if sample else conditional.mean(v, *told)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Without gradients and in evaluation mode, for as long as it lasts."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)


def mix(z_from: Tensor, z_to: Tensor, steps: int, spherical: bool = False) -> Tensor:
    """Codes on the way from z_from to z_to, both (N, Z) -> (N, steps, Z), ends included.

    Linear, as in the paper; `spherical` turns from one direction to the other at a steady angle and pace instead, which
    keeps the path as far from the origin as its ends are. Where the two point the same way, or opposite ways (any turn
    would do), it falls back to linear.
    """
    if steps < 2:
        raise AlikitError(f"a path needs at least its 2 ends, not {steps} steps")
    t = torch.linspace(0, 1, steps, device=z_from.device)[None, :, None]
    a, b = z_from[:, None], z_to[:, None]
    linear = (1 - t) * a + t * b
    if not spherical:
        return linear
    a_way, b_way = nn.functional.normalize(a, dim=2), nn.functional.normalize(b, dim=2)
    angle = (a_way * b_way).sum(2, keepdim=True).clamp(-1, 1).acos()
    way = (((1 - t) * angle).sin() * a_way + (t * angle).sin() * b_way) / angle.sin()
    length = (1 - t) * a.norm(dim=2, keepdim=True) + t * b.norm(dim=2, keepdim=True)
    # Near a straight line float32 no longer knows the angle well enough to divide by its sine.
    return torch.where(angle.sin() > 0.01, length * way, linear)


class AdversarialGame(Game):
    """A discriminator against everything else that learns.

    A game says what the discriminator compares (`pairs`) and what each player wants it to say (`wants`): what it should
    take q's pairs for, and what p's; `Q`, `P`, or 0 where that is nothing to the player. A player's loss is the
    `surprise` of its wishes.

    r1  weight gamma of the zero-centred gradient penalty gamma / 2 E_q |grad D|^2 on q's pairs, which the discriminator
        pays for being steep where the data is (R1, Mescheder et al. 2018); 0, as in the paper, for none
    """

    wants: ClassVar[dict[str, tuple[int, int]]]

    def __init__(
        self,
        decoder: nn.Module,
        discriminator: nn.Module,
        z_dim: int,
        encoder: nn.Module | None = None,
        r1: float = 0.0,
    ):
        super().__init__(decoder, z_dim, encoder)
        self.discriminator, self.r1 = discriminator, r1

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What D is shown of one batch: q's pair and p's, and with them y, which is the same in both."""
        raise NotImplementedError

    def players(self) -> dict[str, list[nn.Parameter]]:
        discriminator = list(self.discriminator.parameters())
        own = {id(p) for p in discriminator}
        generator = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        return {"discriminator": discriminator, "generator": generator}

    def logits(self, q_pair: tuple[Tensor, ...], p_pair: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """D's logits on q's and on p's pairs, each (N,) or of classes (N, K), from ONE pass over both, as in the paper.

        With batch norm in D the two halves share their statistics, so two separate passes would be another game.
        """
        halves = zip(q_pair, p_pair, strict=True)
        # One of another class, of a reader's own, sees tensors.
        members = halves if isinstance(self.discriminator, Discriminator) else map(torch.cat, halves)
        q_logits, p_logits = self.discriminator(*members).chunk(2)
        return q_logits, p_logits

    def realness(self, logits: Tensor) -> Tensor:
        """How sure D is that pairs are q's, (N,), by its logits on them: what the players contend for."""
        return logits

    def owed(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        """What the discriminator pays besides for its logits on q's pairs, of which y is known; None where there is
        nothing. The encoder has no part in it."""
        return None

    def _shown(self, x: Tensor, y: Tensor | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """`pairs`; for the penalty, q's x is a copy that has a gradient of its own, apart from what the encoder sees.

        Its gradient is then D's alone, not also the one that reaches x by way of z_hat; the caller's x stays as it is.
        """
        q_pair, p_pair = self.pairs(x, y)
        if self.r1:
            x, *rest = q_pair
            q_pair = (x if x.grad_fn is not None else x.detach().requires_grad_(), *rest)
        return q_pair, p_pair

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        q_pair, p_pair = self._shown(x, y)
        q_logits, p_logits = self.logits(q_pair, p_pair)
        losses = self._surprises(self.realness(q_logits), self.realness(p_logits))
        if (owed := self.owed(q_pair, q_logits, y)) is not None:
            losses["discriminator"] = losses["discriminator"] + owed
        if self.r1:
            losses["discriminator"] = losses["discriminator"] + self._steepness(self.realness(q_logits), q_pair)
        return losses

    def gradients(
        self, x: Tensor, y: Tensor | None = None, players: dict[str, list[nn.Parameter]] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """As for every game, but with one backward pass through D for both players instead of one for each.

        What a player's loss asks of a pair's members is dL/dlogit times dlogit/dmember, and the second factor is the
        same for both. So the pass is made for the discriminator, and on its way into the generator each pair's gradient
        is multiplied by the ratio of the two dL/dlogit. Batch norm in D lets a logit depend on all pairs: then two.
        """
        if has_batch_norm(self.discriminator):
            return super().gradients(x, y, players)
        q_pair, p_pair = self._shown(x, y)
        q_logits, p_logits = self.logits(q_pair, p_pair)
        real = self.realness(q_logits), self.realness(p_logits)
        told = tuple(logits.detach() for logits in real)
        losses = self._surprises(*told)
        slope = {
            player: torch.cat([slope_of_surprise(logits, side) for logits, side in zip(told, sides, strict=True)])
            for player, sides in self.wants.items()
        }
        # The ratio is e^|logit| where D is right: kept finite by never seeding less than e^-60 of a pair's full weight,
        # which adds nothing to D's gradient that float32 could see.
        seed = slope["discriminator"].abs().clamp(min=math.exp(-60) / len(x)).copysign(slope["discriminator"])
        ratio = slope["generator"] / seed
        own = players or self.players()
        own_d, own_g = own["discriminator"], own["generator"]
        extra = [None] * len(own_d)
        if self.r1:
            penalty = self._steepness(real[0], q_pair)
            losses["discriminator"] = losses["discriminator"] + penalty
            extra = torch.autograd.grad(penalty, own_d, retain_graph=True, allow_unused=True)
        for pair, scale in zip((q_pair, p_pair), ratio.chunk(2), strict=True):
            for member in pair:
                if member.grad_fn is not None:  # made by a network, so its gradient goes on into it
                    member.register_hook(lambda g, s=scale: g * s.view(-1, *[1] * (g.ndim - 1)))
        asked, seeds = [torch.cat(real)], [seed]
        if (owed := self.owed(q_pair, q_logits, y)) is not None:
            asked.append(owed)
            seeds.append(torch.ones_like(owed))
            losses["discriminator"] = losses["discriminator"] + owed
        found = torch.autograd.grad(asked, [*own_d, *own_g], seeds)
        of_d = tuple(g if more is None else g + more for g, more in zip(found, extra, strict=False))
        return losses, {"discriminator": of_d, "generator": found[len(own_d) :]}

    def _surprises(self, *logits: Tensor) -> dict[str, Tensor]:
        """Each player's loss as a function of D's logits alone, on q's pairs and on p's."""
        return {
            player: sum(surprise(told, side) for told, side in zip(logits, sides, strict=True) if side)
            for player, sides in self.wants.items()
        }

    def _steepness(self, q_logits: Tensor, q_pair: tuple[Tensor, ...]) -> Tensor:
        """The R1 penalty. A logit's gradient is its own pair's alone, so their sum gives all at once."""
        steep = [member for member in q_pair if member.requires_grad]  # not y, which has no neighbours
        slopes = torch.autograd.grad(q_logits.sum(), steep, create_graph=True)
        return self.r1 / 2 * sum(slope.square().flatten(1).sum(1) for slope in slopes).mean()


class GAN(AdversarialGame):
    """x against x_tilde = Gx(z). It learns to draw, and has no way back from x to z (Goodfellow et al. 2014).

    Conditional, it compares (x, y) with (Gx(z, y), y) (Mirza and Osindero 2014).
    """

    wants: ClassVar = {"discriminator": (Q, P), "generator": (0, Q)}

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One batch of data and one of samples: (x,) of q and (x_tilde,) of p; each with y."""
        told = self.told(y, len(x))
        return (x, *told), (self.decoder(self.prior(len(x)), *told), *told)


class ALI(AdversarialGame):
    """(x, z_hat) with z_hat ~ q(z|x) against (x_tilde, z) with x_tilde ~ p(x|z) (paper section 2).

    Conditional, (x, z_hat, y) with z_hat ~ q(z|x, y) against (x_tilde, z, y) with x_tilde ~ p(x|z, y) (section 5).

    encoder: `Gaussian` (the paper's), `Deterministic` (BiGAN) or `NoiseInput` (the paper's toy);
    decoder: `Deterministic` (the paper's), `Gaussian`, or `Frozen` (post-hoc inference).
    """

    wants: ClassVar = {"discriminator": (Q, P), "generator": (P, Q)}

    def __init__(self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, z_dim: int, r1: float = 0.0):
        super().__init__(decoder, discriminator, z_dim, encoder, r1)

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One batch from each joint: (x, z_hat) of q and (x_tilde, z) of p; each with y."""
        told = self.told(y, len(x))
        z_hat = self.encoder(x, *told)
        z = self.prior(len(x))
        return (x, z_hat, *told), (self.decoder(z, *told), z, *told)


def post_hoc_inference(gan: Game, encoder: nn.Module, discriminator: nn.Module) -> ALI:
    """An encoder for a finished GAN, learned by the ALI game against a frozen copy of its decoder (figure 8c).

    `discriminator` is a fresh one over (x, z); the GAN itself is left as it is.
    """
    return ALI(encoder, Frozen(copy.deepcopy(gan.decoder)), discriminator, gan.z_dim)


class InverseMapping(Game):
    """An encoder fitted to give back the z of generated x: E_z |z - Gz(Gx(z))|^2, decoder frozen (figure 8b).

    It never sees real data, so what the decoder cannot draw the encoder has never met.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, z_dim: int):
        super().__init__(decoder, z_dim, encoder)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": list(self.encoder.parameters())}

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """The squared distance between z and its recovery, summed over Z; of x only the batch size is used."""
        z = self.prior(len(x))
        return {"encoder": (z - self.encoder(self.decoder(z))).square().sum(1).mean()}


def inverse_mapping(gan: Game, encoder: nn.Module) -> InverseMapping:
    """`InverseMapping` for a finished GAN, on a frozen copy of its decoder; the GAN itself is left as it is."""
    return InverseMapping(encoder, Frozen(copy.deepcopy(gan.decoder)), gan.z_dim)


class VAE(Game):
    """Kingma and Welling (2014): maximise E_q[log p(x|z)] - KL(q(z|x) || p(z)), the evidence lower bound.

    p(x|z) is Gaussian around the decoder's output with one learned scale, which starts at `scale`, in the unit of x.
    Started far above the data's detail it may call every error normal, and the code is left empty. `sample` shows the
    decoder's output and leaves that Gaussian's noise out, as pictures of VAEs do.
    """

    def __init__(self, encoder: Gaussian, decoder: nn.Module, z_dim: int, scale: float = 1.0):
        super().__init__(decoder, z_dim, encoder)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"autoencoder": list(self.parameters())}

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """The negative evidence lower bound of an example."""
        mu, log_sigma = self.encoder.moments(x)
        posterior = Normal(mu, log_sigma.exp())
        likelihood = Normal(self.decoder(posterior.rsample()), self.log_scale.exp())
        evidence = likelihood.log_prob(x).flatten(1).sum(1) - kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
        return {"autoencoder": -evidence.mean()}
