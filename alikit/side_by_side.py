"""Many runs of one game as one batched computation: on a GPU, one toy run leaves nearly all of it idle.

    lines = run_side_by_side("mixture", Path("runs/mixture"), number=10, steps=200_000)

Every run has its own weights, noise, batches, learning rate and betas; they share shapes, and so kernels. On CUDA the
whole step is one captured graph, for there the time would go into launching hundreds of small kernels.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from . import lines, runs
from .convolutions import plain
from .data import Dataset, load
from .errors import AlikitError
from .evaluation import found_modes
from .models import Game
from .networks import Maxout
from .recipes import RECIPES
from .studies import MEASURED_EVERY, REPORTS, STUDIES, Study

EPSILON = 1e-8  # of Adam
WARM_UP = 3  # steps on CUDA before the capture: what libraries set up at first use must not end in the graph


class _Asked(nn.Module):
    """A game as a module whose call is its losses, which is what can be given other weights for a call."""

    def __init__(self, game: Game):
        super().__init__()
        self.game = game

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.game.losses(x)


class _LibraryMaxout(Maxout):
    """Maxout in the library's own words, which know how to be batched over runs."""

    def forward(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.pieces, -1)).amax(1)


class SideBySide:
    """R untrained games of equal shapes, trained together by simultaneous steps like `Trainer`'s.

    games      one for each run, with that run's first weights; `games()` gives them the trained ones
    lr, betas  of each run's Adam, (R,) and (R, 2), the same for every player

    Examples are drawn with replacement, which spares an order of epochs for each run. Two backward passes a step.
    """

    def __init__(self, games: list[Game], data: Dataset, lr: Tensor, betas: Tensor, batch_size: int = 100):
        self.device = games[0].device
        self._games, self.batch_size, self.step = games, batch_size, 0
        self.x = data.to(self.device).floats(slice(None))
        modules = [_Asked(game.train()) for game in games]
        self.parameters, self.buffers = stack_module_state(modules)
        names = {parameter: name for name, parameter in modules[0].named_parameters()}
        self.players = {player: [names[p] for p in own] for player, own in games[0].players().items()}
        self._skeleton = plain(copy.deepcopy(modules[0]))  # ours draw one mask of dropout for all runs
        for module in list(self._skeleton.modules()):
            for name, layer in module.named_children():
                if isinstance(layer, Maxout):
                    setattr(module, name, _LibraryMaxout(layer.pieces))
        self._lr, (self._beta1, self._beta2) = lr.to(self.device), betas.to(self.device).unbind(1)
        self._count = torch.zeros((), device=self.device)
        learning = [name for own in self.players.values() for name in own]
        self._moments = {name: torch.zeros(2, *self.parameters[name].shape, device=self.device) for name in learning}
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, steps: int) -> None:
        """Trains until `steps` steps are done in all."""
        while self.step < steps:
            if self.device.type != "cuda":
                self.one_step()
            elif self._graph:
                self._graph.replay()
            elif self.step < WARM_UP:
                self._on_a_stream_of_its_own()
            else:
                self._capture()
                self._graph.replay()
            self.step += 1

    def games(self) -> list[Game]:
        """The runs as games of their own, with the weights they have now, NaN and all."""
        for run, game in enumerate(self._games):
            mine = {name: tensor[run].detach() for name, tensor in {**self.parameters, **self.buffers}.items()}
            _Asked(game).load_state_dict(mine)
        return self._games

    def batch(self) -> Tensor:
        """The examples of a step, (R, batch_size, ...)."""
        runs_and_examples = (len(self._games), self.batch_size)
        return self.x[torch.randint(len(self.x), runs_and_examples, device=self.device)]

    def one_step(self) -> None:
        """Every player's gradient is taken at the same parameters, then all of them move, in every run."""

        def losses(parameters: dict, buffers: dict, x: Tensor) -> dict[str, Tensor]:
            return functional_call(self._skeleton, (parameters, buffers), (x,))

        found = vmap(losses, randomness="different")(self.parameters, self.buffers, self.batch())
        gradients: dict[str, Tensor] = {}
        for player, names in self.players.items():
            own = [self.parameters[name] for name in names]
            # Of the sum over runs: no run's loss depends on another's weights.
            gradients |= zip(names, torch.autograd.grad(found[player].sum(), own, retain_graph=True), strict=True)
        self._count += 1
        for name, gradient in gradients.items():
            self._adam(name, gradient)

    @torch.no_grad()
    def _adam(self, name: str, gradient: Tensor) -> None:
        """Kingma and Ba (2015), with a learning rate and betas for each run, which the library's has not."""
        each = (-1, *[1] * (gradient.ndim - 1))
        lr, beta1, beta2 = (numbers.view(each) for numbers in (self._lr, self._beta1, self._beta2))
        first, second = self._moments[name]
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        mean = first / (1 - beta1**self._count)
        spread = (second / (1 - beta2**self._count)).sqrt_().add_(EPSILON)
        self.parameters[name].sub_(lr * mean / spread)

    def _on_a_stream_of_its_own(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.one_step()
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        """Records the step, and does not take it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.one_step()
        self._graph = graph


def run_side_by_side(
    name: str,
    out: Path,
    number: int,
    steps: int,
    watch: Callable[[int, int], None] = lambda steps, finished: None,
) -> list[dict]:
    """Brings study `name` to `number` runs of each arm in folder `out`, an arm at once; returns their lines.

    Uses a GPU where there is one. `seconds` in a line is the time of its whole arm, and `side_by_side` the number of
    runs that shared it. Runs that are in runs.jsonl already are kept; an arm that is stopped begins again.
    Settings and first weights of a run are those of `run_study`, batches and noise are others.

    Raises AlikitError where the folder cannot be used or holds other runs, and for arms with more than plain Adam.
    """
    study = STUDIES[name]
    for arm in study.arms:
        settings = lines.what_makes(study, arm, 0)
        if more := [setting for setting in ("r1", "averaging", "precise_bn", "decay") if settings[setting]]:
            raise AlikitError(f"{arm} trains with {', '.join(more)}: leave --side-by-side out")
    with runs.alone(out):
        finished = lines.read(out / "runs.jsonl", study, steps)
        wanted = {lines.key_of(arm, run) for run in range(number) for arm in study.arms}
        for arm in study.arms:
            before = len(wanted & finished.keys())

            def told(done: int, before: int = before) -> None:
                watch(before * steps + done, before)

            if missing := [run for run in range(number) if lines.key_of(arm, run) not in finished]:
                found = _one_arm(study, arm, missing, steps, out, told)
                finished = lines.write(out / "runs.jsonl", finished | found)
        return [finished[lines.key_of(arm, run)] for run in range(number) for arm in study.arms]


def _one_arm(
    study: Study, arm: str, which: list[int], steps: int, out: Path, watch: Callable[[int], None]
) -> dict[str, dict]:
    """The lines of the runs of an arm by key; each run's folder gets its weights. `watch` is told the steps of all."""
    parts = load(RECIPES[study.arms[arm][0]].data)
    all_settings = [lines.settings_of(study, arm, run, steps, parts[0].shape) for run in which]
    if len({settings["batch_size"] for settings in all_settings}) > 1:
        raise AlikitError(f"the runs of {arm} differ in their batches: leave --side-by-side out")
    trainers = [runs.trainer(settings, parts[0]) for settings in all_settings]
    together = SideBySide(
        [trainer.model for trainer in trainers],
        parts[0],
        torch.tensor([settings["lr"] for settings in all_settings]),
        torch.tensor([settings["betas"] for settings in all_settings]),
        all_settings[0]["batch_size"],
    )
    folders = [out / "runs" / lines.key_of(arm, run) for run in which]
    for folder, settings in zip(folders, all_settings, strict=True):
        runs.write_settings(folder, {"format": runs.FORMAT, **settings})
    histories: list[list[dict]] = [[] for _ in which]
    torch.manual_seed(all_settings[0]["seed"])
    begin, every = time.perf_counter(), max(MEASURED_EVERY, steps // REPORTS)
    while together.step < steps:
        together.run(min(steps, together.step + every))
        games = together.games()
        if together.device.type == "cuda":
            torch.cuda.synchronize()  # what was launched is not done yet
        seconds = round(time.perf_counter() - begin, 1)
        for game, history in zip(games, histories, strict=True):
            history.append({"step": together.step, "seconds": seconds, **found_modes(game)})
        watch(together.step * len(which))
    found = {}
    for run, settings, folder, history, game in zip(
        which, all_settings, folders, histories, together.games(), strict=True
    ):
        runs.save_weights(folder, game.state_dict())
        for stale in ("checkpoint.pt", "metrics.jsonl"):  # of a worker that was stopped at this run
            (folder / stale).unlink(missing_ok=True)
        diverged = not all(tensor.isfinite().all() for tensor in game.state_dict().values())
        line = lines.line_of(arm, run, settings, diverged, history, game, parts)
        found[lines.key_of(arm, run)] = line | {"side_by_side": len(which)}
    return found
