"""How long panels live: a cell that is run again does not pile them up, and what is still shown goes on working."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from ipywidgets import HBox
from ipywidgets.widgets import widget
from test_panels import ATTRIBUTES, made

import alikit
from alikit.widgets import Between, Pencil, Sliders, Switches, panel


def switches() -> tuple[Switches, weakref.ref]:
    model = alikit.RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)
    return Switches(model, ATTRIBUTES, torch.zeros(14)), weakref.ref(model)


def over_runs(kind: type) -> tuple[panel.Panel, weakref.ref]:
    shown = kind(models={"a": made()})
    return shown, weakref.ref(shown.space.model)


MAKERS = [switches, lambda: over_runs(Sliders), lambda: over_runs(Between), lambda: over_runs(Pencil)]


def widgets() -> int:
    gc.collect()
    return len(widget._instances)


@pytest.mark.parametrize("make", MAKERS, ids=["switches", "sliders", "between", "pencil"])
def test_a_cell_that_is_run_again_does_not_pile_up_panels(make):
    shown = make()[0]  # ipycanvas keeps a widget of its own from the first time on
    one, models = widgets(), []
    for _ in range(3):
        shown, model = make()
        models.append(model)
    assert widgets() == one and [model() is None for model in models] == [True, True, False]
    shown.close()
    assert widgets() < one - 20 and models[-1]() is None
    del shown
    left = widgets()
    other = make()[0]
    other.close(), other.close()
    assert widgets() == left


@pytest.mark.parametrize("name", ["y", "z"])
def test_a_panel_that_cannot_be_made_leaves_nothing(name):
    before, wrong = widgets(), {"y": torch.zeros(14), name: torch.zeros(3)}
    model = alikit.RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)
    with pytest.raises(alikit.AlikitError):
        Switches(model, ATTRIBUTES, **wrong)
    assert widgets() == before


def moved(shown: Sliders) -> bool:
    """Whether the picture follows a slider that the browser moves."""
    before, state = shown.picture.value, {"value": shown.axes[0].value + 1 if shown.axes[0].value < 3 else -3}
    shown.axes[0].comm.handle_msg({"content": {"data": {"method": "update", "state": state}}, "buffers": []})
    return shown.picture.value != before


def test_of_two_panels_over_one_run_both_work():
    """One that stands in another widget is held by it."""
    runs = {"a": made()}
    first, box = Sliders(models=runs), HBox([Sliders(models=runs)])
    assert widgets() and moved(first) and moved(box.children[0])
    first.close()
    assert widgets() and moved(box.children[0])


class Shell:
    """A notebook, of which `run` runs a cell: it makes a panel, and shows it as its last line or by display."""

    def __init__(self):
        self.user_ns, self.count = {"_oh": {}}, 0

    def get_parent(self) -> dict:
        return {"header": {"msg_id": str(self.count)}, "metadata": {"cellId": self.cell}, "content": {"code": "cell"}}

    def drop_by_id(self, variables: dict) -> None:
        assert all(self.user_ns.pop(name) is value for name, value in variables.items())

    def run(self, cell: str, make: Callable[[], Sliders], as_last_line: bool) -> weakref.ref:
        self.cell, self.count = cell, self.count + 1
        shown = make()
        shown._repr_mimebundle_()
        if as_last_line:
            self.user_ns["_oh"][self.count] = self.user_ns[f"_{self.count}"] = shown
        return weakref.ref(shown)


@pytest.mark.parametrize("as_last_line", [True, False])
def test_what_a_cell_shows_lives_until_the_cell_is_run_again(monkeypatch, as_last_line):
    """Though no name holds it."""
    shell, runs = Shell(), {"a": made()}
    monkeypatch.setattr(panel, "get_ipython", lambda: shell)
    monkeypatch.setattr(panel, "_shown", {})
    make = lambda: Sliders(models=runs)  # noqa: E731
    one, other = shell.run("one", make, as_last_line), shell.run("other", make, as_last_line)
    assert widgets() and moved(one()) and moved(other())
    again = [shell.run("one", make, as_last_line) for _ in range(3)]
    assert widgets() and one() is None and moved(other())
    assert [shown() is None for shown in again] == [True, True, False]
    shell.run("third", other, as_last_line)  # shows it too, and goes on when the cell that made it has another one
    shell.run("other", make, as_last_line)
    assert widgets() and moved(other())
    shell.run("third", make, as_last_line)
    assert widgets() and other() is None
