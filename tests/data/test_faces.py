"""The drawn faces: what the docstrings promise, measured in the pictures."""

from pathlib import Path

import pytest
import torch

from alikit import recorded
from alikit.data import faces, faces_with
from alikit.data.synthetic.drawing import CHUNK
from alikit.data.synthetic.faces import ATTRIBUTES, HAIR, RECIPE
from alikit.errors import AlikitError
from alikit.evaluation import balanced_accuracy

RESULTS = Path(__file__).resolve().parents[2] / "results"
AT = {name: column for column, name in enumerate(ATTRIBUTES)}


@pytest.fixture(scope="module")
def data():
    return faces(3000, seed=0)


@pytest.fixture(scope="module")
def anything() -> torch.Tensor:
    """Labels (CHUNK, 14) in which every attribute is there or not at random, with one colour of hair or none."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (CHUNK, len(ATTRIBUTES)), generator=generator, dtype=torch.uint8)
    colour = torch.randint(len(HAIR) + 1, (CHUNK, 1), generator=generator)
    labels[:, [AT[name] for name in HAIR]] = (colour == torch.arange(len(HAIR))).to(torch.uint8)
    return labels


def labelled(*names: str, n: int = CHUNK) -> torch.Tensor:
    return torch.tensor([[int(name in names) for name in ATTRIBUTES]] * n, dtype=torch.uint8)


def switched(labels: torch.Tensor, name: str) -> torch.Tensor:
    """The labels with one of them flipped; where hair gets a colour by it, it loses the one that it had."""
    flipped = labels.clone()
    if name in HAIR:
        flipped[:, [AT[other] for other in HAIR]] = 0
    flipped[:, AT[name]] = 1 - labels[:, AT[name]]
    return flipped


# How labels are drawn.


def test_labels_are_drawn_by_the_recipe_and_shares_are_near_celebas(data):
    """Each line's share, of the faces that it is for, within four standard deviations."""
    has = {name: data.labels[:, AT[name]].bool() for name in ATTRIBUTES}
    for name, lines in RECIPE.items():
        rest = torch.ones(len(data), dtype=torch.bool)
        for conditions, share in lines:
            chosen = rest.clone()
            for other in conditions.split():
                chosen &= has[other.strip("-")] != other.startswith("-")
            deviation = (share * (1 - share) / chosen.sum()).sqrt()
            assert (has[name][chosen].float().mean() - share).abs() <= 4 * deviation + 1e-6, (name, conditions)
            rest &= ~chosen
    assert data.labels[:, [AT[name] for name in HAIR]].sum(1).max() == 1
    published = [0.51, 0.022, 0.15, 0.24, 0.15, 0.21, 0.065, 0.42, 0.48, 0.08, 0.48, 0.32, 0.05, 0.77]
    assert (data.labels.float().mean(0) - torch.tensor(published)).abs().max() < 0.06
    # Factors are independent of the labels and of each other.
    columns = torch.cat([values.float().view(3000, -1)[:, :1] for values in data.factors.values()], dim=1)
    known = len(data.factors)
    correlation = torch.corrcoef(torch.cat([columns, data.labels.float()], dim=1).T) - torch.eye(known + 14)
    assert correlation[:known].abs().max() < 0.08  # standard deviation 0.018


# Faces with given labels.


def test_everything_else_is_the_same_whatever_the_labels(data, anything):
    """And with the labels of `faces` these are the same faces."""
    again = faces_with(data.labels[:300], seed=0)
    assert torch.equal(again.x, data.x[:300]) and torch.equal(again.labels, data.labels[:300])
    assert again.classes == data.classes == ATTRIBUTES and again.name == data.name
    given = faces_with(anything, seed=0)
    assert torch.equal(given.labels, anything)
    assert all(torch.equal(given.factors[name], data.factors[name][:CHUNK]) for name in data.factors)
    for dtype in (torch.bool, torch.int64, torch.float32):
        assert torch.equal(faces_with(anything[:5].to(dtype)).x, given.x[:5])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_switch_can_be_seen_whatever_the_others(anything, name):
    """In all at least as much as one pixel from black to white: few are enough where one looks for them."""
    before, after = faces_with(anything), faces_with(switched(anything, name))
    change = (after.x.int() - before.x.int()).abs().amax(1)
    assert change.sum((1, 2)).min() > 255 and change.sum((1, 2)).median() > 700


def test_a_recorded_classifier_sees_what_the_labels_say(data):
    """Hair that is called blond is what was called so when it learned."""
    assert balanced_accuracy(recorded(RESULTS / "conditional-faces").classifier, data).min() > 0.99


PLACES = {  # top, bottom, left and right in half sides from the middle
    "Attractive": (0.62, 1, 0.2, 0.7),  # the pin on the shirt
    "Bangs": (-0.5, 0, -0.6, 0.6),
    "Eyeglasses": (-0.25, 0.35, -0.7, 0.7),
    "Mouth_Slightly_Open": (0.15, 0.6, -0.4, 0.4),
    "Receding_Hairline": (-0.7, 0.2, -0.75, 0.75),
    "Smiling": (0.05, 0.6, -0.6, 0.6),
    "Wavy_Hair": (-0.9, 0.4, -0.9, 0.9),
    "Wearing_Hat": (-1, -0.3, -0.9, 0.9),
    "Young": (-0.45, 0.5, -0.65, 0.65),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_switch_changes_nothing_elsewhere(name):
    """In short-haired faces at any pose and tilt."""
    labels = labelled("Male", "Young")
    changed = (faces_with(labels, seed=2).x != faces_with(switched(labels, name), seed=2).x).any(1).any(0)
    rows, columns = (((changed.any(axis).nonzero()[:, 0] + 0.5) / 16 - 1).tolist() for axis in (1, 0))
    top, bottom, left, right = PLACES[name]
    assert top < rows[0] and rows[-1] < bottom and left < columns[0] and columns[-1] < right


def test_colours_that_are_factors():
    """Hair that has no colour by its labels, above the forehead; skin between hair and brows; a corner."""
    other = faces_with(labelled("Male"))
    colour, is_red = other.floats()[:, :, 6, 16], other.factors["red"]
    assert (colour[is_red, 0] > 2 * colour[is_red, 1]).all()
    assert (colour[~is_red].amax(1) - colour[~is_red].amin(1) < 0.12).all()
    large = faces_with(labelled("Male", "Young", "Black_Hair"), size=64)
    for name, row, column in (("background", 2, 2), ("skin", 24, 32)):
        assert (large.floats()[:, :, row, column] - large.factors[name]).abs().max() < 0.13, name


WRONG = [torch.zeros(5, 13), torch.tensor(1), torch.full((5, 14), -1), torch.full((5, 14), torch.nan)]


@pytest.mark.parametrize("labels", [*WRONG, labelled("Black_Hair", "Blond_Hair")])
def test_wrong_labels_are_one_clear_line(labels):
    with pytest.raises(AlikitError, match=r"labels must be \(N, 14\), 0 or 1 each, with at most one of Black_Hair, B"):
        faces_with(labels)
