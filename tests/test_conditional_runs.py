"""Conditional runs by the command line, and their records."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import alikit
from PIL import Image

from alikit import RECIPES, faces, load, load_model, recorded, runs
from alikit.data import Dataset
from alikit.data.conditions import paper_grid
from alikit.evaluation import balanced_accuracy, train_classifier
from alikit.runs import pictures, records
from alikit.runs.report import PARTS, write_report
from alikit.runs.watching import TIMES

RUN = "runs/faces-conditional-seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A table of 110 faces, a run on it and its record, made as a person makes them but for a classifier of 3 steps; a
    table with the same attributes in another order; and runs on digits, with conditions and without."""
    root, data = tmp_path_factory.mktemp("conditional"), faces(110)
    names = [*data.classes]
    (root / "faces" / "images").mkdir(parents=True)
    lines = [["image", "split", *names]]
    for i in range(110):
        Image.fromarray(data.x[i].permute(1, 2, 0).numpy()).save(root / "faces" / "images" / f"{i:03d}.png")
        lines.append([f"{i:03d}.png", "valid" if i < 30 else "train", *map(str, data.labels[i].tolist())])
    (root / "faces" / "attributes.csv").write_text("\n".join(map(",".join, lines)))
    shutil.copytree(root / "faces", root / "other")
    lines[0] = ["image", "split", *reversed(names)]
    (root / "other" / "attributes.csv").write_text("\n".join(map(",".join, lines)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(records, "train_classifier", partial(train_classifier, steps=3))
        assert alikit("train faces-conditional --data table:faces --batch 8 --steps 10").status == 0
        assert alikit(f"record {RUN} --out results/faces").status == 0
        assert alikit("train digits-conditional --steps 2 --out classes").status == 0
        assert alikit("train digits --steps 2 --out plain").status == 0
    return root


@pytest.fixture
def here(made, monkeypatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_a_run_knows_its_conditions_and_goes_on(here, tmp_path):
    assert runs.read_settings(RUN)["number_of_attributes"] == load_model(RUN).attributes == 14
    assert load_model("classes").attributes == 10 and load_model("plain").attributes == 0
    said = {"step", "images_per_second", *TIMES, "discriminator", "generator", "cycle", "spread", "sigma"}
    assert set(runs.metrics(here / RUN)[0]) == said
    shutil.copytree(RUN, tmp_path / "again")
    shutil.copytree("faces", tmp_path / "faces")
    assert alikit(f"resume {tmp_path / 'again'} --steps 12 --data table:{tmp_path / 'faces'}").status == 0
    assert runs.checkpoint(tmp_path / "again")["step"] == 12


def test_samples_and_reconstructions_follow_the_condition(here):
    for line, *asked in (
        (f"sample {RUN} -n 12", "", "--attributes Male,Eyeglasses", "--attributes 'Male, -Eyeglasses'"),
        (f"reconstruct {RUN} -n 6 --mean", "", "--attributes Eyeglasses"),
        ("sample classes -n 10", "--attributes 7", "--attributes 8"),
        ("reconstruct classes -n 4 --mean", "--attributes 7", "--attributes 8"),
    ):
        drawn = []
        for words in asked:
            assert alikit(f"{line} {words} --out drawn.png").status == 0
            with Image.open("drawn.png") as picture:
                drawn.append((picture.size, picture.convert("RGB").tobytes()))
        assert drawn[-1] != drawn[-2] and drawn[-1][0] == drawn[-2][0]
    assert alikit(f"sample {RUN} --grid --out grid.png").status == 0
    with Image.open("grid.png") as picture:
        assert picture.size == (12 * 66 + 2, 4 * 66 + 2)


def test_names_with_a_comma_or_a_sign_can_be_asked_for(paint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(36):
        paint(f"towns/{('-1', '1', 'New York, NY')[number % 3]}/{number}.png", (7 * number, 0, 0))
    assert alikit("train digits-conditional --data folder:towns --batch 8 --steps 2 --out run").status == 0
    asked, usual = [], pictures.usual
    monkeypatch.setattr(
        pictures, "usual", lambda data, names: (asked.append(usual(data, names).tolist()), usual(data, names))[1]
    )
    for names in ("'New York, NY'", "-1", "1"):
        for command in ("sample run -n 3", "reconstruct run -n 3"):
            finished = alikit(f"{command} --attributes {names} --out a.png")
            assert finished.status == 0, finished.err
    assert asked == [[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    finished = alikit("sample run --attributes 'New York'")
    assert finished.status == 2 and "no attribute called 'New York': did you mean New York, NY?" in finished.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"sample {RUN} --attributes Eyeglases", "no attribute called 'Eyeglases': did you mean Eyeglasses?"),
        (f"sample {RUN} --attributes ','", "--attributes names none"),
        (f"sample {RUN} --attributes Male --data table:other", "has other attributes than this run was trained with"),
        (f"sample {RUN} --attributes Male,-Male", "Male cannot be and not be: name it once"),
        (f"sample {RUN} --attributes Male --grid", "--grid has attributes of its own: leave --attributes out"),
        ("bench step faces-conditional", "is conditioned on y, which the textbook's step does not have"),
        (f"evaluate {RUN} --metrics svm", "given what an SVM is to find out"),
        ("train faces-conditional --data folder:faces/images --out x", "data whose examples have attributes or class"),
        ("sample classes --attributes 7,8", "an example has one class: name one of 0, 1"),
        ("sample classes --grid", "the paper's grid asks for Male, Attractive"),
        ("sample plain --attributes 3", "is no conditional run"),
        ("reconstruct plain --attributes 3", "is no conditional run"),
    ],
)
def test_one_clear_line_for_a_mistake(here, line, message):
    status, _, said = alikit(line)
    assert status == 2 and message in said.splitlines()[-1] and said.splitlines()[-1].startswith("alikit: ")
    assert not (here / "x").exists()


def test_a_record_opens_without_its_data(here, tmp_path):
    """With the attribute classifier and the grid; metrics are numbers that JSON knows, pictures have all colours."""
    shutil.copytree("results/faces", tmp_path / "faces")
    found, (train, held_out) = recorded(tmp_path / "faces"), load("table:faces", 32)
    assert torch.equal(found.codes["grid"], paper_grid(train))
    assert found.settings["classes"] == list(faces(1).classes)
    drawn = found.model.decode(torch.zeros(48, found.model.z_dim), y=found.codes["grid"].flatten(0, 1))
    assert drawn.shape == (48, 3, 32, 32)
    own = balanced_accuracy(found.classifier, held_out).nan_to_num(0.5)
    stated = torch.tensor([row["judge"] for row in found.metrics["attributes_of"].values()]).nan_to_num(0.5)
    torch.testing.assert_close(own, stated, atol=0.2, rtol=0)  # stored in half the numbers
    assert {"attributes_accuracy", "attributes_balanced", "attributes_grid", "attributes_kept"} <= found.metrics.keys()
    json.loads((tmp_path / "faces/metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    for name, rows, columns in (("grid", 4, 12), ("switches", 4, 15), ("switched", 4, 15)):
        with Image.open(f"results/faces/{name}.png") as picture:
            assert picture.mode == "RGB"
            # Pictures of 32x32, thrice as large, with lines of 2 between, and names.
            assert picture.width == 130 + columns * 98 + 2 and 25 <= picture.height - rows * 100 <= 40
    (tmp_path / "faces/grid.png").unlink()
    marks = [f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in PARTS.values()]
    (tmp_path / "README.md").write_text("".join(marks))
    assert write_report(tmp_path) == 1 and "grid.png" not in (tmp_path / "README.md").read_text()


def test_the_record_of_a_run_on_classes(here, tmp_path):
    assert alikit(f"record classes --out {tmp_path / 'digits'}").status == 0
    found = recorded(tmp_path / "digits").metrics
    assert found["classes_n"] == 297 and len(found["classes_confusion"]) == 10
    assert found["classes_accuracy"] < 0.5 < found["classes_judge"], "trained for 2 steps"
    for name in ("switches", "switched"):
        with Image.open(tmp_path / f"digits/{name}.png") as picture:
            assert picture.width == 130 + 11 * 98 + 2, "as it is, and each class, of 8x8, twelve times as large"
    assert write_report(tmp_path) == 1
    assert "decoded as\nother classes" in (tmp_path / "README.md").read_text()


def test_classes_that_are_called_like_attributes_are_drawn_under_their_names(here, monkeypatch):
    """The decoder of this model draws the shade that the class has."""
    x = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    held_out = Dataset("people", x, torch.arange(8) % 3, ("Female", "Male", "Young"))
    model = RECIPES["digits-conditional"].build((1, 8, 8), attributes=3)
    model.decode = lambda z, y: y.float().mv(torch.tensor([0.2, 0.5, 0.9]))[:, None, None, None].expand(-1, 1, 8, 8)
    drawn = []
    monkeypatch.setattr(pictures, "strips", lambda rows, columns, zoom: drawn.append((rows, columns)))
    pictures.switch_sheets(model, held_out, None)
    for rows, columns in drawn:
        assert columns == ["as it is", "female", "male", "young"] and len(rows) == 4
        for row in rows.values():
            torch.testing.assert_close(row[1:, 0, 0, 0], torch.tensor([0.2, 0.5, 0.9]))
