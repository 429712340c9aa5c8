"""Studies: several recipes side by side, each trained many times. `alikit study NAME` runs one.

    lines = run_study("mixture", Path("runs/mixture"), number=10, steps=30_000, workers=2)

To add a study, add a row to STUDIES. Its folder holds runs.jsonl, with a line for each finished run, and the run
folders runs/ARM-NNN. The caller and its workers may be killed at any moment: a run is finished when its line is there,
others go on from their checkpoints, and the same call does the rest.
"""

import json
import math
import multiprocessing
import os
import random
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

import torch

import alikit

from . import reading, runs
from .data import Dataset, load
from .errors import AlikitError, Diverged, unwritten
from .evaluation import Coverage, found_modes, measured
from .models import Game
from .recipes import RECIPES
from .runs.settings import upgraded
from .stopping import STOPS, held
from .training import Progress

FORMAT = 1  # of a line
REPORTS, MEASURED_EVERY = 30, 50  # measurements along each run, and the least number of steps between two
GRACE = 40  # seconds without a sign of life, after which a run in a store is free again
CONTEXT = multiprocessing.get_context("spawn")  # forks of a process that runs threads may hang


def at_random(run: int) -> dict:
    """The random settings of one run, the same for every arm (paper section 4.5, which does not state its ranges).

    lr          log-uniform in 1e-5 … 1e-3, a factor of ten either way of the published 1e-4
    beta1       uniform in 0 … 0.9, which holds both readings of the published 0.8
    weight_std  log-uniform in 0.004 … 0.1, a factor of five either way of the published 0.02
    """
    draw = random.Random(run)
    lr, beta1, std = 10 ** draw.uniform(-5, -3), draw.uniform(0, 0.9), 0.02 * 5 ** draw.uniform(-1, 1)
    return {"lr": float(f"{lr:.4g}"), "betas": (round(beta1, 4), 0.999), "weight_std": float(f"{std:.4g}")}


@dataclass(frozen=True)
class Study:
    """What is compared: `arms`, each a recipe's name and what is changed in it. Each arm has `runs` runs of `steps`
    steps; run k has seed first_seed + k in every arm, and the settings draw(k)."""

    summary: str
    arms: dict[str, tuple[str, dict]]
    steps: int = 30_000
    runs: int = 1
    draw: Callable[[int], dict] = lambda run: {}
    first_seed: int = 0


STUDIES = {
    "mixture": Study(
        "ALI against GAN on 25 Gaussians, random settings (paper section 4.5)",
        {"ali": ("mixture-ali-paper", {}), "gan": ("mixture-gan-paper", {})},
        runs=10,
        draw=at_random,
    ),
    "mixture-published": Study(
        "the published single setting, with both readings of its beta1",
        {
            f"{game}-beta1-{beta1}": (f"mixture-{game}-paper", {"betas": (beta1, 0.999)})
            for beta1 in (0.8, 0.2)
            for game in ("ali", "gan")
        },
    ),
    "mixture-solved": Study(
        "the recipe that solves the grid, on fresh seeds", {"ali": ("mixture-ali", {})}, runs=20, first_seed=2000
    ),
    "mixture-running-bn": Study(
        "the recipe that solves the grid as it first was, with batch norm's running statistics",
        {"ali": ("mixture-ali", {"precise_bn": False})},
        runs=21,
        first_seed=1000,
    ),
    "mixture-ablation": Study(
        "the recipe that solves the grid, with one thing changed at a time",
        {
            "recipe": ("mixture-ali", {}),
            "no-r1": ("mixture-ali", {"r1": 0.0}),
            "no-averaging": ("mixture-ali", {"ema": 0.0}),
            "running-bn": ("mixture-ali", {"precise_bn": False}),
            "no-decay": ("mixture-ali", {"decay": False}),
            "beta1-0.5": ("mixture-ali", {"betas": (0.5, 0.999)}),
            "weight-std-0.05": ("mixture-ali", {"weight_std": 0.05}),
            "batch-400": ("mixture-ali", {"batch_size": 400}),
            "noise-encoder": ("mixture-ali-noise", {}),
            "gan": ("mixture-gan", {}),
        },
        steps=10_000,
        runs=3,
    ),
    # The weights are those of tools/after_ali.py, that of the cycle on x less, for x is eight times as wide here. The
    # encoder is deterministic, so the cycle on z is a squared error.
    "mixture-after-ali": Study(
        "the recipe that solves the grid, with one change since the paper at a time, or two that belong together",
        {
            "recipe": ("mixture-ali", {}),
            "r1-r2": ("mixture-ali", {"r2": 0.1}),
            "r1-on-x": ("mixture-ali", {"penalty_on": "x"}),
            "relativistic": ("mixture-ali", {"loss": "relativistic"}),
            "relativistic-r1-r2": ("mixture-ali", {"loss": "relativistic", "r2": 0.1}),
            "hinge": ("mixture-ali", {"loss": "hinge"}),
            "least-squares": ("mixture-ali", {"loss": "least-squares"}),
            "cycle-x": ("mixture-ali", {"cycle_x": 0.6}),
            "cycle-x-judged": ("mixture-ali", {"cycle_x": 1.0, "adversarial_cycle": True}),
            "cycle-z": ("mixture-ali", {"cycle_z": 0.15}),
            "cycle-both": ("mixture-ali", {"cycle_x": 0.6, "cycle_z": 0.15}),
            "unary": ("mixture-ali", {"unary": True}),
            "no-averaging": ("mixture-ali", {"ema": 0.0}),
            "quicker": ("mixture-ali", {"lr": 2e-3, "batch_size": 300}),
        },
        steps=5_000,
        runs=10,
        first_seed=3000,
    ),
}


def settings_of(study: Study, arm: str, run: int, steps: int) -> dict:
    """What identifies a run, as JSON gives it back: the first part of its line."""
    name, changes = study.arms[arm]
    trained = replace(RECIPES[name], **changes, **study.draw(run)).config()
    who = {"arm": arm, "run": run, "recipe": name, "seed": study.first_seed + run, "steps": steps}
    return json.loads(json.dumps(who | trained))


def wanted_of(study: Study, number: int, steps: int) -> dict[str, dict]:
    """The settings of `number` runs of each arm, by key: the name of the run's folder."""
    return {f"{arm}-{run:03d}": settings_of(study, arm, run, steps) for run in range(number) for arm in study.arms}


def parsed(text: bytes, study: Study, steps: int, place: str) -> tuple[str, dict]:
    """Key and line of a finished run, from its text. AlikitError unless it is a run of this study as it is now."""
    with reading.boundary(place, "it is no run of this study as it is now, so remove it or use another folder"):
        line = reading.parsed(text, nan=True)  # in its history, of a run that diverged
        reading.check_format(place, line.get("format", FORMAT), FORMAT, line.get("alikit"), "use another folder")
        arm, run, found = line["arm"], line["run"], line["steps"]
        finite = all(math.isfinite(line[measure.name]) for measure in fields(Coverage))
        # By today's names, with what a line of an earlier version lacks.
        same = settings_of(study, arm, run, found).items() <= upgraded(line).items()
        if not same or not finite or line["diverged"] not in (0, 1):
            raise ValueError
        if found != steps:
            raise AlikitError(f"{place}: a run of {found} steps: ask for as many, or use another folder")
        return f"{arm}-{run:03d}", line


def read_lines(file: Path, study: Study, steps: int) -> dict[str, dict]:
    """The lines of a file by key, {} where there is none. AlikitError unless all are of this study and length."""
    finished: dict[str, dict] = {}
    with reading.boundary(file, "use another folder"):
        for number, text in enumerate(reading.lines(file) if file.exists() else (), 1):
            finished.setdefault(*parsed(text, study, steps, f"{file}, line {number}"))
    return finished


def write_lines(file: Path, finished: dict[str, dict]) -> None:
    """Writes the lines in order of run and arm, unless the file holds just that."""
    ordered = sorted(finished.values(), key=lambda line: (line["run"], line["arm"]))
    text = "".join(json.dumps(line) + "\n" for line in ordered)
    if text and (not file.exists() or file.read_text() != text):
        file.parent.mkdir(parents=True, exist_ok=True)
        runs.write_whole(file, lambda place: place.write_text(text))


def begin_folder(folder: Path, settings: dict, data: Dataset) -> dict:
    """Writes the settings of a run folder and returns them. Removes log and checkpoint of a run with others."""
    kept = {name: value for name, value in settings.items() if name not in ("arm", "run")}
    kept |= {"data": RECIPES[settings["recipe"]].data, "size": None, "skip_corrupt": False, "decoder": None}
    kept |= {"versions": {"alikit": alikit.__version__, "torch": torch.__version__}, "x_shape": list(data.shape)}
    if not ((folder / "checkpoint.pt").exists() and runs.read_settings(folder).items() >= kept.items()):
        for stale in ("checkpoint.pt", "metrics.jsonl"):  # first, or a kill would leave them with the new settings
            (folder / stale).unlink(missing_ok=True)
    runs.write_settings(folder, {"format": runs.FORMAT, **kept})
    return kept


def line_of(settings: dict, diverged: bool, history: list[dict], model: Game, parts: tuple[Dataset, Dataset]) -> dict:
    """The line of a finished run: its settings, how it went, and what is measured of its model."""
    went = {"diverged": diverged, "seconds": history[-1]["seconds"], **measured(model, *parts), "history": history}
    return {"format": FORMAT, "alikit": alikit.__version__, **settings, **went}


def one_run(settings: dict, folder: Path) -> dict:
    """Trains a run with the settings of `settings_of`, from the checkpoint in its folder if there is one; returns its
    line. AlikitError where another process is at work in the folder."""
    with runs.alone(folder):
        runs.tidy(folder)
        parts = load(RECIPES[settings["recipe"]].data)
        trainer = runs.trainer(begin_folder(folder, settings, parts[0]), parts[0])
        history: list[dict] = []
        if (folder / "checkpoint.pt").exists():
            runs.go_on(folder, trainer, runs.checkpoint(folder))
            history = list({x["step"]: x for x in runs.metrics(folder) if x["step"] <= trainer.step}.values())
        before, begin = (history[-1]["seconds"] if history else 0.0), time.perf_counter()

        def measure(progress: Progress | None = None) -> None:
            seconds = round(before + time.perf_counter() - begin, 1)
            history.append({"step": trainer.step, "seconds": seconds, **found_modes(trainer.result)})
            if progress:
                runs.log(folder, history[-1])  # first, so that no checkpoint is ahead of the log
                runs.save(folder, trainer)

        diverged = False
        try:
            trainer.run(settings["steps"], max(MEASURED_EVERY, settings["steps"] // REPORTS), measure)
        except Diverged:
            diverged = True
            measure()
        return line_of(settings, diverged, history, trainer.result, parts)


def run_study(
    name: str,
    out: Path,
    number: int,
    steps: int,
    workers: int = 1,
    threads: int = 1,
    store: str | None = None,
    watch: Callable[[int, int], None] = lambda steps, finished: None,
) -> list[dict]:
    """Brings study `name` to `number` runs of each arm, in folder `out`; returns their lines.

    workers, threads  processes that train one run at a time each, and threads in each
    store             database URL by which several machines share the study; one machine needs none
    watch             called about every second with the steps done here and the runs finished, of those wanted

    Raises AlikitError where folder or store cannot be used, hold other runs than this study's, or a worker fails.
    """
    study, file, wanted = STUDIES[name], out / "runs.jsonl", wanted_of(STUDIES[name], number, steps)
    try:
        with nullcontext() if store else runs.alone(out), ExitStack() as stack:
            finished = read_lines(file, study, steps)
            shared = stack.enter_context(closing(Store(store, name, steps))) if store else None
            pool, running = ProcessPoolExecutor(workers, CONTEXT, _begin_worker, (threads,)), {}
            stack.callback(_end_workers, pool)
            while True:
                with held():  # signals wait, for some libraries lose the KeyboardInterrupt of one
                    ended = [key for key, run in running.items() if run.done()]
                    finished = {key: running.pop(key).result() for key in ended} | finished
                    if shared:
                        finished |= shared.exchange(finished)
                    write_lines(file, finished)
                    missing = [key for key in wanted if key not in finished]
                    for key in ended if missing else wanted:  # only now that their lines are kept
                        (out / "runs" / key / "checkpoint.pt").unlink(missing_ok=True)
                    free = (key for key in missing if key not in running and (not shared or shared.claim(key)))
                    # Inherited by workers as they start: Ctrl-C is not to end them amid their imports.
                    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)
                    for key in islice(free, workers - len(running)):
                        running[key] = pool.submit(one_run, wanted[key], out / "runs" / key)
                    signal.signal(signal.SIGINT, heeded)
                    if missing:  # for a second at most, also where other machines are at all of them
                        wait([*running.values(), Future()], 1, FIRST_COMPLETED)
                done = sum(line["step"] for key in missing for line in runs.metrics(out / "runs" / key)[-1:])
                watch(done + steps * (len(wanted) - len(missing)), len(wanted) - len(missing))
                if not missing:
                    return [finished[key] for key in wanted]
    except BrokenProcessPool:
        raise AlikitError("a worker was killed: finished runs are kept, and the same command goes on") from None
    except OSError as error:
        raise unwritten(error, error.filename or out, "and the same command goes on") from None


def _begin_worker(threads: int) -> None:
    """Prepares a worker: signals are for the process that started it, and it ends when that one ends."""
    for number in set(STOPS) - {signal.SIGTERM}:  # by which the pool ends it when another worker was killed
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=lambda: multiprocessing.parent_process().join() or os._exit(1), daemon=True).start()
    torch.set_num_threads(threads)


def _end_workers(pool: ProcessPoolExecutor) -> None:
    for process in [*(pool._processes or {}).values()]:  # Python 3.14 has kill_workers
        process.kill()
    pool.shutdown()


class Store:
    """A study in a database that several machines share: a table with a row for each run that is begun or finished.

    The row of a run that is not finished says which call is at it, and when that was last alive. GRACE seconds later,
    by the clocks of the machines, the run is free.
    """

    ROW = "study = :study AND run = :run AND line IS NULL"
    ALIVE = f"alive BETWEEN :now - {GRACE} AND :now + {GRACE}"

    def __init__(self, url: str, name: str, steps: int):
        """Makes the table unless there is one. AlikitError where the database cannot be used."""
        try:
            import sqlalchemy
        except ModuleNotFoundError as error:
            raise AlikitError(f"a store needs {error.name}: pip install {error.name}") from None
        self._sql, self._url, self._engine = sqlalchemy, url, None
        shown = re.sub("(?<=://)([^:/@]*:).*(?=@)|(?<=password)(=)[^&]*", r"\1\2***", url)
        self._of = STUDIES[name], steps, f"the study store {shown}"
        self._known = {"study": f"{name}, {steps} steps", "owner": uuid.uuid4().hex}
        columns = "study VARCHAR(100), run VARCHAR(100), line TEXT, owner VARCHAR(32), alive DOUBLE PRECISION"
        self._execute(f"CREATE TABLE IF NOT EXISTS alikit_runs ({columns}, PRIMARY KEY (study, run))")

    def _execute(self, statement: str, **values) -> list | int:
        """The rows that are selected, or how many were changed; 0 where a row that is to be made exists already."""
        try:
            self._engine = self._engine or self._sql.create_engine(self._url)
            with self._engine.begin() as connection:
                result = connection.execute(self._sql.text(statement), {**self._known, "now": time.time(), **values})
                return result.all() if result.returns_rows else result.rowcount
        except self._sql.exc.IntegrityError:
            return 0
        except (self._sql.exc.SQLAlchemyError, ImportError, ValueError, TypeError) as error:  # two of the URL's parts
            way = "mend it or name another, and finished runs are read back from runs.jsonl"
            raise AlikitError(f"cannot use {self._of[2]} ({str(error).splitlines()[0]}): {way}") from None

    def exchange(self, finished: dict[str, dict]) -> dict[str, dict]:
        """Stores finished runs, and that this call is alive; returns the lines of all finished runs by key. Of a run
        that two calls finished, the first line counts."""
        self._execute("UPDATE alikit_runs SET alive = :now WHERE study = :study AND owner = :owner")
        lines = "SELECT run, line FROM alikit_runs WHERE study = :study AND line IS NOT NULL"
        for key in finished.keys() - dict(self._execute(lines)).keys():
            self.claim(key)  # which makes its row unless there is one
            line = json.dumps(finished[key])
            self._execute(f"UPDATE alikit_runs SET line = :line WHERE {self.ROW}", run=key, line=line)
        return dict(parsed(str(text).encode(errors="replace"), *self._of) for _, text in self._execute(lines))

    def claim(self, key: str) -> bool:
        """Whether nobody else is at this run; then this call is from now on."""
        again = f"UPDATE alikit_runs SET owner = :owner, alive = :now WHERE {self.ROW} AND NOT {self.ALIVE}"
        first = "INSERT INTO alikit_runs (study, run, owner, alive) VALUES (:study, :run, :owner, :now)"
        return bool(self._execute(again, run=key) or self._execute(first, run=key))

    def close(self) -> None:
        """Gives back the runs that this call is at."""
        with suppress(AlikitError):
            self._execute("UPDATE alikit_runs SET alive = 0 WHERE study = :study AND owner = :owner")
