"""Several processes: two of them do what one does, are stopped together, and go on from where they were.

What two processes find is found once, by `both`, and compared here with what this process finds alone.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from alikit import AlikitError, load, load_model, parallel, runs
from alikit.__main__ import main
from alikit.data import Dataset
from alikit.errors import Diverged
from alikit.models import ALI, GAN, Game
from alikit.networks import Deterministic, Discriminator, Frozen, Gaussian, mlp
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne
from alikit.training import Trainer

STEPS = 120


# Batch norm.

NORMS = {  # the layer, the shape of x, how far its mean is from 0, its type, and what differs by rounding
    "points": (nn.BatchNorm1d, (8, 3), 0, torch.float64, 1e-10),
    "pictures": (nn.BatchNorm2d, (8, 3, 4, 5), 0, torch.float64, 1e-10),
    "in float32": (nn.BatchNorm2d, (8, 3, 4, 5), 0, torch.float32, 1e-5),
    "far from 0": (nn.BatchNorm2d, (8, 3, 4, 5), 100, torch.float32, 1e-3),
    "in bfloat16": (nn.BatchNorm2d, (8, 3, 4, 5), 0, torch.bfloat16, 0.02),
}


def through_norm(name: str) -> dict[str, Tensor]:
    """What a layer of batch norm makes of this process's share, and the gradients of a loss and of a penalty on its
    slope."""
    kind, shape, mean, dtype, _ = NORMS[name]
    torch.manual_seed(0)
    layer = kind(3, momentum=0.05).to(torch.float32 if dtype == torch.bfloat16 else dtype)
    for values in layer.parameters():
        nn.init.normal_(values)
    layer = parallel.together(layer)
    x, wish = torch.randn(2, *shape, dtype=dtype)
    x, wish = parallel.share(x + mean).clone(), parallel.share(wish)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = layer(x)
    (slope,) = torch.autograd.grad((y.square() * wish).sum(), x, create_graph=True)
    found = {"y": y.detach(), "slope": slope.detach()}
    if dtype == torch.float64:
        slope.square().sum().backward()
        found |= {"second x": x.grad, "weight": layer.weight.grad}
    return found | {
        name: value.clone() for name, value in layer.state_dict().items() if "running" in name or "num" in name
    }


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_two_is_that_of_one(both, name):
    first, second = (found[name] for found in both)
    alone = through_norm(name)
    rounding = NORMS[name][-1]
    close = {"rtol": rounding, "atol": rounding}
    for quantity in ("y", "slope", "second x"):
        if quantity in alone:
            torch.testing.assert_close(torch.cat([first[quantity], second[quantity]]), alone[quantity], **close)
    if "weight" in alone:
        torch.testing.assert_close(first["weight"] + second["weight"], alone["weight"], **close)
    for statistic in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(first[statistic], alone[statistic], rtol=1e-5, atol=1e-5)
        assert torch.equal(first[statistic], second[statistic])


# Games. In float64, where two orders of the same sum do not drift apart.


class SameNoise:
    """Draws the codes of the whole batch, and takes this process's share."""

    step, drawn_together = 0, True

    def prior(self, n: int) -> Tensor:
        if not self.drawn_together:
            return super().prior(n).double()
        self.step += 1
        every = torch.randn(n * parallel.world(), self.z_dim, generator=torch.Generator().manual_seed(self.step))
        return parallel.share(every.double())


class OwnNoise(Gaussian):
    """Noise that is a function of the example, so that it is the same wherever the example goes."""

    def forward(self, v: Tensor) -> Tensor:
        mu, log_sigma = self.moments(v)
        return mu + log_sigma.exp() * (50 * v).sin()


def game(name: str) -> Game:
    torch.manual_seed(parallel.rank())  # what differs at first, the first process decides
    encoder = OwnNoise(mlp([2, 8, 8, 4], batch_norm=True))
    decoder = Deterministic(mlp([2, 8, 8, 2], batch_norm=True))
    of_pairs = Discriminator([nn.Identity(), nn.Identity()], mlp([4, 8, 1], pieces=2))
    of_x = Discriminator([nn.Identity()], mlp([2, 8, 3], pieces=2))
    kinds: dict[str, Callable[[], tuple[type, tuple]]] = {
        "one pass": lambda: (ALI, (encoder, decoder, of_pairs, 2)),
        "one pass and a penalty": lambda: (ALI, (encoder, decoder, of_pairs, 2, 0.5)),
        "two passes": lambda: (
            ALI,
            (encoder, decoder, Discriminator([nn.Identity(), nn.Identity()], mlp([4, 8, 1], batch_norm=True)), 2),
        ),
        "frozen decoder": lambda: (ALI, (encoder, Frozen(decoder), of_pairs, 2)),
        "GAN": lambda: (GAN, (decoder, Discriminator([nn.Identity()], mlp([2, 8, 1], pieces=2)), 2)),
        "K + 1": lambda: (
            KPlusOne,
            (encoder, decoder, Discriminator([nn.Identity(), nn.Identity()], mlp([4, 8, 3], pieces=2)), 2, 3),
        ),
        "feature matching": lambda: (FeatureMatchingGAN, (decoder, of_x, 2, 3)),
    }
    kind, arguments = kinds[name]()
    return type(kind.__name__, (SameNoise, kind), {})(*arguments).double()


GAMES = ("one pass", "one pass and a penalty", "two passes", "frozen decoder", "GAN", "K + 1", "feature matching")


def played(name: str) -> dict:
    """Weights, averaged weights and losses after some steps; and of the first process the model with statistics of its
    own, which the others are not asked for."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    points = Dataset("points", x, torch.arange(40) % 3)
    known = {"labelled": points.select(slice(12)), "labelled_batch": 6} if name in ("K + 1", "feature matching") else {}
    trainer = Trainer(game(name), points, batch_size=8, lr=0.01, averaging=0.9, precise_bn=True, **known)
    reports = trainer.run(6, every=2)
    trainer.model.drawn_together = trainer._average.module.drawn_together = False
    found = {"losses": [report.losses for report in reports], "weights": trainer.model.state_dict()}
    return found | ({"result": trainer.result.state_dict()} if parallel.rank() == 0 else {})


@pytest.mark.parametrize("name", GAMES)
def test_two_play_as_one(both, name):
    first, second = (found[name] for found in both)
    alone = played(name)
    close = {"rtol": 1e-8, "atol": 1e-9}
    if name == "feature matching":  # whose means are in float32 whatever comes
        close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(first["losses"], second["losses"], rtol=0, atol=0)
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    torch.testing.assert_close(first["losses"], alone["losses"], rtol=1e-6, atol=1e-6)  # kept as float32
    torch.testing.assert_close(first["weights"], alone["weights"], **close)
    torch.testing.assert_close(first["result"], alone["result"], **close)


# Noise, and what ends both.


def noise() -> Tensor:
    parallel.own_noise(0, 7)
    return torch.randn(5)


def test_each_has_its_own_noise(both):
    first, second = (found["noise"] for found in both)
    assert not torch.isclose(first, second).any()


def test_by_itself_a_process_keeps_its_generator():
    torch.manual_seed(3)
    expected = torch.randn(5)
    torch.manual_seed(3)
    parallel.own_noise(0, 7)
    assert torch.equal(torch.randn(5), expected)


class Lonely(Game):
    """Something happens at step 3 in the second process alone."""

    def __init__(self, happens: Callable[[], float]):
        super().__init__(None, 0)
        self.weight, self.happens, self.step = nn.Parameter(torch.zeros(1)), happens, 0

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"one": [self.weight]}

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        self.step += 1
        more = self.happens() if self.step == 3 and parallel.rank() == 1 else 0.0
        return {"one": self.weight.sum() * x.mean() + more}


def lonely(happens: Callable[[], float], every: int) -> tuple[str, int]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    trainer = Trainer(Lonely(happens), Dataset("points", torch.ones(8, 2)), batch_size=4)
    try:
        trainer.run(20, every)
    except (KeyboardInterrupt, Diverged) as error:
        return type(error).__name__, trainer.step
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return "", trainer.step


def asked_to_stop() -> float:
    signal.raise_signal(signal.SIGTERM)
    return 0.0


def test_asked_one_by_one_they_stop_together(both):
    """The step is done, and the next, in which the other is told."""
    assert [found["asked to stop"] for found in both] == [("KeyboardInterrupt", 4)] * 2


def test_they_diverge_together(both):
    assert [found["diverged"] for found in both] == [("Diverged", 4)] * 2


def refused(**options) -> str:
    points = Dataset("points", torch.ones(9, 2), torch.arange(9) % 3)
    with pytest.raises(AlikitError) as error:
        Trainer(Lonely(float), points, **options)
    return str(error.value)


def test_a_batch_that_two_cannot_share(both):
    why = "a step cannot be shared out evenly over 2 processes: choose a multiple of 2, or another number of processes"
    odd, odd_labels = f"5 examples {why}", f"3 labelled examples {why}"
    for found in both:
        assert (found["odd"], found["odd labels"]) == (odd, odd_labels)


def digits() -> dict[str, Tensor]:
    """The weights that the command line gets to, see `stopped`."""
    parts = load("digits")
    settings = {"recipe": "digits", "size": None, "skip_corrupt": False, "decoder": None, "seed": 4, "batch_size": 50}
    trainer = runs.trainer(settings, parts[0])
    trainer.run(STEPS)
    return trainer.result.state_dict()


def finish(rank: int, run: Path, port: int) -> int:
    """Goes on with the run as one of two that torchrun has started; returns the exit status."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, 2, 2, 1, "localhost", port)
    os.environ |= {name: str(value) for name, value in zip(names, values, strict=True)}
    os.environ["TORCHELASTIC_RUN_ID"] = "none"
    sys.argv = ["alikit", "resume", str(run)]
    with open(run.parent / f"said by {rank}", "w") as said, redirect_stdout(said), redirect_stderr(said):
        try:
            main()
        except SystemExit as stopped:
            return stopped.code or 0


def _find(rank: int, folder: Path, run: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    points = Dataset("points", torch.ones(9, 2), torch.arange(9) % 3)
    found = {
        **{name: through_norm(name) for name in NORMS},
        **{name: played(name) for name in GAMES},
        "noise": noise(),
        "asked to stop": lonely(asked_to_stop, every=20),
        "diverged": lonely(lambda: float("nan"), every=4),
        "odd": refused(batch_size=5),
        "odd labels": refused(batch_size=4, labelled=points, labelled_batch=3),
        "digits": digits(),
    }
    parallel.leave()
    found["status"] = finish(rank, run, port)
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def both(tmp_path_factory, stopped) -> list[dict]:
    """What each of two processes finds, which at last bring the stopped run to its end."""
    folder = tmp_path_factory.mktemp("both")
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_find, (folder, stopped["run"], port), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


# The command line.


class Finished(NamedTuple):
    status: int
    out: str
    err: str


def alikit(line: str, meanwhile: Callable[[], None] = lambda: None) -> Finished:
    """The command, its launcher in this process, where torch is imported already; `meanwhile` runs beside it."""
    beside = threading.Thread(target=meanwhile)
    with pytest.MonkeyPatch.context() as patch, open("out", "w+") as out, open("err", "w+") as err:
        patch.setattr(sys, "argv", ["alikit", *shlex.split(line)])
        patch.setenv("OMP_NUM_THREADS", "1")
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)  # which workers inherit
        beside.start()
        try:
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
                main()
        finally:
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
            beside.join()
    return Finished(stopped.value.code or 0, Path("out").read_text(), Path("err").read_text())


def worker(rank: int) -> int:
    """The process id of the worker of this rank."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"\nPPid:\t{os.getpid()}\n" in (place / "status").read_text()
            if mine and f"RANK={rank}" in (place / "environ").read_text().split("\0"):
                return int(place.name)
        except OSError:
            continue
    raise LookupError(rank)


def after_two_reports(do: Callable[[], None]) -> Callable[[], None]:
    log = Path("run/metrics.jsonl")
    before = log.read_text().count("\n") if log.exists() else 0

    def meanwhile() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if log.exists() and log.read_text().count("\n") >= before + 2:
                return do()
            time.sleep(0.005)

    return meanwhile


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> dict:
    """One run, stopped in three ways, gone on with by two processes each time. Of each: what was said, the step of the
    checkpoint, and the files; and where it lies."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        line = f"train digits --seed 4 --batch 50 --steps {STEPS} --out run --save-every 0 --devices 2 --strategy ddp"
        for way, do in {
            "second killed": lambda: os.kill(worker(1), signal.SIGKILL),
            "first killed": lambda: os.kill(worker(0), signal.SIGKILL),
            "preempted": lambda: os.kill(os.getpid(), signal.SIGTERM),
        }.items():
            finished = alikit(line, after_two_reports(do))
            found[way] = finished, runs.checkpoint(Path("run"))["step"], [file.name for file in Path("run").iterdir()]
            line = "resume run --save-every 0 --devices 2"
        found["run"] = Path("run").absolute()
    return found


ABORTS_AT_EXIT = "import atexit, os, runpy; atexit.register(os.abort); runpy.run_module('alikit', run_name='__main__')"


@pytest.mark.parametrize(("arguments", "status"), [("recipes", 0), ("train nothing", 2)])
def test_what_libraries_do_at_exit_is_no_part_of_a_workers_run(arguments, status):
    started = {"TORCHELASTIC_RUN_ID": "alikit", "WORLD_SIZE": "2", "RANK": "0"}
    one, of_two = (
        subprocess.run(
            [sys.executable, "-c", ABORTS_AT_EXIT, *arguments.split()],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        for environment in ({}, started)
    )
    assert (one.returncode, of_two.returncode) == (-signal.SIGABRT, status)
    assert (of_two.stdout, of_two.stderr) == (one.stdout, one.stderr) != ("", "")


@pytest.mark.parametrize(("way", "rank"), [("second killed", 1), ("first killed", 0)])
def test_a_killed_worker_ends_all(stopped, way, rank):
    (status, out, err), step, names = stopped[way]
    assert (status, out) == (1, "") and "Traceback" not in err, err
    assert err.splitlines()[-1] == (
        f"alikit: worker {rank} of 2 was killed by SIGKILL; run keeps the checkpoint of step {step}; "
        "go on with: alikit resume run --devices 2"
    )
    assert err.count("alikit") == 2 and 12 <= step < STEPS
    assert not [name for name in names if name.startswith(".") and name != runs.LOCK]


def test_sigterm_saves(stopped):
    (status, out, err), step, _ = stopped["preempted"]
    assert (status, out) == (130, "") and "Traceback" not in err, err
    again = f"alikit resume run --steps {STEPS} --save-every 0 --devices 2"
    assert err.splitlines()[-1] == f"stopped at step {step} of {STEPS}, saved; go on with: {again}"
    assert stopped["first killed"][1] < step < STEPS


def test_gone_on_with_by_two_it_ends_as_if_it_had_not_been_stopped(stopped, both):
    run = stopped["run"]
    said, nothing = ((run.parent / f"said by {rank}").read_text() for rank in (0, 1))
    assert [found["status"] for found in both] == [0, 0] and nothing == "", nothing
    assert said.count("reconstruction_mean") == 1 and "weights, log and pictures in" in said
    weights = load_file(run / "weights.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in both[0]["digits"].items())
    steps = [line["step"] for line in runs.metrics(run)]
    assert steps == [*sorted({*range(12, STEPS + 1, 12), 30}), STEPS]
    assert load_model(run).sample(3).shape == (3, 1, 8, 8)


@pytest.mark.usefixtures("both")
def test_gone_on_with_by_one(stopped, tmp_path, monkeypatch):
    """With other noise, but the same weights, optimiser and examples."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stopped["run"], "run")
    finished = alikit(f"resume run --steps {STEPS + 10}")
    assert finished.status == 0 and runs.checkpoint(Path("run"))["step"] == STEPS + 10
    assert alikit("evaluate run").status == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--devices 2 --strategy fsdp", "no strategy called 'fsdp': there is ddp"),
        ("--devices 2 --batch 51", "51 examples a step cannot be shared out evenly over 2 processes"),
        ("--num-nodes 2", "add --rendezvous HOST:PORT"),
        ("--devices 2 --rendezvous node01:29500", "one machine needs no --rendezvous"),
        ("--num-nodes 2 --rendezvous node01", "--rendezvous is HOST:PORT"),
        ("--num-nodes 2 --rendezvous node01:70000", "--rendezvous is HOST:PORT"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    status, _, err = alikit(f"train digits --out run {options}")
    assert status == 2 and re.fullmatch(f"alikit: [^\n]*{re.escape(said)}[^\n]*\n", err)
    assert not Path("run").exists()
