"""The cache of decoded pictures: mapped and never copied whole, whole or absent, and never written back to."""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from alikit.data import Dataset, cache, image_folder, load
from alikit.errors import AlikitError

N, SIZE = 60, (5, 3)  # 45 bytes a picture, so that nothing falls on a round number
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, or limits what Linux limits")


@pytest.fixture
def pets(paint, tmp_path) -> Path:
    """Picture i is of grey i; three in four are dogs."""
    for i in range(N):
        paint(f"pets/{'dog' if i % 4 else 'cat'}/{i}.png", (i, i, i), SIZE)
    return tmp_path / "pets"


@pytest.fixture
def table(pets, tmp_path) -> Path:
    """The same with a table of one attribute."""
    shutil.copytree(pets, tmp_path / "table" / "images")
    lines = [f"{'dog' if i % 4 else 'cat'}/{i}.png,{i % 2}\n" for i in range(N)]
    (tmp_path / "table" / "attributes.csv").write_text("image,Odd\n" + "".join(lines))
    return tmp_path / "table"


def greys(data: Dataset) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def caches(root: Path) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


def half_written(root: Path) -> list[Path]:
    return [*root.rglob("*.partial")]


def lies_in(x: torch.Tensor, file: Path) -> bool:
    """Whether all of x lies where this process has mapped the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, *_, name = line.split(maxsplit=5)
        begin, end = (int(address, 16) for address in addresses.split("-"))
        if name == str(file) and begin <= x.data_ptr() <= x.data_ptr() + x.nbytes <= end:
            return True
    return False


def write_sparse(file: Path, shape: tuple[int, ...]) -> None:
    """A cache of black pictures that fills next to nothing of the disk, however many they are; ten classes in turn."""
    labels = np.arange(shape[0]) % 10
    sizes = {"x": ("U8", shape, math.prod(shape)), "known": ("U8", [8], 8), "labels": ("I64", shape[:1], labels.nbytes)}
    header, begin = {}, 0
    for name, (kind, of, size) in sizes.items():
        header[name] = {"dtype": kind, "shape": of, "data_offsets": [begin, begin + size]}
        begin += size
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", cache.HEAD - 8) + json.dumps(header).encode().ljust(cache.HEAD - 8))
        out.seek(cache.HEAD + math.prod(shape))
        out.write(b"{}".ljust(8) + labels.tobytes())


# Nothing is copied whole.


@on_linux
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_both_parts_are_slices_of_one_mapped_file(kind, pets, table):
    root = {"folder": pets, "table": table}[kind]
    for _ in range(2):  # decoded, then from the cache
        train, held_out = load(f"{kind}:{root}")
        (file,) = caches(root)
        assert lies_in(train.x, file) and held_out.x.data_ptr() == train.x.data_ptr() + train.x.nbytes
        assert lies_in(held_out.x, file) and not lies_in(train.x.clone(), file)
        assert sorted(greys(train) + greys(held_out)) == list(range(N)) and 0 < len(held_out) < N / 4


@on_linux
def test_a_folders_own_splits_are_mapped(paint, tmp_path):
    for i in range(4):
        paint(f"pets/train/cat/{i}.png"), paint(f"pets/test/cat/{i}.png")
    parts = load(f"folder:{tmp_path / 'pets'}")
    held_out, train = caches(tmp_path)
    assert lies_in(parts[0].x, train) and lies_in(parts[1].x, held_out)


# A process that may have 250 MB more than it has now; the training pictures are 290 MB.
TRAINING = """
import re, resource, sys
from pathlib import Path

from alikit import runs
from alikit.data import Dataset, cache

x, labels, _ = cache._read(Path(sys.argv[1]))
whole = Dataset("many", x, labels, tuple("abcdefghij"))
parts = whole.select(slice(95_000)), whole.select(slice(95_000, None))
has = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (has + 250 * 2**20,) * 2)
settings = {"recipe": "cifar10-semi-small", "decoder": None, "seed": 0, "batch_size": 4, "labels": 10}
print(runs.digest(parts)[:2], len(parts[0].some(5)), parts[0].to("cpu").x is parts[0].x)
print([report.step for report in runs.trainer(settings, parts[0]).run(1)])
parts[0].x.clone()
"""


@on_linux
def test_training_with_less_memory_than_the_pictures_fill(tmp_path):
    write_sparse(tmp_path / "many.safetensors", (100_000, 3, 32, 32))

    command = [sys.executable, "-c", TRAINING, str(tmp_path / "many.safetensors")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[95000, 5000] 5 True", "[1]"], done.stderr
    assert "can't allocate memory" in done.stderr  # the copy at the end, so there is a limit


@on_linux
def test_a_cache_larger_than_the_memory_can_be_read(tmp_path):
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this machine's owner has forbidden that")
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = 1024 * sum(int(known[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    n = 2 * memory // (3 * 2048 * 2048)
    write_sparse(tmp_path / "large.safetensors", (n, 3, 2048, 2048))
    x, labels, known = cache._read(tmp_path / "large.safetensors")
    assert x.nbytes > 1.9 * memory and labels.tolist() == [i % 10 for i in range(n)] and known == {}
    assert not x[[0, n // 2, n - 1], :, 7].any()


# What is in it.


def test_it_is_a_safetensors_file(pets):
    data = image_folder(pets)
    (file,) = caches(pets)
    stored = load_file(file)
    assert torch.equal(stored["x"], data.x) and torch.equal(stored["labels"], data.labels)
    assert json.loads(bytes(stored["known"].tolist())) == {"classes": ["cat", "dog"], "unreadable": []}


@pytest.mark.parametrize("n", [2, 3, 4, 9])
def test_no_number_of_pictures_moves_the_labels(n, paint, tmp_path):
    """They take 8 bytes each, and can be read only from where 8 divides the place."""
    for i in range(n):
        paint(f"pets/{'dog' if i % 2 else 'cat'}/{i}.png", (i, i, i), (1, 1))
    (tmp_path / "pets" / "cat" / "broken.png").write_text("no picture")
    for _ in range(2):
        data = image_folder(tmp_path / "pets", skip_corrupt=True)
        assert greys(data) == [*range(0, n, 2), *range(1, n, 2)]
        assert data.labels.tolist() == [grey % 2 for grey in greys(data)]
    assert load_file(caches(tmp_path)[0])["labels"].tolist() == data.labels.tolist()


def test_writing_to_pictures_reaches_neither_the_cache_nor_another_reader(pets):
    first, second = load(f"folder:{pets}"), load(f"folder:{pets}")
    (file,) = caches(pets)
    before, shades = file.read_bytes(), greys(first[0])
    for part in first:
        part.x.fill_(255), part.labels.fill_(7)
    assert file.read_bytes() == before and greys(second[0]) == shades and set(greys(first[0])) == {255}
    assert greys(load(f"folder:{pets}")[0]) == shades


def test_a_cache_that_cannot_be_written_to_is_read(pets, caplog):
    shades = greys(load(f"folder:{pets}")[0])
    (file,) = caches(pets)
    file.chmod(0o444), file.parent.chmod(0o555)
    try:
        data = load(f"folder:{pets}")[0]
        data.x[0] = 255
        assert greys(data)[1:] == shades[1:] and not caplog.messages
    finally:
        file.parent.chmod(0o755)


def test_a_cache_of_before_is_made_anew(pets):
    """Those of the first alikit have no `known`, and a header of another length."""
    x = image_folder(pets).x.clone()  # for what is mapped would change with the file below
    (file,) = caches(pets)
    whole = file.read_bytes()
    header, rest = whole[8 : cache.HEAD].rstrip(), whole[cache.HEAD :]
    for old in (
        struct.pack("<Q", len(header)) + header + rest,
        whole.replace(b'"known"', b'"other"'),
        whole[:-1],
    ):
        file.write_bytes(old)
        assert torch.equal(image_folder(pets).x, x) and file.read_bytes() == whole


def test_of_a_handful_another_is_held_out_where_the_one_to_be_cannot_be_read(paint, tmp_path):
    """Of these four one is in the tenth; without it, the nearest is taken, which stands between the others."""
    for i, name in enumerate("fghi"):
        paint(f"pets/{name}.png", (i, i, i))
    (only,) = greys(load(f"folder:{tmp_path / 'pets'}")[1])
    (tmp_path / "pets" / f"{'fghi'[only]}.png").write_text("no picture")
    for _ in range(2):
        train, held_out = load(f"folder:{tmp_path / 'pets'}", skip_corrupt=True)
        assert len(held_out) == 1 and sorted(greys(train) + greys(held_out)) == sorted({0, 1, 2, 3} - {only})
        assert greys(train) == sorted(greys(train))


# Whole or absent.

KILLED = """
import os, signal, sys
from alikit.data import images, load

decode, seen = images.decode, []

def deadly(file, fit):
    seen.append(file)
    if len(seen) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(file, fit)

images.decode = deadly
images.READ_AT_ONCE = 8
load("folder:" + sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows kills in another way")
def test_a_kill_leaves_no_cache_and_what_it_leaves_is_removed_later(pets):
    done = subprocess.run([sys.executable, "-c", KILLED, str(pets)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = half_written(pets)
    assert not caches(pets) and left.stat().st_size >= cache.HEAD + 32 * 45
    older = left.with_name(left.name.replace(left.name.partition(".")[0], "divided-as-is-0123456789abcdef"))
    older.touch()  # of the folder as it was before
    assert sum(map(len, load(f"folder:{pets}"))) == N
    assert not half_written(pets) and len(caches(pets)) == 1


def test_what_another_process_is_writing_is_left_alone(pets):
    folder = pets / cache.FOLDER
    folder.mkdir()
    partial = folder / "divided-as-is-0123456789abcdef.abcd.partial"
    partial.touch()
    with FileLock(folder / ".divided-as-is-0123456789abcdef.lock"):
        assert sum(map(len, load(f"folder:{pets}"))) == N
    assert half_written(pets) == [partial]


def test_two_at_once_decode_once(pets, caplog, monkeypatch):
    """The second waits, says so, and reads what the first has made."""
    from alikit.data import images

    decode, decoded, begun, go_on = images.decode, [], threading.Event(), threading.Event()

    def slow(file, fit):
        decoded.append(file)
        begun.set()
        assert go_on.wait(60)
        return decode(file, fit)

    monkeypatch.setattr(images, "decode", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load, f"folder:{pets}")
        assert begun.wait(60)
        second = pool.submit(load, f"folder:{pets}")
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        go_on.set()
        parts = [found.result() for found in (first, second)]
    assert len(decoded) == N and [greys(part) for part in parts[0]] == [greys(part) for part in parts[1]]
    (message,) = caplog.messages
    assert message.startswith("another process is reading these pictures into ") and len(caches(pets)) == 1


def test_an_interruption_leaves_nothing(pets, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.Pictures, "kept", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(f"folder:{pets}")
    assert not caches(pets) and not half_written(pets)


@on_linux
@pytest.mark.parametrize("room", [100, cache.HEAD + 45 * 31 + 7, cache.HEAD + 45 * N + 10], ids=["head", "x", "labels"])
def test_a_disk_that_fills_up_costs_the_cache_alone(pets, monkeypatch, caplog, room):
    """What had been written by then is not decoded again."""
    import resource

    from alikit.data import images

    before, decoded = [greys(part) for part in load(f"folder:{pets}")], []
    shutil.rmtree(pets / cache.FOLDER)
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda file, fit: decoded.append(file) or decode(file, fit))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        parts = load(f"folder:{pets}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [greys(part) for part in parts] == before and len(decoded) == N
    assert sum(part.labels.sum().item() for part in parts) == N * 3 // 4
    (message,) = caplog.messages
    assert message.startswith("no cache written (") and "held in memory" in message and "ALIKIT_CACHE" in message
    assert not caches(pets) and not half_written(pets)


def test_a_disk_that_is_too_small_is_not_filled_up_first(pets, monkeypatch, caplog):
    usage = shutil._ntuple_diskusage(10**6, 10**6 - 4096, 4096)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(cache.Pictures, "_write", lambda *_: pytest.fail("written"))
    assert sum(map(len, load(f"folder:{pets}"))) == N
    assert "no cache written" in caplog.text and "No space left" in caplog.text


def test_more_than_memory_and_disk_can_hold_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        cache.Pictures(tmp_path / "file" / "x.safetensors") as pictures,
        pytest.raises(AlikitError, match=r"1,000,000,000,000 pictures are larger than the memory.*by ALIKIT_CACHE$"),
    ):
        pictures.add(np.zeros((1, 3, 64, 64), np.uint8), most=10**12)


def test_where_files_cannot_be_mapped_the_pictures_are_in_memory(pets, monkeypatch, caplog):
    before = [greys(part) for part in load(f"folder:{pets}")]

    def refused(*_):
        raise OSError("no map")

    monkeypatch.setattr(cache, "_mapped", refused)
    assert [greys(part) for part in load(f"folder:{pets}")] == before
    assert len(caplog.messages) == 1 and "no cache written" in caplog.text
    assert not caches(pets) and not half_written(pets)
