"""The data sets of the paper, read through torchvision where it knows them.

    from alikit.data import cifar10

    train, test = cifar10("data", "train", download=True), cifar10("data", "test")

Each function takes `root`, `split` and `download` as torchvision does, and decodes once: later calls read one cache.
Without `download` nothing is fetched. A file is checked before it is opened, and is in place whole or not at all. Each
function raises AlikitError for a missing, damaged or foreign file, and for single pictures as `image_folder` does.
"""

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from .. import reading
from ..errors import AlikitError, expanded
from .dataset import Dataset
from .decoding import Picture, decode, square
from .folders import list_folder
from .images import Listed, picture_files, read_parts, read_pictures

CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_TEXT = 2**24  # bytes of its longest list: words.txt has 2.7 MB
PATIENCE = 30  # seconds without a byte before a server is given up


def cifar10(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """CIFAR-10 from `root/cifar-10-batches-py`: 50,000 pictures in split "train", 10,000 in "test".

    Returns x (N, 3, 32, 32) uint8, labels (N,) of 10 classes. The files are pickles, which could run code: torchvision
    opens none before all have the published checksums. A missing folder is unpacked from its archive.
    """
    from torchvision.datasets import CIFAR10

    root = _root(root, split, ("train", "test"))
    folder = root / CIFAR10.base_folder
    archive = CIFAR10.filename, CIFAR10.tgz_md5, CIFAR10.url, None
    _obtain("CIFAR-10", "cifar10", root, [archive], download, folder)

    def listed() -> Listed:
        with reading.boundary(folder, f"delete it and fetch {CIFAR10.url} again"):
            data = CIFAR10(root, train=split == "train")
        return Listed(range(len(data)), torch.tensor(data.targets), data.classes, lambda at: Picture(data.data[at]))

    sources = [f"{folder.name}/{name}" for name in sorted(os.listdir(folder))]
    return read_pictures("cifar10", root, f"cifar10-{split}", sources, listed)[0]


def svhn(root: str | Path, split: str = "train", download: bool = False) -> Dataset:
    """SVHN, cropped digits, from `root/<split>_32x32.mat`: splits "train", "test" and "extra".

    Returns x (N, 3, 32, 32) uint8, labels (N,) the digit 0 to 9: SVHN's label 10 stands for 0, as torchvision has it.
    """
    from torchvision.datasets import SVHN

    root = _root(root, split, ("train", "test", "extra"))
    url, name, md5 = SVHN.split_list[split]
    _obtain("SVHN", "svhn", root, [(name, md5, url, None)], download)

    def listed() -> Listed:
        with reading.boundary(root / name, f"delete it and fetch {url} again"):
            data = SVHN(root, split)
        pictures = data.data.transpose(0, 2, 3, 1)
        return Listed(range(len(data)), torch.from_numpy(data.labels), "0123456789", lambda at: Picture(pictures[at]))

    return read_pictures("svhn", root, f"svhn-{split}", [name], listed)[0]


def celeba(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """CelebA, aligned and cropped, from `root/celeba`: splits "train", "valid", "test" as its authors drew them.

    Returns x (N, 3, size, size) uint8, labels (N, 40) uint8, classes the attributes' names. The pictures, 178 x 218 as
    distributed, are resized to `size` on their shorter side and centre-cropped: at 64 to 64 x 78 and then 64 x 64 as
    in the paper (section 5), at 32 to 32 x 39 and then 32 x 32. A missing folder of pictures is unpacked from its
    archive. To download, gdown must be installed.
    """
    from torchvision.datasets import CelebA

    root, _ = _root(root, split, ("train", "valid", "test")), square(size)
    place, folder = root / "celeba", root / "celeba" / "img_align_celeba"
    files = [(name, md5, CELEBA_PAGE, key) for key, md5, name in CelebA.file_list]
    _obtain("CelebA", "celeba", place, files, download, folder)

    def shrink(picture: Image.Image) -> Image.Image:
        width, height = (side * size // min(picture.size) for side in picture.size)
        left, top = (width - size) // 2, (height - size) // 2
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        return small.crop((left, top, left + size, top + size))

    def listed() -> Listed:
        with reading.boundary(place, f"delete its lists and fetch them again from {CELEBA_PAGE}"):
            data = CelebA(root, split)
        names = [f"celeba/{folder.name}/{name}" for name in data.filename]
        # The published list has a blank after the last name, which torchvision reads as one more, empty name.
        attributes = [name for name in data.attr_names if name]
        labels = data.attr.to(torch.uint8)
        return Listed(names, labels, attributes, lambda name: decode(os.path.join(root, name), shrink))

    below = [name for name, *_ in files[1:]] + [f"{folder.name}/{name}" for name in picture_files(folder)]
    sources = [f"celeba/{name}" for name in below]
    return read_pictures("celeba", root, f"celeba-{split}-{size}", sources, listed, skip_corrupt, channels=3)[0]


def tiny_imagenet(
    root: str | Path, split: str = "train", download: bool = False, size: int = 64, skip_corrupt: bool = False
) -> Dataset:
    """Tiny ImageNet-200 from `root/tiny-imagenet-200`: 100,000 pictures in split "train", 10,000 in "val".

    Returns x (N, 3, size, size) uint8, 64 x 64 as distributed, and labels (N,) of 200 classes in the order of their
    WordNet ids; a class is called by the first of its words. A missing folder is unpacked from its archive.
    """
    root, fit = _root(root, split, ("train", "val")), square(size)
    folder = root / "tiny-imagenet-200"
    archive = f"{folder.name}.zip", TINY_MD5, TINY_URL, None
    _obtain("Tiny ImageNet", "tiny-imagenet", root, [archive], download, folder)
    names, labels, wnids, _ = list_folder(folder / "train")

    def rows(name: str) -> list[list[str]]:
        lines = reading.content(folder / name, TINY_TEXT).decode().splitlines()
        return [line.split("\t")[:2] for line in lines]

    again = f"delete {folder} and unpack {TINY_URL} again"
    with reading.boundary(folder / "words.txt", again):
        words = {wnid: name.partition(",")[0] for wnid, name in rows("words.txt")}
    sources = []
    if split == "val":
        sources = ["val_annotations.txt"]
        with reading.boundary(folder / "val" / sources[0], again):
            wnid_of = {f"images/{name}": wnid for name, wnid in rows("val/val_annotations.txt")}
            names, labels = [*wnid_of], torch.tensor([wnids.index(wnid) for wnid in wnid_of.values()])
            if {*names} != {*picture_files(folder / "val")}:
                raise ValueError("a list of other pictures")
    classes = [words.get(wnid, wnid) for wnid in wnids]
    listed = Listed(names, labels, classes, lambda name: decode(os.path.join(folder, split, name), fit))
    key = f"tiny-imagenet-{split}-{size}"
    return read_pictures("tiny-imagenet", folder / split, key, sources + names, lambda: listed, skip_corrupt, 3)[0]


def imagenet(root: str | Path, split: str = "train", size: int = 64, skip_corrupt: bool = False) -> Dataset:
    """ILSVRC2012 from `root/<split>/<WordNet id>/<picture>`, splits "train" and "val", as torchvision unpacks it.

    Returns x (N, 3, size, size) uint8, each picture resized on its shorter side and centre-cropped, and labels (N,).
    The cache of 1.28 million pictures at 64 x 64 takes 15.7 GB of the disk; memory need not hold them all.
    """
    root = _root(root, split, ("train", "val"))
    if not any((root / split).glob("*/")):
        way = f"get it from https://image-net.org, with an account, and sort it as {split}/<WordNet id>/<picture>"
        meanwhile = "until then, --data stand-in:tiny-imagenet runs without"
        raise AlikitError(f"ImageNet is not there: no class folders in {root / split}; {way}; {meanwhile}")
    listed = list_folder(root / split)
    listed = listed._replace(names=[f"{split}/{name}" for name in listed.names])
    return read_parts("imagenet", root, f"imagenet-{split}", [listed], size, skip_corrupt, channels=3)[0]


def _root(root: str | Path, split: str, splits: tuple[str, ...]) -> Path:
    if split not in splits:
        raise AlikitError(f"no split {split!r}: choose one of {', '.join(splits)}")
    return expanded(root)


def _obtain(
    title: str, stand_in: str, place: Path, files: list[tuple], download: bool, folder: Path | None = None
) -> None:
    """Fetches the files that are not in `place`, and unpacks the first, an archive, unless its `folder` is there.

    Each file is its name, MD5, address, and key on Google Drive or None. Raises AlikitError where that fails: the
    message says which files to fetch, where to put them, and what runs without them.
    """
    from torchvision.datasets import utils

    packed = folder is not None and not folder.is_dir()
    needed = files[1:] if folder and not packed else files  # an archive may be deleted once it is unpacked
    missing = [file for file in needed if not (place / file[0]).exists()]
    if not missing and not packed:
        return
    archive, archive_md5, address, _ = files[0]
    names = ", ".join(name for name, *_ in missing)
    by_hand = f"fetch {names} from {address} and put {'them' if len(missing) > 1 else 'it'} in {place}"
    meanwhile = f"until then, --data stand-in:{stand_in} runs without"
    if missing and not download:
        raise AlikitError(f"{title} is not there: {by_hand}, or use --download (download=True); {meanwhile}")
    patience = socket.getdefaulttimeout()
    with reading.boundary(place, "make it a folder that can be written to"):
        place.mkdir(parents=True, exist_ok=True)
        # On the disk of `place`, and gone afterwards with whatever was left half-made.
        with TemporaryDirectory(prefix=".", suffix=".partial", dir=place) as staging:
            try:
                socket.setdefaulttimeout(PATIENCE)  # torchvision waits for ever
                for name, md5, url, key in missing:
                    if key:
                        utils.download_file_from_google_drive(key, staging, name, md5)
                    else:
                        utils.download_url(url, staging, name, md5)
                    os.replace(Path(staging, name), place / name)
            except Exception as error:  # name resolution, HTTP, Google Drive, the disk: each fails in its own ways
                reason = str(getattr(error, "reason", None) or error).strip().partition("\n")[0].rstrip(".")
                why = reason or type(error).__name__
                raise AlikitError(f"{title} could not be fetched ({why}): {by_hand} by hand; {meanwhile}") from None
            finally:
                socket.setdefaulttimeout(patience)
            if packed:
                with reading.boundary(place / archive, f"make room, or delete it and fetch {address} again"):
                    if not utils.check_integrity(place / archive, archive_md5):
                        raise ValueError("not the published file")
                    utils.extract_archive(place / archive, staging)
                    os.replace(Path(staging, folder.name), folder)
