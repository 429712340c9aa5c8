"""One picture file: opened by its content and decoded to 8 bits, with what was found on the way.

Pillow may read only what it reads itself: its EPS and WMF readers run other programs or systems, and a few readers take
nearly any bytes for a picture.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import AlikitError

LARGEST_SIDE = 1024  # pixels a side that pictures can be resized to


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{ending}" for ending in text.split())


TARGA = _endings("icb tga vda vst")  # nothing in such a file says what it is
# What Pillow cannot read, or reads only the small preview of.
TO_CONVERT = _endings(
    "3fr ai arw cr2 cr3 dcm dcr dicom dng emf eps erf exr heic heif iiq jxl jxr kdc mef mos mrw nef nrw orf pef "
    "psb raf rw2 rwl sr2 srf srw svg svgz wmf x3f xcf"
)
SUFFIXES = TARGA | TO_CONVERT
SUFFIXES |= _endings(
    "apng avif avifs bmp bw cur dcx dds dib fit fits gif icns ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo pbm "
    "pcx pfm pgm png pnm ppm psd pxr qoi ras rgb rgba sgi tif tiff webp xbm xpm"
)
# What usually lies beside pictures. Any other file is a picture if Pillow says so.
COMPANIONS = _endings(
    "7z aux bak bin cache cfg csv db doc docx gz h5 hdf5 html ini ipynb json jsonl lnk lock log mat md mov mp3 mp4 npy "
    "npz parquet part partial pdf pickle pkl pt pth py pyc rar rst safetensors sh sqlite tar tfrecord tgz tmp toml tsv "
    "txt url wav xls xlsx xml xz yaml yml zip"
)
QUICK = ("JPEG", "PNG", "BMP", "GIF", "PPM")  # what Pillow knows without loading its other readers
STRONG = ("WEBP", "AVIF", "TIFF", "JPEG2000", "HEIF", "JXL")  # and what begins in a way that nothing else does
NEVER = {"EPS", "WMF", "TGA", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "IM", "IMT", "MCIDAS", "PCD", "SPIDER", "XVTHUMB"}
PAGED = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")  # not MPO: the second picture of a telephone's JPEG is the first again
WHITES = (255, 1023, 4095, 16383, 65535)  # the full ranges of 8 to 16 bits
ASSUMED = {"16-bit": 65535.0, "floating-point": 1.0}  # white, until the brightest value of the folder is known

Fit = Callable[[Image.Image], Image.Image]


class Picture(NamedTuple):
    """A decoded file."""

    pixels: np.ndarray  # (H, W, C) uint8; C is 1 for grey and 3 for colour
    deep: str = ""  # what white is has to be found over all pictures of this kind: a key of ASSUMED, or "colour"
    top: float = 0  # the brightest value of a deep one
    pages: int = 1  # or frames, of which the first was read
    wrong: str = ""  # why it cannot be used, though it can be read


def square(size: int | None) -> Fit | None:
    """Resizes a picture on its shorter side and crops its centre to size x size; None leaves it as it is."""
    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise AlikitError(f"cannot make pictures of size {size}: choose 1 to {LARGEST_SIDE:,} pixels a side")
    return size and (lambda picture: ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def decode(file: str | BinaryIO, fit: Fit | None, white: float | None = None) -> Picture | None:
    """The picture, or None where the file is no readable one. `white` is the brightest value of 16- and 32-bit greys;
    without it they are scaled as ASSUMED."""
    with suppress(Exception), _opened(file) as opened:  # a damaged file can make a decoder raise nearly anything
        if opened.width * opened.height > Image.MAX_IMAGE_PIXELS:  # a few KB can claim to be a GB
            return None
        stored = str(opened.tile and opened.tile[0][3])  # how the pixels lie in the file; gone once they are loaded
        ImageOps.exif_transpose(opened, in_place=True)
        grey = Image.getmodebase(opened.mode) == "L" or "LA;16" in stored
        if opened.mode[0] in "IF":
            found = _scaled(opened, fit, white, stored)
            return found._replace(pages=_pages(opened))
        picture, deep, top = opened, "", 0
        if ";16" in stored and opened.format not in ("BMP", "DIB"):  # Pillow keeps the upper 8 bits of 16
            deep, top = "" if white == 65535 else "colour", int(_colours(picture).max())
        if picture.has_transparency_data:  # the colours of transparent pixels were never meant to be seen
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        if picture.mode != (mode := "L" if grey else "RGB"):
            picture = picture.convert(mode)
        pixels = np.asarray(fit(picture) if fit else picture)
        return Picture(pixels[..., None] if grey else pixels, deep, top, _pages(opened))
    return None


def _scaled(opened: Image.Image, fit: Fit | None, white: float | None, stored: str) -> Picture:
    """A grey picture of more than 8 bits."""
    values, deep = np.asarray(opened), "floating-point" if opened.mode == "F" else "16-bit"
    low, top, wrong = float(values.min()), float(values.max()), ""
    # Of these Pillow scales whole numbers to 65,535, by what the file says. One that says 65,535, or does not use the
    # upper bits, may be wrong.
    of_file = opened.format == "PPM" and not (white and stored.startswith("I;16"))
    of_file = of_file or (opened.format == "JPEG2000" and not white and top > WHITES[-2])
    if deep == "16-bit" and of_file:
        deep, white = "", 65535
    if not np.isfinite([low, top]).all():
        wrong = "has values that are not finite: mend or remove it"
    elif low < 0:
        wrong = f"has values below 0, down to {low:,.6g}: shift them to start at 0, or remove it"
    elif white and white > 255 and deep == "floating-point" and 0 < top <= 1:
        wrong = f"goes up to {top:.3g}, and white is {white:,.10g}: read it without the others, or convert it"
    elif white and top > white:
        wrong = f"goes up to {top:,.10g}, and white is {white:,.10g}: say what is white, as --white N (white=N)"
    scale = white or ASSUMED[deep]
    if opened.format == "TIFF" and opened.tag_v2.get(262) == 0:  # 0 is white, which Pillow minds only of 8 bits
        values = scale - values
    picture = Image.fromarray(values.astype(np.float32))
    pixels = (np.asarray(fit(picture) if fit else picture) * (255 / scale)).round().clip(0, 255).astype(np.uint8)
    return Picture(pixels[..., None], "" if white else deep, top, wrong=wrong)


def _colours(picture: Image.Image) -> np.ndarray:
    return np.atleast_3d(np.asarray(picture))[..., : 4 if picture.mode == "CMYK" else 3]


def _pages(opened: Image.Image) -> int:
    with suppress(Exception):
        return opened.n_frames if opened.format in PAGED else 1
    return 1


@cache
def _formats(strong: bool) -> list[str]:
    """Those that are tried after the quick ones."""
    Image.init()  # loads all of Pillow's readers
    return [name for name in Image.ID if (name in STRONG if strong else name not in NEVER)]


def _opened(file: str | BinaryIO) -> Image.Image:
    with suppress(UnidentifiedImageError):
        return Image.open(file, formats=QUICK)
    ending = ending_of(file) if isinstance(file, str) else ""
    picture = Image.open(file, formats=[*_formats(False), *(["TGA"] if ending in TARGA else [])])
    if picture.format == "TIFF" and ending in TO_CONVERT:
        picture.close()
        raise ValueError("the preview in a raw file")
    return picture


def ending_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_picture(file: str) -> bool:
    """Whether the file has the ending of a picture, or an unusual one and is one that Pillow can read."""
    ending = ending_of(file)
    if ending in SUFFIXES or ending in COMPANIONS:
        # A link to nothing, as of data that was not fetched, is a picture that cannot be read.
        return ending in SUFFIXES and (os.path.isfile(file) or (os.path.islink(file) and not os.path.exists(file)))
    if not os.path.isfile(file):
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            for formats in (QUICK, _formats(True)):
                with suppress(UnidentifiedImageError), Image.open(file, formats=formats):
                    return True
    except Image.DecompressionBombError:  # a picture, if too large a one
        return True
    except Exception:
        return False
    return False


def white_of(deep: str, top: float, where: object) -> float:
    """What white is in pictures of this kind whose brightest value is `top`. AlikitError where it cannot be told."""
    if deep == "colour":
        if top < 255:
            seen = f"the 16-bit colour pictures in {where} go up to about {int(top) * 257:,} of 65,535"
            raise AlikitError(f"{seen}, and only their upper 8 bits can be read: convert them to 8 bits first")
        return 255
    if top in WHITES or (deep == "floating-point" and top == 1):
        return top
    likely = next((white for white in ((1,) if deep == "floating-point" else ()) + WHITES if white >= top), top)
    kind = "32-bit" if deep == "16-bit" and top > 65535 else deep
    way = f"say what is white, as --white {likely:.10g} (white={likely:.10g})"
    raise AlikitError(f"the {kind} pictures in {where} go up to {top:,.10g}: {way}")
