"""Which examples have their classes told: as many of each class, by chance, and none that settings are chosen by."""

import re

import pytest
import torch

from alikit.data import Dataset
from alikit.data.labels import few_labels, labels_to_spare
from alikit.errors import AlikitError


def folder(n: int = 600, classes: str = "abcd") -> Dataset:
    """Examples in order of their classes, as a folder is read; x is an example's number."""
    labels = torch.arange(n) * len(classes) // n
    return Dataset("pets", torch.arange(n)[:, None].float(), labels, tuple(classes), {"tenth": torch.arange(n) / 10})


def numbers(data: Dataset) -> list[int]:
    return data.x[:, 0].long().tolist()


def test_as_many_of_each_class():
    data = folder()
    few = few_labels(data, 20, seed=0)
    assert few.labels.bincount().tolist() == [5, 5, 5, 5] and len(set(numbers(few))) == 20
    assert torch.equal(few.labels, data.labels[numbers(few)])
    assert torch.equal(few.factors["tenth"], data.factors["tenth"][numbers(few)])
    assert (few.name, few.classes) == (data.name, data.classes)


def test_the_seed_decides_which():
    data, state = folder(), torch.get_rng_state()
    first = numbers(few_labels(data, 20, seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert numbers(few_labels(data, 20, seed=3)) == first
    assert len({tuple(numbers(few_labels(data, 20, seed))) for seed in range(10)}) == 10


def test_every_example_has_its_chance():
    """A class has about 40, and 10 of them are drawn."""
    data = folder(100, "ab")
    drawn = {number for seed in range(60) for number in numbers(few_labels(data, 20, seed))}
    assert drawn == set(numbers(labels_to_spare(data)[0]))


def test_labelled_examples_choose_no_setting():
    data = folder()
    rest, validation = labels_to_spare(data)
    assert sorted(numbers(rest) + numbers(validation)) == list(range(600))
    for seed in range(20):
        assert not set(numbers(few_labels(data, 100, seed))) & set(numbers(validation))


def test_settings_are_always_chosen_by_the_same_examples():
    torch.manual_seed(0)
    first = labels_to_spare(folder())
    torch.manual_seed(1)
    again = labels_to_spare(folder())
    assert all(numbers(one) == numbers(other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("examples", "kept"), [(2, 1), (4, 1), (100, 20), (104, 20), (49_999, 9_999), (50_000, 10_000), (80_000, 10_000)]
)
def test_a_fifth_is_kept_to_choose_settings_by_or_ten_thousand(examples, kept):
    rest, validation = labels_to_spare(folder(examples))
    assert (len(rest), len(validation)) == (examples - kept, kept)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_classes_does_not_matter(backwards):
    """Both parts have examples of every class, though the last fifth of the folder is all of one."""
    data = folder()
    rest, validation = labels_to_spare(data.select(torch.arange(599, -1, -1)) if backwards else data)
    for part, of_each in ((rest, 120), (validation, 30)):
        assert part.labels.bincount().tolist() == pytest.approx([of_each] * 4, abs=15)


def test_classes_without_names():
    data = folder()
    few = Dataset("pets", data.x, data.labels).labelled(8, seed=1)
    assert few.labels.bincount().tolist() == [2, 2, 2, 2] and few.classes == ()


def test_all_labels_there_are():
    data = folder(40)
    assert sorted(numbers(data.labelled(40))) == list(range(40))


def lacking(name: str, left: int) -> Dataset:
    """All of the other classes, and so many of this one."""
    data = folder()
    label = data.classes.index(name)
    own = (data.labels == label).nonzero().flatten()
    return data.select(torch.cat([(data.labels != label).nonzero().flatten(), own[:left]]))


@pytest.mark.parametrize(
    ("data", "n", "says"),
    [
        (Dataset("points", torch.randn(50, 2)), 10, "points has no labels: name data whose examples have a class"),
        (
            Dataset("faces", torch.randn(50, 2), torch.ones(50, 4, dtype=torch.uint8), tuple("abcd")),
            8,
            "faces has attributes, and no classes: name data whose examples have one class each",
        ),
        (folder(), 484, "484 labels are wanted, 121 of each class, and pets has [0-9]+ to spare .*at most [0-9]+"),
        (folder(), 100_000, "100,000 labels are wanted, 25,000 of each class, and pets has .*"),
        (folder(classes="a"), 5, "pets has one class, so there is nothing to tell apart: .*more"),
        (folder(), 13, "13 labels cannot be shared out evenly over 4 classes: ask for a multiple of 4"),
        (folder(), 2, "2 labels cannot be shared out evenly over 4 classes: ask for a multiple of 4"),
        (folder(), 0, "0 labels cannot be shared out evenly over 4 classes: ask for a multiple of 4"),
        (folder(), -4, "-4 labels cannot be shared out evenly over 4 classes: ask for a multiple of 4"),
        (lacking("d", 0), 12, ".*and pets has 0 to spare of class d: leave that class out of the data"),
        (lacking("b", 2), 12, ".*and pets has [12] to spare of class b: ask for at most [48]"),
    ],
)
def test_labels_that_cannot_be_had(data, n, says):
    with pytest.raises(AlikitError) as error:
        few_labels(data, n, seed=0)
    assert re.fullmatch(says, str(error.value)), error.value
