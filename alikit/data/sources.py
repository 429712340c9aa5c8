"""Data sets by name, each as a part to train on and a part held out."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import AlikitError
from .cache import FOLDER
from .dataset import Dataset
from .division import held_out_by_name
from .faces import faces
from .images import has_held_out, named_folder
from .mixture import GridMixture
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .rendered import house_numbers
from .shapes import stand_in
from .tables import has_splits, named_table

Parts = tuple[Dataset, Dataset]


class Asked(NamedTuple):
    """What `load` was asked for, beside the name."""

    root: Path
    size: int | None
    skip_corrupt: bool
    download: bool


def digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey pictures, (N, 1, 8, 8) uint8, labels 0..9.

    A reduced form of the UCI set "Optical Recognition of Handwritten Digits"; shipped with scikit-learn.
    """
    from sklearn.datasets import load_digits  # a second to import: only where it is used

    bunch = load_digits()
    x = torch.from_numpy(bunch.images / 16 * 255).round().to(torch.uint8)[:, None]
    return Dataset("digits", x, torch.from_numpy(bunch.target).long(), tuple("0123456789"))


def _mixture(_: Asked) -> Parts:
    grid = GridMixture()
    return grid.sample(100_000, seed=0), grid.sample(10_000, seed=1)


def _house_numbers(name: str) -> Parts:
    train, held_out = house_numbers(20_000, seed=0), house_numbers(2_000, seed=1)
    return replace(train, name=name), replace(held_out, name=name)


def _faces(asked: Asked) -> Parts:
    size = 32 if asked.size is None else asked.size
    return faces(20_000, size, seed=0), faces(2_000, size, seed=1)


def _shapes(name: str, n: int, size: int) -> Parts:
    return stand_in(name, n, size, seed=0), stand_in(name, n // 10, size, seed=1)


def _cifar10(asked: Asked) -> Parts:
    whole = cifar10(asked.root, "train", asked.download)
    begin = len(whole) - len(whole) // 10
    return whole.select(slice(begin)), whole.select(slice(begin, None))


def _svhn(asked: Asked, split: str) -> Parts:
    return tuple(svhn(asked.root, part, asked.download) for part in (split, "test"))


def _photographs(read: Callable[..., Dataset], held_out: str, asked: Asked, **options) -> Parts:
    size = 64 if asked.size is None else asked.size
    return tuple(
        read(asked.root, part, size=size, skip_corrupt=asked.skip_corrupt, **options) for part in ("train", held_out)
    )


# Name: (what it is, how to have both parts). Those of PUBLISHED are real and lie on the disk, or come from the network.
SOURCES: dict[str, tuple[str, Callable[[Asked], Parts]]] = {
    "mixture": ("25 Gaussians on a grid, 100,000 points (paper section 4.5)", _mixture),
    "digits": ("scikit-learn's handwritten digits, 8x8 grey, 1,797 pictures", lambda _: digits().split(297)),
    "house-numbers": (
        "house numbers drawn by alikit, 32x32 colour, 20,000 pictures, every factor known",
        lambda _: _house_numbers("house-numbers"),
    ),
    "faces": ("faces drawn by alikit, 14 of CelebA's attributes, 20,000 + 2,000 pictures", _faces),
    "cifar10": ("CIFAR-10, 32x32, 10 classes, 45,000 + 5,000 pictures", _cifar10),
    "svhn": ("SVHN, 32x32 digits, 73,257 + 26,032 pictures", lambda asked: _svhn(asked, "train")),
    "svhn-extra": ("SVHN's extra split, 531,131 + 26,032 pictures", lambda asked: _svhn(asked, "extra")),
    "celeba": (
        "CelebA, 64x64 faces, 40 attributes, 162,770 + 19,867 pictures",
        lambda asked: _photographs(celeba, "valid", asked, download=asked.download),
    ),
    "tiny-imagenet": (
        "Tiny ImageNet-200, 64x64, 200 classes, 100,000 + 10,000 pictures",
        lambda asked: _photographs(tiny_imagenet, "val", asked, download=asked.download),
    ),
    "imagenet": (
        "ILSVRC2012 at 64x64, 1,000 classes, 1,281,167 + 50,000 pictures",
        lambda asked: _photographs(imagenet, "val", asked),
    ),
    "stand-in:cifar10": (
        "shapes drawn by alikit in CIFAR-10's place: 32x32, 10 classes",
        lambda _: _shapes("cifar10", 10_000, 32),
    ),
    "stand-in:svhn": (
        "house numbers drawn by alikit in SVHN's place: 32x32, 10 digits",
        lambda _: _house_numbers("stand-in:svhn"),
    ),
    "stand-in:celeba": (
        "shapes drawn by alikit in CelebA's place: 64x64, 8 attributes of their own",
        lambda asked: _shapes("celeba", 5_000, 64 if asked.size is None else asked.size),
    ),
    "stand-in:tiny-imagenet": (
        "shapes drawn by alikit in Tiny ImageNet's place: 64x64, 200 classes",
        lambda asked: _shapes("tiny-imagenet", 5_000, 64 if asked.size is None else asked.size),
    ),
}
PUBLISHED = ("cifar10", "svhn", "svhn-extra", "celeba", "tiny-imagenet", "imagenet")
RESIZED = ("faces", "celeba", "tiny-imagenet", "imagenet", "stand-in:celeba", "stand-in:tiny-imagenet")
SIDE_32 = ("cifar10", "svhn", "svhn-extra", "stand-in:cifar10", "stand-in:svhn")


def load(
    name: str, size: int | None = None, skip_corrupt: bool = False, download: bool = False
) -> tuple[Dataset, Dataset]:
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
        read, splits = (named_folder, _folder_splits) if kind == "folder" else (named_table, _table_splits)
        return _divided(read, splits(path), path, size, skip_corrupt)
    source = kind if kind in PUBLISHED and path else name
    if source not in SOURCES:
        if name and Path(name).is_dir():
            raise AlikitError(f"no data called {name!r}: for the pictures in that folder, say folder:{name}")
        raise AlikitError(f"no data called {name!r}: choose {', '.join(SOURCES)}, folder:PATH or table:PATH")
    if not (size is None or source in RESIZED or (source in SIDE_32 and size == 32)):
        raise AlikitError(f"--size is for folders of pictures; {name} has the size it has")
    root = Path(rooted(name).partition(":")[2])
    return SOURCES[source][1](Asked(root, size, skip_corrupt, download))


def rooted(name: str) -> str:
    """The name with the folder that it means where it names none: `cifar10` is `cifar10:data`."""
    if name not in PUBLISHED:
        return name
    root = Path(os.environ.get("ALIKIT_DATA") or "data")
    return f"{name}:{root / 'imagenet' if name == 'imagenet' else root}"


def _folder_splits(path: str) -> tuple[str, str] | None:
    held_out = has_held_out(path)
    return ("train", held_out) if held_out else None


def _table_splits(path: str) -> tuple[str, str] | None:
    return ("train", "valid") if has_splits(path) else None


def _divided(read: Callable, splits: tuple[str, str] | None, path: str, size: int | None, skip_corrupt: bool) -> Parts:
    """Both parts of a folder or a table, by its own splits or by the names of the pictures."""
    if not splits:
        return _by_name(*read(path, "train", size, skip_corrupt, divided=True), path)
    (part, _), (held_out, _) = (read(path, split, size, skip_corrupt) for split in splits)
    if held_out.shape != part.shape:
        train, other = splits
        raise AlikitError(f"pictures in {train}/ and {other}/ differ in size: choose one with --size N (size=N)")
    return part, _same_classes(part, held_out, splits[1])


def _by_name(data: Dataset, names: list[str], path: str) -> Parts:
    """Both parts, of pictures of which those held out come last: slices, for a copy might not find room in memory."""
    if len(data) < 2:
        raise AlikitError(f"only one picture in {path}: training needs at least one more to hold out")
    if len(names) != len(data):
        raise AlikitError(f"the cache of {path} is not of its pictures: delete the folder {FOLDER} beside them")
    held_out = held_out_by_name(names)
    begin = int((~held_out).sum())
    if held_out[:begin].any():  # of a handful of pictures, the one that was to be held out could not be read
        return data.select(~held_out), data.select(held_out)
    return data.select(slice(begin)), data.select(slice(begin, None))


def _same_classes(part: Dataset, held_out: Dataset, split: str) -> Dataset:
    """The held-out part with its labels counted in the training part's classes, of which it may lack some."""
    if unknown := set(held_out.classes) - set(part.classes):
        raise AlikitError(
            f"{split}/ has classes that train/ has not ({', '.join(sorted(unknown))}): give both the same"
        )
    if held_out.classes == part.classes or held_out.labels is None or part.labels is None:
        return held_out
    place = torch.tensor([part.classes.index(name) for name in held_out.classes])
    return replace(held_out, labels=place[held_out.labels], classes=part.classes)
