"""Pictures on a disk: found, decoded once, and kept in one memory-mapped file.

The cache is written whole or not at all, and made anew when a picture changes. It holds the pictures as raw bytes, then
what `numpy.savez` writes of their shape, labels and names, and a checksum of that. Memory need not hold all pictures at
once. File names are text: a million `Path` objects would take some hundred MB.
"""

import errno
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
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from .. import reading
from ..errors import AlikitError
from .dataset import Dataset

LARGEST_SIDE = 1024  # pixels a side that pictures can be resized to
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
READ_AT_ONCE = 4096  # pictures; with a million files, one queue for all would fill the memory
LARGEST = 2**31  # bytes of a file: SVHN's extra split has 1.3 GB. To count a checksum of more could take hours
FOLDER, FORMAT = ".alikit-cache", b"3"

# Writing to a mapped picture changes pages of one's own, never the file. Linux refuses such a map of a file larger than
# the memory unless it need not reserve memory for those pages; Python has a name for that flag since 3.13.
PRIVATE = {"access": mmap.ACCESS_COPY}
if sys.platform == "linux":
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
    PRIVATE = {"flags": flags, "prot": mmap.PROT_READ | mmap.PROT_WRITE}

log = logging.getLogger("alikit")
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # alikit itself reports pictures that cannot be read, once

Fit = Callable[[Image.Image], Image.Image]


class Listed(NamedTuple):
    """Pictures before they are decoded."""

    names: Sequence  # of their files
    labels: Tensor  # (N,) int64 or (N, A) uint8
    classes: Sequence[str]  # names of the classes or attributes, none where there are no labels
    decode: Callable[..., np.ndarray | None] | None = None  # (H, W, C) uint8 of a name, None if it is not readable


def picture_files(folder: Path) -> list[str]:
    """The names of all pictures below a folder, sorted folder by folder, without hidden ones. Links are followed, as
    data sets are often made of them; a folder that several links lead to is entered once."""

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
    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise AlikitError(f"cannot make pictures of size {size}: choose 1 to {LARGEST_SIDE:,} pixels a side")
    return size and (lambda picture: ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def decode(file: str | BinaryIO, fit: Fit | None) -> np.ndarray | None:
    """(H, W, 3) uint8, or None where the file is no readable picture."""
    with suppress(Exception), Image.open(file) as picture:  # a damaged file can make a decoder raise nearly anything
        if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:  # a few KB can claim to be a GB
            return None
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":  # of an unknown range, which PIL would cut off at 255
            return None
        if picture.mode.startswith("I"):  # 16 bits of grey, which PIL would clip instead of scale
            picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
        if picture.has_transparency_data:  # the colours of transparent pixels were never meant to be seen
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("RGB")
        return np.asarray(fit(picture) if fit else picture)
    return None


def read_pictures(
    title: str, root: Path, key: str, sources: Iterable[str], listed: Callable[[], Listed], skip_corrupt: bool = False
) -> tuple[Dataset, set[str]]:
    """The data set `title` of the listed pictures, and the names of those that cannot be read.

    They are decoded once and then read from the cache `key`, until one of `sources`, files below root, is changed,
    added or removed. The cache lies in $ALIKIT_CACHE if set, else beside the pictures, else (a read-only folder) in the
    user's cache directory. Several processes may read the same pictures: one writes the cache, the others wait.

    Raises AlikitError for mixed sizes, for unreadable files unless `skip_corrupt`, and where no cache can be written.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"
    folder = Path(os.environ.get("ALIKIT_CACHE") or (root / FOLDER if os.access(root, os.W_OK) else home))
    where = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]  # several roots may share a folder
    file, state = folder / f"{key}-{where}.cache", hashlib.sha256(FORMAT)
    try:
        for name in sources:
            about = os.stat(os.path.join(root, name))
            if about.st_size > LARGEST:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.path.join(root, name))
            seen = about.st_size, about.st_mtime_ns, about.st_mode  # the last one, as who may read it may change
            state.update(os.fsencode(name) + f"\0{seen}\n".encode())
    except OSError as error:
        raise AlikitError(f"cannot read {error.filename} ({error.strerror}): mend or remove it") from None
    kept = known = _opened(file, state.digest())
    if not kept:
        try:
            _make(file, state.digest(), listed)
            if not (kept := _opened(file, state.digest())):
                raise OSError("it cannot be read back")
        except (OSError, NotImplementedError) as error:  # the latter where a network disk has no locks
            why = getattr(error, "strerror", None) or error
            raise AlikitError(f"cannot write {file} ({why}): name a folder that has room by ALIKIT_CACHE") from None
    x, labels, classes, unreadable = kept
    if unreadable:
        total, some = len(x) + len(unreadable), ", ".join(str(root / name) for name in sorted(unreadable)[:3])
        some += ", ..." if len(unreadable) > 3 else ""
        if not skip_corrupt or not len(x):
            with suppress(OSError):  # nothing is left of a refused folder; a cache that another call uses stays
                if not known:
                    file.unlink()
                    file.parent.rmdir()
            if skip_corrupt:
                raise AlikitError(f"no readable picture in {root}: all {total} files are damaged ({some})")
            way = "mend or remove them, or use --skip-corrupt (skip_corrupt=True)"
            raise AlikitError(f"{len(unreadable)} of {total} files are no readable pictures ({some}): {way}")
        log.warning("left out %d of %d files that are no readable pictures: %s", len(unreadable), total, some)
    return Dataset(title, x, labels if classes else None, classes, channels="first", scale=(0, 255)), {*unreadable}


def _make(file: Path, state: bytes, listed: Callable[[], Listed]) -> None:
    """Writes the cache, unless another process does so first."""
    from filelock import FileLock, Timeout  # takes a moment to import, and is needed only here

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.parent / f".{file.stem}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is reading these pictures into %s: waiting for it", file)
        held = lock.acquire()
    partial = file.with_suffix(".partial")  # one that a killed process left is overwritten
    with held:
        try:
            if not _opened(file, state):
                with open(partial, "wb") as out:
                    _write(out, state, listed())
                    out.flush()
                    os.fsync(out.fileno())  # on the disk before the name is: a power cut may come between
                os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
            with suppress(OSError):  # the folder is seldom empty
                os.unlink(lock.lock_file)
                file.parent.rmdir()


def _write(out: BinaryIO, state: bytes, listed: Listed) -> None:
    names, labels, classes, decode = listed
    readable, first, end = torch.zeros(len(names), dtype=torch.bool), None, io.BytesIO()
    batches = (names[begin : begin + READ_AT_ONCE] for begin in range(0, len(names), READ_AT_ONCE))
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        decoded = chain.from_iterable(pool.map(decode, batch) for batch in batches)
        bar = tqdm(decoded, "reading pictures", len(names), unit=" pictures", leave=False, disable=None)
        for at, picture in enumerate(bar):
            if picture is None:
                continue
            if first is None:
                first = names[at], picture.shape
                if shutil.disk_usage(Path(out.name).parent).free < len(names) * picture.size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, and not after hours
            if picture.shape != first[1]:
                one, other = (f"{name} is {w}x{h}" for name, (h, w, _) in (first, (names[at], picture.shape)))
                raise AlikitError(f"{one}, {other}: choose one size for all with --size N (size=N)")
            out.write(np.ascontiguousarray(picture.transpose(2, 0, 1)))
            readable[at] = True
    height, width, channels = first[1] if first else (0, 0, 3)
    np.savez(
        end,
        shape=(int(readable.sum()), channels, height, width),
        labels=labels[readable].numpy(),
        classes=np.array([*classes], dtype=str),
        unreadable=np.array([*compress(names, ~readable)], dtype=str),
    )
    out.write(end.getvalue() + len(end.getvalue()).to_bytes(8) + hashlib.sha256(state + end.getvalue()).digest())


def _opened(file: Path, state: bytes) -> tuple[Tensor, Tensor, tuple[str, ...], tuple[str, ...]] | None:
    """x, labels, classes and the names of unreadable files; None where the cache is missing, damaged or out of date."""
    with suppress(Exception), reading.opened(file) as stored:
        content = mmap.mmap(stored.fileno(), 0, **PRIVATE)
        end = memoryview(content)[-40 - int.from_bytes(content[-40:-32]) : -40]
        found = hashlib.sha256(state)
        found.update(end)
        about = np.load(io.BytesIO(end)) if found.digest() == content[-32:] else {}
        if about and len(content) == math.prod(about["shape"].tolist()) + len(end) + 40:
            x = torch.from_numpy(np.ndarray(tuple(about["shape"]), np.uint8, content))
            labels = torch.from_numpy(about["labels"])
            return x, labels, tuple(about["classes"].tolist()), tuple(about["unreadable"].tolist())
    return None
