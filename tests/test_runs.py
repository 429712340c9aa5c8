"""The run folder: written whole or not at all, and opened without trusting what is in it."""

import errno
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from alikit import runs
from alikit.data import Dataset, digits
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.training import Trainer

SETTINGS = {
    **{"recipe": "digits", "data": "digits", "size": None, "skip_corrupt": False, "x_shape": (1, 8, 8), "seed": 0},
    **{"batch_size": 100, "lr": 1e-4, "betas": (0.5, 0.999), "decay": False, "decoder": None, "steps": 2},
}


@pytest.fixture
def trainer() -> Trainer:
    torch.manual_seed(0)
    data = digits()
    trainer = Trainer(RECIPES["digits"].build(data.shape, data.mean()), data)
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


class Hostile:
    """What a pickle can hold: on loading, a file is made."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


# Where its data lies.


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("folder:data/cats", "folder:../../data/cats"),
        ("table:../faces", "table:../../../faces"),
        ("cifar10:data", "cifar10:../../data"),
        ("digits", "digits"),
        ("stand-in:svhn", "stand-in:svhn"),
        ("folder:/somewhere/cats", "folder:/somewhere/cats"),
    ],
)
def test_data_is_kept_as_seen_from_the_run(tmp_path, monkeypatch, typed, kept):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "cats"
    assert runs.placed(typed, folder) == kept
    assert runs.source(folder, {"data": "?", "data_from_run": kept}) == typed


def test_data_of_a_run_from_before():
    assert runs.source(Path("runs/cats"), {"data": "folder:data/cats"}) == "folder:data/cats"


def test_changed_data_is_noticed():
    data = digits()
    parts = data.split(297)
    settings = {"data": "digits", "digest": runs.digest(parts)}
    runs.check_same(settings, parts), runs.check_same({"data": "digits"}, parts)
    with pytest.raises(AlikitError, match=r"1500 \+ 297 examples then, 1400 \+ 297 now"):
        runs.check_same(settings, (parts[0].select(slice(1400)), parts[1]))
    parts[1].x[5, 0, 3, 3] ^= 1
    with pytest.raises(AlikitError, match="changed"):
        runs.check_same(settings, parts)


# Making one.


def test_settings_come_back(tmp_path):
    runs.create(tmp_path / "deep" / "run", SETTINGS)
    found = runs.settings(tmp_path / "deep" / "run")
    assert found == {"format": 1, **SETTINGS, "x_shape": [1, 8, 8], "betas": [0.5, 0.999]}
    assert names(tmp_path / "deep" / "run") == {"settings.json"}


def test_an_empty_folder_may_be_there(tmp_path):
    runs.create(tmp_path, SETTINGS)
    assert runs.settings(tmp_path)["recipe"] == "digits"


def test_what_a_process_left_that_was_killed_at_once_is_no_run(tmp_path):
    for name in (runs.LOCK, ".settings.json.123.partial"):
        (tmp_path / name).write_text("{")
    runs.create(tmp_path, SETTINGS)
    assert names(tmp_path) == {runs.LOCK, "settings.json"}


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(AlikitError, match=r"is there already: choose another --out$"):
        runs.create(tmp_path, SETTINGS)
    assert names(tmp_path) == {"precious"}
    runs.create(tmp_path / "run", SETTINGS)
    with pytest.raises(AlikitError, match=r"is there already: choose another --out, or .*alikit resume"):
        runs.create(tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("out", ["file", "file/run", "file/run/deeper"])
def test_a_file_in_the_way_is_refused(tmp_path, out):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(AlikitError, match="choose another --out"):
        runs.create(tmp_path / out, SETTINGS)
    assert (tmp_path / "file").read_text() == "kept" and names(tmp_path) == {"file"}


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.os, "access", lambda path, mode: False)
    with pytest.raises(AlikitError, match=r"cannot write to .*: choose another --out"):
        runs.check_new(tmp_path / "a" / "b")
    assert not names(tmp_path)


# Settings and log.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no run folder"),
        ("", "is damaged"),
        ('{"format": 1, "rec', "is damaged"),
        ("\udcff", "is damaged"),
        ("[]", "another version"),
        ('{"format": 2, "recipe": "digits"}', "install a newer alikit"),
        ('{"format": 1, "recipe": "gone"}', "another version"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, text, message):
    if text is not None:
        (tmp_path / "settings.json").write_text(text, errors="surrogateescape")
    with pytest.raises(AlikitError, match=message):
        runs.settings(tmp_path)


def test_a_log_is_taken_back_to_a_step(tmp_path):
    for step in (10, 20, 30):
        runs.log(tmp_path, {"step": step, "images_per_second": 1, "generator": step / 7})
    runs.log(tmp_path, {"step": 30, "reconstruction_mean": 0.1})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "gen')  # killed in the middle of a line
    runs.rewind_log(tmp_path, 20)
    assert [(line["step"], line["generator"]) for line in runs.metrics(tmp_path)] == [(10, 10 / 7), (20, 20 / 7)]


def test_a_log_of_something_else(tmp_path):
    """A line that was cut off has no end; this one has."""
    (tmp_path / "metrics.jsonl").write_text("hello\n")
    with pytest.raises(AlikitError, match="damaged in line 1"):
        runs.metrics(tmp_path)


def test_a_log_damaged_in_the_middle(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(AlikitError, match="damaged in line 2"):
        runs.metrics(tmp_path)


def test_log(tmp_path):
    lines = [{"step": 10, "generator": 1.5}, {"step": 20, "generator": 1.25}]
    for line in lines:
        runs.log(tmp_path, line)
    assert runs.metrics(tmp_path) == lines
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == lines


# Weights.


def test_weights_come_back(run, trainer):
    model = runs.load_model(run)
    assert model.state_dict().keys() == trainer.model.state_dict().keys()
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert not model.training


def test_loading_as_text_or_path(run):
    assert torch.equal(runs.load_model(str(run)).decoder.net[2].bias, runs.load_model(run).decoder.net[2].bias)


def test_weights_without_a_discriminator_are_a_model_without_one(run, trainer):
    x = trainer.data.floats(slice(5))
    whole = runs.load_model(run)
    state = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("discriminator.")}
    runs.save_weights(run, state)
    lean = runs.load_model(run)
    assert torch.equal(lean.encode(x, sample=False), whole.encode(x, sample=False)) and not lean.training
    assert torch.equal(lean.reconstruct(x, sample=False), whole.reconstruct(x, sample=False))
    assert not hasattr(lean, "discriminator")


def test_no_weights_yet(tmp_path):
    runs.create(tmp_path / "run", SETTINGS)
    with pytest.raises(AlikitError, match="holds no weights yet"):
        runs.load_model(tmp_path / "run")


def test_no_pipe_or_device_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(AlikitError, match=r"cannot write .*a\.png \(no regular file\): move that elsewhere, or choose"):
        runs.save_picture(Image.new("RGB", (5, 4)), tmp_path / "a.png")
    assert (tmp_path / "a.png").is_fifo() and names(tmp_path) == {"a.png"}


def test_a_log_is_not_written_through_a_link(run, tmp_path):
    (run / "metrics.jsonl").unlink(missing_ok=True)
    (run / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlikitError, match=r"cannot write .*metrics\.jsonl \(.*\): move that elsewhere, then go on"):
        runs.log(run, {"step": 1})
    assert not (tmp_path / "elsewhere").exists()


def test_no_settings_are_written_that_could_not_be_read(tmp_path):
    for changes, wrong in (({"steps": 10**13}, "steps"), ({"attributes": ["a\0b"]}, "attributes")):
        with pytest.raises(AlikitError, match=f"a run cannot be kept so, for its {wrong} is not .*: choose others"):
            runs.create(tmp_path / "new", SETTINGS | changes)
        assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere names of files are text")
def test_a_folder_may_be_called_anything(run, tmp_path):
    strange = tmp_path / os.fsdecode(b"na\xefve")
    run.rename(strange)
    assert runs.load_model(strange) is not None and runs.checkpoint(strange)["step"] >= 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize(
    ("name", "read"), [("weights.safetensors", runs.load_model), ("checkpoint.pt", runs.checkpoint)]
)
def test_what_is_no_file_is_not_called_missing(run, name, read, make):
    (run / name).unlink()
    make(run / name)
    with pytest.raises(AlikitError, match=rf"cannot read .*{name} \(no regular file\): "):
        read(run)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "another model", "one missing", "pickle"])
def test_weights_that_cannot_be_used(run, tmp_path, damage):
    file, trace = run / "weights.safetensors", tmp_path / "trace"
    weights = load_file(file)
    if damage == "another model":
        save_file(RECIPES["mixture-vae"].build((2,)).state_dict(), file)
    elif damage == "one missing":
        save_file({name: tensor for name, tensor in weights.items() if name != "decoder.net.2.bias"}, file)
    else:
        whole = file.read_bytes()
        content = {"empty": b"", "cut": whole[:-1], "text": b"weights", "pickle": pickle.dumps(Hostile(trace))}
        file.write_bytes(content[damage])
    says = r"weights\.safetensors is damaged or not what it should be: move it elsewhere, .* with: alikit resume "
    with pytest.raises(AlikitError, match=says):
        runs.load_model(run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(AlikitError, match=r"put weights of recipe digits there, or train again"):
        runs.load_model(run)
    assert not trace.exists()


# Checkpoints.


def test_a_checkpoint_goes_through_a_file(run, trainer):
    trainer.run(steps=4)
    again = Trainer(RECIPES["digits"].build((1, 8, 8)), digits())
    again.resume(runs.checkpoint(run))
    assert again.step == 2
    again.run(steps=4)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_checkpoint_with_an_adam_for_each_player(run):
    torch.save({"step": 3, "model": {}, "optimisers": {}, "random": torch.get_rng_state()}, run / "checkpoint.pt")
    with pytest.raises(AlikitError, match=r"checkpoint\.pt is from another version of alikit"):
        runs.checkpoint(run)


def test_no_checkpoint(tmp_path):
    with pytest.raises(AlikitError, match=r"checkpoint\.pt is missing: train again"):
        runs.checkpoint(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "picture", "list", "half a state"])
def test_checkpoints_that_cannot_be_used(run, damage):
    file = run / "checkpoint.pt"
    if damage == "picture":
        Image.new("RGB", (8, 8)).save(file, format="png")
    elif damage in ("list", "half a state"):
        torch.save({"list": [1, 2], "half a state": {"step": 3}}[damage], file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"state\n"}[damage])
    with pytest.raises(AlikitError, match=r"checkpoint\.pt is damaged or not what it should be: train again"):
        runs.checkpoint(run)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda thing, file: Path(file).write_bytes(pickle.dumps(thing))])
def test_a_checkpoint_cannot_run_code(run, tmp_path, write):
    trace = tmp_path / "trace"
    write({"step": Hostile(trace)}, run / "checkpoint.pt")
    with pytest.raises(AlikitError, match="damaged or not what it should be"):
        runs.checkpoint(run)
    assert not trace.exists()


def test_the_hostile_pickle_would_have_run_code(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


# Averaged weights, and what a run may change in its recipe.


def test_averaged_weights_are_the_model_and_training_goes_on_from_the_others(tmp_path):
    settings = {**SETTINGS, "recipe": "mixture-ali", "data": "mixture", "x_shape": (2,), "averaging": 0.9, "lr": 0.01}
    runs.create(tmp_path / "run", settings)
    data = Dataset("mixture", torch.randn(200, 2))
    trainer = runs.trainer(settings, data)
    trainer.run(steps=3)
    runs.save(tmp_path / "run", trainer)
    loaded, averaged = runs.load_model(tmp_path / "run").state_dict(), trainer.result.state_dict()
    assert all(torch.equal(loaded[name], averaged[name]) for name in averaged)
    assert any(not torch.equal(loaded[name], tensor) for name, tensor in trainer.model.state_dict().items())

    again = runs.trainer(settings, data)
    again.resume(runs.checkpoint(tmp_path / "run"))
    for one in (trainer, again):
        torch.manual_seed(1)
        one.run(steps=6)
    for one, other in ((trainer.model, again.model), (trainer.result, again.result)):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_precise_statistics_are_saved(tmp_path):
    settings = {**SETTINGS, "recipe": "mixture-ali", "x_shape": (2,), "averaging": 0.0}
    runs.create(tmp_path / "run", settings)
    trainer = runs.trainer(settings, Dataset("mixture", torch.randn(200, 2)))
    trainer.run(steps=3)
    runs.save(tmp_path / "run", trainer)
    saved, trained = runs.load_model(tmp_path / "run").state_dict(), trainer.model.state_dict()
    for name, tensor in saved.items():
        counted = "running" in name or "tracked" in name
        assert counted != torch.equal(tensor, trained[name]), name


def test_settings_decide_over_the_recipe():
    changes = {"lr": 0.02, "betas": [0.3, 0.9], "decay": True, "weight_std": 0.5, "r1": 0.7, "averaging": 0.5}
    changes |= {"precise_bn": True}
    settings = {**SETTINGS, "recipe": "mixture-ali-paper", "seed": 3, "batch_size": 7, **changes}
    trainer = runs.trainer(settings, Dataset("mixture", torch.randn(200, 2)))
    for group in trainer.optimiser.param_groups:
        assert group["lr"] == 0.02 and tuple(group["betas"]) == (0.3, 0.9)
    assert (trainer.batch_size, trainer.decay, trainer.seed, trainer.model.r1) == (7, True, 3, 0.7)
    assert trainer.precise_bn
    weights = torch.cat([p.flatten() for name, p in trainer.model.named_parameters() if p.ndim == 2])
    assert weights.std().item() == pytest.approx(0.5, rel=0.02)
    trainer.run(steps=2)
    assert trainer.result is not trainer.model


def test_settings_that_are_silent_leave_the_recipe_as_it_is():
    """Those of runs from before there was a choice."""
    silent = {name: SETTINGS[name] for name in SETTINGS if name not in runs.TRAINED_WITH}
    trainer = runs.trainer({**silent, "recipe": "mixture-ali"}, Dataset("mixture", torch.randn(200, 2)))
    recipe = RECIPES["mixture-ali"]
    assert (trainer.lr, trainer.model.r1, trainer.batch_size) == (recipe.lr, recipe.r1, recipe.batch_size)
    assert trainer.precise_bn is recipe.precise_bn is True
    assert trainer.result is not trainer.model


def test_what_a_run_keeps_is_json():
    for recipe in RECIPES.values():
        kept = runs.trained_with(recipe)
        assert kept.keys() == set(runs.TRAINED_WITH) and json.loads(json.dumps(kept)) == {
            **kept,
            "betas": list(recipe.betas),
        }


# Whole or not at all.


def test_a_full_disk_leaves_the_old_file(run, trainer, monkeypatch):
    before = {file.name: file.read_bytes() for file in run.iterdir()}

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    trainer.run(steps=3)
    with pytest.raises(
        AlikitError, match=r"weights\.safetensors \(No space left .*\): make room, then go on with: alikit"
    ):
        runs.save(run, trainer)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_kill_between_the_two_files(run, trainer, tmp_path, monkeypatch):
    """The first time the checkpoint is there alone, to go on from; later the weights may be newer than the checkpoint,
    but not older."""
    order, write = [], runs.write_whole
    monkeypatch.setattr(runs, "write_whole", lambda file, how: (order.append(file.name), write(file, how)))
    runs.save(run, trainer)
    (tmp_path / "new").mkdir()
    runs.save(tmp_path / "new", trainer)
    assert order == ["weights.safetensors", "checkpoint.pt", "checkpoint.pt", "weights.safetensors"]


def test_picture(tmp_path):
    runs.save_picture(Image.new("RGB", (5, 4), "red"), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.format, picture.size, picture.getpixel((4, 3))) == ("PNG", (5, 4), (255, 0, 0))
    assert names(tmp_path) == {"a.png"}


@pytest.mark.parametrize(
    ("out", "way"),
    [
        ("no/such/folder/a.png", "make its folder first"),
        ("folder", "move that elsewhere"),
        (".", "move that elsewhere"),
        ("file/a.png", "make that possible"),
    ],
)
def test_a_picture_that_cannot_be_written(tmp_path, monkeypatch, out, way):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir(), (tmp_path / "file").touch()
    with pytest.raises(AlikitError, match=rf"cannot write {out} \(.*\): {way}, or choose another --out"):
        runs.save_picture(Image.new("RGB", (5, 4)), Path(out))
    assert names(tmp_path) == {"folder", "file"} and not names(tmp_path / "folder")


def test_a_checkpoint_of_points(tmp_path):
    """The mixture's model has other parts; it goes through a file all the same."""
    runs.create(tmp_path / "run", {**SETTINGS, "recipe": "mixture-vae", "x_shape": (2,)})
    trainer = Trainer(RECIPES["mixture-vae"].build((2,)), Dataset("points", torch.randn(200, 2)))
    trainer.run(steps=1)
    runs.save(tmp_path / "run", trainer)
    assert torch.equal(runs.load_model(tmp_path / "run").log_scale, trainer.model.log_scale)


def test_settings_with_something_missing_are_refused(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"format": 1, "recipe": "digits"}))
    with pytest.raises(AlikitError, match="another version of alikit"):
        runs.settings(tmp_path)
