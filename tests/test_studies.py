"""A study: every run wanted, none twice and none lost, whichever process is killed or works on it beside us."""

import json
import math
import multiprocessing
import os
import random
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from commands import files
from hypothesis import given
from hypothesis import strategies as st

from alikit import runs, studies
from alikit.data import load
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.runs.settings import OFF
from alikit.studies import STUDIES, Store, Study, at_random, one_run, read_lines, run_study, settings_of

STEPS, MEASURED = 100, [50, 100]
MEASURES = {"modes": 25, "within_3std": 0.5, "strict_modes": 20, "kl_uniform": 0.1}
WANTED = ["calm-000", "gan-000", "calm-001", "gan-001"]
ARMS = {arm: ("mixture-gan-paper", {"batch_size": 20, "ema": ema}) for arm, ema in (("calm", 0.9), ("gan", 0.0))}
SMALL = replace(STUDIES["mixture"], arms=ARMS)  # quick: without an encoder there is little to measure
CONTEXT = multiprocessing.get_context("forkserver")  # imports what workers need once, for all tests
CONTEXT.set_forkserver_preload(["alikit.studies"])


# The table.


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_arm_is_a_recipe_with_settings_it_has(study):
    for arm, (recipe, changes) in study.arms.items():
        row = replace(RECIPES[recipe], **changes, **study.draw(0))
        assert row.data and not row.frozen_decoder
        assert row.build((2,)) and not set("/\\ :?%#") & set(arm)  # it names a folder


def test_random_settings_are_the_recorded_ones():
    """Worked out by hand from Python's generator. To change them makes the recorded runs those of another study."""
    assert at_random(0) == {"lr": 0.0004885, "betas": (0.6822, 0.999), "weight_std": 0.01549}
    assert at_random(1) == {"lr": 1.857e-05, "betas": (0.7627, 0.999), "weight_std": 0.04675}


# Runs and their lines.


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(STUDIES, "mixture", SMALL)
    monkeypatch.setattr(studies, "CONTEXT", CONTEXT)


def without_times(line: dict) -> dict:
    along = [{name: value for name, value in found.items() if name != "seconds"} for found in line["history"]]
    return {name: value for name, value in line.items() if name != "seconds"} | {"history": along}


def strict(text: str) -> dict:
    """JSON as the standard has it, which knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """The lines of 2 + 2 runs that nothing stopped, by key."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {key: one_run(settings, folder / key) for key, settings in studies.wanted_of(SMALL, 2, STEPS).items()}


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A folder with nothing but those lines, as it comes from elsewhere."""
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "runs.jsonl").write_text("".join(json.dumps(undisturbed[key]) + "\n" for key in WANTED))
    return tmp_path / "finished"


def test_a_line_says_all(undisturbed):
    line = undisturbed["calm-001"]
    drawn = {name: list(to) if name == "betas" else to for name, to in at_random(1).items()}
    made = {"arm": "calm", "run": 1, "recipe": "mixture-gan-paper", "seed": 1, "steps": STEPS, "batch_size": 20} | drawn
    assert (made | {"decay": False, "r1": 0.0, "ema": 0.9, "diverged": False}).items() <= line.items()
    assert [found["step"] for found in line["history"]] == MEASURED
    assert all(found.keys() == {"step", "seconds", *MEASURES} for found in line["history"])
    assert {name: line[name] for name in MEASURES} == {name: line["history"][-1][name] for name in MEASURES}
    assert 0 < line["history"][0]["seconds"] <= line["history"][-1]["seconds"] == line["seconds"]
    assert strict(json.dumps(line)) == line


def test_a_run_that_diverges_counts_and_is_read_back(tmp_path, monkeypatch):
    changes = {"lr": 1e6, "ema": 0.99, "batch_size": 20}
    study = Study("", {"ali": ("mixture-ali-paper", changes)}, steps=300, runs=1)
    monkeypatch.setitem(STUDIES, "mixture", study)
    line = one_run(settings_of(study, "ali", 0, 300), tmp_path / "runs" / "ali-000")
    assert line["diverged"] is True and line["steps"] == 300 and line["lr"] == 1e6
    assert (line["modes"], line["within_3std"], line["strict_modes"]) == (0, 0.0, 0)
    assert [found["step"] for found in line["history"]] == [50]
    assert line["reconstruction_drawn"] is None and strict(json.dumps(line, allow_nan=False)) == line
    (tmp_path / "runs.jsonl").write_text(json.dumps(line) + "\n")
    assert run_study("mixture", tmp_path, 1, 300) == [line]


def test_a_checkpoint_of_other_settings_is_left_alone(tmp_path, monkeypatch, undisturbed):
    """Of another version of torch, say: the run begins anew, even if it is killed as soon as its settings are there."""
    ours, folder = settings_of(SMALL, "gan", 0, STEPS), tmp_path / "gan-000"
    save = runs.save
    stop = lambda *saved: (save(*saved), (_ for _ in ()).throw(KeyboardInterrupt))  # noqa: E731
    monkeypatch.setattr(runs, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        one_run({**ours, "seed": 5}, folder)
    monkeypatch.setattr(runs, "save", lambda *saved: stop())
    with pytest.raises(TypeError):
        one_run(ours, folder)
    assert not (folder / "checkpoint.pt").exists() and runs.read_settings(folder)["seed"] == 0
    monkeypatch.setattr(runs, "save", save)
    assert without_times(one_run(ours, folder)) == without_times(undisturbed["gan-000"])
    assert without_times(one_run(ours, folder)) == without_times(undisturbed["gan-000"])  # of its last checkpoint


@given(order=st.randoms(), dropped=st.sets(st.sampled_from(sorted(settings_of(SMALL, "calm", 0, STEPS)))))
def test_a_line_may_lack_what_was_off_and_has_no_order(order, dropped):
    line = {**settings_of(SMALL, "calm", 0, STEPS), **MEASURES, "diverged": False}
    named = {"arm", "run", "seed", "steps", "fast"}  # and `fast`, which lines of format 1 have as `plain`
    names = [name for name in line if name not in dropped - named]
    order.shuffle(names)
    text = json.dumps({name: line[name] for name in names}).encode()
    if all(not line[name] or line[name] == OFF.get(name) for name in line.keys() - names):
        assert studies.parsed(text, SMALL, STEPS, "line 1") == ("calm-000", json.loads(text))
    else:
        with pytest.raises(AlikitError, match=r"line 1 is damaged or not .*: it is no run of this study as it is now"):
            studies.parsed(text, SMALL, STEPS, "line 1")


# What is killed.


def test_killed_and_stopped_it_finishes_as_if_nothing_had_happened(undisturbed, tmp_path):
    """What a person does from a shell, and all the other processes, are killed in tests/faults."""
    out = tmp_path / "study"

    def kill(steps, finished):
        if steps:
            multiprocessing.active_children()[-1:] and random.choice(multiprocessing.active_children()).kill()

    with pytest.raises(AlikitError, match="a worker was killed: finished runs are kept, and the same command goes on"):
        run_study("mixture", out, 2, STEPS, workers=2, watch=kill)

    def stop(steps, finished):
        if steps > 50 or finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("mixture", out, 2, STEPS, watch=stop)
    assert not multiprocessing.active_children() and not (out / runs.LOCK).exists()

    seen = []
    lines = run_study("mixture", out, 2, STEPS, workers=2, watch=lambda *now: seen.append(now))
    assert [f"{line['arm']}-{line['run']:03d}" for line in lines] == WANTED
    assert [without_times(line) for line in lines] == [without_times(undisturbed[key]) for key in WANTED]
    assert [strict(line) for line in (out / "runs.jsonl").read_text().splitlines()] == lines
    for key in WANTED:  # its first steps were done once
        steps = [line["step"] for line in runs.metrics(out / "runs" / key)]
        assert steps[0] == 50 and steps.count(50) == 1 and steps[-1] == STEPS
        assert {*os.listdir(out / "runs" / key)} == {"settings.json", "metrics.jsonl", "weights.safetensors"}
    assert seen[-1] == (4 * STEPS, 4) and all(0 <= steps <= 4 * STEPS and 0 <= done <= 4 for steps, done in seen)


def test_what_stops_a_worker_is_said_here(tmp_path):
    folder = tmp_path / "study" / "runs" / "calm-000"
    studies.begin_folder(folder, settings_of(SMALL, "calm", 0, STEPS), load("mixture")[0])
    (folder / "checkpoint.pt").write_bytes(b"noise")
    refused(tmp_path / "study", "calm-000/checkpoint.pt is damaged")


def elsewhere(out: Path, url: str) -> None:
    STUDIES["mixture"], studies.CONTEXT = SMALL, CONTEXT
    run_study("mixture", out, 2, STEPS, store=url)


def test_two_at_once_on_one_store_and_a_study_that_grows(undisturbed, finished, tmp_path):
    """One has the first run of each arm from elsewhere; the other has nothing."""
    first = (finished / "runs.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (finished / "runs.jsonl").write_bytes(b"".join(first))
    url, other = f"sqlite:///{tmp_path / 'shared.db'}", tmp_path / "other"
    run_study("mixture", finished, 1, STEPS, store=url)
    process = CONTEXT.Process(target=elsewhere, args=(other, url))
    process.start()
    ours = run_study("mixture", finished, 2, STEPS, store=url)
    process.join(120)
    assert process.exitcode == 0
    assert [without_times(line) for line in ours] == [without_times(undisturbed[key]) for key in WANTED]
    assert (finished / "runs.jsonl").read_bytes() == (other / "runs.jsonl").read_bytes()
    assert (other / "runs.jsonl").read_bytes().startswith(b"".join(first))
    trained = [folder.name for folder in (*finished.glob("runs/*"), *other.glob("runs/*"))]
    assert sorted(trained) == ["calm-001", "gan-001"]


def test_what_is_finished_is_read_back_in_order_and_not_run_again(finished, undisturbed):
    file = finished / "runs.jsonl"
    before = file.read_bytes()
    file.write_bytes(b"".join(reversed(before.splitlines(keepends=True))))
    assert run_study("mixture", finished, 1, STEPS) == [undisturbed[key] for key in WANTED[:2]]
    assert run_study("mixture", finished, 2, STEPS, workers=2) == [undisturbed[key] for key in WANTED]
    assert file.read_bytes() == before and not (finished / "runs").exists()


# Which call has which run of a store.


def opened(place: Path) -> Store:
    return Store(f"sqlite:///{place / 'store.db'}", "mixture", STEPS)


def test_each_run_is_claimed_once(tmp_path):
    """By four that make the table, and then look, at the same moment."""
    ready = threading.Barrier(4)

    def claimed(_) -> list[str]:
        ready.wait()
        store = opened(tmp_path)
        ready.wait()
        return [key for key in WANTED * 3 if store.claim(key)]

    with ThreadPoolExecutor(4) as pool:
        assert sorted(key for keys in pool.map(claimed, range(4)) for key in keys) == sorted(WANTED)


def test_a_claim_is_given_up_when_its_call_is_stopped_or_shows_no_sign(tmp_path, monkeypatch):
    clock = [1e9]
    monkeypatch.setattr(studies.time, "time", lambda: clock[0])
    ours, theirs, line = opened(tmp_path), opened(tmp_path), settings_of(SMALL, "calm", 0, STEPS) | MEASURES
    assert ours.claim("calm-000") and ours.claim("gan-000") and not theirs.claim("calm-000")
    clock[0] += studies.GRACE - 1
    ours.exchange({})
    clock[0] += studies.GRACE - 1
    assert not theirs.claim("calm-000")
    clock[0] += 2
    assert theirs.claim("calm-000") and not ours.claim("calm-000")  # ours was asleep
    clock[0] -= 86_400  # and the clock is set back
    assert theirs.claim("gan-000") and ours.claim("calm-000")
    theirs.close()
    assert ours.claim("gan-000")
    lines = {"calm-000": {**line, "diverged": False, "seconds": 1}}
    assert theirs.exchange(lines) == lines  # both were at it to the end: the first counts
    assert ours.exchange({"calm-000": {**lines["calm-000"], "seconds": 2}}) == lines
    clock[0] += 86_400
    assert not theirs.claim("calm-000")


# Bad input: one line, and everything stays as it was.


def refused(out: Path, says: str, steps: int = STEPS, store: str | None = None) -> None:
    before = files(out.parent)
    with pytest.raises(AlikitError) as error:
        run_study("mixture", out, 2, steps, store=store)
    assert re.search(says, str(error.value)) and "\n" not in str(error.value), error.value
    assert files(out.parent) == before


def test_runs_of_another_length_or_of_the_study_as_it_was(finished, tmp_path, monkeypatch):
    """Those in a store would be written over the lines of those that are wanted now."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run_study("mixture", finished, 2, STEPS, store=url)
    refused(finished, f"line 1: a run of {STEPS} steps: ask for as many, or use another folder", steps=300)
    monkeypatch.setitem(STUDIES, "mixture", replace(SMALL, first_seed=1000))
    refused(finished, "line 1 is damaged or not what it should be: it is no run of this study as it is now")
    refused(tmp_path / "new", "the study store .*: it is no run of this study as it is now", store=url)
    with sqlite3.connect(tmp_path / "store.db") as books:
        books.execute("""UPDATE alikit_runs SET line = '{"format": 2, "alikit": "9.1"}'""")
    refused(tmp_path / "new", r"is from alikit 9\.1, and this is .*: install alikit 9\.1 or newer", store=url)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("nonsense", "cannot use the study store nonsense .*: mend it or name another"),
        # No driver for it is installed here; no password in a message.
        ("mysql://reader:word@nowhere.invalid/studies", r"store mysql://reader:\*\*\*@nowhere.invalid/studies "),
        ("postgresql://reader:word@nowhere.invalid:http/studies", r"reader:\*\*\*@nowhere.* \(invalid literal"),
        ("postgresql://nowhere.invalid:http/studies?password=word&user=a", r"\?password=\*\*\*&user=a "),
        ("sqlite:///new.db?timeout=soon", "cannot use .*float: 'soon'"),
        ("sqlite:///noise.db", "not a database"),
        ("sqlite:///other.db", "no such column"),
    ],
)
def test_a_store_that_cannot_be_used(tmp_path, monkeypatch, store, says):
    monkeypatch.chdir(tmp_path)
    Path("noise.db").write_bytes(random.Random(0).randbytes(20_000))
    with sqlite3.connect("other.db") as books:
        books.execute("CREATE TABLE alikit_runs (a TEXT)")
    refused(tmp_path / "out", says, store=store)


def test_a_store_may_lie_in_the_database_of_another_program_and_be_of_a_newer_alikit(tmp_path):
    """All else there stays as it was; columns that are not known here stay empty."""
    begun = "study VARCHAR(100), run VARCHAR(100), line TEXT, owner VARCHAR(32), alive DOUBLE PRECISION"
    with sqlite3.connect(tmp_path / "store.db") as books:
        books.execute("CREATE TABLE trials (number INTEGER PRIMARY KEY, state TEXT)")
        books.execute("INSERT INTO trials VALUES (7, 'COMPLETE')")
        books.execute(f"CREATE TABLE alikit_runs ({begun}, machine TEXT, PRIMARY KEY (study, run))")
        books.commit()
        before = [line for line in books.iterdump() if "alikit_runs" not in line]
        assert opened(tmp_path).claim("calm-000") and not opened(tmp_path).claim("calm-000")
        assert [line for line in books.iterdump() if "alikit_runs" not in line] == before


def changed(**values):
    return lambda line: json.dumps({**line, **values}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: json.dumps(line).encode()[:-30],
        *(lambda line, text=text: text for text in (b"", b"\xff\xfe\x00\x81" * 20, b"[" * 100_000, b"7")),
        *(changed(arm=arm) for arm in ("vae", ["gan"], None)),
        *(changed(run=run) for run in ("1", 2, 1.0)),  # 2 has another seed
        *(changed(seed=seed) for seed in (1000, None)),
        changed(recipe="mixture-ali"),
        changed(lr=0.5),
        *(changed(within_3std=number) for number in (None, math.nan, "many", 10**400)),
        changed(diverged="no"),
        lambda line: json.dumps({name: line[name] for name in line if name != "steps"}).encode(),
    ],
)
def test_lines_that_are_none_of_this_study(finished, undisturbed, damage):
    file = finished / "runs.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], damage(undisturbed["calm-001"]) + b"\n", lines[3]]))
    with pytest.raises(AlikitError, match=r"runs\.jsonl, line 3 is damaged .*: it is no run of this study .*, so rem"):
        read_lines(file, SMALL, STEPS)
