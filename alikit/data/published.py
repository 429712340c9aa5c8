"""The data sets of the paper, read through torchvision where it knows them.

    from alikit.data import cifar10

    train, test = cifar10("data", "train", download=True), cifar10("data", "test")

Each function takes `root`, `split` and `download` as torchvision does, and decodes once: later calls read one cache.
Without `download` nothing is fetched. A file is checked before it is opened, and is in place whole or not at all. Each
function raises AlikitError for a missing, damaged or foreign file, and for single pictures as `image_folder` does.
"""

import contextlib
import os
import socket
import sys
import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from .. import reading
from ..errors import AlikitError, expanded
from .dataset import Dataset
from .folders import image_folder, list_folder
from .images import Listed, decode, picture_files, read_pictures, square

CELEBA_TABLES = (  # torchvision reads all five, whichever is asked for
    "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt", "list_bbox_celeba.txt",
    "list_landmarks_align_celeba.txt",
)  # fmt: skip
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_TEXT = 2**24  # bytes of its longest list: words.txt has 2.7 MB
LARGEST = 2**31  # bytes of a published file: CelebA's archive has 1.4 GB
PATIENCE = 30  # seconds without a byte before a server is given up


class Published(NamedTuple):
    """A file as it is published: where it belongs, its address and checksum, its key if it lies on Google Drive."""

    file: Path
    url: str
    md5: str
    key: str | None = None


def cifar10(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """CIFAR-10 from `root/cifar-10-batches-py`: 50,000 pictures in split "train", 10,000 in "test".

    Returns x (N, 3, 32, 32) uint8, labels (N,) of 10 classes. The files are pickles, which could run code: none is
    opened before its checksum is found to be the published one. A missing folder is unpacked from its archive.
    """
    root = _root(root, split, ("train", "test"))
    folder = root / "cifar-10-batches-py"
    if not folder.is_dir():
        from torchvision.datasets import CIFAR10

        archive = Published(root / CIFAR10.filename, CIFAR10.url, CIFAR10.tgz_md5)
        _obtain("CIFAR-10", "cifar10", [archive], download, folder)

    def listed() -> Listed:
        from torchvision.datasets import CIFAR10

        files = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
        _check([Published(folder / name, CIFAR10.url, md5) for name, md5 in files], folder)
        data = CIFAR10(root, train=split == "train")
        return Listed(range(len(data)), torch.tensor(data.targets), data.classes, data.data.__getitem__)

    sources = [f"{folder.name}/{name}" for name in sorted(os.listdir(folder))]
    return read_pictures("cifar10", root, f"cifar10-{split}", sources, listed)[0]


def svhn(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """SVHN, cropped digits, from `root/<split>_32x32.mat`: splits "train", "test" and "extra".

    Returns x (N, 3, 32, 32) uint8, labels (N,) the digit 0 to 9, its own 10 standing for 0 as torchvision has it.
    """
    root = _root(root, split, ("train", "test", "extra"))
    file = root / f"{split}_32x32.mat"

    def published() -> list[Published]:
        from torchvision.datasets import SVHN

        return [Published(file, SVHN.split_list[split][0], SVHN.split_list[split][2])]

    def listed() -> Listed:
        from torchvision.datasets import SVHN

        _check(published())
        data = SVHN(root, split)
        pictures = data.data.transpose(0, 2, 3, 1)
        return Listed(range(len(data)), torch.from_numpy(data.labels), "0123456789", pictures.__getitem__)

    if not file.exists():
        _obtain("SVHN", "svhn", published(), download)
    return read_pictures("svhn", root, f"svhn-{split}", [file.name], listed)[0]


def celeba(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """CelebA, aligned and cropped, from `root/celeba`: splits "train", "valid", "test" as its authors drew them.

    Returns x (N, 3, size, size) uint8, labels (N, 40) uint8, classes the attributes' names. The pictures, 178 x 218 as
    distributed, are resized to `size` on their shorter side and centre-cropped: at 64 to 64 x 78 and then 64 x 64 as
    in the paper (section 5), at 32 to 32 x 39 and then 32 x 32. A missing folder of pictures is unpacked from its
    archive. To download, gdown must be installed.
    """
    root, _ = _root(root, split, ("train", "valid", "test")), square(size)
    folder = root / "celeba" / "img_align_celeba"

    def published() -> list[Published]:
        from torchvision.datasets import CelebA

        return [Published(folder.parent / name, CELEBA_PAGE, md5, key) for key, md5, name in CelebA.file_list]

    def shrink(picture: Image.Image) -> Image.Image:
        width, height = (side * size // min(picture.size) for side in picture.size)
        left, top = (width - size) // 2, (height - size) // 2
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        return small.crop((left, top, left + size, top + size))

    def listed() -> Listed:
        from torchvision.datasets import CelebA

        _check([file for file in published() if file.file.name in CELEBA_TABLES])
        data = CelebA(root, split)
        if missing := sorted({*data.filename} - {*names}):
            count, first = f"{len(missing)} of {len(data)} pictures", folder / missing[0]
            again = f"delete {folder} and unpack {folder.name}.zip again"
            raise AlikitError(f"CelebA is incomplete: {count} are missing, the first {first}; {again}")
        files = [f"celeba/{folder.name}/{name}" for name in data.filename]
        # The published table has a blank after the last name, which torchvision reads as one more, empty.
        attributes = [name for name in data.attr_names if name]
        return Listed(
            files, data.attr.to(torch.uint8), attributes, lambda name: decode(os.path.join(root, name), shrink)
        )

    if not (folder.is_dir() and all((folder.parent / name).exists() for name in CELEBA_TABLES)):
        _obtain("CelebA", "celeba", published(), download, folder)
    names = picture_files(folder)
    sources = (f"celeba/{name}" for name in chain(CELEBA_TABLES, (f"{folder.name}/{name}" for name in names)))
    return read_pictures("celeba", root, f"celeba-{split}-{size}", sources, listed, skip_corrupt)[0]


def tiny_imagenet(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """Tiny ImageNet-200 from `root/tiny-imagenet-200`: 100,000 pictures in split "train", 10,000 in "val".

    Returns x (N, 3, size, size) uint8, 64 x 64 as distributed, and labels (N,) of 200 classes in the order of their
    WordNet ids; a class is called by the first of its words. A missing folder is unpacked from its archive.
    """
    root, fit = _root(root, split, ("train", "val")), square(size)
    folder = root / "tiny-imagenet-200"
    if not folder.is_dir():
        archive = Published(root / f"{folder.name}.zip", TINY_URL, TINY_MD5)
        _obtain("Tiny ImageNet", "tiny-imagenet", [archive], download, folder)
    again = f"Tiny ImageNet is incomplete: delete {folder} and unpack {TINY_URL} again"

    def rows(name: str) -> list[list[str]]:
        with reading.boundary(folder / name, again):
            lines = reading.content(folder / name, TINY_TEXT).decode().splitlines()
            return [[*line.split("\t"), ""] for line in lines]

    listed = list_folder(folder / "train", "train")
    place, lists = {wnid: label for label, wnid in enumerate(listed.classes)}, []
    if split == "val":
        lists = ["val_annotations.txt"]
        wnid_of = {f"images/{name}": wnid for name, wnid, *_ in rows("val/val_annotations.txt")}
        if strange := {*wnid_of} ^ {*picture_files(folder / "val")} or {*wnid_of.values()} - {*place}:
            raise AlikitError(f"{min(strange)!r} is not both in {folder} and in its lists: {again}")
        listed = Listed([*wnid_of], torch.tensor([place[wnid] for wnid in wnid_of.values()]), listed.classes)
    words = {wnid: name.partition(",")[0] for wnid, name, *_ in rows("words.txt")}
    classes, root = [words.get(wnid, wnid) for wnid in listed.classes], folder / split
    files = Listed(listed.names, listed.labels, classes, lambda name: decode(os.path.join(root, name), fit))
    key = f"tiny-imagenet-{split}-{size}"
    return read_pictures("tiny-imagenet", root, key, [*lists, *files.names], lambda: files, skip_corrupt)[0]


def imagenet(root: str | Path, split: str = "train", size: int = 64, skip_corrupt: bool = False) -> Dataset:
    """ILSVRC2012 from `root/<split>/<WordNet id>/<picture>`, splits "train" and "val", as torchvision unpacks it.

    Returns x (N, 3, size, size) uint8, each picture resized on its shorter side and centre-cropped, and labels (N,).
    The cache of 1.28 million pictures at 64 x 64 takes 15.7 GB of the disk; memory need not hold them all.
    """
    root = _root(root, split, ("train", "val"))
    if not any((root / split).glob("*/")):
        way = (
            f"get ILSVRC2012 from https://image-net.org, with an account, and sort it as {split}/<WordNet id>/<picture>"
        )
        meanwhile = "until then, --data stand-in:tiny-imagenet runs without"
        raise AlikitError(f"ImageNet is not there: no class folders in {root / split}; {way}; {meanwhile}")
    return replace(image_folder(root, split, size, skip_corrupt), name="imagenet")


def _root(root: str | Path, split: str, splits: tuple[str, ...]) -> Path:
    if split not in splits:
        raise AlikitError(f"no split {split!r}: choose one of {', '.join(splits)}")
    return expanded(root)


def _obtain(title: str, stand_in: str, files: list[Published], download: bool, folder: Path | None = None) -> None:
    """Sees to it that the files of a data set are there, and the folder to which the first, an archive, is unpacked.

    Raises AlikitError where they are not there and cannot be had: the message says which to fetch, where to put them,
    and what runs without them.
    """
    from torchvision.datasets.utils import download_file_from_google_drive, download_url, extract_archive

    unpacked = folder is None or folder.is_dir()
    missing = [file for file in files if not file.file.exists() and not (file is files[0] and folder and unpacked)]
    if missing:
        names, (first, url, *_) = ", ".join(file.file.name for file in missing), missing[0]
        by_hand = f"fetch {names} from {url} and put {'them' if len(missing) > 1 else 'it'} in {first.parent}"
        meanwhile = f"until then, --data stand-in:{stand_in} runs without"
        if not download:
            raise AlikitError(f"{title} is not there: {by_hand}, or use --download (download=True); {meanwhile}")
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(PATIENCE)  # torchvision waits for ever
        try:
            for file, url, md5, key in missing:
                with _staging(file) as staging, contextlib.redirect_stdout(sys.stderr):
                    if key:
                        download_file_from_google_drive(key, staging, file.name, md5)
                    else:
                        download_url(url, staging, file.name, md5)
                    os.replace(Path(staging, file.name), file)
        except Exception as error:  # name resolution, HTTP, Google Drive, the disk: each fails in ways of its own
            reason = str(getattr(error, "reason", None) or error).strip().partition("\n")[0].rstrip(".")
            why = reason or type(error).__name__
            raise AlikitError(f"{title} could not be fetched ({why}): {by_hand} by hand; {meanwhile}") from None
        finally:
            socket.setdefaulttimeout(patience)
    if not unpacked:
        _check(files[:1])
        way = f"make room, or delete it and fetch {files[0].url} again"
        with reading.boundary(files[0].file, way), _staging(folder) as staging:
            extract_archive(files[0].file, staging)
            os.replace(Path(staging, folder.name), folder)


def _staging(target: Path) -> tempfile.TemporaryDirectory:
    """A folder on the target's own disk to make it in, gone afterwards with whatever was left half-made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)


def _check(files: list[Published], folder: Path | None = None) -> None:
    """Raises AlikitError for the first file that is not the published one, before anybody opens it."""
    from torchvision.datasets.utils import check_md5

    for file, url, md5, _ in files:
        again = f"delete {folder or file} and fetch {url} again"
        with reading.boundary(file, again):
            if not file.is_file() or file.stat().st_size > LARGEST or not check_md5(file, md5):
                what = "damaged or not the published file, so it was not opened" if file.exists() else "missing"
                raise AlikitError(f"{file} is {what}: {again}")
