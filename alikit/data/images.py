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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import accumulate, chain, compress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import reading
from ..errors import AlikitError, expanded
from .dataset import Dataset
from .decoding import ASSUMED, TO_CONVERT, Picture, decode, ending_of, is_picture, square, white_of

READ_AT_ONCE = 4096  # pictures; with a million files, one queue for all would fill the memory
LARGEST = 2**31  # bytes of a file: SVHN's extra split has 1.3 GB. To count a checksum of more could take hours
SOME = 9  # files of other kinds in a folder: enough to say what they are
FOLDER, FORMAT = ".alikit-cache", b"4"
# What systems and their programs put into folders.
JUNK = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information", "__pycache__"}

# Writing to a mapped picture changes pages of one's own, never the file. Linux refuses such a map of a file larger than
# the memory unless it need not reserve memory for those pages; Python has a name for that flag since 3.13.
PRIVATE = {"access": mmap.ACCESS_COPY}
if sys.platform == "linux":
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
    PRIVATE = {"flags": flags, "prot": mmap.PROT_READ | mmap.PROT_WRITE}

log = logging.getLogger("alikit")
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # alikit itself reports pictures that cannot be read, once


class Listed(NamedTuple):
    """Pictures before they are decoded."""

    names: Sequence  # of their files
    labels: Tensor  # (N,) int64 or (N, A) uint8
    classes: Sequence[str]  # names of the classes or attributes, none where there are no labels
    decode: Callable[..., Picture | None] | None = None  # of a name, and of what white is where that must be found


def existing(root: str | Path) -> Path:
    root = expanded(root)
    if not root.is_dir():
        raise AlikitError(f"no folder {root}: check the path, or unpack the archive first")
    return root


def walk(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The names of all pictures below a folder, sorted folder by folder; and each folder, with the other files that lie
    directly in it, or SOME of them. Hidden ones and JUNK are passed over. Links are followed, as data sets are often
    made of them; a folder that several links lead to is entered once."""

    def failed(error: OSError) -> None:
        raise AlikitError(f"cannot look into {error.filename} ({error.strerror}): make that possible, or move it")

    found, passed, entered = [], {}, set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=failed):
        if (here := os.path.realpath(place)) in entered:
            folders.clear()
            above = os.path.realpath(os.path.dirname(place))
            if not os.path.join(above, "").startswith(os.path.join(here, "")):  # no mere circle
                log.warning("left out %s, a link to a folder that is read already", place)
            continue
        entered.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in JUNK)
        below = (os.path.relpath(place, root).replace(os.sep, "/") + "/").removeprefix("./")
        visible, start = [name for name in files if not name.startswith(".")], os.path.join(place, "")
        pictures = [name for name in visible if is_picture(start + name)]
        passed[below] = sorted({*visible} - {*pictures})[:SOME]
        found += [below + name for name in pictures]
    return sorted(found, key=lambda name: os.path.normcase(name).replace(os.sep, "\0")), passed


def picture_files(folder: Path) -> list[str]:
    """The names of all pictures below a folder, as `walk` finds them."""
    return walk(folder)[0]


def divided(listed: Listed, below: str) -> list[Listed]:
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


def read_parts(
    title: str,
    root: Path,
    key: str,
    parts: Sequence[Listed],
    size: int | None,
    skip_corrupt: bool,
    white: float | None = None,
    splits: str | None = None,
    tables: Sequence[str] = (),
    channels: int = 0,
) -> list[Dataset]:
    """The parts, as slices of one cache: a copy might not fit into memory."""
    if white is not None and not 0 < white < math.inf:
        raise AlikitError(f"white is {white}: give the brightest value of the pictures, as --white 4095 (white=4095)")
    fit, names = square(size), [name for part in parts for name in part.names]
    classes = parts[0].classes if all(part.classes for part in parts) else []
    labels = torch.cat([part.labels for part in parts]) if classes else torch.zeros(len(names), dtype=torch.int64)
    whole = Listed(names, labels, classes, lambda name, white=white: decode(os.path.join(root, name), fit, white))
    key = f"{key}-{size or 'as-is'}" + (f"-white-{white:.17g}" if white else "")
    key += f"-{hashlib.sha256(os.fsencode(splits)).hexdigest()[:8]}" if splits else ""
    data, unreadable = read_pictures(title, root, key, [*tables, *names], lambda: whole, skip_corrupt, channels)
    lengths = [sum(name not in unreadable for name in part.names) for part in parts]
    if not all(lengths):
        raise AlikitError(f"{root} has {len(data)} readable pictures: add some, to train on and to hold out")
    return [data.select(slice(end - n, end)) for n, end in zip(lengths, accumulate(lengths), strict=True)]


def read_pictures(
    title: str,
    root: Path,
    key: str,
    sources: Iterable[str],
    listed: Callable[[], Listed],
    skip_corrupt: bool = False,
    channels: int = 0,
) -> tuple[Dataset, set[str]]:
    """The data set `title` of the listed pictures, and the names of those that cannot be read.

    They are decoded once and then read from the cache `key`, until one of `sources`, files below root, is changed,
    added or removed. The cache lies in $ALIKIT_CACHE if set, else beside the pictures, else (a read-only folder) in the
    user's cache directory. Several processes may read the same pictures: one writes the cache, the others wait. They
    have at least `channels`, and 3 as soon as one of them has colours.

    Raises AlikitError for mixed sizes, for an unknown range of values, for unreadable files unless `skip_corrupt`, and
    where no cache can be written.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"
    folder = Path(os.environ.get("ALIKIT_CACHE") or (root / FOLDER if os.access(root, os.W_OK) else home))
    where = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]  # several roots may share a folder
    file, state = folder / f"{key}-{where}.cache", hashlib.sha256(FORMAT)
    start = os.path.join(root, "")  # of a million names, joining each would be noticed
    try:
        for name in sources:
            try:
                about = os.stat(start + name)
            except FileNotFoundError:  # a link to nothing; of what is not even that, this raises
                about = os.lstat(start + name)
            if about.st_size > LARGEST:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), start + name)
            seen = about.st_size, about.st_mtime_ns, about.st_mode  # the last one, as who may read it may change
            state.update(os.fsencode(name) + f"\0{seen}\n".encode())
    except OSError as error:
        raise AlikitError(f"cannot read {error.filename} ({error.strerror}): mend or remove it") from None
    kept = known = _opened(file, state.digest())
    if not kept:
        try:
            _make(file, state.digest(), lambda out: _write(out, state.digest(), listed(), root, channels))
            if not (kept := _opened(file, state.digest())):
                raise OSError("it cannot be read back")
        except (OSError, NotImplementedError) as error:  # the latter where a network disk has no locks
            why = getattr(error, "strerror", None) or error
            raise AlikitError(f"cannot write {file} ({why}): name a folder that has room by ALIKIT_CACHE") from None
    x, labels, classes, unreadable, (files, pages) = kept
    if unreadable:
        total, (some, way) = len(x) + len(unreadable), _told(root, unreadable)
        if not skip_corrupt or not len(x):
            with suppress(OSError):  # nothing is left of a refused folder; a cache that another call uses stays
                if not known:
                    file.unlink()
                    file.parent.rmdir()
            if skip_corrupt:
                raise AlikitError(f"no readable picture in {root}: all {total} files are unreadable ({some}): {way}")
            way += ", or use --skip-corrupt (skip_corrupt=True)"
            raise AlikitError(f"{len(unreadable)} of {total} files are no readable pictures ({some}): {way}")
        log.warning("left out %d of %d files that are no readable pictures: %s", len(unreadable), total, some)
    if files:
        log.warning("%d files in %s have %d further pages or frames, which are left out", files, root, pages)
    data = Dataset(title, x, channels="first", scale=(0, 255))
    return data.but(labels=labels if classes else None, classes=classes), {*unreadable}


def _told(root: Path, unreadable: Sequence[str]) -> tuple[str, str]:
    """Which files cannot be read, and what can be done."""
    kinds = Counter(ending for name in unreadable if (ending := ending_of(name)) in TO_CONVERT)
    damaged = sorted(name for name in unreadable if ending_of(name) not in TO_CONVERT)
    some = [f"{n} {ending}" for ending, n in sorted(kinds.items())] + [str(root / name) for name in damaged[:3]]
    way = "convert them" if not damaged else "convert, mend or remove them" if kinds else "mend or remove them"
    return ", ".join(some + ["..."] * (len(damaged) > 3)), way


def _make(file: Path, state: bytes, write: Callable[[BinaryIO], None]) -> None:
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
                with open(partial, "w+b") as out:
                    write(out)
                    out.flush()
                    os.fsync(out.fileno())  # on the disk before the name is: a power cut may come between
                os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
            with suppress(OSError):  # the folder is seldom empty
                os.unlink(lock.lock_file)
                file.parent.rmdir()


class _Pixels:
    """The beginning of a cache: pictures of one size, grey until the first one that has colours."""

    def __init__(self, out: BinaryIO, total: int, channels: int):
        self.out, self.total, self.channels, self.written, self.first = out, total, channels, 0, None

    def add(self, name: str, pixels: np.ndarray) -> None:
        self.first = self.first or (name, pixels.shape[:2])
        if pixels.shape[:2] != self.first[1]:
            one, other = (f"{name} is {w}x{h}" for name, (h, w) in (self.first, (name, pixels.shape[:2])))
            raise AlikitError(f"{one}, {other}: choose one size for all with --size N (size=N)")
        if not self.written or pixels.shape[2] > self.channels:
            self._widen(max(self.channels, pixels.shape[2]), math.prod(pixels.shape[:2]))
        self.out.write(self._planes(pixels))
        self.written += 1

    def replace(self, at: int, pixels: np.ndarray) -> None:
        self.out.seek(at * self.channels * math.prod(self.first[1]))
        self.out.write(self._planes(pixels))

    def _planes(self, pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.broadcast_to(pixels, (*self.first[1], self.channels)).transpose(2, 0, 1))

    def _widen(self, channels: int, size: int) -> None:
        """Makes room for more channels: the grey pictures so far are written again, beginning with the last."""
        if shutil.disk_usage(Path(self.out.name).parent).free < self.total * channels * size - self.out.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, and not after hours
        for at in reversed(range(self.written)):
            self.out.seek(at * size)
            grey = self.out.read(size)
            self.out.seek(at * channels * size)
            self.out.write(channels * grey)
        self.channels = channels
        self.out.seek(self.written * channels * size)


def _write(out: BinaryIO, state: bytes, listed: Listed, root: Path, channels: int) -> None:
    names, labels, classes, decode = listed
    readable, end, paged = torch.zeros(len(names), dtype=torch.bool), io.BytesIO(), [0, 0]
    pixels, deep = _Pixels(out, len(names), channels), {}  # of each kind of deep pictures: where each is, and its top
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:

        def decoded(names: Sequence, **how) -> Iterator[Picture | None]:
            batches = (names[begin : begin + READ_AT_ONCE] for begin in range(0, len(names), READ_AT_ONCE))
            each = chain.from_iterable(pool.map(partial(decode, **how), batch) for batch in batches)
            return tqdm(each, "reading pictures", len(names), unit=" pictures", leave=False, disable=None)

        for at, picture in enumerate(decoded(names)):
            if picture is None:
                continue
            if picture.wrong:
                raise AlikitError(f"{root / names[at]} {picture.wrong}")
            if picture.deep:
                deep.setdefault(picture.deep, []).append((pixels.written, at, picture.top))
            paged = [paged[0] + (picture.pages > 1), paged[1] + picture.pages - 1]
            pixels.add(names[at], picture.pixels)
            readable[at] = True
        for kind, found in deep.items():
            white = white_of(kind, max(top for *_, top in found), root)
            if white != ASSUMED.get(kind, white):
                again = decoded([names[at] for _, at, _ in found], white=white)
                for (place, at, _), picture in zip(found, again, strict=True):
                    if picture is None or picture.wrong:
                        raise AlikitError(f"{root / names[at]} changed while it was read: load it again")
                    pixels.replace(place, picture.pixels)
        out.seek(0, os.SEEK_END)
    np.savez(
        end,
        shape=(pixels.written, pixels.channels or 3, *(pixels.first[1] if pixels.first else (0, 0))),
        labels=labels[readable].numpy(),
        classes=np.array([*classes], dtype=str),
        unreadable=np.array([*compress(names, ~readable)], dtype=str),
        paged=paged,
    )
    out.write(end.getvalue() + len(end.getvalue()).to_bytes(8) + hashlib.sha256(state + end.getvalue()).digest())


def _opened(file: Path, state: bytes) -> tuple | None:
    """x, labels, classes, the names of unreadable files, and the numbers of files with several pages and of pages left
    out; None where the cache is missing, damaged or out of date."""
    with suppress(Exception), reading.opened(file) as stored:
        content = mmap.mmap(stored.fileno(), 0, **PRIVATE)
        end = memoryview(content)[-40 - int.from_bytes(content[-40:-32]) : -40]
        found = hashlib.sha256(state)
        found.update(end)
        about = np.load(io.BytesIO(end)) if found.digest() == content[-32:] else {}
        if about and len(content) == math.prod(about["shape"].tolist()) + len(end) + 40:
            x = torch.from_numpy(np.ndarray(tuple(about["shape"]), np.uint8, content))
            texts = (tuple(about[name].tolist()) for name in ("classes", "unreadable", "paged"))
            return x, torch.from_numpy(about["labels"]), *texts
    return None
