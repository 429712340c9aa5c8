"""What was decoded once, kept as one safetensors file: whole or absent, safe to load, remade when a source changes.

The file is written picture by picture and read through a memory map, so that neither holds all pictures in memory:
what is looked at is fetched from the file, and given back where memory is wanted for something else.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import mmap
import os
import secrets
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from .. import reading
from ..errors import AlikitError

FOLDER = ".alikit-cache"
FORMAT = "1"
HEAD = 4096  # bytes before the pictures: the header, padded, so that its length is known before they are
KINDS = {torch.int64: "I64", torch.uint8: "U8"}  # what safetensors calls the types that labels have

log = logging.getLogger("alikit")

Known = dict[str, list]  # what is not a tensor: names of classes, files that could not be read
Kept = tuple[Tensor, Tensor, Known]  # x, labels, what is known
Build = Callable[["Pictures"], tuple[Tensor, Known]]  # adds x, and returns the labels and what is known


def cached(root: Path, name: str, sources: Iterable[str], build: Build, known: tuple[str, ...]) -> Kept:
    """What `build` adds and returns, from the cache where the sources, files named from `root` on, are as they were
    when it was made; `known` is what names it is to know. x is mapped: writing to it changes neither the cache nor what
    others read from it.

    The cache lies in $ALIKIT_CACHE if set, else beside the sources, else (a read-only folder) in the user's cache
    directory. Where it cannot be written, a warning says so and x is held in memory; AlikitError where it is larger.
    """
    cache = _folder(root) / f"{name}-{_listing(root, sources)}.safetensors"
    if (kept := _read(cache, known)) is None:
        with _alone(cache, name):
            if (kept := _read(cache, known)) is None:  # nor did another process make it meanwhile
                with Pictures(cache) as pictures:
                    kept = pictures.kept(*build(pictures))
    return kept


class Pictures:
    """Pictures as they come, one after the other into the file that is to be the cache; into memory where none can be
    written, with all that came before. They are nowhere twice."""

    def __init__(self, cache: Path):
        # Not told by the process's number: containers that share a disk may all have the same.
        self._cache, self._partial = cache, cache.with_suffix(f".{secrets.token_hex(4)}.partial")
        self._file, self._memory, self._count, self._shape = None, None, 0, ()

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_) -> None:
        self._discard()

    def add(self, x: np.ndarray, most: int) -> None:
        """Some more pictures (n, C, H, W) uint8, of the same shape as those before; there will be `most` in all, or
        fewer."""
        if not self._count:
            self._shape = x.shape[1:]
            self._begin(most)
        if self._memory is None:
            try:
                self._write(np.ascontiguousarray(x))
            except OSError as error:
                self._to_memory(error, most)
        if self._memory is not None:
            self._memory[self._count : self._count + len(x)] = x
        self._count += len(x)

    def kept(self, labels: Tensor, known: Known) -> Kept:
        """All that was added, with its labels and what is known: the whole cache, read, or what is in memory."""
        if self._memory is None:
            try:
                self._end(labels, known)
                if kept := _read(self._cache):
                    return kept
                self._partial = self._cache  # nobody can use it
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            except OSError as error:
                self._to_memory(error, self._count)
        return torch.from_numpy(self._memory[: self._count]), labels, known

    def _begin(self, most: int) -> None:
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._cache.parent).free < HEAD + most * math.prod(self._shape):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, and not with a full disk after hours
            # Written, not mapped: on a full disk that is an error, where a memory map would end the process. And as
            # raw bytes, so that after an error what is in the file is known.
            self._file = open(self._partial, "xb", buffering=0)  # noqa: SIM115
            self._write(bytes(HEAD))
        except OSError as error:
            self._to_memory(error, most)

    def _write(self, content: bytes | np.ndarray) -> None:
        rest = memoryview(content).cast("B")
        while rest:  # a raw file may take less than it is offered
            rest = rest[self._file.write(rest) :]

    def _end(self, labels: Tensor, known: Known) -> None:
        """Writes what comes after the pictures, then the header before them, and gives the file its name."""
        x_size, kept = self._count * math.prod(self._shape), json.dumps(known).encode()
        kept += b" " * (-(x_size + len(kept)) % 8)  # labels of 8 bytes must begin at a multiple of 8
        self._write(kept)
        self._write(labels.contiguous().numpy())
        header, begin = {"__metadata__": {"format": FORMAT}}, 0
        for name, kind, shape, size in (
            ("x", "U8", (self._count, *self._shape), x_size),
            ("known", "U8", (len(kept),), len(kept)),
            ("labels", KINDS[labels.dtype], labels.shape, labels.nbytes),
        ):
            header[name] = {"dtype": kind, "shape": [*shape], "data_offsets": [begin, begin + size]}
            begin += size
        self._file.seek(0)
        self._write(struct.pack("<Q", HEAD - 8) + json.dumps(header).encode().ljust(HEAD - 8))
        os.fsync(self._file.fileno())  # on the disk before the name is: a power cut may come between
        self._file.close()
        os.replace(self._partial, self._cache)

    def _to_memory(self, error: OSError, most: int) -> None:
        try:
            self._memory = np.empty((most, *self._shape), np.uint8)
        except MemoryError:
            raise AlikitError(
                f"{most:,} pictures are larger than the memory, and no cache can be written ({error}): name a folder "
                "that has room by ALIKIT_CACHE"
            ) from None
        if self._count:
            with open(self._partial, "rb") as written:
                written.seek(HEAD)
                written.readinto(self._memory[: self._count])
        log.warning(
            "no cache written (%s): the pictures are held in memory, and decoded again next time; name a folder that "
            "has room by ALIKIT_CACHE",
            error,
        )
        self._discard()

    def _discard(self) -> None:
        if self._file:
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()


def _folder(root: Path) -> Path:
    if chosen := os.environ.get("ALIKIT_CACHE"):
        return Path(chosen)
    if os.access(root, os.W_OK):
        return root / FOLDER
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"


def _listing(root: Path, sources: Iterable[str]) -> str:
    """A fingerprint of names, sizes and times: when a source is added, changed or removed the cache is made anew."""
    digest = hashlib.sha256(os.fsencode(root.resolve()))
    for name in sources:
        try:
            stat = os.stat(os.path.join(root, name))
        except OSError as error:
            raise AlikitError(f"cannot read {os.path.join(root, name)} ({error.strerror}): put it right") from None
        digest.update(os.fsencode(name) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _alone(cache: Path, name: str) -> Iterator[None]:
    """Waits until no other process makes this cache, and keeps others waiting meanwhile: what one has decoded, the next
    can read. What killed ones left half-written of this or an older `name` is removed: of a million pictures that is a
    large file. Where no lock can be had, as in a folder that cannot be written, each makes its own."""
    from filelock import FileLock, Timeout  # takes a moment to import, and is wanted only where a cache is made

    def of(stem: str) -> FileLock:
        return FileLock(cache.with_name(f".{stem}.lock"))

    lock = of(cache.stem)
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process is reading these pictures into %s: waiting for it", cache)
            lock.acquire()
        for partial in cache.parent.glob(f"{name}-*.partial"):
            stem = partial.name.partition(".")[0]
            with contextlib.suppress(Timeout), contextlib.nullcontext() if stem == cache.stem else of(stem).acquire(0):
                partial.unlink()
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # seldom is the folder empty
                os.unlink(lock.lock_file)
                cache.parent.rmdir()
        lock.release()


def _read(cache: Path, names: tuple[str, ...] | None = None) -> Kept | None:
    """The cache, if it is one, and knows what it is to know."""
    try:
        reading.opened(cache).close()
        # As numpy's, for as torch's safetensors would map the file, and be refused where memory is smaller.
        with safe_open(cache, framework="np") as stored:
            if (stored.metadata() or {}).get("format", FORMAT) != FORMAT:
                return None
            x, known = stored.get_slice("x"), reading.parsed(stored.get_tensor("known").tobytes())
            labels, shape = torch.from_numpy(stored.get_tensor("labels")), x.get_shape()
            if names is not None and known.keys() != {*names}:
                return None
            if x.get_dtype() != "U8" or len(shape) != 4 or not _are_labels(labels, shape[0], known):
                return None
            return _mapped(cache, shape), labels, known
    except Exception:  # a damaged file can make a reader raise nearly anything
        return None  # absent, or damaged: it holds nothing that the sources do not, so it is made again


def _are_labels(labels: Tensor, n: int, known: Known) -> bool:
    """Whether these are of n pictures, and where classes or attributes are known, of those."""
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in known.values()):
        return False
    if labels.dtype not in KINDS or labels.ndim not in (1, 2) or len(labels) != n:
        return False
    classes = known.get("classes")
    if labels.ndim == 2:
        return classes is not None and labels.shape[1] == len(classes) and bool((labels <= 1).all())
    return not classes or bool(((labels >= -1) & (labels < len(classes))).all())


def _mapped(cache: Path, shape: list[int]) -> Tensor:
    """x as it lies in the file. What is written to it goes to pages of its own; that the system sets none aside for
    that is asked for, because it refuses a file larger than the memory otherwise. ValueError for another file's x."""
    with reading.opened(cache) as file:
        if file.read(8) != struct.pack("<Q", HEAD - 8):
            raise ValueError
        if json.loads(file.read(HEAD - 8))["x"]["data_offsets"][0] != 0:  # x is read from where ours begins
            raise ValueError
        if sys.platform == "linux":
            without_reserve = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
            place = mmap.mmap(file.fileno(), 0, flags=without_reserve, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            place = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(place, dtype=torch.uint8, count=math.prod(shape), offset=HEAD).view(shape)
