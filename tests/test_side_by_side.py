"""Many runs at once: each is what it would have been alone, and what they leave is what a study's workers leave."""

import copy
import json
import math
import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from commands import alikit
from torch import nn

from alikit import runs
from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.evaluation import found_modes
from alikit.models import ALI, InverseMapping
from alikit.networks import Deterministic, Discriminator, Frozen, mlp
from alikit.recipes import RECIPES
from alikit.side_by_side import SideBySide, run_side_by_side
from alikit.studies import STUDIES, Study, run_study
from alikit.training import Config, Trainer

STEPS = 10
SETTINGS = [(0.01, (0.5, 0.999)), (0.001, (0.0, 0.9)), (0.02, (0.9, 0.99))]
POINTS = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + 1
DATA = Dataset("points", POINTS)


class Calm(ALI):
    """With the same prior draws each time, so that nothing is left to chance."""

    def prior(self, n):
        return torch.linspace(-1, 1, 2 * n).view(n, 2)


def ali(seed: int, dropout: float = 0.0) -> Calm:
    torch.manual_seed(seed)
    encoder, decoder = (Deterministic(mlp([2, 8, 8, 2], batch_norm=True)) for _ in range(2))
    judged = mlp([4, 8, 8, 1], pieces=3, dropout=dropout)
    return Calm(encoder, decoder, Discriminator([nn.Identity(), nn.Identity()], judged), 2)


class WholeBatches(SideBySide):
    def batch(self):
        return self.x.expand(len(self._games), *self.x.shape)


def together(games, kind=SideBySide, settings=SETTINGS, data=DATA):
    lr, betas = (torch.tensor(column) for column in zip(*settings, strict=True))
    return kind(games, data, lr, betas, batch_size=len(data))


@pytest.fixture
def _double():
    """Two ways to the same numbers, whose rounding Adam would enlarge."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("mixture")])
def test_each_run_is_what_it_is_alone(name, monkeypatch):
    """With the same noise and masks: weights, and the statistics of batch norm with their counter. With plain Adam."""

    def fixed(shape, *_, **__):
        return torch.linspace(-2, 2, math.prod(shape)).sin().reshape(shape)

    monkeypatch.setattr(torch, "randn", lambda *shape, **_: fixed(shape))
    monkeypatch.setattr(torch, "randn_like", lambda v: fixed(v.shape))
    monkeypatch.setattr("torch.distributions.normal._standard_normal", fixed)
    monkeypatch.setattr(nn.Dropout, "forward", lambda layer, v: v * (fixed(v.shape) > -0.5) / (1 - layer.p))
    monkeypatch.setattr("alikit.training.epoch_order", lambda n, epoch, seed: torch.arange(n))
    recipe = replace(RECIPES[name], r1=0.0, ema=0.0, decay=False, precise_bn=False, fast=False)

    def game(seed):
        torch.manual_seed(seed)
        return recipe.build((2,))

    points = DATA.but(x=POINTS.double())
    side = together([game(seed) for seed in range(3)], WholeBatches, data=points)
    side.run(3)
    for seed, ((lr, betas), found) in enumerate(zip(SETTINGS, side.games(), strict=True)):
        trainer = Trainer(game(seed), points, Config(batch_size=len(points), lr=lr, betas=betas))
        trainer.run(3)
        torch.testing.assert_close(found.state_dict(), trainer.model.state_dict(), rtol=1e-8, atol=1e-9)
        assert all(
            learned.requires_grad != torch.equal(learned, first)
            for learned, first in zip(found.parameters(), game(seed).parameters(), strict=True)
        )


@pytest.mark.parametrize(("kind", "dropout"), [(SideBySide, 0.0), (WholeBatches, 0.5)])
def test_runs_have_their_own_batches_and_masks_of_dropout(kind, dropout):
    """Two runs with the same weights and settings become different."""
    side = together([ali(0, dropout), ali(0, dropout)], kind, settings=SETTINGS[:1] * 2)
    side.run(1)
    first, second = (game.discriminator.state_dict() for game in side.games())
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_frozen_stays():
    torch.manual_seed(0)
    parts = [(mlp([2, 8, 2]), mlp([2, 8, 2], batch_norm=True)) for _ in range(2)]
    games = [InverseMapping(Deterministic(free), Frozen(Deterministic(fixed)), 2) for free, fixed in parts]
    before = [copy.deepcopy(game.state_dict()) for game in games]
    side = together(games, settings=SETTINGS[:2])
    side.run(3)
    for game, old in zip(side.games(), before, strict=True):
        same = {name: torch.equal(tensor, old[name]) for name, tensor in game.state_dict().items()}
        assert all(kept == name.startswith("decoder") for name, kept in same.items())


@pytest.fixture(autouse=True, scope="module")
def _quick_study():
    """GANs, of which there is less to measure."""
    arms = {arm: ("mixture-gan-paper", {"batch_size": size}) for arm, size in (("large", 100), ("small", 50))}
    with patch.dict(STUDIES, {"mixture": replace(STUDIES["mixture"], arms=arms)}):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a command, where no database is."""
    out = tmp_path_factory.mktemp("side") / "study"
    with patch.dict(sys.modules, {"sqlalchemy": None}):
        assert alikit(f"study mixture --runs 2 --steps {STEPS} --side-by-side --out {out}").status == 0
    return out


def test_it_leaves_what_workers_leave(folder):
    """A study takes the lines for its own, and runs none of them again."""
    before = (folder / "runs.jsonl").read_bytes()
    lines = run_study("mixture", folder, 2, STEPS)
    assert (folder / "runs.jsonl").read_bytes() == before
    assert [(line["arm"], line["run"]) for line in lines] == [("large", 0), ("small", 0), ("large", 1), ("small", 1)]
    for line in lines:
        assert line["side_by_side"] == 2 and not line["diverged"]
        place = folder / "runs" / f"{line['arm']}-{line['run']:03d}"
        assert runs.read_settings(place)["lr"] == line["lr"] == STUDIES["mixture"].draw(line["run"])["lr"]
        device = "cuda" if torch.cuda.is_available() else "cpu"  # whose noise is another's
        found = found_modes(runs.load_model(place).to(device))
        assert found == {name: line[name] for name in found}
        assert line["history"][-1]["step"] == STEPS and line["history"][-1]["modes"] == line["modes"]


def test_only_what_is_missing_is_run(folder, tmp_path):
    kept, seen = (folder / "runs.jsonl").read_text().splitlines(), []
    (tmp_path / "runs.jsonl").write_text("\n".join(kept[:3]) + "\n")  # all but the last
    lines = run_side_by_side("mixture", tmp_path, 2, STEPS, lambda *numbers: seen.append(numbers))
    assert [json.dumps(line) for line in lines[:3]] == kept[:3] and seen == [(4 * STEPS, 3)]
    assert [place.name for place in (tmp_path / "runs").iterdir()] == ["small-001"] and lines[3]["side_by_side"] == 1


def test_a_run_that_diverges_counts_and_does_not_touch_the_others(tmp_path, monkeypatch):
    lr = {0: 1e-3, 1: 1e6}
    arms = {"gan": ("mixture-gan-paper", {})}
    monkeypatch.setitem(STUDIES, "mixture", Study("", arms, STEPS, 2, lambda run: {"lr": lr[run]}))
    fine, broken = run_side_by_side("mixture", tmp_path, 2, STEPS)
    assert broken["diverged"] and broken["modes"] == 0 and broken["within_3std"] == 0
    assert not fine["diverged"] and fine["modes"] > 0
    assert "NaN" not in (tmp_path / "runs.jsonl").read_text()


def test_arms_with_more_than_plain_adam_are_refused(tmp_path, monkeypatch):
    for setting in (
        {"r1": 0.1},
        {"r2": 0.1},
        {"lr_discriminator": 0.1},
        {"ema": 0.9},
        {"decay": True},
        {"precise_bn": True},
        {"bf16": True},
    ):
        monkeypatch.setitem(STUDIES, "mixture", Study("", {"ali": ("mixture-ali-paper", setting)}, STEPS))
        with pytest.raises(AlikitError, match=f"trains with {min(setting)}: leave --side-by-side out"):
            run_side_by_side("mixture", tmp_path / "out", 2, STEPS)
        assert not (tmp_path / "out").exists()
