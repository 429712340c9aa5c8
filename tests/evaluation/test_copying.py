"""Copies are found where they were planted, and only there."""

from math import isnan

import pytest
import torch
from fixed import Fixed, noise_pictures

from alikit.evaluation import FeatureNetwork, Sets, copying, in_features
from alikit.evaluation.copying import nearest
from alikit.models import Game
from alikit.networks import Deterministic


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def sets(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> Sets:
    n = len(train)
    return Sets(samples, train, held_out, torch.zeros(len(samples), 3, 1, 1), torch.arange(n) + 100, torch.arange(n))


def test_nearest_by_hand():
    a, b = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([[6.0, 9.0], [3.0, 4.0], [50.0, 0.0]])
    distance, index = nearest(a, b)
    assert (distance.tolist(), index.tolist()) == ([5, 3], [1, 0])


def test_nearest_in_blocks_and_by_brute_force():
    a, b = torch.randn(2101, 5), torch.randn(37, 5)
    distance, index = nearest(a, b)
    every = (a[:, None] - b).square().sum(2).sqrt()
    assert torch.equal(index, every.argmin(1))
    torch.testing.assert_close(distance, every.min(1).values)


def test_a_copy_is_at_distance_0_however_far_out():
    b = torch.randn(300, 50) + 1000
    distance, index = nearest(b[200:], b)
    assert torch.equal(index, torch.arange(200, 300)) and (distance == 0).all()


@pytest.mark.parametrize("quality", [1.0, 5.0])
def test_nothing_copied_is_a_coins_throw(quality):
    """Of good samples and of bad ones, which are far from both."""
    train, held_out, samples = torch.randn(3, 2000, 6)
    found = copying(sets(quality * samples, train, held_out))
    assert found.share == pytest.approx(0.5, abs=4 * found.chance) and found.chance < 0.06


@pytest.mark.parametrize("width", [0.0, 0.1, 1.0])
def test_chance_is_what_the_share_varies_by(width):
    """Over many ways to deal the same real pictures out to the two parts, for samples alike and for samples apart."""
    real, samples = torch.randn(200, 3), width * torch.randn(100, 3)
    found = []
    for _ in range(400):
        order = torch.randperm(200)
        found.append(copying(sets(samples, real[order[:100]], real[order[100:]])))
    share = torch.tensor([one.share for one in found])
    assert share.mean().item() == pytest.approx(0.5, abs=5 * found[0].chance / 20)
    assert share.std().item() == pytest.approx(found[0].chance, rel=0.12)
    assert (found[0].chance > 0.499) == (width == 0)


def test_chance_of_samples_apart():
    train = 10.0 * torch.arange(40)[:, None]
    found = copying(sets(train + 4, train, train + 5))
    assert found.chance == pytest.approx(0.5 / 79**0.5) and found.share == 0


def test_a_share_of_copies():
    """Three samples in ten are training pictures with a little noise: 0.3 + 0.7 / 2 of all are nearer to training."""
    train, held_out, samples = torch.randn(3, 2000, 6)
    samples[:600] = train[700:1300] + 0.01 * torch.randn(600, 6)
    found = copying(sets(samples, train, held_out))
    assert found.share == pytest.approx(0.65, abs=0.05)
    assert torch.equal(found.nearest_train[:600], torch.arange(700, 1300) + 100)
    assert set(found.most_suspicious(600).tolist()) == set(range(600))
    swapped = copying(sets(samples, held_out, train))
    assert swapped.share == pytest.approx(1 - found.share)
    assert torch.equal(swapped.nearest_held_out[:600], torch.arange(700, 1300))


def test_ties_count_by_halves():
    same = torch.randn(50, 3)
    assert copying(sets(torch.randn(20, 3), same, same)).share == 0.5


def test_a_broken_sample():
    train, held_out, samples = torch.randn(3, 50, 6)
    samples[3] = torch.nan
    assert isnan(copying(sets(samples, train, held_out)).share)


def test_a_model_that_repeats_its_training_pictures():
    """Through pictures and a network: each sample's pair is the very picture that was copied, by its row in train."""
    train, held_out = noise_pictures(60), noise_pictures(40)
    copied = torch.randint(60, (40,))
    model = Game(Deterministic(Fixed(lambda z: train.floats(copied[: len(z)]))), 2)
    found = in_features(model, train, held_out, FeatureNetwork().eval())
    pairs = copying(found)
    in_set = torch.isin(copied, found.train_index)
    assert 0 < in_set.sum() < 40
    assert torch.equal(pairs.nearest_train[in_set], copied[in_set])
    assert pairs.distance_train[in_set].max() < 1e-3 < pairs.distance_train[~in_set].min()
    assert pairs.share > 0.7
    originals = held_out.floats(pairs.nearest_held_out)
    assert pairs.distance_held_out.min() > 1e-3 and originals.shape == (40, 3, 32, 32)
