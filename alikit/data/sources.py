"""Data sets by name, each as a part to train on and a part held out."""

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
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


def _drawn(draw: Callable[[int, int, int], Dataset], n: int) -> Callable[..., Parts]:
    return lambda root, size, **_: (draw(n, size, 0), draw(n // 10, size, 1))  # n, size, seed


def _mixture(n: int, size: int, seed: int) -> Dataset:
    return GridMixture().sample(n, seed)


def _house_numbers(n: int, size: int, seed: int, name: str = "house-numbers") -> Dataset:
    return replace(house_numbers(n, seed), name=name)


def _real(read: Callable[..., Dataset], *splits: str) -> Callable[..., Parts]:
    takes = inspect.signature(read).parameters
    return lambda **asked: tuple(
        read(split=split, **{name: value for name, value in asked.items() if name in takes}) for split in splits
    )


def _cifar10(root: Path, download: bool, **_) -> Parts:
    whole = cifar10(root, "train", download)
    begin = len(whole) - len(whole) // 10
    return whole.select(slice(begin)), whole.select(slice(begin, None))


# Name: what it is, and how to have both parts, from root, size, skip_corrupt and download by name.
SOURCES: dict[str, tuple[str, Callable[..., Parts]]] = {
    "mixture": ("25 Gaussians on a grid, 100,000 points (paper section 4.5)", _drawn(_mixture, 100_000)),
    "digits": ("scikit-learn's handwritten digits, 8x8 grey, 1,797 pictures", lambda **_: digits().split(297)),
    "house-numbers": (
        "house numbers drawn by alikit, 32x32 colour, 20,000 pictures, every factor known",
        _drawn(_house_numbers, 20_000),
    ),
    "faces": ("faces drawn by alikit, 14 of CelebA's attributes, 20,000 + 2,000 pictures", _drawn(faces, 20_000)),
    "cifar10": ("CIFAR-10, 32x32, 10 classes, 45,000 + 5,000 pictures", _cifar10),
    "svhn": ("SVHN, 32x32 digits, 73,257 + 26,032 pictures", _real(svhn, "train", "test")),
    "svhn-extra": ("SVHN's extra split, 531,131 + 26,032 pictures", _real(svhn, "extra", "test")),
    "celeba": ("CelebA, 64x64 faces, 40 attributes, 162,770 + 19,867 pictures", _real(celeba, "train", "valid")),
    "tiny-imagenet": (
        "Tiny ImageNet-200, 64x64, 200 classes, 100,000 + 10,000 pictures",
        _real(tiny_imagenet, "train", "val"),
    ),
    "imagenet": ("ILSVRC2012 at 64x64, 1,000 classes, 1,281,167 + 50,000 pictures", _real(imagenet, "train", "val")),
    "stand-in:cifar10": (
        "shapes drawn by alikit in CIFAR-10's place: 32x32, 10 classes",
        _drawn(partial(stand_in, "cifar10"), 10_000),
    ),
    "stand-in:svhn": (
        "house numbers drawn by alikit in SVHN's place: 32x32, 10 digits",
        _drawn(partial(_house_numbers, name="stand-in:svhn"), 20_000),
    ),
    "stand-in:celeba": (
        "shapes drawn by alikit in CelebA's place: 64x64, 8 attributes of their own",
        _drawn(partial(stand_in, "celeba"), 5_000),
    ),
    "stand-in:tiny-imagenet": (
        "shapes drawn by alikit in Tiny ImageNet's place: 64x64, 200 classes",
        _drawn(partial(stand_in, "tiny-imagenet"), 5_000),
    ),
}
PUBLISHED = ("cifar10", "svhn", "svhn-extra", "celeba", "tiny-imagenet", "imagenet")
SIDE_32 = ("cifar10", "svhn", "svhn-extra", "stand-in:cifar10", "stand-in:svhn")
RESIZED = ("faces", "celeba", "tiny-imagenet", "imagenet", "stand-in:celeba", "stand-in:tiny-imagenet")


def load(name: str, size: int | None = None, skip_corrupt: bool = False, download: bool = False) -> Parts:
    """The training part and the held-out part of a named source, of `folder:PATH` or of `table:PATH`.

    name          a name from SOURCES; the published data sets also as NAME:ROOT. They lie in ROOT, else in
                  $ALIKIT_DATA, else in `data` below the working directory (imagenet in the folder `imagenet` there)
    size          pixels a side, for folders, tables and RESIZED; see `image_folder`
    skip_corrupt  leave out and count files that are no readable pictures, instead of naming them in an error
    download      fetch a published data set that is not there

    Which examples are which is always the same. A folder with `train/` and `test/` (or `val/`) keeps its split, so
    does a table with `train` and `valid`. Of any other about a tenth is held out, each picture by its own name.

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
    if size is None:
        size = 64 if source in RESIZED and source != "faces" else 32
    root = Path(rooted(name).partition(":")[2])
    return SOURCES[source][1](root=root, size=size, skip_corrupt=skip_corrupt, download=download)


def rooted(name: str) -> str:
    """The name with the folder that it means where it names none: `cifar10` is `cifar10:data`."""
    if name not in PUBLISHED:
        return name
    root = Path(os.environ.get("ALIKIT_DATA") or "data")
    return f"{name}:{root / 'imagenet' if name == 'imagenet' else root}"
