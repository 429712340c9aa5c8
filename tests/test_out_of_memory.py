"""A run that needs more memory than there is: one line with what would fit, or with how to go on."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import alikit, same_weights

from alikit import ALI, RECIPES, AlikitError, Game, runs
from alikit.runs import running
from alikit.training import Trainer

# First a small run, which imports everything. Then one may take 300 MB more than this process has: a large run, and one
# with the batch that is said to fit.
LIMITED = """
import re, resource, sys, torch
from contextlib import redirect_stderr
from io import StringIO
from alikit.cli import main

torch.set_num_threads(1)
batches = ["100", "16384"]
for number, batch in enumerate(batches):
    sys.argv = f"alikit train mixture-gan --batch {batch} --steps 2 --out run{number}".split()
    with redirect_stderr(StringIO()) as said:
        print("status", main())
    print(said.getvalue().splitlines()[-1])
    batches += re.findall("use --batch ([0-9]+)", said.getvalue())
    if not number:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
"""


class Large(ALI):
    """Of which 40 pictures fill a GPU."""

    def losses(self, x, y=None):
        if len(x) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().losses(x, y)


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recipe(monkeypatch) -> str:
    monkeypatch.setitem(RECIPES, "large", replace(RECIPES["digits"], game=Large))
    return "large"


def test_what_would_fit_is_said_before_there_is_a_folder(recipe):
    finished = alikit(f"train {recipe} --batch 256 --steps 2 --out run")
    assert finished.status == 2
    assert finished.err == (
        "alikit: not enough memory for batches of 256: use --batch 16 (changes={'batch_size': 16})\n"
    )
    assert not Path("run").exists()
    assert alikit(f"train {recipe} --batch 16 --steps 2 --out run").status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_on_a_processor():
    """And what is said to fit does."""
    limited = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300)
    lines = [line for line in limited.stdout.splitlines() if line.startswith(("status", "alikit"))]
    said = r"alikit: not enough memory for batches of 16384: use --batch (\d+) \(changes={'batch_size': \1}\)"
    assert lines[:2] == ["status 0", "status 2"] and re.fullmatch(said, lines[2]) and lines[3:] == ["status 0"], limited
    assert {file.name for file in Path().iterdir()} == {"run0", "run2"}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError(), RuntimeError("std::bad_alloc")])
def test_in_the_middle_of_a_run_the_checkpoint_of_before_stays(monkeypatch, error):
    line = "train digits --steps 6 --save-every 0 --seed 4 --out"
    one_step = Trainer.one_step

    def full(self):
        if self.step == 4:
            raise error
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "one_step", full)
        finished = alikit(f"{line} run")
    assert finished.status == 2 and "Traceback" not in finished.err
    says = "not enough memory at step 4; run keeps the weights and checkpoint of step 4: free some, and go on with: "
    assert finished.err.splitlines()[-1].startswith(f"alikit: {says}alikit resume run; or train anew with a smaller")
    assert runs.checkpoint(Path("run"))["step"] == 4
    assert alikit("resume run").status == 0 and alikit(f"{line} whole").status == 0 and same_weights("run", "whole")


def test_sampling_and_measuring(run, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Game, "_infer", full)
    for command, way in (
        ("sample", "fewer pictures"),
        ("reconstruct", "fewer pictures"),
        ("evaluate", "fewer metrics"),
    ):
        finished = alikit(f"{command} run")
        assert finished.status == 2 and re.fullmatch(f"alikit: not enough memory: .*{way}.*\n", finished.err)
    with pytest.raises(AlikitError, match="not enough memory: free some, or choose fewer metrics"):
        running.evaluate(run)


def test_other_errors_are_not_taken_for_it(run, monkeypatch):
    monkeypatch.setattr(Game, "_infer", lambda *_: {}["shape"])
    with pytest.raises(KeyError):
        running.evaluate(run)
