"""Named experiments: each builds, trains by the numbers it always had, and has the networks and settings it says."""

import functools
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from alikit import Trainer, recipes
from alikit.data import SOURCES, Dataset, digits
from alikit.data.labels import few_labels
from alikit.errors import AlikitError
from alikit.models import ALI, GAN, VAE, InverseMapping
from alikit.networks import Deterministic, Frozen, Gaussian, NoiseInput
from alikit.recipes import RECIPES, Recipe, named, register
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised

EXPECTED, EXACT = json.loads((Path(__file__).parent / "expected_losses.json").read_text()).values()
CLASSES, ATTRIBUTES = 10, 14
WITH_LABELS = [name for name, recipe in RECIPES.items() if recipe.has_labels]
GANS = {"mixture": "mixture-gan-paper", "house-numbers": "house-numbers-gan"}  # whose decoders are frozen


def shape_of(recipe: Recipe) -> tuple[int, ...]:
    """Of an example that the recipe takes."""
    size = recipe.networks.size
    return (2,) if size is None else (1, 8, 8) if size == 8 else (3, size, size)


def examples(recipe: Recipe, n: int = 20) -> Dataset:
    """A few, in torch's default type where that is not float32."""
    shape, generator = shape_of(recipe), torch.Generator().manual_seed(0)
    if len(shape) == 1:
        return Dataset("points", torch.randn(25 * n, 2, generator=generator))
    if shape == (1, 8, 8):
        return digits().select(slice(5 * n))
    x = torch.randint(256, (n, *shape), dtype=torch.uint8, generator=generator)
    if torch.get_default_dtype() != torch.float32:
        x = x.to(torch.get_default_dtype()) / 255
    if recipe.is_conditional:
        y = torch.randint(2, (n, ATTRIBUTES), dtype=torch.uint8, generator=generator)
        return Dataset("pictures", x, y, tuple(map(str, range(ATTRIBUTES))))
    return Dataset("pictures", x, torch.arange(n) % CLASSES, tuple(map(str, range(CLASSES))))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Sums in the order in which they were when the file was made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.lru_cache(2)  # a trainer of the paper's networks takes hundreds of MB
def trained(name: str, steps: int) -> tuple[Trainer, list[dict[str, float]], Dataset]:
    """After so many steps on few examples with library layers, in float32, and the losses of each step."""
    recipe, data = RECIPES[name], examples(RECIPES[name])
    size = 100 if data.name == "points" else 4
    labels = {"labels": CLASSES, "labelled_batch": size} if recipe.has_labels else {}
    recipe = replace(recipe, batch_size=size, bf16=False, fast=False, **labels)
    gan = trained(GANS[recipe.data], steps)[0].result.eval() if recipe.frozen_decoder else None
    attributes = CLASSES if data.labels is None or data.labels.ndim == 1 else ATTRIBUTES
    torch.manual_seed(0)
    trainer = recipe.trainer(recipe.build(data.shape, data.mean(), gan, CLASSES, attributes), data)
    return trainer, [report.losses for report in trainer.run(steps, every=1)], data


@pytest.mark.parametrize("name", [name for name, losses in EXPECTED.items() if not isinstance(losses, str)])
def test_every_recipe_has_the_losses_it_always_had(name):
    """To five digits, step by step; with the paper's networks, which take long, two steps, except in `make soak`. A
    processor that adds in another order rounds otherwise, and the games make some percent of that in ten steps."""
    steps = 20 if "ALIKIT_SOAK" in os.environ or "PAPER" not in NETWORKS[id(RECIPES[name].networks)] else 2
    steps = 3 if name in EXACT else steps
    trainer, losses, data = trained(name, steps)
    same_machine = torch.backends.cpu.get_cpu_capability() == "AVX512"
    for step, (found, expected) in enumerate(zip(losses, EXPECTED[name], strict=False)):
        within = 1e-5 if same_machine or step == 0 else 1e-3
        assert found == pytest.approx(expected, rel=within, abs=within) or (step > 2 and not same_machine)
    recipe, model, x = RECIPES[name], trainer.result, data.floats(slice(8))
    y = data.conditions(slice(8)) if recipe.is_conditional else None
    if model.decoder is not None:
        assert model.sample(8, y).shape == x.shape
    if recipe.encoder:
        assert model.reconstruct(x, y=y).shape == x.shape
    if recipe.has_labels:
        assert model.classify(x).shape == (8, CLASSES)


@pytest.mark.parametrize("name", EXACT)
def test_losses_that_rounding_moves_are_the_same_in_float64(name):
    """In float32 their fourth step differs from the old one's by 1e-5, because gradients are added in another order."""
    torch.set_default_dtype(torch.float64)
    try:
        _, losses, _ = trained(name, 20 if "ALIKIT_SOAK" in os.environ else 2)
    finally:
        torch.set_default_dtype(torch.float32)
    for found, expected in zip(losses, EXACT[name], strict=False):
        assert found == pytest.approx(expected, rel=1e-9)


NETWORKS = {id(value): name for name, value in vars(recipes).items() if name.isupper()}


def test_every_recipe_is_in_the_file_or_like_one_that_is():
    def row(name):  # without what the number of steps and the source of data say, and words
        return replace(RECIPES[name], summary="", data="", steps=1)

    assert EXPECTED.keys() == RECIPES.keys()
    for name, other in EXPECTED.items():
        assert not isinstance(other, str) or row(name) == row(other)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name):
    recipe = RECIPES[name]
    assert recipe.data in SOURCES and recipe.summary and "\n" not in recipe.summary
    if recipe.has_labels:
        assert recipe.labels % 10 == 0 and 0 < recipe.labelled_batch <= recipe.labels
        assert {RECIPES[other].labels for other in WITH_LABELS if RECIPES[other].data == recipe.data} == {recipe.labels}
        model, x = replace(recipe, explicit=True).build(shape_of(recipe), classes=7), torch.rand(2, *shape_of(recipe))
        network = model.classifier if recipe.game is Supervised else model.discriminator
        pair = (x,) if model.encoder is None else (x, model.encode(x))
        assert network(*pair).shape == (2, 7 if recipe.game is Supervised else 8), "a logit for generated pairs, if any"


@pytest.mark.parametrize(
    ("name", "game", "encoder"),
    [
        ("mixture-ali-paper", ALI, NoiseInput),
        ("mixture-gan-paper", GAN, None),
        ("mixture-inverse", InverseMapping, NoiseInput),
        ("mixture-post-hoc", ALI, NoiseInput),
        ("mixture-vae", VAE, Gaussian),
        ("mixture-ali", ALI, Deterministic),
        ("mixture-ali-noise", ALI, NoiseInput),
        ("mixture-gan", GAN, None),
        ("digits", ALI, Gaussian),
        ("digits-bigan", ALI, Deterministic),
        ("digits-semi-consistent", KPlusOne, Gaussian),
        ("digits-feature-matching", FeatureMatchingGAN, None),
        ("digits-supervised", Supervised, None),
        ("dcgan", GAN, None),
    ],
)
def test_games_encoders_and_settings_reach_model_and_trainer(name, game, encoder):
    recipe = replace(RECIPES[name], batch_size=4, **({"labels": 10} if RECIPES[name].has_labels else {}))
    data = examples(recipe)
    model = recipe.build(data.shape, classes=10)
    assert type(model) is game and type(model.encoder) is (encoder or type(None))
    assert getattr(model, "r1", 0) == recipe.r1 and getattr(model, "consistency", 0) == recipe.consistency
    trainer = recipe.trainer(model, data, 3)
    assert trainer.config is recipe and (trainer.result is model) == (not recipe.ema and not recipe.precise_bn)
    assert [group["betas"] for group in trainer.optimiser.param_groups] == [recipe.betas] * len(model.players())
    labelled = few_labels(data, 10, 3).x if recipe.has_labels else None
    assert (trainer.labelled is None) if labelled is None else torch.equal(trainer.labelled.x, labelled)
    for fast in (True, False):
        layers = replace(recipe, fast=fast).trainer(model, data).model.modules()
        assert any(type(layer).__module__.startswith("alikit.fast") for layer in layers) == fast
    if name in ("mixture-ali", "mixture-ali-noise", "mixture-gan"):
        assert recipe.r1 > 0 and recipe.decay and recipe.ema and recipe.precise_bn, "what solves the grid"


@pytest.mark.parametrize(
    ("name", "examples", "batch", "epochs"),
    [
        ("cifar10", 45_000, 100, 6475),
        ("svhn", 531_131, 100, 100),
        ("celeba", 162_770, 100, 123),
        ("celeba-conditional", 162_770, 128, 123),
        ("tiny-imagenet", 1_281_167, 128, 125),
    ],
)
def test_paper_settings(name, examples, batch, epochs):
    recipe = RECIPES[name]
    assert recipe.batch_size == batch and recipe.steps == epochs * (examples // batch)
    assert (recipe.lr, recipe.betas, recipe.weight_std) == (1e-4, (0.5, 0.999), 0.01)
    assert not (
        recipe.ema or recipe.random_flip or recipe.random_shift or recipe.decay or recipe.r1 or recipe.precise_bn
    )
    assert recipe.z_dim == (64 if name == "cifar10" else 256) and recipe.fast


@pytest.mark.parametrize(("name", "std"), [("mixture-ali-paper", 0.02), ("cifar10-small", 0.02), ("svhn", 0.01)])
def test_first_weights(name, std):
    """Of the spread the recipe says, and decided by the seed."""
    built = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        built.append(RECIPES[name].build(shape_of(RECIPES[name])))
    for part in (built[0].encoder, built[0].decoder, built[0].discriminator):
        layers = [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
        assert weights.std().item() == pytest.approx(std, rel=0.02)
        assert all((layer.bias == 0).all() for layer in layers if layer.bias is not None)
    first, again, other = (next(model.parameters()) for model in built)
    assert torch.equal(first, again) and not torch.equal(first, other)


# With labels.


@pytest.mark.parametrize("name", ["digits-semi", "cifar10-semi", "cifar10-semi-small"])
def test_consistency_is_all_that_is_added(name):
    """To the paper's game, and on photographs shifts."""
    plain, more = RECIPES[name], RECIPES[name.replace("semi", "semi-consistent")]
    shift = not name.startswith("digits")
    assert more == replace(plain, summary=more.summary, consistency=more.consistency, random_shift=shift)
    assert more.consistency > 0 and plain.consistency == 0 and not plain.random_shift


@pytest.mark.parametrize("beginning", ["digits", "house-numbers", "cifar10"])
def test_the_labels_alone_get_the_network_that_feature_matching_gets(beginning):
    recipe = RECIPES[f"{beginning}-supervised"]
    alone = recipe.build(shape_of(recipe), classes=10).classifier
    beside = RECIPES[f"{beginning}-feature-matching"].build(shape_of(recipe), classes=10).discriminator
    assert str(alone) == str(beside)
    spread = [torch.cat([p.flatten() for p in net.parameters() if p.ndim > 1]).std().item() for net in (alone, beside)]
    assert spread[0] == pytest.approx(spread[1], rel=0.03)


# What does not fit, and recipes of a reader's own.


class Starred(ALI):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


FOREIGN = {"scale": 0.1, "consistency": 0.1, "labels": 10, "labelled_batch": 10, "explicit": True}


@pytest.mark.parametrize(
    ("name", "shape", "changes", "message"),
    [
        ("mixture-ali-paper", (1, 8, 8), {}, "for points, not pictures"),
        ("digits", (2,), {}, "for pictures, not points"),
        ("digits", (3, 32, 32), {}, r"32x32, these networks take 8x8.*size=8"),
        ("cifar10-small", (3, 32, 40), {}, r"40x32, these networks take 32x32.*size=32"),
        ("faces-conditional", (3, 32, 32), {}, "needs data whose examples have attributes or classes"),
        *((name, None, {}, "needs data whose examples have one class each") for name in WITH_LABELS),
        ("mixture-vae", None, {"r1": 0.1}, "VAE has no r1"),
        *(("digits", None, {name: value}, f"ALI has no {name}") for name, value in FOREIGN.items()),
        ("digits", None, {"encoder": None}, "ALI needs an encoder"),
        ("digits-gan", None, {"encoder": "gaussian"}, "GAN has no encoder: set encoder=None"),
        ("digits", None, {"encoder": "noise"}, "take no noise beside x"),
        ("digits", None, {"game": Starred}, r"Starred.__init__ has \* or \*\*: write its parameters out"),
        ("mixture-ali-noise", None, {"embedding": 4}, "needs data whose examples have attributes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, shape, changes, message):
    recipe = replace(RECIPES[name], **changes)
    with pytest.raises(AlikitError, match=message) as error:
        recipe.build(shape or shape_of(recipe))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mixture-inverse", "mixture-post-hoc"])
def test_a_trained_decoder_is_taken_over_and_frozen(name):
    gan = RECIPES["mixture-gan-paper"].build((2,))
    model, z = RECIPES[name].build((2,), trained=gan), torch.randn(5, 2)
    assert isinstance(model.decoder, Frozen) and torch.equal(model.decode(z), gan.decode(z))
    with pytest.raises(AlikitError, match="decoder is not this recipe's"):
        RECIPES[name].build((2,), trained=RECIPES["digits-gan"].build((1, 8, 8)))


def test_names(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", dict(RECIPES))
    wide, wider = (replace(RECIPES["digits"], z_dim=z_dim) for z_dim in (32, 64))
    assert register("digits-wide", wide) is named("digits-wide") is wide
    assert register("digits-wide", wider) is named("digits-wide"), "a notebook's cell runs again, with a change"
    for name, recipe, message in (
        ("digits", wide, "another recipe called digits"),
        ("../digits", wide, "cannot be called"),
        ("mine", ALI, "mine is a type: register a Recipe"),
    ):
        with pytest.raises(AlikitError, match=message):
            register(name, recipe)
    for name, message in (("digit", "no recipe called 'digit': did you mean digits"), ("?", "see alikit recipes")):
        with pytest.raises(AlikitError, match=message):
            named(name)
