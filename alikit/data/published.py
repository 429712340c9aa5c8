"""The data sets of the paper, read through torchvision where it knows them.

    from alikit.data import cifar10

    train, test = cifar10("data", "train", download=True), cifar10("data", "test")

Each function takes `root`, `split` and `download` as torchvision does, and decodes once: later calls read one cache.
"""

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import reading
from ..errors import AlikitError, expanded
from .cache import Known, Pictures, cached
from .dataset import Dataset
from .downloads import Published, fetch, md5
from .images import Fit, Listed, image_folder, picture_files, read_pictures, square

CELEBA_TABLES = (  # torchvision reads all five, whichever is asked for
    "list_attr_celeba.txt",
    "list_eval_partition.txt",
    "identity_CelebA.txt",
    "list_bbox_celeba.txt",
    "list_landmarks_align_celeba.txt",
)
DRAWN = "drawn-by-alikit.json"  # beside tables that `write_celeba` wrote: their checksums
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_TEXT = 2**24  # bytes of its longest list: words.txt has 2.7 MB


def cifar10(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """CIFAR-10 from `root/cifar-10-batches-py`: 50,000 pictures in split "train", 10,000 in "test".

    Returns x (N, 3, 32, 32) uint8, labels (N,) of 10 classes. The files are pickles, which could run code: none is
    opened before its checksum is found to be the published one. Where the folder is missing it is unpacked from
    `root/cifar-10-python.tar.gz`, which is fetched if `download` says so.

    Raises AlikitError for a missing, damaged or foreign file.
    """
    root = _folder(root, split, ("train", "test"))
    folder = root / "cifar-10-batches-py"
    if not folder.is_dir():
        from torchvision.datasets import CIFAR10

        archive = Published("CIFAR-10", "cifar10", root / CIFAR10.filename, CIFAR10.url, CIFAR10.tgz_md5)
        fetch([archive], download)
        archive.unpack(folder)

    def build(pictures: Pictures) -> tuple[Tensor, Known]:
        from torchvision.datasets import CIFAR10

        listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
        for name, checksum in listed:
            Published("CIFAR-10", "cifar10", folder / name, CIFAR10.url, checksum, within=folder).check()
        data = CIFAR10(root, train=split == "train")
        pictures.add(data.data.transpose(0, 3, 1, 2), most=len(data))
        return torch.tensor(data.targets), {"classes": data.classes}

    sources = [f"{folder.name}/{name}" for name in sorted(os.listdir(folder))]
    x, labels, known = cached(root, f"cifar10-{split}", sources, build, ("classes",))
    return Dataset("cifar10", x, labels, tuple(known["classes"]))


def svhn(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """SVHN, cropped digits, from `root/<split>_32x32.mat`: splits "train", "test" and "extra".

    Returns x (N, 3, 32, 32) uint8, labels (N,) the digit 0 to 9, its own 10 standing for 0 as torchvision has it.

    Raises AlikitError for a missing, damaged or foreign file.
    """
    root = _folder(root, split, ("train", "test", "extra"))
    file = root / f"{split}_32x32.mat"

    def published() -> Published:
        from torchvision.datasets import SVHN

        url, _, checksum = SVHN.split_list[split]
        return Published("SVHN", "svhn", file, url, checksum)

    if not file.exists():
        fetch([published()], download)

    def build(pictures: Pictures) -> tuple[Tensor, Known]:
        from torchvision.datasets import SVHN

        published().check()
        data = SVHN(root, split)
        pictures.add(data.data, most=len(data))
        return torch.from_numpy(data.labels), {}

    x, labels, _ = cached(root, f"svhn-{split}", [file.name], build, ())
    return Dataset("svhn", x, labels, tuple("0123456789"))


def celeba(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """CelebA, aligned and cropped, from `root/celeba`: splits "train", "valid", "test" as its authors drew them.

    Returns x (N, 3, size, size) uint8, labels (N, 40) uint8, classes the attributes' names. The pictures, 178 x 218 as
    distributed, are resized to `size` on their shorter side and centre-cropped: at 64 to 64 x 78 and then 64 x 64 as
    in the paper (section 5), at 32 to 32 x 39 and then 32 x 32. Where the folder of pictures is missing it is unpacked
    from `root/celeba/img_align_celeba.zip`. What is missing is fetched if `download` says so and gdown is installed.

    Where `root/celeba` was drawn by `write_celeba` (alikit/data/faces.py), it is read in the same way and checked
    against what was drawn; nothing is fetched, and the data set is called "celeba drawn by alikit".

    Raises AlikitError for a missing, damaged or foreign file; single pictures as `image_folder`.
    """
    root = _folder(root, split, ("train", "valid", "test"))
    folder, shrink = root / "celeba", _shrink(size)
    pictures = folder / "img_align_celeba"
    drawn = _drawn(folder)
    if drawn is None and not (pictures.is_dir() and all((folder / name).exists() for name in CELEBA_TABLES)):
        _celeba_files(folder, download)

    def listed() -> Listed:
        from torchvision.datasets import CelebA

        if drawn is None:
            for _, checksum, name in CelebA.file_list:
                if name.endswith(".txt"):
                    Published("CelebA", "celeba", folder / name, CELEBA_PAGE, checksum).check()
            data = CelebA(root, split)
        else:
            # torchvision compares the tables with the published checksums, unless it is told of others.
            reader = type("Drawn", (CelebA,), {"file_list": [("", drawn[name], name) for name in drawn]})
            try:
                data = reader(root, split)
                if not len(data.filename) == len(data.attr) or not {0, 1} >= {*data.attr.unique().tolist()}:
                    raise ValueError("other attributes than pictures")
            except Exception:  # whoever wrote the tables wrote their checksums too, and torchvision raises anything
                raise AlikitError(f"a table in {folder} is damaged: delete {folder} and draw it again") from None
        files, there = list(data.filename), {*picture_files(pictures)}
        if missing := [name for name in files if name not in there]:  # or outside the folder, as ../ says
            again = f"{pictures} and unpack img_align_celeba.zip" if drawn is None else f"{folder} and draw it"
            raise AlikitError(
                f"CelebA is incomplete: {len(missing)} of {len(files)} pictures are missing, the first "
                f"{pictures / missing[0]}; delete {again} again"
            )
        # The published table has a blank after the last name, which torchvision reads as one more, empty.
        return files, data.attr.to(torch.uint8), [name for name in data.attr_names if name]

    # Without the marker, what was drawn must not come out of the cache under CelebA's name.
    tables = [*CELEBA_TABLES, *([] if drawn is None else [DRAWN])]
    names = (f"{pictures.name}/{name}" for name in picture_files(pictures))
    sources = (f"{folder.name}/{name}" for name in chain(tables, names))
    x, labels, known = read_pictures(
        root, f"celeba-{split}-{size}", sources, listed, shrink, skip_corrupt, folder=pictures
    )
    name = "celeba" if drawn is None else "celeba drawn by alikit"
    return Dataset(name, x, labels, tuple(known["classes"]))


def tiny_imagenet(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """Tiny ImageNet-200 from `root/tiny-imagenet-200`: 100,000 pictures in split "train", 10,000 in "val".

    Returns x (N, 3, size, size) uint8, 64 x 64 as distributed, and labels (N,) of 200 classes in the order of their
    WordNet ids; a class is called by the first of its words. Where the folder is missing it is unpacked from
    `root/tiny-imagenet-200.zip`, which is fetched if `download` says so.

    Raises AlikitError for a missing, damaged or foreign file; single pictures as `image_folder`.
    """
    root = _folder(root, split, ("train", "val"))
    folder, fit = root / "tiny-imagenet-200", square(size)
    if not folder.is_dir():
        archive = Published("Tiny ImageNet", "tiny-imagenet", root / f"{folder.name}.zip", TINY_URL, TINY_MD5)
        fetch([archive], download)
        archive.unpack(folder)
    wnids = sorted(_tiny_text(folder / "wnids.txt").split())
    for before, wnid in zip(["", *wnids], wnids, strict=False):
        if (
            not wnid.isalnum() or len(wnid) > 50 or wnid == before
        ):  # it is to be the name of a folder, and no way out of it
            raise _tiny_incomplete(f"{wnid[:50]!r} in wnids.txt is no WordNet id, or stands there twice")
    words = dict(line.split("\t", 1) for line in _tiny_text(folder / "words.txt").splitlines() if "\t" in line)
    names = [words.get(wnid, wnid).partition(",")[0] for wnid in wnids]
    if split == "train":
        wnid_of, lists = _tiny_train(folder, wnids), ["wnids.txt"]
    else:
        wnid_of, lists = _tiny_val(folder, wnids), ["wnids.txt", "val/val_annotations.txt"]
    files, order = list(wnid_of), {wnid: label for label, wnid in enumerate(wnids)}
    labels = torch.tensor([order[wnid] for wnid in wnid_of.values()])
    sources = (f"{folder.name}/{name}" for name in chain((f"{split}/{name}" for name in files), lists))
    x, labels, _ = read_pictures(
        root,
        f"tiny-imagenet-{split}-{size}",
        sources,
        lambda: (files, labels, names),
        fit,
        skip_corrupt,
        folder / split,
    )
    return Dataset("tiny-imagenet", x, labels, tuple(names))


def imagenet(root: str | Path, split: str = "train", size: int = 64, skip_corrupt: bool = False) -> Dataset:
    """ILSVRC2012 from `root/<split>/<WordNet id>/<picture>`, splits "train" and "val", as torchvision unpacks it.

    Returns x (N, 3, size, size) uint8, each picture resized on its shorter side and centre-cropped, and labels (N,).
    The cache of 1.28 million pictures at 64 x 64 takes 15.7 GB of the disk; memory need not hold them all.

    Raises AlikitError for a missing folder; single pictures as `image_folder`.
    """
    root = _folder(root, split, ("train", "val"))
    if not any((root / split).glob("*/")):
        raise AlikitError(
            f"ImageNet is not there: no class folders in {root / split}; get ILSVRC2012 from https://image-net.org (it "
            f"needs an account) and sort it as {split}/<WordNet id>/<picture>; until then, --data "
            f"stand-in:tiny-imagenet runs without"
        )
    return replace(image_folder(root, split, size, skip_corrupt), name="imagenet")


def _folder(root: str | Path, split: str, splits: tuple[str, ...]) -> Path:
    if split not in splits:
        raise AlikitError(f"no split {split!r}: choose one of {', '.join(splits)}")
    return expanded(root)


def _drawn(folder: Path) -> dict[str, str] | None:
    """The checksums of tables that alikit drew, all of them found to be true; None where the tables are CelebA's."""
    marker, again = folder / DRAWN, f"delete {folder} and draw it again"
    if not marker.exists():
        return None
    try:
        checksums = reading.parsed(reading.content(marker))["md5"]
        checksums = {name: checksums[name] for name in CELEBA_TABLES}
    except (OSError, ValueError, KeyError, TypeError):
        raise AlikitError(f"{marker} is damaged: {again}") from None
    for name, checksum in checksums.items():
        if not (folder / name).is_file():
            raise AlikitError(f"what alikit drew is incomplete: {folder / name} is missing; {again}")
        if md5(folder / name) != checksum:
            raise AlikitError(f"{folder / name} is not as alikit drew it: {again}")
    if not (folder / "img_align_celeba").is_dir():
        raise AlikitError(f"what alikit drew is incomplete: {folder / 'img_align_celeba'} is missing; {again}")
    return checksums


def _celeba_files(folder: Path, download: bool) -> None:
    from torchvision.datasets import CelebA

    pictures = folder / "img_align_celeba"
    files = [
        Published("CelebA", "celeba", folder / name, CELEBA_PAGE, checksum, drive)
        for drive, checksum, name in CelebA.file_list
    ]
    archives = [file for file in files if file.file.stem == pictures.name]
    fetch([file for file in files if file not in archives or not pictures.is_dir()], download)
    if not pictures.is_dir():
        archives[0].unpack(pictures)


def _shrink(size: int) -> Fit:
    """The shorter side of a picture to `size`, the longer in proportion, then its centre: 64 x 78 and 64 x 64."""
    if size < 1:
        raise AlikitError(f"cannot make pictures of size {size}: choose at least 1 pixel")

    def shrink(picture: Image.Image) -> Image.Image:
        width, height = (side * size // min(picture.size) for side in picture.size)
        left, top = (width - size) // 2, (height - size) // 2
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        return small.crop((left, top, left + size, top + size))

    return shrink


def _tiny_text(file: Path) -> str:
    try:
        return reading.content(file, TINY_TEXT).decode()
    except (OSError, UnicodeDecodeError):
        raise _tiny_incomplete(f"{file} cannot be read") from None


def _tiny_train(folder: Path, wnids: list[str]) -> dict[str, str]:
    """The WordNet id of every picture in train/<WordNet id>/images/, by its name from train/ on."""
    wnid_of = {}
    for wnid in wnids:
        files = picture_files(folder / "train" / wnid / "images")
        if not files:
            raise _tiny_incomplete(f"no pictures in {folder / 'train' / wnid / 'images'}")
        wnid_of |= dict.fromkeys((f"{wnid}/images/{name}" for name in files), wnid)
    return wnid_of


def _tiny_val(folder: Path, wnids: list[str]) -> dict[str, str]:
    """The WordNet id of every picture in val/images/, as val/val_annotations.txt has it, by its name from val/ on."""
    wnid_of, known = {}, set(wnids)
    for number, line in enumerate(_tiny_text(folder / "val" / "val_annotations.txt").splitlines(), start=1):
        name, wnid, *_ = [*line.split("\t"), ""]
        file = folder / "val" / "images" / name
        if wnid not in known:
            raise _tiny_incomplete(f"val_annotations.txt line {number} names {wnid[:50]!r}, which is not in wnids.txt")
        if Path(name).name != name or not file.is_file():
            raise _tiny_incomplete(f"{file} is missing")
        wnid_of[f"images/{name}"] = wnid
    return wnid_of


def _tiny_incomplete(what: str) -> AlikitError:
    return AlikitError(f"Tiny ImageNet is incomplete: {what}; delete its folder and unpack {TINY_URL} again")
