"""Several processes: two find what one finds, are stopped together, and go on from where they were."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError

from alikit import AlikitError, distributed, runs
from alikit.__main__ import main
from alikit.data import Dataset
from alikit.models import ALI, GAN, Game
from alikit.networks import Deterministic, Discriminator, Frozen, Gaussian, mlp
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne
from alikit.training import Trainer

STEPS = 120
TRAIN = f"train digits --seed 4 --batch 50 --steps {STEPS} --save-every 0"

NORMS = {  # the layer, the shape of x, its mean, its type, and the rounding that is allowed
    "points": (nn.BatchNorm1d, (8, 3), 0, torch.float64, 1e-10),
    "pictures": (nn.BatchNorm2d, (8, 3, 4, 5), 0, torch.float64, 1e-10),
    "float32 far from 0": (nn.BatchNorm2d, (8, 3, 4, 5), 100, torch.float32, 1e-3),
    "bfloat16": (nn.BatchNorm2d, (8, 3, 4, 5), 0, torch.bfloat16, 0.02),
}


def normalised(name: str) -> dict[str, Tensor]:
    """What batch norm makes of this process's share, the slope of a loss, and the gradients of a penalty on it."""
    kind, shape, mean, dtype, _ = NORMS[name]
    torch.manual_seed(0)
    layer = kind(3, momentum=0.05).to(torch.float32 if dtype == torch.bfloat16 else dtype)
    for values in layer.parameters():
        nn.init.normal_(values)
    layer = distributed.synchronise(layer)
    x, weight = (distributed.share(part).clone() for part in torch.randn(2, *shape, dtype=dtype))
    x = (x + mean).to(memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format).requires_grad_()
    y = layer(x)
    (slope,) = torch.autograd.grad((y.square() * weight).sum(), x, create_graph=True)
    found = {"y": y.detach(), "slope": slope.detach()}
    if dtype == torch.float64:
        slope.square().sum().backward()
        found |= {"of penalty": x.grad, "sum: weight": layer.weight.grad}
    return found | {f"same: {name}": value.clone() for name, value in layer.named_buffers()}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_two_is_that_of_one(both, name):
    rounding = NORMS[name][-1]
    for quantity, alone in normalised(name).items():
        first, second = (found[name][quantity] for found in both)
        if quantity.startswith("same"):
            assert torch.equal(first, second)
        whole = (
            first + second
            if quantity.startswith("sum")
            else first
            if "same" in quantity
            else torch.cat([first, second])
        )
        torch.testing.assert_close(whole, alone, rtol=rounding, atol=rounding)


# Games. In float64, where two orders of the same sum do not drift apart.


class SameNoise:
    """Draws the codes of the whole batch, and takes this process's share."""

    step, drawn_together = 0, True

    def prior(self, n: int) -> Tensor:
        if not self.drawn_together:
            return super().prior(n).double()
        self.step += 1
        every = torch.randn(n * distributed.world(), self.z_dim, generator=torch.Generator().manual_seed(self.step))
        return distributed.share(every.double())


class NoiseOfExample(Gaussian):
    """Noise that is a function of the example, and so the same in whichever process the example is."""

    def forward(self, v: Tensor) -> Tensor:
        mu, log_sigma = self.moments(v)
        return mu + log_sigma.exp() * (50 * v).sin()


def pairs(outputs: int = 1, **kind) -> Discriminator:
    return Discriminator([nn.Identity(), nn.Identity()], mlp([4, 8, outputs], **kind))


def of_x(outputs: int) -> Discriminator:
    return Discriminator([nn.Identity()], mlp([2, 8, outputs], pieces=2))


GAMES: dict[str, Callable[[nn.Module, nn.Module], tuple]] = {
    "one backward pass": lambda encoder, decoder: (ALI, encoder, decoder, pairs(pieces=2), 2),
    "with a penalty": lambda encoder, decoder: (ALI, encoder, decoder, pairs(pieces=2), 2, 0.5),
    "two backward passes": lambda encoder, decoder: (ALI, encoder, decoder, pairs(batch_norm=True), 2),
    "frozen decoder": lambda encoder, decoder: (ALI, encoder, Frozen(decoder), pairs(pieces=2), 2),
    "GAN": lambda encoder, decoder: (GAN, decoder, of_x(1), 2),
    "K + 1": lambda encoder, decoder: (KPlusOne, encoder, decoder, pairs(3, pieces=2), 2, 3),
    "feature matching": lambda encoder, decoder: (FeatureMatchingGAN, decoder, of_x(3), 2, 3),
}


def played(name: str) -> dict:
    """Losses and weights after some steps; in process 0 also the result, whose statistics it counts by itself."""
    torch.manual_seed(distributed.rank())  # other first weights, unless they are synchronised
    encoder = NoiseOfExample(mlp([2, 8, 8, 4], batch_norm=True))
    kind, *parts = GAMES[name](encoder, Deterministic(mlp([2, 8, 8, 2], batch_norm=True)))
    model: Game = type(kind.__name__, (SameNoise, kind), {})(*parts).double()
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = Dataset("points", x, torch.arange(40) % 3)
    known = {"labelled": points.select(slice(12)), "labelled_batch": 6} if name in ("K + 1", "feature matching") else {}
    trainer = Trainer(model, points, batch_size=8, lr=0.01, averaging=0.9, precise_bn=True, **known)
    reports = trainer.run(6, every=2)
    trainer.model.drawn_together = trainer._average.module.drawn_together = False
    found = {"losses": [report.losses for report in reports], "weights": trainer.model.state_dict()}
    return found | ({"result": trainer.result.state_dict()} if distributed.rank() == 0 else {})


@pytest.mark.parametrize("name", GAMES)
def test_two_play_as_one(both, name):
    (first, second), alone = (found[name] for found in both), played(name)
    assert first["losses"] == second["losses"]
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    torch.testing.assert_close(first["losses"], alone["losses"], rtol=1e-6, atol=1e-6)  # kept as float32
    tolerance = 1e-5 if name == "feature matching" else 1e-8  # its means are in float32
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=tolerance, atol=tolerance / 10)
    torch.testing.assert_close(first["result"], alone["result"], rtol=tolerance, atol=tolerance / 10)


def noise() -> Tensor:
    torch.manual_seed(3)
    distributed.own_noise(0, 7)
    return torch.randn(5)


def test_noise_differs_between_processes(both):
    assert not torch.isclose(both[0]["noise"], both[1]["noise"]).any()
    assert torch.equal(noise(), torch.randn(5, generator=torch.Generator().manual_seed(3)))  # alone


def told() -> dict:
    """What this process hears of the others."""
    rank, nan = distributed.rank(), torch.tensor(float("nan"))
    found = {"stop": [distributed.any_of_all(rank == 1), distributed.any_of_all(False)]}
    with patch.object(distributed, "_parent", -1 if rank == 1 else distributed._parent):
        found["stop"].append(distributed.any_of_all(False))
    losses, gradients = distributed.average({"one": nan if rank else nan.zero_()}, {"one": (torch.eye(2) * rank,)})
    found |= {"diverged": losses["one"].isnan().item(), "gradient": gradients["one"][0]}
    with distributed.in_turn():
        found["turn"] = time.monotonic()
    layer = distributed.synchronise(nn.BatchNorm1d(2))
    if rank == 0:
        copy = distributed.apart(deepcopy(layer))
        found["apart"] = type(copy) is nn.BatchNorm1d and copy(torch.eye(2)).isfinite().all()
    return found


def test_what_one_meets_all_hear(both):
    """A signal, the loss of the launcher, and a loss that is not a number."""
    for found in both:
        assert found["stop"] == [True, False, True] and found["diverged"]
        assert torch.equal(found["gradient"], torch.eye(2) / 2)
    assert both[0]["turn"] < both[1]["turn"] and both[0]["apart"]


def test_a_batch_divides_by_the_processes(both):
    distributed.check_divides(6, 3)
    for number, what in ((5, "examples"), (3, "labelled examples")):
        with pytest.raises(AlikitError, match=f"{number} {what} a step do not divide by 2 processes"):
            distributed.check_divides(number, 2, what)


# The command line.


def workers(launcher: subprocess.Popen) -> list[int]:
    """Their process ids, by rank."""
    return [int(child) for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]


def launched(line: str, after: int, do: Callable[[subprocess.Popen], None]) -> tuple[int, str]:
    """Runs the command until the log has so many lines, then does something to it; its exit status and stderr."""
    log = Path("run/metrics.jsonl")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "alikit", *line.split()]
    launcher = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    while launcher.poll() is None and not (log.exists() and log.read_text().count("\n") >= after):
        time.sleep(0.01)
    do(launcher)
    out, err = launcher.communicate(timeout=60)
    assert out == "" and "Traceback" not in err, err
    return launcher.returncode, err


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> dict:
    """One run that a killed worker ends, and whose launcher then gets Ctrl-C: status, stderr and step of both."""
    found = {}
    with pytest.MonkeyPatch.context() as context:
        context.chdir(tmp_path_factory.mktemp("runs"))
        killed = launched(
            f"{TRAIN} --out run --devices 2", 2, lambda launcher: os.kill(workers(launcher)[1], signal.SIGKILL)
        )
        found["killed"] = *killed, runs.checkpoint(Path("run"))["step"]
        asked = launched(
            "resume run --save-every 0 --devices 2", 4, lambda launcher: launcher.send_signal(signal.SIGINT)
        )
        found["asked"] = *asked, runs.checkpoint(Path("run"))["step"]
        return found | {"folder": Path.cwd()}


def _find(rank: int, folder: Path, ports: list[int]) -> None:
    """One of two processes that torchrun could have started."""
    os.chdir(folder)
    torch.set_num_threads(1)
    counts = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1, "RANK": rank, "LOCAL_RANK": rank}
    os.environ |= {name: str(value) for name, value in counts.items()}
    os.environ |= {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": str(ports[0])}
    assert distributed.launch([], devices=2) is None
    found = {**{name: normalised(name) for name in NORMS}, **{name: played(name) for name in GAMES}}
    found |= {"noise": noise(), **told()}
    distributed.leave()
    for line, port in zip((f"{TRAIN} --out whole", "resume run", "resume nowhere"), ports[1:], strict=True):
        os.environ["MASTER_PORT"] = str(port)
        sys.argv = ["alikit", *line.split()]
        with open(f"said by {rank}", "w+") as said, redirect_stdout(said), redirect_stderr(said):
            with pytest.raises(SystemExit) as ended:
                main()
            found[line.split()[-1]] = ended.value.code or 0, (said.seek(0), said.read())[1]
    torch.save(found, f"{rank}.pt")


@pytest.fixture(scope="module")
def both(stopped) -> list[dict]:
    """What each of two processes finds, which also train a run that is not stopped, and bring the stopped one to its
    end."""
    folder = stopped["folder"]
    free = [socket.create_server(("localhost", 0)) for _ in range(4)]
    ports = [server.getsockname()[1] for server in free]
    for server in free:
        server.close()
    torch.multiprocessing.spawn(_find, (folder, ports), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_a_killed_worker_ends_all(stopped):
    status, err, step = stopped["killed"]
    assert status == 1 and 12 <= step < STEPS
    assert err.splitlines()[-1] == (
        "alikit: worker 1 of 2 was killed by SIGKILL; go on from its last checkpoint with: alikit resume run --devices 2"
    )
    assert err.count("alikit") == 2, err


def test_ctrl_c_at_the_launcher_saves(stopped):
    status, err, step = stopped["asked"]
    again = f"alikit resume run --steps {STEPS} --save-every 0 --devices 2"
    assert status == 130 and stopped["killed"][-1] < step < STEPS
    assert err.splitlines()[-1] == f"stopped at step {step} of {STEPS}, saved; go on with: {again}"


def test_a_resumed_run_ends_as_if_it_had_not_been_stopped(stopped, both):
    run, whole = (load_file(stopped["folder"] / name / "weights.safetensors") for name in ("run", "whole"))
    torch.testing.assert_close(run, whole, rtol=0, atol=0)
    (status, said), silence = both[0]["run"], both[1]["run"]
    assert status == 0 and said.count("reconstruction_mean") == 1 and silence == (0, "")
    steps = [line["step"] for line in runs.metrics(stopped["folder"] / "run")]
    assert steps == [line["step"] for line in runs.metrics(stopped["folder"] / "whole")]


def test_one_process_goes_on(stopped, both, monkeypatch):
    monkeypatch.chdir(stopped["folder"])
    monkeypatch.setattr(sys, "argv", ["alikit", "resume", "whole", "--steps", str(STEPS + 10)])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert runs.checkpoint(Path("whole"))["step"] == STEPS + 10


def test_a_mistake_of_all_is_reported_once(both):
    assert [status for status, _ in (found["nowhere"] for found in both)] == [2, 2]
    assert sorted(len(said.splitlines()) for _, said in (found["nowhere"] for found in both)) == [0, 1]


@pytest.fixture
def torchrun(monkeypatch):
    """In place of torchrun: raises its `error`, and keeps the arguments."""
    fake = SimpleNamespace(error=None)

    def run(arguments):
        fake.arguments, fake.threads = arguments, os.environ["OMP_NUM_THREADS"]
        if fake.error:
            raise fake.error

    monkeypatch.setattr("torch.distributed.run.run", run)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("logging.disable", lambda *_: None)
    with patch.dict(os.environ):
        os.environ.pop("OMP_NUM_THREADS", None)
        yield fake


@pytest.mark.parametrize(
    ("exits", "run", "status", "said"),
    [
        (
            {0: -9, 1: 75},
            "begun",
            1,
            "worker 0 of 2 was killed by SIGKILL; go on from its last checkpoint with: alikit ",
        ),
        ({1: 75, 0: 1}, "begun", 1, "worker 0 of 2 ended with status 1, see above; go on"),
        ({1: 1}, "not begun", 1, "worker 1 of 2 ended with status 1, see above; the run had not begun: train again"),
        ({0: 75}, "begun", 1, "worker 0 of 2 lost the others, whose machine says why"),
        ({0: 2, 1: 75}, "begun", 2, ""),
        ({0: 130, 1: 130}, "begun", 130, ""),
    ],
)
def test_the_first_to_end_is_named(torchrun, tmp_path, capsys, exits, run, status, said):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "settings.json").touch()
    failures = {rank: ProcessFailure(rank, 1, code, "nowhere") for rank, code in exits.items()}
    torchrun.error = ChildFailedError("alikit", failures)
    assert distributed.launch(["train", "digits"], 2, run=tmp_path / run) == status
    assert said in capsys.readouterr().err


def test_several_machines(torchrun):
    torch.set_num_threads(2)
    assert distributed.launch(["train", "digits", "--lr", "1"], 2, 3, "node01:29500") == 0
    asked = torchrun.arguments
    assert (asked.nnodes, asked.nproc_per_node, asked.rdzv_endpoint, asked.rdzv_backend) == (
        "3",
        "2",
        "node01:29500",
        "c10d",
    )
    assert asked.training_script_args == ["train", "digits", "--lr", "1"] and torchrun.threads == "1"
    torchrun.error = RendezvousError("no answer")
    with pytest.raises(AlikitError, match="did not find each other at node01:29500"):
        distributed.launch([], 2, 3, "node01:29500")
    torchrun.error = SignalException("asked", signal.SIGTERM)
    assert distributed.launch([], 2) == distributed.STOPPED
    assert distributed.launch([], None) is None and distributed.options(4, 2, "a:1")[-2:] == ["--rendezvous", "a:1"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((None, 2), "--rendezvous HOST:PORT: add it"),
        ((2, 1, "node01:29500"), "one machine needs no --rendezvous"),
        ((None, 2, "node01"), "--rendezvous is HOST:PORT"),
        ((None, 2, "node01:70000"), "--rendezvous is HOST:PORT"),
    ],
)
def test_options_that_do_not_fit_together(options, said):
    with pytest.raises(AlikitError, match=said):
        distributed.launch([], *options)


def test_a_worker_ends_at_once(monkeypatch):
    """Without what libraries do at exit."""
    with pytest.raises(SystemExit, match="3"):
        distributed.end(3)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with patch("os._exit", side_effect=KeyError) as exited, pytest.raises(KeyError):
        distributed.end(3)
    exited.assert_called_once_with(3)
