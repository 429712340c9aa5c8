"""A reader's own game and a reader's own setting: one file, and they train, resume, and are evaluated and recorded."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from games import ali, differ, readme_recipes, snapshot
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from alikit import ALI, RECIPES, Config, Recipe, Trainer, evaluation, load, load_model, register, runs
from alikit.architectures import SMALL
from alikit.data import Dataset
from alikit.runs import records, running
from alikit.training import CHECKED

GAME = Path(__file__).parent / "relativistic.py"
FEW = {"steps": 6, "changes": {"batch_size": 8, "bf16": False}}


@pytest.fixture(autouse=True)
def _own_recipes():
    before = dict(RECIPES)
    yield
    for name in RECIPES.keys() - before:
        del RECIPES[name]


@pytest.fixture
def pictures(tmp_path, request) -> str:
    """A folder of small pictures, in colour of 32x32 or of the shape that the test asks for."""
    shape, generator = getattr(request, "param", (32, 32, 3)), torch.Generator().manual_seed(0)
    for number in range(60):
        file = tmp_path / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        x = torch.randint(0, 128, shape, dtype=torch.uint8, generator=generator) + 127 * (number % 2)
        Image.fromarray(x.numpy()).save(file)
    return f"folder:{tmp_path / 'pictures'}"


def losses(run: Path) -> list[dict]:
    return [line for line in runs.metrics(run) if "discriminator" in line]


def test_a_new_game_is_one_file_of_at_most_25_lines(pictures, tmp_path):
    assert len(GAME.read_text().splitlines()) <= 25
    runpy.run_path(str(GAME))
    run, other = tmp_path / "relativistic", tmp_path / "ali"
    running.train("relativistic", run, data=pictures, **FEW)
    running.train("cifar10-small", other, data=pictures, **FEW)
    first, second = losses(run)[0], losses(other)[0]
    assert first["discriminator"] == pytest.approx(second["discriminator"] / 2, abs=0.1), "log 2 and log 4 at first"
    assert differ(snapshot(load_model(run)), snapshot(load_model(other)))
    running.resume(run, steps=8)
    assert losses(run)[-1]["step"] == 8 and type(load_model(run)).__name__ == "RelativisticALI"
    found = running.evaluate(run)
    assert found["reconstruction_mean"] >= 0
    kept = records.record(run, tmp_path / "record", load(pictures, 32), "a test's machine", "noise")
    assert kept.keys() >= found.keys() and runs.read_settings(tmp_path / "record")["recipe"] == "relativistic"


@pytest.mark.parametrize("pictures", [(28, 28)], indirect=True)
def test_small_grey_pictures_in_a_folder_need_one_recipe(pictures, tmp_path):
    """Of the shape of MNIST; what is measured on larger pictures only is left out."""
    networks = replace(SMALL, size=28)
    register("mnist", replace(RECIPES["digits"], summary="ALI on MNIST", data=pictures, networks=networks))
    run = tmp_path / "run"
    running.train("mnist", run, steps=4, changes={"batch_size": 8})
    kept = records.record(run, tmp_path / "record", load(pictures), "a test's machine", "grey noise")
    assert runs.read_settings(run)["x_shape"] == [3, 28, 28] and (tmp_path / "record" / "samples.png").is_file()
    assert "probe_accuracy" in kept and not any(name.startswith(("fidelity", "copying")) for name in kept)


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


def test_a_new_setting_is_one_field_and_one_parameter(tmp_path):
    """It reaches the game and the run folder's settings.json, and from there the game again."""

    @dataclass(frozen=True, kw_only=True, config=CHECKED)
    class WithR2(Recipe):
        r2: float = Field(0.0, ge=0, description="weight of the gradient penalty on p's pairs too")

    class R2(ALI):
        def __init__(self, encoder, decoder, discriminator, z_dim, r1=0.0, r2=0.0):
            super().__init__(encoder, decoder, discriminator, z_dim, r1)
            self.r2 = r2

        def losses(self, x, y=None):
            found = super().losses(x, y)
            for pair in self.pairs(x, y):
                members = [member.detach().requires_grad_() for member in pair]
                slopes = torch.autograd.grad(self.discriminator(*members).sum(), members, create_graph=True)
                penalty = sum(slope.square().flatten(1).sum(1) for slope in slopes).mean()
                found["discriminator"] = found["discriminator"] + self.r2 / 2 * penalty
            return found

    row = {name: getattr(RECIPES["digits"], name) for name in Recipe.__dataclass_fields__}
    register("with-r2", WithR2(**row | {"game": R2, "summary": "ALI with r2"}, r2=0.5))
    for name, changes, r2 in (("by-default", {}, 0.5), ("changed", {"r2": 2.0}, 2.0)):
        run = tmp_path / name
        running.train("with-r2", run, steps=2, changes=changes)
        running.resume(run, steps=3)
        assert json.loads((run / "settings.json").read_text())["r2"] == r2
        assert runs.trainer(runs.read_settings(run), load("digits")[0]).model.r2 == r2
    first, second = (losses(tmp_path / name)[0]["discriminator"] for name in ("by-default", "changed"))
    assert second > first
    with pytest.raises(ValueError, match="r2"):
        running.train("with-r2", tmp_path / "wrong", steps=2, changes={"r2": -1})
    register("without-r2", replace(RECIPES["with-r2"], game=ALI))
    with pytest.raises(ValueError, match=r"ALI has no r2: .* or give the game a parameter of that name"):
        running.train("without-r2", tmp_path / "wrong", steps=2)
    with pytest.raises(ValueError, match="no training setting r2"):
        running.train("digits", tmp_path / "none", steps=2, changes={"r2": 1})


def test_the_file_in_the_readme_works(tmp_path):
    """Its game with a hyperparameter, its recipe for pictures of another size, its metric."""
    (tmp_path / "mine.py").write_text(readme_recipes())
    runpy.run_path(str(tmp_path / "mine.py"))
    running.train("digits-margin", tmp_path / "run", steps=2, changes={"margin": 1.5})
    assert runs.read_settings(tmp_path / "run")["margin"] == 1.5
    assert 0 < running.evaluate(tmp_path / "run", ("sharpness",))["sharpness_samples"] < 1
    assert RECIPES["mnist"].build((3, 28, 28)).sample(2).shape == (2, 3, 28, 28)
    del evaluation.OWN_METRICS["sharpness"]
