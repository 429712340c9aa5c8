"""The panel of switches in a real browser, in a notebook of its own, with an untrained model."""

import json
import statistics

import pytest
from browsing import until
from test_latent_space import IN_TIME, MOVES, Panel, new_page, wait_for_kernel

NAME = "switches.ipynb"
SOURCE = """
import torch
import alikit
from alikit.data.conditions import switched
from alikit.data.synthetic.faces import ATTRIBUTES
from alikit.widgets import Switches

torch.set_num_threads(1)
torch.manual_seed(0)
model = alikit.RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)
for weight in model.decoder.parameters():
    if weight.ndim > 1:  # as they are drawn at first, they show nothing
        torch.nn.init.kaiming_normal_(weight)
y = switched(torch.zeros(14), ["Male", "Black_Hair", "Young"], ATTRIBUTES)
starts = {"female, smiling": switched(y, ["-Male", "Smiling"], ATTRIBUTES)}
Switches(model, ATTRIBUTES, y, starts=starts)
"""


class Switchboard(Panel):
    """What `Panel` does, with switches instead of sliders."""

    def control(self, name: str):
        return self.place.get_by_role("button", name=name)

    def press(self, name: str, key: str = "Space") -> None:
        self.control(name).press(key)

    def pressed(self) -> list[str]:
        return [text.removeprefix("✓ ") for text in self.place.locator(".jupyter-button.mod-active").all_inner_texts()]

    def says(self, what: str) -> bool:
        return what in self.place.locator(".widget-html-content").first.inner_text()


@pytest.fixture(scope="module")
def page(browser, lab, course):
    """The notebook, its cell run."""
    cell = {"cell_type": "code", "id": "a", "execution_count": None, "metadata": {}, "outputs": [], "source": SOURCE}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (course / "notebooks" / NAME).write_text(json.dumps(notebook), encoding="utf-8")
    with lab("--LabApp.expose_app_in_browser=True") as address:
        page = new_page(browser)
        page.goto(f"{address}/lab/tree/{NAME}")
        wait_for_kernel(page)
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        ran = "() => !not_done().waiting || not_done().errors.length"
        page.wait_for_function(ran, timeout=120_000, polling=200)
        wait_for_kernel(page)
        yield page
        page.close()


@pytest.fixture
def panel(page) -> Switchboard:
    return Switchboard(page, "new z")


def test_the_panel_is_alive(page):
    assert page.evaluate("not_done()") == {"waiting": 0, "errors": [], "dead": 0}


def test_a_switch_changes_the_picture_in_its_place_and_in_time(panel, capsys, record_property):
    panel.shoot("switches")
    assert panel.pressed() == ["Black Hair", "Male", "Young"]
    moves = [panel.move("Smiling") for _ in range(MOVES)]  # an odd number: it is on at last
    median = statistics.median(moves)
    record_property("milliseconds", moves)  # for benchmarks/start.py
    panel.shoot("switches-moved")
    assert panel.pressed() == ["Black Hair", "Male", "Smiling", "Young"] and panel.says("Male, Smiling, Young")
    with capsys.disabled():
        print(f" a switch is answered in {median:.0f} ms ", end="")
    assert median <= IN_TIME


def test_switches_are_gone_through_by_keyboard(page, panel):
    panel.control("Blond Hair").focus()
    before = panel.look(panel.picture())
    page.keyboard.press("Space")
    before = panel.until_new(panel.picture(), before, "Space")
    assert "Blond Hair" in panel.pressed() and "Black Hair" not in panel.pressed()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    panel.until_new(panel.picture(), before, "Tab and Space")
    assert "Brown Hair" in panel.pressed() and "Blond Hair" not in panel.pressed()


def test_back_and_another_z(panel):
    panel.control("back").click()
    until(lambda: panel.pressed() == ["Black Hair", "Male", "Young"], "back did not put the switches back")
    before = panel.look(panel.picture())
    panel.control("new z").click()
    panel.until_new(panel.picture(), before, "new z")
    assert panel.says("z of seed 1")


def test_another_start(panel):
    before = panel.look(panel.picture())
    panel.place.locator("select").select_option("female, smiling")
    panel.until_new(panel.picture(), before, "another start")
    assert panel.pressed() == ["Black Hair", "Smiling", "Young"]


def test_nothing_overlaps(page, panel):
    """In a wide window and in a narrow one."""
    for width in (1400, 900):
        page.set_viewport_size({"width": width, "height": 1200})
        page.wait_for_timeout(500)
        panel.shoot(f"switches-{width}")
        found = panel.place.locator("button, input, select, img").all()
        boxes = [box for box in (each.bounding_box() for each in found) if box]
        assert len(boxes) == 1 + 2 * 14 + 5
        for number, a in enumerate(boxes):
            assert not any(overlap(a, b) for b in boxes[:number]), f"{width}: {a}"
        cut = panel.place.locator("button").evaluate_all("all => all.filter(b => b.scrollWidth > b.clientWidth).length")
        assert not cut, f"{width}: a switch does not show all of its name"


def overlap(a: dict, b: dict) -> bool:
    return all(
        a[start] + a[size] > b[start] + 0.5 and b[start] + b[size] > a[start] + 0.5
        for start, size in (("x", "width"), ("y", "height"))
    )
