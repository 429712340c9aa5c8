"""The feature network: what it takes, what its file holds, and that sets of pictures are what they say."""

import json

import pytest
import torch
from fixed import Fixed, noise_pictures
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision.models import inception_v3

from alikit.data import Dataset, digits
from alikit.errors import AlikitError
from alikit.evaluation import FeatureNetwork, feature_network, in_features, inception
from alikit.evaluation.features import FILE
from alikit.models import Game
from alikit.networks import Deterministic

NETWORK = FeatureNetwork().eval()
MEANS = Fixed(lambda x: x.mean((2, 3)))  # the simplest features of a picture: its mean colour


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def game(decode) -> Game:
    return Game(Deterministic(Fixed(decode)), 3)


def colours(z):
    return z.sigmoid()[:, :, None, None].expand(-1, 3, 32, 32)


@torch.no_grad()
def test_shapes():
    found = NETWORK(torch.rand(5, 3, 32, 32))
    assert found.shape == (5, NETWORK.num_features) and found.dtype == torch.float32 and found.min() >= 0


@torch.no_grad()
@pytest.mark.parametrize("factor", [2, 3])
def test_larger_pictures_are_averaged(factor):
    x = torch.rand(4, 3, 32 * factor, 32 * factor)
    small = x.reshape(4, 3, 32, factor, 32, factor).mean((3, 5))
    torch.testing.assert_close(NETWORK(x), NETWORK(small), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 32, 32), (3, 32, 48), (2,)])
def test_other_examples_are_refused(shape):
    with pytest.raises(AlikitError, match=f"these examples are {'x'.join(map(str, shape))}"):
        NETWORK(torch.zeros(2, *shape))


def test_the_shipped_file():
    """Small, in 16 bits, and it says how good the network is: far above chance for all three heads."""
    assert FILE.stat().st_size < 2_000_000
    with safe_open(FILE, "pt") as stored:
        known = {name: json.loads(value) for name, value in stored.metadata().items()}
        assert {stored.get_tensor(name).dtype for name in stored.keys()} == {torch.float16, torch.int64}  # noqa: SIM118
    accuracy = known["held_out_accuracy"]
    assert accuracy["cifar10"] > 0.8 and accuracy["tiny_imagenet"] > 0.2 and accuracy["celeba"] > 0.85
    assert known.keys() == {"held_out_accuracy", "held_out_pictures", "pictures_seen", "seed", "steps"}


def test_the_shipped_network_is_read_whole():
    network = feature_network()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    with safe_open(FILE, "pt") as stored:
        for name, value in network.state_dict().items():
            assert torch.equal(value, stored.get_tensor(name).to(value.dtype))


def test_files_that_are_no_feature_network(tmp_path):
    file = tmp_path / "network.safetensors"
    with pytest.raises(AlikitError, match=r"network.safetensors is missing: install alikit again"):
        feature_network(file)
    file.write_bytes(FILE.read_bytes()[:5000])
    with pytest.raises(AlikitError, match=r"network.safetensors is damaged"):
        feature_network(file)
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(AlikitError, match=r"damaged or [^\n]*: install alikit again, [^\n]*$"):
        feature_network(file)


def test_inception_is_only_read_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(AlikitError, match=r"fetch http.*inception_v3_google-0cc3c7bd\.pth to .*hub"):
        inception()
    assert not list(tmp_path.iterdir())
    file = tmp_path / "hub" / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(AlikitError, match="is damaged"):
        inception()
    net = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
    torch.save(net.state_dict(), file)
    found, x = inception(), torch.rand(2, 3, 299, 299)
    with torch.no_grad():
        torch.testing.assert_close(net.fc(found(x)), net(2 * x - 1))
        assert found(torch.rand(1, 3, 32, 32)).shape == (1, found.num_features)


# Sets of pictures.


def test_sets_hold_what_they_say():
    train, held_out = noise_pictures(40), noise_pictures(30)
    sets = in_features(game(colours), train, held_out, MEANS)
    for found, part, index in ((sets.train, train, sets.train_index), (sets.held_out, held_out, sets.held_out_index)):
        assert len(index.unique()) == 30
        torch.testing.assert_close(found, part.floats(index).mean((2, 3)))
    assert sets.x_tilde.shape == (30, 3, 32, 32) and sets.x_tilde.dtype == torch.uint8
    torch.testing.assert_close(sets.samples, sets.x_tilde[:, :, 0, 0] / 255)
    assert not torch.equal(sets.train_index, torch.arange(30)), "the first of a folder would be of one class"


def test_fewer_pictures_on_request_and_more_than_a_batch():
    sets = in_features(game(colours), noise_pictures(700), noise_pictures(600), MEANS, n=501)
    assert [len(part) for part in (sets.samples, sets.train, sets.held_out, sets.x_tilde)] == [501] * 4
    assert len(sets.samples.unique(dim=0)) > 490


def test_samples_are_rounded_to_levels_and_kept_in_range():
    sets = in_features(game(lambda z: colours(z) * 0 + 1.7), noise_pictures(9), noise_pictures(9), MEANS)
    assert (sets.x_tilde == 255).all() and (sets.samples == 1).all()


def test_broken_samples_have_no_features():
    def decode(z):
        x = colours(z).clone()
        x[0, 0, 5, 5] = torch.nan
        return x

    sets = in_features(game(decode), noise_pictures(20), noise_pictures(20), NETWORK)
    assert sets.samples[0].isnan().all() and sets.samples[1:].isfinite().all()


def test_what_cannot_be_compared():
    with pytest.raises(AlikitError, match="sets of 4 pictures"):
        in_features(game(colours), noise_pictures(20), noise_pictures(4), MEANS)
    grey = digits()
    with pytest.raises(AlikitError, match="1x8x8"):
        in_features(game(colours), grey, grey, NETWORK)
    with pytest.raises(AlikitError, match="these examples are 2"):
        in_features(game(colours), Dataset("points", torch.zeros(9, 2)), Dataset("points", torch.zeros(9, 2)), NETWORK)


def test_the_network_is_asked_without_gradients():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    assert not in_features(game(colours), noise_pictures(9), noise_pictures(9), layer).train.requires_grad
