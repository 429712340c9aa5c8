"""Studies as data: every arm can be built, and the settings drawn are those of the recorded runs."""

from dataclasses import replace
from statistics import mean

import pytest

from alikit.recipes import RECIPES
from alikit.studies import STUDIES, as_they_are, at_random

NOT_A_NAME = set("/\\ :?%#")


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_is_a_recipe_with_settings_it_has(name):
    study = STUDIES[name]
    assert study.summary and study.steps >= 1 and study.runs >= 1 and study.first_seed >= 0
    for arm, (recipe, changes) in study.arms.items():
        row = replace(RECIPES[recipe], **changes, **study.draw(0))
        assert row.data and not row.needs_decoder
        model = row.build((2,))
        assert row.game == "vae" or model.r1 == row.r1
        assert not NOT_A_NAME & set(arm)  # it names a folder
    built = [(recipe, sorted(changes.items())) for recipe, changes in study.arms.values()]
    assert all(built.count(arm) == 1 for arm in built)


def test_settings_of_the_recorded_runs():
    """Worked out by hand from Python's generator. To change them makes the recorded runs those of another study."""
    assert at_random(0) == {"lr": 0.0004885, "betas": (0.6822, 0.999), "weight_std": 0.01549}
    assert at_random(1) == {"lr": 1.857e-05, "betas": (0.7627, 0.999), "weight_std": 0.04675}


def test_random_settings_fill_their_ranges():
    drawn = [at_random(run) for run in range(1000)]
    assert drawn == [at_random(run) for run in range(1000)]
    ranges = {"lr": (1e-5, 1e-4, 1e-3), "weight_std": (0.004, 0.02, 0.1)}  # the published value half way, in factors
    for name, (low, middle, high) in ranges.items():
        values = [settings[name] for settings in drawn]
        assert low <= min(values) < 1.02 * low and high / 1.02 < max(values) <= high
        assert mean(value < middle for value in values) == pytest.approx(0.5, abs=0.05)
    beta1 = [settings["betas"][0] for settings in drawn]
    assert 0 <= min(beta1) < 0.01 and 0.89 < max(beta1) <= 0.9 and mean(beta1) == pytest.approx(0.45, abs=0.03)
    assert {settings["betas"][1] for settings in drawn} == {0.999}


def test_where_nothing_is_drawn_runs_differ_in_seeds_alone():
    assert as_they_are(0) == as_they_are(7) == {}


def test_both_readings_of_the_published_beta1():
    arms = STUDIES["mixture-published"].arms.values()
    found = {(recipe, changes["betas"]) for recipe, changes in arms}
    games = ("mixture-ali-paper", "mixture-gan-paper")
    assert found == {(recipe, (beta1, 0.999)) for recipe in games for beta1 in (0.8, 0.2)}


def test_an_ablation_changes_one_thing():
    for recipe, changes in STUDIES["mixture-ablation"].arms.values():
        assert len(changes) <= 1
        assert all(getattr(RECIPES[recipe], name) != value for name, value in changes.items())
