"""Folders of pictures and tables beside them: what is read, what is refused, and which pictures are held out."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alikit.data import Dataset, image_folder, image_table, load
from alikit.errors import AlikitError

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255]
BLANK = Image.new("RGB", (9, 8))


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "pets").mkdir()
    return tmp_path / "pets"


@pytest.fixture
def pets(paint, root) -> Path:
    """Two red cats and a blue dog."""
    paint("pets/dog/a.png", "blue"), paint("pets/cat/b.png", "red"), paint("pets/cat/a.png", "red")
    return root


def colours(data: Dataset) -> list[list[int]]:
    """The one colour of each picture."""
    assert (data.x == data.x[:, :, :1, :1]).all()
    return data.x[:, :, 0, 0].tolist()


def greys(data: Dataset) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


# What is read.


def test_class_folders_and_what_is_passed_over(pets, paint, caplog):
    """Files that are no pictures, hidden ones and links to nowhere; a picture outside the classes costs all labels."""
    for name in ("notes.txt", "._a.png"):
        (pets / "cat" / name).write_text("no picture")
    (pets / "cat" / "lost.png").symlink_to("nowhere")
    paint("pets/.git/deep/down/a.png", "green"), paint(".hidden/a.png")
    data = image_folder(pets)
    assert data.x.shape == (3, 3, 8, 8) and data.x.dtype == torch.uint8 and data.name == "folder:pets"
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1]
    assert colours(data) == [RED, RED, BLUE] and len(image_folder(pets.parent / ".hidden")) == 1
    paint("pets/e.png", "green")
    data = image_folder(pets)
    assert colours(data) == [RED, RED, BLUE, GREEN] and data.labels is None and data.classes == ()
    assert "1 pictures in" in caplog.text and "outside its class folders, so none has a label" in caplog.text


def test_links_are_followed_and_each_folder_is_entered_once(pets, paint):
    """A link to a folder above leads round for ever; forty folders of two links to the next are 2^40 ways."""
    paint("elsewhere/whale/a.png", "blue"), paint("elsewhere/a.png", "white")
    (pets / "whale").symlink_to(pets.parent / "elsewhere" / "whale")
    (pets / "cat" / "c.png").symlink_to(pets.parent / "elsewhere" / "a.png")
    (pets / "cat" / "round").symlink_to(pets)
    for number in range(40):
        (pets / f".l{number}").mkdir()
        for name in "ab":
            (pets / f".l{number}" / name).symlink_to(pets / f".l{number + 1}")
    (pets / "cat" / "many").symlink_to(pets / ".l0")
    data = image_folder(pets)
    assert data.classes == ("cat", "dog", "whale") and data.labels.tolist() == [0, 0, 0, 1, 2]
    assert colours(data) == [RED, RED, WHITE, BLUE, BLUE]


def test_the_order_is_by_folders_first(paint, root):
    """As their names are compared part by part: "a b" stands after "a", though " " comes before "/"."""
    names = ["cat/a b/0.png", "cat/a/0.png", "cat/a.png", "cat/a/z/0.png", "cat-2/0.png", "cat/B.png"]
    for i, name in enumerate(names):
        paint(f"pets/{name}", (i, i, i))
    assert [names[i] for i in greys(image_folder(root))] == sorted(names, key=lambda name: name.split("/"))


def test_modes_and_a_camera_that_was_held_upright(root):
    """A transparent pixel shows the white paper, not the colour that lies beneath. Orientation 6 is to be turned a
    quarter clockwise, so that the left side comes up."""
    blue, exif = Image.new("RGB", (4, 8), "blue"), Image.Exif()
    modes = [
        (Image.fromarray(np.full((8, 4), 77, np.uint8)), [77, 77, 77], "grey.png"),
        (Image.fromarray(np.full((8, 4), True)), WHITE, "black-and-white.png"),
        (Image.fromarray(np.full((8, 4), 128 * 257, np.uint16)), [128, 128, 128], "16-bits.png"),
        (Image.new("RGBA", (4, 8), (255, 0, 0, 102)), [255, 153, 153], "40-%-of-red-on-white.png"),
        (Image.new("LA", (4, 8), (0, 0)), WHITE, "clear.png"),
        (blue.quantize(4), BLUE, "palette.png"),
        (Image.new("CMYK", (4, 8), (0, 255, 255, 0)), RED, "ink.tif"),
    ]
    for picture, _, name in modes:
        picture.save(root / name)
    blue.quantize(4).save(root / "a.png", transparency=0)
    expected = {name: colour for _, colour, name in modes} | {"a.png": WHITE}
    assert colours(image_folder(root)) == [expected[name] for name in sorted(expected)]
    picture = Image.new("RGB", (8, 4), "blue")
    picture.paste("red", (0, 0, 4, 4))
    exif[0x0112] = 6
    picture.save(root / "upright.png", exif=exif)
    x = image_folder(root).x[-1]
    assert x.shape == (3, 8, 4) and x[:, 0, 0].tolist() == RED and x[:, 7, 3].tolist() == BLUE


@pytest.mark.parametrize("wide", [True, False])
def test_size_crops_the_centre(root, wide):
    """Of three squares in a row, red, green and blue, the green one is kept."""
    picture = Image.fromarray(np.repeat(np.array([RED, GREEN, BLUE], np.uint8), 80, 0)[None].repeat(80, 0))
    (picture if wide else picture.transpose(Image.Transpose.TRANSPOSE)).save(root / "a.png")
    x = image_folder(root, size=20).x
    assert x.shape == (1, 3, 20, 20) and (x[0, :, 4:-4, 4:-4] == torch.tensor(GREEN)[:, None, None]).all()
    assert image_folder(root, size=100).shape == (3, 100, 100)


# Tables.

GOOD = "image,split,Red,Large\n0.png,train,1,0\n1.png,valid,0,1\n2.png,train,0,0\n3.png,test,1,1\n"


@pytest.fixture
def faces(paint, tmp_path) -> Path:
    """Four pictures, number i of grey 10 * i, and their table."""
    for i in range(4):
        paint(f"faces/images/{i}.png", (10 * i, 10 * i, 10 * i))
    (tmp_path / "faces" / "attributes.csv").write_text(GOOD)
    return tmp_path / "faces"


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


NAME = "line 1: a column's name must be its own"
WRONG = [  # what is said of the table
    ("line 3: ../attributes.csv is no picture in images/", GOOD.replace("1.png", "../attributes.csv")),
    ("line 4: 0.png is no picture in images/, or is on another line already", GOOD.replace("2.png", "0.png")),
    ("images/3.png has no line in", GOOD.replace("3.png,test,1,1\n", "")),
    ("line 4: attributes are '0', '1', '2': make all 0 and 1, or all -1 and 1", GOOD.replace("train,0,0", "train,0,2")),
    ("line 3: attributes are '-1', '0', '1': make all", GOOD.replace("train,1,0", "train,1,-1")),
    ("line 5: attributes are '', '0', '1': make all", GOOD.replace("3.png,test,1", "3.png,test,")),
    ("line 3: split is 'dev': make it one of train, valid, test", GOOD.replace("valid", "dev")),
    ("line 3: 3 values for 4 columns", GOOD.replace("1.png,valid,0,1", "1.png,valid,0")),
    *((NAME, GOOD.replace("Red", name)) for name in ("Large", "", " Red", "Red ", "R\0d", "-Red", '"R,d"', "R" * 201)),
    ("line 1: the columns are image;split;Red;Large: make them image, ", GOOD.replace(",", ";")),
    ("line 1: the columns are image, split: make them", "image,split\n0.png,train"),
    ("has no line with split valid: say which pictures are valid", GOOD.replace("valid", "train")),
]


@pytest.mark.parametrize(("message", "table"), WRONG)
def test_wrong_tables(faces, message, table):
    (faces / "attributes.csv").write_text(table)
    with pytest.raises(AlikitError) as raised:
        load(f"table:{faces}")
    assert message in str(raised.value) and "\n" not in str(raised.value)


# What is refused.


def split(root: Path) -> None:
    for name in ("train/cat", "test/dog", "test/bird"):
        shutil.copytree(root / "dog", root / name)


def emptied(*names: str):
    return lambda root: [(root / name).write_text("") for name in names]


SKIP, ALL = {"skip_corrupt": True}, ("cat/a.png", "cat/b.png", "dog/a.png")
REFUSED = [  # what is said, of which data, read how, and what is done to `pets` before
    (r"no folder .*nowhere: check the path", "table:{}/nowhere", {}, None),
    ("nobody here has the home folder of ~no-such-user/x", "folder:~no-such-user/x", {}, None),
    (r"attributes\.csv is missing: put one there", "table:{}", {}, lambda root: (root / "images").mkdir()),
    (
        r"attributes\.csv \(no regular file\): put",
        "table:{}",
        {},
        lambda root: [(root / name).mkdir() for name in ("images", "attributes.csv")],
    ),
    ("cannot make pictures of size 0: choose 1 to 1,024 pixels a side", "folder:{}", {"size": 0}, None),
    ("cannot make pictures of size 1025: choose", "folder:{}", {"size": 1025}, None),
    (r"no pictures in .*pets", "folder:{}", {}, lambda root: [(root / name).unlink() for name in ALL]),
    (r"^class b in .*pets has no .*: fill .*, or remove it$", "folder:{}", {}, lambda root: (root / "b").mkdir()),
    ("a.png is 9x8, .*b.png is 8x8: .* --size N", "folder:{}", {}, lambda root: BLANK.save(root / "cat" / "a.png")),
    (r"no readable picture in .*pets: all 3 .* \(.*cat/a.png, .*, .*dog/a.png\)", "folder:{}", SKIP, emptied(*ALL)),
    ("has 1 readable pictures: add some, to train on and to hold out", "folder:{}", SKIP, emptied(*ALL[:2])),
    (r"test has classes that train/ lacks \(bird, dog\): give both the same", "folder:{}", {}, split),
]


@pytest.mark.parametrize(("says", "name", "how", "spoil"), REFUSED)
def test_what_cannot_be_read_is_one_line_with_what_to_do(pets, says, name, how, spoil):
    if spoil:
        spoil(pets)
    before = sorted(pets.rglob("*"))
    with pytest.raises(AlikitError, match=says) as raised:
        load(name.format(pets), **how)
    assert "\n" not in str(raised.value)
    assert sorted(pets.rglob("*")) == before or "has 1 readable" in says, "something is left"


def test_damaged_files_are_named_or_left_out_and_counted(pets, caplog):
    """A TIFF of 2,048 numbers a pixel, of which Pillow logs an error of its own."""
    file = pets / "cat" / "samples.tif"
    BLANK.save(file)
    file.write_bytes(file.read_bytes().replace(b"\x15\1\3\0\1\0\0\0\3\0", b"\x15\1\3\0\1\0\0\0\0\x08"))
    for made in (False, True):  # decoded, then from the cache, which a refusal leaves to those who use it
        with pytest.raises(AlikitError, match=f"1 of 4 files are no readable pictures .{file}.: .*, or use --skip"):
            image_folder(pets)
        assert any(pets.glob(".alikit-cache/*.cache")) == made
        data = image_folder(pets, skip_corrupt=True)
        assert data.labels.tolist() == [0, 0, 1] and colours(data) == [RED, RED, BLUE]
        assert caplog.messages == [f"left out 1 of 4 files that are no readable pictures: {file}"]
        caplog.clear()


def test_floating_point_and_many_damaged_files_are_one_short_line(root):
    """Nobody knows the unit of floats, and PIL would cut them off at 255: 0 to 1 would be black."""
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(root / "00.tif")
    for i in range(1, 50):
        (root / f"{i:02}.jpg").write_text("")
    with pytest.raises(AlikitError, match=r"^50 of 50 files .*00\.tif, .*01\.jpg, .*02\.jpg, \.\.\.\)[^\n]*$"):
        image_folder(root)


# Which are held out.


def test_a_folder_with_splits_keeps_them(paint, root):
    for i, name in enumerate(("ant", "bee", "cat")):
        paint(f"pets/train/{name}/0.png", (i, i, i))
    paint("pets/val/cat/0.png", (7, 7, 7)), paint("pets/val/ant/0.png", (9, 9, 9))
    train, held_out = load(f"folder:{root}")
    assert greys(train) == [0, 1, 2] and greys(held_out) == [9, 7]
    assert held_out.classes == train.classes == ("ant", "bee", "cat") and held_out.labels.tolist() == [0, 2]
    assert greys(image_folder(root)) == [0, 1, 2] and greys(image_folder(root, "val")) == [9, 7]
    with pytest.raises(AlikitError, match=r"no split 'test' in .*pets: expected a folder test/"):
        image_folder(root, "test")
    paint("pets/val/loose.png")
    assert {part.labels for part in load(f"folder:{root}")} == {None}


@pytest.mark.parametrize("kind", ["folder", "folder/train", "table"])
def test_a_tenth_is_held_out_by_name_and_none_moves(paint, root, kind):
    """Neither when pictures are added nor when one is damaged."""
    names = [f"{'cat' if i % 2 else 'dog'}/{i}.png" for i in range(120)]
    below = {"folder": "", "folder/train": "train/", "table": "images/"}[kind]

    def parts_of(n: int, **how) -> list[list[int]]:
        for i in range(0 if n < 120 else 60, n):
            paint(f"pets/{below}{names[i]}", (i, i, i), size=(2, 2))
        if kind == "table":
            table = [f"{name},{i % 2}\n" for i, name in enumerate(names[:n])]
            (root / "attributes.csv").write_text("".join(["image,Odd\n", *table]))
        parts = load(f"{kind.partition('/')[0]}:{root}", **how)
        for part in parts:
            labels = part.labels[:, 0] if kind == "table" else 1 - part.labels  # cat, dog
            assert labels.tolist() == [grey % 2 for grey in greys(part)]
        return [greys(part) for part in parts]

    few, many = parts_of(60), parts_of(120)
    shares = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 for name in names]
    expected = [i for i, share in enumerate(shares) if share < 0.1]
    assert sorted(many[1]) == expected and 5 < len(expected) < 20 and sorted(many[0] + many[1]) == list(range(120))
    assert {*few[0]} < {*many[0]} and {*few[1]} < {*many[1]}
    paint(f"pets/{below}cat/7.png").write_text("no picture")
    assert [[i for i in part if i != 7] for part in many] == parts_of(120, skip_corrupt=True)


def test_of_a_few_pictures_each_part_gets_one(paint, root):
    for n in range(1, 9):
        paint(f"pets/{n}.png", (n, n, n))
        if n > 1:
            train, held_out = load(f"folder:{root}")
            assert len(train) and len(held_out) and sorted(greys(train) + greys(held_out)) == [*range(1, n + 1)]
