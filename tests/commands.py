"""The command line in this process, and what several test files look at afterwards."""

import io
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from alikit.cli import main
from alikit.training import Trainer


class Finished(NamedTuple):
    status: int
    out: str
    err: str


def alikit(line: str) -> Finished:
    """alikit("train digits --steps 20"): the command in this process, where torch is imported already."""
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["alikit", *shlex.split(line)]), redirect_stdout(out), redirect_stderr(err):
        status = main()
    return Finished(status, out.getvalue(), err.getvalue())


def stopped(line: str, step: int) -> Finished:
    """The same with Ctrl-C in the step after `step`."""
    one_step = Trainer.one_step

    def interrupted(self):
        if self.step == step:
            raise KeyboardInterrupt
        return one_step(self)

    with patch.object(Trainer, "one_step", interrupted):
        return alikit(line)


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in folder.rglob("*")}


def same_weights(run: Path | str, other: Path | str) -> bool:
    """To the last bit."""
    one, two = (load_file(Path(folder) / "weights.safetensors") for folder in (run, other))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
