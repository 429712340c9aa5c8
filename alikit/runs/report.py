"""The table of recorded runs in `results/README.md`, written from what lies beside it."""

import html
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .. import reading, runs
from ..errors import AlikitError, one_line, unwritten
from .records import measured_of, restore

BEGIN, END = "<!-- recorded runs: written by alikit report -->", "<!-- end of recorded runs -->"
ASKED_BEGIN, ASKED_END = "<!-- conditional runs: written by alikit report -->", "<!-- end of conditional runs -->"
# The paper's own settings, wanted as long as no recorded run has them. It shows pictures for these and gives no number.
WANTED = {
    "cifar10": "alikit train cifar10 --data folder:data/cifar10-jpeg --epochs 100",
    "svhn": "alikit train svhn --download",
    "celeba": "alikit train celeba --data table:data/celeba-30k-64px --epochs 100",
    "tiny-imagenet": "alikit train tiny-imagenet --data folder:data/tiny-imagenet-25k --epochs 100",
}


def write_report(results: Path) -> int:
    """Writes what stands between the two marks of `results/README.md`, and where the page has those of conditional runs
    too, what was measured of them; the rest stays. Returns how many runs it lists, those of which the weights are not
    kept among them. A page that is missing is made. AlikitError where its marks are missing."""
    if not results.is_dir():
        raise AlikitError(f"no folder {results}: name one that alikit record has written to")
    if (results / "settings.json").is_file():
        raise AlikitError(f"{results} is a run, or the record of one: name the folder that such records lie in")
    page = results / "README.md"
    try:
        text = reading.content(page, reading.LOG).decode() if page.exists() else f"# Recorded runs\n\n{BEGIN}\n{END}\n"
    except (OSError, UnicodeDecodeError):
        raise AlikitError(f"{page} is no text in UTF-8: mend it, or move it away") from None
    for before in results.glob(".*.partial/before"):
        restore(results / before.parent.name.removeprefix(".").removesuffix(".partial"))
    folders = {file.parent for file in results.glob("*/decoder.safetensors")}
    # And those of which the weights are not kept. What a study has measured has no settings beside it.
    folders |= {file.parent for file in results.glob("*/metrics.json") if (file.parent / "settings.json").is_file()}
    found = {folder: plain(runs.settings(folder)) for folder in sorted(folders)}
    parts = [_table(found), *(_section(folder, known) for folder, known in found.items())]
    new = filled(text, page, (BEGIN, END), parts)
    if ASKED_BEGIN in text or ASKED_END in text:
        new = filled(new, page, (ASKED_BEGIN, ASKED_END), _asked(found))
    write_page(page, new)
    return len(found)


def plain(value: object) -> object:
    """The same, with every text in it as a page can hold it: in one line, and with nothing that the page would obey."""
    if isinstance(value, str):
        return html.escape(one_line(value), quote=False).replace("|", r"\|").replace("`", "'")
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    return [*map(plain, value)] if isinstance(value, list) else value


def filled(text: str, page: Path, marks: tuple[str, str], parts: list[str]) -> str:
    """A page's text with `parts` between its two marks, in place of what stood there. AlikitError without the marks."""
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise AlikitError(f"{page} must hold the lines {begin} and {end}, once and in this order: add them")
    return "\n\n".join([text[: text.index(begin) + len(begin)], *parts, text[text.index(end) :]])


def write_page(page: Path, text: str) -> None:
    """Writes a page, whole or not at all. AlikitError where it cannot be written."""
    try:
        runs.write_whole(page, lambda file: file.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise unwritten(error, page, "or name another folder") from None


@contextmanager
def _of(folder: Path) -> Iterator[None]:
    """What is said of one record: AlikitError, which names it, where it lacks a number or has a word in its place."""
    try:
        yield
    except AlikitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise AlikitError(f"{folder} is damaged or of an older version of alikit: record the run again") from None


def _table(found: dict[Path, dict]) -> str:
    lines = [
        "| run | pictures seen | reconstruction error: mean code, drawn code (mean picture) "
        "| Frechet distance (real pictures) | precision, recall (real) | probe (pixels, majority) "
        "| copying | the paper's number |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for folder, known in found.items():
        with _of(folder):
            lines.append(_row(folder, known))
    here = {known["recipe"] for known in found.values() if not known["data"].startswith("stand-in:")}
    for recipe, command in WANTED.items():
        if recipe not in here:
            lines.append(f"| {recipe}, the paper's networks | wanted, takes a GPU: `{command}` |" + " |" * 6)
    return "\n".join(lines)


def _row(folder: Path, known: dict) -> str:
    m = _measured(folder)
    seen = f"{known['images_seen'] / 1e6:.2f} million"
    error = f"{m['reconstruction_mean']:.4f}, {m['reconstruction_drawn']:.4f} ({m['reconstruction_baseline']:.4f})"
    frechet = f"{m['fidelity_frechet']:.2f} ({m['fidelity_frechet_floor']:.2f})"
    within = (
        f"{m['fidelity_precision']:.2f}, {m['fidelity_recall']:.2f} "
        f"({m['fidelity_precision_ceiling']:.2f}, {m['fidelity_recall_ceiling']:.2f})"
    )
    probe = "no labels"
    if "probe_accuracy" in m:
        # Of attributes it is an average over answers about the same pictures: no simple interval then.
        half = 1.96 * math.sqrt(m["probe_accuracy"] * (1 - m["probe_accuracy"]) / m["probe_n"])
        interval = "" if known["classes"] and m["probe_attributes"] else f" ± {half:.1%}"
        probe = f"{m['probe_accuracy']:.1%}{interval} ({m['probe_pixels']:.1%}, {m['probe_baseline']:.1%})"
    copying = f"{m['copying_share']:.3f} ± {1.96 * m['copying_chance']:.3f}"
    cells = [
        f"[{plain(folder.name)}]({quote(os.fsencode(folder.name))}): {known['data_name']}",
        seen,
        error,
        frechet,
        within,
        probe,
        copying,
        "pictures only",
    ]
    return f"| {' | '.join(cells)} |"


def _measured(folder: Path) -> dict:
    """The metrics of a record; a number that was not finite, which JSON cannot hold, is one again."""
    try:
        found = plain(measured_of(folder))
    except (OSError, ValueError):
        raise AlikitError(f"{folder / 'metrics.json'} is missing or damaged: record the run again") from None
    if "probe_accuracy" in found and "probe_n" not in found:
        raise AlikitError(f"{folder} is of an older version of alikit: record the run again")
    return {name: math.nan if value is None else value for name, value in found.items()}


def _section(folder: Path, known: dict) -> str:
    with _of(folder):
        return _told(folder, known)


def _told(folder: Path, known: dict) -> str:
    name, place = plain(folder.name), quote(os.fsencode(folder.name))
    kept = "" if (folder / "decoder.safetensors").is_file() else " Its weights are not kept here, for their size."
    seeds = f"seed {known['seed']}, one run: how much another seed would differ is not known"
    return f"""### {name}

`{known["command"]}`, then `alikit record`. {known["data_name"]}; {known["hardware"]}; {known["hours"]:.1f} hours for
{known["images_seen"] // known["batch_size"]:,} steps of {known["batch_size"]}; torch {known["versions"]["torch"]};
{seeds}.{kept}

| samples | reconstructions (mean code above, drawn code below) |
| --- | --- |
| ![samples of {name}]({place}/samples.png) | ![reconstructions of {name}]({place}/reconstructions.png) |"""


def _asked(found: dict[Path, dict]) -> list[str]:
    """Of conditional runs with attributes a row each, then those with the same ones side by side, and their grids."""
    measured = {folder: m for folder in found if "attributes_of" in (m := _measured(folder))}
    if not measured:
        return ["No conditional run is recorded here."]
    lines = [
        "| run | command | pictures seen | epochs | as asked, of the grid's attributes: plain, balanced "
        "| of all: plain, balanced | judge on real pictures | the rest stays | re-encoded: balanced, the rest stays |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alike: dict[tuple[str, ...], dict[Path, dict]] = {}
    for folder, m in measured.items():
        with _of(folder):
            alike.setdefault(tuple(m["attributes_of"]), {})[folder] = m
            lines.append(_asked_row(folder, found[folder], m))
    parts = ["\n".join(lines), *(_of_each(names, these) for names, these in alike.items())]
    for folder in measured:
        if (folder / "grid.png").is_file():
            name, place = plain(folder.name), quote(os.fsencode(folder.name))
            parts.append(
                f"![the paper's grid, by {name}]({place}/grid.png)\n\n*{name}: one code, the first that its seed "
                "gives, and the paper's 48 requests. All four rows are also asked to be attractive; what a row and a "
                "column do not name is as with most of the training pictures that share what the row names.*"
            )
    return parts


def _asked_row(folder: Path, known: dict, m: dict) -> str:
    grid = "no grid"
    if "attributes_grid" in m:
        grid = f"{m['attributes_grid']:.3f}, {m['attributes_grid_balanced']:.3f}"
    cells = [
        f"[{plain(folder.name)}]({quote(os.fsencode(folder.name))})",
        f"`{known['command']}`",
        f"{known['images_seen'] / 1e6:.2f} million",
        f"{known['images_seen'] / known['digest'][0]:.0f}",
        grid,
        f"{m['attributes_accuracy']:.3f}, {m['attributes_balanced']:.3f}",
        f"{m['attributes_judge']:.3f}",
        f"{m['attributes_kept']:.3f}",
        f"{m['attributes_reencoded_balanced']:.3f}, {m['attributes_reencoded_kept']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _of_each(names: tuple[str, ...], runs_alike: dict[Path, dict]) -> str:
    """A row an attribute, a column a run; those first that the first run does best."""
    first = next(iter(runs_alike.values()))["attributes_of"]
    head = [f"{plain(folder.name)}: judge; seen if asked, if not; difference" for folder in runs_alike]
    with _of(next(iter(runs_alike))):  # the only one, as a rule
        return _rows_of_each(names, runs_alike, first, head)


def _rows_of_each(names: tuple[str, ...], runs_alike: dict[Path, dict], first: dict, head: list[str]) -> str:
    lines = [f"| attribute | of training pictures | {' | '.join(head)} |", "| --- " * (2 + len(head)) + "|"]
    for name in sorted(names, key=lambda name: first[name]["unasked"] - first[name]["asked"]):
        cells = []
        for m in runs_alike.values():
            row = m["attributes_of"][name]
            judge = "none" if row["judge"] is None else f"{row['judge']:.2f}"
            difference = f"{row['asked'] - row['unasked']:+.3f} ± {row['interval']:.3f}"
            cells.append(f"{judge}; {row['asked']:.3f}, {row['unasked']:.3f}; {difference}")
        lines.append(f"| {name.replace('_', ' ')} | {first[name]['share']:.1%} | {' | '.join(cells)} |")
    return "\n".join(lines)
