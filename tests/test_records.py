"""Recorded runs: small, whole, the model's own pictures alone; and the table that lists them."""

import errno
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alikit import RECIPES, AlikitError, house_numbers, load, load_model, recorded, runs
from alikit.__main__ import main
from alikit.evaluation import measured
from alikit.runs import records
from alikit.runs.records import CODES, record
from alikit.runs.report import ASKED_BEGIN, ASKED_END, BEGIN, END, write_report
from alikit.storage import unpack

HARDWARE = "a test's machine"
COMMAND = "alikit train cifar10-small --data folder:pictures --batch 16 --steps 12"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with pictures (two classes, 80 noise pictures each), a run of 12 steps on them and its record."""
    root = tmp_path_factory.mktemp("records")
    generator = torch.Generator().manual_seed(0)
    for number in range(160):
        file = root / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        x = torch.randint(0, 128, (32, 32, 3), dtype=torch.uint8, generator=generator) + 127 * (number % 2)
        Image.fromarray(x.numpy()).save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", shlex.split(COMMAND))
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
    run = root / "runs" / "cifar10-small-seed0"
    record(run, root / "results" / "noise", load(f"folder:{root}/pictures", 32), HARDWARE, "noise, drawn")
    return root


@pytest.fixture
def noise(made) -> Path:
    return made / "results" / "noise"


def test_what_is_kept(noise):
    pictures = {"samples", "reconstructions", "interpolations", "cycle", "learning", "samples-epoch-001"}
    files = {"settings.json", "metrics.json", "metrics.jsonl"}
    weights = {"encoder.safetensors", "decoder.safetensors", "codes.safetensors"}
    assert {file.name for file in noise.iterdir()} == files | weights | {f"{name}.png" for name in pictures}
    assert all(file.stat().st_size < 16e6 for file in noise.iterdir())


def test_settings_say_how_it_came_about(noise):
    settings = runs.settings(noise)
    assert settings["hardware"] == HARDWARE and settings["images_seen"] == 12 * 16 and settings["hours"] >= 0
    assert settings["command"] == COMMAND
    assert settings["data_from_run"] == "folder:../../pictures" and settings["seed"] == 0


def test_no_picture_of_the_data_is_kept(made, noise):
    """Every tile of every sheet, brought back to its size, is far from every picture that the run saw."""
    x = torch.cat([part.floats() for part in load(f"folder:{made}/pictures", 32)])
    for sheet in ("samples", "reconstructions", "interpolations", "cycle", "samples-epoch-001"):
        with Image.open(noise / f"{sheet}.png") as picture:
            pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            pixels = pixels.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255
        tiles = (
            pixels[:, 2:, 2:].unfold(1, 64, 66).unfold(2, 64, 66)[..., ::2, ::2].permute(1, 2, 0, 3, 4).flatten(0, 1)
        )
        assert torch.cdist(tiles.flatten(1), x.flatten(1)).min() > 5, sheet


def test_metrics_are_of_the_weights_as_they_are_stored(made, noise):
    found = json.loads((noise / "metrics.json").read_text())
    parts = load(f"folder:{made}/pictures", 32)
    again = measured(load_model(noise), *parts)
    assert {name: found[name] for name in again} == again
    assert {"fidelity_frechet", "copying_share", "probe_accuracy"} <= found.keys()
    trained = measured(load_model(made / "runs" / "cifar10-small-seed0"), *parts)
    assert trained["reconstruction_mean"] == pytest.approx(again["reconstruction_mean"], rel=0.01)


def test_a_recorded_run_is_opened_without_its_data(made, noise, tmp_path):
    shutil.copytree(noise, tmp_path / "noise")
    found = recorded(tmp_path / "noise")
    assert found.model.sample(3).shape == (3, 3, 32, 32) and not found.model.training
    held_out = load(f"folder:{made}/pictures", 32)[1].some(CODES)
    torch.testing.assert_close(found.codes["codes"], found.model.encode(held_out.floats(), sample=False))
    assert torch.equal(found.codes["labels"], held_out.labels)
    assert found.codes["q_covariance"].shape == (64, 64) and found.codes["q_mean"].shape == (64,)
    assert found.metrics["reconstruction_baseline"] > 0 and found.log[-2]["step"] == 12


def test_the_stored_probe_reads_what_the_metrics_say(made, noise):
    """By hand, from nothing but the folder and the held-out pictures."""
    found, held_out = recorded(noise), load(f"folder:{made}/pictures", 32)[1]
    z = found.model.encode(held_out.floats(), sample=False)
    guess = (z @ found.codes["probe_weight"].T + found.codes["probe_bias"]).argmax(1)
    accuracy = (guess == held_out.labels).double().mean().item()
    assert accuracy == pytest.approx(found.metrics["probe_accuracy"], abs=1e-4)


def test_weights_are_kept_in_8_bits(made, noise):
    whole = load_file(made / "runs" / "cifar10-small-seed0" / "weights.safetensors")
    for part in ("encoder", "decoder"):
        packed = load_file(noise / f"{part}.safetensors")
        assert sum(t.nbytes for t in packed.values()) < 0.3 * sum(
            t.nbytes for name, t in whole.items() if name.startswith(f"{part}.")
        )
        for name, tensor in unpack(packed).items():
            kept = whole[f"{part}.{name}"]
            torch.testing.assert_close(tensor.to(kept.dtype), kept, rtol=0, atol=kept.abs().max().item() / 250 + 1e-7)


@pytest.mark.parametrize("name", ["metrics.json", "codes.safetensors", "encoder.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\xff{]"])
def test_damaged_records(noise, tmp_path, name, content):
    shutil.copytree(noise, tmp_path / "noise")
    (tmp_path / "noise" / name).unlink()
    if content is not None:
        (tmp_path / "noise" / name).write_bytes(content)
    with pytest.raises(AlikitError, match=r"^[^\n]+$"):
        recorded(tmp_path / "noise")


def test_names_are_kept(made, noise):
    found = recorded(noise)
    assert found.settings["classes"] == ["dark", "light"] == found.metrics["probe_names"]
    assert found.metrics["probe_attributes"] == {}


def test_of_rendered_data_each_factor_is_read(tmp_path):
    train, held_out = house_numbers(300, seed=0), house_numbers(120, seed=1)
    torch.manual_seed(0)
    model = RECIPES["house-numbers"].build(train.shape, train.mean())
    found = records.described(model, train, held_out)
    r2 = found.metrics["factor_r2"]
    assert found.codes["factor_weight"].shape == (len(r2), 64) and "position, down" in r2
    assert found.metrics["probe_names"] == list("0123456789") and found.log == []
    z = model.encode(held_out.floats(), sample=False)
    guess = (z @ found.codes["factor_weight"].T + found.codes["factor_bias"])[:, list(r2).index("blur")]
    error = (guess - held_out.factors["blur"]).square().sum() / (120 * held_out.factors["blur"].var(correction=0))
    assert 1 - error.item() == pytest.approx(r2["blur"], abs=1e-3)


def record_again(made: Path, out: Path, **changes) -> dict:
    run = made / "runs" / "cifar10-small-seed0"
    arguments = {"parts": load(f"folder:{made}/pictures", 32), "hardware": HARDWARE, "data_name": "noise, drawn"}
    return record(run, out, **arguments | changes)


def test_a_record_is_replaced_whole(made, noise, tmp_path, monkeypatch):
    shutil.copytree(noise, tmp_path / "kept")
    before = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    monkeypatch.setattr("alikit.figures.learning_figure", lambda *_: pytest.fail("stopped in the middle"))
    with pytest.raises(pytest.fail.Exception):
        record_again(made, tmp_path / "kept")
    assert {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == before
    monkeypatch.undo()
    (tmp_path / "kept" / "stray.png").touch()
    assert record_again(made, tmp_path / "kept") == recorded(noise).metrics
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert {file.name for file in (tmp_path / "kept").iterdir()} == before.keys()


@pytest.mark.parametrize("killed_after", ["writing", "the first rename", "the second rename"])
def test_a_record_survives_a_kill(made, noise, tmp_path, monkeypatch, killed_after):
    """What a process leaves that is killed while it replaces a record; the next one brings the older record back first,
    so that it is there even if that one fails."""
    out, before = tmp_path / "kept", tmp_path / ".kept.partial" / "before"
    shutil.copytree(noise, before if killed_after == "the first rename" else out)
    if killed_after == "the second rename":
        shutil.copytree(noise, before)
    else:
        (before.parent / "new").mkdir(parents=True, exist_ok=True)
        (before.parent / "new" / "settings.json").touch()
    with monkeypatch.context() as patch:
        patch.setattr("alikit.figures.learning_figure", lambda *_: pytest.fail("stopped in the middle"))
        with pytest.raises(pytest.fail.Exception):
            record_again(made, out)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert recorded(out).metrics == recorded(noise).metrics


def test_a_rename_that_fails_costs_no_record(made, noise, tmp_path, monkeypatch):
    shutil.copytree(noise, tmp_path / "kept")
    rename = Path.rename

    def full(self, target):
        if self.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(AlikitError, match=r"cannot write .*kept \(No space left on device\): make room, or choose"):
        record_again(made, tmp_path / "kept")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert recorded(tmp_path / "kept").metrics == recorded(noise).metrics


def test_the_report_brings_back_what_a_kill_left_aside(noise, tmp_path):
    """And lists no record that is being made."""
    shutil.copytree(noise, tmp_path / ".kept.partial" / "before")
    shutil.copytree(noise, tmp_path / ".other.partial" / "new")
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert write_report(tmp_path) == 1 and recorded(tmp_path / "kept").metrics == recorded(noise).metrics
    assert "partial" not in (tmp_path / "README.md").read_text()


def test_a_run_that_is_gone_costs_no_record(noise, tmp_path):
    shutil.copytree(noise, tmp_path / ".kept.partial" / "before")
    with pytest.raises(AlikitError, match="is no run folder"):
        record(tmp_path / "gone", tmp_path / "kept", (), HARDWARE, "noise")
    assert recorded(tmp_path / "kept").metrics == recorded(noise).metrics


def test_what_is_no_record_is_not_replaced(made, tmp_path):
    shutil.copytree(made / "runs" / "cifar10-small-seed0", tmp_path / "run")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with pytest.raises(AlikitError, match="is there already and is no record"):
        record_again(made, tmp_path / "run")
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_only_the_data_of_the_run_is_measured(made, tmp_path):
    parts = load(f"folder:{made}/pictures", 32)
    with pytest.raises(AlikitError, match="is not what this run began with"):
        record_again(made, tmp_path / "kept", parts=(parts[0].select(slice(1, None)), parts[1]))
    assert not (tmp_path / "kept").exists()


def test_only_a_finished_run_is_recorded(made, tmp_path):
    shutil.copytree(made / "runs" / "cifar10-small-seed0", tmp_path / "run")
    runs.write_settings(tmp_path / "run", runs.settings(tmp_path / "run") | {"steps": 20})
    with pytest.raises(AlikitError, match="is at step 12 of 20: finish it with: alikit resume"):
        record(tmp_path / "run", tmp_path / "kept", load(f"folder:{made}/pictures", 32), HARDWARE, "noise")


def test_pictures_without_labels_have_no_probe(made, tmp_path):
    shutil.copytree(made / "runs" / "cifar10-small-seed0", tmp_path / "run")
    parts = tuple(replace(part, labels=None, classes=()) for part in load(f"folder:{made}/pictures", 32))
    found = record(tmp_path / "run", tmp_path / "kept", (parts[0], parts[1]), HARDWARE, "noise")
    assert not any(name.startswith("probe") for name in found) and "labels" not in recorded(tmp_path / "kept").codes
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    write_report(tmp_path)
    assert "| no labels |" in (tmp_path / "README.md").read_text()


def test_no_folder_of_somebody_s_machine_is_kept(made, tmp_path):
    shutil.copytree(made / "runs" / "cifar10-small-seed0", tmp_path / "run")
    known = runs.settings(tmp_path / "run")
    place = f"folder:{made}/pictures"
    words = ["alikit", "train", "cifar10-small", "--data", place, f"--out={tmp_path}/my run"]
    changes = {"data": place, "data_from_run": place, "decoder": f"{tmp_path}/a gan", "command": shlex.join(words)}
    runs.write_settings(tmp_path / "run", known | changes)
    record(tmp_path / "run", tmp_path / "kept", load(place, 32), HARDWARE, "noise")
    assert str(tmp_path) not in (text := (tmp_path / "kept" / "settings.json").read_text()) and str(made) not in text
    kept = runs.settings(tmp_path / "kept")
    assert kept["command"] == "alikit train cifar10-small --data folder:pictures '--out=my run'"
    assert (kept["data"], kept["data_from_run"], kept["decoder"]) == ("folder:pictures", "folder:pictures", "a gan")


def test_the_commands_of_a_run_that_went_further_stay_commands(tmp_path):
    command = f"alikit train digits --out={tmp_path}/run; alikit resume '{tmp_path}/my run' --steps 5"
    kept = "alikit train digits --out=run; alikit resume 'my run' --steps 5"
    assert records._command_without_folders(command) == kept == records._command_without_folders(kept)


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("folder:{root}/2024:01", "folder:2024:01"),
        ("--data=table:{root}/my faces", "--data=table:my faces"),
        ("{root}/a:b/c", "c"),
        ("~/pictures", "pictures"),
        ("stand-in:svhn", "stand-in:svhn"),
        ("folder:data/cifar10-jpeg", "folder:data/cifar10-jpeg"),
        ("--batch=16", "--batch=16"),
    ],
)
def test_of_a_path_the_last_name_is_kept(tmp_path, word, kept):
    assert records._without_folders(word.format(root=tmp_path)) == kept


def test_points_are_not_recorded(tmp_path):
    model = {"recipe": "mixture-ali", "data": "mixture", "x_shape": (2,), "size": None, "skip_corrupt": False}
    settings = {"seed": 0, "batch_size": 100, "lr": 1e-4, "betas": (0.5, 0.9), "decay": False, "steps": 1}
    runs.create(tmp_path / "run", {**model, **settings, "decoder": None})
    with pytest.raises(AlikitError, match="no run on pictures"):
        record(tmp_path / "run", tmp_path / "out", load("mixture"), HARDWARE, "points")
    assert not (tmp_path / "out").exists()


# The table.


def test_the_report_has_the_numbers_and_leaves_the_rest_of_the_page(noise, tmp_path):
    shutil.copytree(noise, tmp_path / "noise")
    (tmp_path / "study").mkdir(), (tmp_path / "study" / "metrics.json").write_text("{}")  # is none of its business
    (tmp_path / "README.md").write_text(f"# Before\n\n{BEGIN}\nstale\n{END}\n\nafter\n")
    assert write_report(tmp_path) == 1
    text, metrics = (tmp_path / "README.md").read_text(), recorded(noise).metrics
    assert text.startswith(f"# Before\n\n{BEGIN}\n") and text.endswith(f"{END}\n\nafter\n") and "stale" not in text
    row = next(line for line in text.splitlines() if line.startswith("| [noise](noise)"))
    assert f"{metrics['reconstruction_mean']:.4f}" in row and f"{metrics['fidelity_frechet']:.2f}" in row
    assert all(f"| {name}, the paper's networks | wanted" in text for name in ("cifar10", "svhn", "celeba"))
    assert HARDWARE in text and "noise, drawn" in row and "alikit train cifar10-small --data folder:pictures" in text
    assert all((tmp_path / link).exists() for link in ("noise/samples.png", "noise/reconstructions.png"))
    write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_a_record_cannot_change_the_page_around_it(noise, tmp_path):
    """Texts of a stranger's record stand in the page as text."""
    odd = f"x {END} | `y` <b>\n# Heading \x1b[31m"
    shutil.copytree(noise, tmp_path / "noise")
    settings = json.loads((noise / "settings.json").read_text())
    (tmp_path / "noise" / "settings.json").write_text(json.dumps({**settings, "data_name": odd, "hardware": odd}))
    (tmp_path / "noise").rename(tmp_path / "a | <b>")
    write_report(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count(END) == 1 and "<b>" not in text and "\n# Heading" not in text and "\x1b" not in text
    assert r"x &lt;!-- end of recorded runs --&gt; \| 'y' &lt;b&gt;\n# Heading" in text
    write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_half_a_character_is_no_text(noise, tmp_path):
    """JSON can say it, and no page can hold it."""
    shutil.copytree(noise, tmp_path / "noise")
    settings = (noise / "settings.json").read_text()
    (tmp_path / "noise" / "settings.json").write_text(settings.replace(HARDWARE, r"\ud800"))
    with pytest.raises(AlikitError, match=r"settings\.json is damaged"):
        write_report(tmp_path)


def test_a_record_without_weights_is_listed_and_says_so(noise, tmp_path):
    for name in ("light", "whole"):
        shutil.copytree(noise, tmp_path / name)
    for part in ("encoder", "decoder", "codes"):
        (tmp_path / "light" / f"{part}.safetensors").unlink()
    assert write_report(tmp_path) == 2
    text = (tmp_path / "README.md").read_text()
    rows = {name: next(line for line in text.splitlines() if f"[{name}]" in line) for name in ("light", "whole")}
    assert rows["light"].replace("light", "whole") == rows["whole"]
    light, whole = text.split("### whole")
    assert "weights are not kept here" in light.split("### light")[1] and "not kept" not in whole
    with pytest.raises(AlikitError, match=r"^[^\n]*decoder.safetensors is missing[^\n]*$"):
        recorded(tmp_path / "light")


@pytest.mark.parametrize("page", ["nothing", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path, page):
    (tmp_path / "README.md").write_text(page)
    with pytest.raises(AlikitError, match="must hold the lines"):
        write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == page


def test_marks_of_conditional_runs_are_filled_where_they_are(noise, tmp_path):
    shutil.copytree(noise, tmp_path / "noise")
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n\nbetween\n\n{ASKED_BEGIN}\nstale\n{ASKED_END}\nafter\n")
    assert write_report(tmp_path) == 1
    text = (tmp_path / "README.md").read_text()
    assert text.endswith(f"between\n\n{ASKED_BEGIN}\n\nNo conditional run is recorded here.\n\n{ASKED_END}\nafter\n")
    (tmp_path / "README.md").write_text(broken := f"{BEGIN}\n{END}\n{ASKED_END}\n")
    with pytest.raises(AlikitError, match="must hold the lines <!-- conditional runs"):
        write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == broken


def test_a_page_that_is_missing_is_made(noise, tmp_path):
    shutil.copytree(noise, tmp_path / "my noise")
    assert write_report(tmp_path) == 1
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Recorded runs\n") and "| [my noise](my%20noise): " in text
    assert "(my%20noise/samples.png)" in text
    assert write_report(tmp_path) == 1 and (tmp_path / "README.md").read_text() == text
    with pytest.raises(AlikitError, match="no folder"):
        write_report(tmp_path / "nowhere")


def test_a_record_of_an_older_version_is_not_listed(noise, tmp_path):
    shutil.copytree(noise, tmp_path / "old")
    metrics = json.loads((tmp_path / "old" / "metrics.json").read_text())
    del metrics["probe_n"]
    (tmp_path / "old" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(AlikitError, match="older version of alikit: record the run again"):
        write_report(tmp_path)
