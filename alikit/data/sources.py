"""Data sets by name, each as a part to train on and a part held out."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import AlikitError
from .dataset import Dataset
from .folders import Parts, folder_parts, table_parts
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .synthetic.faces import faces
from .synthetic.house_numbers import house_numbers
from .synthetic.mixture import GridMixture
from .synthetic.shapes import stand_in


def digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey pictures, (N, 1, 8, 8) uint8, labels 0..9.

    A reduced form of the UCI set "Optical Recognition of Handwritten Digits"; shipped with scikit-learn.
    """
    from sklearn.datasets import load_digits  # a second to import: only where it is used

    bunch = load_digits()
    x = torch.from_numpy(bunch.images / 16 * 255).round().to(torch.uint8)[:, None]
    return Dataset("digits", x, torch.from_numpy(bunch.target).long(), tuple("0123456789"))


def _house_numbers(name: str) -> Parts:
    return tuple(replace(house_numbers(n, seed), name=name) for seed, n in enumerate((20_000, 2_000)))


def _cifar10(root: Path, size: int | None, skip_corrupt: bool, download: bool) -> Parts:
    whole = cifar10(root, "train", download)
    begin = len(whole) - len(whole) // 10
    return whole.select(slice(begin)), whole.select(slice(begin, None))


def _both(read: Callable[..., Dataset], *splits: str, **options) -> Parts:
    return tuple(read(split=split, **options) for split in splits)


# Name: what it is, and how to have both parts, from the folder it lies in, a size, skip_corrupt and download.
SOURCES: dict[str, tuple[str, Callable[[Path, int | None, bool, bool], Parts]]] = {
    "mixture": (
        "25 Gaussians on a grid, 100,000 points (paper section 4.5)",
        lambda *_: (GridMixture().sample(100_000, seed=0), GridMixture().sample(10_000, seed=1)),
    ),
    "digits": ("scikit-learn's handwritten digits, 8x8 grey, 1,797 pictures", lambda *_: digits().split(297)),
    "house-numbers": (
        "house numbers drawn by alikit, 32x32 colour, 20,000 pictures, every factor known",
        lambda *_: _house_numbers("house-numbers"),
    ),
    "faces": (
        "faces drawn by alikit, 14 of CelebA's attributes, 20,000 + 2,000 pictures",
        lambda root, size, *_: (faces(20_000, size, seed=0), faces(2_000, size, seed=1)),
    ),
    "cifar10": ("CIFAR-10, 32x32, 10 classes, 45,000 + 5,000 pictures", _cifar10),
    "svhn": (
        "SVHN, 32x32 digits, 73,257 + 26,032 pictures",
        lambda root, size, skip, get: _both(svhn, "train", "test", root=root, download=get),
    ),
    "svhn-extra": (
        "SVHN's extra split, 531,131 + 26,032 pictures",
        lambda root, size, skip, get: _both(svhn, "extra", "test", root=root, download=get),
    ),
    "celeba": (
        "CelebA, 64x64 faces, 40 attributes, 162,770 + 19,867 pictures",
        lambda root, size, skip, get: _both(
            celeba, "train", "valid", root=root, size=size, skip_corrupt=skip, download=get
        ),
    ),
    "tiny-imagenet": (
        "Tiny ImageNet-200, 64x64, 200 classes, 100,000 + 10,000 pictures",
        lambda root, size, skip, get: _both(
            tiny_imagenet, "train", "val", root=root, size=size, skip_corrupt=skip, download=get
        ),
    ),
    "imagenet": (
        "ILSVRC2012 at 64x64, 1,000 classes, 1,281,167 + 50,000 pictures",
        lambda root, size, skip, get: _both(imagenet, "train", "val", root=root, size=size, skip_corrupt=skip),
    ),
    "stand-in:cifar10": (
        "shapes drawn by alikit in CIFAR-10's place: 32x32, 10 classes",
        lambda *_: (stand_in("cifar10", 10_000, 32, seed=0), stand_in("cifar10", 1_000, 32, seed=1)),
    ),
    "stand-in:svhn": (
        "house numbers drawn by alikit in SVHN's place: 32x32, 10 digits",
        lambda *_: _house_numbers("stand-in:svhn"),
    ),
    "stand-in:celeba": (
        "shapes drawn by alikit in CelebA's place: 64x64, 8 attributes of their own",
        lambda root, size, *_: (stand_in("celeba", 5_000, size, seed=0), stand_in("celeba", 500, size, seed=1)),
    ),
    "stand-in:tiny-imagenet": (
        "shapes drawn by alikit in Tiny ImageNet's place: 64x64, 200 classes",
        lambda root, size, *_: (stand_in("tiny-imagenet", 5_000, size, 0), stand_in("tiny-imagenet", 500, size, 1)),
    ),
}
PUBLISHED = ("cifar10", "svhn", "svhn-extra", "celeba", "tiny-imagenet", "imagenet")
SIDE_32 = ("cifar10", "svhn", "svhn-extra", "stand-in:cifar10", "stand-in:svhn")
# Those that can be had in other sizes, and their own: pixels a side.
RESIZED = {
    **{"faces": 32, "celeba": 64, "tiny-imagenet": 64, "imagenet": 64},
    **{"stand-in:celeba": 64, "stand-in:tiny-imagenet": 64},
}


def load(name: str, size: int | None = None, skip_corrupt: bool = False, download: bool = False) -> Parts:
    """The training part and the held-out part of a named source, of `folder:PATH` or of `table:PATH`.

    name          a name from SOURCES; the published data sets also as NAME:ROOT. They lie in ROOT, else in
                  $ALIKIT_DATA, else in `data` below the working directory (imagenet in the folder `imagenet` there)
    size          side in pixels, for folders, tables, `faces` (32 or more) and the data sets that are 64x64 by default;
                  see `image_folder`
    skip_corrupt  leave out and count files that are no readable pictures, instead of naming them in an error
    download      fetch a published data set that is not there

    Which examples are which is always the same. A folder with `train/` and `test/` (or `val/`) keeps its split, so
    does a table with `train` and `valid`. Of any other about a tenth is held out, each picture by its own name, so that
    adding pictures moves no other from one part to the other.

    Raises AlikitError for an unknown name, for files that are missing or damaged, and for a size that cannot be had.
    """
    kind, _, path = name.partition(":")
    if kind in ("folder", "table") and path:
        return (folder_parts if kind == "folder" else table_parts)(path, size, skip_corrupt)
    source = kind if kind in PUBLISHED and path else name
    if source not in SOURCES:
        way = f"choose {', '.join(SOURCES)}, folder:PATH or table:PATH"
        if name and Path(name).is_dir():
            way = f"for the pictures in that folder, say folder:{name}"
        raise AlikitError(f"no data called {name!r}: {way}")
    if not (size is None or source in RESIZED or (source in SIDE_32 and size == 32)):
        raise AlikitError(f"--size is for folders of pictures; {name} has the size it has")
    root = Path(rooted(name).partition(":")[2])
    return SOURCES[source][1](root, RESIZED.get(source) if size is None else size, skip_corrupt, download)


def rooted(name: str) -> str:
    """The name with the folder that it means where it names none: `cifar10` is `cifar10:data`."""
    if name not in PUBLISHED:
        return name
    root = Path(os.environ.get("ALIKIT_DATA") or "data")
    return f"{name}:{root / 'imagenet' if name == 'imagenet' else root}"
