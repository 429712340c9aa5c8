"""Tables that say what is in each picture: in the forms that people have, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from alikit.data import Dataset, image_table, load
from alikit.errors import AlikitError

GOOD = "image,split,Red,Large\n0.png,train,1,0\n1.png,valid,0,1\n2.png,train,0,0\n3.png,test,1,1\n"


@pytest.fixture
def faces(paint, tmp_path) -> Path:
    """Four pictures, number i of grey 10 * i, and their table."""
    for i in range(4):
        paint(f"faces/images/{i}.png", (10 * i, 10 * i, 10 * i))
    (tmp_path / "faces" / "attributes.csv").write_text(GOOD)
    return tmp_path / "faces"


def greys(data: Dataset) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def labelled(parts: tuple[Dataset, ...]) -> dict[int, object]:
    """The label of each picture, by its grey; with the name of its class where it has one."""
    return {
        grey: data.classes[label] if data.labels.ndim == 1 else label
        for data in parts
        for grey, label in zip(greys(data), data.labels.tolist(), strict=True)
    }


def test_a_table_of_splits(faces):
    train, held_out = load(f"table:{faces}", size=4)
    assert train.shape == (3, 4, 4)
    for data, pictures, labels in (
        *((data, [0, 20], [[1, 0], [0, 0]]) for data in (train, image_table(faces))),
        *((data, [10], [[0, 1]]) for data in (held_out, image_table(faces, "valid"))),
        (image_table(faces, "test"), [30], [[1, 1]]),
    ):
        assert greys(data) == pictures and data.labels.tolist() == labels and data.labels.dtype == torch.uint8
        assert data.classes == ("Red", "Large") and data.name == "table:faces"


def test_a_table_may_be_signed_and_from_a_spreadsheet_and_is_read_again_when_it_changes(faces, paint):
    """-1 for an absent attribute as in CelebA's; a byte order mark, Windows' line ends, a blank line at the end."""
    paint("faces/images/more/4.png", (90, 90, 90))
    table = f"\ufeff{GOOD}more/4.png,train,1,1\n\n".replace(",0", ",-1").replace("\n", "\r\n")
    for change, first in ((table, [1, 0]), (table.replace("0.png,train,1,-1", "0.png,train,-1,1"), [0, 1])):
        (faces / "attributes.csv").write_bytes(change.encode())
        data = image_table(faces)
        assert greys(data) == [0, 20, 90] and data.labels.tolist() == [first, [0, 0], [1, 1]]


BITS, PETS = {0: [1, 0], 10: [0, 1], 20: [0, 0], 30: [1, 1]}, {0: "cat", 10: "dog", 20: "cat", 30: "bird"}
ROWS = {  # a table's header and lines with {} for the picture, and what is known of each picture then
    "spellings of true and false": ("{},Red,Large", "1,-1 0,1 0.0,-1.0 TRUE,1", BITS),
    "names with a comma and a minus": ('{},"R,d",-Large', "1,0 0,1 0,0 1,1", BITS),
    "blanks after commas": ("{}, Red , Large", " 1, 0  0, 1  0, 0  1, 1", BITS),
    "true and false": ("{},Red,Large", "True,False False,True False,False True,True", BITS),
    "pandas' index": (",{},Red,Large", "7,{},1,0 8,{},0,1 9,{},0,0 10,{},1,1", BITS),
    "one attribute": ("{},Red", "1 0 0 1", {0: [1], 10: [0], 20: [0], 30: [1]}),
    "classes as text": ("{},kind", "cat dog cat bird", PETS),
    "classes as numbers": ("{},kind", "10 9 10 2", {0: "10", 10: "9", 20: "10", 30: "2"}),
    "a label of 0 and 1": ("{},Label", "1 0 1 0", {0: "1", 10: "0", 20: "1", 30: "0"}),
    "-1, 0 and 1": ("{},mood", "-1 0 1 1", {0: "-1", 10: "0", 20: "1", 30: "1"}),
    "classes in two spellings of a letter": (
        "{},kind",
        "\u00e9 e\u0301 x x",
        {0: "\u00e9", 10: "\u00e9", 20: "x", 30: "x"},
    ),
}


@pytest.mark.parametrize("kind", ROWS)
def test_values_are_classes_or_attributes(faces, kind):
    header, rows, expected = ROWS[kind]
    lines = [header.format("image")]
    for i, row in enumerate(rows.split("  " if "blanks" in kind else " ")):
        lines.append(row.format(f"{i}.png") if "{}" in row else f"{i}.png,{row}")
    (faces / "attributes.csv").write_text("\n".join(lines))
    parts = load(f"table:{faces}")
    assert labelled(parts) == expected
    assert parts[0].labels.dtype == (torch.uint8 if isinstance(expected[0], list) else torch.int64)
    if kind == "classes as numbers":
        assert parts[0].classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("image_id", "{}.png"),
        ("file_name", "images/{}.png"),
        ("Filename", "./{}.png"),
        ("path", "C:\\pets\\images\\{}.png"),
        ("name", "elsewhere/{}.png"),
        ("ID", "{}"),
        ("file", "{}.JPG"),
    ],
)
def test_pictures_are_found_by_what_people_write(faces, column, name):
    lines = [f"Smiling,{column}", *(f"{i % 2},{name.format(i)}" for i in range(4))]
    (faces / "attributes.csv").write_text("\n".join(lines))
    assert labelled(load(f"table:{faces}")) == {0: [0], 10: [1], 20: [0], 30: [1]}


@pytest.mark.parametrize(
    ("header", "splits", "how"),
    [
        ("Split", "Train val training TEST", {}),
        ("partition", "0 1 0 2", {}),
        ("split", "train test train left", {"splits": "train,test"}),
        ("split", "a b a c", {"splits": "a,b"}),
        ("split", "train test train test", {}),
    ],
)
def test_splits_in_a_column(faces, header, splits, how):
    lines = [f"image,Red,{header}", *(f"{i}.png,1,{split}" for i, split in enumerate(splits.split()))]
    (faces / "attributes.csv").write_text("\n".join(lines))
    train, held_out = load(f"table:{faces}", **how)
    assert greys(train) == [0, 20] and greys(held_out)[0] == 10
    train, held_out = load(f"table:{faces}", splits="none")
    assert sorted(greys(train) + greys(held_out)) == [0, 10, 20, 30]


def test_celeba_as_kaggle_has_it(paint, tmp_path):
    for i in range(4):
        paint(f"faces/img_align_celeba/img_align_celeba/00000{i}.jpg", (10 * i, 10 * i, 10 * i))
    values = zip(range(4), ("1,-1", "-1,1", "-1,-1", "1,1"), strict=True)
    attributes = ["image_id,Red,Large", *(f"00000{i}.jpg,{row}" for i, row in values)]
    (tmp_path / "faces" / "list_attr_celeba.csv").write_text("\n".join(attributes))
    (tmp_path / "faces" / "list_landmarks_align_celeba.csv").write_text("image_id,x\n000000.jpg,4\n")
    partition = tmp_path / "faces" / "list_eval_partition.csv"
    partition.write_text("image_id,partition\n000000.jpg,0\n000001.jpg,1\n000002.jpg,0\n000003.jpg,2\n")
    for kind in ("table", "folder"):
        train, held_out = load(f"{kind}:{tmp_path / 'faces'}")
        assert labelled((train,)) == {0: [1, 0], 20: [0, 0]} and labelled((held_out,)) == {10: [0, 1]}
    partition.write_text(partition.read_text().replace("000002.jpg,0", "000002.jpg,3"))
    with pytest.raises(AlikitError, match=r"list_eval_partition\.csv line 4: expected a picture and its split"):
        load(f"table:{tmp_path / 'faces'}")
    partition.write_text(partition.read_text().replace("000002.jpg,3\n", ""))
    with pytest.raises(AlikitError, match=r"line 4: 000002\.jpg has no line in list_eval_partition\.csv"):
        load(f"table:{tmp_path / 'faces'}")


@pytest.mark.parametrize("table", ["metadata.csv", "metadata.jsonl"])
def test_metadata_as_hugging_face_has_it(paint, tmp_path, table):
    """In the folder of each split, or at the root with paths that begin with the split."""

    def write(file: Path, rows: list[tuple[str, object]]) -> None:
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
        lines = lines if table.endswith("jsonl") else ["file_name,label", *(f"{name},{label}" for name, label in rows)]
        file.write_text("\n".join(lines))

    for i in range(4):
        paint(f"pets/{'test' if i == 1 else 'train'}/{i}.png", (10 * i, 10 * i, 10 * i))
    root, kinds = tmp_path / "pets", ("cat", "dog", "dog", "cat")
    write(root / "train" / table, [(f"{i}.png", kinds[i]) for i in (0, 2, 3)])
    write(root / "test" / table, [("1.png", "dog")])
    for kind in ("table", "folder"):
        train, held_out = load(f"{kind}:{root}")
        assert labelled((train,)) == {0: "cat", 20: "dog", 30: "cat"} and labelled((held_out,)) == {10: "dog"}
        assert train.classes == held_out.classes == ("cat", "dog")
    for split in ("train", "test"):
        (root / split / table).unlink()
    write(root / table, [(f"{'test' if i == 1 else 'train'}/{i}.png", i % 2) for i in range(4)])
    train, held_out = load(f"folder:{root}")
    assert labelled((train,)) == {0: "0", 20: "0", 30: "1"} and labelled((held_out,)) == {10: "1"}
    write(root / table, [(f"train/{i}.png", kinds[i]) for i in (0, 2, 3)])  # nothing is said of those to test on
    assert labelled(load(f"table:{root}")) == {0: "cat", 20: "dog", 30: "cat"}


def test_pictures_to_test_on_may_have_no_lines(paint, tmp_path, caplog):
    """As in competitions; any others must have one."""
    for i in range(4):
        paint(f"dogs/{'test' if i > 2 else 'train'}/{i}.jpg", (10 * i, 10 * i, 10 * i))
    (tmp_path / "dogs" / "labels.csv").write_text("id,breed\n0,pug\n1,beagle\n2,pug\n")
    assert labelled(load(f"folder:{tmp_path / 'dogs'}")) == {0: "pug", 10: "beagle", 20: "pug"}
    assert "left out test, of whose pictures" in caplog.text
    paint("dogs/train/4.jpg")
    with pytest.raises(
        AlikitError, match=r"train/4\.jpg has no line in .*labels\.csv: write one, or move it elsewhere"
    ):
        load(f"folder:{tmp_path / 'dogs'}")


def test_a_folder_with_a_table_is_read_by_it_unless_it_has_classes(faces, paint, caplog):
    assert labelled(load(f"folder:{faces}")) == {0: [1, 0], 20: [0, 0], 10: [0, 1]}
    assert f"labels are read from attributes.csv in {faces}" in caplog.text
    assert labelled(load(f"table:{faces / 'attributes.csv'}")) == {0: [1, 0], 20: [0, 0], 10: [0, 1]}
    (faces / "labels.csv").write_text("id,label\n0,a\n1,b\n2,a\n3,b\n")
    with pytest.raises(AlikitError, match=r"several tables \(attributes.csv, labels.csv\): choose one, as table:.*csv"):
        load(f"folder:{faces}")
    assert labelled(load(f"table:{faces / 'labels.csv'}")) == {0: "a", 10: "b", 20: "a", 30: "b"}
    paint("faces/more/4.png", (40, 40, 40))
    assert load(f"folder:{faces}")[0].classes == ("images", "more")
    assert f"attributes.csv is not read, as {faces} has class folders: table:{faces} reads it" in caplog.text


def test_a_folder_in_a_name_is_that_of_the_picture(paint, tmp_path):
    """Unless no name has the folders that are here, as those of another machine."""
    for name in ("cats/1", "dogs/2", "dogs/3"):
        paint(f"faces/{name}.png")
    table = tmp_path / "faces" / "labels.csv"
    table.write_text("image,label\n/elsewhere/cats/1.png,cat\nC:\\dogs\\2.png,dog\nother/3.png,dog\n")
    assert len(load(f"table:{table.parent}")[0]) == 2
    table.write_text("image,label\ncats/1.png,cat\ncats/2.png,cat\ndogs/3.png,dog\n")
    with pytest.raises(AlikitError, match=r"line 3: cats/2.png is not in that folder: mend the path"):
        load(f"table:{table.parent}")


def test_a_column_called_label_holds_classes_whatever_lies_beside_it(paint, tmp_path, caplog):
    for i in range(20):
        paint(f"faces/train/{i}.png"), paint(f"faces/test/{i}.png")
    lines = [f"{i},{i % 2},{i % 3 % 2}" for i in range(20)]
    (tmp_path / "faces" / "train.csv").write_text("\n".join(["id,label,fold", *lines]))
    train, held_out = load(f"table:{tmp_path / 'faces'}")  # of train.csv, the pictures in train/
    assert (len(train) + len(held_out), train.classes, train.labels.ndim) == (20, ("0", "1"), 1)
    assert "train.csv that are not used: fold" in caplog.text


def test_a_line_may_name_a_picture_that_cannot_be_read(faces):
    (faces / "images" / "4.heic").write_text("")
    (faces / "attributes.csv").write_text(GOOD + "4.heic,train,1,1\n")
    with pytest.raises(AlikitError, match=r"1 of 4 files are no readable pictures \(1 \.heic\): convert them"):
        load(f"table:{faces}")
    assert greys(load(f"table:{faces}", skip_corrupt=True)[0]) == [0, 20]


NAME = "line 1: a column's name must be its own"
WRONG = [  # what is said of the table
    ("line 3: ../attributes.csv is no picture in images/", GOOD.replace("1.png", "../attributes.csv")),
    ("line 4: 0.png is no picture in images/, or is on another line already", GOOD.replace("2.png", "0.png")),
    ("images/3.png has no line in", GOOD.replace("3.png,test,1,1\n", "")),
    ("line 4: Large is '2', beside 1 other columns: attributes are each 0 and", GOOD.replace("train,0,0", "train,0,2")),
    ("line 2: kind is 'cat', beside 1 other columns: .*; or keep one column", "image,kind,Red\n0.png,cat,1"),
    ("line 4: Large is both 0 and -1: attributes are each 0 and", GOOD.replace("train,1,0", "train,1,-1")),
    ("line 5: Red is '', beside", GOOD.replace("3.png,test,1", "3.png,test,")),
    ("line 2: kind has no value: write one", "image,kind\n0.png,"),
    ("line 3: split is 'late': make it one of train, valid, test, or say which", GOOD.replace("valid", "late")),
    ("line 3: 3 values for 4 columns", GOOD.replace("1.png,valid,0,1", "1.png,valid,0")),
    *((NAME, GOOD.replace("Red", name)) for name in ("Large", "", " ", "R\0d", "R" * 201)),
    (
        "line 1: the columns are image;split;Red;Large, and there are no commas between the columns",
        GOOD.replace(",", ";"),
    ),
    ("line 1: the columns are image, split, and there is no other column: make them", "image,split\n0.png,train"),
    ("line 1: the columns are a, b, and no column is called image, image_id, file_name", "a,b\n0.png,train"),
    ("has no line with split train: say which pictures are train", GOOD.replace("train", "valid")),
]


@pytest.mark.parametrize(("message", "table"), WRONG)
def test_wrong_tables(faces, message, table):
    (faces / "attributes.csv").write_text(table)
    with pytest.raises(AlikitError, match=message) as raised:
        load(f"table:{faces}")
    assert "\n" not in str(raised.value)


WRONG_LINES = [
    ('{"file_name": "0.png", "boxes": [1, 2]}', "line 1: boxes holds several values: leave it out"),
    ('{"file_name": "0.png", "a": 1}\n{"file_name": "1.png"}', "line 2: the keys are file_name: give all lines"),
    ("[1, 2]", "metadata.jsonl is damaged or not what it should be"),
    ("{'file_name': 1}", "metadata.jsonl is damaged or not what it should be"),
    ("", "line 1: the columns are , and no column is called image"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG_LINES)
def test_wrong_json_lines(faces, lines, message):
    (faces / "attributes.csv").unlink()
    (faces / "metadata.jsonl").write_text(lines)
    with pytest.raises(AlikitError, match=message) as raised:
        load(f"table:{faces}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["{i}.5", "caption {i}"])
def test_a_column_that_differs_everywhere_holds_no_classes(paint, tmp_path, value):
    for i in range(9):
        paint(f"faces/images/{i}.png")
    lines = [f"{i}.png,{value.format(i=i)}" for i in range(9)]
    (tmp_path / "faces" / "attributes.csv").write_text("\n".join(["image,text", *lines]))
    with pytest.raises(AlikitError, match=r"text has 9 values \(.*, \.\.\.\): choose a column of classes"):
        load(f"table:{tmp_path / 'faces'}")
