"""The panel of switches in a real browser, in a notebook of its own, with an untrained model."""

from itertools import combinations

import pytest
from browsing import Panel, until

SIDES = (("x", "width"), ("y", "height"))
CELLS = [
    """
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
]


class Switchboard(Panel):
    """What `Panel` does, with switches instead of sliders."""

    def control(self, name: str):
        return self.place.get_by_role("button", name=name)

    def press(self, name: str, key: str = "Space") -> None:
        self.control(name).press(key)

    def pressed(self) -> list[str]:
        return [text.removeprefix("✓ ") for text in self.place.locator(".jupyter-button.mod-active").all_inner_texts()]


@pytest.fixture
def panel(page) -> Switchboard:
    return Switchboard(page, "new z")


def test_a_switch_changes_the_picture_in_its_place_and_in_time(panel, record_property):
    assert panel.pressed() == ["Black Hair", "Male", "Young"]
    panel.answers_in_time("Smiling", record_property)
    assert panel.pressed() == ["Black Hair", "Male", "Smiling", "Young"]
    assert "Male, Smiling, Young" in panel.message.inner_text()


def test_switches_are_gone_through_by_keyboard_and_put_back(page, panel):
    panel.control("Blond Hair").focus()
    panel.changed(lambda: page.keyboard.press("Space"))
    assert "Blond Hair" in panel.pressed() and "Black Hair" not in panel.pressed()
    page.keyboard.press("Tab")
    panel.changed(lambda: page.keyboard.press("Space"))
    assert "Brown Hair" in panel.pressed() and "Blond Hair" not in panel.pressed()
    panel.control("back").click()
    until(lambda: panel.pressed() == ["Black Hair", "Male", "Young"], "back did not put the switches back")
    panel.changed(panel.control("new z").click)
    assert "z of seed 1" in panel.message.inner_text()
    panel.changed(lambda: panel.place.locator("select").select_option("female, smiling"))
    assert panel.pressed() == ["Black Hair", "Smiling", "Young"]


@pytest.mark.parametrize("width", [1400, 900])
def test_nothing_overlaps(page, panel, width):
    page.set_viewport_size({"width": width, "height": 1200})
    page.wait_for_timeout(500)
    boxes = [each.bounding_box() for each in panel.place.locator("button, input, select, img").all()]
    boxes = [box for box in boxes if box]
    assert len(boxes) == 1 + 2 * 14 + 5
    for a, b in combinations(boxes, 2):
        apart = (a[at] + a[size] <= b[at] + 0.5 or b[at] + b[size] <= a[at] + 0.5 for at, size in SIDES)
        assert any(apart), (a, b)
    cut = panel.place.locator("button").evaluate_all("all => all.filter(b => b.scrollWidth > b.clientWidth).length")
    assert not cut, "a switch does not show all of its name"
