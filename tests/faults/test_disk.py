"""A disk that fills up, in earnest and by a limit on the size of files, and one that is read-only.

Each ends in one clear line, what was there before is whole, and with more room the work goes on.
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from started import SOAK, Started, finished
from test_kills import STUDY, small, untimed, without_pace

from alikit import runs

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "train digits --steps 40 --seed 3 --save-every 0 --out disk/run"


class Disk:
    """A disk of its own below a folder: a tmpfs, which must be mounted."""

    def __init__(self, place: Path):
        self.place = place
        place.mkdir()

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.place], check=True, capture_output=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=True, capture_output=True)

    def close(self) -> None:
        subprocess.run(["umount", self.place], capture_output=True)


@pytest.fixture
def disk(tmp_path):
    """A disk of 100 kB."""
    disk = Disk(tmp_path / "disk")
    try:
        disk.mount("size=100k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here: it takes root")
    yield disk
    disk.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing stood in the way of."""
    folder = tmp_path_factory.mktemp("whole")
    assert finished(TRAIN, folder).status == 0
    return folder / "disk" / "run"


def one_line(command: Started, says: str) -> None:
    """It ended with status 2, and its last words are these; no other line but a progress bar."""
    last = [line for line in command.err.splitlines() if line.strip()][-1]
    assert command.status == 2 and re.fullmatch(f"alikit: {says}", last), command.err
    assert "Traceback" not in command.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_whole(run: Path) -> None:
    """Whatever is there can be opened."""
    if not (run / "settings.json").exists():
        return
    runs.settings(run), runs.metrics(run)
    for picture in run.glob("*.png"):
        with Image.open(picture) as opened:
            opened.load()
    if not runs.is_untouched(run):
        runs.checkpoint(run)
    if (run / "weights.safetensors").exists():
        runs.load_model(run)
    assert not list(run.glob(".*.partial"))


def limited(size: int) -> None:
    """No file may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# Full in earnest.


def test_a_run_fills_the_disk_up_and_goes_on_with_more_room(disk, whole, tmp_path):
    """Again and again, with a little more room each time, so that it fills up at everything that is written."""
    needed = sum(file.stat().st_size for file in whole.iterdir())
    line, said = TRAIN, set()
    for size in range(4096, 3 * needed, max(4096, needed // (16 if SOAK else 5))):
        disk.remount(f"size={size}")
        command = finished(line, tmp_path)
        assert_whole(disk.place / "run")
        if command.status == 0:
            break
        one_line(command, r"cannot write disk(/run/[\w.-]+)? \(No space left on device\): .*")
        said.add(command.err.strip().rpartition("): ")[2])
        line = "resume disk/run" if (disk.place / "run" / "settings.json").exists() else TRAIN
    assert command.status == 0 and "make room, then go on with: alikit resume disk/run" in said
    assert (disk.place / "run" / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert without_pace(disk.place / "run") == without_pace(whole)


def test_a_study_fills_the_disk_up_and_goes_on_with_more_room(disk, tmp_path):
    line = STUDY.replace("--out study", "--out disk/study")
    for size in (64, 100_000):
        disk.remount(f"size={size}k")
        command = finished(line, tmp_path, small)
        assert "Traceback" not in command.err, command.err
        if command.status == 0:
            break
        assert command.err.splitlines()[-1].startswith("alikit: "), command.err
    assert command.status == 0 and size > 64 and len(untimed(disk.place / "study")) == 2


def test_pictures_without_room_for_their_cache(disk, paint, tmp_path):
    """They are read all the same, and it is said that nothing was kept."""
    for number in range(40):
        paint(f"pets/{number % 2}/{number}.png", (number, 0, 0), (64, 64))
    line = "train digits --data folder:pets --size 8 --batch 4 --steps 4 --out"
    command = finished(f"{line} kept", tmp_path, partial(cached_in, disk.place))
    assert command.status == 0 and "no cache written" not in command.err
    with contextlib.suppress(OSError), open(disk.place / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))
    paint("pets/0/another.png", size=(64, 64))
    command = finished(f"{line} not-kept", tmp_path, partial(cached_in, disk.place))
    assert command.status == 0 and re.search(r"no cache written \(.*No space left", command.err), command.err
    assert not [*disk.place.rglob("*.partial")] and len([*disk.place.rglob("*.safetensors")]) == 1


def cached_in(place: Path) -> None:
    os.environ["ALIKIT_CACHE"] = str(place / "cache")


# Full by a limit: every file that a command writes, cut at every place.


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.98])
def test_resuming_leaves_the_last_good_files(whole, tmp_path, share):
    shutil.copytree(whole, tmp_path / "run")
    before = contents(tmp_path / "run")
    size = max(300, int(share * max(map(len, before.values()))))  # its words must find room
    command = finished("resume run --steps 44", tmp_path, partial(limited, size))
    one_line(command, r"cannot write run/[\w.-]+ \(File too large\): make room, .*")
    after = contents(tmp_path / "run")
    newer = ("metrics.jsonl", "settings.json", "weights.safetensors")  # these may be ahead of the checkpoint
    assert all(after[name] == content for name, content in before.items() if name not in newer)
    assert_whole(tmp_path / "run")
    again = finished("resume run --steps 44", tmp_path)
    assert again.status == 0, again.err


@pytest.mark.parametrize("line", ["sample {run} --out kept.png", "reconstruct {run} --out kept.png"])
def test_a_picture_that_does_not_fit_leaves_the_old_one(whole, tmp_path, line):
    (tmp_path / "kept.png").write_bytes(b"of before")
    command = finished(line.format(run=whole), tmp_path, partial(limited, 500))
    one_line(command, r"cannot write kept\.png \(File too large\): make room, or choose another --out")
    assert (tmp_path / "kept.png").read_bytes() == b"of before"


def test_a_page_that_does_not_fit_leaves_the_old_one(tmp_path):
    for name, line in (("results", "report results"), ("results/benchmarks", "bench report --out results/benchmarks")):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in (ROOT / name).glob("*.*"):
            shutil.copy(file, folder)
        page = (folder / "README.md").read_text()
        (folder / "README.md").write_text(page + "\nA line of one's own.\n")
        before = contents(folder)
        command = finished(line, tmp_path, partial(limited, 1000))
        one_line(command, r"cannot write .*README\.md \(File too large\): .*")
        assert contents(folder) == before


def test_a_record_that_does_not_fit_leaves_the_old_one(tmp_path):
    """The folder of the record is a copy of a real one, the run is none on pictures in colour: it is refused first; so
    what is tried is the swap itself."""
    from alikit.runs import records

    old = tmp_path / "record"
    old.mkdir()
    (old / "metrics.json").write_text("{}")
    before, limit = contents(old), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with (
            pytest.raises(runs.AlikitError, match=r"cannot write .*record \(File too large\): make room"),
            records._in_place_of(old) as stage,
        ):
            records._write(stage / "codes.safetensors", bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(old) == before and [place.name for place in tmp_path.iterdir()] == ["record"]


# Read-only.


def test_a_disk_that_is_read_only(disk, whole, tmp_path):
    disk.remount("size=10m")
    shutil.copytree(whole, disk.place / "run")
    disk.remount("ro")
    before = contents(disk.place)
    for line, says in {
        "train digits --steps 4 --out disk/new": r"cannot write to .*disk: choose another --out",
        "resume disk/run --steps 50": r"cannot write disk/run \(Read-only file system\): .*",
        "sample disk/run --out disk/a.png": r"cannot write disk/a\.png \(Read-only file system\): .*",
        "study mixture --out disk/study": r"cannot write disk/study \(Read-only file system\): .*",
        "bench step mixture-ali --out disk/speed": r"cannot write to disk/speed \(Read-only file system\): .*",
    }.items():
        one_line(finished(line, tmp_path, small), says)
    for line in ("sample disk/run --out a.png", "evaluate disk/run --metrics reconstruction"):
        assert finished(line, tmp_path).status == 0, line
    assert contents(disk.place) == before
