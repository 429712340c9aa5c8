"""SIGKILL at moments chosen by chance: of a run, of a study, and while a cache is made.

Each is gone on with, to the very end that it would have had. `make soak` kills twenty of each, and writes down how it
went.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from games import assert_same
from PIL import Image
from started import PATIENCE, SOAK, Started, alikit, finished

from alikit import runs, studies
from alikit.data import load
from alikit.studies import STUDIES, Study

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes as Linux shows them")
KILLS = 20 if SOAK else 2
kills = pytest.mark.parametrize("kill", range(KILLS))


def moment(kill: int, seconds: float) -> float:
    """When to kill: by chance, within the kill's own part of the time that all of it takes, so that all parts come."""
    return (kill + random.random()) / KILLS * seconds


@pytest.fixture
def note(record_property):
    """Keeps what was killed, and when, for the summary at the end."""
    return lambda what, at, state: record_property("kill", [what, round(at, 2), state])


# A run.

TRAIN = "train digits --steps 40 --batch 50 --set ema=0.9 --seed 5 --save-every 0 --out run"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Started:
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    command = finished(TRAIN, folder)
    assert command.status == 0, command.err
    command.run = folder / "run"
    return command


def without_pace(run: Path) -> list[dict]:
    return [{**line, "images_per_second": 0, "seconds": 0} for line in runs.metrics(run)]


@kills
def test_a_run_ends_as_if_it_had_not_been_killed(whole, tmp_path, note, kill):
    command, run, at = alikit(TRAIN, tmp_path), tmp_path / "run", moment(kill, whole.seconds)
    time.sleep(at)
    command.kill()
    status = command.wait()
    if not (run / "settings.json").is_file():
        state, go_on = "before it began", TRAIN
    elif runs.is_untouched(run):
        state, go_on = "before the first checkpoint", "resume run"
    else:
        state, go_on = f"at step {runs.checkpoint(run)['step']}", "resume run"
    note("run", at, state if status else "after its end")
    again = finished(go_on, tmp_path)
    # Chance may come too late, where the machine was quicker than before.
    assert (status, again.status) in ((-signal.SIGKILL, 0), (0, 2)), again.err
    assert_same(runs.checkpoint(run), runs.checkpoint(whole.run))
    assert without_pace(run) == without_pace(whole.run), state
    assert {file.name for file in run.iterdir()} == {file.name for file in whole.run.iterdir()}, state
    for file in (*run.glob("*.png"), run / "weights.safetensors"):
        assert file.read_bytes() == (whole.run / file.name).read_bytes(), (state, file.name)


# A cache.


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Noise in two classes, large enough that reading it takes a moment."""
    folder, noise = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(150):
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (160, 200, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
    return folder


def into(cache: Path, folder: Path) -> list[torch.Tensor]:
    os.environ["ALIKIT_CACHE"] = str(cache)
    return [tensor.clone() for part in load(f"folder:{folder}", size=32) for tensor in (part.x, part.labels)]


@kills
def test_a_cache_is_whole_or_absent(photographs, tmp_path, monkeypatch, note, kill):
    monkeypatch.setenv("ALIKIT_CACHE", "")  # and as it was afterwards
    cache, begun = tmp_path / "cache", time.monotonic()
    expected, seconds = into(tmp_path / "undisturbed", photographs), time.monotonic() - begun
    command = Started(tmp_path, into, cache, photographs)
    command.until(lambda: (cache.is_dir() and any(cache.glob("*.partial"))) or not command.is_alive())
    at = moment(kill, seconds)
    time.sleep(at)
    command.kill()
    status, left = command.wait(), sorted(file.suffix for file in cache.glob("[!.]*"))
    note("cache", at, "after its end" if status == 0 else "half-written" if ".partial" in left else "whole")
    assert status in (0, -signal.SIGKILL) and len(left) == 1
    for _ in range(2):  # made anew, and read
        assert_same(into(cache, photographs), expected)
    assert ".partial" not in {file.suffix for file in cache.glob("[!.]*")} and len([*cache.glob("[!.]*")]) == 1


# A study.

SMALL = Study(
    "two short arms",
    {arm: ("mixture-gan-paper", {"batch_size": 20, "ema": ema}) for arm, ema in {"calm": 0.9, "gan": 0.0}.items()},
    steps=120,
    runs=1,
)
STUDY = "study mixture --workers 2 --out study"
WHO = ("all of its processes", "the one that was started", "another of its processes")


def small() -> None:
    """The study is a small one, and its workers are forks, so that they are in its session."""
    STUDIES["mixture"] = SMALL
    studies.CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Started:
    """The command, which nobody stopped."""
    folder = tmp_path_factory.mktemp("study")
    command = finished(STUDY, folder, small)
    assert command.status == 0, command.err
    command.lines = untimed(folder / "study")
    return command


def untimed(out: Path) -> list[dict]:
    """The lines of finished runs, without their times."""
    lines = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0, "history": [{**h, "seconds": 0} for h in line["history"]]} for line in lines]


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (place / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        found += [int(place.name)] if int(of) == group and state != "Z" else []
    return found


@kills
def test_a_study_is_complete_whoever_is_killed(study, tmp_path, note, kill):
    who, at = random.choice(WHO), moment(kill, study.seconds)
    command, out = alikit(STUDY, tmp_path, small), tmp_path / "study"
    time.sleep(at)
    others = [process for process in members(command.pid) if process != command.pid]
    if who == WHO[2] and others:
        os.kill(random.choice(others), signal.SIGKILL)
    else:
        command.kill(group=who == WHO[0])
    status, deadline = command.wait(), time.monotonic() + PATIENCE
    while members(command.pid) and time.monotonic() < deadline:  # they find out, and end
        time.sleep(0.05)
    assert not members(command.pid) and "Traceback" not in command.err, command.err
    assert status != 2 or "a worker was killed" in command.err, command.err
    done = len((out / "runs.jsonl").read_text().splitlines()) if (out / "runs.jsonl").is_file() else 0
    note("study", at, f"{who}, {done} of 2 runs done")
    again = finished(STUDY, tmp_path, small)
    assert again.status == 0 and untimed(out) == study.lines, again.err
    assert not list(out.glob("runs/*/checkpoint.pt"))
