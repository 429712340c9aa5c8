"""The cache of decoded pictures: mapped and never copied whole, whole or absent, and never written back to."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alikit.data import Dataset, folders, image_folder, images, load
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
    return sorted(root.rglob("*.cache"))


def half_written(root: Path) -> list[Path]:
    return [*root.rglob("*.partial")]


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that are decoded from now on."""
    decode, files = images.decode, []
    monkeypatch.setattr(folders, "decode", lambda file, fit: files.append(file) or decode(file, fit))
    return files


def write_sparse(file: Path, shape: tuple[int, ...]) -> None:
    """A cache of black pictures that fills next to nothing of the disk, however many they are; ten classes in turn."""
    with open(file, "wb") as out:
        out.seek(np.prod(shape, dtype=object))
        about = {"labels": np.arange(shape[0]) % 10, "classes": np.array([*"abcdefghij"])}
        np.savez(out, shape=shape, state=np.array("sparse"), unreadable=np.array([], dtype=str), **about)


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


# A process that may have 200 MB more than it has now; the training pictures are 290 MB.
LIMITED = """
import re, resource, sys
from pathlib import Path

from alikit import runs
from alikit.data import Dataset, images

x, labels, classes, _ = images._opened(Path(sys.argv[1]), "sparse")
whole = Dataset("many", x, labels, classes)
parts = whole.select(slice(95_000)), whole.select(slice(95_000, None))
has = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (has + 200 * 2**20,) * 2)
print(runs.digest(parts)[:2], len(parts[0].some(5)), parts[0].to("cpu").x is parts[0].x)
print(parts[0].mean().sum().item(), parts[0].floats(slice(94_000, None)).shape)
parts[0].x.clone()
"""


@on_linux
def test_pictures_are_read_with_less_memory_than_they_fill(tmp_path):
    write_sparse(tmp_path / "many.cache", (100_000, 3, 32, 32))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "many.cache")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    expected = ["[95000, 5000] 5 True", "0.0 torch.Size([1000, 3, 32, 32])"]
    assert done.stdout.splitlines() == expected, done.stderr
    assert "can't allocate memory" in done.stderr  # the copy at the end, so there is a limit


@on_linux
def test_a_cache_larger_than_the_memory_can_be_read(tmp_path):
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this machine's owner has forbidden that")
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = 1024 * sum(int(known[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    n = 2 * memory // (3 * 2048 * 2048)
    write_sparse(tmp_path / "large.cache", (n, 3, 2048, 2048))
    x, labels, *_ = images._opened(tmp_path / "large.cache", "sparse")
    assert x.nbytes > 1.9 * memory and labels.tolist() == [i % 10 for i in range(n)]
    assert not x[[0, n // 2, n - 1], :, 7].any()


def test_writing_to_pictures_reaches_neither_the_cache_nor_another_reader(pets):
    first, second = load(f"folder:{pets}"), load(f"folder:{pets}")
    (file,) = caches(pets)
    before, shades = file.read_bytes(), greys(first[0])
    for part in first:
        part.x.fill_(255), part.labels.fill_(7)
    assert file.read_bytes() == before and greys(second[0]) == shades and set(greys(first[0])) == {255}
    assert both(pets)[0] == shades


# When it is made anew, and where.


def test_it_is_made_anew_when_a_picture_changes_and_only_then(pets, paint, decoded, tmp_path, monkeypatch):
    bitmap = paint("pets/cat/a.bmp", (70, 70, 70), SIZE)  # of one length, whatever is on it
    first, number = image_folder(pets), N + 1
    for name in (pets, os.path.relpath(pets)):
        assert torch.equal(image_folder(name).x, first.x) and len(decoded) == number
    for change in (
        lambda: os.utime(bitmap, ns=(0, 0)),
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


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"\xff" * 4096, lambda whole: whole[:-1]])
def test_a_damaged_cache_is_made_anew(pets, damage):
    before = both(pets)
    (file,) = caches(pets)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert both(pets) == before and len(file.read_bytes()) == len(whole)


GOOD = {"shape": [2, 3, 3, 5], "labels": np.arange(2), "classes": np.array(["cat", "dog"]), "state": np.array("this")}


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 3, 30, 50]},
        {"shape": [-1, 3, 3, 5]},
        {"shape": [3, 3, 3, 5]},
        {"shape": [10**9, 3, 10**9, 5], "labels": np.zeros(10**6, np.int64)},
        {"labels": np.arange(2) + 1},
        {"labels": np.arange(2) - 1},
        {"labels": np.arange(2.0)},
        {"labels": np.zeros((2, 2), np.int64)},
        {"labels": np.full((2, 2), 2, np.uint8)},
        {"labels": np.zeros((2, 3), np.uint8)},
        {"labels": np.array([{}, {}], dtype=object)},
        {"state": np.array("other")},
    ],
)
def test_a_strangers_cache_is_not_taken(tmp_path, change):
    file = tmp_path / "x.cache"
    for known, taken in ((GOOD, True), ({**GOOD, **change}, False)):
        with open(file, "wb") as out:
            out.write(bytes(90))
            np.savez(out, unreadable=np.array([], dtype=str), **known)
        assert (images._opened(file, "this") is not None) is taken
    with open(file, "wb") as out:  # it would unfold in memory
        out.write(bytes(90))
        np.savez_compressed(out, unreadable=np.zeros(10**7, "U1"), **GOOD)
    assert images._opened(file, "this") is None


def test_where_it_lies(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "shared" / "deep"))
    shutil.copytree(pets, tmp_path / "other")
    Image.new("RGB", SIZE, (99, 99, 99)).save(tmp_path / "other" / "cat" / "0.png")
    for _ in range(2):
        assert greys(image_folder(pets))[0] == 0 and greys(image_folder(tmp_path / "other"))[0] == 99
    assert len(caches(tmp_path / "shared" / "deep")) == 2 and not caches(pets)
    monkeypatch.delenv("ALIKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(images.os, "access", lambda path, mode: Path(path) != pets)
    image_folder(pets)
    assert len(caches(tmp_path / "home" / "alikit")) == 1 and not caches(pets)


# Whole or absent.

KILLED = """
import os, signal, sys
from alikit.data import folders, images, load

decode, seen = images.decode, []

def deadly(file, fit):
    seen.append(file)
    if len(seen) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(file, fit)

folders.decode = deadly
images.READ_AT_ONCE = 8
load("folder:" + sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows kills in another way")
def test_a_kill_leaves_no_cache_and_what_it_leaves_is_written_over(pets):
    done = subprocess.run([sys.executable, "-c", KILLED, str(pets)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(half_written(pets)) == 1 and not caches(pets)
    assert sum(map(len, both(pets))) == N
    assert not half_written(pets) and len(caches(pets)) == 1


def test_two_at_once_decode_once(pets, caplog, monkeypatch, decoded):
    """The second waits, says so, and reads what the first has made."""
    decode, begun, go_on = folders.decode, threading.Event(), threading.Event()

    def slow(file, fit):
        begun.set()
        assert go_on.wait(60)
        return decode(file, fit)

    monkeypatch.setattr(folders, "decode", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(both, pets)
        assert begun.wait(60)
        second = pool.submit(both, pets)
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        go_on.set()
        assert first.result() == second.result() and len(decoded) == N
    (message,) = caplog.messages
    assert message.startswith("another process is reading these pictures into ") and len(caches(pets)) == 1


def test_an_interruption_leaves_nothing(pets, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(images.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(f"folder:{pets}")
    assert not caches(pets) and not half_written(pets)


def in_the_way(pets: Path, monkeypatch) -> None:
    (pets / "file").write_text("")
    monkeypatch.setenv("ALIKIT_CACHE", str(pets / "file" / "cache"))


def too_small(pets: Path, monkeypatch) -> None:
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 2000, 2000))


def unmapped(pets: Path, monkeypatch) -> None:
    def refused(*_, **__):
        raise OSError("no map")

    monkeypatch.setattr(images.mmap, "mmap", refused)


@pytest.mark.parametrize("hinder", [in_the_way, too_small, unmapped])
def test_where_none_can_be_written_the_pictures_are_in_memory(pets, monkeypatch, caplog, hinder):
    before = both(pets)
    shutil.rmtree(pets / images.FOLDER)
    hinder(pets, monkeypatch)
    assert both(pets) == before
    (message,) = caplog.messages
    assert message.startswith("no cache written (") and "held in memory" in message and "ALIKIT_CACHE" in message
    assert not half_written(pets)
    if hinder is not unmapped:
        assert not caches(pets)


@on_linux
@pytest.mark.parametrize("room", [100, 45 * 31 + 7, 45 * N + 10], ids=["pictures", "more", "labels"])
def test_a_disk_that_fills_up_costs_the_cache_alone(pets, caplog, room):
    import resource

    before = both(pets)
    shutil.rmtree(pets / images.FOLDER)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        assert both(pets) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "no cache written (" in caplog.text and not caches(pets) and not half_written(pets)


def test_more_than_memory_and_disk_can_hold_is_one_line(pets, monkeypatch):
    def larger(*_):
        raise MemoryError

    in_the_way(pets, monkeypatch)
    monkeypatch.setattr(images.np, "empty", larger)
    with pytest.raises(AlikitError, match=r"the pictures are larger than the memory.*by ALIKIT_CACHE$"):
        load(f"folder:{pets}")
