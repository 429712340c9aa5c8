"""Coloured shapes drawn here: stand-ins for the photographs of CIFAR-10, CelebA and Tiny ImageNet.

A stand-in has the shape and the kind of labels of the data set whose place it takes, so that everything runs where
there is no network. No number measured on it says anything about that data set.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...errors import AlikitError
from ..dataset import Dataset
from .drawing import CHUNK, Factors, draw, photograph, rgb, spread

SHAPES = ("disc", "ring", "crescent", "heart", "square", "frame", "bar", "triangle", "star", "cross")
FILLS = ("plain", "striped", "dotted", "chequered")
HUES = {"red": 0, "yellow": 50, "green": 125, "blue": 215, "violet": 290}  # degrees on the colour circle
LUMA = torch.tensor([0.299, 0.587, 0.114])
TILE, REACH = 96, 1.3  # texels of a side of a shape's tile, which reaches so many radii from the shape's centre

ATTRIBUTES: dict[str, Callable[[Factors], Tensor]] = {
    "Bright_Paper": lambda known: known["paper"] @ LUMA > 0.5,
    "Curved": lambda known: known["shape"] < SHAPES.index("square"),
    "High": lambda known: known["position"][:, 1] < 0,
    "Large": lambda known: known["radius"] > 0.3,
    "Left": lambda known: known["position"][:, 0] < 0,
    "Patterned": lambda known: known["fill"] > 0,
    "Turned_Left": lambda known: known["angle"] > 0,
    "Warm_Colour": lambda known: known["hue"] < 2,
}


def coloured_shapes(n: int, size: int = 32, seed: int = 0) -> Dataset:
    """Draw n coloured shapes on grey paper; the first k of them are the same for every n >= k.

    Returns a Dataset with x (n, 3, size, size) uint8, labels (n,) int64, the shape, and these factors, all drawn
    independently of each other; lengths are in parts of the picture's side:

    - shape, fill, hue (n,) int64: indices into SHAPES, FILLS and HUES
    - ink, paper (n, 3) float32: red, green, blue in [0, 1] before light and noise; the paper is nearly grey
    - position (n, 2) float32: from the picture's centre to the shape's, x right and y down, in [-0.12, 0.12]
    - radius (n,) float32: of a circle round the shape, in [0.24, 0.36]; the shape is never cut by the edge
    - angle (n,) float32: in degrees counter-clockwise, in [-25, 25]

    The same seed gives the same factors at every size. Raises AlikitError for n < 1, seed < 0 or size < 8.
    """
    if size < 8:
        raise AlikitError(f"shapes of {size} pixels cannot be told apart: choose at least 8")

    def chunk(generator: Generator) -> tuple[Tensor, Factors]:
        factors = _draw_factors(generator)
        return photograph(_render(factors, size), generator), factors

    x, factors = draw(n, seed, chunk)
    return Dataset("shapes", x, factors["shape"].clone(), SHAPES, factors)


def stand_in(name: str, n: int, size: int, seed: int = 0) -> Dataset:
    """Shapes labelled in the manner of a data set: `cifar10`, `celeba` or `tiny-imagenet`.

    For cifar10 the 10 shapes are the classes; for tiny-imagenet the 200 combinations of hue, fill and shape; for
    celeba the labels are (n, 8) uint8, the attributes of ATTRIBUTES, which are not CelebA's.
    """
    data = coloured_shapes(n, size, seed).but(name=f"stand-in:{name}")
    known = data.factors
    if name == "celeba":
        labels = torch.stack([present(known) for present in ATTRIBUTES.values()], dim=1).to(torch.uint8)
        return data.but(labels=labels, classes=tuple(ATTRIBUTES))
    if name == "tiny-imagenet":
        labels = (known["hue"] * len(FILLS) + known["fill"]) * len(SHAPES) + known["shape"]
        classes = tuple(f"{hue} {fill} {shape}" for hue in HUES for fill in FILLS for shape in SHAPES)
        return data.but(labels=labels, classes=classes)
    return data


def _draw_factors(generator: Generator) -> Factors:
    uniform = partial(spread, generator)

    def one_of(names) -> Tensor:
        return torch.randint(len(names), (CHUNK,), generator=generator)

    hue = one_of(HUES)
    degrees = torch.tensor(list(HUES.values()))[hue] + uniform(-10, 10)
    return {
        "shape": one_of(SHAPES),
        "fill": one_of(FILLS),
        "hue": hue,
        "ink": rgb(degrees[:, None] / 60, saturation=uniform(0.65, 1, 1), value=uniform(0.7, 1, 1)),
        "paper": (uniform(0.1, 0.9, 1) + uniform(-0.06, 0.06, 3)).clamp(0, 1),
        "position": uniform(-0.12, 0.12, 2),
        "radius": uniform(0.24, 0.36),
        "angle": uniform(-25, 25),
    }


def _render(factors: Factors, size: int) -> Tensor:
    """Pictures (B, 3, size, size) in [0, 1], before light and noise."""
    # affine_grid goes from a pixel to its texel, so this is the placing undone: move back, turn back, scale.
    radius, angle = factors["radius"], torch.deg2rad(factors["angle"])
    cos, sin = angle.cos() / radius / REACH, angle.sin() / radius / REACH
    turn_back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    theta = torch.cat([turn_back / 2, -turn_back @ factors["position"][:, :, None]], dim=2)
    grid = F.affine_grid(theta, (CHUNK, 1, size, size), align_corners=False)  # (B, size, size, 2)
    tiles = _distances()[factors["shape"]][:, None]
    distance = F.grid_sample(tiles, grid, padding_mode="border", align_corners=False)  # in radii
    inside = (0.5 - distance * radius[:, None, None, None] * size).clamp(0, 1)
    # How far the ink fades towards the paper, by place on the shape in radii: one pattern for each of FILLS.
    u, v = (grid * REACH * (2 * math.pi / 0.6)).unbind(-1)
    waves = torch.stack(
        [torch.full_like(u, -1), u.sin(), u.cos() + v.cos() - 0.4, (u / 1.4).sin() * (v / 1.4).sin() * 2]
    )
    faded = (0.5 + 1.5 * waves[factors["fill"], torch.arange(CHUNK)]).clamp(0, 1)[:, None] * 0.65
    paper, ink = factors["paper"][:, :, None, None], factors["ink"][:, :, None, None]
    return torch.lerp(paper, torch.lerp(ink, paper, faded), inside)


@cache
def _distances() -> Tensor:
    """Signed distances (shapes, TILE, TILE) to the shapes' outlines, in radii, negative inside."""
    ticks = ((torch.arange(TILE) + 0.5) / TILE * 2 - 1) * REACH
    outline = partial(_outline, torch.cartesian_prod(ticks, ticks).flip(1))  # x right, y down, row by row
    turn = torch.arange(64) / 64 * 2 * math.pi
    sin, cos = turn.sin(), turn.cos()
    circle = torch.stack([cos, sin], dim=1)
    heart = torch.stack([16 * sin**3, -(13 * cos - 5 * (2 * turn).cos() - 2 * (3 * turn).cos() - (4 * turn).cos())], 1)
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    spikes = torch.arange(10) / 10 * 2 * math.pi
    star = torch.stack([spikes.sin(), -spikes.cos()], dim=1) * torch.tensor([1, 0.42]).repeat(5)[:, None]
    arm = torch.tensor([[-1.0, -3], [1, -3], [1, -1], [3, -1], [3, 1], [1, 1]])
    distances = {
        "disc": outline(0.85 * circle),
        "ring": outline(0.75 * circle).abs() - 0.17,
        "crescent": torch.maximum(outline(0.95 * circle), -outline(0.8 * circle + torch.tensor([0.5, 0]))),
        "heart": outline(heart / 17.5),
        "square": outline(0.68 * corners),
        "frame": outline(0.56 * corners).abs() - 0.13,
        "bar": outline(corners * torch.tensor([0.92, 0.3])),
        "triangle": outline(torch.stack([sin, -cos], dim=1)[[0, 21, 43]]),
        "star": outline(star),
        "cross": outline(torch.cat([arm, -arm]) * 0.31),
    }
    return torch.stack([distances[name] for name in SHAPES]).view(-1, TILE, TILE)


def _outline(places: Tensor, corners: Tensor) -> Tensor:
    """Signed distances (P,) of places (P, 2) to the polygon with these corners (K, 2), negative inside."""
    begin, side = corners, corners.roll(-1, 0) - corners
    away = places[:, None] - begin  # (P, K, 2)
    along = ((away * side).sum(2) / side.square().sum(1)).clamp(0, 1)
    distance = (away - along[..., None] * side).norm(dim=2).amin(1)
    # A ray to the right crosses the outline an odd number of times from inside.
    beside = (away[..., 1] < 0) != (away[..., 1] < side[:, 1])
    crossed = beside & (away[..., 0] < side[:, 0] * away[..., 1] / side[:, 1])
    return torch.where(crossed.sum(1) % 2 == 1, -distance, distance)
