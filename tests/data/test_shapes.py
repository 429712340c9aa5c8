"""The drawn shapes: what the docstring promises, measured in the pictures themselves."""

import pytest
import torch
from ink import LUMA, centre_and_angle, coverage, cut_by_the_edge

from alikit.data import coloured_shapes
from alikit.data.synthetic.shapes import ATTRIBUTES, FILLS, HUES, SHAPES, _distances, stand_in

PLAIN = FILLS.index("plain")


@pytest.fixture(scope="module")
def data():
    return coloured_shapes(4000, size=64, seed=0)


def plain(data, name: str):
    """The unpatterned examples of one shape, with paper and ink far apart, so that noise and light hardly matter."""
    known = data.factors
    clear = (known["ink"] - known["paper"]).norm(dim=1) > 0.6
    return data.select(clear & (known["shape"] == SHAPES.index(name)) & (known["fill"] == PLAIN))


@pytest.mark.parametrize("name", ["disc", "square", "cross", "bar"])
def test_position_and_angle_are_true(data, name):
    """Within half a pixel of 64; the angle, counter-clockwise, of the only shape here with a long axis."""
    some = plain(data, name)
    centre, long_axis = centre_and_angle(coverage(some) > 0.5)
    assert len(some) > 20 and not cut_by_the_edge(coverage(some) > 0.6)
    assert (centre / 64 - some.factors["position"]).abs().quantile(0.95) < 0.5 / 64
    if name == "bar":
        assert ((long_axis + 90) % 180 - 90 - some.factors["angle"]).abs().quantile(0.95) < 1.5


@pytest.mark.parametrize(("name", "area"), [("disc", 0.85**2 * 3.1416), ("square", 1.36**2), ("bar", 1.84 * 0.6)])
def test_radius_is_true(data, name, area):
    """The area of the ink, in squared radii."""
    some = plain(data, name)
    measured = (coverage(some) > 0.5).sum((1, 2)) / 64**2 / some.factors["radius"].square()
    assert (measured / area - 1).abs().quantile(0.9) < 0.05


def test_a_ring_is_hollow_and_a_disc_is_not(data):
    for name, filled in (("ring", False), ("frame", False), ("disc", True), ("square", True), ("star", True)):
        some = plain(data, name)
        centre = ((some.factors["position"] + 0.5) * 64).long()
        at = coverage(some)[torch.arange(len(some)), centre[:, 1], centre[:, 0]]
        assert ((at > 0.5) == filled).float().mean() > 0.95, name


def test_points_up_and_opens_to_the_right():
    """A triangle and a star have their point at the top, a heart at the foot; the crescent is open on the right."""
    halves = {name: inside.float() for name, inside in zip(SHAPES, _distances() < 0, strict=True)}
    for name in ("triangle", "star"):
        assert halves[name][14:20].sum() < halves[name][60:66].sum()
    assert halves["heart"][20:30].sum() > halves["heart"][-30:-20].sum()
    assert halves["crescent"][:, :48].sum() > 2 * halves["crescent"][:, 48:].sum()


def test_patterns_fade_part_of_the_ink(data):
    discs = data.select((data.labels == SHAPES.index("disc")) & (data.factors["radius"] > 0.3))
    ink = coverage(discs)
    full, faded = (ink > 0.7).sum((1, 2)).float(), ((ink > 0.2) & (ink < 0.5)).sum((1, 2)).float()
    for kind, name in enumerate(FILLS):
        share = (faded / (full + faded))[discs.factors["fill"] == kind].median()
        assert (share < 0.1) if kind == PLAIN else (0.2 < share < 0.65), name


# The stand-ins.


def test_the_200_classes_name_what_is_drawn():
    data = stand_in("tiny-imagenet", 300, 16)
    for i in range(300):
        hue, fill, shape = data.classes[data.labels[i]].split()
        known = {name: int(data.factors[name][i]) for name in ("hue", "fill", "shape")}
        assert (list(HUES)[known["hue"]], FILLS[known["fill"]], SHAPES[known["shape"]]) == (hue, fill, shape)
    assert len(set(data.classes)) == 200


def test_hues_are_what_they_are_called(data):
    red, green, blue = data.factors["ink"].unbind(1)
    seen = {
        "red": (red > green + 0.3) & (red > blue + 0.3),
        "yellow": (red > blue + 0.3) & (green > blue + 0.3),
        "green": (green > red + 0.3) & (green > blue + 0.3),
        "blue": (blue > red + 0.3) & (blue > green),
        "violet": (blue > green + 0.3) & (red > green + 0.3),
    }
    for hue, name in enumerate(HUES):
        assert seen[name][data.factors["hue"] == hue].all(), name


def test_attributes_are_independent():
    data = stand_in("celeba", 4000, 8)
    assert set(data.labels.unique().tolist()) == {0, 1} and data.classes == tuple(ATTRIBUTES)
    assert torch.equal(data.labels[:, data.classes.index("Bright_Paper")].bool(), data.factors["paper"] @ LUMA > 0.5)
    correlations = torch.corrcoef(data.labels.T.float()) - torch.eye(len(ATTRIBUTES))
    assert correlations.abs().max() < 0.06  # standard deviation 0.016
