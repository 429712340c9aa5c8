"""Kinds of files that data comes in: how a good one is made, what reads it, and which ones are hostile.

Files with a published checksum are in tests/data."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad import Kind, Some
from PIL import Image

from alikit.data import load, tiny_imagenet

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
    yield "a million blank lines", b"image,a\n" + b"\n" * 1_000_000 + b"1,2,3"
    yield "UTF-16", whole.decode().encode("utf-16")


# A published data set without a checksum for its lists.


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
    parts = load(f"folder:{folder / 'pets'}", 8)
    assert parts[0].classes == ("cat", "dog") and sum(map(len, parts)) == 4
    for part in parts:
        assert part.floats().shape[1:] == (3, 8, 8) and set(part.labels.tolist()) <= {0, 1}


DATA_KINDS = {
    f"{suffix[1:].upper()} picture": Kind(
        *(_pets(suffix), f"pets/cat/0{suffix}", _read_pets),
        **({"hostile": _hostile_png} if suffix == ".png" else {}),
        written=("pets/.alikit-cache",),
        forgiven=("places",),
        warns="tempfile.tif: " if suffix == ".tif" else "\n",  # libtiff, in C, calls the file so
    )
    for suffix in (".jpg", ".png", ".tif", ".webp")
}
DATA_KINDS |= {
    "attributes.csv": Kind(
        *(_make_table, "faces/attributes.csv", lambda folder: load(f"table:{folder / 'faces'}"), _hostile_table),
        written=("faces/.alikit-cache",),
    ),
    "Tiny ImageNet list": Kind(
        *(_make_tiny, "tiny-imagenet-200/val/val_annotations.txt", _read_tiny, _hostile_annotations),
        written=("tiny-imagenet-200/train/.alikit-cache", "tiny-imagenet-200/val/.alikit-cache"),
    ),
    "cache": Kind(
        *(_make_cache, "pets.cache", _read_cache),
        forgiven=("foreign", "places"),
        written=("pets.", "folder-", ".folder-"),
        warns="no cache written",
    ),
}
