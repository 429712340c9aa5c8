"""The command line: `alikit` or `python -m alikit`.

alikit recipes
alikit train digits --steps 2000 --seed 0 --out runs/digits
alikit resume runs/digits --steps 4000
alikit train cifar10 --devices 4        alikit resume runs/cifar10-seed0 --devices 4
alikit sample runs/digits        alikit reconstruct runs/digits        alikit evaluate runs/digits
alikit train cifar10-small --data folder:PATH --epochs 60
alikit train digits-semi --labels 50 --seed 0
alikit evaluate runs/cifar10-small-seed0 --metrics svm --labels 1000
alikit train faces-conditional --steps 300
alikit sample runs/faces-conditional-seed0 --attributes Eyeglasses,-Young
alikit record runs/cifar10-small-seed0        alikit report results
alikit study mixture --runs 2 --steps 500 --out runs/study
alikit bench step svhn        alikit bench memory        alikit bench report
"""

import dataclasses
import difflib
import functools
import importlib
import json
import logging
import os
import platform
import shlex
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import typer
from tqdm import tqdm

import alikit

from . import launch, parallel, runs
from .data import SOURCES, Dataset, load
from .data.conditions import paper_grid, switched, usual
from .data.sources import RESIZED, rooted
from .errors import WAYS, AlikitError, Diverged, expanded, one_line
from .evaluation import METRICS, QUICK, Coverage, awake, inception, measured
from .evaluation.examples import told
from .evaluation.measured import LABELS
from .figures import beside, grid, plane_image
from .models import Game
from .recipes import RECIPES, Recipe
from .runs import records
from .runs.report import write_report
from .settings import MOST_STEPS, MOST_TEXT
from .studies import STUDIES
from .training import Progress, Trainer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
bench = typer.Typer(help="Measure how fast alikit is on this machine.")
app.add_typer(bench, name="bench")

RunFolder = Annotated[Path, typer.Argument(help="A run folder made by alikit train.")]
Size = Annotated[int | None, typer.Option(help="Resize and centre-crop a folder's pictures to N x N.", metavar="N")]
Data = Annotated[
    str | None, typer.Option(help="Where the run's data lies now; where it lay in training by default.", metavar="DATA")
]
SAVE_EVERY = 60.0
MOST_THREADS = 1024
SaveEvery = Annotated[
    float, typer.Option(help="Seconds between checkpoints, about; 0 for one at every report.", min=0, metavar="SECONDS")
]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="Leave unreadable files out of a folder.")]
Devices = Annotated[
    int | None,
    typer.Option(help="Processes on this machine, each with a GPU, or a share of the cores: one by default.", min=1),
]
Nodes = Annotated[int, typer.Option("--num-nodes", help="Machines; give each the same command.", min=1)]
Rendezvous = Annotated[
    str | None, typer.Option(help="Where machines find each other; HOST is one of them.", metavar="HOST:PORT")
]
Strategy = Annotated[str, typer.Option(help="How processes share the work: ddp, each its part of every batch.")]
Attributes = Annotated[
    str | None,
    typer.Option(
        help="Of conditional runs: names of the data's attributes, as Eyeglasses,-Young; - says not. Or a class.",
        metavar="NAMES",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; PyTorch's own choice by default.", min=1, max=MOST_THREADS)
]
Seconds = typer.Option(
    help="How long to measure, about; the first steps, and some rounds at least, come besides.", min=0.1, max=3600
)
BENCHMARKS = Path("results/benchmarks")
PICTURES = 60  # in a grid
WATCHED = 200  # held-out examples, and codes, that a line of the log is about, at most
MEASURED = 500  # held-out examples that are measured at the end of training; `alikit evaluate` takes all
MILESTONES = (1, 10, 100)  # epochs after which pictures are drawn besides
COVERAGE = [field.name for field in dataclasses.fields(Coverage)]
UsageError = typer.BadParameter.__base__  # typer gives it no name of its own


@app.callback()
def about() -> None:
    """Adversarially Learned Inference: train it, sample it, look at what it keeps."""


@app.command()
def recipes() -> None:
    """List the named experiments, the data they can take, and the studies."""
    width = max(map(len, RECIPES)) + 2
    for name, recipe in RECIPES.items():
        labels = f", {recipe.labels} labels" if recipe.has_labels else ", told y" if recipe.is_conditional else ""
        typer.echo(f"{name:<{width}}{recipe.summary} [--data {recipe.data}, {recipe.steps} steps{labels}]")
    typer.echo()
    for name, study in STUDIES.items():
        typer.echo(f"{name:<{width}}{study.summary} [alikit study, {study.runs} x {study.steps} steps]")
    typer.echo(f"\ndata: {', '.join(SOURCES)}")
    typer.echo("or folder:PATH for class folders of your own pictures, table:PATH for pictures with attributes")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    data: Annotated[str | None, typer.Option(help="A name from `alikit recipes`, folder:PATH or table:PATH.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps to train; the recipe's own by default.", min=1, max=MOST_STEPS)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="The same in passes over the data.", min=1, max=10**6)] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of weights, noise, order and which have labels.", min=0, max=2**32 - 1)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder to make; runs/RECIPE-seedN by default.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples a step; the recipe's own by default.", min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's learning rate.", min=1e-9, max=1)] = None,
    beta1: Annotated[float | None, typer.Option(help="Adam's beta1.", min=0, max=0.9999)] = None,
    weight_std: Annotated[float | None, typer.Option(help="Spread of the first weights.", min=1e-9, max=10)] = None,
    averaging: Annotated[
        float | None,
        typer.Option(help="Average the weights, so much of the past a step; 0 for none.", min=0, max=0.99999),
    ] = None,
    flips: Annotated[bool | None, typer.Option(help="Mirror half of the pictures.")] = None,
    shifts: Annotated[bool | None, typer.Option(help="Move pictures by up to a sixteenth of their side.")] = None,
    bf16: Annotated[
        bool | None,
        typer.Option(
            "--bf16/--float32",
            help="Products in bfloat16 where the machine is quicker so; or plain float32, by PyTorch's own layers.",
        ),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(
            help="Training examples whose class is told, at most four fifths; the recipe's own by default.", min=1
        ),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set where it is missing.")] = False,
    decoder: Annotated[Path | None, typer.Option(help="Run whose decoder is frozen: post-hoc and inverse.")] = None,
    save_every: SaveEvery = SAVE_EVERY,
    size: Size = None,
    skip_corrupt: SkipCorrupt = False,
    devices: Devices = None,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
    strategy: Strategy = "ddp",
) -> None:
    """Train a recipe into a new run folder."""
    row = _recipe(recipe)
    betas = None if beta1 is None else (beta1, row.betas[1])
    changes = {
        **{"batch_size": batch, "lr": lr, "betas": betas, "weight_std": weight_std},
        # Without a ramp the average of a short run is mostly of the first weights.
        **{
            "averaging": averaging,
            "ramp": True if averaging else None,
            "flips": flips,
            "shifts": shifts,
            "bf16": bf16,
            "plain": True if bf16 is False else None,
            "labels": labels,
        },
    }
    out = out or Path("runs") / f"{recipe}-seed{seed}"
    runs.check_new(out)
    if steps and epochs:
        raise AlikitError("--steps and --epochs say the same thing: leave one out")
    if row.needs_decoder and decoder is None:
        raise AlikitError(f"{recipe} starts from a finished GAN: name its run folder with --decoder RUN")
    if decoder and not row.needs_decoder:
        raise AlikitError(f"{recipe} trains its own decoder: leave --decoder out")
    if labels and not row.has_labels:
        raise AlikitError(f"{recipe} asks for no labels: leave --labels out, or choose a recipe with labels")
    name = data or row.data
    if size is None and _is_resized(name):
        size = row.networks.size
    if None not in (size, row.networks.size) and size != row.networks.size:
        raise AlikitError(f"{recipe} is of pictures of {row.networks.size} pixels: leave --size out")
    status = launch.launch(out, batch or row.batch_size, devices, num_nodes, rendezvous, strategy)
    if status is not None:
        raise SystemExit(status)
    with runs.alone(out):
        with parallel.in_turn():
            parts = load(name, size, skip_corrupt, download)
        settings = {
            "recipe": recipe,
            "data": name,
            # A folder named by the environment is the machine's own affair, and found there again.
            "data_from_run": runs.placed(name if os.environ.get("ALIKIT_DATA") else rooted(name), out),
            "digest": runs.digest(parts),
            "size": size,
            "skip_corrupt": skip_corrupt,
            "seed": seed,
            **runs.trained_with(row),
            **{setting: value for setting, value in changes.items() if value is not None},
            "steps": steps or row.steps,
            "decoder": str(decoder) if decoder else None,
            "command": _command(),
            "versions": {"alikit": alikit.__version__, "torch": torch.__version__},
            "x_shape": parts[0].shape,
            "number_of_classes": runs.number_of_classes(parts[0]),
            "number_of_attributes": runs.number_of_attributes(parts[0]),
            "attributes": list(parts[0].classes) if row.is_conditional else None,
        }
        trainer = runs.trainer(settings, parts[0])
        if epochs:
            settings["steps"] = epochs * trainer.epoch_steps
        settings |= {"precision": "bfloat16" if trainer.bf16 else "float32", "processes": parallel.world()}
        if parallel.rank() == 0:
            runs.create(out, settings)
        _run(trainer, parts, out, settings["steps"], save_every)


@app.command()
def resume(
    run: RunFolder,
    steps: Annotated[
        int | None, typer.Option(help="Steps in all; those the run was given by default.", min=1, max=MOST_STEPS)
    ] = None,
    save_every: SaveEvery = SAVE_EVERY,
    data: Data = None,
    devices: Devices = None,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
    strategy: Strategy = "ddp",
) -> None:
    """Go on with a run that was stopped, as if it had not been; or, with more --steps, beyond its end."""
    settings = runs.settings(run)
    status = launch.launch(run, settings["batch_size"], devices, num_nodes, rendezvous, strategy)
    if status is not None:
        raise SystemExit(status)
    with runs.alone(run):
        state = None if runs.is_untouched(run) else runs.checkpoint(run)
        with parallel.in_turn():
            parts = _data(run, settings, data)
        runs.check_same(settings, parts)
        # A frozen decoder is in the checkpoint too: the run that it came from may be gone.
        trainer = runs.trainer({**settings, "decoder": settings["decoder"] if state is None else None}, parts[0])
        if state:
            runs.go_on(run, trainer, state)
        steps = steps or settings["steps"]
        more = steps > settings["steps"]
        # Killed between the last checkpoint and the evaluation, it has all its steps and is not at its end.
        evaluated = any("images_per_second" not in line for line in runs.metrics(run))
        whole = evaluated and (run / "weights.safetensors").exists()
        if trainer.step > steps or (trainer.step == steps and whole):
            raise AlikitError(f"{run} has its {trainer.step} steps: name a larger number with --steps to go on")
        parallel.barrier()  # all have read what is there
        if parallel.rank() == 0:
            runs.tidy(run)
        if more and parallel.rank() == 0:
            commands = [settings["command"]] if "command" in settings else []  # none in the run of a study
            runs.write_settings(run, {**settings, "steps": steps, "command": _joined([*commands, _command()])})
        _run(trainer, parts, run, steps, save_every)


@app.command()
def sample(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("samples.png"),
    number: Annotated[int, typer.Option("-n", help="How many.", min=1, max=10_000)] = PICTURES,
    seed: Annotated[int, typer.Option(help="Seed of the codes z.", min=0, max=2**32 - 1)] = 0,
    attributes: Attributes = None,
    grid_: Annotated[bool, typer.Option("--grid", help="The paper's 4 x 12 attributes, all of one z.")] = False,
    data: Data = None,
) -> None:
    """Draw samples from a trained model into a picture.

    A conditional model's have the attributes of held-out examples, each of another one; or those that are named, and
    of all others what most training examples have that share the named ones.
    """
    settings, model = runs.settings(run), runs.load_model(run)
    if not model.attributes and (attributes is not None or grid_):
        raise AlikitError(f"{run} is no conditional run: leave --attributes and --grid out")
    if attributes is not None and grid_:
        raise AlikitError("--grid has attributes of its own: leave --attributes out")
    y = None
    if model.attributes:
        train, held_out = _judged(run, settings, data)
        y = held_out.some(number).conditions()
        y = y[torch.arange(number) % len(y)]
        if attributes is not None:
            y = usual(train, _names(attributes))
    torch.manual_seed(seed)
    if grid_:
        y = paper_grid(train)
        rows, columns = y.shape[:2]
        x = model.decode(model.prior(1).expand(rows * columns, -1), y=y.flatten(0, 1))
        runs.save_picture(grid(x, columns, zoom=max(1, 64 // x.shape[-1])), out)
        _echo(f"the paper's {rows} x {columns} attributes in {out}")
        return
    runs.save_picture(_picture(model.sample(number, y)), out)
    _echo(f"{number} samples in {out}")


@app.command(name="reconstruct")
def reconstruct_(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("reconstructions.png"),
    number: Annotated[int, typer.Option("-n", help="How many.", min=1, max=10_000)] = PICTURES // 2,
    seed: Annotated[int, typer.Option(help="Seed of the draws from q(z|x).", min=0, max=2**32 - 1)] = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Decode the encoder's mean instead of a draw.")] = False,
    attributes: Attributes = None,
    data: Data = None,
) -> None:
    """Reconstruct held-out data: originals in odd, reconstructions in even columns.

    Of a conditional model with --attributes: encoded with what is so, and decoded with these attributes switched.
    """
    settings, model = runs.settings(run), runs.load_model(run)
    if attributes is not None and not model.attributes:
        raise AlikitError(f"{run} is no conditional run: leave --attributes out")
    _, held_out = _judged(run, settings, data)
    torch.manual_seed(seed)
    some = held_out.some(number)
    x, y = some.floats(), told(model, some)
    to = None
    if attributes is not None and held_out.labels.ndim == 1:
        to = usual(held_out, _names(attributes))
    elif attributes is not None:
        to = switched(y, _names(attributes), held_out.classes)
    runs.save_picture(_picture(beside(x, model.reconstruct(x, not mean, y, to))), out)
    _echo(f"{len(x)} originals and their reconstructions in {out}")


@app.command()
def evaluate(
    run: RunFolder,
    metrics: Annotated[
        str, typer.Option(help=f"Comma-separated, of {', '.join(METRICS)}.", metavar="NAMES")
    ] = ",".join(QUICK),
    inception_: Annotated[
        bool, typer.Option("--inception", help="Fidelity and copying in Inception's features, from weights at hand.")
    ] = False,
    labels: Annotated[
        int | None, typer.Option(help=f"Labels of each of an SVM's draws; by default the run's, or {LABELS}.", min=1)
    ] = None,
    data: Data = None,
) -> None:
    """Measure a trained model on held-out data; prints one JSON line.

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

    On request, of models that are told attributes, in some minutes: attributes_accuracy, the share of attributes that
    a small classifier, trained on the run's training pictures, sees as asked in pictures drawn for the attributes of
    held-out ones; _balanced, with and without counting alike, each attribute switched on and off (0.5 if switches do
    nothing); _grid, _grid_balanced, the same over those of the paper's grid; _judge, the classifier's own balanced
    accuracy on held-out pictures; _kept, the share of the other attributes that stay as they are;
    attributes_reencoded_, of held-out pictures, encoded and decoded with another y.

    On request: svm_error, the paper's semi-supervised protocol: the error of an L2-SVM that knows the classes of
    --labels training examples, on the last three hidden layers of the encoder and its means (of a GAN: of D(x)); mean
    over 100 draws of the labelled examples, and _std; _cost, C, chosen on the first draw with examples that are in no
    draw; _unconverged, fits that were stopped; _dims, numbers an example. On the same draws: svm_pixels, of the pixels
    alone; svm_components, of as many principal components as z has numbers; svm_random, of an untrained encoder.

    A number that cannot be had, of too few pictures say, is null or left out.
    """
    settings, model = runs.settings(run), runs.load_model(run)
    chosen = tuple(name.strip() for name in metrics.split(","))
    if inception_ and not {"fidelity", "copying"} & set(chosen):
        raise AlikitError("--inception is for fidelity and copying: ask for one of them with --metrics")
    network = inception() if inception_ else None
    _say(measured(model, *_judged(run, settings, data), chosen, network, labels or settings.get("labels") or LABELS))


@app.command()
def record(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="Folder to write; results/NAME OF THE RUN by default.")] = None,
    hardware: Annotated[str | None, typer.Option(help="What the run was made on; this machine by default.")] = None,
    data_name: Annotated[str | None, typer.Option(help="What to call the data beside numbers.")] = None,
    data: Data = None,
) -> None:
    """Keep what is worth keeping of a finished run on pictures: small weights, metrics, codes and the model's pictures.

    No picture of the data is kept. The metrics are measured anew, of the weights as they are stored; see
    `alikit evaluate --help`. Takes some minutes.
    """
    settings = runs.settings(run)
    out = out or Path("results") / run.resolve().name
    parts = _data(run, settings, data)
    found = records.record(run, out, parts, hardware or _hardware(), data_name or parts[0].name)
    _say(found)
    _echo(f"recorded in {out}; alikit report {out.parent} lists it")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="The folder that holds recorded runs.")] = Path("results"),
) -> None:
    """Write the table of recorded runs into RESULTS/README.md, between its two marks."""
    _echo(f"{write_report(results)} recorded runs in {results / 'README.md'}")


@app.command(name="study")
def study_(
    name: Annotated[str, typer.Argument(help="A name from `alikit recipes`, where studies are listed too.")],
    number: Annotated[
        int | None, typer.Option("--runs", help="Runs of each arm; the study's own by default.", min=1)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps a run; the study's own by default.", min=1, max=MOST_STEPS)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/study-NAME by default.")] = None,
    workers: Annotated[int, typer.Option(help="Processes to start.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each.", min=1, max=MOST_THREADS)] = 1,
    store: Annotated[str | None, typer.Option(help="Database URL; a file in the study's folder by default.")] = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="All runs of an arm as one computation, for a GPU; no store.")
    ] = False,
) -> None:
    """Run every arm of a study many times. Killed and started again, it goes on; several machines may share a store."""
    if side_by_side and (store or workers > 1 or threads > 1):
        raise AlikitError("side by side there are no workers and no store: leave --workers, --threads and --store out")
    try:
        if side_by_side:
            from .side_by_side import run_side_by_side as run
        else:
            from .studies import run_study

            run = functools.partial(run_study, workers=workers, threads=threads, store=store)
    except ModuleNotFoundError as error:
        raise AlikitError(f"a study needs {error.name}: pip install 'alikit[study]'") from None
    if name not in STUDIES:
        raise AlikitError(f"no study called {name!r}: there are {', '.join(STUDIES)}")
    row = STUDIES[name]
    number, steps, out = number or row.runs, steps or row.steps, out or Path("runs") / f"study-{name}"
    total = number * len(row.arms)
    bar = tqdm(total=total * steps, unit=" steps", smoothing=0.05, delay=1)
    started = False

    def watch(done: int, finished: int) -> None:
        nonlocal started
        if not started:
            bar.initial = bar.n = bar.last_print_n = done  # of an earlier start: no part of the pace
            started = True
        bar.set_postfix_str(f"{finished} of {total} runs done", refresh=False)
        bar.update(done - bar.n)

    try:
        with parallel.stopped_once(), bar:
            lines = run(name, out, number, steps, watch=watch)
    except KeyboardInterrupt:
        typer.echo("stopped; finished runs are kept, and the same command goes on", err=True)
        raise SystemExit(launch.STOPPED) from None
    for arm in row.arms:
        found = [line for line in lines if line["arm"] == arm]
        mean = {measure: round(statistics.mean(line[measure] for line in found), 3) for measure in COVERAGE}
        _say({"arm": arm, "runs": len(found), "diverged": sum(line["diverged"] for line in found), **mean})
    _echo(f"every run in {out / 'runs.jsonl'}")


@bench.command()
def step(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    batch: Annotated[int | None, typer.Option(help="Examples a step; the recipe's own by default.", min=2)] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one by default.")] = None,
    threads: Threads = None,
    seconds: Annotated[float, Seconds] = 20.0,
    float32: Annotated[
        bool, typer.Option("--float32", help="Ours in plain float32, by PyTorch's own layers, like the textbook's.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to keep the line in, for alikit bench report.")] = None,
) -> None:
    """Our training step beside the textbook's, alternating; prints one JSON line.

    ours, textbook, textbook_with_loader: steps a second. ratio, ratio_with_loader: ours over the textbook's, so above
    1 ours is quicker. gflop_a_step: counted by the definition of convolutions; gflop_made: what ours makes of it;
    gflops: a second; matmul_gflops: of a large matrix product; share_of_matmul, share_made: of that rate, ours. Each is
    a median with its quartiles. See benchmarks/step.py.
    """
    row = _recipe(recipe)
    if row.has_labels:
        raise AlikitError(f"{recipe} asks for labels, which the textbook's step has not: choose a recipe without")
    if row.is_conditional:
        raise AlikitError(f"{recipe} is told y, which the textbook's step is not: choose a recipe that is told nothing")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise AlikitError(f"no device called {device!r}: choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise AlikitError("PyTorch finds no CUDA device here: say --device cpu")
    if threads:
        torch.set_num_threads(threads)
    common = _benchmark("common")
    if out:
        common.check_writable(out)
    begun = common.setting(_command())
    found = _benchmark("step").compare(recipe, batch or row.batch_size, seconds, device, float32)
    if out:
        what = [recipe, f"batch{batch}" if batch else "", "float32" if float32 else "", device.replace("cpu", "")]
        common.keep_step(out / f"{'-'.join(['step', *filter(None, what)])}.json", begun, found)
    _say(found)


@bench.command()
def batch(out: Out = BENCHMARKS, threads: Threads = None, seconds: Annotated[float, Seconds] = 90.0) -> None:
    """Examples a second against the size of the batch: pictures by the laptop networks, and the toy."""
    _measure("batch", out, threads, seconds=seconds)


@bench.command()
def size(out: Out = BENCHMARKS, threads: Threads = None, seconds: Annotated[float, Seconds] = 60.0) -> None:
    """Pictures a second against their size, of recipes with 8, 32 and 64 pixels a side; slow ones take longer."""
    _measure("size", out, threads, seconds=seconds)


@bench.command()
def compiled(out: Out = BENCHMARKS, threads: Threads = None, seconds: Annotated[float, Seconds] = 120.0) -> None:
    """Whether torch.compile pays for our training step. Some minutes, most of them its own; wants a C++ compiler."""
    _measure("compiled", out, threads, seconds=seconds)


@bench.command()
def precision(out: Out = BENCHMARKS, threads: Threads = None) -> None:
    """Whether the same is learned by the library's layers, by ours, in bfloat16, and by two processes. Half an hour."""
    _measure("precision", out, threads)


@bench.command()
def workers(out: Out = BENCHMARKS) -> None:
    """The time of a small study against its number of workers. Some minutes."""
    _measure("workers", out)


@bench.command()
def loading(out: Out = BENCHMARKS) -> None:
    """The time to load a folder against its number of pictures, made for it and thrown away. Some minutes."""
    _measure("loading", out)


@bench.command()
def memory(out: Out = BENCHMARKS) -> None:
    """Peak memory of a few steps of each recipe, each in a process of its own. Some minutes; on Linux."""
    _measure("memory", out)


@bench.command()
def folder(out: Out = BENCHMARKS) -> None:
    """Memory of training on a folder of 20,000 pictures, and of 200,000. Some minutes, and 1 GB of disk; on Linux."""
    _measure("folder", out)


@bench.command()
def start(out: Out = BENCHMARKS) -> None:
    """How long one waits: for the import, for each notebook's first cell, for a panel, for make test. Some minutes."""
    _measure("start", out)


@bench.command(name="report")
def bench_report(out: Out = BENCHMARKS) -> None:
    """Write README.md of the folder from the files that lie there; nothing is measured."""
    count = _benchmark("report").write_report(out)
    _echo(f"{count} benchmark{'' if count == 1 else 's'} in {out / 'README.md'}")


def _measure(name: str, out: Path, threads: int | None = None, **how) -> None:
    common = _benchmark("common")
    if threads:
        torch.set_num_threads(threads)
    common.keep(name, out, _command(), **how)
    _echo(f"measured, in {out / name}.json; alikit bench report{_elsewhere(out)} puts it on the page")


def _elsewhere(out: Path) -> str:
    return "" if out == BENCHMARKS else f" --out {shlex.quote(str(out))}"


def _benchmark(name: str) -> ModuleType:
    """A module of benchmarks/, which lies beside the package in a checkout."""
    root = Path(alikit.__file__).parents[1]
    if not (root / "benchmarks" / f"{name}.py").is_file():
        raise AlikitError("the benchmarks do not come with the installed package: run this in a checkout of alikit")
    if str(root) != sys.path[0]:  # first, for others have installed something of that name
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{name}")


def _names(attributes: str) -> list[str]:
    names = [name.strip() for name in attributes.split(",") if name.strip()]
    if not names:
        raise AlikitError("--attributes names none: say Eyeglasses,-Young, or leave it out")
    return names


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise AlikitError(f"no recipe called {name!r}: {f'did you mean {near[0]}?' if near else 'see alikit recipes'}")
    return RECIPES[name]


def _data(run: Path, settings: dict, elsewhere: str | None = None) -> tuple[Dataset, Dataset]:
    source = elsewhere or runs.source(run, settings)
    kind, _, path = source.partition(":")
    try:
        parts = load(source, settings["size"] if _is_resized(source) else None, settings["skip_corrupt"])
    except AlikitError as error:
        moved = kind in ("folder", "table") and not elsewhere and not expanded(path).exists()
        raise AlikitError(f"{error}; if it lies elsewhere now: --data {kind}:PATH" if moved else str(error)) from None
    told = settings.get("attributes") or settings.get("classes")  # the latter of records
    if RECIPES[settings["recipe"]].is_conditional and told and list(parts[0].classes) != list(told):
        raise AlikitError(
            f"{source} has other attributes than this run was told, or in another order: name data with "
            + ", ".join(told)
        )
    if list(parts[0].shape) != list(settings["x_shape"]):
        shapes = (" x ".join(map(str, shape)) for shape in (parts[0].shape, settings["x_shape"]))
        raise AlikitError("{} holds examples of {}, this run is of {}: name other data".format(source, *shapes))
    return parts


def _is_resized(source: str) -> bool:
    """Whether its pictures are resized as they are read."""
    return source.partition(":")[0] in ("folder", "table", *RESIZED) or source in RESIZED


def _judged(run: Path, settings: dict, elsewhere: str | None) -> tuple[Dataset, Dataset]:
    """Data to judge a trained model on: any will do, but it should be known if it is not the run's own."""
    parts = _data(run, settings, elsewhere)
    try:
        runs.check_same(settings, parts)
    except AlikitError:
        warning = "not the data that this run was trained on: examples it has seen may be among the held-out ones"
        _echo(warning, err=True)
    return parts


def _hardware() -> str:
    """This machine, in words: its GPU if it has one, or its processors."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}, no GPU"


def _command() -> str:
    return shlex.join(["alikit", *sys.argv[1:]])


def _joined(commands: list[str]) -> str:
    """The commands of a run, one after the other; of very many the first, and the last with its number of steps."""
    text = "; ".join(commands)
    return text if len(text) <= MOST_TEXT else f"{commands[0].partition(';')[0]}; ...; {commands[-1]}"


@parallel.stopped_once()
def _run(trainer: Trainer, parts: tuple[Dataset, Dataset], out: Path, steps: int, save_every: float) -> None:
    """Trains with a progress bar, logging and drawing as it goes; Ctrl-C saves. Of several processes the first does."""
    every = max(1, min(100, steps // 10))
    drawn = every * max(10, steps // every // 20)  # how often; more of a long run than twenty no one looks at
    milestones = {epochs * trainer.epoch_steps for epochs in MILESTONES}
    if parallel.rank():
        with suppress(KeyboardInterrupt, Diverged):  # the first process is told the same, and says so
            trainer.run(steps, every, also=milestones)
        return parallel.leave()
    runs.rewind_log(out, trainer.step)
    if trainer.step == 0 or not (out / "weights.safetensors").exists():
        runs.save(out, trainer)  # so that there is always something to go on from, and to look at
    saved, saved_at = trainer.step, time.monotonic()
    begun, before = time.monotonic(), max((line.get("seconds", 0) for line in runs.metrics(out)), default=0)
    # Looking costs three passes an example, a step about nine: so a twentieth or less of the time goes to looking.
    watched = parts[1].some(max(8, min(WATCHED, every * trainer.batch_size // 10)))
    bar = tqdm(total=steps, initial=trainer.step, unit=" steps", mininterval=0.5)

    def is_drawn(step: int) -> bool:
        return step % drawn == 0 or step in milestones | {steps}

    if trainer.step and is_drawn(trainer.step) and not (out / f"samples-{trainer.step:07d}.png").exists():
        with torch.random.fork_rng():
            _draw(trainer.result, parts[1], out, trainer.step)

    def watch(progress: Progress) -> None:
        nonlocal saved, saved_at
        pace = {
            "images_per_second": round(progress.images_per_second),
            "seconds": round(before + time.monotonic() - begun),
        }
        line = {"step": progress.step, **pace, **progress.losses}
        if len(trainer.data.shape) == 3 and trainer.model.encoder is not None:
            line |= _vital_signs(trainer.result, watched)
        runs.log(out, line)
        bar.update(progress.step - bar.n)
        losses = {player: f"{loss:.3f}" for player, loss in progress.losses.items()}
        bar.set_postfix({**losses, "images/s": round(progress.images_per_second)})
        if is_drawn(progress.step) or time.monotonic() - saved_at >= save_every:
            runs.save(out, trainer)  # first, for drawing sets the random state
            saved, saved_at = trainer.step, time.monotonic()
        if is_drawn(progress.step):
            _draw(trainer.result, parts[1], out, progress.step)

    try:
        with bar:
            trainer.run(steps, every, watch, milestones)
        held_out = parts[1] if len(parts[1].shape) == 1 else parts[1].some(MEASURED)
        found = measured(trainer.result, parts[0], held_out)
    except KeyboardInterrupt:
        parallel.stopping()
        try:
            trainer.check_finite()
        except Diverged as error:
            raise AlikitError(f"{error}; {out} keeps the weights and checkpoint of step {saved}") from None
        runs.save(out, trainer)
        often = [] if save_every == SAVE_EVERY else ["--save-every", f"{save_every:g}"]
        again = shlex.join(["alikit", "resume", str(out), "--steps", str(steps), *often, *launch.flags()])
        _echo(f"stopped at step {trainer.step} of {steps}, saved; go on with: {again}", err=True)
        raise SystemExit(launch.STOPPED) from None
    except Diverged as error:
        raise AlikitError(f"{error}; {out} keeps the weights and checkpoint of step {saved}") from None
    runs.log(out, {"step": steps, **found})
    _say(found)
    if len(held_out) < len(parts[1]):
        again = shlex.join(["alikit", "evaluate", str(out)])
        _echo(f"measured on {len(held_out)} of {len(parts[1]):,} held-out examples; on all of them by: {again}")
    _echo(f"weights, log and pictures in {out}")
    parallel.leave()


def _vital_signs(model: Game, watched: Dataset) -> dict[str, float]:
    """`awake` of the same few examples and codes at every report."""
    z = torch.randn(len(watched), model.z_dim, generator=torch.Generator().manual_seed(0))
    found = awake(model, watched.floats().to(model.device), z.to(model.device), told(model, watched))
    return {name: round(value, 4) for name, value in found.items()}


def _echo(text: str, err: bool = False) -> None:
    """Says a line, whatever the files in it are called."""
    typer.echo(one_line(text), err=err)


def _say(found: dict[str, float]) -> None:
    typer.echo(
        json.dumps(found)
        if found
        else "nothing to measure: the metrics that were asked for are not for such a model (without an encoder, say)"
    )


def _draw(model: Game, held_out: Dataset, out: Path, step: int) -> None:
    """Samples from the same codes every time, and reconstructions of the same held-out examples."""
    if model.decoder is None:
        return
    torch.manual_seed(0)
    number = PICTURES if len(held_out.shape) == 3 else 2000
    some = held_out.some(number)
    y = told(model, some)
    samples = _picture(model.sample(number if y is None else len(some), y))
    if model.encoder is not None:
        some = held_out.some(number // 2)
        x_hat = model.reconstruct(some.floats().to(model.device), y=told(model, some))
        runs.save_picture(_picture(beside(some.floats(), x_hat)), out / f"reconstructions-{step:07d}.png")
    runs.save_picture(samples, out / f"samples-{step:07d}.png")  # last: where it is, a resumed run takes both as done


def _picture(x: torch.Tensor):
    return grid(x, zoom=max(1, 64 // x.shape[-1])) if x.ndim == 4 else plane_image(x)


class _OneLine(logging.Formatter):
    """Warnings name files, and those are called whatever people call them."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def main() -> None:
    """Entry point: a mistake that a person can mend becomes one line and exit status 2."""
    if sys.stderr is None:  # closed, and a progress bar would still write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    logging.basicConfig()
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_OneLine("%(message)s"))
    status = 2
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="alikit", standalone_mode=False) or 0
        # So Ctrl-C comes out of typer. Who had something to save has said so, and is not here any more.
        if status == launch.STOPPED and launch.speaks():
            typer.echo("alikit: stopped", err=True)
    except parallel.Lost:
        status = launch.LOST
    except UsageError as error:
        said = error.format_message().rstrip(".")
        _echo(f"alikit: {said}: see {error.ctx.command_path} --help", err=True)
    except (AlikitError, OSError) as error:
        if isinstance(error, OSError):  # standard output on a full disk, or a name that is too long, say
            what = f"use {error.filename}" if error.filename else "write to standard output"
            error = f"cannot {what} ({error.strerror}): {WAYS.get(error.errno, 'make that possible')}"
        if launch.speaks():
            _echo(f"alikit: {error}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as over:
        launch.end(over.code)
