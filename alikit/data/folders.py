"""Folders of pictures, and tables of attributes beside them: `attributes.csv` and `images/`."""

import csv
import hashlib
import os
from collections.abc import Sequence
from itertools import compress
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
LETTERS = 200  # of a name
SPLITS = ("train", "valid", "test")

Parts = tuple[Dataset, Dataset]
Rows = dict[str, tuple[str, bytes]]  # of a table: for each picture its split, or "", and its attributes, a byte each


def image_folder(
    root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False
) -> Dataset:
    """A folder of class folders, `root/<class>/<picture>`, or `root/<split>/<class>/<picture>` where root has splits.

    Returns x (N, 3, H, W) uint8. Classes are the folder names in alphabetical order; if pictures lie straight in the
    folder there are none. With `size` each picture is resized on its shorter side and centre-cropped to size x size
    when the cache is made; without it all must share one size. Files that are no readable pictures are named in one
    error, or left out and counted with `skip_corrupt`.

    Raises AlikitError for a missing or empty folder, an empty class, mixed sizes, and unreadable files.
    """
    root = _existing(root)
    return _read("folder", root, split, list_folder(root, split), size, skip_corrupt)[0]


def image_table(root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False) -> Dataset:
    """The pictures of `root/images/` with the attributes that `root/attributes.csv` gives each of them.

    The table is comma-separated with a row of names first: `image`, the path of a picture below images/; then
    `split` (train, valid or test), if the pictures are divided; then one column for each attribute, 0 or 1, or in the
    whole table -1 or 1 as CelebA's has it. Without a column `split` every picture belongs to train.

    Returns x (N, 3, H, W) uint8, labels (N, A) uint8, 0 or 1, classes the A attributes' names. `size` and
    `skip_corrupt` as for `image_folder`.

    Raises AlikitError where the folder or the table is missing, for a line or a column of the table that is wrong,
    and for pictures as `image_folder` does.
    """
    root = _existing(root)
    return _read("table", root, split, _list_table(root, split, *_read_table(root)), size, skip_corrupt)[0]


def folder_parts(root: str | Path, size: int | None = None, skip_corrupt: bool = False) -> Parts:
    """A folder's training part and held-out part: its own splits where it has them, else a tenth by name."""
    root = _existing(root)
    held_out = next((name for name in HELD_OUT_NAMES if (root / name).is_dir()), None)
    if not held_out or not (root / "train").is_dir():
        listed = list_folder(root, "train")
        parts = _divided(listed, [name.removeprefix("train/") for name in listed.names])
    else:
        train = list_folder(root, "train")
        parts = train, list_folder(root, held_out, train.classes)
    return _read_parts("folder", root, *parts, size, skip_corrupt)


def table_parts(root: str | Path, size: int | None = None, skip_corrupt: bool = False) -> Parts:
    """A table's training part and held-out part: `train` and `valid` where it has splits, else a tenth by name."""
    root = _existing(root)
    attributes, rows = _read_table(root)
    if any(split for split, _ in rows.values()):
        parts = [_list_table(root, split, attributes, rows) for split in ("train", "valid")]
    else:
        parts = _divided(_list_table(root, "train", attributes, rows), [*rows])
    return _read_parts("table", root, *parts, size, skip_corrupt)


def _read(
    kind: str, root: Path, key: str, listed: Listed, size: int | None, skip_corrupt: bool
) -> tuple[Dataset, set[str]]:
    fit, table = square(size), [TABLE] if kind == "table" else []
    complete = listed._replace(decode=lambda name: decode(os.path.join(root, name), fit))
    key = f"{kind}-{key}-{size or 'as-is'}"
    return read_pictures(f"{kind}:{root.name}", root, key, [*table, *listed.names], lambda: complete, skip_corrupt)


def _read_parts(kind: str, root: Path, train: Listed, held_out: Listed, size: int | None, skip_corrupt: bool) -> Parts:
    """Both parts, as slices of one cache: a copy might not find room in memory."""
    labels = torch.cat([train.labels, held_out.labels])
    whole = Listed([*train.names, *held_out.names], labels, train.classes if held_out.classes else [])
    data, unreadable = _read(kind, root, "parts", whole, size, skip_corrupt)
    begin = sum(name not in unreadable for name in train.names)
    if not 0 < begin < len(data):
        raise AlikitError(f"{root} has {len(data)} readable pictures: add some, to train on and to hold out")
    return data.select(slice(begin)), data.select(slice(begin, None))


def _divided(listed: Listed, names: list[str]) -> list[Listed]:
    """Those to train on and those held out, the tenth whose names have the smallest hashes: so no picture moves from
    one part to the other when another is added."""
    shares = np.array([int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4]) for name in names]) / 2**32
    held_out = shares < 0.1
    # In a handful of pictures the rule may choose none or all; both parts need one.
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
    """The pictures of a split, labelled in the order of the classes that are known from another, or of its own."""
    folder, below = (root / split, f"{split}/") if (root / split).is_dir() else (root, "")
    if not below and split != "train":
        raise AlikitError(f"no split {split!r} in {root}: expected a folder {split}/ with class folders inside")
    names = picture_files(folder)
    if not names:
        raise AlikitError(f"no pictures in {folder}: expected class folders holding files such as .jpg or .png")
    class_of = [name.rpartition("/")[0].partition("/")[0] for name in names]  # "" where there is none
    classes = {*class_of} - {""}
    if loose := class_of.count(""):
        if classes:
            log.warning("%d pictures in %s lie outside its class folders, so none has a label", loose, folder)
        known = classes = []
    elif empty := {place.name for place in folder.iterdir() if place.is_dir() and place.name[0] != "."} - classes:
        raise AlikitError(f"class {min(empty)} in {folder} has no pictures: fill that folder, or remove it")
    if known and (strange := classes - {*known}):
        raise AlikitError(
            f"{folder} has classes that train/ has not ({', '.join(sorted(strange))}): give both the same"
        )
    order = {name: label for label, name in enumerate(known or sorted(classes))}
    labels = torch.tensor([order.get(name, 0) for name in class_of])
    return Listed([below + name for name in names], labels, [*order])


def _list_table(root: Path, split: str, attributes: list[str], rows: Rows) -> Listed:
    chosen = {image: marks for image, (of, marks) in rows.items() if (of or "train") == split}
    if not chosen:
        raise AlikitError(f"{root / TABLE} has no line with split {split}: say which pictures are {split}")
    labels = torch.frombuffer(bytearray().join(chosen.values()), dtype=torch.uint8).view(len(chosen), -1)
    return Listed([PICTURES + image for image in chosen], labels, attributes)


def _read_table(root: Path) -> tuple[list[str], Rows]:
    """The names of the attributes, and every line, checked."""
    table, rows, values = root / TABLE, {}, set()
    there = {*picture_files(root / PICTURES)}

    def wrong(what: str) -> AlikitError:
        return AlikitError(f"{table} line {lines.line_num}: {what}")

    with reading.boundary(table, "put one there, as comma-separated text in UTF-8"):
        lines = csv.reader((line.decode("utf-8-sig") for line in reading.lines(table, LARGEST)), strict=True)
        header = next(lines, [])
        columns = [column for column, name in enumerate(header) if column and name != "split"]
        if header[:1] != ["image"] or not columns:
            some = ", ".join(header[:4])
            raise wrong(f"the columns are {some}: make them image, split if there is one, attributes, with commas")
        if len({*header}) < len(header):
            raise wrong("two columns have one name: give each a name of its own")
        for name in header:
            if not name.isprintable() or not 0 < len(name.strip(" ")) == len(name) <= LETTERS:
                raise wrong(f"{name[:LETTERS]!r} is no name: use up to {LETTERS} printable letters, no blanks around")
            if name.startswith("-") or "," in name:  # -Young,Male names two attributes
                raise wrong(f"a name must not begin with - or hold a comma, as {name!r} does")
        for row in filter(None, lines):
            if len(row) != len(header):
                raise wrong(f"{len(row)} values for {len(header)} columns: mend it")
            image, split = row[0], dict(zip(header, row, strict=True)).get("split", "")
            if image in rows or image not in there:
                why = "is on another line already" if image in rows else f"is no picture in {PICTURES}"
                raise wrong(f"{image} {why}: remove the line, or mend it")
            if "split" in header and split not in SPLITS:
                raise wrong(f"split is {split!r}: make it one of {', '.join(SPLITS)}")
            values.update(row[column] for column in columns)
            if not values <= {"0", "1"} and not values <= {"-1", "1"}:
                raise wrong(f"attributes are {', '.join(map(repr, sorted(values)))}: make all 0 and 1, or all -1 and 1")
            rows[image] = split, bytes(row[column] == "1" for column in columns)
    if strangers := there - rows.keys():
        raise AlikitError(f"{PICTURES}{min(strangers)} has no line in {table}: write one, or move it elsewhere")
    if not rows:
        raise AlikitError(f"{table} names no pictures: give every picture one line below the names of columns")
    return [header[column] for column in columns], rows
