"""What settings.json of a run folder holds, checked as it is read: the fields of the run's `Config`, and the `Facts`
below, flat in one JSON object, in any order."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import AlikitError
from ..reading import check_format
from ..recipes import RECIPES, Recipe
from ..training import Config

FORMAT = 3
# What format 1 called some settings. `plain` was the opposite of `fast`.
RENAMED = {"averaging": "ema", "ramp": "ema_ramp", "flips": "random_flip", "shifts": "random_shift"}
# What a setting is in a run that does not name it, because there was no such setting yet.
OFF = {field.name: getattr(Config(), field.name) for field in fields(Config)}
MOST_NUMBERS = 2**14  # of an example: a picture of 64x64 has 12,288
MOST_STEPS = 10**12
MOST_TEXT = 10_000  # letters


def _is_shape(sides: list[int]) -> list[int]:
    if len(sides) not in (1, 3) or math.prod(sides) > MOST_NUMBERS:
        raise ValueError(f"a shape has 1 or 3 sides, and at most {MOST_NUMBERS} numbers in all")
    return sides


Text = Annotated[str, Field(max_length=MOST_TEXT, pattern=r"^[^\x00]*$")]
Names = Annotated[list[Text], Field(max_length=2**15)]
Count = Annotated[int, Field(ge=1, le=2**15)]


class Facts(BaseModel):
    """What a run folder keeps besides its config: what was trained, on what, and how."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)

    recipe: Text
    game: Text = ""  # the class of the model, as MODULE.NAME
    data: Text
    x_shape: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(_is_shape)]
    seed: int = Field(ge=0, lt=2**32)
    steps: int = Field(ge=1, le=MOST_STEPS)
    size: int | None = Field(ge=1, le=2**16)
    skip_corrupt: bool
    decoder: Text | None
    from_run: Text | None = None
    white: float | None = Field(None, gt=0)
    splits: Text | None = None
    data_from_run: Text = ""
    decoder_from_run: Text | None = None
    digest: list[Annotated[int, Field(ge=0, lt=2**63)]] | None = Field(None, min_length=3, max_length=4)
    command: Text = ""
    versions: dict[Text, Text] = {}
    number_of_classes: Count | None = None
    number_of_attributes: Count | None = None
    attributes: Names | None = None
    classes: Names | None = None
    precision: Text = ""
    processes: int = Field(1, ge=1, le=10**6)
    data_name: Text = ""
    hardware: Text = ""
    hours: float = Field(0, ge=0, le=10**9)
    processor_hours: float = Field(0, ge=0, le=10**9)  # of all its threads together; 0 where not all of it was counted
    images_seen: int = Field(0, ge=0, le=10**18)


def upgraded(settings: dict) -> dict:
    """Settings of any earlier format by today's names. A setting that they do not name did not exist yet: it is off."""
    named = {RENAMED.get(name, name): value for name, value in settings.items() if name != "plain"}
    return {**OFF, "fast": not settings.get("plain", False), **named, "format": FORMAT}


def checked(file: Path, found: object) -> dict:
    """The settings that were read from a file, by today's names. AlikitError where they are of another format, recipe
    or game, lack what every run has, or hold a value that no run has."""
    needed = {name for name, field in Facts.model_fields.items() if field.is_required()}
    known = found if isinstance(found, dict) else {}
    number = known.get("format") if known.keys() >= needed and isinstance(known["recipe"], str) else None
    if number == 1:
        known, number = upgraded(known), FORMAT
    elif number in (2, FORMAT):  # in format 2 the digest has three numbers, without that of labels
        known, number = {**OFF, **known, "format": FORMAT}, FORMAT
    check_format(file, number, FORMAT, wrote(known))
    if known["recipe"] not in RECIPES:
        name = known["recipe"][:40]
        way = "register it, in a command by --recipes FILE in front"
        raise AlikitError(f"{file} is of recipe {name!r}, which is not known here: {way}")
    try:
        known = {**known, **json.loads(json.dumps(recipe_of(known).config()))}  # lists, as JSON has them
        Facts.model_validate(known)
    except ValidationError as error:
        raise AlikitError(f"{file} is damaged, for its {described(error)}: put that right, or train again") from None
    theirs, ours = known.get("game", ""), game_of(RECIPES[known["recipe"]])
    # By the class alone: one file of recipes is another module in a notebook, in a script and by `--recipes`.
    if theirs and theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
        raise AlikitError(
            f"{file} is of game {theirs[:80]}, and recipe {known['recipe']} is now of {ours}: register that game"
        )
    return known


def game_of(recipe: Recipe) -> str:
    """The class of a recipe's model, as MODULE.NAME."""
    return f"{recipe.game.__module__}.{recipe.game.__qualname__}"


def recipe_of(settings: dict) -> Recipe:
    """The recipe that settings name, with their config. ValidationError where no run can have such a config."""
    recipe = RECIPES[settings["recipe"]]
    return replace(recipe, **{name: settings[name] for name in recipe.config() if name in settings})


def described(error: ValidationError) -> str:
    """The first thing that pydantic found, in one line, as "lr: Input should be less than 1"."""
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'][:1]))}: {first['msg']}"


def wrote(settings: dict) -> object:
    """The version of alikit that wrote the settings, if they name it."""
    versions = settings.get("versions")
    return versions.get("alikit") if isinstance(versions, dict) else None
