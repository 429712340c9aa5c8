"""The benchmark: a textbook step that plays the same game, numbers that are what they say, and one line of JSON."""

import importlib.util
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import alikit
from alikit.__main__ import main
from alikit.convolutions import Quick
from alikit.networks import Maxout, Thin
from alikit.recipes import RECIPES

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "step.py"
spec = importlib.util.spec_from_file_location("step", FILE)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

RATES = ("ours", "textbook", "textbook_with_loader", "ratio", "ratio_with_loader", "gflops", "matmul_gflops")
SUMMARY = {"lower_quartile", "median", "upper_quartile"}


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
        *("recipe", "batch", "device", "threads", "torch", "precision", "plain", "gflop_a_step", "gflop_made"),
        *("share_of_matmul", "share_made"),
        *RATES,
    }
    assert (found["recipe"], found["batch"], found["device"]) == ("mixture-ali-paper", 10, "cpu")
    assert (found["threads"], found["torch"]) == (torch.get_num_threads(), torch.__version__)
    for name in (*RATES, "share_of_matmul"):
        assert found[name].keys() == SUMMARY
        assert 0 < found[name]["lower_quartile"] <= found[name]["median"] <= found[name]["upper_quartile"]


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


def test_outside_a_checkout(command, monkeypatch, tmp_path):
    monkeypatch.setattr(alikit, "__file__", str(tmp_path / "alikit" / "__init__.py"))
    status, out, err = command("bench step digits")
    assert (status, out) == (2, "")
    assert err == "alikit: the benchmarks do not come with the installed package: run this in a checkout of alikit\n"
