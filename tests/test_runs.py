"""The run folder: written whole or not at all, and opened without trusting what is in it; and the library's own calls
that train, resume and evaluate. Many more damaged files are in `tests/faults`."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alikit import ALI, RECIPES, VAE, AlikitError, Dataset, digits, load, load_model, runs
from alikit.runs import running
from alikit.training import Trainer

SETTINGS = {
    **{"recipe": "digits", "data": "digits", "size": None, "skip_corrupt": False, "x_shape": [1, 8, 8], "seed": 0},
    **{"steps": 2, "decoder": None, **RECIPES["digits"].config(), "betas": [0.5, 0.999]},
}
MIXTURE = {**SETTINGS, **RECIPES["mixture-ali"].config(), "recipe": "mixture-ali", "x_shape": [2]}


@pytest.fixture
def trainer() -> Trainer:
    trainer = runs.trainer(SETTINGS, digits())
    trainer.run(steps=2)
    return trainer


@pytest.fixture
def run(tmp_path, trainer) -> Path:
    """A run folder after two steps."""
    runs.create(tmp_path / "run", SETTINGS)
    runs.save(tmp_path / "run", trainer)
    return tmp_path / "run"


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("folder:data/cats", "folder:../../data/cats"),
        ("cifar10:data", "cifar10:../../data"),
        ("file:data/a:b.npz", "file:../../data/a:b.npz"),
        ("torchvision:MNIST:data", "torchvision:MNIST:../../data"),
        ("torchvision:MNIST:/data", "torchvision:MNIST:/data"),
        ("torchvision:MNIST", "torchvision:MNIST"),
        ("stand-in:svhn", "stand-in:svhn"),
        ("folder:/somewhere/cats", "folder:/somewhere/cats"),
    ],
)
def test_data_is_kept_as_seen_from_the_run(tmp_path, monkeypatch, typed, kept):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "cats"
    assert runs.placed(typed, folder) == kept
    assert runs.source(folder, {"data": "?", "data_from_run": kept}) == typed
    assert runs.source(folder, {"data": typed}) == typed  # of an earlier version


KNOWN = Dataset("mine", torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), ("cat", "dog"), {"size": torch.arange(4.0)})


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.tensor([1, 0, 0, 1])},
        {"classes": ("dog", "cat")},
        {"factors": {"size": torch.arange(4.0) + 1}},
        {"factors": {"weight": torch.arange(4.0)}},
        {"labels": None, "classes": (), "factors": {}},
    ],
)
def test_other_labels_classes_or_factors_are_noticed(changes):
    """Of runs from before this was kept only the examples are compared."""
    parts, others = (KNOWN, KNOWN), (KNOWN, replace(KNOWN, **changes))
    settings = {"digest": runs.digest(parts)}
    runs.check_same(settings, parts)
    with pytest.raises(AlikitError, match=r"mine has other labels, classes or factors than .* began with: name that"):
        runs.check_same(settings, others)
    runs.check_same({"digest": settings["digest"][:3]}, others)
    with pytest.raises(AlikitError, match="mine is not what this run began with"):
        runs.check_same({"digest": settings["digest"][:3]}, (KNOWN, replace(KNOWN, x=KNOWN.x + 1)))


# The folder and its log.


def test_settings_come_back_and_what_a_killed_process_left_is_no_run(tmp_path):
    for name in (runs.LOCK, ".settings.json.123.partial"):
        (tmp_path / name).write_text("{")
    for folder in (tmp_path, tmp_path / "deep" / "run"):
        runs.create(folder, SETTINGS)
        assert json.loads(json.dumps(runs.read_settings(folder))) == {"format": 3, **SETTINGS}
    assert names(tmp_path) == {runs.LOCK, "settings.json", "deep"}


@pytest.mark.parametrize("changes", [{"steps": 10**13}, {"attributes": ["a\0b"]}, {"lr": -1.0}, {"x_shape": [8, 8]}])
def test_no_settings_are_written_that_could_not_be_read(tmp_path, changes):
    with pytest.raises(AlikitError, match=f"cannot be kept so, for its {min(changes)}: .*: choose others"):
        runs.create(tmp_path / "new", SETTINGS | changes)
    assert not (tmp_path / "new").exists()


def test_a_log_is_rewound_to_a_step_and_not_written_through_a_link(tmp_path):
    lines = [{"step": step, "images_per_second": 1, "generator": step / 7} for step in (10, 20, 30)]
    for line in [*lines, {"step": 30, "reconstruction_mean": 0.1}]:
        runs.log(tmp_path, line)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "gen')  # killed in the middle of a line
    assert runs.metrics(tmp_path)[:3] == lines
    runs.rewind_log(tmp_path, 20)
    assert runs.metrics(tmp_path) == lines[:2]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        AlikitError, match=r"cannot write .*metrics\.jsonl \(.*\): move that elsewhere, or name another"
    ):
        runs.log(tmp_path / "run", {"step": 1})
    assert not (tmp_path / "elsewhere").exists()


# Weights and checkpoints.


@pytest.mark.parametrize("changes", [{"precise_bn": False, "lr": 0.01}, {"ema": 0.0}], ids=["average", "statistics"])
def test_the_result_is_saved_and_training_goes_on_from_the_other_weights(tmp_path, changes):
    settings, data = {**MIXTURE, **changes}, Dataset("mixture", torch.randn(200, 2))
    runs.create(tmp_path / "run", settings)
    trainer = runs.trainer(settings, data)
    trainer.run(steps=3)
    runs.save(tmp_path / "run", trainer)
    saved, trained = load_model(tmp_path / "run"), trainer.model.state_dict()
    assert same(saved, trainer.result) and not same(saved, trainer.model)
    if changes == {"ema": 0.0}:  # only what batch norm has counted differs
        for name, tensor in saved.state_dict().items():
            assert ("running" in name or "tracked" in name) != torch.equal(tensor, trained[name]), name
    again = runs.trainer(settings, data)
    again.resume(runs.checkpoint(tmp_path / "run"))
    for one in (trainer, again):
        torch.manual_seed(1)
        one.run(steps=6)
    assert same(trainer.model, again.model) and same(trainer.result, again.result)


def test_a_kill_between_the_two_files(run, trainer, tmp_path, monkeypatch):
    """The first time the checkpoint is there alone, to go on from; later the weights may be newer than the checkpoint,
    but not older."""
    order, write = [], runs.write_whole
    monkeypatch.setattr(runs, "write_whole", lambda file, how: (order.append(file.name), write(file, how)))
    runs.save(run, trainer)
    (tmp_path / "new").mkdir()
    runs.save(tmp_path / "new", trainer)
    assert order == ["weights.safetensors", "checkpoint.pt", "checkpoint.pt", "weights.safetensors"]


@pytest.mark.parametrize(
    ("out", "way"),
    [
        ("no/such/folder/a.png", "make its folder first"),
        ("folder", "move that elsewhere"),
        ("file/a.png", "make that possible"),
        ("pipe", "move that elsewhere"),
        ("a.jpg", "name it a.png"),
    ],
)
def test_a_picture_that_cannot_be_written(tmp_path, monkeypatch, out, way):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir(), (tmp_path / "file").touch(), os.mkfifo("pipe")
    with pytest.raises(AlikitError, match=f"cannot write {out}.*{way}"):
        runs.save_picture(Image.new("RGB", (5, 4)), Path(out))
    assert names(tmp_path) == {"folder", "file", "pipe"} and Path("pipe").is_fifo()


# What the command line calls.


class Other(ALI):
    pass


class Broken(ALI):
    def objective(self, q_logits, p_logits):
        return {"discriminator": q_logits.no_such_thing}


Mute = type("Mute", (ALI,), {"sample": lambda self, n, y: {}["no samples"]})
Cut = type("Cut", (ALI,), {"reconstruct": lambda self, x, y: x[..., :4]})


def test_paths_may_be_texts_and_a_game_under_the_same_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "mine", replace(RECIPES["digits"], game=Other))
    found = running.train("mine", "run", steps=1, save_every=None)
    assert running.evaluate("run") == pytest.approx(found, abs=2e-5)
    running.resume("run", steps=2)
    assert runs.read_settings("run")["game"].endswith(".Other")
    monkeypatch.setitem(RECIPES, "post-hoc", replace(RECIPES["digits"], frozen_decoder=True))
    running.train("post-hoc", "other", steps=1, decoder="run")
    monkeypatch.setitem(RECIPES, "mine", RECIPES["digits"])
    for call in (running.resume, running.evaluate, load_model):
        with pytest.raises(AlikitError, match=r"is of game .*\.Other, and recipe mine is now of .*ALI: register that"):
            call("run")


def test_classes_of_other_names_are_not_those_of_the_run(paint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, names in (("pets", ("cat", "dog")), ("birds", ("jay", "owl"))):
        for i, name in product(range(60), names):
            paint(f"{place}/{name}/{i}.png", (4 * i, 0, 0))
    changes = {"labels": 20, "batch_size": 20, "labelled_batch": 10}
    running.train("digits-supervised", "run", data="pets", steps=1, changes=changes)
    assert "classification_error" in running.evaluate("run")
    with pytest.raises(AlikitError, match=r"other classes than this run was trained with.*name data with cat, dog"):
        running.evaluate("run", data="birds")


def test_points_of_ones_own_are_not_measured_by_the_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for numbers in (1, 2, 5):
        np.savez("points.npz", x=np.random.default_rng(0).normal(size=(200, numbers)))
        found = running.train("mixture-ali", f"run-{numbers}", data="points.npz", steps=2)
        assert found.keys() == {f"reconstruction_{name}" for name in ("drawn", "mean", "baseline")}
        assert Path(f"run-{numbers}/samples-0000002.png").is_file()


def test_how_data_is_read_is_kept(tmp_path, monkeypatch):
    """And what is not said is not handed on, nor has an earlier run it."""
    monkeypatch.chdir(tmp_path)
    read, parts = [], load("digits")
    monkeypatch.setattr(running, "load", lambda source, *_, **how: (read.append((source, how)), parts)[1])
    (tmp_path / "pictures").mkdir()
    how = {"white": 4095.0, "splits": "learn,check"}
    running.train("digits", "run", data=Path("pictures"), steps=1, **how)
    settings = runs.read_settings("run")
    assert how.items() <= settings.items() and settings["data_from_run"] == "folder:../pictures"
    running.evaluate("run", ())
    running.evaluate("run", (), data=Path("pictures"))
    runs.write_settings(Path("run"), {name: value for name, value in settings.items() if name not in how})
    running.resume("run", steps=2)
    assert read == [("folder:pictures", how)] * 3 + [("folder:pictures", {})]
    with pytest.raises(
        AlikitError, match="a run keeps where its data lies, which a Tensor does not say: name a source"
    ):
        running.train("digits", "other", data=torch.zeros(4, 1, 8, 8))
    for wrong in ({"white": 0.0}, {"splits": 3}):
        with pytest.raises(AlikitError, match=f"cannot be kept so, for its {min(wrong)}"):
            runs.create(tmp_path / "new", SETTINGS | wrong)


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        ({}, {"steps": 0}, "at least 1 step or epoch"),
        ({}, {"epochs": 0}, "at least 1 step or epoch"),
        ({"networks": object()}, {}, "mine: ALI cannot take a step and draw .*size"),
        ({"encoder": None}, {}, "ALI needs an encoder"),
        ({"game": Broken}, {}, "mine: Broken cannot take a step .*no_such_thing"),
        ({"game": Mute}, {}, "mine: Mute cannot .*no samples"),
        ({"game": Cut}, {}, "mine: Cut cannot .*not of the data's shape"),
        ({"game": VAE, "encoder": "deterministic"}, {}, "a VAE's encoder is Gaussian: any other has no sigma to learn"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, changes, how, message):
    monkeypatch.setitem(RECIPES, "mine", replace(RECIPES["digits"], **changes))
    with pytest.raises(AlikitError, match=message):
        running.train("mine", tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()
