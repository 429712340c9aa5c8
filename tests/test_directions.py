"""Latent spaces, against covariances whose axes and directions are known on paper."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alikit import AlikitError, Game, Recorded
from alikit.latent import LatentSpace
from alikit.networks import Deterministic

S = torch.tensor([[4.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.25]])


class Flat(nn.Module):
    """Codes of 3 numbers as pictures of 1x1x3 and back."""

    def forward(self, v):
        return v.reshape(len(v), 1, 1, 3) if v.ndim == 2 else v.flatten(1)


@pytest.fixture
def run() -> Recorded:
    codes = {
        "q_mean": torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64),
        "q_covariance": S.double(),
        "codes": torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [5.0, 5.0, 5.0], [1.1, 1.0, 1.0]]),
        "probe_weight": torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]),
        "probe_bias": torch.zeros(2),
        "factor_weight": torch.tensor([[0.0, 0.0, 5.0]]),
        "factor_bias": torch.zeros(1),
    }
    attributes = {n: {"accuracy": 0.9, "balanced": 0.8, "baseline": 0.6} for n in ("hat", "tie")}
    metrics = {"probe_names": ["hat", "tie"], "probe_attributes": attributes, "factor_r2": {"height": 0.5}}
    flat = Deterministic(Flat())
    return Recorded(Game(flat, 3, flat), {}, metrics, [], codes)


def test_axes_are_those_of_the_covariance_the_widest_first(run):
    space = LatentSpace(run)
    variances, axes = torch.linalg.eigh(S)
    assert variances[-1] > 4 and len(space.axes) == 3
    for direction, variance, axis in zip(space.axes, variances.flip(0), axes.T.flip(0), strict=True):
        way = direction.way * (direction.way @ axis).sign()
        torch.testing.assert_close(way, axis * variance.sqrt())  # a step of one standard deviation along it
    # Turning one axis leaves what the others read as it was.
    z = torch.tensor([0.3, -2.0, 1.0])
    turned = space.axes[0].turned(z, 2.0)
    assert space.axes[0].reading(turned).item() == pytest.approx(2, abs=1e-5)
    for other in space.axes[1:]:
        assert other.reading(turned).item() == pytest.approx(other.reading(z).item(), abs=1e-5)


def test_a_meaning_is_turned_as_the_codes_do_it(run):
    """By hand: w = (2, 0, 0), so Sw = (8, 2, 0) and w'Sw = 16: per standard deviation (2, 0.5, 0)."""
    hat = LatentSpace(run).meanings["hat"]
    torch.testing.assert_close(hat.way, torch.tensor([2.0, 0.5, 0.0]))
    assert hat.reading(torch.tensor([1.0, 7.0, 7.0])).item() == 0  # the mean in the only number that it reads
    z = torch.tensor([[3.0, 1.0, 2.0], [-1.0, 0.0, 0.0]])
    torch.testing.assert_close(hat.reading(z), torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(hat.turned(z, 2.0), torch.tensor([[5.0, 1.5, 2.0], [5.0, 1.5, 0.0]]))
    values = torch.tensor([-1.0, 0.5])
    torch.testing.assert_close(hat.reading(hat.turned(z[0], values)), values)


def test_readings_are_standard_deviations_over_codes(run):
    torch.manual_seed(0)
    z = torch.distributions.MultivariateNormal(torch.tensor([1.0, 0.0, -1.0]), S).sample((20_000,))
    space = LatentSpace(run)
    for direction in (*space.axes, *space.meanings.values()):
        found = direction.reading(z)
        assert abs(found.mean()) < 0.03 and abs(found.std() - 1) < 0.03


def test_qualities_say_how_well_they_are_read(run):
    meanings = LatentSpace(run).meanings
    assert list(meanings) == ["hat", "tie", "height"]
    assert meanings["hat"].quality == "90% right, guessing 60%" and meanings["height"].quality == "R² 0.50"


def test_a_class_leads_over_the_mean_of_all(run):
    run.metrics.update(probe_attributes={}, probe_accuracy=0.7, probe_baseline=0.5)
    meanings = LatentSpace(run).meanings
    # (2, -3, 0) / 2 for the first and its opposite for the second.
    assert meanings["hat"].weight[2] == 0 and meanings["hat"].weight[1] / meanings["hat"].weight[0] == pytest.approx(
        -1.5
    )
    torch.testing.assert_close(meanings["tie"].way, -meanings["hat"].way)
    assert meanings["tie"].quality == "all: 70.0% right, guessing 50.0%"


def test_a_run_without_labels_has_axes_alone(run):
    for name in ("probe_weight", "factor_weight"):
        del run.codes[name]
    bare = LatentSpace(replace(run, metrics={}))
    assert bare.meanings == {} and len(bare.axes) == 3


def test_neighbours_are_the_nearest_codes(run):
    space = LatentSpace(run)
    assert space.neighbours(torch.tensor([1.2, 1.0, 1.0]), 3).tolist() == [3, 1, 0]
    assert len(space.neighbours(torch.zeros(3), 10)) == 4


def test_encode_takes_one_picture(run):
    space = LatentSpace(run)
    x = torch.tensor([0.1, 0.2, 0.3])
    for picture in (x.reshape(1, 1, 3), x.reshape(1, 1, 1, 3)):
        torch.testing.assert_close(space.encode(picture), x)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 1), (2, 1, 1, 3), (3,), ()])
def test_pictures_of_another_shape(run, shape):
    with pytest.raises(AlikitError, match=r"^this run takes one picture of 1 x 1 x 3 [^\n]*$"):
        LatentSpace(run).encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "x", [torch.full((1, 1, 3), 255), torch.tensor([[[0.5, -0.1, 0.5]]]), torch.full((1, 1, 3), torch.nan)]
)
def test_pixels_go_from_0_to_1(run, x):
    with pytest.raises(AlikitError, match=r"^pixels go from 0 to 1 here: "):
        LatentSpace(run).encode(x)


@pytest.mark.parametrize("z", [None, "z", [1, 2, None]])
def test_what_is_no_code_at_all(run, z):
    with pytest.raises(AlikitError, match=r"^a code of this run is a tensor of 3 numbers$"):
        LatentSpace(run).check(z)
    with pytest.raises(AlikitError, match=r"^a picture is a tensor of "):
        LatentSpace(run).encode(z)


def test_lists_are_codes_and_what_is_no_number_is_none(run):
    assert LatentSpace(run).check([1, 2, 3]).tolist() == [1, 2, 3]
    with pytest.raises(AlikitError, match="no number"):
        LatentSpace(run).check([1, float("nan"), 3])


@pytest.mark.parametrize("name", ["q_mean", "q_covariance", "codes"])
def test_numbers_that_are_none(run, name):
    with pytest.raises(AlikitError, match=r"no numbers: record it anew$"):
        LatentSpace(replace(run, codes=run.codes | {name: run.codes[name] * torch.nan}))


def test_no_codes(run):
    with pytest.raises(AlikitError, match="keeps no codes"):
        LatentSpace(replace(run, codes=run.codes | {"codes": torch.zeros(0, 3)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"probe_attributes": {}}},
        {"metrics": {"probe_names": ["hat"], "probe_attributes": {"hat": {}}, "factor_r2": {"height": 0.5}}},
        {"metrics": []},
        {"probe_weight": torch.zeros(2, 9)},
        {"factor_weight": torch.zeros(3, 3)},
    ],
)
def test_damaged_probes(run, changes):
    metrics = changes.pop("metrics", run.metrics)
    with pytest.raises(AlikitError, match=r"^what this run keeps of its probes is damaged: record it anew$"):
        LatentSpace(replace(run, metrics=metrics, codes=run.codes | changes))


@pytest.mark.parametrize("n", [0, 2, 64])
def test_codes_of_another_size(run, n):
    with pytest.raises(AlikitError, match=f"^a code of this run has 3 numbers, not {n}$"):
        LatentSpace(run).check(torch.zeros(n))


@pytest.mark.parametrize("name", ["q_mean", "q_covariance", "codes"])
def test_what_a_run_lacks_or_has_wrong_is_said_in_a_line(run, name):
    wrong = replace(run, codes=run.codes | {name: torch.zeros(2, 2)})
    with pytest.raises(AlikitError, match=r"^this run keeps codes that are not of its model's 3 numbers: [^\n]+$"):
        LatentSpace(wrong)
    lacking = replace(run, codes={k: v for k, v in run.codes.items() if k != name})
    with pytest.raises(AlikitError, match=f"^this run keeps no {name}: "):
        LatentSpace(lacking)


def test_a_model_without_an_encoder(run):
    gan = Game(run.model.decoder, 3)
    with pytest.raises(AlikitError, match="no encoder"):
        LatentSpace(replace(run, model=gan))
