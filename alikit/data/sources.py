"""Data sets by name, each as a part to train on and a part held out."""

from dataclasses import replace
from pathlib import Path

import torch

from ..errors import AlikitError
from .dataset import Dataset
from .images import has_held_out, image_folder
from .mixture import GridMixture
from .rendered import house_numbers


def digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey pictures, (N, 1, 8, 8) uint8, labels 0..9.

    A reduced form of the UCI set "Optical Recognition of Handwritten Digits"; shipped with scikit-learn.
    """
    from sklearn.datasets import load_digits  # a second to import: only where it is used

    bunch = load_digits()
    x = torch.from_numpy(bunch.images / 16 * 255).round().to(torch.uint8)[:, None]
    return Dataset("digits", x, torch.from_numpy(bunch.target).long(), tuple("0123456789"))


def _mixture() -> tuple[Dataset, Dataset]:
    grid = GridMixture()
    return grid.sample(100_000, seed=0), grid.sample(10_000, seed=1)


SOURCES = {
    "mixture": ("25 Gaussians on a grid, 100,000 points (paper section 4.5)", _mixture),
    "digits": ("scikit-learn's handwritten digits, 8x8 grey, 1,797 pictures", lambda: digits().split(297)),
    "house-numbers": (
        "house numbers drawn by alikit, 32x32 colour, 20,000 pictures, every factor known",
        lambda: (house_numbers(20_000, seed=0), house_numbers(2_000, seed=1)),
    ),
}


def load(name: str, size: int | None = None, skip_corrupt: bool = False) -> tuple[Dataset, Dataset]:
    """The training part and the held-out part of a named source, or of `folder:PATH`.

    A folder with `train/` and `test/` (or `val/`) keeps its split; of any other a tenth, at most 10,000, is held out.
    `size` and `skip_corrupt` are for folders; see `image_folder`. Which examples are which is always the same.
    """
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        part = image_folder(path, "train", size, skip_corrupt)
        if split := has_held_out(Path(path)):
            held_out = image_folder(path, split, size, skip_corrupt)
            if held_out.shape != part.shape:
                raise AlikitError(f"pictures in train/ and {split}/ differ in size: choose one with --size N (size=N)")
            return part, _same_classes(part, held_out, split)
        if len(part) < 2:
            raise AlikitError(f"only one picture in {path}: training needs at least one more to hold out")
        return part.split(min(10_000, max(1, len(part) // 10)))
    if name and name not in SOURCES and Path(name).is_dir():
        raise AlikitError(f"no data called {name!r}: for the pictures in that folder, say folder:{name}")
    if name not in SOURCES:
        raise AlikitError(f"no data called {name!r}: choose {', '.join(SOURCES)} or folder:PATH")
    if size is not None:
        raise AlikitError(f"--size is for folders of pictures; {name} has the size it has")
    return SOURCES[name][1]()


def _same_classes(part: Dataset, held_out: Dataset, split: str) -> Dataset:
    """The held-out part with its labels counted in the training part's classes, of which it may lack some."""
    if unknown := set(held_out.classes) - set(part.classes):
        raise AlikitError(
            f"{split}/ has classes that train/ has not ({', '.join(sorted(unknown))}): give both the same"
        )
    if held_out.labels is None or part.labels is None:
        return held_out
    place = torch.tensor([part.classes.index(name) for name in held_out.classes])
    return replace(held_out, labels=place[held_out.labels], classes=part.classes)
