"""Drawn digits: 28x28 grey pictures in the manner of MNIST, its stand-in where there is no network."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..dataset import Dataset
from .drawing import CHUNK, Factors, draw, spread
from .house_numbers import FONTS, GLYPH, TILE, atlas, blurred

SIZE = 28  # side of a picture in pixels
SOFT = 0.3  # from the inside of a stroke to the outside, in shares of its blurred ink


def drawn_digits(n: int, seed: int = 0) -> Dataset:
    """Draw n digits, light on black; the first k of them are the same for every n >= k.

    Returns a Dataset with x (n, 1, 28, 28) uint8, labels (n,) int64, the digit, and these factors, drawn independently
    of each other:

    - digit (n,) int64, 0 to 9: the same as labels
    - font (n,) int64: index into `house_numbers.FONTS`
    - height (n,) float32: of the upright digit's ink in pixels, before strokes swell, in [14, 18]
    - width (n,) float32: by what the font's own width is multiplied, in [0.85, 1.15]
    - slant (n,) float32: how far the top leans to the right, in parts of the height, in [-0.15, 0.35]
    - angle (n,) float32: in degrees counter-clockwise, in [-8, 8]
    - position (n, 2) float32: from the picture's centre to the centre of the digit's ink in pixels, x right and y down,
      in [-1, 1]; as in MNIST, ink is centred by its mass
    - stroke (n,) float32: how far strokes swell, in [0, 1]
    - light (n,) float32: of the brightest ink, in [0.75, 1]

    Lines also waver a little, which is not recorded. Torch's global generator is not used. Raises AlikitError for n < 1
    or seed < 0.
    """

    def chunk(generator: Generator) -> tuple[Tensor, Factors]:
        factors = _draw_factors(generator)
        ink = blurred(_place(factors, generator), torch.full((CHUNK,), 0.7))
        inside = ((ink - 0.35 + 0.2 * factors["stroke"][:, None, None]) / SOFT + 0.5).clamp(0, 1)
        # Without the last clause paper would be grey where strokes swell most.
        light = factors["light"][:, None, None] * inside * (ink > 0.02)
        return (light * 255).round().to(torch.uint8)[:, None], factors

    x, factors = draw(n, seed, chunk)
    return Dataset("drawn-digits", x, factors["digit"].clone(), tuple("0123456789"), factors)


def _draw_factors(generator: Generator) -> Factors:
    uniform, integer = partial(spread, generator), partial(torch.randint, generator=generator)
    return {
        "digit": integer(10, (CHUNK,)),
        "font": integer(len(FONTS), (CHUNK,)),
        "height": uniform(14, 18),
        "width": uniform(0.85, 1.15),
        "slant": uniform(-0.15, 0.35),
        "angle": uniform(-8, 8),
        "position": uniform(-1, 1, 2),
        "stroke": uniform(0, 1),
        "light": uniform(0.75, 1),
    }


def _place(factors: Factors, generator: Generator) -> Tensor:
    """Masks (B, 28, 28) in [0, 1]: the digits in place, their strokes as the font has them."""
    tiles = atlas()[0][factors["font"], factors["digit"]]  # (B, TILE, TILE)
    ticks = (torch.arange(TILE) + 0.5) / (TILE / 2) - 1
    mass = torch.stack([tiles.sum(1) @ ticks, tiles.sum(2) @ ticks], 1) / tiles.sum((1, 2))[:, None]  # in half tiles

    # affine_grid goes from a pixel to its texel, so this is the placing undone: move back, turn back, lean back, scale.
    # It counts in half sides: half pictures in, half tiles out.
    scale, angle = GLYPH / (TILE / 2) / factors["height"], torch.deg2rad(factors["angle"])  # half tiles per pixel
    cos, sin = angle.cos(), angle.sin()
    turn_back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    lean_back = torch.eye(2).repeat(CHUNK, 1, 1)
    lean_back[:, 0] = torch.stack([torch.ones(CHUNK), factors["slant"]], 1) / factors["width"][:, None]
    back = scale[:, None, None] * lean_back @ turn_back
    move = mass[:, :, None] - back @ factors["position"][:, :, None]
    grid = F.affine_grid(torch.cat([back * (SIZE / 2), move], dim=2), (CHUNK, 1, SIZE, SIZE), align_corners=False)
    waver = 0.03 * torch.randn(CHUNK, 2, 4, 4, generator=generator)
    grid = grid + F.interpolate(waver, (SIZE, SIZE), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(tiles[:, None], grid, align_corners=False)[:, 0]
