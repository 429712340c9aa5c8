"""The panels as a reader meets them: JupyterLab in a real browser, moved by keyboard and mouse, on a copy of the
course, for on its own notebooks it would save over them.
"""

import os
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
METADATA = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
PLACES = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
MOVES = 9  # whose median counts
IN_TIME = 1000  # ms for an answer, on any machine; 100 is what one wants
ALIVE = {"waiting": 0, "errors": [], "dead": 0}

IN_PAGE = """
// The pixels that an image or a canvas shows; the same text for the same pixels.
window.look = async picture => {
    while (picture.complete === false) await new Promise(requestAnimationFrame);
    const copy = document.createElement('canvas');
    copy.width = picture.naturalWidth || picture.width;
    copy.height = picture.naturalHeight || picture.height;
    copy.getContext('2d').drawImage(picture, 0, 0);
    return copy.toDataURL();
};
// From the next key that is pressed to the next picture in this place, in ms.
window.await_answer = picture => {
    window.answer = new Promise(done => addEventListener('keydown', () => {
        const pressed = performance.now();
        picture.addEventListener('load', () => done(performance.now() - pressed), {once: true});
    }, {once: true, capture: true}));
};
window.kernel = () => jupyterapp.shell.currentWidget.sessionContext.session.kernel;
// The widget that a cell shows, and running a cell.
const cells = () => jupyterapp.shell.currentWidget.content;
const views = output => output.data?.['application/vnd.jupyter.widget-view+json']?.model_id;
window.panel_of = number => cells().widgets[number].model.sharedModel.toJSON().outputs.map(views).find(id => id);
window.run = async number => {
    cells().activeCellIndex = number;
    await jupyterapp.commands.execute('notebook:run-cell');
};
// Code cells that have not run, errors, and views of widgets that this kernel knows nothing of.
window.not_done = () => {
    const all = cells().model.sharedModel.cells.map(cell => cell.toJSON());
    const code = all.filter(cell => cell.cell_type === 'code' && String(cell.source).trim());
    const outputs = code.flatMap(cell => cell.outputs);
    return {
        waiting: code.filter(cell => !cell.execution_count).length,
        errors: outputs.filter(output => output.output_type === 'error').map(error => error.evalue),
        dead: outputs.map(views).filter(id => id && !kernel().hasComm(id)).length,
    };
};
"""
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


def until(true: Callable[[], object], complaint: str, seconds: float = 20) -> None:
    """Waits until true() is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{complaint}, in {seconds:g} s"
        time.sleep(0.05)


def opened(browser, address: str):
    """A page of the browser, when the notebook in it has its kernel."""
    page = browser.new_page(viewport={"width": 1400, "height": 1200})
    page.add_init_script(IN_PAGE)
    page.goto(address, timeout=60_000)
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)
    return page


class Panel:
    """The first panel of the notebook in which all of these controls are found, by what stands before them."""

    def __init__(self, page, *names: str, canvas: bool = False):
        self.page = page
        outputs = page.locator(".jp-OutputArea-output:has(.jupyter-widgets)")
        outputs = outputs.filter(**{"has" if canvas else "has_not": page.locator("canvas")})
        for name in names:
            outputs = outputs.filter(has=page.get_by_text(name, exact=True))
        self.place = outputs.first
        self.place.scroll_into_view_if_needed()
        self.message = self.place.locator(".widget-html-content").first

    def control(self, name: str):
        return self.place.locator(".widget-inline-hbox").filter(has=self.page.get_by_text(name, exact=True))

    def press(self, name: str, key: str = "ArrowRight") -> None:
        self.control(name).locator(".noUi-handle").press(key)

    def picture(self, number: int = 0):
        """The element itself: a new one in its place is not taken for it."""
        return self.place.locator("img").nth(number).element_handle()

    def look(self, picture=None) -> str:
        """The pixels it shows, when the kernel has said all that it has to say."""
        self.page.wait_for_function("() => kernel().status === 'idle'")
        return (picture or self.picture()).evaluate("picture => look(picture)")

    def changed(self, act: Callable[[], object], picture=None) -> str:
        """What a picture shows after an act that is to change it."""
        picture = picture or self.picture()
        before = self.look(picture)
        act()
        until(lambda: self.look(picture) != before, "the picture did not change", 10)
        return self.look(picture)

    def move(self, name: str) -> float:
        """One step of a slider by keyboard, which is to change the picture in its place: in how many ms it did."""
        cell = self.page.locator(".jp-Cell", has=self.place).locator("img, .jp-OutputArea-output")
        picture, images = self.picture(), cell.count()
        picture.evaluate("picture => await_answer(picture)")
        self.changed(lambda: self.press(name), picture)
        assert picture.evaluate("picture => picture.isConnected") and cell.count() == images, "not changed in place"
        return self.page.evaluate("() => answer")

    def answers_in_time(self, name: str, record_property, called: str) -> None:
        """Of an odd number of moves, so that a switch is on at last."""
        assert self.page.evaluate("not_done()") == ALIVE and self.page.locator(".jp-Dialog").count() == 0
        moves = [self.move(name) for _ in range(MOVES)]
        record_property(called, moves)  # in milliseconds, for benchmarks/start.py
        assert statistics.median(moves) <= IN_TIME


class Switchboard(Panel):
    """What `Panel` does, with switches instead of sliders."""

    def control(self, name: str):
        return self.place.get_by_role("button", name=name)

    def press(self, name: str, key: str = "Space") -> None:
        self.control(name).press(key)

    def pressed(self) -> list[str]:
        return [text.removeprefix("✓ ") for text in self.place.locator(".jupyter-button.mod-active").all_inner_texts()]


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """A folder with a copy of notebooks/ and, beside it, results/: the recorded runs, and one that is damaged."""
    course = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", course / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (course / "results").mkdir()
    for entry in (ROOT / "results").iterdir():
        (course / "results" / entry.name).symlink_to(entry)
    damaged = shutil.copytree(ROOT / "results" / "celeba-small", course / "results" / "damaged")
    os.truncate(damaged / "codes.safetensors", 1000)
    return course


@pytest.fixture(scope="session")
def address(browser, course, tmp_path_factory) -> Iterator[str]:
    """Of `make lab` of a newcomer, without settings of his own, open tabs or proxies; but no token is asked for, and
    tests may ask its pages what the notebook's cells and its kernel do."""
    left_out = {name for name in os.environ if name.lower().endswith("_proxy") or name.startswith(("MAKE", "MFLAGS"))}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    make = ["make", "--dry-run", "lab", f"PORT={port}", "OPTIONS=--no-browser"]
    said = subprocess.check_output(make, cwd=ROOT, env=environment, text=True)
    given = shlex.split(said.replace("\\\n", "").partition(" -m jupyterlab ")[2])
    given += ["--IdentityProvider.token=", "--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    home = tmp_path_factory.mktemp("jupyter")
    environment |= {name: str(home / name) for name in PLACES}
    with (home / "log").open("w") as log:
        how = {"cwd": course, "env": environment, "stdout": log, "stderr": log}
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *given], **how)
    try:
        ready = f"http://localhost:{port}/lab"
        until(lambda: ready in (home / "log").read_text() or server.poll() is not None, "no JupyterLab", 60)
        assert server.poll() is None, (home / "log").read_text()
        yield f"http://localhost:{port}"
    finally:
        server.terminate()  # it shuts its kernels down first
        server.wait(30)


@pytest.fixture(scope="module")
def page(browser, address, course) -> Iterator:
    """A notebook of the CELLS, each of them run."""
    name = "panels.ipynb"
    notebook = new_notebook(cells=[*map(new_code_cell, CELLS)], metadata=METADATA)
    nbformat.write(notebook, course / "notebooks" / name)
    page = opened(browser, f"{address}/lab/tree/{name}?reset")  # without the tabs of the last one
    page.get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    ran = "() => !not_done().waiting || not_done().errors.length"
    page.wait_for_function(ran, timeout=100_000, polling=200)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)
    yield page
    page.close()


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


def test_every_formula_of_the_course_is_one_for_jupyterlab(browser, address, course):
    r"""It sets a command that it does not know in red, without a word: \argmin or \bm, which the tour reads."""
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    markdown = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    markdown = re.sub(r"(?ms)^```.*?^```|`[^`]*`", "", markdown)
    formulas = sorted(set(re.findall(r"\$\$[^$]+\$\$|\$[^$]+\$", markdown)))
    notebook = new_notebook(cells=[new_markdown_cell("\n\n".join(formulas))], metadata=METADATA)
    nbformat.write(notebook, course / "notebooks" / "formulas.ipynb")
    page = opened(browser, f"{address}/lab/tree/formulas.ipynb?reset")
    page.wait_for_function(f"document.querySelectorAll('.jp-Notebook mjx-container').length >= {len(formulas)}")
    wrong = page.locator("mjx-container").filter(has=page.locator("merror, [style*=color], [mathcolor]"))
    assert len(formulas) > 100 and wrong.all_text_contents() == []
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


def test_a_cell_that_is_run_again_gives_up_its_panel_and_no_other_one(page):
    """IPython itself keeps the last three results."""
    shown, runs = [], 5
    for _ in range(runs):
        shown.append(page.evaluate("panel_of(1)"))
        page.evaluate("run(1)")
        page.wait_for_function("() => kernel().status === 'idle'")
    assert [page.evaluate("id => kernel().hasComm(id)", model) for model in shown] == [False] * (runs - 2) + [True] * 2
    assert page.evaluate("not_done()") == ALIVE
    Panel(page, "axis 1", "truncation").move("axis 1")
    between = Panel(page, "on the way")
    between.changed(lambda: between.press("on the way", "Home"))
    Switchboard(page, "new z").move("Smiling")
