"""The panels as a reader meets them: JupyterLab in a real browser, moved by keyboard and mouse."""

from itertools import combinations

import pytest
from browsing import Panel, opened, until

CELLS = [
    "import torch\nfrom alikit.widgets import Between, Pencil, Sliders\ntorch.set_num_threads(1)",
    'Sliders("../results", first="celeba-small")',
    'Pencil("../results", first="celeba-small")',
    'Between("../results", first="celeba-small")',
    """
import alikit
from alikit.data.conditions import switched
from alikit.data.synthetic.faces import ATTRIBUTES
from alikit.widgets import Switches

torch.manual_seed(0)
model = alikit.RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)
for weight in model.decoder.parameters():
    if weight.ndim > 1:  # as they are drawn at first, they show nothing
        torch.nn.init.kaiming_normal_(weight)
y = switched(torch.zeros(14), ["Male", "Black_Hair", "Young"], ATTRIBUTES)
starts = {"female, smiling": switched(y, ["-Male", "Smiling"], ATTRIBUTES)}
Switches(model, ATTRIBUTES, y, starts=starts)
""",
]
SIDES = (("x", "width"), ("y", "height"))
ARC = [(0.2, 0.3), (0.4, 0.2), (0.6, 0.3), (0.7, 0.5), (0.6, 0.7), (0.4, 0.8)]


def test_make_lab_opens_the_first_notebook_and_greets_with_nothing_else(browser, address, course):
    """The first test, before any other notebook has been opened."""
    page = opened(browser, address)
    page.wait_for_timeout(3000)  # news come late
    notebooks = sorted(file.name for file in (course / "notebooks").glob("*.ipynb"))
    files = [name.strip() for name in page.locator(".jp-DirListing-itemText").all_inner_texts()]
    assert [name for name in files if name.endswith(".ipynb")] == notebooks
    assert page.locator("#jp-main-dock-panel .lm-TabBar-tabLabel").all_inner_texts() == notebooks[:1]
    assert page.locator(".jp-Dialog, .Toastify__toast, .jp-Notification-Toast").all_inner_texts() == []
    page.close()


def test_a_slider_changes_the_picture_in_its_place_and_in_time(page, record_property):
    Panel(page, "axis 1", "truncation").answers_in_time("axis 1", record_property, "latent space")


def test_another_run_and_back_again_after_a_move(page):
    sliders = Panel(page, "axis 1", "truncation")
    run = sliders.control("run").locator("select")
    begin = sliders.changed(lambda: run.select_option("cifar10-small"))
    page.wait_for_timeout(500)
    assert sliders.look() == begin, "the picture changes though nobody touches it"
    sliders.move("axis 1")
    sliders.place.get_by_role("button", name="reset").click()
    until(lambda: sliders.look() == begin, "reset did not bring the very same picture back", 10)
    sliders.changed(lambda: run.select_option("tiny-imagenet-small"))
    line = sliders.message.bounding_box()["height"]
    run.select_option("damaged")
    until(lambda: "damaged: " in sliders.message.inner_text(), "nothing is said of the damaged run")
    assert "\n" not in sliders.message.inner_text() and sliders.message.bounding_box()["height"] <= line
    assert run.evaluate("select => select.selectedOptions[0].text") == "tiny-imagenet-small"
    sliders.move("axis 1")


def test_the_way_between_two_pictures(page):
    panel = Panel(page, "on the way")
    panel.move("on the way")
    panel.changed(lambda: panel.press("on the way", "End"))


def test_a_stroke_is_drawn_encoded_and_decoded(page):
    panel = Panel(page, "axis 1", canvas=True)
    canvas = panel.place.locator("canvas").first
    shown = [canvas.element_handle(), panel.picture(0), panel.picture(1)]
    before, box = [panel.look(each) for each in shown], canvas.bounding_box()
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ARC]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    for each, was in zip(shown, before, strict=True):
        until(lambda each=each, was=was: panel.look(each) != was, "a stroke changed nothing", 10)


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
    panel.answers_in_time("Smiling", record_property, "switches panel")
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
