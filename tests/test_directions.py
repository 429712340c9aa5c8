"""Latent spaces, against covariances whose axes and directions are known on paper."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alikit import AlikitError, Game, Recorded
from alikit.latent import LatentSpace
from alikit.networks import Deterministic

MEAN = torch.tensor([1.0, 0.0, -1.0])
S = torch.tensor([[4.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.25]])


@pytest.fixture
def run() -> Recorded:
    """Codes of 3 numbers as pictures of 1x1x3 and back."""
    codes = {
        "q_mean": MEAN.double(),
        "q_covariance": S.double(),
        "codes": torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [5.0, 5.0, 5.0], [1.1, 1.0, 1.0]]),
        "probe_weight": torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]),
        "factor_weight": torch.tensor([[0.0, 0.0, 5.0]]),
    }
    attributes = {n: {"accuracy": 0.9, "balanced": 0.8, "baseline": 0.6} for n in ("hat", "tie")}
    metrics = {"probe_names": ["hat", "tie"], "probe_attributes": attributes, "factor_r2": {"height": 0.5}}
    decoder, encoder = Deterministic(nn.Unflatten(1, (1, 1, 3))), Deterministic(nn.Flatten())
    return Recorded(Game(decoder, 3, encoder), {}, metrics, [], codes)


def test_axes_are_those_of_the_covariance_the_widest_first(run):
    space = LatentSpace(run)
    variances, axes = torch.linalg.eigh(S)
    for direction, variance, axis in zip(space.axes, variances.flip(0), axes.T.flip(0), strict=True):
        way = direction.way * (direction.way @ axis).sign()
        torch.testing.assert_close(way, axis * variance.sqrt())  # a step of one standard deviation along it
    z = torch.tensor([0.3, -2.0, 1.0])
    turned = torch.stack([axis.reading(space.axes[0].turned(z, 2.0)) for axis in space.axes])
    before = torch.stack([axis.reading(z) for axis in space.axes])
    torch.testing.assert_close(turned, torch.tensor([2.0, before[1], before[2]]))
    assert space.neighbours(torch.tensor([1.2, 1.0, 1.0]), 3).tolist() == [3, 1, 0]
    assert len(space.neighbours(torch.zeros(3), 10)) == 4


def test_a_meaning_is_turned_as_the_codes_do_it(run):
    """By hand: w = (2, 0, 0), so Sw = (8, 2, 0) and w'Sw = 16: per standard deviation (2, 0.5, 0)."""
    hat = LatentSpace(run).meanings["hat"]
    torch.testing.assert_close(hat.way, torch.tensor([2.0, 0.5, 0.0]))
    z = torch.tensor([[3.0, 1.0, 2.0], [-1.0, 0.0, 0.0]])
    torch.testing.assert_close(hat.reading(z), torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(hat.turned(z, 2.0), torch.tensor([[5.0, 1.5, 2.0], [5.0, 1.5, 0.0]]))
    values = torch.tensor([-1.0, 0.5])
    torch.testing.assert_close(hat.reading(hat.turned(z[0], values)), values)


def test_what_directions_mean(run):
    """Attributes and factors; classes, whose logits lead over the mean of all; and a run without labels."""
    quality = {name: direction.quality for name, direction in LatentSpace(run).meanings.items()}
    assert quality == dict.fromkeys(("hat", "tie"), "90% right, guessing 60%") | {"height": "R² 0.50"}
    run.metrics.update(probe_attributes={}, probe_accuracy=0.7, probe_baseline=0.5)
    hat, tie, _ = LatentSpace(run).meanings.values()
    torch.testing.assert_close(hat.weight / hat.weight[0], torch.tensor([1.0, -1.5, 0.0]))  # (2, -3, 0) / 2 and back
    torch.testing.assert_close(tie.way, -hat.way)
    assert tie.quality == "all: 70.0% right, guessing 50.0%"
    del run.codes["probe_weight"], run.codes["factor_weight"]
    bare = LatentSpace(replace(run, metrics={}))
    assert bare.meanings == {} and len(bare.axes) == 3


def test_one_picture_from_0_to_1_is_taken(run):
    space, x = LatentSpace(run), torch.tensor([[[0.1, 0.2, 0.3]]])
    torch.testing.assert_close(space.encode(x), x.flatten())
    for x in (
        torch.zeros(3, 8, 8),
        torch.zeros(3),
        *(torch.full((1, 1, 3), value) for value in (255, -0.1, torch.nan)),
    ):
        with pytest.raises(AlikitError, match=r"this run takes a picture of 1 x 1 x 3 .* from 0 to 1"):
            space.encode(x)


def test_codes_and_metrics_that_do_not_belong_together(run):
    without = [{k: v for k, v in run.codes.items() if k != name} for name in ("q_mean", "q_covariance", "codes")]
    names = {"probe_names": ["hat", "tie"], "probe_attributes": {"hat": {}}, "factor_r2": {"height": 0.5}}
    for changes in (
        *({"codes": codes} for codes in (*without, {**run.codes, "probe_weight": torch.zeros(2, 9)})),
        *({"metrics": metrics} for metrics in ({"probe_attributes": {}}, names, [])),
    ):
        with pytest.raises(AlikitError, match=r"^codes.safetensors is damaged .*: record it anew"):
            LatentSpace(replace(run, **changes))
    with pytest.raises(AlikitError, match="no encoder"):
        LatentSpace(replace(run, model=Game(run.model.decoder, 3)))
