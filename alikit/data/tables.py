"""A folder `images/` with a table of attributes beside it: `attributes.csv`."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import reading
from ..errors import AlikitError
from .dataset import Dataset
from .division import held_out_last
from .images import existing, picture_files, read_pictures, readable_of, square

TABLE, PICTURES = "attributes.csv", "images"
MOST = 200  # letters of a name
SPLITS = ("train", "valid", "test")


class Row(NamedTuple):
    """One picture's line in the table."""

    line: int
    image: str
    split: str
    attributes: bytes  # one each, 0 or 1: of a million rows of 40, lists would be half a GB


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
    return named_table(root, split, size, skip_corrupt)[0]


def named_table(
    root: str | Path, split: str, size: int | None, skip_corrupt: bool, divided: bool = False
) -> tuple[Dataset, list[str]]:
    """`image_table`, and the name of each picture as the table gives it. Where it is to be `divided`, pictures that are
    held out come last."""
    root = existing(root)
    attributes, rows = _read_table(root)
    strangers = set(picture_files(root / PICTURES))
    for row in rows:
        if row.image not in strangers:
            raise AlikitError(
                f"{root / TABLE} line {row.line}: there is no picture {PICTURES}/{row.image}: put it there, or remove "
                "the line"
            )
        strangers.remove(row.image)
    if strangers:
        raise AlikitError(f"{PICTURES}/{min(strangers)} has no line in {root / TABLE}: write one, or move it elsewhere")
    rows = [row for row in rows if row.split == split]
    if not rows:
        raise AlikitError(f"{root / TABLE} has no line with split {split}: say which pictures are {split}")
    if divided:
        rows = held_out_last(rows, [row.image for row in rows])
    names = [row.image for row in rows]
    of_all = np.frombuffer(bytearray().join(row.attributes for row in rows), np.uint8)
    labels = torch.from_numpy(of_all).view(len(rows), len(attributes))
    x, labels, known = read_pictures(
        root,
        f"table-{'divided' if divided else split}-{size or 'as-is'}",
        chain([TABLE], (f"{PICTURES}/{name}" for name in names)),
        lambda: (names, labels, attributes),
        square(size),
        skip_corrupt,
        root / PICTURES,
    )
    return Dataset(f"table:{root.name}", x, labels, tuple(attributes)), readable_of(names, known)


def has_splits(root: str | Path) -> bool:
    """Whether the table says which pictures are for what."""
    return "split" in next(_lines(existing(root)))


def _lines(root: Path) -> Iterator[list[str]]:
    """The table's lines, at least two, the names of the columns first."""
    number = blank = 0
    try:
        with io.TextIOWrapper(reading.opened(root / TABLE), encoding="utf-8-sig", newline="") as file:
            for line in csv.reader(iter(lambda: file.readline(reading.LINE), ""), strict=True):
                if not line:
                    blank += 1
                    continue
                yield from ([] for _ in range(blank))  # not at the end, where a table may have some
                yield line
                number, blank = number + blank + 1, 0
    except FileNotFoundError:
        raise AlikitError(f"no {TABLE} in {root}: write one, or say folder:{root} for pictures alone") from None
    except OSError as error:
        raise AlikitError(f"cannot read {root / TABLE} ({error.strerror}): put a readable file there") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise AlikitError(f"cannot read {root / TABLE} ({error}): save it as comma-separated text in UTF-8") from None
    if number < 2:
        raise AlikitError(f"{root / TABLE} names no pictures: give every picture one line below the names of columns")


def _read_table(root: Path) -> tuple[list[str], list[Row]]:
    """The names of the attributes, and every line checked."""
    table, lines = root / TABLE, _lines(root)
    header = next(lines)
    columns = [column for column, name in enumerate(header) if column and name != "split"]
    if header[:1] != ["image"] or not columns:
        some = ", ".join(header[:4])
        if other := next((mark for mark in (";", "\t", "|") if some.startswith(f"image{mark}")), None):
            raise AlikitError(f"{table} has {other!r} between its columns: save it with commas")
        raise AlikitError(
            f"{table} line 1 names the columns {some}: they must be image, then split if there is one, then attributes"
        )
    twice = {name for name, times in Counter(header).items() if times > 1}
    for name in header:
        if not name or name in twice:
            wrong = f"two columns called {name}" if name else "a column without a name"
            raise AlikitError(f"{table} line 1: {wrong}: give each a name of its own")
        if name != name.strip() or not name.isprintable() or len(name) > MOST:
            raise AlikitError(
                f"{table} line 1: a name must be printable text of at most {MOST} letters without blanks around it, "
                f"which {name[:MOST]!r} is not"
            )
        if name.startswith("-") or "," in name:  # what --attributes -Young,Male is taken apart by
            raise AlikitError(f"{table} line 1: a name must not begin with - or hold a comma, as {name!r} does")
    rows, absent = {}, None
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise AlikitError(f"{table} line {number}: {len(line)} values for {len(header)} columns: mend it")
        values = dict(zip(header, line, strict=True))
        image, split = values["image"], values.get("split", "train")
        if image in rows:
            raise AlikitError(f"{table} line {number}: {image} is already on line {rows[image].line}: remove one")
        if split not in SPLITS:
            raise AlikitError(f"{table} line {number}: split is {split!r}: make it one of {', '.join(SPLITS)}")
        for column in columns:
            value, where = line[column], f"{table} line {number}: {header[column]} is"
            if value not in ("0", "1", "-1"):
                raise AlikitError(f"{where} {value!r}: make it 0 or 1 (or, in the whole table, -1 or 1)")
            if value != "1":
                absent = absent or value
                if value != absent:
                    raise AlikitError(f"{where} {value!r}, and {absent!r} stands above: choose 0 and 1, or -1 and 1")
        rows[image] = Row(number, image, split, bytes(line[column] == "1" for column in columns))
    return [header[column] for column in columns], list(rows.values())
