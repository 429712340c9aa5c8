"""The study of what codes keep: its tool on models whose answers are known, and its page against its numbers."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import alikit
from alikit.evaluation.factors import score, targets, trained_factor_classifier
from alikit.networks import Deterministic

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "what-z-keeps"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("what_z_keeps", ROOT / "tools" / "what_z_keeps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Half(nn.Module):
    """8x8 brightnesses of a picture as its code, and from a code a grey picture. The number tells on which device."""

    def __init__(self):
        super().__init__()
        self.here = nn.Parameter(torch.zeros(1))

    def forward(self, v):
        if v.ndim == 4:
            return nn.functional.adaptive_avg_pool2d(v.mean(1, keepdim=True), 8).flatten(1)
        return nn.functional.interpolate(v.reshape(-1, 1, 8, 8), 32, mode="bilinear").expand(-1, 3, -1, -1)


def test_grey_and_coarse_pictures_keep_light_and_dark_but_not_the_font(tool):
    classifier, half = trained_factor_classifier(KEPT / "judge.safetensors"), Deterministic(Half())
    model = alikit.Game(half, 64, half)
    train, held_out = alikit.house_numbers(1000, seed=0), alikit.house_numbers(300, seed=2)
    found = tool.measure({"half": model}, classifier, train, held_out)
    for known in found.values():
        half = known["models"]["half"]
        assert all(low <= value <= high for value, low, high in (*half.values(), known["judge"], known["pixels"]))
        assert half["kept"] == half["kept_drawn"]  # nothing is drawn here
    assert found["digit"]["judge"][0] > 0.99 and found["font"]["judge"][0] > 0.95
    assert found["font"]["models"]["half"]["kept"][0] < 0.5 and found["paper"]["models"]["half"]["kept"][0] > 0.3
    said = classifier(model.reconstruct(held_out.floats(), sample=False))["digit"]  # one of them by hand
    right = (said == held_out.labels).double().mean().item()
    assert found["digit"]["models"]["half"]["kept"][0] == pytest.approx(right, abs=1e-4)


def test_the_recorded_numbers_are_those_of_the_recorded_run_and_of_the_page(tool):
    """Of ALI, whose weights are kept: a thousand of the pictures, so chance may move them a little."""
    report, classifier = (
        json.loads((KEPT / "metrics.json").read_text()),
        trained_factor_classifier(KEPT / "judge.safetensors"),
    )
    assert (KEPT / "README.md").read_text() == tool.page(report)
    held_out = alikit.house_numbers(1000, seed=report["held_out"]["seed"])
    back = alikit.load_model(ROOT / "results" / "house-numbers").reconstruct(held_out.floats(), sample=False)
    truth, said, originals = targets(held_out.factors), classifier(back), classifier(held_out.floats())
    for name in ("digit", "font", "ink", "paper"):
        known = report["factors"][name]
        assert score(said[name], truth[name]).value == pytest.approx(known["models"]["ALI"]["kept"][0], abs=0.06)
        assert score(originals[name], truth[name]).value == pytest.approx(known["judge"][0], abs=0.02)


def test_runs_that_are_not_there_are_one_line(tool, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["what_z_keeps.py", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        tool.main()
    assert "no run folder" in str(stopped.value) and "\n" not in str(stopped.value)


def test_a_factor_classifier_is_trained(tool):
    torch.manual_seed(0)
    data = alikit.house_numbers(512, seed=5)
    classifier = tool.train_classifier(data, epochs=3, batch_size=64, lr=4e-3)
    assert not classifier.training
    assert score(classifier(data.floats())["paper"], targets(data.factors)["paper"]).value > 0.5
