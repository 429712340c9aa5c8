"""Cartoon faces drawn here, with 14 of CelebA's attributes: what conditional generation can be measured on.

    from alikit.data.faces import ATTRIBUTES, faces, faces_with

    data = faces(10_000, size=32, seed=0)
    data.x.shape, data.labels[:5], data.factors["skin"][:5]
    data.labels[0, ATTRIBUTES.index("Smiling")] ^= 1
    faces_with(data.labels, seed=0)  # the same faces, but the first has begun to smile or ceased to

Of a photograph nobody knows what it would be with one attribute changed and all else kept. Here a picture is drawn from
its labels and from factors that do not depend on them, so that the changed picture can be drawn too.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..errors import AlikitError, expanded, unwritten
from .dataset import Dataset
from .downloads import md5, staging
from .drawing import CHUNK, Factors, draw, spread
from .published import CELEBA_TABLES, DRAWN

# CelebA's names in CelebA's order.
ATTRIBUTES = (
    "Attractive",
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Eyeglasses",
    "Male",
    "Mouth_Slightly_Open",
    "Receding_Hairline",
    "Smiling",
    "Wavy_Hair",
    "Wearing_Hat",
    "Young",
)
# All of CelebA's, as its table has them.
CELEBA_ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
LANDMARKS = {  # u and v in the face; CelebA's left is the beholder's
    "lefteye": (-0.19, 0.04),
    "righteye": (0.19, 0.04),
    "nose": (0.0, 0.2),
    "leftmouth": (-0.16, 0.35),
    "rightmouth": (0.16, 0.35),
}
WIDTH, HEIGHT = 178, 218  # of CelebA's aligned pictures
TURN, NECK = 0.07, 0.5  # how far the face moves sideways at pose 1; the v about which the head tilts

Colour = tuple[float, float, float]  # red, green, blue in [0, 1]
HAIR: dict[str, Colour] = {
    "Black_Hair": (0.09, 0.08, 0.10),
    "Blond_Hair": (0.94, 0.80, 0.42),
    "Brown_Hair": (0.42, 0.25, 0.13),
}
GREY, RED = (0.66, 0.67, 0.70), (0.83, 0.33, 0.10)  # where none of the three is said
# From light to dark; a face's skin lies somewhere between two neighbours.
SKINS = ((0.99, 0.87, 0.78), (0.93, 0.74, 0.60), (0.78, 0.57, 0.42), (0.57, 0.38, 0.27), (0.40, 0.26, 0.19))
DARK, WHITE = (0.10, 0.09, 0.12), (0.98, 0.97, 0.94)

# How labels are drawn: attribute by attribute in this order, each with the probability of the first line whose
# conditions hold. The shares that come of it are near those of CelebA, with the rarest raised a little.
RECIPE: dict[str, tuple[tuple[dict[str, int], float], ...]] = {
    "Male": (({}, 0.42),),
    "Young": (({"Male": 1}, 0.65), ({}, 0.86)),
    "Attractive": (
        ({"Male": 1, "Young": 1}, 0.38),
        ({"Male": 1}, 0.08),
        ({"Young": 1}, 0.76),
        ({}, 0.25),
    ),
    "Bald": (({"Male": 0}, 0.0), ({"Young": 0}, 0.18), ({}, 0.04)),
    "Receding_Hairline": (({"Bald": 1}, 0.0), ({"Male": 0}, 0.02), ({"Young": 0}, 0.36), ({}, 0.09)),
    "Bangs": (({"Bald": 1}, 0.0), ({"Receding_Hairline": 1}, 0.02), ({"Male": 1}, 0.07), ({}, 0.23)),
    "Wavy_Hair": (({"Bald": 1}, 0.0), ({"Male": 1}, 0.14), ({}, 0.45)),
    "Black_Hair": (
        ({"Male": 1, "Young": 1}, 0.36),
        ({"Male": 1}, 0.18),
        ({"Young": 1}, 0.22),
        ({}, 0.12),
    ),
    "Brown_Hair": (
        ({"Black_Hair": 1}, 0.0),
        ({"Young": 1}, 0.32),
        ({"Male": 1}, 0.12),
        ({}, 0.20),
    ),
    "Blond_Hair": (
        ({"Black_Hair": 1}, 0.0),
        ({"Brown_Hair": 1}, 0.0),
        ({"Male": 1}, 0.06),
        ({}, 0.42),
    ),
    "Smiling": (({"Male": 1}, 0.40), ({}, 0.54)),
    "Mouth_Slightly_Open": (({"Smiling": 1}, 0.75), ({}, 0.24)),
    "Eyeglasses": (
        ({"Male": 1, "Young": 0}, 0.26),
        ({"Male": 1}, 0.10),
        ({"Young": 0}, 0.14),
        ({}, 0.04),
    ),
    "Wearing_Hat": (({"Male": 1}, 0.09), ({}, 0.04)),
}


def faces(n: int, size: int = 32, seed: int = 0) -> Dataset:
    """Draw n faces whose labels come from RECIPE; the first k of them are the same for every n >= k.

    Returns a Dataset with x (n, 3, size, size) uint8, labels (n, 14) uint8, the ATTRIBUTES, and these factors, which
    are drawn independently of the labels and of each other:

    - pose (n,) float32: turn of the head in [-1, 1], to the right where positive; what is in the face moves sideways
    - tilt (n,) float32: of the head in degrees, counter-clockwise, in [-8, 8]
    - position (n, 2) float32: from where the face mostly is, in half sides of the picture, x right in [-0.06, 0.06] and
      y down in [-0.03, 0.03]
    - scale (n,) float32: in [0.95, 1.03]
    - skin, background, shirt, hat, iris (n, 3) float32: red, green, blue in [0, 1] before light and noise. A hat's
      colour is there without a hat too.
    - shade (n,) float32: how light the hair is among hair of its colour, in [-1, 1]
    - red (n,) bool: whether hair that is neither black, blond nor brown is red, or grey

    How an attribute is drawn is a convention, as an icon on a door is, and no statement about people. Male is short
    hair, full brows and a small collar; not Male is hair to the shoulders, lashes and a wide collar. Not Young is a few
    lines in the face and grey brows. Attractive, which in CelebA is an opinion and no fact of a picture, is a pin on
    the shirt and nothing in the face. Bald leaves hair at the sides, and with Bangs a fringe, so that its colour and
    its waves can be seen; with Receding_Hairline that hair begins further down and the fringe is a forelock. Hair that
    is neither black, blond nor brown is grey or red.

    The same seed gives the same factors and labels at every size. Uneven light and a sensor's noise are not recorded.
    Torch's global random numbers are neither read nor moved. Raises AlikitError for n < 1, seed < 0 or size < 32.
    """
    return _faces(n, size, seed, None)


def faces_with(labels: Tensor, size: int = 32, seed: int = 0) -> Dataset:
    """Draw faces that have the given labels (N, 14), 0 or 1, one column for each of ATTRIBUTES.

    Everything else comes from the seed as in `faces` and does not depend on the labels: called twice with one label
    switched, it draws the same face with that switch flipped; with the labels of `faces`, it draws the same faces.
    Any combination can be drawn, also those that `faces` never shows, but for two colours of hair.

    Raises AlikitError for labels of another shape or with other values, for two colours of hair, and as `faces` does.
    """
    labels = _checked(labels)
    return _faces(len(labels), size, seed, labels)


def write_celeba(root: str | Path, n: int, seed: int = 0, size: int = 64) -> None:
    """Draw n faces and write them below `root/celeba` as CelebA is distributed, for `alikit.data.celeba` to read.

    Each face, drawn at size x size, is enlarged to 178 x 178, and its upper and lower edge are carried on to 178 x 218:
    what the reader crops away again. The five tables have CelebA's form; the 26 attributes that are not drawn are -1,
    which here means nothing, and every face is a person of its own. The first four fifths are "train", then come
    "valid" and "test". A file drawn-by-alikit.json holds the tables' checksums, and by it the reader knows that they
    are not CelebA's and calls the data set "celeba drawn by alikit".

    The folder is there whole or not at all. Raises AlikitError where it exists already or cannot be written, for n < 20
    and as `faces` does.
    """
    folder = expanded(root) / "celeba"
    if n < 20:
        raise AlikitError(f"{n} faces cannot be divided into train, valid and test: choose at least 20")
    if os.path.lexists(folder):
        raise AlikitError(f"{folder} exists already: delete it, or write to another folder")
    data = faces(n, size, seed)
    try:
        with staging(folder) as made:
            _write_files(made / folder.name, data)
            os.rename(made / folder.name, folder)
    except OSError as error:
        raise unwritten(error, folder, "or name another folder") from None


def _write_files(folder: Path, data: Dataset) -> None:
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, len(data) + 1)]
    bar = tqdm(data.x, desc="writing faces", unit=" pictures", leave=False, disable=None)
    for name, picture in zip(names, bar, strict=True):
        _enlarged(picture).save(pictures / name, quality=95)
    for name, lines in _tables(names, data).items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    marker = {
        "what": f"{len(data)} cartoon faces drawn by alikit in the form of CelebA; they are not CelebA",
        "md5": {name: md5(folder / name) for name in CELEBA_TABLES},
    }
    (folder / DRAWN).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _enlarged(picture: Tensor) -> Image.Image:
    """A picture (3, S, S) as one of 178 x 218."""
    square = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC)
    margin = (HEIGHT - WIDTH) // 2
    return Image.fromarray(np.pad(np.asarray(square), ((margin, margin), (0, 0), (0, 0)), mode="edge"))


def _tables(names: list[str], data: Dataset) -> dict[str, list[str]]:
    """The lines of CelebA's five tables."""
    n, attributes = len(names), torch.full((len(names), len(CELEBA_ATTRIBUTES)), -1)
    attributes[:, [CELEBA_ATTRIBUTES.index(name) for name in ATTRIBUTES]] = 2 * data.labels.long() - 1
    places = _in_picture(data.factors, torch.tensor(list(LANDMARKS.values())))
    edges = _in_picture(data.factors, torch.tensor([[-0.46, 0.0], [0.0, -0.6], [0.46, 0.0], [0.0, 0.6]]))
    x1, y1, x2, y2 = edges[:, 0, 0], edges[:, 1, 1], edges[:, 2, 0], edges[:, 3, 1]  # of the head
    first_valid, first_test = n - 2 * (n // 10), n - n // 10

    def rows(values: Tensor, width: int) -> list[str]:
        return [
            " ".join([name, *(f"{value:{width}}" for value in row)])
            for name, row in zip(names, values.tolist(), strict=True)
        ]

    number = torch.arange(n)[:, None]
    return {  # blanks as in the published files: one after the last name, two before a 1
        "list_attr_celeba.txt": [str(n), " ".join(CELEBA_ATTRIBUTES) + " ", *rows(attributes, 2)],
        "list_eval_partition.txt": rows((number >= first_valid).long() + (number >= first_test).long(), 1),
        "identity_CelebA.txt": rows(number + 1, 1),
        "list_bbox_celeba.txt": [
            str(n),
            "image_id x_1 y_1 width height",
            *rows(torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1), 3),
        ],
        "list_landmarks_align_celeba.txt": [
            str(n),
            " ".join(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
            *rows(places.flatten(1), 3),
        ],
    }


def _in_picture(factors: Factors, places: Tensor) -> Tensor:
    """Where places (K, 2) in the face lie in pictures of 178 x 218, (n, K, 2) whole pixels from the left upper edge."""
    angle, scale = torch.deg2rad(factors["tilt"])[:, None], factors["scale"][:, None, None]
    u, v = places[:, 0] + TURN * factors["pose"][:, None], places[:, 1].expand(len(angle), -1) - NECK
    upright = torch.stack([angle.cos() * u + angle.sin() * v, angle.cos() * v - angle.sin() * u + NECK], dim=2)
    centred = upright * scale + factors["position"][:, None]
    return ((centred + 1) / 2 * WIDTH + torch.tensor([0, (HEIGHT - WIDTH) // 2])).round().long()


def _checked(labels: Tensor) -> Tensor:
    if labels.ndim != 2 or labels.shape[1] != len(ATTRIBUTES):
        raise AlikitError(f"labels of shape {tuple(labels.shape)}: expected (N, {len(ATTRIBUTES)}), 0 or 1 each")
    if not ((labels == 0) | (labels == 1)).all():
        raise AlikitError("labels that are neither 0 nor 1: give each attribute 1 where a face is to have it, else 0")
    colours = labels[:, [ATTRIBUTES.index(name) for name in HAIR]].sum(1)
    if (colours > 1).any():
        first = int((colours > 1).nonzero()[0])
        raise AlikitError(f"labels in row {first} give hair two colours: choose at most one of {', '.join(HAIR)}")
    return labels.to("cpu", torch.uint8)


def _faces(n: int, size: int, seed: int, given: Tensor | None) -> Dataset:
    if size < 32:
        raise AlikitError(f"faces of {size} pixels cannot be read: choose at least 32")
    # The last chunk is drawn whole, so there must be labels for all of it.
    rest = None if given is None else iter(F.pad(given, (0, 0, 0, -len(given) % CHUNK)).split(CHUNK))

    def chunk(generator: torch.Generator) -> tuple[Tensor, Factors]:
        factors, labels = _draw_factors(generator), _draw_labels(generator)
        if rest is not None:
            labels = next(rest)
        return _lit(_render(labels, factors, size), generator), factors | {"labels": labels}

    x, factors = draw(n, seed, chunk)
    return Dataset("faces", x, factors.pop("labels"), ATTRIBUTES, factors)


def _draw_factors(generator: torch.Generator) -> Factors:
    uniform = partial(spread, generator)
    tone = uniform(0, len(SKINS) - 1)
    lighter = tone.long().clamp_max(len(SKINS) - 2)
    skins = torch.tensor(SKINS)
    return {
        "pose": uniform(-1, 1),
        "tilt": uniform(-8, 8),
        "position": uniform(-1, 1, 2) * torch.tensor([0.06, 0.03]),
        "scale": uniform(0.95, 1.03),
        "skin": torch.lerp(skins[lighter], skins[lighter + 1], (tone - lighter)[:, None]) + uniform(-0.01, 0.01, 3),
        "background": _colours(uniform, (0.1, 0.35), (0.65, 0.92)),
        "shirt": _colours(uniform, (0.4, 0.8), (0.35, 0.65)),
        "hat": _colours(uniform, (0.5, 0.8), (0.4, 0.75)),
        "iris": _colours(uniform, (0.5, 0.8), (0.25, 0.45)),
        "shade": uniform(-1, 1),
        "red": uniform(0, 1) < 0.5,
    }


def _colours(uniform, saturation: tuple[float, float], value: tuple[float, float]) -> Tensor:
    """(CHUNK, 3) colours of any hue, by the usual formula from hue, saturation and value."""
    hue, saturation, value = uniform(0, 6, 1), uniform(*saturation, 1), uniform(*value, 1)
    away = (hue + torch.tensor([0.0, 4, 2])) % 6 - 3
    return value * (1 - saturation * (2 - away.abs()).clamp(0, 1))


def _draw_labels(generator: torch.Generator) -> Tensor:
    """(CHUNK, 14) uint8 by RECIPE."""
    drawn: dict[str, Tensor] = {}
    for name, lines in RECIPE.items():
        share = torch.zeros(CHUNK)
        for conditions, probability in reversed(lines):
            holds = torch.ones(CHUNK, dtype=torch.bool)
            for other, value in conditions.items():
                holds &= drawn[other] == value
            share[holds] = probability
        drawn[name] = (torch.rand(CHUNK, generator=generator) < share).to(torch.uint8)
    return torch.stack([drawn[name] for name in ATTRIBUTES], dim=1)


# The drawing. Lengths are in half sides of the picture at scale 1, u to the right and v down, with the middle of the
# head at (0, 0). Every shape is a signed distance (B, S, S), negative inside; B = CHUNK.


class Face(NamedTuple):
    """What all parts of the drawing need.

    body, head     u and v of each pixel, (B, S, S), as the shirt and as the tilted head count them
    side           u within the face, which moves with the pose, (B, S, S)
    has            for each attribute 1 where the face has it, else 0, (B, 1, 1) float32
    known, hair    the factors and the colour of the hair, (B, 3)
    outline        the distance to the outline of all hair, as if it hung down for ever
    strands        how light the hair is where it is wavy, (B, S, S) in [0, 1]
    """

    body: tuple[Tensor, Tensor]
    head: tuple[Tensor, Tensor]
    side: Tensor
    has: dict[str, Tensor]
    known: Factors
    hair: Tensor
    outline: Tensor
    strands: Tensor

    def either(self, name: str, there: float, not_there: float) -> Tensor:
        """One number where the face has the attribute and another where it has not, (B, 1, 1)."""
        return not_there + (there - not_there) * self.has[name]


class Painting:
    """Pictures (B, 3, S, S) in [0, 1] that are painted over, layer by layer."""

    def __init__(self, ground: Tensor, size: int):
        self.picture = ground[:, :, None, None].repeat(1, 1, size, size)
        self.pixels = size / 2  # in a unit of length

    def paint(self, distance: Tensor, colour: Tensor | Colour, alpha: Tensor | float = 1) -> None:
        """Cover the inside of a shape with a colour, (B, 3) or (B, 3, S, S) or one for all."""
        colour = torch.as_tensor(colour)
        colour = colour if colour.ndim == 4 else colour[..., None, None]
        inside = (0.5 - distance * self.pixels).clamp_(0, 1).mul_(alpha)
        self.picture.lerp_(colour.expand_as(self.picture), inside[:, None].expand_as(self.picture))


def _render(labels: Tensor, factors: Factors, size: int) -> Tensor:
    """Pictures (B, 3, size, size) in [0, 1], before light and noise."""
    face, painting = _face(labels, factors, size), Painting(factors["background"], size)
    for part in PARTS:
        part(painting, face)
    return painting.picture


def _lit(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [0, 1] under slightly uneven light and with a little noise, as uint8: as a drawing is reproduced."""
    corners = 1 + 0.08 * (2 * torch.rand(CHUNK, 1, 2, 2, generator=generator) - 1)
    light = F.interpolate(corners, picture.shape[2:], mode="bilinear", align_corners=True)
    noise = 0.01 * torch.randn(picture.shape, generator=generator)
    return noise.add_(picture * light).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _face(labels: Tensor, factors: Factors, size: int) -> Face:
    ticks = (torch.arange(size) + 0.5) / size * 2 - 1
    scale, (x, y) = factors["scale"][:, None, None], factors["position"][:, :, None, None].unbind(1)
    u = ((ticks - x) / scale).expand(CHUNK, size, size)
    v = ((ticks[:, None] - y) / scale).expand(CHUNK, size, size)
    angle = torch.deg2rad(factors["tilt"])[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    head = (cos * u - sin * (v - NECK), sin * u + cos * (v - NECK) + NECK)
    has = dict(zip(ATTRIBUTES, labels.T.float()[:, :, None, None], strict=True))
    side = head[0] - TURN * factors["pose"][:, None, None]
    return Face((u, v), head, side, has, factors, _hair_colour(has, factors), *_hair_outline(*head, has["Wavy_Hair"]))


def _hair_colour(has: dict[str, Tensor], factors: Factors) -> Tensor:
    colour = torch.where(factors["red"][:, None], torch.tensor(RED), torch.tensor(GREY))
    for name, rgb in HAIR.items():
        colour = torch.where(has[name][:, 0] > 0, torch.tensor(rgb), colour)
    return colour * (1 + 0.12 * factors["shade"][:, None])


def _oval(u: Tensor, v: Tensor, half_width, half_height) -> Tensor:
    """About the distance to an oval round (0, 0): exact for a circle, and true at the outline of any."""
    return ((u / half_width).square_() + (v / half_height).square_()).sqrt_().sub_(1).mul_(min(half_width, half_height))


def _line(u: Tensor, v: Tensor, begin: tuple[float, float], end: tuple[float, float], half_width: float) -> Tensor:
    """The distance to a straight line with round ends."""
    (a, b), (c, d) = begin, end
    along = (((u - a) * (c - a) + (v - b) * (d - b)) / ((c - a) ** 2 + (d - b) ** 2)).clamp_(0, 1)
    return torch.hypot(u - a - along * (c - a), v - b - along * (d - b)).sub_(half_width)


def _bow(u: Tensor, v: Tensor, half_length, rise, half_width) -> Tensor:
    """About the distance to a bow from (-half_length, 0) to (half_length, 0) whose middle is `rise` above."""
    middle = v + rise * (1 - (u / half_length).square())
    return torch.maximum(middle.abs_() - half_width, u.abs() - half_length)


def _both(a: Tensor, b: Tensor, radius: float = 0.08) -> Tensor:
    """The distance to what is inside both shapes, its corners rounded."""
    return torch.hypot((a + radius).clamp_min(0), (b + radius).clamp_min(0)) + torch.maximum(a, b).clamp_max(-radius)


def _hair_outline(u: Tensor, v: Tensor, wavy: Tensor) -> tuple[Tensor, Tensor]:
    """`outline` and `strands` of a Face."""
    above, below = (v + 0.06).clamp_max(0), (v + 0.06).clamp_min(0)
    radius = torch.hypot(u / 0.57, above / 0.63)
    along = torch.atan2(u.abs(), -above).add_(below / 0.57)  # from the top along the outline
    curls = (5 * along).cos().abs()  # round towards the outside
    outline = (radius - 1) * 0.57 - wavy * (0.11 * curls - 0.02)
    return outline, wavy * (0.5 + 0.5 * (24 * (radius - 0.2 * curls)).cos())


def _paint_hair(painting: Painting, face: Face, distance: Tensor, light: float) -> None:
    hair = (face.hair * light)[:, :, None, None]
    # A darker edge, so that hair can be told from skin and ground of its own colour.
    painting.paint(distance, hair * 0.75)
    painting.paint(distance + 0.035, torch.lerp(hair, torch.ones(()), 0.3 * face.strands[:, None]))


def _hair_top(face: Face) -> Tensor:
    """Above which v there is no hair, (B, 1, 1)."""
    return -2 + face.has["Bald"] * face.either("Receding_Hairline", 1.93, 1.74)


def _hair_behind(painting: Painting, face: Face) -> None:
    _, v = face.head
    lowest = face.either("Male", 0.23, 0.86)
    distance = _both(face.outline, torch.maximum(v - lowest, _hair_top(face) - v))
    _paint_hair(painting, face, distance, light=0.85)


def _shirt(painting: Painting, face: Face) -> None:
    u, v = face.body
    skin, shirt, wide = face.known["skin"], face.known["shirt"], u.abs()
    painting.paint(torch.maximum(wide - 0.17, (v - 0.4).abs() - 0.4), skin * 0.86)
    painting.paint(_oval(u, v - 1.3, 0.9, 0.62), shirt)
    male = face.has["Male"]
    opening = male * _oval(u, v - 0.66, 0.16, 0.13) + (1 - male) * _oval(u, v - 0.66, 0.27, 0.17)
    collar = torch.lerp(shirt, torch.ones(()), 0.45)
    painting.paint(opening - 0.05, collar)
    painting.paint(opening, skin * 0.86)
    pin, on = (u - 0.44, v - 0.87), face.has["Attractive"]
    painting.paint(_oval(*pin, 0.115, 0.115), shirt * 0.45, on)
    painting.paint(_oval(*pin, 0.085, 0.085), (1.0, 0.93, 0.6), on)


def _head(painting: Painting, face: Face) -> None:
    u, v = face.head
    skin, turn = face.known["skin"], 0.03 * face.known["pose"][:, None, None]
    ears = (u + turn).abs() - 0.46
    painting.paint(_oval(ears, v - 0.13, 0.085, 0.115), skin * 0.9)
    painting.paint(_oval(ears - 0.01, v - 0.13, 0.04, 0.065), skin * 0.72)
    distance = _oval(u * (1 + 0.14 * v), v, 0.46, 0.60)
    painting.paint(distance, skin * 0.82)
    painting.paint(distance + 0.035, skin)
    shine = face.has["Bald"] * 0.5
    painting.paint(_oval(u + 0.14, v + 0.46, 0.11, 0.05), torch.lerp(skin, torch.ones(()), 0.6), shine)


def _lines(painting: Painting, face: Face) -> None:
    """The lines of those who are not young."""
    u, v = face.side.abs(), face.head[1]
    lines = [
        _bow(u, v + 0.20, 0.2, 0.02, 0.016),
        _bow(u, v + 0.29, 0.16, 0.02, 0.016),
        _line(u, v, (0.14, 0.22), (0.24, 0.34), 0.016),
        _line(u, v, (0.34, 0.06), (0.39, 0.09), 0.014),
        _bow(u - 0.19, v - 0.155, 0.085, -0.025, 0.014),
    ]
    distance = lines[0]
    for line in lines[1:]:
        distance = torch.minimum(distance, line)
    painting.paint(distance, face.known["skin"] * 0.64, 1 - face.has["Young"])


def _eyes(painting: Painting, face: Face) -> None:
    u, v = face.side.abs() - 0.19, face.head[1] - 0.04
    painting.paint(_oval(u, v, 0.085, 0.078), WHITE)
    painting.paint(_oval(u, v, 0.06, 0.066), face.known["iris"])
    painting.paint(_oval(u, v, 0.034, 0.038), DARK)
    painting.paint(_bow(u, v + 0.03, 0.095, 0.05, 0.014), face.known["skin"] * 0.45)
    lashes = torch.minimum(_bow(u, v + 0.03, 0.1, 0.055, 0.019), _line(u, v, (0.08, -0.04), (0.135, -0.075), 0.016))
    painting.paint(lashes, DARK, 1 - face.has["Male"])
    grey = face.either("Young", 0, 0.7)[:, 0]
    brows = torch.lerp(face.hair * 0.6, torch.tensor(GREY), grey)
    painting.paint(_bow(u, v + 0.14, 0.105, 0.035, face.either("Male", 0.034, 0.017)), brows)


def _nose_and_mouth(painting: Painting, face: Face) -> None:
    u, v, skin = face.side, face.head[1], face.known["skin"]
    nose = u - 0.03 * face.known["pose"][:, None, None]
    painting.paint(_bow(nose, v - 0.2, 0.065, -0.035, 0.02), skin * 0.64)
    smiles, opens = face.has["Smiling"], face.has["Mouth_Slightly_Open"]
    blush = torch.lerp(skin, torch.tensor([0.92, 0.32, 0.32]), 0.45)
    painting.paint(_oval(u.abs() - 0.29, v - 0.25, 0.075, 0.06), blush, smiles)
    lips = torch.lerp(skin * 0.5, torch.tensor([0.66, 0.12, 0.16]), 0.55)
    half, depth, corner = 0.13 + 0.06 * smiles, 0.1 * smiles, 0.37 - 0.06 * smiles
    painting.paint(_bow(u, v - corner, half, -depth, 0.024), lips, 1 - opens)
    # An open mouth is what lies between an upper and a lower bow with the same corners.
    bend = 1 - (u / half).square()
    upper = v - corner - (0.095 * smiles - 0.06) * bend
    lower = v - corner - (0.08 * smiles + 0.09) * bend
    hollow = torch.maximum(-upper, lower)
    painting.paint(hollow - 0.02, lips, opens)
    painting.paint(hollow, (0.25, 0.04, 0.06), opens)
    painting.paint(torch.maximum(hollow + 0.005, upper - 0.05), WHITE, opens)


def _hair_in_front(painting: Painting, face: Face) -> None:
    """The hair round the face, and bangs."""
    u, v = face.side, face.head[1]
    bald, recedes = face.has["Bald"], face.has["Receding_Hairline"]
    forehead = _oval(u, v - 0.28, 0.45, 0.62) - 0.07 * recedes
    temples = _oval(u.abs() - 0.25, v + 0.35, 0.16, 0.16) + 1 - recedes
    opening = torch.minimum(forehead, temples)
    lowest = face.either("Male", 0.04, 0.66)
    cap = torch.maximum(_both(face.outline, _hair_top(face) - v), torch.maximum(-opening, v - lowest))
    tips = v + 0.17 + 0.05 * (15 * u).cos().abs()
    fringe = _both(-0.37 - v - 2 * (1 - bald), u.abs() - 0.38 + 0.19 * recedes)
    bangs = torch.maximum(torch.maximum(fringe, tips), face.outline) + 3 * (1 - face.has["Bangs"])
    _paint_hair(painting, face, torch.minimum(cap, bangs), light=1)


def _eyeglasses(painting: Painting, face: Face) -> None:
    u, v, on = face.side.abs(), face.head[1] - 0.05, face.has["Eyeglasses"]
    ring = _oval(u - 0.195, v, 0.15, 0.14)
    painting.paint(ring, (0.88, 0.95, 1.0), on * 0.3)
    bridge = torch.maximum(u - 0.06, (v + 0.02).abs() - 0.025)
    arms = torch.maximum((u - 0.40).abs() - 0.06, (v + 0.03).abs() - 0.025)
    painting.paint(torch.minimum(ring.abs() - 0.032, torch.minimum(bridge, arms)), DARK, on)


def _hat(painting: Painting, face: Face) -> None:
    (u, v), colour, on = face.head, face.known["hat"], face.has["Wearing_Hat"]
    crown = torch.maximum(_oval(u, v + 0.50, 0.44, 0.43), v + 0.48)
    painting.paint(crown, colour, on)
    painting.paint(torch.maximum(crown, -0.61 - v), colour * 0.5, on)
    painting.paint(_line(u, v, (-0.58, -0.50), (0.58, -0.50), 0.05), colour * 0.85, on)


PARTS: tuple[Callable[[Painting, Face], None], ...] = (
    _hair_behind,
    _shirt,
    _head,
    _lines,
    _eyes,
    _nose_and_mouth,
    _hair_in_front,
    _eyeglasses,
    _hat,
)
