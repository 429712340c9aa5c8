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

from .common import ROOT, cell, curves, few, spread, table

PAGE = ROOT / "results" / "benchmarks" / "README.md"
MOST = 2**18  # bytes of a kept file, some hundred times those of the longest
SETTING = ("command", "date", "hardware", "load", "threads", "versions")
OF_STEP = ("recipe", "batch", "device", "threads", "precision", "plain", "torch")
MEASURED = ("ratio", "ratio_with_loader", "gflop_a_step", "share_of_matmul", "gflop_made", "share_made")


def write_report(out: Path) -> int:
    """Write README.md of the folder from the files that lie there; nothing is measured.

    Fills the places between the marks; the rest stays. A page that is missing begins with the prose of the recorded
    one, and a plot that is missing is drawn. Returns how many files it tells of. Raises AlikitError for a file that is
    damaged, for a page without marks, and where nothing was measured.
    """
    from . import BENCHMARKS

    page, first = out / "README.md", f"measure something first, with alikit bench step svhn --out {out}"
    if not out.is_dir():
        raise AlikitError(f"no folder {out}: {first}")
    with reading.boundary(page, "write it as text in UTF-8, or move it away"):
        text = reading.content(page if page.exists() else PAGE, reading.LOG).decode()
    steps = {file: _read(file) for file in sorted(out.glob("step-*.json"))}
    found = {name: _read(file) for name in BENCHMARKS if (file := out / f"{name}.json").exists()}
    if not (found or steps or page.exists()):
        raise AlikitError(f"nothing was measured in {out} yet: {first}")
    parts = {"step": [_steps(steps)], "cost": [_costs(steps)]}
    for name, one in BENCHMARKS.items():
        if name in found:
            with _damage(out / f"{name}.json"):
                parts[name] = [*one.tables(found[name]), _setting(found[name])]
                if one.curves:
                    parts[name].insert(0, f"![{one.help.partition('. ')[0]}]({name}.png)")
                    if not (out / f"{name}.png").is_file():
                        curves(out / f"{name}.png", found[name]["measured"], *one.curves)
        elif name not in ("step", "report"):
            parts[name] = [f"Not measured: `alikit bench {name}`."]
    for name, paragraphs in parts.items():
        text = filled(text, page, (f"<!-- {name} -->", f"<!-- end of {name} -->"), paragraphs)
    write_page(page, text)
    return len(found) + len(steps)


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """For the block that reads a file: AlikitError, with the command that makes it anew, where it is damaged."""
    name = file.stem.replace("step-", "step ")
    with reading.boundary(file, f"measure again with: alikit bench {name} --out {file.parent}"):
        yield


def _read(file: Path) -> dict:
    """The contents of a kept file, as a page can hold them."""
    with _damage(file):
        return dict(plain(reading.parsed(reading.content(file, MOST))))


def rows(found: dict) -> list[str]:
    """The rows of a file as they are, as a table."""
    return [table(found["measured"])]


def _setting(found: dict) -> str:
    """What a benchmark was measured with: command, machine, versions, and every number that it was given."""
    given = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    load = "" if found["load"] is None else f"; load {found['load']:g} before it began"
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    rest = ", ".join(f"{name} {value}" for name, value in given.items() if name not in SETTING)
    return f"`{found['command']}`, {found['date']}; {found['hardware']}{load}; {threads}; {versions}; {rest}."


def _steps(steps: dict[Path, dict]) -> str:
    """A row for each comparison with the textbook's step."""
    lines = []
    for file, found in steps.items():
        with _damage(file):
            line = {key: cell(found[key]) for key in OF_STEP}
            line |= {"batch": f"{found['batch']:d}", "threads": f"{found['threads']:d}"}
            for name in ("ours", "textbook"):
                line[f"{name}, examples/s"] = spread({key: found["batch"] * of for key, of in found[name].items()})
            for name in MEASURED:
                line[name] = few(found[name]) if name.startswith("gflop") else spread(found[name])
            line["command"] = f"`{found['command']}`, {found['date']}"
            line["load"] = "" if found["load"] is None else few(found["load"])
            lines.append(line)
    return table(lines) if lines else "Not measured: `alikit bench step svhn --out results/benchmarks`."


def _costs(steps: dict[Path, dict]) -> str:
    """What the published schedules would take at the rates that were measured."""
    lines = []
    for file, found in steps.items():
        with _damage(file):
            recipe, side = RECIPES[found["recipe"]], RECIPES[found["recipe"]].networks.size
            if not found["plain"] and side is not None and found["batch"] >= 100:
                pictures = recipe.steps * recipe.batch_size
                days = pictures / (found["batch"] * found["ours"]["median"]) / 86_400
                weights = sum(weight.numel() for weight in recipe.build((3, side, side)).parameters())
                line = {key: found[key] for key in ("recipe", "batch", "device", "threads")}
                line |= {
                    "pictures": f"{pictures / 1e6:.1f} million",
                    "days, one": days,
                    "days, eight at best": days / 8,
                }
                lines.append(line | {"MB of gradients a step": f"{4 * weights / 1e6:.1f}"})
    return table(lines) if lines else "None of the rates above is of such a recipe."
