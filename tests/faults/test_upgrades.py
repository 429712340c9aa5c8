"""What other versions of alikit wrote, as they wrote it: it is read, or refused in a line that says what to do."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import alikit
from alikit import formats, runs, studies
from alikit.__main__ import main
from alikit.data import Dataset, cache, digits
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.studies import STUDIES

ROOT = Path(__file__).resolve().parents[2]
HERE = f"this is alikit {alikit.__version__}"

# Settings as they were: when there were first run folders; when studies came; when pictures did; when classes did.
FIRST = """{"format": 1, "recipe": "digits", "data": "digits", "size": null, "skip_corrupt": false, "seed": 0,
 "batch_size": 100, "lr": 0.001, "betas": [0.5, 0.999], "steps": 20, "decoder": null,
 "command": "alikit train digits --steps 20", "versions": {"alikit": "0.1.0", "torch": "2.15.0"},
 "x_shape": [1, 8, 8]}"""
STUDY = """{"format": 1, "recipe": "digits", "seed": 9, "batch_size": 100, "lr": 0.002, "betas": [0.5, 0.999],
 "decay": true, "weight_std": null, "r1": 0.0, "averaging": 0.0, "data": "digits", "size": null, "skip_corrupt": false,
 "steps": 20, "decoder": null, "versions": {"torch": "2.15.0"}, "x_shape": [1, 8, 8]}"""
PICTURES = """{"format": 1, "recipe": "digits", "data": "digits", "data_from_run": "digits",
 "digest": [1500, 297, 671406075], "size": null, "skip_corrupt": false, "seed": 0, "batch_size": 100, "lr": 0.002,
 "betas": [0.5, 0.999], "decay": true, "weight_std": null, "r1": 0.0, "averaging": 0.0, "ramp": false,
 "precise_bn": false, "flips": false, "bf16": false, "steps": 20, "decoder": null,
 "command": "alikit train digits --steps 20", "versions": {"alikit": "0.1.0", "torch": "2.15.0"},
 "x_shape": [1, 8, 8]}"""
CLASSES = PICTURES.replace('"steps"', '"shifts": false, "labels": 0, "labelled_batch": 0, "consistency": 0.0, "steps"')
LAYOUTS = {"first": FIRST, "study": STUDY, "pictures": PICTURES, "classes": CLASSES}
# A finished run of the study on the mixture, from before there was a choice of precise_bn and of all that came later.
LINE = """{"arm": "ali", "run": 0, "recipe": "mixture-ali-paper", "seed": 0, "steps": 100, "batch_size": 100,
 "lr": 0.0004885, "betas": [0.6822, 0.999], "decay": false, "weight_std": 0.01549, "r1": 0.0, "averaging": 0.0,
 "diverged": false, "seconds": 3.3, "modes": 12, "within_3std": 0.0063, "strict_modes": 0, "kl_uniform": 1.40883,
 "history": [{"step": 100, "seconds": 3.3, "modes": 12, "within_3std": 0.0063, "strict_modes": 0}]}"""


def run_folder(folder: Path, text: str) -> tuple[Path, runs.Trainer]:
    """A run folder after two steps, with such settings and with today's weights and checkpoint."""
    folder.mkdir()
    (folder / "settings.json").write_text(text)
    trainer = runs.trainer(runs.settings(folder), digits().split(297)[0])
    trainer.run(steps=2)
    runs.save(folder, trainer)
    return folder, trainer


# Run folders.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_older_settings_are_read(tmp_path, layout):
    folder, trainer = run_folder(tmp_path / "run", LAYOUTS[layout])
    model, state = runs.load_model(folder), trainer.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert model.sample(3).shape == (3, 1, 8, 8)
    again = runs.trainer(runs.settings(folder), digits().split(297)[0])
    again.resume(runs.checkpoint(folder))
    assert again.step == 2 and again.lr == json.loads(LAYOUTS[layout])["lr"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 2, "versions": {"alikit": "9.1"}},
            rf"is from alikit 9\.1 \(format 2\), and {HERE} \(format 1\): install alikit 9\.1 or newer$",
        ),
        ({"format": 2, "versions": {}}, r"is from a newer alikit \(format 2\), .*: install a newer alikit$"),
        ({"format": 2, "versions": {"alikit": "9\n\x1b[2J"}}, r": install a newer alikit$"),
        (
            {"format": 0, "versions": {"alikit": "0.0.9"}},
            rf"is from alikit 0\.0\.9, and {HERE}: use that one, or train again with: alikit train digits --steps 20$",
        ),
        (
            {"recipe": "gone"},
            r"is of recipe 'gone', which this alikit does not have: use the version that has it, or train again with",
        ),
        ({"recipe": "gone\n\x1b[2J" + "n" * 9999}, r"is of recipe 'gone.{1,40}', which"),
        ({"format": 0, "command": "alikit train digits; alikit resume runs/a"}, r"with: alikit train digits$"),
        ({"format": 0, "command": None}, r": use that one, or train again$"),
        ({"format": "1"}, "another version of alikit"),
    ],
)
def test_settings_of_other_versions(tmp_path, changes, message):
    (tmp_path / "settings.json").write_text(json.dumps(json.loads(PICTURES) | changes))
    with pytest.raises(AlikitError, match=message) as refused:
        runs.settings(tmp_path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "command",
    [
        *("rm -rf runs", "alikit train digits && rm -rf runs", "alikit train $(rm -rf runs)", "alikit train `rm runs`"),
        *(
            "alikit train digits\nrm -rf runs",
            "alikit train digits | sh",
            "alikit train digits --out 'runs",
            ["alikit"],
        ),
        *("alikit train digits > settings.py", "alikit train digits \x1b[2J", "alikit train " + "x" * 1000),
    ],
)
def test_no_command_but_ours_is_passed_on(command):
    """It is shown to somebody who will run it, and the file may be a stranger's."""
    assert formats.again({"command": command}) == "train again"


@pytest.mark.parametrize(
    "command", ["alikit train digits --seed 3", "alikit train cifar10-small --data 'folder:my cats' --out ~/cats"]
)
def test_our_commands_are(command):
    assert formats.again({"command": command}) == f"train again with: {command}"


def test_weights_of_networks_that_were_others(tmp_path):
    """A recipe's networks may change; those of house-numbers did."""
    folder, _ = run_folder(tmp_path / "run", PICTURES)
    weights = load_file(folder / "weights.safetensors")
    save_file(
        {name: tensor[:1].clone() if tensor.ndim else tensor for name, tensor in weights.items()},
        folder / "weights.safetensors",
    )
    with pytest.raises(AlikitError, match=r"damaged or not what it should be: move it elsewhere, and .* resume "):
        runs.load_model(folder)
    (folder / "checkpoint.pt").unlink()
    with pytest.raises(
        AlikitError, match=r"put weights of recipe digits there, or train again with: alikit train digits --steps 20$"
    ):
        runs.load_model(folder)


# Checkpoints.


def test_a_checkpoint_says_its_format(tmp_path):
    folder, _ = run_folder(tmp_path / "run", PICTURES)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["format"] == runs.OF_CHECKPOINTS


def test_a_checkpoint_from_before_it_said_so(tmp_path):
    folder, trainer = run_folder(tmp_path / "run", PICTURES)
    torch.save(trainer.state(), folder / "checkpoint.pt")
    assert runs.checkpoint(folder)["step"] == 2


@pytest.mark.parametrize(
    ("format_", "way"),
    [
        (
            None,
            f"is from another version of alikit, and {HERE}: use that one, or train again with: alikit train digits",
        ),
        (3, f"is from a newer alikit (format 3), and {HERE} (format 2): install a newer alikit"),
    ],
)
def test_checkpoints_of_other_versions(tmp_path, format_, way):
    """The first had an optimiser for each player."""
    folder, trainer = run_folder(tmp_path / "run", PICTURES)
    state = trainer.state()
    if format_ is None:
        state["optimisers"] = {"discriminator": state["optimiser"], "generator": state.pop("optimiser")}
    else:
        state["format"] = format_
    torch.save(state, folder / "checkpoint.pt")
    with pytest.raises(AlikitError, match=re.escape(f"checkpoint.pt {way}")):
        runs.checkpoint(folder)


# Studies.


def test_lines_from_before_all_settings(tmp_path):
    (tmp_path / "runs.jsonl").write_text(LINE.replace("\n", "") + "\n")
    assert studies.read_lines(tmp_path / "runs.jsonl", STUDIES["mixture"], 100).keys() == {"ali-000"}


@pytest.mark.parametrize("name", ["mixture", "mixture-solved", "mixture-running-bn", "mixture-ablation"])
def test_the_studies_recorded_here_can_be_gone_on_with(name):
    """As results/mixture/README.md says, with the same command."""
    place = {"mixture": "", "mixture-solved": "solved", "mixture-running-bn": "running-bn"}.get(name, "ablation")
    study = STUDIES[name]
    found = studies.read_lines(ROOT / "results" / "mixture" / place / "runs.jsonl", study, study.steps)
    assert len(found) == study.runs * len(study.arms)


def test_what_was_changed_in_an_arm_is_not_taken_for_what_was_silent(tmp_path):
    """mixture-solved has precise_bn today: a line without it is of the study as it was."""
    settings = studies.settings_of(STUDIES["mixture-solved"], "ali", 0, 100)
    silent = {name: value for name, value in settings.items() if name != "precise_bn"}
    assert studies.matches(settings, settings) and not studies.matches(silent, settings)


def test_lines_of_a_newer_version(tmp_path):
    newer = json.loads(LINE) | {"format": 2, "alikit": "9.1", "lr": "as scheduled"}
    (tmp_path / "runs.jsonl").write_text(json.dumps(newer) + "\n")
    with pytest.raises(AlikitError, match=r"line 1, is from alikit 9\.1 .*: install alikit 9\.1 or newer$"):
        studies.read_lines(tmp_path / "runs.jsonl", STUDIES["mixture"], 100)


def test_a_line_says_who_wrote_it():
    settings = studies.settings_of(STUDIES["mixture"], "ali", 0, 100)
    parts = (Dataset("points", torch.randn(200, 2)),) * 2
    model = RECIPES["mixture-ali-paper"].build((2,)).eval()
    line = studies.line_of(settings, False, [{"seconds": 1.0}], model, parts)
    assert (line["format"], line["alikit"]) == (studies.FORMAT, alikit.__version__)


# Caches.


def test_a_cache_of_another_format_is_made_anew(tmp_path, monkeypatch):
    built = []

    def build(pictures: cache.Pictures):
        built.append(1)
        pictures.add(torch.zeros(2, 3, 4, 4, dtype=torch.uint8).numpy(), 2)
        return torch.zeros(2, dtype=torch.int64), {"classes": ["a"]}

    def made() -> int:
        cache.cached(tmp_path, "folder", [], build, ("classes",))
        return len(built)

    assert (made(), made()) == (1, 1)
    (file,) = (tmp_path / cache.FOLDER).iterdir()
    with safe_open(file, framework="np") as stored:
        assert stored.metadata() == {"format": cache.FORMAT}
    monkeypatch.setattr(cache, "FORMAT", "2")
    assert (made(), made()) == (2, 2)


# The command line.


def test_one_line_and_no_traceback(tmp_path, monkeypatch, capsys):
    (tmp_path / "settings.json").write_text(PICTURES.replace('"format": 1', '"format": 2').replace("0.1.0", "9.1"))
    monkeypatch.setattr("sys.argv", ["alikit", "sample", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    text = capsys.readouterr().err
    assert ended.value.code == 2 and len(text.splitlines()) == 1 and text.endswith("install alikit 9.1 or newer\n")
