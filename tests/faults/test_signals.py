"""Ctrl-C, once and again, SIGTERM as a cluster sends it, numbers that are none, two at once, and a clock that jumps.
Each ends cleanly, and can be gone on from."""

import re
import signal
import time
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
import torch
from started import ARMS, SOAK, STUDY, TRAIN, alikit, finished, small, untimed

from alikit import runs
from alikit.runs import running, watching
from alikit.training import Trainer

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
STOPPED = r"stopped at step (\d+) of 30, saved; go on with: alikit (resume run --steps 30)"


def assert_same(run: Path, whole: Path) -> None:
    """The weights, and what was measured of them. (A mean over the steps since the last report may be over fewer.)"""
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert runs.metrics(run)[-1] == runs.metrics(whole)[-1] and len(runs.metrics(run)) == len(runs.metrics(whole))


def slow(name: str) -> None:
    """Each call of a function says that it is reached, and stays there for a moment: time for a signal."""
    module = {"save": runs, "measured": watching}.get(name, running)
    function = getattr(module, name)

    def slowed(*what, **how):
        Path(name).touch()
        time.sleep(0.5)
        return function(*what, **how)

    setattr(module, name, slowed)


@pytest.mark.parametrize("signals", [(HUP,), (TERM, INT, TERM, HUP), (INT,) * 2000])
def test_a_stop_saves_and_a_second_one_does_not_stop_the_saving(whole, tmp_path, signals):
    """However often somebody presses Ctrl-C."""
    command = alikit(TRAIN, tmp_path, partial(slow, "save"))
    command.until((tmp_path / "run" / "metrics.jsonl").exists)
    (tmp_path / "save").unlink()
    command.kill(signals[0])
    if len(signals) < 9:
        command.until((tmp_path / "save").exists)
    for number in signals[1:]:
        if command.is_alive() and "stopped" not in command.err:
            command.kill(number, group=True)
            time.sleep(0.05 if len(signals) < 9 else 0.001)
    assert command.wait() == 130 and "Traceback" not in command.err, command.err
    step, again = re.fullmatch(STOPPED, command.last).groups()
    assert 0 < int(step) < 30 and runs.checkpoint(tmp_path / "run")["step"] == int(step)
    assert not list((tmp_path / "run").glob(".*.partial"))
    assert finished(again, tmp_path).status == 0
    assert_same(tmp_path / "run", whole.run)


def test_before_there_is_a_run_nothing_is_left_and_after_its_last_step_only_measuring(whole, tmp_path):
    for reached in ("load", "measured"):
        command = alikit(TRAIN, tmp_path, partial(slow, reached))
        command.until((tmp_path / reached).exists)
        command.kill(INT)
        assert command.wait() == 130
        if reached == "load":
            assert command.err.strip() == "alikit: stopped" and not (tmp_path / "run").exists()
    step, again = re.fullmatch(STOPPED, command.last).groups()
    assert step == "30" and finished(again, tmp_path).status == 0
    assert_same(tmp_path / "run", whole.run)


@pytest.mark.parametrize("number", [INT, TERM, HUP] if SOAK else [INT])
def test_a_study_keeps_what_is_finished(tmp_path, number):
    """Ctrl-C reaches all of its processes, others the one that was started."""
    command = alikit(STUDY, tmp_path, small)
    command.until(lambda: [*tmp_path.glob("study/runs/*/settings.json")])
    command.kill(number, group=number == INT)
    assert command.wait() == 130 and "Traceback" not in command.err, command.err
    assert command.last == "stopped; finished runs are kept, and the same command goes on"
    assert not command.others() and not (tmp_path / "study" / runs.LOCK).exists()
    assert finished(STUDY, tmp_path, small).status == 0
    assert [line["arm"] for line in untimed(tmp_path / "study" / "runs.jsonl")] == [*ARMS]


def no_number() -> None:
    """One weight is no number after 16 steps."""
    one_step = Trainer.one_step

    def injected(trainer: Trainer) -> dict:
        losses = one_step(trainer)
        if trainer.step == 16:
            next(trainer.model.parameters()).data.view(-1)[0] = torch.nan
        return losses

    Trainer.one_step = injected


def test_what_is_no_number_is_not_kept(whole, tmp_path):
    """Gone on with from the last good checkpoint, the run ends as it would have."""
    command = finished(f"{TRAIN} --save-every 0", tmp_path, no_number)
    says = r"alikit: the losses are no longer numbers at step 18: .*; run keeps .* of step 15"
    assert command.status == 2 and re.fullmatch(says, command.last), command.err
    assert runs.metrics(tmp_path / "run")[-1]["step"] == 15
    assert finished("resume run", tmp_path).status == 0
    assert_same(tmp_path / "run", whole.run)


def unheeding_and_leaping() -> None:
    """SIGHUP is ignored, as nohup does, and the time of day is a day or two off, to one side and to the other."""
    signal.signal(HUP, signal.SIG_IGN)
    now, days = time.time, cycle((-1, 2, 0, 1, -2))
    time.time = lambda: now() + 86_400 * next(days)
    slow("load")


def test_two_at_work_in_one_folder_a_lost_terminal_under_nohup_and_a_clock_that_jumps(whole, tmp_path):
    """The second is refused, even where the first has written nothing yet; the first ends as it would have."""
    first, run = alikit(TRAIN, tmp_path, unheeding_and_leaping), tmp_path / "run"
    first.until((tmp_path / "load").exists)
    busy = "alikit: another process is at work in run: wait until it is done, or stop it"
    assert finished(TRAIN, tmp_path).last == busy
    first.until((run / "metrics.jsonl").exists)
    first.kill(signal.SIGSTOP)  # it has to wait, for on a quick machine it would be done too soon
    assert finished("resume run", tmp_path).last == busy
    first.kill(HUP)
    first.kill(signal.SIGCONT)
    assert first.wait() == 0
    assert_same(run, whole.run)
    seconds = [line["seconds"] for line in runs.metrics(run) if "seconds" in line]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] <= first.seconds + 1
