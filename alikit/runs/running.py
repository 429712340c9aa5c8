"""Training into a run folder, resuming it, and measuring its model: what the command line calls.

train("digits", "runs/digits", steps=300)
resume("runs/digits", steps=2000)
evaluate("runs/digits")
"""

import copy
import json
import logging
import os
import runpy
import sys
import time
import traceback
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
from ..data.sources import canonical, is_resized
from ..errors import AlikitError, Diverged, expanded
from ..evaluation import QUICK, awake, measured
from ..evaluation.inference import conditions_of
from ..evaluation.measured import LABELS
from ..figures import beside, picture
from ..recipes import Recipe, named
from ..stopping import held
from ..training import Progress, Trainer
from .settings import MOST_TEXT, described, game_of

SAVE_EVERY = 60.0  # seconds between checkpoints, about
PICTURES = 60  # in a grid
WATCHED = 200  # most held-out examples, and codes, that a line of the log is about
MEASURED = 500  # held-out examples that are measured at the end of training; `evaluate` takes all
MILESTONES = (1, 10, 100)  # epochs after which pictures are drawn besides

Parts = tuple[Dataset, Dataset]


class Stopped(KeyboardInterrupt):
    """A signal stopped the run after `step` of `steps`, and everything is saved."""

    def __init__(self, folder: Path, step: int, steps: int):
        super().__init__(f"stopped at step {step} of {steps}, saved in {folder}: resume it")
        self.folder, self.step, self.steps = folder, step, steps


def register_from(file: Path) -> None:
    """Runs a person's own Python file, which registers recipes. AlikitError with the line where that fails."""
    if not file.is_file():
        raise AlikitError(f"there is no file {file}: name one that registers recipes")
    sys.path.insert(0, str(file.parent.absolute()))  # as Python does for a script
    try:
        runpy.run_path(str(file), run_name=file.stem)
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", "unknown")  # of a SyntaxError
        why = described(error) if isinstance(error, ValidationError) else getattr(error, "msg", error)
        why = error if isinstance(error, AlikitError) else f"{type(error).__name__}: {why}: correct it"
        raise AlikitError(f"{file}, line {line}: {why}") from None


def changed(name: str, changes: dict) -> Recipe:
    """The recipe of that name with some of its config changed. AlikitError for a setting or value that cannot be."""
    recipe = named(name)
    for setting in sorted(changes.keys() - recipe.config().keys()):
        way = "register a recipe of your own to change that, or choose" if hasattr(recipe, setting) else "there are"
        raise AlikitError(f"{name} has no training setting {setting}: {way} {', '.join(recipe.config())}")
    try:
        return replace(recipe, **changes)
    except ValidationError as error:
        own = json.dumps(getattr(recipe, error.errors()[0]["loc"][0]))
        raise AlikitError(f"{described(error)}: choose another value, such as {own}") from None


def train(
    name: str,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    changes: dict | None = None,
    decoder: str | Path | None = None,
    size: int | None = None,
    skip_corrupt: bool = False,
    download: bool = False,
    save_every: float | None = None,
    command: str = "",
) -> dict | None:
    """Trains a recipe into a new run folder; returns what was measured at the end, in the first of several processes.

    out         the folder; runs/NAME-seedN by default
    data        a source for `alikit.data.load`, with size, skip_corrupt and download; the recipe's own by default
    steps       or epochs, passes over the data; the recipe's own by default
    seed        of weights, noise, the order of examples, and which have labels
    changes     of the recipe's config, by name
    decoder     for recipes with a frozen decoder, the run folder it comes from
    save_every  seconds between checkpoints, about; 0 for one at every report
    command     how to do it again, kept in the folder

    Several processes (see distributed.py) all call this, and the first one writes. AlikitError for what does not go
    together; Stopped after a signal; Diverged, with the folder as it was at the last checkpoint.
    """
    recipe, out = changed(name, changes or {}), Path(out or f"runs/{name}-seed{seed}")
    runs.check_new(out)
    _check(name, recipe, steps, epochs, decoder, size)
    source = data or recipe.data
    size = size or (getattr(recipe.networks, "size", None) if is_resized(source) else None)
    with runs.alone(out):
        with distributed.in_turn():
            parts = load(source, size, skip_corrupt, download)
        classes, attributes = runs.label_sizes(parts[0])
        settings = {
            "recipe": name,
            "game": game_of(recipe),
            "data": source,
            # A folder that the environment names is found there again.
            "data_from_run": runs.placed(source if os.environ.get("ALIKIT_DATA") else canonical(source), out),
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
            "number_of_classes": classes,
            "number_of_attributes": attributes,
            "attributes": list(parts[0].classes) if recipe.is_conditional else None,
        }
        trainer = _tried(settings, parts[0])
        if epochs:
            settings["steps"] = epochs * trainer.epoch_steps
        settings |= {"precision": "bfloat16" if trainer.bf16 else "float32", "processes": distributed.world()}
        if distributed.rank() == 0:
            runs.create(out, settings)
        return _follow(trainer, parts, out, settings["steps"], save_every)


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: str | None = None,
    save_every: float | None = None,
    command: str = "",
) -> dict | None:
    """Continues a stopped run as if it had not stopped, or, with more `steps` in all, a finished one. `data` says where
    the run's data is now; by default where it was in training. Other arguments, and errors, as for `train`."""
    folder = Path(folder)
    settings = runs.read_settings(folder)
    with runs.alone(folder):
        state = None if runs.is_untouched(folder) else runs.checkpoint(folder)
        with distributed.in_turn():
            parts = data_of(folder, settings, data)
        runs.check_same(settings, parts)
        # A frozen decoder is in the checkpoint too: the run that it came from may be gone.
        trainer = runs.trainer({**settings, "decoder": settings["decoder"] if state is None else None}, parts[0])
        if state:
            runs.go_on(folder, trainer, state)
        steps = settings["steps"] if steps is None else steps
        if steps < settings["steps"]:
            raise AlikitError(f"{folder} is a run of {settings['steps']} steps: ask for as many, or for more")
        # Killed between the last checkpoint and the evaluation, a run has all its steps and is not finished.
        evaluated = any("images_per_second" not in line for line in runs.metrics(folder))
        finished = evaluated and (folder / "weights.safetensors").exists()
        if trainer.step > steps or steps < 1 or (trainer.step == steps and finished):
            raise AlikitError(f"{folder} has its {trainer.step} steps: ask for a larger number of steps to go on")
        distributed.barrier()  # all have read what is there
        if distributed.rank() == 0:
            runs.tidy(folder)
            if steps > settings["steps"]:
                commands = "; ".join(filter(None, [settings.get("command"), command]))
                if len(commands) > MOST_TEXT:
                    commands = f"{commands.partition(';')[0]}; ...; {command}"
                runs.write_settings(folder, {**settings, "steps": steps, "command": commands})
        return _follow(trainer, parts, folder, steps, save_every)


def evaluate(
    folder: str | Path,
    metrics: tuple[str, ...] = QUICK,
    *,
    data: str | None = None,
    labels: int | None = None,
    network: Callable[[Tensor], Tensor] | None = None,
) -> dict:
    """Measures a trained model on held-out data.

    Points: modes (the paper's measure), strict_modes (20 samples or more within 3 standard deviations), within_3std
    (share of samples) and kl_uniform (nats), of 10,000 samples. With an encoder, the share of points reconstructed in
    their own mode (identity_drawn, _mean, _strict); the energy distance of codes from the prior (prior_distance) and of
    the prior from itself (prior_floor); the share of a code's 10 nearest that come from its mode (purity).

    reconstruction: mean squared error of one value from a drawn code (_drawn), from the encoder's mean (_mean), and of
    the mean example (_baseline). codes, of pictures: distance from the prior (_kl in nats, _energy) with that of draws
    of the prior (_floor); _spread of the encoder's means (0 if asleep), _sigma (1) and _cycle, the squared error of z
    after z, x, z (1). classification: _error of models trained with labels, with a 95 % interval (_low, _high).

    fidelity: _frechet distance of samples (_floor: of held-out pictures); _precision, the share of samples near
    training pictures, and _recall, the reverse (_ceiling: of held-out pictures). copying: the _share of samples nearer
    to a training picture than to a held-out one, 0.5 if nothing is copied, and its standard deviation by _chance.

    probe: _accuracy of a linear classifier of the encoder's means, of as many principal components of _pixels, and of
    the most frequent class (_baseline); _balanced: classes count alike. svm: _error of an L2-SVM that knows the classes
    of `labels` examples, on three hidden layers of the encoder and its means (of a GAN, of D(x)): mean of 100 draws and
    _std; the same of pixels, their principal components and a random encoder. _unconverged: fits that were stopped.

    attributes, of conditional models, in minutes: _accuracy, the share of requested attributes that a classifier of
    real pictures finds; _balanced, each one on and off (0.5 if y does nothing); _grid: of the paper's grid; _judge:
    that classifier on held-out pictures; _kept, the share of other attributes that stay; _reencoded: of encoded ones.

    A number that cannot be had, as of too few pictures, is null or left out.

    metrics  names of `evaluation.METRICS`
    labels   of each of an SVM's draws; by default the run's, or 1000
    network  the feature network of fidelity and copying, if not our own
    """
    folder, metrics = Path(folder), (metrics,) if isinstance(metrics, str) else metrics
    settings, model = runs.read_settings(folder), runs.load_model(folder)
    parts = judged(folder, settings, data)
    return measured(model, *parts, metrics, network, labels or settings.get("labels") or LABELS)


def data_of(folder: Path, settings: dict, elsewhere: str | None = None) -> Parts:
    """The training and held-out data of a run. AlikitError where it is gone or of another kind."""
    source = elsewhere or runs.source(folder, settings)
    kind, _, path = source.partition(":")
    try:
        parts = load(source, settings["size"] if is_resized(source) else None, settings["skip_corrupt"])
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
        theirs, ours = (" x ".join(map(str, shape)) for shape in (parts[0].shape, settings["x_shape"]))
        raise AlikitError(f"{source} holds examples of {theirs}, this run is of {ours}: name other data")
    return parts


def judged(folder: Path, settings: dict, elsewhere: str | None) -> Parts:
    """Data to measure a trained model on: any will do, with a warning if it is not the run's own."""
    parts = data_of(folder, settings, elsewhere)
    try:
        runs.check_same(settings, parts)
    except AlikitError:
        logging.getLogger(__name__).warning(
            "not the data that this run was trained on: examples it has seen may be among the held-out ones"
        )
    return parts


def _check(name: str, recipe: Recipe, steps: int | None, epochs: int | None, decoder: object, size: int | None) -> None:
    if None not in (steps, epochs):
        raise AlikitError("steps and epochs say the same thing: leave one out")
    if any(number is not None and number < 1 for number in (steps, epochs)):
        raise AlikitError("a run has at least 1 step or epoch: choose a larger number")
    if recipe.frozen_decoder and decoder is None:
        raise AlikitError(f"{name} starts from a finished GAN: name its run folder as decoder")
    if decoder and not recipe.frozen_decoder:
        raise AlikitError(f"{name} trains its own decoder: leave decoder out")
    own = getattr(recipe.networks, "size", None)
    if None not in (size, own) and size != own:
        raise AlikitError(f"{name} is of pictures of {own} pixels: leave size out")


def _tried(settings: dict, data: Dataset) -> Trainer:
    """The trainer of the settings. AlikitError where its game fails at a first batch or at drawing, on a copy."""
    try:
        trainer = runs.trainer(settings, data)
        with torch.random.fork_rng():
            trial, some = copy.deepcopy(trainer.model), data.select(slice(2))
            trainer.gradients(trial.train(), *trainer._batch())
            y = conditions_of(trial.eval(), some)
            drawn = [] if trial.decoder is None else [trial.sample(len(some), y)]
            if drawn and trial.encoder is not None:
                drawn.append(trial.reconstruct(some.floats().to(trial.device), y=y))
            if any(x.shape != some.x.shape for x in drawn):
                raise ValueError("what it draws is not of the data's shape")
        return trainer
    except (AlikitError, distributed.Lost):
        raise
    except Exception as error:  # a reader's game may fail in any way
        name, game = settings["recipe"], named(settings["recipe"]).game.__name__
        why = f"{name}: {game} cannot take a step and draw ({type(error).__name__}: {error})"
        raise AlikitError(f"{why}: correct the game, its encoder or its networks") from error


def _follow(trainer: Trainer, parts: Parts, out: Path, steps: int, save_every: float | None) -> dict | None:
    """Trains with a progress bar, logging, saving and drawing. Of several processes the first one does."""
    watch = _Watch(trainer, parts[1], out, steps, SAVE_EVERY if save_every is None else save_every)
    if distributed.rank():
        with suppress(KeyboardInterrupt, Diverged), held() as signalled:  # the first process reports the same
            trainer.run(steps, watch.every, None, watch.milestones, lambda: distributed.any_of_all(signalled()))
        distributed.leave()
        return None
    try:
        try:
            with watch.begin(), held() as signalled:  # the bar is closed before any error is reported
                trainer.run(steps, watch.every, watch, watch.milestones, lambda: distributed.any_of_all(signalled()))
            held_out = parts[1] if len(parts[1].shape) == 1 else parts[1].some(MEASURED)
            found = measured(trainer.result, parts[0], held_out)
        except KeyboardInterrupt:
            with held(again=False):
                trainer.check_finite()
                runs.save(out, trainer)
            raise Stopped(out, trainer.step, steps) from None
    except Diverged as error:
        raise Diverged(f"{error}; {out} keeps the weights and checkpoint of step {watch.saved}") from None
    runs.log(out, {"step": steps, **found})
    distributed.leave()
    return found


class _Watch:
    """Called with each report of a run: writes a line of the log, and now and then a checkpoint and pictures."""

    def __init__(self, trainer: Trainer, held_out: Dataset, out: Path, steps: int, save_every: float):
        self.trainer, self.held_out, self.out, self.steps, self.save_every = trainer, held_out, out, steps, save_every
        self.every = max(1, min(100, steps // 10))
        self.milestones = {epochs * trainer.epoch_steps for epochs in MILESTONES} | {steps}
        # `awake` takes three passes an example, a step about nine: so it takes a twentieth of the time or less.
        self.watched = held_out.some(max(8, min(WATCHED, self.every * trainer.config.batch_size // 10)))

    def begin(self) -> tqdm:
        """Brings the folder to the trainer's step, so that a run can be resumed, and looked at, from the beginning.
        Returns the progress bar."""
        step = self.trainer.step
        runs.rewind_log(self.out, step)
        if step == 0 or not (self.out / "weights.safetensors").exists():
            runs.save(self.out, self.trainer)
        self.saved, self.saved_at = step, time.monotonic()
        self.begun = time.monotonic() - max((line.get("seconds", 0) for line in runs.metrics(self.out)), default=0)
        if step and self.is_drawn(step) and not (self.out / f"samples-{step:07d}.png").exists():
            with torch.random.fork_rng():
                self.draw(step)
        self.bar = tqdm(total=self.steps, initial=step, unit=" steps", mininterval=0.5)
        return self.bar

    def is_drawn(self, step: int) -> bool:
        interval = self.every * max(10, self.steps // self.every // 20)  # about twenty pictures of a long run
        return step % interval == 0 or step in self.milestones

    def __call__(self, progress: Progress) -> None:
        step, pace = progress.step, round(progress.images_per_second)
        line = {"step": step, "images_per_second": pace, "seconds": round(time.monotonic() - self.begun)}
        line |= progress.losses
        model, x = self.trainer.result, self.watched
        if len(x.shape) == 3 and model.encoder is not None:
            z = torch.randn(len(x), model.z_dim, generator=torch.Generator().manual_seed(0)).to(model.device)
            found = awake(model, x.floats().to(model.device), z, conditions_of(model, x))
            line |= {name: round(value, 4) for name, value in found.items()}
        runs.log(self.out, line)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix({p: f"{loss:.3f}" for p, loss in progress.losses.items()} | {"images/s": pace})
        if self.is_drawn(step) or time.monotonic() - self.saved_at >= self.save_every:
            runs.save(self.out, self.trainer)  # before drawing, which sets the random state
            self.saved, self.saved_at = step, time.monotonic()
        if self.is_drawn(step):
            self.draw(step)

    def draw(self, step: int) -> None:
        """Samples from the same codes every time, and reconstructions of the same held-out examples."""
        model = self.trainer.result
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
            runs.save_picture(picture(beside(some.floats(), x_hat)), self.out / f"reconstructions-{step:07d}.png")
        runs.save_picture(samples, self.out / f"samples-{step:07d}.png")  # last: it marks both as done
