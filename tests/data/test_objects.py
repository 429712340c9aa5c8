"""Python objects: arrays, and data sets whose examples are read one by one."""

import numpy as np
import pytest
import torch
from on_disk import COLOUR, GREY, LABELS, check, refused
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms.v2.functional import to_dtype, to_image

from alikit import Dataset, load


def as_pil() -> list:
    return [(Image.fromarray(pixels), int(y)) for pixels, y in zip(COLOUR, LABELS, strict=True)]


class Own:
    classes = ("cat", "dog", "newt")

    def __init__(self, change):
        self.change = change

    def __len__(self):
        return 30

    def __getitem__(self, at):
        return self.change(Image.fromarray(COLOUR[at])), LABELS[at]


FLOATS = COLOUR.transpose(0, 3, 1, 2).astype(np.float32) / 255
OBJECTS = {
    "list of PIL": as_pil,
    "two lists": lambda: ([Image.fromarray(x) for x in COLOUR], LABELS.tolist()),
    "own": lambda: Own(lambda x: x),
    "own floats": lambda: Own(lambda x: to_dtype(to_image(x), torch.float32, scale=True)),
    "own arrays": lambda: Own(np.asarray),
    "subset": lambda: Subset(Own(np.asarray), range(30)),
    "concat": lambda: ConcatDataset([Subset(Own(np.asarray), range(9)), Subset(Own(np.asarray), range(9, 30))]),
    "tensors": lambda: TensorDataset(torch.from_numpy(FLOATS), torch.from_numpy(LABELS)),
    "x and y": lambda: (torch.from_numpy(FLOATS), LABELS),
    "mapping": lambda: {"x": COLOUR, "y": LABELS},
    "rows of datasets": lambda: [
        {"img": Image.fromarray(x), "fine_label": y} for x, y in zip(COLOUR, LABELS, strict=True)
    ],
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name):
    classes = ("cat", "dog", "newt") if name.startswith(("own", "subset", "concat")) else ("0", "1", "2")
    check(load(OBJECTS[name]()), COLOUR, LABELS, classes)


def test_pairs_of_parts(tmp_path):
    own = Own(np.asarray)
    check(load((Subset(own, range(25)), Subset(own, range(25, 30)))), COLOUR, LABELS, Own.classes, (25, 5))
    pair = (COLOUR[:25], LABELS[:25]), (COLOUR[25:], LABELS[25:])
    check(load(pair), COLOUR, LABELS, lengths=(25, 5))
    check(load((COLOUR[:25], COLOUR[25:])), COLOUR, None, lengths=(25, 5))
    check(load({"x_train": GREY[:25], "x_test": GREY[25:]}), GREY, None, lengths=(25, 5))
    check(
        load({"train": Subset(own, range(25)), "test": Subset(own, range(25, 30))}),
        COLOUR,
        LABELS,
        Own.classes,
        (25, 5),
    )
    train, held_out = load(pair)
    assert load((train, held_out)) == (train, held_out)
    check(load(Dataset("mine", train.x, train.labels, train.classes)), COLOUR[:25], LABELS[:25])
    check(load(TensorDataset(torch.from_numpy(FLOATS))), COLOUR, None)
    mixed = load((Own(lambda x: x), (FLOATS, LABELS)))  # what is known of the first part is not so of the second
    assert mixed[1].x.equal(torch.from_numpy(COLOUR).movedim(3, 1))
    points = np.random.default_rng(0).normal(size=(30, 2))
    train, held_out = load((points, LABELS))
    assert train.x.dtype == torch.float32 and (train.x.shape, len(held_out)) == ((27, 2), 3)


def test_pil_pictures_of_all_kinds(paint, tmp_path):
    pictures = [Image.new("L", (8, 9), 7), Image.new("RGB", (8, 9), (1, 2, 3)), Image.new("RGBA", (8, 9), (0, 0, 0, 0))]
    pictures += [Image.new("1", (8, 9), 1), Image.new("P", (8, 9), 0)]
    parts = load([*pictures, *pictures])
    found = {tuple(x[:, 0, 0].tolist()) for x in torch.cat([part.x for part in parts])}
    assert found == {(7, 7, 7), (1, 2, 3), (255, 255, 255), (0, 0, 0)}
    assert load([pictures[0], pictures[3]] * 5)[0].shape == (1, 9, 8)  # grey stays grey
    deep = [Image.fromarray(np.full((9, 8), value, np.uint16)) for value in (0, 4095)] * 5
    assert load(deep, white=4095)[0].x.unique().tolist() == [0, 255]
    refused(
        [*pictures, Image.new("L", (9, 9))],
        "example 5 of arrays is .* 9 x 9.*: choose one size",
    )
    assert load([*pictures, Image.new("L", (19, 12))], size=5)[0].shape == (3, 5, 5)
    for name in ("cat", "dog"):
        for i in range(5):
            paint(f"f/{name}/{i}.png", (i, 0, 0), (20, 10))
    folder = ImageFolder(tmp_path / "f")
    assert load(folder, size=8)[0].shape == (3, 8, 8) and load(folder, size=8)[0].classes == ("cat", "dog")
    assert load(ImageFolder(tmp_path / "f", target_transform=lambda y: 1 - y), size=8)[0].classes == ("0", "1")
    (tmp_path / "f" / "cat" / "0.png").write_bytes(b"no")
    refused(folder, r"example 0 of ImageFolder cannot be read \(UnidentifiedImageError.*skip_corrupt=True", size=8)
    assert sum(map(len, load(folder, size=8, skip_corrupt=True))) == 9


class Endless(IterableDataset):
    def __iter__(self):
        return iter(as_pil())


class OddOrEven(Own):
    """Classes of its own, around a data set that has names for others."""

    def __init__(self):
        self.dataset = Own(np.asarray)

    classes = ()

    def __getitem__(self, at):
        return self.dataset[at][0], LABELS[at] % 2


def test_the_names_in_a_wrapper_are_not_those_of_what_it_makes_of_them():
    check(load(OddOrEven()), COLOUR, LABELS % 2, ("0", "1"))


def test_classes_that_only_one_part_has(paint, tmp_path):
    for part, names in (("train", "abc"), ("test", "ac"), ("odd", "ad")):
        for name in names:
            paint(f"{part}/{name}/x.png", (50 * "abcd".index(name), 0, 0))
    train, test, odd = (ImageFolder(tmp_path / part) for part in ("train", "test", "odd"))
    parts = load((train, test))
    assert [part.classes for part in parts] == [("a", "b", "c")] * 2
    assert parts[1].labels.tolist() == [0, 2] == (parts[1].x[:, 0, 0, 0] // 50).tolist()
    refused((train, odd), "a label is 'd', and classes are a, b, c")


def test_what_is_black_and_white_can_be_said():
    values = (COLOUR / 255 * 4 - 2).astype(np.float32)
    check(load((values, LABELS), scale=(-2, 2)), COLOUR, LABELS)
    check(load(TensorDataset(torch.from_numpy(values)), scale=(-2, 2), channels="last"), COLOUR, None)
    refused(values, r"from -2 to 2, .* as scale=\(-2, 2\)$")


def test_parts_that_do_not_agree(paint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        paint(f"{'one' if name in 'ab' else 'two'}/{name}/x.png")
    some, floats = FakeData(20, (3, 8, 8)), torch.rand(20, 1, 8, 8)
    refused(ConcatDataset([ImageFolder("one"), ImageFolder("two")]), "a ConcatDataset number other classes")
    refused({"train": some, "train_small": some}, "the mapping has train, train_small: keep one to train")
    refused([some] * 3, "a list of 3 data sets: give one, or a pair")
    train, held_out = load([(GREY, LABELS), (GREY[:5], LABELS[:5])])  # as Keras has them
    assert (len(train), len(held_out)) == (len(GREY), 5)
    refused((TensorDataset(floats), TensorDataset(2 * floats - 1)), r"different ranges \(-1 to 1 and 0 to 1\)")


def test_of_several_labels_the_one_that_is_taken_is_said(caplog):
    class Rows(TensorDataset):
        def __getitem__(self, at):
            return {"img": self.tensors[0][at], "coarse_label": 0, "fine_label": at % 2}

    assert load(Rows(torch.rand(20, 1, 8, 8)))[0].labels.unique().tolist() == [0]
    assert "Rows has several labels (coarse_label, fine_label): coarse_label is taken" in caplog.text


def test_names_that_are_numbers_and_names_by_their_numbers(paint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1", "10", "2"):
        for i in range(4):
            paint(f"numbers/{name}/{i}.png")
    train, held_out = load(Subset(ImageFolder("numbers"), range(4, 12)))
    assert train.classes == ("1", "10", "2") and {*train.labels.tolist(), *held_out.labels.tolist()} == {1, 2}
    data = FakeData(20, (3, 8, 8), num_classes=3)
    for classes, names in (({"c": 2, "a": 0, "b": 1}, ("a", "b", "c")), (None, ("0", "1", "2")), (3, ("0", "1", "2"))):
        data.classes = classes
        assert load(data)[0].classes == names


def test_objects_that_are_refused():
    own = Own(np.asarray)
    for given in (None, 3, Endless(), (own, own, own), object(), (), np.array(3)):
        refused(given, "cannot load a (NoneType|int|Endless|tuple|object|ndarray): give a name, a path, arrays")
    for given in (own, Dataset("a", COLOUR), COLOUR):
        refused(given, "a size is for PIL|leave size, white, scale, channels out", size=8)
    refused(DataLoader(own), "load its .dataset")
    refused({}, "the mapping has nothing: call the arrays that you mean x and y")
    refused([], "has a part without examples")
    refused([(1, 2), (3, 4)] * 5, "example 0 of arrays is .*: make each a picture, or a picture and its label")
    refused([(COLOUR[0], 1, 2)] * 5, "is 3 values: make each a picture")
    refused([(COLOUR[0], 1), (COLOUR[0], None)], "1 of 2 examples of arrays have no label")
    refused((COLOUR, LABELS[:3]), "30 examples and 3 labels")
    assert load(FakeData(20, (3, 8, 8)))[0].shape == (3, 8, 8)
