"""Data sets by name, each as a part to train on and a part held out."""

import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..errors import AlikitError
from .dataset import Dataset
from .folders import folder_parts
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .synthetic.faces import faces
from .synthetic.house_numbers import house_numbers
from .synthetic.mixture import GridMixture
from .synthetic.shapes import stand_in
from .tables import table_parts

Parts = tuple[Dataset, Dataset]
PUBLISHED = ("cifar10", "svhn", "svhn-extra", "celeba", "tiny-imagenet", "imagenet")
STAND_INS = ("stand-in:cifar10", "stand-in:svhn", "stand-in:celeba", "stand-in:tiny-imagenet")
SOURCES = ("mixture", "digits", "house-numbers", "faces", *PUBLISHED, *STAND_INS)  # described in data/README.md
RESIZED = ("faces", "celeba", "tiny-imagenet", "imagenet", "stand-in:celeba", "stand-in:tiny-imagenet")


def digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey pictures, (N, 1, 8, 8) uint8, labels 0..9.

    A reduced form of the UCI set "Optical Recognition of Handwritten Digits"; shipped with scikit-learn.
    """
    # Its file alone: to import scikit-learn takes longer than anything that a short run does.
    folder = Path(find_spec("sklearn").submodule_search_locations[0]) / "datasets" / "data"
    rows = torch.from_numpy(np.loadtxt(folder / "digits.csv.gz", delimiter=","))
    x = (rows[:, :64] / 16 * 255).round().to(torch.uint8).view(-1, 1, 8, 8)
    return Dataset("digits", x, rows[:, 64].long(), tuple("0123456789"))


def load(
    name: str,
    size: int | None = None,
    skip_corrupt: bool = False,
    download: bool = False,
    white: float | None = None,
    splits: str | None = None,
) -> Parts:
    """The training part and the held-out part of a named source, of `folder:PATH` or of `table:PATH`.

    name          a name from SOURCES; the published data sets also as NAME:ROOT. They lie in ROOT, else in
                  $ALIKIT_DATA, else in `data` below the working directory (imagenet in the folder `imagenet` there)
    size          pixels a side, for folders, tables and RESIZED; see `image_folder`
    skip_corrupt  leave out and count unreadable files, instead of naming them in an error
    download      fetch a published data set that is not there
    white         the brightest value of 16- and 32-bit grey pictures, for folders and tables
    splits        "TRAIN,HELD_OUT", the names of a folder's two splits, or "none"; for folders and tables

    Which examples are which is always the same. A folder with `train/` and `test/` (or `val/`) keeps its split, so
    does a table with `train` and `valid`. Of any other about a tenth is held out, each picture by its own name.

    Raises AlikitError for an unknown name, for files that are missing or damaged, and for a size that cannot be had.
    """
    kind, _, path = name.partition(":")
    if kind in ("folder", "table") and path:
        return (folder_parts if kind == "folder" else table_parts)(path, size, skip_corrupt, white, splits)
    source = kind if kind in PUBLISHED and path else name
    if source not in SOURCES:
        way = f"choose {', '.join(SOURCES)}, folder:PATH or table:PATH"
        if name and Path(name).is_dir():
            way = f"for the pictures in that folder, say folder:{name}"
        raise AlikitError(f"no data called {name!r}: {way}")
    if size is not None and source not in RESIZED and (size != 32 or source in ("mixture", "digits")):
        raise AlikitError(f"--size is for folders of pictures; {name} has the size it has")
    if size is None:
        size = 64 if source in RESIZED and source != "faces" else 32
    return _named(source, Path(rooted(name).partition(":")[2]), size, skip_corrupt, download)


def _named(source: str, root: Path, size: int, skip_corrupt: bool, download: bool) -> Parts:
    def drawn(n: int, draw: Callable[[int, int], Dataset]) -> Parts:
        return draw(n, 0), draw(n // 10, 1)  # number, seed

    match source:
        case "mixture":
            return drawn(100_000, GridMixture().sample)
        case "digits":
            return digits().split(297)
        case "house-numbers" | "stand-in:svhn":
            return drawn(20_000, lambda n, seed: replace(house_numbers(n, seed), name=source))
        case "faces":
            return drawn(20_000, lambda n, seed: faces(n, size, seed))
        case "cifar10":
            whole = cifar10(root, "train", download)
            begin = len(whole) - len(whole) // 10
            return whole.select(slice(begin)), whole.select(slice(begin, None))
        case "svhn" | "svhn-extra":
            train = "extra" if source == "svhn-extra" else "train"
            return svhn(root, train, download), svhn(root, "test", download)
        case "celeba":
            return tuple(celeba(root, split, download, size, skip_corrupt) for split in ("train", "valid"))
        case "tiny-imagenet":
            return tuple(tiny_imagenet(root, split, download, size, skip_corrupt) for split in ("train", "val"))
        case "imagenet":
            return tuple(imagenet(root, split, size, skip_corrupt) for split in ("train", "val"))
    n, kind = 10_000 if source == "stand-in:cifar10" else 5_000, source.removeprefix("stand-in:")
    return drawn(n, lambda n, seed: stand_in(kind, n, size, seed))


def rooted(name: str) -> str:
    """The name with the folder that it means where it names none: `cifar10` is `cifar10:data`."""
    if name not in PUBLISHED:
        return name
    root = Path(os.environ.get("ALIKIT_DATA") or "data")
    return f"{name}:{root / 'imagenet' if name == 'imagenet' else root}"
