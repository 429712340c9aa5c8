"""How a study is run: by workers that may be killed and started again, on one machine or several.

    lines = run_study("mixture", Path("runs/mixture"), number=10, steps=30_000, workers=2)

Optuna keeps the books, in a database that several processes, or machines, can share. A study's folder holds

    runs.jsonl     every finished run, a line each; written anew as they come, and read back at the next start
    study.db       the books (SQLite), where no other store is named
    runs/ARM-NNN/  the run folder of each run, with a checkpoint that a killed worker's successor goes on from
"""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, make_url
from sqlalchemy.exc import SQLAlchemyError

import alikit

from . import formats, lines, parallel, reading, runs
from .data import load
from .errors import AlikitError, Diverged, unwritten
from .evaluation import found_modes
from .recipes import RECIPES
from .studies import MEASURED_EVERY, REPORTS, STUDIES, Study
from .training import Progress

FORMAT = 1
HEARTBEAT, GRACE = 10, 40  # seconds between a worker's signs of life, and until one without is given up
FAILED = (TrialState.FAIL, TrialState.PRUNED)
STORE_ERRORS = (SQLAlchemyError, optuna.exceptions.OptunaError)  # of a database that is gone or damaged
MADE_BY = re.compile("CREATE (TABLE|INDEX|UNIQUE INDEX) ")
optuna.logging.set_verbosity(optuna.logging.CRITICAL)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class TakenOver(BaseException):
    """This worker showed no sign of life for so long (a laptop that slept) that its run was given to another one.

    No Exception, for those Optuna books as failures, and this attempt is booked as one already.
    """


def one_run(study: Study, arm: str, run: int, steps: int, folder: Path, watch: Callable[[dict], None]) -> dict:
    """Trains run number `run` of an arm for `steps` steps in `folder`; returns its line for runs.jsonl.

    A folder with a checkpoint of the same run is gone on from. `watch` is told of each measurement along the way.
    """
    parts = load(RECIPES[study.arms[arm][0]].data)
    settings = lines.settings_of(study, arm, run, steps, parts[0].shape)
    trainer = runs.trainer(settings, parts[0])
    history: list[dict] = []
    if (folder / "checkpoint.pt").exists() and runs.settings(folder).items() >= settings.items():
        runs.go_on(folder, trainer, runs.checkpoint(folder))
        history = list({line["step"]: line for line in runs.metrics(folder) if line["step"] <= trainer.step}.values())
    else:
        (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a run with other settings
    runs.write_settings(folder, {"format": runs.FORMAT, **settings})
    before, begin = (history[-1].get("seconds", 0.0) if history else 0.0), time.perf_counter()

    def measure(progress: Progress | None = None) -> None:
        seconds = round(before + time.perf_counter() - begin, 1)
        line = {"step": trainer.step, "seconds": seconds, **found_modes(trainer.result)}
        history.append(line)
        if progress:
            runs.log(folder, line)  # first, so that no checkpoint is ahead of the log
            runs.save(folder, trainer)
        watch(line)

    diverged = False
    try:
        trainer.run(steps, max(MEASURED_EVERY, steps // REPORTS), measure)
    except Diverged:
        diverged = True
        measure()
    return lines.line_of(arm, run, settings, diverged, history, trainer.result, parts)


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
    kept = lines.read(out / "runs.jsonl", STUDIES[name], steps)  # before anything is made for a study it does not fit
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AlikitError(f"cannot write to {out} ({error.strerror}): choose another --out") from None
    attempts = _open(name, out, steps, store)
    wanted = [lines.key_of(arm, run) for run in range(number) for arm in STUDIES[name].arms]
    crew: list[multiprocessing.Process] = []
    processes = _processes()
    try:
        with parallel.whole():
            _read_back(attempts, kept)
        while True:
            # Whoever is stopped is stopped here, between one look into the books and the next.
            with parallel.whole():
                if not (missing := set(wanted) - _export(attempts, out).keys()):
                    break
                _plan(attempts, missing)
                while len(crew) < min(workers, len(missing)):
                    worker = processes.Process(target=_work, args=(name, out, steps, threads, store))
                    # Ignored from the first on: Ctrl-C reaches a worker too, which would end amid its imports.
                    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
                    try:
                        worker.start()
                        crew.append(worker)
                    finally:
                        signal.signal(signal.SIGINT, ours)
            time.sleep(1)
            if ended := [worker.exitcode for worker in crew if worker.exitcode]:
                why = "as it says above" if max(ended) > 0 else f"killed by signal {-ended[0]}"
                raise AlikitError(
                    f"a worker stopped, {why}; finished runs are kept in {out / 'runs.jsonl'}, "
                    "and the same command goes on"
                )
            with parallel.whole():
                watch(*_progress(attempts, wanted, steps))
        finished = _export(attempts, out)
    except (*STORE_ERRORS, json.JSONDecodeError) as error:
        raise _unusable(store, out, error) from None
    except OSError as error:
        raise unwritten(error, out, "and the same command goes on") from None
    except KeyboardInterrupt:
        parallel.stopping()
        raise
    finally:
        for worker in crew:
            worker.terminate()
        for worker in crew:
            worker.join(10)
            worker.kill()  # where it waits for a database that does not answer
            worker.join()
    return [finished[key] for key in wanted]


def _processes() -> multiprocessing.context.BaseContext:
    """Workers are no forks of this process, for one that runs threads may hang when forked. On Linux they are forks of
    one that has imported all they need and done nothing else; elsewhere each imports it anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "torch._dynamo"])  # the latter comes with the first optimiser
    return processes


def _open(name: str, out: Path, steps: int, store: str | None) -> optuna.Study:
    """The study in its store. A trial there is one attempt at a run, and says in a user attribute at which: its key."""
    url = _url(store, out)
    try:
        _check_file(url)
        try:
            storage = _storage(url)
        except SQLAlchemyError:
            time.sleep(1)  # of several that start at once all but one fail to make the tables, and now they are there
            storage = _storage(url)
        attempts = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        found = attempts.user_attrs
        ours = {"alikit": alikit.__version__, "steps": steps, "format": FORMAT}
        if "format" in found:
            del ours["alikit"]  # who made it knew
        if found.get("format", FORMAT) == FORMAT:
            # New, or whoever made it was stopped at that.
            for attribute in [name for name in ours if name not in found]:
                attempts.set_user_attr(attribute, ours[attribute])
            found = attempts.user_attrs
        if not all(isinstance(trial.user_attrs.get("key", ""), str) for trial in attempts.get_trials(deepcopy=False)):
            raise ValueError("a run without a name")
        before = [key for key, line in _finished(attempts).items() if not lines.fits(line, STUDIES[name])]
    # SQLAlchemy and Optuna raise nearly anything for a damaged file, and for one that another version of them wrote.
    except Exception as error:
        raise _unusable(store, out, error) from None
    way = "use another --out or --store"
    formats.check(f"the study store {_shown(url)}", found["format"], FORMAT, found.get("alikit"), way)
    if found["steps"] != steps:
        raise AlikitError(
            f"the runs in {_shown(url)} have {found['steps']} steps: add --steps {found['steps']}, or another --out"
        )
    if before:
        raise AlikitError(
            f"the study store {_shown(url)} holds {min(before)} as this study had it before: "
            "use another --out or --store"
        )
    return attempts


def _url(store: str | None, out: Path) -> str:
    return store or f"sqlite:///{out / 'study.db'}"


def _check_file(url: str) -> None:
    """Raises sqlite3.DatabaseError for a SQLite file with views, triggers or virtual tables. Optuna makes none of them,
    and to read or to write would run SQL of whoever made it. OSError for what is no file."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database or not os.path.exists(address.database):
        return
    reading.opened(address.database).close()
    place = f"{Path(address.database).absolute().as_uri()}?mode=rw"  # a killed worker's journal is played back
    with closing(sqlite3.connect(place, uri=True, timeout=60)) as books:
        for kind, made_by in books.execute("SELECT type, sql FROM sqlite_master"):
            if kind not in ("table", "index") or not MADE_BY.match(made_by or "CREATE TABLE "):
                raise sqlite3.DatabaseError(f"it holds a {kind} that is not from Optuna")


def _shown(url: str) -> str:
    """The address without a password."""
    try:
        return make_url(url).render_as_string(hide_password=True) if "@" in url else url
    except SQLAlchemyError:
        return url


def _storage(url: str) -> optuna.storages.RDBStorage:
    sqlite = url.startswith("sqlite")
    waits = {"connect_args": {"timeout": 60}} if sqlite else {}
    storage = optuna.storages.RDBStorage(url, waits, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
    if sqlite:
        # Optuna locks rows, which SQLite cannot do: two workers that look at once would take the same trial.
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _unusable(store: str | None, out: Path, error: Exception) -> AlikitError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    way = "name another with --store, such as sqlite:///studies.db," if store else "move it away,"
    return AlikitError(
        f"cannot use the study store {_shown(_url(store, out))} ({reason}): {way} "
        f"and finished runs are read back from {out / 'runs.jsonl'}"
    )


def _read_back(attempts: optuna.Study, kept: dict[str, dict]) -> None:
    """Tells the store of finished runs that it does not know yet."""
    for key in kept.keys() - _finished(attempts).keys():
        value, line = kept[key]["within_3std"], kept[key]
        attempts.add_trial(optuna.trial.create_trial(value=value, user_attrs={"key": key, "line": line}))


def _finished(attempts: optuna.Study) -> dict[str, dict]:
    """The line of every finished run by its key; the first to finish counts."""
    done = attempts.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    done.sort(key=lambda trial: trial.datetime_complete, reverse=True)
    return {trial.user_attrs["key"]: trial.user_attrs["line"] for trial in done}


def _export(attempts: optuna.Study, out: Path) -> dict[str, dict]:
    """Writes runs.jsonl anew where it lacks a finished run; returns all of them in order."""
    return lines.write(out / "runs.jsonl", _finished(attempts))


def _owners(attempts: optuna.Study) -> dict[str, FrozenTrial]:
    """Of each run's attempts that did not fail, the one that counts: one that finished, or else the first."""
    live = [trial for trial in attempts.get_trials(deepcopy=False) if trial.state not in FAILED]
    live.sort(key=lambda trial: (trial.state == TrialState.COMPLETE, -trial.number))  # the last of a key is kept below
    return {trial.user_attrs["key"]: trial for trial in live if "key" in trial.user_attrs}


def _plan(attempts: optuna.Study, missing: set[str]) -> None:
    """Queues every missing run that nobody is at. Two machines may queue the same one; see `_attempt`."""
    optuna.storages.fail_stale_trials(attempts)
    for trial in attempts.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # Killed between taking it from the queue and the first sign of life, which makes it none of the stale ones.
        # Its beginning may lie in the future, where the clock was set back.
        if "begun" not in trial.user_attrs and abs(datetime.now() - trial.datetime_start) > timedelta(seconds=GRACE):
            attempts.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    for key in sorted(missing - _owners(attempts).keys(), key=lambda key: key.rsplit("-")[::-1]):
        attempts.enqueue_trial({}, user_attrs={"key": key})


def _progress(attempts: optuna.Study, wanted: list[str], steps: int) -> tuple[int, int]:
    """Steps done and runs finished. An attempt that was cut off counts: the next goes on from its checkpoint."""
    done, finished = dict.fromkeys(wanted, 0), _finished(attempts).keys() & set(wanted)
    for trial in attempts.get_trials(deepcopy=False):
        if (key := trial.user_attrs.get("key")) in done:
            done[key] = max(done[key], steps if key in finished else trial.last_step or 0)
    return sum(done.values()), len(finished)


def _work(name: str, out: Path, steps: int, threads: int, store: str | None) -> None:
    """A worker: attempts one run after the other until it is stopped, or whoever started it is gone."""
    # Ctrl-C, or a terminal that is gone, is for whoever started this worker, who then ends it by SIGTERM: so that the
    # run goes back to the queue at once. Not amid Optuna's own work, though, which would leave it marked as running.
    asked: list[int] = []
    for number in {*parallel.STOPS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    torch.set_num_threads(threads)

    def attempt(trial: optuna.Trial) -> float:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if asked:
                raise KeyboardInterrupt
            return _attempt(trial, name, out, steps)
        finally:
            signal.signal(signal.SIGTERM, before)

    try:
        attempts = _open(name, out, steps, store)
        while multiprocessing.parent_process().is_alive() and not asked:
            if attempts.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                with suppress(TakenOver):
                    attempts.optimize(attempt, n_trials=1)
            time.sleep(0.5)
    except KeyboardInterrupt:
        sys.exit(130)
    except STORE_ERRORS as error:
        sys.exit(f"alikit: {_unusable(store, out, error)}")
    except (AlikitError, OSError) as error:
        sys.exit(f"alikit: {error}")


def _attempt(trial: optuna.Trial, name: str, out: Path, steps: int) -> float:
    """One run, if this trial is the one that counts for it. A key queued twice is a later number, and passed over."""
    key = trial.user_attrs.get("key", "-")  # none where another worker took the last in the queue just now
    arm, run = key.rsplit("-", 1) if "-" in key else ("", "")
    # An arm may also have been taken out of the study since its runs were queued.
    ours = arm in STUDIES[name].arms and run.isdecimal() and lines.key_of(arm, int(run)) == key  # it names a folder
    if not ours or _owners(trial.study)[key].number != trial.number:
        raise optuna.TrialPruned
    with parallel.whole():
        trial.set_user_attr("begun", True)

    def watch(line: dict) -> None:
        trial.report(line["within_3std"], line["step"])
        if not multiprocessing.parent_process().is_alive():
            raise KeyboardInterrupt

    folder = out / "runs" / key
    try:
        line = one_run(STUDIES[name], arm, int(run), steps, folder, watch)
        trial.set_user_attr("line", line)
    except optuna.exceptions.UpdateFinishedTrialError:
        raise TakenOver from None
    (folder / "checkpoint.pt").unlink(missing_ok=True)  # only now, for measuring takes a while and may be killed too
    return line["within_3std"]
