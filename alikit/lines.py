"""The lines of a study's runs.jsonl, one for each finished run: written by whoever ran it, read back at the next start.

A run's key is ARM-NNN, which is also the name of its run folder.
"""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import torch

import alikit

from . import formats, reading, runs
from .data import Dataset
from .errors import AlikitError
from .evaluation import Coverage, measured
from .models import Game
from .recipes import RECIPES, Recipe
from .studies import Study

FORMAT = 1
# What was not to be chosen when the first studies ran, and how they ran: their lines do not name it.
LATER = runs.TRAINED_WITH[runs.TRAINED_WITH.index("ramp") :]
OFF = {field.name: field.default for field in fields(Recipe) if field.name in LATER}
MOST_RUNS = 10**6  # of an arm


def key_of(arm: str, run: int) -> str:
    return f"{arm}-{run:03d}"


def what_makes(study: Study, arm: str, run: int) -> dict:
    """What makes a run that run, as JSON gives it back: recipe, seed, and what it trains with."""
    name, changes = study.arms[arm]
    recipe = replace(RECIPES[name], **changes, **study.draw(run))
    return json.loads(json.dumps({"recipe": name, "seed": study.first_seed + run, **runs.trained_with(recipe)}))


def settings_of(study: Study, arm: str, run: int, steps: int, x_shape: tuple[int, ...]) -> dict:
    """The settings of its run folder."""
    return {
        **what_makes(study, arm, run),
        "data": RECIPES[study.arms[arm][0]].data,
        "size": None,
        "skip_corrupt": False,
        "steps": steps,
        "decoder": None,
        "versions": {"alikit": alikit.__version__, "torch": torch.__version__},
        "x_shape": list(x_shape),
    }


def line_of(
    arm: str, run: int, settings: dict, diverged: bool, history: list[dict], model: Game, parts: tuple[Dataset, Dataset]
) -> dict:
    """The line of a finished run: its settings, how it went, and what can be measured of its model."""
    return {
        "format": FORMAT,
        "alikit": settings["versions"]["alikit"],
        "arm": arm,
        "run": run,
        **{name: settings[name] for name in ("recipe", "seed", "steps", *runs.TRAINED_WITH)},
        "diverged": diverged,
        "seconds": history[-1]["seconds"],
        **measured(model, *parts),
        "history": history,
    }


def fits(line: dict, study: Study) -> bool:
    """Whether a line is of a run of this study as it is now, finished and measured."""
    try:
        return (
            line["arm"] in study.arms
            and type(line["run"]) is int
            and 0 <= line["run"] < MOST_RUNS
            and what_makes(study, line["arm"], line["run"]).items() <= {**OFF, **line}.items()
            and line["diverged"] in (0, 1)
            and all(type(line[field.name]) in (int, float) for field in fields(Coverage))
            and all(math.isfinite(line[field.name]) for field in fields(Coverage))
        )
    except (TypeError, LookupError, AttributeError, ArithmeticError):
        return False


def read(file: Path, study: Study, steps: int) -> dict[str, dict]:
    """The lines of a file by key, {} where there is none. AlikitError unless all are runs of this study and length."""
    lines = {}
    try:
        for number, text in enumerate(reading.lines(file) if file.exists() else (), 1):
            try:
                line = reading.parsed(text, nan=True)  # in its history, of a run that diverged
            except ValueError:
                line = None
            if isinstance(line, dict):
                written, way = line.get("format", FORMAT), "use another --out"
                formats.check(f"{file}, line {number},", written, FORMAT, line.get("alikit"), way)
            if not fits(line, study) or type(line.get("steps")) is not int:
                raise AlikitError(
                    f"{file}, line {number}: no run of this study as it is now (cut off, of another study, or of "
                    "another version of alikit): remove that line, or use another --out"
                )
            if line["steps"] != steps:
                raise AlikitError(
                    f"the runs in {file} have {line['steps']} steps: add --steps {line['steps']}, or another --out"
                )
            lines.setdefault(key_of(line["arm"], line["run"]), line)
    except OSError as error:
        raise AlikitError(f"cannot read {file} ({error.strerror}): use another --out") from None
    return lines


def write(file: Path, lines: dict[str, dict]) -> dict[str, dict]:
    """Writes the file anew where it holds something else; returns the lines in its order, by run and arm."""
    ordered = dict(sorted(lines.items(), key=lambda item: (item[1]["run"], item[1]["arm"])))
    text = "".join(json.dumps(line) + "\n" for line in ordered.values())
    if text and (not file.exists() or file.read_text() != text):
        runs.write_whole(file, lambda place: place.write_text(text))
    return ordered
