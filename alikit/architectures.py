"""The networks of the games, as data: the paper's tables and ours, and what builds modules from them.

`Dense` and `Pictures` build the encoder, the decoder and the discriminator of a game. A class of your own may stand in
their place in a recipe: it needs `size` and the same three methods. With `embedding`, a linear embedding of the
condition y, a network is conditioned on y (paper section 5).
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .networks import Conditioned, Conv, Discriminator, Embedding, Pixels, conv_stack, mlp


def _width(numbers: int, embedding: Embedding | None) -> int:
    """Numbers at the input of a layer, with those of y's embedding where there is one."""
    return numbers + (embedding.out_features if embedding is not None else 0)


@dataclass(frozen=True)
class Dense:
    """Fully connected networks, in widths of hidden layers: for points, and for pictures small enough (`size` a side).

    Encoder and decoder have batch norm and ReLU, the discriminator maxout of `pieces` and no batch norm.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    discriminator: tuple[int, ...]
    pieces: int
    dropout: float = 0.0  # on the input of each of the discriminator's layers
    noise: int = 0  # numbers of noise beside x at the input of an encoder of kind "noise"
    size: int | None = None

    def build_encoder(
        self, kind: str, x_shape: tuple[int, ...], z_dim: int, embedding: Embedding | None = None
    ) -> nn.Module:
        inputs = math.prod(x_shape) + (self.noise if kind == "noise" else 0)
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        stack = mlp([inputs, *self.encoder, outputs], batch_norm=True)
        if embedding is None:
            return nn.Sequential(nn.Flatten(), stack)
        head = nn.Linear(self.encoder[-1] + embedding.out_features, outputs)
        return Conditioned(nn.Sequential(nn.Flatten(), *stack[:-1]), embedding, head)

    def build_decoder(
        self, x_shape: tuple[int, ...], z_dim: int, mean: Tensor | None, embedding: Embedding | None = None
    ) -> nn.Module:
        stack = mlp([_width(z_dim, embedding), *self.decoder, math.prod(x_shape)], batch_norm=True)
        if self.size is not None:
            stack = nn.Sequential(stack, nn.Unflatten(1, x_shape), Pixels(x_shape, mean))
        return stack if embedding is None else Conditioned(nn.Identity(), embedding, stack)

    def build_discriminator(
        self, x_shape: tuple[int, ...], z_dim: int, outputs: int = 1, embedding: Embedding | None = None
    ) -> nn.Module:
        towers = [*(nn.Identity() for _ in range(2 if z_dim else 1)), *filter(None, [embedding])]
        widths = [_width(math.prod(x_shape) + z_dim, embedding), *self.discriminator, outputs]
        return Discriminator(towers, mlp(widths, pieces=self.pieces, dropout=self.dropout))


@dataclass(frozen=True)
class Pictures:
    """Networks for square pictures, as the paper's tables: a tuple of rows for each part. The last row of encoder,
    decoder and joint leaves its maps open: Z (or 2 Z, for mu and log sigma), the picture's channels, one logit."""

    size: int  # pixels a side
    slope: float  # of LeakyReLU below 0
    encoder: tuple[Conv, ...]
    decoder: tuple[Conv, ...]
    of_x: tuple[Conv, ...]
    of_z: tuple[Conv, ...]
    joint: tuple[Conv, ...]

    def build_encoder(
        self, kind: str, x_shape: tuple[int, ...], z_dim: int, embedding: Embedding | None = None
    ) -> nn.Module:
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        if embedding is None:
            return nn.Sequential(conv_stack(self.encoder, x_shape[0], self.slope, outputs), nn.Flatten())
        *rows, last = self.encoder
        features = _width(rows[-1].maps, embedding)  # one pixel is left of the picture
        head = [nn.Unflatten(1, (features, 1, 1)), conv_stack((last,), features, self.slope, outputs), nn.Flatten()]
        return Conditioned(conv_stack((*rows,), x_shape[0], self.slope), embedding, nn.Sequential(*head))

    def build_decoder(
        self, x_shape: tuple[int, ...], z_dim: int, mean: Tensor | None, embedding: Embedding | None = None
    ) -> nn.Module:
        inputs = _width(z_dim, embedding)
        stack = conv_stack(self.decoder, inputs, self.slope, x_shape[0])
        decoder = nn.Sequential(nn.Unflatten(1, (inputs, 1, 1)), stack, Pixels(x_shape, mean))
        return decoder if embedding is None else Conditioned(nn.Identity(), embedding, decoder)

    def build_discriminator(
        self, x_shape: tuple[int, ...], z_dim: int, outputs: int = 1, embedding: Embedding | None = None
    ) -> nn.Module:
        towers, features = [conv_stack(self.of_x, x_shape[0], self.slope)], self.of_x[-1].maps
        if z_dim:
            towers.append(nn.Sequential(nn.Unflatten(1, (z_dim, 1, 1)), conv_stack(self.of_z, z_dim, self.slope)))
            features += self.of_z[-1].maps
        if embedding is not None:
            towers.append(embedding)
            features = _width(features, embedding)
        joint = conv_stack(self.joint, features, self.slope, outputs)
        return Discriminator(towers, nn.Sequential(nn.Unflatten(1, (features, 1, 1)), *joint))


def _rows(*rows: tuple[int, int, int], up: bool = False) -> tuple[Conv, ...]:
    """Of kernel, stride and maps each."""
    return tuple(Conv(*row, up=up) for row in rows)


def _dense(*widths: int, dropout: tuple[float, ...] = (0.2, 0.2), activation: str = "leaky") -> tuple[Conv, ...]:
    return tuple(
        Conv(1, 1, maps, batch_norm=False, activation=activation, dropout=share)
        for maps, share in zip(widths, dropout, strict=True)
    )


def _last(dropout: float = 0.0, bias: bool = True) -> Conv:
    return Conv(1, 1, None, batch_norm=False, activation="linear", dropout=dropout, bias=bias)


def _thin_out(rows: tuple[Conv, ...], dropout: float) -> tuple[Conv, ...]:
    """An encoder's rows as D(x) has them: dropout on every input, and the first row, which sees pixels, without BN."""
    return tuple(replace(row, dropout=dropout, batch_norm=i > 0) for i, row in enumerate(rows))


def _maxout(rows: tuple[Conv, ...], dropout: tuple[float, ...]) -> tuple[Conv, ...]:
    return tuple(
        replace(row, dropout=share, batch_norm=False, activation="maxout")
        for row, share in zip(rows, dropout, strict=True)
    )


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

PAPER_SVHN = Pictures(
    size=32,
    slope=0.01,
    encoder=PAPER_CIFAR10.encoder,
    decoder=PAPER_CIFAR10.decoder,
    of_x=_thin_out(_DOWN_32, 0.2),
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
    of_x=_thin_out(_DOWN_64, 0.2),
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
    of_x=_thin_out(_DOWN_TINY, 0.2),
    of_z=_dense(2048, 2048),
    joint=(*_dense(4096, 4096), _last(0.2)),
)

# Ours, for a laptop: 32 -> 15 -> 14 -> 6 -> 1 and back; no padding, as in the paper. Kernels are multiples
# of their stride, so that every pixel gets as many contributions as its neighbours: 3/2 left a checkerboard.
_DOWN_LAPTOP = _rows((4, 2, 32), (2, 1, 64), (4, 2, 128), (6, 1, 256))
_UP_LAPTOP = _rows((6, 1, 128), (4, 2, 64), (2, 1, 32), (4, 2, 32), up=True)
LAPTOP = Pictures(
    size=32,
    slope=0.1,
    encoder=(*_DOWN_LAPTOP, _last()),
    decoder=(*_UP_LAPTOP, _last(bias=False)),
    of_x=_thin_out(_DOWN_LAPTOP, 0.2),
    of_z=_dense(256, 256),
    joint=(*_dense(512, 512), _last()),
)
