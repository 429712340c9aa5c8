"""y by the names of attributes, and the paper's grid."""

import re

import pytest
import torch

from alikit.data import Dataset, faces
from alikit.data.conditions import COLUMNS, NAMED, columns_of, paper_grid, switched, usual
from alikit.errors import AlikitError

NAMES = ("Bald", "Black_Hair", "Blond_Hair", "Eyeglasses", "Male", "Young")


def y_of(*named: str) -> torch.Tensor:
    return torch.tensor([name in named for name in NAMES], dtype=torch.uint8)


def data(*rows: torch.Tensor) -> Dataset:
    return Dataset("faces", torch.zeros(len(rows), 2), torch.stack(rows), NAMES)


DIGITS = Dataset("digits", torch.zeros(3, 2), torch.tensor([0, 2, 2]), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: columns_of(["Eyeglases"], NAMES), "no attribute called 'Eyeglases': did you mean Eyeglasses?"),
        (lambda: columns_of(["zzz"], NAMES), "no attribute called 'zzz': there are Bald, Black_Hair"),
        (lambda: columns_of(["Male", "-Male"], NAMES), "Male cannot be and not be"),
        (lambda: switched(y_of(), "Male", NAMES), "names come in a list: ['Male']"),
        (lambda: switched(y_of()[:3], ["Male"], NAMES), "y has 3 numbers, and there are 6 attributes"),
        (lambda: usual(DIGITS, ["a", "b"]), "one class: name one of a, b, c"),
        (lambda: usual(DIGITS, ["-a"]), "one class: name one of a, b, c"),
        (lambda: paper_grid(data(y_of("Male"))), "the paper's grid asks for Attractive, Brown_Hair, "),
    ],
)
def test_names_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(AlikitError, match=re.escape(message)):
        wrong()


def test_a_switch_changes_what_it_names_and_no_y_but_its_own():
    assert columns_of(["Eyeglasses", "-Young"], NAMES) == {3: 1, 5: 0}
    before = torch.stack([y_of("Male"), y_of("Eyeglasses")])
    after = switched(before, ["Eyeglasses", "-Male"], NAMES)
    assert torch.equal(after, y_of("Eyeglasses").expand(2, -1)) and after.dtype == before.dtype
    assert torch.equal(before[0], y_of("Male"))
    # A hair colour takes the others back, and only them; unless both are asked for.
    assert torch.equal(switched(y_of("Black_Hair", "Male"), ["Blond_Hair"], NAMES), y_of("Blond_Hair", "Male"))
    assert torch.equal(switched(y_of("Black_Hair"), ["-Blond_Hair", "Bald"], NAMES), y_of("Black_Hair", "Bald"))
    assert torch.equal(switched(y_of(), ["Black_Hair", "Blond_Hair"], NAMES), y_of("Black_Hair", "Blond_Hair"))


def test_what_is_not_named_is_as_with_most_that_share_what_is():
    faces = data(y_of("Male", "Black_Hair"), y_of("Male", "Black_Hair"), y_of("Male"), *[y_of("Young")] * 9)
    assert torch.equal(usual(faces, ["Male"]), y_of("Male", "Black_Hair"))
    assert torch.equal(usual(faces, ["-Male"]), y_of("Young"))
    assert torch.equal(usual(faces, []), y_of("Young"))
    assert torch.equal(usual(faces, ["Male", "Blond_Hair"]), y_of("Male", "Blond_Hair", "Young"))  # there is none
    assert usual(DIGITS, ["b"]).tolist() == [0, 1, 0]


def test_the_papers_grid():
    drawn = faces(1000)
    grid, place = paper_grid(drawn), drawn.classes.index
    assert grid.shape == (4, 12, 14) and grid.dtype == torch.uint8
    for name, rows in (("Male", [1, 1, 0, 0]), ("Young", [1, 0, 1, 0]), ("Attractive", [1, 1, 1, 1])):
        assert (grid[:, :, place(name)] == torch.tensor(rows)[:, None]).all()
    for column, names in enumerate(COLUMNS.values()):
        assert (grid[:, column, [place(name) for name in names]] == 1).all()
    hair = grid[:, 1:, [place(name) for name in ("Black_Hair", "Blond_Hair", "Brown_Hair")]]
    assert (hair.sum(2) == 1).all() and {*drawn.classes} == {*NAMED}
