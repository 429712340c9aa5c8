"""A reader's own game and a reader's own setting: one file, and they train, resume, and are evaluated and recorded."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from games import ali, differ, readme_recipes, snapshot
from PIL import Image

from alikit import ALI, RECIPES, Config, Trainer, evaluation, load, load_model, register, runs
from alikit.data import Dataset
from alikit.runs import records, running

GAME = Path(__file__).parent / "relativistic.py"
FEW = {"steps": 6, "changes": {"batch_size": 8, "bf16": False}}


@pytest.fixture(autouse=True)
def _own_recipes(monkeypatch, tmp_path):
    before = dict(RECIPES)
    monkeypatch.chdir(tmp_path)
    yield
    for name in RECIPES.keys() - before:
        del RECIPES[name]


def pictures(name: str, *shape: int) -> str:
    """A folder of that name with small pictures."""
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        file = Path(name) / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        x = torch.randint(0, 128, shape, dtype=torch.uint8, generator=generator) + 127 * (number % 2)
        Image.fromarray(x.numpy()).save(file)
    return f"folder:{name}"


def losses(run: Path) -> list[dict]:
    return [line for line in runs.metrics(run) if "discriminator" in line]


def test_a_new_game_is_one_file_of_at_most_25_lines():
    assert len(GAME.read_text().splitlines()) <= 25
    runpy.run_path(str(GAME))
    data, run, other = pictures("photographs", 32, 32, 3), Path("relativistic"), Path("ali")
    running.train("relativistic", run, data=data, **FEW)
    running.train("cifar10-small", other, data=data, **FEW)
    first, second = losses(run)[0], losses(other)[0]
    assert first["discriminator"] == pytest.approx(second["discriminator"] / 2, abs=0.1), "log 2 and log 4 at first"
    assert differ(snapshot(load_model(run)), snapshot(load_model(other)))
    running.resume(run, steps=8)
    assert losses(run)[-1]["step"] == 8 and type(load_model(run)).__name__ == "RelativisticALI"
    found = running.evaluate(run)
    assert found["reconstruction_mean"] >= 0
    kept = records.record(run, Path("record"), load(data, 32), "a test's machine", "noise")
    assert kept.keys() >= found.keys() and runs.read_settings("record")["recipe"] == "relativistic"


def test_the_objective_decides_the_gradient():
    """Where it is constant nothing moves, and where it is turned round everything goes the other way at first."""

    class Times(ALI):
        def objective(self, *logits):
            return {player: self.factor * loss for player, loss in super().objective(*logits).items()}

    moved = []
    for factor in (0, 1, -1):
        torch.manual_seed(0)
        model = ali(kind=Times)
        model.factor = factor
        before = [p.detach().clone() for p in model.parameters()]
        Trainer(model, Dataset("points", torch.randn(50, 3)), Config(batch_size=10, lr=0.01)).run(1)
        moved.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    still, there, back = moved
    assert not any(change.any() for change in still)
    torch.testing.assert_close(there, [-change for change in back], atol=1e-5, rtol=0)
    model.objective = lambda *logits: {"critic": logits[0].mean()}
    with pytest.raises(ValueError, match="losses of critic, and its players are discriminator, generator: give both"):
        Trainer(model, Dataset("points", torch.randn(50, 3)), Config(batch_size=10)).run(1)


def test_the_file_in_the_readme_works():
    """Its hyperparameter reaches the game and the run folder, and from there the game again; its recipe takes small
    grey pictures; its metric is measured."""
    Path("mine.py").write_text(readme_recipes())
    runpy.run_path("mine.py")
    for name, changes, margin in (("by-default", {}, 0.5), ("changed", {"margin": 1.5}, 1.5)):
        run = Path(name)
        running.train("digits-margin", run, steps=2, changes=changes)
        running.resume(run, steps=3)
        assert json.loads((run / "settings.json").read_text())["margin"] == margin
        assert runs.trainer(runs.read_settings(run), load("digits")[0]).model.margin == margin
    first, second = (losses(Path(name))[0]["discriminator"] for name in ("by-default", "changed"))
    assert second > first
    register("no-margin", replace(RECIPES["digits-margin"], game=ALI))
    for name, changes, message in (
        ("digits-margin", {"margin": -1}, "margin"),
        ("no-margin", {}, r"ALI has no margin: .* or give the game an attribute of that name"),
        ("digits", {"margin": 1}, "no training setting margin"),
    ):
        with pytest.raises(ValueError, match=message):
            running.train(name, Path("wrong"), steps=2, changes=changes)
    run, data = Path("grey"), pictures("mnist", 28, 28)
    running.train("small-28", run, steps=4, changes={"batch_size": 8})
    kept = records.record(run, Path("record"), load(data), "a test's machine", "grey noise")
    assert runs.read_settings(run)["x_shape"] == [1, 28, 28] and Path("record", "samples.png").is_file()
    assert {"probe_accuracy", "copying_share"} <= kept.keys()
    assert not any(name.startswith("fidelity") for name in kept), "too few pictures for that"
    assert 0 < running.evaluate(run, ("sharpness",))["sharpness_samples"] < 1
    del evaluation.OWN_METRICS["sharpness"]
