"""A disk that fills up, in earnest and by a limit on the size of files, and one that is read-only.

Each ends in one clear line, what was there before is whole, and with more room the work goes on.
"""

import re
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from started import SOAK, STUDY, TRAIN, Started, finished, small, untimed

from alikit import runs

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of 100 kB, and what mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = partial(subprocess.run, check=True, capture_output=True)
    try:
        mount(["mount", "-o", "size=100k", "-t", "tmpfs", "tmpfs", place])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here: it takes root")
    yield place, lambda options: mount(["mount", "-o", f"remount,{options}", place])
    subprocess.run(["umount", place], capture_output=True)


def refused(command: Started, why: str) -> None:
    """It ended with status 2, and its last words say why, and what to do."""
    says = rf"alikit: cannot (write|use) .* \({why}\): .+"
    assert command.status == 2 and re.fullmatch(says, command.last), command.err


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and not re.fullmatch(r"(out|err)-.*\.txt", file.name))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def assert_whole(run: Path) -> None:
    """Whatever is there can be opened."""
    if (run / "settings.json").exists():
        runs.read_settings(run), runs.metrics(run), [Image.open(picture).load() for picture in run.glob("*.png")]
        assert runs.is_untouched(run) or runs.checkpoint(run)
        assert not (run / "weights.safetensors").exists() or runs.load_model(run)
    assert not list(run.glob(".*.partial"))


def limited(size: int) -> None:
    """No file may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_run_fills_the_disk_up_and_goes_on_with_more_room(disk, whole, tmp_path):
    """Again and again, with a little more room each time, so that it fills up at everything that is written."""
    place, remount = disk
    needed = sum(file.stat().st_size for file in whole.run.iterdir())
    first = line = f"{TRAIN} --save-every 0".replace("--out run", "--out disk/run")
    said = set()
    for size in range(4096, 3 * needed, max(4096, needed // (16 if SOAK else 2))):
        remount(f"size={size}")
        command = finished(line, tmp_path)
        assert_whole(place / "run")
        if command.status == 0:
            break
        refused(command, "No space left on device")
        said.add(command.last.rpartition("): ")[2])
        line = "resume disk/run" if (place / "run" / "settings.json").exists() else first
    assert command.status == 0 and "make room, then go on with: alikit resume disk/run" in said
    assert (place / "run" / "weights.safetensors").read_bytes() == (whole.run / "weights.safetensors").read_bytes()
    assert untimed(place / "run" / "metrics.jsonl") == untimed(whole.run / "metrics.jsonl")


def test_a_study_fills_the_disk_up_and_goes_on_with_more_room(disk, tmp_path):
    place, remount = disk
    for size in (64, 100_000):
        remount(f"size={size}k")
        command = finished(STUDY.replace("--out study", "--out disk/study"), tmp_path, small)
        if size == 64:
            refused(command, "No space left on device")
    assert command.status == 0 and len(untimed(place / "study" / "runs.jsonl")) == 2


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.98] if SOAK else [0.3, 0.98])
def test_resuming_leaves_the_last_good_files(whole, tmp_path, share):
    shutil.copytree(whole.run, tmp_path / "run")
    before = contents(tmp_path / "run")
    size = max(300, int(share * max(map(len, before.values()))))  # its words must find room
    refused(finished("resume run --steps 32", tmp_path, partial(limited, size)), "File too large")
    after = contents(tmp_path / "run")
    newer = ("metrics.jsonl", "settings.json", "weights.safetensors")  # these may be ahead of the checkpoint
    assert all(after[name] == content for name, content in before.items() if name not in newer)
    assert_whole(tmp_path / "run")
    again = finished("resume run --steps 32", tmp_path)
    assert again.status == 0, again.err


def test_a_picture_or_page_that_does_not_fit_leaves_the_old_one(whole, tmp_path):
    for place in ("benchmarks", "conditional-faces"):
        shutil.copytree(RESULTS / place, tmp_path / "results" / place)
    shutil.copy(RESULTS / "README.md", tmp_path / "results")
    for page in tmp_path.rglob("README.md"):
        page.write_text(page.read_text() + "\nA line of one's own.\n")
    (tmp_path / "kept.png").write_bytes(b"of before")
    before = contents(tmp_path)
    for line in (f"sample {whole.run} --out kept.png", "report results", "bench report --out results/benchmarks"):
        refused(finished(line, tmp_path, partial(limited, 500)), "File too large")
    assert contents(tmp_path) == before


def test_a_disk_that_is_read_only(disk, whole, tmp_path):
    place, remount = disk
    remount("size=10m")
    shutil.copytree(whole.run, place / "run")
    remount("ro")
    before = contents(place)
    for line in (
        *("train digits --steps 4 --out disk/new", "resume disk/run --steps 40", "sample disk/run --out disk/a.png"),
        *("study mixture --out disk/study", "bench step mixture-ali --out disk/speed"),
    ):
        refused(finished(line, tmp_path, small), "Read-only file system")
    assert finished("sample disk/run --out a.png", tmp_path).status == 0
    assert contents(place) == before
