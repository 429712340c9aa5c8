"""The command line: what a run leaves behind, and one plain line for every mistake."""

import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alikit import load, load_model, runs
from alikit.cli import main
from alikit.recipes import RECIPES
from alikit.runs.settings import MOST_TEXT
from alikit.studies import STUDIES
from alikit.training import Trainer

UNTRAINED = {
    **{"recipe": "mixture-gan-paper", "data": "mixture", "size": None, "skip_corrupt": False, "x_shape": (2,)},
    **{"seed": 0, "batch_size": 100, "lr": 1e-4, "betas": (0.5, 0.999), "decay": False, "decoder": None, "steps": 1},
}


class Finished(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def alikit(capsys, monkeypatch):
    """alikit("train digits --steps 20", ...): the command in this process, where torch is imported already."""

    def alikit(line: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["alikit", *shlex.split(line)])
        capsys.readouterr()
        return Finished(main(), *capsys.readouterr())

    return alikit


def python_m_alikit(line: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "alikit", *shlex.split(line)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A run of 20 steps, made the way a person makes it. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("runs")
    process = python_m_alikit("train digits --steps 20 --seed 3 --out digits", cwd=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "20/20" in err and "discriminator" in err and "generator" in err and "images/s" in err
    assert json.loads(out.splitlines()[0])["reconstruction_baseline"] > 0
    return folder / "digits"


@pytest.fixture(scope="module")
def gan(tmp_path_factory) -> Path:
    """An untrained GAN on the mixture, saved as training saves it."""
    folder = tmp_path_factory.mktemp("runs") / "gan"
    model = RECIPES["mixture-gan-paper"].build((2,))
    runs.create(folder, UNTRAINED)
    runs.save_weights(folder, model.state_dict())
    return folder


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in folder.rglob("*")}


def same_weights(run: Path, other: Path) -> bool:
    """To the last bit."""
    one, two = load_file(run / "weights.safetensors"), load_file(other / "weights.safetensors")
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# What a run leaves behind.


def test_a_run_folder(digits):
    pictures = {f"{kind}-{step:07d}.png" for kind in ("samples", "reconstructions") for step in (15, 20)}
    expected = {"settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"} | pictures
    assert {file.name for file in digits.iterdir()} == expected


def test_settings_are_enough_to_do_it_again(digits):
    settings = json.loads((digits / "settings.json").read_text())
    known = {"recipe": "digits", "data": "digits", "seed": 3, "steps": 20, "batch_size": 100, "x_shape": [1, 8, 8]}
    assert known.items() <= settings.items()
    assert settings["command"] == "alikit train digits --steps 20 --seed 3 --out digits"
    assert settings["versions"]["torch"] == torch.__version__


def test_log(digits):
    *reports, last = runs.metrics(digits)
    assert [report["step"] for report in reports] == sorted([*range(2, 21, 2), 15]), "15 is an epoch"
    said = {"step", "images_per_second", "seconds", "discriminator", "generator", "cycle", "spread", "sigma"}
    assert all(report.keys() == said for report in reports)
    assert {"step", "reconstruction_drawn", "reconstruction_mean", "reconstruction_baseline"} <= last.keys()


def test_weights_are_a_model(digits):
    model = load_model(digits)
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert load_file(digits / "weights.safetensors").keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ["samples-0000020.png", "reconstructions-0000020.png"])
def test_grids(digits, name):
    """60 digits of 64 x 64 pixels in rows of 10, lines of 2 between."""
    with Image.open(digits / name) as picture:
        assert picture.size == (2 + 10 * 66, 2 + 6 * 66)


def test_the_same_command_gives_the_same_weights(digits, alikit):
    assert alikit("train digits --steps 20 --seed 3 --out again").status == 0
    assert same_weights(digits, Path("again"))


def test_without_a_name_the_run_goes_to_runs(alikit):
    assert alikit("train digits-gan --steps 1 --batch 10 --seed 5").status == 0
    assert Path("runs/digits-gan-seed5/weights.safetensors").exists()
    assert runs.settings(Path("runs/digits-gan-seed5"))["batch_size"] == 10


def test_a_run_may_change_its_recipe(alikit):
    changes = "--batch 10 --lr 0.002 --set betas=[0.3,0.999] --set weight_std=0.5"
    assert alikit(f"train mixture-gan-paper --steps 2 {changes} --out changed").status == 0
    settings = runs.settings(Path("changed"))
    changed = {"batch_size": 10, "lr": 0.002, "betas": [0.3, 0.999], "weight_std": 0.5}
    assert changed.items() <= settings.items()
    weights = torch.cat([w.flatten() for w in load_file("changed/weights.safetensors").values() if w.ndim == 2])
    assert weights.std().item() == pytest.approx(0.5, rel=0.05)

    assert alikit("resume changed --steps 4").status == 0
    assert changed.items() <= runs.settings(Path("changed")).items()


def test_without_a_change_the_recipe_decides(alikit):
    assert alikit("train mixture-gan-paper --steps 1 --batch 10 --out run").status == 0
    recipe = RECIPES["mixture-gan-paper"]
    kept = {"lr": recipe.lr, "betas": list(recipe.betas), "weight_std": recipe.weight_std, "ema": 0.0, "r1": 0.0}
    assert kept.items() <= runs.settings(Path("run")).items()


# Sampling, reconstructing, measuring.


@pytest.mark.parametrize(
    ("command", "size"),
    [
        ("sample {} --out a.png", (662, 398)),
        ("sample {} --out a.png -n 13", (662, 134)),
        ("reconstruct {} --out a.png", (662, 398)),
        ("reconstruct {} --out a.png -n 5 --mean", (662, 68)),
    ],
)
def test_pictures_are_written(alikit, digits, tmp_path, command, size):
    before = files(digits)
    finished = alikit(command.format(digits))
    assert (finished.status, finished.err) == (0, "") and "a.png" in finished.out
    with Image.open("a.png") as picture:
        assert picture.format == "PNG" and picture.size == size
    assert files(digits) == before and [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_seed_decides_the_samples(alikit, digits):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        alikit(f"sample {digits} --out {name}.png --seed {seed}")
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_samples_of_points(alikit, gan):
    assert alikit(f"sample {gan} --out a.png -n 100").status == 0
    with Image.open("a.png") as picture:
        assert picture.size == (500, 500)


def test_evaluate_repeats_what_training_found(alikit, digits):
    found = json.loads(alikit(f"evaluate {digits}").out)
    step = runs.metrics(digits)[-1]
    assert found == pytest.approx({name: step[name] for name in step if name != "step"}, abs=2e-5)


def test_evaluate_points(alikit, gan):
    found = json.loads(alikit(f"evaluate {gan}").out)
    assert found.keys() == {"modes", "within_3std", "strict_modes", "kl_uniform"}


def test_evaluate_points_with_an_encoder(alikit):
    """Averaged weights are what is measured at the end, kept, and measured again."""
    assert alikit("train mixture-ali --steps 20 --batch 10 --out run").status == 0
    found = json.loads(alikit("evaluate run").out)
    last = runs.metrics(Path("run"))[-1]
    assert {"step": 20, **found} == last
    of_points, of_codes = {"modes", "within_3std", "strict_modes", "kl_uniform"}, {"purity", "prior_distance"}
    assert of_points | of_codes | {"reconstruction_drawn", "identity_strict", "prior_floor"} <= found.keys()


def test_recipes_lists_all(alikit):
    finished = alikit("recipes")
    lines = {line.split()[0]: line for line in finished.out.splitlines() if line}
    assert finished.status == 0
    for name, recipe in RECIPES.items():
        assert recipe.summary in lines[name] and (recipe.data or "folder:PATH") in lines[name]
    for name, study in STUDIES.items():
        assert study.summary in lines[name] and f"{study.runs} x {study.steps} steps" in lines[name]


@pytest.mark.parametrize("line", ["", "--help", "train --help"])
def test_help(alikit, line):
    finished = alikit(line)
    assert finished.status == 0 and finished.out.startswith("Usage: alikit") and not finished.err


# A few labels.


def test_a_run_with_labels(alikit):
    finished = alikit("train digits-semi --labels 20 --steps 3 --out run")
    assert finished.status == 0, finished.err
    known = runs.settings(Path("run"))
    assert (known["labels"], known["labelled_batch"], known["number_of_classes"]) == (20, 50, 10)
    found = json.loads(finished.out.splitlines()[0])
    assert found["classification_n"] == 297
    assert found["classification_low"] < found["classification_error"] < found["classification_high"]
    assert {"step": 3, **found} == runs.metrics(Path("run"))[-1] and json.loads(alikit("evaluate run").out) == found

    model, (_, held_out) = load_model("run"), load("digits")
    wrong = (model.classify(held_out.floats()).argmax(1) != held_out.labels).float().mean().item()
    assert wrong == pytest.approx(found["classification_error"], abs=1e-5)


@pytest.mark.parametrize("name", ["digits-semi", "digits-feature-matching", "digits-supervised"])
def test_a_stopped_run_with_labels_ends_as_if_nothing_had_happened(alikit, monkeypatch, name):
    line = f"train {name} --labels 20 --steps 6 --seed 4"
    assert alikit(f"{line} --out whole").status == 0
    one_step = Trainer.one_step

    def interrupted(self):
        if self.step == 4:
            raise KeyboardInterrupt
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "one_step", interrupted)
        assert alikit(f"{line} --out stopped").status == 130
    assert runs.checkpoint(Path("stopped"))["step"] == 4
    assert alikit("resume stopped").status == 0
    assert same_weights(Path("whole"), Path("stopped"))
    assert runs.metrics(Path("whole"))[-1] == runs.metrics(Path("stopped"))[-1]


def test_without_a_number_the_recipe_decides_how_many_labels(alikit):
    assert alikit("train digits-supervised --steps 1 --out run").status == 0
    assert runs.settings(Path("run"))["labels"] == RECIPES["digits-supervised"].labels == 50


def test_a_classifier_draws_nothing(alikit, tmp_path):
    """It leaves no pictures behind, and says so in one line when it is asked for some."""
    assert alikit("train digits-supervised --labels 20 --steps 2 --out run").status == 0
    assert {file.name for file in Path("run").iterdir()} == {
        *("settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt")
    }
    for command in ("sample run --out a.png", "reconstruct run --out a.png"):
        finished = alikit(command)
        assert (finished.status, finished.out) == (2, "")
        assert re.fullmatch("alikit: .+: .+\n", finished.err)
    assert "a classifier draws nothing" in alikit("sample run --out a.png").err
    assert "GAN" not in alikit("reconstruct run --out a.png").err
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_gan_with_labels_draws_and_classifies(alikit):
    assert alikit("train digits-feature-matching --labels 20 --steps 2 --out run").status == 0
    assert alikit("sample run --out a.png").status == 0 and Path("a.png").exists()
    assert json.loads(alikit("evaluate run").out).keys() == {
        f"classification_{name}" for name in ("error", "low", "high", "n")
    }


def test_labels_of_a_folder(alikit, paint):
    """Its class folders, as many of each; loose pictures have no class."""
    for number in range(40):
        paint(f"pets/{('cat', 'dog')[number % 2]}/{number}.png", (6 * number, 0, 0))
        paint(f"loose/{number}.png", (6 * number, 0, 0))
    rest = "--labels 6 --batch 8 --steps 2"
    assert alikit(f"train digits-semi --data folder:pets {rest} --out run").status == 0
    assert runs.settings(Path("run"))["number_of_classes"] == 2
    assert load_model("run").classify(torch.rand(3, 3, 8, 8)).shape == (3, 2)
    finished = alikit(f"train digits-semi --data folder:loose {rest} --out none")
    assert finished.status == 2 and not Path("none").exists()
    assert re.fullmatch(
        "alikit: .*data whose examples have one class each: name other data, or sort .*\n", finished.err
    )


def test_an_svm_on_request(alikit, digits):
    finished = alikit(f"evaluate {digits} --metrics svm --labels 20")
    assert finished.status == 0, finished.err
    found = json.loads(finished.out)
    assert (found["svm_labels"], found["svm_n"], found["svm_draws"]) == (20, 297, 100)
    assert {"svm_error", "svm_pixels_error", "svm_components_error", "svm_random_error"} <= found.keys()
    assert 0 < found["svm_pixels_error"] < 0.5 and (found["svm_dims"], found["svm_pixels_dims"]) == (528, 64)


# Folders of pictures, and decoders of other runs.


def test_a_folder_of_pictures(alikit, paint, tmp_path):
    for i in range(12):
        paint(f"my pets/cat/{i}.png", (20 * i, 0, 0), size=(12, 10))
    (tmp_path / "my pets" / "cat" / "broken.jpg").touch()
    finished = alikit("train digits --data 'folder:my pets' --size 8 --skip-corrupt --batch 5 --steps 2 --out run")
    assert finished.status == 0
    assert runs.settings(Path("run"))["x_shape"] == [3, 8, 8]
    assert alikit("reconstruct run --out a.png").out == "2 originals and their reconstructions in a.png\n"


def test_inverse_mapping_from_a_finished_gan(alikit, gan):
    finished = alikit(f"train mixture-inverse --decoder {gan} --steps 2 --batch 10 --out inverse")
    assert finished.status == 0 and "modes" in json.loads(finished.out.splitlines()[0])
    z = torch.randn(4, 2)
    assert torch.equal(load_model("inverse").decode(z), load_model(gan).decode(z))


# Mistakes: one line on stderr, status 2, and nothing made or changed.

LONG = "x" * 300


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train digit --out run", "no recipe called 'digit': did you mean digits?"),
        ("train zebra --out run", "no recipe called 'zebra': see alikit recipes"),
        ("train digits --data . --out run", "say folder:."),
        ("sample {digits} --out grid.jpg", "name it grid.png"),
        ("train digits --steps -5 --out run", "'--steps'.*alikit train --help"),
        ("train digits --steps 0 --out run", "'--steps'"),
        ("train digits --steps many --out run", "'--steps'"),
        ("train digits --seed -1 --out run", "'--seed'"),
        ("train digits --seed 99999999999999999999 --out run", "'--seed'"),
        ("train digits --batch 1 --out run", "batch_size: Input should be greater than or equal to 2"),
        ("train digits --batch 1501 --out run", "1501 does not fit 1500 examples"),
        ("train digits --lr 0 --out run", "lr: Input should be greater than 0"),
        ("train digits --lr nan --out run", "lr: Input should be a finite number"),
        ("train digits --set lr=1e9 --out run", "lr: Input should be less than or equal to 1000000"),
        ("train digits --set betas=[1,0.9] --out run", "betas: Input should be less than 1"),
        ("train digits --set betas=0.1 --out run", "betas: "),
        ("train digits --set weight_std=0 --out run", "weight_std: Input should be greater than 0"),
        ("train digits --set beta=1 --out run", "digits has no training setting beta: there are batch_size, lr, "),
        ("train digits --set lr --out run", "--set lr is no NAME=VALUE"),
        (
            "train digits --set scale=0.1 --out run",
            "digits has no training setting scale: register a recipe of your own",
        ),
        ("train digits --set consistency=1 --out run", "ALI has no consistency: leave it out"),
        ("--recipes nowhere.py train digits --out run", "there is no file nowhere.py"),
        ("train digits --nonsense --out run", "--nonsense.*alikit train --help"),
        ("train", "Missing argument.*alikit train --help"),
        ("trian digits", "trian.*alikit --help"),
        ("train digits --data mnist --out run", "no data called 'mnist'"),
        ("train digits --data mixture --out run", "for pictures, not points"),
        ("train digits --size 8 --out run", "--size is for"),
        ("train digits --steps 10 --epochs 1 --out run", "leave one out"),
        ("train digits --set ema=1 --out run", "ema: Input should be less than 1"),
        ("train digits --save-every -1 --out run", "'--save-every'"),
        ("train mixture-gan-paper --set random_flip=true --out run", "points cannot be mirrored or shifted"),
        ("train mixture-gan-paper --set random_shift=true --out run", "points cannot be mirrored or shifted"),
        ("train digits --data folder:nowhere --out run", "no folder nowhere"),
        ("train digits --data folder:empty --out run", "no pictures in empty"),
        ("train digits --data folder:broken --out run", "broken/a.jpg.*--skip-corrupt"),
        ("train digits --data folder:broken --skip-corrupt --out run", "all 1 files are damaged"),
        ("train digits --data folder:mixed --size 0 --out run", "digits is of pictures of 8 pixels: leave size out"),
        ("train digits --steps 9999999999999 --out run", "'--steps'"),
        ("train digits --data folder:~no-such-user/a --out run", "nobody here has the home folder of ~no-such-user"),
        ("study mixture --threads 99999999999 --out run", "'--threads'"),
        ("train cifar10-small --out run", "(?=.*--download).*cifar-10-python.tar.gz.*stand-in:cifar10"),
        ("train svhn --out run", "(?=.*--download).*extra_32x32.mat.*stand-in:svhn"),
        ("train celeba --out run", "(?=.*--download).*img_align_celeba.*stand-in:celeba"),
        ("train tiny-imagenet-small --out run", "(?=.*--download).*tiny-imagenet-200.zip.*stand-in:tiny-imagenet"),
        ("train digits --out file", "file is there already"),
        ("train digits --out file/run", "cannot write file/run .*"),
        ("train digits --out mixed", "mixed is there already: choose another folder$"),
        ("train digits --out {digits}", "digits is there already: choose another folder, or .*alikit resume"),
        (f"train digits --out {LONG}", r"cannot use x+ \(File name too long\): give it a shorter name$"),
        ("report {digits}", "is a run, or the record of one: name the folder that such records lie in"),
        ("train mixture-post-hoc --out run", "name its run folder as decoder"),
        ("train mixture-inverse --out run", "name its run folder as decoder"),
        ("train mixture-inverse --decoder nowhere --out run", "nowhere is no run folder"),
        ("train mixture-inverse --decoder {digits} --out run", "decoder is not this recipe's"),
        ("train digits --decoder {gan} --out run", "leave decoder out"),
        ("sample nowhere", "nowhere is no run folder"),
        ("sample mixed", "mixed is no run folder"),
        ("sample file", "file is no run folder"),
        ("sample {digits} -n 0", "'-n'"),
        ("sample {digits} --out no/such/a.png", "cannot write no/such/a.png"),
        ("sample {digits} --out mixed", "cannot write mixed"),
        ("sample {digits} --out .", "cannot write ."),
        ("reconstruct {gan} --out a.png", "a GAN cannot encode"),
        ("reconstruct nowhere", "nowhere is no run folder"),
        ("evaluate nowhere", "nowhere is no run folder"),
        ("evaluate {digits} --metrics beauty", "no metric called beauty: choose from reconstruction, "),
        ("evaluate {digits} --metrics fidelity", "sees square RGB pictures.*leave out fidelity"),
        ("sample {digits} -n 10001", "'-n'"),
        ("evaluate {digits} --data mixture", "mixture holds examples of 2, this run is of 1 x 8 x 8: name other data"),
        ("evaluate {digits} --data stand-in:svhn", "svhn holds examples of 3 x 32 x 32, this run is of 1 x 8 x 8"),
        ("reconstruct {digits} --data mixture", "mixture holds examples of 2"),
        ("train digits --labels 20 --out run", "digits uses no labels: leave labels out"),
        ("train digits-semi --labels 13 --out run", "13 labels cannot be shared out evenly over 10 classes"),
        ("train digits-semi --labels 100000 --out run", "100,000 labels are wanted; .*ask for at most 1,050"),
        (
            "train digits-semi --labels 1200 --out run",
            "1,200 labels are wanted.*ask for at most 1,050",
        ),
        ("train digits-semi --labels -1 --out run", "labels: Input should be greater than or equal to 0"),
        ("train digits-semi --data mixture --out run", "for pictures, not points"),
        ("train house-numbers-semi --data stand-in:celeba --out run", "examples have one class each: name other data"),
        ("bench step digits-semi", "digits-semi asks for labels, which the textbook's step has not"),
        ("evaluate {digits} --metrics svm --labels 13", "13 labels cannot be shared out evenly over 10 classes"),
        ("evaluate {digits} --metrics svm --labels 100000", "100,000 labels are wanted; .*ask for at most 1,050"),
        ("evaluate {digits} --metrics svm --labels 0", "'--labels'.*alikit evaluate --help"),
        ("evaluate {digits} --inception", "for fidelity and copying: ask for one of them with --metrics"),
        ("record {gan} --out kept", "no run on pictures with an encoder"),
        ("record nowhere --out kept", "nowhere is no run folder"),
        ("report nowhere", "no folder nowhere"),
        ("resume nowhere", "nowhere is no run folder"),
        ("resume {gan}", "checkpoint.pt is missing: train again"),
        ("resume {digits}", "has its 20 steps: ask for a larger number of steps"),
        ("resume {digits} --steps 20", "has its 20 steps"),
        ("study", "Missing argument.*alikit study --help"),
        ("study mixtures --out run", "no study called 'mixtures': there are mixture, "),
        ("study mixture --runs 0 --out run", "'--runs'.*alikit study --help"),
        ("study mixture --runs -2 --out run", "'--runs'"),
        ("study mixture --steps 0 --out run", "'--steps'"),
        ("study mixture --steps -5 --out run", "'--steps'"),
        ("study mixture --steps 1e3 --out run", "'--steps'"),
        ("study mixture --workers 0 --out run", "'--workers'"),
        ("study mixture --threads 0 --out run", "'--threads'"),
        ("study mixture --out file", "cannot write file .*"),
        ("study mixture --out file/run", "cannot write file/run .*"),
        ("study mixture --out noise", "noise/runs.jsonl, line 1: no run of this study"),
        (
            "study mixture --out run --store sqlite:///noisy-store/study.db",
            r"cannot use the study store sqlite:///noisy-store/study.db \(.*not a database.*",
        ),
    ],
)
def test_mistakes(alikit, paint, tmp_path, digits, gan, line, says):
    paint("mixed/a.png", size=(8, 8)), paint("mixed/b.png", size=(9, 9))
    (tmp_path / "empty").mkdir(), (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").touch(), (tmp_path / "file").touch()
    (tmp_path / "noise").mkdir(), (tmp_path / "noise" / "runs.jsonl").write_bytes(b"\xff" * 99)
    (tmp_path / "noisy-store").mkdir(), (tmp_path / "noisy-store" / "study.db").write_bytes(b"\xff" * 9999)
    before = files(tmp_path), files(digits), files(gan)
    finished = alikit(line.format(digits=digits, gan=gan))
    assert finished.status == 2 and finished.out == ""
    assert re.fullmatch(f"alikit: .*{says}.*\n", finished.err), finished.err
    assert (files(tmp_path), files(digits), files(gan)) == before


def test_a_study(alikit):
    """From nothing, with one worker; then a summary of what is there. What befalls it is in test_studies.py."""
    finished = alikit("study mixture --runs 1 --steps 20 --out study")
    assert finished.status == 0, finished.err
    ali, gan, where = finished.out.splitlines()
    lines = [json.loads(line) for line in Path("study/runs.jsonl").read_text().splitlines()]
    for summary, line, arm in zip(map(json.loads, (ali, gan)), lines, ("ali", "gan"), strict=True):
        means = {name: round(line[name], 3) for name in ("modes", "within_3std", "strict_modes", "kl_uniform")}
        assert summary == {"arm": arm, "runs": 1, "diverged": 0, **means} and line["steps"] == 20
    assert where == "every run in study/runs.jsonl"
    assert {file.name for file in Path("study").iterdir()} == {"runs.jsonl", "runs"}
    weights = {file.name for file in Path("study/runs/ali-000").iterdir()}
    assert weights == {"settings.json", "metrics.jsonl", "weights.safetensors"}
    found = json.loads(alikit("evaluate study/runs/ali-000").out)
    assert found == {name: lines[0][name] for name in found}

    again = alikit("study mixture --runs 1 --steps 20 --out study")
    assert (again.status, again.out) == (0, finished.out)


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("trace"),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("checkpoint.pt", pickle.dumps(Hostile()), "resume run --steps 30"),
        ("checkpoint.pt", b"", "resume run --steps 30"),
        ("weights.safetensors", pickle.dumps(Hostile()), "sample run"),
        ("weights.safetensors", b"\xff" * 100, "reconstruct run"),
        ("settings.json", b"{", "sample run"),
    ],
)
def test_damaged_run_folders(alikit, digits, tmp_path, name, content, line):
    shutil.copytree(digits, "run")
    Path("run", name).write_bytes(content)
    before = files(tmp_path)
    finished = alikit(line)
    assert finished.status == 2 and re.fullmatch(f"alikit: .*{re.escape(name)}.*\n", finished.err)
    assert files(tmp_path) == before


def test_a_mistake_in_a_process_of_its_own():
    process = python_m_alikit("train digits --data folder:nowhere")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "alikit: no folder nowhere: check the path, or unpack the archive first\n"


# Stopping and going on.


def test_a_run_killed_before_its_first_checkpoint_begins_anew(alikit, digits):
    """And what the killed process left half-written is gone."""
    Path("run").mkdir()
    shutil.copy(digits / "settings.json", "run")
    Path("run/.checkpoint.pt.123.partial").write_bytes(b"half")
    assert alikit("resume run").status == 0
    assert same_weights(Path("run"), digits) and not list(Path("run").glob(".*"))


@pytest.mark.parametrize("missing", [["samples", "reconstructions"], ["samples"]])
def test_a_run_killed_before_its_evaluation_gets_it(alikit, digits, missing):
    """Or before it, between the pictures of its last step."""
    shutil.copytree(digits, "run")
    log = Path("run/metrics.jsonl")
    log.write_text("".join(log.read_text().splitlines(True)[:-1]))
    for name in missing:
        Path(f"run/{name}-0000020.png").unlink()
    assert alikit("resume run").status == 0
    assert files(Path("run")).keys() == files(digits).keys()
    assert runs.metrics(Path("run"))[-1] == runs.metrics(digits)[-1] and same_weights(Path("run"), digits)
    for name in ("samples-0000020.png", "reconstructions-0000020.png"):
        assert (Path("run") / name).read_bytes() == (digits / name).read_bytes()
    assert "has its 20 steps" in alikit("resume run").err


def test_weights_that_were_removed_come_back_from_the_checkpoint(alikit, digits):
    shutil.copytree(digits, "run")
    Path("run/weights.safetensors").unlink()
    assert "holds no weights yet: go on with: alikit resume run" in alikit("sample run").err
    assert alikit("resume run").status == 0 and same_weights(Path("run"), digits)
    assert runs.metrics(Path("run")) == runs.metrics(digits)


def test_judged_on_other_data_it_says_so(alikit, digits, caplog):
    """Not refused: other data is a fair question. But a training picture should not pass for a held-out one unsaid."""
    shutil.copytree(digits, "run")
    assert alikit("evaluate run --metrics reconstruction").status == 0 and not caplog.messages
    known = runs.settings(Path("run"))
    runs.write_settings(Path("run"), known | {"digest": [1, 2, 3]})
    for command in ("evaluate run --metrics reconstruction", "reconstruct run --out a.png"):
        caplog.clear()
        assert alikit(command).status == 0
        assert [message.startswith("not the data that this run was trained on") for message in caplog.messages] == [
            True
        ]


def test_data_that_was_moved_can_be_named(alikit, digits):
    shutil.copytree(digits, "run")
    runs.write_settings(Path("run"), runs.settings(Path("run")) | {"data_from_run": "folder:gone"})
    assert re.search("no folder run/gone: .*; if it lies elsewhere now: --data folder:PATH", alikit("evaluate run").err)


def test_very_many_commands_of_a_run_are_the_first_and_the_last(alikit, digits):
    shutil.copytree(digits, "run")
    settings, again = runs.settings(Path("run")), "; alikit resume run --steps 20"
    many = settings["command"] + again * ((MOST_TEXT - len(settings["command"])) // len(again))
    runs.write_settings(Path("run"), settings | {"command": many})
    for steps in (21, 22):
        assert alikit(f"resume run --steps {steps}").status == 0
    commands = [settings["command"], "...", "alikit resume run --steps 21", "alikit resume run --steps 22"]
    assert runs.settings(Path("run"))["command"] == "; ".join(commands)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere not all of it can be in a name")
def test_whatever_a_folder_is_called_it_is_said_in_one_line(alikit, digits):
    strange = "a\nb\x1b]0;owned\x07"
    shutil.copytree(digits, strange)
    found = alikit(f"resume '{strange}' --steps 21")
    assert found.status == 0 and "\x1b" not in found.out + found.err
    assert found.out.splitlines()[-1] == r"weights, log and pictures in a\nb\x1b]0;owned\x07"


def test_with_standard_error_closed(tmp_path):
    command = f"{shlex.quote(sys.executable)} -m alikit train digits --steps 2 --out run 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0
    assert runs.checkpoint(tmp_path / "run")["step"] == 2


def test_a_checkpoint_with_an_average_that_the_run_has_not(alikit, digits):
    shutil.copytree(digits, "run")
    runs.write_settings(Path("run"), runs.settings(Path("run")) | {"ema": 0.9})
    assert "is damaged or not of this run: train again" in alikit("resume run --steps 25").err


def test_a_checkpoint_of_another_run(alikit, digits, gan):
    shutil.copytree(digits, "run")
    assert alikit("train mixture-gan-paper --steps 2 --out other").status == 0
    shutil.copy("other/checkpoint.pt", "run")
    assert re.fullmatch("alikit: .* not of this run: .*\n", alikit("resume run --steps 25").err)


def test_a_run_is_found_by_its_data_from_anywhere(alikit, paint, tmp_path, monkeypatch):
    """The path was typed from where the run was made; run and pictures have moved together since."""
    for number in range(30):
        paint(f"work/pictures/{number % 2}/{number}.png", size=(8, 8))
    monkeypatch.chdir(tmp_path / "work")
    assert alikit("train digits --data folder:pictures --batch 4 --steps 4 --out runs/mine").status == 0
    assert str(tmp_path) not in Path("runs/mine/settings.json").read_text()
    monkeypatch.chdir(tmp_path)
    Path("work").rename("moved")
    assert alikit("resume moved/runs/mine --steps 6").status == 0
    assert alikit("reconstruct moved/runs/mine --out a.png").status == 0
    Path("moved/pictures").rename("elsewhere")
    assert alikit("resume moved/runs/mine --steps 7 --data folder:elsewhere").status == 0
    assert "no folder" in alikit("evaluate moved/runs/mine").err
    assert alikit("evaluate moved/runs/mine --data folder:elsewhere").status == 0


def test_other_data_is_not_gone_on_with(alikit, paint):
    for number in range(30):
        paint(f"pictures/{number % 2}/{number}.png", size=(8, 8))
    assert alikit("train digits --data folder:pictures --batch 4 --steps 4 --out run").status == 0
    before = files(Path("run"))
    paint("pictures/0/new.png", size=(8, 8))
    finished = alikit("resume run --steps 6")
    assert finished.status == 2 and "is not what this run began with" in finished.err
    assert files(Path("run")) == before


def test_resume_is_as_if_it_had_not_stopped(alikit):
    assert alikit("train mixture-gan-paper --steps 40 --out straight").status == 0
    assert alikit("train mixture-gan-paper --steps 20 --out stopped").status == 0
    assert alikit("resume stopped --steps 40").status == 0
    straight, stopped = (load_file(f"{run}/weights.safetensors") for run in ("straight", "stopped"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, stopped[name]), name


def test_resume_goes_further(alikit, digits):
    shutil.copytree(digits, "run")
    assert alikit("resume run --steps 25").status == 0
    assert runs.checkpoint(Path("run"))["step"] == 25 and Path("run/samples-0000025.png").exists()


def test_resume_goes_further_where_a_study_made_the_run(alikit, digits):
    """Such a run has no command of its own."""
    shutil.copytree(digits, "run")
    settings = json.loads(Path("run/settings.json").read_text())
    Path("run/settings.json").write_text(json.dumps({key: settings[key] for key in settings if key != "command"}))
    assert alikit("resume run --steps 25").status == 0
    assert "resume run --steps 25" in runs.settings(Path("run"))["command"]
