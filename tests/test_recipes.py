"""Named experiments: each builds, trains by the numbers it always had, and has the networks and settings it says."""

import contextlib
import functools
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from games import CLASSES, examples, shape_of

from alikit import recipes
from alikit.architectures import PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET
from alikit.data import SOURCES
from alikit.data.labels import few_labels
from alikit.errors import AlikitError
from alikit.models import ALI, Game
from alikit.recipes import RECIPES, named, register
from alikit.semi_supervised import Supervised

EXPECTED, ELSEWHERE, EXACT = json.loads((Path(__file__).parent / "expected_losses.json").read_text()).values()
# In the file from one of the two processors alone.
ONCE = ("house-numbers-modern", "celeba-modern", "celeba-modern-64", "cifar10-modern", "cifar10-conditional-modern")
WITH_LABELS = [name for name, recipe in RECIPES.items() if recipe.has_labels]
GANS = {"mixture": "mixture-gan-paper", "house-numbers": "house-numbers-gan"}  # whose decoders are frozen
LARGE = (PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET)


@pytest.fixture
def _as_in_the_file():
    """Sums in the order in which they were when the file was made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


@functools.lru_cache(2)  # a model with the paper's networks takes hundreds of MB
def trained(name: str, steps: int) -> tuple[Game, list[dict[str, float]]]:
    """The result of so many steps on few examples with library layers, and the losses of each step. The last one ends
    with them, but for a GAN whose decoder is then frozen: its backward pass takes long and moves no loss."""
    recipe, data, losses = RECIPES[name], examples(RECIPES[name]), []
    size = 100 if data.name == "points" else 4
    labels = {"labels": CLASSES, "labelled_batch": size} if recipe.has_labels else {}
    recipe = replace(recipe, batch_size=size, bf16=False, fast=False, **labels)
    gan = trained(GANS[recipe.data], steps)[0].eval() if recipe.frozen_decoder else None
    attributes = data.conditions().shape[1] if recipe.is_conditional else None
    torch.manual_seed(0)
    model = recipe.build(data.shape, data.mean(), gan, CLASSES, attributes)

    def listen(*batch, of=model.losses):
        found = of(*batch)
        losses.append({player: loss.item() for player, loss in found.items()})
        if len(losses) == steps and name not in GANS.values():
            raise KeyboardInterrupt
        return found

    model.losses = listen
    trainer = recipe.trainer(model, data)
    with contextlib.suppress(KeyboardInterrupt):
        trainer.run(steps, every=steps)
    return trainer.result, losses


@pytest.mark.usefixtures("_as_in_the_file")
@pytest.mark.parametrize("name", [name for name, losses in EXPECTED.items() if not isinstance(losses, str)])
def test_every_recipe_has_the_losses_it_always_had(name):
    """To five digits, step by step; with the paper's networks, which take long, two steps, and 20 with ALIKIT_SOAK=1,
    where rounding moves some of them and float64 does not. A processor that adds in another order rounds otherwise, and
    the games make some percent of that in ten steps: the file has the losses of two processors with AVX-512."""
    soak, expected, precise = "ALIKIT_SOAK" in os.environ, EXPECTED[name], 1e-5
    if soak and name in EXACT:
        torch.set_default_dtype(torch.float64)
        expected, precise = EXACT[name], 1e-9
    steps = 20 if soak or RECIPES[name].networks not in LARGE else 2
    _, losses = trained(name, steps)
    assert len(losses) == steps
    elsewhere = ELSEWHERE.get(name, ())
    if len(elsewhere) >= steps and _are(losses, elsewhere, [precise] * steps):
        return
    known = torch.backends.cpu.get_cpu_capability() == "AVX512" and name not in ONCE
    if not _are(losses, expected, [precise] * steps if known else [precise, 1e-3, 1e-3]):
        pytest.fail(f"{losses} instead of {expected}")


def _are(losses: list[dict], wanted: list[dict], within: list[float]) -> bool:
    """Whether the losses are these, in as many steps as there are bounds."""
    rows = zip(losses, wanted, within, strict=False)
    return all(found == pytest.approx(expected, rel=bound, abs=bound) for found, expected, bound in rows)


def test_every_recipe_is_in_the_file_or_like_one_that_is():
    def row(name):  # without what the number of steps and the source of data say, and words
        return replace(RECIPES[name], summary="", data="", steps=1)

    assert EXPECTED.keys() == RECIPES.keys()
    for name, other in EXPECTED.items():
        assert not isinstance(other, str) or row(name) == row(other)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name):
    recipe = RECIPES[name]
    assert (
        (recipe.data in SOURCES or recipe.data == "torchvision:MNIST") and recipe.summary and "\n" not in recipe.summary
    )
    if recipe.has_labels:
        assert recipe.labels % 10 == 0 and 0 < recipe.labelled_batch <= recipe.labels
        assert {RECIPES[other].labels for other in WITH_LABELS if RECIPES[other].data == recipe.data} == {recipe.labels}
    if name in ("mixture-ali", "mixture-ali-noise", "mixture-gan"):
        assert recipe.r1 > 0 and recipe.decay and recipe.ema and recipe.precise_bn, "what solves the grid"


@pytest.mark.parametrize("name", ["mixture-ali", "digits-semi", "digits-supervised", "house-numbers"])
def test_settings_reach_the_trainer(name):
    recipe = replace(RECIPES[name], batch_size=4, bf16=False, **({"labels": 10} if RECIPES[name].has_labels else {}))
    data = examples(recipe)
    for fast in (True, False):
        model = recipe.build(data.shape, classes=10)
        trainer = replace(recipe, fast=fast).trainer(model, data, 3)
        assert any(type(layer).__module__.startswith("alikit.fast") for layer in model.modules()) == fast
        assert trainer.config.fast is fast and (trainer.result is model) == (not recipe.ema and not recipe.precise_bn)
        assert (trainer.labelled is not None) == recipe.has_labels
        assert not recipe.has_labels or torch.equal(trainer.labelled.x, few_labels(data, 10, 3).x)


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
    ours = ("ema", "random_flip", "random_shift", "decay", "r1", "precise_bn")
    assert not any(getattr(recipe, setting) for setting in ours)
    assert recipe.z_dim == (64 if name == "cifar10" else 256) and recipe.fast


# With labels.


@pytest.mark.parametrize("name", ["digits-semi", "cifar10-semi", "cifar10-semi-small"])
def test_consistency_is_all_that_is_added(name):
    """To the paper's game, and on photographs shifts."""
    plain, more = RECIPES[name], RECIPES[name.replace("semi", "semi-consistent")]
    added = {"summary": more.summary, "consistency": more.consistency, "random_shift": not name.startswith("digits")}
    assert more == replace(plain, **added) and more.consistency > plain.consistency == 0


@pytest.mark.parametrize("data", ["digits", "house-numbers", "cifar10"])
def test_networks_of_games_with_labels(data):
    """The labels alone get the network that feature matching gets; generated pairs get no logit of their own."""
    matching, semi, alone = (RECIPES[f"{data}-{kind}"] for kind in ("feature-matching", "semi", "supervised"))
    network = alone.build(shape_of(alone), classes=7).classifier
    assert str(network) == str(matching.build(shape_of(alone), classes=7).discriminator)
    assert alone == replace(matching, game=Supervised, summary=alone.summary)
    model, x = semi.build(shape_of(semi), classes=7), torch.rand(2, *shape_of(semi))
    assert model.discriminator(x, model.encode(x)).shape == network(x).shape == (2, 7)


# What does not fit, and recipes of a reader's own.


class OfOneSize:
    size = 20


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("house-numbers", {}, [12, 12, 28, 32, 32, 64, 64]),
        ("digits", {}, [1, 13, 28, 30, 33, 64, 64]),
        ("celeba", {}, [64] * 7),
        ("digits", {"networks": OfOneSize()}, [20] * 7),
        ("mixture-ali", {}, [None] * 7),
    ],
)
def test_the_nearest_size(name, changes, expected):
    """Of ties the networks' own; a class of the reader's that says nothing of other sizes takes its own alone."""
    recipe = replace(RECIPES[name], **changes)
    assert [recipe.nearest(side) for side in (1, 13, 28, 30, 33, 64, 500)] == expected


class Starred(ALI):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


FOREIGN = {"scale": 0.1, "consistency": 0.1, "labels": 10, "labelled_batch": 10}


@pytest.mark.parametrize(
    ("name", "shape", "changes", "message"),
    [
        ("mixture-ali-paper", (1, 8, 8), {}, "for points, not pictures"),
        ("digits", (2,), {}, "for pictures, not points"),
        ("digits", (3, 8, 9), {}, r"9x8, and 8x8 is the nearest that these networks take.*size=8"),
        ("digits", (3, 65, 65), {}, r"65x65, and 64x64 is the nearest that these networks take.*--size 64"),
        (
            "house-numbers",
            (1, 30, 30),
            {},
            r"30x30, and 32x32 is the nearest that these networks take.*--size 32, size=32",
        ),
        ("cifar10-semi-small", (1, 27, 27), {}, r"27x27, and 28x28 is the nearest that these networks take"),
        ("celeba", (3, 32, 32), {}, r"32x32, and 64x64 is the nearest that these networks take.*--size 64"),
        ("cifar10-small", (3, 32, 40), {}, r"40x32, and 32x32 is the nearest that these networks take.*size=32"),
        ("faces-conditional", (3, 32, 32), {}, "needs data whose examples have attributes or classes"),
        *((name, None, {}, "needs data whose examples have one class each") for name in WITH_LABELS),
        ("mixture-vae", None, {"r1": 0.1}, "VAE has no r1"),
        *(("digits", None, {name: value}, f"ALI has no {name}") for name, value in FOREIGN.items()),
        ("digits", None, {"encoder": None}, "ALI needs an encoder"),
        ("digits-gan", None, {"encoder": "gaussian"}, "GAN has no encoder: set encoder=None"),
        ("digits", None, {"encoder": "noise"}, "take no noise beside x"),
        ("digits", None, {"game": Starred}, r"Starred.__init__ has \* or \*\*: write its parameters out"),
        ("mixture-ali-noise", None, {"embedding": 4}, "needs data whose examples have attributes"),
        ("mixture-inverse", None, {}, "decoder is not this recipe's"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, shape, changes, message):
    gan = RECIPES["digits-gan"].build((1, 8, 8)) if name == "mixture-inverse" else None
    with pytest.raises(AlikitError, match=message):
        replace(RECIPES[name], **changes).build(shape or shape_of(RECIPES[name]), trained=gan)


def test_names(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", dict(RECIPES))
    wide, wider = (replace(RECIPES["digits"], z_dim=z_dim) for z_dim in (32, 64))
    assert register("digits-wide", wide) is named("digits-wide") is wide
    assert register("digits-wide", wider) is named("digits-wide"), "a notebook's cell runs again, with a change"
    for call, message in (
        (lambda: register("digits", wide), "another recipe called digits"),
        (lambda: register("../digits", wide), "cannot be called"),
        (lambda: register("mine", ALI), "mine is a type: register a Recipe"),
        (lambda: named("digit"), "no recipe called 'digit': did you mean digits"),
        (lambda: named("?"), "see alikit recipes"),
    ):
        with pytest.raises(AlikitError, match=message):
            call()
