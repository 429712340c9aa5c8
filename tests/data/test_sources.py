"""Data sets by name, and folders by path."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from alikit.data import SOURCES, digits, load
from alikit.data.sources import rooted
from alikit.errors import AlikitError

README = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text(encoding="utf-8")


def rows(data) -> set[bytes]:
    return {row.numpy().tobytes() for row in data.x}


def test_digits_are_scikit_learns():
    data, bunch = digits(), load_digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.uint8
    np.testing.assert_allclose(data.x[:, 0] / 255 * 16, bunch.images, atol=0.5 / 255 * 16 + 1e-6)
    assert data.x.max() == 255 and data.classes == tuple("0123456789")
    assert data.labels.tolist() == bunch.target.tolist()


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        ("mixture", (100_000, 10_000), (2,)),
        ("digits", (1500, 297), (1, 8, 8)),
        ("house-numbers", (20_000, 2_000), (3, 32, 32)),
    ],
)
def test_named_sources(name, sizes, shape):
    train, held_out = load(name)
    assert (len(train), len(held_out)) == sizes and train.shape == held_out.shape == shape
    # scikit-learn's digits hold no two alike; the others are drawn, so that nothing may repeat.
    assert not rows(train.select(slice(2000))) & rows(held_out)


def test_the_same_examples_are_held_out_every_time():
    first = load("digits")[1]
    torch.manual_seed(7)
    assert torch.equal(first.x, load("digits")[1].x)


def shades(data) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def hashed(name: str) -> float:
    """Where a name falls between 0 and 1."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def test_a_folder_gives_up_a_tenth_by_the_names_of_its_pictures(paint, tmp_path):
    for i in range(200):
        paint(f"pets/{'cat' if i % 2 else 'dog'}/{i}.png", (i, i, i), size=(2, 2))
    train, held_out = load(f"folder:{tmp_path / 'pets'}")
    expected = [i for i in range(200) if hashed(f"{'cat' if i % 2 else 'dog'}/{i}.png") < 0.1]
    assert sorted(shades(held_out)) == expected and 10 < len(expected) < 32
    assert sorted(shades(train) + shades(held_out)) == list(range(200))


def test_added_pictures_move_no_other(paint, tmp_path):
    for i in range(60):
        paint(f"pets/{i}.png", (i, i, i), size=(2, 2))
    before = [set(shades(part)) for part in load(f"folder:{tmp_path / 'pets'}")]
    for i in range(60, 200):
        paint(f"pets/{i}.png", (i, i, i), size=(2, 2))
    after = [set(shades(part)) for part in load(f"folder:{tmp_path / 'pets'}")]
    assert before[0] < after[0] and before[1] < after[1]


def test_a_damaged_picture_moves_no_other(paint, tmp_path):
    for i in range(60):
        paint(f"pets/{i}.png", (i, i, i), size=(2, 2))
    before = [set(shades(part)) for part in load(f"folder:{tmp_path / 'pets'}")]
    (tmp_path / "pets" / "0.png").write_text("no picture")
    after = [set(shades(part)) for part in load(f"folder:{tmp_path / 'pets'}", skip_corrupt=True)]
    assert [part - {0} for part in before] == after


@pytest.mark.parametrize("n", range(2, 9))
def test_of_a_few_pictures_each_part_gets_one(paint, tmp_path, n):
    for i in range(n):
        paint(f"pets/{i}.png", (i, i, i))
    train, held_out = load(f"folder:{tmp_path / 'pets'}")
    assert len(train) >= 1 and len(held_out) >= 1 and len(train) + len(held_out) == n


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_with_splits_keeps_them(paint, tmp_path, name):
    for i in range(3):
        paint(f"pets/train/cat/{i}.png", "red")
    paint(f"pets/{name}/cat/0.png", "blue")
    train, held_out = load(f"folder:{tmp_path / 'pets'}")
    assert (len(train), len(held_out)) == (3, 1)
    assert held_out.x[0, :, 0, 0].tolist() == [0, 0, 255]


def test_splits_of_two_sizes_are_refused(paint, tmp_path):
    paint("pets/train/cat/0.png", size=(8, 8))
    paint("pets/test/cat/0.png", size=(9, 9))
    with pytest.raises(AlikitError, match="--size N"):
        load(f"folder:{tmp_path / 'pets'}")
    train, held_out = load(f"folder:{tmp_path / 'pets'}", size=4)
    assert train.shape == held_out.shape == (3, 4, 4)


def test_one_picture_is_too_few(paint, tmp_path):
    paint("pets/cat/0.png")
    with pytest.raises(AlikitError, match="only one picture"):
        load(f"folder:{tmp_path / 'pets'}")


@pytest.mark.parametrize(
    "name", ["mnist", "folder", "folder:", "table:", "cifar10:", "stand-in:mnist", "digits:here", ""]
)
def test_unknown_names(name):
    with pytest.raises(AlikitError, match=r"no data called .*choose mixture, .*folder:PATH or table:PATH"):
        load(name)


@pytest.mark.parametrize("name", ["digits", "mixture", "house-numbers"])
def test_named_sources_have_the_size_they_have(name):
    with pytest.raises(AlikitError, match="--size is for folders"):
        load(name, size=32)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "svhn-extra", "stand-in:cifar10", "stand-in:svhn"])
def test_what_is_32_by_32_stays_so(name):
    with pytest.raises(AlikitError, match="--size is for folders"):
        load(name, size=64)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_what_it_is(name):
    summary, _ = SOURCES[name]
    assert "\n" not in summary and len(name) + len(summary) < 110
    assert ("drawn by alikit in" in summary) == name.startswith("stand-in:")
    assert f"| `{name}` |" in README


def test_a_class_missing_from_the_held_out_split_does_not_shift_the_others(paint, tmp_path):
    for name in ("ant", "bee", "cat"):
        paint(f"pets/train/{name}/0.png")
    paint("pets/test/cat/0.png")
    part, held_out = load(f"folder:{tmp_path / 'pets'}")
    assert held_out.classes == part.classes == ("ant", "bee", "cat")
    assert held_out.labels.tolist() == [2]


def test_a_class_that_only_the_held_out_split_has_is_refused(paint, tmp_path):
    paint("pets/train/cat/0.png")
    paint("pets/test/dog/0.png")
    with pytest.raises(AlikitError, match=r"test/ has classes that train/ has not \(dog\)"):
        load(f"folder:{tmp_path / 'pets'}")


def test_a_name_without_a_folder_means_one(monkeypatch):
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    assert [rooted(name) for name in ("svhn", "imagenet", "svhn:else", "digits", "folder:a")] == [
        "svhn:data",
        "imagenet:data/imagenet",
        "svhn:else",
        "digits",
        "folder:a",
    ]
    monkeypatch.setenv("ALIKIT_DATA", "shelf")
    assert rooted("svhn") == "svhn:shelf"
