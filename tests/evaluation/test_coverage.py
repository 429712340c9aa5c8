"""Counting modes: what fools the paper's measure does not fool the strict ones."""

from math import log

import pytest
import torch

from alikit.data import GridMixture
from alikit.evaluation import coverage

GRID = GridMixture()


def at(*counts: int, grid: GridMixture = GRID, offset: float = 0.0) -> torch.Tensor:
    """counts[m] points beside mean m, `offset` standard deviations to its right."""
    means = grid.means[: len(counts)].repeat_interleave(torch.tensor(counts), 0)
    return means + torch.tensor([offset * grid.std, 0.0])


def test_real_data():
    found = coverage(GRID.sample(10_000, seed=3).x)
    assert (found.modes, found.strict_modes) == (25, 25)
    assert found.within_3std == pytest.approx(0.989, abs=0.004)  # 1 - exp(-9 / 2) of a plane Gaussian
    assert 0 < found.kl_uniform < 0.004  # (25 - 1) / (2 * 10,000) expected


def test_a_smear_fools_the_lenient_measure_alone():
    found = coverage(3 * torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0)))
    assert found.modes == 25
    assert found.within_3std < 0.05 and found.strict_modes < 5


def test_one_mode_only():
    found = coverage(at(0, 0, 500))
    assert (found.modes, found.within_3std, found.strict_modes) == (1, 1, 1)
    assert found.kl_uniform == pytest.approx(log(25))


def test_a_mode_counts_strictly_from_20_samples():
    found = coverage(at(19, 20, 21, 1))
    assert (found.modes, found.strict_modes) == (4, 2)
    assert coverage(at(19, 20, 21, 1), enough=21).strict_modes == 1


@pytest.mark.parametrize(("offset", "within"), [(0.0, 1), (2.9, 1), (3.1, 0)])
def test_close_is_3_standard_deviations(offset, within):
    found = coverage(at(*[20] * 25, offset=offset))
    assert (found.modes, found.within_3std, found.strict_modes) == (25, within, 25 * within)


def test_share_and_kl_by_hand():
    grid = GridMixture(side=2)
    x = torch.cat([at(60, 20, grid=grid), at(0, 0, 20, grid=grid, offset=5)])
    found = coverage(x, grid)
    assert (found.modes, found.strict_modes) == (3, 2)
    assert found.within_3std == pytest.approx(0.8)
    assert found.kl_uniform == pytest.approx(0.6 * log(0.6 * 4) + 2 * 0.2 * log(0.2 * 4))


def test_samples_that_are_not_finite_belong_to_no_mode():
    found = coverage(torch.full((100, 2), float("nan")))
    assert (found.modes, found.within_3std, found.strict_modes) == (0, 0.0, 0)
    assert found.kl_uniform == pytest.approx(log(25))  # not 0, which is even


def test_finite_samples_are_measured_beside_broken_ones():
    broken = torch.full((50, 2), float("inf"))
    found = coverage(torch.cat([torch.zeros(50, 2), broken]))
    assert (found.modes, found.within_3std, found.strict_modes) == (1, 0.5, 1)
