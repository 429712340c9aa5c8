"""Archives of encoded pictures: the tar files of WebDataset and the parquet files of Hugging Face's `datasets`.

Of these only pictures, numbers and text are taken: nothing in them can run code.
"""

import json
import os
import re
import tarfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from typing import Any

from .. import reading
from ..errors import AlikitError
from .decoding import SUFFIXES
from .images import LARGEST, log
from .parts import Examples, Y, chosen, extra
from .splits import split_of

LABEL = {*Y, "cls", "class", "class_name", "category"}  # what labels are called


def tar_parts(path: Path, files: list[Path], decode: Callable) -> tuple[Examples, list[str], Callable]:
    """The names of the pictures in WebDataset's shards, with their labels. What follows the first dot of a file's name
    says what of an example it holds. Only the places of pictures are noted, so that memory need not hold them."""
    places, found = {}, {}
    for file in files:
        below = os.path.relpath(file, path if path.is_dir() else path.parent)
        names, labels = found.setdefault(None if file == path else split_of(below), ([], []))
        with reading.boundary(file, "write it anew"):
            for key, fields in _samples(file):
                pictures = [field for field in fields if f".{field.rpartition('.')[2]}" in SUFFIXES]
                if len(pictures) > 1:
                    raise AlikitError(f"{file}: {key} has {len(pictures)} pictures ({', '.join(pictures)}): keep one")
                names.append(name := f"{below}/{key}")
                labels.append(_label(fields))
                if pictures:
                    places[name] = fields[pictures[0]]
    if not places:
        way = "put a .jpg or .png, and a .cls, into it for each example, or unpack it and name the folder"
        raise AlikitError(f"{path} has no pictures: {way}")
    if all(label is None for _, labels in found.values() for label in labels):
        log.warning("%s has no labels (.cls): if its folders are classes, unpack it and say folder:PATH", path)

    def read(name: str, white: float | None = None) -> Any:
        return decode(_bytes(places[name]), white) if name in places else None

    return _with_labels(path, found), [], read


def _samples(file: Path) -> Iterator[tuple[str, dict]]:
    """The key of each example with its fields by their endings; a field is bytes, or (file, offset, size)."""
    with tarfile.open(file) as archive:
        packed = not isinstance(archive.fileobj, BufferedReader)
        last, fields = None, {}
        for member in archive:
            match = re.fullmatch(r"((?:.*/)?[^./][^.]*)[.]([^/]*)", member.name)
            if not member.isreg() or not match or match[1].startswith("__"):
                continue
            if (
                member.size > LARGEST
                or member.issparse()
                or (not packed and member.offset_data + member.size > file.stat().st_size)
            ):
                raise ValueError("cut off")
            key, field = match[1], match[2].lower()
            if key != last and fields:
                yield last, fields
                fields = {}
            if field in fields:
                raise ValueError("twice the same")
            last = key
            fields[field] = archive.extractfile(member).read() if packed else (file, member.offset_data, member.size)
        if fields:
            yield last, fields


def _bytes(place: bytes | tuple[Path, int, int]) -> bytes:
    if isinstance(place, bytes):
        return place
    file, offset, size = place
    with open(file, "rb") as stored:
        stored.seek(offset)
        return stored.read(size)


def _label(fields: Mapping) -> object:
    """A number or text, or None."""
    if "cls" in fields:
        text = _bytes(fields["cls"]).decode().strip()
        return int(text) if re.fullmatch(r"-?\d+", text) else text
    if "json" in fields:
        value = reading.parsed(_bytes(fields["json"]))
        if isinstance(value, dict):
            value = next((value[key] for key in value if key.lower() in LABEL), None)
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        return value if isinstance(value, int | str) else None
    return None


def _with_labels(where: object, found: Mapping[str, tuple[list, list]]) -> Examples:
    """The parts that are chosen. AlikitError where some examples of a part have labels."""
    for names, labels in found.values():
        lacking = sum(label is None for label in labels)
        if 0 < lacking < len(names):
            raise AlikitError(f"{where}: {lacking} of {len(names)} examples have no label: give all one, or none")
    return [(names, None if labels[:1] == [None] else labels) for names, labels in chosen(where, found)]


def parquet_parts(path: Path, files: list[Path], decode: Callable) -> tuple[Examples, list[str], Callable]:
    """The names FILE/ROW of the pictures in parquet files, with their labels, and the names of classes."""
    pq, found, classes, column_of = extra("pyarrow.parquet", "parquet"), {}, [], {}
    root = path if path.is_dir() else path.parent
    for file in files:
        below = os.path.relpath(file, root)
        names, labels = found.setdefault(None if file == path else split_of(below), ([], []))
        with reading.boundary(file, "fetch it again"), reading.opened(file) as stored:
            table = pq.ParquetFile(stored)
            picture, label, named = _columns(file, table.schema_arrow)
            if classes and named != classes:
                raise AlikitError(f"{file} has other classes than the files before it: name one that goes alone")
            column_of[below], classes, rows = picture, named, table.metadata.num_rows
            names += [f"{below}/{row}" for row in range(rows)]
            values = table.read(columns=[label]).column(0).to_pylist() if label else [None] * rows
            unknown = named and {*values} == {-1}  # as `datasets` has it where there are no labels
            labels += [None] * rows if unknown else values
    lock = threading.Lock()

    @lru_cache(maxsize=2)
    def rows_of(file: str, group: int):
        return pq.ParquetFile(root / file).read_row_group(group, columns=[column_of[file]]).column(0)

    @lru_cache(maxsize=len(files))
    def ends(file: str) -> list[int]:
        about = pq.read_metadata(root / file)
        return [*accumulate(about.row_group(group).num_rows for group in range(about.num_row_groups))]

    def read(name: str, white: float | None = None) -> Any:
        file, _, row = name.rpartition("/")
        data = None
        with lock, suppress(Exception):  # whatever is wrong with it, this picture cannot be read
            group = bisect_right(ends(file), int(row))
            cell = rows_of(file, group)[int(row) - ends(file)[group - 1] * (group > 0)].as_py()
            data = cell["bytes"] if isinstance(cell, dict) else cell
        return None if data is None else decode(data, white)

    return _with_labels(path, found), classes, read


def _columns(file: Path, schema) -> tuple[str, str | None, list[str]]:
    """The columns of pictures and labels, and the classes' names, which `datasets` writes beside the schema."""
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    kinds = {name: feature.get("_type") for name, feature in features.items() if isinstance(feature, dict)}
    pictures = [name for name, kind in kinds.items() if kind == "Image"] or [
        field.name for field in schema if re.match("(struct<bytes: )?(large_)?binary", str(field.type))
    ]
    if len(pictures) != 1:
        some = ", ".join(pictures) or f"none, but {', '.join(schema.names)}"
        raise AlikitError(f"{file} must have one column of pictures, and has {some}: write it anew with one")
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [
        name for name in schema.names if name.lower() in LABEL
    ]
    label = next((name for name in labels if name in Y), labels[0] if labels else None)
    if not labels and len(schema.names) > 1:
        others = ", ".join(name for name in schema.names if name not in pictures)
        log.warning("%s has no labels: of its columns (%s) call the one that you mean label", file, others)
    if len(labels) > 1:
        log.warning("%s has several columns of labels (%s): %s is taken", file, ", ".join(labels), label)
    return pictures[0], label, features.get(label, {}).get("names", []) if label else []
