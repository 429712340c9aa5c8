"""Judges of attributes, and switching, on models of which it is known what they do."""

import pytest
import torch
from torch import nn

from alikit.data import Dataset, faces
from alikit.errors import AlikitError
from alikit.evaluation import attributes, balanced_accuracy, seen, switching, train_judge
from alikit.evaluation.attributes import as_asked
from alikit.models import Game
from alikit.networks import Conditioned, Deterministic, Embedding

NAMES, Z = ("Black_Hair", "Blond_Hair", "Eyeglasses", "Male"), 4
A = len(NAMES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Corners(nn.Module):
    """Sees an attribute where the first pixels are bright, one for each attribute."""

    def __init__(self):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return x[:, 0, 0, :A] - self.threshold


class Painter(nn.Module):
    """Pictures whose first pixels are y @ `drags`, and whose second row is z."""

    def __init__(self, drags: torch.Tensor):
        super().__init__()
        self.drags = drags

    def forward(self, v):
        z, y = v[:, :Z], v[:, Z:]
        x = torch.zeros(len(v), 3, 32, 32)
        x[:, 0, 0, :A] = y @ self.drags
        x[:, :, 1, :Z] = z[:, None]
        return x


def as_it_is() -> Embedding:
    embedding = Embedding(A, A)
    nn.init.eye_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    return embedding


def model(drags: torch.Tensor) -> Game:
    encoder = Deterministic(Conditioned(nn.Flatten(), as_it_is(), Second()))
    return Game(Deterministic(Conditioned(nn.Identity(), as_it_is(), Painter(drags))), Z, encoder)


class Second(nn.Module):
    """z from the second row of a flat picture."""

    def forward(self, v):
        return v[:, 32 : 32 + Z]


def pictures(n: int = 300) -> Dataset:
    y = torch.randint(2, (n, A), dtype=torch.uint8)
    y[:, 1] *= 1 - y[:, 0]  # one hair colour at most
    x = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
    x[:, 0, 0, :A] = 255 * y
    return Dataset("corners", x, y, NAMES)


def test_seen_and_balanced_by_hand():
    data = pictures()
    assert torch.equal(seen(Corners(), data.floats()), data.labels > 0)
    assert balanced_accuracy(Corners(), data).tolist() == [1.0] * A
    wrong = Dataset("wrong", data.x, data.labels.clone(), NAMES)
    wrong.labels[:, 2] = 1
    wrong.labels[:30, 2] = 0
    found = balanced_accuracy(Corners(), wrong)[2]
    truth, there = data.labels[:, 2].float(), wrong.labels[:, 2] > 0
    assert found == pytest.approx(((truth[there].mean() + 1 - truth[~there].mean()) / 2).item())


@pytest.mark.parametrize("encoded", [False, True])
def test_a_model_that_does_as_it_is_told(encoded):
    data = pictures()
    found = switching(model(torch.eye(A)), Corners(), data, data.floats() if encoded else None)
    assert found.asked.tolist() == [1.0] * A and found.unasked.tolist() == [0.0] * A
    assert found.interval.tolist() == [0.0] * A and found.kept.tolist() == [1.0] * A
    assert found.accuracy.tolist() == [1.0] * A and found.n == 300
    # Black hair takes blond back, which is no dragging along but what was asked.
    hair = data.labels[:, 1].float().mean()
    assert found.drags[0, 1] == pytest.approx(-hair.item(), abs=0.05)
    assert torch.equal(found.drags[2:], torch.eye(A)[2:])


def test_a_model_that_does_not_listen():
    found = switching(model(torch.zeros(A, A)), Corners(), pictures())
    assert torch.equal(found.asked, found.unasked) and found.changed.tolist() == [0.0] * A
    assert found.accuracy.tolist() == [0.5] * A and found.kept.tolist() == [1.0] * A


def test_an_attribute_that_drags_another_along():
    drags = torch.eye(A)
    drags[2, 3] = 1.0  # glasses come with a beard, say
    data = pictures()
    found = switching(model(drags), Corners(), data)
    without = 1 - data.labels[:, 3].float().mean()
    assert found.drags[2, 3] == pytest.approx(without.item(), abs=1e-5)
    assert found.drags[3, 2] == 0
    assert found.kept[2] == pytest.approx(1 - without.item() / 3, abs=1e-5)


def test_the_interval_is_that_of_a_mean_of_differences():
    data = pictures(200)
    painter = model(torch.eye(A))
    painter.decoder.net.head.drags = torch.eye(A)
    half_blind = Corners()
    half_blind.forward = lambda x: x[:, 0, 0, :A] * (x[:, 0, 1, :1] > 0) - 0.5  # sees where z's first number is above 0
    found = switching(painter, half_blind, data)
    share = found.asked[2].item()
    assert 0.3 < share < 0.7
    assert found.interval[2].item() == pytest.approx(1.96 * (share * (1 - share) / 199) ** 0.5, rel=1e-3)


def test_as_asked_by_hand():
    drags = torch.eye(A)
    drags[2, 2] = 0.0  # never glasses
    data = pictures()
    found = as_asked(model(drags), Corners(), data.conditions())
    assert found.tolist() == pytest.approx([1.0, 1.0, 1 - data.labels[:, 2].float().mean().item(), 1.0])


def test_one_table_of_all():
    data = pictures()
    found = attributes(model(torch.eye(A)), data, data, Corners())
    assert found["accuracy"] == found["balanced"] == found["judge"] == found["kept"] == 1.0
    assert found["reencoded_balanced"] == 1.0 and found["n"] == 300
    assert list(found["of"]) == list(NAMES) and found["of"]["Male"]["asked"] == 1.0
    assert "grid" not in found  # not all of the grid's attributes are here


def test_a_judge_learns_what_is_there_and_no_chance_is_moved():
    data = faces(1000)
    state = torch.get_rng_state()
    judge = train_judge(data, steps=150)
    assert torch.equal(torch.get_rng_state(), state)
    names = [data.classes.index(name) for name in ("Male", "Wearing_Hat", "Blond_Hair")]
    assert balanced_accuracy(judge, faces(300, seed=5))[names].min() > 0.75
    again = train_judge(data, steps=2), train_judge(data, steps=2)
    assert all(torch.equal(*pair) for pair in zip(*(j.state_dict().values() for j in again), strict=True))


def test_a_judge_of_larger_pictures():
    judge = train_judge(faces(100, 64), steps=1)
    assert judge(torch.rand(2, 3, 64, 64)).shape == (2, 14)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Dataset("a", torch.zeros(4, 3, 32, 32, dtype=torch.uint8)), "has no attributes to be judged"),
        (Dataset("b", torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4)), "has no attributes"),
        (Dataset("c", torch.zeros(4, 1, 32, 32, dtype=torch.uint8), torch.ones(4, 2)), "in colour of 32x32 or 64x64"),
        (Dataset("d", torch.zeros(4, 3, 28, 28, dtype=torch.uint8), torch.ones(4, 2)), "in colour of 32x32 or 64x64"),
    ],
)
def test_no_judge_of_other_data(data, message):
    with pytest.raises(AlikitError, match=message):
        train_judge(data)


def test_models_and_judges_that_do_not_fit_are_refused():
    data = pictures()
    with pytest.raises(AlikitError, match="told no attributes"):
        attributes(Game(Deterministic(nn.Identity()), Z), data, data, Corners())
    with pytest.raises(AlikitError, match="knows 14 attributes, and y has 4"):
        switching(model(torch.eye(A)), train_judge(faces(100), steps=1), data)
