"""The paper's data sets through torchvision's readers, from small files in their real formats."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from on_disk import ATTRIBUTES, WNIDS, md5, noise, ramp
from PIL import Image
from torchvision import datasets

from alikit.data import celeba, cifar10, imagenet, load, svhn, tiny_imagenet
from alikit.errors import AlikitError


def one_line(raised) -> str:
    message = str(raised.value)
    assert "\n" not in message
    return message


# CIFAR-10.


def test_cifar10(cifar):
    train, test = cifar10(cifar), cifar10(cifar, "test")
    assert train.x.shape == (100, 3, 32, 32) and train.x.dtype == torch.uint8 and train.name == "cifar10"
    np.testing.assert_array_equal(train.x, np.concatenate([noise(b, 20, 3, 32, 32) for b in range(1, 6)]))
    np.testing.assert_array_equal(test.x, noise(6, 20, 3, 32, 32))
    assert train.labels.tolist() == [i % 10 for i in range(20)] * 5 and train.labels.dtype == torch.int64
    assert train.classes == test.classes == tuple(f"class {i}" for i in range(10))


def test_cifar10_agrees_with_torchvision_picture_by_picture(cifar):
    """torchvision's own pictures, upright and in colour: (H, W, C) from PIL against our (C, H, W)."""
    ours, theirs = cifar10(cifar, "test"), datasets.CIFAR10(cifar, train=False)
    for i, (picture, label) in enumerate(theirs):
        np.testing.assert_array_equal(ours.x[i].permute(1, 2, 0), np.asarray(picture))
        assert ours.labels[i] == label


def test_cifar10_trains_on_the_first_nine_tenths(cifar):
    train, held_out = load(f"cifar10:{cifar}")
    whole = cifar10(cifar)
    assert (len(train), len(held_out)) == (90, 10)
    assert torch.equal(torch.cat([train.x, held_out.x]), whole.x)
    assert torch.equal(torch.cat([train.labels, held_out.labels]), whole.labels)


class Hostile:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_hostile_pickle_is_refused_unopened(cifar, tmp_path, name):
    file = cifar / "cifar-10-batches-py" / name
    pickle.loads(pickle.dumps(Hostile(tmp_path / "proof")))
    assert (tmp_path / "proof").is_dir(), "the pickle is not hostile"
    file.write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    with pytest.raises(AlikitError) as raised:
        cifar10(cifar)
    assert not (tmp_path / "harm").exists()
    message = one_line(raised)
    assert f"{file} is damaged or not the published file (its MD5 is {md5(file)}" in message
    assert "was not opened: delete" in message


def test_a_hostile_pickle_is_refused_though_the_true_one_is_cached(cifar, tmp_path):
    cifar10(cifar)
    (cifar / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    with pytest.raises(AlikitError, match="not the published file"):
        cifar10(cifar)
    assert not (tmp_path / "harm").exists()


def test_a_missing_batch_is_named(cifar):
    file = cifar / "cifar-10-batches-py" / "data_batch_4"
    file.unlink()
    with pytest.raises(AlikitError, match=f"CIFAR-10 is incomplete: {file} is missing") as raised:
        cifar10(cifar)
    one_line(raised)


def test_what_was_read_once_comes_from_the_cache(cifar, monkeypatch):
    first = cifar10(cifar)
    monkeypatch.setattr(datasets, "CIFAR10", None)
    second = cifar10(cifar)
    assert torch.equal(first.x, second.x) and torch.equal(first.labels, second.labels)
    assert first.classes == second.classes and second.name == "cifar10"


def test_an_archive_in_place_is_unpacked(cifar, monkeypatch):
    whole = cifar10(cifar).x
    archive = shutil.make_archive(cifar / "cifar-10-python", "gztar", cifar, "cifar-10-batches-py")
    shutil.rmtree(cifar / "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(cifar / "cifar-10-python.tar.gz"))
    assert torch.equal(cifar10(cifar).x, whole)
    assert sorted(file.name for file in cifar.iterdir()) == [
        ".alikit-cache",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
    ]
    shutil.rmtree(cifar / "cifar-10-batches-py")
    with open(archive, "ab") as file:
        file.write(b"more")
    with pytest.raises(AlikitError, match=r"cifar-10-python\.tar\.gz is damaged or not the published file"):
        cifar10(cifar)
    assert not (cifar / "cifar-10-batches-py").exists()


# SVHN.


@pytest.mark.parametrize(("seed", "split"), [(0, "train"), (1, "test"), (2, "extra")])
def test_svhn(house_number_files, seed, split):
    data, stored = svhn(house_number_files, split), noise(seed, 32, 32, 3, 12)
    assert data.x.shape == (12, 3, 32, 32) and data.x.dtype == torch.uint8 and data.name == "svhn"
    for i, row, column, colour in ((0, 3, 20, 0), (5, 31, 0, 2), (11, 7, 8, 1)):
        assert data.x[i, colour, row, column] == stored[row, column, colour, i]
    np.testing.assert_array_equal(data.x, stored.transpose(3, 2, 0, 1))
    # Stored are 1 to 10 and again 1, 2: SVHN's 10 is the digit 0.
    assert data.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2] and data.labels.dtype == torch.int64
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize(("name", "seed"), [("svhn", 0), ("svhn-extra", 2)])
def test_svhn_holds_out_its_test_split(house_number_files, name, seed):
    train, held_out = load(f"{name}:{house_number_files}", size=32)
    np.testing.assert_array_equal(train.x, noise(seed, 32, 32, 3, 12).transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(held_out.x, noise(1, 32, 32, 3, 12).transpose(3, 2, 0, 1))


def test_a_damaged_mat_file_is_refused(house_number_files):
    file = house_number_files / "train_32x32.mat"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(AlikitError, match=f"{file} is damaged or not the published file") as raised:
        svhn(house_number_files)
    one_line(raised)
    assert len(svhn(house_number_files, "test")) == 12


# CelebA.


@pytest.mark.parametrize(("split", "numbers"), [("train", range(1, 7)), ("valid", (7, 8)), ("test", (9, 10))])
def test_celeba(faces, split, numbers):
    data = celeba(faces, split)
    assert data.x.shape == (len(numbers), 3, 64, 64) and data.x.dtype == torch.uint8 and data.name == "celeba"
    assert data.classes == ATTRIBUTES  # 40, though the published line ends in a blank
    expected = [[int((i + j) % 3 == 0) for j in range(40)] for i in numbers]
    assert data.labels.tolist() == expected and data.labels.dtype == torch.uint8
    assert (data.x[:, 0].float().mean((1, 2)) - torch.tensor([20.0 * i for i in numbers])).abs().max() < 2


@pytest.mark.parametrize(("size", "tall", "top"), [(64, 78, 7), (32, 39, 3)])
def test_celeba_is_resized_and_then_cropped(faces, size, tall, top):
    """Green is the row and blue the column it had among 178 x 218, so that each pixel tells where it was taken."""
    x = celeba(faces, "valid", size=size).x[0].float()
    where = torch.arange(size) + 0.5
    rows, columns = (where + top) * 218 / tall - 0.5, where * 178 / size - 0.5
    inner = slice(3, -3)  # at the border the filter has less to average
    assert (x[1] - rows[:, None])[inner, inner].abs().max() < 2
    assert (x[2] - columns)[inner, inner].abs().max() < 2


def test_celeba_by_name(faces):
    train, held_out = load(f"celeba:{faces}", size=32)
    assert train.x.shape == (6, 3, 32, 32) and held_out.x.shape == (2, 3, 32, 32)
    assert torch.equal(held_out.labels, celeba(faces, "valid").labels)


def test_the_faces_are_unpacked_from_their_archive(faces, tmp_path):
    shutil.rmtree(faces / "celeba" / "img_align_celeba")
    shutil.copy(tmp_path / "img_align_celeba.zip", faces / "celeba")
    assert len(celeba(faces)) == 6
    assert not list(faces.rglob("*.partial"))


def test_missing_and_damaged_faces(faces):
    pictures = faces / "celeba" / "img_align_celeba"
    (pictures / "000002.jpg").write_bytes(b"no picture")
    with pytest.raises(AlikitError, match=r"1 file is no readable picture .*000002\.jpg.*--skip-corrupt"):
        celeba(faces)
    data = celeba(faces, skip_corrupt=True)
    assert data.labels.tolist() == [[int((i + j) % 3 == 0) for j in range(40)] for i in (1, 3, 4, 5, 6)]
    (pictures / "000002.jpg").unlink()
    with pytest.raises(AlikitError, match=r"1 of 6 pictures are missing, the first .*000002\.jpg") as raised:
        celeba(faces)
    one_line(raised)


def test_a_changed_table_is_refused(faces):
    table = faces / "celeba" / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace("000001.jpg -1", "000001.jpg  1", 1))
    with pytest.raises(AlikitError, match=r"list_attr_celeba\.txt is damaged or not the published file"):
        celeba(faces)


@pytest.mark.parametrize("size", [0, -1])
def test_faces_of_no_size(faces, size):
    with pytest.raises(AlikitError, match="at least 1 pixel"):
        load(f"celeba:{faces}", size=size)


# Tiny ImageNet.


def test_tiny_imagenet(tiny):
    train, val = tiny_imagenet(tiny), tiny_imagenet(tiny, "val")
    assert train.x.shape == (12, 3, 64, 64) and val.x.shape == (6, 3, 64, 64) and train.name == "tiny-imagenet"
    assert train.classes == val.classes == ("goldfish", "Egyptian cat", "reel")  # in the order of the WordNet ids
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert val.labels.tolist() == [sorted(WNIDS).index(wnid) for wnid in [*WNIDS, *WNIDS]]
    for data in (train, val):
        assert (data.x[:, 0].float().mean((1, 2)) - 50 * data.labels).abs().max() < 3
    assert tiny_imagenet(tiny, size=32).shape == (3, 32, 32)


def test_grey_pictures_become_colour(tiny):
    Image.new("L", (64, 64), 90).save(tiny / "tiny-imagenet-200" / "val" / "images" / "val_0.JPEG")
    assert (tiny_imagenet(tiny, "val").x[0].float() - 90).abs().max() < 2


def test_tiny_imagenet_by_name(tiny):
    train, held_out = load(f"tiny-imagenet:{tiny}")
    assert (len(train), len(held_out)) == (12, 6)


DAMAGES = {
    "words.txt cannot be read": lambda folder: (folder / "words.txt").unlink(),
    "wnids.txt cannot be read": lambda folder: (folder / "wnids.txt").unlink(),
    "val_annotations.txt cannot be read": lambda folder: (folder / "val" / "val_annotations.txt").unlink(),
    "val_3.JPEG is missing": lambda folder: (folder / "val" / "images" / "val_3.JPEG").unlink(),
    "no pictures in .*n02124075": lambda folder: shutil.rmtree(folder / "train" / "n02124075"),
    "line 2 names 'n99999999', which is not in wnids.txt": lambda folder: (
        folder / "val" / "val_annotations.txt"
    ).write_text("val_0.JPEG\tn02124075\t0\t0\t1\t1\nval_1.JPEG\tn99999999\t0\t0\t1\t1\n"),
    "line 1 names ''": lambda folder: (folder / "val" / "val_annotations.txt").write_text("nonsense\n"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_incomplete_tiny_imagenet(tiny, message):
    DAMAGES[message](tiny / "tiny-imagenet-200")
    with pytest.raises(AlikitError, match=rf"Tiny ImageNet is incomplete: .*{message}.*unpack http") as raised:
        load(f"tiny-imagenet:{tiny}")
    one_line(raised)


def test_new_annotations_are_noticed(tiny):
    before = tiny_imagenet(tiny, "val").labels
    annotations = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join(line.replace("n04067472", "n01443537") for line in lines))
    after = tiny_imagenet(tiny, "val").labels
    assert after.tolist() == [0 if label == 2 else label for label in before.tolist()]


# ImageNet.


def test_imagenet(tmp_path):
    for split, wnid, red in (("train", "n02", 200), ("train", "n01", 100), ("val", "n01", 100), ("val", "n02", 200)):
        (tmp_path / split / wnid).mkdir(parents=True)
        Image.new("RGB", (90, 70), (red, 0, 0)).save(tmp_path / split / wnid / "a.JPEG", quality=98)
    train, held_out = load(f"imagenet:{tmp_path}")
    assert train.x.shape == held_out.x.shape == (2, 3, 64, 64) and train.name == "imagenet"
    assert train.classes == ("n01", "n02") and held_out.labels.tolist() == [0, 1]
    assert imagenet(tmp_path, "val", size=16).shape == (3, 16, 16)


# Where they are looked for.


def test_the_default_folder_and_another(cifar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    assert len(load("cifar10")[0]) == 90  # the files lie in data/
    os.rename("data", "elsewhere")
    with pytest.raises(AlikitError, match="put it in data, or use --download"):
        load("cifar10")
    monkeypatch.setenv("ALIKIT_DATA", "elsewhere")
    assert len(load("cifar10")[0]) == 90
    with pytest.raises(AlikitError, match="no class folders in elsewhere/imagenet/train"):
        load("imagenet")


@pytest.mark.parametrize("read", [cifar10, svhn, celeba, tiny_imagenet, imagenet])
def test_unknown_splits(tmp_path, read):
    with pytest.raises(AlikitError, match="no split 'dev': choose one of train, "):
        read(tmp_path, "dev")


def test_torchvision_is_imported_only_where_it_is_used():
    code = "import alikit.data, sys; print('torchvision' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


def test_the_made_files_are_what_they_are_meant_to_be():
    picture = np.asarray(ramp(60))
    assert picture.shape == (218, 178, 3) and picture[100, 50].tolist() == [60, 100, 50]
