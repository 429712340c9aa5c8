"""The table of recorded runs in `results/README.md`, written from what lies beside it."""

import json
import math
from pathlib import Path
from urllib.parse import quote

from . import runs
from .errors import AlikitError
from .records import restore

BEGIN, END = "<!-- recorded runs: written by alikit report -->", "<!-- end of recorded runs -->"
# The paper's own settings, wanted as long as no recorded run has them. It shows pictures for these and gives no number.
WANTED = {
    "cifar10": "alikit train cifar10 --data folder:data/cifar10-jpeg --epochs 100",
    "svhn": "alikit train svhn --download",
    "celeba": "alikit train celeba --data table:data/celeba-30k-64px --epochs 100",
    "tiny-imagenet": "alikit train tiny-imagenet --data folder:data/tiny-imagenet-25k --epochs 100",
}


def write_report(results: Path) -> int:
    """Writes the table between the two marks of `results/README.md`, the rest of which stays; returns how many runs it
    lists. A page that is missing is made. AlikitError where its marks are missing."""
    if not results.is_dir():
        raise AlikitError(f"no folder {results}: name one that alikit record has written to")
    page = results / "README.md"
    text = page.read_text() if page.exists() else f"# Recorded runs\n\n{BEGIN}\n{END}\n"
    for before in results.glob(".*.partial/before"):
        restore(results / before.parent.name.removeprefix(".").removesuffix(".partial"))
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise AlikitError(f"{page} must hold the lines {BEGIN} and {END}, once and in this order: add them")
    found = {file.parent: runs.settings(file.parent) for file in sorted(results.glob("*/decoder.safetensors"))}
    parts = [_table(found), *(_section(folder, known) for folder, known in found.items())]
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    new = "\n\n".join([head, *parts, tail])
    runs.write_whole(page, lambda file: file.write_text(new))
    return len(found)


def _table(found: dict[Path, dict]) -> str:
    lines = [
        "| run | pictures seen | reconstruction error: mean code, drawn code (mean picture) "
        "| Frechet distance (real pictures) | precision, recall (real) | probe (pixels, majority) "
        "| copying | the paper's number |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for folder, known in found.items():
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
            f"[{folder.name}]({quote(folder.name)}): {known['data_name']}",
            seen,
            error,
            frechet,
            within,
            probe,
            copying,
            "pictures only",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    here = {known["recipe"] for known in found.values() if not known["data"].startswith("stand-in:")}
    for recipe, command in WANTED.items():
        if recipe not in here:
            lines.append(f"| {recipe}, the paper's networks | wanted, takes a GPU: `{command}` |" + " |" * 6)
    return "\n".join(lines)


def _measured(folder: Path) -> dict:
    """The metrics of a record; a number that was not finite, which JSON cannot hold, is one again."""
    try:
        found = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        raise AlikitError(f"{folder / 'metrics.json'} is missing or damaged: record the run again") from None
    if "probe_accuracy" in found and "probe_n" not in found:
        raise AlikitError(f"{folder} is of an older version of alikit: record the run again")
    return {name: math.nan if value is None else value for name, value in found.items()}


def _section(folder: Path, known: dict) -> str:
    name, place = folder.name, quote(folder.name)
    seeds = f"seed {known['seed']}, one run: how much another seed would differ is not known"
    return f"""### {name}

`{known["command"]}`, then `alikit record`. {known["data_name"]}; {known["hardware"]}; {known["hours"]:.1f} hours for
{known["images_seen"] // known["batch_size"]:,} steps of {known["batch_size"]}; torch {known["versions"]["torch"]};
{seeds}.

| samples | reconstructions (mean code above, drawn code below) |
| --- | --- |
| ![samples of {name}]({place}/samples.png) | ![reconstructions of {name}]({place}/reconstructions.png) |"""
