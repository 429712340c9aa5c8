"""House numbers: 32x32 colour digits drawn here, a stand-in for SVHN where there is no network.

As in SVHN, the digit to be read stands in the middle, often with parts of its neighbours at the sides. Unlike in SVHN,
every factor of a picture is known, so one can measure what a learned z keeps of it.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from ..dataset import Dataset
from .drawing import CHUNK, Factors, draw, photograph, spread

# Files in matplotlib's font folder, the same on every machine. Left out are fonts without digits, fonts with digits of
# another font (DejaVuSansMono has some of DejaVuSans, cmmi10 of cmr10), and cmti10, whose 4 hangs below the line.
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmr10", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip

SIZE = 32  # side of a picture in pixels
# A glyph in the atlas is GLYPH texels high on a tile of TILE x TILE. At heights of 18 to 26 pixels, one pixel in the
# picture is 1.2 to 1.8 texels: below 2, so bilinear sampling skips no texel and thin strokes do not break up.
GLYPH, TILE, OVERSAMPLING = 32, 40, 8
GAP = 0.12  # between neighbouring digits, in units of their height
MIN_CONTRAST = 0.3  # between the lumas of ink and paper; luma is 0.299 R + 0.587 G + 0.114 B


def house_numbers(n: int, seed: int = 0) -> Dataset:
    """Draw n house numbers; the first k of them are the same for every n >= k.

    Returns a Dataset with x (n, 3, 32, 32) uint8, labels (n,) int64, the digit in the middle, and these factors, drawn
    independently of each other except for ink and paper:

    - digit (n,) int64, 0 to 9: the same as labels
    - font (n,) int64: index into FONTS
    - ink, paper (n, 3) float32: red, green, blue in [0, 1] before lighting, blur and noise. Their lumas differ by at
      least MIN_CONTRAST; either may be the lighter one.
    - position (n, 2) float32: from the picture's centre to the digit's centre in pixels, x right in [-2, 2], y down
      in [-1.5, 1.5]; the digit is never cut by the edge
    - height (n,) float32: of the upright digit's ink in pixels, in [18, 26]
    - angle (n,) float32: in degrees counter-clockwise, in [-8, 8]
    - blur (n,) float32: standard deviation of a Gaussian blur in pixels, in [0.3, 1.2]
    - neighbours (n, 2) int64: the digits to the left and to the right, -1 where there is none

    Uneven lighting and sensor noise are not recorded. Torch's global generator is not used. Raises AlikitError for
    n < 1 or seed < 0.
    """

    def chunk(generator: Generator) -> tuple[Tensor, Factors]:
        factors = _draw_factors(generator)
        mask = blurred(_place(factors), factors["blur"])[:, None]  # (B, 1, 32, 32)
        paper, ink = factors["paper"][:, :, None, None], factors["ink"][:, :, None, None]
        return photograph(torch.lerp(paper, ink, mask), generator), factors

    x, factors = draw(n, seed, chunk)
    return Dataset("house-numbers", x, factors["digit"].clone(), tuple("0123456789"), factors)


def _draw_factors(generator: Generator) -> Factors:
    uniform, integer = partial(spread, generator), partial(torch.randint, generator=generator)
    contrast = uniform(MIN_CONTRAST, 0.8)
    dark = 0.05 + (0.9 - contrast) * uniform(0, 1)
    luma = torch.stack([dark, dark + contrast], dim=1)
    luma = torch.where(uniform(0, 1, 1) < 0.5, luma, luma.flip(1))[..., None]  # (B, 2, 1): ink, paper
    # Colours of that luma: greyish, and more often orange or blue than green or pink.
    tint = torch.randn(CHUNK, 2, 2, generator=generator)
    cb = 0.07 * tint[..., 0]
    cr = -0.8 * cb + 0.03 * tint[..., 1]
    chroma = torch.stack([1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb], dim=-1)
    # Clamping would change the luma and with it the contrast; fading the colour towards grey keeps it.
    room = torch.where(chroma > 0, 1 - luma, luma) / chroma.abs().clamp_min(1e-6)
    ink, paper = (luma + chroma * room.amin(-1, keepdim=True).clamp_max(1)).clamp(0, 1).unbind(1)
    return {
        "digit": integer(10, (CHUNK,)),
        "font": integer(len(FONTS), (CHUNK,)),
        "ink": ink,
        "paper": paper,
        "position": uniform(-1, 1, 2) * torch.tensor([2.0, 1.5]),
        "height": uniform(18, 26),
        "angle": uniform(-8, 8),
        "blur": uniform(0.3, 1.2),
        "neighbours": torch.where(uniform(0, 1, 2) < 0.5, integer(10, (CHUNK, 2)), -1),
    }


def _place(factors: Factors) -> Tensor:
    """Masks (B, 32, 32) in [0, 1]: the digit and its neighbours on one line, in place but still sharp."""
    tiles, all_widths = atlas()
    left, right = factors["neighbours"].unbind(1)
    digits = torch.stack([left, factors["digit"], right], dim=1)  # (B, 3), -1 is the blank tile
    fonts = factors["font"][:, None]
    widths = all_widths[fonts, digits]  # in units of the height
    along = torch.zeros(CHUNK, 3)  # where on the line each glyph is centred, in units of the height
    along[:, 0] = -(widths[:, 0] + widths[:, 1]) / 2 - GAP
    along[:, 2] = (widths[:, 1] + widths[:, 2]) / 2 + GAP

    # affine_grid goes from a pixel to its texel, so this is the placing undone: move back, turn back, scale. It counts
    # in half sides: half pictures in, half tiles out.
    scale = GLYPH / (TILE / 2) / factors["height"]  # half tiles per pixel
    angle = torch.deg2rad(factors["angle"])
    cos, sin = angle.cos() * scale, angle.sin() * scale
    turn_back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    theta = torch.zeros(CHUNK, 3, 2, 3)
    theta[..., :2] = turn_back[:, None] * (SIZE / 2)
    theta[..., 2] = -(turn_back @ factors["position"][:, :, None])[:, None, :, 0]
    theta[:, :, 0, 2] -= along * GLYPH / (TILE / 2)
    grid = F.affine_grid(theta.view(-1, 2, 3), (CHUNK * 3, 1, SIZE, SIZE), align_corners=False)
    glyphs = F.grid_sample(tiles[fonts, digits].view(-1, 1, TILE, TILE), grid, align_corners=False)
    return glyphs.view(CHUNK, 3, SIZE, SIZE).amax(1)


def blurred(mask: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian blur with its own sigma (B,) for each mask (B, S, S), as two matrix products: rows, then columns."""
    pixel = torch.arange(mask.shape[2])
    squared_distance = (pixel[:, None] - pixel).square()
    weights = torch.softmax(-squared_distance / (2 * sigma[:, None, None].square()), dim=-1)  # (B, S, S)
    return weights @ mask @ weights.mT


@cache
def atlas() -> tuple[Tensor, Tensor]:
    """Masks (fonts, 11, TILE, TILE) in [0, 1], widths (fonts, 11) in units of the height; the last tile is blank."""
    import matplotlib  # takes a tenth of a second: only where digits are drawn

    tiles, widths = torch.zeros(len(FONTS), 11, TILE, TILE), torch.zeros(len(FONTS), 11)
    folder, high = Path(matplotlib.get_data_path()) / "fonts" / "ttf", GLYPH * OVERSAMPLING
    for i, name in enumerate(FONTS):
        font = ImageFont.truetype(folder / f"{name}.ttf", 2 * high)
        for digit in range(10):
            drawn = Image.new("L", (4 * high, 4 * high))
            ImageDraw.Draw(drawn).text((high, high), str(digit), font=font, fill=255)
            ink = drawn.crop(drawn.getbbox())
            widths[i, digit] = ink.width / ink.height
            # Every glyph fills the same height, so that the factor "height" is that of the ink and not of the font.
            ink = ink.resize((round(high * ink.width / ink.height), high), Image.Resampling.BOX)
            tile = Image.new("L", (TILE * OVERSAMPLING, TILE * OVERSAMPLING))
            tile.paste(ink, ((tile.width - ink.width) // 2, (tile.height - ink.height) // 2))
            tiles[i, digit] = torch.from_numpy(np.array(tile.reduce(OVERSAMPLING))) / 255
    return tiles, widths
