"""The networks of the tables: sizes by hand, from the paper's appendix, and what the tables say besides sizes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alikit.architectures import LAPTOP, PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET, SMALL
from alikit.networks import Embedding, Maxout


def layers(module: nn.Module, *kinds: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


# Kernel and maps of the encoder's rows, of which the discriminator has those that are no 1 x 1 convolutions, and of the
# decoder's; hidden units for z and for the pair; pixels a side behind each row down and up; dropout of each part of D.
DOWN = [(5, 32), (4, 64), (4, 128), (4, 256), (4, 512), (1, 512)], [28, 13, 10, 4, 1, 1, 1]
UP = [(4, 256), (4, 128), (4, 64), (4, 32), (5, 32), (1, 32)], [4, 10, 13, 28, 32, 32, 32]
DOWN_64 = [(2, 64), (7, 128), (5, 256), (7, 256), (4, 512)], [63, 29, 13, 4, 1, 1]
UP_64 = [(4, 512), (7, 256), (5, 256), (7, 128), (2, 64)], [4, 13, 29, 63, 64, 64]
DOWN_TINY = [*((4, n) for n in (64, 64, 128, 128, 256, 256)), (1, 2048), (1, 2048)], [31, 28, 13, 10, 4, 1, 1, 1, 1]
UP_TINY = [(1, 2048), (1, 256), *((4, n) for n in (256, 128, 128, 64, 64, 64))], [1, 1, 4, 10, 13, 28, 31, 64, 64]
DOWN_LAPTOP = [(4, 32), (2, 64), (4, 128), (6, 256)], [15, 14, 6, 1, 1]
UP_LAPTOP = [(6, 128), (4, 64), (2, 32), (4, 32)], [6, 14, 15, 32, 32]
FIFTHS = [[0.2] * 5, [0.2] * 2, [0.2] * 3]


@pytest.mark.parametrize(
    ("networks", "z_dim", "slope", "down", "up", "of_z", "joint", "dropout"),
    [
        (PAPER_CIFAR10, 64, 0.1, DOWN, UP, 512, 1024, [[0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5], [0.5, 0.5, 0.5]]),
        (PAPER_SVHN, 256, 0.01, DOWN, UP, 512, 1024, FIFTHS),
        (PAPER_CELEBA, 256, 0.02, DOWN_64, UP_64, 1024, 2048, FIFTHS),
        (PAPER_TINY_IMAGENET, 256, 0.01, DOWN_TINY, UP_TINY, 2048, 4096, [[0.2] * 6, *FIFTHS[1:]]),
        (LAPTOP, 64, 0.1, DOWN_LAPTOP, UP_LAPTOP, 256, 512, [[0.2] * 4, [0.2] * 2, [0.2] * 2]),
    ],
)
def test_tables(networks, z_dim, slope, down, up, of_z, joint, dropout):
    """Appendix A. CIFAR-10's D is of maxout: twice the weights, a bias for each piece, and no batch norm."""
    shape, first, maxout = (3, networks.size, networks.size), len(networks.of_x), networks is PAPER_CIFAR10
    encoder, decoder = networks.build_encoder("gaussian", shape, z_dim), networks.build_decoder(shape, z_dim, None)
    discriminator = networks.build_discriminator(shape, z_dim)

    def size(channels, rows):
        inputs = [channels, *(maps for _, maps in rows)]
        return sum(kernel**2 * fan_in * maps for fan_in, (kernel, maps) in zip(inputs, rows, strict=False))

    (rows, sides_down), (rows_up, sides_up) = down, up
    maps, features = [maps for _, maps in rows], rows[first - 1][1]
    hidden = (z_dim + 1 + of_z + 1) * of_z + (features + of_z + 1 + joint + 1) * joint
    biases = 2 * sum(maps[:first]) - (0 if maxout else maps[0])  # batch norm, but in the first row; or of pieces
    for part, expected in (
        (encoder, size(3, rows) + 2 * sum(maps) + (maps[-1] + 1) * 2 * z_dim),
        (decoder, size(z_dim, rows_up) + 2 * sum(n for _, n in rows_up) + rows_up[-1][1] * 3 + 3 * networks.size**2),
        (discriminator, (2 if maxout else 1) * (size(3, rows[:first]) + hidden) + biases + joint + 1),
    ):
        assert sum(p.numel() for p in part.parameters()) == expected
        assert {layer.negative_slope for layer in layers(part, nn.LeakyReLU)} <= {slope}
    assert [
        [coin.p for coin in layers(part, nn.Dropout)] for part in (*discriminator.towers, discriminator.joint)
    ] == dropout
    assert len(layers(discriminator, nn.BatchNorm2d)) == (0 if maxout else first - 1)
    assert len(layers(discriminator, Maxout)) == (5 + 2 + 2 if maxout else 0)

    rows = [replace(row, kernel=row.kernel or 6) for row in (*networks.encoder, *networks.decoder)]
    side = networks.size
    assert [side := row.side(side) for row in rows] == sides_down + sides_up
    # A kernel that its stride does not divide leaves a checkerboard, and the paper's are what they are.
    assert networks is not LAPTOP or all(row.kernel % row.stride == 0 for row in rows)


@pytest.mark.parametrize("y", [None, 3])
@pytest.mark.parametrize(
    ("networks", "channels", "side", "left"), [(LAPTOP, 1, 28, 5), (LAPTOP, 3, 64, 14), (SMALL, 1, 28, 0)]
)
def test_networks_adapt_to_other_pictures(networks, channels, side, left, y):
    """28 -> 13 -> 12 -> 5 -> 1 and back: the open kernels are what is left; and nothing else is another network."""
    shape, of_y, z = (channels, side, side), [] if y is None else [torch.ones(2, y)], torch.randn(2, 4)
    embedding = lambda: y and Embedding(y, 2)  # noqa: E731
    encoder = networks.build_encoder("gaussian", shape, 4, embedding())
    decoder = networks.build_decoder(shape, 4, torch.full(shape, 0.5), embedding())
    x = decoder(z, *of_y)
    assert x.shape == (2, *shape) and encoder(x, *of_y).shape == (2, 8)
    assert networks.build_discriminator(shape, 4, y=embedding())(x, z, *of_y).shape == (2,)
    kernels = [[c.kernel_size[0] for c in layers(part, nn.Conv2d, nn.ConvTranspose2d)] for part in (encoder, decoder)]
    assert kernels == ([[4, 2, 4, left, 1], [left, 4, 2, 4, 1]] if left else [[], []])


def test_which_sizes_they_take():
    sides = [side for side in range(130) if LAPTOP.takes(side)]
    assert sides == [*range(12, 65, 4)] and all(SMALL.takes(side) for side in (8, 28, 64)) and not SMALL.takes(65)
    for networks in (PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET):
        assert [side for side in range(130) if networks.takes(side)] == [networks.size]
