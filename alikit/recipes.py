"""Named experiments, as data: which game, on what, with which networks and settings.

    recipe = RECIPES["digits"]
    model = recipe.build(data.shape, data.mean())
    recipe.trainer(model, data).run(recipe.steps)

To add an experiment, add a row at the end of this file.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .data import Dataset
from .data.labels import few_labels
from .errors import AlikitError
from .models import ALI, GAN, VAE, Game, inverse_mapping, post_hoc_inference
from .networks import (
    Conditioned,
    Conv,
    Deterministic,
    Discriminator,
    Embedding,
    Gaussian,
    NoiseInput,
    Pixels,
    conv_stack,
    initialise,
    mlp,
)
from .semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised
from .training import Trainer


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
        self, kind: str, x_shape: tuple[int, ...], z_dim: int, of_y: Embedding | None = None
    ) -> nn.Module:
        inputs = math.prod(x_shape) + (self.noise if kind == "noise" else 0)
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        stack = mlp([inputs, *self.encoder, outputs], batch_norm=True)
        if of_y is None:
            return nn.Sequential(nn.Flatten(), stack)
        head = nn.Linear(self.encoder[-1] + of_y.out_features, outputs)
        return Conditioned(nn.Sequential(nn.Flatten(), *stack[:-1]), of_y, head)

    def build_decoder(
        self, x_shape: tuple[int, ...], z_dim: int, mean: Tensor | None, of_y: Embedding | None = None
    ) -> nn.Module:
        stack = mlp([_beside(of_y, z_dim), *self.decoder, math.prod(x_shape)], batch_norm=True)
        if self.size is not None:
            stack = nn.Sequential(stack, nn.Unflatten(1, x_shape), Pixels(x_shape, mean))
        return stack if of_y is None else Conditioned(nn.Identity(), of_y, stack)

    def build_discriminator(
        self, x_shape: tuple[int, ...], z_dim: int, outputs: int = 1, of_y: Embedding | None = None
    ) -> nn.Module:
        towers = [*(nn.Identity() for _ in range(2 if z_dim else 1)), *filter(None, [of_y])]
        widths = [_beside(of_y, math.prod(x_shape) + z_dim), *self.discriminator, outputs]
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
        self, kind: str, x_shape: tuple[int, ...], z_dim: int, of_y: Embedding | None = None
    ) -> nn.Module:
        outputs = 2 * z_dim if kind == "gaussian" else z_dim
        if of_y is None:
            return nn.Sequential(conv_stack(self.encoder, x_shape[0], self.slope, outputs), nn.Flatten())
        *rows, last = self.encoder
        features = _beside(of_y, rows[-1].maps)  # one pixel is left of the picture
        head = [nn.Unflatten(1, (features, 1, 1)), conv_stack((last,), features, self.slope, outputs), nn.Flatten()]
        return Conditioned(conv_stack((*rows,), x_shape[0], self.slope), of_y, nn.Sequential(*head))

    def build_decoder(
        self, x_shape: tuple[int, ...], z_dim: int, mean: Tensor | None, of_y: Embedding | None = None
    ) -> nn.Module:
        inputs = _beside(of_y, z_dim)
        stack = conv_stack(self.decoder, inputs, self.slope, x_shape[0])
        decoder = nn.Sequential(nn.Unflatten(1, (inputs, 1, 1)), stack, Pixels(x_shape, mean))
        return decoder if of_y is None else Conditioned(nn.Identity(), of_y, decoder)

    def build_discriminator(
        self, x_shape: tuple[int, ...], z_dim: int, outputs: int = 1, of_y: Embedding | None = None
    ) -> nn.Module:
        towers, features = [conv_stack(self.of_x, x_shape[0], self.slope)], self.of_x[-1].maps
        if z_dim:
            towers.append(nn.Sequential(nn.Unflatten(1, (z_dim, 1, 1)), conv_stack(self.of_z, z_dim, self.slope)))
            features += self.of_z[-1].maps
        if of_y is not None:
            towers.append(of_y)
            features = _beside(of_y, features)
        joint = conv_stack(self.joint, features, self.slope, outputs)
        return Discriminator(towers, nn.Sequential(nn.Unflatten(1, (features, 1, 1)), *joint))


@dataclass(frozen=True)
class Recipe:
    """One row of the table below. `z_dim` is Z; `encoder` is "gaussian", "deterministic", "noise" or None (a GAN);
    `weight_std` the spread of initial weights, None for PyTorch's own; `data` the default source.

    Games with labels have `labels` of them by default, and `labelled_batch` in each batch. `explicit` gives their
    discriminator a logit of its own for class K + 1, which is otherwise fixed at 0, see `losses`.

    A conditional recipe embeds y in `embedding` numbers, in each network anew; with 0 the networks are not told y.
    """

    summary: str
    game: str  # "ali", "gan", "vae", "inverse", "post-hoc"; with labels "k+1", "feature-matching", "supervised"
    data: str
    networks: Dense | Pictures
    z_dim: int
    encoder: str | None = "gaussian"
    steps: int = 2000
    batch_size: int = 100
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    decay: bool = False  # of the learning rate, see `Trainer`
    weight_std: float | None = None
    r1: float = 0.0  # gradient penalty, see `AdversarialGame`
    averaging: float = 0.0  # of weights, see `Trainer`
    ramp: bool = False  # of averaging, see `Trainer`
    precise_bn: bool = False  # statistics of batch norm in the result, see `Trainer`
    flips: bool = False  # of pictures, see `Trainer`
    shifts: bool = False  # of pictures, see `Trainer`
    bf16: bool = False  # where the machine is quicker so, see `Trainer`
    plain: bool = False  # as the library computes by itself, see `Trainer`
    scale: float = 1.0  # of p(x|z) at the start, see `VAE`
    labels: int = 0
    labelled_batch: int = 0
    explicit: bool = False
    consistency: float = 0.0  # of names, see `KPlusOne`
    embedding: int = 0

    @property
    def needs_decoder(self) -> bool:
        """Whether the game starts from a finished GAN's decoder."""
        return self.game in ("inverse", "post-hoc")

    @property
    def has_discriminator(self) -> bool:
        return self.game in ("ali", "gan", "post-hoc", "k+1", "feature-matching")

    @property
    def has_labels(self) -> bool:
        """Whether some examples have to come with their class."""
        return self.game in ("k+1", "feature-matching", "supervised")

    @property
    def is_conditional(self) -> bool:
        """Whether all examples have to come with what the networks are told of them."""
        return self.embedding > 0

    def build(
        self,
        x_shape: tuple[int, ...],
        mean: Tensor | None = None,
        trained: Game | None = None,
        classes: int | None = None,
        attributes: int | None = None,
    ) -> Game:
        """The untrained model for examples of `x_shape`, its weights drawn from torch's global generator.

        mean     the mean training picture, where the decoder's pixels start; None leaves them grey
        trained  for "inverse" and "post-hoc", the model whose decoder is frozen; None builds an untrained one
                 (which is what loading weights into it afterwards needs)
        classes  K, for games with labels
        attributes  A, the numbers of y, for conditional recipes: see `Dataset.conditions`

        Raises AlikitError where the networks are not made for examples of this shape, or `trained` has a decoder of
        another kind.
        """
        self._check(x_shape)
        if self.has_labels and not classes:
            raise AlikitError(
                "a game with labels wants data whose examples have one class each: name other data, "
                "or sort your pictures into PATH/<class>/"
            )
        if self.is_conditional and not attributes:
            raise AlikitError(
                "a conditional recipe wants data whose examples have attributes or classes: name other data, "
                "such as faces, or table:PATH for pictures with attributes"
            )

        def of_y() -> Embedding | None:  # to each network its own
            return Embedding(attributes, self.embedding) if self.is_conditional else None

        outputs = classes + self.explicit if self.has_labels else 1
        if self.game == "supervised":
            classifier = self.networks.build_discriminator(x_shape, 0, classes)
            return Supervised(initialise(classifier, self.weight_std) if self.weight_std else classifier, classes)
        parts: dict[str, nn.Module] = {}
        if self.encoder:
            net = self.networks.build_encoder(self.encoder, x_shape, self.z_dim, of_y())
            parts["encoder"] = {
                "gaussian": Gaussian,
                "deterministic": Deterministic,
                "noise": lambda net: NoiseInput(net, self.networks.noise),
            }[self.encoder](net)
        parts["decoder"] = Deterministic(self.networks.build_decoder(x_shape, self.z_dim, mean, of_y()))
        if self.has_discriminator:
            z_dim = self.z_dim if self.encoder else 0
            parts["discriminator"] = self.networks.build_discriminator(x_shape, z_dim, outputs, of_y())
        if self.weight_std:
            for part in parts.values():
                initialise(part, self.weight_std)
        if self.game == "vae":
            return VAE(**parts, z_dim=self.z_dim, scale=self.scale)
        if self.game in ("ali", "gan"):
            return {"ali": ALI, "gan": GAN}[self.game](**parts, z_dim=self.z_dim, r1=self.r1)
        if self.game == "k+1":
            return KPlusOne(**parts, z_dim=self.z_dim, classes=classes, r1=self.r1, consistency=self.consistency)
        if self.game == "feature-matching":
            return FeatureMatchingGAN(**parts, z_dim=self.z_dim, classes=classes)
        decoder = parts.pop("decoder")
        if trained:
            try:
                decoder.load_state_dict(trained.decoder.state_dict())
            except RuntimeError:
                raise AlikitError("that run's decoder is not this recipe's: name a GAN on the same data") from None
        start = Game(decoder, self.z_dim)
        return (inverse_mapping if self.game == "inverse" else post_hoc_inference)(start, **parts)

    def trainer(self, model: Game, data: Dataset, seed: int = 0) -> Trainer:
        """A `Trainer` with the recipe's settings; `seed` is that of the order of examples, and of which have labels."""
        return Trainer(
            model,
            data,
            batch_size=self.batch_size,
            lr=self.lr,
            betas=self.betas,
            decay=self.decay,
            averaging=self.averaging,
            ramp=self.ramp,
            precise_bn=self.precise_bn,
            flips=self.flips,
            shifts=self.shifts,
            bf16=None if self.bf16 else False,
            plain=self.plain,
            labelled=few_labels(data, self.labels, seed) if self.has_labels else None,
            labelled_batch=self.labelled_batch,
            seed=seed,
        )

    def _check(self, x_shape: tuple[int, ...]) -> None:
        size = self.networks.size
        if size is None:
            if len(x_shape) != 1:
                raise AlikitError("these networks are for points, not pictures: choose a recipe for pictures")
        elif len(x_shape) == 1:
            raise AlikitError("these networks are for pictures, not points: choose a mixture recipe")
        elif x_shape[1:] != (size, size):
            raise AlikitError(
                f"the pictures are {x_shape[2]}x{x_shape[1]}, these networks take {size}x{size}: "
                f"choose other data, or add --size {size} for a folder"
            )


def _beside(of_y: Embedding | None, numbers: int) -> int:
    """How many numbers go into a layer whose input has y's embedding, if there is one, beside it."""
    return numbers + (of_y.out_features if of_y is not None else 0)


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
_DOWN_32 = (Conv(5, 1, 32), Conv(4, 2, 64), Conv(4, 1, 128), Conv(4, 2, 256), Conv(4, 1, 512))  # 32 28 13 10 4 1
_UP_32 = (
    Conv(4, 1, 256, up=True),
    Conv(4, 2, 128, up=True),
    Conv(4, 1, 64, up=True),
    Conv(4, 2, 32, up=True),
    Conv(5, 1, 32, up=True),
    Conv(1, 1, 32),
    _last(bias=False),
)

PAPER_CIFAR10 = Pictures(
    size=32,
    slope=0.1,
    encoder=(*_DOWN_32, Conv(1, 1, 512), _last()),
    decoder=_UP_32,
    of_x=_maxout(_DOWN_32, (0.2, 0.5, 0.5, 0.5, 0.5)),
    of_z=_dense(512, 512, dropout=(0.2, 0.5), activation="maxout"),
    joint=(*_dense(1024, 1024, dropout=(0.5, 0.5), activation="maxout"), _last(0.5)),
)

PAPER_SVHN = Pictures(
    size=32,
    slope=0.01,
    encoder=(*_DOWN_32, Conv(1, 1, 512), _last()),
    decoder=_UP_32,
    of_x=_thin_out(_DOWN_32, 0.2),
    of_z=_dense(512, 512),
    joint=(*_dense(1024, 1024), _last(0.2)),
)

# D(x) as published: the table has batch norm in its first row too, and no dropout.
_DOWN_64 = (Conv(2, 1, 64), Conv(7, 2, 128), Conv(5, 2, 256), Conv(7, 2, 256), Conv(4, 1, 512))  # 64 63 29 13 4 1
PAPER_CELEBA = Pictures(
    size=64,
    slope=0.02,
    encoder=(*_DOWN_64, _last()),
    decoder=(
        Conv(4, 1, 512, up=True),
        Conv(7, 2, 256, up=True),
        Conv(5, 2, 256, up=True),
        Conv(7, 2, 128, up=True),
        Conv(2, 1, 64, up=True),
        _last(bias=False),
    ),
    of_x=_thin_out(_DOWN_64, 0.2),
    of_z=_dense(1024, 1024),
    joint=(*_dense(2048, 2048), _last(0.2)),
)

_DOWN_TINY = (  # 64 31 28 13 10 4 1
    Conv(4, 2, 64),
    Conv(4, 1, 64),
    Conv(4, 2, 128),
    Conv(4, 1, 128),
    Conv(4, 2, 256),
    Conv(4, 1, 256),
)
PAPER_TINY_IMAGENET = Pictures(
    size=64,
    slope=0.01,
    encoder=(*_DOWN_TINY, Conv(1, 1, 2048), Conv(1, 1, 2048), _last()),
    decoder=(
        Conv(1, 1, 2048),
        Conv(1, 1, 256),
        Conv(4, 1, 256, up=True),
        Conv(4, 2, 128, up=True),
        Conv(4, 1, 128, up=True),
        Conv(4, 2, 64, up=True),
        Conv(4, 1, 64, up=True),
        Conv(4, 2, 64, up=True),
        _last(bias=False),
    ),
    of_x=_thin_out(_DOWN_TINY, 0.2),
    of_z=_dense(2048, 2048),
    joint=(*_dense(4096, 4096), _last(0.2)),
)

# Ours, for a laptop: 32 -> 15 -> 14 -> 6 -> 1 and back; no padding, as in the paper. Kernels are multiples
# of their stride, so that every pixel gets as many contributions as its neighbours: 3/2 left a checkerboard.
_DOWN_LAPTOP = (Conv(4, 2, 32), Conv(2, 1, 64), Conv(4, 2, 128), Conv(6, 1, 256))
LAPTOP = Pictures(
    size=32,
    slope=0.1,
    encoder=(*_DOWN_LAPTOP, _last()),
    decoder=(
        Conv(6, 1, 128, up=True),
        Conv(4, 2, 64, up=True),
        Conv(2, 1, 32, up=True),
        Conv(4, 2, 32, up=True),
        _last(bias=False),
    ),
    of_x=_thin_out(_DOWN_LAPTOP, 0.2),
    of_z=_dense(256, 256),
    joint=(*_dense(512, 512), _last()),
)

# The published settings of the toy: N(0, 0.02) weights, Adam 1e-4 with beta1 0.8, batch 100, 200 epochs.
_toy = {"data": "mixture", "networks": TOY, "z_dim": 2, "steps": 200_000, "betas": (0.8, 0.999), "weight_std": 0.02}
# Ours: what solves the grid, see results/mixture. R1 keeps D from tearing the joints apart, beta1 = 0 and the decay let
# the players come to rest, averaged weights take out the noise that is left, precise statistics of batch norm a bias:
# with running ones the outer modes are drawn a standard deviation or more too far in.
_solved = {
    "data": "mixture",
    "networks": HALF,
    "z_dim": 2,
    "steps": 30_000,
    "lr": 1e-3,
    "betas": (0.0, 0.999),
    "decay": True,
    "r1": 0.1,
    "averaging": 0.999,
    "precise_bn": True,
}
_digits = {"data": "digits", "networks": SMALL, "z_dim": 16, "lr": 2e-3, "steps": 2000, "decay": True}
# The paper's runs on pictures, as published but for bfloat16: N(0, 0.01) weights, Adam 1e-4 with beta1 0.5.
_paper = {"lr": 1e-4, "weight_std": 0.01, "bf16": True}
# Ours: what makes the most of some hours of a processor.
_laptop = {
    "networks": LAPTOP,
    "z_dim": 64,
    "lr": 2e-4,
    "weight_std": 0.02,
    "batch_size": 64,
    "averaging": 0.999,
    "ramp": True,
    "decay": True,
    "bf16": True,
}
_photographs = {"game": "ali", **_laptop, "flips": True}
# With labels. At the rates above D, which has names to learn besides, takes several times as long to learn them.
_labelled = {"labelled_batch": 16, "labels": 1000, **_laptop, "lr": 1e-3}
_house_labelled = {"data": "house-numbers", "steps": 2_000, **_labelled}
_photographs_labelled = {
    **{"data": "cifar10", "steps": 28_000, "flips": True},
    **_labelled,
    **{"labels": 4000, "labelled_batch": 32, "lr": 5e-4},
}
_cifar10_labelled = {
    "data": "cifar10",
    "networks": PAPER_CIFAR10,
    "z_dim": 64,
    "labels": 4000,
    "labelled_batch": 100,
    "steps": 45_000,
    "lr": 3e-4,
    "averaging": 0.9999,
    "ramp": True,
    "decay": True,
    "flips": True,
    "bf16": True,
}
_digits_labelled = {**_digits, "labels": 50, "labelled_batch": 50, "averaging": 0.999, "ramp": True}
_no_encoder = {"encoder": None}
# At 4000 labels of CIFAR-10 Laine and Aila's weight comes to 0.8 in our unit. That of digits was chosen by the examples
# kept for such choices.
_consistent = {"shifts": True, "consistency": 1.0}
# A mirrored digit is another digit, or none.
_house = {"data": "house-numbers", "steps": 14_000, **_laptop}

RECIPES = {
    "mixture-ali-paper": Recipe("ALI on 25 Gaussians, published settings", "ali", encoder="noise", **_toy),
    "mixture-gan-paper": Recipe("GAN on 25 Gaussians, published settings", "gan", encoder=None, **_toy),
    "mixture-inverse": Recipe("a GAN's decoder and a learned inverse mapping", "inverse", encoder="noise", **_toy),
    "mixture-post-hoc": Recipe("a GAN's decoder and post-hoc inference", "post-hoc", encoder="noise", **_toy),
    # From a scale of 1, half the way between two modes, its code stays empty.
    "mixture-vae": Recipe("VAE on 25 Gaussians: ALI's decoder, a Gaussian encoder", "vae", scale=0.1, **_toy),
    "mixture-ali": Recipe("ALI on 25 Gaussians, solved", "ali", encoder="deterministic", **_solved),
    "mixture-ali-noise": Recipe("the same with the paper's encoder, noise beside x", "ali", encoder="noise", **_solved),
    "mixture-gan": Recipe("a GAN with the same settings", "gan", encoder=None, **_solved),
    "digits": Recipe("ALI on small handwritten digits", "ali", **_digits),
    "digits-bigan": Recipe("the same with a deterministic encoder (BiGAN)", "ali", encoder="deterministic", **_digits),
    "digits-gan": Recipe("the same decoder, no encoder", "gan", encoder=None, **_digits),
    "digits-vae": Recipe("VAE with the same encoder and decoder", "vae", **_digits),
    "house-numbers": Recipe("ALI on rendered house numbers, laptop networks", "ali", **_house),
    "house-numbers-gan": Recipe("the same decoder, no encoder", "gan", encoder=None, **_house),
    "house-numbers-post-hoc": Recipe("that GAN's decoder and post-hoc inference", "post-hoc", **_house),
    # From a scale of 1 it is slow to use its code: after 600 steps sigma is 0.91, in place of 0.16.
    "house-numbers-vae": Recipe("VAE with the same encoder and decoder", "vae", scale=0.1, **_house),
    "digits-semi": Recipe("ALI with K + 1 classes and a few labels", "k+1", **_digits_labelled),
    "digits-semi-consistent": Recipe("the same, with consistency", "k+1", consistency=0.3, **_digits_labelled),
    "digits-feature-matching": Recipe(
        "a GAN with K + 1 classes and feature matching", "feature-matching", **_digits_labelled, **_no_encoder
    ),
    "digits-supervised": Recipe("the few labels and nothing else", "supervised", **_digits_labelled, **_no_encoder),
    "digits-conditional": Recipe("ALI on digits, told the class of each", "ali", embedding=16, **_digits),
    "faces-conditional": Recipe(
        "ALI on drawn faces, told 14 attributes, laptop networks",
        data="faces",
        steps=28_000,
        embedding=64,
        **_photographs,
    ),
    "house-numbers-semi": Recipe("ALI with K + 1 classes and 1000 labels", "k+1", **_house_labelled),
    "house-numbers-feature-matching": Recipe(
        "a GAN with K + 1 classes and feature matching", "feature-matching", **_house_labelled, **_no_encoder
    ),
    "house-numbers-supervised": Recipe(
        "the 1000 labels and nothing else", "supervised", **_house_labelled, **_no_encoder
    ),
    # Steps are the paper's epochs: 6475 of 45,000 pictures, 100 of 531,131, 123 of 162,770, 125 of 1,281,167.
    "cifar10": Recipe(
        "ALI on CIFAR-10, the paper's networks",
        "ali",
        data="cifar10",
        networks=PAPER_CIFAR10,
        z_dim=64,
        steps=2_913_750,
        **_paper,
    ),
    "svhn": Recipe(
        "ALI on SVHN, the paper's networks",
        "ali",
        data="svhn-extra",
        networks=PAPER_SVHN,
        z_dim=256,
        steps=531_100,
        **_paper,
    ),
    "celeba": Recipe(
        "ALI on CelebA at 64x64, the paper's networks",
        "ali",
        data="celeba",
        networks=PAPER_CELEBA,
        z_dim=256,
        steps=200_121,
        **_paper,
    ),
    "tiny-imagenet": Recipe(
        "ALI on Tiny ImageNet at 64x64, the paper's networks",
        "ali",
        data="tiny-imagenet",
        networks=PAPER_TINY_IMAGENET,
        z_dim=256,
        batch_size=128,
        steps=1_251_125,
        **_paper,
    ),
    # Section 5: the same networks, 123 epochs of 162,770 in batches of 128.
    "celeba-conditional": Recipe(
        "ALI on CelebA at 64x64, told 40 attributes, the paper's networks",
        "ali",
        data="celeba",
        networks=PAPER_CELEBA,
        z_dim=256,
        batch_size=128,
        steps=156_333,
        embedding=256,
        **_paper,
    ),
    # With labels the paper gives no settings: networks and batch are its own, the rate is Salimans et al.'s. D, which
    # has no batch norm, starts from PyTorch's weights: from N(0, 0.01) its logits hardly depend on the picture.
    "cifar10-semi": Recipe("K + 1 classes on CIFAR-10, the paper's networks", "k+1", **_cifar10_labelled),
    "cifar10-semi-consistent": Recipe(
        "the same, with shifted pictures and consistency", "k+1", **_cifar10_labelled, **_consistent
    ),
    "cifar10-feature-matching": Recipe(
        "feature matching on CIFAR-10, the paper's networks", "feature-matching", **_cifar10_labelled, **_no_encoder
    ),
    "cifar10-supervised": Recipe(
        "the 4000 labels and nothing else, the paper's networks", "supervised", **_cifar10_labelled, **_no_encoder
    ),
    "dcgan": Recipe(
        "the GAN beside ALI on SVHN: its decoder and D(x), as many steps",
        "gan",
        data="svhn-extra",
        networks=PAPER_SVHN,
        z_dim=256,
        steps=531_100,
        **_paper,
        **_no_encoder,
    ),
    "cifar10-small": Recipe("ALI on CIFAR-10, laptop networks", data="cifar10", steps=70_300, **_photographs),
    "cifar10-semi-small": Recipe("K + 1 classes, laptop networks", "k+1", **_photographs_labelled),
    "cifar10-semi-consistent-small": Recipe(
        "the same, with shifted pictures and consistency", "k+1", **_photographs_labelled, **_consistent
    ),
    "cifar10-feature-matching-small": Recipe(
        "feature matching, laptop networks", "feature-matching", **_photographs_labelled, **_no_encoder
    ),
    "cifar10-supervised-small": Recipe(
        "the 4000 labels and nothing else, laptop networks", "supervised", **_photographs_labelled, **_no_encoder
    ),
    "svhn-small": Recipe("ALI on SVHN, laptop networks", "ali", data="svhn", steps=114_400, **_laptop),
    "celeba-small": Recipe("ALI on CelebA at 32x32, laptop networks", data="celeba", steps=76_290, **_photographs),
    "celeba-conditional-small": Recipe(
        "ALI on CelebA at 32x32, told 40 attributes, laptop networks",
        data="celeba",
        steps=76_290,
        embedding=64,
        **_photographs,
    ),
    "tiny-imagenet-small": Recipe(
        "ALI on Tiny ImageNet at 32x32, laptop networks", data="tiny-imagenet", steps=78_100, **_photographs
    ),
}
