"""Training into a run folder, resuming it, and measuring its model: what the command line calls.

train("digits", "runs/digits", steps=300)
resume("runs/digits", steps=2000)
evaluate("runs/digits")
"""

import copy
import gc
import json
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

import alikit

from .. import distributed, runs
from ..data import Dataset, load
from ..data.sources import canonical, is_resized
from ..errors import AlikitError, expanded
from ..evaluation import QUICK, measured
from ..evaluation.inference import conditions_of
from ..evaluation.measured import LABELS
from ..recipes import Recipe, named
from ..training import Trainer
from .settings import MOST_TEXT, described, game_of
from .watching import enough_memory, follow, is_out_of_memory

PATHS = ("folder", "table", "file")  # kinds of sources that are a path

Parts = tuple[Dataset, Dataset]


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


@enough_memory("choose smaller data (size) or a smaller --batch (changes={'batch_size': N})")
def train(
    name: str,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    changes: dict | None = None,
    decoder: str | Path | None = None,
    from_run: str | Path | None = None,
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
    splits: str | None = None,
    download: bool = False,
    device: str | None = None,
    save_every: float | None = None,
    command: str = "",
) -> dict | None:
    """Trains a recipe into a new run folder; returns what was measured at the end, in the first of several processes.

    out         the folder; runs/NAME-seedN by default
    data        the name of a source for `alikit.data.load`, with size, skip_corrupt, white, splits and download; the
                recipe's own by default
    steps       or epochs, passes over the data; the recipe's own by default
    seed        of weights, noise, the order of examples, and which have labels
    changes     of the recipe's config, by name
    decoder     for recipes with a frozen decoder, the run folder it comes from
    from_run    a run folder or record, on data of the same shape, whose weights the run begins with: those of all
                networks of the same layers. A record has no discriminator, so a new one begins
    device      where to compute, as cpu, cuda, cuda:1 or mps; a GPU by default where there is one
    save_every  seconds between checkpoints, about; 0 for one at every report
    command     how to do it again, kept in the folder

    Several processes (see distributed.py) all call this, and the first one writes. AlikitError for what does not go
    together; Stopped after a signal; Diverged, with the folder as it was at the last checkpoint.
    """
    recipe, out = changed(name, changes or {}), Path(out or f"runs/{name}-seed{seed}")
    runs.check_new(out)
    distributed.device(device)
    _check(name, recipe, steps, epochs, decoder, from_run, size)
    if not isinstance(data, str | Path | None):
        way = "name a source, or train it by recipe.build(...) and recipe.trainer(...)"
        raise AlikitError(f"a run keeps where its data lies, which a {type(data).__name__} does not say: {way}")
    means = canonical(recipe.data if data is None else data)
    source = means if isinstance(data, Path) else data or recipe.data  # a Path is never a name
    is_path = means.partition(":")[0] in PATHS
    size = size or (getattr(recipe.networks, "size", None) if is_resized(means) else None)
    with runs.alone(out):
        with distributed.in_turn():
            parts = load(source, size, skip_corrupt, download, **_read({"white": white, "splits": splits}))
        classes, attributes = runs.label_sizes(parts[0])
        if distributed.rank() == 0:
            logging.getLogger("alikit").info(_seen(parts))
        settings = {
            "recipe": name,
            "game": game_of(recipe),
            "data": source,
            # A folder that the environment names is found there again.
            "data_from_run": runs.placed(source if os.environ.get("ALIKIT_DATA") and not is_path else means, out),
            "digest": runs.digest(parts),
            "size": size,
            "skip_corrupt": skip_corrupt,
            "white": white,
            "splits": splits,
            "seed": seed,
            **recipe.config(),
            "steps": steps or recipe.steps,
            "decoder": str(decoder) if decoder else None,
            "from_run": str(from_run) if from_run else None,
            "command": command,
            "versions": {"alikit": alikit.__version__, "torch": torch.__version__},
            "x_shape": list(parts[0].shape),
            "number_of_classes": classes,
            "number_of_attributes": attributes,
            "attributes": list(parts[0].classes) if recipe.is_conditional else None,
            "classes": list(parts[0].classes) if recipe.has_labels else None,
        }
        trainer = _tried(settings, parts[0], device)
        if epochs:
            settings["steps"] = epochs * trainer.epoch_steps
        settings |= {"precision": _precision(trainer), "processes": distributed.world()}
        if distributed.rank() == 0:
            runs.create(out, settings)
        return follow(trainer, parts, out, settings["steps"], save_every)


@enough_memory("go on elsewhere, or train anew with a smaller --batch (changes={'batch_size': N})")
def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    save_every: float | None = None,
    command: str = "",
) -> dict | None:
    """Continues a stopped run as if it had not stopped, or, with more `steps` in all, a finished one. `data` says where
    the run's data is now; by default where it was in training. Other arguments, and errors, as for `train`."""
    folder = Path(folder)
    settings = runs.read_settings(folder)
    distributed.device(device)
    with runs.alone(folder):
        state = None if runs.is_untouched(folder) else runs.checkpoint(folder)
        with distributed.in_turn():
            parts = data_of(folder, settings, data)
        runs.check_same(settings, parts)
        # What came from another run is in the checkpoint too: that run may be gone.
        alone = settings if state is None else {**settings, "decoder": None, "from_run": None}
        trainer = runs.trainer(alone, parts[0], device)
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
            more = _moved(folder, settings, trainer)
            if steps > settings["steps"]:
                commands = "; ".join(filter(None, [settings.get("command"), command]))
                if len(commands) > MOST_TEXT:
                    commands = f"{commands.partition(';')[0]}; ...; {command}"
                more |= {"steps": steps, "command": commands}
            if more:
                runs.write_settings(folder, {**settings, **more})
        return follow(trainer, parts, folder, steps, save_every)


@enough_memory("choose fewer metrics or another device")
def evaluate(
    folder: str | Path,
    metrics: tuple[str, ...] = QUICK,
    *,
    data: str | Path | None = None,
    labels: int | None = None,
    device: str = "cpu",
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
    training pictures, and _recall, the reverse (_ceiling: of held-out pictures), all of _n pictures of each kind, four
    for each feature at least. copying: the _share of samples nearer to a training picture than to a held-out one, 0.5
    if nothing is copied, and its standard deviation by _chance. checkerboard: spectral power where neighbouring pixels
    alternate over that nearby, in samples and in held-out pictures (_real): of brightness (_luma) and colour (_chroma).

    probe: _accuracy of a linear classifier of the encoder's means, of as many principal components of _pixels, and of
    the most frequent class (_baseline); _balanced: classes count alike. svm: _error of an L2-SVM that knows the classes
    of `labels` examples, on three hidden layers of the encoder and its means (of a GAN, of D(x)): mean of 100 draws and
    _std; the same of pixels, their principal components and a random encoder. _unconverged: fits that were stopped.

    attributes, of conditional models, in minutes: _accuracy, the share of requested attributes that a classifier of
    real pictures finds; _balanced, each one on and off (0.5 if y does nothing); _grid: of the paper's grid; _judge:
    that classifier on held-out pictures; _kept, the share of other attributes that stay; _reencoded: of encoded ones.

    classes, of models conditioned on the class: the share of drawn pictures in which a logistic regression on features
    of real ones sees the class that was asked for (_accuracy), of held-out pictures that were encoded and decoded as
    the next class (_switched), and of held-out pictures as they are (_judge).

    A number that cannot be had, as of too few pictures, is null or left out.

    metrics  names of `evaluation.METRICS`
    labels   of each of an SVM's draws; by default the run's, or 1000
    device   where to compute, as for `train`
    network  the feature network of fidelity, copying and classes, if not our own
    """
    folder, metrics = Path(folder), (metrics,) if isinstance(metrics, str) else metrics
    settings, model = runs.read_settings(folder), runs.load_model(folder, device)
    parts = judged(folder, settings, data)
    return measured(model, *parts, metrics, network, labels or settings.get("labels") or LABELS)


def data_of(folder: Path, settings: dict, elsewhere: str | Path | None = None) -> Parts:
    """The training and held-out data of a run. AlikitError where it is gone or of another kind."""
    source = canonical(elsewhere or runs.source(folder, settings))
    kind, _, path = source.partition(":")
    try:
        parts = load(
            source, settings["size"] if is_resized(source) else None, settings["skip_corrupt"], **_read(settings)
        )
    except AlikitError as error:
        moved = kind in PATHS and not elsewhere and not expanded(path).exists()
        raise AlikitError(f"{error}; if it lies elsewhere now: --data {kind}:PATH" if moved else str(error)) from None
    known = settings.get("attributes") or settings.get("classes")  # the latter of records
    recipe = named(settings["recipe"])
    if (recipe.is_conditional or recipe.has_labels) and known and list(parts[0].classes) != list(known):
        kind = "attributes" if recipe.is_conditional else "classes"
        what = f"other {kind} than this run was trained with, or in another order"
        raise AlikitError(f"{source} has {what}: name data with {', '.join(known)}")
    if list(parts[0].shape) != list(settings["x_shape"]):
        theirs, ours = (" x ".join(map(str, shape)) for shape in (parts[0].shape, settings["x_shape"]))
        raise AlikitError(f"{source} holds examples of {theirs}, this run is of {ours}: name other data")
    return parts


def judged(folder: Path, settings: dict, elsewhere: str | Path | None) -> Parts:
    """Data to measure a trained model on: any will do, with a warning if it is not the run's own."""
    parts = data_of(folder, settings, elsewhere)
    try:
        runs.check_same(settings, parts)
    except AlikitError:
        logging.getLogger(__name__).warning(
            "not the data that this run was trained on: examples it has seen may be among the held-out ones"
        )
    return parts


def _precision(trainer: Trainer) -> str:
    return "bfloat16" if trainer.bf16 else "float32"


def _moved(folder: Path, settings: dict, trainer: Trainer) -> dict:
    """Settings that name what a run goes on with beside what it began with, where that is another; each is said."""
    versions = settings.get("versions", {})
    pairs = {"torch": (versions.get("torch"), str(torch.__version__))}
    pairs |= {"precision": (settings.get("precision"), _precision(trainer))}
    found = {name: f"{old}, {new}" for name, (old, new) in pairs.items() if old and new != old.split(", ")[-1]}
    for name, both in found.items():
        words = "%s goes on with another %s (%s): it may end with other weights than it would have had"
        logging.getLogger(__name__).warning(words, folder, name, both)
    if "torch" in found:
        found["versions"] = {**versions, "torch": found.pop("torch")}
    return found


def _seen(parts: Parts) -> str:
    """What was read, in one line: a person sees whether it is what was meant."""
    name, classes = parts[0].name, parts[0].classes
    shape, lengths = " x ".join(map(str, parts[0].shape)), " + ".join(f"{len(part):,}" for part in parts)
    kind = "attributes" if parts[0].labels is not None and parts[0].labels.ndim == 2 else "classes"
    named = (
        f"{len(classes)} {kind} ({', '.join(classes[:4])}{', ...' * (len(classes) > 4)})" if classes else "no labels"
    )
    return f"{name}: {lengths} examples of {shape}, {named}"


def _read(settings: dict) -> dict:
    """How data is read besides, where the settings say it."""
    return {name: settings[name] for name in ("white", "splits") if settings.get(name) is not None}


def _check(
    name: str,
    recipe: Recipe,
    steps: int | None,
    epochs: int | None,
    decoder: object,
    from_run: str | Path | None,
    size: int | None,
) -> None:
    if None not in (steps, epochs):
        raise AlikitError("steps and epochs say the same thing: leave one out")
    if any(number is not None and number < 1 for number in (steps, epochs)):
        raise AlikitError("a run has at least 1 step or epoch: choose a larger number")
    if recipe.frozen_decoder and from_run is not None:
        raise AlikitError(
            f"{name} begins with a finished GAN's decoder: name its run as decoder, and no other to begin from"
        )
    if recipe.frozen_decoder and decoder is None:
        raise AlikitError(f"{name} starts from a finished GAN: name its run folder as decoder")
    if decoder and not recipe.frozen_decoder:
        raise AlikitError(f"{name} trains its own decoder: leave decoder out")
    if size is not None and (near := recipe.nearest(size)) not in (None, size):
        way = f"choose --size {near} (size={near})"
        raise AlikitError(f"the networks of {name} take no pictures of {size}x{size}: {way}")
    if from_run is not None:
        runs.read_settings(from_run)  # now, and not after data that takes minutes to read


def _tried(settings: dict, data: Dataset, device: str | None) -> Trainer:
    """The trainer of the settings. AlikitError where its game fails at a first batch or at drawing, on a copy."""
    try:
        return _on_trial(settings, data, device)
    except (AlikitError, distributed.Lost):
        raise
    except Exception as error:  # a reader's game may fail in any way
        if not is_out_of_memory(error):
            name, game = settings["recipe"], named(settings["recipe"]).game.__name__
            why = f"{name}: {game} cannot take a step and draw ({type(error).__name__}: {error})"
            raise AlikitError(f"{why}: correct the game, its encoder or its networks") from error
    # Out of the handler, because what failed is held in memory there.
    batch, way = settings["batch_size"], "free some, choose smaller data, or use a smaller --batch (batch_size)"
    for size in [batch >> halved for halved in range(1, batch.bit_length() - 1)] if distributed.world() == 1 else ():
        gc.collect()  # a trainer with averaged weights refers to itself
        with suppress(Exception):  # half as much is to spare: a run saves and draws besides
            _on_trial({**settings, "batch_size": size + size // 2, "from_run": None}, data, device).one_step()
            way = f"use --batch {size} (changes={{'batch_size': {size}}})"
            break
    raise AlikitError(f"not enough memory for batches of {batch}: {way}")


def _on_trial(settings: dict, data: Dataset, device: str | None) -> Trainer:
    """The trainer of the settings, whose game has taken a first batch and drawn on a copy."""
    trainer = runs.trainer(settings, data, device)
    with torch.random.fork_rng():
        trial, some = copy.deepcopy(trainer.model), data.select(slice(2))
        # The copy takes the room of Adam's first moment, and this that of its second one.
        _moment = [torch.empty_like(parameter) for parameter in trial.parameters()]
        trainer.gradients(trial.train(), *trainer._batch())
        y = conditions_of(trial.eval(), some)
        drawn = [] if trial.decoder is None else [trial.sample(len(some), y)]
        if drawn and trial.encoder is not None:
            drawn.append(trial.reconstruct(some.floats().to(trial.device), y=y))
        if any(x.shape != some.x.shape for x in drawn):
            raise ValueError("what it draws is not of the data's shape")
    return trainer
