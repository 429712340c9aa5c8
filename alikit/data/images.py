"""Any folder of pictures, decoded once, kept as uint8 and cached as one file that is safe to load."""

import contextlib
import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from ..errors import AlikitError
from .dataset import Dataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
HELD_OUT_NAMES = ("test", "val", "valid", "validation")
CACHE = ".alikit-cache"

log = logging.getLogger("alikit")


def image_folder(
    root: str | Path, split: str = "train", size: int | None = None, skip_corrupt: bool = False
) -> Dataset:
    """A folder of class folders, `root/<class>/<picture>`, or `root/<split>/<class>/<picture>` where root has splits.

    Returns x (N, 3, H, W) uint8. Classes are the folder names in alphabetical order; if pictures lie straight in the
    folder there are none. With `size` each picture is resized on its shorter side and centre-cropped to size x size
    when the cache is made; without it all must share one size. Files that are no readable pictures are named in one
    error, or left out and counted with `skip_corrupt`.

    Raises AlikitError for a missing or empty folder, mixed sizes, and unreadable files.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise AlikitError(f"no folder {root}: check the path, or unpack the archive first")
    if size is not None and size < 1:
        raise AlikitError(f"cannot make pictures of size {size}: choose at least 1 pixel")
    folder = _split_folder(root, split)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise AlikitError(f"no pictures in {folder}: expected class folders holding files such as .jpg or .png")
    cache = _cache_folder(root) / f"{split}-{size or 'as-is'}-{_listing(folder, files)}.safetensors"
    x, labels, known = _read(cache) or _build(cache, folder, files, size, skip_corrupt)
    if known["unreadable"] and not skip_corrupt:
        raise _unreadable(known["unreadable"])
    if known["unreadable"]:
        log.warning("left out %d of %d files that are no readable pictures", len(known["unreadable"]), len(files))
    return Dataset(f"folder:{root.name}", x, labels if known["classes"] else None, tuple(known["classes"]))


def has_held_out(root: str | Path) -> str | None:
    """The name of the folder's own held-out split, if it has one beside `train`."""
    root = Path(root).expanduser()
    names = [name for name in HELD_OUT_NAMES if (root / name).is_dir()]
    return names[0] if names and (root / "train").is_dir() else None


def _split_folder(root: Path, split: str) -> Path:
    if (root / split).is_dir():
        return root / split
    if split == "train":
        return root
    raise AlikitError(f"no split {split!r} in {root}: expected a folder {split}/ with class folders inside")


def _cache_folder(root: Path) -> Path:
    """$ALIKIT_CACHE if set, else beside the pictures, else (a read-only folder) the user's cache directory."""
    if chosen := os.environ.get("ALIKIT_CACHE"):
        return Path(chosen)
    if os.access(root, os.W_OK):
        return root / CACHE
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alikit"


def _listing(folder: Path, files: list[Path]) -> str:
    """A fingerprint of names, sizes and times: when a picture is added, changed or removed the cache is made anew."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _read(cache: Path) -> tuple[torch.Tensor, torch.Tensor, dict] | None:
    try:
        with safe_open(cache, framework="pt") as stored:
            return stored.get_tensor("x"), stored.get_tensor("labels"), json.loads(stored.metadata()["alikit"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None  # absent, or damaged: it holds nothing that the pictures do not, so it is made again


def _decode(file: Path, size: int | None) -> np.ndarray | None:
    """(H, W, 3) uint8, or None where the file is no readable picture."""
    try:
        with Image.open(file) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):  # 16 bits of grey, which PIL would clip instead of scale
                picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
            if picture.has_transparency_data:  # what lies under transparent pixels was never meant to be seen
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            picture = picture.convert("RGB")
            if size is not None:
                picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
            return np.asarray(picture)
    except Exception:  # a damaged file can make a decoder raise nearly anything
        return None


def _build(cache: Path, folder: Path, files: list[Path], size: int | None, skip_corrupt: bool):
    """Decodes every file once and writes the cache whole or not at all."""
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda file: _decode(file, size), files, chunksize=64)
        pictures = list(
            tqdm(decoded, total=len(files), desc=f"reading {folder.name}", unit=" pictures", leave=False, disable=None)
        )
    unreadable = [str(file) for file, picture in zip(files, pictures, strict=True) if picture is None]
    kept = [(file, picture) for file, picture in zip(files, pictures, strict=True) if picture is not None]
    if unreadable and not skip_corrupt:
        raise _unreadable(unreadable)
    if not kept:
        raise AlikitError(f"no readable picture in {folder}: all {len(files)} files are damaged")
    shapes = sorted({picture.shape[1::-1] for _, picture in kept})
    if len(shapes) > 1:
        some = ", ".join(f"{w}x{h}" for w, h in shapes[:3]) + (", ..." if len(shapes) > 3 else "")
        raise AlikitError(
            f"pictures in {folder} come in {len(shapes)} sizes ({some}): choose one for all with --size N (size=N)"
        )
    places = [file.relative_to(folder).parts for file, _ in kept]
    classes = sorted({parts[0] for parts in places if len(parts) > 1})
    if any(len(parts) == 1 for parts in places):
        classes = []  # a picture outside every class folder: then there are no classes to speak of
    x = torch.from_numpy(np.stack([picture for _, picture in kept])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([classes.index(parts[0]) if classes else -1 for parts in places])
    known = {"classes": classes, "unreadable": unreadable}
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
    return x, labels, known


def _unreadable(files: list[str]) -> AlikitError:
    some = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return AlikitError(f"{len(files)} files are no readable pictures ({some}): mend them, or use --skip-corrupt")
