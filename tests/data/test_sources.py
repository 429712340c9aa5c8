"""Data sets by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from alikit.data import SOURCES, digits, load
from alikit.data.sources import rooted
from alikit.errors import AlikitError

README = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text(encoding="utf-8")


def test_digits_are_scikit_learns_and_always_held_out_alike():
    data, bunch = digits(), load_digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.uint8
    np.testing.assert_allclose(data.x[:, 0] / 255 * 16, bunch.images, atol=0.5 / 255 * 16 + 1e-6)
    assert data.x.max() == 255 and data.classes == tuple("0123456789")
    assert data.labels.tolist() == bunch.target.tolist()
    train, held_out = load("digits")
    torch.manual_seed(7)
    assert (len(train), len(held_out)) == (1500, 297) and torch.equal(held_out.x, load("digits")[1].x)
    rows = [{row.numpy().tobytes() for row in part.x} for part in (train, held_out)]
    assert not rows[0] & rows[1]  # no two are alike


def test_unknown_names(tmp_path):
    for name in ("mnist", "folder", "folder:", "table:", "cifar10:", "stand-in:mnist", "digits:here", ""):
        with pytest.raises(AlikitError, match=r"no data called .*choose mixture, .*folder:PATH or table:PATH"):
            load(name)
    with pytest.raises(AlikitError, match=f"no data called .*: for the pictures in that folder, say folder:{tmp_path}"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["digits", "mixture", "house-numbers", "cifar10", "svhn-extra", "stand-in:cifar10"])
def test_most_have_the_size_they_have(name):
    with pytest.raises(AlikitError, match="--size is for folders"):
        load(name, size=32 if name in ("digits", "mixture") else 64)


def test_every_source_is_described():
    assert [name for name in SOURCES if f"| `{name}` |" not in README] == []


def test_a_name_without_a_folder_means_one(cifar, tmp_path, monkeypatch):
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    names = {"svhn": "svhn:data", "imagenet": "imagenet:data/imagenet"}
    names |= {name: name for name in ("svhn:else", "digits", "folder:a")}
    assert {name: rooted(name) for name in names} == names
    assert len(load("cifar10")[0]) == 90  # the files lie in data/
    cifar.rename("elsewhere")
    with pytest.raises(AlikitError, match="put it in data, or use --download"):
        load("cifar10")
    monkeypatch.setenv("ALIKIT_DATA", "elsewhere")
    assert rooted("svhn") == "svhn:elsewhere" and len(load("cifar10")[0]) == 90
    with pytest.raises(AlikitError, match="no class folders in elsewhere/imagenet/train"):
        load("imagenet")
