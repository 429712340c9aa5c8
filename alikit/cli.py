"""The command line, `alikit` or `python -m alikit`: each command is one call into the modules above."""

import json
import logging
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from . import distributed, reading, runs
from .data import SOURCES
from .errors import WAYS, AlikitError, one_line
from .evaluation import METRICS, QUICK, Coverage, inception
from .recipes import RECIPES
from .runs import pictures, records, running, watching
from .runs.report import write_report
from .runs.settings import MOST_STEPS
from .side_by_side import run_side_by_side
from .stopping import interruptible
from .studies import STUDIES, run_study

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
QUICK_ONES = ",".join(QUICK)
OWN: list[str] = []  # --recipes FILE as it was given, for the commands that are shown


def option(kind: type, text: str, *names: str, **limits):
    return Annotated[kind, typer.Option(*names, help=text, **limits)]


RecipesFrom = option(list[Path] | None, "Your Python file of recipes; it is run.", "--recipes", metavar="FILE")
Results = Annotated[Path, typer.Argument(help="The folder that holds recorded runs.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder made by alikit train.")]
Data = option(str | None, "Where the run's data lies now; where it lay in training by default.", metavar="DATA")
Seed = option(int, "Seed of random numbers.", min=0, max=2**32 - 1)
Steps = option(int | None, "Steps in all; by default the recipe's, the run's or the study's.", min=1, max=MOST_STEPS)
SaveEvery = option(float, "Seconds between checkpoints, about; 0 for one at every report.", min=0, metavar="SECONDS")
Device = option(str | None, "Where to compute: cpu, cuda, cuda:1 or mps.")
Devices = option(int, "Processes on this machine, each with a GPU, or a share of the cores.", min=1)
Nodes = option(int, "Machines; give each the same command.", "--num-nodes", min=1)
Rendezvous = option(str | None, "Where machines find each other; HOST is one of them.", metavar="HOST:PORT")
Number = option(int, "How many.", "-n", min=1, max=10_000)
Attributes = option(str | None, "Of conditional runs: Eyeglasses,-Young or a class.", metavar="NAMES")


@app.callback()
def about(recipes_from: RecipesFrom = None) -> None:
    """Adversarially Learned Inference: train it, sample it, look at what it keeps."""
    OWN[:] = [word for file in recipes_from or () for word in ("--recipes", str(file))]
    for file in recipes_from or ():
        running.register_from(file)


@app.command()
def recipes() -> None:
    """List the named experiments, the data they can take, the studies, and the settings of training."""
    width, settings = max(map(len, RECIPES)) + 2, {}
    for name, recipe in RECIPES.items():
        labels = f", {recipe.labels} labels" if recipe.has_labels else ", conditional" if recipe.is_conditional else ""
        typer.echo(f"{name:<{width}}{recipe.summary} [--data {recipe.data}, {recipe.steps} steps{labels}]")
        known = type(recipe).__pydantic_fields__  # a reader's own class may add some
        settings |= {setting: known[setting] for setting in recipe.config()}
    typer.echo()
    for name, study in STUDIES.items():
        typer.echo(f"{name:<{width}}{study.summary} [alikit study, {study.runs} x {study.steps} steps]")
    own = "folder:PATH (class folders), table:PATH (attributes), file:PATH (arrays), or the path alone"
    typer.echo(f"\ndata: {', '.join(SOURCES)}, torchvision:NAME; your own: {own}")
    typer.echo("\nsettings for --set NAME=VALUE, with their defaults where a recipe says nothing else:")
    for name, setting in settings.items():
        typer.echo(f"  {name}={setting.default}: {setting.description or 'see the recipe that adds it'}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    data: option(str | None, "A name from `alikit recipes`, a folder, a file, or torchvision:NAME.") = None,
    steps: Steps = None,
    epochs: option(int | None, "The same in passes over the data.", min=1, max=10**6) = None,
    seed: Seed = 0,
    out: option(Path | None, "Run folder to make; runs/RECIPE-seedN by default.") = None,
    settings: option(list[str] | None, "A training setting, see alikit recipes.", "--set", metavar="NAME=VALUE") = None,
    batch: option(int | None, "Short for --set batch_size=N.") = None,
    lr: option(float | None, "Short for --set lr=RATE.") = None,
    labels: option(int | None, "Short for --set labels=N.") = None,
    float32: option(bool, "Short for --set bf16=false --set fast=false.", "--float32") = False,
    download: option(bool, "Fetch the data set where it is missing.", "--download") = False,
    decoder: option(Path | None, "Run whose decoder is frozen: post-hoc and inverse.") = None,
    from_run: option(Path | None, "Run or record to begin from: its weights.", "--from", metavar="RUN") = None,
    save_every: SaveEvery = watching.SAVE_EVERY,
    size: option(int | None, "Resize and centre-crop a folder's pictures to N x N.", metavar="N") = None,
    skip_corrupt: option(bool, "Leave unreadable files out of a folder.", "--skip-corrupt") = False,
    white: option(float | None, "The brightest value of pictures or arrays of more than 8 bits.") = None,
    splits: option(str | None, "The folders TRAIN,HELD_OUT by name; none if all are classes.", metavar="NAMES") = None,
    device: Device = None,
    devices: Devices = 1,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
) -> None:
    """Train a recipe into a new run folder. At the end, 500 held-out pictures at most are measured (evaluate: all)."""
    short = {"batch_size": batch, "lr": lr, "labels": labels} | ({"bf16": False, "fast": False} if float32 else {})
    changes, out = _changes(short, settings or []), out or Path("runs") / f"{recipe}-seed{seed}"
    source = {"data": data, "size": size, "skip_corrupt": skip_corrupt, "white": white, "splits": splits}
    source |= {"download": download, "decoder": decoder, "from_run": from_run, "device": device}
    how = {"steps": steps, "epochs": epochs, "seed": seed, "changes": changes, "save_every": save_every}
    with _processes(out, devices, num_nodes, rendezvous, device):
        _say(running.train(recipe, out, command=_command(), **source, **how), f"weights, log and pictures in {out}")


@app.command()
def resume(
    run: RunFolder,
    steps: Steps = None,
    save_every: SaveEvery = watching.SAVE_EVERY,
    data: Data = None,
    device: Device = None,
    devices: Devices = 1,
    num_nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
) -> None:
    """Go on with a run that was stopped, as if it had not been; or, with more --steps, beyond its end."""
    with _processes(run, devices, num_nodes, rendezvous, device):
        how = {"steps": steps, "data": data, "device": device, "save_every": save_every}
        found = running.resume(run, command=_command(), **how)
        _say(found, f"weights, log and pictures in {run}")


@app.command()
def sample(
    run: RunFolder,
    out: option(Path, "Picture to write.") = Path("samples.png"),
    number: Number = watching.PICTURES,
    seed: Seed = 0,
    attributes: Attributes = None,
    grid_: option(bool, "The paper's 4 x 12 attributes, all of one z.", "--grid") = False,
    data: Data = None,
    device: Device = "cpu",
) -> None:
    """Draw samples from a trained model into a picture.

    Those of a conditional model have the attributes of held-out examples; or the attributes that you name, and
    otherwise what most training examples have that share these.
    """
    drawn = pictures.samples(run, out, number, seed, attributes, grid_, data, device)
    typer.echo(one_line(f"{drawn} samples in {out}"))


@app.command(name="reconstruct")
def reconstruct_(
    run: RunFolder,
    out: option(Path, "Picture to write.") = Path("reconstructions.png"),
    number: Number = watching.PICTURES // 2,
    seed: Seed = 0,
    mean: option(bool, "Decode the encoder's mean instead of a draw.", "--mean") = False,
    attributes: Attributes = None,
    data: Data = None,
    device: Device = "cpu",
) -> None:
    """Reconstruct held-out data: originals in odd, reconstructions in even columns.

    With --attributes, a conditional model encodes with the example's own attributes, and decodes with these switched.
    """
    drawn = pictures.reconstructions(run, out, number, seed, mean, attributes, data, device)
    typer.echo(one_line(f"{drawn} originals and their reconstructions in {out}"))


@app.command(help=running.evaluate.__doc__.rpartition("\n\n")[0])  # without the arguments of the function
def evaluate(
    run: RunFolder,
    metrics: option(str, f"Comma-separated, of {', '.join(METRICS)}.", metavar="NAMES") = QUICK_ONES,
    inception_: option(
        bool,
        "Fidelity (of 8,192 held-out pictures or more) and copying by Inception, from weights at hand.",
        "--inception",
    ) = False,
    labels: option(int | None, "Labels of each of an SVM's draws.", min=1) = None,
    data: Data = None,
    device: Device = "cpu",
) -> None:
    chosen = tuple(name.strip() for name in metrics.split(","))
    if inception_ and not {"fidelity", "copying"} & set(chosen):
        raise AlikitError("--inception is for fidelity and copying: ask for one of them with --metrics")
    network = inception() if inception_ else None
    _say(running.evaluate(run, chosen, data=data, labels=labels, device=device, network=network))


@app.command()
def record(
    run: RunFolder,
    out: option(Path | None, "Folder to write; results/NAME OF THE RUN by default.") = None,
    hardware: option(str | None, "What the run was made on; this machine by default.") = None,
    data_name: option(str | None, "What to call the data beside numbers.") = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Keep what is worth keeping of a finished run on pictures: small weights, metrics, codes and the model's pictures.

    No picture of the data is kept. The stored weights are measured anew, which takes some minutes.
    """
    out, parts = out or Path("results") / run.resolve().name, running.data_of(run, runs.read_settings(run), data)
    processor = f"{torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}, no GPU"
    machine = torch.cuda.get_device_name() if distributed.device().type == "cuda" else processor
    found = records.record(run, out, parts, hardware or machine, data_name or parts[0].name, device)
    _say(found, f"recorded in {out}; {shlex.join(['alikit', *OWN, 'report', str(out.parent)])} lists it")


@app.command()
def report(results: Results = Path("results")) -> None:
    """Write the table of recorded runs into RESULTS/README.md, between its two marks."""
    typer.echo(one_line(f"{write_report(results)} recorded runs in {results / 'README.md'}"))


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
    study, out = STUDIES[name], out or Path("runs") / f"study-{name}"
    number, steps = number or study.runs, steps or study.steps
    bar = tqdm(total=number * len(study.arms) * steps, unit=" steps", smoothing=0.05, delay=1)

    def watch(done: int, finished: int) -> None:
        bar.set_postfix_str(f"{finished} of {number * len(study.arms)} runs done", refresh=False)
        bar.update(done - bar.n)

    try:
        with bar:
            crew = {} if side_by_side else {"workers": workers, "threads": threads, "store": store}
            bring = run_side_by_side if side_by_side else run_study
            lines = bring(name, out, number, steps, watch=watch, **crew)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; finished runs are kept, and the same command goes on") from None
    for arm in study.arms:
        found = [line for line in lines if line["arm"] == arm]
        mean = {m.name: round(statistics.mean(line[m.name] for line in found), 3) for m in fields(Coverage)}
        _say({"arm": arm, "runs": len(found), "diverged": sum(line["diverged"] for line in found), **mean})
    typer.echo(one_line(f"every run in {out / 'runs.jsonl'}"))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark; `list` shows what there is.")],
    recipe: Annotated[str | None, typer.Argument(help="For step: a name from `alikit recipes`.")] = None,
    out: option(Path | None, "Folder to write to; results/benchmarks, but for step, by default.") = None,
    threads: option(int | None, "CPU threads; PyTorch's own choice by default.", min=1, max=1024) = None,
    seconds: option(float | None, "How long to measure, about.", min=0.1, max=3600) = None,
    batch: option(int | None, "For step: examples a step.", min=2) = None,
    device: option(str | None, "For step: cpu or cuda.") = None,
    float32: option(bool, "For step: ours by PyTorch's own layers in float32.", "--float32") = False,
) -> None:
    """Measure how fast alikit is on this machine."""
    options = {"recipe": recipe, "threads": threads, "seconds": seconds, "batch": batch, "device": device}
    sys.path.insert(0, str(Path(__file__).parents[1]))  # first, because other packages have installed such a name
    try:
        import benchmarks
    except ModuleNotFoundError:
        raise AlikitError("benchmarks do not come with the package: run this in a checkout of alikit") from None
    if name == "list":
        for each, benchmark in benchmarks.BENCHMARKS.items():
            typer.echo(f"{each:<12}{benchmark.help}")
        return
    out = out or (None if name == "step" else Path("results/benchmarks"))
    typer.echo(benchmarks.run(name, out, _command(), float32=float32, **options))


def _changes(short: dict[str, object], settings: list[str]) -> dict[str, object]:
    """What short options change, where they are given, and the settings, each NAME=VALUE: VALUE is JSON or text."""
    changes = {name: value for name, value in short.items() if value is not None}
    for text in settings:
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not name or "=" not in text:
            raise AlikitError(f"--set {text} is no NAME=VALUE: say lr=3e-4 for example")
        if name in changes:
            raise AlikitError(f"{name} is set twice: leave one out")
        changes[name] = value
        for read in (float, lambda text: reading.parsed(text.encode())):
            with suppress(ValueError):
                changes[name] = read(value)
    return changes


@contextmanager
def _processes(run: Path, devices: int, nodes: int, rendezvous: str | None, device: str | None) -> Iterator[None]:
    """Runs the block in this process, or the whole command in several and exits; says how to go on where it stops."""
    if device and devices * nodes > 1:
        raise AlikitError("--device is for one process, and of several each has its own: leave it or --devices out")
    several = (("--device", device), ("--devices", devices), ("--num-nodes", nodes), ("--rendezvous", rendezvous))
    options = [word for name, value in several if value not in (1, None) for word in (name, str(value))]
    again = shlex.join(["alikit", *OWN, "resume", str(run), *options])
    if (status := distributed.launch(sys.argv[1:], devices, nodes, rendezvous, run, again)) is not None:
        raise typer.Exit(status)
    try:
        yield
    except watching.Stopped as stop:
        where = f"stopped at step {stop.step} of {stop.steps}, saved"
        raise KeyboardInterrupt(f"{where}; go on with: {again} --steps {stop.steps}") from None


def _command() -> str:
    return shlex.join(["alikit", *sys.argv[1:]])


def _say(found: dict | None, *lines: str) -> None:
    """Prints numbers and lines, each on one line whatever files are called; nothing in all processes but the first."""
    if found is not None:
        typer.echo(json.dumps(found) if found else "nothing to measure: no metric that was chosen is for such a model")
        for line in lines:
            typer.echo(one_line(line))


@interruptible()
def main() -> int:
    """Runs the command line; returns the exit status. A mistake that a person can mend is one line and status 2."""
    if sys.stderr is None:  # closed, and a progress bar would still write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    handler = logging.StreamHandler()
    handler.format = lambda record: one_line(record.getMessage())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("alikit").setLevel(logging.INFO)
    context = None
    try:
        # Not app(), which takes a KeyboardInterrupt for itself, and with it how to go on.
        command = typer.main.get_command(app)
        with command.make_context("alikit", sys.argv[1:] or ["--help"]) as context:
            return command.invoke(context) or 0
    except typer.Exit as over:  # of --help, and of several processes that this one started
        return over.exit_code
    except BrokenPipeError:  # as in `alikit recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again at its end
        return 1
    except distributed.Lost:
        return distributed.LOST
    except KeyboardInterrupt as stop:
        if isinstance(stop.__context__, distributed.Lost):  # while it ended for another one that is gone
            return distributed.LOST
        status, text = distributed.STOPPED, str(stop) or "alikit: stopped"
    except typer.BadParameter.__base__ as error:  # UsageError, to which typer gives no name
        # It has no context where an option at the end lacks its value.
        where = error.ctx.command_path if error.ctx else f"alikit {context.invoked_subcommand if context else ''}"
        status, text = 2, f"alikit: {error.format_message().rstrip('.')}: see {where.strip()} --help"
    except AlikitError as error:
        status, text = 2, f"alikit: {error}"
    except OSError as error:  # standard output on a full disk, or a name that is too long, say
        what = f"use {error.filename}" if error.filename else "write to standard output"
        status, text = 2, f"alikit: cannot {what} ({error.strerror}): {WAYS.get(error.errno, 'make that possible')}"
    if distributed.speaks():
        typer.echo(one_line(text.replace("alikit resume", shlex.join(["alikit", *OWN, "resume"]))), err=True)
    return status
