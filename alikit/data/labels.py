"""Which training examples may have their labels used, and which are kept to choose settings by: always the same."""

from dataclasses import replace

import torch

from .dataset import Dataset

FOR_SETTINGS = 10_000  # examples whose labels choose a setting, at most


def labels_to_spare(train: Dataset) -> tuple[Dataset, Dataset]:
    """The training examples that labelled ones are drawn from, and those of `for_settings`, without overlap."""
    return train.select(_places(train)[0].x), for_settings(train)


def for_settings(train: Dataset) -> Dataset:
    """A random fifth of the training examples, at most 10,000, by which a setting may be chosen. (The paper holds out
    the last 10,000 of SVHN; folders stand in order of classes.)"""
    return train.select(_places(train)[1].x)


def few_labels(train: Dataset, n: int, seed: int) -> Dataset:
    """n labelled examples that recipes with labels and `evaluation.svm` learn from. See `Dataset.labelled`."""
    return train.select(_places(train)[0].labelled(n, seed).x)


def _places(train: Dataset) -> tuple[Dataset, Dataset]:
    # With the place of each example for its x: to draw a few, all pictures need not be copied.
    places = replace(train, x=torch.arange(len(train)), factors={})
    return places.split(max(1, min(FOR_SETTINGS, len(train) // 5)), seed=0)
