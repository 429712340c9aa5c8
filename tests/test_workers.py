"""A study: every run wanted, none twice and none lost, whoever is killed and whoever works on it beside us."""

import json
import math
import multiprocessing
import os
import random
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from alikit import __version__, workers
from alikit.errors import AlikitError
from alikit.studies import STUDIES, Study
from alikit.workers import one_run, run_study

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat of storage")
STEPS = 200  # takes seconds: whoever is to be killed half way must not be done before
MEASURED = list(range(100, STEPS + 1, 100))
WANTED = ["ali-000", "gan-000", "ali-001", "gan-001"]
MEASURES = {"modes": 25, "within_3std": 0.5, "strict_modes": 20, "kl_uniform": 0.1}


def key(line: dict) -> str:
    return f"{line['arm']}-{line['run']:03d}"


def without_times(line: dict) -> dict:
    along = [{name: value for name, value in found.items() if name != "seconds"} for found in line["history"]]
    return {name: value for name, value in line.items() if name != "seconds"} | {"history": along}


def strict(text: str) -> dict:
    """JSON as the standard has it, which knows no NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """The lines of 2 + 2 runs that nobody stopped, by key."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    try:
        lines = [
            one_run(STUDIES["mixture"], arm, run, STEPS, folder / f"{arm}{run}", lambda found: None)
            for run in (0, 1)
            for arm in ("ali", "gan")
        ]
    finally:
        torch.set_num_threads(threads)
    return {key(line): line for line in lines}


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A folder with nothing but those lines, as it comes from elsewhere."""
    folder = tmp_path / "finished"
    folder.mkdir()
    (folder / "runs.jsonl").write_text("".join(json.dumps(undisturbed[key]) + "\n" for key in WANTED))
    return folder


@pytest.fixture
def queue(tmp_path) -> optuna.Study:
    """The books of a new study, in a folder of the test."""
    (tmp_path / "study").mkdir()
    return workers._open("mixture", tmp_path / "study", STEPS, None)


@pytest.fixture
def play(monkeypatch):
    """What a worker does with one trial, in this process; runs are not trained, their keys are noted instead."""

    class Starter:
        def is_alive(self):
            return True

    played: list[str] = []

    def quickly(study, arm, run, steps, folder, watch):
        played.append(f"{arm}-{run:03d}")
        watch({"step": steps, **MEASURES})
        return {"arm": arm, "run": run, "steps": steps, **MEASURES}

    def play(attempts: optuna.Study, number: int) -> list[str]:
        attempts.optimize(lambda trial: workers._attempt(trial, "mixture", Path("no/such"), STEPS), n_trials=number)
        return played

    monkeypatch.setattr(workers, "one_run", quickly)
    monkeypatch.setattr(multiprocessing, "parent_process", Starter)
    return play


def states(store: Path) -> list[str]:
    """Of each attempt, in order; none where there is no store yet."""
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=60) as database:
            return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY number")]
    except sqlite3.OperationalError:
        return []


def reported(store: Path) -> bool:
    """Whether an attempt that is running has told of a measurement."""
    with sqlite3.connect(store, timeout=60) as database:
        sql = "SELECT count(*) FROM trials JOIN trial_intermediate_values USING (trial_id) WHERE state = 'RUNNING'"
        return database.execute(sql).fetchone()[0] > 0


def at_work(store: Path) -> set[int]:
    """The attempts that a worker has begun and shown a sign of life for, and that have not ended."""
    with sqlite3.connect(store, timeout=60) as database:
        sql = """SELECT number FROM trials JOIN trial_heartbeats USING (trial_id) JOIN trial_user_attributes
                 USING (trial_id) WHERE state = 'RUNNING' AND key = 'begun'"""
        return {number for (number,) in database.execute(sql)}


def let_time_pass(store: Path) -> None:
    """Signs of life become an hour old, so that nobody has to wait until the dead are given up."""
    with sqlite3.connect(store, timeout=60) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")


# Processes that are killed.


def start(line: str, folder: Path) -> subprocess.Popen:
    """`alikit study ...` with its workers in a process group of their own, which heeds Ctrl-C."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "alikit", "study", *shlex.split(line)]
    pipe, heed = subprocess.PIPE, lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = {"stdout": pipe, "stderr": pipe, "text": True, "start_new_session": True, "preexec_fn": heed}
    return subprocess.Popen(command, cwd=folder, env=environment, **options)


def until(happened, process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not happen in 2 minutes"
        time.sleep(0.05)


def gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_worker_killed_and_all_stopped_it_finishes_as_if_nothing_had_happened(undisturbed, tmp_path):
    """By processes as a person has them; those that are forked at once are killed in tests/faults."""
    out, store = tmp_path / "study", tmp_path / "study" / "study.db"
    command = f"mixture --runs 2 --steps {STEPS} --out study"

    # One worker: the others are stopped, not killed, and hand their runs back.
    def kill_one(steps, runs):
        if len(at_work(store)) == 2:
            multiprocessing.active_children()[0].kill()

    with pytest.raises(AlikitError, match=r"a worker stopped, killed by signal 9;.*the same command goes on"):
        run_study("mixture", out, 2, STEPS, workers=2, watch=kill_one)
    assert not multiprocessing.active_children() and states(store).count("RUNNING") <= 1
    let_time_pass(store)

    # Ctrl-C, which all of them get.
    before = at_work(store)
    process = start(command, tmp_path)
    until(lambda: at_work(store) - before, process)
    os.killpg(process.pid, signal.SIGINT)
    says, err = process.communicate(timeout=60)
    assert (process.returncode, says) == (130, "") and "Traceback" not in err
    assert err.splitlines()[-1] == "stopped; finished runs are kept, and the same command goes on"
    until(lambda: gone(process.pid))
    assert "RUNNING" not in states(store)

    seen = []
    lines = run_study("mixture", out, 2, STEPS, watch=lambda steps, runs: seen.append((steps, runs)))
    assert [key(line) for line in lines] == WANTED
    assert [without_times(line) for line in lines] == [without_times(undisturbed[key]) for key in WANTED]
    assert [strict(line) for line in (out / "runs.jsonl").read_text().splitlines()] == lines
    assert states(store).count("COMPLETE") == 4
    for file in out.glob("runs/*/metrics.jsonl"):  # its first steps were done once
        log = [strict(line)["step"] for line in file.read_text().splitlines()]
        assert log[0] == 100 and log.count(100) == 1 and log[-1] == STEPS
    assert not list(out.glob("runs/*/checkpoint.pt")) and len(list(out.glob("runs/*/weights.safetensors"))) == 4
    assert all(0 <= steps <= 4 * STEPS and 0 <= runs <= 4 for steps, runs in seen)


def test_two_at_once_on_one_store_and_a_study_that_grows(undisturbed, finished, tmp_path):
    """One has the first run of each arm from elsewhere; the other has nothing."""
    first = (finished / "runs.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (finished / "runs.jsonl").write_bytes(b"".join(first))
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    process = start(f"mixture --runs 2 --steps {STEPS} --store {url} --out other", tmp_path)
    ours = run_study("mixture", finished, 2, STEPS, store=url)
    says, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert [json.loads(line)["runs"] for line in says.splitlines()[:2]] == [2, 2]
    assert says.splitlines()[2] == "every run in other/runs.jsonl"

    assert [without_times(line) for line in ours] == [without_times(undisturbed[key]) for key in WANTED]
    assert (finished / "runs.jsonl").read_bytes().startswith(b"".join(first))
    # Where both began before either had told the store, a run may have an attempt of each; one of them counts.
    attempts = [trial.user_attrs["key"] for trial in workers._open("mixture", finished, STEPS, url).trials]
    assert set(attempts) == set(WANTED)
    trained = [folder.name for folder in (*finished.glob("runs/*"), *tmp_path.glob("other/runs/*"))]
    assert sorted(name for name in trained if name.endswith("001")) == ["ali-001", "gan-001"]
    here, there = finished / "runs.jsonl", tmp_path / "other" / "runs.jsonl"
    assert [key(json.loads(line)) for line in there.read_text().splitlines()] == WANTED
    assert here.read_bytes().splitlines()[2:] == there.read_bytes().splitlines()[2:]


# Runs from elsewhere.


def test_what_is_finished_is_read_back_and_not_run_again(finished, undisturbed):
    before = (finished / "runs.jsonl").read_bytes()
    assert [key(line) for line in run_study("mixture", finished, 1, STEPS)] == WANTED[:2]
    assert run_study("mixture", finished, 2, STEPS, workers=2) == [undisturbed[key] for key in WANTED]
    assert (finished / "runs.jsonl").read_bytes() == before and not (finished / "runs").exists()
    assert states(finished / "study.db") == ["COMPLETE"] * 4


def test_lines_are_put_in_order(finished):
    file = finished / "runs.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(reversed(lines)))
    run_study("mixture", finished, 1, STEPS)
    assert file.read_bytes() == b"".join(lines)


def test_a_store_that_was_lost_is_made_anew(finished, undisturbed):
    run_study("mixture", finished, 2, STEPS)
    (finished / "study.db").unlink()
    assert run_study("mixture", finished, 2, STEPS) == [undisturbed[key] for key in WANTED]


def test_what_is_read_back_counts_before_an_attempt_that_is_running(queue, play, undisturbed, tmp_path):
    workers._plan(queue, {"gan-000", "ali-000"})
    running = queue.ask()
    assert running.user_attrs["key"] == "ali-000"
    workers._read_back(queue, {key: undisturbed[key] for key in ("ali-000", "gan-000")})
    assert play(queue, 1) == []  # gan-000, which was queued, is passed over
    running.set_user_attr("line", {**undisturbed["ali-000"], "modes": 1})
    queue.tell(running, 0.1)
    assert workers._export(queue, tmp_path) == {key: undisturbed[key] for key in ("ali-000", "gan-000")}


# Who has which run.


def test_what_is_missing_is_queued_in_order_and_once(queue, play):
    workers._plan(queue, set(WANTED))
    workers._plan(queue, set(WANTED))
    assert play(queue, 4) == WANTED
    assert not queue.get_trials(states=(TrialState.WAITING,))
    assert workers._finished(queue).keys() == set(WANTED)


def test_a_run_queued_twice_is_run_once(queue, play):
    """Two machines that look at the same moment both find it missing."""
    for name in ("gan-000", "gan-000", "ali-000"):
        queue.enqueue_trial({}, user_attrs={"key": name})
    assert play(queue, 3) == ["gan-000", "ali-000"]
    assert [trial.state for trial in queue.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]


def test_a_run_queued_twice_is_not_run_beside_itself(queue, play):
    for _ in range(2):
        queue.enqueue_trial({}, user_attrs={"key": "gan-000"})
    queue.ask()  # another machine is at it
    assert play(queue, 1) == []
    queue.tell(0, state=TrialState.FAIL)  # and fails
    workers._plan(queue, {"gan-000"})
    assert play(queue, 1) == ["gan-000"]


def test_an_empty_queue_gives_nothing_to_do(queue, play):
    """Another worker took the last one in between; Optuna then makes a trial of its own accord."""
    assert play(queue, 1) == []
    workers._plan(queue, {"ali-000"})
    assert play(queue, 1) == ["ali-000"]


def test_a_worker_that_shows_no_sign_of_life_is_given_up(queue, play, tmp_path):
    workers._plan(queue, {"ali-000"})
    trial = queue.ask()
    trial.set_user_attr("begun", True)
    queue._storage.record_heartbeat(trial._trial_id)
    workers._plan(queue, {"ali-000"})
    assert [trial.state for trial in queue.trials] == [TrialState.RUNNING]
    let_time_pass(tmp_path / "study" / "study.db")
    workers._plan(queue, {"ali-000"})
    assert [trial.state for trial in queue.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert play(queue, 1) == ["ali-000"]


@pytest.mark.parametrize(("ago", "given_up"), [(1, False), (3600, True), (-3600, True)])
def test_a_worker_killed_before_its_first_sign_of_life(queue, play, tmp_path, ago, given_up):
    queue.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"key": "ali-000"}))
    with sqlite3.connect(tmp_path / "study" / "study.db") as database:
        start = datetime.now() - timedelta(seconds=ago)
        database.execute("UPDATE trials SET datetime_start = ?", [start.isoformat(" ")])
    workers._plan(queue, {"ali-000"})
    assert play(queue, 1) == (["ali-000"] if given_up else [])


def test_who_was_given_up_too_early_goes_on_with_another_run(queue, play, monkeypatch):
    """A laptop that slept: another worker took over. Whoever wakes up stops at its next measurement."""
    workers._plan(queue, {"ali-000", "gan-000"})
    quickly = workers.one_run

    def asleep(*told):
        queue.tell(0, state=TrialState.FAIL)
        quickly(*told)
        raise AssertionError("it went on with a run that is not its own any more")

    monkeypatch.setattr(workers, "one_run", asleep)
    with pytest.raises(workers.TakenOver):
        play(queue, 1)
    monkeypatch.setattr(workers, "one_run", quickly)
    workers._plan(queue, {"ali-000", "gan-000"})
    assert play(queue, 2) == ["ali-000", "gan-000", "ali-000"]
    assert workers._finished(queue).keys() == {"ali-000", "gan-000"}


def test_progress_counts_steps_of_what_runs_and_what_is_finished(queue, play):
    workers._plan(queue, {"ali-000", "gan-000", "gan-001"})
    play(queue, 1)
    queue.ask().report(0.5, 120)
    assert workers._progress(queue, WANTED[:2], STEPS) == (STEPS + 120, 1)
    assert workers._progress(queue, WANTED[1:2], STEPS) == (120, 0)
    queue.tell(1, state=TrialState.FAIL)  # killed: its checkpoint is still there
    workers._plan(queue, {"gan-000", "gan-001"})
    assert workers._progress(queue, WANTED[:2], STEPS) == (STEPS + 120, 1)


def test_workers_that_look_at_the_same_moment_take_different_runs(tmp_path):
    """SQLite has no locks on rows; without any, 2 of 4 workers often went off with the same trial."""
    several = [workers._open("mixture", tmp_path, STEPS, None) for _ in range(4)]
    ready = threading.Barrier(4)

    def take(attempts):
        ready.wait()
        return attempts.ask().number

    with ThreadPoolExecutor(4) as pool:
        for round in range(4):
            for _ in range(4):
                several[0].enqueue_trial({}, user_attrs={"key": "ali-000"})
            assert sorted(pool.map(take, several)) == list(range(4 * round, 4 * round + 4))


def test_several_may_make_a_store_at_once(tmp_path):
    ready = threading.Barrier(4)

    def make(_):
        ready.wait()
        return workers._open("mixture", tmp_path, STEPS, None).user_attrs

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(4))) == [{"alikit": __version__, "format": 1, "steps": STEPS}] * 4


# Lines.


def test_a_line_says_all(undisturbed):
    line = undisturbed["ali-001"]
    settings = {"arm": "ali", "run": 1, "recipe": "mixture-ali-paper", "seed": 1, "steps": STEPS, "batch_size": 100}
    drawn = STUDIES["mixture"].draw(1)
    settings |= {"lr": drawn["lr"], "betas": list(drawn["betas"]), "weight_std": drawn["weight_std"]}
    assert (settings | {"decay": False, "r1": 0.0, "averaging": 0.0, "diverged": False}).items() <= line.items()
    assert [found["step"] for found in line["history"]] == MEASURED
    assert all(found.keys() == {"step", "seconds", *MEASURES} for found in line["history"])
    assert {name: line[name] for name in MEASURES} == {name: line["history"][-1][name] for name in MEASURES}
    assert 0 < line["history"][0]["seconds"] < line["history"][-1]["seconds"] == line["seconds"]
    assert 0 <= line["identity_drawn"] <= 1 and "identity_drawn" not in undisturbed["gan-001"]
    assert strict(json.dumps(line)) == line


def test_arms_share_settings_and_seeds(undisturbed):
    for run in ("000", "001"):
        ali, gan = undisturbed[f"ali-{run}"], undisturbed[f"gan-{run}"]
        shared = ("seed", "lr", "betas", "weight_std", "batch_size", "steps")
        assert {name: ali[name] for name in shared} == {name: gan[name] for name in shared}
    assert undisturbed["ali-000"]["lr"] != undisturbed["ali-001"]["lr"]


@pytest.mark.parametrize(("game", "averaging"), [("gan", 0.0), ("ali", 0.99)])
def test_a_run_that_diverges_counts(tmp_path, game, averaging):
    absurd = {"lr": 1e6, "averaging": averaging}
    study = Study("", {"ali": (f"mixture-{game}-paper", absurd)}, steps=300, runs=1)
    seen = []
    line = one_run(study, "ali", 0, 300, tmp_path / "run", seen.append)
    assert line["diverged"] is True and line["steps"] == 300 and line["lr"] == 1e6
    assert (line["modes"], line["within_3std"], line["strict_modes"]) == (0, 0.0, 0)
    assert [found["step"] for found in line["history"]] == [100] and seen == line["history"]
    assert line.get("reconstruction_drawn") is None and strict(json.dumps(line, allow_nan=False)) == line


def test_a_run_that_diverged_is_read_back(finished, undisturbed):
    line = {**undisturbed["ali-000"], "diverged": True, "prior_distance": None, "modes": 0, "within_3std": 0.0}
    (finished / "runs.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(undisturbed["gan-000"]) + "\n")
    assert run_study("mixture", finished, 1, STEPS)[0] == line


def test_a_checkpoint_of_other_settings_is_left_alone(tmp_path):
    """Of another version of torch, say: the run begins anew."""
    study = Study("", {"gan": ("mixture-gan-paper", {"batch_size": 10})}, steps=STEPS, runs=1)

    def kill(found):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_run(study, "gan", 0, STEPS, tmp_path, kill)
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "versions": {"torch": "0.1"}}))
    steps = []
    one_run(study, "gan", 0, STEPS, tmp_path, lambda found: steps.append(found["step"]))
    assert steps == MEASURED
    steps.clear()
    line = one_run(study, "gan", 0, STEPS, tmp_path, lambda found: steps.append(found["step"]))
    assert steps == [] and [found["step"] for found in line["history"]] == MEASURED


# Bad input: one line, and everything stays as it was.


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(out: Path, says: str, steps: int = STEPS, store: str | None = None) -> None:
    before = files(out.parent)
    with pytest.raises(AlikitError) as error:
        run_study("mixture", out, 2, steps, store=store)
    assert re.search(says, str(error.value)) and "\n" not in str(error.value), error.value
    assert files(out.parent) == before


@pytest.fixture
def kept(finished) -> Path:
    """A folder with lines and a store that knows them."""
    run_study("mixture", finished, 2, STEPS)
    return finished


@pytest.mark.parametrize("damage", ["noise", "head", "half", "tail", "gap"])
def test_a_store_that_is_damaged(kept, damage):
    whole = (kept / "study.db").read_bytes()
    gap = whole[:4096] + bytes([255]) * (len(whole) - 4096)
    noise = random.Random(0).randbytes(20_000)
    cut = {"head": whole[:50], "half": whole[: len(whole) // 2], "tail": whole[:-4096], "gap": gap, "noise": noise}
    (kept / "study.db").write_bytes(cut[damage])
    refused(
        kept, r"cannot use the study store sqlite:///.*study\.db \(.*\): move it away, and .* read back from .*jsonl"
    )
    (kept / "study.db").unlink()
    assert len(run_study("mixture", kept, 2, STEPS)) == 4


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE study_user_attributes SET value_json = '2' WHERE key = 'format'", "install a newer alikit"),
        ("UPDATE alembic_version SET version_num = 'v9.9.a'", "no longer compatible with the table schema"),
        ("UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'line'", "cannot use the study store"),
    ],
)
def test_a_store_of_another_version(kept, sql, says):
    with sqlite3.connect(kept / "study.db") as database:
        database.execute(sql)
    refused(kept, says)


def test_a_store_with_runs_of_the_study_as_it_was(kept, monkeypatch):
    """They would be written over the lines of those that are wanted now."""
    (kept / "runs.jsonl").unlink()
    monkeypatch.setitem(STUDIES, "mixture", replace(STUDIES["mixture"], first_seed=1000))
    refused(kept, r"study\.db holds ali-000 as this study had it before: use another --out or --store")
    assert not (kept / "runs.jsonl").exists()


def test_runs_of_another_length(kept):
    refused(kept, f"have {STEPS} steps: add --steps {STEPS}, or another --out", steps=300)
    (kept / "runs.jsonl").unlink()  # the store knows it too
    refused(kept, rf"study\.db have {STEPS} steps: add --steps {STEPS}, or another --out", steps=300)


def test_a_wrong_number_of_steps_leaves_no_store_that_insists_on_it(finished):
    refused(finished, f"add --steps {STEPS}", steps=300)
    assert len(run_study("mixture", finished, 2, STEPS)) == 4


def test_who_made_the_store_was_stopped_at_that(kept):
    with sqlite3.connect(kept / "study.db") as database:
        database.execute("DELETE FROM study_user_attributes WHERE key = 'steps'")
    assert len(run_study("mixture", kept, 2, STEPS)) == 4


@pytest.mark.parametrize(
    "store",
    [
        "nonsense",
        "mysql://reader:word@nowhere.invalid/studies",  # no driver for it is installed here
        "nosuchdatabase://nowhere.invalid/studies",
        "sqlite:///no/such/folder/study.db",
        "sqlite:///{strange}.db",
    ],
)
def test_a_store_that_cannot_be_reached(tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    shown = re.escape(store.replace("word", "***"))  # no password in a message
    refused(tmp_path / "out", f"cannot use the study store {shown} .*: name another with --store", store=store)


def changed(**values):
    return lambda line: json.dumps({**line, **values}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: json.dumps(line).encode()[:-30],
        lambda line: b"",
        lambda line: b"\xff\xfe\x00\x81" * 20,
        lambda line: b"[" * 100_000,
        lambda line: b"[1, 2]",
        lambda line: b"7",
        lambda line: b'"ali"',
        changed(arm="vae"),
        changed(arm=["ali"]),
        changed(run="1"),
        changed(run=None),
        changed(run=2),  # whose seed is another
        changed(seed=1000),
        changed(recipe="mixture-ali"),
        changed(lr=0.5),
        changed(within_3std=None),
        changed(within_3std=math.nan),
        changed(modes="many"),
        changed(diverged="no"),
        lambda line: json.dumps({name: line[name] for name in line if name != "strict_modes"}).encode(),
        lambda line: json.dumps({name: line[name] for name in line if name != "steps"}).encode(),
    ],
)
def test_lines_that_are_none_of_this_study(finished, undisturbed, damage):
    lines = (finished / "runs.jsonl").read_bytes().splitlines(keepends=True)
    (finished / "runs.jsonl").write_bytes(b"".join([*lines[:2], damage(undisturbed["ali-001"]) + b"\n", lines[3]]))
    refused(finished, r"runs\.jsonl, line 3: no run of this study .*: remove that line, or use another --out")


def test_an_out_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "study"):
        with pytest.raises(AlikitError, match=r"cannot write to .*file.*: choose another --out"):
            run_study("mixture", out, 1, STEPS)
    assert files(tmp_path) == {"file": b"kept"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(AlikitError, match="locked"):
        run_study("mixture", tmp_path / "locked" / "study", 1, STEPS)
    with pytest.raises(AlikitError, match="locked"):
        run_study("mixture", tmp_path / "locked", 1, STEPS)
