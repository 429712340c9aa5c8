"""The command line: `alikit` or `python -m alikit`. Each command is one call into the rooms above.

alikit recipes
alikit train digits --steps 2000 --seed 0 --out runs/digits
alikit train digits --set lr=3e-4 --set r1=0.1
alikit resume runs/digits --steps 4000
alikit train cifar10 --devices 4        alikit resume runs/cifar10-seed0 --devices 4
alikit sample runs/digits        alikit reconstruct runs/digits        alikit evaluate runs/digits
alikit train cifar10-small --data folder:PATH --epochs 60
alikit evaluate runs/cifar10-small-seed0 --metrics svm --labels 1000
alikit train faces-conditional --steps 300
alikit sample runs/faces-conditional-seed0 --attributes Eyeglasses,-Young
alikit record runs/cifar10-small-seed0        alikit report results
alikit study mixture --runs 2 --steps 500 --out runs/study
alikit bench step svhn        alikit bench memory        alikit bench report
"""

import dataclasses
import importlib
import json
import logging
import os
import platform
import runpy
import shlex
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import typer
from tqdm import tqdm

import alikit

from . import distributed, runs
from .data import SOURCES
from .data.conditions import paper_grid, switched, usual
from .errors import WAYS, AlikitError, one_line
from .evaluation import METRICS, QUICK, Coverage, inception
from .evaluation.inference import conditions_of
from .figures import beside, grid
from .recipes import RECIPES
from .runs import records, running
from .runs.report import write_report
from .runs.running import PICTURES, SAVE_EVERY, Stopped
from .runs.settings import MOST_STEPS
from .side_by_side import run_side_by_side
from .stopping import interruptible
from .studies import STUDIES, run_study

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
UsageError = typer.BadParameter.__base__  # typer gives it no name of its own
QUICK_ONES = ",".join(QUICK)
COVERAGE = [field.name for field in dataclasses.fields(Coverage)]
BENCHMARKS = Path("results/benchmarks")


def option(kind: type, text: str, *names: str, **limits):
    return Annotated[kind, typer.Option(*names, help=text, **limits)]


RunFolder = Annotated[Path, typer.Argument(help="A run folder made by alikit train.")]
Data = option(str | None, "Where the run's data lies now; where it lay in training by default.", metavar="DATA")
Seed = option(int, "Seed of random numbers.", min=0, max=2**32 - 1)
Steps = option(
    int | None, "Steps in all; the recipe's, the run's or the study's own by default.", min=1, max=MOST_STEPS
)
SaveEvery = option(float, "Seconds between checkpoints, about; 0 for one at every report.", min=0, metavar="SECONDS")
Devices = option(
    int | None, "Processes on this machine, each with a GPU, or a share of the cores; one by default.", min=1
)
Nodes = option(int, "Machines; give each the same command.", "--num-nodes", min=1)
Rendezvous = option(str | None, "Where machines find each other; HOST is one of them.", metavar="HOST:PORT")
Number = option(int, "How many.", "-n", min=1, max=10_000)
Threads = option(int | None, "CPU threads; PyTorch's own choice by default.", min=1, max=1024)
Attributes = option(
    str | None,
    "Of conditional runs: names of the data's attributes, as Eyeglasses,-Young; - says not. Or a class.",
    metavar="NAMES",
)


@app.callback()
def about(
    recipes_from: Annotated[
        list[Path] | None,
        typer.Option("--recipes", help="Python file of your own that registers recipes; it is run.", metavar="FILE"),
    ] = None,
) -> None:
    """Adversarially Learned Inference: train it, sample it, look at what it keeps."""
    for file in recipes_from or ():
        if not file.is_file():
            raise AlikitError(f"there is no file {file}: name one that registers recipes")
        runpy.run_path(str(file))


@app.command()
def recipes() -> None:
    """List the named experiments, the data they can take, and the studies."""
    width = max(map(len, RECIPES)) + 2
    for name, recipe in RECIPES.items():
        labels = f", {recipe.labels} labels" if recipe.has_labels else ", conditional" if recipe.is_conditional else ""
        typer.echo(f"{name:<{width}}{recipe.summary} [--data {recipe.data}, {recipe.steps} steps{labels}]")
    typer.echo()
    for name, study in STUDIES.items():
        typer.echo(f"{name:<{width}}{study.summary} [alikit study, {study.runs} x {study.steps} steps]")
    typer.echo(f"\ndata: {', '.join(SOURCES)}")
    typer.echo("or folder:PATH for class folders of your own pictures, table:PATH for pictures with attributes")
    typer.echo("\nsettings for --set NAME=VALUE, with their defaults where a recipe says nothing else:")
    for name, setting in alikit.Config.__pydantic_fields__.items():
        typer.echo(f"  {name}={setting.default}: {setting.description}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    data: option(str | None, "A name from `alikit recipes`, folder:PATH or table:PATH.") = None,
    steps: Steps = None,
    epochs: option(int | None, "The same in passes over the data.", min=1, max=10**6) = None,
    seed: Seed = 0,
    out: option(Path | None, "Run folder to make; runs/RECIPE-seedN by default.") = None,
    settings: option(
        list[str] | None, "Any training setting, see alikit recipes.", "--set", metavar="NAME=VALUE"
    ) = None,
    batch: option(int | None, "Short for --set batch_size=N.") = None,
    lr: option(float | None, "Short for --set lr=RATE.") = None,
    labels: option(int | None, "Short for --set labels=N.") = None,
    float32: option(bool, "Short for --set bf16=false --set fast=false.", "--float32") = False,
    download: option(bool, "Fetch the data set where it is missing.", "--download") = False,
    decoder: option(Path | None, "Run whose decoder is frozen: post-hoc and inverse.") = None,
    save_every: SaveEvery = SAVE_EVERY,
    size: option(int | None, "Resize and centre-crop a folder's pictures to N x N.", metavar="N") = None,
    skip_corrupt: option(bool, "Leave unreadable files out of a folder.", "--skip-corrupt") = False,
    devices: Devices = None,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
) -> None:
    """Train a recipe into a new run folder."""
    changes = dict(map(_setting, settings or ()))
    changes |= {
        name: value for name, value in {"batch_size": batch, "lr": lr, "labels": labels}.items() if value is not None
    }
    changes |= {"bf16": False, "fast": False} if float32 else {}
    row, out = running.changed(recipe, changes), out or Path("runs") / f"{recipe}-seed{seed}"
    runs.check_new(out)
    _launch(out, row.batch_size, devices, num_nodes, rendezvous)
    found = running.train(
        recipe,
        out,
        data=data,
        steps=steps,
        epochs=epochs,
        seed=seed,
        changes=changes,
        decoder=decoder,
        size=size,
        skip_corrupt=skip_corrupt,
        download=download,
        save_every=save_every,
        command=_command(),
    )
    _end(out, found)


@app.command()
def resume(
    run: RunFolder,
    steps: Steps = None,
    save_every: SaveEvery = SAVE_EVERY,
    data: Data = None,
    devices: Devices = None,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
) -> None:
    """Go on with a run that was stopped, as if it had not been; or, with more --steps, beyond its end."""
    _launch(run, runs.settings(run)["batch_size"], devices, num_nodes, rendezvous)
    _end(run, running.resume(run, steps=steps, data=data, save_every=save_every, command=_command()))


@app.command()
def sample(
    run: RunFolder,
    out: option(Path, "Picture to write.") = Path("samples.png"),
    number: Number = PICTURES,
    seed: Seed = 0,
    attributes: Attributes = None,
    grid_: option(bool, "The paper's 4 x 12 attributes, all of one z.", "--grid") = False,
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
    train, held_out = running.judged(run, settings, data) if model.attributes else (None, None)
    torch.manual_seed(seed)
    if grid_:
        y = paper_grid(train)
        rows, columns = y.shape[:2]
        x = model.decode(model.prior(1).expand(rows * columns, -1), y=y.flatten(0, 1))
        runs.save_picture(grid(x, columns, zoom=max(1, 64 // x.shape[-1])), out)
        return _echo(f"the paper's {rows} x {columns} attributes in {out}")
    y = None
    if attributes is not None:
        y = usual(train, _names(attributes))
    elif model.attributes:
        some = held_out.some(number).conditions()
        y = some[torch.arange(number) % len(some)]
    runs.save_picture(running.picture(model.sample(number, y)), out)
    return _echo(f"{number} samples in {out}")


@app.command(name="reconstruct")
def reconstruct_(
    run: RunFolder,
    out: option(Path, "Picture to write.") = Path("reconstructions.png"),
    number: Number = PICTURES // 2,
    seed: Seed = 0,
    mean: option(bool, "Decode the encoder's mean instead of a draw.", "--mean") = False,
    attributes: Attributes = None,
    data: Data = None,
) -> None:
    """Reconstruct held-out data: originals in odd, reconstructions in even columns.

    Of a conditional model with --attributes: encoded with what is so, and decoded with these attributes switched.
    """
    settings, model = runs.settings(run), runs.load_model(run)
    if attributes is not None and not model.attributes:
        raise AlikitError(f"{run} is no conditional run: leave --attributes out")
    _, held_out = running.judged(run, settings, data)
    torch.manual_seed(seed)
    some = held_out.some(number)
    x, y, to = some.floats(), conditions_of(model, some), None
    if attributes is not None and held_out.labels.ndim == 1:
        to = usual(held_out, _names(attributes))
    elif attributes is not None:
        to = switched(y, _names(attributes), held_out.classes)
    runs.save_picture(running.picture(beside(x, model.reconstruct(x, not mean, y, to))), out)
    _echo(f"{len(x)} originals and their reconstructions in {out}")


@app.command(help=running.evaluate.__doc__)
def evaluate(
    run: RunFolder,
    metrics: option(str, f"Comma-separated, of {', '.join(METRICS)}.", metavar="NAMES") = QUICK_ONES,
    inception_: option(
        bool, "Fidelity and copying in Inception's features, from weights at hand.", "--inception"
    ) = False,
    labels: option(int | None, "Labels of each of an SVM's draws.", min=1) = None,
    data: Data = None,
) -> None:
    chosen = tuple(name.strip() for name in metrics.split(","))
    if inception_ and not {"fidelity", "copying"} & set(chosen):
        raise AlikitError("--inception is for fidelity and copying: ask for one of them with --metrics")
    _say(running.evaluate(run, chosen, data=data, labels=labels, network=inception() if inception_ else None))


@app.command()
def record(
    run: RunFolder,
    out: option(Path | None, "Folder to write; results/NAME OF THE RUN by default.") = None,
    hardware: option(str | None, "What the run was made on; this machine by default.") = None,
    data_name: option(str | None, "What to call the data beside numbers.") = None,
    data: Data = None,
) -> None:
    """Keep what is worth keeping of a finished run on pictures: small weights, metrics, codes and the model's pictures.

    No picture of the data is kept. The metrics are measured anew, of the weights as they are stored; see
    `alikit evaluate --help`. Takes some minutes.
    """
    out = out or Path("results") / run.resolve().name
    parts = running.data_of(run, runs.settings(run), data)
    _say(records.record(run, out, parts, hardware or _hardware(), data_name or parts[0].name))
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
    number: option(int | None, "Runs of each arm; the study's own by default.", "--runs", min=1) = None,
    steps: Steps = None,
    out: option(Path | None, "Folder of the study; runs/study-NAME by default.") = None,
    workers: option(int, "Processes to start.", min=1) = 1,
    threads: option(int, "Threads of each.", min=1, max=1024) = 1,
    store: option(str | None, "Database URL by which several machines share the study.") = None,
    side_by_side: option(bool, "All runs of an arm as one computation, for a GPU; no store.", "--side-by-side") = False,
) -> None:
    """Run every arm of a study many times. Killed and started again, it goes on; several machines may share a store."""
    if side_by_side and (store or workers > 1 or threads > 1):
        raise AlikitError("side by side there are no workers and no store: leave --workers, --threads and --store out")
    if name not in STUDIES:
        raise AlikitError(f"no study called {name!r}: there are {', '.join(STUDIES)}")
    row = STUDIES[name]
    number, steps, out = number or row.runs, steps or row.steps, out or Path("runs") / f"study-{name}"
    total = number * len(row.arms)
    bar = tqdm(total=total * steps, unit=" steps", smoothing=0.05, delay=1)

    def watch(done: int, finished: int) -> None:
        bar.set_postfix_str(f"{finished} of {total} runs done", refresh=False)
        bar.update(done - bar.n)

    try:
        with bar:
            if side_by_side:
                lines = run_side_by_side(name, out, number, steps, watch)
            else:
                lines = run_study(name, out, number, steps, workers, threads, store, watch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; finished runs are kept, and the same command goes on") from None
    for arm in row.arms:
        found = [line for line in lines if line["arm"] == arm]
        mean = {measure: round(statistics.mean(line[measure] for line in found), 3) for measure in COVERAGE}
        _say({"arm": arm, "runs": len(found), "diverged": sum(line["diverged"] for line in found), **mean})
    _echo(f"every run in {out / 'runs.jsonl'}")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark; `list` shows what there is.")],
    recipe: Annotated[str | None, typer.Argument(help="For step: a name from `alikit recipes`.")] = None,
    out: option(Path | None, "Folder to write to; results/benchmarks, but for step, by default.") = None,
    threads: Threads = None,
    seconds: option(float | None, "How long to measure, about.", min=0.1, max=3600) = None,
    batch: option(int | None, "For step: examples a step.", min=2) = None,
    device: option(str | None, "For step: cpu or cuda.") = None,
    float32: option(bool, "For step: ours by PyTorch's own layers in float32.", "--float32") = False,
) -> None:
    """Measure how fast alikit is on this machine."""
    benchmarks = _benchmarks()
    if name == "list":
        for each, benchmark in benchmarks.BENCHMARKS.items():
            typer.echo(f"{each:<12}{benchmark.help}")
        return
    asked = {"recipe": recipe, "threads": threads, "seconds": seconds, "batch": batch, "device": device}
    out = out or (None if name == "step" else BENCHMARKS)
    typer.echo(benchmarks.run(name, out, _command(), **asked, float32=float32))


def _benchmarks() -> ModuleType:
    """benchmarks/, which lies beside the package in a checkout."""
    root = Path(alikit.__file__).parents[1]
    if not (root / "benchmarks" / "__init__.py").is_file():
        raise AlikitError("the benchmarks do not come with the installed package: run this in a checkout of alikit")
    if str(root) != sys.path[0]:  # first, for others have installed something of that name
        sys.path.insert(0, str(root))
    return importlib.import_module("benchmarks")


def _setting(text: str) -> tuple[str, object]:
    """NAME=VALUE, where VALUE is JSON (true, 0.1, [0, 0.9], null) or text."""
    name, sign, value = text.partition("=")
    if not sign:
        raise AlikitError(f"--set {text} is no NAME=VALUE: say lr=3e-4 for example")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        return name.strip().replace("-", "_"), value


def _launch(run: Path, batch_size: int, devices: int | None, nodes: int, rendezvous: str | None) -> None:
    """Hands the command to several processes where that is asked for, and exits when they are done."""
    distributed.check_divides(batch_size, (devices or 1) * nodes)
    if (status := distributed.launch(sys.argv[1:], devices, nodes, rendezvous, run)) is not None:
        raise SystemExit(status)


def _end(out: Path, found: dict | None) -> None:
    """What is said of a run that is done, by the first of several processes."""
    if found is not None:
        _say(found)
        known = runs.settings(out)
        held_out = known["digest"][1] if known.get("digest") else 0  # of a study's run it is not kept
        if held_out > running.MEASURED and len(known["x_shape"]) == 3:
            again = shlex.join(["alikit", "evaluate", str(out)])
            _echo(f"measured on {running.MEASURED} of {held_out:,} held-out examples; on all of them by: {again}")
        _echo(f"weights, log and pictures in {out}")


def _names(attributes: str) -> list[str]:
    names = [name.strip() for name in attributes.split(",") if name.strip()]
    if not names:
        raise AlikitError("--attributes names none: say Eyeglasses,-Young, or leave it out")
    return names


def _hardware() -> str:
    """This machine, in words: its GPU if it has one, or its processors."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}, no GPU"


def _command() -> str:
    return shlex.join(["alikit", *sys.argv[1:]])


def _echo(text: str, err: bool = False) -> None:
    """Says a line, whatever the files in it are called."""
    typer.echo(one_line(text), err=err)


def _say(found: dict[str, float]) -> None:
    typer.echo(
        json.dumps(found)
        if found
        else "nothing to measure: the metrics that were asked for are not for such a model (without an encoder, say)"
    )


class _OneLine(logging.Formatter):
    """Warnings name files, and those are called whatever people call them."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


@interruptible()
def main() -> int:
    """Runs the command line; returns the exit status. A mistake that a person can mend is one line and status 2."""
    if sys.stderr is None:  # closed, and a progress bar would still write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    logging.basicConfig()
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_OneLine("%(message)s"))
    try:
        # Not app(), which takes a KeyboardInterrupt for itself, and with it how to go on.
        command = typer.main.get_command(app)
        with command.make_context("alikit", sys.argv[1:] or ["--help"]) as context:
            return command.invoke(context) or 0
    except typer.Exit as over:  # of --help
        return over.exit_code
    except SystemExit as over:  # of several processes, that this one started
        return over.code
    except KeyboardInterrupt as stop:
        said = str(stop) or "alikit: stopped"
        if isinstance(stop, Stopped):
            resume = ["alikit", "resume", str(stop.folder), "--steps", str(stop.steps), *distributed.options()]
            said = f"stopped at step {stop.step} of {stop.steps}, saved; go on with: {shlex.join(resume)}"
        if distributed.speaks():
            _echo(said, err=True)
        return distributed.STOPPED
    except distributed.Lost:
        return distributed.LOST
    except UsageError as error:
        said = error.format_message().rstrip(".")
        _echo(f"alikit: {said}: see {error.ctx.command_path} --help", err=True)
    except BrokenPipeError:  # as in `alikit recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again at its end
        return 1
    except (AlikitError, OSError) as error:
        if isinstance(error, OSError):  # standard output on a full disk, or a name that is too long, say
            what = f"use {error.filename}" if error.filename else "write to standard output"
            error = f"cannot {what} ({error.strerror}): {WAYS.get(error.errno, 'make that possible')}"
        if distributed.speaks():
            _echo(f"alikit: {error}", err=True)
    return 2
