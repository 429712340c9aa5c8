"""The command line: `alikit` or `python -m alikit`.

alikit recipes
alikit train digits --steps 2000 --seed 0 --out runs/digits
alikit resume runs/digits --steps 4000
alikit sample runs/digits        alikit reconstruct runs/digits        alikit evaluate runs/digits
alikit study mixture --runs 2 --steps 500 --out runs/study
alikit bench step mixture-ali-paper
"""

import dataclasses
import difflib
import functools
import importlib.util
import json
import logging
import shlex
import statistics
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

import alikit

from . import runs
from .data import SOURCES, Dataset, load
from .errors import AlikitError
from .evaluation import Coverage, measured
from .figures import beside, grid, plane_image
from .models import Game
from .recipes import RECIPES, Recipe
from .studies import STUDIES
from .training import Progress, Trainer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
bench = typer.Typer(help="Measure how fast alikit is on this machine.")
app.add_typer(bench, name="bench")

RunFolder = Annotated[Path, typer.Argument(help="A run folder made by alikit train.")]
Size = Annotated[int | None, typer.Option(help="Resize and centre-crop a folder's pictures to N x N.", metavar="N")]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="Leave unreadable files out of a folder.")]
PICTURES = 60  # in a grid
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
        typer.echo(f"{name:<{width}}{recipe.summary} [--data {recipe.data or 'folder:PATH'}, {recipe.steps} steps]")
    typer.echo()
    for name, study in STUDIES.items():
        typer.echo(f"{name:<{width}}{study.summary} [alikit study, {study.runs} x {study.steps} steps]")
    typer.echo(f"\ndata: {', '.join(SOURCES)}, or folder:PATH for class folders of your own pictures")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    data: Annotated[str | None, typer.Option(help=f"{', '.join(SOURCES)} or folder:PATH.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train; the recipe's own by default.", min=1)] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of weights, noise and the order of examples.", min=0, max=2**32 - 1)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder to make; runs/RECIPE-seedN by default.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples a step; the recipe's own by default.", min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's learning rate.", min=1e-9, max=1)] = None,
    beta1: Annotated[float | None, typer.Option(help="Adam's beta1.", min=0, max=0.9999)] = None,
    weight_std: Annotated[float | None, typer.Option(help="Spread of the first weights.", min=1e-9, max=10)] = None,
    decoder: Annotated[Path | None, typer.Option(help="Run whose decoder is frozen: post-hoc and inverse.")] = None,
    size: Size = None,
    skip_corrupt: SkipCorrupt = False,
) -> None:
    """Train a recipe into a new run folder."""
    row = _recipe(recipe)
    betas = None if beta1 is None else (beta1, row.betas[1])
    changes = {"batch_size": batch, "lr": lr, "betas": betas, "weight_std": weight_std}
    out = out or Path("runs") / f"{recipe}-seed{seed}"
    runs.check_new(out)
    if (data or row.data) is None:
        raise AlikitError(f"{recipe} has no data of its own: name a folder of pictures with --data folder:PATH")
    if row.needs_decoder and decoder is None:
        raise AlikitError(f"{recipe} starts from a finished GAN: name its run folder with --decoder RUN")
    if decoder and not row.needs_decoder:
        raise AlikitError(f"{recipe} trains its own decoder: leave --decoder out")
    settings = {
        "recipe": recipe,
        "data": data or row.data,
        "size": size,
        "skip_corrupt": skip_corrupt,
        "seed": seed,
        **runs.trained_with(row),
        **{name: value for name, value in changes.items() if value is not None},
        "steps": steps or row.steps,
        "decoder": str(decoder) if decoder else None,
        "command": _command(),
        "versions": {"alikit": alikit.__version__, "torch": torch.__version__},
    }
    parts = load(settings["data"], size, skip_corrupt)
    trainer = runs.trainer(settings, parts[0])
    runs.create(out, {**settings, "x_shape": parts[0].shape})
    _run(trainer, parts, out, settings["steps"])


@app.command()
def resume(
    run: RunFolder,
    steps: Annotated[int | None, typer.Option(help="Steps in all; those the run was given by default.", min=1)] = None,
) -> None:
    """Go on with a run that was stopped, as if it had not been; or, with more --steps, beyond its end."""
    settings = runs.settings(run)
    state = runs.checkpoint(run)
    parts = load(settings["data"], settings["size"], settings["skip_corrupt"])
    trainer = runs.trainer(settings, parts[0])
    trainer.resume(state)
    steps = steps or settings["steps"]
    more = steps > settings["steps"]
    if trainer.step >= steps:
        raise AlikitError(f"{run} has its {trainer.step} steps: name a larger number with --steps to go on")
    if more:
        commands = [settings["command"]] if "command" in settings else []  # none in the run of a study
        runs.write_settings(run, {**settings, "steps": steps, "command": "; ".join([*commands, _command()])})
    _run(trainer, parts, run, steps)


@app.command()
def sample(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("samples.png"),
    number: Annotated[int, typer.Option("-n", help="How many.", min=1)] = PICTURES,
    seed: Annotated[int, typer.Option(help="Seed of the codes z.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Draw samples from a trained model into a picture."""
    model = runs.load_model(run)
    torch.manual_seed(seed)
    runs.save_picture(_picture(model.sample(number)), out)
    typer.echo(f"{number} samples in {out}")


@app.command(name="reconstruct")
def reconstruct_(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("reconstructions.png"),
    number: Annotated[int, typer.Option("-n", help="How many.", min=1)] = PICTURES // 2,
    seed: Annotated[int, typer.Option(help="Seed of the draws from q(z|x).", min=0, max=2**32 - 1)] = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Decode the encoder's mean instead of a draw.")] = False,
) -> None:
    """Reconstruct held-out data: originals in odd, reconstructions in even columns."""
    settings, model = runs.settings(run), runs.load_model(run)
    _, held_out = load(settings["data"], settings["size"], settings["skip_corrupt"])
    torch.manual_seed(seed)
    x = held_out.floats(slice(number))
    runs.save_picture(_picture(beside(x, model.reconstruct(x, sample=not mean))), out)
    typer.echo(f"{len(x)} originals and their reconstructions in {out}")


@app.command()
def evaluate(run: RunFolder) -> None:
    """Measure a trained model on held-out data; prints one JSON line.

    Of 10,000 points drawn: modes (the paper's measure), strict_modes (with at least 20 samples within 3 standard
    deviations), within_3std (share of samples, 0..1), kl_uniform (nats; 0 if the modes weigh the same).

    With an encoder: the mean squared error of one value after reconstruction from a drawn code (reconstruction_drawn),
    from the encoder's mean (_mean), and of the mean example in its place (_baseline).

    With an encoder of points: the share of held-out points given back in their own mode from a drawn code
    (identity_drawn), from the mean (_mean), within 3 standard deviations (_strict); prior_distance, the energy
    distance of the codes from the prior, and prior_floor, that of the prior from itself; purity, the share of a code's
    10 nearest that come from its mode.
    """
    settings, model = runs.settings(run), runs.load_model(run)
    _say(measured(model, *load(settings["data"], settings["size"], settings["skip_corrupt"])))


@app.command(name="study")
def study_(
    name: Annotated[str, typer.Argument(help="A name from `alikit recipes`, where studies are listed too.")],
    number: Annotated[
        int | None, typer.Option("--runs", help="Runs of each arm; the study's own by default.", min=1)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps a run; the study's own by default.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/study-NAME by default.")] = None,
    workers: Annotated[int, typer.Option(help="Processes to start.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each.", min=1)] = 1,
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
            from .workers import run_study

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
        with bar:
            lines = run(name, out, number, steps, watch=watch)
    except KeyboardInterrupt:
        typer.echo("stopped; finished runs are kept, and the same command goes on", err=True)
        raise typer.Exit(130) from None
    for arm in row.arms:
        found = [line for line in lines if line["arm"] == arm]
        mean = {measure: round(statistics.mean(line[measure] for line in found), 3) for measure in COVERAGE}
        _say({"arm": arm, "runs": len(found), "diverged": sum(line["diverged"] for line in found), **mean})
    typer.echo(f"every run in {out / 'runs.jsonl'}")


@bench.command()
def step(
    recipe: Annotated[str, typer.Argument(help="A name from `alikit recipes`.")],
    batch: Annotated[int | None, typer.Option(help="Examples a step; the recipe's own by default.", min=2)] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; PyTorch's own choice by default.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=0.1, max=3600)] = 20.0,
) -> None:
    """Our training step beside the textbook's, alternating in float32; prints one JSON line.

    ours, textbook, textbook_with_loader: steps a second. ratio, ratio_with_loader: ours over the textbook's, so above
    1 ours is quicker. gflop_a_step: counted; gflops: of ours, a second; matmul_gflops: of a large matrix product;
    share_of_matmul: of that rate, ours. Each is a median with its quartiles. See benchmarks/step.py.
    """
    row = _recipe(recipe)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise AlikitError(f"no device called {device!r}: choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise AlikitError("PyTorch finds no CUDA device here: say --device cpu")
    file = Path(alikit.__file__).parents[1] / "benchmarks" / "step.py"
    if not file.is_file():
        raise AlikitError("the benchmarks do not come with the installed package: run this in a checkout of alikit")
    spec = importlib.util.spec_from_file_location("step", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if threads:
        torch.set_num_threads(threads)
    _say(module.compare(recipe, batch or row.batch_size, seconds, device))


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise AlikitError(f"no recipe called {name!r}: {f'did you mean {near[0]}?' if near else 'see alikit recipes'}")
    return RECIPES[name]


def _command() -> str:
    return shlex.join(["alikit", *sys.argv[1:]])


def _run(trainer: Trainer, parts: tuple[Dataset, Dataset], out: Path, steps: int) -> None:
    """Trains with a progress bar, logging and drawing as it goes; Ctrl-C saves."""
    every = max(1, min(100, steps // 10))
    bar = tqdm(total=steps, initial=trainer.step, unit=" steps", mininterval=0.5)

    def watch(progress: Progress) -> None:
        runs.log(
            out, {"step": progress.step, "images_per_second": round(progress.images_per_second), **progress.losses}
        )
        bar.update(progress.step - bar.n)
        losses = {player: f"{loss:.3f}" for player, loss in progress.losses.items()}
        bar.set_postfix({**losses, "images/s": round(progress.images_per_second)})
        if progress.step % (10 * every) == 0 or progress.step == steps:
            runs.save(out, trainer)  # first, for drawing sets the random state
            _draw(trainer.result, parts[1], out, progress.step)

    try:
        with bar:
            trainer.run(steps, every, watch)
    except KeyboardInterrupt:
        runs.save(out, trainer)
        again = shlex.join(["alikit", "resume", str(out), "--steps", str(steps)])
        typer.echo(f"stopped at step {trainer.step} of {steps}, saved; go on with: {again}", err=True)
        raise typer.Exit(130) from None
    found = measured(trainer.result, *parts)
    runs.log(out, {"step": steps, **found})
    _say(found)
    typer.echo(f"weights, log and pictures in {out}")


def _say(found: dict[str, float]) -> None:
    typer.echo(json.dumps(found) if found else "nothing to measure: a GAN of pictures has no encoder")


def _draw(model: Game, held_out: Dataset, out: Path, step: int) -> None:
    """Samples from the same codes every time, and reconstructions of the same held-out examples."""
    torch.manual_seed(0)
    number = PICTURES if len(held_out.shape) == 3 else 2000
    runs.save_picture(_picture(model.sample(number)), out / f"samples-{step:07d}.png")
    if model.encoder is not None:
        x = held_out.floats(slice(number // 2)).to(model.device)
        runs.save_picture(_picture(beside(x, model.reconstruct(x))), out / f"reconstructions-{step:07d}.png")


def _picture(x: torch.Tensor):
    return grid(x, zoom=max(1, 64 // x.shape[-1])) if x.ndim == 4 else plane_image(x)


def main() -> None:
    """Entry point: a mistake that a person can mend becomes one line and exit status 2."""
    logging.basicConfig(format="%(message)s")
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], prog_name="alikit", standalone_mode=False))
    except UsageError as error:
        typer.echo(f"alikit: {error.format_message().rstrip('.')}: see {error.ctx.command_path} --help", err=True)
    except (AlikitError, OSError) as error:  # OSError: a full disk, say
        typer.echo(f"alikit: {error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
