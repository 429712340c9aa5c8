"""Any folder of pictures, decoded once and kept as uint8.

Files go by their names, as text, from a folder on: a million `Path` objects would be some hundred MB.
"""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ..errors import AlikitError, expanded, one_line
from .cache import Known, Pictures, cached
from .dataset import Dataset
from .division import held_out_last

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
HELD_OUT_NAMES = ("test", "val", "valid", "validation")
DEPTH, TIMES = 100, 100  # of folders within folders; that one is entered, by links
READ_AT_ONCE = 4096  # pictures; with a million files, one queue for all would fill the memory

log = logging.getLogger("alikit")

Listed = tuple[list[str], Tensor, list[str]]  # files, their labels in the same order, the names of the classes
Fit = Callable[[Image.Image], Image.Image]


def image_folder(
    root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False
) -> Dataset:
    """A folder of class folders, `root/<class>/<picture>`, or `root/<split>/<class>/<picture>` where root has splits.

    Returns x (N, 3, H, W) uint8. Classes are the folder names in alphabetical order; if pictures lie straight in the
    folder there are none. With `size` each picture is resized on its shorter side and centre-cropped to size x size
    when the cache is made; without it all must share one size. Files that are no readable pictures are named in one
    error, or left out and counted with `skip_corrupt`.

    Raises AlikitError for a missing or empty folder, an empty class, mixed sizes, and unreadable files.
    """
    return named_folder(root, split, size, skip_corrupt)[0]


def named_folder(
    root: str | Path, split: str, size: int | None, skip_corrupt: bool, divided: bool = False
) -> tuple[Dataset, list[str]]:
    """`image_folder`, and the name of each picture relative to the folder: class/picture. Where it is to be `divided`,
    pictures that are held out come last."""
    root = existing(root)
    folder = _split_folder(root, split)
    names = picture_files(folder)
    if not names:
        raise AlikitError(f"no pictures in {folder}: expected class folders holding files such as .jpg or .png")
    classes = sorted({name.partition("/")[0] for name in names if "/" in name})
    if (loose := sum("/" not in name for name in names)) and classes:
        log.warning("%d pictures in %s lie outside its class folders, so none has a label", loose, folder)
    if loose:
        classes = []
    else:
        shown = {place.name for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")}
        if empty := sorted(shown - {*classes}):
            raise AlikitError(f"class {empty[0]} in {folder} has no pictures: fill that folder, or remove it")
    if divided:
        names = held_out_last(names, names)
    order = {name: label for label, name in enumerate(classes)}
    of_each = (order.get(name.partition("/")[0], -1) for name in names)
    labels = torch.from_numpy(np.fromiter(of_each, np.int64, len(names)))
    below = "" if folder == root else f"{split}/"
    x, labels, known = read_pictures(
        root,
        f"{'divided' if divided else split}-{size or 'as-is'}",
        (below + name for name in names),
        lambda: (names, labels, classes),
        square(size),
        skip_corrupt,
        folder,
    )
    return Dataset(f"folder:{root.name}", x, labels if classes else None, tuple(classes)), readable_of(names, known)


def has_held_out(root: str | Path) -> str | None:
    """The name of the folder's own held-out split, if it has one beside `train`."""
    root = expanded(root)
    names = [name for name in HELD_OUT_NAMES if (root / name).is_dir()]
    return names[0] if names and (root / "train").is_dir() else None


def existing(root: str | Path) -> Path:
    """The folder, if there is one."""
    root = expanded(root)
    if not root.is_dir():
        raise AlikitError(f"no folder {root}: check the path, or unpack the archive first")
    return root


def picture_files(folder: Path) -> list[str]:
    """The names of all pictures below a folder, in their order, hidden ones left out."""
    return list(_below(str(folder), "", frozenset(), Counter())) if folder.is_dir() else []


def _below(folder: str, within: str, above: frozenset[str], times: Counter[str]) -> Iterator[str]:
    """Into folders that are links too: data sets are often put together of such. Not into one that is `above`, and
    into none more than a few `times`: a few links to a folder of links, and so on, would never end."""
    if (here := os.path.realpath(folder)) in above:
        return
    times[here] += 1
    if times[here] > TIMES or len(above) > DEPTH:
        why = f"more than {TIMES} links lead to it" if times[here] > TIMES else f"it lies more than {DEPTH} deep"
        raise AlikitError(f"cannot look for pictures in {folder}, for {why}: move it elsewhere")
    try:
        found = os.listdir(folder)
    except OSError as error:
        raise AlikitError(f"cannot look into {folder} ({error.strerror}): make that possible, or move it") from None
    for name in sorted(found, key=os.path.normcase):
        place = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.splitext(name)[1].lower() in SUFFIXES and os.path.isfile(place):
            yield within + name
        elif os.path.isdir(place):
            yield from _below(place, f"{within}{name}/", above | {here}, times)


def readable_of(names: list[str], known: Known) -> list[str]:
    """The names without those of files that could not be read."""
    if not known["unreadable"]:
        return names
    unreadable = set(known["unreadable"])
    return [name for name in names if name not in unreadable]


def square(size: int | None) -> Fit | None:
    """Resizes a picture on its shorter side and crops its centre to size x size; None leaves it as it is."""
    if size is None:
        return None
    if size < 1:
        raise AlikitError(f"cannot make pictures of size {size}: choose at least 1 pixel")
    return lambda picture: ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def read_pictures(
    root: Path,
    name: str,
    sources: Iterable[str],
    listed: Callable[[], Listed],
    fit: Fit | None,
    skip_corrupt: bool,
    folder: Path,
) -> tuple[Tensor, Tensor, Known]:
    """The pictures that are listed, by their names from `folder` on, as x (N, 3, H, W) uint8, their labels, and
    {"classes": ..., "unreadable": files left out}.

    They are decoded once and then read from the cache `name` until one of `sources`, named from `root` on, changes.
    Raises AlikitError for mixed sizes, and for unreadable files unless `skip_corrupt`.
    """

    def build(pictures: Pictures) -> tuple[Tensor, Known]:
        names, labels, classes = listed()
        readable = _decode_all(pictures, names, fit, folder, skip_corrupt)
        unreadable = [name for name, good in zip(names, readable.tolist(), strict=True) if not good]
        return labels[readable], {"classes": classes, "unreadable": unreadable}

    x, labels, known = cached(root, name, sources, build, ("classes", "unreadable"))
    if unreadable := known["unreadable"]:
        if not skip_corrupt:
            raise _unreadable(folder, unreadable)
        total = len(x) + len(unreadable)
        some = _some(folder, unreadable)
        log.warning("left out %d of %d files that are no readable pictures: %s", len(unreadable), total, some)
    return x, labels, known


def _split_folder(root: Path, split: str) -> Path:
    if (root / split).is_dir():
        return root / split
    if split == "train":
        return root
    raise AlikitError(f"no split {split!r} in {root}: expected a folder {split}/ with class folders inside")


def decode(file: str | BinaryIO, fit: Fit | None) -> np.ndarray | None:
    """(H, W, 3) uint8, or None where the file is no readable picture."""
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:  # a few KB may say it is a GB
                return None
            picture = ImageOps.exif_transpose(picture)
            if picture.mode == "F":  # in whose unit nobody knows: PIL would cut off at 255
                return None
            if picture.mode.startswith("I"):  # 16 bits of grey, which PIL would clip instead of scale
                picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
            if picture.has_transparency_data:  # what lies under transparent pixels was never meant to be seen
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            picture = picture.convert("RGB")
            return np.asarray(fit(picture) if fit else picture)
    except Exception:  # a damaged file can make a decoder raise nearly anything
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Pillow says of odd files, as warnings and in its log: they can be read or not, and that is said."""
    pillow = logging.getLogger("PIL")
    level = pillow.level
    pillow.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pillow.setLevel(level)


def _decode_all(pictures: Pictures, names: list[str], fit: Fit | None, folder: Path, skip_corrupt: bool) -> Tensor:
    """Adds all readable files as (3, H, W) uint8; returns for every file whether it could be read (N,)."""
    readable, sizes = torch.zeros(len(names), dtype=torch.bool), set()
    with _quiet(), ThreadPoolExecutor() as pool:
        batches = (names[begin : begin + READ_AT_ONCE] for begin in range(0, len(names), READ_AT_ONCE))
        decoded = (
            picture
            for batch in batches
            for picture in pool.map(lambda name: decode(os.path.join(folder, name), fit), batch)
        )
        bar = tqdm(
            decoded,
            total=len(names),
            desc=one_line(f"reading {folder.name}"),
            unit=" pictures",
            leave=False,
            disable=None,
        )
        for at, picture in enumerate(bar):
            if picture is None:
                continue
            readable[at] = True
            sizes.add(picture.shape[1::-1])
            if len(sizes) == 1:
                pictures.add(picture.transpose(2, 0, 1)[None], most=len(names))
    unreadable = [name for name, good in zip(names, readable.tolist(), strict=True) if not good]
    if unreadable and not skip_corrupt:
        raise _unreadable(folder, unreadable)
    if not sizes:
        raise AlikitError(f"no readable picture in {folder}: all {len(names)} files are damaged")
    if len(sizes) > 1:
        some = ", ".join(f"{w}x{h}" for w, h in sorted(sizes)[:3]) + (", ..." if len(sizes) > 3 else "")
        raise AlikitError(
            f"pictures in {folder} come in {len(sizes)} sizes ({some}): choose one for all with --size N (size=N)"
        )
    return readable


def _some(folder: Path, names: list[str]) -> str:
    return ", ".join(str(folder / name) for name in sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def _unreadable(folder: Path, names: list[str]) -> AlikitError:
    some = _some(folder, names)
    what = "1 file is no readable picture" if len(names) == 1 else f"{len(names)} files are no readable pictures"
    return AlikitError(f"{what} ({some}): mend or remove {'it' if len(names) == 1 else 'them'}, or use --skip-corrupt")
