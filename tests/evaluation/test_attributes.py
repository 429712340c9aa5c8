"""Attribute classifiers, and switching, on models of which it is known what they do."""

import sys

import pytest
import torch
from fixed import Fixed
from torch import nn

from alikit.data import Dataset, faces
from alikit.errors import AlikitError
from alikit.evaluation import attributes, balanced_accuracy, seen, switching, train_classifier
from alikit.models import Game
from alikit.networks import Conditioned, Deterministic, Embedding

NAMES, Z = ("Black_Hair", "Blond_Hair", "Eyeglasses", "Male"), 4
A = len(NAMES)
CORNERS = Fixed(lambda x: x[:, 0, 0, :A] - 0.5)  # sees an attribute where its pixel in the corner is bright


def model(drags: torch.Tensor) -> Game:
    """Draws pictures whose first pixels are y @ `drags`, and whose second row is z; encodes that row."""

    def paint(v):
        x = torch.zeros(len(v), 3, 32, 32)
        x[:, 0, 0, :A] = v[:, Z:] @ drags
        x[:, :, 1, :Z] = v[:, None, :Z]
        return x

    embeddings = Embedding(A, A), Embedding(A, A)
    for found in embeddings:
        nn.init.eye_(found.weight), nn.init.zeros_(found.bias)
    encoder = Conditioned(nn.Flatten(), embeddings[0], Fixed(lambda v: v[:, 32 : 32 + Z]))
    return Game(Deterministic(Conditioned(nn.Identity(), embeddings[1], Fixed(paint))), Z, Deterministic(encoder))


@pytest.fixture
def data() -> Dataset:
    y = torch.randint(2, (300, A), dtype=torch.uint8)
    y[:, 1] *= 1 - y[:, 0]  # one hair colour at most
    x = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    x[:, 0, 0, :A] = 255 * y
    return Dataset("corners", x, y, NAMES)


def test_seen_and_balanced_by_hand(data):
    assert torch.equal(seen(CORNERS, data.floats()), data.labels > 0)
    assert balanced_accuracy(CORNERS, data).tolist() == [1.0] * A
    truth = data.labels[:, 2].float()
    data.labels[:, 2] = torch.arange(300) >= 30
    expected = (truth[30:].mean() + 1 - truth[:30].mean()) / 2
    assert balanced_accuracy(CORNERS, data)[2] == pytest.approx(expected.item())


@pytest.mark.parametrize("encoded", [False, True])
def test_a_model_that_follows_y(data, encoded):
    found = switching(model(torch.eye(A)), CORNERS, data, data.floats() if encoded else None)
    assert found.asked.tolist() == found.kept.tolist() == found.accuracy.tolist() == [1.0] * A
    assert found.unasked.tolist() == found.interval.tolist() == [0.0] * A and found.n == 300
    # Black hair replaces blond, as it should.
    assert found.drags[0, 1] == pytest.approx(-data.labels[:, 1].float().mean().item(), abs=0.05)
    assert torch.equal(found.drags[2:], torch.eye(A)[2:])


def test_a_model_that_ignores_y_or_drags_another_attribute_along(data):
    found = switching(model(torch.zeros(A, A)), CORNERS, data)
    assert torch.equal(found.asked, found.unasked)
    assert found.accuracy.tolist() == [0.5] * A and found.kept.tolist() == [1.0] * A
    drags = torch.eye(A)
    drags[2, 3] = 1.0  # glasses come with a beard, say
    found = switching(model(drags), CORNERS, data)
    without = 1 - data.labels[:, 3].float().mean().item()
    assert found.drags[2, 3] == pytest.approx(without, abs=1e-5) and found.drags[3, 2] == 0
    assert found.kept[2] == pytest.approx(1 - without / 3, abs=1e-5)
    # The interval is that of a mean of differences.
    half_blind = Fixed(lambda x: x[:, 0, 0, :A] * (x[:, 0, 1, :1] > 0) - 0.5)  # sees where z's first number is above 0
    found = switching(model(torch.eye(A)), half_blind, data)
    share = found.asked[2].item()
    assert 0.3 < share < 0.7
    assert found.interval[2].item() == pytest.approx(1.96 * (share * (1 - share) / 299) ** 0.5, rel=1e-3)


def test_one_table_of_all(data, monkeypatch):
    drags = torch.eye(A)
    drags[2, 2] = 0.0  # never glasses
    plain = [1.0, 1.0, 1 - data.labels[:, 2].float().mean().item(), 1.0]
    found = attributes(model(drags), data, data, CORNERS)
    assert [of["accuracy"] for of in found["of"].values()] == pytest.approx(plain, abs=1e-5)
    assert found["accuracy"] == pytest.approx(sum(plain) / 4) and found["judge"] == found["kept"] == 1.0
    assert found["balanced"] == found["reencoded_balanced"] == 0.875 and found["n"] == 300
    assert list(found["of"]) == list(NAMES) and found["of"]["Male"]["asked"] == found["of"]["Male"]["judge"] == 1.0
    assert "grid" not in found, "not all of the grid's attributes are here"
    monkeypatch.setattr(sys.modules["alikit.evaluation.attributes"], "NAMED", NAMES[2:])
    real = Dataset("no glasses", data.x, data.labels * torch.tensor([1, 1, 0, 1], dtype=torch.uint8), NAMES)
    found = attributes(model(drags), data, real, CORNERS)
    assert found["grid"] == 1 and found["grid_balanced"] == 0.75 and found["of"]["Eyeglasses"]["judge"] is None
    with pytest.raises(AlikitError, match="not conditional"):
        attributes(Game(Deterministic(nn.Identity()), Z), data, data, CORNERS)


def test_a_classifier_learns_what_is_there_the_same_each_time():
    data = faces(400)
    state = torch.get_rng_state()
    classifier = train_classifier(data, steps=40)
    assert torch.equal(torch.get_rng_state(), state)
    names = [data.classes.index(name) for name in ("Male", "Wearing_Hat", "Blond_Hair")]
    assert balanced_accuracy(classifier, faces(200, seed=5))[names].min() > 0.7
    again = [train_classifier(data, steps=1).state_dict().values() for _ in range(2)]
    assert all(map(torch.equal, *again))
    assert train_classifier(faces(64, 64), steps=1)(torch.rand(2, 3, 64, 64)).shape == (2, 14)


@pytest.mark.parametrize(("shape", "labels"), [((3, 32, 32), torch.arange(4)), ((1, 32, 32), torch.ones(4, 2))])
def test_no_classifier_of_other_data(shape, labels):
    with pytest.raises(AlikitError, match="other has no 32x32 or 64x64 RGB pictures with attributes"):
        train_classifier(Dataset("other", torch.zeros(4, *shape, dtype=torch.uint8), labels))
