"""What the browser tests share: a panel in a notebook, as a person sees and moves it."""

import statistics
import time
from collections.abc import Callable

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
