"""Folders of pictures: what is read, what is refused, and what is kept for the next time."""

import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from alikit.data import cache, image_folder, load
from alikit.errors import AlikitError

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255]


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    return folder


@pytest.fixture
def pets(paint, root) -> Path:
    """Two red cats and a blue dog."""
    paint("pets/dog/a.png", "blue")
    paint("pets/cat/b.png", "red")
    paint("pets/cat/a.png", "red")
    return root


def colour(picture: torch.Tensor) -> list[int]:
    """The one colour of a picture (C, H, W)."""
    assert (picture == picture[:, :1, :1]).all()
    return picture[:, 0, 0].tolist()


def caches(folder: Path) -> list[Path]:
    """All that image_folder may have left below the folder."""
    return [file for file in folder.rglob("*") if file.suffix in (".safetensors", ".partial")]


# What is read.


def test_class_folders(pets):
    data = image_folder(pets)
    assert data.x.shape == (3, 3, 8, 8) and data.x.dtype == torch.uint8
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1]
    assert [colour(picture) for picture in data.x] == [RED, RED, BLUE]
    assert data.name == "folder:pets"


def test_flat_folder_has_no_classes(paint, root):
    paint("pets/a.png", "red"), paint("pets/b.png", "blue")
    data = image_folder(root)
    assert data.labels is None and data.classes == ()
    assert [colour(picture) for picture in data.x] == [RED, BLUE]


def test_pictures_beside_class_folders_cost_the_labels_and_it_is_said(pets, paint, caplog):
    paint("pets/a.png", "green")
    data = image_folder(pets)
    assert len(data) == 4 and data.labels is None and data.classes == ()
    assert "1 pictures in" in caplog.text and "outside its class folders, so none has a label" in caplog.text


def test_splits(paint, root):
    paint("pets/train/cat/a.png", "red"), paint("pets/test/cat/a.png", "blue")
    assert colour(image_folder(root).x[0]) == RED
    assert colour(image_folder(root, "test").x[0]) == BLUE
    with pytest.raises(AlikitError, match="no split 'val'"):
        image_folder(root, "val")


def test_what_is_no_picture_and_what_is_hidden_is_passed_over(pets, paint):
    (pets / "cat" / "notes.txt").write_text("a cat")
    (pets / "cat" / "._a.png").write_text("a file some archives hold")
    paint("pets/.git/deep/down/a.png", "green")
    assert len(image_folder(pets)) == 3


def test_folders_that_are_links(pets, paint):
    """As a subset of a large data set is often put together; a link to a folder above would lead round for ever."""
    paint("elsewhere/whale/a.png", "blue"), paint("elsewhere/a.png", "white")
    (pets / "whale").symlink_to(pets.parent / "elsewhere" / "whale")
    (pets / "cat" / "c.png").symlink_to(pets.parent / "elsewhere" / "a.png")
    (pets / "cat" / "round").symlink_to(pets)
    data = image_folder(pets)
    assert data.classes == ("cat", "dog", "whale") and data.labels.tolist() == [0, 0, 0, 1, 2]
    assert [colour(picture) for picture in data.x] == [RED, RED, [255] * 3, BLUE, BLUE]


def test_a_hidden_folder_can_be_named(paint, tmp_path):
    paint(".pets/a.png")
    assert len(image_folder(tmp_path / ".pets")) == 1


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "webp", "ppm", "tif", "gif"])
def test_formats(paint, root, suffix):
    paint(f"pets/cat/a.{suffix}", "blue")
    found = image_folder(root).x[0].float().mean((1, 2))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 255.0]), atol=3, rtol=0)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((2, 2), 77, np.uint8), [77, 77, 77]),  # grey
        (np.full((2, 2), True), WHITE),  # black and white
        (np.full((2, 2), 128 * 257, np.uint16), [128, 128, 128]),  # 16 bits
        (np.full((2, 2, 4), (255, 0, 0, 255), np.uint8), RED),  # opaque
        (np.full((2, 2, 4), (255, 0, 0, 0), np.uint8), WHITE),  # transparent: what lies beneath is not seen
        (np.full((2, 2, 4), (255, 0, 0, 102), np.uint8), [255, 153, 153]),  # 40 % of red on white
        (np.full((2, 2, 2), (0, 0), np.uint8), WHITE),  # transparent grey
    ],
)
def test_modes(root, pixels, expected):
    Image.fromarray(pixels).save(root / "a.png")
    assert colour(image_folder(root).x[0]) == expected


def test_floating_point_is_refused(root):
    """Nobody knows its unit, and PIL would cut it off at 255: 0 to 1 would be black."""
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(root / "a.tif")
    with pytest.raises(AlikitError, match=r"1 file is no readable picture \(.*a.tif\)"):
        image_folder(root)


def test_palettes(root):
    Image.new("RGB", (2, 2), "blue").quantize(4).save(root / "a.png")
    Image.new("RGB", (2, 2), "blue").quantize(4).save(root / "b.png", transparency=0)
    assert [colour(picture) for picture in image_folder(root).x] == [BLUE, WHITE]


def test_cmyk(root):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(root / "a.jpg")
    torch.testing.assert_close(
        image_folder(root).x[0].float().mean((1, 2)), torch.tensor([255.0, 0.0, 0.0]), atol=4, rtol=0
    )


def test_cameras_that_were_held_upright(root):
    """Orientation 6: to be turned a quarter clockwise, so that the left side comes up."""
    picture = Image.new("RGB", (8, 4), "blue")
    picture.paste("red", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(root / "a.png", exif=exif)
    x = image_folder(root).x[0]
    assert x.shape == (3, 8, 4)
    assert colour(x[:, :4]) == RED and colour(x[:, 4:]) == BLUE


# Sizes.


def test_mixed_sizes_are_refused_with_the_way_out(pets, paint):
    paint("pets/cat/c.png", size=(9, 8))
    with pytest.raises(AlikitError, match=r"2 sizes \(8x8, 9x8\).*--size N"):
        image_folder(pets)
    assert not caches(pets)
    assert image_folder(pets, size=4).x.shape == (4, 3, 4, 4)


def test_many_sizes_are_not_all_listed(root, paint):
    for side in range(1, 9):
        paint(f"pets/{side}.png", size=(side, side))
    with pytest.raises(AlikitError, match=r"8 sizes \(1x1, 2x2, 3x3, \.\.\.\)"):
        image_folder(root)


@pytest.mark.parametrize(("wide", "box"), [(True, (20, 0, 40, 20)), (False, (0, 20, 20, 40))])
@pytest.mark.parametrize("zoom", [1, 4])
def test_size_crops_the_centre(root, wide, box, zoom):
    """Three squares in a row, red, green and blue; the green one is what is kept."""
    picture = Image.new("RGB", (60, 20) if wide else (20, 60), "red")
    picture.paste("blue", (40, 0, 60, 20) if wide else (0, 40, 20, 60))
    picture.paste("green", box)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(root / "a.png")
    x = image_folder(root, size=20).x[0]
    assert x.shape == (3, 20, 20) and colour(x[:, 4:-4, 4:-4]) == GREEN


def test_size_enlarges_too(root, paint):
    paint("pets/a.png", "blue", size=(3, 2))
    assert colour(image_folder(root, size=16).x[0]) == BLUE


@pytest.mark.parametrize("size", [0, -4])
def test_no_size_at_all(pets, size):
    with pytest.raises(AlikitError, match="at least 1 pixel"):
        image_folder(pets, size=size)


# What is refused.


def test_missing_folder(tmp_path):
    with pytest.raises(AlikitError, match=r"no folder .*nowhere: check the path"):
        image_folder(tmp_path / "nowhere")


def test_empty_folder(root):
    (root / "cat").mkdir()
    with pytest.raises(AlikitError, match=r"no pictures in .*pets"):
        image_folder(root)


def test_a_class_without_pictures(root, paint):
    """One line that names it; a hidden folder is no class, and beside loose pictures there are none."""
    for name in ("cat/a.png", "dog/b.png"):
        paint(f"pets/{name}")
    (root / ".thumbnails").mkdir()
    assert image_folder(root).classes == ("cat", "dog")
    (root / "bird").mkdir()
    with pytest.raises(AlikitError, match=r"^class bird in .*pets has no pictures: fill that folder, or remove it$"):
        image_folder(root)
    paint("pets/loose.png")
    assert image_folder(root).classes == ()


def test_a_file_is_no_folder(paint):
    with pytest.raises(AlikitError, match="no folder"):
        image_folder(paint("pets/a.png"))


DAMAGES = {
    "truncated.jpg": lambda whole: whole[: len(whole) // 2],
    "truncated.png": lambda whole: whole[: len(whole) // 2],
    "empty.jpg": lambda whole: b"",
    "text.jpg": lambda whole: b"this is no picture\n",
    "header.png": lambda whole: whole[:8],
}


@pytest.fixture(params=DAMAGES)
def damaged(request, pets) -> Path:
    file = pets / "cat" / request.param
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(DAMAGES[request.param](file.read_bytes()))
    return file


def test_damaged_files_are_named(pets, damaged):
    with pytest.raises(AlikitError) as raised:
        image_folder(pets)
    assert f"1 file is no readable picture ({damaged}): mend or remove it, or use --skip-corrupt" in str(raised.value)
    assert not caches(pets)


def test_folders_deep_within_folders(pets):
    deep = pets / "dog"
    for _ in range(150):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(AlikitError, match=r"cannot look for pictures in .*, for it lies more than 100 deep: move it"):
        image_folder(pets)


def test_links_that_multiply(pets):
    """Each folder holds two links to the next: 2^40 ways to the last."""
    for number in range(40):
        folder = pets / f".l{number}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(pets / f".l{number + 1}")
    (pets / ".l40").mkdir()
    (pets / "many").symlink_to(pets / ".l0")
    with pytest.raises(AlikitError, match=r"for more than 100 links lead to it: move it elsewhere"):
        image_folder(pets)


def test_a_home_folder_of_nobody():
    with pytest.raises(
        AlikitError, match=r"nobody here has the home folder of ~no-such-user/x: write the path in full"
    ):
        load("folder:~no-such-user/x")


def test_pillow_is_not_heard_beside_us(pets, caplog):
    """It logs an error of its own about a TIFF of 2,048 numbers a pixel."""
    Image.new("RGB", (8, 8)).save(pets / "cat" / "many.tif")
    whole = (pets / "cat" / "many.tif").read_bytes()
    three = struct.pack("<HHIHH", 277, 3, 1, 3, 0)
    assert whole.count(three) == 1
    (pets / "cat" / "many.tif").write_bytes(whole.replace(three, struct.pack("<HHIHH", 277, 3, 1, 2048, 0)))
    with pytest.raises(AlikitError, match=r"1 file is no readable picture \(.*many\.tif\)"):
        image_folder(pets)
    assert not caplog.records
    with pytest.raises(OSError), Image.open(pets / "cat" / "many.tif", formats=["TIFF"]):
        pass
    assert [record.name for record in caplog.records] == ["PIL.TiffImagePlugin"]


def test_damaged_files_are_left_out_and_counted(pets, damaged, caplog):
    for _ in range(2):  # decoded, then from the cache
        data = image_folder(pets, skip_corrupt=True)
        assert data.labels.tolist() == [0, 0, 1]
        assert caplog.messages == [f"left out 1 of 4 files that are no readable pictures: {damaged}"]
        caplog.clear()
    with pytest.raises(AlikitError, match="no readable picture"):  # the cache remembers what it left out
        image_folder(pets)


def test_many_damaged_files_are_one_short_line(root):
    for i in range(50):
        (root / f"{i:02}.jpg").write_text("")
    with pytest.raises(AlikitError, match=r"^50 files .*00\.jpg, .*01\.jpg, .*02\.jpg, \.\.\.\)[^\n]*$"):
        image_folder(root)
    with pytest.raises(AlikitError, match="all 50 files are damaged"):
        image_folder(root, skip_corrupt=True)


# The cache.


def repaint(file: Path, colour: str, later: bool) -> None:
    """Another picture in the same number of bytes; unless `later`, with the old date too."""
    stat = file.stat()
    Image.new("RGB", (8, 8), colour).save(file)
    assert file.stat().st_size == stat.st_size
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000 * later))


@pytest.fixture
def bitmap(paint, root) -> Path:
    """Bitmaps of one size have one length, whatever is on them."""
    return paint("pets/cat/a.bmp", "red")


def test_the_second_time_the_cache_is_read(root, bitmap):
    first = image_folder(root)
    repaint(bitmap, "blue", later=False)  # behind the cache's back
    second = image_folder(root)
    assert torch.equal(first.x, second.x) and colour(second.x[0]) == RED
    assert second.labels.tolist() == [0] and second.classes == ("cat",)


def test_a_changed_picture_is_noticed(root, bitmap):
    image_folder(root)
    repaint(bitmap, "blue", later=True)
    assert colour(image_folder(root).x[0]) == BLUE


def test_an_added_and_a_removed_picture_are_noticed(pets, paint):
    image_folder(pets)
    added = paint("pets/cat/c.png")
    assert len(image_folder(pets)) == 4
    added.unlink()
    assert len(image_folder(pets)) == 3


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\xff" * 4096])
def test_a_damaged_cache_is_made_again(pets, garbage):
    image_folder(pets)
    (file,) = caches(pets)
    whole = file.read_bytes()
    file.write_bytes(garbage)
    assert [colour(picture) for picture in image_folder(pets).x] == [RED, RED, BLUE]
    assert file.read_bytes() == whole


def test_each_size_has_its_cache(pets):
    shapes = [image_folder(pets, size=size).shape for size in (None, 4, 6, None, 4)]
    assert shapes == [(3, 8, 8), (3, 4, 4), (3, 6, 6), (3, 8, 8), (3, 4, 4)]
    assert len(caches(pets)) == 3


def test_the_cache_is_one_safe_file_beside_the_pictures(pets):
    image_folder(pets)
    (file,) = (pets / cache.FOLDER).glob("[!.]*")
    with safe_open(file, framework="pt") as stored:
        assert stored.get_tensor("x").shape == (3, 3, 8, 8)


def test_the_cache_can_be_put_elsewhere(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "elsewhere" / "deep"))
    image_folder(pets)
    assert len(caches(tmp_path / "elsewhere" / "deep")) == 1 and not caches(pets)


def test_two_folders_share_a_cache_folder(paint, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "shared"))
    paint("one/a.bmp", "red"), paint("two/a.bmp", "blue")
    for name in ("one", "two"):
        os.utime(tmp_path / name / "a.bmp", ns=(0, 0))
    for _ in range(2):
        assert [colour(image_folder(tmp_path / name).x[0]) for name in ("one", "two")] == [RED, BLUE]


def test_a_folder_that_cannot_be_written_is_cached_at_home(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: Path(path) != pets)
    image_folder(pets)
    assert len(caches(tmp_path / "home" / "alikit")) == 1 and not caches(pets)


def test_without_a_cache_the_pictures_are_still_read(pets, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert [colour(picture) for picture in image_folder(pets).x] == [RED, RED, BLUE]
    assert len(caplog.messages) == 1 and "no cache written" in caplog.text
    assert not caches(pets)


def test_damaged_files_are_left_out_by_whatever_path_the_folder_is_named(paint, tmp_path, monkeypatch):
    """The cache is one, and says which they were."""
    for i in range(6):
        paint(f"pets/cat/{i}.png", (40 * i, 0, 0))
    (tmp_path / "pets" / "cat" / "broken.jpg").touch()
    monkeypatch.chdir(tmp_path)
    train, held_out = load("folder:pets", skip_corrupt=True)
    again = load(f"folder:{tmp_path}/pets", skip_corrupt=True)
    assert torch.equal(train.x, again[0].x) and torch.equal(held_out.x, again[1].x)
    with pytest.raises(AlikitError, match=r"cat/broken\.jpg"):
        load("folder:pets")
