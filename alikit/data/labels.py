"""Which training examples may be used with their labels, and which are kept to choose settings: always the same."""

import torch

from .dataset import Dataset

FOR_SETTINGS = 10_000  # examples whose labels choose a setting, at most


def labels_to_spare(train: Dataset) -> tuple[Dataset, Dataset]:
    """The training examples that labelled ones are drawn from, and those of `for_settings`, without overlap."""
    return tuple(train.select(part.x) for part in _places(train))


def for_settings(train: Dataset) -> Dataset:
    """A random fifth of the training examples, at most 10,000, to choose settings on. (The paper takes the last 10,000
    of SVHN, but a folder is in the order of its classes.)"""
    return train.select(_places(train)[1].x)


def few_labels(train: Dataset, n: int, seed: int) -> Dataset:
    """n labelled examples that recipes with labels and `evaluation.svm` learn from. See `Dataset.labelled`."""
    return train.select(_places(train)[0].labelled(n, seed).x)


def _places(train: Dataset) -> tuple[Dataset, Dataset]:
    # x is the place of each example: to draw a few, not all pictures need to be copied.
    places = train.but(x=torch.arange(len(train)), factors={})
    return places.split(max(1, min(FOR_SETTINGS, len(train) // 5)), seed=0)
