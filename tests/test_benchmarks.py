"""The benchmarks: a textbook step that plays the same game, numbers that are what they say, a page made of files."""

import json
import mmap
import shlex
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import alikit

import benchmarks
from alikit.errors import AlikitError
from alikit.fast import QUICK, accelerate
from alikit.networks import Maxout
from alikit.recipes import RECIPES
from benchmarks import common, memory, precision, report, scaling, start, step

RECORDED = common.ROOT / "results" / "benchmarks"


def begun(name: str, batch_size: int = 10, r1: float = 0.0):
    """The recipe's model, its textbook twin and a batch."""
    torch.manual_seed(0)
    recipe = replace(RECIPES[name], r1=r1)
    data = common.stand_in(recipe, batch_size)
    model = recipe.build(data.shape, data.mean()).train()
    return model, step.Textbook(model, recipe.lr, recipe.betas), data.floats()


@pytest.mark.parametrize(
    ("name", "r1"),
    [("ali-paper", 0.0), ("ali-paper", 0.1), ("gan-paper", 0.0), ("post-hoc", 0.0), ("inverse", 0.0), ("vae", 0.0)],
)
def test_each_turn_is_our_game(name, r1):
    """From the same parameters and noise, without batch norm or dropout in D, the players' gradients are the same."""
    model, textbook, x = begun(f"mixture-{name}", r1=r1)
    torch.manual_seed(1)
    losses = model.losses(x)
    for player, own in textbook.model.players().items():
        torch.manual_seed(1)
        loss = textbook.loss(player, x)
        torch.testing.assert_close(loss, losses[player])
        gradients = torch.autograd.grad(losses[player], model.players()[player], retain_graph=True)
        for found, ours in zip(torch.autograd.grad(loss, own), gradients, strict=True):
            assert (found - ours).norm() <= 1e-4 * ours.norm() + 1e-8


def test_the_textbook_has_no_part_of_ours():
    model, textbook, _ = begun("mixture-ali-paper")
    pictures, of_pictures, _ = begun("svhn", 2)
    for ours, textbooks in ((model, textbook.model), (pictures, of_pictures.model)):
        assert any(type(layer) in QUICK.values() for layer in accelerate(ours).modules())
        assert not any(type(layer) in {*QUICK.values(), Maxout} for layer in textbooks.modules())
    assert all(weight.is_contiguous() for weight in of_pictures.model.parameters()), "NCHW"
    assert not {id(p) for p in model.parameters()} & {id(p) for p in textbook.model.parameters()}
    features = torch.randn(4, 6, 3)
    assert torch.equal(step.LibraryMaxout(3)(features), Maxout(3)(features))


def test_a_comparison():
    n, whole = 10, ("command", "date", "hardware", "load", "versions")
    found = step.compare("mixture-ali-paper", n, seconds=0.1)
    assert found.keys() == json.loads((RECORDED / "step-mixture-ali-paper.json").read_text()).keys() - {*whole}
    assert step.FEWEST <= found["rounds"] <= step.ROUNDS and found["device"] == "cpu"
    for known in (known for known in found.values() if isinstance(known, dict)):
        assert 0 < known["lower_quartile"] <= known["median"] <= known["upper_quartile"]
    # By hand: two for each weight and example, forward, for the weights and, except in the first layers of the player
    # that learns, for the input; and two more for the generator's way through D.
    d = 2 * n * (6 * 4 * 1000 + 8 * (2 * 200 * 1000 + 200))
    encoder = n * (4 * 4 * 400 + 6 * (400 * 400 + 400 * 2))
    decoder = n * (4 * 2 * 400 + 6 * (3 * 400 * 400 + 400 * 2))
    assert found["gflop_a_step"] * 1e9 == pytest.approx(d + encoder + decoder)


FAMILIES = {"small": ("digits",), "toy": ("mixture-ali-paper",)}
SMALL = {
    "batch": {"seconds": 0.1, "names": ("digits", "mixture-ali"), "batches": (2, 4)},
    "size": {"seconds": 0.1, "families": FAMILIES, "batch": 2, "rounds": 2},
    "compiled": {"seconds": 0.1, "names": ("digits",), "rounds": 2},
    "loading": {"numbers": (20, 40), "rounds": 2, "of_array": 300},
}


def test_speed_and_loading_are_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda forward, **how: forward)  # which takes a compiler, and a minute
    for name, how in SMALL.items():
        line = benchmarks.run(name, tmp_path / "a", f"alikit bench {name}", **how)
        assert line == f"measured, in {tmp_path / 'a' / name}.json; alikit bench report puts it on the page"
        found, recorded = (json.loads((at / f"{name}.json").read_text()) for at in (tmp_path / "a", RECORDED))
        assert found["command"] == f"alikit bench {name}" and found["versions"]["torch"] == torch.__version__
        assert found["measured"][0].keys() >= recorded["measured"][0].keys()
    assert report.write_report(tmp_path / "a") == 4


def test_memory_is_that_of_a_fresh_process(monkeypatch):
    (row,) = memory.memory(("digits-semi",))["measured"]
    assert 50 < row["imported"] < row["peak"] < row["total_peak"] and (row["batch"], row["labelled_batch"]) == (100, 50)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(AlikitError, match=r"^nothing measured of digits: ended with status 1$"):
        memory.memory(("digits",))


def test_a_peak_that_is_gone_again_is_seen():
    def job() -> None:
        with mmap.mmap(-1, 100 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as big:
            big[:: mmap.PAGESIZE] = bytes(len(big) // mmap.PAGESIZE)  # a page that was written to is there
            time.sleep(0.3)

    found = memory.peak(job)
    assert found["peak"] > found["imported"] + 90 and memory.mib("RssAnon") < found["imported"] + 50


def test_what_is_learned_is_compared():
    ways = (precision.LIBRARY, precision.OURS, precision.BF16)
    found = precision.precision((("digits", 2, 2, ways),))
    assert [(row["way"], row["seed"]) for row in found["measured"]] == [(way, seed) for seed in (0, 1) for way in ways]
    (table,) = precision.tables(found)
    assert table.count("\n| digits | 2 |") == len(precision.METRICS)
    assert precision.compared([1.0, 3.0], [3.0, 5.0]) == "4 ± 1.41 (+1.4)"  # 2 / sqrt(1 + 1)


def test_studies_imports_and_panels_are_timed(monkeypatch):
    commands = []
    monkeypatch.setattr(scaling, "process", lambda *line, **how: commands.append(shlex.join(map(str, line))))
    assert scaling.workers((1, 2), number=3, steps=4, rounds=1)["runs"] == 6
    assert "alikit study mixture --runs 3 --steps 4 --workers 2 --threads 1" in commands[1]
    assert 0 < start.import_seconds("json") < 60
    shares = start.import_shares("json")
    assert next(iter(shares)) == "Python's own" and sum(shares.values()) == pytest.approx(1)
    moves = '<testsuite><property name="latent space" value="[40.0, 30.0, 50.0]"/></testsuite>'
    monkeypatch.setattr(start, "process", lambda *line, failure: Path(line[-1].partition("=")[2]).write_text(moves))
    expected = {"median": 40, "lower_quartile": 35, "upper_quartile": 45}
    assert start.widgets() == [{"panel": "latent space", "milliseconds": expected}]


def test_jobs_take_turns_and_each_gets_its_share():
    calls = []
    rates = common.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0, rounds=3)
    assert calls == ["a", "b"] + ["a", "b"] * 3  # a first call of each, then the rounds
    assert all(len(found) == 3 and min(found) > 0 for found in rates.values())
    assert common.summary([1.00004, 2.0]) == {"median": 1.5, "lower_quartile": 1.25, "upper_quartile": 1.75}


def test_the_page_is_what_the_files_say(tmp_path):
    kept = Path(shutil.copytree(RECORDED, tmp_path / "kept"))
    assert report.write_report(kept) == 16
    page = (RECORDED / "README.md").read_text()
    assert (kept / "README.md").read_text() == page
    # Another number is another page; what stands around the marks stays; a missing page is made.
    (kept / "workers.json").write_text((kept / "workers.json").read_text().replace("78.06", "4321.0"))
    (kept / "README.md").write_text(f"before\n{page}after\n")
    report.write_report(kept)
    changed = (kept / "README.md").read_text()
    assert "| 1 | 4,321 [" in changed and changed.startswith("before\n") and changed.endswith("after\n")
    for file in {*kept.iterdir()} - {kept / "batch.json"}:
        file.unlink()
    assert report.write_report(kept) == 1
    text = (kept / "README.md").read_text()
    names = {name for name in benchmarks.BENCHMARKS if f"Not measured: `alikit bench {name}" in text}
    assert names == benchmarks.BENCHMARKS.keys() - {"report", "batch"}


@pytest.mark.parametrize("text", ["", "[]", '{"measured": 1}', "\0"])
@pytest.mark.parametrize("name", ["precision", "start", "batch", "step-svhn"])
def test_a_damaged_file_is_one_line(tmp_path, name, text):
    (tmp_path / "README.md").write_text("# Mine\n")
    (tmp_path / f"{name}.json").write_text(text)
    again = f"alikit bench {name.replace('-', ' ')} --out {tmp_path}"
    with pytest.raises(AlikitError, match=rf"^{tmp_path / name}\.json is damaged .*: measure again with: {again}$"):
        report.write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # of this process, which has other tests
    line = f"step digits --batch 4 --float32 --device cpu --threads 1 --seconds 0.1 --out {tmp_path}"
    status, out, err = alikit(f"bench {line}")
    assert (status, out.count("\n")) == (0, 1), err
    kept = json.loads((tmp_path / "step-digits-batch4-float32.json").read_text())
    assert kept["command"] == f"alikit bench {line}"
    assert json.loads(out).items() <= kept.items() and kept["plain"] is True
    assert alikit(f"bench report --out {tmp_path}").status == 0
    assert "| digits | 4 | cpu |" in (tmp_path / "README.md").read_text()


def test_what_the_command_refuses_before_it_measures(tmp_path, monkeypatch):
    (tmp_path / "batch.json").write_text("before")
    batch = replace(benchmarks.BENCHMARKS["batch"], measure=lambda seconds=1.0: pytest.fail("measured all the same"))
    monkeypatch.setitem(benchmarks.BENCHMARKS, "batch", batch)
    for line, says in {
        "step digits --batch 1": "'--batch'",
        "step digits --seconds 0": "'--seconds'",
        f"batch --out {tmp_path / 'batch.json' / 'kept'}": "cannot write to ",
        "batch --device cpu": "bench batch takes no --device: leave it out",
        "zebra": "no benchmark called 'zebra': choose one of step, ",
        "step digit": "no recipe called 'digit': did you mean digits?",
        "step digits-modern": "digits-modern has cycle_z, which the textbook's step does not know",
        "step digits-semi": "digits-semi needs labels, which the textbook's step does not have",
        "step digits --device tpu": "no device called 'tpu' here: say --device ",
        f"report --out {tmp_path / 'none'}": "none: measure something first",
        f"report --out {tmp_path}": "is damaged",
    }.items():
        status, out, err = alikit(f"bench {line}")
        assert status == 2 and not out and says in err and err.count("\n") == 1, err
    monkeypatch.setitem(sys.modules, "benchmarks", None)
    status, out, err = alikit("bench batch")
    assert (status, out) == (2, "") and err.endswith("run this in a checkout of alikit\n")
    assert [file.name for file in tmp_path.iterdir()] == ["batch.json"]
