"""Folders of pictures: what is read, what is refused, which folders are splits, and which pictures are held out."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alikit.data import Dataset, image_folder, load
from alikit.data.splits import split_of, splits_among
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
    """Files that are no pictures, and hidden ones; a picture outside the classes costs all labels."""
    for name in ("notes.txt", "._a.png"):
        (pets / "cat" / name).write_text("no picture")
    paint("pets/.git/deep/down/a.png", "green"), paint(".hidden/a.png")
    data = image_folder(pets)
    assert data.x.shape == (3, 3, 8, 8) and data.x.dtype == torch.uint8 and data.name == "folder:pets"
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1]
    assert colours(data) == [RED, RED, BLUE] and len(image_folder(pets.parent / ".hidden")) == 1
    paint("pets/e.png", "green")
    data = image_folder(pets)
    assert colours(data) == [RED, RED, BLUE, GREEN] and data.labels is None and data.classes == ()
    assert "1 pictures in" in caplog.text and "outside its class folders, so none has a label" in caplog.text


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(pets, caplog):
    """As of data that git-annex or DVC has not fetched."""
    for name in "xy":
        (pets / "dog" / f"{name}.png").symlink_to("../.git/annex/none")
    with pytest.raises(AlikitError, match=r"2 of 5 files are no readable pictures \(.*x.png, .*y.png\): mend"):
        image_folder(pets)
    assert len(image_folder(pets, skip_corrupt=True)) == 3 and "left out 2 of 5 files" in caplog.text


def test_a_class_that_is_a_link_to_another_is_said(pets, caplog):
    (pets / "wolf").symlink_to("dog")
    assert image_folder(pets).classes == ("cat", "dog")
    assert "wolf, a link to a folder that is read already" in caplog.text


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


def test_many_damaged_files_are_one_short_line(root):
    for i in range(50):
        (root / f"{i:02}.jpg").write_text("")
    with pytest.raises(AlikitError, match=r"^50 of 50 files .*00\.jpg, .*01\.jpg, .*02\.jpg, \.\.\.\)[^\n]*$"):
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
    assert image_folder(root, "validation").labels.tolist() == [0, 2], "as the training part labels them"
    with pytest.raises(AlikitError, match=r"no split 'test' in .*pets: expected a folder test/"):
        image_folder(root, "test")
    paint("pets/val/loose.png")
    assert {part.labels for part in load(f"folder:{root}")} == {None}


def test_names_of_splits():
    for kind, names in {
        "train": "train Train TRAIN training 0-train train2017 seg_train train_images images_train trainset TrainSet "
        "train-jpg my_train trainA TRAINset trainval",
        "valid": "val valid validation Dev-Set eval val2017 valid_images",
        "test": "test Testing TESTING 1-test seg_test testset testB imgs.test",
    }.items():
        assert [split_of(name) for name in names.split()] == [kind] * len(names.split())
    assert split_of("Training Data") == "train"
    assert {split_of(name) for name in ("contest", "latest", "valley", "trainer", "invalid", "seg_pred", "cat")} == {
        None
    }
    assert splits_among(["bullet train", "test tube", "bus"]) == {}  # but for what is said beside, they are alike
    assert splits_among(["trainA", "testA", "my_pets"]) == {"trainA": "train", "testA": "test"}


ASKED = "which may be splits or classes: say which, as --splits TRAIN,HELD_OUT, or --splits none"
LAYOUTS = [  # the folders with two pictures each; then the training part's red, the held-out part's, and the classes
    # or what is said where it is refused
    ("training/a training/b testing/a testing/b", [0, 1], [2, 3], "ab"),
    ("Train/a Train/b Test/b", [0, 1], [2], "ab"),
    ("train/a train/b valid/a valid/b test/a", [0, 1], [4], "ab"),
    ("train/a dev/a", [0], [1], "a"),
    ("0-train/a 1-test/a", [0], [1], "a"),
    ("train2017 val2017", [0], [1], ""),
    ("seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a seg_pred/seg_pred", [0, 1], [2], "ab"),
    ("images/train/a images/train/b images/val/b", [0, 1], [2], "ab"),
    ("train/a train/b test/a test/b cup", [0, 1], [2, 3], "ab"),
    ("train/caf\u00e9 train/b test/cafe\u0301", [0, 1], [2], ("b", "caf\u00e9")),
    ("train/a train/b test val/b", [0, 1], [3], "ab"),
    ("train/a train/b test/test", [0, 1], None, "ab"),
    ("train/a train/b test", [0, 1], None, "ab"),
    ("train/a train/b", [0, 1], None, "ab"),
    ("flowers/flowers/a flowers/flowers/b", [0, 1], None, "ab"),
    ("photos", [0], None, ("photos",)),
    ("a b empty/train empty/test", [0, 1], None, "ab"),
    ("a b __MACOSX/a a/@eaDir/x #recycle .c/d", [0, 1], None, "ab"),
    ("bullet_train bus car", [0, 1, 2], None, ("bullet_train", "bus", "car")),
    ("trainA trainB testA testB", ASKED),
    ("bus car train", "has train, bus, car, " + ASKED),
    ("test/a test/b", ASKED),
    ("deep/test/a deep/test/b", ASKED),
    ("train/a training/a test/a", ASKED),
    ("training testing cup", ASKED),
    ("train/a test/a testing/a", ASKED),
    ("cat/train cat/test dog/train dog/test", r"has splits inside its folders \(cat: test, train\): say which"),
    ("train/a train/b test/c test/d", r"test has classes that train/ lacks \(c, d\): give both the same, or say which"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout[0])
def test_what_lies_there_tells_classes_from_splits(paint, root, layout):
    folders = layout[0].split()
    for red, folder in enumerate(folders):
        for i in range(2):
            file = paint(f"pets/{folder}/{i}.png", (red, i, 0))
            if "empty" in folder:
                file.rename(file.with_suffix(".txt"))
    if len(layout) == 2:
        with pytest.raises(AlikitError, match=layout[1]) as raised:
            load(f"folder:{root}")
        assert "\n" not in str(raised.value) and "splits=..." in str(raised.value)
        return
    _, first, second, classes = layout
    train, held_out = load(f"folder:{root}")
    assert train.classes == held_out.classes == tuple(classes)
    if second is None:  # a tenth of the same
        assert sorted(greys(train) + greys(held_out)) == sorted([*first] * 2)
    else:
        assert [sorted(greys(part)) for part in (train, held_out)] == [sorted(part * 2) for part in (first, second)]
    for part in (train, held_out):
        names = [Path(folders[red]).name for red in greys(part)]
        assert not classes or [part.classes[i] for i in part.labels] == [
            name.replace("e\u0301", "\u00e9") for name in names
        ]
    assert image_folder(root).classes == train.classes


NAMED = [  # folders, --splits, and the reds of both parts, or what is said
    ("trainA trainB testA testB", "trainB, testB/", [1, 1], [3, 3]),
    ("images/train images/val labels/train", "images/train,images/val", [0, 0], [1, 1]),
    ("wrapped/day/a wrapped/night/a", "night,day", [1, 1], [0, 0]),
    ("bus car train", "none", [0, 0, 1, 1, 2, 2], None),
    ("bus car train", "bus,tram", r"no folder tram with pictures in .*pets: its folders are bus, car, train"),
    *(
        ("bus car", splits, "name two, as --splits TRAIN,HELD_OUT")
        for splits in ("bus", "bus,", "bus,bus", "a,b,c", ",")
    ),
]


@pytest.mark.parametrize(("folders", "splits", "first", "second"), [(*row, None)[:4] for row in NAMED])
def test_splits_are_what_the_person_says(paint, root, folders, splits, first, second):
    for red, folder in enumerate(folders.split()):
        for i in range(2):
            paint(f"pets/{folder}/{i}.png", (red, i, 0))
    if isinstance(first, str):
        with pytest.raises(AlikitError, match=first):
            load(f"folder:{root}", splits=splits)
        return
    train, held_out = load(f"folder:{root}", splits=splits)
    found = (greys(train), greys(held_out)) if second else (sorted(greys(train) + greys(held_out)), None)
    assert found == (first, second)


def test_what_is_left_out_and_entered_is_said_in_one_line(paint, root, caplog):
    for name in ("seg_train/seg_train/a/0", "seg_test/a/0", "seg_pred/0", "cover"):
        paint(f"pets/{name}.png")
    (root / "labels").mkdir()
    (root / "labels" / "0.txt").write_text("0")
    load(f"folder:{root}")
    inside = "the pictures lie in seg_train/seg_train/ and seg_test/"
    assert caplog.messages == [f"{root}: {inside}; left out seg_pred, 1 pictures"]


def test_a_split_is_found_by_its_name_or_its_kind(paint, root):
    for red, folder in enumerate(("trainA", "testA", "testB", "val/a")):
        paint(f"pets/{folder}/0.png", (red, 0, 0))
    assert greys(image_folder(root, "testB")) == [2] and greys(image_folder(root, "Validation")) == [3]
    with pytest.raises(AlikitError, match=r"several splits 'test' \(testA, testB\): name one of them"):
        image_folder(root, "test")


# Endings.


def test_pictures_are_known_by_their_content_whatever_their_ending(root):
    """What Pillow can read is read; companions and other files are passed over, and no other program is run."""
    picture = Image.new("RGB", (8, 8), (9, 9, 9))
    kinds = {"a.jp2": "JPEG2000", "b": "PNG", "c.jpg": "PNG", "d.JFIF": "JPEG", "e.jpg_large": "JPEG", "f.tga": "TGA"}
    kinds |= {"g.qoi": "QOI", "h.1": "WEBP"}
    for name, kind in kinds.items():
        picture.save(root / name, kind)
    (root / "LICENSE").write_text("P1 is no picture, and BM none\n" * 9)
    for name in ("x.npy", "Thumbs.db", "desktop.ini", "notes.md", "data.csv"):
        picture.save(root / name, "PNG")
    data = image_folder(root)
    assert len(data) == len(kinds) and (data.x.float() - 9).abs().max() < 3


def test_kinds_that_cannot_be_read_are_counted_by_their_endings(pets, caplog, monkeypatch):
    """A camera's raw file begins as a TIFF does, and Pillow would read its preview; an EPS it gives to Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("another program is run"))
    for i in range(3):
        (pets / "cat" / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    BLANK.save(pets / "cat" / "3.dng", "TIFF")
    BLANK.save(pets / "cat" / "4.eps", "EPS")
    says = (
        r"^5 of 8 files .* \(1 \.dng, 1 \.eps, 3 \.heic\): convert them, or use --skip-corrupt \(skip_corrupt=True\)$"
    )
    with pytest.raises(AlikitError, match=says):
        image_folder(pets)
    assert len(image_folder(pets, skip_corrupt=True)) == 3
    assert caplog.messages == ["left out 5 of 8 files that are no readable pictures: 1 .dng, 1 .eps, 3 .heic"]
    BLANK.save(pets / "cat" / "5.png", "EPS")
    with pytest.raises(AlikitError, match=r"3 \.heic, .*5\.png\): convert, mend or remove them"):
        image_folder(pets)


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
