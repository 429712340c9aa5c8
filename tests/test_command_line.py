"""The command line: what a run leaves behind, and one plain line for every mistake."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from commands import alikit, files, stopped
from games import readme_recipes
from PIL import Image
from safetensors.torch import load_file

from alikit import load, load_model, runs
from alikit.evaluation import OWN_METRICS
from alikit.recipes import RECIPES
from alikit.runs.watching import TIMES
from alikit.studies import STUDIES

OF_POINTS = {"modes", "within_3std", "strict_modes", "kl_uniform"}


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What a run leaves behind.


def test_a_run_folder(digits):
    pictures = {f"{kind}-{step:07d}.png" for kind in ("samples", "reconstructions") for step in (15, 20)}
    expected = {"settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"} | pictures
    assert {file.name for file in digits.iterdir()} == expected
    settings = json.loads((digits / "settings.json").read_text())
    known = {"recipe": "digits", "data": "digits", "seed": 3, "steps": 20, "batch_size": 100, "x_shape": [1, 8, 8]}
    assert (known | {"command": "alikit train digits --steps 20 --seed 3 --out digits"}).items() <= settings.items()
    assert settings["versions"]["torch"] == torch.__version__
    *reports, last = runs.metrics(digits)
    assert [report["step"] for report in reports] == sorted([*range(2, 21, 2), 15]), "15 is an epoch"
    said = {"step", "images_per_second", *TIMES, "discriminator", "generator", "cycle", "spread", "sigma"}
    assert all(report.keys() == said for report in reports)
    assert {"step", "reconstruction_drawn", "reconstruction_mean", "reconstruction_baseline"} <= last.keys()
    model = load_model(digits)
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert load_file(digits / "weights.safetensors").keys() == model.state_dict().keys()
    for name in ("samples-0000020.png", "reconstructions-0000020.png"):
        with Image.open(digits / name) as picture:  # 60 digits of 64 x 64 pixels in rows of 10, lines of 2 between
            assert picture.size == (2 + 10 * 66, 2 + 6 * 66)


def test_a_run_may_change_its_recipe():
    changes = "--batch 10 --lr 0.002 --set betas=[0.3,0.999] --set weight-std=0.5 --float32"
    assert alikit(f"train mixture-gan-paper --steps 2 --seed 5 {changes}").status == 0
    run, recipe = Path("runs/mixture-gan-paper-seed5"), RECIPES["mixture-gan-paper"]
    changed = {"batch_size": 10, "lr": 0.002, "betas": [0.3, 0.999], "weight_std": 0.5, "fast": False}
    assert (changed | {"decay": recipe.decay, "r1": recipe.r1}).items() <= runs.read_settings(run).items()
    weights = torch.cat([w.flatten() for w in load_file(run / "weights.safetensors").values() if w.ndim == 2])
    assert weights.std().item() == pytest.approx(0.5, rel=0.05)
    assert alikit(f"resume {run} --steps 4").status == 0
    assert changed.items() <= runs.read_settings(run).items()


def test_a_run_says_what_it_read(caplog):
    np.savez("grey.npz", x=np.arange(1960).reshape(40, 7, 7) % 256, y=[*"abcde"] * 8)
    assert alikit("train digits --data grey.npz --steps 1 --batch 10 --out run").status == 0
    assert caplog.messages[0] == "file:grey.npz: 36 + 4 examples of 1 x 7 x 7, 5 classes (a, b, c, d, ...)"


# Sampling, reconstructing, measuring.


@pytest.mark.parametrize(
    ("command", "size"),
    [("sample {} --out {}.png -n 13", (662, 134)), ("reconstruct {} --out {}.png -n 5 --mean", (662, 68))],
)
def test_pictures_are_written(digits, tmp_path, command, size):
    before = files(digits)
    for name, more in (("a", ""), ("b", "--seed 0"), ("c", "--seed 1")):
        finished = alikit(f"{command.format(digits, name)} {more}")
        assert (finished.status, finished.err) == (0, "") and f"{name}.png" in finished.out
    with Image.open("a.png") as picture:
        assert picture.format == "PNG" and picture.size == size
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b and (b != c) == command.startswith("sample")
    assert files(digits) == before and len([*tmp_path.iterdir()]) == 3


def test_evaluate_repeats_what_training_found(digits, gan):
    """Of averaged weights, where there are some."""
    assert alikit("train mixture-ali --steps 20 --batch 10 --out ali").status == 0
    for run in (digits, gan, Path("ali")):
        last = runs.metrics(run)[-1]
        found = json.loads(alikit(f"evaluate {run}").out)
        assert {"step": last["step"], **found} == pytest.approx(last, abs=2e-5)
        assert found.keys() == OF_POINTS if run == gan else len(found) > 4
    of_codes = {"purity", "prior_distance", "reconstruction_drawn", "identity_strict", "prior_floor"}
    assert OF_POINTS | of_codes <= found.keys()
    svm = json.loads(alikit(f"evaluate {digits} --metrics svm --labels 20").out)
    assert (svm["svm_labels"], svm["svm_n"], svm["svm_dims"]) == (20, 297, 528) and 0 < svm["svm_pixels_error"] < 0.5
    assert alikit(f"sample {gan} --out a.png -n 100").status == 0
    with Image.open("a.png") as picture:
        assert picture.size == (500, 500)


def test_nothing_asks_for_help():
    finished = alikit("")
    assert finished.status == 0 and finished.out.startswith("Usage: alikit") and not finished.err


# A few labels.


def test_a_run_with_labels():
    finished = alikit("train digits-semi --labels 20 --steps 3 --out run")
    known = runs.read_settings(Path("run"))
    assert (known["labels"], known["labelled_batch"], known["number_of_classes"]) == (20, 50, 10)
    found = json.loads(finished.out.splitlines()[0])
    assert found["classification_n"] == 297
    assert found["classification_low"] < found["classification_error"] < found["classification_high"]
    model, (_, held_out) = load_model("run"), load("digits")
    wrong = (model.classify(held_out.floats()).argmax(1) != held_out.labels).float().mean().item()
    assert wrong == pytest.approx(found["classification_error"], abs=1e-5)


def test_a_classifier_draws_nothing():
    """It leaves no pictures behind, and says so in one line when it is asked for some."""
    assert alikit("train digits-supervised --steps 2 --out run").status == 0
    assert runs.read_settings(Path("run"))["labels"] == RECIPES["digits-supervised"].labels == 50
    assert {file.suffix for file in Path("run").iterdir()} == {".json", ".jsonl", ".safetensors", ".pt"}
    for command, says in (("sample", "a classifier draws nothing"), ("reconstruct", "")):
        finished = alikit(f"{command} run --out a.png")
        assert (finished.status, finished.out) == (2, "") and not Path("a.png").exists()
        assert re.fullmatch(f"alikit: .*{says}.*: .+\n", finished.err) and "GAN" not in finished.err
    assert alikit("train digits-feature-matching --labels 20 --steps 2 --out gan").status == 0
    assert alikit("sample gan --out a.png").status == 0 and Path("a.png").exists()
    assert all(name.startswith("classification_") for name in json.loads(alikit("evaluate gan").out))


# Folders of pictures, and decoders of other runs.


def test_a_folder_of_pictures(paint, tmp_path):
    """Its class folders are labels, as many of each; loose pictures have no class."""
    for number in range(40):
        paint(f"my pets/{('cat', 'dog')[number % 2]}/{number}.png", (6 * number, 0, 0), size=(12, 10))
        paint(f"loose/{number}.png", (6 * number, 0, 0))
    (tmp_path / "my pets" / "cat" / "broken.jpg").touch()
    train = "train digits-semi --labels 6 --batch 8 --steps 2"
    assert alikit(f"{train} --data 'folder:my pets' --size 8 --skip-corrupt --out run").status == 0
    assert runs.read_settings(Path("run"))["x_shape"] == [3, 8, 8]
    assert load_model("run").classify(torch.rand(3, 3, 8, 8)).shape == (3, 2)
    assert re.match(r"\d originals and their reconstructions in a.png\n", alikit("reconstruct run --out a.png").out)
    finished = alikit(f"{train} --data folder:loose --out none")
    assert finished.status == 2 and not Path("none").exists()
    assert "data whose examples have one class each: choose other data, or sort" in finished.err


# Recipes of a reader's own.


@pytest.fixture
def mine() -> Iterator[None]:
    """The README's file of recipes, mine.py, for this test."""
    with patch.dict(RECIPES), patch.dict(OWN_METRICS):
        Path("mine.py").write_text(readme_recipes())
        yield


def test_recipes_lists_all(mine):
    finished = alikit("--recipes mine.py recipes")
    lines = {line.split()[0]: line for line in finished.out.splitlines() if line}
    assert finished.status == 0 and "digits-margin" in lines
    assert (
        any(line.startswith("margin=") for line in lines)
        and "lr=0.0001:" in lines
        and not any(line.startswith("z_dim") for line in lines)
    )
    for name, recipe in RECIPES.items():
        assert recipe.summary in lines[name] and (recipe.data or "folder:PATH") in lines[name]
    for name, study in STUDIES.items():
        assert study.summary in lines[name] and f"{study.runs} x {study.steps} steps" in lines[name]


def test_what_a_stopped_run_says_has_the_file_of_its_recipe(mine):
    line = "--recipes mine.py train digits-margin --set margin=2 --steps 4 --out run"
    said = stopped(line, 2).err.splitlines()[-1]
    assert said == "stopped at step 2 of 4, saved; go on with: alikit --recipes mine.py resume run --steps 4"
    assert "go on with: alikit --recipes mine.py resume run" in alikit(line).err
    del RECIPES["digits-margin"]  # as in a new process
    assert alikit(said.partition("with: alikit ")[2]).status == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nx = = 2\n", "line 2: SyntaxError: invalid syntax"),
        ("from alikit import Config\n\nConfig(\n    lr=-1)\n", "line [34]: ValidationError: lr: Input should be gr"),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_a_mistake_in_such_a_file(text, says):
    Path("mine.py").write_text(text)
    finished = alikit("--recipes mine.py recipes")
    assert (finished.status, finished.out) == (2, "")
    assert re.fullmatch(rf"alikit: mine\.py, {says}.*: correct it\n", finished.err), finished.err


# Mistakes: one line on stderr, status 2, and nothing made or changed.

LONG = "x" * 300


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train digit --out run", "no recipe called 'digit': did you mean digits?"),
        ("train digits --steps 0 --out run", "'--steps'.*alikit train --help"),
        ("train digits --out", "'--out' requires an argument: see alikit train --help"),
        ("--recipes", "'--recipes' requires an argument: see alikit --help"),
        ("train", "Missing argument '(recipe|RECIPE)': see alikit train --help"),
        ("train digits --batch 1 --out run", "batch_size: Input should be greater than or equal to 2"),
        ("train digits --lr nan --out run", "lr: Input should be a finite number"),
        ("train digits --set betas=0.1 --out run", r"betas: .*: choose another value, such as \[0.5, 0.999\]"),
        ("train digits --set lr=true --out run", "lr: .* valid number: choose another value, such as 0.002"),
        (f"train digits --set lr={'[' * 100_000} --out run", "lr: Input should be a valid number"),
        ("train digits --set beta=1 --out run", "digits has no training setting beta: there are batch_size, lr, "),
        ("train digits --set scale=0.1 --out run", "no training setting scale: register a recipe of your own"),
        ("train digits --set lr --out run", "--set lr is no NAME=VALUE"),
        ("train digits --lr 1 --set lr=2 --out run", "lr is set twice: leave one out"),
        ("train digits --float32 --set fast=true --out run", "fast is set twice: leave one out"),
        ("train digits --set consistency=1 --out run", "ALI has no consistency: leave it out"),
        ("--recipes nowhere.py train digits --out run", "there is no file nowhere.py"),
        ("trian digits", "trian.*alikit --help"),
        ("train digits --steps 10 --epochs 1 --out run", "leave one out"),
        ("train digits --data folder:broken --out run", "broken/a.jpg.*--skip-corrupt"),
        (
            "train digits --data folder:mixed --size 0 --out run",
            "no pictures of 0x0: choose --size 1 ",
        ),
        ("train digits --out file", "file is there already"),
        ("train digits --out broken", "broken is there already: choose another folder$"),
        ("train digits --out file/run", "cannot write file/run .*"),
        ("train digits --out {digits}", "digits is there already: choose another folder, or .*alikit resume"),
        (f"train digits --out {LONG}", r"cannot use x+ \(File name too long\): give it a shorter name$"),
        ("train mixture-post-hoc --out run", "name its run folder as decoder"),
        ("train mixture-inverse --decoder {digits} --out run", "decoder is not this recipe's"),
        ("train digits --decoder {gan} --out run", "leave decoder out"),
        ("train digits --labels 20 --out run", "ALI has no labels: leave it out, choose another recipe"),
        ("sample nowhere", "nowhere is no run folder"),
        ("sample {digits} --grid", "is no conditional run"),
        ("reconstruct {gan} --out a.png", "a GAN cannot encode"),
        (
            "reconstruct {digits} --data mixture",
            "mixture holds examples of 2, this run is of 1 x 8 x 8: name other data",
        ),
        ("evaluate {gan} --metrics fidelity", "sees square pictures, RGB or grey.*leave out fidelity"),
        ("evaluate {digits} --inception", "for fidelity and copying: ask for one of them with --metrics"),
        ("report {digits}", "is a run, or the record of one: name the folder that such records lie in"),
        ("resume {digits} --steps 10", "is a run of 20 steps: ask for as many, or for more"),
        ("resume {digits} --steps 20", "has its 20 steps: ask for a larger number of steps"),
        ("study mixtures --out run", "no study called 'mixtures': there are mixture, "),
        ("study mixture --side-by-side --workers 2 --out run", "leave --workers"),
        ("study mixture --out file/run", "cannot write file/run .*"),
    ],
)
def test_mistakes(paint, tmp_path, digits, gan, line, says):
    paint("mixed/a.png", size=(8, 8)), paint("mixed/b.png", size=(9, 9))
    (tmp_path / "broken").mkdir(), (tmp_path / "broken" / "a.jpg").touch(), (tmp_path / "file").touch()
    before = files(tmp_path), files(digits), files(gan)
    finished = alikit(line.format(digits=digits, gan=gan))
    assert finished.status == 2 and finished.out == ""
    assert re.fullmatch(f"alikit: .*{says}.*\n", finished.err), finished.err
    assert (files(tmp_path), files(digits), files(gan)) == before


def test_a_study(monkeypatch):
    """From nothing, with one worker; then a summary of what is there. What befalls it is in test_studies.py."""
    arms = {arm: ("mixture-gan-paper", {"ema": ema}) for arm, ema in (("calm", 0.9), ("gan", 0.0))}
    monkeypatch.setitem(STUDIES, "mixture", replace(STUDIES["mixture"], arms=arms))
    finished = alikit("study mixture --runs 1 --steps 20 --out study")
    assert finished.status == 0, finished.err
    *summaries, where = finished.out.splitlines()
    lines = [json.loads(line) for line in Path("study/runs.jsonl").read_text().splitlines()]
    for summary, line, arm in zip(map(json.loads, summaries), lines, arms, strict=True):
        means = {name: round(line[name], 3) for name in OF_POINTS}
        assert summary == {"arm": arm, "runs": 1, "diverged": 0, **means} and line["steps"] == 20
    assert where == "every run in study/runs.jsonl"
    weights = {file.name for file in Path("study/runs/calm-000").iterdir()}
    assert weights == {"settings.json", "metrics.jsonl", "weights.safetensors"}
    found = json.loads(alikit("evaluate study/runs/calm-000").out)
    assert found == {name: lines[0][name] for name in found}
    again = alikit("study mixture --runs 1 --steps 20 --out study")
    assert (again.status, again.out) == (0, finished.out)
