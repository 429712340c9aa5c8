"""The benchmark: a textbook step that plays the same game, numbers that are what they say, and one line of JSON."""

import importlib.util
import json
import mmap
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from PIL import Image

import alikit
from alikit.__main__ import _benchmark, main
from alikit.convolutions import Quick
from alikit.errors import AlikitError
from alikit.networks import Maxout, Thin
from alikit.recipes import RECIPES

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "step.py"
spec = importlib.util.spec_from_file_location("step", FILE)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
common, report = _benchmark("common"), _benchmark("report")

RATES = ("ours", "textbook", "textbook_with_loader", "ratio", "ratio_with_loader", "gflops", "matmul_gflops")
SUMMARY = {"lower_quartile", "median", "upper_quartile"}
STEP = {
    "recipe": "digits",
    "batch": 64,
    "device": "cpu",
    "threads": 2,
    "torch": "2",
    "ours": {"median": 10.0, "lower_quartile": 9.0, "upper_quartile": 11.0},
    "textbook": {"median": 5.0, "lower_quartile": 4.5, "upper_quartile": 5.5},
    "ratio": {"median": 2.0, "lower_quartile": 1.9, "upper_quartile": 2.1},
    "ratio_with_loader": {"median": 4.0, "lower_quartile": 3.8, "upper_quartile": 4.2},
    "gflop_a_step": 1.5,
    "gflop_made": 0.5,
    "share_made": {"median": 0.1, "lower_quartile": 0.08, "upper_quartile": 0.12},
    "precision": "float32",
    "plain": False,
    "share_of_matmul": {"median": 0.25, "lower_quartile": 0.2, "upper_quartile": 0.3},
    "command": "alikit bench step digits --out here",
    "date": "2026-01-02",
    "load": 0.5,
}


def start(name: str, batch_size: int = 10, r1: float = 0.0):
    """The recipe's model, its textbook twin and a batch."""
    torch.manual_seed(0)
    recipe = replace(RECIPES[name], r1=r1)
    data = bench._stand_in(recipe, batch_size)
    model = recipe.build(data.shape, data.mean()).train()
    return model, bench.Textbook(model, recipe.lr, recipe.betas), data.floats()


# The textbook step.


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize(
    ("name", "r1"),
    [("mixture-ali-paper", 0.0), ("mixture-ali-paper", 0.1), ("mixture-gan-paper", 0.0), ("mixture-post-hoc", 0.0)],
)
def test_each_turn_is_our_game(name, r1, player):
    """From the same parameters and noise, without batch norm or dropout in D, the players want the same."""
    model, textbook, x = start(name, r1=r1)
    torch.manual_seed(1)
    losses, gradients = model.gradients(x)
    torch.manual_seed(1)
    loss = textbook.loss(player, x)
    torch.testing.assert_close(loss, losses[player])
    for found, ours in zip(torch.autograd.grad(loss, textbook.model.players()[player]), gradients[player], strict=True):
        assert (found - ours).norm() <= 1e-4 * ours.norm() + 1e-8


def test_players_take_turns():
    """The discriminator moves by what the old generator made, the generator against the discriminator moved."""
    model, textbook, x = start("mixture-ali-paper")
    twin = bench.Textbook(model, 1e-4, RECIPES["mixture-ali-paper"].betas)
    torch.manual_seed(1)
    textbook.step(x)
    torch.manual_seed(1)
    for player in ("discriminator", "generator"):
        own = twin.model.players()[player]
        for parameter, gradient in zip(own, torch.autograd.grad(twin.loss(player, x), own), strict=True):
            parameter.grad = gradient
        twin.adams[player].step()
    for found, expected, before in zip(
        textbook.model.parameters(), twin.model.parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected)
        assert not torch.equal(found, before)


def test_the_textbook_has_no_part_of_ours():
    model, textbook, _ = start("mixture-ali-paper")
    pictures, of_pictures, _ = start("svhn", 2)
    for quick in (True, False):
        layers = [layer for layer in (pictures if quick else of_pictures.model).modules() if isinstance(layer, Quick)]
        assert layers and all(layer.quick is quick for layer in layers)
    assert all(weight.is_contiguous() for weight in of_pictures.model.parameters()), "NCHW"
    for ours in (Maxout, Thin):
        assert any(isinstance(layer, ours) for layer in model.modules())
        assert not any(isinstance(layer, ours) for layer in textbook.model.modules())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in textbook.model.parameters()}
    features = torch.randn(4, 6, 3)
    assert torch.equal(bench.LibraryMaxout(3)(features), Maxout(3)(features))


TEXTBOOK = [name for name, recipe in RECIPES.items() if not (recipe.has_labels or recipe.is_conditional)]


@pytest.mark.parametrize("name", TEXTBOOK)
def test_every_recipe_without_labels_has_a_textbook_step(name):
    _, textbook, x = start(name, batch_size=3)
    textbook.step(x)
    assert all(parameter.isfinite().all() for parameter in textbook.model.parameters())


def test_the_loader_hands_out_whole_batches_for_ever():
    data = bench._stand_in(RECIPES["digits"], 6)
    batches = bench._batches(data, 4)
    first = [next(batches) for _ in range(3)]
    assert all(x.shape == (4, 1, 8, 8) and x.dtype == torch.float and 0 <= x.min() < x.max() <= 1 for x in first)


# What is reported.


def test_report():
    found = bench.compare("mixture-ali-paper", 10, seconds=0.2)
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == {
        *(
            "recipe",
            "batch",
            "device",
            "threads",
            "torch",
            "precision",
            "plain",
            "rounds",
            "gflop_a_step",
            "gflop_made",
        ),
        *("share_of_matmul", "share_made"),
        *RATES,
    }
    assert (found["recipe"], found["batch"], found["device"]) == ("mixture-ali-paper", 10, "cpu")
    assert bench.FEWEST <= found["rounds"] <= bench.ROUNDS
    assert (found["threads"], found["torch"]) == (torch.get_num_threads(), torch.__version__)
    for name in (*RATES, "share_of_matmul"):
        assert found[name].keys() == SUMMARY
        assert 0 < found[name]["lower_quartile"] <= found[name]["median"] <= found[name]["upper_quartile"]


def test_slow_steps_keep_digits_that_count():
    """A step of celeba takes a quarter of a minute."""
    kept = {"median": 0.02468, "lower_quartile": 0.01357, "upper_quartile": 123.4}
    assert bench._summary([0.013569, 0.024683, 123.4444]) == kept


def test_operations_are_those_counted_by_hand():
    """Two for each weight and example, forward, for the input and for the weights; first layers of G ask no input's."""
    n = 10
    d = 2 * n * 6 * (4 * 1000 + 2 * 200 * 1000 + 200)
    encoder = n * (4 * 4 * 400 + 6 * (400 * 400 + 400 * 2))
    decoder = n * (4 * 2 * 400 + 6 * (3 * 400 * 400 + 400 * 2))
    found = bench.compare("mixture-ali-paper", n, seconds=0.1)["gflop_a_step"]
    assert found * 1e9 == pytest.approx(d + encoder + decoder)


# The command.


@pytest.fixture
def command(capsys, monkeypatch):
    def command(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alikit", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, *capsys.readouterr()

    threads = torch.get_num_threads()
    yield command
    torch.set_num_threads(threads)


def test_command_prints_one_line(command):
    status, out, _ = command("bench step mixture-post-hoc --batch 4 --device cpu --threads 1 --seconds 0.2")
    assert status == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert (found["recipe"], found["batch"], found["threads"]) == ("mixture-post-hoc", 4, 1)


def test_a_line_is_kept_with_its_setting(command, tmp_path):
    for options, name in (("", "step-digits"), (" --batch 4 --float32", "step-digits-batch4-float32")):
        status, out, _ = command(f"bench step digits --device cpu --seconds 0.1 --out {tmp_path / 'kept'}{options}")
        kept = json.loads((tmp_path / "kept" / f"{name}.json").read_text())
        assert status == 0 and json.loads(out).items() <= kept.items() and kept["plain"] == ("float32" in name)
        assert kept.keys() >= {"command", "date", "hardware", "load", "versions"}
    assert report.write_report(tmp_path / "kept") == 2
    (tmp_path / "file").touch()
    status, _, err = command(f"bench step digits --out {tmp_path / 'file'}")
    assert status == 2 and "choose another --out" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench step zebra", "no recipe called 'zebra': see alikit recipes"),
        ("bench step digit", "no recipe called 'digit': did you mean digits?"),
        ("bench step digits --batch 1", "'--batch'"),
        ("bench step digits --device tpu", "no device called 'tpu': choose cpu or cuda"),
        ("bench step digits --device cuda", "PyTorch finds no CUDA device here: say --device cpu"),
        ("bench step digits --threads 0", "'--threads'"),
        ("bench step digits --seconds 0", "'--seconds'"),
        ("bench", "see alikit bench --help"),
    ],
)
def test_mistakes(command, monkeypatch, line, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, out, err = command(line)
    assert status == 2 and not out and message in err and err.count("\n") == 1


@pytest.mark.parametrize("line", ["step digits", "batch", "report"])
def test_outside_a_checkout(command, monkeypatch, tmp_path, line):
    monkeypatch.setattr(alikit, "__file__", str(tmp_path / "alikit" / "__init__.py"))
    status, out, err = command(f"bench {line}")
    assert (status, out) == (2, "")
    assert err == "alikit: the benchmarks do not come with the installed package: run this in a checkout of alikit\n"


# The others: each is kept as a file, and the page is made from these.


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, dict]:
    """What each benchmark finds, asked for as little as can be. Studies and imports take seconds, so they are not run
    for their time here."""
    notebooks = tmp_path_factory.mktemp("notebooks")
    cells = [nbformat.v4.new_markdown_cell("# One"), nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebooks / "01_one.ipynb")
    how = {
        "compiled": {"seconds": 0.1, "names": ("digits",), "rounds": 2},
        "precision": {"runs": (("digits", 2, 2, ("library layers", "ours", "bfloat16", "two processes")),)},
        "batch": {"seconds": 0.1, "names": ("digits", "mixture-ali"), "batches": (2, 4)},
        "size": {"seconds": 0.1, "families": {"small": ("digits",), "large": ("svhn-small",)}, "batch": 2, "rounds": 2},
        "workers": {"workers": (1, 2), "number": 1, "steps": 1, "rounds": 2},
        "loading": {"numbers": (20, 40), "rounds": 2},
        "memory": {"names": ("digits-semi",)},
        "folder": {"numbers": (200,)},
        "start": {"import_rounds": 1, "shares_rounds": 1, "notebook_rounds": 1, "folder": notebooks, "panels": False},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.benchmark("workers"), "study", lambda count, number, steps: 40 * number * steps / count)
        patch.setattr(common.benchmark("start"), "import_seconds", {"torch": 1.5, "alikit": 2.5}.get)
        patch.setattr(torch, "compile", lambda forward, **how: forward)  # which takes a compiler, and a minute
        patch.setattr(common.benchmark("start"), "TESTS", notebooks / "none.xml")
        return {name: common.benchmark(name).measure(**how[name]) for name in report.NAMES}


@pytest.fixture(scope="module")
def written(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        for name, found in small.items():
            patch.setattr(common.benchmark(name), "measure", lambda found=found: found)
            common.keep(name, folder, f"alikit bench {name}")
    return folder


@pytest.fixture
def kept(written, tmp_path) -> Path:
    """A folder with the file of each benchmark, written as the command does."""
    return Path(shutil.copytree(written, tmp_path / "kept"))


def summaries(found) -> list[dict]:
    if not isinstance(found, dict | list):
        return []
    if isinstance(found, dict) and found.keys() == SUMMARY:
        return [found]
    return [each for part in (found.values() if isinstance(found, dict) else found) for each in summaries(part)]


@pytest.mark.parametrize("name", report.NAMES)
def test_a_benchmark_writes_a_well_formed_file(kept, small, name):
    found = json.loads((kept / f"{name}.json").read_text())
    assert found.items() >= small[name].items()
    assert found["command"] == f"alikit bench {name}" and re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["versions"]["torch"] == torch.__version__ and found["threads"] > 0 and "cores" in found["hardware"]
    measured = summaries(found)
    assert measured or name in ("precision", "folder")
    assert all(0 < each["lower_quartile"] <= each["median"] <= each["upper_quartile"] for each in measured)
    assert not list(kept.glob(".*"))
    if name in ("compiled", "precision", "memory", "folder", "start"):
        assert not (kept / f"{name}.png").exists()
    else:
        with Image.open(kept / f"{name}.png") as picture:
            assert picture.width > picture.height > 200
        assert (kept / f"{name}.png").stat().st_size < 40_000


def test_what_a_file_tells(small):
    assert [(row["recipe"], row["batch"]) for row in small["batch"]["measured"]] == [
        ("digits", 2),
        ("digits", 4),
        ("mixture-ali", 2),
        ("mixture-ali", 4),
    ]
    assert [(row["networks"], row["size"]) for row in small["size"]["measured"]] == [("small", 8), ("large", 32)]
    row = small["size"]["measured"][1]
    assert row["ms_an_image"]["median"] == pytest.approx(1000 / row["images_per_second"]["median"], rel=0.2)
    assert small["workers"]["runs"] == 2 and small["workers"]["threads"] == 1
    (row,) = small["memory"]["measured"]
    assert 50 < row["imported"] < row["peak"] < row["total_peak"] and (row["batch"], row["labelled_batch"]) == (100, 50)
    start = small["start"]
    assert max(start["shares"], key=start["shares"].get) == "torch"
    assert 0.99 < sum(start["shares"].values()) <= 1.01 and start["widgets"] is None
    (row,) = start["notebooks"]
    assert row["notebook"] == "01_one.ipynb" and row["first_cell"]["median"] > row["kernel"]["median"]


def test_the_page_is_made_of_the_files_alone(kept, monkeypatch, tmp_path):
    for name in report.NAMES:
        monkeypatch.delattr(common.benchmark(name), "measure")
    (kept / "step-digits.json").write_text(json.dumps(STEP))
    (kept / "batch.png").unlink()
    assert report.write_report(kept) == 10
    page = (kept / "README.md").read_text()
    assert (kept / "batch.png").is_file() and page.startswith("# Benchmarks\n")
    assert "ot measured" not in page.replace("Not measured: run `make test`", "")
    assert "The goal, under 2 s, is missed here." in page
    for picture in re.findall(r"!\[.*\]\((.*)\)", page):
        assert (kept / picture).is_file()
    rows = [row for row in page.splitlines() if row.startswith("| digits | 64 |")]
    assert rows == [
        "| digits | 64 | processor, 2 threads, float32, torch 2 | 640 [576, 704] | 320 [288, 352] | 2 [1.9, 2.1] "
        "| 4 [3.8, 4.2] | 1.5 | 0.25 [0.2, 0.3] | 0.5 | 0.1 [0.08, 0.12] "
        "| `alikit bench step digits --out here`, 2026-01-02; load 0.5 before it began |"
    ]
    # Numbers come from the files: another one is another page, and what stands around the marks stays.
    found = json.loads((kept / "workers.json").read_text())
    found["measured"][0]["seconds"]["median"] = 4321.0
    (kept / "workers.json").write_text(json.dumps(found))
    (kept / "README.md").write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n")
    assert report.write_report(kept) == 10
    page = (kept / "README.md").read_text()
    assert "| 1 | 4,321 [" in page and "stale" not in page
    assert page.startswith("before\n") and page.endswith("\nafter\n")


def test_where_nothing_was_measured_no_page_is_made(command, tmp_path):
    status, out, err = command(f"bench report --out {tmp_path}")
    assert (status, out, err.count("\n")) == (2, "", 1) and f"nothing was measured in {tmp_path} yet" in err
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "README.md").write_text(report.HEAD)
    assert report.write_report(tmp_path) == 0
    page = (tmp_path / "README.md").read_text()
    for name in report.NAMES:
        assert f"Not measured: `alikit bench {name}`." in page
    assert page.count("wanted") == 6 and "wanted: `alikit bench step svhn --batch 1000 --device cuda`" in page


def test_a_step_on_a_gpu_is_wanted_no_more(tmp_path):
    gpu = STEP | {"recipe": "svhn", "batch": 100, "device": "A GPU", "precision": "bfloat16"}
    (tmp_path / "step-svhn.json").write_text(json.dumps(gpu))
    on_cpu = STEP | {"recipe": "svhn", "batch": 1000, "plain": True}
    (tmp_path / "step-svhn-cpu.json").write_text(json.dumps(on_cpu))
    assert report.write_report(tmp_path) == 2
    page = (tmp_path / "README.md").read_text()
    assert page.count("wanted") == 5 and "| svhn | 100 | A GPU, bfloat16, torch 2 |" in page
    assert "--batch 1000 --device cuda" in page
    assert "| svhn | 1000 | processor, 2 threads, float32, library layers, torch 2 |" in page


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("step-svhn-batch1000-cuda", "step svhn --batch 1000 --device cuda"),
        ("step-cifar10-semi-small-float32", "step cifar10-semi-small --float32"),
        ("step-of-mine", "step RECIPE"),
        ("batch", "batch"),
    ],
)
def test_the_command_that_measures_a_file_anew(name, command):
    assert report._again(Path("a") / f"{name}.json") == f"alikit bench {command} --out a"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"measured": 1}', None])
@pytest.mark.parametrize("name", [*report.NAMES, "step-svhn"])
def test_a_damaged_file_is_one_line(command, tmp_path, name, text):
    before = "# Mine\n"
    (tmp_path / "README.md").write_text(before)
    if text is None:
        (tmp_path / f"{name}.json").write_bytes(b"\xff\x00")
    else:
        (tmp_path / f"{name}.json").write_text(text)
    status, out, err = command(f"bench report --out {tmp_path}")
    again = f"alikit bench {name.replace('-', ' ')} --out {tmp_path}"
    assert (status, out) == (2, "") and err == (
        f"alikit: {tmp_path / name}.json is damaged or of an older version: measure again with: {again}\n"
    )
    assert (tmp_path / "README.md").read_text() == before


def test_a_page_without_marks_is_left_alone(command, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    status, _, err = command(f"bench report --out {tmp_path}")
    assert status == 2 and err.count("\n") == 1 and "add them" in err
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_no_folder(command, tmp_path):
    status, _, err = command(f"bench report --out {tmp_path / 'none'}")
    assert status == 2 and err.startswith(f"alikit: no folder {tmp_path / 'none'}: ") and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(command, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name in report.NAMES:
        monkeypatch.setattr(common.benchmark(name), "measure", lambda **how: pytest.fail("measured all the same"))
        status, out, err = command(f"bench {name} --out {tmp_path / 'file' / 'kept'}")
        assert (status, out) == (2, "") and err.count("\n") == 1
        assert err.startswith("alikit: cannot write to ") and err.endswith("choose another --out\n")


def test_a_command_measures_and_writes(command, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(common.benchmark("memory"), "measure", lambda **how: asked.update(how) or {"measured": []})
    status, out, _ = command(f"bench memory --out {tmp_path / 'a' / 'b'}")
    assert status == 0 and not asked and out.count("\n") == 1 and "memory.json" in out
    found = json.loads((tmp_path / "a" / "b" / "memory.json").read_text())
    assert found["command"] == f"alikit bench memory --out {tmp_path / 'a' / 'b'}" and found["measured"] == []


def test_a_benchmark_that_fails_leaves_the_file_of_before(tmp_path, monkeypatch):
    (tmp_path / "batch.json").write_text("before")

    def fails():
        raise AlikitError("no")

    monkeypatch.setattr(common.benchmark("batch"), "measure", fails)
    with pytest.raises(AlikitError, match="no"):
        common.keep("batch", tmp_path, "")
    assert (tmp_path / "batch.json").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


# Their parts.


def test_summary_by_hand():
    assert common.summary([1, 2, 3, 4, 5]) == {"median": 3, "lower_quartile": 2, "upper_quartile": 4}
    assert common.summary([1.0, 2.0]) == {"median": 1.5, "lower_quartile": 1.25, "upper_quartile": 1.75}
    assert common.summary([0.00123456]) == dict.fromkeys(SUMMARY, 0.001235)


def test_where_nothing_can_be_compiled_one_line_says_so(monkeypatch):
    def compile(forward, **how):
        def fails(*given):
            raise RuntimeError("No working C++ compiler found\nand so on")

        return fails

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(AlikitError, match=r"^torch\.compile failed on digits: No working C\+\+ compiler found$"):
        common.benchmark("compiled").measure(0.1, ("digits",), 2)


def test_jobs_take_turns_and_each_gets_its_share():
    calls = []
    rates = common.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0, rounds=3)
    assert calls == ["a"] * 2 + ["b"] * 2 + ["a", "b"] * 3  # first and trial call, then the rounds
    assert all(len(found) == 3 and min(found) > 0 for found in rates.values())


def test_every_recipe_has_a_stand_in_with_what_it_wants():
    for recipe in RECIPES.values():
        data = common.stand_in(recipe, 30)
        assert len(data) == 30 and data.shape[1:] == (() if recipe.data == "mixture" else (recipe.networks.size,) * 2)
        assert data.labels is not None or not (recipe.has_labels or recipe.is_conditional)
    assert common.stand_in(RECIPES["celeba-conditional"], 3).conditions().shape == (3, 40)
    assert common.stand_in(RECIPES["digits-conditional"], 3).conditions().shape == (3, 10)


def test_the_highest_is_seen_even_where_it_is_gone_again():
    memory = common.benchmark("memory")

    def job() -> None:
        with mmap.mmap(-1, 100 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as big:
            big[:: mmap.PAGESIZE] = bytes(len(big) // mmap.PAGESIZE)  # a page that was written to is there
            time.sleep(0.3)

    before = memory.mib("RssAnon")
    assert memory.highest(job) > before + 90 and memory.mib("RssAnon") < before + 50


def test_a_process_that_fails_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(AlikitError, match=r"^no memory measured of digits: ended with status 1$"):
        common.benchmark("memory").apart("digits")
    with pytest.raises(AlikitError, match=r"^the study did not run through: ended with status 1$"):
        common.benchmark("workers").study(1, 1, 1)
    with pytest.raises(AlikitError, match=r"^import json failed: ended with status 1$"):
        common.benchmark("start").import_seconds("json")


def test_the_study_is_asked_for_as_the_command_line_takes_it(command, monkeypatch):
    asked = []

    def run(line, **how):
        asked.append(line)
        return subprocess.CompletedProcess(line, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert 0 <= common.benchmark("workers").study(2, 3, 4) < 60
    (line,) = asked
    assert line[:4] == [sys.executable, "-m", "alikit", "study"]
    assert "--runs 3 --steps 4 --workers 2 --threads 1" in shlex.join(line)
    # Refused only after every option was understood.
    status, _, err = command(shlex.join([*line[3:], "--side-by-side"]))
    assert status == 2 and err.startswith("alikit: side by side there are no workers")


def test_an_import_is_timed():
    start = common.benchmark("start")
    assert 0 < start.import_seconds("json") < 60
    shares = start.import_shares("json")
    assert next(iter(shares)) == "Python's own" and sum(shares.values()) == pytest.approx(1)


def test_loading_leaves_the_environment_as_it_was(monkeypatch, tmp_path):
    loading = common.benchmark("loading")
    monkeypatch.setenv("ALIKIT_CACHE", "mine")
    with loading.own_cache(tmp_path):
        assert os.environ["ALIKIT_CACHE"] == str(tmp_path)
    assert os.environ["ALIKIT_CACHE"] == "mine"
    monkeypatch.delenv("ALIKIT_CACHE")
    with loading.own_cache(tmp_path):
        pass
    assert "ALIKIT_CACHE" not in os.environ


SUITE = (
    '<testsuites><testsuite tests="12" failures="{}" errors="0" skipped="2" '
    'time="61.5" timestamp="2026-01-02T03:04:05">'
)
CASE = '<testcase classname="tests.browser.test_latent_space" name="test_a"><properties>{}</properties>{}</testcase>'
MOVES = '<property name="milliseconds" value="[40.0, 30.0, 50.0]"/>'


def results(folder: Path, *cases: str, failures: int = 0) -> Path:
    file = folder / "tests.xml"
    file.write_text(SUITE.format(failures) + "".join(cases) + "</testsuite></testsuites>")
    return file


def test_test_results_are_read(tmp_path):
    start = common.benchmark("start")
    file = results(tmp_path, CASE.format("", "<skipped/>"), CASE.format(MOVES, ""))
    expected = {"median": 40, "lower_quartile": 35, "upper_quartile": 45}
    assert start.answers(file) == [{"panel": "latent space", "milliseconds": expected}]
    counts = {"tests": 12, "failures": 0, "errors": 0, "skipped": 2}
    assert start.tests(file) == {"seconds": 61.5, "date": "2026-01-02", **counts}
    assert start.tests(tmp_path / "none.xml") is None


def test_test_results_that_tell_nothing_are_one_line(tmp_path):
    start = common.benchmark("start")
    with pytest.raises(AlikitError, match=r"^test_a fails: see what python -m pytest tests/browser says$"):
        start.answers(results(tmp_path, CASE.format("", "<failure/>"), failures=1))
    for text in ("<testsuites", "<testsuites/>", '<testsuites><testsuite tests="x"/></testsuites>'):
        (tmp_path / "tests.xml").write_text(text)
        with pytest.raises(AlikitError, match=r"run make test, or remove it$"):
            start.tests(tmp_path / "tests.xml")


def test_what_was_not_to_be_had_is_left_out_with_a_word(small):
    start = common.benchmark("start")
    told = "\n".join(start.told(small["start"] | {"notebooks": None, "widgets": None, "tests": None}))
    assert "nbclient is not installed" in told and "Chromium" in told and "run `make test`" in told
    tests = {"seconds": 600.0, "date": "2026-01-02", "tests": 1200, "failures": 0, "errors": 0, "skipped": 2}
    assert "took 10.0 minutes on 2026-01-02 for 1,200 tests" in "\n".join(start.told(small["start"] | {"tests": tests}))


def test_make_keeps_the_results_that_are_read_here_and_runs_every_benchmark():
    makefile = (common.ROOT / "Makefile").read_text()
    file = common.benchmark("start").TESTS.relative_to(common.ROOT).as_posix()
    assert f"--junitxml={file}" in makefile
    assert " ".join([*report.NAMES, "report"]) in makefile


def test_the_page_is_what_the_files_say(tmp_path):
    page = common.ROOT / "results" / "benchmarks" / "README.md"
    for file in page.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    report.write_report(tmp_path)
    assert (tmp_path / "README.md").read_text() == page.read_text()
