"""Published data as people have it on their disks: read right, or refused with what to do."""

import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from on_disk import COLOUR, GREY, LABELS, check, idx, noise, refused
from scipy.io import loadmat, savemat
from torchvision.datasets import ImageNet

import alikit
from alikit import AlikitError, load
from alikit.data.sources import canonical

# MATLAB.

X, Y = np.moveaxis(COLOUR, 0, -1), LABELS[:, None]  # as SVHN has them: the pictures last, labels a column


def test_matlabs_files_are_refused_with_a_way_that_works(tmp_path):
    """One of version 7.3 is HDF5 with its axes reversed, so N x C x W x H, which looks like N x C x H x W."""
    savemat(tmp_path / "a.mat", {"X": X, "y": Y})
    refused(tmp_path / "a.mat", r"a.mat is no .*: open it with scipy.io.loadmat, .* examples first; .* on their side")
    stored = loadmat(tmp_path / "a.mat")
    with pytest.raises(AlikitError, match=r"9 examples and 30 labels.*: x is 9 x 8 x 3 x 30, so give np.moveaxis"):
        load((stored["X"], stored["y"]))
    check(load((np.moveaxis(stored["X"], -1, 0), stored["y"])), COLOUR, LABELS)
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=512) as out:
        for name, array in (("X", X), ("y", Y.astype(float))):
            out.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_(array.dtype.name)
    refused(
        tmp_path / "b.h5", r"b.h5 is MATLAB's, .* on their side: .*\"X\"\]\[\(\)\]\.swapaxes\(-1, -2\), .*\.ravel\(\)$"
    )
    with h5py.File(tmp_path / "b.h5") as stored:
        x, y = stored["X"][()].swapaxes(-1, -2), stored["y"][()]
    with pytest.raises(AlikitError, match=r"30 examples and 1 labels of them: give y\.ravel\(\), as they are one row"):
        load((x, y))
    check(load((x, y.ravel())), COLOUR, LABELS)


# Arrays.


def test_qmnist_has_more_columns_of_labels(tmp_path):
    about = np.concatenate([LABELS[:, None], noise(9, 30, 7)], 1).astype(">i4")
    for split, rows in (("train", slice(25)), ("test", slice(25, 30))):
        idx(tmp_path / f"qmnist-{split}-images-idx3-ubyte.gz", GREY[rows])
        idx(tmp_path / f"qmnist-{split}-labels-idx2-int.gz", about[rows], 12)
    for path in (tmp_path, tmp_path / "qmnist-test-labels-idx2-int.gz"):
        check(load(path), GREY, LABELS, lengths=(25, 5))


@pytest.mark.parametrize(("side", "shape"), [(784, "28, 28"), (3072, "3, 32, 32"), (12288, "3, 64, 64")])
def test_rows_that_may_be_pictures_are_not_taken_for_points_in_silence(tmp_path, caplog, side, shape):
    """As CIFAR's pickles, EMNIST's .mat and the published ImageNet of 64 x 64 have them."""
    np.savez(tmp_path / "a.npz", data=noise(0, 30, side), labels=LABELS)
    refused(tmp_path / "a.npz", rf"30 x {side}, of whole .* pass x\.reshape\(-1, {shape}\).* for pictures, ")
    np.savez(tmp_path / "a.npz", data=noise(0, 30, side) / 255, labels=LABELS)
    assert load(tmp_path / "a.npz")[0].shape == (side,)
    assert f"30 x {side}, of floats, so these are points: for pictures pass x.reshape(-1, {shape})" in caplog.text
    caplog.clear()
    np.savez(tmp_path / "a.npz", data=noise(0, 30, side) / 100 - 1, labels=LABELS)  # an embedding, say
    assert load(tmp_path / "a.npz")[0].shape == (side,) and not caplog.messages


def test_attributes_without_names_are_called_by_their_numbers(tmp_path):
    """ChestMNIST: without names the command line would say that there are no labels."""
    marks = np.stack([LABELS > 0, LABELS > 1], 1)
    np.savez(tmp_path / "chestmnist.npz", train_images=GREY, train_labels=marks, test_images=GREY, test_labels=marks)
    train, held_out = load(tmp_path / "chestmnist.npz")
    assert train.classes == held_out.classes == ("0", "1") and np.array_equal(train.labels, marks)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as out:
        out.update(images=COLOUR, labels=np.full((30, 6), 0.25))
    refused(tmp_path / "3dshapes.h5", "a label is 0.25: .*; give such labels, or x alone")


def test_files_whose_names_say_the_part_as_their_arrays_do(tmp_path):
    """As Coursera's course on neural networks has its signs and cats."""
    for part, rows in (("train", slice(25)), ("test", slice(25, 30))):
        with h5py.File(tmp_path / f"{part}_signs.h5", "w") as out:
            out.update(
                {f"{part}_set_x": COLOUR[rows], f"{part}_set_y": LABELS[rows], "list_classes": [b"a", b"b", b"c"]}
            )
    check(load(tmp_path), COLOUR, LABELS, ("a", "b", "c"), (25, 5))


def test_two_classes_of_imagenet_have_the_same_name(tmp_path, paint):
    """n02012849 is a bird, n03126707 a machine. torchvision calls both by the same words."""
    for wnid in ("n02012849", "n03126707"):
        for i in range(5):
            paint(f"train/{wnid}/{i}.JPEG")
    torch.save(({"n02012849": ("crane",), "n03126707": ("crane",)}, []), tmp_path / "meta.bin")
    assert load(ImageNet(tmp_path, "train"))[0].classes == ("crane (0)", "crane (1)")


# Paths.


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("cifar-10-batches-py/data_batch_1", "cifar10"),
        ("train_32x32.mat", "svhn"),
        ("celeba/list_attr_celeba.txt", "celeba"),
        ("tiny-imagenet-200/wnids.txt", "tiny-imagenet"),
        ("cifar-100-python/train", "torchvision:CIFAR100"),
        ("stl10_binary/train_X.bin", "torchvision:STL10"),
    ],
)
def test_a_published_set_is_known_by_its_own_folder_too(tmp_path, monkeypatch, place, name):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    assert canonical(tmp_path) == canonical(tmp_path / place.partition("/")[0]) == f"{name}:{tmp_path}"
    (tmp_path / "stl10_binary").mkdir(exist_ok=True)
    (tmp_path / "cifar-10-batches-py").mkdir(exist_ok=True)
    refused(tmp_path, f"has several sets: say cifar10:{tmp_path} or ")
    monkeypatch.chdir(tmp_path)
    assert canonical(f"./{place.partition('/')[0]}") == f"{name}:."


def test_folders_that_are_no_classes(tmp_path, paint, caplog):
    """FFHQ counts its pictures; Pascal VOC keeps outlines beside them; PlantVillage has each in three kinds."""
    for number in (0, 999, 1000, 2005):
        paint(f"ffhq/thumbnails128x128/{number // 1000 * 1000:05}/{number:05}.png")
    for part in load(tmp_path / "ffhq"):
        assert part.labels is None
    assert "folders such as 00000 in" in caplog.text and "count pictures, so they are no classes" in caplog.text
    paint("ffhq/thumbnails128x128/01000/03000.png")  # not counted
    paint("clips/cat/0000/0001.png"), paint("clips/dog/0000/0002.png")  # of videos
    assert len(load(tmp_path / "ffhq")[0].classes) == 3 and load(tmp_path / "clips")[0].classes == ("cat", "dog")
    for name in ("VOC2012/JPEGImages/1.jpg", "VOC2012/SegmentationClass/1.png"):
        paint(name)
    for kind in ("color", "segmented"):
        paint(f"plants/{kind}/apple/1.jpg"), paint(f"plants/{kind}/tomato/1.jpg")
    for name in ("cat/1", "cat/indoors/1", "dog/indoors/1", "dog/outdoors/1"):
        paint(f"pets/{name}.jpg")
    for place, classes in (
        ("VOC2012", "JPEGImages, SegmentationClass"),
        ("plants", "color, segmented"),
        ("pets", ""),
        ("clips", ""),
    ):
        caplog.clear()
        load(tmp_path / place)
        said = f"{tmp_path / place}: its classes are {classes}; if these are none, name one folder"
        assert caplog.messages == [said] * bool(classes)


@pytest.mark.parametrize(
    ("picture", "files"),
    [
        ("Img/img_align_celeba/{}.jpg", "Anno/list_attr_celeba.txt"),
        ("jpg/image_{}.jpg", "imagelabels.mat"),
        ("cars_train/{}.jpg", "devkit/cars_train_annos.mat"),
        ("part_{}/ISIC_1.jpg", "HAM10000_metadata.csv"),
    ],
)
def test_labels_in_files_that_are_not_read_are_said(tmp_path, paint, caplog, picture, files):
    for i in range(4):
        paint(f"d/{picture.format(i)}")
    (tmp_path / "d" / files).parent.mkdir(exist_ok=True)
    (tmp_path / "d" / files).write_text("")
    load(tmp_path / "d")
    assert f"{tmp_path / 'd'}: not read are {files}; labels come from class folders, or from a table" in caplog.text
    caplog.clear()
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        paint(f"right/{name}")
    for name in ("classes.txt", "labels.json", "dataset-metadata.json", "attribution.txt", "classes.csv"):
        (tmp_path / "right" / name).write_text("cat\ndog\n")
    assert load(tmp_path / "right")[0].classes == ("cat", "dog") and not caplog.messages


def test_attributes_in_columns_of_their_own_are_not_lost_in_silence(caplog):
    """CelebA as Hugging Face has it."""
    rows = [{"image": picture, "celeb_id": i, "Bald": False, "Male": True} for i, picture in enumerate(COLOUR)]
    assert load(rows)[0].labels is None
    assert caplog.messages == ["arrays has no labels: of celeb_id, Bald, Male rename the one that you mean to label"]


def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path):
    """CIFAR's binary form, the folder of `save_to_disk`, and MNIST as Kaggle has it and as it once was pickled."""
    for name in ("data_batch_1.bin", "data-00000-of-00001.arrow", "mnist.pkl.gz"):
        (tmp_path / name).write_bytes(b"no")
        refused(tmp_path / name, rf"{name} is no file of .*, or open it in Python and give alikit.load\(\(x, y\)\)")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as out:
        out.add(tmp_path / "data_batch_1.bin", "cifar-10-batches-py/data_batch_1")
    refused(tmp_path / "cifar-10-python.tar.gz", "has no pictures: .*, or unpack it and name the folder")
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    refused(tmp_path, r"not data-00000-of-00001.arrow, data_batch_1.bin, mnist.pkl.gz; open other files in Python")
    pixels = ",".join(f"pixel{i}" for i in range(784))
    (tmp_path / "train.csv").write_text(f"label,{pixels}\n" + ",".join(["0"] * 785))
    refused(tmp_path / "train.csv", r"if they hold pixels, read it with pandas and give alikit.load\(\(x, y\)\)")


def test_the_lines_of_the_page_turn_them_into_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = noise(2, 30, 28, 28), np.arange(30) % 9 + 1
    savemat("train_32x32.mat", {"X": X, "y": np.where(Y == 0, 10, Y)})
    part = {"images": x.swapaxes(1, 2).reshape(30, 784), "labels": y[:, None]}
    savemat("emnist-letters.mat", {"dataset": {"train": part}})
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    np.savetxt("train.csv", np.c_[y - 1, x.reshape(30, 784)], "%d", ",", header=header, comments="")
    Path("list_attr_celeba.txt").write_text("2\nBald Male \n000001.jpg -1  1\n000002.jpg  1 -1\n")
    seen = []
    monkeypatch.setattr(alikit, "load", lambda given: seen.append(load(given)))
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    exec(page.partition("<!-- conversions -->")[2].partition("```python\n")[2].partition("```")[0], {})
    svhn, letters, digits = seen
    check(svhn, COLOUR, LABELS)
    check(letters, x, y - 1, tuple("123456789"))
    check(digits, x, y - 1, tuple("012345678"))
    lines = ["image_id,Bald,Male", "000001.jpg,-1,1", "000002.jpg,1,-1"]
    assert Path("list_attr_celeba.csv").read_text().splitlines() == lines
