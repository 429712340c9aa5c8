"""How a study is run: by workers that may be killed and started again, on one machine or several.

    lines = run_study("mixture", Path("runs/mixture"), number=10, steps=30_000, workers=2)

Optuna keeps the books, in a database that several processes, or machines, can share. A study's folder holds

    runs.jsonl     every finished run, a line each; written anew as they come, and read back at the next start
    study.db       the books (SQLite), where no other store is named
    runs/ARM-NNN/  the run folder of each run, with a checkpoint that a killed worker's successor goes on from
"""

import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from . import runs
from .data import load
from .errors import AlikitError, Diverged
from .evaluation import found_modes, measured
from .recipes import RECIPES
from .studies import STUDIES, Study
from .training import Progress

FORMAT = 1
REPORTS, MEASURED_EVERY = 30, 100  # measurements along each run, and the least number of steps between two
HEARTBEAT, GRACE = 10, 40  # seconds between a worker's signs of life, and until one without is given up
FAILED = (TrialState.FAIL, TrialState.PRUNED)
optuna.logging.set_verbosity(optuna.logging.CRITICAL)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def one_run(study: Study, arm: str, run: int, steps: int, folder: Path, watch: Callable[[dict], None]) -> dict:
    """Trains run number `run` of an arm for `steps` steps in `folder`; returns its line for runs.jsonl.

    A folder with a checkpoint of the same run is gone on from. `watch` is told of each measurement along the way.
    """
    name, changes = study.arms[arm]
    recipe = replace(RECIPES[name], **changes, **study.draw(run))
    data, held_out = load(recipe.data)
    settings = {
        "recipe": name,
        "data": recipe.data,
        "size": None,
        "skip_corrupt": False,
        "seed": study.first_seed + run,
        **json.loads(json.dumps(runs.trained_with(recipe))),
        "steps": steps,
        "decoder": None,
        "versions": {"torch": torch.__version__},
        "x_shape": list(data.shape),
    }
    trainer = runs.trainer(settings, data)
    history: list[dict] = []
    if (folder / "checkpoint.pt").exists() and runs.settings(folder).items() >= settings.items():
        trainer.resume(runs.checkpoint(folder))
        history = list({line["step"]: line for line in runs.metrics(folder) if line["step"] <= trainer.step}.values())
    runs.write_settings(folder, {"format": runs.FORMAT, **settings})
    before, begin = (history[-1]["seconds"] if history else 0.0), time.perf_counter()

    def measure(progress: Progress | None = None) -> None:
        seconds = round(before + time.perf_counter() - begin, 1)
        line = {"step": trainer.step, "seconds": seconds, **found_modes(trainer.result)}
        history.append(line)
        if progress:
            runs.log(folder, line)  # first, so that no checkpoint is ahead of the log
            runs.save(folder, trainer.state())
        watch(line)

    diverged = False
    try:
        trainer.run(steps, max(MEASURED_EVERY, steps // REPORTS), measure)
    except Diverged:
        diverged = True
        measure()
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return {
        "arm": arm,
        "run": run,
        **{name: settings[name] for name in ("recipe", "seed", "steps", *runs.TRAINED_WITH)},
        "diverged": diverged,
        "seconds": history[-1]["seconds"],
        **measured(trainer.result, data, held_out),
        "history": history,
    }


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

    workers, threads  processes to start here, and threads in each; workers elsewhere may share the store meanwhile
    store             database URL; by default SQLite in `out`
    watch             told the steps done and the runs finished of those wanted, about every second

    Raises AlikitError where folder or store cannot be used, hold runs of another length, or a worker fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    attempts = _open(name, out, steps, store)
    _read_back(attempts, out, STUDIES[name], steps)
    wanted = [f"{arm}-{run:03d}" for run in range(number) for arm in STUDIES[name].arms]
    crew: list[multiprocessing.Process] = []
    try:
        while missing := set(wanted) - _export(attempts, out).keys():
            _plan(attempts, missing)
            while len(crew) < min(workers, len(missing)):
                # Spawned, for a fork of a process that runs threads may hang.
                worker = multiprocessing.get_context("spawn").Process(
                    target=_work, args=(name, out, steps, threads, store)
                )
                worker.start()
                crew.append(worker)
            time.sleep(1)
            if any(worker.exitcode for worker in crew):
                raise AlikitError(f"a worker stopped, as it says above; finished runs are kept in {out / 'runs.jsonl'}")
            watch(*_progress(attempts, wanted, steps))
    finally:
        for worker in crew:
            worker.terminate()
            worker.join()
    finished = _export(attempts, out)
    return [finished[key] for key in wanted]


def _open(name: str, out: Path, steps: int, store: str | None) -> optuna.Study:
    """The study in its store. A trial there is one attempt at a run, and says in a user attribute at which: its key."""
    url = store or f"sqlite:///{out / 'study.db'}"
    waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        storage = optuna.storages.RDBStorage(url, waits, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        attempts = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        found, ours = attempts.user_attrs, {"format": FORMAT, "steps": steps}
        for attribute, value in ours.items() if not found else ():
            attempts.set_user_attr(attribute, value)
    # What SQLAlchemy and Optuna raise for a file that is no database, and for one that another version of them wrote.
    except (SQLAlchemyError, RuntimeError, AssertionError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AlikitError(
            f"cannot use the study store {url} ({reason}): move it away, "
            f"and finished runs are read back from {out / 'runs.jsonl'}; or name another with --store"
        ) from None
    if found and found.get("format") != FORMAT:
        raise AlikitError(f"the study store {url} is from another version of alikit: use that one, or another --out")
    if found and found["steps"] != steps:
        raise AlikitError(
            f"the runs in {url} have {found['steps']} steps: add --steps {found['steps']}, or another --out"
        )
    return attempts


def _read_back(attempts: optuna.Study, out: Path, study: Study, steps: int) -> None:
    """Tells the store of finished runs that it does not know yet."""
    file = out / "runs.jsonl"
    known = _finished(attempts)
    for number, text in enumerate(file.read_text().splitlines() if file.exists() else (), 1):
        try:
            line = json.loads(text)
            key, value = f"{line['arm']}-{line['run']:03d}", float(line["within_3std"])
            if line["arm"] not in study.arms:
                raise KeyError
            if line["steps"] != steps:
                raise AlikitError(
                    f"the runs in {file} have {line['steps']} steps: add --steps {line['steps']}, or another --out"
                )
        except AlikitError:
            raise
        except (ValueError, TypeError, KeyError):
            raise AlikitError(f"{file}, line {number}: no run of this study; mend or remove that line") from None
        if key not in known:
            attempts.add_trial(optuna.trial.create_trial(value=value, user_attrs={"key": key, "line": line}))


def _finished(attempts: optuna.Study) -> dict[str, dict]:
    """The line of every finished run by its key; the first to finish counts."""
    done = attempts.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.user_attrs["key"]: trial.user_attrs["line"] for trial in reversed(done)}


def _export(attempts: optuna.Study, out: Path) -> dict[str, dict]:
    """Writes runs.jsonl anew where it lacks a finished run; returns all of them in order."""
    finished = _finished(attempts)
    ordered = dict(sorted(finished.items(), key=lambda item: (item[1]["run"], item[1]["arm"])))
    text = "".join(json.dumps(line) + "\n" for line in ordered.values())
    file = out / "runs.jsonl"
    if text and (not file.exists() or file.read_text() != text):
        runs.write_whole(file, lambda place: place.write_text(text))
    return ordered


def _owners(attempts: optuna.Study) -> dict[str, FrozenTrial]:
    """Of each run's attempts that did not fail, the first: the one that counts. Trials are numbered by the store."""
    live = [trial for trial in attempts.get_trials(deepcopy=False) if trial.state not in FAILED]
    return {trial.user_attrs["key"]: trial for trial in reversed(live) if "key" in trial.user_attrs}


def _plan(attempts: optuna.Study, missing: set[str]) -> None:
    """Queues every missing run that nobody is at. Two machines may queue the same one; see `_attempt`."""
    optuna.storages.fail_stale_trials(attempts)
    for key in sorted(missing - _owners(attempts).keys(), key=lambda key: key.rsplit("-")[::-1]):
        attempts.enqueue_trial({}, user_attrs={"key": key})


def _progress(attempts: optuna.Study, wanted: list[str], steps: int) -> tuple[int, int]:
    owners = [trial for key, trial in _owners(attempts).items() if key in wanted]
    finished = sum(trial.state == TrialState.COMPLETE for trial in owners)
    return finished * steps + sum(
        trial.last_step or 0 for trial in owners if trial.state == TrialState.RUNNING
    ), finished


def _work(name: str, out: Path, steps: int, threads: int, store: str | None) -> None:
    """A worker: attempts one run after the other until it is stopped, or whoever started it is gone."""
    torch.set_num_threads(threads)
    try:
        attempts = _open(name, out, steps, store)
        while multiprocessing.parent_process().is_alive():
            if attempts.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                attempts.optimize(lambda trial: _attempt(trial, name, out, steps), n_trials=1)
            time.sleep(0.5)
    except KeyboardInterrupt:
        sys.exit(130)
    except optuna.exceptions.UpdateFinishedTrialError:
        # This worker showed no sign of life for so long (a laptop that slept) that another one took over.
        sys.exit("alikit: a run was given to another worker meanwhile: start again to go on")
    except (AlikitError, OSError) as error:
        sys.exit(f"alikit: {error}")


def _attempt(trial: optuna.Trial, name: str, out: Path, steps: int) -> float:
    """One run, if this trial is the one that counts for it. A key queued twice is a later number, and passed over."""
    key = trial.user_attrs.get("key")  # none where another worker took the last in the queue just now
    if key is None or _owners(trial.study)[key].number != trial.number:
        raise optuna.TrialPruned
    arm, run = key.rsplit("-", 1)

    def watch(line: dict) -> None:
        trial.report(line["within_3std"], line["step"])
        if not multiprocessing.parent_process().is_alive():
            raise KeyboardInterrupt

    line = one_run(STUDIES[name], arm, int(run), steps, out / "runs" / key, watch)
    trial.set_user_attr("line", line)
    return line["within_3std"]
