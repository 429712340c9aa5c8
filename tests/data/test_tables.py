"""A folder of pictures with a table of attributes: what is read, and which line or column is wrong."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from alikit.data import image_table, load
from alikit.errors import AlikitError

GOOD = "image,split,Red,Large\n0.png,train,1,0\n1.png,valid,0,1\n2.png,train,0,0\n3.png,test,1,1\n"


@pytest.fixture
def faces(paint, tmp_path) -> Path:
    """Four pictures, number i of grey 10 * i, and their table."""
    for i in range(4):
        paint(f"faces/images/{i}.png", (10 * i, 10 * i, 10 * i))
    (tmp_path / "faces" / "attributes.csv").write_text(GOOD)
    return tmp_path / "faces"


def greys(data) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("split", "pictures", "labels"),
    [("train", [0, 20], [[1, 0], [0, 0]]), ("valid", [10], [[0, 1]]), ("test", [30], [[1, 1]])],
)
def test_splits(faces, split, pictures, labels):
    data = image_table(faces, split)
    assert data.x.shape == (len(pictures), 3, 8, 8) and data.x.dtype == torch.uint8 and data.name == "table:faces"
    assert greys(data) == pictures
    assert data.labels.tolist() == labels and data.labels.dtype == torch.uint8
    assert data.classes == ("Red", "Large")


def test_load_takes_train_and_valid(faces):
    train, held_out = load(f"table:{faces}")
    assert greys(train) == [0, 20] and greys(held_out) == [10]
    assert load(f"table:{faces}", size=4)[0].shape == (3, 4, 4)


def test_the_order_of_the_lines_does_not_matter(faces):
    head, *lines = GOOD.splitlines()
    (faces / "attributes.csv").write_text("\n".join([head, *reversed(lines)]))
    data = image_table(faces)
    assert dict(zip(greys(data), data.labels.tolist(), strict=True)) == {0: [1, 0], 20: [0, 0]}


def test_values_may_be_as_in_celebas_table(faces):
    """-1 where a picture has it not; all 1 is the same in both."""
    head, *lines = GOOD.splitlines()
    signed = [line.replace(",0", ",-1") for line in lines]
    (faces / "attributes.csv").write_text("\n".join([head, *signed]))
    data = image_table(faces)
    assert data.labels.tolist() == [[1, 0], [0, 0]] and data.labels.dtype == torch.uint8
    (faces / "attributes.csv").write_text(GOOD.replace(",0", ",1"))
    assert image_table(faces).labels.tolist() == [[1, 1], [1, 1]]


def test_pictures_in_folders_and_a_table_from_a_spreadsheet(faces):
    (faces / "images" / "more").mkdir()
    Image.new("RGB", (8, 8), (90, 90, 90)).save(faces / "images" / "more" / "4.png")
    table = "\ufeff" + (GOOD + "more/4.png,train,1,1\n").replace("\n", "\r\n")  # a mark first, lines as on Windows
    (faces / "attributes.csv").write_bytes(table.encode())
    assert greys(image_table(faces)) == [0, 20, 90]


def test_without_splits_a_tenth_is_held_out_by_name(paint, tmp_path):
    lines = []
    for i in range(100):
        paint(f"faces/images/{i}.png", (i, i, i), size=(2, 2))
        paint(f"pictures/{i}.png", (i, i, i), size=(2, 2))
        lines.append(f"{i}.png,{i % 2}\n")
    (tmp_path / "faces" / "attributes.csv").write_text("image,Odd\n" + "".join(lines))
    train, held_out = load(f"table:{tmp_path / 'faces'}")
    assert len(train) + len(held_out) == 100 and 2 < len(held_out) < 22
    for part in (train, held_out):
        assert part.labels[:, 0].tolist() == [grey % 2 for grey in greys(part)]
    # The same names in a folder are divided in the same way.
    assert greys(load(f"folder:{tmp_path / 'pictures'}")[1]) == sorted(greys(held_out), key=str)


def test_a_changed_table_is_noticed(faces):
    image_table(faces)
    (faces / "attributes.csv").write_text(GOOD.replace("0.png,train,1,0", "0.png,train,0,1"))
    assert image_table(faces).labels.tolist() == [[0, 1], [0, 0]]


def test_unreadable_pictures(faces):
    (faces / "images" / "0.png").write_text("no picture")
    with pytest.raises(AlikitError, match=r"1 file is no readable picture .*0\.png.*--skip-corrupt"):
        image_table(faces)
    for _ in range(2):  # decoded, then from the cache
        data = image_table(faces, skip_corrupt=True)
        assert greys(data) == [20] and data.labels.tolist() == [[0, 0]]


WRONG = {  # the table, and what is said of it
    "line 3: there is no picture images/9.png: put it there, or remove the line": GOOD.replace("1.png", "9.png"),
    "images/3.png has no line in": GOOD.replace("3.png,test,1,1\n", ""),
    "line 4: Large is '2': make it 0 or 1 (or, in the whole table, -1 or 1)": GOOD.replace(
        "2.png,train,0,0", "2.png,train,0,2"
    ),
    "line 3: Red is '0', and '-1' stands above: choose 0 and 1, or -1 and 1": GOOD.replace("train,1,0", "train,1,-1"),
    "line 4: Large is '-1', and '0' stands above: choose 0 and 1, or -1 and 1": GOOD.replace("train,0,0", "train,0,-1"),
    "line 2: Large is '0', and '-1' stands above": GOOD.replace("train,1,0", "train,-1,0"),
    "line 5: Red is '': make it 0 or 1 (or": GOOD.replace("3.png,test,1", "3.png,test,"),
    "line 4: 0.png is already on line 2: remove one": GOOD.replace("2.png", "0.png"),
    "line 3: split is 'dev': make it one of train, valid, test": GOOD.replace("valid", "dev"),
    "line 3: 3 values for 4 columns": GOOD.replace("1.png,valid,0,1", "1.png,valid,0"),
    "line 1: two columns called Red: give each a name of its own": GOOD.replace("Large", "Red"),
    "line 1: a column without a name": GOOD.replace("Large", ""),
    "line 1 names the columns file, split, Red, Large: they must be image, then split": GOOD.replace("image,", "file,"),
    "image, split: they must be image, then split if there is one, then attributes": "image,split\n0.png,train",
    "line 1: a name must be printable text of at most 200 letters without blanks around it, which ' Red'": GOOD.replace(
        "Red", " Red"
    ),
    "which 'R\\x00d' is not": GOOD.replace("Red", "R\0d"),
    "attributes.csv has ';' between its columns: save it with commas": GOOD.replace(",", ";"),
    "attributes.csv has '\\t' between its columns: save it with commas": GOOD.replace(",", "\t"),
    "names no pictures": "image,split,Red,Large\n",
    "has no line with split valid: say which pictures are valid": GOOD.replace("valid", "train"),
    "there is no picture images/../attributes.csv": GOOD.replace("1.png", "../attributes.csv"),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_tables(faces, message):
    (faces / "attributes.csv").write_text(WRONG[message])
    with pytest.raises(AlikitError) as raised:
        load(f"table:{faces}")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_no_table(faces):
    (faces / "attributes.csv").write_bytes(b"image,split,\xff\xfe\n" + bytes(range(256)))
    with pytest.raises(AlikitError, match=r"cannot read .*attributes\.csv .*save it as comma-separated text in UTF-8"):
        image_table(faces)
    (faces / "attributes.csv").write_text(GOOD, encoding="utf-16")
    with pytest.raises(AlikitError, match=r"save it as comma-separated text in UTF-8"):
        image_table(faces)
    (faces / "attributes.csv").unlink()
    (faces / "attributes.csv").mkdir()
    with pytest.raises(AlikitError, match=r"attributes\.csv \(no regular file\): put a readable file there"):
        image_table(faces)
    (faces / "attributes.csv").rmdir()
    with pytest.raises(AlikitError, match=r"no attributes\.csv in .*faces: write one, or say folder:"):
        image_table(faces)
    with pytest.raises(AlikitError, match=r"no folder .*nowhere"):
        load(f"table:{faces}/nowhere")
