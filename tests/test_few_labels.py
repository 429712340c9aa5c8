"""The measurements with few labels: the tool on small data, and what it recorded against its page and the claims."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

import alikit
from alikit.evaluation import classification
from alikit.evaluation.svm import COSTS, pixel_features

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "semi-supervised"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("semi_supervised", ROOT / "tools" / "semi_supervised.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found() -> dict:
    return json.loads((KEPT / "metrics.json").read_text())


@pytest.fixture
def few_steps(monkeypatch):
    for name, row in alikit.RECIPES.items():
        if name.startswith("digits"):
            monkeypatch.setitem(alikit.RECIPES, name, replace(row, steps=5))


def test_games_go_on_where_they_stopped(tool, tmp_path, few_steps):
    """A draw that is known is not made again, and is the same as in one go."""
    parts = alikit.load("digits")
    whole, again = tool.Book(tmp_path / "whole.json"), tool.Book(tmp_path / "again.json")
    tool.games(whole, "digits", parts, 20, 2, "here")
    tool.games(again, "digits", parts, 20, 1, "here")
    for method in tool.GAMES:
        again.entry("digits", 20, method)["errors"][0] = 0.5
    again.write()
    again = tool.Book(tmp_path / "again.json")
    tool.games(again, "digits", parts, 20, 2, "here")
    for method in tool.GAMES:
        entry = again.entry("digits", 20, method)
        assert entry["errors"] == [0.5, whole.entry("digits", 20, method)["errors"][1]]
        assert entry["recipe"] in alikit.RECIPES and entry["n"] == 297 and entry["hardware"] == "here"


def test_a_draw_is_that_of_the_command_line(tool, few_steps):
    train, held_out = alikit.load("digits")
    settings = {
        "recipe": "digits-semi",
        "decoder": None,
        "seed": 3,
        **alikit.runs.trained_with(alikit.RECIPES["digits-semi"]),
    }
    trainer = alikit.runs.trainer(settings | {"labels": 20}, train)
    trainer.run(5)
    theirs = tool.trained("digits-semi", train, 3, labels=20)
    assert classification(theirs, held_out) == classification(trainer.result, held_out)
    assert trainer.labelled.labels.bincount().tolist() == [2] * 10


def test_machines_are_asked_once(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "SVM_DRAWS", 2)
    parts, asked = alikit.load("digits"), []

    def features():
        asked.append(1)
        return pixel_features

    for _ in range(2):
        tool.machines(tool.Book(tmp_path / "metrics.json"), "digits", parts, 20, {"pixels + SVM": features}, "here")
    entry = tool.Book(tmp_path / "metrics.json").entry("digits", 20, "pixels + SVM")
    assert len(asked) == 1 and len(entry["errors"]) == 2 and entry["dims"] == 64 and entry["cost"] in COSTS


def test_a_finished_run_is_added(tool, tmp_path, few_steps):
    train, held_out = alikit.load("digits")
    recipe, run = alikit.RECIPES["digits-semi"], tmp_path / "run"
    settings = {
        **{"recipe": "digits-semi", "data": "digits", "size": None, "skip_corrupt": False, "seed": 1, "decoder": None},
        **alikit.runs.trained_with(recipe),
        **{"steps": 5, "x_shape": train.shape, "number_of_classes": 10, "command": "alikit train", "labels": 20},
        "versions": {"torch": "2"},
    }
    trainer = alikit.runs.trainer(settings, train)
    alikit.runs.create(run, settings)
    trainer.run(5)
    alikit.runs.save(run, trainer)
    alikit.runs.log(run, {"step": 5, "seconds": 36})
    book = tool.Book(tmp_path / "metrics.json")
    tool.add(book, run, "here")
    entry = tool.Book(tmp_path / "metrics.json").entry("digits", 20, "K+1")
    assert entry["errors"] == [round(classification(trainer.result, held_out).error, 5)]
    assert entry["pictures_seen"] == 500 and entry["hours"] == 0.01
    alikit.runs.write_settings(run, alikit.runs.settings(run) | {"steps": 6})
    with pytest.raises(alikit.AlikitError, match="at step 5 of 6"):
        tool.add(book, run, "here")


def test_the_page_is_written_from_the_numbers(tool, found, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    tool.write_page(tool.Book(tmp_path / "metrics.json"))
    assert (tmp_path / "README.md").read_text() == (KEPT / "README.md").read_text()


def test_every_draw_is_kept(tool, found):
    assert sorted(found["digits"], key=int) == [str(n) for n in tool.DIGITS]
    for by_labels in found.values():
        for methods in by_labels.values():
            for name, entry in methods.items():
                assert all(0 <= error <= 1 for error in entry["errors"]), name
                if name.endswith("SVM"):
                    assert len(entry["errors"]) == 100 and 0 <= entry["unconverged"] <= 100
    for methods in found["digits"].values():
        assert len(methods) == 10
        assert all(len(methods[name]["errors"]) >= 10 for name in tool.GAMES)


def test_fifty_labels_with_pictures_beat_fifty_alone(found):
    """By an interval over the recorded draws that excludes zero."""
    methods = found["digits"]["50"]
    gain = np.subtract(methods["supervised"]["errors"], methods["K+1"]["errors"])
    assert ttest_1samp(gain, 0).confidence_interval().low > 0


def test_the_paper_rows():
    """Every row of the paper's two tables, as numbers that make sense as percents."""
    paper = json.loads((KEPT / "paper.json").read_text())
    assert len(paper["svhn"]["1000"]) == 7
    assert {n: len(rows) for n, rows in paper["cifar10"].items()} == {"1000": 2, "2000": 2, "4000": 4, "8000": 2}
    best = "ALI, K+1, no feature matching"
    assert min(paper["svhn"]["1000"], key=lambda name: paper["svhn"]["1000"][name][0]) == best
    for rows in paper["cifar10"].values():
        assert min(rows, key=lambda name: rows[name][0]) == best
