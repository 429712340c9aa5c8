"""The paper's data sets in their real formats, and fetching them: checked, and whole or not at all."""

import os
import pickle
import shutil
import socket
import sys
import types
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from on_disk import ATTRIBUTES, WNIDS, md5, noise
from PIL import Image
from torchvision import datasets

from alikit.data import SOURCES, celeba, cifar10, imagenet, load, published, svhn, tiny_imagenet
from alikit.errors import AlikitError


def left(root: Path) -> list[str]:
    """All files below the root but the cache, and everything half-made."""
    files = (file for file in root.rglob("*") if ".alikit-cache" not in file.parts)
    return sorted(str(file.relative_to(root)) for file in files if file.is_file() or file.name.endswith(".partial"))


# Read.


def test_cifar10(cifar, monkeypatch):
    whole, test = cifar10(cifar), cifar10(cifar, "test")
    assert whole.x.shape == (100, 3, 32, 32) and whole.x.dtype == torch.uint8 and whole.name == "cifar10"
    np.testing.assert_array_equal(whole.x, np.concatenate([noise(b, 20, 3, 32, 32) for b in range(1, 6)]))
    np.testing.assert_array_equal(test.x, noise(6, 20, 3, 32, 32))
    assert whole.labels.tolist() == test.labels.tolist() * 5 == [i % 10 for i in range(20)] * 5
    assert whole.classes == test.classes == tuple(f"class {i}" for i in range(10))
    monkeypatch.setattr(datasets.CIFAR10, "__init__", None)  # what was read once comes from the cache
    for part, expected in zip(load(f"cifar10:{cifar}"), (slice(90), slice(90, 100)), strict=True):
        assert torch.equal(part.x, whole.x[expected]) and torch.equal(part.labels, whole.labels[expected])


@pytest.mark.parametrize(("seed", "name"), [(0, "svhn"), (2, "svhn-extra")])
def test_svhn(house_number_files, seed, name):
    """Stored are the labels 1 to 10 and again 1, 2: SVHN's 10 is the digit 0."""
    parts = load(f"{name}:{house_number_files}", size=32)
    for part, stored in zip(parts, (noise(seed, 32, 32, 3, 12), noise(1, 32, 32, 3, 12)), strict=True):
        assert part.x.dtype == torch.uint8 and part.name == "svhn" and part.classes == tuple("0123456789")
        np.testing.assert_array_equal(part.x, stored.transpose(3, 2, 0, 1))
        assert part.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2] and part.labels.dtype == torch.int64


def marks(*numbers: int) -> list[list[int]]:
    """The attributes of the faces with these numbers."""
    return [[int((i + j) % 3 == 0) for j in range(40)] for i in numbers]


@pytest.mark.parametrize(("size", "tall", "top"), [(64, 78, 7), (32, 39, 3)])
def test_celeba_is_resized_and_then_cropped(faces, size, tall, top):
    """Green is the row and blue the column it had among 178 x 218, so that each pixel tells where it was taken."""
    parts = *load(f"celeba:{faces}", size=size), celeba(faces, "test", size=size)
    where = torch.arange(size) + 0.5
    rows, columns = (where + top) * 218 / tall - 0.5, where * 178 / size - 0.5
    inner = slice(3, -3)  # at the border the filter has less to average
    for data, numbers in zip(parts, (range(1, 7), (7, 8), (9, 10)), strict=True):
        assert data.x.shape == (len(numbers), 3, size, size) and data.x.dtype == torch.uint8 and data.name == "celeba"
        assert data.classes == ATTRIBUTES  # 40, though the published line ends in a blank
        assert data.labels.tolist() == marks(*numbers) and data.labels.dtype == torch.uint8
        red, green, blue = data.floats().mul(255).unbind(1)
        assert (red.mean((1, 2)) - torch.tensor([20.0 * i for i in numbers])).abs().max() < 2
        assert (green - rows[:, None])[:, inner, inner].abs().max() < 2
        assert (blue - columns)[:, inner, inner].abs().max() < 2


def test_tiny_imagenet(tiny):
    Image.new("L", (64, 64), 50).save(tiny / "tiny-imagenet-200" / "val" / "images" / "val_0.JPEG")  # grey
    train, val = load(f"tiny-imagenet:{tiny}")
    assert train.x.shape == (12, 3, 64, 64) and val.x.shape == (6, 3, 64, 64) and train.name == "tiny-imagenet"
    assert train.classes == val.classes == ("goldfish", "Egyptian cat", "reel")  # in the order of the WordNet ids
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert val.labels.tolist() == [sorted(WNIDS).index(wnid) for wnid in [*WNIDS, *WNIDS]]
    for data in (train, val):
        assert (data.x[:, 0].float().mean((1, 2)) - 50 * data.labels).abs().max() < 3
    assert tiny_imagenet(tiny, size=32).shape == (3, 32, 32)
    annotations = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("val_5.JPEG\tn04067472", "val_5.JPEG\tn01443537"))
    assert tiny_imagenet(tiny, "val").labels.tolist() == [*val.labels.tolist()[:5], 0]  # noticed


def test_imagenet(paint, tmp_path):
    for split, wnid in (("train", "n02"), ("train", "n01"), ("val", "n01"), ("val", "n02")):
        paint(f"{split}/{wnid}/a.JPEG", size=(90, 70))
    train, held_out = load(f"imagenet:{tmp_path}")
    assert train.x.shape == held_out.x.shape == (2, 3, 64, 64) and train.name == "imagenet"
    assert train.classes == ("n01", "n02") and held_out.labels.tolist() == [0, 1]
    assert imagenet(tmp_path, "val", size=16).shape == (3, 16, 16)


# Refused.


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_hostile_pickle_is_refused_unopened(cifar, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    cifar10(cifar)  # a cache of the true files does not help
    file = cifar / "cifar-10-batches-py" / name
    file.write_bytes(pickle.dumps(Hostile()))
    for _ in range(2):  # foreign, then missing
        with pytest.raises(AlikitError, match=f"{file.parent} is damaged or not .*: delete it and fetch http"):
            cifar10(cifar)
        file.unlink(missing_ok=True)
    assert not Path("harm").exists()


def test_damaged_svhn(house_number_files):
    file = house_number_files / "train_32x32.mat"
    for spoil, why in (
        (lambda: os.truncate(file, 500), "{} is damaged or not what it should be: delete it and fetch http"),
        (lambda: os.truncate(file, 2**32), r"cannot read {} \(File too large\)"),
        (lambda: file.unlink() or file.symlink_to(file.name), "SVHN is not there"),
    ):
        spoil()
        with pytest.raises(AlikitError, match=why.format(file)):
            svhn(house_number_files)
    assert len(svhn(house_number_files, "test")) == 12


def test_damaged_celeba(faces):
    pictures, table = faces / "celeba" / "img_align_celeba", faces / "celeba" / "list_attr_celeba.txt"
    for spoil in (lambda file: file.write_bytes(b"no picture"), Path.unlink):
        spoil(pictures / "000002.jpg")
        with pytest.raises(AlikitError, match=r"1 of 6 files are no readable pictures .*000002\.jpg.*--skip-corrupt"):
            celeba(faces)
        assert celeba(faces, skip_corrupt=True).labels.tolist() == marks(1, 3, 4, 5, 6)
    table.write_text(table.read_text().replace("000001.jpg -1", "000001.jpg  1", 1))
    with pytest.raises(AlikitError, match="celeba is damaged or not what it should be: delete its lists and fetch"):
        celeba(faces)


LIST = r"val_annotations\.txt is damaged or not what it should be: delete .* and unpack http"
TINY_DAMAGES = [
    ("words.txt", r"words\.txt is missing: delete .* and unpack http"),
    ("val/images/val_3.JPEG", LIST),
    ("train/n02124075", LIST),
    ("train/n02124075/images", "class n02124075 in .* has no pictures"),
    ("train", "cannot look into .*train"),
]


@pytest.mark.parametrize(("lost", "message"), TINY_DAMAGES)
def test_incomplete_tiny_imagenet(tiny, lost, message):
    lost = tiny / "tiny-imagenet-200" / lost
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with pytest.raises(AlikitError, match=message):
        load(f"tiny-imagenet:{tiny}")


def test_unknown_splits_and_a_root_that_cannot_be_written_to(tmp_path):
    for read in (cifar10, svhn, celeba, tiny_imagenet, imagenet):
        with pytest.raises(AlikitError, match="no split 'dev': choose one of train, "):
            read(tmp_path, "dev")
    (tmp_path / "file").write_text("")
    with pytest.raises(AlikitError, match=r"make it a folder that can be written to"):
        cifar10(tmp_path / "file", download=True)


# Fetched.

URLS = {
    "cifar10": datasets.CIFAR10.url,
    "svhn": datasets.SVHN.split_list["train"][0],
    "svhn-extra": datasets.SVHN.split_list["extra"][0],
    "celeba": published.CELEBA_PAGE,
    "tiny-imagenet": published.TINY_URL,
    "imagenet": "https://image-net.org",
}


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("download", [False, True])
def test_without_files_and_without_a_network(tmp_path, monkeypatch, name, download):
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=socket.gaierror(-2, "Name or service not known")))
    stand_in = {"svhn-extra": "svhn", "imagenet": "tiny-imagenet"}.get(name, name)
    with pytest.raises(AlikitError, match=r"^(CIFAR-10|SVHN|CelebA|Tiny ImageNet|ImageNet) ") as raised:
        load(f"{name}:{tmp_path / 'data'}", download=download)
    message = str(raised.value)
    assert "\n" not in message and URLS[name] in message and str(tmp_path / "data") in message
    assert f"--data stand-in:{stand_in} runs" in message and f"stand-in:{stand_in}" in SOURCES
    assert name == "imagenet" or ("--download" in message) != download
    assert not left(tmp_path)


def test_a_download_is_whole_or_nothing_is_left(tiny_zip, web, capsys):
    def refused(why: str, **how) -> None:
        with pytest.raises(AlikitError, match=rf"^Tiny ImageNet {why}: fetch tiny-imagenet-200\.zip from http"):
            tiny_imagenet(tiny_zip, **how)
        assert left(tiny_zip) == []

    whole = web.files.pop(published.TINY_URL)
    refused("is not there")
    refused(r"could not be fetched \(Not Found\)", download=True)
    web.files[published.TINY_URL] = whole[:-9]
    refused(r"could not be fetched \(.*corrupted\)", download=True)
    web.files[published.TINY_URL], there_early = whole, []
    web.during = lambda: there_early.append((tiny_zip / "tiny-imagenet-200.zip").exists())
    for _ in range(2):
        train, held_out = load(f"tiny-imagenet:{tiny_zip}", download=True)
        assert (len(train), len(held_out)) == (12, 6) and capsys.readouterr().out == ""
        web.files.clear()  # it is there, and not fetched again
    assert there_early and not any(there_early), "the file has its name before it is whole"
    assert sorted(file.name for file in tiny_zip.iterdir()) == ["tiny-imagenet-200", "tiny-imagenet-200.zip"]


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(published, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(published, "TINY_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/tiny.zip")
        with pytest.raises(AlikitError, match=r"^Tiny ImageNet could not be fetched \(.*timed out\)"):
            tiny_imagenet(tmp_path, download=True)
    assert left(tmp_path) == [] and socket.getdefaulttimeout() is None


def test_an_archive_in_place_is_unpacked_once_it_is_found_true(cifar, monkeypatch, tmp_path):
    def refused(why: str) -> None:
        with pytest.raises(AlikitError, match=rf"cifar-10-python\.tar\.gz {why}: make room, or delete it and fetch"):
            cifar10(root)
        assert left(root) == [archive.name]

    whole, root = cifar10(cifar).x, tmp_path / "new"
    root.mkdir()
    archive = Path(shutil.make_archive(root / "cifar-10-python", "gztar", cifar, "cifar-10-batches-py"))
    refused("is damaged or not what it should be")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    with monkeypatch.context() as full:
        full.setattr("tarfile.copyfileobj", Mock(side_effect=OSError(28, "No space left on device")))
        refused(r".*\(No space left on device\)")
    assert torch.equal(cifar10(root).x, whole)


def test_celeba_is_fetched_from_google_drive(faces, tmp_path, monkeypatch):
    offered, root = {key: tmp_path / "offered" / name for key, _, name in datasets.CelebA.file_list}, tmp_path / "new"
    shutil.move(faces / "celeba", tmp_path / "offered")
    shutil.move(tmp_path / "img_align_celeba.zip", tmp_path / "offered")
    monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed
    with pytest.raises(AlikitError, match=r"CelebA could not be fetched \(.*gdown.*pip install gdown.*\): fetch img_"):
        celeba(root, download=True)
    gdown = types.SimpleNamespace(download=lambda id, output, quiet, user_agent: shutil.copy(offered[id], output))
    monkeypatch.setitem(sys.modules, "gdown", gdown)
    assert celeba(root, download=True).x.shape == (6, 3, 64, 64)
    (root / "celeba" / "list_bbox_celeba.txt").unlink()
    with pytest.raises(AlikitError, match=r"fetch list_bbox_celeba\.txt from https://mmlab"):
        celeba(root)
    assert len(celeba(root, "test", download=True)) == 2  # only the missing file is fetched
