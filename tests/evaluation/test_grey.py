"""Grey pictures, of a side that no recipe has by default, through everything that is measured, recorded and shown."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from alikit.data import Dataset, drawn_digits
from alikit.evaluation import METRICS, measured, train_classifier
from alikit.recipes import RECIPES
from alikit.runs.pictures import sheets, switch_sheets
from alikit.runs.records import described

CLASSES = ("even", "odd")
ATTRIBUTES = ("odd", "slanted", "bold")


def parts(side: int, of_attributes: bool) -> tuple[Dataset, Dataset]:
    """Drawn digits with their parity as class, or with attributes."""
    found = []
    for n, seed in ((120, 0), (40, 1)):
        data = drawn_digits(n, seed)
        known = data.factors
        columns = [data.labels % 2, known["slant"] > 0.1, known["stroke"] > 0.5]
        labels = torch.stack([column.to(torch.uint8) for column in columns], 1) if of_attributes else data.labels % 2
        x = torch.nn.functional.pad(data.x, [(side - 28) // 2] * 4)
        found.append(Dataset("grey", x, labels, ATTRIBUTES if of_attributes else CLASSES, known))
    return tuple(found)


@pytest.mark.parametrize(
    ("name", "side", "of_attributes", "left_out"),
    [
        ("house-numbers", 28, False, {"classification", "attributes", "classes"}),
        ("faces-conditional", 28, True, {"classification", "classes", "svm"}),
        ("faces-conditional", 32, False, {"classification", "attributes", "svm", "probe"}),
        ("digits-semi", 32, False, {"attributes", "classes", "svm", "probe"}),
    ],
)
def test_all_that_applies_is_measured_and_drawn(monkeypatch, name, side, of_attributes, left_out):
    module = sys.modules["alikit.evaluation.attributes"]
    monkeypatch.setattr(module, "train_classifier", partial(train_classifier, steps=2))
    monkeypatch.setattr(sys.modules["alikit.evaluation.svm"], "COSTS", np.array([0.1]))
    monkeypatch.setattr(sys.modules["alikit.evaluation.svm"].compared, "__defaults__", (2,))
    monkeypatch.setattr("alikit.evaluation.samples.PER_FEATURE", 0)
    train, held_out = parts(side, of_attributes)
    recipe = replace(RECIPES[name], batch_size=8)
    recipe = replace(recipe, labels=8, labelled_batch=4) if recipe.has_labels else recipe
    attributes = train.conditions().shape[1] if recipe.is_conditional else None
    model = recipe.build(train.shape, train.mean(), classes=2 if recipe.has_labels else None, attributes=attributes)
    trainer = recipe.trainer(model, train)
    trainer.run(2)
    found = measured(trainer.result, train, held_out, tuple({*METRICS} - left_out), labels=8)
    assert {name.partition("_")[0] for name in found} == {*METRICS} - left_out
    assert all(value is not None for metric, value in found.items() if not metric.startswith("codes_kl"))  # of few
    assert 0 < found["fidelity_frechet_floor"] < found["fidelity_frechet"]
    kept = described(trainer.result, train, held_out)
    drawn = sheets(trainer.result, held_out)
    if recipe.is_conditional:
        drawn |= switch_sheets(trainer.result, held_out, None)
    assert kept.metrics["factor_r2"].keys() >= {"position, right", "slant"}
    assert all(picture.mode == "RGB" and picture.width > side for picture in drawn.values())
