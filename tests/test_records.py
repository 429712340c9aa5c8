"""Recorded runs: small, whole, the model's own pictures alone; and the table that lists them."""

import errno
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import to_tensor

from alikit import RECIPES, AlikitError, Dataset, load_model, recorded, runs
from alikit.evaluation import measured
from alikit.runs import records, running
from alikit.runs.report import write_report

BEGIN, END = "<!-- recorded runs -->", "<!-- end of recorded runs -->"
ASKED_BEGIN, ASKED_END = "<!-- conditional runs -->", "<!-- end of conditional runs -->"
HARDWARE, COMMAND = "a test's machine", "alikit train house-numbers --data folder:pictures"


def noise_of(channels: int, size: int, classes: tuple[str, ...]) -> tuple[Dataset, Dataset]:
    """100 pictures to train on and 60 held out; of each class another brightness."""
    labels, generator = torch.arange(160) % max(1, len(classes)), torch.Generator().manual_seed(0)
    x = torch.randint(0, 128, (160, channels, size, size), dtype=torch.uint8, generator=generator)
    x, factors = x + 60 * labels.byte()[:, None, None, None], {"brightness": labels.float()}
    data = Dataset("noise", x, labels if classes else None, classes, factors if classes else {})
    return data.select(slice(100)), data.select(slice(100, 160))


def make_run(run: Path, recipe: str, parts: tuple[Dataset, Dataset], command: str = "", **changes) -> None:
    """A run of 6 steps in batches of 50, an epoch being 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        patch.setattr(running, "load", lambda *_: parts)
        changes |= {"batch_size": 50, "bf16": False}
        running.train(recipe, run, data="folder:pictures", steps=6, changes=changes, command=command)


PARTS = noise_of(3, 32, ("dark", "light"))


@pytest.fixture(scope="module", autouse=True)
def _as_if_pictures_were_enough():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alikit.evaluation.samples.PER_FEATURE", 0)
        patch.setattr("alikit.runs.records.PER_FEATURE", 0)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run on noise and its record, which has taken the place of an older one."""
    root = tmp_path_factory.mktemp("records")
    make_run(root / "run", "house-numbers", PARTS, f"{COMMAND} '--out={root}/my run'")
    (root / "results" / "noise").mkdir(parents=True)
    for name in ("decoder.safetensors", "metrics.json", "samples-epoch-100.png"):
        (root / "results" / "noise" / name).touch()
    assert again(root, root / "results" / "noise") == recorded(root / "results" / "noise").metrics
    return root


def again(made: Path, out: Path, run: str = "run", parts: tuple = PARTS) -> dict:
    return records.record(made / run, out, parts, HARDWARE, "noise, drawn")


@pytest.fixture
def noise(made) -> Path:
    return made / "results" / "noise"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_is_kept(noise):
    pictures = {"samples", "reconstructions", "interpolations", "cycle", "learning"}
    files = {"settings.json", "metrics.json", "metrics.jsonl", "samples-epoch-001.png", "samples-epoch-003.png"}
    weights = {"encoder.safetensors", "decoder.safetensors", "codes.safetensors"}
    assert contents(noise).keys() == files | weights | {f"{name}.png" for name in pictures}
    settings = runs.read_settings(noise)
    assert settings["hardware"] == HARDWARE and settings["images_seen"] == 6 * 50 and settings["hours"] >= 0
    assert settings["command"] == f"{COMMAND} '--out=my run'" and str(noise.parents[1]) not in json.dumps(settings)
    assert settings["data_from_run"] == "folder:../../pictures" and settings["classes"] == ["dark", "light"]


def test_no_picture_of_the_data_is_kept(noise):
    """Every tile of every sheet, brought back to its size, is far from every picture that the run saw."""
    x = torch.cat([part.floats() for part in PARTS])
    for sheet in ("samples", "reconstructions", "interpolations", "cycle"):
        with Image.open(noise / f"{sheet}.png") as picture:
            pixels = to_tensor(picture.convert("RGB"))
        tiles = pixels[:, 2:, 2:].unfold(1, 64, 66).unfold(2, 64, 66)[..., ::2, ::2].permute(1, 2, 0, 3, 4)
        assert torch.cdist(tiles.reshape(-1, 3 * 32 * 32), x.flatten(1)).min() > 5, sheet


def check_sheets(folder: Path, held_out: Dataset, mode: str, zoom: int) -> None:
    """Reconstructions from the mean code are the first half of their sheet: each pixel rounded to 256 levels, as a
    block of zoom x zoom."""
    x_hat = load_model(folder).reconstruct(held_out.some(60).floats()[:30], sample=False)
    levels = (255 * x_hat).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with Image.open(folder / "reconstructions.png") as picture:
        assert picture.mode == mode
        sheet = np.asarray(picture).reshape(picture.height, picture.width, -1)
    step = zoom * held_out.shape[2] + 2
    for i, pixels in enumerate(levels):
        top, left = 2 + i // 10 * step, 2 + i % 10 * step
        tile = sheet[top : top + step - 2, left : left + step - 2]
        assert np.array_equal(tile, pixels.repeat(zoom, 0).repeat(zoom, 1))


def test_sheets_hold_the_pixels_that_the_model_draws(noise):
    check_sheets(noise, PARTS[1], "RGB", zoom=2)
    with Image.open(noise / "reconstructions.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 256, "more than a palette holds"


def test_metrics_are_of_the_weights_as_they_are_stored(made, noise):
    found, stored = json.loads((noise / "metrics.json").read_text()), measured(load_model(noise), *PARTS)
    assert {name: found[name] for name in stored} == stored
    assert {"fidelity_frechet", "copying_share", "checkerboard_chroma", "probe_accuracy"} <= found.keys()
    trained = measured(load_model(made / "run"), *PARTS)
    assert trained["reconstruction_mean"] == pytest.approx(stored["reconstruction_mean"], rel=0.01)


def test_a_recorded_run_is_opened_without_its_data(noise):
    """And its stored probe reads what the metrics say, by hand, from nothing but the folder and held-out pictures."""
    found, held_out = recorded(noise), PARTS[1]
    assert found.model.sample(3).shape == (3, 3, 32, 32) and not found.model.training
    z = found.model.encode(held_out.floats(), sample=False)
    torch.testing.assert_close(found.codes["codes"], z)
    assert torch.equal(found.codes["labels"], held_out.labels) and found.log[-1]["step"] == 6
    assert found.codes["q_covariance"].shape == (64, 64) and found.codes["q_mean"].shape == (64,)
    guess = (z @ found.codes["probe_weight"].T + found.codes["probe_bias"]).argmax(1)
    accuracy = (guess == held_out.labels).double().mean().item()
    assert accuracy == pytest.approx(found.metrics["probe_accuracy"], abs=1e-4)
    assert found.metrics["probe_names"] == ["dark", "light"] and found.metrics["probe_attributes"] == {}
    guess, truth = z @ found.codes["factor_weight"].T + found.codes["factor_bias"], held_out.factors["brightness"]
    r2 = 1 - (guess[:, 0] - truth).square().mean().item() / truth.var(correction=0).item()
    assert found.metrics["factor_r2"] == {"brightness": pytest.approx(r2, abs=1e-3)}


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.full((64,), torch.nan)])
def test_codes_of_another_model_are_refused(noise, tmp_path, wrong):
    shutil.copytree(noise, tmp_path / "noise")
    save_file({**recorded(noise).codes, "q_mean": wrong}, tmp_path / "noise" / "codes.safetensors")
    with pytest.raises(AlikitError, match=r"codes.safetensors is damaged or .*: record it anew"):
        recorded(tmp_path / "noise")


@pytest.mark.parametrize("recipe", ["digits-vae", "digits-semi"])
def test_grey_pictures_of_a_recipe_of_the_reader(tmp_path, monkeypatch, recipe):
    """They are measured like others, repeated for each colour and enlarged; and no labels, no probe."""
    mine = replace(RECIPES[recipe], networks=replace(RECIPES[recipe].networks, size=28))
    monkeypatch.setitem(RECIPES, "mine", mine)
    classes = ("a", "b", "c") if recipe == "digits-semi" else ()
    parts = noise_of(1, 28, classes)
    make_run(tmp_path / "run", "mine", parts, **({"labels": 30} if classes else {}))
    found = again(tmp_path, tmp_path / "results" / "grey", parts=parts)
    assert {"fidelity_frechet", "copying_share", "checkerboard_luma"} <= found.keys()
    assert not any(name.startswith("attributes") for name in found)
    check_sheets(tmp_path / "results" / "grey", parts[1], "L", zoom=2)
    kept = recorded(tmp_path / "results" / "grey").codes
    assert ("classification_error" in found) == ("probe_accuracy" in found) == ("labels" in kept) == bool(classes)
    assert write_report(tmp_path / "results") == 1
    text = (tmp_path / "results" / "README.md").read_text()
    assert "| not measured " not in text and ("| no labels |" in text) == (not classes)


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("folder:{root}/2024:01", "folder:2024:01"),
        ("table:{root}/my faces", "table:my faces"),
        ("~/a:b/", "a:b/"),
        ("folder:data/cifar10-jpeg", "folder:data/cifar10-jpeg"),
    ],
)
def test_of_a_path_the_last_name_is_kept(tmp_path, word, kept):
    """In a command, and where there are several, as of a run that went further."""
    command, expected = (
        f"{shlex.join(['alikit', 'train', 'x', '--data', place, f'--out={place}'])}; alikit resume {shlex.quote(place)}"
        for place in (word.format(root=tmp_path), kept)
    )
    assert records._without_folders(command) == expected


# Replacing a record.


@pytest.mark.parametrize("killed", ["never", "while writing", "after the first rename", "after the second"])
def test_a_record_is_replaced_whole_or_not_at_all(made, noise, tmp_path, monkeypatch, killed):
    """Whatever an earlier process left that was killed: the next one brings the older record back first, so that it is
    there even if that one fails."""
    out, aside, rename = tmp_path / "kept", tmp_path / ".kept.partial", Path.rename
    shutil.copytree(noise, aside / "before" if killed == "after the first rename" else out)
    if killed == "after the second":
        shutil.copytree(noise, aside / "before")
    elif killed != "never":
        (aside / "new").mkdir(parents=True, exist_ok=True)
        (aside / "new" / "settings.json").touch()

    def full(self: Path, target: Path):
        if self.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(records, "_measure", lambda *_: {})
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(AlikitError, match=r"cannot write .*kept \(No space left on device\): make room, or choose"):
        again(made, out)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"] and contents(out) == contents(noise)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no record", "is there already and is no record"),
        ("other data", "is not what this run began with"),
        ("unfinished", "is at step 6 of 20: finish it with: alikit resume"),
        ("points", "no run on pictures"),
    ],
)
def test_what_is_not_recorded(made, tmp_path, case, message):
    shutil.copytree(made / "run", tmp_path / "run")
    changes = {"unfinished": {"steps": 20}, "points": {"recipe": "mixture-ali", "x_shape": [2]}}.get(case, {})
    runs.write_settings(tmp_path / "run", runs.read_settings(tmp_path / "run") | changes)
    before, parts = contents(tmp_path / "run"), (PARTS[1] if case == "other data" else PARTS[0], PARTS[1])
    with pytest.raises(AlikitError, match=message):
        again(tmp_path, tmp_path / ("run" if case == "no record" else "kept"), parts=parts)
    assert contents(tmp_path / "run") == before and not (tmp_path / "kept").exists()


# The table.


def test_the_report_has_the_numbers_and_leaves_the_rest_of_the_page(noise, tmp_path):
    """It brings back what was left aside by a killed process, and lists no record that is being made."""
    shutil.copytree(noise, tmp_path / ".noise.partial" / "before")
    shutil.copytree(noise, tmp_path / ".other.partial" / "new")
    (tmp_path / "study").mkdir(), (tmp_path / "study" / "metrics.json").write_text("{}")  # is none of its business
    page = tmp_path / "README.md"
    old = BEGIN.replace(" -->", ": written by alikit report -->")  # as it was
    page.write_text(f"# Before\n\n{old}\nstale\n{END}\n\nbetween\n\n{ASKED_BEGIN}\nstale\n{ASKED_END}\nafter\n")
    assert write_report(tmp_path) == 1
    text, metrics = page.read_text(), recorded(noise).metrics
    assert text.startswith(f"# Before\n\n{BEGIN}\n") and f"{END}\n\nbetween\n" in text and "stale" not in text
    assert text.endswith(f"{ASKED_BEGIN}\n\nNo conditional run is recorded here.\n\n{ASKED_END}\nafter\n")
    row = next(line for line in text.splitlines() if line.startswith("| [noise](noise)"))
    assert f"{metrics['reconstruction_mean']:.4f}" in row and f"{metrics['fidelity_frechet']:.2f} (" in row
    assert HARDWARE in text and "noise, drawn" in row and COMMAND in text and "partial" not in text
    assert all((tmp_path / link).exists() for link in ("noise/samples.png", "noise/reconstructions.png"))
    assert write_report(tmp_path) == 1 and page.read_text() == text


def test_a_record_cannot_change_the_page_around_it(noise, tmp_path):
    """Texts of a stranger's record stand in the page as text."""
    odd = f"x {END} | `y` <b>\n# Heading \x1b[31m {{{{ r }}}}"
    shutil.copytree(noise, tmp_path / "a | <b>")
    settings = json.loads((noise / "settings.json").read_text())
    (tmp_path / "a | <b>" / "settings.json").write_text(json.dumps({**settings, "data_name": odd, "hardware": odd}))
    write_report(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Recorded runs\n") and "(a%20%7C%20%3Cb%3E/samples.png)" in text
    assert text.count(END) == 1 and "<b>" not in text and "\n# Heading" not in text and "\x1b" not in text
    assert r"x &lt;!-- end of recorded runs --&gt; \| 'y' &lt;b&gt;\n# Heading" in text and "{{ r }}" in text
    write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_a_record_without_weights_is_listed_and_says_so(noise, tmp_path):
    for name in ("light", "whole"):
        shutil.copytree(noise, tmp_path / name)
    for part in ("encoder", "decoder", "codes"):
        (tmp_path / "light" / f"{part}.safetensors").unlink()
    assert write_report(tmp_path) == 2
    light, whole = (tmp_path / "README.md").read_text().split("### light")[1].split("### whole")
    assert "weights are not kept here" in light and "not kept" not in whole
    with pytest.raises(AlikitError, match=r"^[^\n]*light is a record without weights[^\n]*$"):
        recorded(tmp_path / "light")


def test_runs_with_other_seeds_make_an_interval(noise, tmp_path):
    """Of 1, 2 and 6 the mean is 3; 4.30265 is the 97.5 % point of Student's t, the standard error sqrt(7 / 3)."""

    def write(place: Path, seed: int, frechet: float | str, **changes) -> None:
        place.mkdir(parents=True)
        settings, metrics = (json.loads((noise / f"{name}.json").read_text()) for name in ("settings", "metrics"))
        (place / "settings.json").write_text(json.dumps(settings | {"seed": seed, "command": "another"} | changes))
        (place / "metrics.json").write_text(json.dumps(metrics | {"fidelity_frechet": frechet}))

    write(tmp_path / "alone", 0, 5.0, lr=0.5)
    for seed, frechet in enumerate((1.0, 2.0, 6.0)):
        write(tmp_path / "seeds" / f"{seed}" if seed else tmp_path / "several", seed, frechet)
    assert write_report(tmp_path) == 2
    alone, several = (tmp_path / "README.md").read_text().split("### alone")[1].split("### several")
    assert "seed 0. Over the seeds 0, 1, 2, mean and 95 % interval:\nFrechet distance 3 ± 6.6, precision" in several
    assert "seed 0, one run: how much another seed would differ is not known." in alone
    says = "record that one too", "and so has another record of this run", "record the run again"
    wrong = tmp_path / "seeds" / "wrong"
    for message, frechet, changes in zip(says, (1.0, 1.0, "many"), ({"steps": 7}, {}, {}), strict=True):
        write(wrong, 1, frechet, **changes)
        with pytest.raises(AlikitError, match=f"^[^\n]*seeds/wrong [^\n]*{message}[^\n]*$"):
            write_report(tmp_path)
        shutil.rmtree(wrong)
    older = json.loads((noise / "settings.json").read_text())["digest"][:3]  # of an alikit that counted less
    write(tmp_path / "seeds" / "before", 10, 3.0, digest=older)
    (tmp_path / "seeds" / ".b.partial").mkdir()
    assert write_report(tmp_path) == 2 and "seeds 0, 1, 2, 10" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("page", ["nothing", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}{END}{ASKED_END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path, page):
    (tmp_path / "README.md").write_text(page)
    with pytest.raises(AlikitError, match="must hold the lines"):
        write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("probe_n", "of_an_older_version", r"noise is damaged or .*: record the run again"),
        ("{", "", r"metrics\.json is damaged or .*: record it anew"),
    ],
)
def test_what_no_page_can_say(noise, tmp_path, old, new, message):
    shutil.copytree(noise, tmp_path / "noise")
    (tmp_path / "noise" / "metrics.json").write_text((noise / "metrics.json").read_text().replace(old, new))
    for place, says in ((tmp_path, message), (noise, "is a run, or the record of one"), (noise / "no", "no folder")):
        with pytest.raises(AlikitError, match=says):
            write_report(place)
