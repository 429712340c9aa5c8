"""The drawn pictures. That they show their factors recorded networks see: test_faces.py and test_study_tools.py."""

import pytest
import torch

from alikit.data import Dataset, coloured_shapes, drawn_digits, faces, house_numbers, load
from alikit.data.synthetic import drawing
from alikit.data.synthetic.drawing import CHUNK
from alikit.data.synthetic.house_numbers import MIN_CONTRAST
from alikit.data.synthetic.shapes import ATTRIBUTES, FILLS, HUES, SHAPES, stand_in
from alikit.errors import AlikitError

LUMA = torch.tensor([0.299, 0.587, 0.114])
N = 2000
# Of each factor: numbers in a row, least, greatest.
OF_NUMBERS = """digit 1 0 9, font 1 0 17, neighbours 2 -1 9, position 2 -2 2, ink 3 0 1, paper 3 0 1, height 1 18 26,
    angle 1 -8 8, blur 1 0.3 1.2"""
OF_DIGITS = """digit 1 0 9, font 1 0 17, height 1 14 18, width 1 0.85 1.15, slant 1 -0.15 0.35, angle 1 -8 8,
    position 2 -1 1, stroke 1 0 1, light 1 0.75 1"""
OF_SHAPES = """shape 1 0 9, fill 1 0 3, hue 1 0 4, ink 3 0 1, paper 3 0 1, position 2 -0.12 0.12, radius 1 0.24 0.36,
    angle 1 -25 25"""
OF_FACES = """pose 1 -1 1, tilt 1 -8 8, position 2 -0.06 0.06, scale 1 0.95 1.03, skin 3 0.15 1, background 3 0.4 0.92,
    shirt 3 0.05 0.65, hat 3 0.05 0.75, iris 3 0.05 0.45, shade 1 -1 1, red 1 0 1"""


@pytest.mark.parametrize(
    ("draw", "name", "labels", "known"),
    [
        (house_numbers, "house-numbers", "digit", OF_NUMBERS),
        (drawn_digits, "drawn-digits", "digit", OF_DIGITS),
        (lambda n, seed=0: coloured_shapes(n, seed=seed), "shapes", "shape", OF_SHAPES),
        (lambda n, seed=0: faces(n, seed=seed), "faces", None, OF_FACES),
    ],
)
def test_form_and_what_the_seed_decides(draw, name, labels, known):
    state = torch.manual_seed(123).get_state()
    data = draw(N)
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        data.x.shape == (N, *((1, 28, 28) if draw is drawn_digits else (3, 32, 32)))
        and data.x.dtype == torch.uint8
        and data.name == name
    )
    assert not labels or torch.equal(data.labels, data.factors[labels])
    if draw is house_numbers:
        contrast = (data.factors["ink"] - data.factors["paper"]) @ LUMA
        assert -1e-5 < contrast.abs().min() - MIN_CONTRAST < 0.05 and 0.45 < (contrast > 0).float().mean() < 0.55
    known = {factor: map(float, numbers) for factor, *numbers in map(str.split, known.split(","))}
    assert data.factors.keys() == known.keys()
    for factor, (width, least, greatest) in known.items():
        values = data.factors[factor]
        assert values.shape == ((N, width) if width > 1 else (N,)), factor
        low, high = values.float().aminmax()
        assert low >= least - 1e-6 and high <= greatest + 1e-6, factor
        assert high - low > 0.8 * (greatest - least), f"{factor} does not use its range"
    for n in (1, CHUNK, CHUNK + 1):
        fewer = draw(n)
        assert torch.equal(fewer.x, data.x[:n]) and torch.equal(fewer.labels, data.labels[:n])
        assert all(torch.equal(fewer.factors[factor], data.factors[factor][:n]) for factor in known)
    other = draw(CHUNK, 1)
    assert len(torch.cat([other.x, data.x]).flatten(1).unique(dim=0)) == CHUNK + N
    for n, seed in ((0, 0), (5, -1)):
        with pytest.raises(AlikitError, match=f"cannot draw {n} pictures from seed {seed}: choose at least 1"):
            draw(n, seed)


@pytest.mark.parametrize(("draw", "too_small"), [(coloured_shapes, 7), (faces, 31)])
def test_the_same_at_every_size(draw, too_small):
    small, large = draw(20, 32), draw(20, 64)
    assert large.shape == (3, 64, 64) and torch.equal(large.labels, small.labels)
    assert all(torch.equal(large.factors[name], small.factors[name]) for name in small.factors)
    shrunk = torch.nn.functional.avg_pool2d(large.floats(), 2)
    assert (shrunk - small.floats()).abs().mean() < 0.06
    with pytest.raises(AlikitError, match=f"at least {too_small + 1}"):
        draw(5, too_small)


SOURCES = {  # examples to train on, pixels a side, classes
    "house-numbers": (20_000, 32, 10),
    "faces": (20_000, 32, 14),
    "stand-in:mnist": (20_000, 28, 10),
    "stand-in:cifar10": (10_000, 32, 10),
    "stand-in:svhn": (20_000, 32, 10),
    "stand-in:celeba": (5_000, 64, len(ATTRIBUTES)),
    "stand-in:tiny-imagenet": (5_000, 64, 200),
}


@pytest.mark.parametrize("name", SOURCES)
def test_drawn_sources(monkeypatch, name):
    """A fiftieth of each, which are the first ones."""
    calls, (n, side, classes) = [], SOURCES[name]
    for module in ("digits", "faces", "house_numbers", "shapes"):
        draw = lambda n, seed, chunk: calls.append((n, seed)) or drawing.draw(n // 50, seed, chunk)  # noqa: E731
        monkeypatch.setattr(f"alikit.data.synthetic.{module}.draw", draw)
    parts = load(name)
    assert calls == [(n, 0), (n // 10, 1)]
    for part in parts:
        assert (
            part.shape == (1 if name == "stand-in:mnist" else 3, side, side)
            and part.name == name
            and len(part.classes) == classes
        )
        assert part.labels.dtype == (torch.uint8 if name in ("faces", "stand-in:celeba") else torch.int64)
    rows = [{row.numpy().tobytes() for row in part.x} for part in parts]
    assert not rows[0] & rows[1]


def test_drawn_digits_look_like_mnist():
    """Light on black, swollen strokes cover more, and ink is centred by its mass where `position` says, but for the
    wavering of lines."""
    data = drawn_digits(N)
    x, known = data.floats()[:, 0], data.factors
    assert (x == 0).float().mean() > 0.7 and (x.amax((1, 2)) - known["light"]).abs().max() < 0.01
    assert 0.1 < x.mean() < 0.16, "MNIST's is 0.13"
    ticks = torch.arange(28) - 13.5
    centre = torch.stack([x.sum(1) @ ticks, x.sum(2) @ ticks], 1) / x.sum((1, 2))[:, None]
    assert (centre - known["position"]).norm(dim=1).quantile(0.95) < 0.8
    assert torch.corrcoef(torch.stack([(x > 0).sum((1, 2)).float(), known["stroke"]]))[0, 1] > 0.4
    right, down = ticks - centre[:, :1, None], ticks[:, None] - centre[:, 1:, None]
    leans = -(x * right * down).sum((1, 2)) / (x * down.square()).sum((1, 2))
    of_zeros = known["digit"] == 0
    assert torch.corrcoef(torch.stack([leans, known["slant"]])[:, of_zeros])[0, 1] > 0.6


# Shapes.


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    return coloured_shapes(4000, size=64, seed=0)


AREAS = {"disc": 2.27, "square": 1.85, "bar": 1.104, "cross": 1.922, "ring": 1.602, "frame": 1.15}  # in squared radii


@pytest.mark.parametrize("name", AREAS)
def test_position_radius_and_angle_are_true(shapes, name):
    """Within half a pixel of 64, of plain shapes that stand out; the angle of the only one here with a long axis."""
    known = shapes.factors
    clear = (known["ink"] - known["paper"]).norm(dim=1) > 0.6
    some = shapes.select(clear & (known["shape"] == SHAPES.index(name)) & (known["fill"] == FILLS.index("plain")))
    known, (ink, paper) = some.factors, (some.factors[name][:, :, None, None] for name in ("ink", "paper"))
    covered = ((some.floats() - paper) * (ink - paper)).sum(1) / (ink - paper).square().sum(1)  # by ink, 0 to 1
    assert len(some) > 20 and covered[:, [0, -1]].max() < 0.6 and covered[:, :, [0, -1]].max() < 0.6, "it is cut"
    area, ticks = (covered > 0.5).sum((1, 2)), torch.arange(64) + 0.5 - 32
    assert (area / 64**2 / known["radius"].square() / AREAS[name] - 1).abs().quantile(0.9) < 0.05
    share = (covered > 0.5) / area[:, None, None]
    centre = torch.stack([(share * ticks).sum((1, 2)), (share * ticks[:, None]).sum((1, 2))], 1)  # right and down
    assert (centre / 64 - known["position"]).abs().quantile(0.95) < 0.5 / 64
    x, y = ((known["position"] + 0.5) * 64).long().T
    is_hollow = covered[torch.arange(len(some)), y, x] < 0.5
    assert (is_hollow == (name in ("ring", "frame"))).float().mean() > 0.95
    if name == "bar":
        right, up = ticks - centre[:, :1, None], centre[:, 1:, None] - ticks[:, None]
        xx, xy, yy = ((share * product).sum((1, 2)) for product in (right * right, right * up, up * up))
        angle = torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2)  # counter-clockwise
        assert (angle - known["angle"]).abs().quantile(0.95) < 1.5


def test_hues_and_patterns_are_what_they_are_called(shapes):
    """By which of red, green and blue are brighter than the three are on average."""
    bright = shapes.factors["ink"] > shapes.factors["ink"].mean(1, keepdim=True)
    parts = {"red": [1, 0, 0], "yellow": [1, 1, 0], "green": [0, 1, 0], "blue": [0, None, 1], "violet": [1, 0, 1]}
    for hue, name in enumerate(HUES):
        for part, expected in zip(bright[shapes.factors["hue"] == hue].T, parts[name], strict=True):
            assert expected is None or (part == expected).all(), name
    discs = shapes.select((shapes.labels == SHAPES.index("disc")) & (shapes.factors["radius"] > 0.3))
    contrast = discs.x[:, :, 24:40, 24:40].float().std((2, 3)).amax(1)
    spread = [contrast[discs.factors["fill"] == kind].median().item() for kind in range(len(FILLS))]
    assert 2 * spread[FILLS.index("plain")] < min(spread[1:]), spread


def test_labels_of_stand_ins_name_what_is_drawn():
    data = stand_in("tiny-imagenet", 300, 16)
    known = zip(*(data.factors[name].tolist() for name in ("hue", "fill", "shape")), strict=True)
    words = [f"{[*HUES][hue]} {FILLS[fill]} {SHAPES[shape]}" for hue, fill, shape in known]
    assert [data.classes[label] for label in data.labels] == words and len({*data.classes}) == 200
    data = stand_in("celeba", 4000, 8)
    assert set(data.labels.unique().tolist()) == {0, 1} and data.classes == tuple(ATTRIBUTES)
    assert torch.equal(data.labels[:, data.classes.index("Bright_Paper")].bool(), data.factors["paper"] @ LUMA > 0.5)
    correlations = torch.corrcoef(data.labels.T.float()) - torch.eye(len(ATTRIBUTES))
    assert correlations.abs().max() < 0.06  # standard deviation 0.016
