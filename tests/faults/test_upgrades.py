"""What other versions of alikit wrote, as they wrote it: it is read, or refused in a line that says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import alikit
from alikit import runs, studies
from alikit.data import digits
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.runs.settings import RENAMED, recipe_of, upgraded
from alikit.studies import STUDIES

ROOT = Path(__file__).resolve().parents[2]
HERE = rf"and this is alikit {alikit.__version__} \(format \d\)"

# Settings as they were: when there were first run folders, and when classes came.
FIRST = {
    **{"format": 1, "recipe": "digits", "data": "digits", "size": None, "skip_corrupt": False, "seed": 0, "steps": 20},
    **{"batch_size": 100, "lr": 0.001, "betas": [0.5, 0.999], "decoder": None, "x_shape": [1, 8, 8]},
    **{"command": "alikit train digits --steps 20", "versions": {"alikit": "0.1.0", "torch": "2.15.0"}},
}
CLASSES = {
    **{**FIRST, "data_from_run": "digits", "digest": [1500, 297, 671406075], "decay": True, "weight_std": None},
    **{"r1": 0.0, "averaging": 0.9, "ramp": True, "precise_bn": False, "flips": False, "bf16": False, "shifts": True},
    **{"labels": 0, "labelled_batch": 0, "consistency": 0.0, "plain": True},
}


@pytest.fixture(scope="module", params=[FIRST, CLASSES], ids=["first", "classes"])
def earlier(request, tmp_path_factory) -> Path:
    """A run folder after two steps, with settings as they were, and with today's weights and checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "settings.json").write_text(json.dumps(request.param))
    trainer = runs.trainer(runs.read_settings(folder), digits())
    trainer.run(steps=2)
    runs.save(folder, trainer)
    return folder


# Run folders.


def test_earlier_settings_are_read_by_todays_names(earlier):
    found, settings = runs.read_settings(earlier), json.loads((earlier / "settings.json").read_text())
    assert found["format"] == 3 and found["fast"] != settings.get("plain", False)
    for name in settings.keys() - {"format", "plain", "betas"}:
        assert found[RENAMED.get(name, name)] == settings[name]
    for name in RENAMED.keys() - settings.keys():  # what there was not yet was off
        assert not found[RENAMED[name]]
    again = runs.trainer(found, digits())
    again.resume(runs.checkpoint(earlier))
    assert again.step == 2 and runs.load_model(earlier).sample(3).shape == (3, 1, 8, 8)


def test_all_settings_that_are_recorded_here_are_read():
    files = [*(ROOT / "results").rglob("settings.json")]
    for file in files:
        known = runs.read_settings(file.parent)
        assert known["format"] == 3 and known["recipe"] in RECIPES, file
        assert recipe_of(upgraded(json.loads(file.read_text()))) == recipe_of(known), file
    assert len(files) >= 15


REFUSED = {
    rf"is from alikit 9\.1, {HERE}: install alikit 9\.1 or newer$": {"format": 4, "versions": {"alikit": "9.1"}},
    rf"is from another version of alikit, {HERE}: install that one or newer$": {
        "format": 4,
        "versions": {"alikit": "9\n\x1b[2J"},
    },
    rf"is from alikit 0\.0\.9, {HERE}: use that one, or train again$": {"format": 0, "versions": {"alikit": "0.0.9"}},
    rf"is from another version of alikit, {HERE}: use that one, or train again$": {"format": "1", "versions": None},
    r"is of recipe 'gone.{1,50}', which is not known here: register it": {"recipe": "gone\n\x1b[2J" + "n" * 9999},
}


@pytest.mark.parametrize("message", REFUSED)
def test_settings_of_other_versions_are_refused(tmp_path, message):
    (tmp_path / "settings.json").write_text(json.dumps({**CLASSES, **REFUSED[message]}))
    with pytest.raises(AlikitError, match=message) as refused:
        runs.read_settings(tmp_path)
    assert str(refused.value).isprintable()


ANOTHER, NEWER = "use that one, or train again", "install that one or newer"


@pytest.mark.parametrize(("changes", "way"), [({"format": 1, "optimisers": {}}, ANOTHER), ({"format": 3}, NEWER)])
def test_checkpoints_of_other_versions(earlier, tmp_path, changes, way):
    """The first said no format and is read; the next had an optimiser for each player."""
    state = torch.load(earlier / "checkpoint.pt")
    torch.save({name: value for name, value in state.items() if name != "format"}, tmp_path / "checkpoint.pt")
    shutil.copy(earlier / "settings.json", tmp_path)
    assert runs.checkpoint(tmp_path)["step"] == 2
    torch.save({**state, **changes}, tmp_path / "checkpoint.pt")
    with pytest.raises(AlikitError, match=rf"checkpoint.pt is from another version of alikit, {HERE}: {way}$"):
        runs.checkpoint(tmp_path)


# Studies.


PLACES = {"mixture": "", "mixture-solved": "solved", "mixture-running-bn": "running-bn", "mixture-ablation": "ablation"}


@pytest.mark.parametrize("name", PLACES)
def test_the_studies_recorded_here_can_be_gone_on_with(name):
    """As results/mixture/README.md says, with the same command; their lines are from before some of the settings."""
    study = STUDIES[name]
    found = studies.read_lines(ROOT / "results" / "mixture" / PLACES[name] / "runs.jsonl", study, study.steps)
    assert len(found) == study.runs * len(study.arms)
