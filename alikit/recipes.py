"""Named experiments, as data: which game, on which data, with which networks and settings.

    recipe = RECIPES["digits"]
    model = recipe.build(data.shape, data.mean())
    recipe.trainer(model, data).run(recipe.steps)

To add an experiment of your own, `register` it. It then trains, resumes and is evaluated and recorded like ours.

    register("digits-wide", replace(RECIPES["digits"], summary="ALI with a wider code", z_dim=32))
"""

import difflib
import inspect
import re
from collections import ChainMap
from dataclasses import fields
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor

from . import architectures as nets
from .data import Dataset
from .data.labels import few_labels
from .errors import AlikitError
from .fast import accelerate
from .models import ALI, GAN, VAE, AdversarialGame, Game, InverseMapping
from .networks import Deterministic, Embedding, Frozen, Gaussian, NoiseInput, initialise
from .semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised
from .training import CHECKED, OF_GAMES, Config, Trainer

OF_LABELS = ("labels", "labelled_batch")


@checked(frozen=True, kw_only=True, config=CHECKED)
class Recipe(Config):
    """One row of the table below: a `Config` with a game, its networks and its data.

    `game`, the class of the model, is called with the networks that its parameters name (`encoder`, `decoder`,
    `discriminator` or `classifier`), `z_dim`, and each field of the recipe that is a parameter too; fields that are
    attributes of the class, such as r1, are set afterwards.
    """

    summary: str  # one line for `alikit recipes`
    game: type[Game]
    data: str  # the default source, see `alikit.data.load`
    networks: Any  # `Dense`, `Pictures` or a class with the same methods, see architectures.py
    z_dim: int = Field(ge=0)
    encoder: Literal["gaussian", "deterministic", "noise"] | None = "gaussian"  # the kind of q(z|x), None for a GAN
    steps: int = Field(2000, ge=1)  # unless a run says otherwise
    frozen_decoder: bool = False  # whether the decoder is a finished GAN's and does not learn
    scale: float = Field(1.0, gt=0)  # of p(x|z) at the start, see `VAE`
    embedding: int = Field(0, ge=0)  # width of each network's embedding of y; 0 for games without conditions

    def config(self) -> dict[str, Any]:
        """The settings that a run may change and keeps: the fields of `Config`, and those that a subclass adds."""
        fixed = {field.name for field in fields(Recipe)} - {field.name for field in fields(Config)}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in fixed}

    @property
    def has_discriminator(self) -> bool:
        return issubclass(self.game, AdversarialGame)

    @property
    def has_labels(self) -> bool:
        """Whether the game needs the classes of some examples."""
        return "classes" in inspect.signature(self.game).parameters

    @property
    def is_conditional(self) -> bool:
        """Whether the game needs a condition y for every example."""
        return self.embedding > 0

    def nearest(self, side: int) -> int | None:
        """The side nearest to this one, in pixels, of which the networks take pictures; None if they are for points."""
        own = self.networks.size
        takes = getattr(self.networks, "takes", own.__eq__)
        return own and min(filter(takes, (own, *range(1, own + side))), key=lambda fit: abs(fit - side))

    def build(
        self,
        x_shape: tuple[int, ...],
        mean: Tensor | None = None,
        trained: Game | None = None,
        classes: int | None = None,
        attributes: int | None = None,
    ) -> Game:
        """The untrained model for examples of `x_shape`, its weights drawn from torch's global generator.

        mean        the mean training picture, at which the decoder's pixels start; None starts them at grey
        trained     the model whose decoder is frozen; None for an untrained one, into which weights are loaded later
        classes     K, for games with labels
        attributes  A, the numbers of y, for conditional recipes: see `Dataset.conditions`

        Raises AlikitError for examples of a shape that the networks do not take, a decoder of another kind in
        `trained`, or a setting that the game has no use for.
        """
        self._check(x_shape, classes, attributes)
        parameters = inspect.signature(self.game).parameters
        parts = {name: part for name, part in self._networks(x_shape, mean, classes, attributes) if name in parameters}
        if self.weight_std:
            for part in parts.values():
                initialise(part, self.weight_std)
        if self.frozen_decoder:
            if trained:
                try:
                    parts["decoder"].load_state_dict(trained.decoder.state_dict())
                except RuntimeError:
                    way = "name a GAN with its networks and data"
                    raise AlikitError(f"that decoder is not this recipe's: {way}") from None
            parts["decoder"] = Frozen(parts["decoder"])
        settings = {name: getattr(self, name) for name in parameters if hasattr(self, name) and name not in parts}
        model = self.game(**parts, **settings, **({"classes": classes} if self.has_labels else {}))
        for name in self._attributes():
            setattr(model, name, getattr(self, name))
        model.x_shape = tuple(x_shape)
        return model

    def trainer(self, model: Game, data: Dataset, seed: int = 0) -> Trainer:
        """A `Trainer` for the recipe; `seed` decides the order of examples and which of them have labels."""
        accelerate(model, self.fast)
        labelled = few_labels(data, self.labels, seed) if self.has_labels else None
        return Trainer(model, data, self, labelled=labelled, seed=seed)

    def _attributes(self) -> list[str]:
        """The settings that the game has as attributes of its class: those of `OF_GAMES`, and fields of one's own."""
        own = {field.name for field in fields(self)} - {field.name for field in fields(Recipe)}
        names = {*OF_GAMES, *own} - inspect.signature(self.game).parameters.keys()
        return sorted(name for name in names if isinstance(getattr(self.game, name, None), int | float | str))

    def _networks(self, x_shape: tuple[int, ...], mean: Tensor | None, classes: int | None, attributes: int | None):
        """The networks by name, in the order in which their weights are drawn."""

        def embedding() -> Embedding | None:  # one of its own for each network
            return Embedding(attributes, self.embedding) if self.is_conditional else None

        outputs = classes if self.has_labels else 1
        if not self.has_discriminator and self.has_labels:
            yield "classifier", self.networks.build_discriminator(x_shape, 0, classes)
            return
        if self.encoder:
            net = self.networks.build_encoder(self.encoder, x_shape, self.z_dim, embedding())
            kinds = {"gaussian": Gaussian, "deterministic": Deterministic}
            yield "encoder", kinds[self.encoder](net) if self.encoder in kinds else NoiseInput(net, self.networks.noise)
        yield "decoder", Deterministic(self.networks.build_decoder(x_shape, self.z_dim, mean, embedding()))
        if self.has_discriminator:
            z_dim = self.z_dim if self.encoder else 0
            unary = {"unary": True} if self.unary else {}
            yield "discriminator", self.networks.build_discriminator(x_shape, z_dim, outputs, embedding(), **unary)
        if self.adversarial_cycle:
            yield "cycle_discriminator", self.networks.build_discriminator((2 * x_shape[0], *x_shape[1:]), 0)

    def _check(self, x_shape: tuple[int, ...], classes: int | None, attributes: int | None) -> None:
        size, parameters = self.nearest(min(x_shape[-2:])), inspect.signature(self.game).parameters
        game = self.game.__name__
        kinds = {parameter.kind for parameter in parameters.values()}
        if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            raise AlikitError(f"{game}.__init__ has * or **: write its parameters out, as ALI does")
        if (size is None) != (len(x_shape) == 1):
            kinds = "points, not pictures" if size is None else "pictures, not points"
            raise AlikitError(f"these networks are for {kinds}: choose another recipe, or other data")
        if size is not None and x_shape[1:] != (size, size):
            near = f"{size}x{size} is the nearest that these networks take"
            way = f"choose other data, or resize them (files by --size {size}, size={size})"
            raise AlikitError(f"the pictures are {x_shape[2]}x{x_shape[1]}, and {near}: {way}")
        if self.has_labels and not classes:
            way = "choose other data, or sort your pictures into PATH/<class>/"
            raise AlikitError(f"a game with labels needs data whose examples have one class each: {way}")
        if self.is_conditional and not attributes:
            way = "choose other data, such as faces, or table:PATH for pictures with attributes"
            raise AlikitError(f"a conditional recipe needs data whose examples have attributes or classes: {way}")
        if (self.encoder is not None) != ("encoder" in parameters):
            what = "needs an encoder" if self.encoder is None else "has no encoder: set encoder=None"
            raise AlikitError(f"{game} {what}")
        if self.encoder == "noise" and (self.is_conditional or not getattr(self.networks, "noise", 0)):
            raise AlikitError("these networks take no noise beside x: choose another encoder")
        if self.unary and (not self.has_discriminator or not self.encoder or self.has_labels):
            raise AlikitError("unary is for games of pairs (x, z) without labels: leave it out")
        if self.penalty_on != "xz" and not self.encoder:
            raise AlikitError("a penalty on x or on z alone is for games of pairs (x, z): leave penalty_on out")
        if self.cycle_z and self.encoder == "noise":
            raise AlikitError("an encoder with noise beside x has no density for cycle_z: leave one of them out")
        if self.adversarial_cycle and not (self.cycle_x and "cycle_discriminator" in parameters):
            raise AlikitError("adversarial_cycle needs a cycle_x above 0 and a game with a cycle_discriminator, as ALI")
        own = {field.name for field in fields(self)} - {field.name for field in fields(Recipe)}
        for name in (*OF_GAMES, "scale", *OF_LABELS, *own):
            value, default = getattr(self, name), type(self).__pydantic_fields__[name].default
            is_attribute = name in self._attributes()
            known = self.has_labels if name in OF_LABELS else name in parameters or is_attribute
            if not known and value != default:
                way = "leave it out, choose another recipe, or give the game an attribute of that name"
                raise AlikitError(f"{game} has no {name}: {way}")
            if is_attribute and value == default != (mine := getattr(self.game, name)):
                raise AlikitError(f"{game} has {name} {mine} and its recipe {value}: name it in the recipe")
        if self.cycle_trains != "both" and not (self.cycle_x or self.cycle_z):
            raise AlikitError("cycle_trains=encoder needs a cycle_x or cycle_z above 0: set one, or cycle_trains=both")


def named(name: str) -> Recipe:
    """The recipe of that name. AlikitError where there is none, with the nearest one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise AlikitError(f"no recipe called {name!r}: {f'did you mean {near[0]}?' if near else 'see alikit recipes'}")
    return RECIPES[name]


def register(name: str, recipe: Recipe) -> Recipe:
    """Adds a recipe of your own to `RECIPES` for this process, in place of an earlier one of that name; returns it.

    AlikitError for a name that cannot be a folder's, or that one of our recipes has.
    """
    if not isinstance(recipe, Recipe):
        raise AlikitError(f"{name} is a {type(recipe).__name__}: register a Recipe, such as replace(RECIPES[...], ...)")
    if not re.fullmatch(r"[\w][\w.-]{0,79}", name):
        raise AlikitError(f"a recipe cannot be called {name!r}: use letters, digits, - and _")
    if OURS.get(name, recipe) != recipe:
        raise AlikitError(f"there is another recipe called {name}: choose another name")
    RECIPES[name] = recipe
    return recipe


def _row(summary: str, game: type[Game], *blocks: dict, **more) -> Recipe:
    """A recipe with the settings of all blocks, of which later ones win; without an encoder where the game has none."""
    none = {} if "encoder" in inspect.signature(game).parameters else {"encoder": None}
    return Recipe(summary=summary, game=game, **dict(ChainMap(more, *reversed(blocks), none)))


# The published settings of the toy: N(0, 0.02) weights, Adam 1e-4 with beta1 0.8, batch 100, 200 epochs.
_toy = dict(data="mixture", networks=nets.TOY, z_dim=2, steps=200_000, betas=(0.8, 0.999), weight_std=0.02)
_toy_frozen = dict(_toy, encoder="noise", frozen_decoder=True)
# Ours: what solves the grid, see results/mixture. R1 keeps D from separating the joints too steeply, beta1 = 0 and the
# decay let the players come to rest, and averaged weights remove the noise that is left. Precise statistics of batch
# norm remove a bias: with running ones the outer modes are drawn a standard deviation or more too close to the centre.
_solved = dict(data="mixture", networks=nets.HALF, z_dim=2, steps=30_000, lr=1e-3, betas=(0.0, 0.999))
_solved |= dict(decay=True, r1=0.1, ema=0.999, precise_bn=True)
_digits = dict(data="digits", networks=nets.SMALL, z_dim=16, lr=2e-3, steps=2000, decay=True)
# The paper's runs on pictures, as published but for bfloat16: N(0, 0.01) weights, Adam 1e-4 with beta1 0.5.
_paper = dict(lr=1e-4, weight_std=0.01, bf16=True, z_dim=256)
_paper_cifar10 = dict(_paper, data="cifar10", networks=nets.PAPER_CIFAR10, z_dim=64)
_paper_svhn = dict(_paper, data="svhn-extra", networks=nets.PAPER_SVHN, steps=531_100)
_paper_celeba = dict(_paper, data="celeba", networks=nets.PAPER_CELEBA)
_paper_conditional = dict(batch_size=128, steps=156_333, embedding=256)
_paper_tiny = dict(_paper, data="tiny-imagenet", networks=nets.PAPER_TINY_IMAGENET, batch_size=128)
_averaged = dict(ema=0.999, ema_ramp=True, decay=True)
# Ours: the best that we found for some hours on a processor.
_laptop = dict(networks=nets.LAPTOP, z_dim=64, lr=2e-4, weight_std=0.02, batch_size=64, bf16=True, **_averaged)
# Not flipped: a mirrored digit is another digit, or none.
_house = dict(data="house-numbers", steps=14_000, **_laptop)
# PyTorch's weights and a higher rate: in some thousand steps they come further.
_mnist = dict(_house, data="torchvision:MNIST", networks=nets.MNIST, z_dim=16, lr=1e-3, weight_std=None)
_photographs = dict(_laptop, random_flip=True)
_conditional = dict(_photographs, steps=28_000, embedding=64)
# What came after, chosen by trials: no checkerboard; D bare, penalised on both sides, judging x and z alone as well;
# and the cycle on x, of which only the encoder learns: a decoder that is not asked to be readable hides nothing.
_modern = dict(networks=nets.MODERN, z_dim=32, lr=7e-4, lr_discriminator=1.5e-3, betas=(0.0, 0.99))
_modern |= dict(batch_size=64, bf16=True, **_averaged, r1=0.003, r2=0.003, penalty_every=4)
_modern |= dict(unary=True, cycle_x=6.0, cycle_trains="encoder", steps=21_000)
# A smaller z is enough here; a little of the cycle on z leaves the encoder some sigma, which that on x would end.
_modern_house = dict(_modern, data="house-numbers", z_dim=16, cycle_x=15.0, cycle_z=0.1)
_modern_photographs = dict(_modern, random_flip=True)
_modern_conditional = dict(_modern_photographs, embedding=64)
_small_tiny = dict(_photographs, data="tiny-imagenet", steps=78_100)
# With labels. At the learning rates above, D takes several times as long to learn the classes.
_house_labelled = dict(_house, steps=2_000, labels=1000, labelled_batch=16, lr=1e-3)
_small_labelled = dict(_photographs, data="cifar10", steps=28_000, labels=4000, labelled_batch=32, lr=5e-4)
_cifar10_labelled = dict(data="cifar10", networks=nets.PAPER_CIFAR10, z_dim=64, labels=4000, labelled_batch=100)
_cifar10_labelled |= dict(_averaged, steps=45_000, lr=3e-4, ema=0.9999, random_flip=True, bf16=True)
_digits_labelled = dict(_digits, labels=50, labelled_batch=50, **_averaged)
# With 4000 labels of CIFAR-10 Laine and Aila's weight is 0.8 in our unit. That of digits was chosen on the training
# examples that `for_settings` keeps for such choices.
_consistent = dict(random_shift=True, consistency=1.0)

OURS = {
    "mixture-ali-paper": _row("ALI on 25 Gaussians, published settings", ALI, _toy, encoder="noise"),
    "mixture-gan-paper": _row("GAN on 25 Gaussians, published settings", GAN, _toy),
    "mixture-inverse": _row("a GAN's decoder and a learned inverse mapping", InverseMapping, _toy_frozen),
    "mixture-post-hoc": _row("a GAN's decoder and post-hoc inference", ALI, _toy_frozen),
    # With a scale of 1, half the distance between two modes, its code stays empty.
    "mixture-vae": _row("VAE on 25 Gaussians: ALI's decoder, a Gaussian encoder", VAE, _toy, scale=0.1),
    "mixture-ali": _row("ALI on 25 Gaussians, solved", ALI, _solved, encoder="deterministic"),
    "mixture-ali-noise": _row("the same with the paper's encoder, noise beside x", ALI, _solved, encoder="noise"),
    "mixture-gan": _row("a GAN with the same settings", GAN, _solved),
    "digits": _row("ALI on small handwritten digits", ALI, _digits),
    "digits-bigan": _row("the same with a deterministic encoder (BiGAN)", ALI, _digits, encoder="deterministic"),
    "digits-gan": _row("the same decoder, no encoder", GAN, _digits),
    "digits-vae": _row("VAE with the same encoder and decoder", VAE, _digits),
    "mnist": _row("ALI on MNIST, small networks", ALI, _mnist, steps=8_000),
    "house-numbers": _row("ALI on rendered house numbers, laptop networks", ALI, _house),
    "house-numbers-gan": _row("the same decoder, no encoder", GAN, _house),
    "house-numbers-post-hoc": _row("that GAN's decoder and post-hoc inference", ALI, _house, frozen_decoder=True),
    # With a scale of 1 it learns to use its code slowly: after 600 steps sigma is 0.91 instead of 0.16.
    "house-numbers-vae": _row("VAE with the same encoder and decoder", VAE, _house, scale=0.1),
    "digits-semi": _row("ALI with K + 1 classes and a few labels", KPlusOne, _digits_labelled),
    "digits-semi-consistent": _row("the same, with consistency", KPlusOne, _digits_labelled, consistency=0.3),
    "digits-feature-matching": _row("GAN, K + 1 classes, feature matching", FeatureMatchingGAN, _digits_labelled),
    "digits-supervised": _row("the few labels and nothing else", Supervised, _digits_labelled),
    "digits-conditional": _row("ALI on digits, conditioned on their classes", ALI, _digits, embedding=16),
    "faces-conditional": _row("ALI on drawn faces, conditioned on 14 attributes", ALI, _conditional, data="faces"),
    "house-numbers-semi": _row("ALI with K + 1 classes and 1000 labels", KPlusOne, _house_labelled),
    "house-numbers-feature-matching": _row("GAN, K + 1 classes, feature matching", FeatureMatchingGAN, _house_labelled),
    "house-numbers-supervised": _row("the 1000 labels and nothing else", Supervised, _house_labelled),
    # Steps are the paper's epochs: 6475 of 45,000 pictures, 100 of 531,131, 123 of 162,770, 125 of 1,281,167 (these
    # are ImageNet's, from which the paper takes its small pictures).
    "cifar10": _row("ALI on CIFAR-10, the paper's networks", ALI, _paper_cifar10, steps=2_913_750),
    "svhn": _row("ALI on SVHN, the paper's networks", ALI, _paper_svhn),
    "celeba": _row("ALI on CelebA at 64x64, the paper's networks", ALI, _paper_celeba, steps=200_121),
    "tiny-imagenet": _row("ALI on Tiny ImageNet at 64x64, the paper's networks", ALI, _paper_tiny, steps=1_251_125),
    # Section 5: the same networks, 123 epochs of 162,770 in batches of 128.
    "celeba-conditional": _row("ALI on CelebA, conditioned on 40 attributes", ALI, _paper_celeba, _paper_conditional),
    # The paper gives no settings for games with labels: networks and batch are its own, the rate is Salimans et al.'s.
    # D, which has no batch norm, starts from PyTorch's weights: with N(0, 0.01) its logits hardly depend on x.
    "cifar10-semi": _row("K + 1 classes on CIFAR-10, the paper's networks", KPlusOne, _cifar10_labelled),
    "cifar10-semi-consistent": _row("the same, with shifts and consistency", KPlusOne, _cifar10_labelled, _consistent),
    "cifar10-feature-matching": _row("feature matching, the paper's networks", FeatureMatchingGAN, _cifar10_labelled),
    "cifar10-supervised": _row("the 4000 labels alone, the paper's networks", Supervised, _cifar10_labelled),
    "dcgan": _row("the GAN beside ALI on SVHN: its decoder and D(x), as many steps", GAN, _paper_svhn),
    "cifar10-small": _row("ALI on CIFAR-10, laptop networks", ALI, _photographs, data="cifar10", steps=70_300),
    "cifar10-semi-small": _row("K + 1 classes, laptop networks", KPlusOne, _small_labelled),
    "cifar10-semi-consistent-small": _row("the same, with shifts, consistency", KPlusOne, _small_labelled, _consistent),
    "cifar10-feature-matching-small": _row("feature matching, laptop networks", FeatureMatchingGAN, _small_labelled),
    "cifar10-supervised-small": _row("the 4000 labels alone, laptop networks", Supervised, _small_labelled),
    "svhn-small": _row("ALI on SVHN, laptop networks", ALI, _laptop, data="svhn", steps=114_400),
    "celeba-small": _row("ALI on CelebA at 32x32, laptop networks", ALI, _photographs, data="celeba", steps=76_290),
    "celeba-conditional-small": _row("the same, 40 attributes", ALI, _conditional, data="celeba", steps=76_290),
    "digits-modern": _row("ALI on digits with a cycle on z", ALI, _digits, cycle_z=0.5),
    "house-numbers-modern": _row("ALI on house numbers, the modern recipe", ALI, _modern_house),
    "celeba-modern": _row("ALI on CelebA at 32x32, the modern recipe", ALI, _modern_photographs, data="celeba"),
    "celeba-modern-64": _row("the same at 64x64", ALI, _modern_photographs, data="celeba", networks=nets.MODERN_64),
    "cifar10-modern": _row("ALI on CIFAR-10, the modern recipe", ALI, _modern_photographs, data="cifar10"),
    "cifar10-conditional-modern": _row("the same, conditioned on the class", ALI, _modern_conditional, data="cifar10"),
    "celeba-conditional-modern": _row("ALI on CelebA, 40 attributes, modern", ALI, _modern_conditional, data="celeba"),
    "tiny-imagenet-small": _row("ALI on Tiny ImageNet at 32x32, laptop networks", ALI, _small_tiny),
}
RECIPES = dict(OURS)
