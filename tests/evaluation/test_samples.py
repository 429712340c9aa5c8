"""Modes counted, pictures in features, distances of sets of pictures, and copies found, where they are known."""

import json
from math import isnan, log

import numpy as np
import pytest
import torch
from fixed import Fixed, game, noise_pictures
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import linalg
from torch.nn import functional as F
from torchvision.models import inception_v3

from alikit.data import GridMixture, house_numbers
from alikit.errors import AlikitError
from alikit.evaluation.features import FILE, FeatureNetwork, feature_network, in_features, inception
from alikit.evaluation.samples import (
    PER_FEATURE,
    checkerboard,
    copying,
    coverage,
    fidelity,
    frechet,
    nearest,
    precision_recall,
)

GRID = GridMixture()
NETWORK = FeatureNetwork().eval()
MEANS = Fixed(lambda x: x.mean((2, 3)))  # the simplest features of a picture: its mean colour


def at(*counts: int, offset: float = 0.0) -> torch.Tensor:
    """counts[m] points beside mean m, `offset` standard deviations to its right."""
    means = GRID.means[: len(counts)].repeat_interleave(torch.tensor(counts), 0)
    return means + torch.tensor([offset * GRID.std, 0.0])


@pytest.mark.parametrize(
    ("x", "modes", "within", "strict", "kl"),
    [
        (GRID.sample(10_000, seed=3).x, 25, pytest.approx(0.989, abs=0.004), 25, 0.0012),
        (at(0, 0, 500), 1, 1, 1, log(25)),
        (at(19, 20, 21, 1), 4, 1, 2, None),  # a mode counts strictly from 20 samples
        (at(*[20] * 25, offset=2.9), 25, 1, 25, 0),
        (at(*[20] * 25, offset=3.1), 25, 0, 0, 0),  # close is 3 standard deviations
        (3 * torch.randn(10_000, 2), 25, pytest.approx(0.025, abs=0.025), pytest.approx(2, abs=2), None),  # a smear
        (torch.full((100, 2), torch.nan), 0, 0, 0, log(25)),  # not 0, which is even
        (torch.cat([torch.zeros(50, 2), torch.full((50, 2), torch.inf)]), 1, 0.5, 1, log(25)),
    ],
)
def test_coverage_by_hand(x, modes, within, strict, kl):
    found = coverage(x)
    assert (found.modes, found.within_3std, found.strict_modes) == (modes, within, strict)
    assert kl is None or found.kl_uniform == pytest.approx(kl, abs=1e-3)


# In features.


def colours(z):
    return z.sigmoid()[:, :1, None, None].expand(-1, 3, 32, 32)


@torch.no_grad()
def test_larger_pictures_are_averaged_small_and_grey_ones_adapted_and_others_refused():
    for factor in (1, 2, 3):
        x = torch.rand(4, 3, 32 * factor, 32 * factor)
        found = NETWORK(x)
        assert found.shape == (4, NETWORK.num_features) and found.dtype == torch.float32 and found.min() >= 0
        small = x.reshape(4, 3, 32, factor, 32, factor).mean((3, 5))
        torch.testing.assert_close(found, NETWORK(small), rtol=1e-4, atol=1e-5)
    grey = torch.rand(4, 1, 28, 28)
    enlarged = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    torch.testing.assert_close(NETWORK(grey), NETWORK(enlarged))
    for shape in ((2, 32, 32), (3, 32, 48), (2,)):
        with pytest.raises(AlikitError, match=f"these examples are {'x'.join(map(str, shape))}: leave out fidelity"):
            NETWORK(torch.zeros(2, *shape))
    with pytest.raises(AlikitError, match="sets of 4 pictures"):
        in_features(game(colours), noise_pictures(20), noise_pictures(4), NETWORK)


def test_the_shipped_file_and_files_that_are_no_feature_network(tmp_path):
    """Small, in 16 bits, read whole, and its metadata says that all three heads are far above chance."""
    network = feature_network()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert FILE.stat().st_size < 2_000_000
    with safe_open(FILE, "pt") as stored:
        accuracy = json.loads(stored.metadata()["held_out_accuracy"])
        for name, value in network.state_dict().items():
            assert torch.equal(value, stored.get_tensor(name).to(value.dtype))
    assert accuracy["cifar10"] > 0.8 and accuracy["tiny_imagenet"] > 0.2 and accuracy["celeba"] > 0.85
    file = tmp_path / "network.safetensors"
    with pytest.raises(AlikitError, match=r"^[^\n]*network.safetensors is missing: install alikit again[^\n]*$"):
        feature_network(file)
    save_file({"w": torch.zeros(3)}, file)
    with pytest.raises(AlikitError, match=r"^[^\n]*network.safetensors is damaged[^\n]*$"):
        feature_network(file)


def test_inception_is_only_read_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    with pytest.raises(AlikitError, match=rf"{file} is missing: fetch http.*inception_v3_google-0cc3c7bd\.pth"):
        inception()
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(AlikitError, match="is damaged"):
        inception()
    net = inception_v3(weights=None, init_weights=False).eval()
    torch.save(net.state_dict(), file)
    found, x = inception(), torch.rand(2, 3, 299, 299)
    with torch.no_grad():
        torch.testing.assert_close(net.fc(found(x)), net(2 * x - 1))
        assert found(torch.rand(1, 3, 32, 32)).shape == (1, 2048)


def test_sets_of_pictures():
    """Equally many of each, no two alike, drawn from all of the data, and more than one batch."""
    train, held_out = noise_pictures(700), noise_pictures(300)
    samples, *real = in_features(game(colours), train, held_out, MEANS)
    for found, part in zip(real, (train, held_out), strict=True):
        assert len(found.unique(dim=0)) == 300 and not found.requires_grad
        every = part.floats().mean((2, 3))
        assert torch.cdist(found, every, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max() < 1e-6
    assert not torch.allclose(real[1], held_out.floats().mean((2, 3))), "the first may be of one class"
    assert len(samples) == 300 and len(samples.unique(dim=0)) > 100, "of 256 greys"


def test_samples_are_rounded_to_levels_and_broken_ones_have_no_features():
    def decode(z):
        x = colours(z) + (torch.arange(len(z)) == 1)[:, None, None, None]
        x[0, 0, 5, 5] = torch.nan
        return x

    levels = in_features(game(decode), noise_pictures(20), noise_pictures(20), MEANS)[0] * 255
    assert levels[0].isnan().all() and levels[1:].isfinite().all() and (levels[1] == 255).all()
    torch.testing.assert_close(levels[1:], levels[1:].round())


# Sets of features.


def test_frechet_of_two_gaussians():
    """By the matrix root."""
    a, b = torch.randn(300, 6) @ torch.randn(6, 6) + 100, torch.rand(200, 6) @ torch.randn(6, 6) + 100
    cov_a, cov_b = np.cov(a.double().numpy(), rowvar=False), np.cov(b.double().numpy(), rowvar=False)
    between = ((a.double().mean(0) - b.double().mean(0)) ** 2).sum().item()
    expected = between + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6) == frechet(b, a)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_a_frechet_distance_needs_enough_points(monkeypatch):
    """At one point a feature, samples of four fifths of the spread look better than the truth in each of ten draws; at
    the number that is asked for, in none."""
    n = PER_FEATURE * 64
    for few in ((n - 1, n), (n, n - 1)):
        with pytest.raises(
            AlikitError, match=f"64 features needs two sets of {n} examples; .* {few[0]} and {few[1]}: "
        ):
            frechet(*(torch.randn(number, 64) for number in few))
    monkeypatch.setattr("alikit.evaluation.samples.PER_FEATURE", 1)
    for number, expected in ((64, 10), (n, 0)):
        draws = torch.randn(10, 2, number, 64)
        assert sum(frechet(real, 0.8 * fake) < frechet(real, fake) for real, fake in draws) == expected


def test_broken_samples_leave_what_is_known_of_real_pictures():
    train, held_out, samples = torch.randn(3, 100, 4)
    whole = fidelity(samples, train, held_out)
    for value in (torch.nan, torch.inf):
        samples[3, 1] = value
        found = fidelity(samples, train, held_out)
        assert found["frechet"] == float("inf") and found["precision"] == pytest.approx(whole["precision"], abs=0.011)
        assert found["frechet_floor"] == whole["frechet_floor"] and isnan(copying(samples, train, held_out)["share"])


def test_precision_and_recall_by_hand():
    def share(points, centres):
        reach = (centres[:, None] - centres).norm(dim=2).sort(1).values[:, 3]
        return ((points[:, None] - centres).norm(dim=2) <= reach).any(1).double().mean().item()

    real, fake = torch.randn(40, 2).double(), 0.7 * torch.randn(31, 2).double() + 0.8
    assert precision_recall(real, fake) == (share(fake, real), share(real, fake))


def test_the_shipped_network_sees_that_pictures_are_spoiled():
    """In its features blurred and noisy house numbers are farther from house numbers than others of these are."""
    network = feature_network()
    n = PER_FEATURE * network.num_features
    train, held_out = house_numbers(n, seed=0), house_numbers(n, seed=1)
    blurred = F.avg_pool2d(held_out.floats(), 5, stride=1, padding=2)
    noisy = held_out.floats() + 0.1 * torch.randn(n, 3, 32, 32)
    models = [game(lambda z, x=x: x[: len(z)]) for x in (held_out.floats(), blurred, noisy)]
    same, soft, rough = (fidelity(*in_features(model, train, held_out, network)) for model in models)
    assert same["frechet"] < 3 * same["frechet_floor"]
    assert min(soft["frechet"], rough["frechet"]) > 2 * same["frechet"]
    assert max(soft["precision"], rough["precision"]) < same["precision"]


def test_nearest_in_blocks_and_by_brute_force():
    """A copy is at distance 0 however far out."""
    a, b = torch.randn(2101, 5), torch.randn(37, 5)
    every = (a[:, None] - b).norm(dim=2).min(1)
    for found, expected in zip(nearest(a, b), (every.values, every.indices), strict=True):
        torch.testing.assert_close(found, expected)
    b = torch.randn(300, 50) + 1000
    distance, index = nearest(b[200:], b)
    assert torch.equal(index, torch.arange(200, 300)) and (distance == 0).all()


def test_chance_is_what_the_share_varies_by():
    """Over many ways to deal the same real pictures out to the two parts, for samples alike and for samples apart."""
    for width in (0.0, 0.1):
        real, samples = torch.randn(200, 3), width * torch.randn(100, 3)
        orders = [torch.randperm(200) for _ in range(400)]
        found = [copying(samples, real[order[:100]], real[order[100:]]) for order in orders]
        share, chance = torch.tensor([one["share"] for one in found]), found[0]["chance"]
        assert share.mean().item() == pytest.approx(0.5, abs=5 * chance / 20)
        assert share.std().item() == pytest.approx(chance, rel=0.12)
        assert (chance > 0.499) == (width == 0)


def test_a_share_of_copies():
    """Three samples in ten are training pictures with a little noise: 0.3 + 0.7 / 2 of all are nearer to training."""
    train, held_out, samples = torch.randn(3, 2000, 6)
    samples[:600] = train[700:1300] + 0.01 * torch.randn(600, 6)
    share = copying(samples, train, held_out)["share"]
    assert share == pytest.approx(0.65, abs=0.05)
    assert copying(samples, held_out, train)["share"] == pytest.approx(1 - share)
    assert copying(samples, train, train)["share"] == 0.5, "ties count by halves"
    apart = 10.0 * torch.arange(40)[:, None]
    assert copying(apart + 4, apart, apart + 5) == {"share": 0, "chance": pytest.approx(0.5 / 79**0.5)}


# A checkerboard.


def smooth_pictures(n: int, height: int = 12, width: int = 16, noise: float = 0.04) -> torch.Tensor:
    """One slow wave each, in colour, with white noise."""
    angles = torch.rand(n, 3, 1, 1) * 6 + torch.linspace(0, 6.28, height)[:, None] + torch.linspace(0, 6.28, width)
    return 0.5 + 0.2 * angles.sin() + noise * torch.randn(n, 3, height, width)


@pytest.mark.parametrize(
    ("amplitudes", "luma", "chroma"),
    [
        ((0, 0, 0), 1, 1),
        ((1, 1, 1), 1 + 3 * 0.01**2 * 192 / 0.04**2, 1),  # noise has a third of the power in a mean of three channels
        ((1, 0, -1), 1, 1 + 2 * 0.01**2 * 192 / (4 * 0.04**2)),  # and twice in each difference of two
    ],
)
def test_a_chessboard_by_hand(amplitudes, luma, chroma):
    """Added to smooth pictures in white noise; others of single pixels, in one direction alone, are not meant."""
    torch.manual_seed(0)
    board = 1 - 2.0 * ((torch.arange(12)[:, None] + torch.arange(16)) % 2)
    smooth, stripes = smooth_pictures(8000), 0.01 * (-1.0) ** torch.arange(16)
    marked = smooth + 0.01 * torch.tensor(amplitudes)[:, None, None] * board
    found = checkerboard(marked, smooth + stripes)
    assert found == {
        "luma": pytest.approx(luma, rel=0.07),  # 4 standard deviations
        "chroma": pytest.approx(chroma, rel=0.07),
        "luma_real": pytest.approx(1, abs=0.07),
        "chroma_real": pytest.approx(1, abs=0.07),
        "n": 8000,
    }


def test_a_checkerboard_of_grey_and_odd_and_broken_pictures():
    torch.manual_seed(0)
    x = smooth_pictures(700)
    whole, grey = checkerboard(x, x), checkerboard(x.mean(1, keepdim=True), x[:300, :1])
    assert grey.keys() == {"luma", "luma_real", "n"} and grey["luma"] == pytest.approx(whole["luma"], rel=0.1)
    odd = smooth_pictures(300, 13, 17)
    assert checkerboard(odd, odd) == checkerboard(odd[..., :12, :16], odd[..., :12, :16])
    for value in (torch.nan, torch.inf):
        broken = x.clone()
        broken[600, 1, 2, 3] = value
        found = checkerboard(broken, x)
        assert isnan(found["luma"]) and isnan(found["chroma"]) and found["luma_real"] == whole["luma"]
    without_colour = checkerboard(x[:, :1].expand(-1, 3, -1, -1), x)
    assert isnan(without_colour["chroma"]) and without_colour["luma"] == checkerboard(x[:, :1], x)["luma"]
    for nothing_there in (torch.full((9, 1, 28, 28), 77 / 255), torch.rand(9, 1, 8, 5)):
        assert isnan(checkerboard(nothing_there, x)["luma"])
    with pytest.raises(AlikitError, match=r"seen in pictures, and these examples are 2: leave checkerboard out"):
        checkerboard(torch.randn(9, 2), torch.randn(9, 2))
