"""Linear probes of codes whose classes are known to be there, or not to be."""

import pytest
import torch
from fixed import Fixed

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.evaluation import probe, probes
from alikit.models import Game
from alikit.networks import Deterministic


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(v):
    return v


def game(encode=same, z_dim: int = 3) -> Game:
    return Game(Deterministic(Fixed(same)), z_dim, Deterministic(Fixed(encode)))


def corners(n: int, noise: float = 0.3) -> Dataset:
    """Classes a, b and c around three corners, of unlike scale and far from 0; half of all examples are c."""
    labels = torch.randint(0, 4, (n,)).clamp(max=2)
    x = (torch.eye(3)[labels] + noise * torch.randn(n, 3)) * torch.tensor([1.0, 100.0, 0.01]) + 50
    return Dataset("corners", x, labels, ("a", "b", "c"))


def guesses(found, z):
    return (z @ found.weight.T + found.bias).argmax(1)


def test_classes_that_are_there():
    held_out = corners(1000, noise=0.1)
    found = probe(game(), corners(1500, noise=0.1), held_out)
    assert found.accuracy == found.balanced == 1
    assert (found.weight.shape, found.bias.shape, found.names) == ((3, 3), (3,), ("a", "b", "c"))
    assert found.baseline == pytest.approx((held_out.labels == 2).float().mean().item())
    assert found.unconverged == 0 and found.attributes == {}


def test_weights_are_for_z_as_it_comes():
    held_out = corners(2000)
    found = probe(game(), corners(2000), held_out)
    right = guesses(found, held_out.x) == held_out.labels
    assert right.double().mean().item() == pytest.approx(found.accuracy, abs=0.002)
    each = [right[held_out.labels == label].double().mean().item() for label in range(3)]
    assert sum(each) / 3 == pytest.approx(found.balanced, abs=0.004)
    assert 0.8 < found.balanced < found.accuracy < 0.99


def test_noise_tells_nothing():
    found = probe(game(torch.randn_like), corners(2000), corners(1000))
    assert found.accuracy == pytest.approx(found.baseline, abs=0.03)
    assert found.balanced == pytest.approx(1 / 3, abs=0.05)


def test_components_of_the_pixels_stand_beside_the_code():
    """A code of one number that keeps the rare class out of sight, in data whose first component shows it."""
    train, held_out = corners(1500, noise=0.05), corners(800, noise=0.05)
    found = probe(game(lambda x: x[:, :1], z_dim=1), train, held_out)
    is_b = (held_out.labels == 1).float().mean().item()  # the second number is by far the largest
    is_a = (held_out.labels == 0).float().mean().item()
    assert found.accuracy == pytest.approx(1 - is_b, abs=0.02)
    assert found.pixels == pytest.approx(1 - is_a, abs=0.02)
    assert found.pixels_balanced == pytest.approx(2 / 3, abs=0.02)


def test_as_many_components_as_the_pictures_have():
    """Pictures of 2x1 pixels, and a code of five numbers."""
    x = torch.randint(0, 256, (400, 1, 2, 1), dtype=torch.uint8)
    data = Dataset("pictures", x, (x[:, 0, 0, 0] > 127).long(), ("dark", "light"))
    found = probe(
        game(lambda x: torch.randn(len(x), 5), z_dim=5), data.select(slice(300)), data.select(slice(300, 400))
    )
    assert found.pixels > 0.95 > 0.7 > found.accuracy


@pytest.mark.parametrize("examples", [40, 60, 80])
def test_fewer_examples_than_components(examples):
    """N examples span N - 1 directions; one more would be rounding, blown up to the size of the others."""
    labels = torch.arange(examples + 200) % 2
    x = torch.randn(len(labels), 3, 8, 8) / 10 + labels[:, None, None, None]
    train, held_out = (
        Dataset("lit", x[part], labels[part], ("a", "b")) for part in (slice(examples), slice(examples, None))
    )
    found = probe(game(lambda x: x.flatten(1)[:, :60], z_dim=60), train, held_out)
    assert found.pixels > 0.95


def test_a_number_that_is_constant_but_for_rounding():
    """Its weight would be a million times that of the others, and what it says of held-out examples noise."""

    def encode(x):
        return torch.cat([x, 1 + 1e-9 * torch.randn(len(x), 3)], 1)

    found = probe(game(encode, z_dim=6), corners(1000), corners(1000))
    assert (found.weight[:, 3:] == 0).all() and found.accuracy > 0.9


def test_large_pictures_are_averaged_before_components_are_taken():
    """Stripes one pixel wide in one class, grey in the other: in the average of 64x64 to 32x32 both are the same."""
    labels = torch.arange(120) % 2
    stripes = (255 * (torch.arange(64) % 2)).expand(1, 64, 64)
    grey = torch.full((1, 64, 64), 128)
    x = torch.stack([stripes if label else grey for label in labels]) + torch.randint(-20, 20, (120, 1, 1, 1))
    data = Dataset("stripes", x.clamp(0, 255).byte(), labels, ("grey", "stripes"))
    found = probe(
        game(lambda x: x[:, 0, :1, :2].flatten(1), z_dim=2), data.select(slice(80)), data.select(slice(80, 120))
    )
    assert found.accuracy == 1 and found.pixels < 0.9


def test_two_classes_have_two_rows():
    train = corners(600, noise=0.1)
    two = train.select(train.labels < 2)
    found = probe(game(), two, two)
    assert found.weight.shape == (2, 3) and found.accuracy == 1
    assert torch.equal(guesses(found, two.x), two.labels)
    assert found.names == ("a", "b")


def test_a_class_that_training_lacks_has_no_row():
    train, held_out = corners(600, noise=0.1), corners(500, noise=0.1)
    found = probe(game(), train.select(train.labels != 1), held_out)
    assert found.names == ("a", "c") and found.weight.shape == (2, 3)
    assert found.accuracy == pytest.approx(1 - (held_out.labels == 1).float().mean().item())
    assert found.balanced == pytest.approx(2 / 3)


def test_labels_without_names():
    train = corners(300, noise=0.1)
    assert probe(game(), Dataset("d", train.x, train.labels), train).names == ("0", "1", "2")


def traits(n: int) -> Dataset:
    """Attributes read off the sign of x, of chance alone, of one in twenty, and of none."""
    x = torch.randn(n, 3)
    columns = [x[:, 0] > 0, torch.rand(n) < 0.5, x[:, 1] > 1.645, torch.zeros(n, dtype=torch.bool)]
    names = ("tall", "lucky", "rare", "never")
    return Dataset("traits", x, torch.stack(columns, 1).to(torch.uint8), names)


def test_attributes():
    train, held_out = traits(3000), traits(2000)
    found = probe(game(), train, held_out)
    logits = held_out.x @ found.weight.T + found.bias
    right = (logits > 0) == held_out.labels
    assert found.names == ("tall", "lucky", "rare", "never") and found.weight.shape == (4, 3)
    for i, name in enumerate(found.names):
        one = found.attributes[name]
        assert one["accuracy"] == pytest.approx(right[:, i].double().mean().item(), abs=0.001)
        truth = held_out.labels[:, i] == 1
        each = [right[some, i].double().mean().item() for some in (truth, ~truth) if some.any()]
        assert one["balanced"] == pytest.approx(sum(each) / len(each), abs=0.01)
    assert found.attributes["tall"]["accuracy"] > 0.98
    assert found.attributes["lucky"]["balanced"] == pytest.approx(0.5, abs=0.05)
    assert found.attributes["rare"]["baseline"] == pytest.approx(0.95, abs=0.02)
    assert found.attributes["rare"]["accuracy"] > 0.97
    assert found.attributes["never"] == {"accuracy": 1, "balanced": 1, "baseline": 1}
    for name in ("accuracy", "balanced", "baseline"):
        assert getattr(found, name) == pytest.approx(sum(one[name] for one in found.attributes.values()) / 4)
    # Three components of three numbers lose nothing.
    assert found.pixels == pytest.approx(found.accuracy, abs=0.01)


def test_fits_that_were_stopped_are_counted(monkeypatch):
    monkeypatch.setattr(probes, "ITERATIONS", 1)
    assert probe(game(), traits(300), traits(300)).unconverged == 6  # the fourth attribute has nothing to fit


def test_a_number_that_is_always_the_same():
    found = probe(game(lambda x: torch.cat([x, torch.ones(len(x), 1)], 1), z_dim=4), corners(500), corners(500))
    assert found.accuracy > 0.8 and found.weight.isfinite().all() and found.bias.isfinite().all()


def test_examples_are_drawn_from_all_of_the_data(monkeypatch):
    """Sorted by class, as folders are, the first ones would be of one class."""
    monkeypatch.setattr(probes, "TRAIN_EXAMPLES", 100)
    monkeypatch.setattr(probes, "HELD_OUT_EXAMPLES", 80)
    asked = []

    def encode(x):
        asked.append(len(x))
        return x

    data = corners(700, noise=0.1)
    data = data.select(data.labels.argsort())
    assert probe(game(encode), data, data).accuracy > 0.95
    assert asked == [100, 80]


def test_numbers_sum_it_up():
    names = {"accuracy", "balanced", "baseline", "pixels", "pixels_balanced", "n", "unconverged"}
    found = probe(game(), corners(200), corners(150)).numbers()
    assert found.keys() == names and found["n"] == 150


def test_what_cannot_be_probed():
    data = corners(50)
    with pytest.raises(AlikitError, match="leave out probe"):
        probe(game(), Dataset("points", data.x), data)
    with pytest.raises(AlikitError, match="codes that are numbers"):
        probe(game(lambda x: x / 0), data, data)
    with pytest.raises(AlikitError, match="cannot encode"):
        probe(Game(Deterministic(Fixed(same)), 3), data, data)
