"""The tables of recorded runs in `results/README.md`, written from what lies beside it by `report.md.jinja`."""

import html
import math
import os
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

from .. import reading, runs
from ..errors import AlikitError, one_line
from ..training import Config
from .records import metrics_of, restore

PARTS = {"recorded": "recorded runs", "conditional": "conditional runs"}  # of the template, and their marks
OVER_SEEDS = {
    "Frechet distance": "fidelity_frechet",
    "precision": "fidelity_precision",
    "recall": "fidelity_recall",
    "error of the mean code": "reconstruction_mean",
    "of a drawn one": "reconstruction_drawn",
    "cycle": "codes_cycle",
    "KL": "codes_kl",
    "checkerboard": "checkerboard_luma",
    "chroma": "checkerboard_chroma",
}


def write_report(results: Path) -> int:
    """Writes the tables of the records in a folder between the marks of its README.md, that of conditional runs only
    where its marks are there. A missing page is made. Returns the number of records. AlikitError where marks are
    missing or a record is damaged.

    Records of the same run with other seeds lie in `seeds/`; of these the settings and the metrics are enough. The page
    then has means over the seeds, with 95 % intervals (Student's t).
    """
    from jinja2 import Environment, StrictUndefined  # torch brings it; only where a page is written

    if not results.is_dir():
        raise AlikitError(f"no folder {results}: name one that alikit record has written to")
    if (results / "settings.json").is_file():
        raise AlikitError(f"{results} is a run, or the record of one: name the folder that such records lie in")
    page, text = results / "README.md", "# Recorded runs\n\n<!-- recorded runs -->\n<!-- end of recorded runs -->\n"
    if page.exists():
        with reading.boundary(page, "make it a text in UTF-8, or move it away"):
            text = reading.content(page, reading.LOG).decode().replace(": written by alikit report -->", " -->")
    for place in (results, results / "seeds"):
        for before in place.glob(".*.partial/before"):
            restore(place / before.parent.name.removeprefix(".").removesuffix(".partial"))
    # A study has metrics without settings; a record may have no weights, and one that is damaged may have no metrics.
    folders = {file.parent for file in results.glob("*/metrics.json") if (file.parent / "settings.json").is_file()}
    folders |= {file.parent for file in results.glob("*/decoder.safetensors")}
    again = {file.parent for file in results.glob("seeds/*/settings.json") if not file.parent.name.startswith(".")}
    template = Path(__file__).with_name("report.md.jinja").read_text(encoding="utf-8")
    render = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(template).render
    records = []
    for folder in [*sorted(folders), *sorted(again)]:
        with reading.boundary(folder, "record the run again, with this version of alikit"):
            about = _about(folder)
            about |= {"with_seeds": [about], "over_seeds": {}}
            for part in PARTS:  # alone, so that an error names its record
                render(part=part, records=[about])
            if folder in again:
                _add_seed(records, about, folder)
            else:
                records.append(about)
    here = {part: name for part, name in PARTS.items() if part == "recorded" or f"{name} -->" in text}
    parts = {name: [render(part=part, records=records).strip()] for part, name in here.items()}
    write_page(page, filled(text, page, parts))
    return len(records)


def _about(folder: Path) -> dict:
    """What the page says of a record: its settings, its numbers and what else lies there."""
    about = plain(runs.read_settings(folder))
    # JSON holds null for a number that was not finite.
    about |= {name: math.nan if value is None else value for name, value in plain(metrics_of(folder)).items()}
    about |= {"name": plain(folder.name), "place": quote(os.fsencode(folder.name))}
    about |= {"has_weights": (folder / "decoder.safetensors").is_file(), "has_grid": (folder / "grid.png").is_file()}
    if "attributes_of" in about:
        rise = {name: row["asked"] - row["unasked"] for name, row in about["attributes_of"].items()}
        about |= {"names": tuple(rise), "by_rise": sorted(rise, key=rise.get, reverse=True)}
    return about


def _add_seed(records: list[dict], about: dict, folder: Path) -> None:
    """Adds a record with another seed to the one that is like it but for the seed."""
    names = ("recipe", "steps", "decoder", "from_run", "data_name", *(field.name for field in fields(Config)))

    def like(record: dict) -> bool:
        same_data = (a == b for a, b in zip(*(each.get("digest", ()) for each in (record, about)), strict=False))
        return all(record.get(name) == about.get(name) for name in names) and all(same_data)  # older digests are short

    record = next(filter(like, records), None)
    if record is None:
        raise AlikitError(f"{folder} is of no run that is recorded here: record that one too, or move this away")
    if about["seed"] in (each["seed"] for each in record["with_seeds"]):
        raise AlikitError(f"{folder} has seed {about['seed']}, and so has another record of this run: move it away")
    record["with_seeds"] = sorted([*record["with_seeds"], about], key=lambda each: each["seed"])
    record["over_seeds"] = over_seeds(record["with_seeds"])


def over_seeds(records: list[dict]) -> dict[str, str]:
    """Of two records or more the mean of what all of them have measured, with its 95 % interval (Student's t)."""
    from scipy import stats

    found, n = {}, len(records)
    for title, name in OVER_SEEDS.items():
        if all(name in record for record in records):
            values = [record[name] for record in records]
            found[title] = f"{sum(values) / n:.3g} ± {stats.t.ppf(0.975, n - 1) * stats.sem(values):.2g}"
    return found


def plain(value: object) -> object:
    """The same, with every text in it as a page can hold it: in one line, without mark-up."""
    if isinstance(value, str):
        return html.escape(one_line(value), quote=False).replace("|", r"\|").replace("`", "'")
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    return [*map(plain, value)] if isinstance(value, list) else value


def filled(text: str, page: Path, parts: dict[str, list[str]]) -> str:
    """A page's text with the paragraphs of each part between its marks `<!-- NAME -->` and `<!-- end of NAME -->`, in
    place of what stood there. AlikitError without the marks."""
    for name, paragraphs in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise AlikitError(f"{page} must hold the lines {begin} and {end}, once and in this order: add them")
        before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
        text = "\n\n".join([before, *paragraphs, after])
    return text


def write_page(page: Path, text: str) -> None:
    """Writes a page, whole or not at all. AlikitError where it cannot be written."""
    runs.write_whole(page, lambda file: file.write_text(text, encoding="utf-8"))
