"""Views of pictures: they change by chance, and every pixel is one that was there."""

from itertools import product

import torch

from alikit.views import mirrored, shifted


def test_shifted_moves_whole_pictures_and_repeats_the_edge():
    """By up to a sixteenth of the shorter side, 2 of 32: each of 25 ways for 24 of 600, give or take 4 sigma."""
    torch.manual_seed(0)
    x = torch.arange(3.0 * 32 * 40).view(3, 32, 40)
    moved = shifted(x.expand(600, -1, -1, -1))
    assert moved.is_contiguous(memory_format=torch.channels_last)
    counts = []
    for down, right in product(range(-2, 3), repeat=2):
        rows, columns = (torch.arange(32) + down).clamp(0, 31), (torch.arange(40) + right).clamp(0, 39)
        counts.append((moved == x[:, rows][:, :, columns]).flatten(1).all(1).sum())
    assert sum(counts) == 600 and min(counts) > 4 and max(counts) < 44
    small = torch.arange(8.0).expand(200, 1, 8, 8)
    assert (shifted(small)[:, 0, 4, 4] - 4).unique().tolist() == [-1, 0, 1], "by a pixel at least"


def test_mirrored_turns_half_of_them():
    torch.manual_seed(0)
    x = torch.rand(600, 3, 4, 5)
    turned = mirrored(x)
    whole = (turned == x.flip(3)).flatten(1).all(1)
    assert torch.equal(turned[~whole], x[~whole])
    assert abs(whole.float().mean().item() - 0.5) < 0.08
