"""The loop: one for every game. Several players, one forward pass, all of them move together.

    trainer = Trainer(model, data, Config(lr=1e-3, ema=0.999))
    trainer.run(2000)
    trainer.result.sample(10)

`Config` says what a run trains with; a recipe is a `Config` with a game and its networks, see recipes.py.
"""

import copy
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass as checked
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from . import distributed
from .data import Dataset
from .errors import AlikitError, Diverged
from .models import AdversarialGame, Game
from .networks import Frozen
from .views import mirrored, shifted

EXAMPLES, AT_ONCE = 10_000, 2**21  # for precise statistics: examples at most, and numbers in a batch, about
CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
# Attributes of games: see `AdversarialGame`, `ALI` and `KPlusOne`.
OF_GAMES = ("loss", "r1", "r2", "penalty_on", "penalty_every", "cycle_x", "cycle_z")
OF_GAMES += ("cycle_trains", "input_noise", "consistency")
Beta = Annotated[float, Field(ge=0, lt=1)]


@checked(frozen=True, kw_only=True, config=CHECKED)
class Config:
    """What a run trains with. Each field is also a setting of recipes, of `alikit train --set NAME=VALUE` and of run
    folders. weight_std, unary, adversarial_cycle and OF_GAMES take effect where a recipe builds its model, fast and
    labels where it makes the trainer, all others in `Trainer`. Values of another type or out of range raise pydantic's
    ValidationError, a ValueError."""

    batch_size: int = Field(100, ge=2, le=10**9, description="examples a step, over all processes together")
    lr: float = Field(1e-4, gt=0, le=10**6, description="Adam's learning rate, of every player")
    lr_discriminator: float | None = Field(None, gt=0, le=10**6, description="D's own learning rate; null for lr")
    betas: Annotated[tuple[Beta, Beta], Strict(False)] = Field((0.5, 0.999), description="Adam's beta1 and beta2")
    # The players come to rest. lr depends on step / steps, so resuming with more steps raises it again.
    decay: bool = Field(False, description="let lr fall in a straight line to 0 over the second half of the run")
    weight_std: float | None = Field(None, gt=0, le=10, description="spread of the first weights; null for PyTorch's")
    loss: Literal["ns", "hinge", "least-squares", "relativistic"] = Field("ns", description="the adversarial loss")
    r1: float = Field(0.0, ge=0, le=10**6, description="weight of the gradient penalty on q's pairs")
    r2: float = Field(0.0, ge=0, le=10**6, description="weight of the gradient penalty on p's pairs")
    penalty_on: Literal["xz", "x", "z"] = Field("xz", description="what these penalties are gradients by")
    penalty_every: int = Field(1, ge=1, le=10**6, description="steps from one gradient penalty to the next")
    cycle_x: float = Field(0.0, ge=0, le=10**6, description="weight of the cycle loss on x, see ALI")
    cycle_z: float = Field(0.0, ge=0, le=10**6, description="weight of the cycle loss on z, see ALI")
    cycle_trains: Literal["both", "encoder"] = Field("both", description="whether the decoder learns from them too")
    input_noise: float = Field(0.0, ge=0, le=100, description="spread of noise on what the encoder reads, see ALI")
    adversarial_cycle: bool = Field(False, description="let a second discriminator judge the cycle on x")
    unary: bool = Field(False, description="let the discriminator judge x and z alone as well")
    ema: float = Field(0.0, ge=0, lt=1, description="weight of the past in averaged weights, the run's result; 0: none")
    # The average forgets the first weights within some dozen steps instead of thousands.
    ema_ramp: bool = Field(False, description="let that weight grow with the steps n as (1 + n) / (10 + n), up to ema")
    # Running statistics come from earlier weights: k layers of them draw samples about (k - 1) / (2 batch_size) too
    # close together (Wu and Johnson 2021).
    precise_bn: bool = Field(False, description="count the result's batch norm statistics anew, over large batches")
    random_flip: bool = Field(False, description="mirror each picture of a batch left to right with probability 1/2")
    random_shift: bool = Field(False, description="move each picture of a batch by up to a sixteenth of its side")
    # Weights, losses and the optimiser stay float32.
    bf16: bool = Field(False, description="compute networks in bfloat16 (autocast) where this machine is quicker so")
    fast: bool = Field(True, description="quick layers on a processor, see alikit.fast; false for PyTorch's own")
    labels: int = Field(0, ge=0, le=10**9, description="training examples whose class is known, in games with labels")
    labelled_batch: int = Field(0, ge=0, le=10**9, description="how many of them are added to each batch")
    consistency: float = Field(0.0, ge=0, le=10**6, description="weight of the consistency loss, see KPlusOne")


class _Adam(torch.optim.Adam):
    """The library's, in whose own methods torch's compiler is imported, which takes a second and is not used here."""

    step = torch.no_grad()(torch.optim.Adam.step.__wrapped__)
    add_param_group = torch.optim.Adam.add_param_group.__wrapped__
    state_dict, load_state_dict = torch.optim.Adam.state_dict.__wrapped__, torch.optim.Adam.load_state_dict.__wrapped__


@dataclass(frozen=True)
class Progress:
    """What the loop reports."""

    step: int  # steps done
    losses: dict[str, float]  # each player's mean loss since the last report
    images_per_second: float


def has_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 is quick on this device: on a processor that multiplies in it, and on GPUs since Ampere."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type != "cpu":  # as on mps, whose autocast is not measured
        return False
    # Not part of PyTorch's public interface: if it is renamed one day, there is no bfloat16.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    """The order of all n examples in an epoch (from 0), (n,), by these arguments alone: a resumed run continues it."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


class Trainer:
    """A model, its data, and one Adam for all its players.

    labelled  for games with labels, the examples whose classes are known: `config.labelled_batch` of them join each
              batch
    seed      of the order of examples. Weights and noise come from torch's generator (`torch.manual_seed`); with
              several processes (see distributed.py) noise comes from `seed` too

    Raises AlikitError where data, model and config do not go together.
    """

    def __init__(
        self, model: Game, data: Dataset, config: Config = Config(), *, labelled: Dataset | None = None, seed: int = 0
    ):
        _check(model, data, config, labelled)
        self.labelled, self.labelled_batch = labelled, min(config.labelled_batch, len(labelled or ()))
        distributed.check_divides(config.batch_size, distributed.world())
        distributed.check_divides(self.labelled_batch, distributed.world(), "labelled examples")
        if model.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every batch has the same shape: search the fastest kernels once
        self.model = model.to(memory_format=torch.channels_last)  # in which convolutions are fastest
        self.config, self.seed, self.step = config, seed, 0
        self.data = data.to(model.device) if data.fits(model.device) else data
        self.conditions = data.conditions().to(model.device) if model.attributes else None
        self.players = model.players()
        dense = all(p.stride() == torch.empty_like(p).stride() for p in model.parameters())  # which fused Adam supposes
        self._rates = {player: config.lr for player in self.players}
        if config.lr_discriminator:  # two time scales (Heusel et al. 2017)
            self._rates["discriminator"] = config.lr_discriminator
        groups = [{"params": own, "lr": self._rates[player]} for player, own in self.players.items()]
        self.optimiser = _Adam(groups, config.lr, config.betas, fused=dense)
        self._average = AveragedModel(model, multi_avg_fn=self._mean, use_buffers=True) if config.ema else None
        self._precise = (-1, model)  # the step at which statistics were counted, and the model with them
        self._epoch, self._order = -1, torch.empty(0)
        self.bf16 = config.bf16 and self._is_quicker_in_bf16()

    @property
    def result(self) -> Game:
        """The model to use: averaged with `config.ema`, and with `precise_bn` a copy that has new statistics."""
        model = self._average.module if self._average else self.model
        if not self.config.precise_bn:
            return model
        if self._precise[0] != self.step:
            self._precise = self.step, self._with_precise_statistics(model)
        return self._precise[1]

    def gradients(self, model: Game, x: Tensor, y: Tensor | None) -> tuple[dict[str, Tensor], dict[str, tuple]]:
        """The model's losses on one batch, and each player's gradient of its own loss."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            losses, players = model.losses(x, y), model.players() if model is not self.model else self.players
            if losses.keys() != players.keys():
                names = f"losses of {', '.join(losses)}, and its players are {', '.join(players)}"
                raise AlikitError(f"{type(model).__name__} has {names}: give both the same names")
            return losses, {
                player: torch.autograd.grad(losses[player], own, retain_graph=player != [*players][-1]) if own else ()
                for player, own in players.items()
            }

    def one_step(self) -> dict[str, Tensor]:
        """Takes every player's gradient at the same parameters, then moves all of them. Returns the losses."""
        distributed.own_noise(self.seed, self.step)
        self.model.steps_done = self.step
        losses, gradients = distributed.average(*self.gradients(self.model, *self._batch()))
        for player, own in self.players.items():
            for parameter, gradient in zip(own, gradients[player], strict=True):
                # Fused Adam walks through both in memory order without checking that the two orders agree.
                same = gradient.stride() == parameter.stride()
                parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        self.optimiser.step()
        if self._average:
            self._average.update_parameters(self.model)
        self.step += 1
        return {player: loss.detach() for player, loss in losses.items()}

    def run(
        self,
        steps: int,
        every: int = 100,
        watch: Callable[[Progress], None] | None = None,
        also: Collection[int] = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Progress]:
        """Trains until `steps` steps are done in all; returns the reports.

        every, also  report after every so many steps, and after these
        watch        called with each report; random numbers that it draws do not change the run
        stop         called after every step; if it returns True, the run ends with KeyboardInterrupt

        Raises Diverged instead of a report if a loss or a weight is not finite.
        """
        if every < 1:
            raise AlikitError(f"a report every {every} steps: choose 1 or more")
        reports: list[Progress] = []
        self.model.train()
        while self.step < steps:
            begin = time.perf_counter()
            next_report = self.step + every - self.step % every
            count = min(target for target in (next_report, steps, *also) if target > self.step) - self.step
            total = {player: torch.zeros((), device=self.model.device) for player in self.players}
            for _ in range(count):
                if self.config.decay:
                    for group, lr in zip(self.optimiser.param_groups, self._rates.values(), strict=True):
                        group["lr"] = lr * min(1.0, 2 * (1 - self.step / steps))
                for player, loss in self.one_step().items():
                    total[player] += loss
                if stop():
                    raise KeyboardInterrupt
            mean = {player: (loss / count).item() for player, loss in total.items()}
            pace = count * self.config.batch_size / (time.perf_counter() - begin)
            self.check_finite(*mean.values())
            reports.append(Progress(self.step, mean, pace))
            if watch:
                with torch.random.fork_rng():
                    watch(reports[-1])
        return reports

    @torch.no_grad()
    def check_finite(self, *losses: float) -> None:
        """Raises Diverged if a loss or a weight of the model is not finite."""
        weights = (parameter.isfinite().all() for parameter in self.model.parameters())
        if not (all(map(math.isfinite, losses)) and all(weights)):
            raise Diverged(f"the losses are no longer numbers at step {self.step}: try a smaller learning rate")

    def _is_quicker_in_bf16(self) -> bool:
        """On processors both are timed: the gain from bfloat16 varies, and float32 has quick layers."""
        if self.model.device.type == "cuda" or not has_bf16(self.model.device):
            return has_bf16(self.model.device)
        twin, seconds = copy.deepcopy(self.model).train(), {False: [], True: []}
        with torch.random.fork_rng():
            batch = self._batch()
            for _ in range(3):
                for self.bf16, took in seconds.items():
                    begin = time.perf_counter()
                    self.gradients(twin, *batch)
                    took.append(time.perf_counter() - begin)
        gained = torch.tensor(min(seconds[False]) - min(seconds[True]))
        return distributed.mean_of_all(gained).item() > 0  # the same choice in all processes

    def _mean(self, average: list[Tensor], current: list[Tensor], number: Tensor) -> None:
        if not average[0].is_floating_point():  # batch norm's counter: cut to a whole number, its mean would stay at 1
            return torch._foreach_copy_(average, current)
        ramp = (1 + self.step) / (10 + self.step) if self.config.ema_ramp else 1.0
        get_ema_multi_avg_fn(min(self.config.ema, ramp))(average, current, number)

    def _with_precise_statistics(self, model: Game) -> Game:
        model, number = distributed.apart(copy.deepcopy(model)), min(EXAMPLES, len(self.data))
        batches = min(math.ceil(number * math.prod(self.data.shape) / AT_ONCE), number // 2)
        order = epoch_order(len(self.data), 0, self.seed)[:number].tensor_split(batches)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            z, x = model.prior(number).tensor_split(batches), map(self.data.floats, order)
            if getattr(model, "cycle_z", 0):  # whose encoder is scaled by both kinds of pictures, here without noise
                x = (torch.cat([half, model.decode(codes).to(half)]) for half, codes in zip(x, z, strict=True))
            for conditional, inputs in ((model.decoder, z), (model.encoder, x)):
                if conditional is not None and not isinstance(conditional, Frozen):
                    update_bn(inputs, conditional, self.model.device)
        return model

    @property
    def epoch_steps(self) -> int:
        """Whole batches in an epoch; the last, partial one is left out."""
        return len(self.data) // self.config.batch_size

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """x, the examples of the next step, and y: the classes of the last of them, or the conditions of all."""
        size = self.config.batch_size
        epoch, position = divmod(self.step, self.epoch_steps)
        if epoch != self._epoch:
            # On the examples' own device: an index from another one has to be copied first, at every step.
            self._epoch, self._order = epoch, epoch_order(len(self.data), epoch, self.seed).to(self.data.x.device)
        index = distributed.share(self._order[position * size : (position + 1) * size])
        x, y = self.data.floats(index).to(self.model.device, non_blocking=True), None
        if self.conditions is not None:
            y = self.conditions[index].float()
        if self.labelled_batch:
            epoch, position = divmod(self.step, len(self.labelled) // self.labelled_batch)
            order = epoch_order(len(self.labelled), epoch, self.seed + 1)  # not the order of the unlabelled ones
            known = distributed.share(order[position * self.labelled_batch : (position + 1) * self.labelled_batch])
            x = torch.cat([x, self.labelled.floats(known).to(x.device)])
            y = self.labelled.labels[known].to(x.device)
        if self.config.random_flip:
            x = mirrored(x)
        if self.config.random_shift:
            x = shifted(x)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, y

    def state(self) -> dict:
        """Everything that the rest of the run depends on, besides the data: weights, optimiser, random state, step."""
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

        A state of another model or config raises ValueError, KeyError or RuntimeError; do not use the trainer then.
        """
        self.step, self._precise = state["step"], (-1, self.model)
        self.bf16 = state["bf16"] and has_bf16(self.model.device)
        self.model.load_state_dict(state["model"])
        if bool(self._average) != (state["average"] is not None):
            raise ValueError("with averaged weights, or without, unlike this run")
        if self._average:
            self._average.load_state_dict(state["average"])
            if not all(tensor.isfinite().all() for tensor in state["average"].values()):
                raise ValueError("averaged weights that are not finite")
        moments = state["optimiser"]["state"]
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        for parameter in [p for own in self.players.values() for p in own] if moments else ():
            own = self.optimiser.state[parameter]
            own["step"] = own["step"].view(())
            for name in ("exp_avg", "exp_avg_sq"):
                # In the memory order of the weights: fused Adam does not check that the two agree.
                own[name] = torch.empty_like(parameter).copy_(own[name].view_as(parameter))
        torch.set_rng_state(state["random"])
        # On a machine with another number of GPUs the run continues with other noise.
        if len(state["random_cuda"]) == torch.cuda.device_count() and self.model.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.check_finite()


def _check(model: Game, data: Dataset, config: Config, labelled: Dataset | None) -> None:
    if model.x_shape not in (None, data.shape):
        raise AlikitError(f"the model is for examples of {model.x_shape}, the data's are {data.shape}: build it anew")
    if config.batch_size > len(data):
        way = "choose a smaller batch_size, 2 or more, or more data"
        raise AlikitError(f"a batch of {config.batch_size} does not fit {len(data)} examples: {way}")
    if labelled and not config.labelled_batch:
        raise AlikitError("a game with labels needs a labelled_batch of at least 1: without one no label is used")
    if config.lr_discriminator and "discriminator" not in model.players():
        raise AlikitError("this game has no discriminator: leave lr_discriminator out")
    for name in OF_GAMES:  # a game has them of itself
        value = getattr(config, name)
        if value not in (getattr(Config, name, None), getattr(model, name, None)):
            raise AlikitError(f"{name} is {value} in the config and not in the game: set both, or use a recipe")
    # The networks of other games have other inputs, and conditional ones need y besides.
    if config.precise_bn and (not isinstance(model, AdversarialGame) or model.attributes):
        raise AlikitError("precise_bn is for games with a discriminator and without conditions: leave it out")
    if (config.random_flip or config.random_shift) and len(data.shape) != 3:
        raise AlikitError("points cannot be mirrored or shifted: leave random_flip and random_shift out")
