"""One run, several processes: each takes its share of every batch, and they average their gradients.

What is here is told by `torch.distributed` alone: whoever has joined a process group trains together, see `launch`. In
a process by itself, `world()` is 1 and none of it does anything.

    batch         stays what it is for one process; each takes a slice of the same examples (`share`)
    gradients     averaged before every step, and with them the losses, in one exchange (`Exchange`)
    batch norm    has the mean and variance of the whole batch (`SynchronisedNorm`)
    noise         is each process's own, and of a step always the same (`own_noise`)
"""

import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import AlikitError


class Lost(Exception):
    """Another process is gone, or does not answer: this one can only end. What happened is for the other to say."""


def is_together() -> bool:
    """Whether this process trains with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world() -> int:
    """How many processes train together, W."""
    return dist.get_world_size() if is_together() else 1


def rank() -> int:
    """Which of them this is, 0 to W - 1. The first one writes, draws, measures and speaks for all."""
    return dist.get_rank() if is_together() else 0


def check_divides(number: int, processes: int, what: str = "examples") -> None:
    """AlikitError where so many examples a step cannot be shared out evenly."""
    if number % processes:
        raise AlikitError(
            f"{number} {what} a step cannot be shared out evenly over {processes} processes: "
            f"choose a multiple of {processes}, or another number of processes"
        )


def share(index: Tensor) -> Tensor:
    """This process's part of the examples of a batch: (N,) -> (N / W,)."""
    return index.chunk(world())[rank()]


def own_noise(seed: int, step: int) -> None:
    """Sets torch's generators by seed, step and process, so that a run can be gone on with by what is on the disk, and
    no two processes draw the same. By itself, a process keeps the generators that it has."""
    if is_together():
        digest = hashlib.blake2b(f"{seed} {step} {rank()}".encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest))


def _summed(tensor: Tensor) -> Tensor:
    """Adds up a contiguous tensor over all processes, in place."""
    try:
        dist.all_reduce(tensor)
    except RuntimeError as error:
        raise Lost(str(error)) from error
    return tensor


def barrier() -> None:
    """Waits until all processes are here. In the processor's memory: a GPU would wait at full power."""
    if is_together():
        _summed(torch.zeros(()))


class _Sum(torch.autograd.Function):
    """The sum over all processes of a tensor of each. Its gradient is the sum of theirs. (That of the library,
    `torch.distributed.nn.functional.all_reduce`, is deprecated.)"""

    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return _summed(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def mean_of_all(part: Tensor) -> Tensor:
    """The mean over all processes, with its gradient: for what is no mean over examples but is made of such means."""
    return _Sum.apply(part) / world() if is_together() else part


class SynchronisedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm by the mean and variance of the examples of all processes, each of which has as many.

    What the library has, `torch.nn.SyncBatchNorm`, takes no tensors on a processor. Weights, running statistics and
    their names are those of `BatchNorm1d` and `BatchNorm2d`, with a momentum. One exchange a pass, forward and back.
    """

    synchronised = True

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.synchronised):
            return super().forward(x)
        over, form = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        var, mean = torch.var_mean(wide, over, correction=0)
        # Doubles, for a difference of squares; the parts they are of come from a sum that is safe in floats.
        mean, square = mean_of_all(torch.stack([mean.double(), var.double() + mean.double().square()]))
        var = square - mean.square()
        with torch.no_grad():
            number = world() * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * number / (number - 1)).to(self.running_var.dtype), self.momentum)
        scale = (self.weight * (var + self.eps).rsqrt()).to(wide.dtype)
        centred = wide - mean.to(wide.dtype).view(form)
        return torch.addcmul(self.bias.to(wide.dtype).view(form), centred, scale.view(form)).to(x.dtype)


def together(model: nn.Module) -> nn.Module:
    """The model, changed where it stands: the first process's weights in all, and its batch norm synchronised."""
    if not is_together():
        return model
    for tensor in model.state_dict().values():
        whole = tensor.contiguous()  # weights of convolutions may lie in another order
        dist.broadcast(whole, 0)
        tensor.copy_(whole)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.__class__ = SynchronisedNorm  # the same parameters: an optimiser may have them already
    return model


def apart(model: nn.Module) -> nn.Module:
    """The model, changed where it stands: its batch norm asks no other process any more."""
    for layer in model.modules():
        if isinstance(layer, SynchronisedNorm):
            layer.synchronised = False
    return model


_asked: list[int] = []  # the signals by which this process was asked to stop


class Exchange:
    """What processes tell each other in a step: gradients, losses, and whether one of them was asked to stop.

    stop  whether all are to stop after this step; all hear it at the same one. On a GPU they hear of it a step later,
          for reading it at once would be to wait for the GPU
    """

    def __init__(self):
        self.stop, self._parent = False, os.getppid()
        self._earlier: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(
        self, losses: dict[str, Tensor], gradients: dict[str, tuple[Tensor, ...]]
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """The means over all processes, in the shapes they have."""
        if not is_together():
            return losses, gradients
        parts = [*(g for own in gradients.values() for g in own), *(loss.detach() for loss in losses.values())]
        asked = bool(_asked) or os.getppid() != self._parent  # with nobody left to start them again, they stop too
        flat = torch.cat([*(part.flatten() for part in parts), parts[0].new_full((1,), asked)])
        *means, flag = _summed(flat).div_(world()).split([*(part.numel() for part in parts), 1])
        self.stop = self._heard(flag)
        found = iter([mean.view(part.shape).to(part.dtype) for mean, part in zip(means, parts, strict=True)])
        gradients = {player: tuple(next(found) for _ in own) for player, own in gradients.items()}
        return {player: next(found) for player in losses}, gradients

    def _heard(self, flag: Tensor) -> bool:
        if flag.device.type != "cuda":
            return flag.item() > 0
        told = torch.empty(flag.shape, dtype=flag.dtype, pin_memory=True).copy_(flag, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        earlier, self._earlier = self._earlier, (told, event)
        if earlier is None:
            return False
        earlier[1].synchronize()
        stop = earlier[0].item() > 0
        if stop:
            self._earlier = None  # it says the same, and whoever goes on after all is not to hear it
        return stop


# Ctrl-C, what a cluster sends, and what comes when a terminal is gone, which Windows does not have.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _heeded_here() -> list[int]:
    """Those that stop this process: all but what it was started to ignore, as Ctrl-C in the background and SIGHUP by
    nohup. SIGTERM always does."""
    return [n for n in STOPS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def stopping_together() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP ask all processes to stop after a step, see `Exchange`; who stopped by itself would
    leave the others waiting. Whoever is stopping is then not to be stopped at that."""
    if not is_together() or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    numbers = _heeded_here()
    after = {number: signal.signal(number, lambda number, _: _asked.append(number)) for number in numbers}
    try:
        yield
        if _asked:  # in the last step
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        after = dict.fromkeys(numbers, signal.SIG_IGN)
        raise
    finally:
        for number, handler in after.items():
            signal.signal(number, handler)


@contextmanager
def whole() -> Iterator[None]:
    """Holds Ctrl-C, SIGTERM and SIGHUP back until what is within is done: from half a step nobody could go on, half a
    report would be missing for good, and half a transaction would keep others from a study's books."""
    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive, or handlers change
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in held:  # one may be ignored here, as Ctrl-C is by a study's worker, and the next one not
        signal.raise_signal(number)


@contextmanager
def stopped_once() -> Iterator[None]:
    """Ctrl-C is KeyboardInterrupt, and so are SIGTERM, by which a cluster asks for its machine back, and SIGHUP, by
    which a terminal says that it is gone. What comes within a second of one is the same wish; later ones count again,
    for an interrupt can be lost in a library."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [-math.inf]
    global _heeded

    def stop(*_) -> None:
        if time.monotonic() - asked[0] > 1:
            asked[0] = time.monotonic()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _heeded_here()}
    _heeded = True
    try:
        yield
    finally:
        _heeded = False
        for number, handler in before.items():
            signal.signal(number, handler)


_heeded = False  # whether this process is within `stopped_once`


def stopping() -> None:
    """From here to the end of `stopped_once`, whoever is stopping is not stopped at that. Elsewhere nothing changes."""
    if _heeded:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process, then the first of every other machine, then the rest: what is fetched or prepared by one is
    found by the next."""
    turn = 0 if rank() == 0 else 1 if int(os.environ.get("LOCAL_RANK", 0)) == 0 else 2
    for _ in range(turn):
        barrier()
    yield
    for _ in range(turn, 2):
        barrier()


def leave() -> None:
    """Waits for all others and takes leave of them."""
    if is_together():
        barrier()
        dist.destroy_process_group()
