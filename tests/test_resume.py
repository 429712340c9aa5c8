"""Runs that were stopped, killed or moved go on as if nothing had happened."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from commands import alikit, files, same_weights, stopped

from alikit import runs
from alikit.cli import main
from alikit.runs.settings import MOST_TEXT


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["digits-semi", "digits-feature-matching", "digits-supervised"])
def test_a_stopped_run_with_labels_ends_as_if_nothing_had_happened(name):
    line = f"train {name} --labels 20 --steps 6 --seed 4"
    assert alikit(f"{line} --out whole").status == 0
    assert stopped(f"{line} --out stopped", 4).status == 130
    assert runs.checkpoint(Path("stopped"))["step"] == 4
    assert alikit("resume stopped").status == 0 and same_weights("whole", "stopped")
    assert runs.metrics(Path("whole"))[-1] == runs.metrics(Path("stopped"))[-1]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(digits):
    """And what the killed process left half-written is gone."""
    Path("run").mkdir()
    shutil.copy(digits / "settings.json", "run")
    Path("run/.checkpoint.pt.123.partial").write_bytes(b"half")
    assert alikit("resume run").status == 0
    assert same_weights("run", digits) and not list(Path("run").glob(".*"))


@pytest.mark.parametrize("missing", [["samples", "reconstructions"], ["samples"]])
def test_a_run_killed_before_its_evaluation_gets_it(run, digits, missing):
    """Or before it, between the pictures of its last step."""
    log = run / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(True)[:-1]))
    for name in missing:
        (run / f"{name}-0000020.png").unlink()
    assert alikit("resume run").status == 0
    assert files(run).keys() == files(digits).keys()
    assert runs.metrics(run)[-1] == runs.metrics(digits)[-1] and same_weights(run, digits)
    for name in ("samples-0000020.png", "reconstructions-0000020.png"):
        assert (run / name).read_bytes() == (digits / name).read_bytes()


def test_weights_that_were_removed_come_back_from_the_checkpoint(run, digits):
    (run / "weights.safetensors").unlink()
    assert "holds no weights yet: go on with: alikit resume run" in alikit("sample run").err
    assert alikit("resume run").status == 0 and same_weights(run, digits)
    assert runs.metrics(run) == runs.metrics(digits)


def test_judged_on_other_data_it_says_so(run, caplog):
    """Not refused: other data is a fair question. But a training picture should not pass for a held-out one unsaid."""
    assert alikit("evaluate run --metrics reconstruction").status == 0 and not caplog.messages
    runs.write_settings(run, runs.read_settings(run) | {"digest": [1, 2, 3]})
    for command in ("evaluate run --metrics reconstruction", "reconstruct run --out a.png"):
        caplog.clear()
        assert alikit(command).status == 0
        (message,) = caplog.messages
        assert message.startswith("not the data that this run was trained on")
    runs.write_settings(run, runs.read_settings(run) | {"data_from_run": "folder:gone"})
    assert re.search("no folder run/gone: .*; if it lies elsewhere now: --data folder:PATH", alikit("evaluate run").err)


def test_resume_goes_further(run):
    """Also where a study made the run, which has no command of its own; of very many commands the first and the last
    are kept."""
    settings = runs.read_settings(run)
    first, again = settings.pop("command"), "; alikit resume run --steps 20"
    runs.write_settings(run, settings)
    assert alikit("resume run --steps 21").status == 0
    assert runs.read_settings(run)["command"] == "alikit resume run --steps 21"
    assert runs.checkpoint(run)["step"] == 21 and (run / "samples-0000021.png").exists()
    many = first + again * ((MOST_TEXT - len(first)) // len(again))
    runs.write_settings(run, runs.read_settings(run) | {"command": many})
    for steps in (22, 23):
        assert alikit(f"resume run --steps {steps}").status == 0
    commands = [first, "...", "alikit resume run --steps 22", "alikit resume run --steps 23"]
    assert runs.read_settings(run)["command"] == "; ".join(commands)


def test_a_run_that_goes_on_with_another_torch_or_without_bfloat16_says_so_once(run, caplog, monkeypatch):
    """And its settings name both: its numbers are not those of one of them alone."""
    settings, state = runs.read_settings(run), torch.load(run / "checkpoint.pt")
    versions = settings["versions"] | {"torch": "1.0"}
    runs.write_settings(run, settings | {"bf16": True, "precision": "bfloat16", "versions": versions})
    torch.save(state | {"bf16": True}, run / "checkpoint.pt")
    monkeypatch.setattr("alikit.training.has_bf16", lambda device: False)
    assert alikit("resume run --steps 21").status == 0
    two = (f"torch (1.0, {torch.__version__})", "precision (bfloat16, float32)")
    for message, both in zip(caplog.messages, two, strict=True):
        assert message.startswith(f"run goes on with another {both}: ")
    caplog.clear()
    assert alikit("resume run --steps 22").status == 0 and not caplog.messages
    found = runs.read_settings(run)
    assert found["precision"] == "bfloat16, float32" and found["steps"] == 22
    assert found["versions"] == versions | {"torch": f"1.0, {torch.__version__}"}
    runs.write_settings(run, found | {"versions": versions | {"torch": f"{torch.__version__}, 1.0"}})
    assert alikit("resume run --steps 23").status == 0 and len(caplog.messages) == 1, "back again is another, too"


def test_a_run_goes_on_where_standard_error_is_closed(run, monkeypatch):
    """To which a progress bar would still write."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "argv", ["alikit", "resume", "run", "--steps", "22"])
    assert main() == 0


def test_a_run_is_found_by_its_data_from_anywhere(paint, tmp_path, monkeypatch):
    """The path was typed from where the run was made; run and pictures have moved together since."""
    for number in range(30):
        paint(f"work/pictures/{number % 2}/{number}.png", size=(8, 8))
    monkeypatch.chdir(tmp_path / "work")
    assert alikit("train digits --data folder:pictures --batch 4 --steps 4 --out runs/mine").status == 0
    assert str(tmp_path) not in Path("runs/mine/settings.json").read_text()
    monkeypatch.chdir(tmp_path)
    Path("work").rename("moved")
    assert alikit("resume moved/runs/mine --steps 6").status == 0
    assert alikit("reconstruct moved/runs/mine --out a.png").status == 0
    Path("moved/pictures").rename("elsewhere")
    assert "no folder" in alikit("evaluate moved/runs/mine").err
    assert alikit("evaluate moved/runs/mine --data folder:elsewhere").status == 0
    before = files(Path("moved"))
    Path("elsewhere/0").rename("elsewhere/2")  # the same pictures, of other classes
    for says in ("has other labels, classes or factors than", "is not"):
        finished = alikit("resume moved/runs/mine --steps 7 --data folder:elsewhere")
        assert finished.status == 2 and f"{says} what this run began with" in finished.err
        paint("elsewhere/2/new.png", size=(8, 8))
    assert files(Path("moved")) == before


def test_a_run_from_before_labels_were_noticed_goes_on(run):
    settings = runs.read_settings(run)
    runs.write_settings(run, settings | {"digest": settings["digest"][:3]})
    assert alikit("resume run --steps 21").status == 0
