"""Notebook 04 as a reader meets it: JupyterLab in a real browser, its panels moved by keyboard and mouse."""

import json
import statistics
from hashlib import sha256

import pytest
from browsing import SHOTS, until

NOTEBOOK = "04_latent_space.ipynb"
MOVES = 9  # whose median is told
IN_TIME = 1000  # ms for an answer, on any machine; 100 is what one wants

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
// Code cells that have not run, errors, and views of widgets that this kernel knows nothing of.
window.not_done = () => {
    const cells = jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map(cell => cell.toJSON());
    const code = cells.filter(cell => cell.cell_type === 'code' && String(cell.source).trim());
    const outputs = code.flatMap(cell => cell.outputs);
    const views = outputs.map(output => output.data?.['application/vnd.jupyter.widget-view+json']?.model_id);
    return {
        waiting: code.filter(cell => !cell.execution_count).length,
        errors: outputs.filter(output => output.output_type === 'error').map(error => error.evalue),
        dead: views.filter(id => id && !kernel().hasComm(id)).length,
    };
};
"""


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
        self.run = self.control("run").locator("select")

    def control(self, name: str):
        return self.place.locator(".widget-inline-hbox").filter(has=self.page.get_by_text(name, exact=True))

    def press(self, name: str, key: str = "ArrowRight") -> None:
        self.control(name).locator(".noUi-handle").press(key)

    def picture(self, number: int = 0):
        """The element itself: a new one in its place is not taken for it."""
        return self.place.locator("img").nth(number).element_handle()

    def look(self, picture) -> str:
        """The pixels it shows, as a short text, when the kernel has said all that it has to say."""
        self.page.wait_for_function("() => kernel().status === 'idle'")
        return sha256(picture.evaluate("picture => look(picture)").encode()).hexdigest()

    def images(self) -> int:
        """In the whole cell, all that it put out."""
        return self.page.locator(".jp-Cell", has=self.place).locator("img, .jp-OutputArea-output").count()

    def until_new(self, picture, before: str, done: str) -> str:
        until(lambda: self.look(picture) != before, f"{done} did not change the picture", 10)
        return self.look(picture)

    def choose(self, name: str) -> str:
        """Another run; returns the picture it begins with."""
        before = self.look(self.picture())
        self.run.select_option(name)
        return self.until_new(self.picture(), before, f"choosing {name}")

    def move(self, name: str) -> float:
        """One step of a slider by keyboard, which is to change the picture in its place: in how many ms it did."""
        picture, images = self.picture(), self.images()
        before = self.look(picture)
        picture.evaluate("picture => await_answer(picture)")
        self.press(name)
        self.until_new(picture, before, f"{name}, moved a step,")
        assert picture.evaluate("picture => picture.isConnected") and self.images() == images, "not changed in place"
        return self.page.evaluate("() => answer")

    def shoot(self, name: str) -> None:
        self.place.screenshot(path=SHOTS / f"{name}.png")


def new_page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1200})
    page.add_init_script(IN_PAGE)
    return page


def wait_for_kernel(page) -> None:
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)


@pytest.fixture(scope="module")
def notebook(course):
    """Its path, stored widgets and pictures and all, but without the numbers of its runs, so as to tell a new run."""
    path = course / "notebooks" / NOTEBOOK
    stored = json.loads(path.read_text(encoding="utf-8"))
    for cell in stored["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
    path.write_text(json.dumps(stored), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(browser, lab, notebook):
    """The notebook, every cell of it run."""
    with lab("--LabApp.expose_app_in_browser=True") as address:
        page = new_page(browser)
        page.goto(f"{address}/lab/tree/{NOTEBOOK}")
        wait_for_kernel(page)
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        ran = "() => !not_done().waiting || not_done().errors.length"
        page.wait_for_function(ran, timeout=400_000, polling=200)
        wait_for_kernel(page)
        yield page
        page.close()


def test_every_cell_runs_and_every_panel_is_alive(page):
    assert page.evaluate("not_done()") == {"waiting": 0, "errors": [], "dead": 0}
    assert page.locator(".jp-Dialog").count() == 0


def test_a_slider_changes_the_picture_in_its_place_and_in_time(page, capsys, record_property):
    panel = Panel(page, "axis 1", "truncation")
    panel.shoot("sliders")
    moves = [panel.move("axis 1") for _ in range(MOVES)]
    median = statistics.median(moves)
    record_property("milliseconds", moves)  # for benchmarks/start.py
    panel.shoot("sliders-moved")
    with capsys.disabled():
        print(f" a move is answered in {median:.0f} ms ", end="")
    assert median <= IN_TIME


def test_another_run_and_back_again_after_a_move(page):
    panel = Panel(page, "axis 1", "truncation")
    begin = panel.choose("cifar10-small")
    page.wait_for_timeout(500)
    assert panel.look(panel.picture()) == begin, "the picture changes though nobody touches it"
    panel.shoot("sliders-cifar10")
    panel.move("axis 1")
    panel.place.get_by_role("button", name="reset").click()
    until(lambda: panel.look(panel.picture()) == begin, "reset did not bring the very same picture back", 10)


def test_a_damaged_run_is_said_and_the_panel_goes_on(page):
    panel = Panel(page, "axis 1", "truncation")
    panel.choose("tiny-imagenet-small")
    line = panel.message.bounding_box()["height"]
    panel.run.select_option("damaged")
    until(lambda: "damaged: " in panel.message.inner_text(), "nothing is said of the damaged run")
    panel.shoot("sliders-damaged")
    assert "\n" not in panel.message.inner_text() and panel.message.bounding_box()["height"] <= line
    assert panel.run.evaluate("select => select.selectedOptions[0].text") == "tiny-imagenet-small"
    panel.move("axis 1")


def test_the_way_between_two_pictures(page):
    panel = Panel(page, "on the way")
    panel.shoot("between")
    panel.move("on the way")
    panel.press("on the way", "End")
    panel.shoot("between-end")


def test_a_stroke_is_drawn_encoded_and_decoded(page):
    panel = Panel(page, "axis 1", canvas=True)
    panel.shoot("pencil")
    canvas = panel.place.locator("canvas").first
    shown = {"canvas": canvas.element_handle(), "given": panel.picture(0), "decoded": panel.picture(1)}
    before = {name: panel.look(element) for name, element in shown.items()}
    draw(page, canvas.bounding_box())
    for name, element in shown.items():
        panel.until_new(element, before[name], f"a stroke ({name})")
    panel.shoot("pencil-drawn")


def draw(page, box: dict) -> None:
    """An arc through the middle."""
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ARC]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


ARC = [(0.2, 0.3), (0.4, 0.2), (0.6, 0.3), (0.7, 0.5), (0.6, 0.7), (0.4, 0.8)]


def test_make_lab_opens_the_first_notebook_and_greets_with_nothing_else(browser, lab, course):
    with lab() as address:
        page = new_page(browser)
        page.goto(address)
        wait_for_kernel(page)
        page.wait_for_timeout(3000)  # news come late
        page.screenshot(path=SHOTS / "start.png")
        notebooks = sorted(file.name for file in (course / "notebooks").glob("*.ipynb"))
        files = [name.strip() for name in page.locator(".jp-DirListing-itemText").all_inner_texts()]
        assert [name for name in files if name.endswith(".ipynb")] == notebooks
        assert page.locator("#jp-main-dock-panel .lm-TabBar-tabLabel").all_inner_texts() == notebooks[:1]
        greetings = page.locator(".jp-Dialog, .Toastify__toast, .jp-Notification-Toast")
        assert greetings.all_inner_texts() == []
        page.close()
