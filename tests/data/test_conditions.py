"""What y is told by names, and the paper's grid."""

import pytest
import torch

from alikit.data import Dataset, faces
from alikit.data.conditions import COLUMNS, NAMED, ROWS, columns_of, paper_grid, switched, usual
from alikit.errors import AlikitError

NAMES = ("Bald", "Black_Hair", "Blond_Hair", "Eyeglasses", "Male", "Young")


def y_of(*named: str) -> torch.Tensor:
    return torch.tensor([name in named for name in NAMES], dtype=torch.uint8)


def data(*rows: torch.Tensor) -> Dataset:
    return Dataset("faces", torch.zeros(len(rows), 2), torch.stack(rows), NAMES)


def test_names_are_columns():
    assert columns_of(["Eyeglasses", "-Young"], NAMES) == {3: 1, 5: 0}
    assert columns_of([], NAMES) == {}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Eyeglases"], "no attribute called 'Eyeglases': did you mean Eyeglasses?"),
        (["zzz"], "no attribute called 'zzz': there are Bald, Black_Hair"),
        (["Male", "-Male"], "Male cannot be and not be"),
    ],
)
def test_names_that_mean_nothing_are_refused(names, message):
    with pytest.raises(AlikitError) as error:
        columns_of(names, NAMES)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_names_come_in_a_list_and_y_has_a_number_for_each():
    with pytest.raises(AlikitError, match=r"names come in a list: \['Male'\]"):
        switched(y_of(), "Male", NAMES)
    with pytest.raises(AlikitError, match="y has 3 numbers, and there are 6 attributes"):
        switched(y_of()[:3], ["Male"], NAMES)


def test_a_switch_changes_what_it_names():
    before = torch.stack([y_of("Male"), y_of("Eyeglasses")])
    after = switched(before, ["Eyeglasses", "-Male"], NAMES)
    assert torch.equal(after, y_of("Eyeglasses").expand(2, -1)) and after.dtype == before.dtype
    assert torch.equal(before[0], y_of("Male"))


def test_a_hair_colour_takes_the_others_back_and_only_them():
    assert torch.equal(switched(y_of("Black_Hair", "Male"), ["Blond_Hair"], NAMES), y_of("Blond_Hair", "Male"))
    assert torch.equal(switched(y_of("Black_Hair"), ["-Blond_Hair", "Bald"], NAMES), y_of("Black_Hair", "Bald"))
    both = switched(y_of(), ["Black_Hair", "Blond_Hair"], NAMES)  # if that is what is asked for
    assert torch.equal(both, y_of("Black_Hair", "Blond_Hair"))


def test_what_is_not_named_is_as_with_most_that_share_what_is():
    faces = data(y_of("Male", "Black_Hair"), y_of("Male", "Black_Hair"), y_of("Male"), *[y_of("Young")] * 9)
    assert torch.equal(usual(faces, ["Male"]), y_of("Male", "Black_Hair"))
    assert torch.equal(usual(faces, ["-Male"]), y_of("Young"))
    assert torch.equal(usual(faces, []), y_of("Young"))
    assert torch.equal(usual(faces, ["Male", "Blond_Hair"]), y_of("Male", "Blond_Hair", "Young"))  # there is none


def test_of_classes_one_is_named():
    digits = Dataset("digits", torch.zeros(3, 2), torch.tensor([0, 2, 2]), ("a", "b", "c"))
    assert usual(digits, ["b"]).tolist() == [0, 1, 0]
    for names in ([], ["a", "b"], ["-a"]):
        with pytest.raises(AlikitError, match="one class: name one of a, b, c"):
            usual(digits, names)


def test_the_papers_grid():
    drawn = faces(2000)
    grid, place = paper_grid(drawn), drawn.classes.index
    assert grid.shape == (4, 12, 14) and grid.dtype == torch.uint8
    assert (grid[:, :, place("Male")] == torch.tensor([1, 1, 0, 0])[:, None]).all()
    assert (grid[:, :, place("Young")] == torch.tensor([1, 0, 1, 0])[:, None]).all()
    assert (grid[:, :, place("Attractive")] == 1).all()
    for column, names in enumerate(COLUMNS.values()):
        for name in names:
            assert (grid[:, column, place(name)] == 1).all()
    hair = grid[:, 1:, [place(name) for name in ("Black_Hair", "Blond_Hair", "Brown_Hair")]]
    assert (hair.sum(2) == 1).all()
    unnamed = [a for a, name in enumerate(drawn.classes) if name not in NAMED]
    assert not unnamed  # drawn faces have all that the grid names, and nothing else
    assert len(ROWS) * len(COLUMNS) == 48


def test_a_grid_without_its_attributes_is_refused():
    with pytest.raises(AlikitError, match=r"the paper's grid asks for Attractive, Brown_Hair, .* which faces has not"):
        paper_grid(data(y_of("Male")))
