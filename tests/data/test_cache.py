"""The cache of decoded pictures: mapped and never copied whole, whole or absent, and never written back to."""

import gc
import hashlib
import io
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch
from PIL import Image

from alikit import runs
from alikit.data import Dataset, image_folder, images, load
from alikit.errors import AlikitError

N, SIZE = 60, (5, 3)  # 45 bytes a picture, so that nothing falls on a round number
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, or limits what Linux limits")


@pytest.fixture
def pets(paint, tmp_path) -> Path:
    """Picture i is of grey i; three in four are dogs."""
    for i in range(N):
        paint(f"pets/{'dog' if i % 4 else 'cat'}/{i}.png", (i, i, i), SIZE)
    return tmp_path / "pets"


def greys(data: Dataset) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def both(root: Path) -> list[list[int]]:
    return [greys(part) for part in load(f"folder:{root}")]


def caches(root: Path) -> list[Path]:
    """Whole ones. There are no others, now that all is done."""
    assert not [*root.rglob("*.partial")]
    return sorted(root.rglob("*.cache"))


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that are decoded from now on."""
    decode, files = images.decode, []
    monkeypatch.setattr(images, "decode", lambda file, *how: files.append(file) or decode(file, *how))
    return files


def sparse(file: Path, *shape: int) -> Dataset:
    """Black pictures in a cache that fills next to nothing of the disk, however many they are; ten classes in turn."""
    end = io.BytesIO()
    labels, classes = np.arange(shape[0]) % 10, np.array([*"abcdefghij"])
    np.savez(end, shape=shape, labels=labels, classes=classes, unreadable=np.array([], dtype=str), paged=[0, 0])
    about = end.getvalue()
    with open(file, "wb") as out:
        out.seek(np.prod(shape, dtype=object))
        out.write(about + len(about).to_bytes(8) + hashlib.sha256(b"sparse" + about).digest())
    return Dataset("sparse", *images._opened(file, b"sparse")[:3])


@contextmanager
def limited(kind: str, size: int):
    """No more memory, or no larger files, than this for the block."""
    import resource  # which Windows lacks

    kind = getattr(resource, kind)
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


# Nothing is copied whole.


@on_linux
def test_both_parts_are_slices_of_one_mapped_file(pets):
    for _ in range(2):  # decoded, then from the cache
        train, held_out = load(f"folder:{pets}")
        (file,) = caches(pets)
        assert held_out.x.data_ptr() == train.x.data_ptr() + train.x.nbytes
        (place,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file)))
        begin, end = (int(address, 16) for address in place.split()[0].split("-"))
        assert begin == train.x.data_ptr() and held_out.x.data_ptr() + held_out.x.nbytes <= end
        assert sorted(greys(train) + greys(held_out)) == list(range(N)) and 0 < len(held_out) < N / 4
        del train, held_out


@on_linux
def test_pictures_are_read_with_less_memory_than_they_fill(tmp_path):
    """With 200 MB more than the process has now; the training pictures fill 290 MB."""
    whole = sparse(tmp_path / "many.cache", 100_000, 3, 32, 32)
    train, held_out = whole.select(slice(95_000)), whole.select(slice(95_000, None))
    gc.collect()  # what earlier tests left would be freed below the limit
    has = 1024 * int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    with limited("RLIMIT_DATA", has + 200 * 2**20):
        assert runs.digest((train, held_out))[:2] == [95_000, 5000] and len(train.some(5)) == 5
        assert train.to("cpu").x is train.x and train.mean().sum() == 0
        with pytest.raises(RuntimeError, match="can't allocate memory"):  # so there is a limit
            train.x.clone()


@on_linux
def test_a_cache_larger_than_the_memory_can_be_read(tmp_path):
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this machine does not allow it")
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = 1024 * sum(int(known[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    n = 2 * memory // (3 * 2048 * 2048)
    data = sparse(tmp_path / "large.cache", n, 3, 2048, 2048)
    assert data.x.nbytes > 1.9 * memory and data.labels.tolist() == [i % 10 for i in range(n)]
    assert not data.x[[0, n // 2, n - 1], :, 7].any()


def test_writing_to_pictures_reaches_neither_the_cache_nor_another_reader(pets):
    first, second = load(f"folder:{pets}"), load(f"folder:{pets}")
    (file,) = caches(pets)
    before, shades = file.read_bytes(), greys(first[0])
    for part in first:
        part.x.fill_(255), part.labels.fill_(7)
    assert file.read_bytes() == before and greys(second[0]) == shades and set(greys(first[0])) == {255}
    assert both(pets)[0] == shades


# When it is made anew, and where.


def test_it_is_made_anew_when_a_picture_changes_and_only_then(pets, paint, decoded):
    bitmap = paint("pets/cat/a.bmp", (70, 70, 70), SIZE)  # of one length, whatever is on it
    first, number = image_folder(pets), N + 1
    for name in (pets, os.path.relpath(pets)):
        assert torch.equal(image_folder(name).x, first.x) and len(decoded) == number
    for change in (
        lambda: os.utime(bitmap, ns=(0, 0)),
        lambda: bitmap.chmod(0o600),
        lambda: paint("pets/cat/b.bmp", (71, 71, 71), SIZE),
        lambda: (pets / "cat" / "b.bmp").unlink(),
        lambda: bitmap.rename(pets / "dog" / "a.bmp"),
    ):
        change()
        for _ in range(2):
            data = image_folder(pets)
        number += len(data)
        assert len(decoded) == number and sorted(greys(data))[:N] == list(range(N))
    assert len(caches(pets)) == 1
    assert image_folder(pets, size=4).shape == (3, 4, 4) and len(caches(pets)) == 2


def test_a_damaged_cache_is_made_anew(pets, decoded):
    """Any byte behind the pictures may be wrong, and their number; and a killed process may have left a part of one."""
    before = both(pets)
    (file,) = caches(pets)
    whole, partial = file.read_bytes(), file.with_suffix(".partial")
    damages = [b"", b"\xff" * 4096, whole[:-1], whole + b"\0", whole[1:], b"\0" + whole]
    for place in (*range(45 * N, len(whole), 97), *range(len(whole) - 45, len(whole), 7)):
        damages.append(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
    for number, damaged in enumerate(damages, start=2):
        file.write_bytes(damaged), partial.write_bytes(whole[:100])
        assert both(pets) == before and len(decoded) == N * number
        assert caches(pets) == [file] and file.read_bytes() == whole


def test_where_it_lies(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "shared" / "deep"))
    shutil.copytree(pets, tmp_path / "other")
    Image.new("RGB", SIZE, (99, 99, 99)).save(tmp_path / "other" / "cat" / "0.png")
    for _ in range(2):
        assert greys(image_folder(pets))[0] == 0 and greys(image_folder(tmp_path / "other"))[0] == 99
    assert len(caches(tmp_path / "shared" / "deep")) == 2 and not caches(pets)
    monkeypatch.delenv("ALIKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(images.os, "access", lambda path, mode: Path(path) != pets)  # a read-only folder
    image_folder(pets)
    assert len(caches(tmp_path / "home" / "alikit")) == 1 and not caches(pets)


# Whole or absent. Killed processes: tests/faults/test_kills.py.


def test_two_at_once_decode_once(pets, caplog, monkeypatch, decoded):
    """The second waits, says so, and reads what the first has made."""
    decode, begun, go_on = images.decode, threading.Event(), threading.Event()
    monkeypatch.setattr(images, "decode", lambda *way: begun.set() or (go_on.wait(60) and decode(*way)))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(both, pets)
        assert begun.wait(60)
        second = pool.submit(both, pets)
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        go_on.set()
        assert first.result() == second.result() and len(decoded) == N and len(caches(pets)) == 1
    (message,) = caplog.messages
    assert message.startswith("another process is reading these pictures into ")


FULL = r"^cannot write .*\.cache \({}\): name a folder that has room by ALIKIT_CACHE$"
HINDRANCES = [
    (patch.object(images.np, "savez", side_effect=KeyboardInterrupt), "^$"),
    (patch.object(images.mmap, "mmap", side_effect=OSError), FULL.format("it cannot be read back")),
    (patch.object(images.shutil, "disk_usage", return_value=Mock(free=2000)), FULL.format("No space left on device")),
    (patch.dict(os.environ, ALIKIT_CACHE=__file__), FULL.format("File exists")),
]
if sys.platform == "linux":  # in the pictures, in more of them, and in what is said of them
    HINDRANCES += [(limited("RLIMIT_FSIZE", n), FULL.format("File too large")) for n in (100, 45 * 31 + 7, 45 * N + 10)]


@pytest.mark.parametrize(("hindrance", "says"), HINDRANCES)
def test_where_none_can_be_written_nothing_is_left(pets, hindrance, says):
    with pytest.raises(AlikitError if "cannot" in says else KeyboardInterrupt, match=says), hindrance:
        load(f"folder:{pets}")
    assert (not caches(pets) or "read back" in says) and sum(map(len, both(pets))) == N
