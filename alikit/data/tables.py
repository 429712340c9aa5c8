"""A folder `images/` with a table of attributes beside it: `attributes.csv`."""

import csv
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import AlikitError
from .dataset import Dataset
from .images import existing, name_in, picture_files, read_pictures, square

TABLE, PICTURES = "attributes.csv", "images"
SPLITS = ("train", "valid", "test")


class Row(NamedTuple):
    """One picture's line in the table."""

    line: int
    image: str
    split: str
    attributes: list[int]


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


def named_table(root: str | Path, split: str, size: int | None, skip_corrupt: bool) -> tuple[Dataset, list[str]]:
    """`image_table`, and the name of each picture as the table gives it."""
    root = existing(root)
    attributes, rows = _read_table(root)
    files = {file.relative_to(root / PICTURES).as_posix(): file for file in picture_files(root / PICTURES)}
    for row in rows:
        if row.image not in files:
            raise AlikitError(f"{root / TABLE} line {row.line}: there is no picture {PICTURES}/{row.image}")
    if strangers := sorted(files.keys() - {row.image for row in rows}):
        raise AlikitError(f"{PICTURES}/{strangers[0]} has no line in {root / TABLE}: write one, or move it elsewhere")
    rows = [row for row in rows if row.split == split]
    if not rows:
        raise AlikitError(f"{root / TABLE} has no line with split {split}: say which pictures are {split}")
    listed = [files[row.image] for row in rows]
    labels = torch.tensor([row.attributes for row in rows], dtype=torch.uint8)
    x, labels, known = read_pictures(
        root,
        f"table-{split}-{size or 'as-is'}",
        [root / TABLE, *listed],
        lambda: (listed, labels, attributes),
        square(size),
        skip_corrupt,
        root / PICTURES,
    )
    unreadable = set(known["unreadable"])
    names = [row.image for row in rows if name_in(files[row.image], root) not in unreadable]
    return Dataset(f"table:{root.name}", x, labels, tuple(attributes)), names


def has_splits(root: str | Path) -> bool:
    """Whether the table says which pictures are for what."""
    return "split" in _lines(existing(root))[0]


def _lines(root: Path) -> list[list[str]]:
    """The table's lines, at least two, the names of the columns first."""
    try:
        with (root / TABLE).open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
            while lines and not lines[-1]:  # a table may end in blank lines
                lines.pop()
    except FileNotFoundError:
        raise AlikitError(f"no {TABLE} in {root}: write one, or say folder:{root} for pictures alone") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AlikitError(f"cannot read {root / TABLE} ({error}): expected comma-separated text in UTF-8") from None
    if len(lines) < 2:
        raise AlikitError(f"{root / TABLE} names no pictures: give every picture one line below the names of columns")
    return lines


def _read_table(root: Path) -> tuple[list[str], list[Row]]:
    """The names of the attributes, and every line checked."""
    table, (header, *lines) = root / TABLE, _lines(root)
    columns = [column for column, name in enumerate(header) if column and name != "split"]
    if header[:1] != ["image"] or not columns:
        some = ", ".join(header[:4])
        raise AlikitError(f"{table} line 1: expected image, then split if there is one, then attributes, not {some}")
    for name in header:
        if not name or header.count(name) > 1:
            raise AlikitError(f"{table} line 1: {f'two columns called {name}' if name else 'a column without a name'}")
        if name.startswith("-") or "," in name:  # what --attributes -Young,Male is taken apart by
            raise AlikitError(f"{table} line 1: a name must not begin with - or hold a comma, as {name!r} does")
    rows, absent = {}, None
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise AlikitError(f"{table} line {number}: {len(line)} values for {len(header)} columns")
        values = dict(zip(header, line, strict=True))
        image, split = values["image"], values.get("split", "train")
        if image in rows:
            raise AlikitError(f"{table} line {number}: {image} is already on line {rows[image].line}")
        if split not in SPLITS:
            raise AlikitError(f"{table} line {number}: split is {split!r}, not one of {', '.join(SPLITS)}")
        for column in columns:
            value, where = line[column], f"{table} line {number}: {header[column]} is"
            if value not in ("0", "1", "-1"):
                raise AlikitError(f"{where} {value!r}, not 0 or 1 (or -1 and 1)")
            if value != "1":
                absent = absent or value
                if value != absent:
                    raise AlikitError(f"{where} {value!r}, and {absent!r} stands above: choose 0 and 1, or -1 and 1")
        rows[image] = Row(number, image, split, [int(line[column] == "1") for column in columns])
    return [header[column] for column in columns], list(rows.values())
