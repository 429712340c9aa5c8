"""Factors read and kept, against codes and pictures that hold them or do not."""

import pytest
import torch
from fixed import game as fixed_game

import alikit
from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.evaluation.factors import read, read_pixels, scalars, scales, score, targets, uninformed
from alikit.models import Game


def points(n: int) -> Dataset:
    """Points in 4 dimensions: the first shows the kind, the second is a number, the third a mark; the last is noise."""
    kind, (number, noise), mark = torch.randint(3, (n,)), torch.randn(2, n), torch.randint(-1, 2, (n, 2))
    x = torch.stack([10.0 * kind, number, (mark[:, 0] >= 0).float(), noise], dim=1)
    return Dataset("points", x, kind, factors={"kind": kind, "number": number, "marks": mark})


def game(keep: list[int]) -> Game:
    """A model whose code is some of the numbers."""
    return fixed_game(encode=lambda v: v[:, keep], z_dim=len(keep))


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


def test_scores_by_hand():
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


def test_an_interval_covers_as_often_as_it_says():
    covered = 0
    for _ in range(200):
        low, high = score((torch.rand(300) < 0.7).long(), torch.ones(300, dtype=torch.long)).interval()
        covered += low <= 0.7 <= high
    assert 181 <= covered <= 199  # 95 % of 200 is 190, give or take three standard deviations


def test_probes_read_what_is_there_and_nothing_else():
    train, held_out = points(2000), points(1000)
    all_there = read(game([0, 1, 2]), train, held_out)
    # The third number shows one of two marks; the other's chance is 2/3, as most are there.
    assert all_there["number"].value > 0.99 and 0.8 < all_there["marks"].value < 0.9
    assert all_there["kind"].value > 0.9 and read_pixels(4, train, held_out)["number"].value > 0.99
    for name, found in read(game([3]), train, held_out).items():
        floor = uninformed(targets(train.factors)[name], targets(held_out.factors)[name])
        assert abs(found.value - floor.value) < 0.05
    with pytest.raises(AlikitError, match=r"^the factors of this data are not known: [^\n]+$"):
        scales(game([0]), alikit.digits(), held_out)


def test_scales_are_linear_readings():
    held_out = points(500)
    weight, bias, r2 = scales(game([3, 1]), points(2000), held_out)
    assert list(r2) == ["number", "marks, left", "marks, right"]
    assert r2["number"] > 0.99 and abs(r2["marks, right"]) < 0.05
    by_hand = held_out.x[:, [3, 1]] @ weight.T + bias
    torch.testing.assert_close(by_hand[:, 0], held_out.factors["number"], atol=0.01, rtol=0)
