"""Training one run in several processes: torchrun starts them, torch.distributed connects them.

    alikit train cifar10 --devices 4                                            four GPUs, or four shares of the cores
    alikit train cifar10 --devices 4 --num-nodes 2 --rendezvous node01:29500    the same command on both machines

Each of W processes holds the whole model and takes N / W of a batch's N examples. For a process that is alone, W is 1
and nothing here changes what it does.
"""

import hashlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import AlikitError

PATIENCE = timedelta(hours=2)  # the others wait this long for process 0 to fetch data, measure or draw
LOST, STOPPED = 75, 130  # exit statuses: another process is gone; a signal stopped the run
_parent = os.getppid()  # of a worker: torchrun's agent


class Lost(Exception):
    """Another process is gone or does not answer, so this one has to end. The other one reports the cause."""


def is_worker() -> bool:
    """Whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def world() -> int:
    """The number of processes that train together, W."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 to W - 1. Process 0 writes the files, measures and prints."""
    return dist.get_rank() if world() > 1 else 0


def device(name: str | None = None) -> torch.device:
    """Where this process computes: the named device, by default a GPU where there is one. AlikitError for one that is
    not here, and for a GPU by name in several processes, each of which has its own."""
    gpus, mps = torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()
    if not name:
        return torch.device("cuda" if gpus else "cpu")
    here = ["cpu", *["cuda"][:gpus], *(f"cuda:{number}" for number in range(gpus)), *["mps"][:mps]]
    if str(name) not in here:
        raise AlikitError(f"there is no {name} here: choose {' or '.join(here)}")
    if world() > 1 and str(name) != "cpu":
        raise AlikitError("several processes have a device each: leave device out")
    return torch.device(name)


def check_divides(number: int, processes: int, what: str = "examples") -> None:
    """Raises AlikitError if this many examples a step cannot be divided evenly among the processes."""
    if number % processes:
        raise AlikitError(f"{number} {what} a step do not divide by {processes} processes: change one of the numbers")


def share(index: Tensor) -> Tensor:
    """This process's part of the examples of a batch: (N,) -> (N / W,)."""
    return index.chunk(world())[rank()]


def own_noise(seed: int, step: int) -> None:
    """Seeds torch's generators by seed, step and process, so that processes differ and a resumed run repeats itself."""
    if world() > 1:
        digest = hashlib.blake2b(f"{seed} {step} {rank()}".encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest))


def _sum_over_all(tensor: Tensor) -> Tensor:
    try:
        dist.all_reduce(tensor)  # in place, of a contiguous tensor; by gloo on the processor and by NCCL on a GPU
    except RuntimeError as error:
        raise Lost(str(error)) from error
    return tensor


def average(losses: dict[str, Tensor], gradients: dict[str, tuple[Tensor, ...]]) -> tuple[dict, dict]:
    """The means over all processes of each player's loss and gradients, in the shapes and types that these have.

    One all-reduce of our own, because DistributedDataParallel averages neither what `torch.autograd.grad` returns nor
    the second of two backward passes through one forward pass, and players with different losses need both.
    """
    if world() == 1:
        return losses, gradients
    parts = [*(g for own in gradients.values() for g in own), *(loss.detach() for loss in losses.values())]
    flat = _sum_over_all(torch.cat([part.flatten() for part in parts])).div_(world())
    means = flat.split([part.numel() for part in parts])
    mean = iter([mean.view(part.shape).to(part.dtype) for mean, part in zip(means, parts, strict=True)])
    gradients = {player: tuple(next(mean) for _ in own) for player, own in gradients.items()}
    return {player: next(mean) for player in losses}, gradients


class _Sum(torch.autograd.Function):  # the library's own, `torch.distributed.nn.functional.all_reduce`, is deprecated
    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return _sum_over_all(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def mean_of_all(part: Tensor) -> Tensor:
    """The mean over all processes, with its gradient: for losses that are functions of a batch's mean."""
    return _Sum.apply(part) / world() if world() > 1 else part


def any_of_all(flag: bool) -> bool:
    """Whether any process has the flag set, or has lost its launcher: the same answer in all. Waits for no GPU."""
    if world() > 1:
        flag = _sum_over_all(torch.tensor(float(flag or os.getppid() != _parent))).item() > 0
    return flag


def barrier() -> None:
    """Waits for all processes, on the processor: a GPU would wait at full power."""
    any_of_all(False)


@contextmanager
def in_turn() -> Iterator[None]:
    """Runs the block in process 0, then in one of every other machine, then in the rest: one may fetch for all."""
    turn = 0 if rank() == 0 else 1 if os.environ.get("LOCAL_RANK", "0") == "0" else 2
    for now in range(3):
        if now == turn:
            yield
        barrier()


def leave() -> None:
    """Waits for all processes and disconnects from them."""
    if world() > 1:
        barrier()
        dist.destroy_process_group()


class _SyncBatchNormCPU(nn.SyncBatchNorm):  # the library's own refuses tensors on the processor
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims, form = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        wide, n = x.to(torch.promote_types(x.dtype, torch.float32)), world() * x.numel() // x.shape[1]
        var, mean = torch.var_mean(wide, dims, correction=0)
        # In float64, because the variance of the whole batch is a difference of squares.
        mean, square = mean_of_all(torch.stack([mean.double(), var.double() + mean.double().square()]))
        var = square - mean.square()
        with torch.no_grad():
            if self.track_running_stats:
                self.num_batches_tracked += 1
                rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
                self.running_var.lerp_((var * n / (n - 1)).to(self.running_var.dtype), rate)
        scale, shift = (var + self.eps).rsqrt(), torch.zeros_like(mean)
        if self.affine:
            scale, shift = self.weight * scale, self.bias
        mean, scale, shift = (values.to(wide.dtype).view(form) for values in (mean, scale, shift))
        return torch.addcmul(shift, wide - mean, scale).to(x.dtype)


def synchronise(model: nn.Module) -> nn.Module:
    """Gives all processes the weights of process 0, and batch norm the statistics of the whole batch; in place.

    On a GPU that is `torch.nn.SyncBatchNorm`, which cannot be differentiated twice: a gradient penalty on a
    discriminator with batch norm trains there in one process only.
    """
    if world() == 1:
        return model
    for tensor in model.state_dict().values():
        own = tensor.clone(memory_format=torch.contiguous_format)
        tensor.copy_(_sum_over_all(own if rank() == 0 else own.zero_()))
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):  # not convert_sync_batchnorm, which makes new layers
            layer.class_alone, layer.process_group = type(layer), None
            layer.__class__ = nn.SyncBatchNorm if on_gpu else _SyncBatchNormCPU
    return model


def apart(model: nn.Module) -> nn.Module:
    """Undoes what `synchronise` did to batch norm, in place, for a copy that one process evaluates."""
    for layer in model.modules():
        if isinstance(layer, nn.SyncBatchNorm):
            layer.__class__ = layer.class_alone
    return model


def speaks() -> bool:
    """Whether this process reports a mistake that all of them may have met: the first one that calls this does."""
    try:
        store = next(dist.rendezvous("env://", timeout=timedelta(seconds=30)))[0] if is_worker() else None
        return store is None or store.add("reports", 1) == 1
    except RuntimeError:  # the process that counted is gone
        return False


def end(status: int) -> None:
    """Ends this process: a worker without Python's shutdown, during which a library's thread may still abort it."""
    if is_worker():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def launch(argv: list[str], devices: int, nodes: int, rendezvous: str | None, run: Path, again: str) -> int | None:
    """Runs `alikit ARGV` in `devices` processes on each of `nodes` machines, and returns the exit status.

    Returns None if this process is to do the work: it is alone, or torchrun started it, and it is now connected to the
    others. `rendezvous` is HOST:PORT; of the folder `run`, a failure's report names the command `again` that goes on.
    Raises AlikitError for options that do not fit together.
    """
    gpus, worker = torch.cuda.device_count(), is_worker()
    fits = re.fullmatch(r"\S+:\d{1,5}", rendezvous or "") if nodes > 1 else not rendezvous
    if not worker and not fits:
        way = "give both, as in --num-nodes 2 --rendezvous node01:29500, or none"
        raise AlikitError(f"several machines need --num-nodes and --rendezvous HOST:PORT: {way}")
    if 0 < gpus < devices:
        raise AlikitError(f"--devices {devices}, and this machine has {gpus} GPUs: choose a smaller number")
    if not worker:
        return _torchrun(argv, devices, nodes, rendezvous, run, again) if devices * nodes > 1 else None
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    except RuntimeError as error:
        raise Lost(str(error)) from error
    if rank():
        logging.disable()  # process 0 says the same
    return None


def _torchrun(argv: list[str], devices: int, nodes: int, rendezvous: str | None, run: Path, again: str) -> int:
    """Calls torchrun in this process and not in one more: its exception says which worker failed, and how."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException, errors
    from torch.distributed.elastic.rendezvous import RendezvousError

    several = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}", "--rdzv-id=alikit"]
    how = several if nodes > 1 else ["--standalone", "--local-addr=localhost"]
    how += [f"--nproc-per-node={devices}", "--signals-to-handle=SIGTERM", "-m", "alikit", *argv]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // devices)))
    logging.disable()  # torchrun's account of what it does
    # Workers have their own sessions, so Ctrl-C reaches only this process. torchrun passes SIGTERM on to them, which
    # ends them without a traceback if they are not ready for it yet.
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until torchrun handles it
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        torchrun.run(torchrun.parse_args(how))
        return 0
    except (SignalException, KeyboardInterrupt):
        return STOPPED
    except (RendezvousError, dist.DistError) as error:
        why = f"the processes did not find each other at {rendezvous} ({str(error).splitlines()[0]})"
        raise AlikitError(f"{why}: give all machines the same --num-nodes and a --rendezvous in their reach") from None
    except errors.ChildFailedError as error:
        failures, followed = error.failures, (LOST, STOPPED, -signal.SIGTERM)  # how one ends because another has
    first = min(failures, key=lambda number: (failures[number].exitcode in followed, failures[number].timestamp))
    status = failures[first].exitcode
    if status in (2, STOPPED):  # the worker has said why
        return status
    by = "lost the others, whose machine says why" if status == LOST else f"ended with status {status}, see above"
    by = f"was killed by {signal.Signals(-status).name}" if status < 0 else by
    has_begun = (run / "settings.json").is_file()
    way = f"go on from its last checkpoint with: {again}" if has_begun else "the run had not begun: train again"
    print(f"\nalikit: worker {first} of {devices * nodes} {by}; {way}", file=sys.stderr)
    return 1
