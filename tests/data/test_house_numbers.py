"""The rendered house numbers: what the docstring promises, measured in the pictures themselves."""

import pytest
import torch
from ink import LUMA, centre_and_angle, coverage, cut_by_the_edge
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from alikit.data import Dataset
from alikit.data.synthetic.house_numbers import FONTS, MIN_CONTRAST, house_numbers

SLANTED = torch.tensor(["Oblique" in name or "Ita" in name for name in FONTS])
BOLD = torch.tensor([name == "cmb10" or "Bol" in name for name in FONTS])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return house_numbers(8_000, seed=0)


@pytest.fixture(scope="module")
def clear(data) -> Dataset:
    """Light ink on dark paper, sharp: uneven lighting scales with the colour, so here it hardly moves the paper."""
    luma_ink, luma_paper = data.factors["ink"] @ LUMA, data.factors["paper"] @ LUMA
    return data.select((luma_paper < 0.3) & (luma_ink - luma_paper > 0.4) & (data.factors["blur"] < 0.8))


def alone(data: Dataset) -> torch.Tensor:
    return (data.factors["neighbours"] == -1).all(1)


def extent(inked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and one past the last True (N,) along the last axis of (N, 32)."""
    return inked.int().argmax(1), inked.shape[1] - inked.flip(1).int().argmax(1)


def test_digits_fonts_and_polarities_are_balanced_and_contrast_has_its_range(data):
    assert data.labels.bincount(minlength=10).min() > 700  # 800 expected, standard deviation 27
    assert data.factors["font"].bincount(minlength=len(FONTS)).min() > 300  # 400 expected, standard deviation 19
    contrast = data.factors["ink"] @ LUMA - data.factors["paper"] @ LUMA
    assert 0.45 < (contrast > 0).float().mean() < 0.55
    assert -1e-5 < contrast.abs().min() - MIN_CONTRAST < 0.05  # float32 rounding


def test_ink_and_paper_are_the_colours_in_the_picture(data):
    thick = data.select(BOLD[data.factors["font"]] & (data.factors["blur"] < 0.6))
    darkness = coverage(thick)
    for name, chosen in (("paper", darkness < 0.3), ("ink", darkness > 0.9)):
        count = chosen.sum((1, 2))
        enough = count >= 20
        mean = (thick.floats() * chosen[:, None]).sum((2, 3))[enough] / count[enough, None]
        error = (mean - thick.factors[name][enough]).abs().amax(1)
        other = (mean - thick.factors["ink" if name == "paper" else "paper"][enough]).abs().amax(1)
        assert enough.float().mean() > 0.9
        assert error.quantile(0.95) < 0.12 and (error < other).float().mean() > 0.99, name


def test_position_and_height_are_true(clear):
    upright = clear.select(alone(clear) & (clear.factors["angle"].abs() < 2))
    ink, position, height = coverage(upright) > 0.4, upright.factors["position"], upright.factors["height"]
    left, right = extent(ink.any(1))
    top, bottom = extent(ink.any(2))
    x, y, tall = (left + right) / 2 - 16, (top + bottom) / 2 - 16, (bottom - top).float()
    assert len(upright) > 50 and not cut_by_the_edge(coverage(clear.select(alone(clear))) > 0.6)
    for measured, true, most in ((x, position[:, 0], 1), (y, position[:, 1], 1), (tall, height, 2)):
        assert (measured - true).abs().max() < most and (measured - true).mean().abs() < 0.3
        assert torch.corrcoef(torch.stack([measured, true]))[0, 1] > 0.9


def test_angle_is_true_and_counter_clockwise(clear):
    symmetric = (clear.labels == 0) | (clear.labels == 8)
    chosen = clear.select(symmetric & alone(clear) & ~SLANTED[clear.factors["font"]])
    _, long_axis = centre_and_angle(coverage(chosen) > 0.3)  # 90 for a digit that stands upright
    assert len(chosen) > 25
    assert (long_axis - 90 - chosen.factors["angle"]).abs().median() < 1.5
    assert torch.corrcoef(torch.stack([long_axis, chosen.factors["angle"]]))[0, 1] > 0.9


def test_neighbours_are_where_they_are_said_to_be(clear):
    small = clear.select((clear.factors["height"] < 22) & (clear.factors["position"][:, 0].abs() < 1))
    ink = coverage(small) > 0.4
    for side, strip in ((0, ink[:, :, :3]), (1, ink[:, :, -3:])):
        neighbour = small.factors["neighbours"][:, side]
        seen = strip.any(2).any(1)
        assert not seen[neighbour == -1].any()
        assert seen[neighbour != -1].float().mean() > 0.95


@pytest.mark.parametrize("side, columns", [(0, slice(0, 6)), (1, slice(26, 32))])
def test_a_neighbour_is_the_digit_it_is_said_to_be(clear, side, columns):
    """The foot of a 2 reaches far to both sides, that of a 7 stands in the middle."""
    neighbour = clear.factors["neighbours"][:, side]
    upright = (clear.factors["angle"].abs() < 4) & ~SLANTED[clear.factors["font"]]
    foot = coverage(clear)[:, 21:28, columns].clamp(0, 1).mean((1, 2))
    assert foot[upright & (neighbour == 2)].mean() > 1.5 * foot[upright & (neighbour == 7)].mean()


def test_a_simple_classifier_reads_the_digits():
    """An SVM on grey pictures, contrast and polarity taken out; chance is 0.1."""

    def features(data: Dataset) -> torch.Tensor:
        grey = torch.einsum("nchw,c->nhw", data.floats(), LUMA).flatten(1)
        grey = (grey - grey.mean(1, keepdim=True)) / grey.std(1, keepdim=True)
        return grey * grey.pow(3).mean(1, keepdim=True).sign()  # ink is the rarer colour: the skew has its sign

    train, test = house_numbers(4_000, seed=10), house_numbers(1_000, seed=11)
    classifier = make_pipeline(PCA(80, random_state=0), SVC(C=10)).fit(features(train), train.labels)
    assert classifier.score(features(test), test.labels) > 0.9


def test_blur_and_font_are_true(data, clear):
    """Blur softens the edges; over the same digits, bold fonts put down more ink for their height than the others."""
    thick = data.select(BOLD[data.factors["font"]])
    steepest, blur = coverage(thick).diff(dim=2).abs().flatten(1).quantile(0.95, dim=1), thick.factors["blur"]
    assert steepest[blur < 0.5].mean() > 1.5 * steepest[blur > 1.0].mean()
    lonely = clear.select(alone(clear))
    ink = coverage(lonely).clamp(0, 1).sum((1, 2)) / lonely.factors["height"].square()
    bold = BOLD[lonely.factors["font"]]
    assert ink[bold].mean() > 1.3 * ink[~bold].mean()
