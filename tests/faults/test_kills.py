"""SIGKILL at moments chosen by chance: of a run, of a study, and while a cache is made.

Each is gone on with, to the very end that it would have had. `make soak` kills twenty of each, and writes down how it
went.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from games import assert_same
from started import PATIENCE, SOAK, STUDY, TRAIN, Started, alikit, finished, small, untimed

from alikit import runs
from alikit.data import load
from benchmarks.scaling import make_folder

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes as Linux shows them")
KILLS = 20 if SOAK else 2
kills = pytest.mark.parametrize("kill", range(KILLS))


def moment(kill: int, seconds: float) -> float:
    """When to kill: by chance, within the kill's own part of the time that all of it takes, so that all parts come."""
    return (kill + random.random()) / KILLS * seconds


@kills
def test_a_run_ends_as_if_it_had_not_been_killed(whole, tmp_path, record_property, kill):
    record_property("kill", "run")
    command, run, at = alikit(f"{TRAIN} --save-every 0", tmp_path), tmp_path / "run", moment(kill, whole.seconds)
    time.sleep(at)
    command.kill()
    status, began = command.wait(), (run / "settings.json").is_file()
    again = finished("resume run" if began else TRAIN, tmp_path)
    # Chance may come too late, where the machine was quicker than before: after the end, or after all work.
    assert (status, again.status) in ((-signal.SIGKILL, 0), (0, 2), (-signal.SIGKILL, 2)), again.err
    assert_same(runs.checkpoint(run), runs.checkpoint(whole.run))
    assert untimed(run / "metrics.jsonl") == untimed(whole.run / "metrics.jsonl"), at
    assert {file.name for file in run.iterdir()} == {file.name for file in whole.run.iterdir()}, at
    for file in (*run.glob("*.png"), run / "weights.safetensors"):
        assert file.read_bytes() == (whole.run / file.name).read_bytes(), (at, file.name)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """So many that reading them takes a moment."""
    make_folder(folder := tmp_path_factory.mktemp("photographs"), 500)
    return folder


def into(cache: Path, folder: Path) -> list[torch.Tensor]:
    os.environ["ALIKIT_CACHE"] = str(cache)
    return [tensor.clone() for part in load(f"folder:{folder}", size=32) for tensor in (part.x, part.labels)]


@kills
def test_a_cache_is_whole_or_absent(photographs, tmp_path, monkeypatch, record_property, kill):
    record_property("kill", "cache")
    monkeypatch.setenv("ALIKIT_CACHE", "")  # and as it was afterwards
    cache, begun = tmp_path / "cache", time.monotonic()
    expected, seconds = into(tmp_path / "undisturbed", photographs), time.monotonic() - begun
    command = Started(tmp_path, into, cache, photographs)
    command.until(lambda: (cache.is_dir() and any(cache.glob("*.partial"))) or not command.is_alive())
    time.sleep(moment(kill, seconds))
    command.kill()
    assert command.wait() in (0, -signal.SIGKILL) and len([*cache.glob("[!.]*")]) == 1
    for _ in range(2):  # made anew, and read
        assert_same(into(cache, photographs), expected)
    assert [file.suffix for file in cache.glob("[!.]*")] == [".cache"]


WHO = ("all of its processes", "the one that was started", "another of its processes")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Started:
    """The command, which nobody stopped."""
    folder = tmp_path_factory.mktemp("study")
    command = finished(STUDY, folder, small)
    assert command.status == 0, command.err
    command.lines = untimed(folder / "study" / "runs.jsonl")
    return command


@kills
def test_a_study_is_complete_whoever_is_killed(study, tmp_path, record_property, kill):
    record_property("kill", "study")
    who, at = random.choice(WHO), moment(kill, study.seconds)
    command, out = alikit(STUDY, tmp_path, small), tmp_path / "study"
    time.sleep(at)
    others = command.others()
    if who == WHO[2] and others:
        os.kill(random.choice(others), signal.SIGKILL)
    else:
        command.kill(group=who == WHO[0])
    status, deadline = command.wait(), time.monotonic() + PATIENCE
    while command.others() and time.monotonic() < deadline:  # they find out, and end
        time.sleep(0.05)
    assert not command.others() and "Traceback" not in command.err, (who, at, command.err)
    assert status != 2 or "a worker was killed" in command.err, command.err
    again = finished(STUDY, tmp_path, small)
    assert again.status == 0 and untimed(out / "runs.jsonl") == study.lines, (who, at, again.err)
    assert not list(out.glob("runs/*/checkpoint.pt"))
