"""The panels of notebook 04 as a reader meets them: JupyterLab in a real browser, moved by keyboard and mouse."""

from browsing import Panel, opened, until

CELLS = [
    "import torch\nfrom alikit.widgets import Between, Pencil, Sliders\ntorch.set_num_threads(1)",
    'Sliders("../results", first="celeba-small")',
    'Pencil("../results", first="celeba-small")',
    'Between("../results", first="celeba-small")',
]
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
    Panel(page, "axis 1", "truncation").answers_in_time("axis 1", record_property)


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
