"""Named experiments: each builds, plays a step, and has the networks it says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alikit.data import SOURCES, Dataset, digits
from alikit.errors import AlikitError
from alikit.models import ALI, GAN, VAE, InverseMapping
from alikit.networks import Deterministic, Frozen, Gaussian, NoiseInput
from alikit.recipes import LAPTOP, RECIPES, TOY

SHAPES = {"mixture": (2,), "digits": (1, 8, 8), "house-numbers": (3, 32, 32), None: (3, 32, 32)}


def examples(recipe, n=8) -> Dataset:
    shape = SHAPES[recipe.data]
    generator = torch.Generator().manual_seed(0)
    if len(shape) == 1:
        return Dataset("points", torch.randn(n, *shape, generator=generator))
    return Dataset("pictures", torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_plays(name):
    recipe = RECIPES[name]
    data = examples(recipe)
    model = recipe.build(data.shape, data.mean())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = replace(recipe, batch_size=4).trainer(model, data).one_step()
    assert all(loss.isfinite() for loss in losses.values())
    after = model.state_dict()
    for own in model.players().values():
        names = [key for key, value in model.named_parameters() if any(value is p for p in own)]
        assert any(not torch.equal(before[key], after[key]) for key in names)
    assert model.sample(2).shape == (2, *data.shape)
    if recipe.encoder:
        assert model.reconstruct(data.floats()).shape == (8, *data.shape)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_its_data_comes_from(name):
    recipe = RECIPES[name]
    assert recipe.data is None or recipe.data in SOURCES
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
    ],
)
def test_games_and_encoders(name, game, encoder):
    model = RECIPES[name].build(SHAPES[RECIPES[name].data])
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


@pytest.mark.parametrize(("name", "std"), [("mixture-ali-paper", 0.02), ("cifar10-small", 0.02)])
def test_initial_weights(name, std):
    model = RECIPES[name].build(SHAPES[RECIPES[name].data])
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
    assert size(LAPTOP.build_decoder((3, 32, 32), 64, None)) == stack + norms + (32 * 3 + 3) + pixels


def test_laptop_pictures_shrink_to_one_pixel_and_back():
    x = torch.rand(2, 3, 32, 32)
    stack, _ = LAPTOP.build_encoder("gaussian", (3, 32, 32), 64)
    widths = []
    for layer in stack:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            widths.append(x.shape[-1])
    assert widths == [15, 14, 6, 1, 1]
    _, stack, _ = LAPTOP.build_decoder((3, 32, 32), 64, None)
    x, widths = torch.randn(2, 64, 1, 1), []
    for layer in stack:
        x = layer(x)
        if isinstance(layer, nn.ConvTranspose2d):
            widths.append(x.shape[-1])
    assert widths == [6, 14, 15, 32]


def test_every_pixel_gets_as_many_contributions_as_its_neighbours():
    """A kernel that its stride does not divide leaves a checkerboard."""
    assert all(row.kernel % row.stride == 0 for row in (*LAPTOP.encoder, *LAPTOP.decoder, *LAPTOP.of_x))


def test_pictures_stay_between_0_and_1():
    x_tilde = LAPTOP.build_decoder((3, 32, 32), 64, None)(100 * torch.randn(4, 64))
    assert x_tilde.shape == (4, 3, 32, 32) and x_tilde.min() >= 0 and x_tilde.max() <= 1


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
