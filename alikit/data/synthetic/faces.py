"""Cartoon faces drawn here, with 14 of CelebA's attributes: what conditional generation can be measured on.

    from alikit.data.synthetic.faces import ATTRIBUTES, faces, faces_with

    data = faces(10_000, size=32, seed=0)
    data.labels[0, ATTRIBUTES.index("Smiling")] ^= 1
    faces_with(data.labels, seed=0)  # the same faces, but the first one's smile is switched

Nobody knows what a photograph would be with one attribute changed and all else kept. Here a picture is drawn from its
labels and from factors that do not depend on them, so the changed picture can be drawn too.
"""

from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...errors import AlikitError
from ..dataset import Dataset
from .drawing import CHUNK, Factors, draw, photograph, rgb, spread

ATTRIBUTES = (  # CelebA's names in CelebA's order
    "Attractive", "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Eyeglasses", "Male",
    "Mouth_Slightly_Open", "Receding_Hairline", "Smiling", "Wavy_Hair", "Wearing_Hat", "Young",
)  # fmt: skip
TURN, NECK = 0.07, 0.5  # how far the face moves sideways at pose 1; the v about which the head tilts

HAIR = {"Black_Hair": (0.09, 0.08, 0.10), "Blond_Hair": (0.94, 0.80, 0.42), "Brown_Hair": (0.42, 0.25, 0.13)}
GREY, RED = torch.tensor([[0.66, 0.67, 0.70], [0.83, 0.33, 0.10]])  # of hair that has none of the three colours
# From light to dark; a face's skin lies somewhere between two neighbours.
SKINS = torch.tensor(
    [[0.99, 0.87, 0.78], [0.93, 0.74, 0.60], [0.78, 0.57, 0.42], [0.57, 0.38, 0.27], [0.40, 0.26, 0.19]]
)
DARK, WHITE = torch.tensor([[0.10, 0.09, 0.12], [0.98, 0.97, 0.94]])

# How labels are drawn: attribute by attribute in this order, each with the probability of the first line whose
# conditions hold. The shares that come of it are near those of CelebA, with the rarest raised a little.
RECIPE: dict[str, tuple[tuple[str, float], ...]] = {
    "Male": (("", 0.42),),
    "Young": (("Male", 0.65), ("", 0.86)),
    "Attractive": (("Male Young", 0.38), ("Male", 0.08), ("Young", 0.76), ("", 0.25)),
    "Bald": (("-Male", 0.0), ("-Young", 0.18), ("", 0.04)),
    "Receding_Hairline": (("Bald", 0.0), ("-Male", 0.02), ("-Young", 0.36), ("", 0.09)),
    "Bangs": (("Bald", 0.0), ("Receding_Hairline", 0.02), ("Male", 0.07), ("", 0.23)),
    "Wavy_Hair": (("Bald", 0.0), ("Male", 0.14), ("", 0.45)),
    "Black_Hair": (("Male Young", 0.36), ("Male", 0.18), ("Young", 0.22), ("", 0.12)),
    "Brown_Hair": (("Black_Hair", 0.0), ("Young", 0.32), ("Male", 0.12), ("", 0.20)),
    "Blond_Hair": (("Black_Hair", 0.0), ("Brown_Hair", 0.0), ("Male", 0.06), ("", 0.42)),
    "Smiling": (("Male", 0.40), ("", 0.54)),
    "Mouth_Slightly_Open": (("Smiling", 0.75), ("", 0.24)),
    "Eyeglasses": (("Male -Young", 0.26), ("Male", 0.10), ("-Young", 0.14), ("", 0.04)),
    "Wearing_Hat": (("Male", 0.09), ("", 0.04)),
}


def faces(n: int, size: int = 32, seed: int = 0) -> Dataset:
    """Draw n faces whose labels come from RECIPE; the first k of them are the same for every n >= k.

    Returns a Dataset with x (n, 3, size, size) uint8, labels (n, 14) uint8, the ATTRIBUTES, and these factors, drawn
    independently of the labels and of each other:

    - pose, tilt (n,) float32: turn of the head in [-1, 1], to the right where positive, which moves the features
      sideways; and its tilt in degrees counter-clockwise, in [-8, 8]
    - position (n, 2), scale (n,) float32: offset of the face in half sides of the picture, x right in [-0.06, 0.06]
      and y down in [-0.03, 0.03]; in [0.95, 1.03]
    - skin, background, shirt, hat, iris (n, 3) float32: red, green, blue in [0, 1] before light and noise. A hat's
      colour is there without a hat too.
    - shade (n,) float32: how light the hair is among hair of its colour, in [-1, 1]
    - red (n,) bool: whether hair that is neither black, blond nor brown is red, or grey

    How an attribute is drawn is a convention, like an icon on a door, and no statement about people. Male is short
    hair, full brows and a small collar; not Young is a few lines and grey brows. Attractive, an opinion in CelebA, is a
    pin on the shirt. Bald leaves hair at the sides and, with Bangs, a fringe, so that its colour and waves can be seen.

    The same seed gives the same factors and labels at every size. Torch's global generator is not used. Raises
    AlikitError for n < 1, seed < 0 or size < 32.
    """
    if size < 32:
        raise AlikitError(f"faces of {size} pixels cannot be read: choose at least 32")
    return _faces(n, size, seed, None)


def faces_with(labels: Tensor, size: int = 32, seed: int = 0) -> Dataset:
    """Draw faces that have the given labels (N, 14), 0 or 1, one column for each of ATTRIBUTES.

    Everything else comes from the seed as in `faces` and does not depend on the labels: with one label switched, it
    draws the same face with that switch flipped; with the labels of `faces`, the same faces. Any combination can be
    drawn, except for two colours of hair.

    Raises AlikitError for other labels, and as `faces` does.
    """
    fits = labels.ndim == 2 and labels.shape[1] == len(ATTRIBUTES) and ((labels == 0) | (labels == 1)).all()
    if not fits or (labels[:, [ATTRIBUTES.index(name) for name in HAIR]].sum(1) > 1).any():
        raise AlikitError(f"labels must be (N, {len(ATTRIBUTES)}), 0 or 1 each, with at most one of {', '.join(HAIR)}")
    return _faces(len(labels), size, seed, labels.to("cpu", torch.uint8))


def _faces(n: int, size: int, seed: int, given: Tensor | None) -> Dataset:
    # The last chunk is drawn whole, so there must be labels for all of it.
    rest = None if given is None else iter(F.pad(given, (0, 0, 0, -len(given) % CHUNK)).split(CHUNK))

    def chunk(generator: Generator) -> tuple[Tensor, Factors]:
        factors, labels = _draw_factors(generator), _draw_labels(generator)
        labels = labels if rest is None else next(rest)
        face = _Face(labels, factors, size)
        for paint in (_paint_body, _paint_features, _paint_mouth, _paint_hair_and_hat):
            paint(face)
        # Fainter light and noise than a photograph's, as in a reproduced drawing.
        return photograph(face.picture, generator, light=0.08, noise=0.01), factors | {"labels": labels}

    x, factors = draw(n, seed, chunk)
    return Dataset("faces", x, factors.pop("labels"), ATTRIBUTES, factors)


def _draw_factors(generator: Generator) -> Factors:
    uniform = partial(spread, generator)

    def colour(saturation: tuple[float, float], value: tuple[float, float]) -> Tensor:
        return rgb(uniform(0, 6, 1), uniform(*saturation, 1), uniform(*value, 1))

    tone = uniform(0, len(SKINS) - 1)
    lighter = tone.long().clamp_max(len(SKINS) - 2)
    return {
        "pose": uniform(-1, 1),
        "tilt": uniform(-8, 8),
        "position": uniform(-1, 1, 2) * torch.tensor([0.06, 0.03]),
        "scale": uniform(0.95, 1.03),
        "skin": torch.lerp(SKINS[lighter], SKINS[lighter + 1], (tone - lighter)[:, None]) + uniform(-0.01, 0.01, 3),
        "background": colour((0.1, 0.35), (0.65, 0.92)),
        "shirt": colour((0.4, 0.8), (0.35, 0.65)),
        "hat": colour((0.5, 0.8), (0.4, 0.75)),
        "iris": colour((0.5, 0.8), (0.25, 0.45)),
        "shade": uniform(-1, 1),
        "red": uniform(0, 1) < 0.5,
    }


def _draw_labels(generator: Generator) -> Tensor:
    """(CHUNK, 14) uint8 by RECIPE."""
    drawn: dict[str, Tensor] = {}
    for name, lines in RECIPE.items():
        share = torch.zeros(CHUNK)
        for conditions, probability in reversed(lines):
            holds = [drawn[other.removeprefix("-")] != other.startswith("-") for other in conditions.split()]
            share[reduce(torch.logical_and, holds, torch.ones(CHUNK, dtype=torch.bool))] = probability
        drawn[name] = torch.rand(CHUNK, generator=generator) < share
    return torch.stack([drawn[name] for name in ATTRIBUTES], dim=1).to(torch.uint8)


# The drawing. Lengths are in half sides of the picture at scale 1, u to the right and v down, with the middle of the
# head at (0, 0). Every shape is a signed distance (B, S, S), negative inside; B = CHUNK.


class _Face:
    """A chunk of faces that are painted layer by layer.

    picture      (B, 3, S, S) in [0, 1], before light and noise
    body, head   u and v of each pixel, (B, S, S), in the frame of the shirt and of the tilted head
    side         u within the face, which moves with the pose, (B, S, S); pose is (B, 1, 1)
    has          for each attribute 1 where the face has it, else 0, (B, 1, 1) float32
    hair         its colour, (B, 3)
    outline      the distance to the outline of all hair, as if it were endlessly long
    strands      how light the hair is where it is wavy, (B, S, S) in [0, 1]
    """

    def __init__(self, labels: Tensor, factors: Factors, size: int):
        self.pixels = size / 2  # in a unit of length
        self.skin, self.shirt, self.hat, self.iris = (factors[name] for name in ("skin", "shirt", "hat", "iris"))
        self.picture = factors["background"][:, :, None, None].repeat(1, 1, size, size)
        ticks = (torch.arange(size) + 0.5) / size * 2 - 1
        scale, (x, y) = factors["scale"][:, None, None], factors["position"][:, :, None, None].unbind(1)
        u = ((ticks - x) / scale).expand(CHUNK, size, size)
        v = ((ticks[:, None] - y) / scale).expand(CHUNK, size, size)
        angle, self.pose = torch.deg2rad(factors["tilt"])[:, None, None], factors["pose"][:, None, None]
        cos, sin = angle.cos(), angle.sin()
        self.body, self.head = (u, v), (cos * u - sin * (v - NECK), sin * u + cos * (v - NECK) + NECK)
        self.side = self.head[0] - TURN * self.pose
        self.has = dict(zip(ATTRIBUTES, labels.T.float()[:, :, None, None], strict=True))

        hair = torch.where(factors["red"][:, None], RED, GREY)
        for name, colour in HAIR.items():
            hair = torch.where(self.has[name][:, 0] > 0, torch.tensor(colour), hair)
        self.hair = hair * (1 + 0.12 * factors["shade"][:, None])
        (u, v), wavy = self.head, self.has["Wavy_Hair"]
        above, below = (v + 0.06).clamp_max(0), (v + 0.06).clamp_min(0)
        radius = torch.hypot(u / 0.57, above / 0.63)
        along = torch.atan2(u.abs(), -above).add_(below / 0.57)  # from the top along the outline
        curls = (5 * along).cos().abs()  # round towards the outside
        self.outline = (radius - 1) * 0.57 - wavy * (0.11 * curls - 0.02)
        self.strands = wavy * (0.5 + 0.5 * (24 * (radius - 0.2 * curls)).cos())

    def either(self, name: str, there: float, not_there: float) -> Tensor:
        """One number where the face has the attribute and another where it does not, (B, 1, 1)."""
        return not_there + (there - not_there) * self.has[name]

    def paint(self, distance: Tensor, colour: Tensor, alpha: Tensor | float = 1) -> None:
        """Covers the inside of a shape with a colour, (B, 3) or (B, 3, S, S) or one for all."""
        colour = colour if colour.ndim == 4 else colour[..., None, None]
        inside = (0.5 - distance * self.pixels).clamp_(0, 1).mul_(alpha)
        self.picture.lerp_(colour.expand_as(self.picture), inside[:, None].expand_as(self.picture))

    def paint_hair(self, distance: Tensor, light: float) -> None:
        """A darker edge keeps hair apart from skin and background of the same colour."""
        hair = (self.hair * light)[:, :, None, None]
        self.paint(distance, hair * 0.75)
        self.paint(distance + 0.035, _paler(hair, 0.3 * self.strands[:, None]))


def _paler(colour: Tensor, share: Tensor | float) -> Tensor:
    return torch.lerp(colour, torch.ones(()), share)


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


def _hair_top(face: _Face) -> Tensor:
    """Above which v there is no hair, (B, 1, 1)."""
    return -2 + face.has["Bald"] * face.either("Receding_Hairline", 1.93, 1.74)


def _paint_body(face: _Face) -> None:
    """The hair behind the head, neck and shirt, and the head without a face."""
    (u, v), (x, y) = face.head, face.body
    paint, skin, shirt, male = face.paint, face.skin, face.shirt, face.has["Male"]
    lowest = face.either("Male", 0.23, 0.86)
    face.paint_hair(_both(face.outline, torch.maximum(v - lowest, _hair_top(face) - v)), light=0.85)

    paint(torch.maximum(x.abs() - 0.17, (y - 0.4).abs() - 0.4), skin * 0.86)
    paint(_oval(x, y - 1.3, 0.9, 0.62), shirt)
    opening = male * _oval(x, y - 0.66, 0.16, 0.13) + (1 - male) * _oval(x, y - 0.66, 0.27, 0.17)
    paint(opening - 0.05, _paler(shirt, 0.45))
    paint(opening, skin * 0.86)
    paint(_oval(x - 0.44, y - 0.87, 0.115, 0.115), shirt * 0.45, face.has["Attractive"])  # a pin
    paint(_oval(x - 0.44, y - 0.87, 0.085, 0.085), torch.tensor([1.0, 0.93, 0.6]), face.has["Attractive"])

    ears = (u + 0.03 * face.pose).abs() - 0.46
    paint(_oval(ears, v - 0.13, 0.085, 0.115), skin * 0.9)
    paint(_oval(ears - 0.01, v - 0.13, 0.04, 0.065), skin * 0.72)
    head = _oval(u * (1 + 0.14 * v), v, 0.46, 0.60)
    paint(head, skin * 0.82)
    paint(head + 0.035, skin)
    paint(_oval(u + 0.14, v + 0.46, 0.11, 0.05), _paler(skin, 0.6), face.has["Bald"] * 0.5)


def _paint_features(face: _Face) -> None:
    """The lines of faces that are not young, eyes and brows, the nose."""
    paint, skin, u, v = face.paint, face.skin, face.side.abs(), face.head[1]
    lines = [
        _bow(u, v + 0.20, 0.2, 0.02, 0.016),
        _bow(u, v + 0.29, 0.16, 0.02, 0.016),
        _line(u, v, (0.14, 0.22), (0.24, 0.34), 0.016),
        _line(u, v, (0.34, 0.06), (0.39, 0.09), 0.014),
        _bow(u - 0.19, v - 0.155, 0.085, -0.025, 0.014),
    ]
    paint(reduce(torch.minimum, lines), skin * 0.64, 1 - face.has["Young"])

    u, v = u - 0.19, v - 0.04
    paint(_oval(u, v, 0.085, 0.078), WHITE)
    paint(_oval(u, v, 0.06, 0.066), face.iris)
    paint(_oval(u, v, 0.034, 0.038), DARK)
    paint(_bow(u, v + 0.03, 0.095, 0.05, 0.014), skin * 0.45)
    lashes = torch.minimum(_bow(u, v + 0.03, 0.1, 0.055, 0.019), _line(u, v, (0.08, -0.04), (0.135, -0.075), 0.016))
    paint(lashes, DARK, 1 - face.has["Male"])
    brows = torch.lerp(face.hair * 0.6, GREY, face.either("Young", 0, 0.7)[:, 0])
    paint(_bow(u, v + 0.14, 0.105, 0.035, face.either("Male", 0.034, 0.017)), brows)

    paint(_bow(face.side - 0.03 * face.pose, face.head[1] - 0.2, 0.065, -0.035, 0.02), skin * 0.64)


def _paint_mouth(face: _Face) -> None:
    """Lips, open or closed, teeth, and the cheeks of a smile."""
    paint, skin, u, v = face.paint, face.skin, face.side, face.head[1]
    smiles, opens = face.has["Smiling"], face.has["Mouth_Slightly_Open"]
    flushed = torch.lerp(skin, torch.tensor([0.92, 0.32, 0.32]), 0.45)
    paint(_oval(u.abs() - 0.29, v - 0.25, 0.075, 0.06), flushed, smiles)
    lips = torch.lerp(skin * 0.5, torch.tensor([0.66, 0.12, 0.16]), 0.55)
    half, depth, corner = 0.13 + 0.06 * smiles, 0.1 * smiles, 0.37 - 0.06 * smiles
    paint(_bow(u, v - corner, half, -depth, 0.024), lips, 1 - opens)
    # An open mouth is what lies between an upper and a lower bow with the same corners.
    bend = 1 - (u / half).square()
    upper = v - corner - (0.095 * smiles - 0.06) * bend
    lower = v - corner - (0.08 * smiles + 0.09) * bend
    hollow = torch.maximum(-upper, lower)
    paint(hollow - 0.02, lips, opens)
    paint(hollow, torch.tensor([0.25, 0.04, 0.06]), opens)
    paint(torch.maximum(hollow + 0.005, upper - 0.05), WHITE, opens)


def _paint_hair_and_hat(face: _Face) -> None:
    """The hair round the face, and bangs; eyeglasses; a hat."""
    paint, has, (u, v) = face.paint, face.has, (face.side, face.head[1])
    recedes = has["Receding_Hairline"]
    forehead = _oval(u, v - 0.28, 0.45, 0.62) - 0.07 * recedes
    temples = _oval(u.abs() - 0.25, v + 0.35, 0.16, 0.16) + 1 - recedes
    opening, lowest = torch.minimum(forehead, temples), face.either("Male", 0.04, 0.66)
    cap = torch.maximum(_both(face.outline, _hair_top(face) - v), torch.maximum(-opening, v - lowest))
    tips = v + 0.17 + 0.05 * (15 * u).cos().abs()
    fringe = _both(-0.37 - v - 2 * (1 - has["Bald"]), u.abs() - 0.38 + 0.19 * recedes)
    bangs = torch.maximum(torch.maximum(fringe, tips), face.outline) + 3 * (1 - has["Bangs"])
    face.paint_hair(torch.minimum(cap, bangs), light=1)

    u, v, on = u.abs(), v - 0.05, has["Eyeglasses"]
    ring = _oval(u - 0.195, v, 0.15, 0.14)
    paint(ring, torch.tensor([0.88, 0.95, 1.0]), on * 0.3)
    bridge = torch.maximum(u - 0.06, (v + 0.02).abs() - 0.025)
    arms = torch.maximum((u - 0.40).abs() - 0.06, (v + 0.03).abs() - 0.025)
    paint(torch.minimum(ring.abs() - 0.032, torch.minimum(bridge, arms)), DARK, on)

    (u, v), on = face.head, has["Wearing_Hat"]
    crown = torch.maximum(_oval(u, v + 0.50, 0.44, 0.43), v + 0.48)
    paint(crown, face.hat, on)
    paint(torch.maximum(crown, -0.61 - v), face.hat * 0.5, on)
    paint(_line(u, v, (-0.58, -0.50), (0.58, -0.50), 0.05), face.hat * 0.85, on)
