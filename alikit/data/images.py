"""Pictures on a disk: found, decoded once, and kept in one memory-mapped file.

The cache is written whole or not at all, and made anew when a picture changes. It holds the pictures as raw bytes and
after them what `numpy.savez` writes: their shape, labels and classes. Memory need not hold all pictures at once.
Files go by their names, as text, from a folder on: a million `Path` objects would be some hundred MB.
"""

import hashlib
import io
import logging
import math
import mmap
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, compress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from .. import reading
from ..errors import AlikitError
from .dataset import Dataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
READ_AT_ONCE = 4096  # pictures; with a million files, one queue for all would fill the memory
FOLDER, FORMAT = ".alikit-cache", b"2"

# Writing to a mapped picture changes pages of one's own, never the file. Linux refuses such a map of a file larger than
# the memory, unless it is told to set no memory aside for those pages; Python names that flag since 3.13.
PRIVATE = {"access": mmap.ACCESS_COPY}
if sys.platform == "linux":
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
    PRIVATE = {"flags": flags, "prot": mmap.PROT_READ | mmap.PROT_WRITE}

log = logging.getLogger("alikit")
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # whether a picture can be read is ours to say, once

Fit = Callable[[Image.Image], Image.Image]
Kept = tuple[Tensor, Tensor, tuple[str, ...], tuple[str, ...]]  # x, labels, classes, names of unreadable files


class Listed(NamedTuple):
    """Pictures before they are decoded.

    names    of their files
    labels   (N,) int64 or (N, A) uint8
    classes  names of the classes or attributes, none where there are no labels
    decode   makes (H, W, C) uint8 of a name, or None of a file that is no readable picture
    """

    names: Sequence
    labels: Tensor
    classes: Sequence[str]
    decode: Callable[..., np.ndarray | None] | None = None


def picture_files(folder: Path) -> list[str]:
    """The names of all pictures below a folder, sorted folder by folder, hidden ones left out. Links are followed, as
    data sets are often put together of them; a folder to which several lead is entered once."""

    def failed(error: OSError) -> None:
        raise AlikitError(f"cannot look into {error.filename} ({error.strerror}): make that possible, or move it")

    found, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=failed):
        if (here := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(place, folder).replace(os.sep, "/") + "/"
        for name in files:
            is_picture = os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
            if is_picture and os.path.isfile(os.path.join(place, name)):
                found.append((below + name).removeprefix("./"))
    return sorted(found, key=lambda name: os.path.normcase(name).replace(os.sep, "\0"))


def square(size: int | None) -> Fit | None:
    """Resizes a picture on its shorter side and crops its centre to size x size; None leaves it as it is."""
    if size is not None and size < 1:
        raise AlikitError(f"cannot make pictures of size {size}: choose at least 1 pixel")
    return size and (lambda picture: ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def decode(file: str | BinaryIO, fit: Fit | None) -> np.ndarray | None:
    """(H, W, 3) uint8, or None where the file is no readable picture."""
    with suppress(Exception), Image.open(file) as picture:  # a damaged file can make a decoder raise nearly anything
        if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:  # a few KB may say it is a GB
            return None
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":  # in whose unit nobody knows: PIL would cut off at 255
            return None
        if picture.mode.startswith("I"):  # 16 bits of grey, which PIL would clip instead of scale
            picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
        if picture.has_transparency_data:  # what lies under transparent pixels was never meant to be seen
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("RGB")
        return np.asarray(fit(picture) if fit else picture)
    return None


def read_pictures(
    title: str, root: Path, key: str, sources: Iterable[str], listed: Callable[[], Listed], skip_corrupt: bool = False
) -> tuple[Dataset, set[str]]:
    """The data set `title` of the pictures that are listed, and the names of those that could not be read.

    They are decoded once and then read from the cache `key`, until one of `sources`, files named from `root` on, is
    changed, added or removed. The cache lies in $ALIKIT_CACHE if set, else beside the pictures, else (a read-only
    folder) in the user's cache directory. Several processes may ask for it at once: one writes it, the others wait.
    Where it cannot be written, a warning says so and x is held in memory.

    Raises AlikitError for mixed sizes, for unreadable files unless `skip_corrupt`, and for more than memory can hold.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"
    folder = Path(os.environ.get("ALIKIT_CACHE") or (root / FOLDER if os.access(root, os.W_OK) else home))
    where = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]  # several roots may share a folder
    state = hashlib.sha256(FORMAT)
    try:
        for name in sources:
            about = os.stat(os.path.join(root, name))
            state.update(os.fsencode(name) + f"\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    except OSError as error:
        raise AlikitError(f"cannot read {error.filename} ({error.strerror}): put it right") from None

    def check(unreadable: Sequence, total: int) -> None:
        if unreadable and not skip_corrupt:
            way = "mend or remove them, or use --skip-corrupt (skip_corrupt=True)"
            raise AlikitError(
                f"{len(unreadable)} of {total} files are no readable pictures ({some(unreadable)}): {way}"
            )
        if len(unreadable) == total:
            raise AlikitError(f"no readable picture in {root}: all {total} files are damaged ({some(unreadable)})")

    def some(names: Sequence) -> str:
        return ", ".join(str(root / name) for name in sorted(names)[:3]) + ", ..." * (len(names) > 3)

    x, labels, classes, unreadable = _cached(folder / f"{key}-{where}.cache", state.hexdigest(), listed, check)
    if unreadable:
        check(unreadable, total := len(x) + len(unreadable))
        log.warning(
            "left out %d of %d files that are no readable pictures: %s", len(unreadable), total, some(unreadable)
        )
    return Dataset(title, x, labels if classes else None, classes), {*unreadable}


def _cached(file: Path, state: str, listed: Callable[[], Listed], check: Callable[[Sequence, int], None]) -> Kept:
    """What the file holds; where it is not there, or of another state of the sources, it is made first."""
    if kept := _opened(file, state):
        return kept
    partial = file.with_suffix(".partial")  # a killed process's is written over
    try:
        from filelock import FileLock, Timeout  # takes a moment to import, and is needed only here

        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.parent / f".{file.stem}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process is reading these pictures into %s: waiting for it", file)
            held = lock.acquire()
        with held:
            try:
                if kept := _opened(file, state):  # another process has made it meanwhile
                    return kept
                with open(partial, "wb") as out:
                    _write(out, state, listed(), lambda size: shutil.disk_usage(file.parent).free > size, check)
                    out.flush()
                    os.fsync(out.fileno())  # on the disk before the name is: a power cut may come between
                os.replace(partial, file)
                if kept := _opened(file, state):
                    return kept
            finally:
                partial.unlink(missing_ok=True)
                with suppress(OSError):  # seldom is the folder empty
                    os.unlink(lock.lock_file)
                    file.parent.rmdir()
        raise OSError(f"{file} cannot be read back")
    except (OSError, NotImplementedError) as error:  # the latter where a disk of the network knows no locks
        way = "name a folder that has room by ALIKIT_CACHE"
        held = "the pictures are held in memory, and decoded again next time"
        log.warning("no cache written (%s): %s; %s", error, held, way)
        try:
            out = io.BytesIO()
            _write(out, state, listed(), lambda size: np.empty(size, np.uint8).size == size, check)
            return _parsed(out, out.getbuffer(), state)
        except MemoryError:
            raise AlikitError(f"the pictures are larger than the memory, and no cache was written: {way}") from None


def _write(
    out: BinaryIO,
    state: str,
    listed: Listed,
    has_room: Callable[[int], bool],
    check: Callable[[Sequence, int], None],
) -> None:
    names, labels, classes, decode = listed
    readable, first = torch.zeros(len(names), dtype=torch.bool), None
    batches = (names[begin : begin + READ_AT_ONCE] for begin in range(0, len(names), READ_AT_ONCE))
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        decoded = chain.from_iterable(pool.map(decode, batch) for batch in batches)
        bar = tqdm(decoded, "reading pictures", len(names), unit=" pictures", leave=False, disable=None)
        for at, picture in enumerate(bar):
            if picture is None:
                continue
            if first is None:
                first = names[at], picture.shape
                if not has_room(len(names) * picture.size):  # now, and not with a full disk after hours
                    raise OSError("No space left for them")
            if picture.shape != first[1]:
                one, other = (f"{name} is {w}x{h}" for name, (h, w, _) in (first, (names[at], picture.shape)))
                raise AlikitError(f"{one}, {other}: choose one size for all with --size N (size=N)")
            out.write(np.ascontiguousarray(picture.transpose(2, 0, 1)))
            readable[at] = True
    unreadable = [*compress(names, ~readable)]
    check(unreadable, len(names))
    height, width, channels = first[1]
    np.savez(
        out,
        state=np.array(state),
        shape=[int(readable.sum()), channels, height, width],
        labels=labels[readable].numpy(),
        classes=np.array([*classes], dtype=str),
        unreadable=np.array(unreadable, dtype=str),
    )


def _opened(file: Path, state: str) -> Kept | None:
    with suppress(Exception), reading.opened(file) as stored:  # a damaged file can make a reader raise nearly anything
        return _parsed(stored, mmap.mmap(stored.fileno(), 0, **PRIVATE), state)
    return None  # it holds nothing that the pictures do not, so it is made again


def _parsed(stored: BinaryIO, content: memoryview | mmap.mmap, state: str) -> Kept:
    """x as it lies in `content`; ValueError where the rest is not of this state, or does not fit it."""
    with NpzFile(stored) as about:
        if sum(part.file_size for part in about.zip.infolist()) > len(content):
            raise ValueError("it would unfold in memory")
        shape, labels, classes, unreadable = (about[name] for name in ("shape", "labels", "classes", "unreadable"))
        kind, most = {1: (np.int64, len(classes) or math.inf), 2: (np.uint8, 2)}[labels.ndim]  # classes, or attributes
        fits = labels.dtype == kind and ((labels >= 0) & (labels < most)).all()
        if about["state"] != state or not fits or labels.shape not in ((shape[0],), (shape[0], len(classes))):
            raise ValueError("of another state")
        size = math.prod(shape.tolist())
        if size != about.zip.infolist()[0].header_offset or {classes.dtype.kind, unreadable.dtype.kind} != {"U"}:
            raise ValueError("not ours")
    x = torch.frombuffer(content, dtype=torch.uint8, count=size).view(*shape.tolist())
    return x, torch.from_numpy(labels), tuple(classes.tolist()), tuple(unreadable.tolist())
