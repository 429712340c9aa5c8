"""Packed weights: how small, how near, and what is refused; and checkpoints that are not safe to open.

More of what is refused stands in `tests/faults/bad_kinds.py`.
"""

import io
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from alikit import AlikitError, reading
from alikit.runs import save_weights
from alikit.storage import PICKLE, from_file, pack, read_archive, to_file, unpack


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 2), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 5, 4, 2), nn.Conv2d(5, 4, 1))
    net[1].running_var.fill_(3e-7)  # float16 knows this to 20 % only
    with torch.no_grad():
        net[2].weight[:, 1] *= 1000  # one loud output channel must not cost the others their precision
    return net


@pytest.mark.parametrize("limit", [10**6, 100], ids=["float16", "int8"])
def test_anyone_can_read_the_file(tmp_path, limit):
    """With safetensors and a multiplication; in 8 bits to half a step of each output channel."""
    net, file = network(), tmp_path / "net.safetensors"
    file.write_bytes(to_file(net, limit))
    assert {to_file(net, limit) for _ in range(20)} == {file.read_bytes()}  # with metadata it would not be
    stored = load_file(file)
    for name, tensor in net.state_dict().items():
        scale = stored.get(f"{name}.scale", torch.ones(()))
        within = scale / 2 if f"{name}.scale" in stored else 2**-11 * tensor.abs() + 1e-7
        if tensor.ndim > 1:
            assert stored[name].dtype == (torch.float16 if limit > 100 else torch.int8)
            assert ((stored[name] * scale - tensor).abs() <= within * 1.001).all(), name
        else:
            assert torch.equal(stored[name], tensor), name
    from_file(again := network(), file)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in unpack(stored).items())
    if limit == 100:
        assert stored["0.weight.scale"].shape == (8, 1, 1, 1) and stored["2.weight.scale"].shape == (1, 5, 1, 1)


@pytest.mark.parametrize("limit", [10**6, 100], ids=["float16", "int8"])
@pytest.mark.parametrize("norm", [lambda layer: layer, spectral_norm, weight_norm])
def test_a_layer_may_be_used_twice_and_have_a_norm(tmp_path, limit, norm):
    """The file holds it under both names."""
    layers = norm(nn.Linear(4, 4)), norm(nn.Linear(4, 4))
    net, again = (nn.Sequential(layer, nn.ReLU(), layer) for layer in layers)
    (tmp_path / "net.safetensors").write_bytes(to_file(net, limit))
    from_file(again, tmp_path / "net.safetensors")
    torch.testing.assert_close(again.state_dict(), net.state_dict(), atol=0.01, rtol=0)
    save_weights(tmp_path, net.state_dict())
    torch.testing.assert_close(load_file(tmp_path / "weights.safetensors"), dict(net.state_dict()), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("other", torch.zeros(1)),
        ("1.bias", torch.full((8,), torch.nan)),
        ("1.bias", torch.zeros(8, dtype=torch.int64)),
        ("0.weight.scale", torch.full((8, 1, 1, 1), torch.inf)),
        ("0.weight.scale", torch.ones(9, 1, 1, 1, 1)),
        ("0.weight.scale", None),
        ("0.weight", None),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, name, tensor):
    file, state = tmp_path / "net.safetensors", pack(network(), limit=100) | {name: tensor}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, file)
    with pytest.raises(AlikitError, match=r"net.safetensors is damaged or not [^\n]*: record the run again$"):
        from_file(network(), file)
    file.write_bytes(bytes(2**20 + 10_000))
    with pytest.raises(
        AlikitError, match=r"cannot read [^\n]*net.safetensors \(larger than [\d,]+ bytes\): install it"
    ):
        from_file(network(), file, "install it again")


# Checkpoints.

STATE = {"step": 3, "model": {"weight": torch.arange(1000.0)}, "random": torch.get_rng_state()}


@pytest.fixture(scope="module")
def whole() -> bytes:
    torch.save(STATE, file := io.BytesIO())
    return file.getvalue()


def test_loading_takes_no_more_memory_than_the_file_takes_space(tmp_path, whole):
    """Parts that share their bytes; a part larger than a list of names and shapes."""
    for name in ("shared", "large"):
        with zipfile.ZipFile(file := io.BytesIO(whole), "a") as parts:
            if name == "shared":
                parts.filelist += [max(parts.filelist, key=lambda part: part.file_size)] * 100
                parts._didModify = True
            else:
                parts.writestr("more.pkl", bytes(PICKLE + 1))
        (tmp_path / name).write_bytes(file.getvalue())
        with pytest.raises(AlikitError, match=r"^x is damaged[^\n]*$"), reading.boundary("x", "train again"):
            read_archive(tmp_path / name)


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
