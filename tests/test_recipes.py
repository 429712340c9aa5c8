"""Named experiments: each builds, plays a step, and has the networks it says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alikit.data import SOURCES, Dataset, digits
from alikit.data.labels import few_labels
from alikit.errors import AlikitError
from alikit.models import ALI, GAN, VAE, InverseMapping
from alikit.networks import Deterministic, Frozen, Gaussian, Maxout, NoiseInput
from alikit.recipes import (
    LAPTOP,
    PAPER_CELEBA,
    PAPER_CIFAR10,
    PAPER_SVHN,
    PAPER_TINY_IMAGENET,
    RECIPES,
    TOY,
)
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised
from alikit.training import has_bf16


def shape_of(recipe) -> tuple[int, ...]:
    """Of an example that the recipe takes."""
    if recipe.networks.size is None:
        return (2,)
    return (1, 8, 8) if recipe.data == "digits" else (3, recipe.networks.size, recipe.networks.size)


def examples(recipe, n=8) -> Dataset:
    shape = shape_of(recipe)
    generator = torch.Generator().manual_seed(0)
    if len(shape) == 1:
        return Dataset("points", torch.randn(n, *shape, generator=generator))
    x = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    return Dataset("pictures", x, torch.arange(n) % 2, ("even", "odd"))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_plays(name):
    recipe = RECIPES[name]
    data = examples(recipe)
    model = recipe.build(data.shape, data.mean(), classes=2, attributes=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = replace(recipe, batch_size=4, labels=4, labelled_batch=2).trainer(model, data).one_step()
    assert all(loss.isfinite() for loss in losses.values())
    after = model.state_dict()
    for own in model.players().values():
        names = [key for key, value in model.named_parameters() if any(value is p for p in own)]
        assert any(not torch.equal(before[key], after[key]) for key in names)
    y = data.conditions() if recipe.is_conditional else None
    if model.decoder is not None:
        assert model.sample(8, y).shape == (8, *data.shape)
    if recipe.encoder:
        assert model.reconstruct(data.floats(), y=y).shape == (8, *data.shape)
    if recipe.has_labels:
        assert model.classify(data.floats()).shape == (8, 2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_its_data_comes_from(name):
    recipe = RECIPES[name]
    assert recipe.data in SOURCES
    assert recipe.summary and "\n" not in recipe.summary


@pytest.mark.parametrize(
    ("name", "game", "encoder"),
    [
        ("mixture-ali-paper", ALI, NoiseInput),
        ("mixture-gan-paper", GAN, type(None)),
        ("mixture-inverse", InverseMapping, NoiseInput),
        ("mixture-post-hoc", ALI, NoiseInput),
        ("mixture-vae", VAE, Gaussian),
        ("mixture-ali", ALI, Deterministic),
        ("mixture-ali-noise", ALI, NoiseInput),
        ("mixture-gan", GAN, type(None)),
        ("digits", ALI, Gaussian),
        ("digits-bigan", ALI, Deterministic),
        ("cifar10-small", ALI, Gaussian),
        ("digits-semi", KPlusOne, Gaussian),
        ("digits-semi-consistent", KPlusOne, Gaussian),
        ("digits-feature-matching", FeatureMatchingGAN, type(None)),
        ("digits-supervised", Supervised, type(None)),
        ("dcgan", GAN, type(None)),
    ],
)
def test_games_and_encoders(name, game, encoder):
    model = RECIPES[name].build(shape_of(RECIPES[name]), classes=10)
    assert type(model) is game and type(model.encoder) is encoder


@pytest.mark.parametrize("name", ["mixture-ali", "mixture-ali-noise", "mixture-gan"])
def test_what_solves_the_grid_reaches_the_trainer(name):
    recipe = replace(RECIPES[name], batch_size=4)
    model = recipe.build((2,))
    trainer = recipe.trainer(model, examples(recipe))
    assert (model.r1, trainer.decay, trainer.lr) == (recipe.r1, recipe.decay, recipe.lr) and recipe.r1 > 0
    assert trainer.result is not model and trainer.decay and trainer.precise_bn
    assert all(tuple(group["betas"]) == recipe.betas for group in trainer.optimiser.param_groups)


def test_half_sizes():
    """Encoder 2-200-200-2, decoder 2-200-200-200-200-2, discriminator 4-200-200-200-1 of 2 pieces."""
    model, norm = RECIPES["mixture-ali"].build((2,)), 2 * 200
    assert size(model.encoder) == (2 * 200 + norm) + (200 * 200 + norm) + (200 * 2 + 2)
    assert size(model.decoder) == (2 * 200 + norm) + 3 * (200 * 200 + norm) + (200 * 2 + 2)
    assert size(model.discriminator) == (4 * 400 + 400) + 2 * (200 * 400 + 400) + 201


def test_seed_decides_the_weights():
    first, again, other = [
        (torch.manual_seed(seed), RECIPES["digits"].build((1, 8, 8)).state_dict())[1] for seed in (0, 0, 1)
    ]
    key = "encoder.net.1.0.weight"
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])


def test_untrained_decoder_draws_the_mean_picture():
    data = digits()
    model = RECIPES["cifar10-small"].build((3, 32, 32), torch.full((3, 32, 32), 0.3))
    torch.testing.assert_close(model.sample(4), torch.full((4, 3, 32, 32), 0.3), atol=0.02, rtol=0)
    bias = RECIPES["digits"].build((1, 8, 8), data.mean()).decoder.net[2].bias
    torch.testing.assert_close(bias.sigmoid(), data.mean().clamp(1 / 256, 255 / 256))


@pytest.mark.parametrize(("name", "std"), [("mixture-ali-paper", 0.02), ("cifar10-small", 0.02), ("svhn", 0.01)])
def test_initial_weights(name, std):
    model = RECIPES[name].build(shape_of(RECIPES[name]))
    for part in (model.encoder, model.decoder, model.discriminator):
        layers = [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
        assert weights.std().item() == pytest.approx(std, rel=0.02)
        assert all((layer.bias == 0).all() for layer in layers if layer.bias is not None)


# Sizes by hand: weights and biases of each layer; batch norm has 2 numbers a map.


def test_toy_sizes():
    """Section 4.5: encoder 4-400-400-2, decoder 2-400-400-400-400-2, discriminator 4-200-200-200-1 of 5 pieces."""
    norm = 2 * 400
    assert size(TOY.build_encoder("noise", (2,), 2)) == (4 * 400 + norm) + (400 * 400 + norm) + (400 * 2 + 2)
    assert size(TOY.build_encoder("gaussian", (2,), 2)) == (2 * 400 + norm) + (400 * 400 + norm) + (400 * 4 + 4)
    assert size(TOY.build_decoder((2,), 2, None)) == (2 * 400 + norm) + 3 * (400 * 400 + norm) + (400 * 2 + 2)
    hidden = 2 * (200 * 1000 + 1000)
    assert size(TOY.build_discriminator((2,), 2)) == (4 * 1000 + 1000) + hidden + 201
    assert size(TOY.build_discriminator((2,), 0)) == (2 * 1000 + 1000) + hidden + 201


def test_laptop_sizes():
    stack = 3 * 32 * 4**2 + 32 * 64 * 2**2 + 64 * 128 * 4**2 + 128 * 256 * 6**2
    norms = 2 * (32 + 64 + 128 + 256)
    assert size(LAPTOP.build_encoder("gaussian", (3, 32, 32), 64)) == stack + norms + (256 * 128 + 128)
    of_x = stack + 32 + 2 * (64 + 128 + 256)  # its first row has a bias and no batch norm
    of_z = (64 * 256 + 256) + (256 * 256 + 256)
    joint = 2 * (512 * 512 + 512) + (512 + 1)
    assert size(LAPTOP.build_discriminator((3, 32, 32), 64)) == of_x + of_z + joint
    stack = 64 * 128 * 6**2 + 128 * 64 * 4**2 + 64 * 32 * 2**2 + 32 * 32 * 4**2
    norms, pixels = 2 * (128 + 64 + 32 + 32), 3 * 32 * 32
    assert size(LAPTOP.build_decoder((3, 32, 32), 64, None)) == stack + norms + 32 * 3 + pixels


# The paper's tables, appendix A. Kernel x kernel x maps in x maps out; 2 for batch norm; 1 for a bias.


def test_paper_cifar10_sizes():
    down = 5**2 * 3 * 32 + 4**2 * 32 * 64 + 4**2 * 64 * 128 + 4**2 * 128 * 256 + 4**2 * 256 * 512
    encoder = down + 512 * 512 + 2 * (32 + 64 + 128 + 256 + 512 + 512) + (512 * 128 + 128)
    assert size(PAPER_CIFAR10.build_encoder("gaussian", (3, 32, 32), 64)) == encoder == 3_118_496
    up = 4**2 * 64 * 256 + 4**2 * 256 * 128 + 4**2 * 128 * 64 + 4**2 * 64 * 32 + 5**2 * 32 * 32 + 32 * 32
    decoder = up + 2 * (256 + 128 + 64 + 32 + 32 + 32) + 32 * 3 + 3 * 32 * 32
    assert size(PAPER_CIFAR10.build_decoder((3, 32, 32), 64, None)) == decoder == 981_152
    # Maxout: twice the weights, and a bias for each piece.
    of_x = 2 * down + 2 * (32 + 64 + 128 + 256 + 512)
    of_z = 2 * (64 * 512 + 512) + 2 * (512 * 512 + 512)
    joint = 2 * 2 * (1024 * 1024 + 1024) + (1024 + 1)
    discriminator = PAPER_CIFAR10.build_discriminator((3, 32, 32), 64)
    assert size(discriminator) == of_x + of_z + joint == 10_368_641


def test_paper_svhn_sizes():
    down = 5**2 * 3 * 32 + 4**2 * 32 * 64 + 4**2 * 64 * 128 + 4**2 * 128 * 256 + 4**2 * 256 * 512
    encoder = down + 512 * 512 + 2 * (32 + 64 + 128 + 256 + 512 + 512) + (512 * 512 + 512)
    assert size(PAPER_SVHN.build_encoder("gaussian", (3, 32, 32), 256)) == encoder
    up = 4**2 * 256 * 256 + 4**2 * 256 * 128 + 4**2 * 128 * 64 + 4**2 * 64 * 32 + 5**2 * 32 * 32 + 32 * 32
    decoder = up + 2 * (256 + 128 + 64 + 32 + 32 + 32) + 32 * 3 + 3 * 32 * 32
    assert size(PAPER_SVHN.build_decoder((3, 32, 32), 256, None)) == decoder
    of_x = down + 32 + 2 * (64 + 128 + 256 + 512)
    of_z = (256 * 512 + 512) + (512 * 512 + 512)
    joint = 2 * (1024 * 1024 + 1024) + (1024 + 1)
    assert size(PAPER_SVHN.build_discriminator((3, 32, 32), 256)) == of_x + of_z + joint


def test_paper_celeba_sizes():
    down = 2**2 * 3 * 64 + 7**2 * 64 * 128 + 5**2 * 128 * 256 + 7**2 * 256 * 256 + 4**2 * 256 * 512
    encoder = down + 2 * (64 + 128 + 256 + 256 + 512) + (512 * 512 + 512)
    assert size(PAPER_CELEBA.build_encoder("gaussian", (3, 64, 64), 256)) == encoder
    up = 4**2 * 256 * 512 + 7**2 * 512 * 256 + 5**2 * 256 * 256 + 7**2 * 256 * 128 + 2**2 * 128 * 64
    decoder = up + 2 * (512 + 256 + 256 + 128 + 64) + 64 * 3 + 3 * 64 * 64
    assert size(PAPER_CELEBA.build_decoder((3, 64, 64), 256, None)) == decoder
    of_x = down + 64 + 2 * (128 + 256 + 256 + 512)
    of_z = (256 * 1024 + 1024) + (1024 * 1024 + 1024)
    joint = (1536 * 2048 + 2048) + (2048 * 2048 + 2048) + (2048 + 1)
    assert size(PAPER_CELEBA.build_discriminator((3, 64, 64), 256)) == of_x + of_z + joint


def test_paper_tiny_imagenet_sizes():
    down = 4**2 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    encoder = down + 256 * 2048 + 2048 * 2048 + 2 * (64 + 64 + 128 + 128 + 256 + 256 + 2048 + 2048)
    built = PAPER_TINY_IMAGENET.build_encoder("gaussian", (3, 64, 64), 256)
    assert size(built) == encoder + (2048 * 512 + 512)
    up = 4**2 * (256 * 256 + 256 * 128 + 128 * 128 + 128 * 64 + 64 * 64 + 64 * 64)
    decoder = 256 * 2048 + 2048 * 256 + up + 2 * (2048 + 256 + 256 + 128 + 128 + 64 + 64 + 64)
    assert size(PAPER_TINY_IMAGENET.build_decoder((3, 64, 64), 256, None)) == decoder + 64 * 3 + 3 * 64 * 64
    of_x = down + 64 + 2 * (64 + 128 + 128 + 256 + 256)
    of_z = (256 * 2048 + 2048) + (2048 * 2048 + 2048)
    joint = (2304 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 + 1)
    assert size(PAPER_TINY_IMAGENET.build_discriminator((3, 64, 64), 256)) == of_x + of_z + joint


def widths(stack: nn.Sequential, x: torch.Tensor) -> list[int]:
    """Pixels a side after each convolution."""
    found = []
    for layer in stack:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append(x.shape[-1])
    return found


@pytest.mark.parametrize(
    ("networks", "down", "up"),
    [
        (LAPTOP, [15, 14, 6, 1, 1], [6, 14, 15, 32, 32]),
        (PAPER_CIFAR10, [28, 13, 10, 4, 1, 1, 1], [4, 10, 13, 28, 32, 32, 32]),
        (PAPER_SVHN, [28, 13, 10, 4, 1, 1, 1], [4, 10, 13, 28, 32, 32, 32]),
        (PAPER_CELEBA, [63, 29, 13, 4, 1, 1], [4, 13, 29, 63, 64, 64]),
        (PAPER_TINY_IMAGENET, [31, 28, 13, 10, 4, 1, 1, 1, 1], [1, 1, 4, 10, 13, 28, 31, 64, 64]),
    ],
)
def test_pictures_shrink_to_one_pixel_and_back(networks, down, up):
    x = torch.rand(2, 3, networks.size, networks.size)
    assert widths(networks.build_encoder("gaussian", x.shape[1:], 8)[0], x) == down
    assert widths(networks.build_decoder(x.shape[1:], 8, None)[1], torch.randn(2, 8, 1, 1)) == up
    discriminator = networks.build_discriminator(x.shape[1:], 8)
    assert widths(discriminator.towers[0], x) == down[: len(networks.of_x)] and down[len(networks.of_x) - 1] == 1
    side, sides = networks.size, []
    for row in networks.encoder:
        side = row.side(side)
        sides.append(side)
    for row in networks.decoder:
        side = row.side(side)
        sides.append(side)
    assert sides == down + up


def layers(module: nn.Module, *kinds: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


def test_paper_details():
    """What the tables say besides sizes: dropout in its place, maxout or batch norm in D, the slopes."""
    cifar10 = PAPER_CIFAR10.build_discriminator((3, 32, 32), 64)
    assert [layer.p for layer in layers(cifar10.towers[0], nn.Dropout)] == [0.2, 0.5, 0.5, 0.5, 0.5]
    assert [layer.p for layer in layers(cifar10.towers[1], nn.Dropout)] == [0.2, 0.5]
    assert [layer.p for layer in layers(cifar10.joint, nn.Dropout)] == [0.5, 0.5, 0.5]
    assert not layers(cifar10, nn.BatchNorm2d, nn.LeakyReLU) and len(layers(cifar10, Maxout)) == 5 + 2 + 2
    for networks, slope, rows in ((PAPER_SVHN, 0.01, 5), (PAPER_CELEBA, 0.02, 5), (PAPER_TINY_IMAGENET, 0.01, 6)):
        shape = (3, networks.size, networks.size)
        discriminator = networks.build_discriminator(shape, 256)
        assert [layer.p for layer in layers(discriminator, nn.Dropout)] == [0.2] * (rows + 2 + 3)
        assert len(layers(discriminator, nn.BatchNorm2d)) == rows - 1 and not layers(discriminator, Maxout)
        for part in (
            discriminator,
            networks.build_encoder("gaussian", shape, 256),
            networks.build_decoder(shape, 256, None),
        ):
            assert {layer.negative_slope for layer in layers(part, nn.LeakyReLU)} == {slope}
    for part in (
        PAPER_CIFAR10.build_encoder("gaussian", (3, 32, 32), 64),
        PAPER_CIFAR10.build_decoder((3, 32, 32), 64, None),
    ):
        assert {layer.negative_slope for layer in layers(part, nn.LeakyReLU)} == {0.1}


@pytest.mark.parametrize(
    ("name", "examples", "batch", "epochs"),
    [
        ("cifar10", 45_000, 100, 6475),
        ("svhn", 531_131, 100, 100),
        ("celeba", 162_770, 100, 123),
        ("tiny-imagenet", 1_281_167, 128, 125),
    ],
)
def test_paper_settings(name, examples, batch, epochs):
    recipe = RECIPES[name]
    assert recipe.batch_size == batch and recipe.steps == epochs * (examples // batch)
    assert (recipe.lr, recipe.betas, recipe.weight_std) == (1e-4, (0.5, 0.999), 0.01)
    assert not (recipe.averaging or recipe.flips or recipe.decay or recipe.r1 or recipe.plain)
    assert recipe.z_dim == (64 if name == "cifar10" else 256)


def test_what_ours_adds_reaches_the_trainer():
    recipe = replace(RECIPES["cifar10-small"], batch_size=4)
    trainer = recipe.trainer(recipe.build((3, 32, 32)), examples(recipe))
    assert trainer.flips and trainer.decay and trainer.result is not trainer.model
    assert trainer.bf16 in (False, has_bf16("cpu"))
    assert not RECIPES["svhn-small"].flips, "a mirrored digit is another"


def test_every_pixel_gets_as_many_contributions_as_its_neighbours():
    """A kernel that its stride does not divide leaves a checkerboard."""
    assert all(row.kernel % row.stride == 0 for row in (*LAPTOP.encoder, *LAPTOP.decoder, *LAPTOP.of_x))


def test_pictures_stay_between_0_and_1():
    x_tilde = LAPTOP.build_decoder((3, 32, 32), 64, None)(100 * torch.randn(4, 64))
    assert x_tilde.shape == (4, 3, 32, 32) and x_tilde.min() >= 0 and x_tilde.max() <= 1


# With labels.

WITH_LABELS = [name for name, recipe in RECIPES.items() if recipe.has_labels]


def judge(model: nn.Module) -> nn.Module:
    """What tells classes apart."""
    return model.classifier if isinstance(model, Supervised) else model.discriminator


def asked(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What it is asked about one batch."""
    return (x,) if model.encoder is None else (x, model.encode(x))


@pytest.mark.parametrize(("explicit", "more"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_a_logit_for_each_class_and_perhaps_one_for_generated(name, explicit, more):
    """Of the labels alone no pair is generated."""
    recipe = replace(RECIPES[name], explicit=explicit)
    model = recipe.build(shape_of(recipe), classes=7)
    more = 0 if recipe.game == "supervised" else more
    x = examples(recipe, 2).floats()
    assert judge(model)(*asked(model, x)).shape == (2, 7 + more)
    assert model.classify(x).shape == (2, 7) and model.classes == 7


@pytest.mark.parametrize("name", [name for name in WITH_LABELS if not name.startswith("cifar10")])
def test_recipes_with_labels_train(name):
    recipe = replace(RECIPES[name], batch_size=6, labels=6, labelled_batch=4)
    data = examples(recipe, 20)
    trainer = recipe.trainer(recipe.build(data.shape, data.mean(), classes=2), data)
    before = {name: p.detach().clone() for name, p in judge(trainer.model).named_parameters()}
    (report,) = trainer.run(2)
    assert report.losses.keys() == trainer.model.players().keys()
    assert not any(torch.equal(before[name], p) for name, p in judge(trainer.model).named_parameters())
    assert trainer.result.classify(data.floats()).isfinite().all()


@pytest.mark.parametrize("name", ["digits-semi", "digits-feature-matching", "digits-supervised"])
def test_the_seed_decides_which_have_labels(name):
    """And the draw is the one that other methods get for the seed."""
    recipe, data = RECIPES[name], digits()
    for seed in (0, 3):
        trainer = recipe.trainer(recipe.build(data.shape, classes=10), data, seed)
        assert torch.equal(trainer.labelled.x, few_labels(data, recipe.labels, seed).x)
        assert trainer.labelled_batch == recipe.labelled_batch


@pytest.mark.parametrize("name", ["digits-semi", "cifar10-semi", "cifar10-semi-small"])
def test_consistency_is_all_that_is_added(name):
    """To the paper's game, and on photographs shifts: both reach the model and the loop."""
    plain, more = RECIPES[name], RECIPES[name.replace("semi", "semi-consistent")]
    shifts = not name.startswith("digits")
    assert more == replace(plain, summary=more.summary, consistency=more.consistency, shifts=shifts)
    assert plain.consistency == 0 and not plain.shifts
    model = more.build(shape_of(more), classes=10)
    assert model.consistency == more.consistency > 0 and plain.build(shape_of(plain), classes=10).consistency == 0
    few = replace(more, batch_size=4, labels=4, labelled_batch=2)
    data = examples(few)
    assert few.trainer(few.build(data.shape, classes=2), data).shifts is shifts


@pytest.mark.parametrize("name", ["digits", "digits-gan", "mixture-vae"])
def test_other_recipes_ask_for_no_labels(name):
    recipe = replace(RECIPES[name], batch_size=4)
    unlabelled = replace(examples(recipe), labels=None)
    trainer = recipe.trainer(recipe.build(unlabelled.shape), unlabelled)
    assert trainer.labelled is None and trainer._batch()[1] is None and trainer.model.classes == 0


@pytest.mark.parametrize("beginning", ["digits", "house-numbers", "cifar10"])
def test_the_labels_alone_get_the_network_that_feature_matching_gets(beginning):
    recipe = RECIPES[f"{beginning}-supervised"]
    alone = recipe.build(shape_of(recipe), classes=10).classifier
    beside = RECIPES[f"{beginning}-feature-matching"].build(shape_of(recipe), classes=10).discriminator
    assert str(alone) == str(beside)
    assert {name: p.shape for name, p in alone.named_parameters()} == {
        name: p.shape for name, p in beside.named_parameters()
    }
    spread = [torch.cat([p.flatten() for p in net.parameters() if p.ndim > 1]).std().item() for net in (alone, beside)]
    assert spread[0] == pytest.approx(spread[1], rel=0.03)


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize("classes", [None, 0])
def test_without_classes_a_recipe_with_labels_cannot_be_built(name, classes):
    with pytest.raises(AlikitError, match="wants data whose examples have one class each: name other data"):
        RECIPES[name].build(shape_of(RECIPES[name]), classes=classes)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_what_a_recipe_with_labels_tells(name):
    """Shared out evenly over the ten classes of its data; those of one source all have as many."""
    recipe = RECIPES[name]
    assert recipe.labels % 10 == 0 and 0 < recipe.labelled_batch <= recipe.labels
    same = [other for other in map(RECIPES.get, WITH_LABELS) if other.data == recipe.data]
    assert {other.labels for other in same} == {recipe.labels} and len(same) >= 3


# What does not fit.


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("mixture-ali-paper", (1, 8, 8), "for points, not pictures"),
        ("digits", (2,), "for pictures, not points"),
        ("digits", (3, 32, 32), r"32x32, these networks take 8x8.*--size 8"),
        ("cifar10-small", (1, 8, 8), r"8x8, these networks take 32x32.*--size 32"),
        ("cifar10-small", (3, 32, 40), r"40x32, these networks take 32x32.*--size 32"),
    ],
)
def test_examples_that_do_not_fit_are_refused(name, shape, message):
    with pytest.raises(AlikitError, match=message):
        RECIPES[name].build(shape)


@pytest.mark.parametrize("name", ["mixture-inverse", "mixture-post-hoc"])
def test_a_trained_decoder_is_taken_over_and_frozen(name):
    gan = RECIPES["mixture-gan-paper"].build((2,))
    model = RECIPES[name].build((2,), trained=gan)
    assert RECIPES[name].needs_decoder and not RECIPES["mixture-gan-paper"].needs_decoder
    assert isinstance(model.decoder, Frozen)
    z = torch.randn(5, 2)
    assert torch.equal(model.decode(z), gan.decode(z))


@pytest.mark.parametrize("name", ["mixture-inverse", "mixture-post-hoc"])
def test_a_decoder_of_another_kind_is_refused(name):
    with pytest.raises(AlikitError, match="decoder is not this recipe's"):
        RECIPES[name].build((2,), trained=RECIPES["digits-gan"].build((1, 8, 8)))
