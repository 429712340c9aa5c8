"""The recorded results: what the pages say is what was measured, and what the weights still do."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import alikit
from alikit.evaluation import found_modes
from alikit.runs.report import write_report
from alikit.storage import unpack

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
MIXTURE = RESULTS / "mixture"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mixture_report", ROOT / "tools" / "mixture_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(tool) -> dict:
    """What is kept, with the lines of the studies, which lie beside it."""
    studies = {name: tool.lines(folder) for name, folder in tool.FOLDERS.items()}
    return {"studies": studies} | json.loads((MIXTURE / "metrics.json").read_text())


def study(ali: list[int], gan: list[int]) -> list[dict]:
    """Lines of a study that has only strict modes to tell, run k of an arm covering the k-th number."""
    same = {"modes": 25, "within_3std": 0.5, "kl_uniform": 0.1, "diverged": False}
    return [
        {"arm": arm, "run": run, "strict_modes": modes, **same}
        | {"lr": run + 1, "betas": [-run, 0.999], "weight_std": 3 * run % 5}
        for arm, covered in (("ali", ali), ("gan", gan))
        for run, modes in enumerate(covered)
    ]


def test_summary_by_hand(tool):
    # Student's t with 3 degrees of freedom has its 97.5 % point at 3.18245; the standard error is 1.29099 / 2.
    expected = {"mean": 2.5, "std": 1.291, "low": 2.5 - 3.18245 * 0.645497, "high": 2.5 + 3.18245 * 0.645497}
    assert tool.summary([1, 2, 3, 4]) == pytest.approx({**expected, "min": 1, "max": 4}, abs=1e-4)


def test_paired_differences_by_hand(tool):
    found = tool.compare(study([12, 14, 16, 18, 20], [11, 12, 13, 14, 15]))
    strict = found["measures"]["strict_modes"]
    assert found["pairs"] == 5 and strict["difference"]["mean"] == 3  # 1, 2, 3, 4, 5
    assert strict["wilcoxon_p"] == 2 / 2**5  # of all 2^5 ways to sign the five, this one and its opposite
    assert strict["paired_t_p"] == pytest.approx(0.0132, abs=1e-4)  # t = 3 / (1.5811 / sqrt 5) = 4.2426, 4 degrees
    ranks = found["strict_modes_gap_against"]  # the lead rises with the one, falls with the other
    assert ranks["learning rate"]["rho"] == 1 and ranks["beta1"]["rho"] == -1
    same = found["measures"]["modes"]  # no difference anywhere
    assert (
        same["wilcoxon_p"] == same["paired_t_p"] == 1 and same["difference"]["low"] == same["difference"]["high"] == 0
    )


def test_only_settings_that_both_have_run_are_compared_and_diverged_runs_are_counted(tool):
    assert tool.compare(study([12, 14, 16, 3, 3], [11, 12, 13]))["measures"]["strict_modes"]["ali"]["mean"] == 14
    lines = study([12, 14, 16], [11, 12, 0])
    lines[-1]["diverged"] = True
    found = tool.compare(lines)
    assert found["diverged"] == {"ali": 0, "gan": 1} and found["measures"]["strict_modes"]["gan"]["min"] == 0


def test_the_page_is_what_the_report_says_and_the_report_what_the_studies_say(tool, report):
    assert all(report["studies"].values())
    assert report["comparison"] == tool.compare(report["studies"]["mixture"])
    assert (MIXTURE / "README.md").read_text() == tool.readme(report)


@pytest.mark.parametrize(
    ("folder", "of", "arm", "which"),
    [
        ("best-ali", "mixture", "ali", max),
        ("best-gan", "mixture", "gan", max),
        ("solved-ali", "mixture-solved", "ali", max),
        ("failed-ali", "mixture-running-bn", "ali", min),
    ],
)
def test_shipped_weights_are_the_best_or_the_worst_and_cover_what_was_recorded(report, folder, of, arm, which):
    lines = [line for line in report["studies"][of] if line["arm"] == arm]
    line = which(lines, key=lambda line: (line["strict_modes"], line["within_3std"]))
    assert json.loads((MIXTURE / folder / "settings.json").read_text())["seed"] == line["seed"]
    found = found_modes(alikit.load_model(MIXTURE / folder))
    assert {name: line[name] for name in found} == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("folder", ["inverse", "post-hoc"])
def test_a_decoder_that_two_share_is_kept_once(folder):
    found, gan = (alikit.load_model(MIXTURE / name).decoder.parameters() for name in (folder, "best-gan"))
    assert all(one.equal(two) for one, two in zip(found, gan, strict=True))
    assert (MIXTURE / folder / "weights.safetensors").stat().st_size < 400_000


# Runs on pictures.


def test_the_page_of_records_is_what_the_report_writes(tmp_path):
    for folder in RESULTS.iterdir():
        if folder.is_dir():
            (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / "README.md").write_text((RESULTS / "README.md").read_text())
    assert write_report(tmp_path) == 7
    assert (tmp_path / "README.md").read_text() == (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("name", ["conditional-faces", "conditional-celeba-small", "conditional-celeba"])
def test_what_the_page_says_of_conditional_runs(name):
    found = json.loads((RESULTS / name / "metrics.json").read_text())
    rise = {a: row["asked"] - row["unasked"] for a, row in found["attributes_of"].items()}
    assert all(rise[a] > row["interval"] and 0 < row["share"] < 1 for a, row in found["attributes_of"].items())
    order = sorted(rise, key=rise.get)
    if name == "conditional-faces":
        assert found["attributes_grid"] > 0.95 and order[:3] == ["Smiling", "Bald", "Young"]
    else:
        assert sum(value < 0.1 for value in rise.values()) == (8 if name == "conditional-celeba" else 18)
        assert (order[-1] == "Double_Chin") == (name == "conditional-celeba")
    with Image.open(RESULTS / name / "grid.png") as picture:
        assert picture.width > 1200
    if name != "conditional-celeba":  # its weights are not kept
        kept = alikit.recorded(RESULTS / name)
        y = kept.codes["grid"].flatten(0, 1)
        x = kept.model.decode(kept.model.prior(1).expand(48, -1), y=y)
        assert x.shape == (48, 3, 32, 32) and (kept.classifier is None or kept.classifier(x).shape == y.shape)


def test_the_stored_probe_of_the_papers_network_reads_y():
    """From codes in half precision, of means alone; of codes with their noise it does not."""
    codes = unpack(load_file(RESULTS / "conditional-celeba" / "probe.safetensors"))
    weight, bias, y = codes["probe_weight"], codes["probe_bias"], codes["labels"] > 0
    torch.manual_seed(0)
    noisy = codes["codes"] + 0.91 * torch.randn_like(codes["codes"])
    read, lost = (((z @ weight.T + bias > 0) == y).float().mean() for z in (codes["codes"], noisy))
    assert read > 0.999 and 0.55 < lost < 0.7
    assert codes["grid"].shape == (4, 12, 40)
