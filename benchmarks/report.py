"""The page of the benchmarks, which `alikit bench report` writes from the files beside it; nothing is measured.

Its prose is written by hand, in results/benchmarks/README.md; what stands between two marks comes from a file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alikit import reading
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.runs.report import filled, plain, write_page

from .common import ROOT, cell, few, table

PAGE = ROOT / "results" / "benchmarks" / "README.md"
MOST = 2**18  # bytes of a kept file, some hundred times the longest
SETTING = ("command", "date", "hardware", "load", "threads", "versions")
OF_STEP = ("recipe", "batch", "device", "threads", "precision", "plain", "torch")
MEASURED = ("ratio", "ratio_with_loader", "gflop_a_step", "share_of_matmul", "gflop_made", "share_made")


def write_report(out: Path) -> int:
    """Write README.md of the folder from the files in it; nothing is measured.

    Fills the places between the marks; the rest stays. A missing page begins with the prose of the recorded one.
    Returns the number of files. Raises AlikitError for a damaged file, a page without marks, and a folder without
    measurements.
    """
    from . import BENCHMARKS

    page, first = out / "README.md", f"measure something first, with alikit bench step svhn --out {out}"
    if not out.is_dir():
        raise AlikitError(f"no folder {out}: {first}")
    with reading.boundary(page, "write it as text in UTF-8, or move it away"):
        text = reading.content(page if page.exists() else PAGE, reading.LOG).decode()
    parts = {name: [f"Not measured: `alikit bench {name}`."] for name in BENCHMARKS.keys() - {"step", "report"}}
    steps, costs, count = [], [], 0
    for file in sorted(out.glob("step-*.json")):
        with _kept(file) as found:
            steps.append({key: cell(value) for key, value in _step(found).items()})
            costs += _cost(found)
    for name, one in BENCHMARKS.items():
        if (file := out / f"{name}.json").exists():
            count += 1
            with _kept(file) as found:
                parts[name] = [*one.tables(found), _setting(found)]
    if not (count or steps or page.exists()):
        raise AlikitError(f"nothing was measured in {out} yet: {first}")
    nothing = "Not measured: `alikit bench step svhn --out results/benchmarks`."
    parts["step"] = [table(steps) if steps else nothing]
    parts["cost"] = [table(costs) if costs else "None of the rates above is of such a recipe."]
    write_page(page, filled(text, page, parts))
    return count + len(steps)


@contextmanager
def _kept(file: Path) -> Iterator[dict]:
    """The contents of a kept file, as a page can hold them. AlikitError, with the command that measures it again, if
    it is damaged, or has not what the block reads."""
    name = file.stem.replace("step-", "step ")
    with reading.boundary(file, f"measure again with: alikit bench {name} --out {file.parent}"):
        yield dict(plain(reading.parsed(reading.content(file, MOST))))


def rows(found: dict) -> list[str]:
    """The rows of a file as they are, as a table."""
    return [table(found["measured"])]


def _setting(found: dict) -> str:
    """What a benchmark was measured with: command, machine, versions, and every number that it was given."""
    load = "" if found["load"] is None else f"; load {found['load']:g} before it began"
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    given = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    rest = ", ".join(f"{name} {value}" for name, value in given.items() if name not in SETTING)
    return f"`{found['command']}`, {found['date']}; {found['hardware']}{load}; {threads}; {versions}; {rest}."


def _step(found: dict) -> dict:
    """A row for a comparison with the textbook's step."""
    row = {key: found[key] for key in OF_STEP}
    for name in ("ours", "textbook"):
        row[f"{name}, examples/s"] = {key: found["batch"] * rate for key, rate in found[name].items()}
    row |= {name: found[name] for name in MEASURED}
    return row | {"command": f"`{found['command']}`, {found['date']}", "load": found["load"]}


def _cost(found: dict) -> list[dict]:
    """What a published schedule would take at the rate that was measured; a row, or none for another recipe."""
    recipe, side = RECIPES[found["recipe"]], RECIPES[found["recipe"]].networks.size
    if found["plain"] or side is None or found["batch"] < 100:
        return []
    pictures = recipe.steps * recipe.batch_size
    days = pictures / (found["batch"] * found["ours"]["median"]) / 86_400
    weights = sum(weight.numel() for weight in recipe.build((3, side, side)).parameters())
    row = {key: found[key] for key in ("recipe", "batch", "device", "threads")}
    row |= {"pictures": f"{pictures / 1e6:.1f} million", "days, one": few(days), "days, eight at best": few(days / 8)}
    return [row | {"MB of gradients a step": f"{4 * weights / 1e6:.1f}"}]
