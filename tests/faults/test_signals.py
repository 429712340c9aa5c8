"""Ctrl-C, once and again, SIGTERM as a cluster sends it, numbers that are none, two at once, and a clock that jumps.

Each ends cleanly, and can be gone on from.
"""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from started import SOAK, Started, alikit, finished
from test_kills import SMALL, STUDY, members, small, untimed

from alikit import runs

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
TRAIN = "train digits --steps 120 --batch 20 --seed 3 --out run"
STOPPED = r"stopped at step (\d+) of 120, saved; go on with: alikit (resume run --steps 120)"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    command = finished(TRAIN, folder)
    assert command.status == 0, command.err
    return folder / "run"


def assert_same(run: Path, whole: Path) -> None:
    """The weights, and what was measured of them. (A mean over the steps since the last report may be over fewer.)"""
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert runs.metrics(run)[-1] == runs.metrics(whole)[-1] and len(runs.metrics(run)) == len(runs.metrics(whole))


def slow(module: str, name: str) -> None:
    """Each call of a function says that it is reached, and stays there for a moment: time for a signal."""
    from importlib import import_module

    module = import_module(module)
    function = getattr(module, name)

    def slowed(*what, **how):
        Path(name).touch()
        time.sleep(0.5)
        return function(*what, **how)

    setattr(module, name, slowed)


SAVING = partial(slow, "alikit.runs", "save")
LOADING = partial(slow, "alikit.runs.running", "load")
MEASURING = partial(slow, "alikit.runs.running", "measured")


@pytest.mark.parametrize("signals", [(INT, INT), (TERM,), (HUP,), (TERM, INT, TERM, HUP)])
def test_a_stop_saves_and_a_second_one_does_not_stop_the_saving(whole, tmp_path, signals):
    command = alikit(TRAIN, tmp_path, SAVING)
    command.until((tmp_path / "run" / "metrics.jsonl").exists)
    (tmp_path / "save").unlink()
    command.kill(signals[0])
    command.until((tmp_path / "save").exists)
    for number in signals[1:]:
        command.kill(number, group=True)
        time.sleep(0.05)
    assert command.wait() == 130 and "Traceback" not in command.err, command.err
    step, again = re.fullmatch(STOPPED, command.last).groups()
    assert 0 < int(step) < 120 and runs.checkpoint(tmp_path / "run")["step"] == int(step)
    assert not list((tmp_path / "run").glob(".*.partial"))
    assert finished(again, tmp_path).status == 0
    assert_same(tmp_path / "run", whole)


def test_at_once_again_and_again(whole, tmp_path):
    """As somebody does who means it."""
    command = alikit(TRAIN, tmp_path)
    command.until((tmp_path / "run" / "metrics.jsonl").exists)
    while command.is_alive() and "stopped" not in command.err:
        command.kill(INT)
        time.sleep(0.001)
    assert command.wait() == 130 and "Traceback" not in command.err, command.err
    assert finished("resume run", tmp_path).status == 0
    assert_same(tmp_path / "run", whole)


def test_a_run_that_was_told_to_outlive_its_terminal_does(whole, tmp_path):
    """As by nohup."""
    command = alikit(TRAIN, tmp_path, partial(signal.signal, HUP, signal.SIG_IGN))
    command.until((tmp_path / "run" / "metrics.jsonl").exists)
    command.kill(HUP)
    assert command.wait() == 0
    assert_same(tmp_path / "run", whole)


def test_before_there_is_a_run_nothing_is_left(tmp_path):
    command = alikit(TRAIN, tmp_path, LOADING)
    command.until((tmp_path / "load").exists)
    command.kill(INT)
    assert command.wait() == 130 and command.err.strip() == "alikit: stopped"
    assert not (tmp_path / "run").exists()


def test_when_it_is_trained_and_only_to_be_measured(whole, tmp_path):
    command = alikit(TRAIN, tmp_path, MEASURING)
    command.until((tmp_path / "measured").exists)
    command.kill(INT)
    assert command.wait() == 130
    step, again = re.fullmatch(STOPPED, command.last).groups()
    assert step == "120" and finished(again, tmp_path).status == 0
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_a_study_keeps_what_is_finished(tmp_path, number):
    """Ctrl-C reaches all of its processes, SIGTERM the one that was started, as does SIGHUP here."""
    command = alikit(STUDY, tmp_path, small)
    command.until(lambda: [*tmp_path.glob("study/runs/*/settings.json")])
    command.kill(number, group=number == INT)
    assert command.wait() == 130 and "Traceback" not in command.err, command.err
    assert command.last == "stopped; finished runs are kept, and the same command goes on"
    assert not members(command.pid) and not (tmp_path / "study" / runs.LOCK).exists()
    assert finished(STUDY, tmp_path, small).status == 0
    assert [line["arm"] for line in untimed(tmp_path / "study")] == [*SMALL.arms]


def nothing_but(number: float, step: int) -> None:
    """One weight becomes `number` at a step."""
    from alikit.training import Trainer

    one_step = Trainer.one_step

    def injected(trainer: Trainer) -> dict:
        losses = one_step(trainer)
        if trainer.step == step:
            with torch.no_grad():
                next(trainer.model.parameters()).view(-1)[0] = number
        return losses

    Trainer.one_step = injected


@pytest.mark.parametrize("number", [float("nan"), float("inf")] if SOAK else [float("nan")])
def test_what_is_no_number_is_not_kept(whole, tmp_path, number):
    """Gone on with from the last good checkpoint, the run ends as it would have."""
    command = finished(f"{TRAIN} --save-every 0", tmp_path, partial(nothing_but, number, 61))
    says = r"alikit: the losses are no longer numbers at step 72: .*; run keeps .* of step 60"
    assert command.status == 2 and re.fullmatch(says, command.last), command.err
    assert runs.metrics(tmp_path / "run")[-1]["step"] == 60
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "run" / "weights.safetensors").values())
    assert finished("resume run", tmp_path).status == 0
    assert_same(tmp_path / "run", whole)


# One at a time.


def test_two_runs_into_one_folder_and_resuming_what_still_runs(whole, tmp_path):
    """Even where the first has written nothing yet."""
    first = alikit(TRAIN, tmp_path, LOADING)
    first.until((tmp_path / "load").exists)
    second = finished(TRAIN, tmp_path)
    busy = "alikit: another process is at work in run: wait until it is done, or stop it"
    assert (second.status, second.last) == (2, busy)
    first.until((tmp_path / "run" / "metrics.jsonl").exists)
    assert finished("resume run", tmp_path).last == busy
    assert first.wait() == 0
    assert_same(tmp_path / "run", whole)


def holding(folder: Path) -> None:
    with runs.alone(folder):
        Path("held").touch()
        time.sleep(600)


def test_a_lock_goes_with_its_process(tmp_path):
    holder = Started(tmp_path, holding, tmp_path / "run")
    holder.until((tmp_path / "held").exists)
    with pytest.raises(runs.AlikitError, match="another process is at work"), runs.alone(tmp_path / "run"):
        pass
    holder.kill()
    holder.wait()
    with runs.alone(tmp_path / "run"):
        assert os.listdir(tmp_path / "run") == [runs.LOCK]
    assert not (tmp_path / "run").exists()  # nothing came into it


# A clock that jumps.


def leaping() -> None:
    """Whoever asks for the time of day is a day off, to one side and to the other."""
    tell, days = time.time, [0]

    def told() -> float:
        days[0] += 1
        return tell() + 86_400 * (-1) ** days[0] * (days[0] % 3)

    time.time = told


def test_a_clock_that_jumps_changes_nothing(whole, tmp_path):
    begun = time.monotonic()
    assert finished(TRAIN, tmp_path, leaping).status == 0
    took = time.monotonic() - begun
    assert_same(tmp_path / "run", whole)
    seconds = [line["seconds"] for line in runs.metrics(tmp_path / "run") if "seconds" in line]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] <= took + 1
    for file in (tmp_path / "run").iterdir():
        os.utime(file, (4e9, 4e9))  # of the year 2096
    assert finished("resume run --steps 130", tmp_path, leaping).status == 0
