"""The page of the benchmarks, which `alikit bench report` writes from the files beside it; nothing is measured."""

import re
from pathlib import Path

from alikit import reading
from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.runs.report import filled, write_page

from .common import NOT_WELL_FORMED, benchmark, damaged, few, picture, read, spread, table

NAMES = ("compiled", "precision", "batch", "size", "workers", "loading", "memory", "folder", "start")
BEGIN, END = "<!-- benchmarks: written by alikit bench report -->", "<!-- end of benchmarks -->"
# Ours beside the textbook's on one GPU, wanted as long as it was not measured on any.
WANTED = [(recipe, batch) for recipe in ("svhn", "cifar10", "celeba") for batch in (100, 1000)]
HEAD = f"""# Benchmarks

How fast alikit is, how the cost grows, what memory it takes and how long one waits. Each section is measured anew by
the one command that it names, all of them by `make bench`; then `alikit bench report` writes what follows, every number
of it from the files beside this page. Numbers are medians, in brackets their quartiles. "Load" is how many processes
were at work in the minute before a measurement began, the benchmark before it among them: above the number of cores the
machine was busy with other things too, and the numbers are worse than it can do.

{BEGIN}
{END}
"""


def write_report(out: Path) -> int:
    """Writes what stands between the two marks of out/README.md; the rest stays, and a page that is missing is made, as
    is a plot. Returns how many benchmarks it tells of. AlikitError for a file that is damaged, for a page without
    marks, and where there is neither a page nor anything measured."""
    page = out / "README.md"
    if not out.is_dir():
        raise AlikitError(f"no folder {out}: measure something first, with alikit bench step svhn --out {out}")
    try:
        text = reading.content(page, reading.LOG).decode() if page.exists() else HEAD
    except (OSError, UnicodeDecodeError):
        raise AlikitError(f"{page} is no text in UTF-8: mend it, or move it away") from None
    found = {
        name: read(out / f"{name}.json", _again(out / f"{name}.json"))
        for name in NAMES
        if (out / f"{name}.json").exists()
    }
    steps = {file: read(file, _again(file)) for file in sorted(out.glob("step-*.json"))}
    if not (found or steps or page.exists()):
        raise AlikitError(
            f"nothing was measured in {out} yet: measure something first, with alikit bench step svhn --out {out}"
        )
    new = filled(
        text,
        page,
        (BEGIN, END),
        [_of_steps(steps), _of_cost(steps), *(_section(name, found.get(name), out) for name in NAMES)],
    )
    for name in found:
        if hasattr(benchmark(name), "draw") and not (out / f"{name}.png").is_file():
            try:
                picture(benchmark(name), found[name], out / f"{name}.png")
            except NOT_WELL_FORMED:
                raise damaged(out / f"{name}.json", _again(out / f"{name}.json")) from None
    write_page(page, new)
    return len(found) + len(steps)


def _command(name: str) -> str:
    return f"alikit bench {name}"


def _again(file: Path) -> str:
    """The command that measures a file anew, with what its name tells: step-svhn-batch50-float32.json."""
    name = file.stem
    if name.startswith("step-"):
        name = name.removeprefix("step-")
        recipe = max((known for known in RECIPES if name.startswith(known)), key=len, default="RECIPE")
        flags = {"float32": "--float32", "cuda": "--device cuda"}
        flags |= {part: f"--batch {part[5:]}" for part in name.split("-") if re.fullmatch(r"batch\d+", part)}
        said = [flags[part] for part in name.removeprefix(recipe).split("-") if part in flags]
        name = " ".join(["step", recipe, *said])
    return f"{_command(name)} --out {file.parent}"


def _section(name: str, found: dict | None, out: Path) -> str:
    module = benchmark(name)
    if found is None:
        return f"## {module.TITLE}\n\nNot measured: `{_command(name)}`."
    try:
        versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
        threads = _threads(found)
        setting = f"`{found['command']}`, {found['date']}; {found['hardware']}{_load(found)}; {threads}; {versions}."
        return "\n\n".join([f"## {module.TITLE}", *module.told(found), setting])
    except NOT_WELL_FORMED:
        raise damaged(out / f"{name}.json", _again(out / f"{name}.json")) from None


def _of_steps(steps: dict[Path, dict]) -> str:
    """A row for each file of a step beside the textbook's, then those that are wanted."""
    head = [
        "recipe",
        "batch",
        "on",
        "ours, examples/s",
        "textbook, examples/s",
        "ours over the textbook's",
        "the same, the textbook with a loader",
        "GFLOP a step, by definition",
        "its share of the rate of a matrix product",
        "GFLOP that ours makes of it",
        "its share",
        "by",
    ]
    rows, on_gpu = [], set()
    for file, found in steps.items():
        try:
            rows.append(_of_step(found))
            if found["device"] != "cpu":
                on_gpu.add((found["recipe"], found["batch"]))
        except NOT_WELL_FORMED:
            raise damaged(file, _again(file)) from None
    for recipe, batch in WANTED:
        if (recipe, batch) not in on_gpu:
            command = f"`alikit bench step {recipe} --batch {batch} --device cuda`"
            rows.append([recipe, batch, "one GPU", f"wanted: {command}", *[""] * 8])
    return "\n\n".join(
        [
            "## Our step beside the textbook's",
            "The textbook's step is ALI as it is commonly written: players take turns, each with passes of its own, "
            "on the library's layers; see `benchmarks/step.py`. Both train the same networks in one process, in turn; "
            "above 1 ours is quicker. Ours fetches its own batch; the textbook's is given one, or a loader's. What a "
            "step computes is counted by the definition of a convolution, and as `alikit/convolutions.py` makes it, "
            "with fewer products. Shares are of a large matrix product's rate, in the same minutes and the same "
            "precision. A share by definition can be above 1: then no products, however quick, would do as well. "
            '"Library layers" is ours with `--float32`: the same step without any of that.',
            table(head, rows),
            "A row is the line that its command prints and keeps.",
        ]
    )


def _of_cost(steps: dict[Path, dict]) -> str:
    """What the published schedules would take at the rates that were measured."""
    rows = []
    for file, found in steps.items():
        try:
            rows += _cost(found)
        except NOT_WELL_FORMED:
            raise damaged(file, _again(file)) from None
    head = ["recipe", "pictures", "batch", "on", "days, one", "days, eight at best", "MB of gradients a step"]
    return "\n\n".join(
        [
            "## What the published schedules would take",
            "By paper, from the rates above: every picture of the published schedule at the median rate. Eight such "
            "processes are eight times as quick at best, if each has as many examples a step as one has here, and if "
            "the gradients, which all of them exchange after every step, cost nothing; see "
            "[several processes](../../docs/cluster.md).",
            table(head, rows) if rows else "None of the rates above is of such a recipe.",
        ]
    )


def _cost(found: dict) -> list[list]:
    recipe = RECIPES[found["recipe"]]
    if found["plain"] or recipe.networks.size is None or found["batch"] < 100:
        return []
    shape = (3, recipe.networks.size, recipe.networks.size)
    weights = sum(parameter.numel() for parameter in recipe.build(shape).parameters())
    pictures = recipe.steps * recipe.batch_size
    days = pictures / (found["batch"] * found["ours"]["median"]) / 86_400
    return [
        [
            found["recipe"],
            f"{pictures / 1e6:.1f} million",
            found["batch"],
            found["device"] if found["device"] != "cpu" else f"processor, {_threads(found)}",
            f"{days:.3g}",
            f"{days / 8:.3g}",
            f"{4 * weights / 1e6:.1f}",
        ]
    ]


def _load(found: dict) -> str:
    return "" if found["load"] is None else f"; load {found['load']:g} before it began"


def _threads(found: dict) -> str:
    return f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"


def _of_step(found: dict) -> list:
    batch = found["batch"]

    def images(name: str) -> str:
        return spread({key: batch * rate for key, rate in found[name].items()})

    place = found["device"] if found["device"] != "cpu" else f"processor, {_threads(found)}"
    layers = ", library layers" if found["plain"] else ""
    return [
        found["recipe"],
        batch,
        f"{place}, {found['precision']}{layers}, torch {found['torch']}",
        images("ours"),
        images("textbook"),
        spread(found["ratio"]),
        spread(found["ratio_with_loader"]),
        few(found["gflop_a_step"]),
        spread(found["share_of_matmul"]),
        few(found["gflop_made"]),
        spread(found["share_made"]),
        f"`{found['command']}`, {found['date']}{_load(found)}",
    ]
