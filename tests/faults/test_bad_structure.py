"""Properties: whatever stands in a file of the right form, reading it ends in what was asked for, or in one line."""

import contextlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from started import SOAK
from torch.utils._pytree import tree_flatten, tree_unflatten

from alikit import RECIPES, AlikitError, Dataset, runs
from alikit.errors import one_line
from alikit.runs.settings import Facts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SETTINGS = {
    **{"format": 2, "recipe": "digits", "data": "digits", "size": None, "skip_corrupt": False, "seed": 0, "steps": 2},
    **{"decoder": None, "x_shape": [1, 8, 8], "number_of_classes": 10, **RECIPES["digits"].config(), "ema": 0.9},
}
NAMES = st.sampled_from(sorted({*Facts.model_fields, *SETTINGS, "other"}))
DATA = Dataset("noise", torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8), torch.arange(100) % 10)
TENSORS = [torch.zeros(()), torch.zeros(3), torch.full((256,), torch.nan), torch.zeros(256, dtype=torch.int)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bad")


@contextlib.contextmanager
def one_line_at_most():
    try:
        yield
    except AlikitError as error:
        assert str(error) and str(error).isprintable()


@given(changes=st.dictionaries(NAMES, JSON, min_size=1, max_size=3), earlier=st.booleans())
def test_settings_are_what_the_rest_takes_them_for_or_refused(folder, changes, earlier):
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, "format": 1 if earlier else 2, **changes}))
    with one_line_at_most():
        found = runs.read_settings(folder)
        if found["recipe"] == "digits" and found["x_shape"] == [1, 8, 8]:
            runs.trainer({**found, "decoder": None}, DATA)


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


@pytest.fixture(scope="module")
def trained():
    """A function, for hypothesis prints its arguments."""
    trainer = runs.trainer(SETTINGS, DATA)
    trainer.run(1)
    return trainer.state


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@settings(max_examples=1000 if SOAK else 30)
@given(choice=st.data())
def test_a_checkpoint_is_of_this_run_or_refused(folder, trained, choice):
    """Where one of its tensors or numbers is another, or a whole part of it."""
    state, bad = trained(), choice.draw(JSON | st.sampled_from(TENSORS))
    if choice.draw(st.booleans()):
        state[choice.draw(st.sampled_from([*state]))] = bad
    else:
        leaves, form = tree_flatten(state)
        leaves[choice.draw(st.integers(0, len(leaves) - 1))] = bad
        state = tree_unflatten(leaves, form)
    trainer = runs.trainer(SETTINGS, DATA)
    torch.save(state, folder / "checkpoint.pt")
    with one_line_at_most():
        runs.go_on(folder, trainer, runs.checkpoint(folder))
        trainer.run(trainer.step + 1)  # must not crash


@given(text=st.text())
def test_whatever_a_file_is_called_its_message_is_one_printable_line(text):
    line = one_line(f"{text}\x1b[2J\r\n\u202e\udcff")
    assert line.isprintable() and line.encode()
    assert one_line(line) == line and str(AlikitError(text)).isprintable()
