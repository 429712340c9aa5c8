"""Conditions y by the names of attributes, and the rows and columns of the paper's grid."""

import difflib
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AlikitError
from .dataset import Dataset

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # a face has one of them at most

# The paper's grid, section 5: three attributes of each row, and what each column adds to them. All rows are attractive.
ROWS: dict[str, tuple[str, ...]] = {
    "male, young": ("Male", "Attractive", "Young"),
    "male, older": ("Male", "Attractive", "-Young"),
    "female, young": ("-Male", "Attractive", "Young"),
    "female, older": ("-Male", "Attractive", "-Young"),
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "unchanged": (),
    "black hair": ("Black_Hair",),
    "brown hair": ("Brown_Hair",),
    "blond hair": ("Blond_Hair",),
    "black, wavy": ("Black_Hair", "Wavy_Hair"),
    "blond, bangs": ("Blond_Hair", "Bangs"),
    "blond, receding": ("Blond_Hair", "Receding_Hairline"),
    "blond, balding": ("Blond_Hair", "Bald"),
    "black, smiling": ("Black_Hair", "Smiling"),
    "smiling, mouth open": ("Black_Hair", "Smiling", "Mouth_Slightly_Open"),
    "smiling, eyeglasses": ("Black_Hair", "Smiling", "Mouth_Slightly_Open", "Eyeglasses"),
    "smiling, hat": ("Black_Hair", "Smiling", "Mouth_Slightly_Open", "Wearing_Hat"),
}
NAMED = tuple(dict.fromkeys(name.lstrip("-") for names in (*ROWS.values(), *COLUMNS.values()) for name in names))


def names_in(text: str, classes: tuple[str, ...]) -> list[str]:
    """The names in a text like Eyeglasses,-Young, in which a known name may have commas itself: the longest that fits
    is taken."""
    pieces, found = text.split(","), []
    while pieces:
        for count in range(len(pieces), 0, -1):
            name = ",".join(pieces[:count]).strip()
            if count == 1 or {name, name.removeprefix("-")} & {*classes}:
                break
        found += [name] if name else []
        pieces = pieces[count:]
    return found


def columns_of(names: Iterable[str], classes: tuple[str, ...]) -> dict[int, int]:
    """For names like Eyeglasses or -Young (not young) the column in y of each, and its value, 1 or 0. AlikitError for
    an unknown name, or one that is named both ways."""
    if isinstance(names, str):
        raise AlikitError(f"names come in a list: [{names!r}]")
    found: dict[int, int] = {}
    for signed in names:
        is_on = signed in classes or not signed.startswith("-")  # a class may be called "-1"
        name, value = signed if is_on else signed[1:], int(is_on)
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(classes)}"
            raise AlikitError(f"no attribute called {name!r}: {hint}")
        if found.setdefault(classes.index(name), value) != value:
            raise AlikitError(f"{name} cannot be and not be: name it once")
    return found


def switched(y: Tensor, names: Iterable[str], classes: tuple[str, ...]) -> Tensor:
    """A copy of y (..., A) with the named attributes switched on or off; a hair colour switches the others off."""
    if y.shape[-1:] != (len(classes),):
        raise AlikitError(f"y has {' x '.join(map(str, y.shape))} numbers, and there are {len(classes)} attributes")
    y, values = y.clone(), columns_of(names, classes)
    if any(value and classes[column] in HAIR_COLOURS for column, value in values.items()):
        y[..., [column for column, name in enumerate(classes) if name in HAIR_COLOURS]] = 0
    for column, value in values.items():
        y[..., column] = value
    return y


def usual(data: Dataset, names: Iterable[str]) -> Tensor:
    """y (A,) uint8 with the named attributes; the others are as in most examples that have the named ones, or in most
    examples if none has. For data with classes, y (K,) of the one class that is named."""
    names, y = tuple(names), data.conditions()
    values = columns_of(names, data.classes)
    if data.labels.ndim == 1:
        if list(values.values()) != [1]:
            raise AlikitError(f"an example has one class: name one of {', '.join(data.classes)}")
        return F.one_hot(torch.tensor([*values]), y.shape[1])[0].to(torch.uint8)
    alike = (y[:, [*values]] == torch.tensor([*values.values()], dtype=torch.uint8)).all(1)
    most = (y[alike] if alike.any() else y).float().mean(0) > 0.5
    return switched(most.to(torch.uint8), names, data.classes)


def paper_grid(data: Dataset) -> Tensor:
    """y (4, 12, A) uint8 of the paper's grid: the row's `usual` example, with what the column adds to it. AlikitError
    where the data lacks one of its attributes."""
    if missing := ", ".join(name for name in NAMED if name not in data.classes):
        raise AlikitError(f"the paper's grid asks for {missing}, which {data.name} lacks: name attributes that it has")
    rows = [usual(data, names) for names in ROWS.values()]
    return torch.stack([torch.stack([switched(y, names, data.classes) for names in COLUMNS.values()]) for y in rows])
