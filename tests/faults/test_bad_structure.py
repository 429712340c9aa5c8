"""Properties: whatever stands in a file of the right form, reading it ends in what was asked for, or in one line."""

import contextlib
import json
import os
import struct
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alikit import Dataset, reading, runs, storage
from alikit.data.folders import _read_table
from alikit.errors import AlikitError, one_line
from alikit.recipes import RECIPES
from alikit.settings import SETTINGS as ALL_SETTINGS
from alikit.settings import is_shape

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TRAINED = {"batch_size": 64, "lr": 1e-4, "betas": [0.5, 0.999], "decay": False}
SETTINGS = {
    **{"format": 1, "recipe": "digits", "data": "digits", "size": None, "skip_corrupt": False, "seed": 0, "steps": 2},
    **{**TRAINED, "decoder": None, "x_shape": [1, 8, 8], "number_of_classes": 10, "averaging": 0.0, "digest": None},
}
NAMES = st.sampled_from(sorted(ALL_SETTINGS)) | st.sampled_from(["format", "recipe", "other"])
DATA = Dataset("noise", torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8), torch.arange(100) % 10)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextlib.contextmanager
def one_line_at_most():
    try:
        yield
    except AlikitError as error:
        assert str(error) and str(error).isprintable()


@given(changes=st.dictionaries(NAMES, JSON, min_size=1, max_size=3))
def test_settings_are_what_the_rest_takes_them_for_or_refused(folder, changes):
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, **changes}))
    with one_line_at_most():
        settings = runs.settings(folder)
        runs._untrained(settings)
        if settings["recipe"] == "digits" and settings["x_shape"] == [1, 8, 8]:
            runs.trainer({**settings, "decoder": None}, DATA)


@given(text=st.text(alphabet=st.sampled_from('image,split\n"\r train01-\x1b\0\ufeff'), max_size=200))
def test_a_table_is_read_or_refused(folder, text):
    (folder / "images").mkdir(exist_ok=True)
    (folder / "attributes.csv").write_bytes(("image,split,Young\n" + text).encode())
    with one_line_at_most():
        names, rows = _read_table(folder)
        assert names and all(len(marks) == len(names) for _, marks in rows.values())


@given(
    lines=st.lists(JSON | st.fixed_dictionaries({"step": JSON}, optional={"seconds": JSON}), max_size=4), cut=st.text()
)
def test_a_log_is_lines_with_a_step_or_refused(folder, lines, cut):
    text = "".join(json.dumps(line) + "\n" for line in lines) + cut
    (folder / "metrics.jsonl").write_bytes(text.encode(errors="surrogatepass"))
    with one_line_at_most():
        found = runs.metrics(folder)
        assert sum(line["step"] + line.get("seconds", 0) for line in found) is not None
        assert len(lines) <= len(found) <= len(lines) + 1 + cut.count("\n")


TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "C64", "F4", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=4) | JSON,
        "data_offsets": st.tuples(st.integers(0, 64), st.integers(0, 64)) | JSON,
    }
)
LAYER = torch.nn.Linear(3, 2)


@given(header=st.dictionaries(st.sampled_from(["weight", "bias", "weight.scale"]), TENSOR) | JSON)
def test_a_safetensors_header_is_a_network_or_refused(folder, header):
    text = json.dumps(header).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(32))
    with one_line_at_most():
        storage.from_file(LAYER, folder / "x.safetensors")
    assert all(parameter.isfinite().all() for parameter in LAYER.parameters())


def _paths(tree: object, above: tuple = ()) -> list[tuple]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return [above, *(path for key, inner in items for path in _paths(inner, (*above, key)))]


def _replaced(tree: object, path: tuple, value: object) -> object:
    if not path:
        return value
    if isinstance(tree, dict):
        return {key: _replaced(inner, path[1:], value) if key == path[0] else inner for key, inner in tree.items()}
    changed = [_replaced(inner, path[1:], value) if at == path[0] else inner for at, inner in enumerate(tree)]
    return type(tree)(changed)


def _trained():
    trainer = runs.trainer({**SETTINGS, "averaging": 0.9}, DATA)
    trainer.run(1)
    return trainer, trainer.state()


TENSORS = st.sampled_from(
    [torch.zeros(()), torch.zeros(3), torch.full((256,), torch.nan), torch.zeros(256, dtype=torch.int)]
)


@given(choice=st.data())
def test_a_checkpoint_is_of_this_run_or_refused_and_nothing_has_changed(trained, choice):
    trainer, state = trained
    bad = _replaced(state, choice.draw(st.sampled_from(_paths(state)[1:])), choice.draw(JSON | TENSORS))
    before = torch.get_rng_state()
    weights = [parameter.clone() for parameter in trainer.model.parameters()]
    try:
        trainer.resume(bad)
    except AlikitError as error:
        assert str(error).isprintable() and trainer.step == 1
        assert torch.equal(torch.get_rng_state(), before)
        assert all(map(torch.equal, weights, trainer.model.parameters()))
    else:
        trainer.one_step()  # must not crash
    finally:
        trainer.resume(state)


@pytest.fixture(scope="module")
def trained():
    return _trained()


@given(text=st.text())
def test_whatever_a_file_is_called_its_message_is_one_printable_line(text):
    line = one_line(f"{text}\x1b[2J\r\n\u202e\udcff")
    assert line.isprintable() and line.encode()
    assert one_line(line) == line and str(AlikitError(text)).isprintable()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_regular_files_are_opened(tmp_path, make):
    make(tmp_path / "x")
    for read in (reading.opened, reading.content, lambda file: list(reading.lines(file))):
        with pytest.raises(OSError, match="no regular file"):
            read(tmp_path / "x")


def test_no_more_is_read_than_was_allowed(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    assert reading.content(tmp_path / "x", 10) == b"0123456789"
    with pytest.raises(OSError, match="larger than 9 bytes"):
        reading.content(tmp_path / "x", 9)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        list(reading.lines(tmp_path / "x", 9))
    (tmp_path / "x").write_bytes(b"\n" + b"a" * 2**20 + b"\n")
    with pytest.raises(OSError, match="line 2 is larger than 1,048,576 bytes"):
        list(reading.lines(tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"a" * (2**20 - 1) + b"\nb")
    assert [len(line) for line in reading.lines(tmp_path / "x")] == [2**20, 1]


def test_every_recipe_fits_the_largest_example_that_settings_allow():
    shapes = [(2,) if recipe.networks.size is None else (3, *[recipe.networks.size] * 2) for recipe in RECIPES.values()]
    assert all(is_shape(list(shape)) for shape in shapes)
