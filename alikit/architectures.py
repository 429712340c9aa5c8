"""The networks of the games, as data: the paper's tables and ours, and what builds modules from them.

`Dense` and `Pictures` build the encoder, the decoder and the discriminator of a game, for examples of `shape`, (D,) or
(C, H, W). A class of your own may take their place in a recipe: it needs `size` and the same `build` methods, and
`nearest` if it takes other sizes too. With `y`, a linear embedding of the condition, a network is conditioned on it
(paper section 5).
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .networks import Conditioned, Conv, Discriminator, Embedding, Pixels, conv_stack, mlp

Shape = tuple[int, ...]
LARGEST = 64  # pixels a side of pictures for which our networks adapt: first weights grow with the square of it


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

    def nearest(self, side: int) -> int:
        """The side nearest to this one, in pixels, of which these networks take pictures."""
        return min(side, LARGEST)

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

    def build_discriminator(self, shape: Shape, z_dim: int, outputs: int = 1, y: Embedding | None = None) -> nn.Module:
        towers = [*(nn.Identity() for _ in range(2 if z_dim else 1)), *filter(None, [y])]
        widths = [_width(math.prod(shape) + z_dim, y), *self.discriminator, outputs]
        return Discriminator(towers, mlp(widths, pieces=self.pieces, dropout=self.dropout))


@dataclass(frozen=True)
class Pictures:
    """Networks for square pictures, like the paper's tables: a tuple of rows for each part. The maps of the last row of
    encoder, decoder and joint are open: Z (or 2 Z, for mu and log sigma), the picture's channels, the logits. Where a
    kernel is open too, that of all of the picture that is left, other sizes can be had that the rows before it take
    without a rest."""

    size: int  # pixels a side, unless one asks for others
    slope: float  # of LeakyReLU below 0
    encoder: tuple[Conv, ...]
    decoder: tuple[Conv, ...]
    of_x: tuple[Conv, ...]
    of_z: tuple[Conv, ...]
    joint: tuple[Conv, ...]

    def nearest(self, side: int) -> int:
        """The side nearest to this one, in pixels, of which these networks take pictures."""
        return min(
            (fit for fit in range(1, LARGEST + 1) if fit == self.size or self._left(fit)),
            key=lambda fit: abs(fit - side),
        )

    def _left(self, side: int) -> int:
        """Pixels a side that the row with an open kernel finds, 0 where there is none or the rows before it leave a rest."""
        for row in self.encoder:
            if row.kernel is None:
                return side
            if side < row.kernel or (side - row.kernel) % row.stride:
                break
            side = row.side(side)
        return 0

    def build_encoder(self, kind: str, shape: Shape, z_dim: int, y: Embedding | None = None) -> nn.Module:
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        if y is None:
            return nn.Sequential(
                conv_stack(self.encoder, shape[0], self.slope, outputs, self._left(shape[1])), nn.Flatten()
            )
        *rows, last = self.encoder
        features = _width(rows[-1].maps, y)  # one pixel is left of the picture
        head = [nn.Unflatten(1, (features, 1, 1)), conv_stack((last,), features, self.slope, outputs), nn.Flatten()]
        return Conditioned(
            conv_stack((*rows,), shape[0], self.slope, left=self._left(shape[1])), y, nn.Sequential(*head)
        )

    def build_decoder(self, shape: Shape, z_dim: int, mean: Tensor | None, y: Embedding | None = None) -> nn.Module:
        inputs = _width(z_dim, y)
        stack = conv_stack(self.decoder, inputs, self.slope, shape[0], self._left(shape[1]))
        decoder = nn.Sequential(nn.Unflatten(1, (inputs, 1, 1)), stack, Pixels(shape, mean))
        return decoder if y is None else Conditioned(nn.Identity(), y, decoder)

    def build_discriminator(self, shape: Shape, z_dim: int, outputs: int = 1, y: Embedding | None = None) -> nn.Module:
        towers, features = [conv_stack(self.of_x, shape[0], self.slope, left=self._left(shape[1]))], self.of_x[-1].maps
        if z_dim:
            towers.append(nn.Sequential(nn.Unflatten(1, (z_dim, 1, 1)), conv_stack(self.of_z, z_dim, self.slope)))
            features += self.of_z[-1].maps
        if y is not None:
            towers.append(y)
            features = _width(features, y)
        joint = conv_stack(self.joint, features, self.slope, outputs)
        return Discriminator(towers, nn.Sequential(nn.Unflatten(1, (features, 1, 1)), *joint))


def _rows(*rows: tuple[int | None, int, int], up: bool = False) -> tuple[Conv, ...]:
    """Rows of (kernel, stride, maps)."""
    return tuple(Conv(*row, up=up) for row in rows)


def _dense(*widths: int, dropout: tuple[float, ...] = (0.2, 0.2), activation: str = "leaky") -> tuple[Conv, ...]:
    rows = zip(widths, dropout, strict=True)
    return tuple(Conv(1, 1, maps, batch_norm=False, activation=activation, dropout=rate) for maps, rate in rows)


def _last(dropout: float = 0.0, bias: bool = True) -> Conv:
    return Conv(1, 1, None, batch_norm=False, activation="linear", dropout=dropout, bias=bias)


def _dropped(rows: tuple[Conv, ...], dropout: float) -> tuple[Conv, ...]:
    """An encoder's rows as D(x) has them: with dropout on every input, and without batch norm in the first row."""
    return tuple(replace(row, dropout=dropout, batch_norm=i > 0) for i, row in enumerate(rows))


def _maxout(rows: tuple[Conv, ...], dropout: tuple[float, ...]) -> tuple[Conv, ...]:
    pairs = zip(rows, dropout, strict=True)
    return tuple(replace(row, dropout=rate, batch_norm=False, activation="maxout") for row, rate in pairs)


# Paper section 4.5 and its published settings.
TOY = Dense(encoder=(400, 400), decoder=(400,) * 4, discriminator=(200,) * 3, pieces=5, noise=2)

# Ours, for the same points: half the width, fewer pieces, and no noise beside x.
HALF = Dense(encoder=(200, 200), decoder=(200,) * 4, discriminator=(200,) * 3, pieces=2, noise=2)

# Ours, for 8x8 pictures.
SMALL = Dense(encoder=(256, 256), decoder=(256, 256), discriminator=(256,) * 3, pieces=2, dropout=0.2, size=8)

# The paper's appendix, table by table. A decoder's last row has no bias of its own: `Pixels` has one for each pixel.
_DOWN_32 = _rows((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512))  # 32 28 13 10 4 1
_UP_32 = _rows((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), up=True)

PAPER_CIFAR10 = Pictures(
    size=32,
    slope=0.1,
    encoder=(*_DOWN_32, Conv(1, 1, 512), _last()),
    decoder=(*_UP_32, Conv(1, 1, 32), _last(bias=False)),
    of_x=_maxout(_DOWN_32, (0.2, 0.5, 0.5, 0.5, 0.5)),
    of_z=_dense(512, 512, dropout=(0.2, 0.5), activation="maxout"),
    joint=(*_dense(1024, 1024, dropout=(0.5, 0.5), activation="maxout"), _last(0.5)),
)

PAPER_SVHN = replace(
    PAPER_CIFAR10,
    slope=0.01,
    of_x=_dropped(_DOWN_32, 0.2),
    of_z=_dense(512, 512),
    joint=(*_dense(1024, 1024), _last(0.2)),
)

# D(x) as published: the table has batch norm in its first row too, and no dropout.
_DOWN_64 = _rows((2, 1, 64), (7, 2, 128), (5, 2, 256), (7, 2, 256), (4, 1, 512))  # 64 63 29 13 4 1
_UP_64 = _rows((4, 1, 512), (7, 2, 256), (5, 2, 256), (7, 2, 128), (2, 1, 64), up=True)
PAPER_CELEBA = Pictures(
    size=64,
    slope=0.02,
    encoder=(*_DOWN_64, _last()),
    decoder=(*_UP_64, _last(bias=False)),
    of_x=_dropped(_DOWN_64, 0.2),
    of_z=_dense(1024, 1024),
    joint=(*_dense(2048, 2048), _last(0.2)),
)

_DOWN_TINY = _rows((4, 2, 64), (4, 1, 64), (4, 2, 128), (4, 1, 128), (4, 2, 256), (4, 1, 256))  # 64 31 28 13 10 4 1
_UP_TINY = _rows((4, 1, 256), (4, 2, 128), (4, 1, 128), (4, 2, 64), (4, 1, 64), (4, 2, 64), up=True)
PAPER_TINY_IMAGENET = Pictures(
    size=64,
    slope=0.01,
    encoder=(*_DOWN_TINY, *_rows((1, 1, 2048), (1, 1, 2048)), _last()),
    decoder=(*_rows((1, 1, 2048), (1, 1, 256)), *_UP_TINY, _last(bias=False)),
    of_x=_dropped(_DOWN_TINY, 0.2),
    of_z=_dense(2048, 2048),
    joint=(*_dense(4096, 4096), _last(0.2)),
)

# Ours, for a laptop: 32 -> 15 -> 14 -> 6 -> 1 and back, 28 -> 13 -> 12 -> 5 -> 1; no padding, as in the paper. Kernels are multiples
# of their stride, so that every pixel gets as many contributions as its neighbours: 3/2 left a checkerboard.
_DOWN_LAPTOP = _rows((4, 2, 32), (2, 1, 64), (4, 2, 128), (None, 1, 256))
_UP_LAPTOP = _rows((None, 1, 128), (4, 2, 64), (2, 1, 32), (4, 2, 32), up=True)
LAPTOP = Pictures(
    size=32,
    slope=0.1,
    encoder=(*_DOWN_LAPTOP, _last()),
    decoder=(*_UP_LAPTOP, _last(bias=False)),
    of_x=_dropped(_DOWN_LAPTOP, 0.2),
    of_z=_dense(256, 256),
    joint=(*_dense(512, 512), _last()),
)
