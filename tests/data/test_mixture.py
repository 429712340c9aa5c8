"""The 25 Gaussians against scipy and against their own definition."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from alikit.data import GridMixture

PAPER = sorted((float(x), float(y)) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4))


def density(grid: GridMixture, x: torch.Tensor) -> np.ndarray:
    """(N, modes): each mode's own density."""
    return np.stack([multivariate_normal(mean, grid.std**2).pdf(x.double()) for mean in grid.means], axis=1)


@pytest.fixture
def near() -> torch.Tensor:
    return GridMixture().sample(200, seed=5).x


def test_the_papers_means():
    grid = GridMixture()
    assert sorted(map(tuple, grid.means.tolist())) == PAPER and grid.std == 0.05


def test_another_grid():
    grid = GridMixture(side=2, spacing=3.0, std=0.1)
    assert sorted(grid.means.tolist()) == [[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]]


def test_log_density(near):
    grid = GridMixture()
    np.testing.assert_allclose(grid.log_density(near), np.log(density(grid, near).mean(1)), atol=1e-3)


def test_log_density_where_modes_overlap():
    grid = GridMixture(std=1.0)
    x = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(grid.log_density(x), np.log(density(grid, x).mean(1)), rtol=1e-4)


def test_density_integrates_to_1():
    ticks = torch.linspace(-5, 5, 1001)
    total = GridMixture().log_density(torch.cartesian_prod(ticks, ticks)).exp().sum() * 0.01**2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_moments_of_samples():
    """Means have variance 8 along each axis; each mode adds 0.05^2."""
    x = GridMixture().sample(100_000).x
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=0.04, rtol=0)
    torch.testing.assert_close(x.T.cov(), 8.0025 * torch.eye(2), atol=0.12, rtol=0)


def test_every_mode_has_its_share_and_its_spread():
    data, grid = GridMixture().sample(100_000), GridMixture()
    counts = data.labels.bincount(minlength=25)
    assert counts.min() > 3750 and counts.max() < 4250  # 4000, give or take 4 of 62
    offsets = data.x - grid.means[data.labels]
    torch.testing.assert_close(offsets.std(0), torch.tensor([0.05, 0.05]), rtol=0.01, atol=0)


def test_samples_are_reproducible_and_leave_the_global_generator():
    state = torch.get_rng_state()
    first, again, other = (GridMixture().sample(50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.x, again.x) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.x, other.x)
    assert torch.equal(state, torch.get_rng_state())
    assert (first.x.dtype, first.labels.dtype, len(first.classes)) == (torch.float32, torch.int64, 25)


def test_responsibilities():
    grid = GridMixture(std=1.0)
    x = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    joint = density(grid, x)
    np.testing.assert_allclose(grid.responsibilities(x), joint / joint.sum(1, keepdims=True), atol=1e-5)


def test_responsibilities_far_from_every_mode():
    responsibilities = GridMixture().responsibilities(torch.tensor([[100.0, 100.0], [-1e4, 3.0]]))
    torch.testing.assert_close(responsibilities.sum(1), torch.ones(2))
    assert GridMixture().means[responsibilities[0].argmax()].tolist() == [4, 4]


def test_nearest_mode():
    x = torch.tensor([[0.0, 0.1], [2.0, 1.0 + 1e-3], [9.0, 4.0]])
    mode, distance = (grid := GridMixture()).nearest_mode(x)
    assert grid.means[mode].tolist() == [[0, 0], [2, 2], [4, 4]]
    torch.testing.assert_close(distance, torch.tensor([2.0, 19.98, 100.0]))


@pytest.mark.parametrize("offset", [0.0, 1e-4, 1e-3, 0.15])
def test_distance_close_to_a_mean_is_exact(offset):
    """Away from the origin, |x|^2 - 2 x m + |m|^2 loses distances like these in float32."""
    grid = GridMixture()
    x = grid.means.double().repeat(4, 1) + torch.tensor([offset, 0.0], dtype=torch.float64)
    mode, distance = grid.nearest_mode(x.float())  # PyTorch takes the short cut from 26 points on
    assert mode.tolist() == list(range(25)) * 4
    np.testing.assert_allclose(distance, offset / 0.05, atol=2e-5)


@pytest.mark.parametrize("wrong", [{"side": 0}, {"spacing": 0}, {"std": 0}, {"std": -1}])
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(ValueError, match="a grid needs side >= 1, spacing > 0 and std > 0"):
        GridMixture(**wrong)


def test_no_points_refused():
    with pytest.raises(ValueError, match="at least 1"):
        GridMixture().sample(0)
