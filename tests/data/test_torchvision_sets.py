"""Every labelled picture set of torchvision, small, in the files that it is published in."""

import bz2
import csv
import os
import pickle
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision
from on_disk import idx, noise
from scipy.io import savemat

from alikit import AlikitError, load
from alikit.data.sources import is_resized
from alikit.data.torchvision_sets import ARRAYS, BY_HAND, SETS

pytestmark = pytest.mark.usefixtures("unchecked")
PIXELS, LABELS = noise(3, 12, 28, 28), np.arange(12, dtype=np.uint8) % 4
SPLITS = (("train", slice(8)), ("t10k", slice(8, 12)))


# Sets in memory. Each writes its files and returns the pictures and classes that must come out.


def mnist(root: Path, name: str):
    for split, rows in SPLITS:
        idx(root / name / "raw" / f"{split}-images-idx3-ubyte", PIXELS[rows])
        idx(root / name / "raw" / f"{split}-labels-idx1-ubyte", LABELS[rows])
    return PIXELS[:, None], getattr(torchvision.datasets, name).classes


def emnist(root: Path, name: str):
    """On its side, as NIST has it; letters count from 1."""
    kind = name.partition("-")[2]
    for split, rows in (("train", slice(8)), ("test", slice(8, 12))):
        file = root / "EMNIST" / "raw" / f"emnist-{kind}-{split}"
        idx(Path(f"{file}-images-idx3-ubyte"), PIXELS[rows].swapaxes(1, 2))
        idx(Path(f"{file}-labels-idx1-ubyte"), LABELS[rows] + (kind == "letters"))
    first = {"letters": ("a", "b", "c"), "byclass": ("0", "1", "2")}.get(kind, ("0", "1", "2"))
    return PIXELS[:, None], first


def qmnist(root: Path, name: str):
    about = np.stack([LABELS, *[np.arange(12) * 9 + column for column in range(7)]], 1).astype(">i4")
    for split, rows in (("train", slice(8)), ("test", slice(8, 12))):
        idx(root / name / "raw" / f"qmnist-{split}-images-idx3-ubyte", PIXELS[rows])
        idx(root / name / "raw" / f"qmnist-{split}-labels-idx2-int", about[rows], 12)
    return PIXELS[:, None], torchvision.datasets.QMNIST.classes


def usps(root: Path, name: str):
    """Labels from 1, values from -1 to 1."""
    root.mkdir()
    x = PIXELS[:, :16, :16]
    for file, rows in (("usps.bz2", slice(8)), ("usps.t.bz2", slice(8, 12))):
        values = (x[rows].reshape(-1, 256) + 0.5) / 255 * 2 - 1
        lines = [
            f"{y + 1} " + " ".join(f"{i}:{min(v, 1):.6f}" for i, v in enumerate(row, 1))
            for y, row in zip(LABELS[rows], values, strict=True)
        ]
        (root / file).write_bytes(bz2.compress("\n".join(lines).encode() + b"\n"))
    return x[:, None], ("0", "1", "2", "3")


def semeion(root: Path, name: str):
    root.mkdir()
    x = PIXELS[:, :16, :16] % 2
    np.savetxt(root / "semeion.data", np.concatenate([x.reshape(12, -1), np.eye(10)[LABELS]], 1), "%.4f")
    return x[:, None] * 255, ("0", "1", "2", "3")


def cifar(root: Path, name: str):
    x, folder = noise(4, 12, 3, 32, 32), root / {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}[name]
    folder.mkdir(parents=True)
    key, names = ("labels", "label_names") if name == "CIFAR10" else ("fine_labels", "fine_label_names")
    files = {"train": slice(8), "test": slice(8, 12)}
    if name == "CIFAR10":
        files = {f"data_batch_{b}": slice(2 * b - 2, 2 * b if b < 5 else 8) for b in range(1, 5)}
        files |= {"data_batch_5": slice(8, 8), "test_batch": slice(8, 12)}
    for file, rows in files.items():
        content = {"data": x[rows].reshape(-1, 3072), key: LABELS[rows].tolist(), "coarse_labels": [0] * 12}
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    classes = [f"class {i}" for i in range(4)]
    (folder / ("batches.meta" if name == "CIFAR10" else "meta")).write_bytes(pickle.dumps({names: classes}))
    return x, classes


def svhn(root: Path, name: str):
    """Picture last; 10 stands for 0."""
    root.mkdir()
    x = noise(5, 32, 32, 3, 12)
    for split, rows in (("train", slice(8)), ("test", slice(8, 12))):
        y = np.where(LABELS[rows] == 0, 10, LABELS[rows])[:, None]
        savemat(root / f"{split}_32x32.mat", {"X": x[..., rows], "y": y.astype(np.uint8)})
    return x.transpose(3, 2, 0, 1), ("0", "1", "2", "3")


def stl10(root: Path, name: str):
    """Columns before rows, labels from 1."""
    folder, x = root / "stl10_binary", noise(6, 12, 3, 96, 96)
    folder.mkdir(parents=True)
    (folder / "unlabeled_X.bin").write_bytes(b"-")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\ncat\n")
    for split, rows in (("train", slice(8)), ("test", slice(8, 12))):
        x[rows].swapaxes(2, 3).tofile(folder / f"{split}_X.bin")
        (LABELS[rows] + 1).tofile(folder / f"{split}_y.bin")
    return x, ("airplane", "bird", "car", "cat")


def fer2013(root: Path, name: str):
    folder, x = root / "fer2013", noise(7, 12, 48, 48)
    folder.mkdir(parents=True)
    with open(folder / "fer2013.csv", "w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["emotion", "pixels", "Usage"])
        for i in range(12):
            rows.writerow([LABELS[i], " ".join(map(str, x[i].ravel())), "Training" if i < 8 else "PublicTest"])
    return x[:, None], ("angry", "disgust", "fear", "happy")


WRITERS = {**dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST"), mnist), "QMNIST": qmnist, "USPS": usps}
WRITERS |= {name: emnist for name in ARRAYS if name.startswith("EMNIST")} | {"CIFAR10": cifar, "CIFAR100": cifar}
WRITERS |= {"SEMEION": semeion, "SVHN": svhn, "STL10": stl10, "FER2013": fer2013}


@pytest.mark.parametrize("name", ARRAYS)
def test_sets_in_memory(tmp_path, name):
    root = tmp_path / "data"
    x, classes = WRITERS[name](root, name)
    parts = load(f"torchvision:{name.lower()}:{root}")
    assert not is_resized(f"torchvision:{name}")
    assert [len(part) for part in parts] == ([8, 4] if len(ARRAYS[name]) == 2 else [11, 1])
    found = torch.cat([part.x for part in parts])
    assert found.dtype == torch.uint8 and found.is_contiguous() and parts[0].name == f"torchvision:{name}"
    order = [next(i for i in range(12) if np.array_equal(x[i], picture)) for picture in found.numpy()]
    assert sorted(order) == [*range(12)] and (len(ARRAYS[name]) == 1 or order == sorted(order))
    labels = torch.cat([part.labels for part in parts])
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[order].tolist()
    for part in parts:
        assert part.classes[: len(classes)] == tuple(classes) and part.classes == parts[0].classes
    with pytest.raises(AlikitError, match=f"{name} has the size it has"):
        load(f"torchvision:{name}:{root}", size=64)


def test_every_name_is_a_set_of_torchvision():
    assert {name.partition("-")[0] for name in SETS} <= {*torchvision.datasets.__all__}
    assert {*WRITERS} == {*ARRAYS}


# Missing, damaged, fetched.


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_fetched_unless_asked_for(tmp_path, monkeypatch, name):
    network = Mock(side_effect=OSError("no network here"))
    monkeypatch.setattr("socket.getaddrinfo", network)
    monkeypatch.setattr("urllib.request.urlopen", network)
    root = tmp_path / "data"
    with pytest.raises(AlikitError, match=f"^{name} is not there, or not whole, in {root}.*: ") as raised:
        load(f"torchvision:{name}:{root}")
    assert not network.called and "\n" not in str(raised.value)
    assert "--download (download=True)" in str(raised.value) or (name in BY_HAND and BY_HAND[name] in str(raised.value))
    with pytest.raises(AlikitError, match=f"^{name} is not there, or not whole, in {root}.*: (try again|get it)"):
        load(f"torchvision:{name}:{root}", download=True)
    assert network.called == (name not in BY_HAND)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()], "left half-made"


def test_a_fetched_set_is_in_place_when_it_is_whole(tmp_path, monkeypatch):
    mnist(tmp_path / "web", "MNIST")

    def fetch(self):
        if not self._check_exists():
            shutil.copytree(tmp_path / "web" / "MNIST" / "raw", self.raw_folder, dirs_exist_ok=True)

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fetch)
    root = tmp_path / "data"
    idx(root / "MNIST" / "raw" / "train-images-idx3-ubyte", PIXELS[:3])  # left by another program
    assert len(load(f"torchvision:MNIST:{root}", download=True)[0]) == 8
    assert sorted(file.name for file in root.iterdir()) == ["MNIST"]
    monkeypatch.undo()
    assert len(load(f"torchvision:MNIST:{root}")[1]) == 4


def test_labels_of_fer2013_that_are_kept_back(tmp_path, caplog):
    """As Kaggle has its two files: the second without emotions."""
    fer2013(tmp_path, "FER2013")
    with open(tmp_path / "fer2013" / "fer2013.csv", newline="") as table:
        rows = [*csv.reader(table)]
    (tmp_path / "fer2013" / "fer2013.csv").unlink()
    for name, lines in (("train", [row[:2] for row in rows[:9]]), ("test", [[row[1]] for row in (rows[0], *rows[9:])])):
        with open(tmp_path / "fer2013" / f"{name}.csv", "w", newline="") as out:
            csv.writer(out).writerows(lines)
    train, held_out = load(f"torchvision:FER2013:{tmp_path}")
    assert (len(train), len(held_out)) == (7, 1) and held_out.labels is not None
    assert "held-out part of torchvision:FER2013 has no labels" in caplog.text


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_that_is_loaded_runs_code(tmp_path, monkeypatch):
    """torchvision would read MNIST's old processed files, and CIFAR's pickles if their checksums are right."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    mnist(Path("data"), "MNIST")
    Path("data/MNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(Hostile(), f"data/MNIST/processed/{name}")
    cifar(Path("cifar"), "CIFAR100")
    for file in Path("cifar/cifar-100-python").iterdir():
        file.write_bytes(pickle.dumps(Hostile()))
    for name in ("MNIST:data", "CIFAR100:cifar"):
        with pytest.raises(AlikitError, match="is not there, or not whole"):
            load(f"torchvision:{name}")
    assert not Path("harm").exists()
