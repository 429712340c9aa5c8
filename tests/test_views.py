"""Views of pictures: they change by chance, and every pixel is one that was there."""

import torch

from alikit.views import mirrored, shifted


def test_shifted_moves_whole_pictures_and_repeats_the_edge():
    """600 equal pictures of 3 maps, 32 by 40, each pixel of which encodes its map, row and column."""
    torch.manual_seed(0)
    x = (torch.arange(3.0).view(3, 1, 1) * 10_000 + torch.arange(32.0).view(32, 1) * 100 + torch.arange(40.0)).repeat(
        600, 1, 1, 1
    )
    moved = shifted(x)
    assert moved.shape == x.shape and moved.is_contiguous(memory_format=torch.channels_last)
    where = moved[:, 0, 10, 10] - x[:, 0, 10, 10]
    down = (where / 100).round()
    right = where - 100 * down
    rows, columns = ((torch.arange(n) + by[:, None]).clamp(0, n - 1) for n, by in ((32, down), (40, right)))
    assert torch.equal(moved[:, 0], rows[:, :, None] * 100 + columns[:, None])
    assert torch.equal(moved, moved[:, :1] + 10_000 * torch.arange(3)[:, None, None])
    # A sixteenth of the shorter side is 2: five places each way, 120 of 600 pictures at each, give or take 4 sigma.
    for way in (down, right):
        values, counts = way.unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2] and ((counts - 120).abs() < 40).all()
    assert abs(torch.corrcoef(torch.stack([down, right]))[0, 1]) < 0.17
    small = torch.arange(8.0).expand(200, 1, 8, 8)
    assert (shifted(small)[:, 0, 4, 4] - 4).unique().tolist() == [-1, 0, 1], "by a pixel at least"


def test_mirrored_turns_half_of_them():
    torch.manual_seed(0)
    x = torch.rand(600, 3, 4, 5)
    turned = mirrored(x)
    whole = (turned == x.flip(3)).flatten(1).all(1)
    assert torch.equal(turned[~whole], x[~whole])
    assert abs(whole.float().mean().item() - 0.5) < 0.08
