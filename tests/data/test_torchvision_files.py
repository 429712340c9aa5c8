"""The sets of torchvision whose pictures are files of their own, small, as they are unpacked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from alikit import AlikitError, load
from alikit.data.sources import is_resized
from alikit.data.torchvision_sets import FILES

pytestmark = pytest.mark.usefixtures("unchecked")

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


def test_a_set_without_pictures_and_damaged_ones(tmp_path):
    food(tmp_path)
    file = tmp_path / "food-101" / "images" / "a" / "1.jpg"
    file.write_bytes(b"no picture")
    with pytest.raises(AlikitError, match=r"1 of 9 files are no readable pictures .*a/1\.jpg"):
        load(f"torchvision:Food101:{tmp_path}")
    assert [len(part) for part in load(f"torchvision:Food101:{tmp_path}", skip_corrupt=True)] == [5, 3]
    (tmp_path / "food-101" / "meta" / "test.json").write_text("{}")
    with pytest.raises(AlikitError, match="torchvision:Food101 has a part without examples"):
        load(f"torchvision:Food101:{tmp_path}")
    (tmp_path / "food-101" / "meta" / "test.json").write_text("no")
    with pytest.raises(
        AlikitError, match=r"Food101 is not there, or not whole, in .* \(Expecting value.*\): use --download"
    ):
        load(f"torchvision:Food101:{tmp_path}")


def test_all_sets_are_tried():
    assert {*ON_DISK} == {*FILES}
