"""Fetching what is published: only when asked, checked, whole or not at all, and a way out in one line."""

import shutil
import socket
import sys
import types
from pathlib import Path

import pytest
import torch
from on_disk import md5
from torchvision import datasets

from alikit.data import celeba, cifar10, downloads, load, published, svhn, tiny_imagenet
from alikit.errors import AlikitError

NAMES = {
    "cifar10": ("CIFAR-10", datasets.CIFAR10.url, "cifar10"),
    "svhn": ("SVHN", datasets.SVHN.split_list["train"][0], "svhn"),
    "svhn-extra": ("SVHN", datasets.SVHN.split_list["extra"][0], "svhn"),
    "celeba": ("CelebA", published.CELEBA_PAGE, "celeba"),
    "tiny-imagenet": ("Tiny ImageNet", published.TINY_URL, "tiny-imagenet"),
    "imagenet": ("ImageNet", "https://image-net.org", "tiny-imagenet"),
}


README = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text(encoding="utf-8")
# Taken before any test puts small files in the place of the published ones.
CHECKSUMS = {
    datasets.CIFAR10.filename: datasets.CIFAR10.tgz_md5,
    **{f"cifar-10-batches-py/{name}": md5 for name, md5 in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list},
    "cifar-10-batches-py/batches.meta": datasets.CIFAR10.meta["md5"],
    **{name: md5 for _, name, md5 in datasets.SVHN.split_list.values()},
    **{f"celeba/{name}": md5 for _, md5, name in datasets.CelebA.file_list},
    "tiny-imagenet-200.zip": published.TINY_MD5,
}


@pytest.mark.parametrize("file", CHECKSUMS)
def test_the_readme_has_every_checksum(file):
    assert f"| `{file}` | `{CHECKSUMS[file]}` |" in README


@pytest.fixture
def offline(monkeypatch):
    """As on a machine without a network: no name can be resolved."""

    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def left(root: Path) -> list[str]:
    """All files below the root but the cache, and everything half-made."""
    return sorted(
        str(file.relative_to(root))
        for file in root.rglob("*")
        if (file.is_file() and ".alikit-cache" not in file.parts) or file.name.endswith(".partial")
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("download", [False, True])
def test_without_files_and_without_a_network(tmp_path, offline, name, download):
    title, url, stand_in = NAMES[name]
    with pytest.raises(AlikitError) as raised:
        load(f"{name}:{tmp_path / 'data'}", download=download)
    message = str(raised.value)
    assert message.startswith(f"{title} ") and "\n" not in message
    assert url in message and str(tmp_path / "data") in message
    assert f"--data stand-in:{stand_in} runs" in message and f"stand-in:{stand_in}" in load.__globals__["SOURCES"]
    if name != "imagenet":
        assert ("--download" in message) != download
    assert not left(tmp_path)


def test_nothing_is_fetched_unasked(tiny_zip, server):
    with pytest.raises(
        AlikitError, match=r"Tiny ImageNet is not there: fetch tiny-imagenet-200\.zip from .*, or use --download"
    ):
        tiny_imagenet(tiny_zip)
    assert server.asked == []


def test_a_download(tiny_zip, server, capsys):
    there_early = []
    server.during = lambda: there_early.append((tiny_zip / "tiny-imagenet-200.zip").exists())
    train, held_out = load(f"tiny-imagenet:{tiny_zip}", download=True)
    assert (len(train), len(held_out)) == (12, 6)
    assert there_early and not any(there_early), "the file has its name before it is whole"
    assert sorted(file.name for file in tiny_zip.iterdir()) == [
        ".alikit-cache",
        "tiny-imagenet-200",
        "tiny-imagenet-200.zip",
    ]
    assert capsys.readouterr().out == ""
    asked = len(server.asked)
    load(f"tiny-imagenet:{tiny_zip}", download=True)
    assert len(server.asked) == asked, "fetched again though it is there"


def test_a_download_that_breaks_off_leaves_nothing(tiny_zip, server):
    server.half.add("/tiny-imagenet-200.zip")
    with pytest.raises(AlikitError) as raised:
        tiny_imagenet(tiny_zip, download=True)
    message = str(raised.value)
    assert message.startswith("Tiny ImageNet could not be fetched (") and "\n" not in message
    assert "fetch tiny-imagenet-200.zip from http" in message
    assert left(tiny_zip) == []
    server.half.clear()
    assert len(tiny_imagenet(tiny_zip, download=True)) == 12


def test_a_download_of_something_else_leaves_nothing(tiny_zip, server):
    server.offer("tiny-imagenet-200.zip", b"<html>Please log in to this network</html>")
    with pytest.raises(AlikitError, match=r"what came is damaged or another file: its MD5 is [0-9a-f]{32}, not"):
        tiny_imagenet(tiny_zip, download=True)
    assert left(tiny_zip) == []


def test_what_the_server_does_not_have(tiny_zip, server):
    server.files.clear()
    with pytest.raises(AlikitError, match=r"could not be fetched \(Not Found\)") as raised:
        tiny_imagenet(tiny_zip, download=True)
    assert "\n" not in str(raised.value) and left(tiny_zip) == []


def test_a_server_that_falls_silent_is_given_up(tiny_zip, server, monkeypatch):
    monkeypatch.setattr("alikit.data.downloads.PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))  # takes the call and never answers
    monkeypatch.setattr(published, "TINY_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/tiny-imagenet-200.zip")
    with silent, pytest.raises(AlikitError, match=r"could not be fetched \(.*timed out"):
        tiny_imagenet(tiny_zip, download=True)
    assert socket.getdefaulttimeout() is None


def test_cifar10_is_fetched_and_unpacked(cifar, server, monkeypatch, tmp_path):
    whole = cifar10(cifar).x
    archive = Path(shutil.make_archive(tmp_path / "cifar-10-python", "gztar", cifar, "cifar-10-batches-py"))
    monkeypatch.setattr(datasets.CIFAR10, "url", server.offer("cifar-10-python.tar.gz", archive.read_bytes()))
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    assert torch.equal(cifar10(tmp_path / "new" / "data", download=True).x, whole)


def test_svhn_is_fetched(house_number_files, server, monkeypatch, tmp_path):
    whole, file = svhn(house_number_files), house_number_files / "train_32x32.mat"
    url = server.offer(file.name, file.read_bytes())
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": [url, file.name, md5(file)]})
    fetched = svhn(tmp_path / "new", download=True)
    assert torch.equal(fetched.x, whole.x) and torch.equal(fetched.labels, whole.labels)
    assert left(tmp_path / "new") == ["train_32x32.mat"]


@pytest.fixture
def drive(faces, tmp_path, monkeypatch) -> Path:
    """Google Drive as gdown shows it: the files of CelebA by their keys. Returns an empty root."""
    offered = {key: tmp_path / "offered" / name for key, _, name in datasets.CelebA.file_list}
    shutil.move(faces / "celeba", tmp_path / "offered")
    shutil.move(tmp_path / "img_align_celeba.zip", tmp_path / "offered")

    def download(id, output, quiet, user_agent):
        print("Downloading...")
        shutil.copy(offered[id], output)

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    return tmp_path / "new"


def test_celeba_is_fetched_from_google_drive(drive, capsys):
    assert celeba(drive, download=True).x.shape == (6, 3, 64, 64)
    assert capsys.readouterr().out == ""
    (drive / "celeba" / "list_bbox_celeba.txt").unlink()
    with pytest.raises(AlikitError, match=r"fetch list_bbox_celeba\.txt from https://mmlab"):
        celeba(drive)
    assert len(celeba(drive, "test", download=True)) == 2  # what alone is missing is fetched alone


def test_celeba_without_gdown(drive, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed
    with pytest.raises(AlikitError, match=r"CelebA could not be fetched \(.*gdown.*pip install gdown.*\): fetch img_"):
        celeba(drive, download=True)


def test_a_disk_that_is_full_while_unpacking(tiny_zip, monkeypatch):
    def full(archive, folder):
        (Path(folder) / "tiny-imagenet-200").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "_extract", full)
    with pytest.raises(AlikitError, match=r"cannot unpack .*\.zip beside it \(No space left on device\): make room"):
        tiny_imagenet(tiny_zip, download=True)
    assert left(tiny_zip) == ["tiny-imagenet-200.zip"]
