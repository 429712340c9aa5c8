"""A study: every run wanted, none twice and none lost, whoever is killed and whoever works on it beside us."""

import json
import math
import multiprocessing
import os
import random
import re
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alikit import runs, studies
from alikit.data import load
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.studies import STUDIES, Store, Study, at_random, key_of, one_run, read_lines, run_study, settings_of

STEPS, MEASURED = 200, [100, 200]
MEASURES = {"modes": 25, "within_3std": 0.5, "strict_modes": 20, "kl_uniform": 0.1}
WANTED = ["ali-000", "gan-000", "ali-001", "gan-001"]
SMALL = replace(STUDIES["mixture"], arms={arm: (f"mixture-{arm}-paper", {"batch_size": 20}) for arm in ("ali", "gan")})


# The table.


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_arm_is_a_recipe_with_settings_it_has(study):
    assert study.summary and study.steps >= 1 and study.runs >= 1 and study.first_seed >= 0
    for arm, (recipe, changes) in study.arms.items():
        row = replace(RECIPES[recipe], **changes, **study.draw(0))
        assert row.data and not row.frozen_decoder
        assert row.build((2,)) and not set("/\\ :?%#") & set(arm)  # it names a folder
    built = [(recipe, sorted(changes.items())) for recipe, changes in study.arms.values()]
    assert all(built.count(arm) == 1 for arm in built)


def test_settings_of_the_recorded_runs():
    """Worked out by hand from Python's generator. To change them makes the recorded runs those of another study."""
    assert at_random(0) == {"lr": 0.0004885, "betas": (0.6822, 0.999), "weight_std": 0.01549}
    assert at_random(1) == {"lr": 1.857e-05, "betas": (0.7627, 0.999), "weight_std": 0.04675}


def test_random_settings_fill_their_ranges():
    drawn = [at_random(run) for run in range(1000)]
    ranges = {"lr": (1e-5, 1e-4, 1e-3), "weight_std": (0.004, 0.02, 0.1)}  # the published value half way, in factors
    for name, (low, middle, high) in ranges.items():
        values = [settings[name] for settings in drawn]
        assert low <= min(values) < 1.02 * low and high / 1.02 < max(values) <= high
        assert mean(value < middle for value in values) == pytest.approx(0.5, abs=0.05)
    beta1 = [settings["betas"][0] for settings in drawn]
    assert 0 <= min(beta1) < 0.01 and 0.89 < max(beta1) <= 0.9 and mean(beta1) == pytest.approx(0.45, abs=0.03)


def test_arms_differ_in_what_they_compare():
    published = {(recipe, changes["betas"]) for recipe, changes in STUDIES["mixture-published"].arms.values()}
    recipes = ("mixture-ali-paper", "mixture-gan-paper")
    assert published == {(recipe, (beta1, 0.999)) for recipe in recipes for beta1 in (0.8, 0.2)}
    for recipe, changes in STUDIES["mixture-ablation"].arms.values():
        assert len(changes) <= 1 and all(getattr(RECIPES[recipe], name) != to for name, to in changes.items())
    ali, gan, later = (settings_of(SMALL, arm, run, STEPS) for arm, run in (("ali", 3), ("gan", 3), ("ali", 4)))
    assert {name for name in ali if ali[name] != gan[name]} == {"arm", "recipe"}
    assert {name for name in ali if ali[name] != later[name]} == {"run", "seed", "lr", "betas", "weight_std"}


# Runs and their lines.


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(STUDIES, "mixture", SMALL)


def without_times(line: dict) -> dict:
    along = [{name: value for name, value in found.items() if name != "seconds"} for found in line["history"]]
    return {name: value for name, value in line.items() if name != "seconds"} | {"history": along}


def strict(text: str) -> dict:
    """JSON as the standard has it, which knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def steps_of(folder: Path) -> list[int]:
    return [line["step"] for line in runs.metrics(folder)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """The lines of 2 + 2 runs that nobody stopped, by key, by one worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "mixture", SMALL)
        lines = run_study("mixture", tmp_path_factory.mktemp("undisturbed") / "study", 2, STEPS)
    return dict(zip(WANTED, lines, strict=True))


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A folder with nothing but those lines, as it comes from elsewhere."""
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "runs.jsonl").write_text("".join(json.dumps(undisturbed[key]) + "\n" for key in WANTED))
    return tmp_path / "finished"


def test_a_line_says_all(undisturbed):
    line = undisturbed["ali-001"]
    drawn = {name: list(to) if name == "betas" else to for name, to in at_random(1).items()}
    made = {"arm": "ali", "run": 1, "recipe": "mixture-ali-paper", "seed": 1, "steps": STEPS, "batch_size": 20, **drawn}
    assert (made | {"decay": False, "r1": 0.0, "ema": 0.0, "diverged": False}).items() <= line.items()
    assert [found["step"] for found in line["history"]] == MEASURED
    assert all(found.keys() == {"step", "seconds", *MEASURES} for found in line["history"])
    assert {name: line[name] for name in MEASURES} == {name: line["history"][-1][name] for name in MEASURES}
    assert 0 < line["history"][0]["seconds"] <= line["history"][-1]["seconds"] == line["seconds"]
    assert 0 <= line["identity_drawn"] <= 1 and "identity_drawn" not in undisturbed["gan-001"]
    assert strict(json.dumps(line)) == line


@pytest.mark.parametrize(("game", "ema"), [("gan", 0.0), ("ali", 0.99)])
def test_a_run_that_diverges_counts_and_is_read_back(tmp_path, monkeypatch, game, ema):
    study = Study("", {"ali": (f"mixture-{game}-paper", {"lr": 1e6, "ema": ema})}, steps=300, runs=1)
    monkeypatch.setitem(STUDIES, "mixture", study)
    line = one_run(settings_of(study, "ali", 0, 300), tmp_path / "runs" / "ali-000")
    assert line["diverged"] is True and line["steps"] == 300 and line["lr"] == 1e6
    assert (line["modes"], line["within_3std"], line["strict_modes"]) == (0, 0.0, 0)
    assert [found["step"] for found in line["history"]] == [100]
    assert line.get("reconstruction_drawn") is None and strict(json.dumps(line, allow_nan=False)) == line
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
    assert not (folder / "checkpoint.pt").exists() and runs.settings(folder)["seed"] == 0
    monkeypatch.setattr(runs, "save", save)
    assert without_times(one_run(ours, folder)) == without_times(undisturbed["gan-000"])
    assert without_times(one_run(ours, folder)) == without_times(undisturbed["gan-000"])  # of its last checkpoint


@given(order=st.randoms(), dropped=st.sets(st.sampled_from(sorted(settings_of(SMALL, "ali", 0, STEPS)))))
def test_a_line_may_lack_what_was_off_and_has_no_order(order, dropped):
    line = {**settings_of(SMALL, "ali", 0, STEPS), **MEASURES, "diverged": False}
    named = {"arm", "run", "seed", "steps", "fast"}  # and `fast`, which lines of format 1 have as `plain`
    names = [name for name in line if name not in dropped - named]
    order.shuffle(names)
    text = json.dumps({name: line[name] for name in names}).encode()
    if all(not line[name] for name in line.keys() - names):
        assert studies.parsed(text, SMALL, STEPS, "line 1") == ("ali-000", json.loads(text))
    else:
        with pytest.raises(AlikitError, match="line 1: no run of this study"):
            studies.parsed(text, SMALL, STEPS, "line 1")


# Whoever is killed.


def test_killed_and_stopped_it_finishes_as_if_nothing_had_happened(undisturbed, tmp_path):
    """What a person does from a shell, and all the other processes, are killed in tests/faults."""
    out = tmp_path / "study"

    def kill(steps, finished):
        if steps:
            random.choice(multiprocessing.active_children()).kill()

    with pytest.raises(AlikitError, match="a worker was killed: finished runs are kept, and the same command goes on"):
        run_study("mixture", out, 2, STEPS, workers=2, watch=kill)

    def stop(steps, finished):
        if steps > 100 or finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("mixture", out, 2, STEPS, watch=stop)
    assert not multiprocessing.active_children() and not (out / runs.LOCK).exists()

    seen = []
    lines = run_study("mixture", out, 2, STEPS, workers=2, watch=lambda *told: seen.append(told))
    assert [key_of(line["arm"], line["run"]) for line in lines] == WANTED
    assert [without_times(line) for line in lines] == [without_times(undisturbed[key]) for key in WANTED]
    assert [strict(line) for line in (out / "runs.jsonl").read_text().splitlines()] == lines
    for key in WANTED:  # its first steps were done once
        steps = steps_of(out / "runs" / key)
        assert steps[0] == 100 and steps.count(100) == 1 and steps[-1] == STEPS
        assert {*os.listdir(out / "runs" / key)} == {"settings.json", "metrics.jsonl", "weights.safetensors"}
    assert seen[-1] == (4 * STEPS, 4) and all(0 <= steps <= 4 * STEPS and 0 <= done <= 4 for steps, done in seen)


def test_what_stops_a_worker_is_said_here(tmp_path):
    folder = tmp_path / "study" / "runs" / "ali-000"
    studies.begin_folder(folder, settings_of(SMALL, "ali", 0, STEPS), load("mixture")[0])
    (folder / "checkpoint.pt").write_bytes(b"noise")
    refused(tmp_path / "study", "ali-000/checkpoint.pt is damaged")


def elsewhere(out: Path, url: str) -> None:
    STUDIES["mixture"] = SMALL
    run_study("mixture", out, 2, STEPS, store=url)


def test_two_at_once_on_one_store_and_a_study_that_grows(undisturbed, finished, tmp_path):
    """One has the first run of each arm from elsewhere; the other has nothing."""
    first = (finished / "runs.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (finished / "runs.jsonl").write_bytes(b"".join(first))
    url, other = f"sqlite:///{tmp_path / 'shared.db'}", tmp_path / "other"
    run_study("mixture", finished, 1, STEPS, store=url)
    process = multiprocessing.get_context("forkserver").Process(target=elsewhere, args=(other, url))
    process.start()
    ours = run_study("mixture", finished, 2, STEPS, store=url)
    process.join(120)
    assert process.exitcode == 0
    assert [without_times(line) for line in ours] == [without_times(undisturbed[key]) for key in WANTED]
    assert (finished / "runs.jsonl").read_bytes() == (other / "runs.jsonl").read_bytes()
    assert (other / "runs.jsonl").read_bytes().startswith(b"".join(first))
    trained = [folder.name for folder in (*finished.glob("runs/*"), *other.glob("runs/*"))]
    assert sorted(trained) == ["ali-001", "gan-001"]


def test_what_is_finished_is_read_back_in_order_and_not_run_again(finished, undisturbed):
    """Also beside what an older version or nobody can read: the books of Optuna, which it kept."""
    file = finished / "runs.jsonl"
    before = file.read_bytes()
    file.write_bytes(b"".join(reversed(before.splitlines(keepends=True))))
    (finished / "study.db").write_bytes(bytes(99))
    assert run_study("mixture", finished, 1, STEPS) == [undisturbed[key] for key in WANTED[:2]]
    assert run_study("mixture", finished, 2, STEPS, workers=2) == [undisturbed[key] for key in WANTED]
    assert file.read_bytes() == before and not (finished / "runs").exists()


# Who has which run of a store.


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time of day, which the test sets."""
    now = [1e9]
    monkeypatch.setattr(studies.time, "time", lambda: now[0])
    return now


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


def test_a_claim_is_given_up_when_its_call_is_stopped_or_shows_no_sign(tmp_path, clock):
    ours, theirs, line = opened(tmp_path), opened(tmp_path), settings_of(SMALL, "ali", 0, STEPS) | MEASURES
    assert ours.claim("ali-000") and ours.claim("gan-000") and not theirs.claim("ali-000")
    clock[0] += studies.GRACE - 1
    ours.exchange({})
    clock[0] += studies.GRACE - 1
    assert not theirs.claim("ali-000")
    clock[0] += 2
    assert theirs.claim("ali-000") and not ours.claim("ali-000")  # ours was asleep
    clock[0] -= 86_400  # and the clock is set back
    assert theirs.claim("gan-000") and ours.claim("ali-000")
    theirs.close()
    assert ours.claim("gan-000")
    lines = {"ali-000": {**line, "diverged": False, "seconds": 1}}
    assert theirs.exchange(lines) == lines  # both were at it to the end: the first counts
    assert ours.exchange({"ali-000": {**lines["ali-000"], "seconds": 2}}) == lines
    clock[0] += 86_400
    assert not theirs.claim("ali-000")


# Bad input: one line, and everything stays as it was.


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(out: Path, says: str, steps: int = STEPS, store: str | None = None) -> None:
    before = files(out.parent)
    with pytest.raises(AlikitError) as error:
        run_study("mixture", out, 2, steps, store=store)
    assert re.search(says, str(error.value)) and "\n" not in str(error.value), error.value
    assert files(out.parent) == before


def test_runs_of_another_length_or_of_the_study_as_it_was(finished, tmp_path, monkeypatch):
    refused(finished, f"line 1: a run of {STEPS} steps: ask for as many, or use another folder", steps=300)
    monkeypatch.setitem(STUDIES, "mixture", replace(SMALL, first_seed=1000))
    refused(finished, "line 1: no run of this study as it is now")
    refused(finished / "runs.jsonl" / "study", "cannot write .*runs.jsonl.*")


def test_a_store_with_runs_of_the_study_as_it_was(finished, tmp_path, monkeypatch):
    """They would be written over the lines of those that are wanted now."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run_study("mixture", finished, 2, STEPS, store=url)
    monkeypatch.setitem(STUDIES, "mixture", replace(SMALL, first_seed=1000))
    refused(tmp_path / "new", "the study store .*: no run of this study as it is now", store=url)
    with sqlite3.connect(tmp_path / "store.db") as books:
        books.execute("""UPDATE alikit_runs SET line = '{"format": 2, "alikit": "9.1"}'""")
    refused(tmp_path / "new", r"is from alikit 9\.1 .*: install alikit 9\.1 or newer", store=url)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("nonsense", "cannot use the study store nonsense .*: mend it or name another"),
        # No driver for it is installed here; no password in a message.
        ("mysql://reader:word@nowhere.invalid/studies", r"store mysql://reader:\*\*\*@nowhere.invalid/studies "),
        ("nosuchdatabase://nowhere.invalid/studies", "cannot use the study store nosuchdatabase"),
        ("sqlite:///no/such/folder/study.db", "unable to open database file"),
        ("sqlite:///noise.db", "not a database"),
        ("sqlite:///view.db", "holds more than tables: name another"),
        ("sqlite:///other.db", "no such column"),
    ],
)
def test_a_store_that_cannot_be_used(tmp_path, monkeypatch, store, says):
    monkeypatch.chdir(tmp_path)
    Path("noise.db").write_bytes(random.Random(0).randbytes(20_000))
    for name, sql in (("view", "VIEW alikit_runs AS SELECT 1"), ("other", "TABLE alikit_runs (a TEXT)")):
        with sqlite3.connect(f"{name}.db") as books:
            books.execute(f"CREATE {sql}")
    refused(tmp_path / "out", says, store=store)


def test_only_a_store_needs_more_than_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    refused(tmp_path / "out", r"a store needs sqlalchemy: pip install 'alikit\[store\]'", store="sqlite:///a.db")


def changed(**values):
    return lambda line: json.dumps({**line, **values}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: json.dumps(line).encode()[:-30],
        *(
            lambda line, text=text: text
            for text in (b"", b"\xff\xfe\x00\x81" * 20, b"[" * 100_000, b"[1]", b"7", b'"a"')
        ),
        *(changed(arm=arm) for arm in ("vae", ["ali"], None)),
        *(changed(run=run) for run in ("1", None, 2, 1.0)),  # 2 has another seed
        *(changed(seed=seed) for seed in (1000, None)),
        changed(recipe="mixture-ali"),
        changed(lr=0.5),
        *(changed(within_3std=number) for number in (None, math.nan, "many", 10**400)),
        changed(diverged="no"),
        *(lambda line, name=name: json.dumps({**line, name: 0} | {name: None}).encode() for name in MEASURES),
        lambda line: json.dumps({name: line[name] for name in line if name != "steps"}).encode(),
    ],
)
def test_lines_that_are_none_of_this_study(finished, undisturbed, damage):
    file = finished / "runs.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], damage(undisturbed["ali-001"]) + b"\n", lines[3]]))
    with pytest.raises(
        AlikitError, match=r"runs\.jsonl, line 3: no run of this study .*: remove it there, or use anot"
    ):
        read_lines(file, SMALL, STEPS)
