"""The networks of the games, as data: the paper's tables and ours, and what builds modules from them.

`Dense` and `Pictures` build the encoder, the decoder and the discriminator of a game, for examples of `shape`, (D,) or
(C, H, W). A class of your own may take their place in a recipe: it needs `size` and the same methods, `takes` only for
other sizes. With `y`, a linear embedding of the condition, a network is conditioned on it (paper section 5). With
`unary`, which recipes name only where it is on, D judges x and z alone as well.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .networks import Conditioned, Conv, Discriminator, Embedding, Pixels, Projection, conv_stack, initialise, mlp

Shape = tuple[int, ...]
LARGEST = 64  # pixels a side to which networks adapt: their weights grow with its square


def _width(numbers: int, y: Embedding | None) -> int:
    """The input width of a layer that also sees y's embedding, if there is one."""
    return numbers + (0 if y is None else y.out_features)


@dataclass(frozen=True)
class Dense:
    """Fully connected networks, as widths of hidden layers: for points, or with a `size` for small pictures.

    Encoder and decoder have batch norm and ReLU, the discriminator maxout of `pieces` and no batch norm.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    discriminator: tuple[int, ...]
    pieces: int
    dropout: float = 0.0  # on the input of each of the discriminator's layers
    noise: int = 0  # numbers of noise beside x at the input of an encoder of kind "noise"
    size: int | None = None  # pixels a side of pictures, unless one asks for others

    def takes(self, side: int) -> bool:
        """Whether there are networks for pictures of so many pixels a side."""
        return self.size is not None and side <= LARGEST

    def build_encoder(self, kind: str, shape: Shape, z_dim: int, y: Embedding | None = None) -> nn.Module:
        inputs = math.prod(shape) + (self.noise if kind == "noise" else 0)
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        stack = mlp([inputs, *self.encoder, outputs], batch_norm=True)
        if y is None:
            return nn.Sequential(nn.Flatten(), stack)
        head = nn.Linear(self.encoder[-1] + y.out_features, outputs)
        return Conditioned(nn.Sequential(nn.Flatten(), *stack[:-1]), y, head)

    def build_decoder(self, shape: Shape, z_dim: int, mean: Tensor | None, y: Embedding | None = None) -> nn.Module:
        stack = mlp([_width(z_dim, y), *self.decoder, math.prod(shape)], batch_norm=True)
        if self.size is not None:
            stack = nn.Sequential(stack, nn.Unflatten(1, shape), Pixels(shape, mean))
        return stack if y is None else Conditioned(nn.Identity(), y, stack)

    def build_discriminator(
        self, shape: Shape, z_dim: int, outputs: int = 1, y: Embedding | None = None, unary: bool = False
    ) -> nn.Module:
        towers = [*(nn.Identity() for _ in range(2 if z_dim else 1)), *filter(None, [y])]
        inputs = (math.prod(shape) + z_dim, *((math.prod(shape), z_dim) if unary else ()))
        widths = ([_width(n, y), *self.discriminator, outputs] for n in inputs)
        stacks = (mlp(each, pieces=self.pieces, dropout=self.dropout) for each in widths)
        return Discriminator(towers, *stacks)


@dataclass(frozen=True)
class Pictures:
    """Networks for square pictures, like the paper's tables: a tuple of rows for each part. The maps of the last row of
    encoder, decoder and joint are open: Z (or 2 Z, for mu and log sigma), the picture's channels, the logits. With an
    open kernel, that of all that is left of a picture, they take every size that leaves the rows before it no rest."""

    size: int  # pixels a side, if one does not ask for others
    slope: float  # of LeakyReLU below 0
    encoder: tuple[Conv, ...]
    decoder: tuple[Conv, ...]
    of_x: tuple[Conv, ...]
    of_z: tuple[Conv, ...]
    joint: tuple[Conv, ...]
    he: bool = False  # whether D begins with He's weights, without which a bare D takes long to look at z

    def takes(self, side: int) -> bool:
        """Whether there are networks for pictures of so many pixels a side."""
        return side == self.size or (side <= LARGEST and self._left(side) > 0)

    def _left(self, side: int) -> int:
        """Pixels a side that the encoder's row with an open kernel finds; 0 without one, or if a row leaves a rest."""
        for row in self.encoder:
            if row.kernel is None or side < row.kernel or (side + 2 * row.padding - row.kernel) % row.stride:
                return side if row.kernel is None else 0
            side = row.side(side)
        return 0

    def _stack(self, rows: tuple[Conv, ...], channels: int, shape: Shape, outputs: int = 0) -> nn.Sequential:
        return conv_stack(rows, channels, self.slope, outputs, self._left(shape[1]))

    def build_encoder(self, kind: str, shape: Shape, z_dim: int, y: Embedding | None = None) -> nn.Module:
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        if y is None:
            return nn.Sequential(self._stack(self.encoder, shape[0], shape, outputs), nn.Flatten())
        *rows, last = self.encoder
        features = _width(rows[-1].maps, y)  # one pixel is left of the picture
        head = [nn.Unflatten(1, (features, 1, 1)), self._stack((last,), features, shape, outputs), nn.Flatten()]
        return Conditioned(self._stack((*rows,), shape[0], shape), y, nn.Sequential(*head))

    def build_decoder(self, shape: Shape, z_dim: int, mean: Tensor | None, y: Embedding | None = None) -> nn.Module:
        inputs = _width(z_dim, y)
        stack = self._stack(self.decoder, inputs, shape, shape[0])
        decoder = nn.Sequential(nn.Unflatten(1, (inputs, 1, 1)), stack, Pixels(shape, mean))
        return decoder if y is None else Conditioned(nn.Identity(), y, decoder)

    def build_discriminator(
        self, shape: Shape, z_dim: int, outputs: int = 1, y: Embedding | None = None, unary: bool = False
    ) -> nn.Module:
        towers, features = [self._stack(self.of_x, shape[0], shape)], self.of_x[-1].maps
        if z_dim:
            towers.append(nn.Sequential(nn.Unflatten(1, (z_dim, 1, 1)), self._stack(self.of_z, z_dim, shape)))
            features += self.of_z[-1].maps
        towers, features = towers + [y] * (y is not None), _width(features, y)
        joint = self._stack(self.joint, features, shape, outputs)
        widths = (rows[-1].maps for rows in (self.of_x, self.of_z) if unary)
        alone = (nn.Linear(width, 1) if y is None else Projection(width, y.out_features) for width in widths)
        network = Discriminator(towers, nn.Sequential(nn.Unflatten(1, (features, 1, 1)), *joint), *alone)
        return initialise(network, slope=self.slope) if self.he else network


def _pictures(
    size: int, slope: float, down: tuple, up: tuple, of_z: int, joint: int, last: float = 0.2, of_x: tuple = ()
) -> Pictures:
    """Rows of (kernel, stride, maps) down in the encoder, and up in the decoder, whose last row has no bias of its own:
    `Pixels` has one for each pixel. D(x) has the encoder's or `of_x`, but no 1 x 1 convolutions and no batch norm in
    the first row; two layers of `of_z` units see z, two of `joint` the pair. D has dropout on each row's input."""
    encoder = tuple(Conv(*row) for row in down)
    decoder = tuple(Conv(*row, up=row[0] != 1) for row in up)
    linear = Conv(1, 1, None, batch_norm=False, activation="linear")
    dense = replace(linear, activation="leaky", dropout=0.2)
    x = [Conv(*row, dropout=0.2, batch_norm=i > 0) for i, row in enumerate(of_x or down) if row[0] != 1]
    z, pair = (replace(dense, maps=of_z),) * 2, (*(replace(dense, maps=joint),) * 2, replace(linear, dropout=last))
    return Pictures(size, slope, (*encoder, linear), (*decoder, replace(linear, bias=False)), tuple(x), z, pair)


def _maxout(rows: tuple[Conv, ...], *dropout: float) -> tuple[Conv, ...]:
    pairs = zip(rows, dropout, strict=True)
    return tuple(replace(row, dropout=rate, batch_norm=False, activation="maxout") for row, rate in pairs)


# Points. Paper section 4.5 and its published settings.
TOY = Dense(encoder=(400, 400), decoder=(400,) * 4, discriminator=(200,) * 3, pieces=5, noise=2)
# Ours, for the same points: half the width, fewer pieces, and no noise beside x.
HALF = Dense(encoder=(200, 200), decoder=(200,) * 4, discriminator=(200,) * 3, pieces=2, noise=2)
# Ours, for small pictures: no convolutions.
SMALL = Dense(encoder=(256, 256), decoder=(256, 256), discriminator=(256,) * 3, pieces=2, dropout=0.2, size=8)

# The paper's appendix, table by table; pixels a side behind each row.
_DOWN = ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512), (1, 1, 512))  # 32 28 13 10 4 1 1
_UP = ((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32))
PAPER_SVHN = _pictures(32, 0.01, _DOWN, _UP, of_z=512, joint=1024)
PAPER_CIFAR10 = replace(
    PAPER_SVHN,
    slope=0.1,
    of_x=_maxout(PAPER_SVHN.of_x, 0.2, 0.5, 0.5, 0.5, 0.5),
    of_z=_maxout(PAPER_SVHN.of_z, 0.2, 0.5),
    joint=(*_maxout(PAPER_SVHN.joint[:2], 0.5, 0.5), replace(PAPER_SVHN.joint[2], dropout=0.5)),
)

# D(x) as published: the table has batch norm in its first row too, and no dropout.
_DOWN = ((2, 1, 64), (7, 2, 128), (5, 2, 256), (7, 2, 256), (4, 1, 512))  # 64 63 29 13 4 1
_UP = ((4, 1, 512), (7, 2, 256), (5, 2, 256), (7, 2, 128), (2, 1, 64))
PAPER_CELEBA = _pictures(64, 0.02, _DOWN, _UP, of_z=1024, joint=2048)

_DOWN = ((4, 2, 64), (4, 1, 64), (4, 2, 128), (4, 1, 128), (4, 2, 256), (4, 1, 256), (1, 1, 2048), (1, 1, 2048))
_UP = ((1, 1, 2048), (1, 1, 256), (4, 1, 256), (4, 2, 128), (4, 1, 128), (4, 2, 64), (4, 1, 64), (4, 2, 64))
PAPER_TINY_IMAGENET = _pictures(64, 0.01, _DOWN, _UP, of_z=2048, joint=4096)

# Ours, for a laptop: 32 15 14 6 1 or 28 13 12 5 1 and back; no padding, as in the paper. Kernels are multiples of
# their stride, so that every pixel gets as many contributions as its neighbours: 3/2 left a checkerboard.
_DOWN = ((4, 2, 32), (2, 1, 64), (4, 2, 128), (None, 1, 256))
_UP = ((None, 1, 128), (4, 2, 64), (2, 1, 32), (4, 2, 32))
LAPTOP = _pictures(32, 0.1, _DOWN, _UP, of_z=256, joint=512, last=0.0)


# Ours, without a checkerboard: 32 16 8 4 1 down, and up by resized convolutions. D has no batch norm and no dropout: a
# gradient penalty takes their place. (An encoder without batch norm was no better, and some runs of it diverged.)
def _modern(size: int, maps: tuple[int, ...], features: int = 256, finest: int = 24) -> Pictures:
    """`maps` of the rows that halve a picture, and the other way round of those that double it, down to `finest`."""
    down = [Conv(4, 2, width, padding=1) for width in maps]
    left, last = Conv(None, 1, features), Conv(1, 1, None, batch_norm=False, activation="linear")
    up = [Conv(3, 2, width, resize=True) for width in (*maps[-2::-1], finest)]
    bare = [replace(row, batch_norm=False) for row in (*down, left)]
    of_z, pair = (Conv(1, 1, width, batch_norm=False) for width in (256, 512))
    decoder = (Conv(None, 1, maps[-1], up=True), *up, replace(last, bias=False))
    return Pictures(size, 0.1, (*down, left, last), decoder, tuple(bare), (of_z,) * 2, (pair, pair, last), he=True)


MODERN = _modern(32, (48, 96, 192))
MODERN_64 = _modern(64, (24, 48, 96, 192))
MODERN_28 = _modern(28, (32, 64))

# Ours, for MNIST in ten minutes: fewer maps, and most of them in D, which is not kept.
_DOWN, _OF_X = ((4, 2, 16), (2, 1, 32), (4, 2, 32), (None, 1, 64)), ((4, 2, 16), (2, 1, 32), (4, 2, 64), (None, 1, 128))
_UP = ((None, 1, 32), (4, 2, 32), (2, 1, 16), (4, 2, 16))
MNIST = _pictures(28, 0.1, _DOWN, _UP, of_z=128, joint=256, last=0.0, of_x=_OF_X)
