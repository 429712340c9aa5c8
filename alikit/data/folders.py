"""Folders of pictures, and tables of attributes beside them: `attributes.csv` and `images/`."""

import csv
import hashlib
import os
import re
from collections.abc import Sequence
from itertools import accumulate, compress
from pathlib import Path

import numpy as np
import torch

from .. import reading
from ..errors import AlikitError, expanded
from .dataset import Dataset
from .images import Listed, decode, log, picture_files, read_pictures, square

HELD_OUT_NAMES = ("test", "val", "valid", "validation")
TABLE, PICTURES = "attributes.csv", "images/"
LARGEST = 2**30  # bytes of a table: a million lines of 40 attributes have 100 MB
SPLITS = ("train", "valid", "test")


def image_folder(
    root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False
) -> Dataset:
    """A folder of class folders, `root/<class>/<picture>`, or `root/<split>/<class>/<picture>` where root has splits.

    Returns x (N, 3, H, W) uint8 and labels (N,). Classes are the folder names in alphabetical order; there are none if
    pictures lie directly in the folder. With `size` each picture is resized on its shorter side and centre-cropped to
    size x size when the cache is made; without it all must share one size. Unreadable files are named in an error, or
    left out and counted with `skip_corrupt`.

    Raises AlikitError for a missing or empty folder, an empty class, mixed sizes, and unreadable files.
    """
    root = _existing(root)
    return _read("folder", root, split, [list_folder(root, split)], size, skip_corrupt)[0]


def image_table(root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False) -> Dataset:
    """The pictures of `root/images/` with the attributes that `root/attributes.csv` gives each of them.

    The table is comma-separated and its first row names the columns: `image`, the path of a picture below images/; then
    optionally `split` (train, valid or test; otherwise all is train); then one column for each attribute, 0 or 1, or
    -1 or 1 in the whole table as in CelebA's.

    Returns x (N, 3, H, W) uint8, labels (N, A) uint8, 0 or 1, and classes, the names of the A attributes. `size` and
    `skip_corrupt` as for `image_folder`.

    Raises AlikitError for a missing folder or table, a wrong line or column, and for pictures as `image_folder` does.
    """
    root = _existing(root)
    return _read("table", root, split, [_of_split(root, _read_table(root), split)], size, skip_corrupt)[0]


def folder_parts(root: str | Path, size: int | None = None, skip_corrupt: bool = False) -> list[Dataset]:
    """A folder's training part and held-out part: its own splits where it has them, else a tenth by name."""
    root = _existing(root)
    train = list_folder(root, "train")
    held_out = [name for name in HELD_OUT_NAMES if (root / "train").is_dir() and (root / name).is_dir()]
    parts = [train, list_folder(root, held_out[0], train.classes)] if held_out else _divided(train, "train/")
    return _read("folder", root, "parts", parts, size, skip_corrupt)


def table_parts(root: str | Path, size: int | None = None, skip_corrupt: bool = False) -> list[Dataset]:
    """A table's training part and held-out part: `train` and `valid`, or a tenth by name where all is `train`."""
    root = _existing(root)
    splits = _read_table(root)
    train = _of_split(root, splits, "train")
    parts = [train, _of_split(root, splits, "valid")] if len(splits) > 1 else _divided(train, PICTURES)
    return _read("table", root, "parts", parts, size, skip_corrupt)


def _read(
    kind: str, root: Path, key: str, parts: Sequence[Listed], size: int | None, skip_corrupt: bool
) -> list[Dataset]:
    """The parts, as slices of one cache: a copy might not fit into memory."""
    fit, names = square(size), [name for part in parts for name in part.names]
    classes = parts[0].classes if all(part.classes for part in parts) else []
    labels = torch.cat([part.labels for part in parts])
    whole = Listed(names, labels, classes, lambda name: decode(os.path.join(root, name), fit))
    sources, key = [TABLE, *names] if kind == "table" else names, f"{kind}-{key}-{size or 'as-is'}"
    data, unreadable = read_pictures(f"{kind}:{root.name}", root, key, sources, lambda: whole, skip_corrupt)
    lengths = [sum(name not in unreadable for name in part.names) for part in parts]
    if not all(lengths):
        raise AlikitError(f"{root} has {len(data)} readable pictures: add some, to train on and to hold out")
    return [data.select(slice(end - n, end)) for n, end in zip(lengths, accumulate(lengths), strict=True)]


def _divided(listed: Listed, below: str) -> list[Listed]:
    """Those to train on and those held out: a tenth, whose names after `below` have the smallest hashes. So no picture
    moves from one part to the other when another is added."""
    names = [os.fsencode(name.removeprefix(below)) for name in listed.names]
    shares = np.array([int.from_bytes(hashlib.sha256(name).digest()[:4]) for name in names]) / 2**32
    held_out = shares < 0.1
    # Of a handful of pictures the rule may choose none or all; both parts need one.
    held_out[shares.argmin()], held_out[shares.argmax()] = True, False
    return [
        Listed([*compress(listed.names, part)], listed.labels[part], listed.classes) for part in (~held_out, held_out)
    ]


def _existing(root: str | Path) -> Path:
    root = expanded(root)
    if not root.is_dir():
        raise AlikitError(f"no folder {root}: check the path, or unpack the archive first")
    return root


def list_folder(root: Path, split: str, known: Sequence[str] = ()) -> Listed:
    """The pictures of a split, labelled in the order of the classes `known` from another split, or of its own."""
    folder, below = (root / split, f"{split}/") if (root / split).is_dir() else (root, "")
    if not below and split != "train":
        raise AlikitError(f"no split {split!r} in {root}: expected a folder {split}/ with class folders inside")
    names = picture_files(folder)
    if not names:
        raise AlikitError(f"no pictures in {folder}: expected class folders holding files such as .jpg or .png")
    class_of = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = {*class_of} - {""}
    if loose := class_of.count(""):
        if classes:
            log.warning("%d pictures in %s lie outside its class folders, so none has a label", loose, folder)
        known = classes = []
    elif empty := {place.name for place in folder.iterdir() if place.is_dir() and place.name[0] != "."} - classes:
        raise AlikitError(f"class {min(empty)} in {folder} has no pictures: fill that folder, or remove it")
    if known and (strange := classes - {*known}):
        raise AlikitError(f"{folder} has classes that train/ lacks ({', '.join(sorted(strange))}): give both the same")
    order = {name: label for label, name in enumerate(known or sorted(classes))}
    labels = torch.tensor([order.get(name, 0) for name in class_of])
    return Listed([below + name for name in names], labels, [*order])


def _of_split(root: Path, splits: dict[str, Listed], split: str) -> Listed:
    if split not in splits:
        raise AlikitError(f"{root / TABLE} has no line with split {split}: say which pictures are {split}")
    return splits[split]


def _read_table(root: Path) -> dict[str, Listed]:
    """The pictures of each split. Every line is checked."""
    table, without_line, values = root / TABLE, {*picture_files(root / PICTURES)}, set()
    splits: dict[str, dict[str, bytes]] = {}  # for each picture of a split its attributes, a byte each

    def wrong(what: str) -> AlikitError:
        return AlikitError(f"{table} line {lines.line_num}: {what}")

    with reading.boundary(table, "put one there, as comma-separated text in UTF-8"):
        lines = csv.reader((line.decode("utf-8-sig") for line in reading.lines(table, LARGEST)), strict=True)
        header = next(lines, [])
        attributes = [name for name in header[1:] if name != "split"]
        if header[:1] != ["image"] or not attributes:
            some = ", ".join(header[:4])
            raise wrong(f"the columns are {some}: make them image, split if there is one, attributes, with commas")
        # A condition names several attributes as Smiling,-Young: no comma, and no - in front.
        good = all(re.fullmatch("[^-, ]([^,]{0,198}[^, ])?", name) and name.isprintable() for name in header)
        if not good or len({*header}) < len(header):
            raise wrong(
                "a column's name must be its own: up to 200 printable letters, no comma, no - or blank in front"
            )
        for row in filter(None, lines):
            if len(row) != len(header):
                raise wrong(f"{len(row)} values for {len(header)} columns: mend it")
            known = dict(zip(header, row, strict=True))
            image, split = known["image"], known.get("split", "train")
            if image not in without_line:
                raise wrong(f"{image} is no picture in {PICTURES}, or is on another line already: remove the line")
            if split not in SPLITS:
                raise wrong(f"split is {split!r}: make it one of {', '.join(SPLITS)}")
            values.update(known[name] for name in attributes)
            if not values <= {"0", "1"} and not values <= {"-1", "1"}:
                raise wrong(f"attributes are {', '.join(map(repr, sorted(values)))}: make all 0 and 1, or all -1 and 1")
            without_line.remove(image)
            splits.setdefault(split, {})[image] = bytes(known[name] == "1" for name in attributes)
    if without_line:
        raise AlikitError(f"{PICTURES}{min(without_line)} has no line in {table}: write one, or move it elsewhere")
    return {
        split: Listed(
            [PICTURES + image for image in rows],
            torch.frombuffer(bytearray().join(rows.values()), dtype=torch.uint8).view(len(rows), -1),
            attributes,
        )
        for split, rows in splits.items()
    }
