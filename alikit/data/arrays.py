"""Arrays as people have them, turned into what `Dataset` holds: what is unambiguous is found out, the rest asked about.

Pictures become (N, C, H, W) uint8 with C 1 or 3, points (N, D) float32, labels (N,) int64 or (N, A) uint8.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from ..errors import AlikitError
from .splits import nfc

COLOURS = (1, 3)  # channels of a picture
DEPTHS = (255, 1023, 4095, 16383, 65535)  # the brightest value of 8, 10, 12, 14 and 16 bits
DARK = 16  # whole numbers up to here may be of 0..1, 0..15, 0..16 or 0..255
AT_ONCE = 1000  # examples: a copy as floats of all of them might not fit into memory
MOST_CLASSES = 2**15
ONE_HOT_FROM = 10  # rows: of a few, each may have exactly one attribute by chance

log = logging.getLogger("alikit")


def examples(x: object, channels: str | None = None, scale: tuple[float, float] | None = None) -> Tensor:
    """Pictures (N, C, H, W) uint8, or points (N, D) float32.

    x         an array, a tensor, or a list of pictures of one size: (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W),
              of any integer or float type
    channels  "first" or "last", of pictures whose shape does not tell where C is
    scale     the values that are black and white, of pictures whose values do not tell: 0..1, -1..1, 0..255 and whole
              numbers up to exactly 1023, 4095, 16383 or 65535 do

    AlikitError for anything else, for values that are not finite, and where there is more than one way to read x.
    """
    kind = getattr(x, "dtype", None)
    has_16_bits = getattr(kind, "name", str(kind)).endswith("int16")
    x = numbers(x, "x")
    if x.is_floating_point() and not (finite := x.isfinite()).all():
        place = (~finite).nonzero()[0].tolist()
        count = int((~finite).sum())
        raise AlikitError(f"x[{', '.join(map(str, place))}] is {x[(*place,)]}, one of {count}: leave such examples out")
    size = " x ".join(map(str, x.shape))
    if not x.numel():
        raise AlikitError(f"x is {size or 'empty'}: it needs at least one example")
    if x.ndim == 2:
        for colours, shape in zip(COLOURS, ("", "3, "), strict=True):
            side = math.isqrt(x.shape[1] // colours)
            if side <= 7 or colours * side**2 != x.shape[1]:
                continue
            way = f"x.reshape(-1, {shape}{side}, {side})"
            if colours == 3:
                way = f"{way} or, where colours are last, (-1, {side}, {side}, 3)"
            if not x.is_floating_point():
                way = f"{way} for pictures, floats for points"
                raise AlikitError(f"x is {size}, of whole numbers, so it may be pictures or points: pass {way}")
            if x.min() >= 0 and x.max() in (1, 255):
                log.warning("x is %s, of floats, so these are points: for pictures pass %s", size, way)
        return x.float()
    pictures = _channels_first(x, size, channels)
    black, white = range_of(pictures, scale, DEPTHS[-1] if has_16_bits else DARK)
    if not x.is_floating_point() and (black, white) == (0, 255):
        return pictures.byte().contiguous()
    bytes_ = torch.empty(pictures.shape, dtype=torch.uint8, device=x.device)
    for part, place in zip(pictures.split(AT_ONCE), bytes_.split(AT_ONCE), strict=True):
        place.copy_(((part.float() - black) * (255 / (white - black))).round_().clamp_(0, 255))
    return bytes_


def numbers(values: object, what: str) -> Tensor:
    """A tensor of numbers. AlikitError for text, objects, and lists of unlike things."""
    if isinstance(values, Tensor):
        wide = values.dtype in (torch.bool, torch.bfloat16) and torch.float32
        wide = wide or (not values.is_floating_point() and values.dtype != torch.uint8 and torch.int64)
        return values.detach().to(wide or values.dtype)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise AlikitError(f"{what} is masked in part: leave such examples out, or fill in what is masked")
    if isinstance(values, data.Dataset):
        raise AlikitError(f"{what} is a data set of PyTorch: alikit.load takes those")
    try:
        if isinstance(values, list | tuple) and values and all(isinstance(value, Image.Image) for value in values):
            values = [*map(np.asarray, alike(values))]
        if isinstance(values, list | tuple) and len({np.shape(value) for value in values}) > 1:
            shapes = sorted({" x ".join(map(str, np.shape(value))) for value in values})
            raise AlikitError(f"{what} has examples of {shapes[0]} and of {shapes[1]}: give all of them one size")
        if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
            return numbers(torch.stack([*values]), what)
        array = np.asarray(values)
    except AlikitError:
        raise
    except Exception:  # any object may stand here, and fail in any way
        raise AlikitError(f"{what} is a {type(values).__name__}: pass a NumPy array or a tensor") from None
    if array.dtype.kind not in "buif":
        kind = "text" if array.dtype.kind in "US" else array.dtype
        raise AlikitError(f"{what} holds {kind} and no numbers: pass an array of integers or floats")
    if array.dtype.kind == "f":  # torch has no big-endian ones, and none longer than float64
        array = array.astype(f"=f{min(array.itemsize, 8)}", copy=False)
    elif array.dtype != np.uint8:
        array = array.astype(np.float32 if array.dtype == bool else np.int64, copy=False)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def alike(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures in one mode: L where all are grey, else RGB; those of more than 8 bits stay as they are. What is
    transparent lies on white, because the colours of transparent pixels were never meant to be seen."""
    if any(picture.mode[0] in "IF" for picture in pictures):
        return [*pictures]
    mode = "L" if {picture.mode for picture in pictures} <= {"1", "L", "LA", "La"} else "RGB"
    found = []
    for picture in pictures:
        if picture.has_transparency_data:
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture.convert("RGBA"))
        found.append(picture.convert(mode))
    return found


def _channels_first(x: Tensor, size: str, channels: str | None) -> Tensor:
    """The pictures as (N, C, H, W)."""
    if channels not in (None, "first", "last"):
        raise AlikitError(f"channels is {channels!r}: say 'first' or 'last'")
    if x.ndim == 3 and x.shape[0] != 3 and x.shape[2] not in COLOURS:
        return x[:, None]
    if x.ndim != 4:
        way = "pictures are N x H x W, N x H x W x C or N x C x H x W, points N x D"
        raise AlikitError(f"x is {size}: {way}" + ("; one picture is x[None]" if x.ndim == 3 else ""))
    can = {"first": x.shape[1] in COLOURS, "last": x.shape[3] in COLOURS}
    if not (can[channels] if channels else any(can.values())):
        raise AlikitError(f"x is {size}: pictures have 1 or 3 channels, as N x C x H x W or N x H x W x C; keep those")
    if not channels and all(can.values()) and x.shape[1:] != (1, 1, 1):
        raise AlikitError(f"x is {size}, which may be read in two ways: say channels='first' or channels='last'")
    return x.movedim(3, 1) if channels == "last" or not can["first"] else x


def range_of(x: Tensor, scale: tuple[float, float] | None, dark: int) -> tuple[float, float]:
    """The values that are black and white. Whole numbers up to `dark` may have any range."""
    if x.dtype == torch.uint8 and scale == (0, 255):
        return scale
    low, high = (value.item() for value in x.aminmax())
    seen = f"the values of x go from {low:g} to {high:g}"
    if scale is not None:
        try:
            black, white = map(float, scale)
        except (TypeError, ValueError):
            raise AlikitError(f"scale is {scale!r}: give two numbers, what is black and what is white") from None
        slack = (white - black) / 1000  # as resizing leaves it
        if not black - slack <= low <= high <= white + slack or not white > black:
            raise AlikitError(f"{seen}, and scale is {black:g} to {white:g}: give the values that are black and white")
        return black, white
    if low >= 0 and (high in DEPTHS or dark < high < 255) and is_whole(x):
        return 0, high if high in DEPTHS else 255
    if x.is_floating_point() and low >= -1e-3 and 1 / 255 < high <= 1 + 1e-3:
        return 0, 1
    # Of 0..1 less its mean, the values would span 1 at most.
    if x.is_floating_point() and -1 - 1e-3 <= low < 0 and high <= 1 + 1e-3 and high - low > 1.1:
        return -1, 1
    if x.is_floating_point() and low >= 0 and 128 < high <= 255:  # as resizing in floats leaves 0..255
        return 0, 255
    if low == high == 0:  # black whatever white is
        return 0, 255
    way = f"say what is black and white, as scale=({min(0, low):g}, {high:g})"
    raise AlikitError(f"{seen}, which is no range in common use: {way}")


def is_whole(x: Tensor) -> bool:
    return not x.is_floating_point() or all(part.equal(part.round()) for part in x.split(AT_ONCE))


def labels(values: object, n: int, classes: Sequence[str] = ()) -> tuple[Tensor | None, tuple[str, ...]]:
    """The labels of n examples and the names of the classes, or attributes.

    values   (N,) or (N, 1): the class of each example, as a number from 0 or from 1, or by name; or (N, K), one-hot;
             all become (N,) int64 from 0. Or (N, A), whether an example has an attribute: 0 and 1, -1 and 1, or False
             and True, which become (N, A) uint8
    classes  the names in the order of the numbers, or of the columns. Without them, names are taken from text, and from
             numbers that do not begin at 0

    AlikitError for anything else.
    """
    names = tuple(nfc(str(name)) for name in classes)
    if values is None:
        return None, ()
    if len({*names}) < len(names):
        raise AlikitError("two classes have the same name: give each one its own")
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    else:
        try:
            array = np.asarray(values)
        except ValueError:  # of lists of several lengths
            raise AlikitError("labels have several lengths: give each example one, or one for each attribute") from None
        is_text = array.dtype.kind in "US" or (array.dtype == object and all(isinstance(v, str) for v in array.flat))
        values = array.astype(str) if is_text else numbers(values, "labels")
    shape = tuple(values.shape)
    if len(shape) not in (1, 2) or shape[0] != n:
        raise AlikitError(f"labels are {' x '.join(map(str, shape))}, and there are {n} examples: give each its own")
    if len(shape) == 2 and shape[1] == 1 and len(names) != 1:
        values = values[:, 0]
    if not isinstance(values, Tensor):
        if values.ndim == 2:
            raise AlikitError("labels are rows of text: give one name for each example, or 0 and 1 for each attribute")
        return _by_name(values, names)
    if not (values == values.round() if values.is_floating_point() else values.new_ones(1)).all():
        odd = values[values != values.round()][0].item()
        rule = "classes are whole numbers or names, attributes 0 or 1"
        raise AlikitError(f"a label is {odd:g}: {rule}; give such labels, or x alone")
    return (_classes if values.ndim == 1 else _attributes)(values.long(), names)


def _by_name(values: np.ndarray, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    texts = [nfc(text) for text in values.tolist()]
    found = sorted({*texts})
    if "" in found:
        raise AlikitError("a label is empty: leave such examples out, or name their class")
    if not names and all(name.isdecimal() for name in found):
        found.sort(key=int)
    names = names or tuple(found)
    if strange := {*found} - {*names}:
        raise AlikitError(f"a label is {min(strange)!r}, and classes are {', '.join(names[:20])}: name it among them")
    order = {name: label for label, name in enumerate(names)}
    return torch.tensor([order[name] for name in texts]), names


def _classes(values: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    if len(values) == 0:
        return values, names
    low, high = (value.item() for value in values.aminmax())
    if low < 0:
        few = f"{int((values < 0).sum())} of {len(values)} labels are below 0"
        raise AlikitError(f"{few}: leave examples without a class out, or leave all labels out")
    if high - low >= MOST_CLASSES:
        raise AlikitError(f"labels go from {low} to {high}, so they are no classes: leave them out, or give others")
    if not names:
        if low == 0:
            return values, ()
        return _by_name(np.array([*map(str, values.tolist())]), tuple(map(str, range(1, high + 1))) if low == 1 else ())
    by_name = {*map(str, values.unique().tolist())} <= {*names}
    is_index = high < len(names)
    if is_index and (low == 0 or not by_name or all(names[label] == str(label) for label in values.unique().tolist())):
        return values, names
    if by_name and not is_index:
        return _by_name(np.array([*map(str, values.tolist())]), names)
    if (low, high) == (1, len(names)) and not all(name.isdecimal() for name in names):
        return values - 1, names
    way = "give labels from 0 in the order of the names, or the names themselves"
    raise AlikitError(f"labels go from {low} to {high}, and classes are {', '.join(names[:10])}: {way}")


def _attributes(values: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    if names and len(names) != values.shape[1]:
        raise AlikitError(f"labels have {values.shape[1]} columns, and there are {len(names)} names: name each column")
    found = values.unique().tolist()
    if not {*found} <= {0, 1} and not {*found} <= {-1, 1}:
        some = ", ".join(map(str, found[:5]))
        raise AlikitError(f"attributes are {some}: make all 0 and 1, or all -1 and 1; a class is one number a picture")
    values = (values == 1).to(torch.uint8)
    if values.shape[1] > 1 and len(values) >= ONE_HOT_FROM and (values.sum(1) == 1).all():
        return values.argmax(1), names or tuple(map(str, range(values.shape[1])))
    return values, names
