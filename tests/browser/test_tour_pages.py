"""The pages of `make tour` as a reader meets them: each opened once in a real browser, without a network."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KINDS = ("image/png", "image/jpeg")  # the first of them is shown

LOOK = """() => {
    const all = selector => [...document.querySelectorAll(selector)];
    const seen = element => element.checkVisibility() && element.getBoundingClientRect().width > 0 &&
        element.getBoundingClientRect().height > 0;
    all('details').forEach(folded => folded.open = true);
    const prose = document.body.cloneNode(true);
    prose.querySelectorAll('pre, code, math, style').forEach(element => element.remove());
    return {
        pictures: all('img').map(picture => picture.naturalWidth > 0 && seen(picture) ? picture.src : 'not seen'),
        formulas: all('math').length,
        unseen: all('math').filter(formula => !seen(formula) || formula.querySelector('merror')).length,
        typed: prose.textContent.match(/.{0,20}[\\\\$].{0,20}/g),
        links: [...document.links].map(link => link.href),
        ids: all('[id]').map(element => element.id),
    };
}"""
# What goes beyond the window, or beyond a box that hides the rest, where nothing scrolls.
CUT = """() => [...document.querySelectorAll('body *')].filter(element => {
    const style = getComputedStyle(element);
    if (['hidden', 'clip'].includes(style.overflowX)) return element.scrollWidth > element.clientWidth + 1;
    if (element.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
    for (let box = element; box !== document.body; box = box.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory) -> Path:
    """Of the stored outputs. The browser is asked for first, for without one nothing is written."""
    folder = tmp_path_factory.mktemp("pages")
    assert runpy.run_path(str(ROOT / "tools" / "tour.py"))["tour"](NOTEBOOKS, folder, True) == 0
    return folder


def formulas(source: str) -> int:
    """Counted by their dollar signs, outside code."""
    prose = re.sub(r"(?ms)^```.*?^```|`[^`]*`", "", source)
    return prose.count("$$") // 2 + prose.replace("$$", "").count("$") // 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_all_that_is_stored_and_fits_a_telephone(browser, pages, path):
    complaints, asked = [], []
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((pages / f"{path.stem}.html").as_uri())
    found = page.evaluate(LOOK)
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    pictures = [(kind, data[kind]) for data in outputs if (kind := next((k for k in KINDS if k in data), None))]
    assert found["pictures"] == [f"data:{kind};base64,{''.join(data.split())}" for kind, data in pictures]
    markdown = [cell.source for cell in cells if cell.cell_type == "markdown"]
    markdown += [data["text/markdown"] for data in outputs if "text/markdown" in data]
    assert found["formulas"] == sum(map(formulas, markdown)) > 20
    assert (found["unseen"], found["typed"]) == (0, None)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT) == [], f"cut off in a window {width} pixels wide"
    for link in found["links"]:
        address, _, name = link.partition("#")
        assert not address.startswith("file:") or Path(address.removeprefix("file://")).is_file(), link
        assert not name or address != page.url or name in found["ids"], link
    assert complaints == [] and [url for url in asked if not url.startswith("data:")] == [page.url]
    page.close()


def test_the_index_leads_to_every_page(browser, pages):
    page = browser.new_page()
    page.goto((pages / "index.html").as_uri())
    for path in NOTEBOOKS:
        page.locator(f'h2 a[href="{path.stem}.html"]').click()
        assert page.title() == page.locator("h1").first.inner_text().rstrip("¶")
        page.get_by_role("link", name="Adversarially Learned Inference").first.click()
    assert page.url.endswith("/index.html")
    page.close()
