"""Every labelled picture set of torchvision, small, in the files that it is published in."""

import bz2
import csv
import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision
from on_disk import noise
from PIL import Image
from scipy.io import savemat

from alikit import AlikitError, load
from alikit.data.sources import is_resized
from alikit.data.torchvision_sets import ARRAYS, BY_HAND, FILES, SETS

PIXELS, LABELS = noise(3, 12, 28, 28), np.arange(12, dtype=np.uint8) % 4
SPLITS = (("train", slice(8)), ("t10k", slice(8, 12)))
CHECKED = ("cifar", "fer2013", "flowers102", "lfw", "omniglot", "places365", "semeion", "stl10", "svhn")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """The checksums of the published files are not those of ours; an empty file stands for a damaged one."""
    for name in CHECKED:
        there = lambda file, md5=None: os.path.isfile(file) and os.path.getsize(file) > 0  # noqa: E731
        monkeypatch.setattr(getattr(torchvision.datasets, name), "check_integrity", there)


def idx(file: Path, array: np.ndarray, kind: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes())


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


# Sets of files. A picture's red is 50 times its label; each set has classes 0, 1 and 2, here by the names expected.


def picture(root: Path, name: str, label: int, grey: bool = False) -> str:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    size = (20 + label, 12)  # all of sizes of their own
    image = Image.new("L", size, 50 * label) if grey else Image.new("RGB", size, (50 * label, 9, 9))
    image.save(file, quality=98)
    return file.stem


def text(root: Path, name: str, *lines: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")


def pictures(root: Path, pattern: str, labels=(0, 1, 2), names="abc", numbers=(1, 2)) -> list[tuple[str, int]]:
    """The stems and labels of pictures at a pattern of {name} or {label}, and {i}."""
    return [
        (picture(root, pattern.format(name=names[label], label=label, i=i + 2 * label), label), label)
        for label in labels
        for i in numbers
    ]


def caltech101(root):
    for label, name in enumerate(("accordion", "ant", "barrel")):
        for i in (1, 2):
            picture(root, f"caltech101/101_ObjectCategories/{name}/image_{i:04}.jpg", label)
    picture(root, "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", 4)
    return ("accordion", "ant", "barrel"), 6


def caltech256(root):
    for label, name in enumerate(("ak47", "american-flag", "backpack")):
        for i in (1, 2):
            picture(root, f"caltech256/256_ObjectCategories/{label + 1:03}.{name}/{label + 1:03}_{i:04}.jpg", label)
    return ("ak47", "american-flag", "backpack"), 6


def clevr(root):
    """Classes are the numbers of things."""
    for split, n in (("train", 2), ("val", 1)):
        scenes = []
        for label in range(3):
            for i in range(n):
                name = f"CLEVR_{split}_{label}{i}.png"
                picture(root, f"clevr/CLEVR_v1.0/images/{split}/{name}", label)
                scenes.append({"image_filename": name, "objects": [{}] * (label + 3)})
        text(root, f"clevr/CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json", json.dumps({"scenes": scenes}))
    return ("3", "4", "5"), (6, 3)


def class_folders(train: str, test: str | None, names=("a", "b", "c")):
    def write(root):
        labels = range(len(names))
        pictures(root, train, labels, names)
        if test:
            pictures(root, test, labels, names, numbers=(1,))
        return names, (2 * len(names), len(names)) if test else 2 * len(names)

    return write


def dtd(root):
    for split, numbers in (("train", (1, 2)), ("test", (3,)), ("val", (4,))):
        found = pictures(root, "dtd/dtd/images/{name}/{name}_{i}.jpg", numbers=numbers)
        lines = [f"{'abc'[label]}/{stem}.jpg" for stem, label in found]
        text(root, f"dtd/dtd/labels/{split}1.txt", *reversed(lines))
    return "abc", (6, 3)


def aircraft(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    text(folder, "variants.txt", "707-320", "A300B4", "An-12 B")
    for split, numbers in (("trainval", (1, 2)), ("test", (7,))):
        found = pictures(folder, "images/0{label}{i}.jpg", numbers=numbers)
        names = ("707-320", "A300B4", "An-12 B")
        text(folder, f"images_variant_{split}.txt", *(f"{stem} {names[label]}" for stem, label in found))
    return ("707-320", "A300B4", "An-12 B"), (6, 3)


def flowers(root):
    """Labels from 1 by the number of the picture; the splits are lists of numbers."""
    folder = root / "flowers-102"
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for number, label in enumerate(labels, 1):
        picture(folder, f"jpg/image_{number:05}.jpg", label)
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels) + 1})
    savemat(folder / "setid.mat", {"trnid": [1, 2, 4, 5, 7, 8], "valid": [1, 2], "tstid": [3, 6, 9]})
    return ("pink primrose", "hard-leaved pocket orchid", "canterbury bells"), (6, 3)


def food(root):
    for split, numbers in (("train", (1, 2)), ("test", (7,))):
        found = pictures(root, "food-101/images/{name}/{i}.jpg", numbers=numbers)
        lists = {name: [f"{name}/{stem}" for stem, label in found if "abc"[label] == name] for name in "cab"}
        text(root, f"food-101/meta/{split}.json", json.dumps(lists))
    return "abc", (6, 3)


def gtsrb(root):
    pictures(root, "gtsrb/GTSRB/Training/0000{label}/0_{i}.ppm")
    found = pictures(root, "gtsrb/GTSRB/Final_Test/Images/0{label}{i}.ppm", numbers=(7,))
    lines = [f"{stem}.ppm;53;54;6;5;48;49;{label}" for stem, label in found]
    text(root, "gtsrb/GT-final_test.csv", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *lines)
    return "012", (6, 3)


def naturalist(root):
    names = tuple(f"{label:05}_Animalia_B_C_D_E_F_{'abc'[label]}" for label in range(3))
    return class_folders("2021_train/{name}/{i}.jpg", "2021_valid/{name}/{i}.jpg", names)(root)


def people(root):
    """Two folds of a person each; class numbers go by the list of all names."""
    names = ("Ann_A", "Bob_B", "Cy_C")
    for label, name in enumerate(names):
        for i in (1, 2):
            picture(root, f"lfw-py/lfw_funneled/{name}/{name}_{i:04}.jpg", label)
    text(root, "lfw-py/lfw-names.txt", *(f"{name}\t2" for name in names))
    text(root, "lfw-py/people.txt", "2", "2", "Cy_C\t2", "Ann_A\t2", "1", "Bob_B\t2")
    text(root, "lfw-py/lfw-funneled.tgz", "-")
    return names, 6


def omniglot(root):
    for label, name in enumerate(("Braille/character01", "Braille/character02", "Greek/character01")):
        for i in (1, 2):
            picture(root, f"omniglot-py/images_background/{name}/000{label}_0{i}.png", label, grey=True)
    text(root, "omniglot-py/images_background.zip", "-")
    return ("Braille/character01", "Braille/character02", "Greek/character01"), 6


def pets(root):
    names = ("Abyssinian", "boxer", "great_pyrenees")
    for split, numbers in (("trainval", (1, 2)), ("test", (7,))):
        found = pictures(root, "oxford-iiit-pet/images/{name}_{i}.jpg", names=names, numbers=numbers)
        text(root, f"oxford-iiit-pet/annotations/{split}.txt", *(f"{stem} {label + 1} 1 1" for stem, label in found))
    return ("Abyssinian", "Boxer", "Great Pyrenees"), (6, 3)


def places(root):
    names = ("/a/airfield", "/b/bar", "/c/cafe")
    text(root, "categories_places365.txt", *(f"{name} {label}" for label, name in enumerate(names)))
    train, val = [], []
    for label, name in enumerate(names):
        for i in (1, 2):
            picture(root, f"data_256_standard{name}/{i}.jpg", label)
            train.append(f"{name}/{i}.jpg {label}")
        picture(root, f"val_256/Places_{label}.jpg", label)
        val.append(f"Places_{label}.jpg {label}")
    text(root, "places365_train_standard.txt", *train)
    text(root, "places365_val.txt", *val)
    return names, (6, 3)


def cars(root):
    def annotations(found):
        kind = [("fname", "O"), ("class", "O")]
        return {"annotations": np.array([(f"{stem}.jpg", label + 1) for stem, label in found], dtype=kind)}

    folder = root / "stanford_cars"
    train = pictures(folder, "cars_train/0{label}{i}.jpg")
    test = pictures(folder, "cars_test/0{label}{i}.jpg", numbers=(7,))
    (folder / "devkit").mkdir()
    savemat(folder / "devkit" / "cars_train_annos.mat", annotations(train))
    savemat(folder / "cars_test_annos_withlabels.mat", annotations(test))
    names = np.array(["AM General Hummer", "Acura RL", "Acura TL"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return tuple(names), (6, 3)


def sun(root):
    """Class names have folders of their own."""
    names = ("abbey", "bar/indoor", "bar/outdoor")
    for label, name in enumerate(names):
        for i in (1, 2):
            picture(root, f"SUN397/{name[0]}/{name}/sun_{label}{i}.jpg", label)
    text(root, "SUN397/ClassName.txt", *(f"/{name[0]}/{name}" for name in names))
    return names, 6


SENSES = ("negative", "positive")
WNIDS = ("n01440764", "n02102040", "n02979186")
ON_DISK = {
    "Caltech101": caltech101,
    "Caltech256": caltech256,
    "CLEVRClassification": clevr,
    "Country211": class_folders("country211/train/{name}/{i}.jpg", "country211/test/{name}/{i}.jpg"),
    "DTD": dtd,
    "EuroSAT": class_folders("eurosat/2750/{name}/{name}_{i}.jpg", None, ("AnnualCrop", "Forest", "River")),
    "FGVCAircraft": aircraft,
    "Flowers102": flowers,
    "Food101": food,
    "GTSRB": gtsrb,
    "Imagenette": class_folders("imagenette2/train/{name}/{i}.JPEG", "imagenette2/val/{name}/{i}.JPEG", WNIDS),
    "INaturalist": naturalist,
    "LFWPeople": people,
    "Omniglot": omniglot,
    "OxfordIIITPet": pets,
    "Places365": places,
    "RenderedSST2": class_folders("rendered-sst2/train/{name}/{i}.png", "rendered-sst2/test/{name}/{i}.png", SENSES),
    "StanfordCars": cars,
    "SUN397": sun,
}


@pytest.mark.parametrize("name", FILES)
def test_sets_of_files(tmp_path, name):
    root = tmp_path / "data"
    classes, lengths = ON_DISK[name](root)
    if name == "Imagenette":
        classes = ("tench", "English springer", "cassette player")
    train, held_out = load(f"torchvision:{name}:{root}", size=8)
    assert is_resized(f"torchvision:{name}")
    if isinstance(lengths, int):
        assert len(train) + len(held_out) == lengths and len(held_out) == 1
    else:
        assert (len(train), len(held_out)) == lengths
    for part in (train, held_out):
        assert part.shape[1:] == (8, 8) and part.classes[:3] == tuple(classes)[:3]
        assert (part.x[:, 0].float().mean((1, 2)) - 50 * part.labels).abs().max() < 3, "the label of another picture"
        assert part.labels.dtype == torch.int64
    assert load(f"torchvision:{name}:{root}")[0].shape[1:] == (64, 64)


def test_every_name_is_a_set_of_torchvision():
    assert {name.partition("-")[0] for name in SETS} <= {*torchvision.datasets.__all__}
    assert {*WRITERS} == {*ARRAYS} and {*ON_DISK} == {*FILES}


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
