"""The feature network: what it takes, what its file holds, and that sets of pictures are what they should be."""

import json

import pytest
import torch
from fixed import Fixed, game, noise_pictures
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import inception_v3

from alikit.errors import AlikitError
from alikit.evaluation import FeatureNetwork, feature_network, in_features, inception
from alikit.evaluation.features import FILE

NETWORK = FeatureNetwork().eval()
MEANS = Fixed(lambda x: x.mean((2, 3)))  # the simplest features of a picture: its mean colour


def colours(z):
    return z.sigmoid()[:, :1, None, None].expand(-1, 3, 32, 32)


@torch.no_grad()
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_larger_pictures_are_averaged(factor):
    x = torch.rand(4, 3, 32 * factor, 32 * factor)
    found = NETWORK(x)
    assert found.shape == (4, NETWORK.num_features) and found.dtype == torch.float32 and found.min() >= 0
    small = x.reshape(4, 3, 32, factor, 32, factor).mean((3, 5))
    torch.testing.assert_close(found, NETWORK(small), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 32, 32), (3, 32, 48), (2,)])
def test_other_examples_are_refused(shape):
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
    assert not list(tmp_path.iterdir())
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(AlikitError, match="is damaged"):
        inception()
    net = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
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
