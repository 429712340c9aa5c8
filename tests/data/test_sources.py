"""Data sets by name, the digits, and the 25 Gaussians against scipy and against their own definition."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits

from alikit.data import SOURCES, GridMixture, digits, load
from alikit.data.sources import rooted
from alikit.errors import AlikitError

README = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text(encoding="utf-8")


def test_digits_are_scikit_learns_and_always_held_out_alike():
    data, bunch = digits(), load_digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.uint8
    np.testing.assert_allclose(data.x[:, 0] / 255 * 16, bunch.images, atol=0.5 / 255 * 16 + 1e-6)
    assert data.classes == tuple("0123456789") and data.labels.tolist() == bunch.target.tolist()
    train, held_out = load("digits")
    torch.manual_seed(7)
    assert (len(train), len(held_out)) == (1500, 297) and torch.equal(held_out.x, load("digits")[1].x)
    rows = [{row.numpy().tobytes() for row in part.x} for part in (train, held_out)]
    assert not rows[0] & rows[1]  # no two are alike


def test_unknown_names_and_sizes(tmp_path):
    for name in ("mnist", "folder", "folder:", "table:", "cifar10:", "stand-in:mnist", "digits:here", ""):
        with pytest.raises(AlikitError, match=r"no data called .*choose mixture, .*folder:PATH or table:PATH"):
            load(name)
    with pytest.raises(AlikitError, match=f"no data called .*: for the pictures in that folder, say folder:{tmp_path}"):
        load(str(tmp_path))
    sizes = {"digits": 32, "mixture": 32} | dict.fromkeys(
        ("house-numbers", "cifar10", "svhn-extra", "stand-in:svhn"), 64
    )
    for name, size in sizes.items():
        with pytest.raises(AlikitError, match="--size is for folders"):
            load(name, size=size)


def test_every_source_is_described():
    assert [name for name in SOURCES if f"| `{name}` |" not in README] == []


def test_a_name_without_a_folder_means_one(cifar, tmp_path, monkeypatch):
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    names = {
        "svhn": "svhn:data",
        "imagenet": "imagenet:data/imagenet",
        "svhn:else": "svhn:else",
        "folder:a": "folder:a",
    }
    assert {name: rooted(name) for name in names} == names
    assert len(load("cifar10")[0]) == 90  # the files lie in data/
    cifar.rename("elsewhere")
    with pytest.raises(AlikitError, match="put it in data, or use --download"):
        load("cifar10")
    monkeypatch.setenv("ALIKIT_DATA", "elsewhere")
    assert rooted("svhn") == "svhn:elsewhere" and len(load("cifar10")[0]) == 90
    with pytest.raises(AlikitError, match="no class folders in elsewhere/imagenet/train"):
        load("imagenet")


# The mixture.

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
    assert sorted(means.tolist()) == [*map(list, product((-4, -2, 0, 2, 4), repeat=2))]
    assert sorted(GridMixture(side=2, spacing=3.0).means.tolist()) == [*map(list, product((-1.5, 1.5), repeat=2))]
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
