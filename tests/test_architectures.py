"""The networks of the tables: sizes by hand, from the paper's appendix, and what the tables say besides sizes."""

import pytest
import torch
from torch import nn

from alikit.architectures import (
    HALF,
    LAPTOP,
    PAPER_CELEBA,
    PAPER_CIFAR10,
    PAPER_SVHN,
    PAPER_TINY_IMAGENET,
    TOY,
)
from alikit.networks import Maxout


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("networks", "width", "pieces"), [(TOY, 400, 5), (HALF, 200, 2)])
def test_sizes_for_points(networks, width, pieces):
    """Section 4.5: encoder 4-400-400-2, decoder 2-400-400-400-400-2, discriminator 4-200-200-200-1 of 5 pieces; ours
    have half the width. Batch norm has 2 numbers a unit."""
    hidden = width * width + 2 * width
    assert size(networks.build_encoder("noise", (2,), 2)) == 4 * width + 2 * width + hidden + 2 * width + 2
    assert size(networks.build_encoder("gaussian", (2,), 2)) == 2 * width + 2 * width + hidden + 4 * width + 4
    assert size(networks.build_decoder((2,), 2, None)) == 2 * width + 2 * width + 3 * hidden + 2 * width + 2
    units = 200 * pieces
    for z_dim, inputs in ((2, 4), (0, 2)):
        discriminator = networks.build_discriminator((2,), z_dim)
        assert size(discriminator) == (inputs + 1) * units + 2 * (200 + 1) * units + 201


# Kernel and maps of the encoder's rows down to one pixel, its rows of one pixel; the same of the decoder, from one pixel
# up; hidden units for z and for both.
DOWN = [(5, 32), (4, 64), (4, 128), (4, 256), (4, 512)]
UP = [(4, 256), (4, 128), (4, 64), (4, 32), (5, 32), (1, 32)]
CELEBA = [(2, 64), (7, 128), (5, 256), (7, 256), (4, 512)], [], [(4, 512), (7, 256), (5, 256), (7, 128), (2, 64)]
TINY = [(4, 64), (4, 64), (4, 128), (4, 128), (4, 256), (4, 256)]
UP_TINY = [(1, 2048), (1, 256), (4, 256), (4, 128), (4, 128), (4, 64), (4, 64), (4, 64)]
TABLES = [
    (PAPER_CIFAR10, 64, 0.1, (DOWN, [512], UP), 512, 1024, [28, 13, 10, 4, 1], [4, 10, 13, 28, 32, 32, 32]),
    (PAPER_SVHN, 256, 0.01, (DOWN, [512], UP), 512, 1024, [28, 13, 10, 4, 1], [4, 10, 13, 28, 32, 32, 32]),
    (PAPER_CELEBA, 256, 0.02, CELEBA, 1024, 2048, [63, 29, 13, 4, 1], [4, 13, 29, 63, 64, 64]),
    (
        *(PAPER_TINY_IMAGENET, 256, 0.01, (TINY, [2048, 2048], UP_TINY), 2048, 4096),
        *([31, 28, 13, 10, 4, 1], [1, 1, 4, 10, 13, 28, 31, 64, 64]),
    ),
    (
        *(LAPTOP, 64, 0.1, ([(4, 32), (2, 64), (4, 128), (6, 256)], [], [(6, 128), (4, 64), (2, 32), (4, 32)])),
        *(256, 512, [15, 14, 6, 1], [6, 14, 15, 32, 32]),
    ),
]


def sides(stack: nn.Sequential, x: torch.Tensor) -> list[int]:
    """Pixels a side after each convolution."""
    found = []
    for layer in stack:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append(x.shape[-1])
    return found


@pytest.mark.parametrize(("networks", "z_dim", "slope", "rows", "of_z", "joint", "down", "up"), TABLES)
def test_tables(networks, z_dim, slope, rows, of_z, joint, down, up):
    """Appendix A. Where D is of maxout it has twice the weights, a bias for each piece, and no batch norm."""
    shape, (first, ones, last) = (3, networks.size, networks.size), rows
    encoder = networks.build_encoder("gaussian", shape, z_dim)
    decoder = networks.build_decoder(shape, z_dim, None)
    discriminator = networks.build_discriminator(shape, z_dim)

    def weights(channels, rows):
        inputs = [channels, *(maps for _, maps in rows)]
        return sum(k * k * maps * before for before, (k, maps) in zip(inputs, rows, strict=False))

    one_pixel = [(1, maps) for maps in ones]
    features = first[-1][1]
    norm = 2 * sum(maps for _, maps in first + one_pixel)
    last_of_encoder = (*one_pixel[-1:], first[-1])[0][1]
    linear = last_of_encoder * 2 * z_dim + 2 * z_dim
    assert size(encoder) == weights(3, first) + weights(features, one_pixel) + norm + linear
    pixels = last[-1][1] * 3 + 3 * networks.size**2  # no bias for each map, but for each pixel
    assert size(decoder) == weights(z_dim, last) + 2 * sum(maps for _, maps in last) + pixels
    pieces = 2 if networks is PAPER_CIFAR10 else 1
    bias = 2 * sum(maps for _, maps in first) if pieces == 2 else first[0][1] + 2 * sum(maps for _, maps in first[1:])
    hidden = z_dim * of_z + of_z + of_z**2 + of_z + (features + of_z) * joint + joint + joint**2 + joint
    assert size(discriminator) == pieces * (weights(3, first) + hidden) + bias + joint + 1

    x, rest = torch.rand(2, *shape), [1] * (len(ones) + 1)
    assert sides(encoder[0], x) == down + rest and sides(discriminator.towers[0], x) == down
    assert sides(decoder[1], torch.randn(2, z_dim, 1, 1)) == up
    found, side = [], networks.size
    for row in (*networks.encoder, *networks.decoder):
        found.append(side := row.side(side))
    assert found == down + rest + up
    leaky = [layer for part in (encoder, decoder, discriminator) for layer in part.modules()]
    assert {layer.negative_slope for layer in leaky if isinstance(layer, nn.LeakyReLU)} == {slope}


def test_dropout_maxout_and_batch_norm_of_the_discriminators():
    def layers(module, *kinds):
        return [layer for layer in module.modules() if isinstance(layer, kinds)]

    cifar10 = PAPER_CIFAR10.build_discriminator((3, 32, 32), 64)
    dropout = [[layer.p for layer in layers(part, nn.Dropout)] for part in (*cifar10.towers, cifar10.joint)]
    assert dropout == [[0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5], [0.5, 0.5, 0.5]]
    assert not layers(cifar10, nn.BatchNorm2d, nn.LeakyReLU) and len(layers(cifar10, Maxout)) == 5 + 2 + 2
    for networks, rows in ((PAPER_SVHN, 5), (PAPER_CELEBA, 5), (PAPER_TINY_IMAGENET, 6)):
        discriminator = networks.build_discriminator((3, networks.size, networks.size), 256)
        assert [layer.p for layer in layers(discriminator, nn.Dropout)] == [0.2] * (rows + 2 + 3)
        assert len(layers(discriminator, nn.BatchNorm2d)) == rows - 1 and not layers(discriminator, Maxout)


def test_pictures_of_the_laptop_networks():
    """Every pixel gets as many contributions as its neighbours: a kernel that its stride does not divide leaves a
    checkerboard. They stay between 0 and 1."""
    assert all(row.kernel % row.stride == 0 for row in (*LAPTOP.encoder, *LAPTOP.decoder, *LAPTOP.of_x))
    x_tilde = LAPTOP.build_decoder((3, 32, 32), 64, None)(100 * torch.randn(4, 64))
    assert x_tilde.shape == (4, 3, 32, 32) and x_tilde.min() >= 0 and x_tilde.max() <= 1
