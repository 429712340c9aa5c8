"""How often a model that knows classes is wrong, of guesses that are known, and where it is asked."""

import math

import pytest
import torch
from fixed import Fixed
from torch.nn.functional import one_hot

from alikit.data import Dataset, digits
from alikit.errors import AlikitError
from alikit.evaluation import Classification, classification, measured
from alikit.models import Game
from alikit.networks import Deterministic
from alikit.recipes import RECIPES

SAID = {f"classification_{name}" for name in ("error", "low", "high", "n")}


class Guesses(Game):
    """Takes a picture for the class that its one pixel names."""

    classes = 3

    def __init__(self):
        super().__init__(Deterministic(Fixed(lambda z: z[:, :1, None, None].sigmoid())), z_dim=2)

    def classify(self, x):
        self.asked_at_once = len(x)
        return one_hot((255 * x).round().long().flatten(), self.classes).float()


def pictures(named: list[int], truth: list[int] | None) -> Dataset:
    x = torch.tensor(named, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Dataset("pictures", x, None if truth is None else torch.tensor(truth), ("a", "b", "c"))


def test_wrong_guesses_are_counted():
    found = classification(Guesses(), pictures([0, 1, 2, 2, 1], [0, 1, 2, 0, 0]))
    assert isinstance(found, Classification) and (found.error, found.n) == (0.4, 5)


def wilson(wrong: int, n: int) -> tuple[float, float]:
    z, share = 1.959963985, wrong / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


@pytest.mark.parametrize(("wrong", "n"), [(0, 10), (10, 10), (3, 10), (120, 700)])
def test_interval(wrong, n):
    found = classification(Guesses(), pictures([1] * n, [2] * wrong + [1] * (n - wrong)))
    assert found.error == wrong / n
    assert (found.low, found.high) == pytest.approx(wilson(wrong, n), abs=1e-8)
    assert 0 <= found.low <= found.error <= found.high <= 1


def test_all_examples_are_asked_a_few_at_once():
    model = Guesses()
    found = classification(model, pictures([1] * 7, [1] * 6 + [2]), batch_size=3)
    assert (found.error, found.n, model.asked_at_once) == (1 / 7, 7, 1)


@pytest.mark.parametrize("name", ["digits-semi", "digits-feature-matching", "digits-supervised"])
def test_models_that_know_classes(name):
    torch.manual_seed(0)
    data = digits().select(slice(60))
    model = RECIPES[name].build(data.shape, classes=10).train()
    found = classification(model, data)
    assert found.error == pytest.approx((model.classify(data.floats()).argmax(1) != data.labels).float().mean().item())
    assert model.training


def test_it_is_measured_where_classes_are_known():
    held_out = pictures([0, 1, 2, 2, 1, 0], [0, 1, 2, 0, 0, 0])
    assert measured(Guesses(), held_out, held_out) == {
        "classification_error": 0.33333,
        **{f"classification_{end}": round(value, 5) for end, value in zip(("low", "high"), wilson(2, 6), strict=True)},
        "classification_n": 6,
    }
    assert measured(Guesses(), held_out, held_out, ("reconstruction",)) == {}


def test_it_is_left_out_where_they_are_not():
    held_out, unnamed = pictures([0, 1, 2], [0, 1, 1]), pictures([0, 1, 2], None)
    assert measured(Guesses(), unnamed, unnamed, ("classification",)) == {}
    assert measured(Game(Guesses().decoder, 2), held_out, held_out, ("classification",)) == {}


def test_beside_what_an_encoder_says():
    torch.manual_seed(0)
    data = digits().select(slice(100))
    found = measured(RECIPES["digits-semi"].build(data.shape, classes=10), data, data)
    assert found.keys() > SAID | {"reconstruction_mean", "codes_spread"}
    assert measured(RECIPES["digits-supervised"].build(data.shape, classes=10), data, data).keys() == SAID


def test_an_svm_on_request():
    torch.manual_seed(0)
    data = digits()
    train, held_out = data.select(slice(200)), data.select(slice(200, 300))
    found = measured(RECIPES["digits"].build(data.shape), train, held_out, ("svm",), labels=10)
    assert (found["svm_labels"], found["svm_n"], found["svm_draws"]) == (10, 100, 100)
    assert {"svm_error", "svm_pixels_error", "svm_components_error", "svm_random_error"} <= found.keys()


@pytest.mark.parametrize(
    ("labels", "says"),
    [(None, "has no labels"), (torch.ones(50, 3, dtype=torch.uint8), "has attributes, and no classes")],
)
def test_an_svm_wants_classes(labels, says):
    data = Dataset("digits", digits().x[:50], labels)
    with pytest.raises(AlikitError, match=says):
        measured(RECIPES["digits"].build(data.shape), data, data, ("svm",), labels=10)
