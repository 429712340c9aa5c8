"""The networks: plain stacks of layers, and the conditionals q(z|x), p(x|z) and discriminators built on them.

A network is described as data (a tuple of `Conv` rows, like the paper's tables, or a list of widths); `conv_stack` or
`mlp` makes it a module of PyTorch's own layers. Codes are (N, Z), points (N, D), pictures (N, C, H, W) in [0, 1].
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv_transpose2d

# Running statistics move by this much a step, in every network of the paper's published settings.
BATCH_NORM_MOMENTUM = 0.05


class Maxout(nn.Module):
    """The maximum of `pieces` features, M apart: (N, pieces * M, ...) -> (N, M, ...). Goodfellow et al. 2013."""

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.pieces, -1)).amax(1)


class Embedding(nn.Linear):
    """y (N, A) -> (N, E). `initialise` keeps its weights as PyTorch draws them: with weights from N(0, 0.01) y would be
    some thirty times weaker than z in the networks."""


class Conditioned(nn.Module):
    """A network conditioned on y: head([body(v), embedding(y)]) (section 5).

    body  (N, ...) -> (N, F, ...);  embedding  (N, A) -> (N, E);  head  (N, F + E) -> (N, ...)
    """

    def __init__(self, body: nn.Module, embedding: Embedding, head: nn.Module):
        super().__init__()
        self.body, self.embedding, self.head = body, embedding, head

    def forward(self, v: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.cat([self.body(v).flatten(1), self.embedding(y)], dim=1))


def mlp(widths: list[int], *, batch_norm: bool = False, pieces: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected stack (N, widths[0]) -> (N, widths[-1]); the last layer is linear.

    Hidden layers are ReLU, with `batch_norm` in place of their bias, or maxout of `pieces`; `dropout` is the rate on
    every layer's input.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Linear(fan_in, fan_out * (pieces or 1), bias=not batch_norm))
        layers += [nn.BatchNorm1d(fan_out, momentum=BATCH_NORM_MOMENTUM)] if batch_norm else []
        layers.append(Maxout(pieces) if pieces else nn.ReLU())
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@dataclass(frozen=True)
class Conv:
    """One row of a layer table; `up` transposes the convolution, `resize` puts it behind nearest upsampling. What is
    None is known when the row is built: `maps` of a last row, Z, the channels or the logits; `kernel` where it is what
    is left of the picture."""

    kernel: int | None
    stride: int
    maps: int | None
    up: bool = False
    batch_norm: bool = True
    activation: str = "leaky"  # "leaky", "maxout" (2 pieces) or "linear"
    dropout: float = 0.0  # on the row's input
    bias: bool = True  # where there is no batch norm, which takes its place
    padding: int = 0
    resize: bool = False  # kernel 3, stride 2, padding 1: `ResizeConv2d`
    residual: bool = False  # the row's output is added to its input, so both have equal shapes

    def side(self, side: int) -> int:
        """Pixels a side of the output, for so many of the input."""
        if self.resize:
            return side * self.stride
        more = 2 * self.padding - self.kernel
        return (side - 1) * self.stride - more if self.up else (side + more) // self.stride + 1


class ResizeConv2d(nn.Conv2d):
    """Nearest upsampling by 2, then a 3x3 convolution, (N, C, S, S) -> (N, M, 2S, 2S): no checkerboard, because every
    output pixel gets as many contributions as its neighbours (Odena et al. 2016).

    Upsampled pixels are equal in pairs, so the two are one transposed convolution, whose 4x4 kernel holds the sums of
    neighbouring weights: the same map for less than half of the products.
    """

    def __init__(self, channels: int, maps: int, bias: bool = True):
        super().__init__(channels, maps, 3, padding=1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        sums = 4 * avg_pool2d(self.weight.flip(2, 3).transpose(0, 1), 2, stride=1, padding=1)
        return conv_transpose2d(features, sums, self.bias, stride=2, padding=1)


class Residual(nn.Sequential):
    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)


def conv_stack(rows: tuple[Conv, ...], channels: int, slope: float, outputs: int = 0, left: int = 0) -> nn.Sequential:
    """The rows as a module, (N, channels, H, W) -> (N, maps, H', W'), with `outputs` for maps that are None, and `left`
    for such kernels."""
    layers: list[nn.Module] = []
    for row in rows:
        maps, bias = row.maps or outputs, row.bias and not row.batch_norm
        wide = maps * (2 if row.activation == "maxout" else 1)
        own: list[nn.Module] = [nn.Dropout(row.dropout)] if row.dropout else []
        if row.resize:
            own.append(ResizeConv2d(channels, wide, bias))
        else:
            kind = nn.ConvTranspose2d if row.up else nn.Conv2d
            own.append(kind(channels, wide, row.kernel or left, row.stride, row.padding, bias=bias))
        own += [nn.BatchNorm2d(wide, momentum=BATCH_NORM_MOMENTUM)] if row.batch_norm else []
        own += {"leaky": [nn.LeakyReLU(slope)], "maxout": [Maxout(2)], "linear": []}[row.activation]
        layers += [Residual(*own)] if row.residual else own
        channels = maps
    return nn.Sequential(*layers)


class Pixels(nn.Module):
    """The last layer of a picture decoder: a bias for every pixel and channel, then a sigmoid to [0, 1].

    The bias starts at the log-odds of `mean`, the data's mean picture, so that an untrained decoder draws that picture;
    without a mean it starts at mid-grey.
    """

    def __init__(self, x_shape: tuple[int, ...], mean: Tensor | None = None):
        super().__init__()
        mean = torch.full(x_shape, 0.5) if mean is None else mean
        self.bias = nn.Parameter(mean.clamp(1 / 256, 255 / 256).logit())

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(features + self.bias)


def initialise(network: nn.Module, std: float | None = None, slope: float = 0.0) -> nn.Module:
    """Draws every linear and convolution weight from N(0, std^2), or without a std as He et al. (2015) do before
    LeakyReLU of this slope, and sets the biases to 0, except in an `Embedding`; returns the network."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and not isinstance(layer, Embedding):
            if std:
                nn.init.normal_(layer.weight, std=std)
            else:
                nn.init.kaiming_normal_(layer.weight, slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


# Conditionals: calling one draws from q(z|x) or p(x|z); `mean` gives one value without a draw. In conditional games,
# q(z|x, y) and p(x|z, y) take y (N, A) after v, and their `net` is `Conditioned`.


def at_least_float32(v: Tensor) -> Tensor:
    """Codes, pictures and logits stay float32 where autocast lets a network compute in bfloat16."""
    return v.float() if v.dtype == torch.bfloat16 else v


class Deterministic(nn.Module):
    """All probability on one value, net(v). With it as encoder ALI is BiGAN."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, v: Tensor, *y: Tensor) -> Tensor:
        return at_least_float32(self.net(v, *y))

    mean = forward

    def moments(self, v: Tensor, *y: Tensor) -> tuple[Tensor, Tensor]:
        """net(v), and zeros: the log_sigma of a Gaussian of spread 1 around it, where a density is asked for."""
        value = self(v, *y)
        return value, torch.zeros_like(value)

    def draw(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        return mu


class Gaussian(nn.Module):
    """N(mu(v), diag(sigma(v)^2)), drawn as mu + sigma * eps so that gradients reach mu and sigma (paper section 2.2).

    `net` emits [mu, log_sigma] along dimension 1, (N, 2 * D, ...).
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def moments(self, v: Tensor, *y: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_sigma, each (N, D, ...)."""
        mu, log_sigma = at_least_float32(self.net(v, *y)).chunk(2, dim=1)
        return mu, log_sigma

    def draw(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        return mu + log_sigma.exp() * torch.randn_like(mu)

    def forward(self, v: Tensor, *y: Tensor) -> Tensor:
        return self.draw(*self.moments(v, *y))

    def mean(self, v: Tensor, *y: Tensor) -> Tensor:
        return self.moments(v, *y)[0]


class NoiseInput(nn.Module):
    """net([v, eps]) with eps ~ N(0, I) of `noise` numbers: any distribution, without a formula for its density.

    The toy's encoder (paper section 4.5). `mean` is net([v, 0]), the value at zero noise, not the average of the draws,
    which has no formula.
    """

    def __init__(self, net: nn.Module, noise: int):
        super().__init__()
        self.net, self.noise = net, noise

    def forward(self, v: Tensor) -> Tensor:
        return at_least_float32(self.net(torch.cat([v, torch.randn(len(v), self.noise, device=v.device)], dim=1)))

    def mean(self, v: Tensor) -> Tensor:
        return at_least_float32(self.net(torch.cat([v, torch.zeros(len(v), self.noise, device=v.device)], dim=1)))


class Frozen(nn.Module):
    """A conditional that does not learn: no gradients, and batch norm always uses its running statistics."""

    def __init__(self, conditional: nn.Module):
        super().__init__()
        self.conditional = conditional.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, v: Tensor, *y: Tensor) -> Tensor:
        return self.conditional(v, *y)

    def mean(self, v: Tensor, *y: Tensor) -> Tensor:
        return self.conditional.mean(v, *y)


def batch_norms(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def evaluating(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode of these layers for the block; restores each layer's own mode on exit."""
    modes = [(layer, layer.training) for layer in layers]
    for layer, _ in modes:
        layer.training = False
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def joined(network: nn.Module, halves: tuple[Tensor, Tensor]) -> Tensor:
    """What a network makes of a batch in two halves: each half alone up to the first batch norm, both together from
    there. Before that layer, the gradient of one half need not be computed for the other."""
    if not isinstance(network, nn.Sequential) or not batch_norms(network):
        return network(torch.cat(halves))
    first = next(place for place, layer in enumerate(network) if batch_norms(layer))
    for layer in network[:first]:
        halves = tuple(layer(half) for half in halves)
    return network[first + 1 :](joined(network[first], halves))


class Projection(nn.Module):
    """A logit of features f and of the embedding e of y, [f, e] (N, F + E) -> (N, 1): a weighted sum of f, and <f, V e>
    over the root of F, by which the weights depend on y (Miyato and Koyama 2018)."""

    def __init__(self, features: int, embedding: int):
        super().__init__()
        self.sum, self.of_y = nn.Linear(features, 1), nn.Linear(embedding, features, bias=False)

    def forward(self, v: Tensor) -> Tensor:
        f, e = v.split([self.of_y.out_features, self.of_y.in_features], dim=1)
        return self.sum(f) + (f * self.of_y(e)).sum(1, keepdim=True) / f.shape[1] ** 0.5


class Discriminator(nn.Module):
    """D of a whole pair: one tower for each member, their features concatenated, then `joint` to the logits.

    A GAN's "pair" is (x,) alone, ALI's is (x, z); a conditional game's has y as well, whose tower is an `Embedding`.
    With `nn.Identity` towers the members are concatenated as they are. The last layer of `joint` has one output, or one
    for each class. `unary` has a layer for the features of x and one for those of z, followed by the embedding of y if
    there is one, (N, F) -> (N, 1), which judges it alone; logits are then (N, 3), s_xz, s_x and s_z (BigBiGAN, Donahue
    and Simonyan 2019).
    """

    def __init__(self, towers: list[nn.Module], joint: nn.Sequential, *unary: nn.Module):
        super().__init__()
        self.towers, self.joint, self.unary = nn.ModuleList(towers), joint, nn.ModuleList(unary)

    def forward(self, *pair: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """The members, each (N, ...) -> logits (N,), large where the pair looks like one of q's, or (N, K) of classes.
        A member may also be a tuple of two halves, (N1, ...) and (N2, ...), with the result of their concatenation."""
        of_members = self.of_members(*pair)
        logits = self.head(self.joint[:-1](torch.cat(of_members, dim=1)))
        if not self.unary:
            return logits
        of_x, of_z, *of_y = of_members
        alone = [layer(torch.cat([v, *of_y], dim=1)) for layer, v in zip(self.unary, (of_x, of_z), strict=True)]
        return torch.cat([logits[:, None], *map(at_least_float32, alone)], dim=1)

    def of_members(self, *pair: Tensor | tuple[Tensor, Tensor]) -> list[Tensor]:
        """Each tower's features of its member, (N, F)."""
        towers = zip(self.towers, pair, strict=True)
        return [(joined(tower, v) if isinstance(v, tuple) else tower(v)).flatten(1) for tower, v in towers]

    def features(self, *pair: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """The input of the last layer, (N, F) or (N, F, 1, 1)."""
        return self.joint[:-1](torch.cat(self.of_members(*pair), dim=1))

    def head(self, features: Tensor) -> Tensor:
        """The logits, (N,) or (N, K), of `features`."""
        return at_least_float32(self.joint[-1](features).flatten(1).squeeze(1))
