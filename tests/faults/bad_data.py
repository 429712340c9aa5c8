"""Kinds of files that data comes in: how a good one is made, what reads it, and which ones are hostile."""

import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from bad import Hostile, Kind, Some
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from alikit.data import celeba, cifar10, load, svhn, tiny_imagenet

# Pictures.


def _pets(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for number, pet in enumerate(("cat", "cat", "dog", "dog")):
            file = folder / "pets" / pet / f"{number}{suffix if number == 0 else '.png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(file)

    return make


def _read_pets(folder: Path) -> None:
    parts = load(f"folder:{folder / 'pets'}", 8)
    assert {part.shape for part in parts} == {(3, 8, 8)} and sum(map(len, parts)) >= 3


def _unfolding(size: int) -> bytes:
    codes, block = zlib.compressobj(9), bytes(2**20)
    return b"".join(codes.compress(block) for _ in range(-(-size // len(block)))) + codes.flush()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _hostile_png(whole: bytes) -> Some:
    """A few KB, and a GB decoded; and sides beyond what a decoder counts."""
    for side, rows in ((13_000, _unfolding(13_000 * 1626)), (20_000, _unfolding(20_000 * 2501)), (2**31 - 1, b"")):
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        yield f"{side} pixels wide", b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _odd_png(whole: bytes) -> Some:
    for about, more in {
        "text that unfolds to 100 MB": _chunk(b"zTXt", b"a\0\0" + _unfolding(10**8)),
        "profile that unfolds": _chunk(b"iCCP", b"a\0\0" + _unfolding(10**8)),
        "EXIF of nonsense": _chunk(b"eXIf", b"MM\0*" + b"\xff" * 200),
        "EXIF of a loop": _chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0"),
    }.items():
        yield about, whole[:33] + more + whole[33:]


# Tables.


def _make_table(folder: Path) -> None:
    rows = [f"{number}.png,train,{number % 2},1" for number in range(4)] + ["4.png,valid,0,1", "5.png,valid,1,1"]
    (folder / "faces" / "images").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "faces" / "images" / f"{number}.png")
    (folder / "faces" / "attributes.csv").write_text("\n".join(["image,split,Young,Bald", *rows]) + "\n")


def _hostile_table(whole: bytes) -> Some:
    for name in (b"../images/0.png", b"/0.png", b"\0.png", b"\x1b]0;title\x07\x1b[2J.png", b'"0.png', b"0" * 10**6):
        yield f"a picture {name!r:.20}", whole.replace(b"0.png", name)
    yield "a line of 20 MB", whole + b"," * 20_000_000
    yield "100,000 columns", b"image" + b"".join(b",a%d" % number for number in range(100_000))
    yield "a column over two lines", whole.replace(b"Young", b'"Young\n\x1b[2J"')
    yield "2 million blank lines", b"image,a\n" + b"\n" * 2_000_000 + b"1,2,3"
    yield "UTF-16", whole.decode().encode("utf-16")


# Published data sets, with the checksums of small ones.


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _make_cifar(folder: Path) -> None:
    place, listed = folder / "cifar-10-batches-py", []
    place.mkdir()
    for name in [f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]:
        content = pickle.dumps({"labels": [*range(10)], "data": np.zeros((10, 3072), np.uint8)}, protocol=2)
        (place / name).write_bytes(content)
        listed.append([name, _md5(content)])
    meta = pickle.dumps({"label_names": [*"abcdefghij"]}, protocol=2)
    (place / "batches.meta").write_bytes(meta)
    datasets.CIFAR10.train_list, datasets.CIFAR10.test_list = listed[:5], listed[5:]
    datasets.CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": _md5(meta)}


def _make_svhn(folder: Path) -> None:
    file = folder / "train_32x32.mat"
    savemat(file, {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)}, do_compression=True)
    datasets.SVHN.split_list = {"train": ["http://svhn.invalid", file.name, _md5(file.read_bytes())]}


def _make_celeba(folder: Path) -> None:
    place, names = folder / "celeba", [f"00000{number}.jpg" for number in range(1, 5)]
    (place / "img_align_celeba").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (178, 218)).save(place / "img_align_celeba" / name)
    for table, head, row in (
        ("list_attr_celeba.txt", "4\nYoung Bald\n", " 1 -1"),
        ("list_eval_partition.txt", "", " 0"),
        ("identity_CelebA.txt", "", " 1"),
        ("list_bbox_celeba.txt", "4\na b c d\n", " 1 1 1 1"),
        ("list_landmarks_align_celeba.txt", f"4\n{' '.join('abcdefghij')}\n", " 1" * 10),
    ):
        (place / table).write_text(head + "".join(f"{name}{row}\n" for name in names))
    tables = {file.name: _md5(file.read_bytes()) for file in place.glob("*.txt")}
    datasets.CelebA.file_list = [(key, tables.get(name, md5), name) for key, md5, name in datasets.CelebA.file_list]


def _make_tiny(folder: Path) -> None:
    place = folder / "tiny-imagenet-200"
    for file in ("train/n01/images/n01_0", "train/n02/images/n02_0", "val/images/val_0", "../secret/0"):
        (place / f"{file}.JPEG").parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / f"{file}.JPEG")
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t1\n")
    (place / "wnids.txt").write_text("n01\nn02")
    (place / "words.txt").write_text("n01\tentity\nn02\tfish\n")


def _read_tiny(folder: Path) -> None:
    train, held_out = (tiny_imagenet(folder, split, size=8) for split in ("train", "val"))
    assert len(train) == 2 and len(held_out) == 1


def _hostile_annotations(whole: bytes) -> Some:
    for line in ("../../secret/0.JPEG", "../images/val_0.JPEG", "", "\0", "\x1b[2J"):
        yield f"picture {line!r}", f"{line}\tn01\n".encode()
    for wnid in ("", "\x1b[2J", "../../../secret", "/", "..", "C:", "n03"):
        yield f"class {wnid!r}", f"val_0.JPEG\t{wnid}\n".encode()
    yield "large", whole * 5_000_000


def _make_archive(folder: Path) -> None:
    datasets.utils.check_md5 = lambda file, md5: True  # as if the checksum were true
    _make_tiny(folder)
    shutil.make_archive(folder / "tiny-imagenet-200", "zip", folder, "tiny-imagenet-200")
    shutil.rmtree(folder / "tiny-imagenet-200")
    shutil.rmtree(folder / "secret")


def _tar(name: str, **how) -> bytes:
    file, about = io.BytesIO(), tarfile.TarInfo(name)
    vars_of = {"linkname": "../../trace", "devmajor": 1, "devminor": 3, **how}
    for key, value in vars_of.items():
        setattr(about, key, value)
    with tarfile.open(fileobj=file, mode="w") as parts:
        parts.addfile(about, io.BytesIO(b"x" * min(about.size, 10**4)))
    return file.getvalue()


def _zip(*names: str, content: bytes = b"x", attributes: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        for name in names:
            about = zipfile.ZipInfo(name)
            about.external_attr = attributes
            parts.writestr(about, content)
    return file.getvalue()


def _hostile_archive(whole: bytes) -> Some:
    inside = "tiny-imagenet-200/link"
    for name in ("../../trace", "/trace", "C:/trace", "..\\..\\trace"):
        yield f"zip with {name}", _zip(name)
        yield f"tar with {name}", _tar(name, size=1)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        yield f"tar with type {kind!r}", _tar(inside, type=kind)
    yield "zip with a link out", _zip(inside, content=b"../../..", attributes=0o120777 << 16)
    bomb, place = bytearray(_zip(*(f"tiny-imagenet-200/{number}" for number in range(300)))), -1
    while (place := bomb.find(b"PK\1\2", place + 1)) >= 0:
        bomb[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    yield "zip that says it holds 1.2 TB", bytes(bomb)


# The cache: what is damaged there is made anew from the pictures, so nothing is refused.


def _make_cache(folder: Path) -> None:
    _pets(".png")(folder)
    place = folder.parent / "work" / "case"  # not the template, for the place is in the cache's name
    shutil.copytree(folder, place)
    os.environ["ALIKIT_CACHE"] = str(place)
    load(f"folder:{place / 'pets'}", 8)
    (file,) = place.glob("*.cache")
    shutil.copy(file, folder / "pets.cache")
    (folder / "name").write_text(file.name)


def _read_cache(folder: Path) -> None:
    (folder / "pets.cache").rename(folder / (folder / "name").read_text())
    train, held_out = load(f"folder:{folder / 'pets'}", 8)
    assert train.classes == ("cat", "dog") and len(train) + len(held_out) == 4
    for part in (train, held_out):
        assert part.shape == (3, 8, 8) and set(part.labels.tolist()) <= {0, 1}
        part.conditions(), part.floats()


def _strange_cache(whole: bytes) -> Some:
    """Pictures as raw bytes, and after them what numpy.savez writes."""
    good = dict(np.lib.npyio.NpzFile(io.BytesIO(whole)))
    labels, n = good["labels"], len(good["labels"])
    for about, change in {
        "fewer labels": {"labels": labels[:2]},
        "labels of a third class": {"labels": labels + 5},
        "more pictures": {"shape": [2 * n, 3, 8, 8], "labels": labels.repeat(2)},
        "many pictures": {"shape": [10**15, 3, 8, 8]},
        "classes are numbers": {"classes": np.arange(2)},
        "classes run code": {"classes": np.array([Hostile()], dtype=object)},
        "some could not be read": {"unreadable": np.array(["cat/0.png"])},
    }.items():
        out = io.BytesIO()
        out.write(whole[: good["shape"].prod()])
        np.savez(out, **{**good, **change})
        yield about, out.getvalue()


MADE = (".alikit-cache",)  # where caches lie
TRAIN = "train {} --steps 1 --batch 2 --size 32 --data {}:{{0}}/{} --out {{0}}/out"
DATA_KINDS = {
    f"{suffix[1:].upper()} picture": Kind(
        *(_pets(suffix), f"pets/cat/0{suffix}", _read_pets),
        *((_hostile_png, _odd_png, TRAIN.format("cifar10-small", "folder", "pets")) if suffix == ".png" else ()),
        written=("pets/.alikit-cache",),
        forgiven=("places",),
        warns="tempfile.tif: " if suffix == ".tif" else "\n",  # libtiff, in C, calls the file so
    )
    for suffix in (".jpg", ".png", ".gif", ".tif", ".webp", ".bmp")
}
DATA_KINDS |= {
    "attributes.csv": Kind(
        *(_make_table, "faces/attributes.csv", lambda folder: load(f"table:{folder / 'faces'}"), _hostile_table),
        argv=TRAIN.format("celeba-conditional-small", "table", "faces"),
        written=("faces/.alikit-cache",),
    ),
    "CIFAR-10 batch": Kind(_make_cifar, "cifar-10-batches-py/data_batch_1", cifar10, written=MADE),
    "SVHN file": Kind(_make_svhn, "train_32x32.mat", svhn, written=MADE),
    "CelebA table": Kind(_make_celeba, "celeba/list_attr_celeba.txt", celeba, written=MADE),
    "Tiny ImageNet list": Kind(
        *(_make_tiny, "tiny-imagenet-200/val/val_annotations.txt", _read_tiny, _hostile_annotations),
        written=("tiny-imagenet-200/train/.alikit-cache", "tiny-imagenet-200/val/.alikit-cache"),
    ),
    "archive": Kind(
        *(_make_archive, "tiny-imagenet-200.zip", partial(tiny_imagenet, size=8), _hostile_archive),
        written=("tiny-imagenet-200",),
    ),
    "cache": Kind(
        *(_make_cache, "pets.cache", _read_cache, _strange_cache),
        forgiven=("hostile", "foreign", "places"),
        written=("pets.", "folder-", ".folder-"),
        warns="no cache written",
    ),
}
