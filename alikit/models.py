"""The games over pairs, and the models to compare them with. All are trained, sampled and used in the same way.

A game says which pairs it compares (`pairs`) and what each player minimises, given the discriminator's logits on them
(`objective`). `losses` combines the two; training takes gradients of `losses` and of nothing else. GAN compares
(x,) with (x_tilde,); ALI compares (x, z_hat) with (x_tilde, z); a GAN's decoder kept frozen inside ALI is post-hoc
inference. `VAE` and `InverseMapping` have one player and no discriminator: they override `losses`. A new game is a
subclass with another objective: README.md has one.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

from .errors import AlikitError
from .losses import code_loss, discriminator_loss, gan_generator_loss, generator_loss
from .networks import Conditioned, Discriminator, Frozen, Gaussian, batch_norms, evaluating
from .views import noisy


class Game(nn.Module):
    """What every model can do, whatever game it plays. Codes z are (N, Z); x is (N, D) or (N, C, H, W).

    `sample`, `encode`, `decode`, `reconstruct`, `interpolate` and `classify` run without gradients and in evaluation
    mode (batch norm uses its running statistics, dropout is off) and restore the mode afterwards. Results are on the
    model's device. `classes` is K for a model that classifies, otherwise 0.

    A conditional model (paper section 5) has `attributes`, A, above 0, and all of these need y: (N, A), 0 or 1 for each
    attribute, or a one-hot class, see `Dataset.conditions`; (A,) for the same y for all examples. Values between 0 and
    1 are allowed, since y enters through linear embeddings.
    """

    classes = 0
    x_shape: tuple[int, ...] | None = None  # of one example, where it is known: `Recipe.build` sets it

    def __init__(self, decoder: nn.Module | None, z_dim: int, encoder: nn.Module | None = None):
        super().__init__()
        self.decoder, self.z_dim, self.encoder = decoder, z_dim, encoder
        conditioned = (module for module in self.modules() if isinstance(module, Conditioned))
        self.attributes = next((module.embedding.in_features for module in conditioned), 0)

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Each player's loss (a scalar, in nats unless documented otherwise) on one batch x, from one forward pass.

        y  classes of the last M examples of x, (M,) int64, in games with labels; conditions, (N, A), in others
        """
        raise NotImplementedError

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each player trains: none that is frozen, which has `requires_grad` off."""
        raise NotImplementedError

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
            way = "train ALI or a VAE, or give this GAN an encoder with inverse_mapping or post_hoc_inference"
            raise AlikitError(f"a GAN cannot encode: nothing in it says which z made x; {way}")
        return self._infer(self.encoder, self.fitting(x, self.x_shape), sample, y)

    def decode(self, z: Tensor, sample: bool = False, y: Tensor | None = None) -> Tensor:
        """x_tilde for each z, (N, ...): the mean of p(x|z), or a draw from it with sample=True."""
        if self.decoder is None:
            raise AlikitError("a classifier draws nothing: train a recipe that has a decoder")
        return self._infer(self.decoder, self.fitting(z, (self.z_dim,)), sample, y)

    def reconstruct(self, x: Tensor, sample: bool = True, y: Tensor | None = None, to: Tensor | None = None) -> Tensor:
        """Gx(Gz(x)), same shape as x: encode, then decode; sample as for `encode`.

        With `to` a conditional model encodes with y and decodes with `to`: the same picture with other attributes.
        """
        return self.decode(self.encode(x, sample, y), y=y if to is None else to)

    def classify(self, x: Tensor) -> Tensor:
        """The logits of the K classes, (N, K); the largest is the prediction."""
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

        y_from and y_to, each (N, A), are a conditional model's conditions at the two ends; in between, y is linear.
        """
        z = mix(self.encode(x_from, False, y_from), self.encode(x_to, False, y_to), steps, spherical)
        ends = [*self.condition(y_from, len(z)), *self.condition(y_to, len(z))]
        y = mix(*ends, steps).flatten(0, 1) if self.attributes else None
        return self.decode(z.flatten(0, 1), y=y).unflatten(0, z.shape[:2])

    def condition(self, y: Tensor | None, n: int) -> tuple[Tensor, ...]:
        """y as the networks take it for n examples: nothing, or one tensor (n, A). AlikitError for one that does not
        fit the model."""
        if not self.attributes:
            if y is not None:
                raise AlikitError("this model takes no condition: leave y out, or train a conditional recipe")
            return ()
        if y is None:
            raise AlikitError(f"a conditional model needs y, {self.attributes} numbers for each example")
        try:
            y = torch.as_tensor(y, dtype=torch.float32, device=self.device)
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError("y is a tensor of 0 and 1: see data.conditions(), alikit.data.conditions.usual") from None
        if y.shape not in ((self.attributes,), (n, self.attributes)):
            found = " x ".join(map(str, y.shape)) or "a single number"
            raise AlikitError(f"y is {found}, and this model takes {self.attributes} numbers for each of {n} examples")
        return (y.expand(n, -1),)

    def fitting(self, v: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """v on the model's device. AlikitError unless it is (N, *shape), of floats, and pictures about in [0, 1]: a
        Gaussian decoder's draws may leave it."""
        v = torch.as_tensor(v, device=self.device)
        if not v.is_floating_point() or (shape and v.shape[1:] != shape):
            wanted, found = (" x ".join(map(str, sides)) for sides in (("N", *(shape or ("...",))), v.shape))
            raise AlikitError(f"{found} {v.dtype} is not {wanted} floats, as this model takes it: see data.floats()")
        if v.ndim == 4 and len(v) and not (v.min() >= -0.5 and v.max() <= 1.5):
            raise AlikitError(f"x goes from {v.min():g} to {v.max():g}, and pictures from 0 to 1: see data.floats()")
        return v.to(next((parameter.dtype for parameter in self.parameters()), v.dtype))

    def _infer(self, conditional: nn.Module, v: Tensor, sample: bool, y: Tensor | None) -> Tensor:
        if not isinstance(sample, bool):
            raise AlikitError("y is a keyword argument: the argument before it is sample, so write y=...")
        condition = self.condition(y, len(v))
        if condition and not ((condition[0] >= 0) & (condition[0] <= 1)).all():
            raise AlikitError("y goes from 0 (no) to 1 (yes), and a class is one-hot")
        with self.inference():
            return conditional(v, *condition) if sample else conditional.mean(v, *condition)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluation mode without gradients, for the block; restores each layer's own mode on exit."""
        with evaluating(self.modules()), torch.no_grad():
            yield


def mix(z_from: Tensor, z_to: Tensor, steps: int, spherical: bool = False) -> Tensor:
    """Codes on a path from z_from to z_to, both (N, Z) -> (N, steps, Z), ends included.

    Linear, as in the paper. With `spherical`, direction and length change at constant rates, which keeps the path as
    far from the origin as its ends are; codes that point the same way, or opposite ways, get the linear path.
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
    # Near a straight line the angle is not precise enough in float32 to divide by its sine.
    return torch.where(angle.sin() > 0.01, length * way, linear)


class AdversarialGame(Game):
    """A discriminator against all other networks that learn. `pairs` and `objective` define the game, and these say
    what is added to it; the paper's game is the default:

    loss    the adversarial loss, a name from `losses.LOSSES`
    r1, r2  weights gamma of the gradient penalties gamma / 2 E |grad d|^2 of D's logit d, or the sum of its logits, on
            q's pairs and on p's, which keep D flat there (Mescheder et al. 2018)
    penalty_on     what these are gradients by: "xz", or "x" or "z" alone
    penalty_every  steps from one penalty to the next, which then counts so many times (Karras et al. 2020, app. B)"""

    loss, r1, r2, penalty_on, penalty_every, steps_done = "ns", 0.0, 0.0, "xz", 1, 0  # `Trainer` counts the last

    def __init__(self, decoder: nn.Module, discriminator: nn.Module, z_dim: int, encoder: nn.Module | None):
        super().__init__(decoder, z_dim, encoder)
        self.discriminator = discriminator

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], ...]:
        """What D sees of one batch: q's pair and p's; in conditional games y is the last member of both."""
        raise NotImplementedError

    def objective(self, q_logits: Tensor, p_logits: Tensor) -> dict[str, Tensor]:
        """The adversarial loss of each player, from D's logits on q's pairs and on p's, each (N,)."""
        raise NotImplementedError

    def auxiliary_loss(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        """What the discriminator minimises besides its objective, or None; `q_logits` are its outputs on q's pairs."""
        return None

    def cycle_losses(self, q_pair: tuple, p_pair: tuple, *others: tuple) -> dict[str, Tensor]:
        """What players minimise besides their objective; `others` is what `pairs` returns besides the pairs."""
        return {}

    def players(self) -> dict[str, list[nn.Parameter]]:
        judges = (self.discriminator, getattr(self, "cycle_discriminator", None) or nn.Identity())
        discriminator = [p for judge in judges for p in judge.parameters() if p.requires_grad]
        own = {id(p) for p in discriminator}
        generator = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        return {"discriminator": discriminator, "generator": generator}

    def logits(self, q_pair: tuple[Tensor, ...], p_pair: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """D's outputs on q's and p's pairs, each (N,) or with classes (N, K), from ONE pass over both as in the paper.

        With batch norm in D the two halves share their statistics, so two separate passes would be another game.
        """
        halves = zip(q_pair, p_pair, strict=True)
        # A discriminator of your own may be any module: it gets q's and p's members as one batch.
        members = halves if isinstance(self.discriminator, Discriminator) else map(torch.cat, halves)
        return self.discriminator(*members).chunk(2)

    def real_logit(self, logits: Tensor) -> Tensor:
        """D's logit for "this pair is q's", (N,), from its outputs; the objective takes this one."""
        return logits

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        q_pair, p_pair, *others = self.pairs(x, y)
        penalised = (self.r1 or self.r2) and self.steps_done % self.penalty_every == 0
        if penalised:
            q_pair, p_pair = self._inputs(q_pair), self._inputs(p_pair)
        q_outputs, p_outputs = self.logits(q_pair, p_pair)
        q_logits, p_logits = self.real_logit(q_outputs), self.real_logit(p_outputs)
        losses = self.objective(q_logits, p_logits)
        if (auxiliary := self.auxiliary_loss(q_pair, q_outputs, y)) is not None:
            losses["discriminator"] = losses["discriminator"] + auxiliary
        for player, loss in self.cycle_losses(q_pair, p_pair, *others).items():
            losses[player] = losses[player] + loss
        for gamma, logits, pair in (self.r1, q_logits, q_pair), (self.r2, p_logits, p_pair):
            if penalised and gamma:
                penalty = self.penalty_every * gamma / 2 * self.squared_slope(logits, pair)
                losses["discriminator"] = losses["discriminator"] + penalty
        return losses

    def _inputs(self, pair: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The pair, all but y with a gradient, and of its own: D's alone, without the part by way of the encoder."""
        members, y = (pair[:-1], pair[-1:]) if self.attributes else (pair, ())
        return (*(v.view_as(v) if v.grad_fn is not None else v.detach().requires_grad_() for v in members), *y)

    def squared_slope(self, logits: Tensor, pair: tuple[Tensor, ...]) -> Tensor:
        """The mean squared gradient of the logits by the pair's members, all but y, or by those of `penalty_on`."""
        members = [member for member in pair if member.requires_grad]
        members = {"x": members[:1], "z": members[1:], "xz": members}[self.penalty_on]
        # A logit's gradient is its own pair's alone, so one backward pass through their sum gives all of them.
        gradients = torch.autograd.grad(logits.sum(), members, create_graph=True)
        return sum(gradient.square().flatten(1).sum(1) for gradient in gradients).mean()


class GAN(AdversarialGame):
    """x against x_tilde = Gx(z). It learns to sample and has no way back from x to z (Goodfellow et al. 2014).
    Conditional, it compares (x, y) with (Gx(z, y), y) (Mirza and Osindero 2014)."""

    def __init__(self, decoder: nn.Module, discriminator: nn.Module, z_dim: int):
        super().__init__(decoder, discriminator, z_dim, None)

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(x,) of q and (x_tilde,) of p; each with y."""
        condition = self.condition(y, len(x))
        return (x, *condition), (self.decoder(self.prior(len(x)), *condition), *condition)

    def objective(self, q_logits: Tensor, p_logits: Tensor) -> dict[str, Tensor]:
        return {
            "discriminator": discriminator_loss(q_logits, p_logits, self.loss),
            "generator": gan_generator_loss(p_logits, q_logits, self.loss),
        }


class ALI(AdversarialGame):
    """(x, z_hat) with z_hat ~ q(z|x) against (x_tilde, z) with x_tilde ~ p(x|z) (paper section 2); conditional,
    (x, z_hat, y) with z_hat ~ q(z|x, y) against (x_tilde, z, y) with x_tilde ~ p(x|z, y) (section 5).

    encoder: `Gaussian` (the paper's), `Deterministic` (BiGAN) or `NoiseInput` (the paper's toy);
    decoder: `Deterministic` (the paper's), `Gaussian`, or `Frozen` (post-hoc inference).

    cycle_x  weight of E_q |x - x_hat|, the mean over pixels, with x_hat = Gx(z_hat); or, with a `cycle_discriminator`
             of (x, x) against (x, x_hat), of its adversarial loss, without penalties (ALICE, Li et al. 2017)
    cycle_z  weight of the mean over Z of -E_p log q(z|x_tilde), which is least where q(z|x) = p(z|x), as in the game
             itself; of a `Deterministic` encoder that of a Gaussian of spread 1 around its code
    cycle_trains  what these train: "both" encoder and decoder, as in ALICE, or the "encoder" alone. A decoder that they
             train may give up samples for reconstructions, or show z to the cycle in a faint pattern that no real x has
    input_noise  spread of Gaussian noise on what the encoder reads in `pairs`, which hides such a pattern
    """

    cycle_x, cycle_z, cycle_trains, input_noise = 0.0, 0.0, "both", 0.0

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, z_dim: int, *, cycle_discriminator=None
    ):
        super().__init__(decoder, discriminator, z_dim, encoder)
        self.cycle_discriminator = cycle_discriminator

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], ...]:
        """(x, z_hat) of q and (x_tilde, z) of p, each with y; and with `cycle_z` the moments of q(z|x_tilde)."""
        condition, n = self.condition(y, len(x)), len(x)
        if not self.cycle_z:
            z_hat, z = self.encoder(noisy(x, self.input_noise), *condition), self.prior(n)
            return (x, z_hat, *condition), (self.decoder(z, *condition), z, *condition)
        z = self.prior(n)
        x_tilde = self.decoder(z, *condition)
        # One pass for both: batch norm would else make two encoders, one scaled by x and one by x_tilde.
        read = torch.cat([x, x_tilde.detach() if self.cycle_trains == "encoder" else x_tilde])
        both = self.encoder.moments(noisy(read, self.input_noise), *(torch.cat([v, v]) for v in condition))
        of_x, of_x_tilde = zip(*(values.split(n) for values in both), strict=True)
        return (x, self.encoder.draw(*of_x), *condition), (x_tilde, z, *condition), of_x_tilde

    def objective(self, q_logits: Tensor, p_logits: Tensor) -> dict[str, Tensor]:
        return {
            "discriminator": discriminator_loss(q_logits, p_logits, self.loss),
            "generator": generator_loss(q_logits, p_logits, self.loss),
        }

    def cycle_losses(self, q_pair: tuple, p_pair: tuple, moments: tuple = ()) -> dict[str, Tensor]:
        (x, z_hat, *y), (_, z, *_), found = q_pair, p_pair, {}
        if self.cycle_x:
            weights = dict(self.decoder.named_parameters()) if self.cycle_trains == "encoder" else {}
            constant = {name: weight.detach() for name, weight in weights.items()}
            with evaluating(batch_norms(self.decoder)):  # by running statistics, as when sampling
                x_hat = functional_call(self.decoder, constant, (z_hat, *y))
            if self.cycle_discriminator is None:
                found["generator"] = self.cycle_x * (x - x_hat).abs().mean()
            else:
                judged = torch.cat([x, x]), torch.cat([x, x_hat])
                same, other = self.cycle_discriminator(torch.cat(judged, 1)).chunk(2)
                found["discriminator"] = discriminator_loss(same, other, self.loss)
                found["generator"] = self.cycle_x * gan_generator_loss(other, same, self.loss)
        if self.cycle_z:
            found["generator"] = found.get("generator", 0.0) + self.cycle_z * code_loss(z, *moments)
        return found


def post_hoc_inference(gan: Game, encoder: nn.Module, discriminator: nn.Module) -> ALI:
    """An encoder for a finished GAN by the ALI game with a frozen copy of its decoder (figure 8c) and a new D."""
    return ALI(encoder, Frozen(copy.deepcopy(gan.decoder)), discriminator, gan.z_dim)


class InverseMapping(Game):
    """An encoder that learns to recover the z of generated x: E_z |z - Gz(Gx(z))|^2, decoder frozen (figure 8b). It
    never sees real data, so it does not learn to encode what the decoder cannot generate."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, z_dim: int):
        super().__init__(decoder, z_dim, encoder)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": [p for p in self.encoder.parameters() if p.requires_grad]}

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The squared distance between z and its recovery, summed over Z; only the batch size of x is used."""
        z = self.prior(len(x))
        return {"encoder": (z - self.encoder(self.decoder(z))).square().sum(1).mean()}


def inverse_mapping(gan: Game, encoder: nn.Module) -> InverseMapping:
    """`InverseMapping` for a finished GAN, on a frozen copy of its decoder; the GAN itself does not change."""
    return InverseMapping(encoder, Frozen(copy.deepcopy(gan.decoder)), gan.z_dim)


class VAE(Game):
    """Kingma and Welling (2014): maximise E_q[log p(x|z)] - KL(q(z|x) || p(z)), the evidence lower bound.

    p(x|z) is Gaussian around the decoder's output with one learned standard deviation, which starts at `scale`, in the
    unit of x. If it starts far above the detail of the data, all errors look normal and the code stays unused.
    `sample` gives the decoder's output without that Gaussian's noise, as is usual for VAEs."""

    def __init__(self, encoder: Gaussian, decoder: nn.Module, z_dim: int, scale: float = 1.0):
        if not isinstance(encoder, Gaussian):
            raise AlikitError("a VAE's encoder is Gaussian: any other has no sigma to learn")
        super().__init__(decoder, z_dim, encoder)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"autoencoder": [p for p in self.parameters() if p.requires_grad]}

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The negative evidence lower bound, averaged over examples."""
        mu, log_sigma = self.encoder.moments(x)
        posterior = Normal(mu, log_sigma.exp())
        likelihood = Normal(self.decoder(posterior.rsample()), self.log_scale.exp())
        evidence = likelihood.log_prob(x).flatten(1).sum(1) - kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
        return {"autoencoder": -evidence.mean()}
