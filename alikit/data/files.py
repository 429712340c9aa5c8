"""Files of arrays (.npy, .npz, HDF5, MNIST's IDX), and of archives; see archives.py.

None can run code: numpy reads arrays without pickle.
"""

import gzip
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .. import reading
from ..errors import AlikitError, expanded
from .archives import parquet_parts, tar_parts
from .decoding import decode, square
from .images import LARGEST, log
from .parts import Examples, Parts, Scale, X, Y, chosen, extra, in_memory, on_disk
from .splits import split_of

IDX = (
    r"(?:(?P<prefix>.+)[-_.])?(?P<split>train|t10k|test)[-_.](?P<role>images|labels)[-_.]idx\d[-_.](u?byte|int)(\.gz)?"
)
KINDS = {  # what a file is by its name
    "idx": re.compile(IDX, re.I),
    "numpy": re.compile(r".+\.np[yz]", re.I),
    "hdf5": re.compile(r".+\.(h5|hdf5?)", re.I),
    "parquet": re.compile(r".+\.parquet", re.I),
    "tar": re.compile(r".+\.(tar(\.(gz|bz2|xz))?|tgz)", re.I),
}
ENDINGS = ".npy, .npz, .h5, .tar, .parquet, or MNIST's train-images-idx3-ubyte"
CLASSES = {"classes", "class_names", "label_names", "list_classes"}
X_AND_Y = "x and y, or x_train, y_train, x_test and y_test"


def kind_of(name: str) -> str | None:
    """What a file is by its name: a key of KINDS, or None. Hidden ones are what systems leave beside files."""
    return (
        None
        if name.startswith(".")
        else next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(name)), None)
    )


def holds_pictures(path: str | Path) -> bool:
    """Whether the file, or the files in the folder, are of encoded pictures, which can be resized."""
    return _found(expanded(path))[0] in ("tar", "parquet")


def file_parts(
    path: str | Path,
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
    scale: Scale | None = None,
    channels: str | None = None,
) -> Parts:
    """The training part and the held-out part of a file, or of a folder of files of one kind.

    .npy, .npz, HDF5  arrays x and y, with train, test or val in their names where there are such parts; see `arrays_of`
    IDX               MNIST's four files, packed or not; the files of NIST's EMNIST are turned upright
    .tar              WebDataset's: a picture and a .cls or .json of one name for each example
    .parquet          as Hugging Face's `datasets` writes it

    Pictures of the last two are resized and centre-cropped to `size`; without it all must share one size. `white` is
    the brightest value of pictures of more than 8 bits; `scale` and `channels` of arrays are those of `Dataset`. In a
    folder the names of files say which part they are of, as train-00.tar and test-00.tar. A tenth is held out where
    there is no test or val.

    Raises AlikitError for a missing or damaged file, and where it is unknown which part or array is which.
    """
    path = expanded(path)
    kind, files = _found(path)
    if kind not in ("tar", "parquet") and size is not None:
        raise AlikitError(f"a size is for pictures in files of their own; those of {path} have the size they have")
    fit = square(size)
    name, scale = f"file:{path.name}", scale if white is None else (0, white)
    if kind == "idx":
        return in_memory(name, *_idx(path, files))
    if kind in ("numpy", "hdf5"):
        with reading.boundary(path, f"write it anew, with arrays of numbers called {X_AND_Y}"), ExitStack() as opened:
            examples = arrays_of(path, _arrays(files, opened))
        return in_memory(name, *examples, scale, channels)

    def decoded(data: bytes, brightest: float | None) -> Any:
        return decode(BytesIO(data), fit, brightest or white)

    read = tar_parts if kind == "tar" else parquet_parts
    parts, classes, one = read(path, files, decoded)
    root = path if path.is_dir() else path.parent
    key = f"{kind}-{path.stem if path.is_file() else 'all'}-{size or 'as-is'}-{white or 'white'}"
    sources = [os.path.relpath(file, root) for file in files]
    return on_disk(name, root, key, sources, parts, classes, one, skip_corrupt)


def _found(path: Path) -> tuple[str, list[Path]]:
    """The kind of a file and the file; or the files of a folder, which are all of one kind."""
    if path.is_file():
        if kind := kind_of(path.name):
            return kind, [path]
        way = f"make it one of {ENDINGS}, or open it in Python and give alikit.load((x, y))"
        if path.suffix.lower() == ".mat":  # to rename one of version 7.3, which is HDF5, would turn its pictures
            way = "open it with scipy.io.loadmat, or h5py, and give alikit.load((x, y)), examples first; MATLAB stores "
            way += "columns before rows, so look whether pictures lie on their side"
        raise AlikitError(f"{path} is no file of arrays or pictures known here: {way}")
    if not path.is_dir():
        raise AlikitError(f"no file or folder {path}: check the path")
    for below in ("*", "*/*", "*/*/*"):
        files = sorted(file for file in path.glob(below) if kind_of(file.name) and file.is_file())
        kinds = {kind_of(file.name) for file in files}
        if len(kinds) > 1:
            raise AlikitError(f"{path} has files of several kinds ({', '.join(sorted(kinds))}): name one file")
        if files:
            return kinds.pop(), files
    raise AlikitError(f"{path} has no files of arrays: for the pictures in a folder, say folder:{path}")


# Arrays.


def arrays_of(where: object, arrays: Mapping[str, Callable[[], object]]) -> tuple[Examples, list[str]]:
    """The parts, and the names of classes, among arrays by their names; what reads an array is called if it is needed.

    Known are x and y, images and labels, data and targets, alone, or with train, test or val as in x_train,
    train_images or train/x; and classes. One array alone is x.
    """
    found, classes, left = {}, [], []
    for key in arrays:
        words = [word for word in re.split(r"[^a-z0-9]+", key.lower()) if word not in ("", "set")]
        roles, others = ([word for word in words if (word in X | Y) is known] for known in (True, False))
        if key.lower().rpartition("/")[2] in CLASSES:
            names = np.asarray(arrays[key]()).tolist()
            classes = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
        elif len(roles) == 1 and (not others or (len({*others}) == 1 and split_of(others[0]))):
            part, role = found.setdefault(split_of(key), {}), "x" if roles[0] in X else "y"
            if role in part:
                raise AlikitError(f"{where} has both {part[role]} and {key}: keep one of them")
            part[role] = key
        else:
            left.append(key)
    if not found and len(arrays) == 1:
        found, left = {None: {"x": next(iter(arrays))}}, []
    if not found or not all("x" in part for part in found.values()):
        raise AlikitError(f"{where} has {', '.join(arrays) or 'nothing'}: call the arrays that you mean {X_AND_Y}")
    if left:
        log.warning("%s: not read are %s", where, ", ".join(left))
    read = [[np.asarray(arrays[part[r]]()) if r in part else None for r in "xy"] for part in chosen(where, found)]
    return [(x, y if y is None or y.ndim < 3 else y.reshape(len(y), -1)) for x, y in read], classes  # (N, 1, 1, 1)


def _arrays(files: list[Path], opened: ExitStack) -> Mapping[str, Callable[[], np.ndarray]]:
    """What reads each array of the files, which stay open as long as `opened`. Of several files, the names say which
    part they are of, and which array is in those that hold one alone."""
    arrays = {}
    for file in files:
        stored, part = opened.enter_context(reading.opened(file)), split_of(file.stem) if len(files) > 1 else None
        role = [word for word in re.split("[^a-z]+", file.stem.lower()) if word in X | Y][:1]
        alone = "/".join(filter(None, [split_of(file.stem), *role])) if role else file.stem
        if kind_of(file.name) == "hdf5":
            h5py = extra("h5py", "hdf5")
            content = opened.enter_context(h5py.File(stored, "r"))
            keys = []
            content.visit(keys.append)
            items = {key: content[key] for key in keys if isinstance(content[key], h5py.Dataset)}
            if matlab := [key for key, item in items.items() if "MATLAB_class" in item.attrs]:
                x = f'h5py.File(...)["{max(matlab, key=lambda key: items[key].ndim)}"][()].swapaxes(-1, -2)'
                way = f"in Python give alikit.load((x, y)) with x = {x}, and labels with .ravel()"
                raise AlikitError(f"{file} is MATLAB's, with axes reversed, so pictures would lie on their side: {way}")
            is_text = {key: h5py.check_string_dtype(item.dtype) for key, item in items.items()}
            found = {key: partial((i.asstr() if is_text[key] else i).__getitem__, ()) for key, i in items.items()}
        elif isinstance(content := np.load(stored, allow_pickle=False), np.ndarray):
            part, found = None, {alone: partial(np.asarray, content)}
        elif [*content] == ["arr_0"] and len(files) > 1:  # as numpy calls an array without a name
            part, found = None, {alone: partial(content.__getitem__, "arr_0")}
        else:
            found = {key: partial(content.__getitem__, key) for key in content}
        found = {f"{part}/{key}" if part else key: read for key, read in found.items()}
        if arrays.keys() & found:
            raise AlikitError(
                f"{file.parent} has several files, and which belong together is unknown: name one of them"
            )
        arrays |= found
    return arrays


# MNIST's format.


def _idx(path: Path, files: list[Path]) -> tuple[Examples, list[str]]:
    if path.is_file():  # the others of its kind lie beside it
        prefix = KINDS["idx"].fullmatch(path.name)["prefix"]
        files = [file for file in path.parent.iterdir() if KINDS["idx"].fullmatch(file.name)]
        files = [file for file in files if KINDS["idx"].fullmatch(file.name)["prefix"] == prefix]
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(files, reverse=True):  # an unpacked file is read rather than the packed one of that name
        match = KINDS["idx"].fullmatch(file.name)
        found.setdefault((file.parent, match["prefix"] or ""), {})[match["split"].lower() + match["role"]] = file
    if len(found) > 1:
        some = ", ".join(sorted(str(file) for group in found.values() for file in group.values())[:2])
        raise AlikitError(f"{path} has several sets ({some}, ...): name one of these files")
    (_, prefix), group = found.popitem()
    parts = {}
    for split in ("train", "test", "t10k"):
        if f"{split}images" in group:
            if f"{split}labels" not in group:
                raise AlikitError(f"{group[f'{split}images']} has no file of labels beside it: put it there")
            parts["train" if split == "train" else "test"] = (
                _read_idx(group[f"{split}images"], 3),
                _read_idx(group[f"{split}labels"], 1),
            )
    parts, classes = chosen(path, parts), []
    emnist = re.search("emnist-([a-z]+)", prefix, re.I)
    if emnist:
        parts, classes = upright(parts, emnist[1].lower())
    return parts, classes


def upright(parts: Examples, split: str) -> tuple[Examples, list[str]]:
    """EMNIST's pictures (N, H, W) upright, which NIST stores on their side; labels from 0; and the names of classes."""
    from torchvision.datasets import EMNIST

    classes = EMNIST.classes_split_dict.get(split, [])
    first = classes[:1] == ["N/A"]  # NIST counts letters from 1
    return [(x.swapaxes(1, 2), y - int(first)) for x, y in parts], classes[first:]


def _read_idx(file: Path, sides: int) -> np.ndarray:
    """Bytes; or QMNIST's labels, of whose eight columns of 32 bits the first is the class."""
    with reading.boundary(file, "fetch it again"), reading.opened(file) as stored:
        content = gzip.GzipFile(fileobj=stored) if file.suffix.lower() == ".gz" else stored
        of_qmnist = (head := content.read(4)) == bytes([0, 0, 12, 2])
        if head != bytes([0, 0, 8, sides]) and not of_qmnist:
            raise ValueError("no bytes of that many sides")
        shape = np.frombuffer(content.read(4 * head[3]), ">u4").tolist()
        if (size := math.prod(shape) * (4 if of_qmnist else 1)) > LARGEST:
            raise ValueError("larger than any such file")
        values = np.frombuffer(bytearray(content.read(size + 1)), ">i4" if of_qmnist else np.uint8).reshape(shape)
        return values[:, 0] if of_qmnist else values
