"""Many runs of one game as one batched computation: on a GPU, one toy run leaves nearly all of it idle.

    lines = run_side_by_side("mixture", Path("runs/mixture"), number=10, steps=200_000)

Every run has its own weights, noise, batches, learning rate and betas; they share shapes, and so kernels. On CUDA the
whole step is one captured graph, because launching hundreds of small kernels would take most of the time.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from . import runs, studies
from .data import Dataset, load
from .errors import AlikitError
from .evaluation import found_modes
from .fast import accelerate
from .models import Game
from .recipes import RECIPES

# Settings that only `Trainer` follows, or that vmap does not.
NEEDS_TRAINER = ("r1", "r2", "lr_discriminator", "ema", "precise_bn", "decay", "bf16", "random_flip", "random_shift")
WARM_UP = 3  # steps on CUDA before the capture: what libraries set up at first use must not end in the graph


class SideBySide:
    """R untrained games of equal shapes, trained together by simultaneous steps like `Trainer`'s.

    games      one for each run, with that run's first weights; `games()` gives them the trained ones
    lr, betas  of each run's Adam, (R,) and (R, 2), the same for every player

    Examples are drawn with replacement, which spares an order of epochs for each run.
    """

    def __init__(self, games: list[Game], data: Dataset, lr: Tensor, betas: Tensor, batch_size: int = 100):
        self.device = games[0].device
        self._games, self.batch_size, self.step = games, batch_size, 0
        self.x = data.to(self.device).floats(slice(None))
        self.parameters, self.buffers = stack_module_state([game.train() for game in games])
        names = {parameter: name for name, parameter in games[0].named_parameters()}
        self.players = {player: [names[p] for p in own] for player, own in games[0].players().items()}
        # Of the library's operations, which vmap knows how to batch; quick ones draw one mask of dropout for all runs.
        self._skeleton = accelerate(copy.deepcopy(games[0]), False)
        self._skeleton.forward = self._skeleton.losses  # which `functional_call` calls
        self._rates = [numbers.to(self.device) for numbers in (lr, *betas.unbind(1))]
        self._count = torch.zeros((), device=self.device)
        learning = [name for own in self.players.values() for name in own]
        self._moments = {name: torch.zeros(2, *self.parameters[name].shape, device=self.device) for name in learning}
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, steps: int) -> None:
        """Trains until `steps` steps are done in all."""
        while self.step < steps:
            if self.device.type != "cuda":
                self.one_step()
            elif self.step < WARM_UP:
                stream = torch.cuda.Stream()  # a capture must not find traces of the first steps on the usual one
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    self.one_step()
                torch.cuda.current_stream().wait_stream(stream)
            else:
                if self._graph is None:
                    self._graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self._graph):  # which records the step, and does not take it
                        self.one_step()
                self._graph.replay()
            self.step += 1

    def games(self) -> list[Game]:
        """The runs as games of their own, with the weights they have now, NaN and all."""
        for run, game in enumerate(self._games):
            state = {**self.parameters, **self.buffers}
            game.load_state_dict({name: tensor[run].detach() for name, tensor in state.items()})
        return self._games

    def batch(self) -> Tensor:
        """The examples of a step, (R, batch_size, ...)."""
        return self.x[torch.randint(len(self.x), (len(self._games), self.batch_size), device=self.device)]

    def one_step(self) -> None:
        """Every player's gradient is taken at the same parameters, then all of them move, in every run."""
        losses = vmap(lambda p, b, x: functional_call(self._skeleton, (p, b), x), randomness="different")
        found = losses(self.parameters, self.buffers, self.batch())
        gradients: dict[str, Tensor] = {}
        for player, names in self.players.items():
            own = [self.parameters[name] for name in names]
            # Of the sum over runs: no run's loss depends on another's weights.
            gradients |= zip(names, torch.autograd.grad(found[player].sum(), own, retain_graph=True), strict=True)
        self._count += 1
        with torch.no_grad():
            for name, gradient in gradients.items():
                # Adam (Kingma and Ba, 2015). The library's has one learning rate, and not one for each run.
                lr, beta1, beta2 = (numbers.view(-1, *[1] * (gradient.ndim - 1)) for numbers in self._rates)
                first, second = self._moments[name]
                first.lerp_(gradient, 1 - beta1)
                second.lerp_(gradient.square(), 1 - beta2)
                mean = first / (1 - beta1**self._count)
                spread = (second / (1 - beta2**self._count)).sqrt_().add_(1e-8)
                self.parameters[name].sub_(lr * mean / spread)


def run_side_by_side(
    name: str, out: Path, number: int, steps: int, watch: Callable[[int, int], None] = lambda steps, finished: None
) -> list[dict]:
    """Brings study `name` to `number` runs of each arm in folder `out`, an arm at once; returns their lines.

    Uses a GPU where there is one. `seconds` in a line is the time of its whole arm, and `side_by_side` the number of
    runs that shared it. Runs that are in runs.jsonl already are kept; an arm that is stopped begins again.
    Settings and first weights of a run are those of `run_study`, batches and noise are others.

    Raises AlikitError where the folder cannot be used or holds other runs, and for arms with more than plain Adam in
    float32.
    """
    study, file = studies.STUDIES[name], out / "runs.jsonl"
    wanted = studies.wanted_of(study, number, steps)
    for settings in wanted.values():
        if more := [name for name in NEEDS_TRAINER if settings[name]]:
            raise AlikitError(f"{settings['arm']} trains with {', '.join(more)}: leave --side-by-side out")
    with runs.alone(out):
        finished = studies.read_lines(file, study, steps)
        for arm in study.arms:
            missing = {key: wanted[key] for key in wanted if wanted[key]["arm"] == arm and key not in finished}
            if missing:
                done = len(wanted.keys() & finished.keys())
                finished |= _one_arm(out / "runs", missing, lambda more, done=done: watch(done * steps + more, done))
                studies.write_lines(file, finished)
        return [finished[key] for key in wanted]


def _one_arm(place: Path, missing: dict[str, dict], watch: Callable[[int], None]) -> dict[str, dict]:
    """The lines of runs of one arm by key, from their settings by key; their weights go into place/KEY. `watch` is
    called with the steps of all runs together."""
    arm, *_ = missing.values()
    parts, steps, kept = load(RECIPES[arm["recipe"]].data), arm["steps"], []
    for key, settings in missing.items():
        (place / key / "checkpoint.pt").unlink(missing_ok=True)  # of a worker that was stopped at this run
        kept.append(studies.begin_folder(place / key, settings, parts[0]))
    games = [runs.trainer(settings, parts[0]).model for settings in kept]
    lr, betas = (torch.tensor([settings[name] for settings in kept]) for name in ("lr", "betas"))
    together = SideBySide(games, parts[0], lr, betas, arm["batch_size"])
    histories: list[list[dict]] = [[] for _ in games]
    torch.manual_seed(arm["seed"])
    begin = time.perf_counter()
    while together.step < steps:
        together.run(min(steps, together.step + max(studies.MEASURED_EVERY, steps // studies.REPORTS)))
        games = together.games()
        if together.device.type == "cuda":
            torch.cuda.synchronize()  # what was launched is not done yet
        seconds = round(time.perf_counter() - begin, 1)
        for game, history in zip(games, histories, strict=True):
            history.append({"step": together.step, "seconds": seconds, **found_modes(game)})
        watch(together.step * len(games))
    lines = {}
    for (key, settings), game, history in zip(missing.items(), games, histories, strict=True):
        runs.save_weights(place / key, game.state_dict())
        diverged = not all(tensor.isfinite().all() for tensor in game.state_dict().values())
        lines[key] = studies.line_of(settings, diverged, history, game, parts) | {"side_by_side": len(games)}
    return lines
