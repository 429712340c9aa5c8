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
from alikit.runs import running

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


def test_a_draw_is_a_run_of_the_command_line(tool, tmp_path, few_steps):
    train, held_out = alikit.load("digits")
    run = tmp_path / "run"
    running.train("digits-semi", run, seed=3, changes={"labels": 20}, command="alikit train")
    error = classification(alikit.load_model(run), held_out).error
    assert classification(tool.trained("digits-semi", train, 3, labels=20), held_out).error == error


def test_machines_are_asked_once(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "SVM_DRAWS", 2)
    parts, calls = alikit.load("digits"), []
    kinds = {"pixels + SVM": lambda: calls.append(1) or pixel_features}
    for _ in range(2):
        tool.machines(tool.Book(tmp_path / "metrics.json"), "digits", parts, 20, kinds, "here")
    entry = tool.Book(tmp_path / "metrics.json").entry("digits", 20, "pixels + SVM")
    assert len(calls) == 1 and len(entry["errors"]) == 2 and entry["dims"] == 64 and entry["cost"] in COSTS


def test_the_page_is_written_from_the_numbers_and_every_draw_is_kept(tool, found, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    tool.write_page(tool.Book(tmp_path / "metrics.json"))
    assert (tmp_path / "README.md").read_text() == (KEPT / "README.md").read_text()
    assert sorted(found["digits"], key=int) == ["10", "20", "50", "100", "200"]
    for name, entry in [row for data in found.values() for methods in data.values() for row in methods.items()]:
        assert all(0 <= error <= 1 for error in entry["errors"]), name
        assert not name.endswith("SVM") or (len(entry["errors"]), 0 <= entry["unconverged"] <= 100) == (100, True)
    for methods in found["digits"].values():
        assert len(methods) == 10 and all(len(methods[name]["errors"]) >= 10 for name in tool.GAMES)
    # Fifty labels with pictures beat fifty alone, by an interval over the draws that excludes zero.
    gain = np.subtract(*(found["digits"]["50"][name]["errors"] for name in ("supervised", "K+1")))
    assert ttest_1samp(gain, 0).confidence_interval().low > 0


def test_the_rows_of_the_paper():
    """Every row of its two tables, as numbers that make sense as percents."""
    paper, best = json.loads((KEPT / "paper.json").read_text()), "ALI, K+1, no feature matching"
    assert len(paper["svhn"]["1000"]) == 7
    assert {n: len(rows) for n, rows in paper["cifar10"].items()} == {"1000": 2, "2000": 2, "4000": 4, "8000": 2}
    for rows in (paper["svhn"]["1000"], *paper["cifar10"].values()):
        assert min(rows, key=lambda name: rows[name][0]) == best
