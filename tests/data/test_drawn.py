"""What holds for all drawn pictures: their form, what the seed decides, and what is refused."""

import pytest
import torch

from alikit.data import coloured_shapes, faces, house_numbers, load
from alikit.data.synthetic import drawing
from alikit.data.synthetic.drawing import CHUNK
from alikit.data.synthetic.shapes import ATTRIBUTES
from alikit.errors import AlikitError

N = 2000
# Of each factor: numbers in a row, least, greatest.
HOUSE_NUMBERS = """digit 1 0 9, font 1 0 17, neighbours 2 -1 9, position 2 -2 2, ink 3 0 1, paper 3 0 1, height 1 18 26,
    angle 1 -8 8, blur 1 0.3 1.2"""
SHAPES = """shape 1 0 9, fill 1 0 3, hue 1 0 4, ink 3 0 1, paper 3 0 1, position 2 -0.12 0.12, radius 1 0.24 0.36,
    angle 1 -25 25"""
FACES = """pose 1 -1 1, tilt 1 -8 8, position 2 -0.06 0.06, scale 1 0.95 1.03, skin 3 0.15 1, background 3 0.4 0.92,
    shirt 3 0.05 0.65, hat 3 0.05 0.75, iris 3 0.05 0.45, shade 1 -1 1, red 1 0 1"""


@pytest.mark.parametrize(
    ("draw", "name", "labels", "known"),
    [
        (house_numbers, "house-numbers", "digit", HOUSE_NUMBERS),
        (lambda n, seed=0: coloured_shapes(n, seed=seed), "shapes", "shape", SHAPES),
        (lambda n, seed=0: faces(n, seed=seed), "faces", None, FACES),
    ],
)
def test_form_and_what_the_seed_decides(draw, name, labels, known):
    state = torch.manual_seed(123).get_state()
    data = draw(N)
    assert torch.equal(torch.get_rng_state(), state)
    assert data.x.shape == (N, 3, 32, 32) and data.x.dtype == torch.uint8 and data.name == name
    if labels:
        assert torch.equal(data.labels, data.factors[labels]) and len(data.classes) == 10
    else:
        assert data.labels.shape == (N, len(data.classes)) and data.labels.dtype == torch.uint8
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


@pytest.mark.parametrize(
    ("name", "n", "side", "classes", "dtype"),
    [
        ("house-numbers", 20_000, 32, 10, torch.int64),
        ("faces", 20_000, 32, 14, torch.uint8),
        ("stand-in:cifar10", 10_000, 32, 10, torch.int64),
        ("stand-in:svhn", 20_000, 32, 10, torch.int64),
        ("stand-in:celeba", 5_000, 64, len(ATTRIBUTES), torch.uint8),
        ("stand-in:tiny-imagenet", 5_000, 64, 200, torch.int64),
    ],
)
def test_drawn_sources(monkeypatch, name, n, side, classes, dtype):
    """A fiftieth of each, which are the first ones."""
    calls = []

    def first(n: int, seed: int, chunk):
        calls.append((n, seed))
        return drawing.draw(n // 50, seed, chunk)

    for module in ("faces", "house_numbers", "shapes"):
        monkeypatch.setattr(f"alikit.data.synthetic.{module}.draw", first)
    parts = load(name)
    assert calls == [(n, 0), (n // 10, 1)]
    for part in parts:
        assert part.shape == (3, side, side) and part.x.dtype == torch.uint8 and part.labels.dtype == dtype
        assert part.name == name and len(part.classes) == classes
    rows = [{row.numpy().tobytes() for row in part.x} for part in parts]
    assert not rows[0] & rows[1]
