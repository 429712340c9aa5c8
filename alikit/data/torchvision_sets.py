"""The labelled picture sets of torchvision, by their names there.

Left out are those without one class for each picture (boxes, captions, pairs, stereo, videos), those that need another
package (LSUN, PCAM), and CelebA and ImageNet, which are in published.py.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from .. import reading
from ..errors import AlikitError, expanded
from .decoding import decode, square
from .files import upright
from .parts import Parts, in_memory, on_disk
from .published import PATIENCE


def _split(train: str, held_out: str) -> tuple[dict, dict]:
    return {"split": train}, {"split": held_out}


# The arguments of the training part and of the held-out part. Of a single part a tenth is held out.
BY_TRAIN = {"train": True}, {"train": False}
# All pictures of these are of one size, and torchvision holds them in memory.
ARRAYS = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "USPS", "CIFAR10", "CIFAR100"), BY_TRAIN),
    **{
        f"EMNIST-{split}": tuple({"split": split, **part} for part in BY_TRAIN)
        for split in ("letters", "balanced", "byclass", "bymerge", "digits", "mnist")
    },
    "SVHN": _split("train", "test"),
    "STL10": _split("train", "test"),  # without its unlabelled part
    "FER2013": _split("train", "test"),
    "SEMEION": ({},),
}
# These are files of many sizes.
FILES = {
    "Caltech101": ({},),
    "Caltech256": ({},),
    "CLEVRClassification": _split("train", "val"),  # by the number of things; its test part has no labels
    "Country211": _split("train", "test"),
    "DTD": _split("train", "test"),
    "EuroSAT": ({},),
    "FGVCAircraft": _split("trainval", "test"),
    "Flowers102": _split("train", "test"),
    "Food101": _split("train", "test"),
    "GTSRB": _split("train", "test"),
    "Imagenette": _split("train", "val"),
    "INaturalist": ({"version": "2021_train"}, {"version": "2021_valid"}),
    "LFWPeople": ({},),  # the people of its test part are others
    "Omniglot": ({},),  # likewise the alphabets of its evaluation part
    "OxfordIIITPet": _split("trainval", "test"),
    "Places365": ({"split": "train-standard", "small": True}, {"split": "val", "small": True}),
    "RenderedSST2": _split("train", "test"),
    "StanfordCars": _split("train", "test"),
    "SUN397": ({},),
}
SETS = ARRAYS | FILES
# No longer where torchvision would fetch them.
BY_HAND = {
    "FER2013": "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    "LFWPeople": "https://www.kaggle.com/datasets/jessicali9530/lfw-dataset",
    "StanfordCars": "https://github.com/pytorch/vision/issues/7545",
}
OTHERWISE = {"emnist": "EMNIST-letters"}
# Where the names of classes are not its `classes`. Without names, classes are called by their numbers.
NAMES: dict[str, Callable] = {
    "Caltech101": lambda data: data.categories,
    "Caltech256": lambda data: [name.partition(".")[2] for name in data.categories],
    "FER2013": lambda data: ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    "Imagenette": lambda data: [names[0] for names in data.classes],
    "INaturalist": lambda data: data.all_categories,
    "LFWPeople": lambda data: [*data.class_to_idx],
    "Omniglot": lambda data: sorted(data._characters),
}


def full_name(name: str) -> str | None:
    """A name as torchvision spells it, from any case; None for a set that is not among these."""
    known = {known.lower(): known for known in SETS}
    return known.get(name.lower()) or OTHERWISE.get(name.lower())


def torchvision_parts(
    name: str, root: str | Path, size: int | None = None, skip_corrupt: bool = False, download: bool = False
) -> Parts:
    """The training part and the held-out part of a set of torchvision, from the folder that it calls root.

    The second is the set's own test or val part, else a tenth. Sets of ARRAYS have the size that they have. Pictures of
    the others are resized and centre-cropped to `size`, 64 by default, and kept in a cache. Letters of EMNIST are
    upright here, and labels count from 0.

    Raises AlikitError for an unknown name, and for a set that is not there or damaged, unless `download` fetches it.
    """
    if (full := full_name(name)) is None:
        way = f"choose {', '.join(SETS)}" if name.lower() not in ("celeba", "imagenet") else f"say {name.lower()}"
        raise AlikitError(f"torchvision has no set of labelled pictures {name!r} here: {way}")
    if full in ARRAYS and size is not None:
        raise AlikitError(f"a size is for pictures in files of their own; {full} has the size it has")
    fit = square(size or 64)
    root = expanded(root)
    parts = _opened(full, root, download)
    classes = [*NAMES.get(full, lambda data: getattr(data, "classes", ()))(parts[0])]
    title = f"torchvision:{full}"
    damaged = reading.boundary(root, f"delete {full} there and fetch it again")
    if full in ARRAYS:
        with damaged:
            examples = [_array(data) for data in parts]
        if full.startswith("EMNIST"):
            examples, classes = upright(examples, full.partition("-")[2])
        return in_memory(title, [(_channels_first(x), y) for x, y in examples], classes, (0, 255), "first")
    with damaged:
        files = [sorted((os.path.relpath(file, root), int(label)) for file, label in _listed(data)) for data in parts]
        examples = [([file for file, _ in listed], [label for _, label in listed]) for listed in files]
    names = [name for names, _ in examples for name in names]

    def read(name: str, white: float | None = None) -> Any:
        return decode(os.path.join(root, name), fit, white)

    return on_disk(title, root, f"{full}-{size or 64}", names, examples, classes, read, skip_corrupt)


def _array(data) -> tuple[Tensor, Tensor | None]:
    """Pictures and labels of a set in memory."""
    if hasattr(data, "_samples"):  # FER2013
        pictures, labels = zip(*data._samples, strict=True)
        return torch.stack(pictures), None if None in labels else torch.tensor(labels)  # it may keep those of test back
    labels = torch.as_tensor(data.targets if hasattr(data, "targets") else data.labels).long()
    return torch.as_tensor(data.data), labels[:, 0] if labels.ndim == 2 else labels  # QMNIST has more about each


def _channels_first(x: Tensor) -> Tensor:
    if x.ndim == 3:
        return x[:, None].contiguous()
    return (x.permute(0, 3, 1, 2) if x.shape[3] == 3 else x).contiguous()


def _listed(data) -> list[tuple[str, int]]:
    """The file and label of each picture, none of which is opened."""
    for name in ("_samples", "samples", "imgs"):
        if hasattr(data, name):
            return getattr(data, name)
    if hasattr(data, "_images"):  # OxfordIIITPet
        return [*zip(data._images, data._labels, strict=True)]
    if hasattr(data, "categories"):  # Caltech101 and 256
        (folder,) = Path(data.root).glob("*_ObjectCategories")
        found = [(sorted((folder / name).glob("*.jpg")), label) for label, name in enumerate(data.categories)]
        return [(file, label) for files, label in found for file in files]
    data.loader = data._loader = str  # instead of the picture, its path
    found = [data[at] for at in range(len(data))]
    if hasattr(data, "_characters"):  # Omniglot, whose labels follow the order of the file system
        label_of = {name: label for label, name in enumerate(sorted(data._characters))}
        found = [(file, label_of[data._characters[label]]) for file, label in found]
    return found


def _opened(full: str, root: Path, download: bool) -> list:
    """The parts as torchvision reads them. Fetched ones are moved to `root` when all are whole."""
    from torchvision import datasets

    kind = getattr(datasets, full.partition("-")[0])
    never = {} if full == "FER2013" else {"download": False}  # SEMEION fetches itself unless it is told not to
    patience = socket.getdefaulttimeout()
    try:
        with suppress(Exception):
            return [kind(root, **part, **never) for part in SETS[full]]
        if download and full not in BY_HAND:
            root.mkdir(parents=True, exist_ok=True)
            # On the disk of `root`, and gone afterwards with whatever was left half-made.
            with TemporaryDirectory(prefix=".", suffix=".partial", dir=root) as staging:
                socket.setdefaulttimeout(PATIENCE)  # torchvision waits for ever
                for part in SETS[full]:
                    kind(staging, **part, download=True)
                for file in sorted(Path(staging).rglob("*")):
                    place = root / file.relative_to(staging)
                    if not place.is_dir() and file.exists():  # a new folder moves at once
                        os.replace(file, place)
        return [kind(root, **part, **never) for part in SETS[full]]
    except Exception as error:  # name resolution, HTTP, the disk, a decoder: each fails in its own ways
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        why = "" if "download=True" in why else f" ({why})"  # torchvision's own advice
    finally:
        socket.setdefaulttimeout(patience)
    way = "use --download (download=True), or put there what torchvision fetches"
    if full in BY_HAND:
        way = f"get it from {BY_HAND[full]} and put it there as torchvision's page on {full} says"
    elif download:
        way = "try again later, or put there what torchvision fetches"
    raise AlikitError(f"{full} is not there, or not whole, in {root}{why}: {way}")
