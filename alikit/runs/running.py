"""Training into a run folder, going on with one, and measuring what came of it: what the command line calls.

train("digits", Path("runs/digits"), steps=300)
resume(Path("runs/digits"), steps=2000)
evaluate(Path("runs/digits"))
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor
from tqdm import tqdm

import alikit

from .. import distributed, runs
from ..data import Dataset, load
from ..data.sources import RESIZED, rooted
from ..errors import AlikitError, Diverged, expanded
from ..evaluation import QUICK, awake, measured
from ..evaluation.inference import conditions_of
from ..evaluation.measured import LABELS
from ..figures import beside, grid, plane_image
from ..models import Game
from ..recipes import Recipe, named
from ..stopping import held
from ..training import Progress, Trainer
from .settings import MOST_TEXT, described

SAVE_EVERY = 60.0  # seconds between checkpoints, about
PICTURES = 60  # in a grid
WATCHED = 200  # held-out examples, and codes, that a line of the log is about, at most
MEASURED = 500  # held-out examples that are measured at the end of training; `evaluate` takes all
MILESTONES = (1, 10, 100)  # epochs after which pictures are drawn besides

Parts = tuple[Dataset, Dataset]


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop: it did after `step` of `steps`, and everything is saved."""

    def __init__(self, folder: Path, step: int, steps: int):
        super().__init__(f"stopped at step {step} of {steps}, saved in {folder}: resume it")
        self.folder, self.step, self.steps = folder, step, steps


def changed(name: str, changes: dict) -> Recipe:
    """The recipe of that name with some of its config changed. AlikitError for what it has not, or cannot have."""
    recipe = named(name)
    if unknown := changes.keys() - recipe.config().keys():
        way = (
            "register a recipe of your own to change that, or choose from"
            if hasattr(recipe, min(unknown))
            else "there are"
        )
        raise AlikitError(f"{name} has no training setting {min(unknown)}: {way} {', '.join(recipe.config())}")
    try:
        return replace(recipe, **changes)
    except ValidationError as error:
        raise AlikitError(f"{described(error)}: choose another value") from None


def train(
    name: str,
    out: Path | None = None,
    *,
    data: str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    changes: dict | None = None,
    decoder: Path | None = None,
    size: int | None = None,
    skip_corrupt: bool = False,
    download: bool = False,
    save_every: float = SAVE_EVERY,
    command: str = "",
) -> dict | None:
    """Trains a recipe into a new run folder; returns what was measured at the end, in the first of several processes.

    out      the folder; runs/NAME-seedN by default
    data     a source for `alikit.data.load`, with size, skip_corrupt and download; the recipe's own by default
    steps    or epochs, passes over the data; the recipe's own by default
    seed     of weights, noise, the order of examples, and which have labels
    changes  of the recipe's config, by name
    decoder  for recipes with a frozen decoder, the run folder it comes from
    save_every  seconds between checkpoints, about; 0 for one at every report
    command  how to do it again, to be kept in the folder

    Of several processes (see distributed.py) all call this, and the first one writes. AlikitError for what does not go
    together; Stopped where the run was interrupted; Diverged, the folder as it was at the last checkpoint.
    """
    recipe = changed(name, changes or {})
    out = out or Path("runs") / f"{name}-seed{seed}"
    runs.check_new(out)
    _check(name, recipe, steps, epochs, decoder, size)
    source = data or recipe.data
    size = size or (recipe.networks.size if _is_resized(source) else None)
    with runs.alone(out):
        with distributed.in_turn():
            parts = load(source, size, skip_corrupt, download)
        settings = {
            "recipe": name,
            "data": source,
            # A folder named by the environment is the machine's own affair, and found there again.
            "data_from_run": runs.placed(source if os.environ.get("ALIKIT_DATA") else rooted(source), out),
            "digest": runs.digest(parts),
            "size": size,
            "skip_corrupt": skip_corrupt,
            "seed": seed,
            **recipe.config(),
            "steps": steps or recipe.steps,
            "decoder": str(decoder) if decoder else None,
            "command": command,
            "versions": {"alikit": alikit.__version__, "torch": torch.__version__},
            "x_shape": list(parts[0].shape),
            "number_of_classes": runs.number_of_classes(parts[0]),
            "number_of_attributes": runs.number_of_attributes(parts[0]),
            "attributes": list(parts[0].classes) if recipe.is_conditional else None,
        }
        trainer = runs.trainer(settings, parts[0])
        if epochs:
            settings["steps"] = epochs * trainer.epoch_steps
        settings |= {"precision": "bfloat16" if trainer.bf16 else "float32", "processes": distributed.world()}
        if distributed.rank() == 0:
            runs.create(out, settings)
        return _follow(trainer, parts, out, settings["steps"], save_every)


def resume(
    folder: Path,
    *,
    steps: int | None = None,
    data: str | None = None,
    save_every: float = SAVE_EVERY,
    command: str = "",
) -> dict | None:
    """Goes on with a run that was stopped, as if it had not been; or, with more `steps` in all, beyond its end.

    data  where the run's data lies now; where it lay in training by default
    """
    settings = runs.settings(folder)
    with runs.alone(folder):
        state = None if runs.is_untouched(folder) else runs.checkpoint(folder)
        with distributed.in_turn():
            parts = data_of(folder, settings, data)
        runs.check_same(settings, parts)
        # A frozen decoder is in the checkpoint too: the run that it came from may be gone.
        trainer = runs.trainer({**settings, "decoder": settings["decoder"] if state is None else None}, parts[0])
        if state:
            runs.go_on(folder, trainer, state)
        steps = steps or settings["steps"]
        more = steps > settings["steps"]
        # Killed between the last checkpoint and the evaluation, it has all its steps and is not at its end.
        evaluated = any("images_per_second" not in line for line in runs.metrics(folder))
        whole = evaluated and (folder / "weights.safetensors").exists()
        if trainer.step > steps or (trainer.step == steps and whole):
            raise AlikitError(f"{folder} has its {trainer.step} steps: ask for a larger number of steps to go on")
        distributed.barrier()  # all have read what is there
        if distributed.rank() == 0:
            runs.tidy(folder)
            if more:
                commands = "; ".join(filter(None, [settings.get("command"), command]))
                if len(commands) > MOST_TEXT:
                    commands = f"{commands.partition(';')[0]}; ...; {command}"
                runs.write_settings(folder, {**settings, "steps": steps, "command": commands})
        return _follow(trainer, parts, folder, steps, save_every)


def evaluate(
    folder: Path,
    metrics: tuple[str, ...] = QUICK,
    *,
    data: str | None = None,
    labels: int | None = None,
    network: Callable[[Tensor], Tensor] | None = None,
) -> dict:
    """Measures a trained model on held-out data.

    metrics  names of `evaluation.METRICS`
    labels   of each of an SVM's draws; by default the run's, or 1000
    network  the feature network of fidelity and copying, if not our own

    Of 10,000 points drawn: modes (the paper's measure), strict_modes (with at least 20 samples within 3 standard
    deviations), within_3std (share of samples, 0..1), kl_uniform (nats; 0 if the modes weigh the same).

    With an encoder: the mean squared error of one value after reconstruction from a drawn code (reconstruction_drawn),
    from the encoder's mean (_mean), and of the mean example in its place (_baseline).

    With an encoder of points: the share of held-out points given back in their own mode from a drawn code
    (identity_drawn), from the mean (_mean), within 3 standard deviations (_strict); prior_distance, the energy
    distance of the codes from the prior, and prior_floor, that of the prior from itself; purity, the share of a code's
    10 nearest that come from its mode.

    With an encoder of pictures: how near the codes are to the prior (codes_kl in nats, codes_energy, each with its
    floor, what draws of the prior get; kl needs more pictures than a code has numbers), and whether the encoder is
    awake: codes_spread of its means (0 asleep, 1 if codes are certain), codes_sigma (1 asleep, 0 certain), codes_cycle,
    the squared error of a number of z on its way z, x, z (1 for an encoder that always says 0).

    On request, in the feature network's features, of fidelity_n pictures each: fidelity_frechet, the Frechet distance
    of samples (_floor: of held-out pictures); fidelity_precision, the share of samples where training pictures lie, and
    fidelity_recall, that of training pictures where samples lie (_ceiling: with held-out pictures for samples). And
    copying_share of samples nearer to a training picture than to a held-out one, 0.5 if nothing is copied, with the
    standard deviation that chance gives it, copying_chance.

    On request: probe_accuracy, what a linear classifier reads off the encoder's means of probe_n held-out examples;
    probe_pixels, the same of as many principal components of the pixels; probe_baseline, of always saying the most
    frequent; _balanced: every class counts alike; probe_unconverged, fits that were stopped.

    Of models trained with labels: classification_error, the share of held-out examples whose class is guessed wrong,
    with a 95 % interval over examples (_low, _high).

    On request, of models conditioned on attributes, in some minutes: attributes_accuracy, the share of attributes that
    a small classifier, trained on the run's training pictures, finds as requested in pictures drawn for the attributes
    of held-out ones; _balanced, with and without counting alike, each attribute switched on and off (0.5 if switches do
    nothing); _grid, _grid_balanced, the same over those of the paper's grid; _judge, the classifier's own balanced
    accuracy on held-out pictures; _kept, the share of the other attributes that stay as they are;
    attributes_reencoded_, of held-out pictures, encoded and decoded with another y.

    On request: svm_error, the paper's semi-supervised protocol: the error of an L2-SVM that knows the classes of
    `labels` training examples, on the last three hidden layers of the encoder and its means (of a GAN: of D(x)); mean
    over 100 draws of the labelled examples, and _std; _cost, C, chosen on the first draw with examples that are in no
    draw; _unconverged, fits that were stopped; _dims, numbers an example. On the same draws: svm_pixels, of the pixels
    alone; svm_components, of as many principal components as z has numbers; svm_random, of an untrained encoder.

    A number that cannot be had, of too few pictures for example, is null or left out.
    """
    settings, model = runs.settings(folder), runs.load_model(folder)
    parts = judged(folder, settings, data)
    return measured(model, *parts, metrics, network, labels or settings.get("labels") or LABELS)


def data_of(folder: Path, settings: dict, elsewhere: str | None = None) -> Parts:
    """The training and held-out data of a run. AlikitError where it is gone or of another kind."""
    source = elsewhere or runs.source(folder, settings)
    kind, _, path = source.partition(":")
    try:
        parts = load(source, settings["size"] if _is_resized(source) else None, settings["skip_corrupt"])
    except AlikitError as error:
        moved = kind in ("folder", "table") and not elsewhere and not expanded(path).exists()
        raise AlikitError(f"{error}; if it lies elsewhere now: --data {kind}:PATH" if moved else str(error)) from None
    known = settings.get("attributes") or settings.get("classes")  # the latter of records
    if named(settings["recipe"]).is_conditional and known and list(parts[0].classes) != list(known):
        raise AlikitError(
            f"{source} has other attributes than this run was trained with, or in another order: name data with "
            + ", ".join(known)
        )
    if list(parts[0].shape) != list(settings["x_shape"]):
        shapes = (" x ".join(map(str, shape)) for shape in (parts[0].shape, settings["x_shape"]))
        raise AlikitError("{} holds examples of {}, this run is of {}: name other data".format(source, *shapes))
    return parts


def judged(folder: Path, settings: dict, elsewhere: str | None) -> Parts:
    """Data to judge a trained model on: any will do, with a warning if it is not the run's own."""
    parts = data_of(folder, settings, elsewhere)
    try:
        runs.check_same(settings, parts)
    except AlikitError:
        logging.getLogger(__name__).warning(
            "not the data that this run was trained on: examples it has seen may be among the held-out ones"
        )
    return parts


def picture(x: Tensor):
    """A grid of pictures, small ones enlarged; or a scatter plot of points."""
    return grid(x, zoom=max(1, 64 // x.shape[-1])) if x.ndim == 4 else plane_image(x)


def _check(
    name: str, recipe: Recipe, steps: int | None, epochs: int | None, decoder: Path | None, size: int | None
) -> None:
    for wrong, message in (
        (steps and epochs, "steps and epochs say the same thing: leave one out"),
        (
            recipe.frozen_decoder and decoder is None,
            f"{name} starts from a finished GAN: name its run folder as decoder",
        ),
        (decoder and not recipe.frozen_decoder, f"{name} trains its own decoder: leave decoder out"),
        (
            recipe.labels and not recipe.has_labels,
            f"{name} uses no labels: leave labels out, or choose a recipe with labels",
        ),
        (
            None not in (size, recipe.networks.size) and size != recipe.networks.size,
            f"{name} is of pictures of {recipe.networks.size} pixels: leave size out",
        ),
    ):
        if wrong:
            raise AlikitError(message)


def _is_resized(source: str) -> bool:
    """Whether its pictures are resized as they are read."""
    return source.partition(":")[0] in ("folder", "table", *RESIZED) or source in RESIZED


def _follow(trainer: Trainer, parts: Parts, out: Path, steps: int, save_every: float) -> dict | None:
    """Trains with a progress bar, logging, saving and drawing as it goes. Of several processes the first one does."""
    every = max(1, min(100, steps // 10))
    watch = _Watch(trainer, parts[1], out, steps, every, save_every)
    if distributed.rank():
        with suppress(KeyboardInterrupt, Diverged), held() as asked:  # the first process gets the same, and says so
            trainer.run(steps, every, also=watch.milestones, stop=lambda: distributed.any_of_all(asked()))
        distributed.leave()
        return None
    try:
        with watch.bar:  # it is closed before anything is said of what went wrong
            watch.begin()
            with held() as asked:
                trainer.run(steps, every, watch, watch.milestones, lambda: distributed.any_of_all(asked()))
        held_out = parts[1] if len(parts[1].shape) == 1 else parts[1].some(MEASURED)
        found = measured(trainer.result, parts[0], held_out)
    except KeyboardInterrupt:
        with held(again=False):
            watch.check_finite()
            runs.save(out, trainer)
        raise Stopped(out, trainer.step, steps) from None
    except Diverged as error:
        raise watch.kept(error) from None
    runs.log(out, {"step": steps, **found})
    distributed.leave()
    return found


class _Watch:
    """What happens at each report of a run: a line in the log, now and then a checkpoint and pictures."""

    def __init__(self, trainer: Trainer, held_out: Dataset, out: Path, steps: int, every: int, save_every: float):
        self.trainer, self.held_out, self.out, self.save_every = trainer, held_out, out, save_every
        self.milestones = {epochs * trainer.epoch_steps for epochs in MILESTONES} | {steps}
        self.drawn = every * max(10, steps // every // 20)  # how often; more than twenty of a long run no one looks at
        # Looking costs three passes an example, a step about nine: so a twentieth or less of the time goes to looking.
        self.watched = held_out.some(max(8, min(WATCHED, every * trainer.config.batch_size // 10)))
        silent = bool(distributed.rank())
        self.bar = tqdm(total=steps, initial=trainer.step, unit=" steps", mininterval=0.5, disable=silent)

    def begin(self) -> None:
        """Brings the folder to the trainer's step, so that there is always something to go on from, and to look at."""
        out, step = self.out, self.trainer.step
        runs.rewind_log(out, step)
        if step == 0 or not (out / "weights.safetensors").exists():
            runs.save(out, self.trainer)
        self.saved, self.saved_at = step, time.monotonic()
        self.before = max((line.get("seconds", 0) for line in runs.metrics(out)), default=0)
        self.begun = time.monotonic()
        if step and self._is_drawn(step) and not (out / f"samples-{step:07d}.png").exists():
            with torch.random.fork_rng():
                self._draw(step)

    def __call__(self, progress: Progress) -> None:
        pace = round(progress.images_per_second)
        seconds = round(self.before + time.monotonic() - self.begun)
        line = {"step": progress.step, "images_per_second": pace, "seconds": seconds, **progress.losses}
        if len(self.held_out.shape) == 3 and self.trainer.model.encoder is not None:
            line |= self._vital_signs()
        runs.log(self.out, line)
        self.bar.update(progress.step - self.bar.n)
        self.bar.set_postfix({p: f"{loss:.3f}" for p, loss in progress.losses.items()} | {"images/s": pace})
        if self._is_drawn(progress.step) or time.monotonic() - self.saved_at >= self.save_every:
            runs.save(self.out, self.trainer)  # first, for drawing sets the random state
            self.saved, self.saved_at = progress.step, time.monotonic()
        if self._is_drawn(progress.step):
            self._draw(progress.step)

    def check_finite(self) -> None:
        try:
            self.trainer.check_finite()
        except Diverged as error:
            raise self.kept(error) from None

    def kept(self, error: Diverged) -> AlikitError:
        """What is said of a run that diverged."""
        return AlikitError(f"{error}; {self.out} keeps the weights and checkpoint of step {self.saved}")

    def _is_drawn(self, step: int) -> bool:
        return step % self.drawn == 0 or step in self.milestones

    def _vital_signs(self) -> dict[str, float]:
        """`awake` of the same few examples and codes at every report."""
        model, watched = self.trainer.result, self.watched
        z = torch.randn(len(watched), model.z_dim, generator=torch.Generator().manual_seed(0))
        found = awake(model, watched.floats().to(model.device), z.to(model.device), conditions_of(model, watched))
        return {name: round(value, 4) for name, value in found.items()}

    def _draw(self, step: int) -> None:
        """Samples from the same codes every time, and reconstructions of the same held-out examples."""
        model: Game = self.trainer.result
        if model.decoder is None:
            return
        torch.manual_seed(0)
        number = PICTURES if len(self.held_out.shape) == 3 else 2000
        some = self.held_out.some(number)
        y = conditions_of(model, some)
        samples = picture(model.sample(number if y is None else len(some), y))
        if model.encoder is not None:
            some = self.held_out.some(number // 2)
            x_hat = model.reconstruct(some.floats().to(model.device), y=conditions_of(model, some))
            both = picture(beside(some.floats(), x_hat))
            runs.save_picture(both, self.out / f"reconstructions-{step:07d}.png")
        # Last: where it is, a resumed run takes both as done.
        runs.save_picture(samples, self.out / f"samples-{step:07d}.png")
