"""Tables that say what is in each picture: our own, those of Kaggle and those of Hugging Face's image folders."""

import csv
import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch

from .. import reading
from ..errors import AlikitError, expanded
from .dataset import Dataset
from .decoding import SUFFIXES, ending_of
from .images import Listed, divided, existing, log, picture_files, read_parts
from .splits import both, nfc, split_of

TABLES = ("attributes.csv", "labels.csv", "metadata.csv", "metadata.jsonl", "train.csv", "list_attr_celeba.csv")
PARTITION = "list_eval_partition.csv"  # beside CelebA's table as Kaggle has it
OF_A_SPLIT = ("metadata.csv", "metadata.jsonl")  # in each split's own folder
LARGEST = 2**30  # bytes of a table: a million lines of 40 attributes have 100 MB
# Columns that are no attributes, in small letters. The first of PICTURE that is there names the pictures.
PICTURE = ("image", "image_id", "file_name", "filename", "file", "path", "image_path", "name", "id")
SPLIT = ("split", "splits", "partition", "subset")
CLASS = ("label", "labels", "class", "class_name", "classes", "category", "target", "y")
SPLITS = {"0": "train", "1": "valid", "2": "test"}  # CelebA's numbers
VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": 2, "-1.0": 2}
EACH = "attributes are each 0 and 1, -1 and 1, or true and false"


def image_table(
    root: str | Path,
    split: str = "train",
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
) -> Dataset:
    """The pictures of `root` with what a table in it says of each: its class, or its attributes.

    The table is `root` itself or lies in it: attributes.csv, labels.csv, metadata.csv or .jsonl, train.csv, CelebA's
    list_attr_celeba.csv, or a metadata file in the folder of each split. Its columns, in any order and case:
    image (or file_name, id, ...), the picture by its path below the table or below images/, by its file name, or by
    that without its ending; optionally split (train, valid, test, or 0, 1, 2; without one all is train); and either one
    column of classes, as text or numbers, or attributes, each 0 and 1, -1 and 1, or true and false. A column called
    label or class holds classes.

    Returns x (N, C, H, W) uint8; labels (N,) int64 and classes, sorted; or labels (N, A) uint8, 0 or 1, and classes,
    the names of the A attributes. `size`, `skip_corrupt` and `white` as for `image_folder`.

    Raises AlikitError for a missing folder or table, a wrong line or column, and for pictures as `image_folder` does.
    """
    root, table = _read(root, None)
    part, how = _of_split(table, kind := split_of(split) or split), (size, skip_corrupt, white, None, table.sources)
    return read_parts(f"table:{root.name}", root, f"table-{kind}", [part], *how)[0]


def table_parts(
    root: str | Path,
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
    splits: str | None = None,
) -> list[Dataset]:
    """A table's training part and held-out part: `train` and `valid` (or `test`, where none is valid), or a tenth by
    name where all is `train`. `splits` are the two values of the table's column, or "none"."""
    root, table = _read(root, splits)
    train, kinds = _of_split(table, "train"), {*table.kinds}
    if kinds & {"valid", "test"}:
        parts = [train, _of_split(table, "valid" if "valid" in kinds else "test")]
    else:
        parts = divided(train, "images/" if train.names[0].startswith("images/") else "")
    how = size, skip_corrupt, white, splits, table.sources
    return read_parts(f"table:{root.name}", root, "table-parts", parts, *how)


def find_tables(root: Path) -> list[str]:
    """The tables in a folder, else those in the folders of its splits."""
    with os.scandir(root) as entries:  # of which there may be a million
        inside = [
            entry for entry in entries if entry.name.lower() in TABLES or (entry.is_dir() and split_of(entry.name))
        ]
    found = sorted(entry.name for entry in inside if entry.name.lower() in TABLES)
    names = [f"{entry.name}/{table}" for entry in inside for table in OF_A_SPLIT]
    return found or sorted(name for name in names if os.path.isfile(root / name))


def _read(root: str | Path, splits: str | None) -> tuple[Path, "_Table"]:
    root = expanded(root)
    if root.is_file():
        root, found = root.parent, [root.name]
    else:
        found = find_tables(existing(root))
    if not found:
        raise AlikitError(f"{root / TABLES[0]} is missing: put one there, or name the table as table:PATH/TABLE.csv")
    if len(found) > 1 and "/" not in found[0]:
        raise AlikitError(f"{root} has several tables ({', '.join(found)}): choose one, as table:{root / found[0]}")
    table = _Table(root, splits)
    if (root / PARTITION).is_file() and PARTITION not in found:
        table.read_partition(root / PARTITION)
    for name in found:
        table.read(root / name)
    return root, table


def _of_split(table: "_Table", kind: str) -> Listed:
    chosen = [at for at, found in enumerate(table.kinds) if found == kind]
    if not chosen:
        raise AlikitError(f"{table.file} has no line with split {kind}: say which pictures are {kind}")
    labels, classes = table.labelled
    return Listed([table.names[at] for at in chosen], labels[chosen], classes)


class _Pictures:
    """Pictures below a folder of the root, by the names that a table gives them."""

    def __init__(self, root: Path, below: str):
        self.below, self.paths = below, {nfc(name): below + name for name in picture_files(root / below)}

    def find(self, text: str) -> str | None:
        """The name of a picture in the root."""
        for path in (text, text.replace("\\", "/")):
            for known in (path, path.removeprefix("./"), path.removeprefix("./").removeprefix(self.below)):
                if known in self.paths:
                    return self.paths[known]
        file = path.rpartition("/")[2]
        return self._files.get(file) or self._stems.get(_stem(file))

    @cached_property
    def _files(self) -> dict[str, str | None]:
        return _unique((path.rpartition("/")[2], name) for path, name in self.paths.items())

    @cached_property
    def _stems(self) -> dict[str, str | None]:
        return _unique((_stem(path.rpartition("/")[2]), name) for path, name in self.paths.items())


def _stem(file: str) -> str:
    return os.path.splitext(file)[0] if ending_of(file) in SUFFIXES else file


def _unique(pairs: Iterator[tuple[str, str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, value in pairs:
        found[key] = None if key in found else value
    return found


class _Table:
    """What the tables of a root say, line by line. Every line is checked."""

    def __init__(self, root: Path, splits: str | None):
        self.root, self.partition, self.splits = root, {}, splits
        self.named = dict(zip(both(splits), ("train", "valid"), strict=True)) if splits and splits != "none" else {}
        self.sources: list[str] = []  # the files of tables
        self.names: list[str] = []  # of pictures, in the root
        self.kinds: list[str] = []  # the split of each
        self.values: list[str | bytes] = []  # of each its class, or its attributes, a byte each
        self.places: list[int] = []  # the line of each
        self.begun: list[tuple[int, Path]] = []  # the first picture of each table
        self.columns: list[str] = []

    def read_partition(self, file: Path) -> None:
        """The split of each picture, from a table of its own."""
        self.sources.append(file.name)
        with reading.boundary(file, "put one there, as comma-separated text in UTF-8"):
            (_, header), *rows = _rows(file)
            for line, row in rows:
                if len(row) != 2 or len(header) != 2 or not _kind(row[1]):
                    raise AlikitError(f"{file} line {line}: expected a picture and its split, 0, 1 or 2: mend it")
                self.partition[nfc(row[0].strip())] = row[1].strip()

    def _wrong(self, line: int, what: str) -> AlikitError:
        return AlikitError(f"{self.file} line {line}: {what}")

    def read(self, file: Path) -> None:
        self.file, folder = file, file.parent.relative_to(self.root).as_posix()
        below = "" if folder == "." else f"{folder}/"
        of_folder = split_of(folder) if below else None
        if not below and (self.root / "images").is_dir():
            below = "images/"
        trains = [name for name in os.listdir(self.root) if split_of(name) == "train" and (self.root / name).is_dir()]
        if not below and split_of(file.stem) == "train" and len(trains) == 1:
            below = f"{trains[0]}/"
        pictures, begin, by_path = _Pictures(self.root, below), len(self.names), {}
        without_line = {*pictures.paths.values()}
        self.sources.append(file.relative_to(self.root).as_posix()), self.begun.append((begin, file))
        kind = "a JSON object a line" if file.suffix.lower() == ".jsonl" else "comma-separated text in UTF-8"
        with reading.boundary(file, f"put one there, as {kind}"):
            rows = _rows(file)
            line, header = next(rows, (1, []))
            picture, split, others = self._columns(line, header)
            pick = itemgetter(*others)
            for line, row in rows:
                if len(row) != len(header):
                    raise self._wrong(line, f"{len(row)} values for {len(header)} columns: mend it")
                text = row[picture].strip()
                name = pictures.find(nfc(text))
                if name not in without_line:
                    why = f"is no picture in {below or self.root}, or is on another line already"
                    raise self._wrong(line, f"{text} {why}: remove the line")
                without_line.remove(name)
                if "/" in (path := nfc(text).replace("\\", "/")):
                    by_path.setdefault(name.endswith(path.removeprefix("./")), text)
                    if len(by_path) > 1:  # not some by their folders, and others by their file names alone
                        raise self._wrong(line, f"{by_path[False]} is not in that folder: mend the path")
                self.names.append(name)
                self.places.append(line)
                written = folder if of_folder else "train" if split is None else row[split].strip()
                if self.partition and split is None:
                    written = self.partition.get(nfc(text))
                self.kinds.append(self._split(line, text, written))
                self.values.append(self._value(line, pick(row)))
        if without_line:
            self._left_out(without_line)
        if of_folder is None and split is None and not self.partition and not self.splits:
            by_path = [split_of(os.path.dirname(name[len(below) :]).partition("/")[0]) for name in self.names[begin:]]
            if all(by_path):
                self.kinds[begin:] = by_path

    def _columns(self, line: int, header: list[str]) -> tuple[int, int | None, list[int]]:
        """The places of the pictures' column, of the splits' and of all others."""
        names = [name.strip() for name in header]
        small = [name.lower() for name in names]
        found = [small.index(name) for name in PICTURE if name in small]
        split = next((small.index(name) for name in SPLIT if name in small), None)
        unnamed = [
            at for at, name in enumerate(small) if re.fullmatch(r"unnamed: [\d.]+", name) or (not name and not at)
        ]
        others = [at for at in range(len(names)) if at not in (*found[:1], split, *unnamed)]
        labels = [at for at in others if small[at] in CLASS]
        if further := [
            at for at in others if len(others) > 1 and (at in found or (len(labels) == 1 != at not in labels))
        ]:
            some = ", ".join([names[at] for at in further[:9]] + ["..."] * (len(further) > 9))
            log.warning("columns of %s that are not used: %s", self.file, some)
            others = [at for at in others if at not in further]
        columns = [names[at] for at in others]
        if not found or not others:
            what = "there is no other column" if found else f"no column is called {', '.join(PICTURE[:3])} or the like"
            if len(names) == 1 and re.search(r"[;\t]", names[0]):
                what = "there are no commas between the columns"
            way = "make them image, split if there is one, and classes or attributes, or move the table elsewhere"
            if not found and len(names) > 64:  # as Kaggle has MNIST
                way = "if they hold pixels, read it with pandas and give alikit.load((x, y)), x of N x height x width"
            raise self._wrong(line, f"the columns are {', '.join(names[:4])}, and {what}: {way}")
        if len({*columns}) < len(columns) or not all(0 < len(name) <= 200 and name.isprintable() for name in columns):
            raise self._wrong(line, "a column's name must be its own: up to 200 printable letters")
        if self.columns and columns != self.columns:
            raise self._wrong(line, f"the columns are not those of {self.sources[0]}: give both tables the same")
        self.columns = columns
        return found[0], split, others

    def _split(self, line: int, picture: str, written: str | None) -> str:
        if self.splits == "none":
            return "train"
        if written is None:
            raise self._wrong(line, f"{picture} has no line in {PARTITION}: write one")
        if self.named:
            return self.named.get(nfc(written), "left out")
        if not (kind := _kind(written)):
            way = "make it one of train, valid, test, or say which two, as --splits TRAIN,HELD_OUT (splits=...)"
            raise self._wrong(line, f"split is {written!r}: {way}")
        return kind

    def _value(self, line: int, values: str | tuple[str, ...]) -> str | bytes:
        if isinstance(values, str):
            if not (value := nfc(values.strip())):
                raise self._wrong(line, f"{self.columns[0]} has no value: write one, or remove the picture")
            return value
        try:
            return bytes(map(VALUES.__getitem__, values))
        except KeyError:  # a blank behind, capitals, or something else
            found = [VALUES.get(value.strip().lower()) for value in values]
            if None in found:
                at = found.index(None)
                beside = f"{self.columns[at]} is {values[at]!r}, beside {len(values) - 1} other columns"
                raise self._wrong(line, f"{beside}: {EACH}; or keep one column, of classes") from None
            return bytes(found)

    def _left_out(self, without_line: set[str]) -> None:
        """Pictures to test on often have no lines, as nobody may know what they show."""
        used = {name.partition("/")[0] for name in self.names}
        folders = {name.partition("/")[0] for name in without_line if "/" in name}
        known = {folder for folder in folders - used if split_of(folder) in ("valid", "test")}
        lacking = [name for name in without_line if name.partition("/")[0] not in known or "/" not in name]
        if lacking:
            raise AlikitError(f"{min(lacking)} has no line in {self.file}: write one, or move it elsewhere")
        log.warning("left out %s, of whose pictures %s says nothing", ", ".join(sorted(known)), self.file)

    @cached_property
    def labelled(self) -> tuple[torch.Tensor, list[str]]:
        """Labels and the names of their classes or attributes."""
        if len(self.columns) > 1:
            bits = np.frombuffer(b"".join(self.values), np.uint8).reshape(len(self.values), -1)
            for name, column in zip(self.columns, bits.T, strict=True):
                if (column == 0).any() and (column == 2).any():
                    at = int(max((column == 0).argmax(), (column == 2).argmax()))
                    self.file = next(file for begin, file in reversed(self.begun) if begin <= at)
                    raise self._wrong(self.places[at], f"{name} is both 0 and -1: {EACH}")
            return torch.from_numpy((bits == 1).astype(np.uint8)), self.columns
        (name,), seen = self.columns, {*self.values}
        codes = {VALUES.get(value.lower()) for value in seen}
        if name.lower() not in CLASS and None not in codes and not {0, 2} <= codes:
            bits = [VALUES[value.lower()] == 1 for value in self.values]
            return torch.tensor(bits, dtype=torch.uint8)[:, None], self.columns
        numbers = _numbers(seen)
        all_differ = 2 < len(seen) == len(self.values)
        if all_differ or (len(seen) > 20 and any(value % 1 for value in numbers.values())):
            some = ", ".join(sorted(seen)[:3])
            raise AlikitError(f"{self.file}: {name} has {len(seen):,} values ({some}, ...): choose a column of classes")
        classes = sorted(seen, key=lambda value: (numbers.get(value, 0), value))
        order = {value: label for label, value in enumerate(classes)}
        return torch.tensor([order[value] for value in self.values]), classes


def _numbers(texts: set[str]) -> dict[str, float]:
    """Their values if all are numbers, else none."""
    if all(re.fullmatch(r"[-+]?\d+(\.\d*)?", text) for text in texts):
        return {text: float(text) for text in texts}
    return {}


def _kind(text: str) -> str | None:
    return SPLITS.get(text.strip().removesuffix(".0")) or split_of(text)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The header and then the values of each line, with the number of the line. Of JSON lines, the keys of the first
    are the header."""
    lines = reading.lines(file, LARGEST)
    if file.suffix.lower() == ".jsonl":
        objects = ((number, reading.parsed(line)) for number, line in enumerate(lines, 1) if line.strip())
        first = next(objects, (1, {}))
        keys = [*first[1]]
        yield first[0], keys
        for number, found in chain([first], objects):
            if {*found} != {*keys}:
                given = f"{file} line {number}: the keys are {', '.join(found)}"
                raise AlikitError(f"{given}: give all lines {', '.join(keys)}")
            for key, value in found.items():
                if isinstance(value, dict | list):
                    raise AlikitError(f"{file} line {number}: {key} holds several values: leave it out, or write one")
            yield number, [str("" if found[key] is None else found[key]) for key in keys]
        return
    rows = csv.reader((line.decode("utf-8-sig") for line in lines), strict=True, skipinitialspace=True)
    for row in rows:
        if row:
            yield rows.line_num, row
