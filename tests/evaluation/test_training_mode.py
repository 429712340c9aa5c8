"""No number and no picture is made by a network in training mode, where dropout draws and batch norm learns."""

import copy

import numpy as np
import pytest
import torch
from games import differ
from torch import nn

from alikit import evaluation as e
from alikit.data import Dataset
from alikit.evaluation.factors import FactorClassifier, read, scales
from alikit.evaluation.svm import random_features
from alikit.latent import LatentSpace
from alikit.recipes import RECIPES
from alikit.runs.pictures import sheets
from alikit.runs.records import described

K, N = 2, 40
DRAW = torch.Generator().manual_seed(0)
PICTURES = Dataset(
    "pictures",
    torch.randint(256, (N, 1, 8, 8), dtype=torch.uint8, generator=DRAW),
    torch.arange(N) % K,
    ("even", "odd"),
    {"slant": torch.randn(N, 1, generator=DRAW)},
)
TRAIN, HELD_OUT = PICTURES.select(slice(20)), PICTURES.select(slice(20, N))
X, ONE_HOT = PICTURES.floats(), PICTURES.conditions()
GAMES = {
    "gan": RECIPES["digits-gan"],
    "ali": RECIPES["digits"],
    "k+1": RECIPES["digits-semi"],
    "conditional": RECIPES["digits-conditional"],
}


def unsettled(network: nn.Module) -> nn.Module:
    """With dropout after every activation, in training mode but for one layer of batch norm."""
    for module in [*network.modules()]:
        for name, layer in module.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(module, name, nn.Sequential(layer, nn.Dropout(0.5)))
    network.train()
    next((layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)), network).eval()
    return network


def looking(outputs: int) -> nn.Module:
    return unsettled(
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, outputs))
    )


def own_metric(model, train, held_out):
    """That calls a network itself."""
    with torch.no_grad():
        return {"mean": model.discriminator(X, *([model.encoder(X)] if model.encoder else [])).mean()}


def numbers_of(model, classifier, network, reader, monkeypatch) -> dict:
    """All that can be asked of such a model, as functions."""
    monkeypatch.setitem(e.OWN_METRICS, "own", own_metric)
    y, few, ends = [{}] * 3
    if model.attributes:
        y, few, ends = {"y": ONE_HOT}, {"y": ONE_HOT[:5]}, {"y_from": ONE_HOT[:5], "y_to": ONE_HOT[5:10]}
    asked = {
        "sample": lambda: model.sample(5, **few),
        "decode": lambda: model.decode(torch.randn(5, model.z_dim), sample=True, **few),
        "factors": lambda: reader(X.repeat(1, 3, 4, 4)),
        "in_features": lambda: e.in_features(model, TRAIN, HELD_OUT, network),
    }
    if model.encoder is not None:
        asked |= {
            "encode": lambda: model.encode(X, **y),
            "reconstruct": lambda: model.reconstruct(X, **y),
            "interpolate": lambda: model.interpolate(X[:5], X[5:10], **ends),
            "reconstruction": lambda: vars(e.reconstruction(model, TRAIN, HELD_OUT)),
            "codes": lambda: e.codes(model, HELD_OUT),
            "awake": lambda: e.awake(model, X, model.prior(N), **y),
            "probe": lambda: e.probe(model, TRAIN, HELD_OUT)["weight"],
            "read": lambda: read(model, TRAIN, HELD_OUT)["slant"].value,
            "scales": lambda: scales(model, TRAIN, HELD_OUT),
            "described": lambda: described(model, TRAIN, HELD_OUT).codes,
            "sheets": lambda: {name: torch.from_numpy(np.array(s)) for name, s in sheets(model, HELD_OUT).items()},
        }
    if model.attributes:
        asked |= {
            "attributes": lambda: e.attributes(model, TRAIN, HELD_OUT, classifier),
            "switching": lambda: vars(e.switching(model, classifier, HELD_OUT)),
            "seen": lambda: e.seen(classifier, X),
            "balanced_accuracy": lambda: e.balanced_accuracy(classifier, HELD_OUT),
        }
    else:
        metrics = *e.QUICK, "fidelity", "copying", "checkerboard", "own"
        asked |= {
            "measured": lambda: e.measured(model, TRAIN, HELD_OUT, metrics, network),
            "network_features": lambda: e.network_features(model)(X),
        }
    if model.encoder is not None and not model.attributes:
        asked["anomaly_scores"] = lambda: e.anomaly_scores(model, HELD_OUT)
        asked["random_features"] = lambda: random_features(model, TRAIN)(X)
        asked["latent space"] = lambda: LatentSpace(described(model, TRAIN, HELD_OUT)).encode(X[0])
    if model.classes:
        asked |= {
            "classify": lambda: model.classify(X),
            "classification": lambda: vars(e.classification(model, HELD_OUT)),
        }
    return asked


@pytest.mark.parametrize("game", GAMES)
def test_numbers_are_those_of_evaluation_mode_and_leave_no_trace(game, monkeypatch):
    torch.manual_seed(1)
    labelled = {"classes": K} if GAMES[game].has_labels else {}
    model = unsettled(GAMES[game].build((1, 8, 8), attributes=K, **labelled))
    networks = model, looking(K), looking(5), unsettled(FactorClassifier(PICTURES))
    settled = [copy.deepcopy(network).eval() for network in networks]

    def trace():
        return copy.deepcopy([(n.state_dict(), [layer.training for layer in n.modules()]) for n in networks])

    expected, before = numbers_of(*settled, monkeypatch), trace()
    for name, ask in numbers_of(*networks, monkeypatch).items():
        found = []
        for function in (ask, ask, expected[name]):
            torch.manual_seed(2)
            found.append(function())
        assert not differ(found[0], found[1]), f"{name} differs from one call to the next"
        assert not differ(found[0], found[2]), f"{name} is another in training mode"
        assert not differ(trace(), before), f"{name} leaves something changed"
