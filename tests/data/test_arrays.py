"""Arrays and labels handed over in Python: usual forms give the same data, and what could be two things is refused."""

import numpy as np
import pytest
import torch
from on_disk import noise
from PIL import Image

from alikit.data import Dataset
from alikit.data.sources import digits
from alikit.errors import AlikitError

GREY, COLOUR = noise(0, 40, 6, 8), noise(1, 40, 3, 6, 8)
GREY[0, 0, :2] = 0, 255
DEEP = GREY.astype(np.uint16) * 257

PICTURES = {
    "uint8": GREY,
    "with a channel": GREY[:, None],
    "channel last": GREY[..., None],
    "torch": torch.from_numpy(GREY),
    "int16": GREY.astype(np.int16),
    "int64": torch.from_numpy(GREY).long(),
    "big-endian": GREY.astype(">i4"),
    "16 bits": DEEP,
    "16 bits of torch": torch.from_numpy(DEEP),
    "floats to 255": GREY.astype(np.float32),
    "floats to 1": GREY / 255,
    "half": (GREY / 255).astype(np.float16),
    "bfloat16": torch.from_numpy(GREY.astype(np.float32)).bfloat16(),
    "longer floats": GREY.astype(np.longdouble) / 255,
    "floats from -1": torch.from_numpy(GREY / 127.5 - 1),
    "not contiguous": np.asfortranarray(GREY),
    "read-only": np.frombuffer(GREY.tobytes(), np.uint8).reshape(GREY.shape),
    "a list of arrays": [*GREY],
    "a list of tensors": [*torch.from_numpy(GREY)],
    "lists": GREY.tolist(),
    "Pillow's": [Image.fromarray(picture) for picture in GREY],
}


@pytest.mark.parametrize("form", PICTURES)
def test_every_form_of_the_same_pictures_is_the_same(form):
    data = Dataset("mine", PICTURES[form])
    off = (data.x.int() - torch.from_numpy(GREY)[:, None].int()).abs()
    assert data.x.dtype == torch.uint8 and off.max() <= (1 if form in ("half", "bfloat16") else 0)
    assert data.floats().max() == 1 and data.shape == (1, 6, 8)


def test_colours_last_or_first_and_points_and_names_of_one_picture():
    last = np.moveaxis(COLOUR, 1, 3)
    palette = [Image.fromarray(picture).quantize(8) for picture in last]
    assert all(torch.equal(Dataset("c", x).x, torch.from_numpy(COLOUR)) for x in (COLOUR, last, [*last], last / 255))
    clear = Image.fromarray(np.zeros((6, 8, 4), np.uint8))
    assert Dataset("c", [clear]).x.min() == 255  # what is transparent lies on white
    assert Dataset("c", [*palette, Image.fromarray(GREY[0])]).shape == (3, 6, 8)  # not the numbers of a palette
    square = noise(2, 5, 3, 4, 3)
    assert Dataset("c", square, channels="first").shape == (3, 4, 3)
    assert torch.equal(Dataset("c", square, channels="last").x, torch.from_numpy(square).movedim(3, 1))
    for points in (np.eye(9), torch.eye(9).half(), np.eye(9, dtype=int)[:, :5], [[0.5, 2.0]] * 3):
        assert Dataset("points", points).x.dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "scale", "expected"),
    [
        (torch.tensor([0, 8, 16]), (0, 16), [0, 128, 255]),
        (torch.tensor([0.0, 8, 16]), (0, 16), [0, 128, 255]),
        (torch.tensor([0, 1, 1], dtype=torch.uint8), (0, 1), [0, 255, 255]),
        (torch.tensor([False, True, True]), None, [0, 255, 255]),
        (torch.tensor([0, 100, 4095]), None, [0, 6, 255]),
        (torch.tensor([0, 100, 3000]), (0, 4095), [0, 6, 187]),
        (torch.tensor([-2.0, 0, 2]), (-2, 2), [0, 128, 255]),
        (torch.tensor([0, 100, 200], dtype=torch.uint8), None, [0, 100, 200]),
        (torch.tensor([0.0, 100.5, 200]), None, [0, 100, 200]),
        (torch.tensor([0, 0.5, 1.0005]), None, [0, 128, 255]),
    ],
)
def test_ranges_that_are_said_or_can_be_told(x, scale, expected):
    assert Dataset("mine", x.view(1, 1, 3, 1), channels="first", scale=scale).x.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (GREY // 16, {}, "the values of x go from 0 to 15, which is no range in common use: say .* scale=\\(0, 15\\)"),
        (GREY / 16, {}, "the values of x go from 0 to 15.9375, .* scale=\\(0, 15.9375\\)"),
        ((GREY > 99).astype(np.uint8), {}, "go from 0 to 1, .*scale=\\(0, 1\\)"),
        (GREY.astype(np.uint16) * 9, {}, "go from 0 to 2295, "),
        (GREY.astype(np.uint16)[:, :, 2:].clip(0, 200), {}, "go from 0 to 200, "),  # of 8, 10, 12 ... bits
        (GREY / 255**2, {}, "go from 0 to 0.00392157, "),
        ((GREY / 255 - 0.45) / 0.22, {}, "go from -2.04545 to 2.5, "),
        (GREY / 255 - 0.5, {}, "go from -0.5 to 0.5, .*scale=\\(-0.5, 0.5\\)"),
        (GREY / 255 - 0.4, {}, "go from -0.4 to 0.6, "),  # less its mean, and not from -1 to 1
        (GREY, {"scale": 1}, "scale is 1: give two numbers"),
        (np.ma.masked_equal(GREY, 0), {}, "x is masked in part: leave such examples out"),
        (GREY, {"scale": (0, 100)}, "go from 0 to 255, and scale is 0 to 100"),
        (np.where(GREY[3, 2, 1] == GREY, np.nan, GREY / 255), {}, "x\\[[0-9, ]+\\] is nan, one of [0-9]+: leave such"),
        (np.where(np.arange(40)[:, None] == 7, np.inf, np.zeros((40, 2))), {}, "x\\[7, 0\\] is inf, one of 2"),
        (noise(2, 5, 3, 4, 3), {}, "x is 5 x 3 x 4 x 3, which may be read in two ways: say channels='first' or"),
        (GREY[:, None], {"channels": "last"}, "x is 40 x 1 x 6 x 8: pictures have 1 or 3 channels"),
        (GREY[:, None], {"channels": "C"}, "channels is 'C': say 'first' or 'last'"),
        (noise(0, 5, 4, 6, 6), {}, "x is 5 x 4 x 6 x 6: pictures have 1 or 3 channels"),
        (COLOUR[0], {}, "x is 3 x 6 x 8: .*one picture is x\\[None\\]"),
        (np.moveaxis(COLOUR[0], 0, 2), {}, "x is 6 x 8 x 3: .*one picture is x\\[None\\]"),
        (noise(0, 2, 3, 4, 5, 6), {}, "x is 2 x 3 x 4 x 5 x 6: pictures are"),
        (np.arange(4), {}, "x is 4: pictures are N x H x W, "),
        (np.zeros((0, 8, 8)), {}, "x is 0 x 8 x 8: it needs at least one example"),
        (GREY.reshape(-1, 16 * 4)[:, :64], {}, "so it may be pictures or points: pass x.reshape"),
        ([GREY[0], GREY[1, :3]], {}, "x has examples of 3 x 8 and of 6 x 8: give all of them one size"),
        (np.array(["a", "b"]), {}, "x holds text and no numbers"),
        (np.array([{}, None]), {}, "x holds object and no numbers"),
        (GREY * 1j, {}, "x holds complex128 and no numbers"),
        ("pictures/", {}, "x holds text and no numbers"),
        (None, {}, "x holds object and no numbers"),
        (torch.utils.data.TensorDataset(torch.eye(3)), {}, "x is a data set of PyTorch: alikit.load takes those"),
    ],
)
def test_what_may_be_two_things_or_none_is_refused(x, options, message):
    with pytest.raises(AlikitError, match=message) as refused:
        Dataset("mine", x, **options)
    assert "\n" not in str(refused.value)


LABELS = np.arange(40) % 3
NAMES = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        (LABELS, NAMES, NAMES),
        (LABELS.tolist(), [*NAMES], NAMES),
        (torch.from_numpy(LABELS).int(), NAMES, NAMES),
        (LABELS.astype(np.uint8)[:, None], NAMES, NAMES),  # as MedMNIST has them
        (LABELS.astype(np.float32), NAMES, NAMES),
        (np.eye(3)[LABELS], NAMES, NAMES),
        (torch.eye(3, dtype=torch.uint8)[LABELS], NAMES, NAMES),
        (2 * np.eye(3)[LABELS] - 1, NAMES, NAMES),
        (np.eye(3)[LABELS], (), ("0", "1", "2")),
        (LABELS + 1, NAMES, NAMES),
        (LABELS + 1, (), ("1", "2", "3")),
        (LABELS + 7, (), ("7", "8", "9")),
        (LABELS + 7, ("7", "8", "9"), ("7", "8", "9")),
        ([NAMES[label] for label in LABELS], (), NAMES),
        (np.array([NAMES[label] for label in LABELS], dtype=object), NAMES, NAMES),
        ([str(label + 9) for label in LABELS], (), ("9", "10", "11")),
        (LABELS, (), ()),
    ],
)
def test_every_form_of_the_same_labels_is_the_same(labels, classes, names):
    data = Dataset("mine", GREY, labels, classes)
    assert data.labels.dtype == torch.int64 and data.labels.tolist() == LABELS.tolist() and data.classes == names
    assert data.labelled(6).labels.bincount().tolist() == [2, 2, 2]


@pytest.mark.parametrize("form", [np.uint8, np.int64, np.float64, bool])
def test_attributes_in_any_numbers(form):
    marks = np.stack([LABELS > 0, LABELS > 1], 1)
    signed = [] if form in (np.uint8, bool) else [2 * marks.astype(form) - 1]
    for labels in (marks.astype(form), *signed):
        data = Dataset("mine", GREY, labels, ("pet", "owl"))
        assert data.labels.dtype == torch.uint8 and np.array_equal(data.labels, marks)
    few = Dataset("mine", GREY[:2], np.eye(2), ("pet", "owl"))  # of so few each may have one by chance
    assert few.labels.shape == (2, 2)
    assert Dataset("mine", GREY, marks[:, :1], ("pet",)).labels.shape == (40, 1)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (LABELS[:30], NAMES, "labels are 30, and there are 40 examples: give each its own"),
        (LABELS.reshape(2, 20), NAMES, "labels are 2 x 20, and there are 40 examples"),
        (LABELS - 1, NAMES, "14 of 40 labels are below 0: leave examples without a class out"),
        (LABELS * 5, NAMES, "labels go from 0 to 10, and classes are cat, dog, owl: give labels from 0"),
        (np.arange(40) % 10 + 1, "0123456789", "labels go from 1 to 10, and classes are 0, 1, .*from 0 in the order"),
        (1 + np.arange(40) % 2, ("1", "2", "3"), "labels go from 1 to 2, and classes are 1, 2, 3: give labels from 0"),
        (LABELS / 2, NAMES, "a label is 0.5: classes are whole numbers or names"),
        (np.where(LABELS == 1, np.nan, LABELS), NAMES, "a label is nan: "),
        ([*["cat"] * 39, "bat"], NAMES, "a label is 'bat', and classes are cat, dog, owl: name it among them"),
        (LABELS, ("cat", "cat", "owl"), "two classes have the same name"),
        (np.stack([LABELS, LABELS], 1), NAMES[:2], "attributes are 0, 1, 2: make all 0 and 1, or all -1 and 1"),
        (np.ones((40, 2)), NAMES, "labels have 2 columns, and there are 3 names: name each column"),
        (np.array([["a", "b"]] * 40), NAMES, "labels are rows of text: give one name for each example"),
        ([None] * 40, (), "labels holds object and no numbers"),
        ([[0], [0, 1]] * 20, (), "labels have several lengths: give each example one"),
        ([*["cat"] * 39, ""], (), "a label is empty: leave such examples out"),
        (LABELS * 10**9, (), "labels go from 0 to 2000000000, so they are no classes"),
    ],
)
def test_labels_that_are_neither_classes_nor_attributes_are_refused(labels, classes, message):
    with pytest.raises(AlikitError, match=message):
        Dataset("mine", GREY, labels, classes)


def test_an_accented_letter_is_one_however_it_is_written():
    assert Dataset("mine", GREY, ["\u00e9", "e\u0301"] * 20).classes == ("\u00e9",)


def test_factors_have_a_row_for_each_example_and_parts_are_not_asked_again():
    assert Dataset("mine", GREY, factors={"size": np.arange(40)}).select(torch.tensor([3])).factors["size"].item() == 3
    with pytest.raises(AlikitError, match="factor size is not of 40 examples"):
        Dataset("mine", GREY, factors={"size": [1, 2]})
    dark = Dataset("mine", np.arange(12).reshape(12, 1, 1, 1), np.arange(12) % 2, scale=(0, 255))
    assert dark.select(slice(3)).x.flatten().tolist() == [0, 1, 2] and len(dark.split(4)[1]) == 4
    assert torch.equal(Dataset("again", digits().x).x, digits().x)
