"""Linear probes and factors of codes, attribute classifiers and switching, where it is known what is there."""

import sys

import pytest
import torch
from fixed import Fixed, game
from torch import nn

import alikit
from alikit.data import Dataset, digits, faces
from alikit.errors import AlikitError
from alikit.evaluation import (
    attributes,
    balanced_accuracy,
    class_agreement,
    probe,
    probes,
    seen,
    switching,
    train_classifier,
)
from alikit.evaluation.factors import read, read_pixels, scalars, scales, score, targets, uninformed
from alikit.models import Game
from alikit.networks import Conditioned, Deterministic, Embedding


def measure(train: Dataset, held_out: Dataset, encode=torch.clone, z_dim: int = 3) -> dict:
    return probe(game(encode=encode, z_dim=z_dim), train, held_out)


def corners(n: int, noise: float = 0.1) -> Dataset:
    """Classes a, b and c around three corners, of unlike scale and far from 0; half of all examples are c."""
    labels = torch.randint(0, 4, (n,)).clamp(max=2)
    x = (torch.eye(3)[labels] + noise * torch.randn(n, 3)) * torch.tensor([1.0, 100.0, 0.01]) + 50
    return Dataset("corners", x, labels, ("a", "b", "c"))


def share(held_out: Dataset, label: int) -> float:
    return (held_out.labels == label).float().mean().item()


def test_classes_that_are_there_and_noise():
    """Weights are for z as it comes."""
    train, held_out = corners(2000, noise=0.3), corners(2000, noise=0.3)
    found = measure(train, held_out)
    assert (found["weight"].shape, found["bias"].shape, found["names"]) == ((3, 3), (3,), ("a", "b", "c"))
    right = (held_out.x @ found["weight"].T + found["bias"]).argmax(1) == held_out.labels
    assert right.double().mean().item() == pytest.approx(found["accuracy"], abs=0.002)
    each = [right[held_out.labels == label].double().mean().item() for label in range(3)]
    assert sum(each) / 3 == pytest.approx(found["balanced"], abs=0.004)
    assert 0.8 < found["balanced"] < found["accuracy"] < 0.99 and found["baseline"] == pytest.approx(share(held_out, 2))
    assert (found["unconverged"], found["attributes"], found["n"]) == (0, {}, 2000)
    easy = corners(500)
    found = measure(Dataset("without names and b", train.x, train.labels).select(train.labels != 1), easy)
    assert found["names"] == ("0", "2") and found["weight"].shape == (2, 3)
    assert found["accuracy"] == pytest.approx(1 - share(easy, 1)) and found["balanced"] == pytest.approx(2 / 3)
    noise = measure(train, held_out, torch.randn_like)
    assert noise["accuracy"] == pytest.approx(noise["baseline"], abs=0.03)
    assert noise["balanced"] == pytest.approx(1 / 3, abs=0.05)


def test_components_of_the_pixels_stand_beside_the_code():
    """A code of one number that keeps the rare class out of sight, in data whose first component shows it."""
    held_out = corners(800, noise=0.05)
    found = measure(corners(1500, noise=0.05), held_out, lambda x: x[:, :1], z_dim=1)
    assert found["accuracy"] == pytest.approx(1 - share(held_out, 1), abs=0.02)
    assert found["pixels"] == pytest.approx(1 - share(held_out, 0), abs=0.02)  # its second number is by far the largest
    assert found["pixels_balanced"] == pytest.approx(2 / 3, abs=0.02)


def test_numbers_that_are_constant_or_so_but_for_rounding():
    """Their weight would be a million times that of the others, and what they say of held-out examples noise."""

    def encode(x):
        return torch.cat([x, 1 + 1e-9 * torch.randn(len(x), 3), torch.ones(len(x), 1)], 1)

    found = measure(corners(1000, noise=0.3), corners(1000, noise=0.3), encode, z_dim=7)
    assert (found["weight"][:, 3:] == 0).all() and found["bias"].isfinite().all() and found["accuracy"] > 0.9


def traits(n: int) -> Dataset:
    """Attributes read off the sign of x, of chance alone, of one in twenty, and of none."""
    x = torch.randn(n, 3)
    columns = [x[:, 0] > 0, torch.rand(n) < 0.5, x[:, 1] > 1.645, torch.zeros(n, dtype=torch.bool)]
    return Dataset("traits", x, torch.stack(columns, 1).to(torch.uint8), ("tall", "lucky", "rare", "never"))


def test_attributes():
    held_out = traits(2000)
    found = measure(traits(3000), held_out)
    right = (held_out.x @ found["weight"].T + found["bias"] > 0) == held_out.labels
    assert found["names"] == held_out.classes and found["weight"].shape == (4, 3)
    for i, name in enumerate(found["names"]):
        one, truth = found["attributes"][name], held_out.labels[:, i] == 1
        assert one["accuracy"] == pytest.approx(right[:, i].double().mean().item(), abs=0.001)
        each = [right[some, i].double().mean().item() for some in (truth, ~truth) if some.any()]
        assert one["balanced"] == pytest.approx(sum(each) / len(each), abs=0.01)
    assert found["attributes"]["tall"]["accuracy"] > 0.98
    assert found["attributes"]["rare"]["baseline"] == pytest.approx(0.95, abs=0.02)
    assert found["attributes"]["never"] == {"accuracy": 1, "balanced": 1, "baseline": 1}
    for name in ("accuracy", "balanced", "baseline"):
        assert found[name] == pytest.approx(sum(one[name] for one in found["attributes"].values()) / 4)
    assert found["pixels"] == pytest.approx(found["accuracy"], abs=0.01)  # three components of three numbers


def test_fits_are_short_and_examples_are_drawn_from_all_of_the_data(monkeypatch):
    """Sorted by class, as folders are, the first ones would be of one class."""
    monkeypatch.setattr(probes, "TRAIN_EXAMPLES", 100)
    monkeypatch.setattr(probes, "HELD_OUT_EXAMPLES", 80)
    data = corners(700)
    data = data.select(data.labels.argsort())
    found = measure(data, data)
    assert found["accuracy"] > 0.95 and found["n"] == 80
    monkeypatch.setattr(probes, "ITERATIONS", 1)
    assert measure(traits(300), traits(300))["unconverged"] == 6  # the fourth attribute has nothing to fit


def test_what_cannot_be_probed():
    data = corners(50)
    for train, encode, message in (
        (Dataset("points", data.x), torch.clone, "leave out probe"),
        (data, None, "cannot encode"),
        (data, lambda x: x / 0, "finite codes"),
    ):
        with pytest.raises(AlikitError, match=message):
            measure(train, data, encode)


@pytest.mark.parametrize(("examples", "number", "there_are"), [(400, 100, 64), (20, 100, 19), (400, 6, 6)])
def test_components_of_the_pixels(examples, number, there_are):
    """By hand, from singular values, but for their signs; no more than there are: N examples span N - 1 directions."""
    train, new = digits().select(slice(examples)), digits().floats(slice(400, 450))
    x = train.floats().flatten(1).double()
    _, _, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    found = probes.component_features(train, number)(new)
    assert found.shape == (50, there_are) and found.dtype == torch.float32
    expected = (new.flatten(1).double() - x.mean(0)) @ directions[:6].T
    torch.testing.assert_close(found[:, :6].double().abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    x = torch.rand(30, 1, 64, 64)  # is averaged before
    small = nn.functional.avg_pool2d(x, 2)
    large, expected = (probes.component_features(train.but(x=v), 4)(v) for v in (x, small))
    torch.testing.assert_close(large, expected)


# Factors.


def points(n: int) -> Dataset:
    """Points in 4 dimensions: the first shows the kind, the second is a number, the third a mark; the last is noise."""
    kind, (number, noise), mark = torch.randint(3, (n,)), torch.randn(2, n), torch.randint(-1, 2, (n, 2))
    x = torch.stack([10.0 * kind, number, (mark[:, 0] >= 0).float(), noise], dim=1)
    return Dataset("points", x, kind, factors={"kind": kind, "number": number, "marks": mark})


def keeping(keep: list[int]) -> Game:
    """A model whose code is some of the numbers."""
    return game(encode=lambda v: v[:, keep], z_dim=len(keep))


def test_targets_and_scalars():
    """What is to be predicted, and what can be turned up and down."""
    factors = {"kind": torch.tensor([0, 2]), "place": torch.zeros(2, 2), "size": torch.ones(2)}
    found = targets(factors | {"marks": torch.tensor([[-1, 3], [0, -1]])})
    assert found["kind"].tolist() == [0, 2] and found["place"].shape == (2, 2) and found["size"].shape == (2, 1)
    assert found["marks"].tolist() == [[False, True], [True, False]]
    factors = alikit.house_numbers(20).factors
    found = scalars(factors)
    assert list(found) == [
        *("ink, brightness", "ink, warmth", "paper, brightness", "paper, warmth", "position, right", "position, down"),
        *("height", "angle", "blur", "neighbours, left", "neighbours, right"),
    ]
    torch.testing.assert_close(found["position, down"], factors["position"][:, 1])
    torch.testing.assert_close(found["ink, warmth"], factors["ink"][:, 0] - factors["ink"][:, 2])
    assert found["neighbours, left"].tolist() == (factors["neighbours"][:, 0] >= 0).tolist()


def test_scores_and_their_intervals_by_hand():
    truth = torch.tensor([[0.0], [2.0], [4.0]])  # around their mean 8
    for answers, of, value in (
        (torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]), 0.75),
        (torch.tensor([[True, True], [False, True]]), torch.tensor([[True, False], [False, True]]), 0.75),
        (truth + 1, truth, 1 - 3 / 8),
        (truth.flip(0), truth, -3),
    ):
        assert score(answers, of).value == pytest.approx(value)
    assert uninformed(torch.tensor([2, 2, 2, 1, 0]), torch.tensor([2, 1, 1, 1])).value == 0.25
    assert uninformed(torch.randn(9, 3), torch.randn(50, 3)).value == pytest.approx(0, abs=1e-6)
    marks = torch.tensor([[True, False]] * 3 + [[False, False]])
    assert uninformed(marks, marks).value == pytest.approx(7 / 8)
    # An interval covers as often as it says.
    scores = [score((torch.rand(300) < 0.7).long(), torch.ones(300, dtype=torch.long)) for _ in range(200)]
    covered = sum(low <= 0.7 <= high for low, high in (each.interval() for each in scores))
    assert 181 <= covered <= 199  # 95 % of 200 is 190, give or take three standard deviations


def test_probes_read_what_is_there_and_nothing_else():
    train, held_out = points(2000), points(1000)
    all_there = read(keeping([0, 1, 2]), train, held_out)
    # The third number shows one of two marks; the other's chance is 2/3, as most are there.
    assert all_there["number"].value > 0.99 and 0.8 < all_there["marks"].value < 0.9
    assert all_there["kind"].value > 0.9 and read_pixels(4, train, held_out)["number"].value > 0.99
    for name, found in read(keeping([3]), train, held_out).items():
        floor = uninformed(targets(train.factors)[name], targets(held_out.factors)[name])
        assert abs(found.value - floor.value) < 0.05
    # And scales are linear readings.
    weight, bias, r2 = scales(keeping([3, 1]), train, held_out)
    assert list(r2) == ["number", "marks, left", "marks, right"]
    assert r2["number"] > 0.99 and abs(r2["marks, right"]) < 0.05
    by_hand = held_out.x[:, [3, 1]] @ weight.T + bias
    torch.testing.assert_close(by_hand[:, 0], held_out.factors["number"], atol=0.01, rtol=0)
    with pytest.raises(AlikitError, match=r"^the factors of this data are not known: [^\n]+$"):
        scales(keeping([0]), alikit.digits(), held_out)


# Attributes.

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


def test_classes_as_they_were_asked_for():
    """A model that draws what y says, and one that draws the last class in place of the third. Of 300 pictures, one
    twentieth shows another class than its own."""
    labels = torch.arange(300) % A
    shown = torch.where(torch.arange(300) < 15, 1 - labels.clamp(max=1), labels)
    x = torch.zeros(300, 3, 32, 32, dtype=torch.uint8)
    x[:, 0, 0, :A] = 255 * nn.functional.one_hot(shown, A)
    held_out, network = Dataset("classes", x, labels, NAMES), Fixed(lambda x: x[:, 0, 0, :A])
    train = held_out.select(shown == labels)
    found = class_agreement(model(torch.eye(A)), train, held_out, network)
    judge = (shown == labels).double().mean().item()
    assert found == {"accuracy": 1, "switched": 1, "judge": judge, "n": 300, "confusion": torch.eye(A).tolist()}
    drags = torch.eye(A)[[0, 1, 3, 3]]
    found = class_agreement(model(drags), train, held_out, network)
    assert found["confusion"] == drags.tolist() and found["judge"] == judge < 1
    assert found["accuracy"] == found["switched"] == 0.75
    found = class_agreement(model(drags / 0), train, held_out, network)
    assert found["accuracy"] == 0 and found["confusion"] == torch.zeros(A, A).tolist(), "what diverged is of no class"
    bare = Dataset("no classes", x)
    for parts in ((train, bare), (bare, held_out)):
        with pytest.raises(AlikitError, match="not conditioned on classes"):
            class_agreement(model(drags), *parts, network)


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
    assert all(map(torch.equal, *(train_classifier(data, steps=1).state_dict().values() for _ in range(2))))
    assert train_classifier(faces(64, 64), steps=1)(torch.rand(2, 3, 64, 64)).shape == (2, 14)
    for shape, labels in (((3, 32, 32), torch.arange(4)), ((1, 32, 48), torch.ones(4, 2, dtype=torch.uint8))):
        with pytest.raises(AlikitError, match="other has no square pictures with attributes"):
            train_classifier(Dataset("other", torch.zeros(4, *shape, dtype=torch.uint8), labels))
