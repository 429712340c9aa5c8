"""The page of the benchmarks, which `alikit bench report` writes from the files beside it; nothing is measured.

Its prose is written by hand, in results/benchmarks/README.md; what stands between two marks comes from a file.
"""

from pathlib import Path

from alikit import reading
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.runs.report import filled, plain, write_page

from .common import ROOT, curves, few, table

PAGE = ROOT / "results" / "benchmarks" / "README.md"
MOST = 2**18  # bytes of a kept file, some hundred times those of the longest
# Ours beside the textbook's on one GPU, wanted as long as it was not measured on any.
WANTED = [(recipe, batch) for recipe in ("svhn", "cifar10", "celeba") for batch in (100, 1000)]
SETTING = ("command", "date", "hardware", "load", "threads", "versions")


def write_report(out: Path) -> int:
    """Fills the places between the marks of out/README.md; the rest stays. Returns how many files it tells of.

    A page that is missing begins with the prose of the recorded one, and a plot that is missing is drawn. Raises
    AlikitError for a file that is damaged, for a page without marks, and where nothing was measured.
    """
    from . import BENCHMARKS

    page, first = out / "README.md", f"measure something first, with alikit bench step svhn --out {out}"
    if not out.is_dir():
        raise AlikitError(f"no folder {out}: {first}")
    source = page if page.exists() else PAGE
    with reading.boundary(page, "write it as text in UTF-8, or move it away"):
        text = reading.content(source, reading.LOG).decode()
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


def _damage(file: Path):
    """For the block that reads a file: AlikitError, with the command that makes it anew, where it is damaged."""
    name = file.stem.replace("step-", "step ")
    return reading.boundary(file, f"measure again with: alikit bench {name} --out {file.parent}")


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
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    rest = ", ".join(f"{name} {value}" for name, value in given.items() if name not in SETTING)
    return (
        f"`{found['command']}`, {found['date']}; {found['hardware']}{_load(found)}; {_threads(found)}; {versions}; "
        f"{rest}."
    )


def _load(found: dict) -> str:
    return "" if found["load"] is None else f"; load {found['load']:g} before it began"


def _threads(found: dict) -> str:
    return f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"


def _place(found: dict) -> str:
    return found["device"] if found["device"] != "cpu" else f"processor, {_threads(found)}"


def _steps(steps: dict[Path, dict]) -> str:
    """A row for each comparison with the textbook's step, then those that are wanted."""
    lines, on_gpu = [], set()
    for file, found in steps.items():
        with _damage(file):
            batch, layers = found["batch"], ", library layers" if found["plain"] else ""
            ours, textbook = ({key: batch * rate for key, rate in found[name].items()} for name in ("ours", "textbook"))
            row = {
                "recipe": found["recipe"],
                "batch": batch,
                "on": f"{_place(found)}, {found['precision']}{layers}, torch {found['torch']}",
                "ours, examples/s": ours,
                "textbook, examples/s": textbook,
                "ours over the textbook's": found["ratio"],
                "the same, the textbook with a loader": found["ratio_with_loader"],
                "GFLOP a step, by definition": few(found["gflop_a_step"]),
                "its share of the rate of a matrix product": found["share_of_matmul"],
                "GFLOP that ours makes of it": few(found["gflop_made"]),
                "its share": found["share_made"],
                "by": f"`{found['command']}`, {found['date']}{_load(found)}",
            }
            lines.append(row)
            if found["device"] != "cpu":
                on_gpu.add((found["recipe"], batch))
    for recipe, batch in WANTED:
        if (recipe, batch) not in on_gpu:
            command = f"`alikit bench step {recipe} --batch {batch} --device cuda`"
            lines.append({"recipe": recipe, "batch": batch, "on": "one GPU", "ours, examples/s": f"wanted: {command}"})
    return table(lines)


def _costs(steps: dict[Path, dict]) -> str:
    """What the published schedules would take at the rates that were measured."""
    lines = []
    for file, found in steps.items():
        with _damage(file):
            recipe = RECIPES[found["recipe"]]
            if found["plain"] or recipe.networks.size is None or found["batch"] < 100:
                continue
            pictures = recipe.steps * recipe.batch_size
            days = pictures / (found["batch"] * found["ours"]["median"]) / 86_400
            model = recipe.build((3, recipe.networks.size, recipe.networks.size))
            row = {
                "recipe": found["recipe"],
                "pictures": f"{pictures / 1e6:.1f} million",
                "batch": found["batch"],
                "on": _place(found),
                "days, one": f"{days:.3g}",
                "days, eight at best": f"{days / 8:.3g}",
                "MB of gradients a step": f"{4 * sum(weight.numel() for weight in model.parameters()) / 1e6:.1f}",
            }
            lines.append(row)
    return table(lines) if lines else "None of the rates above is of such a recipe."
