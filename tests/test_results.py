"""The recorded results of the mixture: what the page says is what the lines say, and what the weights still do."""

import importlib.util
import json
from pathlib import Path

import pytest

import alikit
from alikit.evaluation import found_modes

ROOT = Path(__file__).resolve().parents[1]
MIXTURE = ROOT / "results" / "mixture"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mixture_report", ROOT / "tools" / "mixture_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((MIXTURE / "metrics.json").read_text())


def drawn(run: int) -> dict:
    return {"lr": run + 1, "betas": [-run, 0.999], "weight_std": 3 * run % 5}


def study(ali: list[int], gan: list[int]) -> list[dict]:
    """Lines of a study that has only strict modes to tell, run k of an arm covering the k-th number."""
    same = {"modes": 25, "within_3std": 0.5, "kl_uniform": 0.1, "diverged": False}
    return [
        {"arm": arm, "run": run, "strict_modes": modes, **same, **drawn(run)}
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


def test_only_settings_that_both_have_run_are_compared(tool):
    assert tool.compare(study([12, 14, 16, 3, 3], [11, 12, 13]))["measures"]["strict_modes"]["ali"]["mean"] == 14


def test_diverged_runs_are_counted(tool):
    lines = study([12, 14, 16], [11, 12, 0])
    lines[-1]["diverged"] = True
    found = tool.compare(lines)
    assert found["diverged"] == {"ali": 0, "gan": 1} and found["measures"]["strict_modes"]["gan"]["min"] == 0


def test_the_report_holds_every_recorded_run(tool, report):
    for name, folder in tool.FOLDERS.items():
        assert report["studies"][name] == tool.lines(folder)
    assert report["comparison"] == tool.compare(report["studies"]["mixture"])


def test_the_page_is_what_the_report_says(tool, report):
    assert (MIXTURE / "README.md").read_text() == tool.readme(report)


@pytest.mark.parametrize(
    ("folder", "of", "arm"),
    [
        ("best-ali", "mixture", "ali"),
        ("best-gan", "mixture", "gan"),
        ("solved-ali", "mixture-solved", "ali"),
        ("failed-ali", "mixture-running-bn", "ali"),
    ],
)
def test_shipped_weights_cover_what_was_recorded(report, folder, of, arm):
    found = found_modes(alikit.load_model(MIXTURE / folder))
    settings = json.loads((MIXTURE / folder / "settings.json").read_text())
    (line,) = (line for line in report["studies"][of] if line["arm"] == arm and line["seed"] == settings["seed"])
    assert {name: line[name] for name in found} == pytest.approx(found, abs=1e-3)


def test_shipped_weights_are_the_best_and_the_worst(report):
    for folder, study, arm, which in (
        ("best-ali", "mixture", "ali", max),
        ("best-gan", "mixture", "gan", max),
        ("solved-ali", "mixture-solved", "ali", max),
        ("failed-ali", "mixture-running-bn", "ali", min),
    ):
        seed = json.loads((MIXTURE / folder / "settings.json").read_text())["seed"]
        runs = [line for line in report["studies"][study] if line["arm"] == arm]
        best = which(runs, key=lambda line: (line["strict_modes"], line["within_3std"]))
        assert best["seed"] == seed
