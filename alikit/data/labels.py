"""Which training examples may have their classes told, and which are kept to choose settings by."""

from dataclasses import replace

import torch

from .dataset import Dataset

FOR_SETTINGS = 10_000  # examples whose labels choose a setting, at most


def labels_to_spare(train: Dataset) -> tuple[Dataset, Dataset]:
    """The training examples that labelled ones are drawn from, and a fifth of them all, at most 10,000, by which a
    setting may be chosen (the paper holds out the last 10,000 of SVHN; folders stand in order of classes, so here they
    are chosen by chance). Always the same."""
    return train.select(_places(train)[0].x), for_settings(train)


def for_settings(train: Dataset) -> Dataset:
    """The latter of `labels_to_spare` alone."""
    return train.select(_places(train)[1].x)


def few_labels(train: Dataset, n: int, seed: int) -> Dataset:
    """The labelled examples of one draw: what recipes with labels and `evaluation.svm` learn from. See
    `Dataset.labelled`."""
    return train.select(_places(train)[0].labelled(n, seed).x)


def _places(train: Dataset) -> tuple[Dataset, Dataset]:
    """`labels_to_spare` with the place of each example for its x: to draw a few, all pictures need not be copied."""
    places = replace(train, x=torch.arange(len(train)), factors={})
    return places.split(max(1, min(FOR_SETTINGS, len(train) // 5)), seed=0)
