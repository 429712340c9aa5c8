"""The loop: one for every game. Several players, one forward pass, all step together."""

import copy
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from . import distributed, parallel
from .convolutions import plain as with_library_layers
from .data import Dataset
from .errors import AlikitError, Diverged
from .models import AdversarialGame, Game
from .networks import Frozen
from .views import mirrored, shifted

EXAMPLES, AT_ONCE = 10_000, 2**21  # behind precise statistics: at most so many, and about so many numbers in a batch


@dataclass(frozen=True)
class Progress:
    """What the loop reports: steps done, each player's mean loss since the last report, and the pace."""

    step: int
    losses: dict[str, float]
    images_per_second: float


def has_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 is quick on this device: on a processor that multiplies in it, and on GPUs since Ampere."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Not part of PyTorch's public face, so it may be called otherwise one day: then there is no bfloat16.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    """The order in which an epoch (from 0) visits all n examples, (n,). A function of its arguments alone, so a run
    that was stopped goes on with the very batch it would have had."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


class Trainer:
    """A model, its data, and Adam for all its players at once.

    batch_size  examples a step; lr, betas  Adam's, the same for every player (paper: 1e-4, (0.5, 0.999))
    decay       let lr fall in a straight line to 0 over the second half of `run`, so that the players come to rest;
                the rate depends on the share of steps done, so going on to more steps afterwards lifts it again
    averaging   weight of the past, 0.999 say, in an exponential moving average of the weights, which `result` then has
    ramp        let that weight grow from 0.1 with the steps n as (1 + n) / (10 + n), so that the average forgets the
                first weights, which know nothing, within some dozen steps and not within thousands
    precise_bn  let batch norm in the encoder and decoder of `result` count its statistics anew, with the weights they
                have, over large batches (Wu and Johnson 2021), instead of keeping the running ones: those are from
                other weights, and k layers of them draw samples about (k - 1) / (2 batch_size) too close together
    flips       mirror each picture of a batch, left to right, with probability 1/2
    shifts      move each picture of a batch by up to a sixteenth of its side, see `views.shifted`
    bf16        let the networks compute in bfloat16 where PyTorch's autocast holds that to be safe; weights, losses
                and the optimiser stay float32. None for whichever is quicker on this machine, which takes a few steps
                to find out where a processor has both
    plain       compute as the library does by itself, for comparison: float32, and none of `convolutions`
    labelled    the examples whose classes the model is told, `labelled_batch` of them added to each batch
    seed        of the order of examples; weights and noise come from torch's own generator (`torch.manual_seed`)

    In one of several processes (see `distributed`) batch_size and labelled_batch are those of all together, and noise
    comes from `seed`.

    Raises AlikitError where the batch is larger than the data, for precise_bn in a game without a discriminator, and
    for a batch that the processes cannot share out evenly.
    """

    def __init__(
        self,
        model: Game,
        data: Dataset,
        *,
        batch_size: int = 100,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: bool = False,
        averaging: float = 0.0,
        ramp: bool = False,
        precise_bn: bool = False,
        flips: bool = False,
        shifts: bool = False,
        bf16: bool | None = False,
        plain: bool = False,
        labelled: Dataset | None = None,
        labelled_batch: int = 0,
        seed: int = 0,
    ):
        if len(data) < 2:
            raise AlikitError("one example is too few to train on: a batch takes at least two")
        if not 1 < batch_size <= len(data):
            raise AlikitError(f"a batch of {batch_size} does not fit {len(data)} examples: --batch N, 2 to {len(data)}")
        if precise_bn and not isinstance(model, AdversarialGame):  # the others' networks are fed with something else
            raise AlikitError("precise_bn is for games with a discriminator: leave it out")
        if flips and len(data.shape) != 3:
            raise AlikitError("points have no left and right: leave flips out")
        if precise_bn and model.attributes:
            raise AlikitError("precise_bn is not for conditional games: leave it out")
        if bf16 and plain:
            raise AlikitError("plain is float32: leave bf16 or plain out")
        if shifts and len(data.shape) != 3:
            raise AlikitError("a shifted point is another point: leave shifts out")
        distributed.check_divides(batch_size, distributed.world())
        if model.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every batch has the same shape: look once for the quickest way
        # The layout in which convolutions are fastest, on CPU and GPU; to networks without any it means nothing.
        self.model = distributed.synchronise(model.to(memory_format=torch.channels_last))
        if plain:
            with_library_layers(self.model)
        self.data = data.to(model.device) if data.fits(model.device) else data
        self.conditions = data.conditions().to(model.device) if model.attributes else None
        self.labelled, self.labelled_batch = labelled, min(labelled_batch, len(labelled or ()))
        distributed.check_divides(self.labelled_batch, distributed.world(), "labelled examples")
        self.flips, self.shifts, self.bf16 = flips, shifts, bf16
        self.batch_size, self.lr, self.decay, self.seed, self.step = batch_size, lr, decay, seed, 0
        self.precise_bn, self._precise = precise_bn, (-1, model)  # at which step, and what was found
        self.players = model.players()
        self.optimiser = torch.optim.Adam([{"params": own} for own in self.players.values()], lr, betas, fused=True)
        average = self._ramped(averaging) if ramp else get_ema_multi_avg_fn(averaging)
        self._average = AveragedModel(model, multi_avg_fn=average, use_buffers=True) if averaging else None
        self._epoch, self._order = -1, torch.empty(0)
        if bf16 is None:
            self.bf16 = not plain and self._is_quicker_in_bf16()

    @property
    def result(self) -> Game:
        """The model to sample and ask: the averaged one where weights are averaged, or else the one in training.

        With `precise_bn` a copy, made when it is first asked for after a step.
        """
        model = self._average.module if self._average else self.model
        if not self.precise_bn:
            return model
        if self._precise[0] != self.step:
            self._precise = self.step, self._with_precise_statistics(model)
        return self._precise[1]

    def one_step(self) -> dict[str, Tensor]:
        """Every player's gradient is taken at the same parameters, then all of them move. Returns the losses.

        Of several processes together; KeyboardInterrupt, the step done, where one of them was asked to stop.
        """
        distributed.own_noise(self.seed, self.step)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            losses, gradients = self.model.gradients(*self._batch(), self.players)
        losses, gradients = distributed.average(losses, gradients)
        for player, own in self.players.items():
            for parameter, gradient in zip(own, gradients[player], strict=True):
                # Fused Adam walks through both in memory order, and does not look whether the two orders agree.
                same = gradient.stride() == parameter.stride()
                parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        self.optimiser.step()
        if self._average:
            self._average.update_parameters(self.model)
        self.step += 1
        if distributed.any_of_all(bool(parallel._asked)):
            raise KeyboardInterrupt
        return {player: loss.detach() for player, loss in losses.items()}

    def _is_quicker_in_bf16(self) -> bool:
        """Tried, on processors: those that multiply in bfloat16 differ in how much that gains them, and float32 has
        `convolutions` on its side."""
        if self.model.device.type == "cuda" or not has_bf16(self.model.device):
            return has_bf16(self.model.device)
        twin, seconds = copy.deepcopy(self.model).train(), {False: [], True: []}
        with torch.random.fork_rng():
            batch = self._batch()
            for _ in range(3):
                for bf16, took in seconds.items():
                    begin = time.perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        twin.gradients(*batch)
                    took.append(time.perf_counter() - begin)
        gained = torch.tensor(min(seconds[False]) - min(seconds[True]))
        return distributed.mean_of_all(gained).item() > 0  # for all processes the same

    @parallel.stopping_together()
    def run(
        self,
        steps: int,
        every: int = 100,
        watch: Callable[[Progress], None] | None = None,
        also: Collection[int] = (),
    ) -> list[Progress]:
        """Trains until `steps` steps are done in all, reporting every `every` and at the steps `also`; returns the
        reports.

        Raises Diverged, before it is reported, where a loss or a weight is not a number.
        """
        reports: list[Progress] = []
        self.model.train()
        while self.step < steps:
            begin = time.perf_counter()
            next_report = self.step + every - self.step % every
            count = min(stop for stop in (next_report, steps, *also) if stop > self.step) - self.step
            total = {player: torch.zeros((), device=self.model.device) for player in self.players}
            for _ in range(count):
                if self.decay:
                    self._slow_down(steps)
                with parallel.whole():
                    losses = self.one_step()
                for player, loss in losses.items():
                    total[player] += loss
            mean = {player: (loss / count).item() for player, loss in total.items()}
            pace = count * self.batch_size / (time.perf_counter() - begin)
            self.check_finite(*mean.values())
            reports.append(Progress(self.step, mean, pace))
            if watch:
                # Looking must not change the run: samples drawn here cost no noise there.
                with parallel.whole(), torch.random.fork_rng():
                    watch(reports[-1])
        return reports

    def _ramped(self, averaging: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
        def update(average: list[Tensor], current: list[Tensor], _: Tensor) -> None:
            past = min(averaging, (1 + self.step) / (10 + self.step))
            if average[0].is_floating_point():
                torch._foreach_lerp_(average, current, 1 - past)
            else:  # batch norm counts its batches
                torch._foreach_copy_(average, current)

        return update

    @torch.no_grad()
    def check_finite(self, *losses: float) -> None:
        """Raises Diverged where a loss, or a weight of the model, is not a number."""
        weights = (parameter.isfinite().all() for parameter in self.model.parameters())
        if not (all(map(math.isfinite, losses)) and all(weights)):
            raise Diverged(f"the losses are no longer numbers at step {self.step}: try a smaller learning rate")

    def _with_precise_statistics(self, model: Game) -> Game:
        model, number = distributed.apart(copy.deepcopy(model)), min(EXAMPLES, len(self.data))
        batches = min(math.ceil(number * math.prod(self.data.shape) / AT_ONCE), number // 2)
        order = epoch_order(len(self.data), 0, self.seed)[:number].tensor_split(batches)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            z = model.prior(number).tensor_split(batches)
            for conditional, inputs in ((model.encoder, map(self.data.floats, order)), (model.decoder, z)):
                if conditional is not None and not isinstance(conditional, Frozen):
                    update_bn(inputs, conditional, self.model.device)
        return model

    def _slow_down(self, steps: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * min(1.0, 2 * (1 - self.step / steps))

    @property
    def epoch_steps(self) -> int:
        """Steps in which every example is seen once, but for an odd rest."""
        return len(self.data) // self.batch_size

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """The examples of the step to come, and the classes of the last of them, or what a conditional model is told of
        them all; the odd rest of an epoch is left out, and so is that of a pass over the labelled ones."""
        epoch, position = divmod(self.step, self.epoch_steps)
        if epoch != self._epoch:
            # Where the examples are: an index from elsewhere would have to be waited for.
            self._epoch, self._order = epoch, epoch_order(len(self.data), epoch, self.seed).to(self.data.x.device)
        index = distributed.share(self._order[position * self.batch_size : (position + 1) * self.batch_size])
        x, y = self.data.floats(index).to(self.model.device, non_blocking=True), None
        if self.conditions is not None:
            y = self.conditions[index].float()
        if self.labelled_batch:
            epoch, position = divmod(self.step, len(self.labelled) // self.labelled_batch)
            order = epoch_order(len(self.labelled), epoch, self.seed + 1)  # not that of the others
            known = distributed.share(order[position * self.labelled_batch : (position + 1) * self.labelled_batch])
            x = torch.cat([x, self.labelled.floats(known).to(x.device)])
            y = self.labelled.labels[known].to(x.device)
        if self.flips:
            x = mirrored(x)
        if self.shifts:
            x = shifted(x)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, y

    def state(self) -> dict:
        """All that the rest of the run depends on, besides the data: weights, optimiser, random state, step."""
        return {
            "step": self.step,
            "bf16": self.bf16,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.model.device.type == "cuda" else [],
            "average": self._average and self._average.state_dict(),
        }

    def resume(self, state: dict) -> None:
        """Puts the trainer where `state()` was taken; the rest of the run is then the same to the last bit (CPU).

        AlikitError, and the trainer is as it was, for what is no state of such a trainer.
        """
        optimiser = self._checked(state)
        self.step, self._precise = state["step"], (-1, self.model)
        self.bf16 = state.get("bf16", self.bf16) and has_bf16(self.model.device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(optimiser)
        if self._average:
            self._average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        # From a machine with another number of GPUs, the run goes on with other noise.
        if len(state["random_cuda"]) == torch.cuda.device_count() and self.model.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def _checked(self, state: dict) -> dict:
        """Raises AlikitError unless all of a state is of this trainer's kind; returns what its optimiser is to load."""
        try:
            if type(state["step"]) is not int or state["step"] < 0 or type(state.get("bf16", False)) is not bool:
                raise ValueError("its step or its precision is none")
            _check_tensors(state["model"], self.model.state_dict(), "weights")
            if bool(self._average) != (state["average"] is not None):
                raise ValueError("it has averaged weights, or has none, unlike this run")
            if self._average:
                _check_tensors(state["average"], self._average.state_dict(), "averaged weights")
            torch.Generator().set_state(state["random"])
            if not all(random.dtype == torch.uint8 and random.ndim == 1 for random in state["random_cuda"]):
                raise ValueError("its random state is none")
            return self._checked_optimiser(state["optimiser"])
        except ValueError as error:
            raise AlikitError(str(error).partition("\n")[0][:200]) from None
        except (RuntimeError, LookupError, TypeError, AttributeError):
            raise AlikitError("it lacks something, or has it in another form") from None

    def _checked_optimiser(self, state: dict) -> dict:
        """Its moments as they lie in this trainer's memory, and of its settings the learning rate alone: fused Adam
        walks through whatever it is given, beyond the end of it too."""
        own, parameters = self.optimiser.state_dict(), [p for players in self.players.values() for p in players]
        groups = []
        for theirs, ours in zip(state["param_groups"], own["param_groups"], strict=True):
            lr = theirs["lr"]
            if type(lr) not in (int, float) or not 0 <= lr <= self.lr:
                raise ValueError("its learning rate is not this run's")
            groups.append({**ours, "lr": lr})
        if state["state"] and state["state"].keys() != set(range(len(parameters))):
            raise ValueError("its moments are of other weights")
        moments = {}
        for place, theirs in state["state"].items():
            parameter = parameters[place]
            blank = torch.zeros_like(parameter, requires_grad=False)
            ours = {"step": torch.zeros(()), "exp_avg": blank, "exp_avg_sq": blank}
            _check_tensors(theirs, ours, "moments")
            if theirs["step"] < 0 or (theirs["exp_avg_sq"] < 0).any():
                raise ValueError("its moments are negative")
            moments[place] = {name: torch.zeros_like(tensor).copy_(theirs[name]) for name, tensor in ours.items()}
        return {"state": moments, "param_groups": groups}


def _check_tensors(theirs: dict[str, Tensor], ours: dict[str, Tensor], what: str) -> None:
    """ValueError unless they are the same names, shapes and types, in finite numbers."""
    if theirs.keys() != ours.keys():
        raise ValueError(f"its {what} have other names")
    for name, own in ours.items():
        tensor = theirs[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"its {what} are no tensors")
        if tensor.shape != own.shape or tensor.dtype != own.dtype:
            raise ValueError(f"its {what} have other shapes or types")
        if not tensor.isfinite().all():
            raise ValueError(f"its {what} are not finite")
