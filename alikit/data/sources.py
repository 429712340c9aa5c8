"""Data sets by name, each as a part to train on and a part held out."""

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np
import torch

from ..errors import AlikitError, expanded
from .dataset import Dataset
from .decoding import SUFFIXES, ending_of
from .files import file_parts, holds_pictures, kind_of
from .folders import folder_parts
from .objects import object_parts
from .parts import Parts
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .synthetic.digits import drawn_digits
from .synthetic.faces import faces
from .synthetic.house_numbers import house_numbers
from .synthetic.mixture import GridMixture
from .synthetic.shapes import stand_in
from .tables import table_parts
from .torchvision_sets import FILES, full_name, torchvision_parts

PUBLISHED = ("cifar10", "svhn", "svhn-extra", "celeba", "tiny-imagenet", "imagenet")
STAND_INS = ("stand-in:mnist", "stand-in:cifar10", "stand-in:svhn", "stand-in:celeba", "stand-in:tiny-imagenet")
SOURCES = ("mixture", "digits", "house-numbers", "faces", *PUBLISHED, *STAND_INS)  # described in data/README.md
RESIZED = ("faces", "celeba", "tiny-imagenet", "imagenet", "stand-in:celeba", "stand-in:tiny-imagenet")
# What a published set has in the folder that NAME:FOLDER names.
MARKS = {
    "cifar10": "cifar-10-batches-py",
    "svhn": "train_32x32.mat",
    "celeba": "celeba/list_attr_celeba.txt",
    "tiny-imagenet": "tiny-imagenet-200/wnids.txt",
    "torchvision:CIFAR100": "cifar-100-python",
    "torchvision:STL10": "stl10_binary",
}


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
    source: Any,
    size: int | None = None,
    skip_corrupt: bool = False,
    download: bool = False,
    white: float | None = None,
    splits: str | None = None,
    scale: tuple[float, float] | None = None,
    channels: str | None = None,
) -> Parts:
    """The training part and the held-out part of data.

    source        a name from SOURCES; folder:PATH, table:PATH or file:PATH, or the path alone, see `image_folder`,
                  `image_table` and `files.file_parts`; torchvision:NAME, see torchvision_sets.py; or an object of
                  Python, see `objects.object_parts`. Published sets, and those of torchvision, lie in ROOT of
                  NAME:ROOT, else in $ALIKIT_DATA, else in `data` below the working directory (imagenet in the folder
                  `imagenet` there)
    size          pixels a side, for all but arrays; see `image_folder`
    skip_corrupt  leave out and count unreadable files, instead of naming them in an error
    download      fetch a published data set that is not there
    white         the brightest value of pictures of more than 8 bits
    splits        for folders and tables, the names of the two parts as TRAIN,HELD_OUT, or none
    scale         for arrays and objects, the values that are black and white
    channels      for arrays and objects, where the channels are, "first" or "last"

    Which examples are which is always the same. Data that has a test or val part keeps it as the held-out one. Of any
    other about a tenth is held out.

    Raises AlikitError for an unknown name, for files that are missing or damaged, and for a size that cannot be had.
    """
    for name, value, kinds in (("size", size, int), ("white", white, int | float), ("splits", splits, str)):
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            known = {"size": "a whole number", "white": "a number", "splits": 'text, as "TRAIN,HELD_OUT"'}[name]
            raise AlikitError(f"{name} is {value!r}: give {known}")
    if not isinstance(source, str | os.PathLike):
        return object_parts(source, size, skip_corrupt, scale if white is None else (0, white), channels)
    source = canonical(source)
    head, path = parted(source)
    if splits is not None and head not in ("folder", "table"):
        raise AlikitError(f"splits are for folders and tables; {source} has the parts it has: leave splits out")
    if white is not None and head not in ("folder", "table", "file"):
        raise AlikitError(f"white is for your own pictures and arrays; {source} has the values it has: leave white out")
    match head:
        case "folder" | "table":
            read = folder_parts if head == "folder" else table_parts
            return tuple(read(path, size, skip_corrupt, white, splits))
        case "file":
            return file_parts(path, size, skip_corrupt, white, scale, channels)
    if head.startswith("torchvision:"):
        return torchvision_parts(head.partition(":")[2], path, size, skip_corrupt, download)
    if size is not None and head not in RESIZED and (size != 32 or head in ("mixture", "digits")):
        raise AlikitError(f"--size is for folders of pictures; {head} has the size it has")
    if size is None:
        size = 64 if head in RESIZED and head != "faces" else 32
    return _named(head, Path(path), size, skip_corrupt, download)


def _named(source: str, root: Path, size: int, skip_corrupt: bool, download: bool) -> Parts:
    def drawn(n: int, draw: Callable[[int, int], Dataset]) -> Parts:
        return draw(n, 0), draw(n // 10, 1)  # number, seed

    match source:
        case "mixture":
            return drawn(100_000, GridMixture().sample)
        case "digits":
            return digits().split(297)
        case "house-numbers" | "stand-in:svhn":
            return drawn(20_000, lambda n, seed: house_numbers(n, seed).but(name=source))
        case "stand-in:mnist":
            return drawn(20_000, lambda n, seed: drawn_digits(n, seed).but(name=source))
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


def canonical(source: str | os.PathLike) -> str:
    """The name of data with the folder that it means: `cifar10` is `cifar10:data`, and a path that is there is
    `folder:PATH`, `table:PATH` or `file:PATH`. A known name means that data, even where a folder is called the same.
    AlikitError for what is neither a name nor a path."""
    name = os.fspath(source)
    if not isinstance(source, str):
        return _of_path(name, name)
    root = os.environ.get("ALIKIT_DATA") or "data"
    kind, _, path = name.partition(":")
    if re.match("[a-z0-9]+://", name) and kind != "file":
        raise AlikitError(f"no data is read from the network ({name}): fetch it first, then name its folder or file")
    match kind:
        case "file" | "folder" | "table" if path:
            path = path if kind == "file" else path.removeprefix("file:")
            if path.startswith("//"):  # a URL
                path = url2pathname(path.removeprefix("//localhost").removeprefix("//"))
                return _of_path(path, name) if kind == "file" else f"{kind}:{path}"
            return f"{kind}:{Path(path)}"
        case "torchvision" if path:
            known, _, place = path.partition(":")
            return f"torchvision:{full_name(known) or known}:{place or root}"
    if name in PUBLISHED:
        return f"{name}:{Path(root, 'imagenet') if name == 'imagenet' else root}"
    if name in SOURCES or (kind in PUBLISHED and path):
        return name
    return _of_path(name, name)


def parted(source: str) -> tuple[str, str]:
    """A canonical name without its path, and the path, as ("torchvision:MNIST", "data"); nothing where it has none."""
    if source in SOURCES:
        return source, ""
    head, _, path = source.partition(":")
    if head == "torchvision":
        known, _, path = path.partition(":")
        head = f"{head}:{known}"
    return head, path


def is_resized(source: str) -> bool:
    """Whether its pictures are resized as they are read."""
    head, path = parted(canonical(source))
    if head == "file":
        return holds_pictures(path)
    return head in ("folder", "table", *RESIZED) or head.removeprefix("torchvision:") in FILES


def _of_path(path: str, name: str) -> str:
    """The kind of data at a path that a person gave as `name`."""
    place = expanded(path)
    for published, mark in MARKS.items():  # its own file or folder
        if Path(path).name == mark.partition("/")[0] and (place.parent / mark).exists():
            return f"{published}:{Path(path).parent}"
    if path and place.is_dir():
        return f"{_kind_of_folder(place)}:{Path(path)}"
    if path and place.exists():
        ending = ending_of(path)
        if ending in SUFFIXES:
            raise AlikitError(f"{path} is one picture: name the folder that it is in")
        if ending in (".zip", ".rar", ".7z"):
            raise AlikitError(f"{path} is an archive: unpack it, and name the folder")
        return f"{'table' if ending in ('.csv', '.jsonl') else 'file'}:{Path(path)}"
    way = (
        f"choose {', '.join(SOURCES)}, folder:PATH, table:PATH, file:PATH or torchvision:NAME, or a path that is there"
    )
    if full := full_name(name):
        way = f"say torchvision:{full}"
    raise AlikitError(f"no data called {name!r}: {way}")


def _kind_of_folder(folder: Path) -> str:
    there = [name for name, mark in MARKS.items() if (folder / mark).exists()]
    if len(there) > 1:
        raise AlikitError(f"{folder} has several sets: say {' or '.join(f'{name}:{folder}' for name in there)}")
    if there:
        return there[0]
    if (folder / "attributes.csv").is_file():
        return "table"
    found = set()
    for _, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found |= {
            "file" if kind_of(name) else "folder" for name in files if kind_of(name) or ending_of(name) in SUFFIXES
        }
        if len(found) > 1:
            raise AlikitError(f"{folder} has pictures and files of arrays: say folder:{folder} or file:{folder}")
    return found.pop() if found else "folder"
