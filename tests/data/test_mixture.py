"""The 25 Gaussians against scipy and against their own definition."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from alikit.data import GridMixture, load
from alikit.errors import AlikitError

TICKS = (-4.0, -2.0, 0.0, 2.0, 4.0)
BROAD = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("std", "x"), [(0.05, GridMixture().sample(200, seed=5).x), (1.0, BROAD)])
def test_density_and_responsibilities(std, x):
    grid = GridMixture(std=std)
    of_each = np.stack([multivariate_normal(mean, std**2).pdf(x.double()) for mean in grid.means], axis=1)
    np.testing.assert_allclose(grid.log_density(x), np.log(of_each.mean(1)), atol=1e-3)
    np.testing.assert_allclose(grid.responsibilities(x), of_each / of_each.sum(1, keepdims=True), atol=1e-5)


def test_samples_have_the_moments_of_the_mixture_and_come_from_the_seed_alone():
    """Means have variance 8 along each axis; each mode adds 0.05^2."""
    state, grid = torch.get_rng_state(), GridMixture()
    data, held_out = load("mixture")
    assert torch.equal(state, torch.get_rng_state()) and (len(data), len(held_out)) == (100_000, 10_000)
    for part, seed in ((data, 0), (held_out, 1)):
        again = grid.sample(len(part), seed)
        assert torch.equal(part.x, again.x) and torch.equal(part.labels, again.labels)
    assert not torch.equal(data.x[:10_000], held_out.x)
    assert (data.x.dtype, data.labels.dtype, len(data.classes)) == (torch.float32, torch.int64, 25)
    torch.testing.assert_close(data.x.mean(0), torch.zeros(2), atol=0.04, rtol=0)
    torch.testing.assert_close(data.x.T.cov(), 8.0025 * torch.eye(2), atol=0.12, rtol=0)
    counts = data.labels.bincount(minlength=25)
    assert counts.min() > 3750 and counts.max() < 4250  # 4000, give or take 4 of 62
    offsets = data.x - grid.means[data.labels]
    torch.testing.assert_close(offsets.std(0), torch.tensor([0.05, 0.05]), rtol=0.01, atol=0)


def test_means_and_what_is_far_from_them():
    means = GridMixture().means
    assert sorted(means.tolist()) == [[x, y] for x in TICKS for y in TICKS]
    assert sorted(GridMixture(side=2, spacing=3.0).means.tolist()) == [[x, y] for x in (-1.5, 1.5) for y in (-1.5, 1.5)]
    responsibilities = GridMixture().responsibilities(torch.tensor([[100.0, 100.0], [-1e4, 3.0]]))
    torch.testing.assert_close(responsibilities.sum(1), torch.ones(2))
    assert means[responsibilities[0].argmax()].tolist() == [4, 4]
    mode, distance = GridMixture().nearest_mode(torch.tensor([[0.0, 0.1], [2.0, 1.0 + 1e-3], [9.0, 4.0]]))
    assert means[mode].tolist() == [[0, 0], [2, 2], [4, 4]]
    torch.testing.assert_close(distance, torch.tensor([2.0, 19.98, 100.0]))


@pytest.mark.parametrize("offset", [0.0, 1e-4, 1e-3, 0.15])
def test_distance_close_to_a_mean_is_exact(offset):
    """Away from the origin, |x|^2 - 2 x m + |m|^2 loses distances like these in float32."""
    grid = GridMixture()
    x = grid.means.double().repeat(4, 1) + torch.tensor([offset, 0.0], dtype=torch.float64)
    mode, distance = grid.nearest_mode(x.float())  # PyTorch takes the short cut from 26 points on
    assert mode.tolist() == list(range(25)) * 4
    np.testing.assert_allclose(distance, offset / 0.05, atol=2e-5)


def test_what_is_refused():
    for wrong in ({"side": 0}, {"spacing": 0}, {"std": 0}, {"std": -1}):
        with pytest.raises(AlikitError, match="a grid needs side >= 1, spacing > 0 and std > 0"):
            GridMixture(**wrong)
    with pytest.raises(AlikitError, match="at least 1"):
        GridMixture().sample(0)
