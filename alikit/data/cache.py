"""What was decoded once, kept as one safetensors file: whole or absent, safe to load, remade when a source changes."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FOLDER = ".alikit-cache"

log = logging.getLogger("alikit")

Known = dict[str, list]  # what is not a tensor: names of classes, files that could not be read
Kept = tuple[Tensor, Tensor, Known]  # x, labels, what is known


def cached(root: Path, name: str, sources: Iterable[Path], build: Callable[[], Kept]) -> Kept:
    """What `build` returns, from the cache where the sources, files below `root`, are as they were when it was made.

    The cache lies in $ALIKIT_CACHE if set, else beside the sources, else (a read-only folder) in the user's cache
    directory. Where it cannot be written, a warning says so and nothing else changes.
    """
    cache = _folder(root) / f"{name}-{_listing(root, sources)}.safetensors"
    if (kept := _read(cache)) is None:
        kept = build()
        _write(cache, kept)
    return kept


def _folder(root: Path) -> Path:
    if chosen := os.environ.get("ALIKIT_CACHE"):
        return Path(chosen)
    if os.access(root, os.W_OK):
        return root / FOLDER
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"


def _listing(root: Path, sources: Iterable[Path]) -> str:
    """A fingerprint of names, sizes and times: when a source is added, changed or removed the cache is made anew."""
    digest = hashlib.sha256(os.fsencode(root.resolve()))
    for file in sources:
        stat = file.stat()
        digest.update(os.fsencode(file.relative_to(root)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _read(cache: Path) -> Kept | None:
    try:
        with safe_open(cache, framework="pt") as stored:
            return stored.get_tensor("x"), stored.get_tensor("labels"), json.loads(stored.metadata()["alikit"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None  # absent, or damaged: it holds nothing that the sources do not, so it is made again


def _write(cache: Path, kept: Kept) -> None:
    x, labels, known = kept
    partial = cache.with_suffix(f".{os.getpid()}.partial")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": x, "labels": labels}, partial, metadata={"alikit": json.dumps(known)})
        os.replace(partial, cache)
    except (OSError, SafetensorError) as error:
        log.warning("no cache written (%s): the pictures are decoded again next time", error)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
