"""Packed weights: how small, how near, and what is refused."""

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.storage import deflated, from_file, halved, inflated, pack, to_file, unpack, whole


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 2), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 5, 4, 2), nn.Conv2d(5, 4, 1))
    net[1].running_var.fill_(3e-7)  # float16 knows this to 20 % only
    with torch.no_grad():
        net[2].weight[:, 1] *= 1000  # one loud output channel must not cost the others their precision
    return net


def test_half_by_default(tmp_path):
    net, other = network(), network()
    state = pack(net)
    assert state["0.weight"].dtype == torch.float16 and state["1.running_var"].dtype == torch.float32
    (tmp_path / "net.safetensors").write_bytes(to_file(net))
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    from_file(other, tmp_path / "net.safetensors")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=2**-11, atol=1e-7)
    assert torch.equal(other[1].running_var, net[1].running_var)


def test_8_bits_where_half_is_too_large():
    net = network()
    half, packed = pack(net), pack(net, limit=100)
    assert {packed[f"{place}.weight"].dtype for place in (0, 2, 3)} == {torch.int8}
    assert packed["0.weight.scale"].shape == (8, 1, 1, 1) and packed["2.weight.scale"].shape == (1, 5, 1, 1)
    assert sum(t.nbytes for t in packed.values()) < 0.75 * sum(t.nbytes for t in half.values())
    back = unpack(packed)
    assert back.keys() == net.state_dict().keys()
    for place, rest in ((0, (1, 2, 3)), (2, (0, 2, 3)), (3, (1, 2, 3))):
        weight = net[place].weight.detach()
        step = weight.abs().amax(rest, keepdim=True) / 127  # of the channel, so half of it is the largest error
        assert ((back[f"{place}.weight"] - weight).abs() <= step / 2 * 1.001).all()
    x = torch.rand(2, 3, 16, 16)
    other = network()
    other.load_state_dict(back)
    error = (other.eval()(x) - net.eval()(x)).square().mean() / net(x).var()
    assert 0 < error < 1e-3


def test_what_does_not_fit_is_refused(tmp_path):
    file = tmp_path / "net.safetensors"
    with pytest.raises(AlikitError, match="is missing"):
        from_file(network(), file)
    file.write_bytes(b"no such thing")
    with pytest.raises(AlikitError, match="is damaged"):
        from_file(network(), file)
    save_file({"other": torch.zeros(1)}, file)
    with pytest.raises(AlikitError, match="or holds another network"):
        from_file(network(), file)


def test_deflated_numbers_come_back_bit_by_bit():
    torch.manual_seed(0)
    x = torch.randn(60, 50)
    state = {"float": x, "half": x.half(), "double": x.double(), "byte": (30 * x).round().to(torch.int8)}
    state |= {"labels": torch.randint(10, (2000,)), "little": torch.randn(3), "turned": x.T, "one": torch.tensor(4)}
    small = deflated(state)
    assert sum(t.nbytes for t in small.values()) < 0.92 * sum(t.nbytes for t in state.values())
    assert torch.equal(small["little"], state["little"]) and small["half.deflated"].nbytes < 0.94 * state["half"].nbytes
    back = inflated(small)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor), name
    assert inflated(state).keys() == state.keys()


@pytest.mark.parametrize("cut", [lambda t: t[:-9], lambda t: t * 0, lambda t: t[:0]])
def test_damage_is_found(cut):
    small = deflated({"x": torch.randn(60, 50)})
    for damaged in (small | {"x.deflated": cut(small["x.deflated"])}, {"x.deflated": small["x.deflated"]}):
        with pytest.raises(SafetensorError, match="x is damaged"):
            inflated(damaged)


def test_tables_are_halved_where_they_are_large():
    tables = {"z": torch.randn(100, 8), "mean": torch.randn(8, dtype=torch.float64), "y": torch.ones(4, 2).byte()}
    assert halved(tables)["z"] is tables["z"]
    small = halved(tables, limit=1000)
    assert small["z"].dtype == torch.float16 and small["mean"].equal(tables["mean"]) and small["y"].equal(tables["y"])
    torch.testing.assert_close(whole(small)["z"], tables["z"], rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "celeba", "tiny-imagenet", "celeba-small"])
def test_networks_of_pictures_are_small_as_files(name):
    """At most 16 MB, so that a code host shows them: what float16 needs more than 0.9 MB for takes 8 bits."""
    networks, z_dim = RECIPES[name].networks, RECIPES[name].z_dim
    shape = (3, networks.size, networks.size)
    built = {
        "encoder": networks.build_encoder("gaussian", shape, z_dim),
        "decoder": networks.build_decoder(shape, z_dim, None),
    }
    for part, network in built.items():
        assert len(to_file(network)) <= 16_000_000
        in_8_bits = any(tensor.dtype == torch.int8 for tensor in pack(network).values())
        assert in_8_bits, part
