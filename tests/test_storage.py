"""Packed weights: how small, how near, and what is refused; and checkpoints that would harm whoever opens them."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from alikit import AlikitError, reading
from alikit.recipes import RECIPES
from alikit.storage import from_file, pack, read_archive, to_file, unpack


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 2), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 5, 4, 2), nn.Conv2d(5, 4, 1))
    net[1].running_var.fill_(3e-7)  # float16 knows this to 20 % only
    with torch.no_grad():
        net[2].weight[:, 1] *= 1000  # one loud output channel must not cost the others their precision
    return net


@pytest.mark.parametrize("limit", [10**6, 100], ids=["float16", "int8"])
def test_anyone_can_read_the_file(tmp_path, limit):
    """With safetensors and a multiplication, to half a step of each output channel in 8 bits."""
    net, file = network(), tmp_path / "net.safetensors"
    file.write_bytes(to_file(net, limit))
    stored = load_file(file)
    for name, tensor in net.state_dict().items():
        scale = stored.get(f"{name}.scale", torch.ones(()))
        within = scale / 2 if f"{name}.scale" in stored else 2**-11 * tensor.abs() + 1e-7
        if tensor.ndim > 1:
            assert stored[name].dtype == (torch.float16 if limit > 100 else torch.int8)
            assert ((stored[name] * scale - tensor).abs() <= within * 1.001).all(), name
        else:
            assert torch.equal(stored[name], tensor), name
    from_file(again := nn.Sequential(*network()), file)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in unpack(stored).items())
    if limit == 100:
        assert stored["0.weight.scale"].shape == (8, 1, 1, 1) and stored["2.weight.scale"].shape == (1, 5, 1, 1)


def _with(**changed: torch.Tensor) -> dict:
    return pack(network(), limit=100) | {name.replace("_", "."): tensor for name, tensor in changed.items()}


@pytest.mark.parametrize(
    "state",
    [
        {"other": torch.zeros(1)},
        _with(**{"1_bias": torch.full((8,), torch.nan)}),
        _with(**{"1_bias": torch.zeros(8, dtype=torch.int64)}),
        _with(**{"1_bias": torch.zeros(8, dtype=torch.complex64)}),
        _with(**{"1_bias": torch.zeros(8, 1)}),
        _with(**{"0_weight_scale": torch.full((8, 1, 1, 1), torch.inf)}),
        _with(**{"0_weight_scale": torch.ones(9, 1, 1, 1, 1)}),
        {name: tensor for name, tensor in _with().items() if name != "0.weight.scale"},
        {name: tensor for name, tensor in _with().items() if name != "0.weight"},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, state):
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(AlikitError, match=r"net.safetensors is damaged or not what it should be: take the recorded"):
        from_file(network(), tmp_path / "net.safetensors")


def test_a_file_larger_than_the_network_is_not_read(tmp_path):
    with open(tmp_path / "net.safetensors", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(AlikitError, match=r"cannot read .*net.safetensors \(larger than [\d,]+ bytes\): install it"):
        from_file(network(), tmp_path / "net.safetensors", "install it again")


@pytest.mark.parametrize("name", ["cifar10", "svhn", "celeba", "tiny-imagenet", "celeba-small"])
def test_networks_of_pictures_are_small_as_files(name):
    """At most 16 MB, so that a code host shows them: what float16 needs more than 0.9 MB for takes 8 bits."""
    networks, z_dim = RECIPES[name].networks, RECIPES[name].z_dim
    shape = (3, networks.size, networks.size)
    for network in (networks.build_encoder("gaussian", shape, z_dim), networks.build_decoder(shape, z_dim, None)):
        assert len(to_file(network)) <= 16_000_000
        assert any(tensor.dtype == torch.int8 for tensor in pack(network).values())


# Checkpoints.

STATE = {"step": 3, "model": {"weight": torch.arange(1000.0)}, "random": torch.get_rng_state()}


@pytest.fixture(scope="module")
def whole() -> bytes:
    torch.save(STATE, file := io.BytesIO())
    return file.getvalue()


def repacked(whole: bytes, how: int = zipfile.ZIP_STORED, **changed: bytes) -> bytes:
    """The archive with some parts changed, by the end of their names."""
    with zipfile.ZipFile(io.BytesIO(whole)) as parts, zipfile.ZipFile(file := io.BytesIO(), "w", how) as again:
        for part in parts.infolist():
            again.writestr(part.filename, changed.get(part.filename.rpartition("/")[2], parts.read(part)))
    return file.getvalue()


def shared(whole: bytes) -> bytes:
    """An archive that lists its largest part a hundred times, where it lies once."""
    with zipfile.ZipFile(file := io.BytesIO(whole), "a") as parts:
        parts.filelist += [max(parts.filelist, key=lambda part: part.file_size)] * 100
        parts._didModify = True
    return file.getvalue()


class Hostile:
    """A pickle that calls a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def pickled(*call, protocol: int = 2) -> bytes:
    return pickle.dumps(Hostile(*call), protocol)


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: repacked(whole, zipfile.ZIP_DEFLATED),
        shared,
        lambda whole: repacked(whole, **{"data.pkl": pickled(os.mkdir, "trace")}),
        lambda whole: repacked(whole, **{"data.pkl": bytes(2**24 + 1)}),
        lambda whole: repacked(whole, **{"data.pkl": pickled(bytearray, 10**9)}),
        lambda whole: repacked(whole, **{"data.pkl": pickled(os.mkdir, "trace", protocol=4)}),
        lambda whole: pickled(os.mkdir, "trace"),
    ],
    ids=["deflated", "parts that share bytes", "code", "a large pickle", "a GB", "a later protocol", "no archive"],
)
def test_a_checkpoint_cannot_harm(tmp_path, monkeypatch, whole, harm):
    monkeypatch.chdir(tmp_path)
    for name, content, fine in (("good.pt", repacked(whole), True), ("bad.pt", harm(whole), False)):
        (tmp_path / name).write_bytes(content)
        if fine:
            assert read_archive(tmp_path / name)["step"] == 3
            continue
        with pytest.raises(AlikitError, match=r"^bad.pt is damaged[^\n]*$"), reading.boundary(name, "train again"):
            read_archive(tmp_path / name)
    assert not (tmp_path / "trace").exists()


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_changed_bit_of_a_checkpoint_changes_nothing_or_is_found(tmp_path_factory, whole, place, bit):
    changed = bytearray(whole)
    changed[place % len(whole)] ^= 1 << bit
    file = tmp_path_factory.getbasetemp() / "changed.pt"
    file.write_bytes(changed)
    try:
        with reading.boundary(file, "train again"):
            found = read_archive(file)
    except AlikitError:
        return
    assert found["step"] == 3 and torch.equal(found["model"]["weight"], STATE["model"]["weight"])
    assert torch.equal(found["random"], STATE["random"])
