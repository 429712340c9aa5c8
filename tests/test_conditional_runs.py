"""Conditional runs by the command line, and their records."""

import json
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from alikit import faces, load, load_model, recorded, runs
from alikit.__main__ import main
from alikit.data.conditions import paper_grid
from alikit.evaluation import balanced_accuracy, train_judge
from alikit.runs import records
from alikit.runs.report import ASKED_BEGIN, ASKED_END, BEGIN, END

COMMAND = "alikit train faces-conditional --data table:faces --batch 8 --steps 10"


def command(line: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as stopped:
            main()
    return stopped.value.code or 0


def write_table(root: Path, n: int, held_out: int) -> None:
    data = faces(n)
    (root / "images").mkdir(parents=True)
    lines = [",".join(["image", "split", *data.classes])]
    for i in range(n):
        Image.fromarray(data.x[i].permute(1, 2, 0).numpy()).save(root / "images" / f"{i:03d}.png")
        split = "valid" if i < held_out else "train"
        lines.append(",".join([f"{i:03d}.png", split, *map(str, data.labels[i].tolist())]))
    (root / "attributes.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A table of 110 faces, a run on it and its record, made as a person makes them but for a judge of 3 steps."""
    root = tmp_path_factory.mktemp("conditional")
    write_table(root / "faces", 110, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(records, "train_judge", partial(train_judge, steps=3))
        assert command(COMMAND) == 0
        assert command("alikit record runs/faces-conditional-seed0 --out results/faces") == 0
    return root


@pytest.fixture
def here(made, monkeypatch, capsys) -> Path:
    monkeypatch.chdir(made)
    capsys.readouterr()
    return made


RUN = "runs/faces-conditional-seed0"


def test_a_run_knows_what_it_was_told(here):
    settings = runs.settings(here / RUN)
    assert settings["number_of_attributes"] == 14
    assert load_model(RUN).attributes == 14
    said = {"step", "images_per_second", "seconds", "discriminator", "generator", "cycle", "spread", "sigma"}
    assert set(runs.metrics(here / RUN)[0]) == said


def pixels(file: str) -> torch.Tensor:
    with Image.open(file) as picture:
        return torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)


def test_samples_are_of_what_is_asked(here):
    assert command(f"alikit sample {RUN} -n 12 --out as-they-are.png") == 0
    for names in ("Male,Eyeglasses", "Male, -Eyeglasses"):
        assert command(f"alikit sample {RUN} -n 12 --attributes '{names}' --out '{names}.png'") == 0
    first, second = pixels("Male,Eyeglasses.png"), pixels("Male, -Eyeglasses.png")
    assert first.shape == second.shape and not torch.equal(first, second)


def test_the_grid_is_a_picture_of_48(here):
    assert command(f"alikit sample {RUN} --grid --out grid.png") == 0
    with Image.open("grid.png") as picture:
        assert picture.size == (12 * 66 + 2, 4 * 66 + 2)


def test_reconstructions_with_a_switch(here):
    for words, name in (("", "plain"), ("--attributes Eyeglasses", "switched")):
        assert command(f"alikit reconstruct {RUN} -n 6 --mean {words} --out {name}.png") == 0
    assert not torch.equal(pixels("plain.png"), pixels("switched.png"))


def test_going_on_with_a_conditional_run(here, tmp_path):
    shutil.copytree(RUN, tmp_path / "again")
    shutil.copytree("faces", tmp_path / "faces")
    assert command(f"alikit resume {tmp_path / 'again'} --steps 12 --data table:{tmp_path / 'faces'}") == 0
    assert runs.checkpoint(tmp_path / "again")["step"] == 12


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"sample {RUN} --attributes Eyeglases", "no attribute called 'Eyeglases': did you mean Eyeglasses?"),
        (f"sample {RUN} --attributes ','", "--attributes names none"),
        (f"sample {RUN} --attributes Male --data table:fewer", "has other attributes than this run was told"),
        (f"sample {RUN} --attributes Male,-Male", "Male cannot be and not be: name it once"),
        (f"sample {RUN} --attributes Male --grid", "--grid has attributes of its own: leave --attributes out"),
        (f"reconstruct {RUN} --attributes zzz", "no attribute called 'zzz': there are Attractive, Bald"),
        ("bench step faces-conditional", "is told y, which the textbook's step is not"),
        (f"evaluate {RUN} --metrics svm", "told what an SVM is to find out"),
        ("train celeba-conditional-small --data digits --out x", "these networks take 32x32"),
        ("train digits-conditional --data mixture --out x", "these networks are for pictures"),
        ("train faces-conditional --data folder:bare --out x", "wants data whose examples have attributes or classes"),
        ("train faces-conditional --data table:missing --out x", "there is no picture images/109.png"),
        ("train faces-conditional --data table:wrong --out x", "line 5: Young is '2': make it 0 or 1"),
    ],
)
def test_one_clear_line_for_a_mistake(here, line, message, capsys):
    if not (here / "bare").exists():
        shutil.copytree("faces/images", "bare")
        for broken in ("missing", "wrong"):
            shutil.copytree("faces", broken)
        write_table(here / "fewer", 20, 5)
        text = (here / "fewer/attributes.csv").read_text().replace("Bald,Bangs", "Bangs,Bald")
        (here / "fewer/attributes.csv").write_text(text)
        (here / "missing/images/109.png").unlink()
        lines = (here / "wrong/attributes.csv").read_text().splitlines()
        lines[4] = lines[4][:-1] + "2"
        (here / "wrong/attributes.csv").write_text("\n".join(lines))
    assert command(f"alikit {line}") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("alikit: ")
    assert not (here / "x").exists()


def test_what_is_told_nothing_takes_no_attributes(here, capsys):
    assert command("alikit train digits --steps 2 --out plain") == 0
    for words in ("sample plain --attributes 3", "sample plain --grid", "reconstruct plain --attributes 3"):
        capsys.readouterr()
        assert command(f"alikit {words}") == 2
        assert "is no conditional run" in capsys.readouterr().err


def test_classes_are_told_by_name(here, capsys):
    assert command("alikit train digits-conditional --steps 4 --out classes") == 0
    assert load_model("classes").attributes == 10
    assert command("alikit sample classes -n 10 --attributes 7 --out seven.png") == 0
    assert command("alikit reconstruct classes -n 4 --attributes 7 --out as-seven.png") == 0
    capsys.readouterr()
    assert command("alikit sample classes --attributes 7,8") == 2
    assert "an example has one class: name one of 0, 1" in capsys.readouterr().err
    assert command("alikit sample classes --grid") == 2
    assert "the paper's grid asks for Male, Attractive" in capsys.readouterr().err


# Records.


def test_a_record_keeps_the_judge_and_pictures_of_switches(here):
    kept = {file.name for file in (here / "results/faces").iterdir()}
    assert {"judge.safetensors", "grid.png", "switches.png", "switched.png", "samples.png"} <= kept


def test_the_stored_judge_is_the_one_that_judged(here):
    found = recorded("results/faces")
    held_out = load("table:faces", 32)[1]
    own = balanced_accuracy(found.judge, held_out).nan_to_num(0.5)
    stated = torch.tensor([row["judge"] for row in found.metrics["attributes_of"].values()]).nan_to_num(0.5)
    torch.testing.assert_close(own, stated, atol=0.2, rtol=0)  # stored in half the numbers
    assert {"attributes_accuracy", "attributes_balanced", "attributes_grid", "attributes_kept"} <= found.metrics.keys()


def test_a_record_opens_without_its_data_and_shows_the_grid(here, tmp_path):
    shutil.copytree("results/faces", tmp_path / "faces")
    found = recorded(tmp_path / "faces")
    assert torch.equal(found.codes["grid"], paper_grid(load("table:faces", 32)[0]))
    assert found.settings["classes"] == list(faces(1).classes)
    drawn = found.model.decode(torch.zeros(48, found.model.z_dim), y=found.codes["grid"].flatten(0, 1))
    assert drawn.shape == (48, 3, 32, 32)


def test_metrics_hold_numbers_that_json_knows(here):
    text = (here / "results/faces/metrics.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_pictures_of_switches_have_names_and_few_colours(here):
    for name, rows, columns in (("grid", 4, 12), ("switches", 4, 15), ("switched", 4, 15)):
        with Image.open(f"results/faces/{name}.png") as picture:
            assert picture.mode == "P"
            # Pictures of 32x32, thrice as large, with lines of 2 between.
            assert picture.width == 130 + columns * 98 + 2 and 25 <= picture.height - rows * 100 <= 40


def test_the_report_has_what_was_measured_of_each_attribute(here):
    page = here / "results/README.md"
    page.write_text(f"{BEGIN}\n{END}\n{ASKED_BEGIN}\n{ASKED_END}\n")
    assert command("alikit report results") == 0
    text, found = page.read_text(), json.loads((here / "results/faces/metrics.json").read_text())
    said = text.split(ASKED_BEGIN)[1].splitlines()
    row = next(line for line in said if line.startswith("| [faces](faces)"))
    whole = [f"{found[f'attributes_{name}']:.3f}" for name in ("grid", "balanced", "kept", "reencoded_kept")]
    assert all(number in row for number in whole) and "alikit train faces-conditional" in row and "| 1 |" in row
    lines = [line for line in said if line.startswith("| ")][5:]  # after two heads and a run
    assert len(lines) == len(found["attributes_of"]) == 14
    best = max(found["attributes_of"], key=lambda name: _difference(found["attributes_of"][name]))
    assert lines[0].startswith(f"| {best.replace('_', ' ')} | {found['attributes_of'][best]['share']:.1%} |")
    assert f"{_difference(found['attributes_of'][best]):+.3f}" in lines[0]
    assert any("](faces/grid.png)" in line for line in said)
    assert command("alikit report results") == 0 and page.read_text() == text


def _difference(row: dict) -> float:
    return row["asked"] - row["unasked"]
