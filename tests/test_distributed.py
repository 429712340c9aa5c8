"""Several processes: two find what one finds, are stopped together, and go on from where they were."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import torch
from commands import alikit
from safetensors.torch import load_file
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.utils.distributed import get_free_port

from alikit import AlikitError, distributed, runs
from alikit.cli import main
from alikit.data import Dataset
from alikit.models import ALI, GAN
from alikit.networks import Deterministic, Discriminator, Frozen, mlp
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne
from alikit.training import Config, Trainer

STEPS = 60
TRAIN = f"train digits --seed 4 --batch 50 --steps {STEPS} --save-every 0"
NORMS = {  # the mean of x, its type, the rounding that is allowed, and settings of the layer
    "exact": (0, torch.float64, 1e-10, {"momentum": 0.05}),
    "far from 0": (100, torch.float32, 1e-3, {"momentum": 0.05}),
    "bfloat16": (0, torch.bfloat16, 0.02, {"momentum": 0.05}),
    "a mean of all batches": (0, torch.float64, 1e-10, {"momentum": None}),
    "without weights": (0, torch.float64, 1e-10, {"affine": False}),
    "without statistics": (0, torch.float64, 1e-10, {"track_running_stats": False}),
}


def normalised(name: str) -> tuple[list, dict]:
    """Batch norm of this process's share, the slope of a loss and a penalty on it; and the layer's statistics."""
    mean, dtype, _, settings = NORMS[name]
    torch.manual_seed(0)
    layer = distributed.synchronise(nn.BatchNorm2d(3, **settings).to(torch.promote_types(dtype, torch.float32)))
    if layer.affine:
        nn.init.normal_(layer.weight)
    layer(torch.zeros(4, 3, 2, 2, dtype=dtype))  # a batch before, which weighs in the statistics
    x, scale = (distributed.share(part) for part in torch.randn(2, 8, 3, 4, 5, dtype=dtype))
    x = (x + mean).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    (slope,) = torch.autograd.grad((y.square() * scale).sum(), x, create_graph=True)
    slope.square().sum().backward()
    return [y.detach(), slope.detach(), x.grad][: 3 if dtype == torch.float64 else 2], dict(layer.named_buffers())


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_two_is_that_of_one(both, name):
    (first, statistics), (second, same) = (found[name] for found in both)
    alone, statistics_alone = normalised(name)
    whole, rounding = list(map(torch.cat, zip(first, second, strict=True))), NORMS[name][2]
    torch.testing.assert_close(whole, alone, rtol=rounding, atol=rounding)
    torch.testing.assert_close(statistics, same, rtol=0, atol=0)
    torch.testing.assert_close(statistics, statistics_alone, rtol=1e-5, atol=1e-5)


def after_ali(e, g, of_x, of_pairs):
    """With penalties, also every other step alone, and both cycles."""
    game = ALI(e, g, of_pairs(1, pieces=2), 2)
    game.r1, game.r2, game.penalty_every, game.cycle_x, game.cycle_z = 0.5, 0.2, 2, 1.0, 0.5
    return game


GAMES = {  # encoder, decoder, and discriminators of x alone and of pairs, by the number of outputs
    "one backward pass": lambda e, g, of_x, of_pairs: ALI(e, g, of_pairs(1, pieces=2), 2),
    "penalties and cycles": after_ali,
    "two backward passes": lambda e, g, of_x, of_pairs: ALI(e, g, of_pairs(1, batch_norm=True), 2),
    "frozen decoder": lambda e, g, of_x, of_pairs: ALI(e, Frozen(g), of_pairs(1, pieces=2), 2),
    "GAN": lambda e, g, of_x, of_pairs: GAN(g, of_x(1), 2),
    "K + 1": lambda e, g, of_x, of_pairs: KPlusOne(e, g, of_pairs(3, pieces=2), 2, 3),
    "feature matching": lambda e, g, of_x, of_pairs: FeatureMatchingGAN(g, of_x(3), 2, 3),
}


def played(name: str) -> tuple[list, dict, dict]:
    """Losses, weights and averaged weights after some steps, in float64, where two orders of a sum do not drift apart.
    All of a batch's codes are drawn, for this process to take its share."""
    torch.manual_seed(distributed.rank())  # other first weights, unless they are synchronised
    model = GAMES[name](
        *(Deterministic(mlp([2, 8, 8, 2], batch_norm=True)) for _ in range(2)),
        lambda outputs: Discriminator([nn.Identity()], mlp([2, 8, outputs], pieces=2)),
        lambda outputs, **kind: Discriminator([nn.Identity(), nn.Identity()], mlp([4, 8, outputs], **kind)),
    ).double()
    draws = torch.Generator().manual_seed(1)
    model.prior = lambda n: distributed.share(torch.randn(n * distributed.world(), 2, generator=draws).double())
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = Dataset("points", x, torch.arange(40) % 3).but(x=x)  # in double precision
    labelled = points.select(slice(12)) if "classes" in vars(model) else None
    config = Config(batch_size=8, lr=0.01, ema=0.9, labelled_batch=6 if labelled else 0)
    trainer = Trainer(distributed.synchronise(model), points, config, labelled=labelled)
    losses = [report.losses for report in trainer.run(6, every=2)]
    return losses, trainer.model.state_dict(), trainer.result.state_dict()


@pytest.mark.parametrize("name", GAMES)
def test_two_play_as_one(both, name):
    first, second = (found[name] for found in both)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    (losses, *weights), (losses_alone, *weights_alone) = first, played(name)
    torch.testing.assert_close(losses, losses_alone, rtol=1e-6, atol=1e-6)  # kept as float32
    rounding = 1e-5 if name == "feature matching" else 1e-8  # its means are float32
    torch.testing.assert_close(weights, weights_alone, rtol=rounding, atol=rounding / 10)


def heard() -> dict:
    """What this process hears of the others, and does without them."""
    rank, layer = distributed.rank(), distributed.synchronise(nn.BatchNorm1d(2))
    stops = [distributed.any_of_all(rank == 1), distributed.any_of_all(False)]
    with patch.object(distributed, "_parent", -1 if rank else distributed._parent):
        stops.append(distributed.any_of_all(False))
    loss = torch.tensor(float("nan") if rank else 0.0)
    losses, gradients = distributed.average({"one": loss}, {"one": (loss, loss * 0 + 1)})
    with distributed.in_turn():
        turn = time.monotonic()
    if rank == 0:
        assert distributed.apart(layer)(torch.eye(2)).isfinite().all()
    torch.manual_seed(3)
    distributed.own_noise(0, 7)
    nan = [found.isnan().item() for found in (losses["one"], *gradients["one"])]
    return {"stops": stops, "nan": nan, "turn": turn, "noise": torch.randn(5)}


def test_what_one_meets_all_hear(both):
    """A signal, the loss of the launcher, and numbers that are none; but noise is each one's own."""
    assert all(found["stops"] == [True, False, True] and all(found["nan"]) for found in both)
    assert both[0]["turn"] < both[1]["turn"]
    assert not torch.isclose(both[0]["noise"], both[1]["noise"]).any()
    assert torch.equal(heard()["noise"], torch.randn(5, generator=torch.Generator().manual_seed(3)))  # alone


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> list[tuple[int, str, int, Path]]:
    """A run whose second worker is killed, and that then gets Ctrl-C: each time the exit status, what was said, the
    step of the checkpoint, and the folder."""
    found, run = [], tmp_path_factory.mktemp("runs") / "run"
    for line in (f"{TRAIN} --out run --devices 2", "resume run --devices 2"):
        command, enough = [sys.executable, "-m", "alikit", *line.split()], len(runs.metrics(run)) + 2
        launcher = subprocess.Popen(command, cwd=run.parent, stderr=subprocess.PIPE, text=True)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        while launcher.poll() is None and len(runs.metrics(run)) < enough:
            time.sleep(0.01)
        if found:
            launcher.send_signal(signal.SIGINT)
        else:
            os.kill(int(children.read_text().split()[1]), signal.SIGKILL)
        said = launcher.communicate(timeout=60)[1]
        found.append((launcher.returncode, said, runs.checkpoint(run)["step"], run))
    return found


def _find(rank: int, folder: Path, ports: list[int]) -> None:
    """One of two processes that torchrun could have started, and what it finds."""
    os.chdir(folder)
    torch.set_num_threads(1)
    of_torchrun = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1, "RANK": rank, "LOCAL_RANK": rank}
    of_torchrun |= {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": ports[0]}
    os.environ |= {name: str(value) for name, value in of_torchrun.items()}
    assert distributed.launch([], 2, 1, None, folder, "") is None
    found = {**{name: normalised(name) for name in NORMS}, **{name: played(name) for name in GAMES}, **heard()}
    distributed.leave()
    for line, port in zip((f"{TRAIN} --out whole", "resume run", "resume nowhere"), ports[1:], strict=True):
        os.environ["MASTER_PORT"], sys.argv = str(port), ["alikit", *line.split()]
        sys.stdout = sys.stderr = said = io.StringIO()
        found[line.split()[-1]] = main(), said.getvalue()
    torch.save(found, f"{rank}.pt")


@pytest.fixture(scope="module")
def both(stopped) -> list[dict]:
    """What each of two processes finds; they also train a run without a stop, and bring the stopped one to its end."""
    folder, ports = stopped[0][-1].parent, [get_free_port() for _ in range(4)]
    torch.multiprocessing.spawn(_find, (folder, ports), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_stopped_together(stopped):
    (status, said, step, _), (asked_status, asked_said, asked_step, _) = stopped
    assert (status, asked_status) == (1, 130) and 6 <= step < asked_step < STEPS
    way = "go on from its last checkpoint with: alikit resume run --devices 2"
    assert said.splitlines()[-1] == f"alikit: worker 1 of 2 was killed by SIGKILL; {way}"
    way = f"go on with: alikit resume run --devices 2 --steps {STEPS}"
    assert asked_said.splitlines()[-1] == f"stopped at step {asked_step} of {STEPS}, saved; {way}"
    assert "Traceback" not in said + asked_said and said.count("alikit") == 2, said


def test_a_resumed_run_ends_as_if_it_had_not_been_stopped(stopped, both):
    folders = [stopped[0][-1], stopped[0][-1].with_name("whole")]
    run, whole = (load_file(folder / "weights.safetensors") for folder in folders)
    torch.testing.assert_close(run, whole, rtol=0, atol=0)
    steps, steps_whole = ([line["step"] for line in runs.metrics(folder)] for folder in folders)
    assert steps == steps_whole
    (status, said), silence = both[0]["run"], both[1]["run"]
    assert status == 0 and said.count("reconstruction_mean") == 1 and silence == (0, "")
    (status, said), (second_status, said_by_second) = both[0]["nowhere"], both[1]["nowhere"]
    assert status == second_status == 2 and len((said + said_by_second).splitlines()) == 1  # a mistake of both
    assert alikit(f"resume {folders[0]} --steps {STEPS + 6}").status == 0  # by one
    assert runs.checkpoint(folders[0])["step"] == STEPS + 6


@pytest.fixture
def torchrun(monkeypatch):
    for name in ("signal.signal", "logging.disable", "torch.distributed.run.run"):
        monkeypatch.setattr(name, Mock())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return torch.distributed.run.run


def launched(devices: int = 2, nodes: int = 1, rendezvous: str | None = None, run: Path = Path("nowhere")):
    return distributed.launch(["train", "digits"], devices, nodes, rendezvous, run, "alikit resume run")


@pytest.mark.parametrize(
    ("exits", "status", "said"),
    [
        ({0: -9, 1: 75}, 1, "worker 0 of 2 was killed by SIGKILL; go on from its last checkpoint with: alikit resu"),
        ({1: 75, 0: 1}, 1, "worker 0 of 2 ended with status 1, see above; go on"),
        ({0: 75}, 1, "worker 0 of 2 lost the others, whose machine says why"),
        ({0: 2, 1: 75}, 2, ""),
        ({0: 130, 1: 130}, 130, ""),
    ],
)
def test_the_first_worker_to_end_is_named(torchrun, tmp_path, capsys, exits, status, said):
    failures = {rank: ProcessFailure(rank, 1, code, "nowhere") for rank, code in exits.items()}
    torchrun.side_effect = ChildFailedError("alikit", failures)
    (tmp_path / "settings.json").touch()
    assert launched() == launched(run=tmp_path) == status
    err = capsys.readouterr().err
    assert said in err and (status != 1 or "the run had not begun: train again" in err)


def test_several_machines(torchrun):
    assert launched(1, 2, "node01:29500") == 0
    (how,), _ = torchrun.call_args
    assert (how.nnodes, how.rdzv_endpoint, how.training_script_args) == ("2", "node01:29500", ["train", "digits"])
    torchrun.side_effect = KeyboardInterrupt
    assert launched() == distributed.STOPPED
    torchrun.side_effect = torch.distributed.DistNetworkError("no answer")
    with pytest.raises(AlikitError, match="did not find each other at node01:29500"):
        launched(1, 2, "node01:29500")
    for options in ((1, 2), (2, 1, "node01:29500"), (1, 2, "node01"), (1, 1, "node01")):
        with pytest.raises(AlikitError, match="several machines need --num-nodes and --rendezvous HOST:PORT"):
            launched(*options)
    with pytest.raises(AlikitError, match="5 examples a step do not divide by 2 processes"):
        distributed.check_divides(5, 2)
