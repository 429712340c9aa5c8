"""Studies: several recipes side by side, each trained many times. `alikit study NAME` runs one.

    lines = run_study("mixture", Path("runs/mixture"), number=10, steps=30_000, workers=2)

To add a study, add a row to STUDIES. The folder of a study holds

    runs.jsonl     the record: one line for each finished run
    runs/ARM-NNN/  the run folder of each run, with a checkpoint from which a run that was killed goes on

The process that is called keeps the record. It gives one run at a time to each of its workers, which end when it ends.
Any of them may be killed at any moment. A run is finished when its line is in the record. The same call does the rest.
"""

import json
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

import alikit

from . import formats, reading, runs
from .data import Dataset, load
from .errors import AlikitError, Diverged, unwritten
from .evaluation import Coverage, found_modes, measured
from .models import Game
from .recipes import RECIPES
from .runs.settings import upgraded
from .stopping import STOPS, held
from .training import Progress

FORMAT = 1  # of a line
REPORTS, MEASURED_EVERY = 30, 100  # measurements along each run, and the least number of steps between two
GRACE = 40  # seconds without a sign of life, after which a run in a store is free again


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
    """What is compared: `arms`, each a recipe's name and what is changed in it. Run k has seed first_seed + k in every
    arm, and the settings that `draw` gives it. `steps` is the length of a run, `runs` the number of them in each arm.
    """

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
}


def key_of(arm: str, run: int) -> str:
    """The name of a run in its study, and of its run folder."""
    return f"{arm}-{run:03d}"


def settings_of(study: Study, arm: str, run: int, steps: int) -> dict:
    """What tells a run from every other: the first part of its line, as JSON gives it back."""
    name, changes = study.arms[arm]
    trained = replace(RECIPES[name], **changes, **study.draw(run)).config()
    who = {"arm": arm, "run": run, "recipe": name, "seed": study.first_seed + run, "steps": steps}
    return json.loads(json.dumps(who | trained))


def wanted_of(study: Study, number: int, steps: int) -> dict[str, dict]:
    """The settings of `number` runs of each arm, by key."""
    return {key_of(arm, run): settings_of(study, arm, run, steps) for run in range(number) for arm in study.arms}


def matches(line: dict, settings: dict) -> bool:
    """Whether a line is of a run with these settings, by whatever names and in whatever order it has them."""
    return settings.items() <= upgraded(line).items()


def parsed(text: bytes, study: Study, steps: int, place: str) -> tuple[str, dict]:
    """Key and line of a finished run, from its text. AlikitError unless it is a run of this study as it is now."""
    try:
        line = reading.parsed(text, nan=True)  # in its history, of a run that diverged
        formats.check(place, line.get("format", FORMAT), FORMAT, line.get("alikit"), "use another folder")
        arm, run, found = line["arm"], line["run"], line["steps"]
        settings, key = settings_of(study, arm, run, found), key_of(arm, run)
        measures = [line[field.name] for field in fields(Coverage)]
        fits = "seed" in line and line["diverged"] in (0, 1) and all(map(math.isfinite, measures))
    except AlikitError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        fits = False
    if not fits or not matches(line, settings):
        what = "no run of this study as it is now (cut off, of another study, or of another version of alikit)"
        raise AlikitError(f"{place}: {what}: remove it there, or use another folder")
    if found != steps:
        raise AlikitError(f"{place}: a run of {found} steps: ask for as many, or use another folder")
    return key, line


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
        runs.write_whole(file, lambda place: place.write_text(text))


def begin_folder(folder: Path, settings: dict, data: Dataset) -> dict:
    """Writes the settings of a run folder and returns them. What a run with other settings left there is removed."""
    kept = {name: value for name, value in settings.items() if name not in ("arm", "run")}
    kept |= {"data": RECIPES[settings["recipe"]].data, "size": None, "skip_corrupt": False, "decoder": None}
    kept |= {"versions": {"alikit": alikit.__version__, "torch": torch.__version__}, "x_shape": list(data.shape)}
    if not ((folder / "checkpoint.pt").exists() and runs.settings(folder).items() >= kept.items()):
        for stale in ("checkpoint.pt", "metrics.jsonl"):  # first, or a kill would leave them with the new settings
            (folder / stale).unlink(missing_ok=True)
    runs.write_settings(folder, {"format": runs.FORMAT, **kept})
    return kept


def line_of(settings: dict, diverged: bool, history: list[dict], model: Game, parts: tuple[Dataset, Dataset]) -> dict:
    """The line of a finished run: what it was made with, how it went, and what is measured of its model."""
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

    workers, threads  how many runs are trained at once, each by a process of its own, and threads in each
    store             database URL by which several machines share the study; one machine needs none
    watch             told the steps done here and the runs finished, of those wanted, about every second

    Raises AlikitError where folder or store cannot be used, hold other runs than this study's, or a worker fails.
    """
    study, file, wanted = STUDIES[name], out / "runs.jsonl", wanted_of(STUDIES[name], number, steps)
    try:
        with nullcontext() if store else runs.alone(out), ExitStack() as stack:
            finished = read_lines(file, study, steps)
            shared = stack.enter_context(closing(Store(store, name, steps))) if store else None
            out.mkdir(parents=True, exist_ok=True)
            crew: dict[str, tuple[multiprocessing.Process, Connection]] = {}
            stack.callback(_stop, crew)
            while True:
                with held():  # signals wait, for some libraries lose the KeyboardInterrupt of one
                    ended = [key for key, (_, connection) in crew.items() if connection.poll()]
                    for key in ended:
                        process, connection = crew.pop(key)
                        if isinstance(found := connection.recv(), Exception):
                            raise found
                        finished.setdefault(key, found)
                        process.join()
                    if shared:
                        finished = shared.exchange(finished) | finished
                    write_lines(file, finished)
                    missing = [key for key in wanted if key not in finished]
                    for key in ended if missing else wanted:  # only now that their lines are kept
                        (out / "runs" / key / "checkpoint.pt").unlink(missing_ok=True)
                    free = (key for key in missing if key not in crew and (not shared or shared.claim(key)))
                    begin = [*islice(free, workers - len(crew))]
                context = _context() if begin else None
                with held():
                    for key in begin:
                        crew[key] = _started(context, threads, wanted[key], out / "runs" / key)
                done = sum(line["step"] for key in missing for line in runs.metrics(out / "runs" / key)[-1:])
                watch(done + steps * (len(wanted) - len(missing)), len(wanted) - len(missing))
                if not missing:
                    return [finished[key] for key in wanted]
                time.sleep(1)
    except (EOFError, ConnectionError):
        raise AlikitError("a worker was killed: finished runs are kept, and the same command goes on") from None
    except OSError as error:
        raise unwritten(error, error.filename or out, "and the same command goes on") from None


@cache
def _context() -> BaseContext:
    """How worker processes are made. They are no forks of this one, for a process that runs threads may hang when it is
    forked. On Linux they are forks of one that has only imported what they need."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # the latter comes with the first optimiser
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C would end it amid its imports
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)
    context.Process(target=int).start()  # returns when the imports are done, some seconds later
    return context


def _started(context: BaseContext, *arguments) -> tuple[multiprocessing.Process, Connection]:
    """A process that does `_work`, and our end of the connection on which it sends the line."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(connection: Connection, threads: int, settings: dict, folder: Path) -> None:
    """What that process does. It ends when the other end of the connection does, with whatever process holds it."""
    for number in STOPS:  # they are for the process that started this one
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=lambda: connection.poll(None) and os._exit(1), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        found = one_run(settings, folder)
    except (AlikitError, OSError) as error:
        found = error
    connection.send(found)


def _stop(crew: dict) -> None:
    for process, _ in crew.values():
        process.kill()
        process.join()


class Store:
    """A study in a database that several machines share: a table with a row for each run that is begun or finished.

    A run has one row, so its line is written once, whoever else was at it. Until then the row says which call is at the
    run, and when that was alive. After GRACE seconds without a sign, by the clocks of the machines, the run is free.
    """

    ROW = "study = :study AND run = :run AND line IS NULL"
    ALIVE = f"alive BETWEEN :now - {GRACE} AND :now + {GRACE}"

    def __init__(self, url: str, name: str, steps: int):
        """Makes the table unless there is one. AlikitError where the database cannot be used."""
        try:
            import sqlalchemy
        except ModuleNotFoundError as error:
            raise AlikitError(f"a store needs {error.name}: pip install 'alikit[store]'") from None
        self._sql, self._url, self._engine = sqlalchemy, url, None
        self._of = STUDIES[name], steps, "the study store " + re.sub("(://[^:/@]*:).*@", r"\1***@", url)  # no password
        self._known = {"study": f"{name}, {steps} steps", "owner": uuid.uuid4().hex}
        self._lines: dict[str, dict] = {}
        if url.startswith("sqlite"):  # a stranger's file may hold views and triggers, which would run in every query
            kinds = " AND ".join(f"sql NOT LIKE 'CREATE {kind} %'" for kind in ("TABLE", "INDEX", "UNIQUE INDEX"))
            if self._execute(f"SELECT 1 FROM sqlite_master WHERE {kinds}"):
                raise AlikitError(f"{self._of[2]} holds more than tables: name another")
        columns = "study VARCHAR(100), run VARCHAR(100), line TEXT, owner VARCHAR(32), alive DOUBLE PRECISION"
        self._execute(f"CREATE TABLE IF NOT EXISTS alikit_runs ({columns}, PRIMARY KEY (study, run))")

    def _execute(self, statement: str, **values) -> list | int:
        """The rows that are asked for, or how many were changed; 0 where the row to be made was there already."""
        try:
            self._engine = self._engine or self._sql.create_engine(self._url)
            with self._engine.begin() as connection:
                result = connection.execute(self._sql.text(statement), {**self._known, "now": time.time(), **values})
                return result.all() if result.returns_rows else result.rowcount
        except self._sql.exc.IntegrityError:
            return 0
        except (self._sql.exc.SQLAlchemyError, ImportError) as error:
            way = "mend it or name another, and finished runs are read back from runs.jsonl"
            raise AlikitError(f"cannot use {self._of[2]} ({str(error).splitlines()[0]}): {way}") from None

    def exchange(self, finished: dict[str, dict]) -> dict[str, dict]:
        """Tells of finished runs and that this call is alive; returns the lines of all finished runs by key."""
        for key in finished.keys() - self._lines.keys():
            line = {"run": key, "line": json.dumps(finished[key])}
            if not self._execute("INSERT INTO alikit_runs VALUES (:study, :run, :line, :owner, 0)", **line):
                self._execute(f"UPDATE alikit_runs SET line = :line WHERE {self.ROW}", **line)
        self._execute("UPDATE alikit_runs SET alive = :now WHERE study = :study AND owner = :owner")
        for key, text in self._execute("SELECT run, line FROM alikit_runs WHERE study = :study AND line IS NOT NULL"):
            if key not in self._lines:
                self._lines.setdefault(*parsed(str(text).encode(errors="replace"), *self._of))
        return self._lines

    def claim(self, key: str) -> bool:
        """Whether nobody else is at this run; then this call is from now on."""
        again = f"UPDATE alikit_runs SET owner = :owner, alive = :now WHERE {self.ROW} AND NOT {self.ALIVE}"
        first = "INSERT INTO alikit_runs VALUES (:study, :run, NULL, :owner, :now)"
        return bool(self._execute(again, run=key) or self._execute(first, run=key))

    def close(self) -> None:
        """Gives back the runs that this call is at."""
        with suppress(AlikitError):
            self._execute("UPDATE alikit_runs SET alive = 0 WHERE study = :study AND owner = :owner")
